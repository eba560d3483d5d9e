#pragma once

#include <array>
#include <cmath>
#include <concepts>
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
#include "ssm/layers/linear.hpp"
#include "ssm/layers/mean_over_time.hpp"
#include "ssm/layers/rms_norm.hpp"
#include "ssm/layers/stack.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class Layer>
class SequenceClassifierStepper;
template <class Layer>
struct SequenceClassifierPiecesScratch;

/// The configuration of a sequence classifier.
template <class Layer>
struct SequenceClassifierConfig {
  Index inputs = 1;                  ///< numbers per step of the sequence
  Index classes = 2;                 ///< labels 0 … classes − 1
  StackConfig<Layer> backbone = {};  ///< of the layers
  double epsilon = 1e-5;             ///< ε of the norm before the head

  /// The number of channels that it reads and writes.
  [[nodiscard]] Index width() const noexcept { return backbone.width(); }
  friend bool operator==(const SequenceClassifierConfig&,
                         const SequenceClassifierConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Layer, class Visit>
void fields(SequenceClassifierConfig<Layer>& c, Visit&& visit) {
  visit("inputs", c.inputs);
  visit("classes", c.classes);
  visit("backbone", c.backbone);
  visit("epsilon", c.epsilon);
}

/// What a forward pass of a classifier leaves for backward, and room for both; rows = batch ·
/// length.
template <class Layer>
struct SequenceClassifierScratch {
  /// @cond internal
  using T = typename Layer::value_type;
  using Space = typename Layer::space;

  TensorIn<T, 3, Space> encoded, stream;  ///< (batch, length, width): around the layers
  TensorIn<T, 3, Space> normed;           ///< (batch, length, width)
  TensorIn<T, 2, Space> pooled;           ///< (sequences, width)
  TensorIn<T, 2, Space> logits;           ///< (sequences, classes), later their gradient
  TensorIn<T, 3, Space> dencoded, dstream, dnormed;
  TensorIn<T, 2, Space> dpooled;
  StackScratch<Layer> backbone;
  LinearScratch<T, Space> linear;
  RmsNormScratch<T, Space> norm;
  MeanOverTimeScratch<T, Space> mean;
  CrossEntropyScratch<T, Space> loss;
  /// @endcond
};

/// A classifier of sequences made of layers of any kind. It holds its weights, or the gradient of a
/// loss with respect to them.
///
///   x = encoder(u);  x ← layer(x) for each layer;  logits = head(mean over time of rms_norm(x)).
template <class Layer>
struct SequenceClassifier {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = typename Layer::value_type;
  using space = typename Layer::space;
  using Config = SequenceClassifierConfig<Layer>;
  using Scratch = SequenceClassifierScratch<Layer>;
  using PiecesScratch = SequenceClassifierPiecesScratch<Layer>;
  using Stepper = SequenceClassifierStepper<Layer>;
  ///@}

  Config config;                                ///< sizes and fixed choices
  TensorIn<value_type, 2, space> encoder;       ///< (width, inputs)
  TensorIn<value_type, 1, space> encoder_bias;  ///< (width)
  Stack<Layer> backbone;                        ///< the layers
  TensorIn<value_type, 1, space> norm;          ///< (width)
  TensorIn<value_type, 2, space> head;          ///< (classes, width)
  TensorIn<value_type, 1, space> head_bias;     ///< (classes)

  SequenceClassifier() = default;
  /// A layer of this configuration, its parameters zero. @throws DomainError for sizes that make no
  /// model, and as the layers
  explicit SequenceClassifier(const Config& c) : config(c), backbone(c.backbone) {
    const auto check = [](const char* name, Index value) {
      if (value < 1)
        detail::throw_domain("SequenceClassifier", name, std::to_string(value), "at least 1");
    };
    check("inputs", c.inputs);
    check("classes", c.classes);
    check("width", c.width());
    resize_parameters(*this);
  }

  /// What a classifier carries from step to step: the states of the layers, and the sum of their
  /// outputs. Where one sequence of a batch ends, reset_sequence lets another begin in its row.
  struct State {
    StackState<Layer> backbone;  ///< the states of the layers
    Tensor<value_type, 2> sum;   ///< (sequences, width): of rms_norm(x) over the steps so far
    Tensor<Index, 1> steps;      ///< (sequences): how many steps the sum is of

    /// Calls visit(name, tensor) for every tensor of a state.
    template <class Visit>
    friend void tensors(State& state, Visit&& visit) {
      tensors(state.backbone, visit);
      visit("sum", state.sum);
      visit("steps", state.steps);
    }
  };
};

/// Calls visit(name, tensor, extents, decay) for every parameter; see ssm/core/parameters.hpp.
template <class Layer, class Visit>
void parameters(SequenceClassifier<Layer>& model, Visit&& visit) {
  const auto& c = model.config;
  visit("encoder.weight", model.encoder, shape(c.width(), c.inputs), true);
  visit("encoder.bias", model.encoder_bias, shape(c.width()), false);
  parameters(model.backbone, visit);
  visit("norm.weight", model.norm, shape(c.width()), false);
  visit("head.weight", model.head, shape(c.classes, c.width()), true);
  visit("head.bias", model.head_bias, shape(c.classes), false);
}

/// Sets the configuration of a model, and allocates no parameter.
template <class Layer>
void configure(SequenceClassifier<Layer>& model,
               const typename SequenceClassifier<Layer>::Config& config) {
  model.config = config;
  configure(model.backbone, config.backbone);
}

/// The state of so many sequences before their first step, all zero.
template <class Layer>
[[nodiscard]] typename SequenceClassifier<Layer>::State make_state(
    const SequenceClassifier<Layer>& model, Index sequences) {
  return {make_state(model.backbone, sequences),
          Tensor<typename Layer::value_type, 2>({sequences, model.config.width()}),
          Tensor<Index, 1>({sequences})};
}

/// Initializes the layers by draw(layer, seed), encoder, encoder_bias and head uniform in
/// ±1/√(number of inputs of the map), the weight of the norm with 1, and head_bias with zero. The
/// same seed gives the same weights on every machine.
template <class Layer, std::invocable<Layer&, std::uint64_t> Draw>
void initialize(SequenceClassifier<Layer>& model, std::uint64_t seed, const Draw& draw) {
  using T = typename Layer::value_type;
  detail::InitialDraws draws(seed);
  const auto inverse_root = [](Index n) { return 1 / std::sqrt(static_cast<double>(n)); };
  draws.uniform(model.encoder, inverse_root(model.config.inputs));
  draws.uniform(model.encoder_bias, inverse_root(model.config.inputs));
  initialize(model.backbone, seed, draw);
  model.norm.fill(T(1));
  draws.uniform(model.head, inverse_root(model.config.width()));
  model.head_bias.fill(T(0));
}
/// Initializes the layers by their own `initialize`, encoder, encoder_bias and head uniform in
/// ±1/√(number of inputs of the map), the weight of the norm with 1, and head_bias with zero. The
/// same seed gives the same weights on every machine.
template <class Layer>
void initialize(SequenceClassifier<Layer>& model, std::uint64_t seed) {
  const auto depth = static_cast<Index>(model.backbone.layers.size());
  initialize(model, seed, [&](Layer& layer, std::uint64_t s) { initialize(layer, s, depth); });
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// From sequences to the mean over time, in scratch.pooled.
template <class Backend, class Layer>
void run_classifier(std::string_view function, const Backend& backend,
                    const SequenceClassifier<Layer>& model, const InputOf<Layer>& sequences,
                    Maybe<StackState<Layer>> state, const OptionsOf<Layer>& options,
                    SequenceClassifierScratch<Layer>& w) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  const auto& c = model.config;
  const Index batch = sequences.extent(0), length = sequences.extent(1), width = c.width();
  check_shape(function, "sequences", sequences, shape(batch, length, c.inputs));
  check_sequences(function, options.sequences, batch, length);
  const std::array<Index, 3> extents{batch, length, width};
  for (auto* rows : {&w.encoded, &w.stream, &w.normed}) resize(backend, *rows, extents);
  resize(backend, w.pooled, {options.sequences.count(batch), width});
  linear(backend,
         product<T, Space>(merge_rows(function, "sequences", sequences), model.encoder,
                           model.encoder_bias),
         {}, {merge_rows(function, "encoded", w.encoded.view())}, w.linear);
  forward(backend, model.backbone, std::as_const(w.encoded), state, w.stream, options, w.backbone);
  rms_norm(backend, {merge_rows(function, "stream", std::as_const(w.stream).view()), model.norm},
           {.epsilon = c.epsilon}, {merge_rows(function, "normed", w.normed.view())}, w.norm);
  mean_over_time(backend, {w.normed, options.sequences}, {}, {w.pooled}, w.mean);
}

/// The loss of w.pooled; with gradients those of the head, and that of w.pooled in w.dpooled.
template <class Backend, class Layer>
double run_head(const Backend& backend, const SequenceClassifier<Layer>& model,
                const View<const Token, 2, typename Layer::space>& labels,
                Maybe<SequenceClassifier<Layer>> gradients, SequenceClassifierScratch<Layer>& w) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  const auto head = product<T, Space>(w.pooled, model.head, model.head_bias);
  resize(backend, w.logits, {w.pooled.extent(0), model.config.classes});
  linear(backend, head, {}, {w.logits}, w.linear);
  const View<T, 2, Space> dlogits = gradients ? w.logits.view() : View<T, 2, Space>();
  const double nats = cross_entropy(backend, {w.logits, labels}, {}, {dlogits}, w.loss);
  if (!gradients) return nats;
  resize(backend, w.dpooled, w.pooled.extents());
  linear_backward(backend, head, {}, {w.logits}, {w.dpooled, gradients->head, gradients->head_bias},
                  w.linear);
  return nats;
}

/// The gradients of all but the head, from that of the mean over time in w.dpooled.
template <class Backend, class Layer>
void classifier_backward(const Backend& backend, const SequenceClassifier<Layer>& model,
                         const InputOf<Layer>& sequences, Maybe<StackState<Layer>> dstate,
                         const OptionsOf<Layer>& options, SequenceClassifier<Layer>& gradients,
                         SequenceClassifierScratch<Layer>& w) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  constexpr std::string_view function = "loss of SequenceClassifier";
  for (auto* rows : {&w.dencoded, &w.dstream, &w.dnormed})
    resize(backend, *rows, w.stream.extents());
  const auto rows = [&](auto& tensor) { return merge_rows(function, "rows", tensor.view()); };
  mean_over_time_backward(backend, {w.normed, options.sequences}, {}, {w.dpooled}, {w.dnormed},
                          w.mean);
  rms_norm_backward(backend, {rows(std::as_const(w.stream)), model.norm},
                    {.epsilon = model.config.epsilon}, {rows(std::as_const(w.dnormed))},
                    {rows(w.dstream), gradients.norm}, w.norm);
  backward(backend, model.backbone, std::as_const(w.encoded), dstate, std::as_const(w.dstream),
           w.dencoded, gradients.backbone, options, w.backbone);
  linear_backward(backend,
                  product<T, Space>(merge_rows(function, "sequences", sequences), model.encoder,
                                    model.encoder_bias),
                  {}, {rows(std::as_const(w.dencoded))},
                  {{}, gradients.encoder, gradients.encoder_bias}, w.linear);
}

/// Labels as targets of one step. Throws for one out of range.
template <class Layer>
[[nodiscard]] View<const Token, 2, typename Layer::space> labels_as_targets(
    std::string_view function, const SequenceClassifier<Layer>& model,
    const View<const Token, 1, typename Layer::space>& labels, Index count) {
  check_shape(function, "labels", labels, shape(count));
  const View<const Token, 2, typename Layer::space> targets(labels.data(), {count, 1},
                                                            {labels.stride(0), 1});
  const CrossEntropyOptions rule;
  check_tokens(function, "labels", targets, model.config.classes, &rule.ignore);
  return targets;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Computes the logits of every class for whole sequences. An input that is NaN or infinite affects
/// all logits of its sequence, and those of no other. Packed sequences of any lengths, given in
/// options.sequences, get the logits that each gets alone, to rounding; one without steps gets
/// head_bias. See ssm/layers/pack_sequences.hpp for padded batches.
///
/// @param sequences (batch, length, inputs), rows evenly spaced
/// @param logits (sequences, classes), rows contiguous
/// @throws ShapeError, and as the layers do
template <class Backend, class Layer>
void forward(
    const Backend& backend, const SequenceClassifier<Layer>& model,
    const InputOf<SequenceClassifier<Layer>>& sequences,
    const View<std::type_identity_t<typename Layer::value_type>, 2, typename Layer::space>& logits,
    const OptionsOf<SequenceClassifier<Layer>>& options,
    ScratchOf<SequenceClassifier<Layer>>& scratch) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  constexpr std::string_view function = "forward of SequenceClassifier";
  detail::check_shape(function, "logits", logits,
                      shape(options.sequences.count(sequences.extent(0)), model.config.classes));
  auto inference = options;
  inference.keep = false;
  detail::run_classifier<Backend, Layer>(function, backend, model, sequences, {}, inference,
                                         scratch);
  linear(backend, detail::product<T, Space>(scratch.pooled, model.head, model.head_bias), {},
         {logits}, scratch.linear);
}

/// The mean cross-entropy of the labels in nats, and its gradient with respect to every weight.
/// Labels of −100 do not count. Every sequence counts as much as any other, whatever its length.
///
/// Memory: what the layers keep, and 6 · width numbers for each step.
/// @param labels (sequences), in [0, classes)
/// @param gradients overwritten; absent: only the loss is computed
/// @throws ShapeError, DomainError for a label out of range, and as the layers do
template <class Backend, class Layer>
double loss(const Backend& backend, const SequenceClassifier<Layer>& model,
            const InputOf<SequenceClassifier<Layer>>& sequences,
            const std::type_identity_t<View<const Token, 1, typename Layer::space>>& labels,
            std::type_identity_t<Maybe<SequenceClassifier<Layer>>> gradients,
            const OptionsOf<SequenceClassifier<Layer>>& options,
            ScratchOf<SequenceClassifier<Layer>>& scratch) {
  constexpr std::string_view function = "loss of SequenceClassifier";
  const auto targets = detail::labels_as_targets(function, model, labels,
                                                 options.sequences.count(sequences.extent(0)));
  auto kept = options;
  kept.keep = static_cast<bool>(gradients);
  if (gradients) resize_gradients(backend, model, *gradients);
  detail::run_classifier<Backend, Layer>(function, backend, model, sequences, {}, kept, scratch);
  const double nats = detail::run_head(backend, model, targets, gradients, scratch);
  if (gradients)
    detail::classifier_backward(backend, model, sequences, {}, kept, *gradients, scratch);
  return nats;
}

/// Runs a classifier step by step: after each step it gives the logits of the sequence so far. It
/// refers to the model, which must outlive it.
template <class Layer>
class SequenceClassifierStepper {
  using T = typename Layer::value_type;
  using State = typename SequenceClassifier<Layer>::State;

 public:
  /// Makes `model` ready to step `batch` sequences at once. @throws as the steppers of the layers
  /// do
  explicit SequenceClassifierStepper(const SequenceClassifier<Layer>& model, Index batch = 1,
                                     const LayerOptions<>& options = {})
      : model_(&model),
        backbone_(model.backbone, batch, options),
        encoded_({batch, model.config.width()}),
        stream_(encoded_.extents()) {}
  SequenceClassifierStepper(const SequenceClassifier<Layer>&&, Index = 1,
                            const LayerOptions<>& = {}) = delete;

  /// Takes over weights that have changed. @throws ShapeError for weights of other shapes
  void update(const SequenceClassifier<Layer>& model) {
    backbone_.update(model.backbone);
    model_ = &model;
  }

  /// One step of every sequence of the batch on the calling thread: `state` moves on, and logits
  /// become those of forward for the steps so far. Nothing is allocated. A shape that does not fit
  /// ends the program with an error message.
  /// @param input (batch, inputs), rows contiguous
  /// @param logits (batch, classes), rows contiguous
  friend void step(SequenceClassifierStepper& stepper,
                   const std::type_identity_t<View<const T, 2>>& input, State& state,
                   const std::type_identity_t<View<T, 2>>& logits) noexcept {
    stepper.advance(input, state, logits);
  }

 private:
  void advance(const View<const T, 2>& input, State& state, const View<T, 2>& logits) noexcept {
    const auto& c = model_->config;
    const Index batch = encoded_.extent(0), width = encoded_.extent(1);
    detail::check_or_terminate([&] {
      constexpr std::string_view function = "step of SequenceClassifier";
      detail::check_shape(function, "input", input, shape(batch, c.inputs));
      detail::check_shape(function, "logits", logits, shape(batch, c.classes));
      detail::check_shape(function, "state", state.sum, encoded_.extents());
      detail::check_shape(function, "state", state.steps, shape(batch));
    });
    linear_step(detail::product<T, Host>(input, model_->encoder, model_->encoder_bias), {},
                encoded_.view());
    step(backbone_, encoded_, state.backbone, stream_);
    rms_norm_step(RmsNormInputs<T>{stream_, model_->norm}, {.epsilon = c.epsilon}, encoded_.view());
    for (Index b = 0; b < batch; ++b) {
      const T share = T(1) / static_cast<T>(++state.steps(b));
      for (Index i = 0; i < width; ++i) {
        state.sum(b, i) += encoded_(b, i);
        encoded_(b, i) = share * state.sum(b, i);
      }
    }
    linear_step(detail::product<T, Host>(encoded_, model_->head, model_->head_bias), {}, logits);
  }

  const SequenceClassifier<Layer>* model_;
  StackStepper<Layer> backbone_;
  Tensor<T, 2> encoded_, stream_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
