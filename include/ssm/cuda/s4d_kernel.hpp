#pragma once

#include <type_traits>

#include "ssm/conv/s4d_kernel_types.hpp"
#include "ssm/cuda/backend.hpp"

namespace ssm {

/// On a device the kernel needs no room.
template <class T>
struct DiagonalKernelScratch<T, Device> {};

/// The convolution kernel of S4D over device views: K (channels, length) as s4d_kernel over host
/// views gives it, with powers in double. One thread a run of sixteen values, which starts from a
/// power by squaring.
/// @throws ShapeError
/// @throws DomainError for a method other than zero_order_hold and bilinear
/// @throws CudaError
template <class T>
void s4d_kernel(const Cuda& backend, const DiagonalKernelInputs<T, Device>& inputs,
                const DiagonalKernelOptions& options,
                const std::type_identity_t<DiagonalKernelOutputs<T, Device>>& outputs,
                DiagonalKernelScratch<T, Device>& scratch);

}  // namespace ssm
