#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/scan/linear_scan.hpp"

namespace ssm {

/// Scratch of the linear scan on a device. It grows to the largest call it has served.
template <class K>
struct LinearScanWorkspace<K, Device> {
  DeviceBuffer memory;
};

/// The linear scan x_t = a_t x_{t−1} + b_t over device views, with the equations, options, aliases
/// and errors of that over host views; K is float, double or their complex. Lanes lie across
/// channels; time is cut where batch and channels alone would leave the device idle, and then a and
/// b are read twice. Offsets are not checked. Throws ShapeError, CudaError.
template <class K>
void linear_scan(const Cuda& backend, const LinearScanInputs<K, Device>& inputs,
                 const LinearScanOptions& options, const LinearScanOutputs<K, Device>& outputs,
                 LinearScanWorkspace<K, Device>& workspace);

/// The gradients of linear_scan, from what it wrote to x.
template <class K>
void linear_scan_backward(const Cuda& backend, const LinearScanInputs<K, Device>& inputs,
                          const LinearScanOptions& options,
                          const std::type_identity_t<View<const K, 3, Device>>& x,
                          const LinearScanOutputGradients<K, Device>& output_gradients,
                          const LinearScanInputGradients<K, Device>& input_gradients,
                          LinearScanWorkspace<K, Device>& workspace);

}  // namespace ssm
