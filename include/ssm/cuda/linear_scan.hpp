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

/// The linear scan x_t = a_t x_{t−1} + b_t over device views, with the equations, aliases and
/// errors of that over host views; K is float, double or their complex. Lanes lie across channels;
/// time is cut where batch and channels alone would leave the device idle, and then a and b are
/// read twice. The values of offsets are not checked, as reading them would wait for the device:
/// wrong ones give wrong numbers, and touch no memory beyond the arguments.
/// @throws ShapeError, CudaError
template <class K>
void linear_scan(const Cuda& backend, const LinearScanInputs<K, Device>& inputs,
                 const LinearScanOptions& options,
                 const std::type_identity_t<LinearScanOutputs<K, Device>>& outputs,
                 LinearScanScratch<K, Device>& scratch);

/// The gradients of the linear_scan that filled `scratch` with these inputs; it reads the x that
/// one wrote where it stands.
/// @throws ShapeError, also for a scratch of another call; CudaError
template <class K>
void linear_scan_backward(
    const Cuda& backend, const LinearScanInputs<K, Device>& inputs,
    const LinearScanOptions& options,
    const std::type_identity_t<LinearScanOutputGradients<K, Device>>& output_gradients,
    const std::type_identity_t<LinearScanInputGradients<K, Device>>& input_gradients,
    LinearScanScratch<K, Device>& scratch);

}  // namespace ssm
