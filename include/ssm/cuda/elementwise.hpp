#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/layers/add_types.hpp"
#include "ssm/layers/copy_rows_types.hpp"
#include "ssm/layers/decay_types.hpp"
#include "ssm/layers/dropout_types.hpp"
#include "ssm/layers/gelu_glu_types.hpp"
#include "ssm/layers/swiglu_types.hpp"

/// @file
/// Operations of a layer that take one element after the other, over device views, with the
/// equations, options and errors of those over host views. T is float or double. Each is one
/// kernel.

namespace ssm {

/// y = a + b over device views.
/// @throws ShapeError, CudaError
template <class T>
void add(const Cuda& backend, const AddInputs<T, Device>& inputs, const AddOptions& options,
         const std::type_identity_t<AddOutputs<T, Device>>& outputs,
         AddScratch<T, Device>& scratch);

/// y = x, row by row, over device views.
/// @throws ShapeError, CudaError
template <class T>
void copy_rows(const Cuda& backend, const CopyRowsInputs<T, Device>& inputs,
               const CopyRowsOptions& options,
               const std::type_identity_t<CopyRowsOutputs<T, Device>>& outputs,
               CopyRowsScratch<T, Device>& scratch);

/// y = gelu(x) in its tanh form, over device views.
/// @throws ShapeError, CudaError
template <class T>
void gelu(const Cuda& backend, const GeluInputs<T, Device>& inputs, const GeluOptions& options,
          const std::type_identity_t<GeluOutputs<T, Device>>& outputs,
          GeluScratch<T, Device>& scratch);

/// The gradient of gelu over device views.
/// @throws ShapeError, CudaError
template <class T>
void gelu_backward(const Cuda& backend, const GeluInputs<T, Device>& inputs,
                   const GeluOptions& options,
                   const std::type_identity_t<GeluOutputGradients<T, Device>>& output_gradients,
                   const std::type_identity_t<GeluInputGradients<T, Device>>& input_gradients,
                   GeluScratch<T, Device>& scratch);

/// y = a σ(g) of the halves of x = [a, g], over device views.
/// @throws ShapeError, CudaError
template <class T>
void glu(const Cuda& backend, const GluInputs<T, Device>& inputs, const GluOptions& options,
         const std::type_identity_t<GluOutputs<T, Device>>& outputs,
         GluScratch<T, Device>& scratch);

/// The gradient of glu over device views.
/// @throws ShapeError, CudaError
template <class T>
void glu_backward(const Cuda& backend, const GluInputs<T, Device>& inputs,
                  const GluOptions& options,
                  const std::type_identity_t<GluOutputGradients<T, Device>>& output_gradients,
                  const std::type_identity_t<GluInputGradients<T, Device>>& input_gradients,
                  GluScratch<T, Device>& scratch);

/// y = silu(gate) · up over device views.
/// @throws ShapeError, CudaError
template <class T>
void swiglu(const Cuda& backend, const SwigluInputs<T, Device>& inputs,
            const SwigluOptions& options,
            const std::type_identity_t<SwigluOutputs<T, Device>>& outputs,
            SwigluScratch<T, Device>& scratch);

/// The gradients of swiglu over device views.
/// @throws ShapeError, CudaError
template <class T>
void swiglu_backward(const Cuda& backend, const SwigluInputs<T, Device>& inputs,
                     const SwigluOptions& options,
                     const std::type_identity_t<SwigluOutputGradients<T, Device>>& output_gradients,
                     const std::type_identity_t<SwigluInputGradients<T, Device>>& input_gradients,
                     SwigluScratch<T, Device>& scratch);

/// y = x m/(1 − p) over device views: it drops the very elements that it drops on the CPU.
/// @throws ShapeError; DomainError unless 0 ≤ p < 1; CudaError
template <class T>
void dropout(const Cuda& backend, const DropoutInputs<T, Device>& inputs,
             const DropoutOptions& options,
             const std::type_identity_t<DropoutOutputs<T, Device>>& outputs,
             DropoutScratch<T, Device>& scratch);

/// The gradient of dropout over device views.
/// @throws as dropout
template <class T>
void dropout_backward(
    const Cuda& backend, const DropoutInputs<T, Device>& inputs, const DropoutOptions& options,
    const std::type_identity_t<DropoutOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<DropoutInputGradients<T, Device>>& input_gradients,
    DropoutScratch<T, Device>& scratch);

/// A = −exp(A_log) over device views.
/// @throws ShapeError, CudaError
template <class T>
void decay(const Cuda& backend, const DecayInputs<T, Device>& inputs, const DecayOptions& options,
           const std::type_identity_t<DecayOutputs<T, Device>>& outputs,
           DecayScratch<T, Device>& scratch);

/// The gradient of decay over device views.
/// @throws ShapeError, CudaError
template <class T>
void decay_backward(const Cuda& backend, const DecayInputs<T, Device>& inputs,
                    const DecayOptions& options,
                    const std::type_identity_t<DecayOutputGradients<T, Device>>& output_gradients,
                    const std::type_identity_t<DecayInputGradients<T, Device>>& input_gradients,
                    DecayScratch<T, Device>& scratch);

}  // namespace ssm
