#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/scan/linear_scan_types.hpp"

namespace ssm {

template <class K>
struct LinearScanScratch<K, Device> {
  detail::KeptCall<4> call;    ///< batch, length, channels, sequences
  View<const K, 3, Device> x;  ///< what forward wrote, in its caller's memory
  DeviceTensor<K, 2> initial;  ///< (sequences, channels), where the call overwrote it
  DeviceBuffer memory;
};

/// The linear scan x_t = a_t x_{t−1} + b_t over device views, with the equations and errors of
/// linear_scan over host views. K is float, double or std::complex of them. Neighbouring threads
/// work on neighbouring channels. When batch and channels alone would not occupy the device, time
/// is cut into pieces, and a and b are read twice.
///
/// The values of offsets are not checked, as reading them would mean waiting for the device. Wrong
/// offsets give wrong numbers, but touch no memory outside the arguments.
/// @throws ShapeError, CudaError
template <class K>
void linear_scan(const Cuda& backend, const LinearScanInputs<K, Device>& inputs,
                 const LinearScanOptions& options,
                 const std::type_identity_t<LinearScanOutputs<K, Device>>& outputs,
                 LinearScanScratch<K, Device>& scratch);

/// The gradients of the linear_scan that filled `scratch` with these inputs. It reads the x that
/// linear_scan wrote where it was written, so that memory must be unchanged.
/// @throws ShapeError, also for the scratch of another call; CudaError
template <class K>
void linear_scan_backward(
    const Cuda& backend, const LinearScanInputs<K, Device>& inputs,
    const LinearScanOptions& options,
    const std::type_identity_t<LinearScanOutputGradients<K, Device>>& output_gradients,
    const std::type_identity_t<LinearScanInputGradients<K, Device>>& input_gradients,
    LinearScanScratch<K, Device>& scratch);

}  // namespace ssm
