#pragma once

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/layers/causal_conv_types.hpp"

namespace ssm {

/// Scratch of the convolution on a device. It grows to the largest call it has served.
template <class T>
struct CausalConvWorkspace<T, Device> {
  DeviceBuffer memory;
};

/// The causal depthwise convolution over device views, with the equations, options, aliases and
/// errors of that over host views; T is float, double, Half or Bfloat16, with weights and sums in
/// Arithmetic<T>. Any strides; offsets are not checked. Throws ShapeError, CudaError.
template <class T>
void causal_conv_forward(const Cuda& backend, const CausalConvInputs<T, Device>& inputs,
                         const CausalConvOptions& options,
                         const CausalConvOutputs<T, Device>& outputs,
                         CausalConvWorkspace<T, Device>& workspace);

/// Its gradients. Sums over time run in fixed pieces in a fixed order.
template <class T>
void causal_conv_backward(const Cuda& backend, const CausalConvInputs<T, Device>& inputs,
                          const CausalConvOptions& options,
                          const CausalConvOutputGradients<T, Device>& output_gradients,
                          const CausalConvInputGradients<T, Device>& input_gradients,
                          CausalConvWorkspace<T, Device>& workspace);

/// One step over device views, in place on states (slots, width − 1, channels): row b of the batch
/// is sequence slots[b], or b itself where `slots` is absent, and nothing where the slot is
/// negative or too large. Throws ShapeError, CudaError.
template <class T>
void causal_conv_step(const Cuda& backend, const View<const T, 2, Device>& x,
                      const View<const Arithmetic<T>, 2, Device>& weight,
                      const View<const Arithmetic<T>, 1, Device>& bias,
                      const CausalConvOptions& options, const View<T, 3, Device>& states,
                      const View<T, 2, Device>& y, const View<const Index, 1, Device>& slots = {});

}  // namespace ssm
