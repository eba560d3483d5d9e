#pragma once

#include <algorithm>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/layers/cross_entropy.hpp"
#include "ssm/layers/in_pieces.hpp"
#include "ssm/models/language_model.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Memory of loss_in_pieces: what the model keeps of one piece, and the states at the cuts.
template <class Layer>
struct LanguageModelPiecesScratch {
  /// @cond internal
  using T = typename Layer::value_type;
  using Space = typename Layer::space;

  LanguageModelScratch<Layer> model;
  detail::KeptStates<StackState<Layer>> states;
  StackState<Layer> running, dstate;
  TensorIn<T, 3, Space> logits;    ///< (batch, steps of a piece, vocab), then their gradient
  LanguageModel<Layer> gradients;  ///< of one piece
  CrossEntropyScratch<T, Space> loss;
  /// @endcond
};

/// The loss of a language model and its gradient through sequences of any length, in the memory of
/// a piece of them; see ssm/layers/in_pieces.hpp.
///
/// The value and the gradient are those of `loss` on the whole, to rounding; dropout draws other
/// masks. Only pieces.length changes their bits: pieces.states and the number of threads do not.
///
/// Over ranks every piece lies across all of them: a rank has at most pieces.length steps of each,
/// so that all compute at once and the memory of a rank stays that of its part of a piece, whatever
/// the length. `tokens` and `targets` are its steps of the first piece, then of the second and so
/// on; see ssm/layers/deal.hpp. The loss is that of all ranks, gradients are those of the rank's
/// own steps, as in `loss`; the state is passed on between pieces.
///
/// Cost: that of `loss`, and one forward pass of the layers more, or k of them where cuts are
/// nested k deep; without gradients that of `loss`. Memory: what `loss` needs for a piece, a second
/// set of gradients, and the states at the cuts.
/// @param tokens, targets (batch, length)
/// @param state as in `loss`
/// @param gradients overwritten; absent: only the loss is computed
/// @throws ShapeError, DomainError as loss does; DomainError for packed sequences, and for layers
///   of two directions and others that have no step, and for steps of a rank that do not make as
///   many pieces as those of others
template <class Backend, class Layer>
double loss_in_pieces(
    const Backend& backend, const LanguageModel<Layer>& model,
    const std::type_identity_t<View<const Token, 2, typename Layer::space>>& tokens,
    const std::type_identity_t<View<const Token, 2, typename Layer::space>>& targets,
    Maybe<StateOf<LanguageModel<Layer>>> state,
    std::type_identity_t<Maybe<LanguageModel<Layer>>> gradients,
    const OptionsOf<LanguageModel<Layer>>& options, const PieceOptions& pieces,
    std::type_identity_t<LanguageModelPiecesScratch<Layer>>& scratch) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  using State = StackState<Layer>;
  constexpr std::string_view function = "loss_in_pieces of LanguageModel";
  const Index batch = tokens.extent(0), vocab = model.config.vocab;
  const CrossEntropyOptions rule;
  detail::check_shape(function, "targets", targets, tokens.extents());
  detail::check_tokens(function, "tokens", tokens, vocab);
  detail::check_tokens(function, "targets", targets, vocab, &rule.ignore);
  detail::check_pieces(function, model.backbone, pieces, options);
  detail::check_stack(function, model.backbone, state, "state");
  const bool reversed = options.sequences.reversed;
  detail::CutSequence cut{tokens.extent(1), pieces.length, reversed};
  Index counted = detail::count_targets(targets, rule.ignore);
  if constexpr (!holds_whole_time<Backend>) {
    counted = sum_over_ranks(backend, counted);
    cut.least = largest_over_ranks(backend, cut.count());
    if (largest_over_ranks(backend, -cut.size(0)) > 0)  // so that all throw
      detail::throw_domain(function, "tokens", "of fewer pieces on one rank than on another",
                           "each rank's share of every piece, as deal gives it");
  }
  // From the end of a piece to the ranks where the next one begins, which is before it in backward.
  const auto hand_on = [&](State& at, bool backward) {
    if constexpr (!holds_whole_time<Backend>) pass_on(backend, at, backward != reversed);
  };

  const auto run = [&](Index piece, State& at, const View<T, 3, Space>& logits, bool keep) {
    forward(backend, model, cut.of(tokens, piece), Maybe<State>(at), logits,
            detail::piece_options(options, piece, keep), scratch.model);
  };
  const auto loss_of = [&](Index piece, State& at, bool keep) {
    resize(backend, scratch.logits, {batch, cut.size(piece), vocab});
    run(piece, at, scratch.logits, keep);
    const View<T, 2, Space> rows(scratch.logits.data(), {batch * cut.size(piece), vocab});
    return cross_entropy(backend, {rows, cut.of(targets, piece)},
                         {.ignore = rule.ignore, .count = (std::max)(counted, Index{1})},
                         {keep ? rows : View<T, 2, Space>()}, scratch.loss);
  };
  double nats = 0;
  scratch.running = state ? *state : make_state(model, batch);
  if (!gradients) {
    for (Index piece = 0; piece < cut.count(); ++piece) {
      nats += loss_of(piece, scratch.running, false);
      if (piece < cut.count() - 1) hand_on(scratch.running, false);
    }
    if (state) *state = scratch.running;
    return nats;
  }

  resize_gradients(backend, model, *gradients);
  scratch.dstate = make_state(model, batch);
  const auto advance = [&](Index piece, State& at) {
    run(piece, at, {}, false);
    hand_on(at, false);
  };
  const auto back = [&](Index piece, const State& before) {
    scratch.running = before;
    nats += loss_of(piece, scratch.running, true);
    const bool last = piece == cut.count() - 1;
    if (last && state) *state = scratch.running;
    backward(backend, model, cut.of(tokens, piece), Maybe<State>(scratch.dstate),
             std::as_const(scratch.logits), last ? *gradients : scratch.gradients,
             detail::piece_options(options, piece, true), scratch.model);
    if (piece > 0) hand_on(scratch.dstate, true);
    if (!last) detail::add_parameters(backend, std::as_const(scratch.gradients), *gradients);
  };
  scratch.states.plan(cut.count(), pieces.states);
  scratch.states.back_through(0, cut.count(), 0, State(scratch.running), advance, back);
  return nats;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
