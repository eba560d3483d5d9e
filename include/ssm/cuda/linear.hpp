#pragma once

#include <memory>
#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/layers/linear_types.hpp"

namespace ssm {

template <class T>
struct LinearScratch<T, Device> {
  std::shared_ptr<void> plans;     ///< how cuBLASLt multiplies matrices of each shape so far
  DeviceBuffer workspace, column;  ///< of its products, and shares of the gradient of the bias
};

/// y = x weightᵀ + bias over device views, with the equations, options and errors of linear over
/// host views. T is float or double, which float takes as it is: no bits are dropped.
///
/// The product is cuBLASLt's. For each shape, set of strides and alignment it is asked once how it
/// would multiply; the scratch keeps the answer. A captured stream can only take shapes that the
/// scratch has multiplied before.
/// @throws ShapeError, also for rows that do not follow each other in memory; CudaError, also for a
///   new shape while the stream is captured
template <class T>
void linear(const Cuda& backend, const LinearInputs<T, Device>& inputs,
            const LinearOptions& options,
            const std::type_identity_t<LinearOutputs<T, Device>>& outputs,
            LinearScratch<T, Device>& scratch);

/// The gradients of linear over device views. The bits are the same on one kind of device with one
/// version of cuBLASLt; sums of the gradient of the bias run in fixed pieces in a fixed order.
/// @throws ShapeError, CudaError as linear
template <class T>
void linear_backward(const Cuda& backend, const LinearInputs<T, Device>& inputs,
                     const LinearOptions& options,
                     const std::type_identity_t<LinearOutputGradients<T, Device>>& output_gradients,
                     const std::type_identity_t<LinearInputGradients<T, Device>>& input_gradients,
                     LinearScratch<T, Device>& scratch);

}  // namespace ssm
