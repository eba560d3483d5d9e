#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/eigen.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/detail/matrix_rows.hpp"
#include "ssm/layers/detail/rows_product.hpp"
#include "ssm/layers/detail/stored_product.hpp"
#include "ssm/layers/linear_types.hpp"
#include "ssm/layers/matmul.hpp"
#include "ssm/layers/stored_matrix.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// So many rows are multiplied by a pass over the matrix, rather than as a product of two matrices.
inline constexpr Index few_rows = 16;

/// Products with the matrix of a linear map, for each way W to keep one. A specialization makes
/// `linear` and `linear_step` work with another.
template <class T, class W>
struct LinearProduct;

template <class T>
struct LinearProduct<T, View<const T, 2>> {
  /// y (rows, out) ← or += x (rows, in) · weightᵀ, for many rows
  static void run(const Cpu& backend, const View<const T, 2>& x, const View<const T, 2>& weight,
                  const View<T, 2>& y, Write write, LinearScratch<T>& scratch) {
    multiply<T>(backend, x, transposed(weight), y, write, scratch.room);
  }
  /// The same for a few rows, with nothing allocated. Each row is what it is alone.
  static void run_few(const Cpu& backend, const View<const T, 2>& x, const View<const T, 2>& weight,
                      const View<T, 2>& y, Write write) noexcept {
    const auto size = static_cast<Index>(sizeof(T));
    const PlainRows<T> rows{reinterpret_cast<const std::byte*>(weight.data()),
                            size * weight.stride(0)};
    for_rows(backend, weight.extent(0), weight.extent(1), x.extent(0),
             static_cast<double>(size * weight.size()), [&](Index first, Index last) {
               multiply_rows(rows, weight.extent(1), first, last, x.data(), x.stride(0),
                             x.extent(0), y.data(), y.stride(0), write);
             });
  }
};

/// A template, of float, so that only a program that multiplies by stored matrices compiles it.
template <std::same_as<float> T>
struct LinearProduct<T, StoredMatrixView> {
  static void run(const Cpu& backend, const View<const T, 2>& x, const StoredMatrixView& weight,
                  const View<T, 2>& y, Write write, LinearScratch<T>& scratch) {
    multiply_factor<T>(backend, x, StoredFactor{weight}, y, write, scratch.room);
  }
  static void run_few(const Cpu& backend, const View<const T, 2>& x, const StoredMatrixView& weight,
                      const View<T, 2>& y, Write write) noexcept {
    const Index out = weight.extent(0), in = weight.extent(1);
    const Index bytes = out * (row_bytes(weight.format, in) + scale_bytes(weight.format, in));
    with_rows(weight, [&](const auto& rows) noexcept {
      for_rows(backend, out, in, x.extent(0), static_cast<double>(bytes),
               [&](Index first, Index last) {
                 multiply_stored(rows, in, first, last, x.data(), x.stride(0), x.extent(0),
                                 y.data(), y.stride(0), write);
               });
    });
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
            const LinearOptions& options, const LinearOutputs<T>& outputs,
            LinearScratch<T>& scratch) {
  const auto& [x, weight, bias] = inputs;
  const auto& y = outputs.y;
  detail::check_linear("linear", inputs);
  detail::check_linear_output("linear", inputs, y);
  if (y.extent(0) <= detail::few_rows)
    detail::LinearProduct<T, W>::run_few(backend, x, weight, y, options.write);
  else
    detail::LinearProduct<T, W>::run(backend, x, weight, y, options.write, scratch);
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
  if (din.x) detail::multiply<T>(backend, dy, weight, din.x, options.write, scratch.room);
  if (din.weight)
    detail::multiply_deep<T>(backend, detail::transposed(dy), x, din.weight, scratch.room);
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

/// `linear` for a few rows, without allocation once the threads of the backend run. Each row is
/// computed as if alone. Arguments for which `linear` would throw end the program with the message
/// of that exception.
template <class T, class W>
void linear_step(const Cpu& backend, const LinearInputs<T, Host, W>& inputs,
                 const LinearOptions& options, const std::type_identity_t<View<T, 2>>& y) noexcept {
  detail::check_or_terminate([&] {
    detail::check_linear("linear_step", inputs);
    detail::check_linear_output("linear_step", inputs, y);
  });
  detail::LinearProduct<T, W>::run_few(backend, inputs.x, inputs.weight, y, options.write);
  if (!inputs.bias) return;
  for (Index i = 0; i < y.extent(0); ++i)
    detail::array(y.data() + i * y.stride(0), y.extent(1)) += as_eigen(inputs.bias).array();
}
/// The same on the calling thread.
template <class T, class W>
void linear_step(const LinearInputs<T, Host, W>& inputs, const LinearOptions& options,
                 const std::type_identity_t<View<T, 2>>& y) noexcept {
  linear_step(Cpu{1}, inputs, options, y);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(linear, Linear, float)
SSM_INSTANCE_OPERATION(linear, Linear, double)
SSM_INSTANCE void linear_step(const Cpu&, const LinearInputs<float>&, const LinearOptions&,
                              const View<float, 2>&) noexcept;
SSM_INSTANCE void linear_step(const Cpu&, const LinearInputs<double>&, const LinearOptions&,
                              const View<double, 2>&) noexcept;
SSM_INSTANCE void linear(const Cpu&, const LinearInputs<float, Host, StoredMatrixView>&,
                         const LinearOptions&, const LinearOutputs<float>&, LinearScratch<float>&);
SSM_INSTANCE void linear_step(const Cpu&, const LinearInputs<float, Host, StoredMatrixView>&,
                              const LinearOptions&, const View<float, 2>&) noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
