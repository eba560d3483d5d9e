#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/pieces.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/rotary_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// By how many radians a step pair i of `pairs` turns.
[[nodiscard]] inline double rotary_angle(double base, Index i, Index pairs) noexcept {
  return std::pow(base, -static_cast<double>(i) / static_cast<double>(pairs));
}

/// y = x turned by the angles of which `turn` holds first the cosines, then the sines; backward
/// turns the other way.
template <class T>
void turn_head(const T* x, const T* turn, Index pairs, bool backward, T* y) noexcept {
  for_each_vector<T>(pairs, [&](Index i, Index n) {
    const auto c = Vec<T>::load(turn + i, n), sine = Vec<T>::load(turn + pairs + i, n);
    const auto a = Vec<T>::load(x + i, n), b = Vec<T>::load(x + pairs + i, n);
    const Vec<T> s = backward ? -sine : sine;
    (a * c - b * s).store(y + i, n);
    (b * c + a * s).store(y + pairs + i, n);
  });
}

/// The cosines and sines of positions, as products of those of multiples of 64 and of those below
/// 64, in double: a cosine of every position would take longer than the heads.
template <class T>
class RotaryTurns {
 public:
  static constexpr Index low = 64;

  RotaryTurns(RotaryScratch<T>& scratch, double base, Index pairs, Index pieces) : pairs_(pairs) {
    const auto grow = [](auto& tensor, Index size) {
      if (tensor.size() < size) tensor.resize({size});
      return tensor.data();
    };
    angles_ = grow(scratch.turns, (2 * low + 1) * pairs);
    turns_ = angles_ + pairs;
    origins_ = grow(scratch.origins, pieces * 2 * pairs);
    now_ = grow(scratch.now, pieces * 2 * pairs);
    if (scratch.base == base && scratch.pairs == pairs) return;
    for (Index i = 0; i < pairs; ++i) angles_[i] = rotary_angle(base, i, pairs);
    for (Index p = 0; p < low; ++p) fill(p, turns_ + p * 2 * pairs);
    scratch.base = base;
    scratch.pairs = pairs;
  }

  /// Of one piece of rows, position after position.
  class Cursor {
   public:
    Cursor(const RotaryTurns& all, Index piece)
        : all_(all),
          origins_(all.origins_ + piece * 2 * all.pairs_),
          now_(all.now_ + piece * 2 * all.pairs_) {}

    /// The cosines of a position, then its sines.
    [[nodiscard]] const T* at(Index position) {
      const Index pairs = all_.pairs_, rest = position % low;
      if (position - rest != from_) all_.fill(from_ = position - rest, origins_);
      const double* turn = all_.turns_ + rest * 2 * pairs;
      for (Index i = 0; i < pairs; ++i) {
        const double c = origins_[i], s = origins_[pairs + i];
        now_[i] = static_cast<T>(c * turn[i] - s * turn[pairs + i]);
        now_[pairs + i] = static_cast<T>(s * turn[i] + c * turn[pairs + i]);
      }
      return now_;
    }

   private:
    const RotaryTurns& all_;
    double* origins_;
    T* now_;
    Index from_ = -1;
  };

 private:
  void fill(Index position, double* turn) const noexcept {
    for (Index i = 0; i < pairs_; ++i) {
      const double angle = static_cast<double>(position) * angles_[i];
      turn[i] = std::cos(angle);
      turn[pairs_ + i] = std::sin(angle);
    }
  }

  Index pairs_;
  double *angles_, *turns_, *origins_;
  T* now_;
};

template <class T>
void turn_all(const Cpu& backend, const RotaryInputs<T>& in, const RotaryOptions& options,
              const View<const T, 4>& x, const View<T, 4>& y, bool backward,
              RotaryScratch<T>& scratch) {
  const Index batch = x.extent(0), length = x.extent(1), heads = x.extent(2);
  const Index pairs = x.extent(3) / 2, sequences = in.sequences.count(batch);
  const Pieces rows(batch * length, 32);
  const RotaryTurns<T> turns(scratch, options.base, pairs, rows.pieces);
  parallel_for(for_elements(backend, x.size()), rows.pieces, [&](Index piece) {
    typename RotaryTurns<T>::Cursor cursor(turns, piece);
    Index s = in.sequences.offsets ? 0 : rows.begin(piece) / (std::max<Index>)(length, 1);
    for (Index r = rows.begin(piece); r < rows.end(piece); ++r) {
      const auto end = [&](Index i) {
        const SequenceSpan span = span_of(in.sequences, i, length);
        return span.row * length + span.end;
      };
      while (s + 1 < sequences && end(s) <= r) ++s;
      const SequenceSpan span = span_of(in.sequences, s, length);
      const Index at = r - span.row * length;
      const Index time = in.sequences.reversed ? span.end - 1 - at : at - span.begin;
      const T* turn = cursor.at((in.steps ? in.steps(s) : 0) + time);
      for (Index h = 0; h < heads; ++h)
        turn_head(x.data() + span.row * x.stride(0) + at * x.stride(1) + h * x.stride(2), turn,
                  pairs, backward,
                  y.data() + span.row * y.stride(0) + at * y.stride(1) + h * y.stride(2));
    }
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Rotary positions (Su et al. 2021, equation 34, with the pairs of Llama's code: the halves of a
/// head): at position p, pair i of every head turns by p θ_i, θ_i = base^{−2i/head_size},
///
///   y_i = x_i cos(p θ_i) − x_{i+head_size/2} sin(p θ_i),
///   y_{i+head_size/2} = x_{i+head_size/2} cos(p θ_i) + x_i sin(p θ_i).
///
/// The product of two heads then depends on the distance of their positions alone. Step t of
/// sequence s, in the order of time, has position steps_s + t. Angles are computed in double.
/// Cost: two multiply-adds an element.
/// @throws ShapeError for extents that do not fit, an odd head_size and a y over a part of x;
///   DomainError for a base that is not positive and finite, for steps that are negative, and for
///   offsets that do not fit
template <class T>
void rotary(const Cpu& backend, const RotaryInputs<T>& inputs, const RotaryOptions& options,
            const RotaryOutputs<T>& outputs, RotaryScratch<T>& scratch) {
  detail::check_rotary("rotary", inputs, options);
  detail::check_output_rows("rotary", "y", outputs.y, inputs.x.extents());
  detail::check_same_or_apart("rotary", "y", outputs.y, "x", inputs.x);
  detail::turn_all(backend, inputs, options, inputs.x, outputs.y, false, scratch);
}

/// The gradient of rotary: dx is dy turned the other way. x is not read beyond its shape.
/// @throws ShapeError and DomainError as rotary
template <class T>
void rotary_backward(const Cpu& backend, const RotaryInputs<T>& inputs,
                     const RotaryOptions& options, const RotaryOutputGradients<T>& output_gradients,
                     const RotaryInputGradients<T>& input_gradients, RotaryScratch<T>& scratch) {
  constexpr const char* function = "rotary_backward";
  const auto& dy = output_gradients.y;
  const auto& dx = input_gradients.x;
  detail::check_rotary(function, inputs, options);
  detail::check_rows(function, "the gradient of y", dy, inputs.x.extents());
  detail::check_output_rows(function, "the gradient of x", dx, inputs.x.extents());
  detail::check_same_or_apart(function, "the gradient of x", dx, "the gradient of y", dy);
  detail::turn_all(backend, inputs, options, dy, dx, true, scratch);
}

/// `rotary` for one step of every row on the calling thread, without allocation. Arguments for
/// which `rotary` would throw end the program with the message of that exception.
/// @param y (batch, heads, head_size); may be the memory of x
template <class T>
void rotary_step(const RotaryStepInputs<T>& inputs, const RotaryOptions& options,
                 const std::type_identity_t<View<T, 3>>& y) noexcept {
  detail::check_or_terminate([&] { detail::check_rotary_step("rotary_step", inputs, options, y); });
  const auto& x = inputs.x;
  const Index pairs = x.extent(2) / 2;
  for (Index b = 0; b < x.extent(0); ++b)
    for (Index i = 0; i < pairs; ++i) {
      const double angle =
          static_cast<double>(inputs.steps(b)) * detail::rotary_angle(options.base, i, pairs);
      const T c = static_cast<T>(std::cos(angle)), s = static_cast<T>(std::sin(angle));
      for (Index h = 0; h < x.extent(1); ++h) {
        const T a = x(b, h, i), o = x(b, h, pairs + i);
        y(b, h, i) = a * c - o * s;
        y(b, h, pairs + i) = o * c + a * s;
      }
    }
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(rotary, Rotary, float)
SSM_INSTANCE_OPERATION(rotary, Rotary, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
