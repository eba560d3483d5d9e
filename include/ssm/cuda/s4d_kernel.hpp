#pragma once

#include <type_traits>

#include "ssm/conv/s4d_kernel_types.hpp"
#include "ssm/cuda/backend.hpp"

namespace ssm {

/// On a device the kernel needs no room.
template <class T>
struct DiagonalKernelScratch<T, Device> {};

/// The convolution kernel K (channels, length) of S4D over device views, as s4d_kernel over host
/// views gives it, with powers in double. Each thread computes sixteen neighbouring values, the
/// first by repeated squaring.
/// @throws ShapeError; DomainError for a method other than zero_order_hold and bilinear; CudaError
template <class T>
void s4d_kernel(const Cuda& backend, const DiagonalKernelInputs<T, Device>& inputs,
                const DiagonalKernelOptions& options,
                const std::type_identity_t<DiagonalKernelOutputs<T, Device>>& outputs,
                DiagonalKernelScratch<T, Device>& scratch);

}  // namespace ssm
