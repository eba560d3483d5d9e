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

/// The selective scan S6 over device views, with the equations, options and errors of
/// selective_scan over host views. T is float, double, Half or Bfloat16, K real or complex; states
/// and sums are of type Arithmetic<T>, or complex numbers of it. Views may have any strides and
/// sizes.
///
/// States stay in registers, neighbouring threads work on neighbouring channels, and B and C are
/// read once for each block of channels. When batch and channels alone would not occupy the device,
/// time is cut into pieces. The exponential of float is that of the device, with an error of 2 ulp.
///
/// The values of offsets are not checked, as reading them would mean waiting for the device. Wrong
/// offsets give wrong numbers, but touch no memory outside the arguments.
/// @throws ShapeError, CudaError
template <class T, class K>
void selective_scan(const Cuda& backend, const SelectiveScanInputs<T, K, Device>& inputs,
                    const SelectiveScanOptions& options,
                    const std::type_identity_t<SelectiveScanOutputs<T, K, Device>>& outputs,
                    SelectiveScanScratch<T, K, Device>& scratch);

/// The gradients of the selective_scan that filled `scratch` with these inputs and options, with
/// options.keep. The gradients of B and C that depend on the input are summed over panels of 32
/// channels in a fixed order; the scratch holds the share of each panel.
/// @throws ShapeError, also for the scratch of another call; CudaError
template <class T, class K>
void selective_scan_backward(
    const Cuda& backend, const SelectiveScanInputs<T, K, Device>& inputs,
    const SelectiveScanOptions& options,
    const std::type_identity_t<SelectiveScanOutputGradients<T, K, Device>>& output_gradients,
    const std::type_identity_t<SelectiveScanInputGradients<T, K, Device>>& input_gradients,
    SelectiveScanScratch<T, K, Device>& scratch);

}  // namespace ssm
