#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/scan/diagonal_scan_types.hpp"

namespace ssm {

template <class T, class K>
struct DiagonalScanScratch<T, K, Device> {
  DeviceBuffer memory;
};

/// The scan of diagonal time-invariant systems over device views, x_t = ā x_{t−1} + B̄ u_t,
/// y_t = [2 Re] C·x_t + D u_t, with the equations, options and aliases of that over host views; T
/// is float or double, K is T or its complex. Modes are discretized in double. States stay in
/// registers; time is cut where batch and channels alone would leave the device idle, and pieces
/// are joined by ā to the power of their length. Each row is one sequence; there are no gradients
/// yet.
/// @throws ShapeError, also for offsets and a Δ that varies
/// @throws DomainError when the method changes C or D
/// @throws CudaError
template <class T, class K>
void diagonal_scan(const Cuda& backend, const DiagonalScanInputs<T, K, Device>& inputs,
                   const DiagonalScanOptions& options,
                   const std::type_identity_t<DiagonalScanOutputs<T, K, Device>>& outputs,
                   DiagonalScanScratch<T, K, Device>& scratch);

}  // namespace ssm
