#pragma once

#include "ssm/core/eigen.hpp"
#include "ssm/layers/matmul.hpp"

namespace ssm {

/// Scratch of linear_backward, grown to its largest call.
template <class T>
struct LinearWorkspace {
  Tensor<T, 1> partials;
};

/// y = x Wᵀ + b for every row of x.
///
/// x (rows, in), weight (out, in), bias (out) or absent, y (rows, out). Rows may be strided, their
/// elements adjacent. With Write::accumulate the product is added to y.
/// Cost: rows · in · out multiply-adds. Throws ShapeError.
template <class T>
void linear_forward(const Cpu& backend, const View<const T, 2>& x, const View<const T, 2>& weight,
                    const View<const T, 1>& bias, const View<T, 2>& y,
                    Write write = Write::overwrite) {
  const Index out = weight.extent(0);
  detail::check_shape<View<const T, 2>, 2>("linear_forward", "weight", weight, {out, x.extent(1)});
  detail::check_optional_shape<View<const T, 1>, 1>("linear_forward", "bias", bias, {out});
  detail::check_shape<View<T, 2>, 2>("linear_forward", "y", y, {x.extent(0), out});
  detail::check_adjacent("linear_forward", "x", x);
  detail::check_adjacent("linear_forward", "weight", weight);
  detail::check_adjacent("linear_forward", "y", y);
  detail::multiply<T>(backend, x, detail::transposed(weight), y, write);
  if (!bias) return;
  const detail::Pieces rows(y.extent(0), 64);
  parallel_for(backend, rows.pieces, [&](Index piece) {
    for (Index i = rows.begin(piece); i < rows.end(piece); ++i)
      detail::array(y.data() + i * y.stride(0), out) += as_eigen(bias).array();
  });
}

/// What linear_backward writes; absent ones are skipped.
template <class T>
struct LinearGradients {
  View<T, 2> x;       ///< (rows, in)
  View<T, 2> weight;  ///< (out, in)
  View<T, 1> bias;    ///< (out)
};

/// dx = dy W, dW = dyᵀ x, db = Σ_rows dy. With `write_x` accumulate, dx is added to.
template <class T>
void linear_backward(const Cpu& backend, const View<const T, 2>& x, const View<const T, 2>& weight,
                     const View<const T, 2>& dy, const LinearGradients<T>& gradients,
                     LinearWorkspace<T>& workspace, Write write_x = Write::overwrite) {
  const char* function = "linear_backward";
  const Index rows = x.extent(0), in = x.extent(1), out = weight.extent(0);
  detail::check_shape<View<const T, 2>, 2>(function, "weight", weight, {out, in});
  detail::check_shape<View<const T, 2>, 2>(function, "dy", dy, {rows, out});
  detail::check_optional_shape<View<T, 2>, 2>(function, "the gradient of x", gradients.x,
                                              {rows, in});
  detail::check_optional_shape<View<T, 2>, 2>(function, "the gradient of weight", gradients.weight,
                                              {out, in});
  detail::check_optional_shape<View<T, 1>, 1>(function, "the gradient of bias", gradients.bias,
                                              {out});
  detail::check_adjacent(function, "x", x);
  detail::check_adjacent(function, "weight", weight);
  detail::check_adjacent(function, "dy", dy);
  detail::check_adjacent(function, "the gradient of x", gradients.x);
  detail::check_adjacent(function, "the gradient of weight", gradients.weight);
  if (gradients.x) detail::multiply<T>(backend, dy, weight, gradients.x, write_x);
  if (gradients.weight)
    detail::multiply_deep<T>(backend, detail::transposed(dy), x, gradients.weight, Write::overwrite,
                             workspace.partials);
  if (!gradients.bias) return;
  const detail::Pieces columns(out, 32);
  parallel_for(backend, columns.pieces, [&](Index piece) {
    const Index begin = columns.begin(piece), count = columns.size(piece);
    auto sum = as_eigen(gradients.bias.slice(0, begin, count)).array();
    sum.setZero();
    for (Index i = 0; i < rows; ++i)
      sum += detail::array(dy.data() + i * dy.stride(0) + begin, count);
  });
}

/// linear_forward for a few rows on the calling thread: each row on its own, nothing allocated.
/// Shapes are those of linear_forward and are asserted.
template <class T>
void linear_step(const View<const T, 2>& x, const View<const T, 2>& weight,
                 const View<const T, 1>& bias, const View<T, 2>& y) noexcept {
  assert(weight.extent(1) == x.extent(1) && y.extent(1) == weight.extent(0));
  for (Index i = 0; i < x.extent(0); ++i) {
    T* row = y.data() + i * y.stride(0);
    detail::multiply_vector<T>(weight, x.data() + i * x.stride(0), row);
    if (bias) detail::array(row, y.extent(1)) += as_eigen(bias).array();
  }
}

}  // namespace ssm
