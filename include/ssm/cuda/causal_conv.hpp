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

/// The causal depthwise convolution over device views, with the equations, options and errors of
/// causal_conv over host views. T is float, double, Half or Bfloat16; weights and sums are of type
/// Arithmetic<T>. Views may have any strides.
///
/// The values of offsets are not checked, as reading them would mean waiting for the device. Wrong
/// offsets give wrong numbers, but touch no memory outside the arguments.
/// @throws ShapeError, CudaError
template <class T>
void causal_conv(const Cuda& backend, const CausalConvInputs<T, Device>& inputs,
                 const CausalConvOptions& options,
                 const std::type_identity_t<CausalConvOutputs<T, Device>>& outputs,
                 CausalConvScratch<T, Device>& scratch);

/// The gradients of causal_conv over device views. Sums over time run in fixed pieces in a fixed
/// order, so the bits are always the same.
/// @throws ShapeError, CudaError
template <class T>
void causal_conv_backward(
    const Cuda& backend, const CausalConvInputs<T, Device>& inputs,
    const CausalConvOptions& options,
    const std::type_identity_t<CausalConvOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<CausalConvInputGradients<T, Device>>& input_gradients,
    CausalConvScratch<T, Device>& scratch);

/// One step of causal_conv over device views, on a pool of states (slots, width − 1, channels) that
/// it updates. Row b of the batch belongs to the sequence in slot slots[b], or in slot b when
/// `slots` is absent. A row whose slot is negative or too large is skipped. Two rows of a call must
/// not have the same slot. Allocates nothing, and can be captured into a graph.
/// @throws ShapeError, CudaError
template <class T>
void causal_conv_step(const Cuda& backend, const CausalConvStepInputs<T, Device>& inputs,
                      const CausalConvOptions& options,
                      const std::type_identity_t<View<T, 3, Device>>& states,
                      const std::type_identity_t<View<T, 2, Device>>& y,
                      const View<const Index, 1, Device>& slots = {});

}  // namespace ssm
