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
/// y_t = [2 Re] C·x_t + D u_t, with the equations and options of diagonal_scan over host views. T
/// is float or double, K is T or std::complex<T>. Every row of the batch is one sequence; packed
/// sequences and gradients are not there yet.
///
/// Modes are discretized in double. States stay in registers. When batch and channels alone would
/// not occupy the device, time is cut into pieces, which are joined with ā to the power of their
/// length.
/// @throws ShapeError, also for offsets and for a Δ that varies with time; DomainError when the
///   method changes C or D; CudaError
template <class T, class K>
void diagonal_scan(const Cuda& backend, const DiagonalScanInputs<T, K, Device>& inputs,
                   const DiagonalScanOptions& options,
                   const std::type_identity_t<DiagonalScanOutputs<T, K, Device>>& outputs,
                   DiagonalScanScratch<T, K, Device>& scratch);

}  // namespace ssm
