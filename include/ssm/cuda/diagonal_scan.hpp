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
/// is float or double, K is T or std::complex<T>.
///
/// Modes are discretized in double. States stay in registers. When batch and channels alone would
/// not occupy the device, time is cut into pieces, which are joined with ā to the power of their
/// length.
///
/// The values of offsets and of Δ are not checked, as reading them would mean waiting for the
/// device. Wrong offsets give wrong numbers, but touch no memory outside the arguments.
/// @throws ShapeError, also for a Δ that varies with time; DomainError when the method changes C or
///   D; CudaError
template <class T, class K>
void diagonal_scan(const Cuda& backend, const DiagonalScanInputs<T, K, Device>& inputs,
                   const DiagonalScanOptions& options,
                   const std::type_identity_t<DiagonalScanOutputs<T, K, Device>>& outputs,
                   DiagonalScanScratch<T, K, Device>& scratch);

/// The gradients of diagonal_scan with the same inputs and options. Like the one over host views it
/// reads u and the initial state, computes the states again, and needs nothing that the forward
/// pass left. Sums over time and batch run in fixed pieces in a fixed order, the last of them in
/// double: the bits are always the same.
///
/// Scratch: a state of every channel for each 64 bytes of steps of it (16 of float, 4 of complex
/// double).
/// @throws ShapeError, DomainError, CudaError as diagonal_scan
template <class T, class K>
void diagonal_scan_backward(
    const Cuda& backend, const DiagonalScanInputs<T, K, Device>& inputs,
    const DiagonalScanOptions& options,
    const std::type_identity_t<DiagonalScanOutputGradients<T, K, Device>>& output_gradients,
    const std::type_identity_t<DiagonalScanInputGradients<T, K, Device>>& input_gradients,
    DiagonalScanScratch<T, K, Device>& scratch);

}  // namespace ssm
