#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/layers/cross_entropy.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/layers/detail/product.hpp"
#include "ssm/layers/embedding.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/rms_norm.hpp"
#include "ssm/layers/stack.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class Layer>
class LanguageModelStepper;
template <class Layer>
struct LanguageModelPiecesScratch;

/// The configuration of a language model.
template <class Layer>
struct LanguageModelConfig {
  Index vocab = 256;                 ///< number of tokens in the vocabulary
  StackConfig<Layer> backbone = {};  ///< of the layers
  double epsilon = 1e-5;             ///< ε of the norm before the head
  bool tied = true;                  ///< whether the head has the weights of the embedding

  /// The number of channels that it reads and writes.
  [[nodiscard]] Index width() const noexcept { return backbone.width(); }
  friend bool operator==(const LanguageModelConfig&, const LanguageModelConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Layer, class Visit>
void fields(LanguageModelConfig<Layer>& c, Visit&& visit) {
  visit("vocab", c.vocab);
  visit("backbone", c.backbone);
  visit("epsilon", c.epsilon);
  visit("tied", c.tied, Field::optional);
}

/// What a forward pass of a language model leaves for backward, and room for both; rows = batch ·
/// length.
template <class Layer>
struct LanguageModelScratch {
  /// @cond internal
  using T = typename Layer::value_type;
  using Space = typename Layer::space;

  TensorIn<T, 3, Space> embedded, stream;  ///< (batch, length, width): before and after the layers
  TensorIn<T, 2, Space> normed;            ///< (rows, width): what the head reads
  TensorIn<T, 2, Space> logits;            ///< (rows, vocab), where only the loss is wanted
  TensorIn<T, 2, Space> dlogits;           ///< (rows, vocab): gradient of the loss
  TensorIn<T, 3, Space> dstream, dembedded;
  TensorIn<T, 2, Space> dnormed;
  StackScratch<Layer> backbone;
  EmbeddingScratch<T, Space> embedding;
  RmsNormScratch<T, Space> norm;
  LinearScratch<T, Space> linear;
  CrossEntropyScratch<T, Space> loss;
  /// @endcond
};

/// A language model made of layers of any kind, whose head has the weights of the embedding or its
/// own. It holds its weights, or the gradient of a loss with respect to them.
///
///   x = embedding(tokens);  x ← layer(x) for each layer;  logits = rms_norm(x) · headᵀ.
template <class Layer>
struct LanguageModel {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = typename Layer::value_type;
  using space = typename Layer::space;
  using Config = LanguageModelConfig<Layer>;
  using State = StackState<Layer>;
  using Scratch = LanguageModelScratch<Layer>;
  using PiecesScratch = LanguageModelPiecesScratch<Layer>;
  using Stepper = LanguageModelStepper<Layer>;
  ///@}

  Config config;                        ///< sizes and fixed choices
  detail::MatrixOf<Layer> embedding;    ///< (vocab, width); of the head too, where it is tied
  Stack<Layer> backbone;                ///< the layers
  TensorIn<value_type, 1, space> norm;  ///< (width)
  detail::MatrixOf<Layer> head;         ///< (vocab, width), where it is not tied

  LanguageModel() = default;
  /// A layer of this configuration, its parameters zero. @throws DomainError without a vocabulary
  /// or a width, and as the layers
  explicit LanguageModel(const Config& c) : config(c), backbone(c.backbone) {
    if (c.vocab < 1)
      detail::throw_domain("LanguageModel", "vocab", std::to_string(c.vocab), "at least 1");
    if (c.width() < 1)
      detail::throw_domain("LanguageModel", "width", std::to_string(c.width()), "at least 1");
    resize_parameters(*this);
  }
};

/// Calls visit(name, tensor, extents, decay) for every parameter, with the names of
/// state-spaces/mamba; see ssm/core/parameters.hpp. A tied head is none.
template <class Layer, class Visit>
void parameters(LanguageModel<Layer>& model, Visit&& visit) {
  const auto& c = model.config;
  visit("backbone.embedding.weight", model.embedding, shape(c.vocab, c.width()), true);
  parameters(model.backbone, within("backbone.", visit));
  visit("backbone.norm_f.weight", model.norm, shape(c.width()), false);
  if (!c.tied) visit("lm_head.weight", model.head, shape(c.vocab, c.width()), true);
}

/// Sets the configuration of a model, and allocates no parameter.
template <class Layer>
void configure(LanguageModel<Layer>& model, const typename LanguageModel<Layer>::Config& config) {
  model.config = config;
  configure(model.backbone, config.backbone);
}

/// The state of so many sequences before their first token, all zero.
template <class Layer>
[[nodiscard]] StackState<Layer> make_state(const LanguageModel<Layer>& model, Index sequences) {
  return make_state(model.backbone, sequences);
}

/// Initializes the embedding with normal numbers of standard deviation 0.02, the weight of the norm
/// with 1, a head of its own uniformly in ±1/√width, and the layers by their own `initialize`. The
/// same seed gives the same weights on every machine.
template <class Layer>
void initialize(LanguageModel<Layer>& model, std::uint64_t seed) {
  using T = typename Layer::value_type;
  detail::InitialDraws draws(seed);
  for (T& x : model.embedding) x = static_cast<T>(0.02 * draws.normal());
  model.norm.fill(T(1));
  if (!model.config.tied)
    draws.uniform(model.head, 1 / std::sqrt(static_cast<double>(model.config.width())));
  initialize(model.backbone, seed);
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// The weights of the head of a model, or of its gradients.
template <class Model>
[[nodiscard]] auto& head_of(Model& model) noexcept {
  return model.config.tied ? model.embedding : model.head;
}

/// From tokens to what the head reads, in scratch.normed.
template <class Backend, class Layer>
void run_backbone(std::string_view function, const Backend& backend,
                  const LanguageModel<Layer>& model,
                  const View<const Token, 2, typename Layer::space>& tokens,
                  Maybe<StackState<Layer>> state, const OptionsOf<Layer>& options,
                  LanguageModelScratch<Layer>& w) {
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = model.config.width();
  check_sequences(function, options.sequences, batch, length);
  check_shape(function, "embedding", model.embedding, shape(model.config.vocab, width));
  check_shape(function, "head", head_of(model), shape(model.config.vocab, width));
  const std::array<Index, 3> extents{batch, length, width};
  resize(backend, w.embedded, extents);
  resize(backend, w.stream, extents);
  resize(backend, w.normed, {batch * length, width});
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  using Table = MatrixView<MatrixOf<Layer>>;
  embedding(backend, EmbeddingInputs<T, Space, Table>{tokens, model.embedding.view()}, {},
            {w.embedded}, w.embedding);
  forward(backend, model.backbone, std::as_const(w.embedded), state, w.stream, options, w.backbone);
  rms_norm(backend, {merge_rows(function, "stream", std::as_const(w.stream).view()), model.norm},
           {.epsilon = model.config.epsilon}, {w.normed}, w.norm);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Computes, for each token, the logits of the token after it.
///
/// @param tokens (batch, length)
/// @param state read as the state before the first token, overwritten with that after the last, so
///   that a long prompt may be read in several calls; absent: sequences start from zero
/// @param logits (batch, length, vocab), rows evenly spaced; or (batch, 1, vocab), those of the last
///   token alone, at the cost of one product a sequence; absent where only the state is wanted
/// @throws ShapeError, and DomainError for a token outside the vocabulary; the state is then
/// unchanged
template <class Backend, class Layer>
void forward(const Backend& backend, const LanguageModel<Layer>& model,
             const std::type_identity_t<View<const Token, 2, typename Layer::space>>& tokens,
             Maybe<StateOf<LanguageModel<Layer>>> state,
             const OutputOf<LanguageModel<Layer>>& logits,
             const OptionsOf<LanguageModel<Layer>>& options,
             ScratchOf<LanguageModel<Layer>>& scratch) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  constexpr std::string_view function = "forward of LanguageModel";
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = model.config.width();
  const bool of_last = logits.extent(1) == 1 && length > 1;
  detail::check_optional_shape(function, "logits", logits,
                               shape(batch, of_last ? 1 : length, model.config.vocab));
  const auto rows = logits ? detail::merge_rows(function, "logits", logits) : View<T, 2, Space>();
  detail::run_backbone(function, backend, model, tokens, state, options, scratch);
  if (!rows) return;
  View<const T, 2, Space> read = std::as_const(scratch.normed);
  if (of_last)
    read = {read.data() + (length - 1) * width, {batch, width}, {length * width, 1}};
  linear(backend, detail::product<T, Space>(read, detail::head_of(model)), {}, {rows},
         scratch.linear);
}

/// The gradients with respect to every weight, after forward with options.keep.
/// @param dlogits (batch, length, vocab), rows evenly spaced
/// @param gradients overwritten
/// @throws ShapeError and DomainError as forward; ShapeError for a scratch that forward did not
///   fill with options.keep
template <class Backend, class Layer>
void backward(const Backend& backend, const LanguageModel<Layer>& model,
              const std::type_identity_t<View<const Token, 2, typename Layer::space>>& tokens,
              Maybe<StateOf<LanguageModel<Layer>>> dstate,
              const InputOf<LanguageModel<Layer>>& dlogits,
              std::type_identity_t<LanguageModel<Layer>>& gradients,
              const OptionsOf<LanguageModel<Layer>>& options,
              ScratchOf<LanguageModel<Layer>>& scratch) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  constexpr std::string_view function = "backward of LanguageModel";
  LanguageModelScratch<Layer>& w = scratch;
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = model.config.width();
  const std::array<Index, 3> extents{batch, length, width};
  detail::check_shape(function, "dlogits", dlogits, shape(batch, length, model.config.vocab));
  detail::check_shape(function, "scratch", w.stream, extents);
  resize_gradients(backend, model, gradients);
  resize(backend, w.dnormed, {batch * length, width});
  resize(backend, w.dstream, extents);
  resize(backend, w.dembedded, extents);
  linear_backward(backend, detail::product<T, Space>(w.normed, detail::head_of(model)), {},
                  {detail::merge_rows(function, "dlogits", dlogits)},
                  {w.dnormed, detail::head_of(gradients), {}}, w.linear);
  rms_norm_backward(
      backend, {detail::merge_rows(function, "stream", std::as_const(w.stream).view()), model.norm},
      {.epsilon = model.config.epsilon}, {w.dnormed},
      {detail::merge_rows(function, "dstream", w.dstream.view()), gradients.norm}, w.norm);
  backward(backend, model.backbone, std::as_const(w.embedded), dstate, std::as_const(w.dstream),
           w.dembedded, gradients.backbone, options, w.backbone);
  embedding_backward(backend, {tokens, model.embedding},
                     {model.config.tied ? Write::accumulate : Write::overwrite}, {w.dembedded},
                     {gradients.embedding}, w.embedding);
}

/// The mean cross-entropy of the targets in nats per token, and its gradient with respect to every
/// weight. Targets of −100 do not count.
///
/// Memory: what the layers keep, and width + vocab numbers for each token.
/// @param tokens, targets (batch, length)
/// @param state as in forward; for the gradient it counts as a constant (truncated backpropagation
///   through time)
/// @param gradients overwritten; absent: only the loss is computed
/// @throws ShapeError, DomainError as forward
template <class Backend, class Layer>
double loss(const Backend& backend, const LanguageModel<Layer>& model,
            const std::type_identity_t<View<const Token, 2, typename Layer::space>>& tokens,
            const std::type_identity_t<View<const Token, 2, typename Layer::space>>& targets,
            Maybe<StateOf<LanguageModel<Layer>>> state,
            std::type_identity_t<Maybe<LanguageModel<Layer>>> gradients,
            const OptionsOf<LanguageModel<Layer>>& options,
            ScratchOf<LanguageModel<Layer>>& scratch) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  constexpr std::string_view function = "loss of LanguageModel";
  detail::check_shape(function, "targets", targets, tokens.extents());
  const CrossEntropyOptions rule;
  detail::check_tokens(function, "targets", targets, model.config.vocab, &rule.ignore);
  auto kept = options;
  kept.keep = static_cast<bool>(gradients);
  detail::run_backbone(function, backend, model, tokens, state, kept, scratch);
  resize(backend, scratch.logits, {tokens.size(), model.config.vocab});
  linear(backend, detail::product<T, Space>(scratch.normed, detail::head_of(model)), {},
         {scratch.logits}, scratch.linear);
  const View<T, 2, Space> dlogits = gradients ? scratch.logits.view() : View<T, 2, Space>();
  const double nats =
      cross_entropy(backend, {scratch.logits, targets}, rule, {dlogits}, scratch.loss);
  if (gradients)
    backward(backend, model, tokens, {},
             View<const T, 3, Space>(std::as_const(scratch.logits).data(),
                                     {tokens.extent(0), tokens.extent(1), model.config.vocab}),
             *gradients, kept, scratch);
  return nats;
}

/// Runs a language model token by token. It refers to the model, which must outlive it; after the
/// weights have changed, call update.
template <class Layer>
class LanguageModelStepper {
  using T = typename Layer::value_type;

 public:
  /// Makes `model` ready to step `batch` sequences at once. @throws ShapeError for a model without
  /// its parameters, and as the steppers of the layers do
  explicit LanguageModelStepper(const LanguageModel<Layer>& model, Index batch = 1,
                                const LayerOptions<>& options = {})
      : model_(&model),
        vocab_(model.config.vocab),
        backbone_(model.backbone, batch, options),
        embedded_({batch, model.config.width()}),
        stream_(embedded_.extents()) {
    check_model("LanguageModelStepper", model);
  }
  LanguageModelStepper(const LanguageModel<Layer>&&, Index = 1,
                       const LayerOptions<>& = {}) = delete;

  /// Takes over weights that have changed. @throws ShapeError for weights of other shapes
  void update(const LanguageModel<Layer>& model) {
    check_model("LanguageModelStepper", model);
    backbone_.update(model.backbone);
    model_ = &model;
  }

  /// One token of every sequence of the batch on the calling thread: `state` moves on, and logits
  /// become those of the next token. The result is that of forward with length 1, up to rounding.
  /// Nothing is allocated. A token or a shape that does not fit ends the program with an error
  /// message; to get an exception instead, call require_tokens first.
  /// @param tokens (batch)
  /// @param logits (batch, vocab), rows contiguous
  friend void step(LanguageModelStepper& stepper, const View<const Token, 1>& tokens,
                   StackState<Layer>& state,
                   const std::type_identity_t<View<T, 2>>& logits) noexcept {
    stepper.advance(Cpu{1}, tokens, state, logits);
  }
  /// The same with every large product cut over the threads of a backend: the bits do not depend on
  /// their number. Nothing is allocated once the threads run.
  friend void step(const Cpu& backend, LanguageModelStepper& stepper,
                   const View<const Token, 1>& tokens, StackState<Layer>& state,
                   const std::type_identity_t<View<T, 2>>& logits) noexcept {
    stepper.advance(backend, tokens, state, logits);
  }

 private:
  /// Throws ShapeError unless the model has parameters of the vocabulary and the width that the
  /// stepper was made for: one that was moved from has none.
  void check_model(std::string_view function, const LanguageModel<Layer>& model) const {
    const Index width = embedded_.extent(1);
    detail::check_shape(function, "embedding", model.embedding, shape(vocab_, width));
    detail::check_shape(function, "head", detail::head_of(model), shape(vocab_, width));
    detail::check_shape(function, "norm", model.norm, shape(width));
  }

  void advance(const Cpu& backend, const View<const Token, 1>& tokens, StackState<Layer>& state,
               const View<T, 2>& logits) noexcept {
    const Index batch = embedded_.extent(0);
    detail::check_or_terminate([&] {
      constexpr std::string_view function = "step of LanguageModel";
      check_model(function, *model_);
      detail::check_shape(function, "tokens", tokens, shape(batch));
      detail::check_shape(function, "logits", logits, shape(batch, vocab_));
      detail::check_tokens(function, "tokens",
                           View<const Token, 2>(tokens.data(), {batch, 1}, {tokens.stride(0), 1}),
                           vocab_);
    });
    const auto table = std::as_const(model_->embedding).view();
    for (Index b = 0; b < batch; ++b) detail::read_row(table, Index{tokens(b)}, &embedded_(b, 0));
    step(backend, backbone_, embedded_, state, stream_);
    rms_norm_step(RmsNormInputs<T>{stream_, model_->norm}, {.epsilon = model_->config.epsilon},
                  embedded_.view());
    linear_step(backend, detail::product<T, Host>(embedded_, detail::head_of(*model_)), {}, logits);
  }

  const LanguageModel<Layer>* model_;
  Index vocab_;
  StackStepper<Layer> backbone_;
  Tensor<T, 2> embedded_, stream_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
