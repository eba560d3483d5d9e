#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm {

/// It serves one stream at a time.
template <class T, class K>
struct SelectiveScanScratch<T, K, Device> {
  detail::KeptCall<6> call;    ///< batch, length, channels, state, groups, sequences
  DeviceBuffer kept;           ///< the states at every few steps
  DeviceTensor<K, 3> initial;  ///< (sequences, channels, state), where the call overwrote it
  DeviceBuffer memory;
};

/// The selective scan S6 over device views: the same equations, options and errors as over host
/// views, for T of float, double, Half and Bfloat16 and for K real or complex, with states and sums
/// in Arithmetic<T>. Any strides, length, number of channels and of states; 64-bit indices.
///
/// States stay in registers, lanes lie across channels, and B and C are read once a block of
/// channels; time is cut where batch and channels alone would leave the device idle. The values of
/// offsets are not checked, as reading them would wait for the device: wrong ones give wrong
/// numbers, and touch no memory beyond the arguments. The exponential of float is the device's own,
/// with an error of 2 ulp.
/// @throws ShapeError, CudaError
template <class T, class K>
void selective_scan(const Cuda& backend, const SelectiveScanInputs<T, K, Device>& inputs,
                    const SelectiveScanOptions& options,
                    const std::type_identity_t<SelectiveScanOutputs<T, K, Device>>& outputs,
                    SelectiveScanScratch<T, K, Device>& scratch);

/// Gradients of a scalar loss through the selective_scan that filled `scratch` with these inputs
/// and options, keep among them. Gradients of B and C that vary are summed over panels of 32
/// channels, in a fixed order: the scratch holds one share of them a panel.
/// @throws ShapeError, also for a scratch of another call; CudaError
template <class T, class K>
void selective_scan_backward(
    const Cuda& backend, const SelectiveScanInputs<T, K, Device>& inputs,
    const SelectiveScanOptions& options,
    const std::type_identity_t<SelectiveScanOutputGradients<T, K, Device>>& output_gradients,
    const std::type_identity_t<SelectiveScanInputGradients<T, K, Device>>& input_gradients,
    SelectiveScanScratch<T, K, Device>& scratch);

}  // namespace ssm
