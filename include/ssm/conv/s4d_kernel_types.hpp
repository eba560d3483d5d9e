#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretization.hpp"

namespace ssm {

/// What s4d_kernel and dss_kernel read: each channel has a diagonal model h' = Λ h + B u,
/// y = 2 Re(C h). Modes come in conjugate pairs, of which one is given.
template <class T, class Space = Host>
struct DiagonalKernelInputs {
  View<const std::complex<T>, 2, Space> lambda;  ///< Λ (channels, state/2), 1/s
  View<const T, 1, Space> delta;                 ///< Δ (channels), s
  View<const std::complex<T>, 2, Space> B;       ///< (channels, state/2), optional: 1 when absent
  View<const std::complex<T>, 2, Space> C;       ///< (channels, state/2)
};

/// How s4d_kernel samples the model.
struct DiagonalKernelOptions {
  Discretization method = Discretization::zero_order_hold;  ///< or bilinear
};

/// How dss_kernel normalizes the model.
struct DssKernelOptions {
  Index length = 0;  ///< L, the number of steps over which powers are normalized; 0: the length of
                     ///< the kernel
};

/// What s4d_kernel and dss_kernel write. It shares no memory with inputs.
template <class T, class Space = Host>
struct DiagonalKernelOutputs {
  View<T, 2, Space> kernel;  ///< K (channels, length), any length
};

/// The gradient of a scalar loss with respect to the kernel, which backward reads.
template <class T, class Space = Host>
struct DiagonalKernelOutputGradients {
  View<const T, 2, Space> kernel;  ///< ∂K (channels, length)
};

/// The gradients that s4d_kernel_backward and dss_kernel_backward overwrite. Absent ones are not
/// computed. The gradient with respect to a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class Space = Host>
struct DiagonalKernelInputGradients {
  View<std::complex<T>, 2, Space> lambda = {};  ///< (channels, state/2)
  View<T, 1, Space> delta = {};                 ///< (channels)
  View<std::complex<T>, 2, Space> B = {};       ///< (channels, state/2)
  View<std::complex<T>, 2, Space> C = {};       ///< (channels, state/2)
};

/// Scratch memory of s4d_kernel, dss_kernel, s4d_pass_state and their backward passes. It grows to
/// the largest call, and nothing in it is kept from one call for another.
template <class T, class Space = Host>
struct DiagonalKernelScratch;

namespace detail {

template <class T, class Space>
void check_diagonal_model(std::string_view name, const DiagonalKernelInputs<T, Space>& model) {
  check_given(name, "lambda", model.lambda, "(channels, state/2)");
  const std::array shape = model.lambda.extents();
  check_shape(name, "delta", model.delta, std::array{shape[0]});
  check_optional_shape(name, "B", model.B, shape);
  check_shape(name, "C", model.C, shape);
}

template <std::size_t Most, class T, class Space>
void add_inputs(OverlapChecks<Most>& memory, const DiagonalKernelInputs<T, Space>& model) noexcept {
  memory.input("lambda", model.lambda);
  memory.input("delta", model.delta);
  memory.input("B", model.B);
  memory.input("C", model.C);
}

/// The gradients of a model, the last of what `memory` is asked.
template <std::size_t Most, class T, class Space>
void check_model_gradients(std::string_view name, OverlapChecks<Most>& memory,
                           const DiagonalKernelInputs<T, Space>& model,
                           const DiagonalKernelInputGradients<T, Space>& gradients) {
  const std::array shape = model.lambda.extents();
  check_optional_output_shape(name, "gradient of lambda", gradients.lambda, shape);
  check_optional_output_shape(name, "gradient of delta", gradients.delta, std::array{shape[0]});
  check_optional_output_shape(name, "gradient of B", gradients.B, shape);
  check_optional_output_shape(name, "gradient of C", gradients.C, shape);
  memory.output("gradient of lambda", gradients.lambda);
  memory.output("gradient of delta", gradients.delta);
  memory.output("gradient of B", gradients.B);
  memory.output("gradient of C", gradients.C);
}

/// Throws unless a kernel of any length, or its gradient, fits the model.
template <class T, class Space, class Kernel>
void check_diagonal_kernel(std::string_view name, const DiagonalKernelInputs<T, Space>& model,
                           std::string_view argument, const Kernel& kernel) {
  check_diagonal_model(name, model);
  check_given(name, argument, kernel, "(channels, length)");
  check_shape(name, argument, kernel, std::array{model.lambda.extent(0), kernel.extent(1)});
}

template <class T, class Space>
void check_kernel_output(std::string_view name, const DiagonalKernelInputs<T, Space>& inputs,
                         const DiagonalKernelOutputs<T, Space>& outputs) {
  check_diagonal_kernel(name, inputs, "kernel", outputs.kernel);
  check_output(name, "kernel", outputs.kernel);
  OverlapChecks<5> memory(name);
  add_inputs(memory, inputs);
  memory.output("kernel", outputs.kernel);
}

template <class T, class Space>
void check_kernel_gradients(std::string_view name, const DiagonalKernelInputs<T, Space>& inputs,
                            const DiagonalKernelOutputGradients<T, Space>& dout,
                            const DiagonalKernelInputGradients<T, Space>& din) {
  check_diagonal_kernel(name, inputs, "gradient of kernel", dout.kernel);
  OverlapChecks<9> memory(name);
  add_inputs(memory, inputs);
  memory.input("the gradient of kernel", dout.kernel);
  check_model_gradients(name, memory, inputs, din);
}

}  // namespace detail
}  // namespace ssm
