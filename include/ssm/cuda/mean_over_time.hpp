#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/layers/mean_over_time_types.hpp"

namespace ssm {

/// y = the mean of x over the steps of each sequence, over device views, with the equations and
/// errors of mean_over_time over host views. T is float or double. Several threads share the steps
/// of a channel and add up what they have in a fixed order.
///
/// The values of offsets are not checked, as reading them would mean waiting for the device. Wrong
/// offsets give wrong numbers, but touch no memory outside the arguments.
/// @throws ShapeError, CudaError
template <class T>
void mean_over_time(const Cuda& backend, const MeanOverTimeInputs<T, Device>& inputs,
                    const MeanOverTimeOptions& options,
                    const std::type_identity_t<MeanOverTimeOutputs<T, Device>>& outputs,
                    MeanOverTimeScratch<T, Device>& scratch);

/// The gradient of mean_over_time over device views.
/// @throws ShapeError, CudaError
template <class T>
void mean_over_time_backward(
    const Cuda& backend, const MeanOverTimeInputs<T, Device>& inputs,
    const MeanOverTimeOptions& options,
    const std::type_identity_t<MeanOverTimeOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<MeanOverTimeInputGradients<T, Device>>& input_gradients,
    MeanOverTimeScratch<T, Device>& scratch);

}  // namespace ssm
