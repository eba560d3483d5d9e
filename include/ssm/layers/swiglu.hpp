#pragma once

#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/swiglu_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class T>
[[gnu::always_inline]] inline void swiglu_at(const SwigluInputs<T>& in, const View<T, 2>& y,
                                             Index r, Index i, Index n) noexcept {
  const auto gate = Vec<T>::load(at(in.gate, r, i), n), up = Vec<T>::load(at(in.up, r, i), n);
  (gate * sigmoid(gate) * up).store(at(y, r, i), n);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The gated linear unit with the gate silu (Shazeer 2020, equation 5, without its products):
/// y = silu(gate) · up, silu(g) = g σ(g), element by element.
/// @throws ShapeError for extents that do not fit, elements of a row that are not adjacent, and a y
///   that overlaps a part of an input
template <class T>
void swiglu(const Cpu& backend, const SwigluInputs<T>& inputs, const SwigluOptions&,
            const SwigluOutputs<T>& outputs, SwigluScratch<T>&) {
  detail::check_swiglu("swiglu", inputs, outputs.y);
  detail::for_row_vectors<T>(backend, outputs.y.extent(0), outputs.y.extent(1),
                             [&](Index r, Index i, Index n) noexcept {
                               detail::swiglu_at<T>(inputs, outputs.y, r, i, n);
                             });
}

/// The gradients of swiglu: dup = dy silu(gate), dgate = dy up σ(gate) (1 + gate σ(−gate)).
/// @throws ShapeError as swiglu, and for a gradient in the memory of another argument than its
///   input
template <class T>
void swiglu_backward(const Cpu& backend, const SwigluInputs<T>& inputs, const SwigluOptions&,
                     const SwigluOutputGradients<T>& output_gradients,
                     const SwigluInputGradients<T>& input_gradients, SwigluScratch<T>&) {
  using Vec = detail::Vec<T>;
  const View<const T, 2>& dy = output_gradients.y;
  const auto& din = input_gradients;
  detail::check_swiglu_gradients("swiglu_backward", inputs, output_gradients, din);
  detail::for_row_vectors<T>(
      backend, dy.extent(0), dy.extent(1), [&](Index r, Index i, Index n) noexcept {
        const Vec gate = Vec::load(detail::at(inputs.gate, r, i), n);
        const Vec up = Vec::load(detail::at(inputs.up, r, i), n);
        const Vec s = detail::sigmoid(gate), g = Vec::load(detail::at(dy, r, i), n) * s;
        (g * gate).store(detail::at(din.up, r, i), n);
        (g * up * fma(gate, detail::sigmoid(-gate), Vec(T(1))))
            .store(detail::at(din.gate, r, i), n);
      });
}

/// `swiglu` for a few rows on the calling thread, without allocation. Arguments for which `swiglu`
/// would throw end the program with the message of that exception.
template <class T>
void swiglu_step(const SwigluInputs<T>& inputs, const SwigluOptions&,
                 const std::type_identity_t<View<T, 2>>& y) noexcept {
  detail::check_or_terminate([&] { detail::check_swiglu("swiglu_step", inputs, y); });
  for (Index r = 0; r < y.extent(0); ++r)
    detail::for_each_vector<T>(y.extent(1),
                               [&](Index i, Index n) { detail::swiglu_at<T>(inputs, y, r, i, n); });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(swiglu, Swiglu, float)
SSM_INSTANCE_OPERATION(swiglu, Swiglu, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
