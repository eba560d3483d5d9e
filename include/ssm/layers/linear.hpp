#pragma once

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/eigen.hpp"
#include "ssm/layers/linear_types.hpp"
#include "ssm/layers/matmul.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Products with the matrix of a linear map, for each way W to keep one. A specialization makes
/// `linear` and `linear_step` work with another.
template <class T, class W>
struct LinearProduct;

template <class T>
struct LinearProduct<T, View<const T, 2>> {
  /// y (rows, out) ← or += x (rows, in) · weightᵀ
  static void run(const Cpu& backend, const View<const T, 2>& x, const View<const T, 2>& weight,
                  const View<T, 2>& y, Write write) {
    multiply<T>(backend, x, transposed(weight), y, write);
  }
  /// The same for one row, on the calling thread, with nothing allocated.
  static void run_row(const T* x, const View<const T, 2>& weight, T* y, Write write) noexcept {
    multiply_vector<T>(weight, x, y, write);
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// y = x Wᵀ + b for every row of x, or with Write::accumulate y += x Wᵀ + b.
///
/// Cost: rows · in · out multiply-adds.
/// @throws ShapeError for extents that do not fit, elements of a row that are not adjacent, and a y
///   in the memory of an input
template <class T, class W = View<const T, 2>>
void linear(const Cpu& backend, const LinearInputs<T, Host, W>& inputs,
            const LinearOptions& options, const LinearOutputs<T>& outputs, LinearScratch<T>&) {
  const auto& [x, weight, bias] = inputs;
  const auto& y = outputs.y;
  detail::check_linear("linear", inputs);
  detail::check_linear_output("linear", inputs, y);
  detail::LinearProduct<T, W>::run(backend, x, weight, y, options.write);
  if (!bias) return;
  const Index out = y.extent(1);
  const detail::Pieces rows(y.extent(0), 64);
  parallel_for(for_elements(backend, y.size()), rows.pieces, [&](Index piece) {
    for (Index i = rows.begin(piece); i < rows.end(piece); ++i)
      detail::array(y.data() + i * y.stride(0), out) += as_eigen(inputs.bias).array();
  });
}

/// The gradients of linear: dx = dy W (or dx += dy W with Write::accumulate), dW = dyᵀ x,
/// db = Σ_rows dy. The bias of the inputs is not read. Cost: twice that of linear.
/// @throws ShapeError as linear, and for a gradient in the memory of another argument
template <class T>
void linear_backward(const Cpu& backend, const LinearInputs<T>& inputs,
                     const LinearOptions& options, const LinearOutputGradients<T>& output_gradients,
                     const LinearInputGradients<T>& input_gradients, LinearScratch<T>& scratch) {
  const View<const T, 2>&x = inputs.x, &weight = inputs.weight, &dy = output_gradients.y;
  const auto& din = input_gradients;
  detail::check_linear("linear_backward", inputs);
  detail::check_linear_gradients("linear_backward", inputs, output_gradients, din);
  if (din.x) detail::multiply<T>(backend, dy, weight, din.x, options.write);
  if (din.weight)
    detail::multiply_deep<T>(backend, detail::transposed(dy), x, din.weight, Write::overwrite,
                             scratch.partials);
  if (!din.bias) return;
  const detail::Pieces columns(dy.extent(1), 32);
  parallel_for(for_elements(backend, dy.size()), columns.pieces, [&](Index piece) {
    const Index begin = columns.begin(piece), count = columns.size(piece);
    auto sum = as_eigen(din.bias.slice(0, begin, count)).array();
    sum.setZero();
    for (Index i = 0; i < x.extent(0); ++i)
      sum += detail::array(dy.data() + i * dy.stride(0) + begin, count);
  });
}

/// `linear` for a few rows on the calling thread, without allocation. Each row is computed by
/// itself. Arguments for which `linear` would throw end the program with the message of that
/// exception.
template <class T, class W>
void linear_step(const LinearInputs<T, Host, W>& inputs, const LinearOptions& options,
                 const std::type_identity_t<View<T, 2>>& y) noexcept {
  detail::check_or_terminate([&] {
    detail::check_linear("linear_step", inputs);
    detail::check_linear_output("linear_step", inputs, y);
  });
  for (Index i = 0; i < y.extent(0); ++i) {
    T* row = y.data() + i * y.stride(0);
    detail::LinearProduct<T, W>::run_row(inputs.x.data() + i * inputs.x.stride(0), inputs.weight,
                                         row, options.write);
    if (inputs.bias) detail::array(row, y.extent(1)) += as_eigen(inputs.bias).array();
  }
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(linear, Linear, float)
SSM_INSTANCE_OPERATION(linear, Linear, double)
SSM_INSTANCE void linear_step(const LinearInputs<float>&, const LinearOptions&,
                              const View<float, 2>&) noexcept;
SSM_INSTANCE void linear_step(const LinearInputs<double>&, const LinearOptions&,
                              const View<double, 2>&) noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
