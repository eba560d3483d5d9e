#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/layers/add.hpp"
#include "ssm/layers/copy_rows.hpp"
#include "ssm/layers/detail/piece_walk.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/layer.hpp"

/// @file
/// Exact gradients through a sequence of any length, in the memory of a piece of it.
///
/// A layer hands its state on, and the gradient of its state back, so that a sequence may be cut.
/// Forward keeps nothing but the states at the cuts. Backward takes the pieces from the last to the
/// first, computes each once more, and passes the gradient of the state to the piece before it
/// (Griewank, "Achieving logarithmic growth of temporal and spatial complexity in reverse automatic
/// differentiation", 1992; Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).
/// Gradients are those of the whole sequence: nothing is cut off between pieces. A layer whose
/// state fills up, such as Attention without a window, takes no more steps than its state has room
/// for.

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How a sequence is run in pieces.
struct PieceOptions {
  Index length = 4096;  ///< steps of a piece, at least 1; the first may be shorter
  /// About how many states are kept, at least 2. Where a sequence has more pieces, cuts are nested:
  /// with `states` split over k levels, (states / k)^k pieces cost k more forward passes.
  Index states = 1024;
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// The part of a sequence that is piece `piece`, as rows evenly spaced: where it lies, or copied.
template <class Backend, class T, class Space>
View<const T, 3, Space> read_piece(const Backend& backend, const CutSequence& cut, Index piece,
                                   const View<const T, 3, Space>& whole,
                                   std::type_identity_t<ssm::TensorIn<T, 3, Space>>& room) {
  const auto part = cut.of(whole, piece);
  if (part.extent(0) <= 1 || part.extent(1) == whole.extent(1)) return part;
  resize(backend, room, part.extents());
  CopyRowsScratch<T, Space> none;
  for (Index b = 0; b < part.extent(0); ++b)
    copy_rows(backend, {part[b]}, {}, {room.view()[b]}, none);
  return std::as_const(room);
}

/// Where piece `piece` is written: in its place, or in `room`, which write_piece copies there.
template <class Backend, class T, class Space>
View<T, 3, Space> place_of_piece(const Backend& backend, const CutSequence& cut, Index piece,
                                 const View<T, 3, Space>& whole,
                                 std::type_identity_t<ssm::TensorIn<T, 3, Space>>& room) {
  const auto part = cut.of(whole, piece);
  if (part.extent(0) <= 1 || part.extent(1) == whole.extent(1)) return part;
  resize(backend, room, part.extents());
  return room;
}
template <class Backend, class T, class Space>
void write_piece(const Backend& backend, const View<T, 3, Space>& written, const CutSequence& cut,
                 Index piece, const View<T, 3, Space>& whole) {
  const auto part = cut.of(whole, piece);
  if (written.data() == part.data()) return;
  CopyRowsScratch<T, Space> none;
  for (Index b = 0; b < part.extent(0); ++b)
    copy_rows(backend, {View<const T, 2, Space>(written[b])}, {}, {part[b]}, none);
}

/// to += from, parameter by parameter.
template <class Backend, class Layer>
void add_parameters(const Backend& backend, const Layer& from, Layer& to) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  std::vector<View<const T, 2, Space>> terms;
  parameters(from, Nameless([&](const auto& tensor, const auto&) {
               terms.push_back({tensor.data(), {1, tensor.size()}});
             }));
  std::size_t i = 0;
  AddScratch<T, Space> none;
  parameters(to, Nameless([&](auto& tensor, const auto&) {
               const View<T, 2, Space> sum(tensor.data(), {1, tensor.size()});
               add(backend, {sum, terms[i++]}, {}, {sum}, none);
             }));
}

/// Throws for what no piece can be made of: a layer that does not hand its state from piece to
/// piece has no stepper either.
template <class Layer>
void check_pieces(std::string_view function, const Layer& layer, const PieceOptions& pieces,
                  const OptionsOf<Layer>& options) {
  check_cut(function, pieces.length, pieces.states);
  if (options.sequences.offsets)
    throw_domain(function, "offsets", "given", "none, as packed sequences are not cut");
  if constexpr (std::same_as<typename Layer::space, Host>) {
    OptionsOf<Layer> step;
    step.rate = options.rate;
    [[maybe_unused]] const StepperOf<Layer> can_step(layer, 1, step);
  }
}

/// The options of a piece, which has dropout masks of its own.
template <class Space>
[[nodiscard]] LayerOptions<Space> piece_options(LayerOptions<Space> options, Index piece,
                                                bool keep) {
  options.dropout = options.dropout.of(piece);
  options.keep = keep;
  return options;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// What forward_in_pieces leaves for backward_in_pieces, and room for both: the states at the cuts,
/// and what the layer keeps of one piece.
template <class Layer>
struct InPiecesScratch {
  /// @cond internal
  using T = typename Layer::value_type;
  using Space = typename Layer::space;

  LayerCall call;
  PieceOptions pieces;
  bool reversed = false;
  double rate = 1;
  Dropout dropout;
  typename Layer::Scratch layer;
  detail::KeptStates<typename Layer::State> states;
  typename Layer::State running, dstate;
  TensorIn<T, 3, Space> input, output, doutput, dinput;  ///< (batch, steps of a piece, width)
  Layer gradients;                                       ///< of one piece
  /// @endcond
};

/// Runs a layer, or a stack of layers, over sequences piece by piece.
///
/// Outputs and the last state are those of `forward` over the whole, to rounding; dropout draws
/// other masks. Memory: what the layer needs for a piece, and the states at the cuts. Cost: that of
/// forward.
/// @param input, output (batch, length, width), rows evenly spaced, not the same memory
/// @param state as in forward
/// @param options as in forward; time may run backward. Without options.keep no state is kept.
/// @throws as forward does; DomainError for packed sequences, a layer of two directions and other
///   layers that have no step, for pieces of no length, and where time lies across ranks
template <class Backend, SequenceLayer Layer>
void forward_in_pieces(const Backend& backend, const Layer& layer, const InputOf<Layer>& input,
                       Maybe<StateOf<Layer>> state, const OutputOf<Layer>& output,
                       const OptionsOf<Layer>& options, const PieceOptions& pieces,
                       std::type_identity_t<InPiecesScratch<Layer>>& scratch) {
  constexpr std::string_view function = "forward_in_pieces";
  scratch.call.drop();
  if (!holds_whole_time<Backend>)
    detail::throw_domain(function, "backend", "one that holds a piece of each sequence",
                         "one that holds all of it");
  detail::check_layer_call(function, layer, input, output, options);
  detail::check_pieces(function, layer, pieces, options);
  detail::check_no_overlap(function, "output", output, "input", input);
  detail::check_state(function, "state", layer, state, input.extent(0));
  const detail::CutSequence cut{input.extent(1), pieces.length, options.sequences.reversed};
  const auto advance = [&](Index piece, StateOf<Layer>& at) {
    const auto u = detail::read_piece(backend, cut, piece, input, scratch.input);
    const auto y = detail::place_of_piece(backend, cut, piece, output, scratch.output);
    forward(backend, layer, u, Maybe<StateOf<Layer>>(at), y,
            detail::piece_options(options, piece, false), scratch.layer);
    detail::write_piece(backend, y, cut, piece, output);
  };
  scratch.running = state ? *state : make_state(layer, input.extent(0));
  Index first = 0;
  if (options.keep) {
    auto& kept = scratch.states;
    kept.plan(cut.count(), pieces.states);
    scratch.running = kept.run_to_last_group(0, cut.count(), 0, scratch.running, advance);
    const auto groups = kept.grouped(0, cut.count());
    first = groups.begin(groups.groups - 1);
    scratch.pieces = pieces;
    scratch.reversed = options.sequences.reversed;
    scratch.rate = options.rate;
    scratch.dropout = options.dropout;
    scratch.call.keep({input.extent(0), input.extent(1), input.extent(0)});
  }
  for (Index piece = first; piece < cut.count(); ++piece) advance(piece, scratch.running);
  if (state) *state = scratch.running;
}

/// The gradients of forward_in_pieces, those of the whole sequence.
///
/// They are those of `backward` to rounding: sums over time are sums of pieces. Cost: forward and
/// backward once over the whole, and once more forward for each nesting of cuts beyond the first.
/// @param input, dstate, doutput, dinput, gradients as in backward; dinput may be the memory of
///   doutput
/// @throws as backward does; ShapeError unless forward_in_pieces filled the scratch with
///   options.keep and the same pieces
template <class Backend, SequenceLayer Layer>
void backward_in_pieces(const Backend& backend, const Layer& layer, const InputOf<Layer>& input,
                        Maybe<StateOf<Layer>> dstate, const InputOf<Layer>& doutput,
                        const OutputOf<Layer>& dinput, std::type_identity_t<Layer>& gradients,
                        const OptionsOf<Layer>& options, const PieceOptions& pieces,
                        std::type_identity_t<InPiecesScratch<Layer>>& scratch) {
  constexpr std::string_view function = "backward_in_pieces";
  detail::check_layer_call(function, layer, input, dinput, options);
  detail::check_shape(function, "doutput", doutput, input.extents());
  detail::check_no_overlap(function, "dinput", dinput, "input", input);
  detail::check_same_or_apart(function, "dinput", dinput, "doutput", doutput);
  detail::check_pieces(function, layer, pieces, options);
  detail::check_state(function, "dstate", layer, dstate, input.extent(0));
  scratch.call.check(function, "forward_in_pieces with options.keep",
                     {input.extent(0), input.extent(1), input.extent(0)});
  if (pieces.length != scratch.pieces.length || pieces.states != scratch.pieces.states)
    detail::throw_shape(function, "pieces", "of another length or number of states",
                        "those of forward_in_pieces");
  if (options.sequences.reversed != scratch.reversed || options.rate != scratch.rate ||
      options.dropout.probability != scratch.dropout.probability ||
      options.dropout.seed != scratch.dropout.seed)
    detail::throw_shape(function, "scratch", "of another call",
                        "that of a call with these options");
  const detail::CutSequence cut{input.extent(1), pieces.length, options.sequences.reversed};
  resize_gradients(backend, layer, gradients);
  const auto run = [&](Index piece, StateOf<Layer>& at, bool keep) {
    const auto u = detail::read_piece(backend, cut, piece, input, scratch.input);
    resize(backend, scratch.output, u.extents());
    forward(backend, layer, u, Maybe<StateOf<Layer>>(at), scratch.output,
            detail::piece_options(options, piece, keep), scratch.layer);
    return u;
  };
  const auto advance = [&](Index piece, StateOf<Layer>& at) { run(piece, at, false); };
  scratch.dstate = dstate ? *dstate : make_state(layer, input.extent(0));
  const auto back = [&](Index piece, const StateOf<Layer>& before) {
    scratch.running = before;
    const auto u = run(piece, scratch.running, true);
    const auto dy = detail::read_piece(backend, cut, piece, doutput, scratch.doutput);
    const auto du = detail::place_of_piece(backend, cut, piece, dinput, scratch.dinput);
    const bool last = piece == cut.count() - 1;
    Layer& sum = last ? gradients : scratch.gradients;
    backward(backend, layer, u, Maybe<StateOf<Layer>>(scratch.dstate), dy, du, sum,
             detail::piece_options(options, piece, true), scratch.layer);
    detail::write_piece(backend, du, cut, piece, dinput);
    if (!last) detail::add_parameters(backend, std::as_const(scratch.gradients), gradients);
  };
  scratch.states.back_through_groups(0, cut.count(), 0, advance, back);
  if (dstate) *dstate = scratch.dstate;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
