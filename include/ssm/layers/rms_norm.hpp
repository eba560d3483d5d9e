#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/rms_norm_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// One row of rms_norm, whose weight may be null; returns the inverse root mean square.
template <class T>
T rms_norm_row(const T* x, const T* weight, Index width, T epsilon, T* y) noexcept {
  const auto row = array(x, width);
  const T inverse_rms = T(1) / std::sqrt(row.square().sum() / static_cast<T>(width) + epsilon);
  if (weight != nullptr)
    array(y, width) = row * inverse_rms * array(weight, width);
  else
    array(y, width) = row * inverse_rms;
  return inverse_rms;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// y = w x / r with r = √(mean x² + ε), for every row (Zhang & Sennrich 2019, equation 4); w = 1
/// where it is absent. The scratch keeps 1/r for rms_norm_backward.
/// @throws ShapeError for extents that do not fit, elements of a row that are not adjacent, and a y
///   that overlaps a part of x; DomainError for an ε that is negative or NaN
template <class T>
void rms_norm(const Cpu& backend, const RmsNormInputs<T>& inputs, const RmsNormOptions& options,
              const RmsNormOutputs<T>& outputs, RmsNormScratch<T>& scratch) {
  const auto& [x, weight] = inputs;
  const auto& y = outputs.y;
  detail::check_rms_norm("rms_norm", inputs, options);
  detail::check_rms_norm_output("rms_norm", inputs, y);
  const auto epsilon = static_cast<T>(options.epsilon);
  const Index width = x.extent(1);
  scratch.inverse_rms.resize({(std::max)(scratch.inverse_rms.size(), x.extent(0))});
  scratch.extents = x.extents();
  T* inverse_rms = scratch.inverse_rms.data();
  const detail::Pieces pieces(x.extent(0), 16);
  parallel_for(for_elements(backend, x.size()), pieces.pieces, [&](Index piece) {
    for (Index i = pieces.begin(piece); i < pieces.end(piece); ++i)
      inverse_rms[i] =
          detail::rms_norm_row(inputs.x.data() + i * inputs.x.stride(0), inputs.weight.data(),
                               width, epsilon, y.data() + i * y.stride(0));
  });
}

/// The gradients of rms_norm. With g = w dy and x̂ = x/r,
///
///   dx = (g − x̂ mean(g x̂)) / r,  dw = Σ_rows dy x̂.
///
/// With Write::accumulate dx is added to what its memory holds, as in a residual block; dw is
/// overwritten.
/// @throws ShapeError as rms_norm, for a gradient in the memory of another argument where
///   RmsNormInputGradients does not allow it, and for a scratch that rms_norm did not fill with
///   inputs of these extents
template <class T>
void rms_norm_backward(const Cpu& backend, const RmsNormInputs<T>& inputs,
                       const RmsNormOptions& options,
                       const RmsNormOutputGradients<T>& output_gradients,
                       const RmsNormInputGradients<T>& input_gradients,
                       RmsNormScratch<T>& scratch) {
  const View<const T, 2>&x = inputs.x, &dy = output_gradients.y;
  const auto& din = input_gradients;
  detail::check_rms_norm("rms_norm_backward", inputs, options);
  detail::check_rms_norm_gradients("rms_norm_backward", inputs, output_gradients, din);
  if (!detail::same_extents(scratch.extents, x.extents()))
    detail::throw_shape("rms_norm_backward", "scratch",
                        "of another call, with x " + detail::to_string(scratch.extents),
                        "one that rms_norm filled with x " + detail::to_string(x.extents()));
  const Index width = x.extent(1);
  const detail::Pieces pieces(x.extent(0), 16);
  scratch.partials.resize({(std::max)(scratch.partials.size(), pieces.pieces * width)});
  const T* inverse_rms = scratch.inverse_rms.data();
  // g, a row of w dy, is an expression: nothing is stored.
  const auto run_row = [&](Index i, const auto& g) {
    const T scale = inverse_rms[i];
    const auto row = detail::array(x.data() + i * x.stride(0), width);
    const T mean = scale * (g * row).sum() / static_cast<T>(width);
    auto dx_row = detail::array(din.x.data() + i * din.x.stride(0), width);
    const auto gradient = scale * (g - row * (scale * mean));
    if (options.write == Write::accumulate)
      dx_row += gradient;
    else
      dx_row = gradient;
  };
  parallel_for(for_elements(backend, x.size(), 0.8), pieces.pieces, [&](Index piece) {
    auto dw = detail::array(scratch.partials.data() + piece * width, width);
    dw.setZero();
    for (Index i = pieces.begin(piece); i < pieces.end(piece); ++i) {
      const auto dy_row = detail::array(dy.data() + i * dy.stride(0), width);
      dw += dy_row * detail::array(x.data() + i * x.stride(0), width) * inverse_rms[i];
      if (!din.x) continue;
      if (inputs.weight)
        run_row(i, detail::array(inputs.weight.data(), width) * dy_row);
      else
        run_row(i, dy_row);
    }
  });
  if (!din.weight) return;
  auto total = detail::array(din.weight.data(), width);
  total.setZero();
  for (Index piece = 0; piece < pieces.pieces; ++piece)
    total += detail::array(scratch.partials.data() + piece * width, width);
}

/// `rms_norm` for a few rows on the calling thread, without allocation. Arguments for which
/// `rms_norm` would throw end the program with the message of that exception.
template <class T>
void rms_norm_step(const RmsNormInputs<T>& inputs, const RmsNormOptions& options,
                   const std::type_identity_t<View<T, 2>>& y) noexcept {
  detail::check_or_terminate([&] {
    detail::check_rms_norm("rms_norm_step", inputs, options);
    detail::check_rms_norm_output("rms_norm_step", inputs, y);
  });
  for (Index i = 0; i < y.extent(0); ++i)
    detail::rms_norm_row(inputs.x.data() + i * inputs.x.stride(0), inputs.weight.data(),
                         y.extent(1), static_cast<T>(options.epsilon), y.data() + i * y.stride(0));
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(rms_norm, RmsNorm, float)
SSM_INSTANCE_OPERATION(rms_norm, RmsNorm, double)
SSM_INSTANCE void rms_norm_step(const RmsNormInputs<float>&, const RmsNormOptions&,
                                const View<float, 2>&) noexcept;
SSM_INSTANCE void rms_norm_step(const RmsNormInputs<double>&, const RmsNormOptions&,
                                const View<double, 2>&) noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
