#pragma once

#include <complex>

#include "ssm/core/view.hpp"

namespace ssm {

/// What input_matrix reads.
template <class T, class Space = Host>
struct InputMatrixInputs {
  View<const std::complex<T>, 1, Space> factor;  ///< (modes): B̄ = factor · B
  View<const T, 3, Space> B;                     ///< (modes, 2, width): real and imaginary rows
};

/// There is nothing to choose.
struct InputMatrixOptions {};

/// What input_matrix writes.
template <class T, class Space = Host>
struct InputMatrixOutputs {
  View<T, 3, Space> B_bar;  ///< B̄ (modes, 2, width)
};

/// The gradient of a scalar loss with respect to the output, which input_matrix_backward reads.
template <class T, class Space = Host>
struct InputMatrixOutputGradients {
  View<const T, 3, Space> B_bar;  ///< (modes, 2, width)
};

/// Gradients that backward overwrites.
template <class T, class Space = Host>
struct InputMatrixInputGradients {
  View<std::complex<T>, 1, Space> factor;  ///< (modes), overwritten
  View<T, 3, Space> B;  ///< (modes, 2, width), overwritten; may be the memory of the gradient of B̄
};

/// Empty: input_matrix needs no scratch memory.
template <class T, class Space = Host>
struct InputMatrixScratch {};

/// What output_matrix reads.
template <class T, class Space = Host>
struct OutputMatrixInputs {
  View<const T, 3, Space> C;  ///< (width, modes, 2): real and imaginary parts
};

/// There is nothing to choose.
struct OutputMatrixOptions {};

/// What output_matrix writes.
template <class T, class Space = Host>
struct OutputMatrixOutputs {
  View<T, 2, Space> rows;  ///< (width, 2 · modes)
};

/// The gradient of a scalar loss with respect to the output, which output_matrix_backward reads.
template <class T, class Space = Host>
struct OutputMatrixOutputGradients {
  View<const T, 2, Space> rows;  ///< (width, 2 · modes)
};

/// The gradients that output_matrix_backward writes.
template <class T, class Space = Host>
struct OutputMatrixInputGradients {
  View<T, 3, Space> C;  ///< (width, modes, 2), overwritten
};

/// Empty: output_matrix needs no scratch memory.
template <class T, class Space = Host>
struct OutputMatrixScratch {};

}  // namespace ssm
