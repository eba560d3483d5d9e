#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/layers/causal_conv_types.hpp"

namespace ssm {

template <class T>
struct CausalConvScratch<T, Device> {
  DeviceBuffer memory;
};

/// The causal depthwise convolution over device views, with the equations, options, aliases and
/// errors of that over host views; T is float, double, Half or Bfloat16, with weights and sums in
/// Arithmetic<T>. Any strides; the values of offsets are not checked, as reading them would wait
/// for the device: wrong ones give wrong numbers, and touch no memory beyond the arguments.
/// @throws ShapeError, CudaError
template <class T>
void causal_conv(const Cuda& backend, const CausalConvInputs<T, Device>& inputs,
                 const CausalConvOptions& options,
                 const std::type_identity_t<CausalConvOutputs<T, Device>>& outputs,
                 CausalConvScratch<T, Device>& scratch);

/// Its gradients. Sums over time run in fixed pieces in a fixed order.
/// @throws ShapeError, CudaError
template <class T>
void causal_conv_backward(
    const Cuda& backend, const CausalConvInputs<T, Device>& inputs,
    const CausalConvOptions& options,
    const std::type_identity_t<CausalConvOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<CausalConvInputGradients<T, Device>>& input_gradients,
    CausalConvScratch<T, Device>& scratch);

/// One step over device views, in place on a pool of states (slots, width − 1, channels): row b of
/// the batch is the sequence of slot slots[b], or b itself where `slots` is absent, and nothing
/// where the slot is negative or too large. Two rows of a call may not share a slot. Everything
/// else as on the CPU; allocates nothing, and can be captured into a graph.
/// @throws ShapeError, CudaError
template <class T>
void causal_conv_step(const Cuda& backend, const CausalConvStepInputs<T, Device>& inputs,
                      const CausalConvOptions& options,
                      const std::type_identity_t<View<T, 3, Device>>& states,
                      const std::type_identity_t<View<T, 2, Device>>& y,
                      const View<const Index, 1, Device>& slots = {});

}  // namespace ssm
