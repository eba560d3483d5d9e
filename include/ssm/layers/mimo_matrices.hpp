#pragma once

#include <array>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/mimo_matrices_types.hpp"

/// @file
/// The input and output matrices of S5, a diagonal system with many inputs and outputs, as real
/// matrices that `linear` takes: the real and imaginary parts of a complex number are neighbours.
/// The matrices are small compared with sequences, so these operations run on the calling thread.

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// B̄ = factor · B, the sampled input matrix of a diagonal system: each mode has its own factor.
/// @throws ShapeError for extents that do not fit
template <class T>
void input_matrix(const Cpu&, const InputMatrixInputs<T>& inputs, const InputMatrixOptions&,
                  const std::type_identity_t<InputMatrixOutputs<T>>& outputs,
                  InputMatrixScratch<T>&) {
  constexpr std::string_view function = "input_matrix";
  const auto& [factor, B] = inputs;
  const Index modes = factor.extent(0), width = B.extent(2);
  detail::check_shape(function, "B", B, std::array<Index, 3>{modes, 2, width});
  detail::check_shape(function, "B_bar", outputs.B_bar, B.extents());
  detail::check_adjacent(function, "B", B);
  detail::check_adjacent(function, "B_bar", outputs.B_bar);
  for (Index n = 0; n < modes && width > 0; ++n) {
    const T re = factor(n).real(), im = factor(n).imag();
    const auto real = detail::array(&B(n, 0, 0), width), imag = detail::array(&B(n, 1, 0), width);
    detail::array(&outputs.B_bar(n, 0, 0), width) = re * real - im * imag;
    detail::array(&outputs.B_bar(n, 1, 0), width) = re * imag + im * real;
  }
}

/// The gradients of input_matrix: ∂B = conj(factor) ∂B̄, ∂factor = Σ conj(B) ∂B̄ over the inputs.
/// @throws ShapeError for extents that do not fit
template <class T>
void input_matrix_backward(const Cpu&, const InputMatrixInputs<T>& inputs,
                           const InputMatrixOptions&,
                           const std::type_identity_t<InputMatrixOutputGradients<T>>& dout,
                           const std::type_identity_t<InputMatrixInputGradients<T>>& din,
                           InputMatrixScratch<T>&) {
  constexpr std::string_view function = "input_matrix_backward";
  const auto& [factor, B] = inputs;
  const Index modes = factor.extent(0), width = B.extent(2);
  detail::check_shape(function, "B", B, std::array<Index, 3>{modes, 2, width});
  detail::check_shape(function, "the gradient of B_bar", dout.B_bar, B.extents());
  detail::check_shape(function, "the gradient of B", din.B, B.extents());
  detail::check_shape(function, "the gradient of factor", din.factor, factor.extents());
  detail::check_adjacent(function, "B", B);
  detail::check_adjacent(function, "the gradient of B_bar", dout.B_bar);
  detail::check_adjacent(function, "the gradient of B", din.B);
  for (Index n = 0; n < modes; ++n) {
    din.factor(n) = T(0);
    if (width == 0) continue;
    const T re = factor(n).real(), im = factor(n).imag();
    const auto real = detail::array(&B(n, 0, 0), width), imag = detail::array(&B(n, 1, 0), width);
    T *const da = &din.B(n, 0, 0), *const db = &din.B(n, 1, 0);
    const T *const a = &dout.B_bar(n, 0, 0), *const b = &dout.B_bar(n, 1, 0);
    const auto wide = [](const auto& x) { return x.template cast<double>(); };
    const auto along = wide(detail::array(a, width)), across = wide(detail::array(b, width));
    din.factor(n) = {static_cast<T>((wide(real) * along + wide(imag) * across).sum()),
                     static_cast<T>((wide(real) * across - wide(imag) * along).sum())};
    for (Index c = 0; c < width; ++c) {
      const T x = a[c], y = b[c];
      da[c] = re * x + im * y;
      db[c] = re * y - im * x;
    }
  }
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class C, class Rows>
void check_output_matrix(std::string_view function, const C& c, const Rows& rows,
                         const std::array<Index, 3>& extents) {
  check_shape(function, "C", c, std::array<Index, 3>{extents[0], extents[1], 2});
  check_shape(function, "rows", rows, std::array<Index, 2>{extents[0], 2 * extents[1]});
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Turns a complex C into real rows, 2 Re C and −2 Im C of each mode in turn. Times the states x,
/// with real and imaginary parts in turn, they give 2 Re(C x).
/// @throws ShapeError for extents that do not fit
template <class T>
void output_matrix(const Cpu&, const OutputMatrixInputs<T>& inputs, const OutputMatrixOptions&,
                   const std::type_identity_t<OutputMatrixOutputs<T>>& outputs,
                   OutputMatrixScratch<T>&) {
  const auto& C = inputs.C;
  detail::check_output_matrix("output_matrix", C, outputs.rows, C.extents());
  for (Index c = 0; c < C.extent(0); ++c)
    for (Index n = 0; n < C.extent(1); ++n) {
      outputs.rows(c, 2 * n) = T(2) * C(c, n, 0);
      outputs.rows(c, 2 * n + 1) = T(-2) * C(c, n, 1);
    }
}

/// The gradient of output_matrix: 2 and −2 times the gradients of the rows.
/// @throws ShapeError for extents that do not fit
template <class T>
void output_matrix_backward(const Cpu&, const OutputMatrixInputs<T>& inputs,
                            const OutputMatrixOptions&,
                            const std::type_identity_t<OutputMatrixOutputGradients<T>>& dout,
                            const std::type_identity_t<OutputMatrixInputGradients<T>>& din,
                            OutputMatrixScratch<T>&) {
  const auto& C = inputs.C;
  detail::check_output_matrix("output_matrix_backward", din.C, dout.rows, C.extents());
  for (Index c = 0; c < C.extent(0); ++c)
    for (Index n = 0; n < C.extent(1); ++n) {
      din.C(c, n, 0) = T(2) * dout.rows(c, 2 * n);
      din.C(c, n, 1) = T(-2) * dout.rows(c, 2 * n + 1);
    }
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(input_matrix, InputMatrix, float)
SSM_INSTANCE_OPERATION(output_matrix, OutputMatrix, float)
SSM_INSTANCE_OPERATION(input_matrix, InputMatrix, double)
SSM_INSTANCE_OPERATION(output_matrix, OutputMatrix, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
