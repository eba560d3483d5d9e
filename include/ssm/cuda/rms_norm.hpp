#pragma once

#include <array>
#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/layers/rms_norm_types.hpp"

namespace ssm {

template <class T>
struct RmsNormScratch<T, Device> {
  DeviceTensor<T, 1> inverse_rms;    ///< (rows) 1/√(mean x² + ε) of the last forward pass
  std::array<Index, 2> extents{-1};  ///< of its x
  DeviceBuffer partials;             ///< shares of the gradient of the weight
};

/// y = w x / √(mean x² + ε) for every row, over device views, with the options and errors of
/// rms_norm over host views. T is float or double. A warp or more shares a row, which is read twice
/// and, where it is short, once from memory.
/// @throws ShapeError, DomainError, CudaError
template <class T>
void rms_norm(const Cuda& backend, const RmsNormInputs<T, Device>& inputs,
              const RmsNormOptions& options,
              const std::type_identity_t<RmsNormOutputs<T, Device>>& outputs,
              RmsNormScratch<T, Device>& scratch);

/// The gradients of rms_norm over device views. With Write::accumulate the gradient of x is added
/// to what its memory holds, as a residual block wants it. Sums over rows run in fixed pieces in a
/// fixed order.
/// @throws ShapeError, also for a scratch that rms_norm did not fill with inputs of these extents;
///   DomainError, CudaError
template <class T>
void rms_norm_backward(
    const Cuda& backend, const RmsNormInputs<T, Device>& inputs, const RmsNormOptions& options,
    const std::type_identity_t<RmsNormOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<RmsNormInputGradients<T, Device>>& input_gradients,
    RmsNormScratch<T, Device>& scratch);

}  // namespace ssm
