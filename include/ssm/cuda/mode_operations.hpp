#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/layers/add_next_types.hpp"
#include "ssm/layers/add_readout_types.hpp"
#include "ssm/layers/feedthrough_types.hpp"
#include "ssm/layers/mimo_matrices_types.hpp"
#include "ssm/layers/sample_modes_types.hpp"
#include "ssm/scan/decay_gradient_types.hpp"

/// @file
/// What S4D and S5 need beside their scans, over device views, with the equations, options and
/// errors of the operations over host views. T is float or double. The values of offsets and of
/// weights are not checked, as reading them would mean waiting for the device.

namespace ssm {

template <class T>
struct FeedthroughScratch<T, Device> {
  DeviceBuffer partials;  ///< shares of the gradient of D
};

template <class T>
struct DecayGradientScratch<T, Device> {
  DeviceBuffer partials;  ///< shares of the gradient of a
};

/// Λ, Δ, B and their samples over device views, in double, a thread a mode.
/// @throws ShapeError, DomainError, CudaError
template <class T>
void sample_modes(const Cuda& backend, const SampleModesInputs<T, Device>& inputs,
                  const SampleModesOptions& options,
                  const std::type_identity_t<SampleModesOutputs<T, Device>>& outputs,
                  SampleModesScratch<T, Device>& scratch);

/// The gradients of sample_modes over device views, a thread a group.
/// @throws ShapeError, also for the scratch of another call; DomainError, CudaError
template <class T>
void sample_modes_backward(
    const Cuda& backend, const SampleModesInputs<T, Device>& inputs,
    const SampleModesOptions& options,
    const std::type_identity_t<SampleModesOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<SampleModesInputGradients<T, Device>>& input_gradients,
    SampleModesScratch<T, Device>& scratch);

/// B̄ = factor · B over device views.
/// @throws ShapeError, CudaError
template <class T>
void input_matrix(const Cuda& backend, const InputMatrixInputs<T, Device>& inputs,
                  const InputMatrixOptions& options,
                  const std::type_identity_t<InputMatrixOutputs<T, Device>>& outputs,
                  InputMatrixScratch<T, Device>& scratch);

/// The gradients of input_matrix over device views, summed in double.
/// @throws ShapeError, CudaError
template <class T>
void input_matrix_backward(
    const Cuda& backend, const InputMatrixInputs<T, Device>& inputs,
    const InputMatrixOptions& options,
    const std::type_identity_t<InputMatrixOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<InputMatrixInputGradients<T, Device>>& input_gradients,
    InputMatrixScratch<T, Device>& scratch);

/// C as real rows, over device views.
/// @throws ShapeError, CudaError
template <class T>
void output_matrix(const Cuda& backend, const OutputMatrixInputs<T, Device>& inputs,
                   const OutputMatrixOptions& options,
                   const std::type_identity_t<OutputMatrixOutputs<T, Device>>& outputs,
                   OutputMatrixScratch<T, Device>& scratch);

/// The gradient of output_matrix over device views.
/// @throws ShapeError, CudaError
template <class T>
void output_matrix_backward(
    const Cuda& backend, const OutputMatrixInputs<T, Device>& inputs,
    const OutputMatrixOptions& options,
    const std::type_identity_t<OutputMatrixOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<OutputMatrixInputGradients<T, Device>>& input_gradients,
    OutputMatrixScratch<T, Device>& scratch);

/// y += D u over device views.
/// @throws ShapeError, CudaError
template <class T>
void feedthrough(const Cuda& backend, const FeedthroughInputs<T, Device>& inputs,
                 const FeedthroughOptions& options,
                 const std::type_identity_t<FeedthroughOutputs<T, Device>>& outputs,
                 FeedthroughScratch<T, Device>& scratch);

/// The gradients of feedthrough over device views.
/// @throws ShapeError, CudaError
template <class T>
void feedthrough_backward(
    const Cuda& backend, const FeedthroughInputs<T, Device>& inputs,
    const FeedthroughOptions& options,
    const std::type_identity_t<FeedthroughOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<FeedthroughInputGradients<T, Device>>& input_gradients,
    FeedthroughScratch<T, Device>& scratch);

/// y_t += x_{t+1} over device views.
/// @throws ShapeError, CudaError
template <class T>
void add_next(const Cuda& backend, const AddNextInputs<T, Device>& inputs,
              const AddNextOptions& options,
              const std::type_identity_t<AddNextOutputs<T, Device>>& outputs,
              AddNextScratch<T, Device>& scratch);

/// The gradient of add_next over device views.
/// @throws ShapeError, CudaError
template <class T>
void add_next_backward(
    const Cuda& backend, const AddNextInputs<T, Device>& inputs, const AddNextOptions& options,
    const std::type_identity_t<AddNextOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<AddNextInputGradients<T, Device>>& input_gradients,
    AddNextScratch<T, Device>& scratch);

/// y_last += 2 Re C·x over device views.
/// @throws ShapeError, CudaError
template <class T>
void add_readout(const Cuda& backend, const AddReadoutInputs<T, Device>& inputs,
                 const AddReadoutOptions& options,
                 const std::type_identity_t<AddReadoutOutputs<T, Device>>& outputs,
                 AddReadoutScratch<T, Device>& scratch);

/// The gradients of add_readout over device views, added to what is there.
/// @throws ShapeError, CudaError
template <class T>
void add_readout_backward(
    const Cuda& backend, const AddReadoutInputs<T, Device>& inputs,
    const AddReadoutOptions& options,
    const std::type_identity_t<AddReadoutOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<AddReadoutInputGradients<T, Device>>& input_gradients,
    AddReadoutScratch<T, Device>& scratch);

/// ∂a = Σ_t ∂b_t conj(x_{t−1}) over device views, in fixed pieces in a fixed order, the last in
/// double.
/// @throws ShapeError, CudaError
template <class T>
void decay_gradient(const Cuda& backend, const DecayGradientInputs<T, Device>& inputs,
                    const DecayGradientOptions& options,
                    const std::type_identity_t<DecayGradientOutputs<T, Device>>& outputs,
                    DecayGradientScratch<T, Device>& scratch);

}  // namespace ssm
