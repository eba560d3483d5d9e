#pragma once

#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/gelu_glu_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// σ's argument q in gelu(x) = x σ(q), q = 2√(2/π) (x + 0.044715 x³), and dq/dx.
template <class T>
struct GeluGate {
  static constexpr T slope = T(1.5957691216057308), cubic = T(0.044715);

  [[nodiscard]] static Vec<T> value(Vec<T> x) noexcept {
    return Vec<T>(slope) * x * fma(Vec<T>(cubic), x * x, Vec<T>(T(1)));
  }
  [[nodiscard]] static Vec<T> derivative(Vec<T> x) noexcept {
    return Vec<T>(slope) * fma(Vec<T>(3 * cubic), x * x, Vec<T>(T(1)));
  }
};

template <class T>
[[gnu::always_inline]] inline void gelu_at(const View<const T, 2>& x, const View<T, 2>& y, Index r,
                                           Index i, Index n) noexcept {
  const auto v = Vec<T>::load(at(x, r, i), n);
  (v * sigmoid(GeluGate<T>::value(v))).store(at(y, r, i), n);
}

template <class T>
[[gnu::always_inline]] inline void glu_at(const View<const T, 2>& x, const View<T, 2>& y, Index r,
                                          Index i, Index n) noexcept {
  const auto a = Vec<T>::load(at(x, r, i), n), g = Vec<T>::load(at(x, r, y.extent(1) + i), n);
  (a * sigmoid(g)).store(at(y, r, i), n);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// y = gelu(x) in its tanh form, x σ(2√(2/π) (x + 0.044715 x³)) (Hendrycks & Gimpel 2016, section
/// 2), within 5e-4 of x Φ(x).
/// @throws ShapeError for extents that do not fit, elements of a row that are not adjacent, and a y
///   that overlaps a part of x
template <class T>
void gelu(const Cpu& backend, const GeluInputs<T>& inputs, const GeluOptions&,
          const GeluOutputs<T>& outputs, GeluScratch<T>&) {
  detail::check_gelu("gelu", inputs, outputs.y);
  detail::for_row_vectors<T>(backend, inputs.x.extent(0), inputs.x.extent(1),
                             [&](Index r, Index i, Index n) noexcept {
                               detail::gelu_at<T>(inputs.x, outputs.y, r, i, n);
                             });
}

/// The gradient of gelu: dx = dy gelu′(x).
/// @throws ShapeError as gelu, and for a dx that overlaps a part of dy
template <class T>
void gelu_backward(const Cpu& backend, const GeluInputs<T>& inputs, const GeluOptions&,
                   const GeluOutputGradients<T>& output_gradients,
                   const GeluInputGradients<T>& input_gradients, GeluScratch<T>&) {
  const View<const T, 2>&x = inputs.x, &dy = output_gradients.y;
  const View<T, 2>& dx = input_gradients.x;
  detail::check_gelu_gradients("gelu_backward", inputs, output_gradients, input_gradients);
  detail::for_row_vectors<T>(
      backend, x.extent(0), x.extent(1), [&](Index r, Index i, Index n) noexcept {
        using Vec = detail::Vec<T>;
        const Vec v = Vec::load(detail::at(x, r, i), n), q = detail::GeluGate<T>::value(v);
        const Vec s = detail::sigmoid(q);
        const Vec slope =
            s * fma(v * detail::sigmoid(-q), detail::GeluGate<T>::derivative(v), Vec(T(1)));
        (slope * Vec::load(detail::at(dy, r, i), n)).store(detail::at(dx, r, i), n);
      });
}

/// `gelu` for a few rows on the calling thread, without allocation. Arguments for which `gelu`
/// would throw end the program with the message of that exception.
template <class T>
void gelu_step(const GeluInputs<T>& inputs, const GeluOptions&,
               const std::type_identity_t<View<T, 2>>& y) noexcept {
  detail::check_or_terminate([&] { detail::check_gelu("gelu_step", inputs, y); });
  for (Index r = 0; r < y.extent(0); ++r)
    detail::for_each_vector<T>(y.extent(1),
                               [&](Index i, Index n) { detail::gelu_at<T>(inputs.x, y, r, i, n); });
}

/// The gated linear unit y = a σ(g), where a is the first half of a row of x and g the second
/// (Dauphin et al. 2017, equation 1).
/// @throws ShapeError for extents that do not fit, elements of a row that are not adjacent, and a y
///   that overlaps x and is not exactly its half a
template <class T>
void glu(const Cpu& backend, const GluInputs<T>& inputs, const GluOptions&,
         const GluOutputs<T>& outputs, GluScratch<T>&) {
  detail::check_glu("glu", inputs, outputs.y);
  detail::for_row_vectors<T>(
      backend, outputs.y.extent(0), outputs.y.extent(1),
      [&](Index r, Index i, Index n) noexcept { detail::glu_at<T>(inputs.x, outputs.y, r, i, n); });
}

/// The gradient of glu: dx = [dy σ(g), dy a σ(g) σ(−g)].
/// @throws ShapeError as glu, and for a dx that overlaps dy or a part of x
template <class T>
void glu_backward(const Cpu& backend, const GluInputs<T>& inputs, const GluOptions&,
                  const GluOutputGradients<T>& output_gradients,
                  const GluInputGradients<T>& input_gradients, GluScratch<T>&) {
  const View<const T, 2>&x = inputs.x, &dy = output_gradients.y;
  const View<T, 2>& dx = input_gradients.x;
  detail::check_glu_gradients("glu_backward", inputs, output_gradients, input_gradients);
  const Index width = dy.extent(1);
  detail::for_row_vectors<T>(backend, dy.extent(0), width, [&](Index r, Index i, Index n) noexcept {
    using Vec = detail::Vec<T>;
    const Vec a = Vec::load(detail::at(x, r, i), n);
    const Vec g = Vec::load(detail::at(x, r, width + i), n);
    const Vec by_a = Vec::load(detail::at(dy, r, i), n) * detail::sigmoid(g);
    by_a.store(detail::at(dx, r, i), n);
    (by_a * a * detail::sigmoid(-g)).store(detail::at(dx, r, width + i), n);
  });
}

/// `glu` for a few rows on the calling thread, without allocation. Arguments for which `glu` would
/// throw end the program with the message of that exception.
template <class T>
void glu_step(const GluInputs<T>& inputs, const GluOptions&,
              const std::type_identity_t<View<T, 2>>& y) noexcept {
  detail::check_or_terminate([&] { detail::check_glu("glu_step", inputs, y); });
  for (Index r = 0; r < y.extent(0); ++r)
    detail::for_each_vector<T>(y.extent(1),
                               [&](Index i, Index n) { detail::glu_at<T>(inputs.x, y, r, i, n); });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(gelu, Gelu, float)
SSM_INSTANCE_OPERATION(glu, Glu, float)
SSM_INSTANCE_OPERATION(gelu, Gelu, double)
SSM_INSTANCE_OPERATION(glu, Glu, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
