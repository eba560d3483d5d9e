#pragma once

#include <utility>

#include "ssm/layers/cross_entropy.hpp"
#include "ssm/layers/dropout.hpp"
#include "ssm/layers/embedding.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/rms_norm.hpp"
#include "ssm/models/mamba_lm_weights.hpp"

namespace ssm {

/// Scratch of the model, grown to its largest call, rows = batch · length. Training keeps the
/// activations of every layer, inference those of one.
template <class T>
struct MambaLMWorkspace {
  struct Layer {
    Tensor<T, 2> input;        ///< (rows, width): the residual stream as the layer found it
    Tensor<T, 1> inverse_rms;  ///< (rows)
    Tensor<T, 2> normed;       ///< (rows, width)
    MambaSaved<T> mixer;
    MambaState<T> initial;
  };
  std::vector<Layer> layers;
  Tensor<T, 2> stream;       ///< (rows, width): the residual stream, later its gradient
  Tensor<T, 1> inverse_rms;  ///< (rows)
  Tensor<T, 2> normed;       ///< (rows, width): after the final norm
  Tensor<T, 2> dnormed;      ///< (rows, width)
  Tensor<T, 2> logits;       ///< (rows, vocab), later their gradient
  MambaWorkspace<T> mixer;
  RmsNormWorkspace<T> norm;
  LinearWorkspace<T> linear;
  CrossEntropyWorkspace loss;

  /// Makes room for mamba_lm_step on a batch, which then allocates nothing.
  void reserve_step(const MambaLMConfig& config, Index batch) {
    if (layers.empty()) layers.resize(1);
    layers.front().mixer.resize(config.block(), batch);
    layers.front().normed.resize({batch, config.width});
    stream.resize({batch, config.width});
    normed.resize({batch, config.width});
  }
};

namespace detail {

/// Embedding, layers and final norm: leaves the stream in workspace.stream and what the head reads
/// in workspace.normed. `keep`: every layer's activations are kept for backward.
template <class T>
void mamba_lm_backbone(const char* function, const Cpu& backend, const MambaLMWeights<T>& weights,
                       const View<const Token, 2>& tokens, MambaLMState<T>& state,
                       MambaLMWorkspace<T>& workspace, bool keep, const Dropout& dropout = {}) {
  using Layer = typename MambaLMWorkspace<T>::Layer;
  const MambaLMConfig& config = weights.config;
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = config.width;
  const MambaShape s = config.block();
  const std::array<Index, 3> extents{batch, length, width};
  if (state.layers.size() != weights.layers.size())
    throw_shape(function, "state", std::to_string(state.layers.size()) + " layers",
                std::to_string(weights.layers.size()));
  for (const MambaState<T>& layer : state.layers) {
    check_shape(function, "state", layer.conv,
                std::array<Index, 3>{batch, s.conv_width - 1, s.inner});
    check_shape(function, "state", layer.scan, std::array<Index, 3>{batch, s.inner, s.state});
  }
  const std::size_t kept = keep ? weights.layers.size() : 1;
  if (workspace.layers.size() < kept) workspace.layers.resize(kept);
  workspace.stream.resize({batch * length, width});
  workspace.normed.resize({batch * length, width});
  workspace.inverse_rms.resize({batch * length});

  const View<T, 3> stream(workspace.stream.data(), extents);
  embedding_forward<T>(backend, tokens, weights.embedding, stream);
  const auto epsilon = static_cast<T>(config.norm_epsilon);
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    Layer& layer = workspace.layers[keep ? i : 0];
    if (keep) layer.input = workspace.stream;
    layer.normed.resize({batch * length, width});
    layer.inverse_rms.resize({batch * length});
    rms_norm_forward<T>(backend, workspace.stream, weights.layers[i].norm, epsilon, layer.normed,
                        layer.inverse_rms);
    apply_dropout<T>(backend, dropout, static_cast<Index>(i), layer.normed);
    std::swap(layer.initial, state.layers[i]);
    mamba_forward<T>(backend, weights.layers[i].mixer,
                     View<const T, 3>(layer.normed.data(), extents), &layer.initial, stream,
                     &state.layers[i],
                     {.offsets = {}, .reversed = false, .write_y = Write::accumulate}, layer.mixer,
                     workspace.mixer);
  }
  rms_norm_forward<T>(backend, workspace.stream, weights.final_norm, epsilon, workspace.normed,
                      workspace.inverse_rms);
}

/// Gradients of the mean loss whose gradient by the logits stands in workspace.logits.
template <class T>
void mamba_lm_backward(const Cpu& backend, const MambaLMWeights<T>& weights,
                       const View<const Token, 2>& tokens, MambaLMWeights<T>& gradients,
                       const Dropout& dropout, MambaLMWorkspace<T>& w) {
  const Index rows = tokens.size(), width = weights.config.width;
  const std::array<Index, 3> extents{tokens.extent(0), tokens.extent(1), width};
  if (gradients.config != weights.config) gradients = MambaLMWeights<T>(weights.config);
  w.dnormed.resize({rows, width});
  linear_backward<T>(backend, w.normed, weights.embedding, w.logits,
                     {.x = w.dnormed, .weight = gradients.embedding, .bias = {}}, w.linear);
  // From here on the stream's gradient takes the place of the stream: its last value is read row by
  // row, and the layers kept theirs.
  rms_norm_backward<T>(backend, w.stream, weights.final_norm, w.inverse_rms, w.dnormed, w.stream,
                       gradients.final_norm, w.norm);
  const View<const T, 3> dstream(w.stream.data(), extents);
  for (std::size_t i = weights.layers.size(); i-- > 0;) {
    auto& layer = w.layers[i];
    mamba_backward<T>(backend, weights.layers[i].mixer,
                      View<const T, 3>(layer.normed.data(), extents), &layer.initial, {},
                      layer.mixer, dstream, nullptr, gradients.layers[i].mixer,
                      View<T, 3>(w.dnormed.data(), extents), nullptr, w.mixer);
    apply_dropout<T>(backend, dropout, static_cast<Index>(i), w.dnormed);
    rms_norm_backward<T>(backend, layer.input, weights.layers[i].norm, layer.inverse_rms, w.dnormed,
                         w.stream, gradients.layers[i].norm, w.norm, Write::accumulate);
  }
  embedding_backward<T>(backend, tokens, dstream, gradients.embedding);
}

}  // namespace detail

/// Logits of the next token after each token:
///   x = embedding(tokens);  x += mamba(rms_norm(x)) for each layer;  logits = rms_norm(x) · Eᵀ.
///
/// tokens (batch, length); state: read as the state before the first token, left as that after the
/// last, so a long prompt may come in any number of calls; logits (batch, length, vocab)
/// contiguous, or absent where only the state is wanted.
/// Throws ShapeError, and DomainError for a token outside the vocabulary; the state is then as it
/// was.
template <class T>
void mamba_lm_forward(const Cpu& backend, const MambaLMWeights<T>& weights,
                      const View<const Token, 2>& tokens, MambaLMState<T>& state,
                      const View<T, 3>& logits, MambaLMWorkspace<T>& workspace) {
  const char* function = "mamba_lm_forward";
  const Index vocab = weights.config.vocab;
  detail::check_optional_shape<View<T, 3>, 3>(function, "logits", logits,
                                              {tokens.extent(0), tokens.extent(1), vocab});
  const View<T, 2> rows = logits ? detail::merge_rows(function, "logits", logits) : View<T, 2>();
  detail::mamba_lm_backbone(function, backend, weights, tokens, state, workspace, false);
  if (rows) linear_forward<T>(backend, workspace.normed, weights.embedding, {}, rows);
}

/// Mean cross-entropy of the targets in nats per token, and its gradient by every weight.
///
/// tokens, targets (batch, length); `state` as in mamba_lm_forward, taken as a constant by the
/// gradient (truncated backpropagation through time); `gradients` overwritten, null: loss only;
/// `dropout` drops elements of what each Mamba block reads.
/// Memory: about 5 · inner + 3 · width numbers per token and layer are kept for the gradient.
/// Throws as mamba_lm_forward does.
template <class T>
double mamba_lm_loss(const Cpu& backend, const MambaLMWeights<T>& weights,
                     const View<const Token, 2>& tokens, const View<const Token, 2>& targets,
                     MambaLMState<T>& state, MambaLMWeights<T>* gradients,
                     MambaLMWorkspace<T>& workspace, const Dropout& dropout = {}) {
  const char* function = "mamba_lm_loss";
  detail::check_shape(function, "targets", targets, tokens.extents());
  detail::check_tokens(function, "targets", targets, weights.config.vocab);
  detail::mamba_lm_backbone(function, backend, weights, tokens, state, workspace,
                            gradients != nullptr, dropout);
  workspace.logits.resize({tokens.size(), weights.config.vocab});
  linear_forward<T>(backend, workspace.normed, weights.embedding, {}, workspace.logits);
  const double loss =
      cross_entropy<T>(backend, workspace.logits, targets,
                       gradients ? workspace.logits.view() : View<T, 2>(), workspace.loss);
  if (gradients)
    detail::mamba_lm_backward(backend, weights, tokens, *gradients, dropout, workspace);
  return loss;
}

/// One token for each stream of the batch, on the calling thread: tokens (batch) in, the state
/// moved on in place, logits (batch, vocab) of the next token out. Equals mamba_lm_forward with
/// length 1 up to rounding. Allocates nothing once the workspace has served such a batch or
/// reserve_step has been called. A token or a shape that does not fit ends the program with its
/// error.
template <class T>
void mamba_lm_step(const MambaLMWeights<T>& weights, MambaLMState<T>& state,
                   const View<const Token, 1>& tokens, const View<T, 2>& logits,
                   MambaLMWorkspace<T>& workspace) noexcept {
  const MambaLMConfig& config = weights.config;
  const Index batch = tokens.extent(0), width = config.width;
  const auto epsilon = static_cast<T>(config.norm_epsilon);
  detail::check_or_terminate([&] {
    constexpr const char* function = "mamba_lm_step";
    if (state.layers.size() != weights.layers.size())
      detail::throw_shape(function, "state", std::to_string(state.layers.size()) + " layers",
                          std::to_string(weights.layers.size()));
    detail::check_shape(function, "logits", logits, std::array<Index, 2>{batch, config.vocab});
    detail::check_tokens(function, "tokens",
                         View<const Token, 2>(tokens.data(), {batch, 1}, {tokens.stride(0), 1}),
                         config.vocab);
    workspace.reserve_step(config, batch);
  });
  Tensor<T, 2>& stream = workspace.stream;
  Tensor<T, 2>& normed = workspace.normed;
  Tensor<T, 2>& mixed = workspace.layers.front().normed;
  for (Index b = 0; b < batch; ++b) {
    detail::array(&stream(b, 0), width) =
        detail::array(&weights.embedding(Index{tokens(b)}, 0), width);
  }
  const auto norm = [&](const Tensor<T, 1>& weight) {
    for (Index b = 0; b < batch; ++b)
      detail::rms_norm_row(&stream(b, 0), weight.data(), width, epsilon, &normed(b, 0));
  };
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    norm(weights.layers[i].norm);
    mamba_step<T>(weights.layers[i].mixer, normed, state.layers[i], mixed,
                  workspace.layers.front().mixer);
    detail::array(stream.data(), stream.size()) += detail::array(mixed.data(), mixed.size());
  }
  norm(weights.final_norm);
  linear_step<T>(normed, weights.embedding, {}, logits);
}

}  // namespace ssm
