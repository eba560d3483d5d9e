#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// The model of S4 that s4_kernel reads: each channel has a matrix A = Λ − P P*, diagonal plus low
/// rank. Modes come in conjugate pairs, of which one is given. In place of the output C it holds
/// the truncated output C̃ = C (I − A_bar^L) for the length L of the kernel (see s4_truncate), which
/// is what S4 trains.
template <class T, class Space = Host>
struct S4KernelInputs {
  View<const std::complex<T>, 2, Space> lambda;  ///< Λ (channels, state/2), 1/s
  View<const std::complex<T>, 3, Space> P;       ///< (channels, state/2, rank), optional: rank 0
  View<const std::complex<T>, 2, Space> B;       ///< (channels, state/2)
  View<const std::complex<T>, 2, Space> C;       ///< C̃ (channels, state/2)
  View<const T, 1, Space> delta;                 ///< Δ (channels), s
};

/// There is nothing to choose: S4 is defined with the bilinear step.
struct S4KernelOptions {};

/// What s4_kernel writes. It shares no memory with inputs.
template <class T, class Space = Host>
struct S4KernelOutputs {
  View<T, 2, Space> kernel;  ///< K (channels, L), any L
};

/// The gradient of a scalar loss with respect to the kernel, which s4_kernel_backward reads.
template <class T, class Space = Host>
struct S4KernelOutputGradients {
  View<const T, 2, Space> kernel;  ///< ∂K (channels, L)
};

/// The gradients that s4_kernel_backward overwrites. Absent ones are not computed. The gradient
/// with respect to a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class Space = Host>
struct S4KernelInputGradients {
  View<std::complex<T>, 2, Space> lambda = {};  ///< (channels, state/2)
  View<std::complex<T>, 3, Space> P = {};       ///< (channels, state/2, rank)
  View<std::complex<T>, 2, Space> B = {};       ///< (channels, state/2)
  View<std::complex<T>, 2, Space> C = {};       ///< (channels, state/2)
  View<T, 1, Space> delta = {};                 ///< (channels)
};

/// Scratch memory of s4_kernel and s4_kernel_backward. It grows to the largest call, and nothing of
/// a model is kept from one call for another.
template <class T, class Space = Host>
struct S4KernelScratch;

namespace detail {

template <class T, class Space>
[[nodiscard]] Index s4_rank(const S4KernelInputs<T, Space>& model) noexcept {
  return model.P ? model.P.extent(2) : 0;
}

template <class T, class Space>
void check_s4_model(std::string_view name, const S4KernelInputs<T, Space>& model) {
  check_given(name, "lambda", model.lambda, "(channels, state/2)");
  const std::array shape = model.lambda.extents();
  if (model.P) check_given(name, "P", model.P, "(channels, state/2, rank)");
  check_optional_shape(name, "P", model.P, std::array{shape[0], shape[1], s4_rank(model)});
  check_shape(name, "B", model.B, shape);
  check_shape(name, "C", model.C, shape);
  check_shape(name, "delta", model.delta, std::array{shape[0]});
}

template <std::size_t Most, class T, class Space>
void add_inputs(OverlapChecks<Most>& memory, const S4KernelInputs<T, Space>& model) noexcept {
  memory.input("lambda", model.lambda);
  memory.input("P", model.P);
  memory.input("B", model.B);
  memory.input("C", model.C);
  memory.input("delta", model.delta);
}

/// The gradients of a model, the last of what `memory` is asked.
template <std::size_t Most, class T, class Space>
void check_model_gradients(std::string_view name, OverlapChecks<Most>& memory,
                           const S4KernelInputs<T, Space>& model,
                           const S4KernelInputGradients<T, Space>& gradients) {
  const std::array shape = model.lambda.extents();
  check_optional_output_shape(name, "gradient of lambda", gradients.lambda, shape);
  check_optional_output_shape(name, "gradient of P", gradients.P,
                              std::array{shape[0], shape[1], s4_rank(model)});
  check_optional_output_shape(name, "gradient of B", gradients.B, shape);
  check_optional_output_shape(name, "gradient of C", gradients.C, shape);
  check_optional_output_shape(name, "gradient of delta", gradients.delta, std::array{shape[0]});
  memory.output("gradient of lambda", gradients.lambda);
  memory.output("gradient of P", gradients.P);
  memory.output("gradient of B", gradients.B);
  memory.output("gradient of C", gradients.C);
  memory.output("gradient of delta", gradients.delta);
}

}  // namespace detail
}  // namespace ssm
