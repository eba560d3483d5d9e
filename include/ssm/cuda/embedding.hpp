#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/layers/embedding_types.hpp"

namespace ssm {

/// y(b, t) = weight(tokens(b, t)) over device views, with the equations and errors of embedding
/// over host views. T is float or double.
///
/// The values of tokens are not checked, as reading them would mean waiting for the device. One
/// outside the vocabulary gives NaN, and touches no memory outside the arguments.
/// @throws ShapeError, CudaError
template <class T>
void embedding(const Cuda& backend, const EmbeddingInputs<T, Device>& inputs,
               const EmbeddingOptions& options,
               const std::type_identity_t<EmbeddingOutputs<T, Device>>& outputs,
               EmbeddingScratch<T, Device>& scratch);

/// The gradient of embedding over device views. A block has a few rows of the table to itself and
/// adds to them what their tokens gain, in the order of the tokens: the bits are always the same.
/// Tokens outside the vocabulary add nothing.
///
/// Cost: batch · length · width additions, and each eight rows of the table read all tokens.
/// @throws ShapeError, CudaError
template <class T>
void embedding_backward(
    const Cuda& backend, const EmbeddingInputs<T, Device>& inputs, const EmbeddingOptions& options,
    const std::type_identity_t<EmbeddingOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<EmbeddingInputGradients<T, Device>>& input_gradients,
    EmbeddingScratch<T, Device>& scratch);

}  // namespace ssm
