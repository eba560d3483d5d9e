#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/layers/cross_entropy.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/rms_norm.hpp"
#include "ssm/models/sequence_classifier_weights.hpp"

namespace ssm {

template <class T, class Mixer = S4dMixer>
struct SequenceClassifierOptions {
  typename Mixer::template Options<T> mixer = {};  ///< of every block: its rate, its form
  T epsilon = T(1e-5);                             ///< of the norms
  Dropout dropout = {};                            ///< of training
};

/// Scratch of the classifier, grown to its largest call, rows = batch · length. Training keeps the
/// activations of every block, inference those of one.
template <class T, class Mixer = S4dMixer>
struct SequenceClassifierWorkspace {
  struct Layer {
    Tensor<T, 2> input;  ///< (rows, width): the residual stream as the block found it
    S4BlockSaved<T, Mixer> block;
  };
  std::vector<Layer> layers;
  Tensor<T, 2> stream;       ///< (rows, width): the residual stream, later its gradient
  Tensor<T, 1> inverse_rms;  ///< (rows)
  Tensor<T, 2> normed;       ///< (rows, width), later its gradient
  Tensor<T, 2> pooled;       ///< (batch, width)
  Tensor<T, 2> dpooled;      ///< (batch, width)
  Tensor<T, 2> logits;       ///< (batch, classes), later their gradient
  S4BlockWorkspace<T, Mixer> block;
  RmsNormWorkspace<T> norm;
  LinearWorkspace<T> linear;
  CrossEntropyWorkspace loss;
};

namespace detail {

/// Up to the mean over time, which is left in workspace.pooled.
template <class T, class Mixer>
void classifier_backbone(const char* function, const Cpu& backend,
                         const SequenceClassifierWeights<T, Mixer>& weights,
                         const View<const T, 3>& sequences,
                         const SequenceClassifierOptions<T, Mixer>& options, bool keep,
                         SequenceClassifierWorkspace<T, Mixer>& w) {
  const Index batch = sequences.extent(0), length = sequences.extent(1);
  const Index width = weights.encoder.extent(0), rows = batch * length;
  check_shape(function, "sequences", sequences,
              std::array<Index, 3>{batch, length, weights.encoder.extent(1)});
  const auto u = merge_rows(function, "sequences", sequences);
  const std::size_t kept = keep ? weights.layers.size() : 1;
  if (w.layers.size() < kept) w.layers.resize(kept);
  w.stream.resize({rows, width});
  w.normed.resize({rows, width});
  w.inverse_rms.resize({rows});
  w.pooled.resize({batch, width});
  linear_forward<T>(backend, u, weights.encoder, weights.encoder_bias, w.stream);
  const View<T, 3> stream(w.stream.data(), {batch, length, width});
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    auto& layer = w.layers[keep ? i : 0];
    if (keep) layer.input = w.stream;
    s4_block_forward<T>(backend, weights.layers[i], stream, nullptr, stream, nullptr,
                        S4BlockOptions<T, Mixer>{.mixer = options.mixer,
                                                 .epsilon = options.epsilon,
                                                 .dropout = options.dropout,
                                                 .layer = static_cast<Index>(i)},
                        layer.block, w.block);
  }
  rms_norm_forward<T>(backend, w.stream, weights.final_norm, options.epsilon, w.normed,
                      w.inverse_rms);
  const T share = length > 0 ? T(1) / static_cast<T>(length) : T(0);
  parallel_for(backend, batch, [&](Index b) {
    auto mean = array(&w.pooled(b, 0), width);
    mean.setZero();
    for (Index t = 0; t < length; ++t) mean += array(&w.normed(b * length + t, 0), width);
    mean *= share;
  });
}

/// Gradients of the mean loss whose gradient by the logits stands in w.logits.
template <class T, class Mixer>
void classifier_backward(const Cpu& backend, const SequenceClassifierWeights<T, Mixer>& weights,
                         const View<const T, 3>& sequences,
                         const SequenceClassifierOptions<T, Mixer>& options,
                         SequenceClassifierWeights<T, Mixer>& gradients,
                         SequenceClassifierWorkspace<T, Mixer>& w) {
  const Index batch = sequences.extent(0), length = sequences.extent(1);
  const Index width = weights.encoder.extent(0);
  if (gradients.config != weights.config)
    gradients = SequenceClassifierWeights<T, Mixer>(weights.config);
  w.dpooled.resize({batch, width});
  linear_backward<T>(backend, w.pooled, weights.head, w.logits,
                     {.x = w.dpooled, .weight = gradients.head, .bias = gradients.head_bias},
                     w.linear);
  const T share = length > 0 ? T(1) / static_cast<T>(length) : T(0);
  parallel_for(backend, batch, [&](Index b) {
    const auto each = (array(&w.dpooled(b, 0), width) * share).eval();
    for (Index t = 0; t < length; ++t) array(&w.normed(b * length + t, 0), width) = each;
  });
  // From here on the stream's gradient takes the place of the stream.
  rms_norm_backward<T>(backend, w.stream, weights.final_norm, w.inverse_rms, w.normed, w.stream,
                       gradients.final_norm, w.norm);
  const std::array<Index, 3> extents{batch, length, width};
  const View<T, 3> dstream(w.stream.data(), extents);
  for (std::size_t i = weights.layers.size(); i-- > 0;)
    s4_block_backward<T>(
        backend, weights.layers[i], View<const T, 3>(w.layers[i].input.data(), extents), nullptr,
        S4BlockOptions<T, Mixer>{.mixer = options.mixer,
                                 .epsilon = options.epsilon,
                                 .dropout = options.dropout,
                                 .layer = static_cast<Index>(i)},
        w.layers[i].block, dstream, nullptr, gradients.layers[i], dstream, nullptr, w.block);
  linear_backward<T>(
      backend, merge_rows("classifier_loss", "sequences", sequences), weights.encoder, w.stream,
      {.x = {}, .weight = gradients.encoder, .bias = gradients.encoder_bias}, w.linear);
}

}  // namespace detail

/// Scores of every class for whole sequences:
///
///   x = encoder(u);  x ← block(x) for each layer;  logits = head(mean over time of rms_norm(x)).
///
/// A number that is NaN or infinite spoils all scores of its sequence, and of no other.
///
/// @param sequences (batch, length, inputs), rows evenly spaced
/// @param logits (batch, classes), rows contiguous
/// @throws ShapeError, and what the mixer throws
template <class T, class Mixer>
void classifier_forward(const Cpu& backend, const SequenceClassifierWeights<T, Mixer>& weights,
                        const View<const T, 3>& sequences, const View<T, 2>& logits,
                        const SequenceClassifierOptions<T, Mixer>& options,
                        SequenceClassifierWorkspace<T, Mixer>& workspace) {
  constexpr const char* function = "classifier_forward";
  detail::check_shape(function, "logits", logits,
                      std::array<Index, 2>{sequences.extent(0), weights.head.extent(0)});
  detail::classifier_backbone(function, backend, weights, sequences, options, false, workspace);
  linear_forward<T>(backend, workspace.pooled, weights.head, weights.head_bias, logits);
}

/// Mean cross-entropy of the labels in nats, and its gradient by every weight.
///
/// @param labels (batch), in [0, classes)
/// @param gradients overwritten; null: loss only
/// Memory: about 8 · width numbers per step and block, and what the mixer saves.
/// @throws ShapeError, DomainError for a label out of range, and what the mixer throws
template <class T, class Mixer>
double classifier_loss(const Cpu& backend, const SequenceClassifierWeights<T, Mixer>& weights,
                       const View<const T, 3>& sequences, const View<const Token, 1>& labels,
                       std::type_identity_t<SequenceClassifierWeights<T, Mixer>>* gradients,
                       const SequenceClassifierOptions<T, Mixer>& options,
                       SequenceClassifierWorkspace<T, Mixer>& workspace) {
  constexpr const char* function = "classifier_loss";
  const Index batch = sequences.extent(0), classes = weights.head.extent(0);
  detail::check_shape(function, "labels", labels, std::array<Index, 1>{batch});
  const View<const Token, 2> targets(labels.data(), {batch, 1}, {labels.stride(0), 1});
  detail::check_tokens(function, "labels", targets, classes);
  detail::classifier_backbone(function, backend, weights, sequences, options, gradients != nullptr,
                              workspace);
  workspace.logits.resize({batch, classes});
  linear_forward<T>(backend, workspace.pooled, weights.head, weights.head_bias, workspace.logits);
  const double loss =
      cross_entropy<T>(backend, workspace.logits, targets,
                       gradients ? workspace.logits.view() : View<T, 2>(), workspace.loss);
  if (gradients)
    detail::classifier_backward(backend, weights, sequences, options, *gradients, workspace);
  return loss;
}

/// What a classifier carries from one step to the next, for each of `batch` streams: a plain value,
/// before the first step when made.
template <class T, class Mixer = S4dMixer>
struct SequenceClassifierState {
  std::vector<typename Mixer::template State<T>> layers;
  Tensor<T, 2> sum;  ///< (batch, width): of the normed stream over the steps so far
  Index steps = 0;

  SequenceClassifierState() = default;
  SequenceClassifierState(const SequenceClassifierConfig<Mixer>& config, Index batch)
      : layers(static_cast<std::size_t>(config.layers),
               typename Mixer::template State<T>(config.mixer, batch)),
        sum({batch, config.mixer.width}) {}
};

/// What classifier_step needs beside the weights: the options, and room for a batch.
template <class T, class Mixer = S4dMixer>
struct SequenceClassifierStepScratch {
  T epsilon;
  Tensor<T, 2> stream, normed;  ///< (batch, width)
  std::vector<S4BlockStepScratch<T, Mixer>> blocks;

  /// Of the options the mixer's and epsilon count: a step knows no dropout.
  /// @throws as the mixer's scratch
  SequenceClassifierStepScratch(const SequenceClassifierWeights<T, Mixer>& weights, Index batch,
                                const SequenceClassifierOptions<T, Mixer>& options = {})
      : epsilon(options.epsilon),
        stream({batch, weights.encoder.extent(0)}),
        normed({batch, weights.encoder.extent(0)}) {
    S4BlockOptions<T, Mixer> block;
    block.mixer = options.mixer;
    block.epsilon = options.epsilon;
    blocks.reserve(weights.layers.size());
    for (const auto& layer : weights.layers) blocks.emplace_back(layer, batch, block);
  }
};

/// One step of every stream on the calling thread: logits are those of classifier_forward for the
/// steps so far, with the options of the scratch. Nothing is allocated. A shape that does not fit
/// ends the program with a ShapeError.
///
/// @param input (batch, inputs), logits (batch, classes), rows contiguous
/// @param scratch made for this batch, and weights of these sizes and any values
template <class T, class Mixer>
void classifier_step(const SequenceClassifierWeights<T, Mixer>& weights,
                     const View<const T, 2>& input, SequenceClassifierState<T, Mixer>& state,
                     const View<T, 2>& logits,
                     SequenceClassifierStepScratch<T, Mixer>& scratch) noexcept {
  const Index batch = input.extent(0), width = weights.encoder.extent(0);
  const std::size_t layers = weights.layers.size();
  detail::check_or_terminate([&] {
    constexpr std::string_view function = "classifier_step";
    detail::check_shape(function, "input", input, std::array{batch, weights.encoder.extent(1)});
    detail::check_adjacent(function, "input", input);
    detail::check_shape(function, "logits", logits, std::array{batch, weights.head.extent(0)});
    detail::check_adjacent(function, "logits", logits);
    detail::check_shape(function, "state", state.sum, std::array{batch, width});
    detail::check_shape(function, "scratch", scratch.stream, std::array{batch, width});
    if (state.layers.size() != layers || scratch.blocks.size() != layers)
      detail::throw_shape(function, "state or scratch", "of another number of layers",
                          std::to_string(layers));
  });
  linear_step<T>(input, weights.encoder, weights.encoder_bias, scratch.stream);
  for (std::size_t i = 0; i < layers; ++i)
    s4_block_step<T>(weights.layers[i], scratch.stream, state.layers[i], scratch.stream,
                     scratch.blocks[i]);
  const T share = T(1) / static_cast<T>(++state.steps);
  for (Index b = 0; b < batch; ++b) {
    detail::rms_norm_row(&scratch.stream(b, 0), weights.final_norm.data(), width, scratch.epsilon,
                         &scratch.normed(b, 0));
    auto sum = detail::array(&state.sum(b, 0), width);
    sum += detail::array(&scratch.normed(b, 0), width);
    detail::array(&scratch.normed(b, 0), width) = share * sum;
  }
  linear_step<T>(scratch.normed, weights.head, weights.head_bias, logits);
}

}  // namespace ssm
