#pragma once

#include <cmath>

#include "ssm/core/backend.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm {

/// Scratch of rms_norm_backward, grown to its largest call.
template <class T>
struct RmsNormWorkspace {
  Tensor<T, 1> partials;
};

namespace detail {

/// One row of rms_norm; returns the inverse root mean square.
template <class T>
T rms_norm_row(const T* x, const T* weight, Index width, T epsilon, T* y) noexcept {
  const auto row = array(x, width);
  const T inverse_rms = T(1) / std::sqrt(row.square().sum() / static_cast<T>(width) + epsilon);
  array(y, width) = row * inverse_rms * array(weight, width);
  return inverse_rms;
}

}  // namespace detail

/// y = w x / r with r = √(mean x² + ε), for every row (Zhang & Sennrich 2019, equation 4).
///
/// x, y (rows, width), weight (width) contiguous; inverse_rms (rows) receives 1/r, which backward
/// needs. x and y may be the same memory. Throws ShapeError.
template <class T>
void rms_norm_forward(const Cpu& backend, const View<const T, 2>& x, const View<const T, 1>& weight,
                      T epsilon, const View<T, 2>& y, const View<T, 1>& inverse_rms) {
  const char* function = "rms_norm_forward";
  const Index rows = x.extent(0), width = x.extent(1);
  detail::check_shape<View<const T, 1>, 1>(function, "weight", weight, {width});
  detail::check_shape<View<T, 2>, 2>(function, "y", y, {rows, width});
  detail::check_shape<View<T, 1>, 1>(function, "inverse_rms", inverse_rms, {rows});
  detail::check_adjacent(function, "x", x);
  detail::check_adjacent(function, "weight", weight);
  detail::check_adjacent(function, "y", y);
  detail::check_adjacent(function, "inverse_rms", inverse_rms);
  const detail::Pieces pieces(rows, 16);
  parallel_for(backend, pieces.pieces, [&](Index piece) {
    for (Index i = pieces.begin(piece); i < pieces.end(piece); ++i)
      inverse_rms(i) = detail::rms_norm_row(x.data() + i * x.stride(0), weight.data(), width,
                                            epsilon, y.data() + i * y.stride(0));
  });
}

/// Gradients of rms_norm_forward: with g = w dy and x̂ = x/r,
///   dx = (g − x̂ mean(g x̂)) / r, dw = Σ_rows dy x̂.
/// dx is overwritten or, as a residual connection wants it, added to; dweight is overwritten.
template <class T>
void rms_norm_backward(const Cpu& backend, const View<const T, 2>& x,
                       const View<const T, 1>& weight, const View<const T, 1>& inverse_rms,
                       const View<const T, 2>& dy, const View<T, 2>& dx, const View<T, 1>& dweight,
                       RmsNormWorkspace<T>& workspace, Write write_x = Write::overwrite) {
  const char* function = "rms_norm_backward";
  const Index rows = x.extent(0), width = x.extent(1);
  detail::check_shape<View<const T, 1>, 1>(function, "weight", weight, {width});
  detail::check_shape<View<const T, 1>, 1>(function, "inverse_rms", inverse_rms, {rows});
  detail::check_shape<View<const T, 2>, 2>(function, "dy", dy, {rows, width});
  detail::check_shape<View<T, 2>, 2>(function, "the gradient of x", dx, {rows, width});
  detail::check_shape<View<T, 1>, 1>(function, "the gradient of weight", dweight, {width});
  detail::check_adjacent(function, "x", x);
  detail::check_adjacent(function, "weight", weight);
  detail::check_adjacent(function, "inverse_rms", inverse_rms);
  detail::check_adjacent(function, "dy", dy);
  detail::check_adjacent(function, "the gradient of x", dx);
  detail::check_adjacent(function, "the gradient of weight", dweight);
  const detail::Pieces pieces(rows, 16);
  workspace.partials.resize({pieces.pieces * width});
  const auto w = detail::array(weight.data(), width);
  parallel_for(backend, pieces.pieces, [&](Index piece) {
    auto dw = detail::array(workspace.partials.data() + piece * width, width);
    dw.setZero();
    for (Index i = pieces.begin(piece); i < pieces.end(piece); ++i) {
      const T scale = inverse_rms(i);
      const auto row = detail::array(x.data() + i * x.stride(0), width);
      const auto dy_row = detail::array(dy.data() + i * dy.stride(0), width);
      auto dx_row = detail::array(dx.data() + i * dx.stride(0), width);
      const T mean = scale * (w * dy_row * row).sum() / static_cast<T>(width);
      dw += dy_row * row * scale;
      const auto gradient = scale * (w * dy_row - row * (scale * mean));
      if (write_x == Write::accumulate)
        dx_row += gradient;
      else
        dx_row = gradient;
    }
  });
  auto total = detail::array(dweight.data(), width);
  total.setZero();
  for (Index piece = 0; piece < pieces.pieces; ++piece)
    total += detail::array(workspace.partials.data() + piece * width, width);
}

}  // namespace ssm
