#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include "ssm/core/copy.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/add.hpp"
#include "ssm/layers/copy_rows.hpp"
#include "ssm/layers/decay.hpp"
#include "ssm/layers/embedding.hpp"
#include "ssm/layers/feedthrough.hpp"
#include "ssm/layers/gelu_glu.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/mimo_matrices.hpp"
#include "ssm/layers/rms_norm.hpp"
#include "ssm/layers/sample_modes.hpp"
#include "ssm/layers/swiglu.hpp"
#include "ssm/mpi/ranks.hpp"

/// @file
/// Operations that know no time, over ranks: each rank computes them for its own steps, as its cpu
/// does, and nothing moves. They are listed one by one: an operation that is missing here and in
/// the other headers of ssm/mpi does not compile over ranks, where it would silently take a piece
/// of time for the whole.

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Gives a tensor these extents. @throws ShapeError as Tensor::resize
template <class T, std::size_t Rank>
void resize(const Ranks&, Tensor<T, Rank>& tensor, const std::array<Index, Rank>& extents) {
  tensor.resize(extents);
}

/// Copies a view of this rank. @throws ShapeError as on the cpu
template <class From, class To, std::size_t Rank>
void copy(const Ranks& backend, const View<From, Rank>& from, const View<To, Rank>& to) {
  copy(backend.local, from, to);
}

/// Of the rows of this rank. @throws ShapeError as on the cpu
template <class T, class W = View<const T, 2>>
void linear(const Ranks& backend, const LinearInputs<T, Host, W>& inputs,
            const LinearOptions& options, const LinearOutputs<T>& outputs,
            LinearScratch<T>& scratch) {
  linear(backend.local, inputs, options, outputs, scratch);
}
/// Of the rows of this rank. @throws ShapeError as on the cpu
template <class T>
void linear_backward(const Ranks& backend, const LinearInputs<T>& inputs,
                     const LinearOptions& options, const LinearOutputGradients<T>& output_gradients,
                     const LinearInputGradients<T>& input_gradients, LinearScratch<T>& scratch) {
  linear_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void rms_norm(const Ranks& backend, const RmsNormInputs<T>& inputs, const RmsNormOptions& options,
              const std::type_identity_t<RmsNormOutputs<T>>& outputs, RmsNormScratch<T>& scratch) {
  rms_norm(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void rms_norm_backward(const Ranks& backend, const RmsNormInputs<T>& inputs,
                       const RmsNormOptions& options,
                       const std::type_identity_t<RmsNormOutputGradients<T>>& output_gradients,
                       const std::type_identity_t<RmsNormInputGradients<T>>& input_gradients,
                       RmsNormScratch<T>& scratch) {
  rms_norm_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T, class W = View<const T, 2>>
void embedding(const Ranks& backend, const EmbeddingInputs<T, Host, W>& inputs,
               const EmbeddingOptions& options,
               const std::type_identity_t<EmbeddingOutputs<T>>& outputs,
               EmbeddingScratch<T>& scratch) {
  embedding(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void embedding_backward(const Ranks& backend, const EmbeddingInputs<T>& inputs,
                        const EmbeddingOptions& options,
                        const std::type_identity_t<EmbeddingOutputGradients<T>>& output_gradients,
                        const std::type_identity_t<EmbeddingInputGradients<T>>& input_gradients,
                        EmbeddingScratch<T>& scratch) {
  embedding_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void gelu(const Ranks& backend, const GeluInputs<T>& inputs, const GeluOptions& options,
          const std::type_identity_t<GeluOutputs<T>>& outputs, GeluScratch<T>& scratch) {
  gelu(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void gelu_backward(const Ranks& backend, const GeluInputs<T>& inputs, const GeluOptions& options,
                   const std::type_identity_t<GeluOutputGradients<T>>& output_gradients,
                   const std::type_identity_t<GeluInputGradients<T>>& input_gradients,
                   GeluScratch<T>& scratch) {
  gelu_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void glu(const Ranks& backend, const GluInputs<T>& inputs, const GluOptions& options,
         const std::type_identity_t<GluOutputs<T>>& outputs, GluScratch<T>& scratch) {
  glu(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void glu_backward(const Ranks& backend, const GluInputs<T>& inputs, const GluOptions& options,
                  const std::type_identity_t<GluOutputGradients<T>>& output_gradients,
                  const std::type_identity_t<GluInputGradients<T>>& input_gradients,
                  GluScratch<T>& scratch) {
  glu_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void add(const Ranks& backend, const AddInputs<T>& inputs, const AddOptions& options,
         const std::type_identity_t<AddOutputs<T>>& outputs, AddScratch<T>& scratch) {
  add(backend.local, inputs, options, outputs, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void copy_rows(const Ranks& backend, const CopyRowsInputs<T>& inputs,
               const CopyRowsOptions& options,
               const std::type_identity_t<CopyRowsOutputs<T>>& outputs,
               CopyRowsScratch<T>& scratch) {
  copy_rows(backend.local, inputs, options, outputs, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void decay(const Ranks& backend, const DecayInputs<T>& inputs, const DecayOptions& options,
           const std::type_identity_t<DecayOutputs<T>>& outputs, DecayScratch<T>& scratch) {
  decay(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void decay_backward(const Ranks& backend, const DecayInputs<T>& inputs, const DecayOptions& options,
                    const std::type_identity_t<DecayOutputGradients<T>>& output_gradients,
                    const std::type_identity_t<DecayInputGradients<T>>& input_gradients,
                    DecayScratch<T>& scratch) {
  decay_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void sample_modes(const Ranks& backend, const SampleModesInputs<T>& inputs,
                  const SampleModesOptions& options,
                  const std::type_identity_t<SampleModesOutputs<T>>& outputs,
                  SampleModesScratch<T>& scratch) {
  sample_modes(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void sample_modes_backward(
    const Ranks& backend, const SampleModesInputs<T>& inputs, const SampleModesOptions& options,
    const std::type_identity_t<SampleModesOutputGradients<T>>& output_gradients,
    const std::type_identity_t<SampleModesInputGradients<T>>& input_gradients,
    SampleModesScratch<T>& scratch) {
  sample_modes_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void input_matrix(const Ranks& backend, const InputMatrixInputs<T>& inputs,
                  const InputMatrixOptions& options,
                  const std::type_identity_t<InputMatrixOutputs<T>>& outputs,
                  InputMatrixScratch<T>& scratch) {
  input_matrix(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void input_matrix_backward(
    const Ranks& backend, const InputMatrixInputs<T>& inputs, const InputMatrixOptions& options,
    const std::type_identity_t<InputMatrixOutputGradients<T>>& output_gradients,
    const std::type_identity_t<InputMatrixInputGradients<T>>& input_gradients,
    InputMatrixScratch<T>& scratch) {
  input_matrix_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void output_matrix(const Ranks& backend, const OutputMatrixInputs<T>& inputs,
                   const OutputMatrixOptions& options,
                   const std::type_identity_t<OutputMatrixOutputs<T>>& outputs,
                   OutputMatrixScratch<T>& scratch) {
  output_matrix(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void output_matrix_backward(
    const Ranks& backend, const OutputMatrixInputs<T>& inputs, const OutputMatrixOptions& options,
    const std::type_identity_t<OutputMatrixOutputGradients<T>>& output_gradients,
    const std::type_identity_t<OutputMatrixInputGradients<T>>& input_gradients,
    OutputMatrixScratch<T>& scratch) {
  output_matrix_backward(backend.local, inputs, options, output_gradients, input_gradients,
                         scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void feedthrough(const Ranks& backend, const FeedthroughInputs<T>& inputs,
                 const FeedthroughOptions& options,
                 const std::type_identity_t<FeedthroughOutputs<T>>& outputs,
                 FeedthroughScratch<T>& scratch) {
  feedthrough(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void feedthrough_backward(
    const Ranks& backend, const FeedthroughInputs<T>& inputs, const FeedthroughOptions& options,
    const std::type_identity_t<FeedthroughOutputGradients<T>>& output_gradients,
    const std::type_identity_t<FeedthroughInputGradients<T>>& input_gradients,
    FeedthroughScratch<T>& scratch) {
  feedthrough_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void swiglu(const Ranks& backend, const SwigluInputs<T>& inputs, const SwigluOptions& options,
            const std::type_identity_t<SwigluOutputs<T>>& outputs, SwigluScratch<T>& scratch) {
  swiglu(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of what this rank holds. @throws as on the cpu
template <class T>
void swiglu_backward(const Ranks& backend, const SwigluInputs<T>& inputs,
                     const SwigluOptions& options,
                     const std::type_identity_t<SwigluOutputGradients<T>>& output_gradients,
                     const std::type_identity_t<SwigluInputGradients<T>>& input_gradients,
                     SwigluScratch<T>& scratch) {
  swiglu_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
