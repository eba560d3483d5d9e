#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/layers/cross_entropy_types.hpp"

namespace ssm {

template <class T>
struct CrossEntropyScratch<T, Device> {
  DeviceTensor<double, 1> loss;  ///< (1)
  DeviceBuffer memory;           ///< the losses of all rows, and how many count
};

/// The mean over all targets of −log softmax(logits)[target], and its gradient, over device views,
/// with the equations, options and errors of cross_entropy over host views. T is float or double. A
/// row is read twice and written once. The loss stays on the device: nothing waits, and a captured
/// stream takes it.
///
/// The values of targets are not checked, as reading them would mean waiting for the device. One
/// that is neither in the vocabulary nor options.ignore makes the loss and its row of the gradient
/// NaN.
/// @param loss (1), overwritten, in nats; summed over rows in double and in a fixed order
/// @throws ShapeError, DomainError for a negative count, CudaError
template <class T>
void cross_entropy(const Cuda& backend, const CrossEntropyInputs<T, Device>& inputs,
                   const CrossEntropyOptions& options,
                   const std::type_identity_t<CrossEntropyOutputs<T, Device>>& outputs,
                   const View<double, 1, Device>& loss, CrossEntropyScratch<T, Device>& scratch);

/// The same, and waits for the stream.
/// @return the loss
/// @throws ShapeError, DomainError, and CudaError, also while the stream is captured
template <class T>
[[nodiscard]] double cross_entropy(
    const Cuda& backend, const CrossEntropyInputs<T, Device>& inputs,
    const CrossEntropyOptions& options,
    const std::type_identity_t<CrossEntropyOutputs<T, Device>>& outputs,
    CrossEntropyScratch<T, Device>& scratch);

}  // namespace ssm
