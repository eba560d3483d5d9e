#pragma once

#include <array>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

/// The matrices of a diagonal system with many inputs and outputs, S5's, as real ones that `linear`
/// multiplies states by, their real and imaginary parts side by side. They are small beside the
/// sequences: the operations run on the calling thread.
namespace ssm {

template <class T, class Space = Host>
struct InputMatrixInputs {
  View<const std::complex<T>, 1, Space> factor;  ///< (modes): B̄ = factor · B
  View<const T, 3, Space> B;                     ///< (modes, 2, width): real and imaginary rows
};

struct InputMatrixOptions {};

template <class T, class Space = Host>
struct InputMatrixOutputs {
  View<T, 3, Space> B_bar;  ///< (modes, 2, width)
};

template <class T, class Space = Host>
struct InputMatrixOutputGradients {
  View<const T, 3, Space> B_bar;  ///< (modes, 2, width)
};

/// Gradients that backward overwrites.
template <class T, class Space = Host>
struct InputMatrixInputGradients {
  View<std::complex<T>, 1, Space> factor;
  View<T, 3, Space> B;  ///< may be the memory of the gradient of B̄
};

/// No room is needed.
template <class T, class Space = Host>
struct InputMatrixScratch {};

/// B̄ = factor · B, mode by mode.
/// @throws ShapeError
template <class T>
void input_matrix(const Cpu&, const InputMatrixInputs<T>& inputs, const InputMatrixOptions&,
                  const std::type_identity_t<InputMatrixOutputs<T>>& outputs,
                  InputMatrixScratch<T>&) {
  constexpr std::string_view function = "input_matrix";
  const auto& [factor, B] = inputs;
  const Index modes = factor.extent(0), width = B.extent(2);
  detail::check_shape(function, "B", B, std::array<Index, 3>{modes, 2, width});
  detail::check_shape(function, "B_bar", outputs.B_bar, B.extents());
  for (Index n = 0; n < modes; ++n) {
    const T re = factor(n).real(), im = factor(n).imag();
    for (Index c = 0; c < width; ++c) {
      outputs.B_bar(n, 0, c) = re * B(n, 0, c) - im * B(n, 1, c);
      outputs.B_bar(n, 1, c) = re * B(n, 1, c) + im * B(n, 0, c);
    }
  }
}

/// ∂B = conj(factor) ∂B̄, ∂factor = Σ conj(B) ∂B̄.
/// @throws ShapeError
template <class T>
void input_matrix_backward(const Cpu&, const InputMatrixInputs<T>& inputs,
                           const InputMatrixOptions&,
                           const std::type_identity_t<InputMatrixOutputGradients<T>>& dout,
                           const std::type_identity_t<InputMatrixInputGradients<T>>& din,
                           InputMatrixScratch<T>&) {
  using Wide = std::complex<double>;
  constexpr std::string_view function = "input_matrix_backward";
  const auto& [factor, B] = inputs;
  const Index modes = factor.extent(0), width = B.extent(2);
  detail::check_shape(function, "B", B, std::array<Index, 3>{modes, 2, width});
  detail::check_shape(function, "the gradient of B_bar", dout.B_bar, B.extents());
  detail::check_shape(function, "the gradient of B", din.B, B.extents());
  detail::check_shape(function, "the gradient of factor", din.factor, factor.extents());
  for (Index n = 0; n < modes; ++n) {
    const T re = factor(n).real(), im = factor(n).imag();
    Wide sum = 0;
    for (Index c = 0; c < width; ++c) {
      const T a = dout.B_bar(n, 0, c), b = dout.B_bar(n, 1, c);
      sum += std::conj(Wide(B(n, 0, c), B(n, 1, c))) * Wide(a, b);
      din.B(n, 0, c) = re * a + im * b;
      din.B(n, 1, c) = re * b - im * a;
    }
    din.factor(n) = std::complex<T>(sum);
  }
}

template <class T, class Space = Host>
struct OutputMatrixInputs {
  View<const T, 3, Space> C;  ///< (width, modes, 2): real and imaginary parts
};

struct OutputMatrixOptions {};

template <class T, class Space = Host>
struct OutputMatrixOutputs {
  View<T, 2, Space> rows;  ///< (width, 2 · modes)
};

template <class T, class Space = Host>
struct OutputMatrixOutputGradients {
  View<const T, 2, Space> rows;
};

template <class T, class Space = Host>
struct OutputMatrixInputGradients {
  View<T, 3, Space> C;
};

/// No room is needed.
template <class T, class Space = Host>
struct OutputMatrixScratch {};

namespace detail {

template <class C, class Rows>
void check_output_matrix(std::string_view function, const C& c, const Rows& rows,
                         const std::array<Index, 3>& extents) {
  check_shape(function, "C", c, std::array<Index, 3>{extents[0], extents[1], 2});
  check_shape(function, "rows", rows, std::array<Index, 2>{extents[0], 2 * extents[1]});
}

}  // namespace detail

/// The rows [2 Re C, −2 Im C] in turn, with which 2 Re(C x) is a product of real matrices.
/// @throws ShapeError
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

/// The gradient of output_matrix, which is linear and its own transpose.
/// @throws ShapeError
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

}  // namespace ssm
