#pragma once

#include <array>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/scan/selective_types.hpp"

namespace ssm {

/// States at every few steps, and the shape of the call that saved them.
template <class T, class K>
struct SelectiveScanSaved<T, K, Device> {
  DeviceBuffer states;
  std::array<Index, 4> shape{};  ///< batch, length, channels, state
};

/// Scratch memory of forward and backward on a device. It grows to the largest call it has served,
/// and serves one stream at a time.
template <class T, class K>
struct SelectiveScanWorkspace<T, K, Device> {
  DeviceBuffer memory;
};

/// The selective scan S6 over device views: the same equations, options and errors as over host
/// views, for T of float, double, Half and Bfloat16 and for K real or complex, with states and sums
/// in Arithmetic<T>. Any strides, length, number of channels and of states; 64-bit indices.
///
/// States stay in registers, lanes lie across channels, and B and C are read once a block of
/// channels; time is cut where batch and channels alone would leave the device idle. Offsets are
/// not checked, as reading them would wait for the device: wrong ones give wrong numbers, and touch
/// no memory beyond the arguments. The exponential of float is the device's own, with an error of
/// 2 ulp. Throws ShapeError, CudaError.
template <class T, class K = Arithmetic<T>>
void selective_scan(const Cuda& backend, const SelectiveScanInputs<T, K, Device>& inputs,
                    const SelectiveScanOptions& options,
                    const SelectiveScanOutputs<T, K, Device>& outputs,
                    SelectiveScanWorkspace<T, K, Device>& workspace,
                    SelectiveScanSaved<T, K, Device>* saved = nullptr);

/// Gradients of a scalar loss through that selective_scan, from what it saved. Gradients of B and C
/// that vary are summed over panels of 32 channels, in a fixed order: the scratch holds one share
/// of them a panel. Throws ShapeError, also for what another shape saved, and CudaError.
template <class T, class K = Arithmetic<T>>
void selective_scan_backward(const Cuda& backend, const SelectiveScanInputs<T, K, Device>& inputs,
                             const SelectiveScanOptions& options,
                             const SelectiveScanSaved<T, K, Device>& saved,
                             const SelectiveScanOutputGradients<T, K, Device>& output_gradients,
                             const SelectiveScanInputGradients<T, K, Device>& input_gradients,
                             SelectiveScanWorkspace<T, K, Device>& workspace);

}  // namespace ssm
