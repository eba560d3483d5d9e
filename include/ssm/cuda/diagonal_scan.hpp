#pragma once

#include <type_traits>

#include "ssm/conv/diagonal_kernel_types.hpp"
#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/scan/diagonal_recurrence.hpp"

namespace ssm {

/// The recurrence of diagonal time-invariant systems over device views, x_t = ā x_{t−1} + B̄ u_t,
/// y_t = [2 Re] C·x_t + D u_t, with the equations, options and aliases of diagonal_scan over host
/// views; T is float or double, K is T or its complex. Modes are discretized in double. States stay
/// in registers; time is cut where batch and channels alone would leave the device idle, and pieces
/// are joined by ā to the power of their length. Gradients are not here yet.
/// Throws ShapeError, DomainError when the method changes C or D, CudaError.
template <class T, class K = T>
void diagonal_scan(const Cuda& backend, Discretization method,
                   const DiagonalRecurrenceInputs<T, K, Device>& inputs,
                   const std::type_identity_t<View<const T, 1, Device>>& delta,
                   const DiagonalScanOptions& options,
                   const DiagonalRecurrenceOutputs<T, K, Device>& outputs, DeviceBuffer& workspace);

/// The convolution kernel of S4D over device views: K (channels, length) as s4d_kernel over host
/// views gives it, with powers in double. One thread a run of sixteen values, which starts from a
/// power by squaring. Throws ShapeError, DomainError for a method other than zero_order_hold and
/// bilinear, CudaError.
template <class T>
void s4d_kernel(const Cuda& backend, Discretization method,
                const DiagonalKernelInputs<T, Device>& inputs,
                const std::type_identity_t<View<T, 2, Device>>& K);

}  // namespace ssm
