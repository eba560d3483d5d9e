#pragma once

#include <concepts>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/layers/in_pieces.hpp"
#include "ssm/models/sequence_classifier.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Memory of loss_in_pieces: what the classifier keeps of one piece, and the states at the cuts.
template <class Layer>
struct SequenceClassifierPiecesScratch {
  /// @cond internal
  using T = typename Layer::value_type;

  SequenceClassifierScratch<Layer> model;
  detail::KeptStates<StackState<Layer>> states;
  StackState<Layer> running, dstate;
  Tensor<T, 3> sequences;               ///< (batch, steps of a piece, inputs)
  Tensor<T, 2> pooled, dpooled;         ///< (batch, width): of the whole
  SequenceClassifier<Layer> gradients;  ///< of one piece
  /// @endcond
};

/// The loss of a classifier and its gradient through sequences of any length, in the memory of a
/// piece of them; see ssm/layers/in_pieces.hpp.
///
/// The value and the gradient are those of `loss` on the whole, to rounding; dropout draws other
/// masks. Only pieces.length changes their bits: pieces.states and the number of threads do not.
///
/// Cost: that of `loss` and one forward pass more, or k more where cuts are nested k deep. Memory:
/// what `loss` needs for a piece, a second set of gradients, and the states at the cuts.
/// @param sequences (batch, length, inputs), rows evenly spaced
/// @param labels (batch), in [0, classes), or −100 for one that does not count
/// @param gradients overwritten; absent: only the loss is computed
/// @throws ShapeError, DomainError as loss does; DomainError for packed sequences, and for layers
///   of two directions and others that have no step
template <class Layer>
requires std::same_as<typename Layer::space, Host>
double loss_in_pieces(const Cpu& backend, const SequenceClassifier<Layer>& model,
                      const InputOf<SequenceClassifier<Layer>>& sequences,
                      const View<const Token, 1>& labels,
                      std::type_identity_t<Maybe<SequenceClassifier<Layer>>> gradients,
                      const OptionsOf<SequenceClassifier<Layer>>& options,
                      const PieceOptions& pieces,
                      std::type_identity_t<SequenceClassifierPiecesScratch<Layer>>& scratch) {
  using T = typename Layer::value_type;
  using State = StackState<Layer>;
  constexpr std::string_view function = "loss_in_pieces of SequenceClassifier";
  SequenceClassifierScratch<Layer>& w = scratch.model;
  const Index batch = sequences.extent(0), length = sequences.extent(1);
  detail::check_shape(function, "sequences", sequences, shape(batch, length, model.config.inputs));
  detail::check_pieces(function, model.backbone, pieces, options);
  const auto targets = detail::labels_as_targets(function, model, labels, batch);
  const detail::CutSequence cut{length, pieces.length, options.sequences.reversed};
  /// The part that a piece has in a mean over the whole.
  const auto share = [&](Index piece) {
    return length > 0 ? static_cast<T>(cut.size(piece)) / static_cast<T>(length) : T(0);
  };
  const auto run = [&](Index piece, State& at, bool keep) {
    const auto u = detail::read_piece(backend, cut, piece, sequences, scratch.sequences);
    detail::run_classifier(function, backend, model, u, Maybe<State>(at),
                           detail::piece_options(options, piece, keep), w);
    return u;
  };
  scratch.pooled.resize({batch, model.config.width()});
  scratch.pooled.fill(T(0));
  const auto advance_and_add = [&](Index piece, State& at) {
    run(piece, at, false);
    for (Index i = 0; i < scratch.pooled.size(); ++i)
      scratch.pooled.data()[i] += share(piece) * w.pooled.data()[i];
  };
  scratch.running = make_state(model.backbone, batch);
  Index first = 0;
  if (gradients) {
    resize_gradients(backend, model, *gradients);
    scratch.states.plan(cut.count(), pieces.states);
    scratch.running =
        scratch.states.run_to_last_group(0, cut.count(), 0, scratch.running, advance_and_add);
    const auto groups = scratch.states.grouped(0, cut.count());
    first = groups.begin(groups.groups - 1);
  }
  for (Index piece = first; piece < cut.count(); ++piece) advance_and_add(piece, scratch.running);
  w.pooled = scratch.pooled;
  const double nats = detail::run_head(backend, model, targets, gradients, w);
  if (!gradients) return nats;

  scratch.dpooled = w.dpooled;
  scratch.dstate = make_state(model.backbone, batch);
  const auto advance = [&](Index piece, State& at) { run(piece, at, false); };
  const auto back = [&](Index piece, const State& before) {
    scratch.running = before;
    const auto u = run(piece, scratch.running, true);
    for (Index i = 0; i < w.dpooled.size(); ++i)
      w.dpooled.data()[i] = share(piece) * scratch.dpooled.data()[i];
    const bool last = piece == cut.count() - 1;
    SequenceClassifier<Layer>& sum = last ? *gradients : scratch.gradients;
    resize_gradients(backend, model, sum);
    detail::classifier_backward(backend, model, u, Maybe<State>(scratch.dstate),
                                detail::piece_options(options, piece, true), sum, w);
    if (!last) detail::add_parameters(backend, std::as_const(scratch.gradients), *gradients);
  };
  scratch.states.back_through_groups(0, cut.count(), 0, advance, back);
  return nats;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
