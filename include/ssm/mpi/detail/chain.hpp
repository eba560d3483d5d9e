#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/mpi/ranks.hpp"

/// How operations hand states to neighbours in time.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The ranks of a backend in the order of time.
class Chain {
 public:
  Chain(const Ranks& backend, const Sequences<Host>& sequences) noexcept
      : comm_(*backend.time),
        direction_(sequences.reversed ? -1 : 1),
        packed_(static_cast<bool>(sequences.offsets)) {
    if (!packed_) return;
    const Index end = sequences.count(1) - 1;
    entry_ = sequences.reversed ? end : 0;
    exit_ = sequences.reversed ? 0 : end;
  }

  /// Whether sequences are packed, so that one of them alone comes from the rank before, `entry`,
  /// and one goes on to the rank after, `exit`.
  [[nodiscard]] bool is_packed() const noexcept { return packed_; }
  [[nodiscard]] Index entry() const noexcept { return entry_; }
  [[nodiscard]] Index exit() const noexcept { return exit_; }
  /// Of states of all sequences those that come from the rank before, and those that go on.
  template <class AnyView>
  [[nodiscard]] AnyView entry(const AnyView& states) const noexcept {
    return packed_ && states.size() > 0 ? states.slice(0, entry_, 1) : states;
  }
  template <class AnyView>
  [[nodiscard]] AnyView exit(const AnyView& states) const noexcept {
    return packed_ && states.size() > 0 ? states.slice(0, exit_, 1) : states;
  }

  [[nodiscard]] int size() const noexcept { return comm_.size(); }
  /// Whether time begins on this rank, or ends.
  [[nodiscard]] bool is_first() const noexcept { return !has_before(); }
  [[nodiscard]] bool is_last() const noexcept { return !has_after(); }
  ///@{
  /// Whether there is a rank so many places before this one, or after it.
  [[nodiscard]] bool has_before(int places = 1) const noexcept { return has(-places); }
  [[nodiscard]] bool has_after(int places = 1) const noexcept { return has(places); }
  ///@}

  ///@{
  /// Views of adjacent elements.
  template <class K, std::size_t Rank>
  void receive_from_before(const View<K, Rank>& to, int places = 1) const {
    comm_.receive(rank_at(-places), to.data(), to.size());
  }
  template <class K, std::size_t Rank>
  void receive_from_after(const View<K, Rank>& to) const {
    comm_.receive(rank_at(1), to.data(), to.size());
  }
  template <class K, std::size_t Rank>
  void send_to_before(const View<K, Rank>& from) const {
    comm_.send(rank_at(-1), from.data(), from.size());
  }
  template <class K, std::size_t Rank>
  void send_to_after(const View<K, Rank>& from, int places = 1) const {
    comm_.send(rank_at(places), from.data(), from.size());
  }
  ///@}

 private:
  [[nodiscard]] int rank_at(int places) const noexcept {
    return comm_.rank() + direction_ * places;
  }
  [[nodiscard]] bool has(int places) const noexcept {
    return rank_at(places) >= 0 && rank_at(places) < comm_.size();
  }

  Communicator& comm_;
  int direction_;
  bool packed_;
  Index entry_ = 0, exit_ = 0;
};

inline void refuse_packed(std::string_view function, const Sequences<Host>& sequences) {
  if (sequences.offsets)
    throw_domain(function, "offsets", "given", "none, as over ranks it takes no packed sequences");
}
/// Packed sequences go on from rank to rank by the one that each rank has at its end.
inline void check_packed(std::string_view function, const Sequences<Host>& sequences) {
  if (sequences.offsets && sequences.count(1) < 1)
    throw_domain(function, "offsets", "of no sequence",
                 "of one on every rank, without steps where the rank has none");
}

template <std::size_t Rank>
[[nodiscard]] Index size_of(const std::array<Index, Rank>& extents) noexcept {
  Index size = 1;
  for (const Index extent : extents) size *= extent;
  return size;
}

/// to ← from, element by element; both have the same extents.
template <class K, std::size_t Rank>
void copy_elements(const View<const K, Rank>& from, const View<K, Rank>& to) noexcept {
  if constexpr (Rank == 1) {
    for (Index i = 0; i < from.extent(0); ++i) to(i) = from(i);
  } else {
    for (Index i = 0; i < from.extent(0); ++i) copy_elements<K, Rank - 1>(from[i], to[i]);
  }
}

/// Every rank's step next to the neighbour's piece goes to that neighbour: forward, the last step
/// goes to the rank after it, else the first step to the rank before it. A rank without steps hands
/// on what comes to it, so that neighbours are those with steps.
///
/// @param x (batch, length, channels)
/// @param beyond what stands beyond the end of each sequence, (sequences, channels); absent: zero
/// @return what stands beyond this rank's piece, (sequences, channels), in the memory of
///   `passed.arrived`, or `beyond`
template <class K>
View<const K, 2> exchange_steps(const Chain& chain, bool forward, const View<const K, 3>& x,
                                const Sequences<Host>& sequences, const View<const K, 2>& beyond,
                                PassedStates<K>& passed) {
  const Index channels = x.extent(2), count = sequences.count(x.extent(0));
  const std::array<Index, 2> rows{count, channels};
  const bool receives = forward ? !chain.is_first() : !chain.is_last();
  const bool sends = forward ? !chain.is_last() : !chain.is_first();
  const Index edge = forward ? chain.exit() : chain.entry();  // the sequence whose step goes
  const Index length = span_of(sequences, edge, x.extent(1)).length();
  // Whether the step waits for what comes.
  const bool waits = length == 0 && chain.entry() == chain.exit();
  const auto send = [&](const View<const K, 2>& arrived) {
    passed.leaving.resize({size_of(rows)});
    passed.leaving.fill(K(0));
    const View<K, 2> leaving(passed.leaving.data(), rows);
    for (Index s = 0; s < count; ++s) {
      const SequenceSpan at = span_of(sequences, s, x.extent(1));
      const bool none = at.length() == 0;
      if (none && !arrived) continue;
      const Index step = none ? 0 : at.step(forward ? at.length() - 1 : 0, sequences.reversed);
      for (Index c = 0; c < channels; ++c)
        leaving(s, c) = none ? arrived(s, c) : x(at.row, step, c);
    }
    forward ? chain.send_to_after(chain.exit(leaving)) : chain.send_to_before(chain.entry(leaving));
  };
  if (sends && !waits) send(beyond);
  View<const K, 2> arrived = beyond;
  if (receives) {
    passed.arrived.resize({size_of(rows)});
    passed.arrived.fill(K(0));
    const View<K, 2> to(passed.arrived.data(), rows);
    if (beyond && chain.is_packed()) copy_elements<K, 2>(beyond, to);
    forward ? chain.receive_from_before(chain.entry(to)) : chain.receive_from_after(chain.exit(to));
    arrived = to;
  }
  if (sends && waits) send(arrived);
  return arrived;
}

/// Room for the states before a rank's first step, which backward will read as well: those that the
/// rank before hands on, or a copy of the caller's where the final ones overwrite them. Nobody
/// needs it else.
template <class K, std::size_t Rank>
void make_room(const Chain& chain, const View<const K, Rank>& initial_state,
               const View<K, Rank>& final_state, Index count, PassedStates<K>& passed) {
  const bool needed = !chain.is_first() || overlap(final_state, initial_state);
  passed.arrived.resize({needed ? count : 0});
}
/// Throws unless make_room made that room for a call with these states.
template <class K>
void check_room(std::string_view function, const Chain& chain, Index count,
                const PassedStates<K>& passed) {
  const Index size = passed.arrived.size();
  if (size != count && (size != 0 || !chain.is_first()))
    throw_shape(function, "scratch", "of another call",
                "one that the forward pass filled over these ranks");
}
/// The part of that room, from element `first` on, for states of these extents; absent where there
/// is none.
template <class K, std::size_t Rank>
[[nodiscard]] View<K, Rank> part_of(PassedStates<K>& passed, Index first,
                                    const std::array<Index, Rank>& extents) noexcept {
  if (passed.arrived.size() == 0) return {};
  return {passed.arrived.data() + first, extents};
}

/// The states before a rank's first step, into the room for them, where there is one: the caller's,
/// and those that the rank before hands on.
template <class K, std::size_t Rank>
void receive_states(const Chain& chain, const View<const K, Rank>& initial_state,
                    const View<K, Rank>& kept) {
  if (kept && (chain.is_first() || chain.is_packed())) {
    if (initial_state)
      copy_elements<K, Rank>(initial_state, kept);
    else
      std::fill_n(kept.data(), kept.size(), K(0));
  }
  if (!chain.is_first()) chain.receive_from_before(chain.entry(kept));
}

/// The forward pass of an operation, or of a block of its channels, that takes and gives a state of
/// extents `states`: `run(initial, final)` is the local call, with the view of the state before its
/// first step, absent for zero, and that for the state after the last, absent where nobody wants
/// it.
/// @param kept the room for the former
template <class K, std::size_t Rank, class Run>
void hand_states_on(const Chain& chain, View<const K, Rank> initial_state,
                    const View<K, Rank>& final_state, const std::array<Index, Rank>& states,
                    const View<K, Rank>& kept, Tensor<K, 1>& leaving, const Run& run) {
  receive_states(chain, initial_state, kept);
  if (kept || !chain.is_first()) initial_state = View<const K, Rank>(kept.data(), states);
  if (chain.is_last() && !final_state) return run(initial_state, View<K, Rank>());
  leaving.resize({size_of(states)});
  const View<K, Rank> after(leaving.data(), states);
  run(initial_state, after);
  if (!chain.is_last()) chain.send_to_after(chain.exit(after));
  if (final_state) copy_elements<K, Rank>(after, final_state);
}

/// The backward pass: `run(initial, dfinal, dinitial)` is the local call, with the state before its
/// first step, the gradient by the state after its last, both absent for zero, and the view for
/// that by the former, absent where nobody wants it.
/// @param kept what the forward pass left there
template <class K, std::size_t Rank, class Run>
void hand_gradients_back(const Chain& chain, View<const K, Rank> initial_state,
                         View<const K, Rank> dfinal, const View<K, Rank>& dinitial,
                         const std::array<Index, Rank>& states, const View<K, Rank>& kept,
                         Tensor<K, 1>& leaving, const Run& run) {
  if (kept || !chain.is_first()) initial_state = View<const K, Rank>(kept.data(), states);
  leaving.resize({size_of(states)});
  const View<K, Rank> passing(leaving.data(), states);  // both gradients, one after the other
  if (chain.is_packed()) leaving.fill(K(0));
  if (dfinal && (chain.is_last() || chain.is_packed())) copy_elements<K, Rank>(dfinal, passing);
  if (!chain.is_last()) chain.receive_from_after(chain.exit(passing));
  if (!chain.is_last() || dfinal) dfinal = passing;
  if (chain.is_first() && !dinitial) return run(initial_state, dfinal, View<K, Rank>());
  run(initial_state, dfinal, passing);
  if (!chain.is_first()) chain.send_to_before(chain.entry(passing));
  if (dinitial) copy_elements<K, Rank>(passing, dinitial);
}

/// Channels of a scan cut into blocks that are handed on one by one: runs of channels that fill
/// vectors, or whole groups where these have coefficients of their own.
class ScanBlocks {
 public:
  /// @param whole whether nothing is handed on by blocks, so that one holds all
  ScanBlocks(const Ranks& backend, Index channels, Index groups = 1, bool whole = false) noexcept
      : unit_(groups > 1 ? channels / groups : vector), channels_(channels) {
    const Index units = (channels + unit_ - 1) / unit_;
    const Index ranks = backend.time->size();
    Index wanted =
        backend.blocks > 0 ? backend.blocks : chain_blocks(ranks, backend.layers, channels);
    if (whole || ranks == 1) wanted = 1;
    count_ = std::clamp<Index>(wanted, 1, (std::max<Index>)(units, 1));
  }

  [[nodiscard]] Index count() const noexcept { return count_; }
  /// The channels of block i.
  [[nodiscard]] Share channels(Index i) const noexcept {
    const Index begin = edge(i);
    return {begin, edge(i + 1) - begin};
  }
  /// The groups of block i, where they are the units.
  [[nodiscard]] Share groups(Index i) const noexcept {
    const Share own = channels(i);
    return {own.begin / unit_, own.count / unit_};
  }

  /// Makes a scratch for each block, of those in `blocks`.
  template <class Scratch>
  void make_room(std::vector<Scratch>& blocks) const {
    if (static_cast<Index>(blocks.size()) < count_) blocks.resize(static_cast<std::size_t>(count_));
  }
  /// Throws unless make_room has been there.
  template <class Scratch>
  void check_room(std::string_view function, const std::vector<Scratch>& blocks) const {
    if (static_cast<Index>(blocks.size()) < count_)
      throw_shape(function, "scratch", "of a call with other blocks",
                  "one that the forward pass filled over these ranks");
  }

 private:
  static constexpr Index vector = 16;  // floats in the widest

  [[nodiscard]] Index edge(Index i) const noexcept {
    const Index units = (channels_ + unit_ - 1) / unit_;
    return (std::min)(channels_, units * i / count_ * unit_);
  }

  Index unit_, channels_, count_ = 1;
};

/// The part of a view, where it is given, in dimension `dimension`.
template <class AnyView>
[[nodiscard]] AnyView part_of(const AnyView& view, std::size_t dimension,
                              const Share& part) noexcept {
  return view ? view.slice(dimension, part.begin, part.count) : view;
}

/// The forward pass of a scan, a block of channels after the other: `run(i, own, initial, final)`
/// is the local call of block i, of the channels `own`, with the states as hand_states_on gives
/// them.
/// @param states the extents of all states; dimension 1 is that of channels
template <class K, std::size_t Rank, class Run>
void hand_blocks_on(const Chain& chain, const ScanBlocks& blocks,
                    const View<const K, Rank>& initial_state, const View<K, Rank>& final_state,
                    std::array<Index, Rank> states, PassedStates<K>& passed, const Run& run) {
  make_room(chain, initial_state, final_state, size_of(states), passed);
  const Index of_channel = states[1] > 0 ? size_of(states) / states[1] : 0;
  for (Index i = 0; i < blocks.count(); ++i) {
    const Share own = blocks.channels(i);
    states[1] = own.count;
    hand_states_on<K, Rank>(chain, part_of(initial_state, 1, own), part_of(final_state, 1, own),
                            states, part_of(passed, of_channel * own.begin, states), passed.leaving,
                            [&](const View<const K, Rank>& initial, const View<K, Rank>& after) {
                              run(i, own, initial, after);
                            });
  }
}

/// The backward pass: `run(i, own, initial, dfinal, dinitial)` is the local call of block i, with
/// the states as hand_gradients_back gives them.
/// @param finish finish(i) is the work of block i that no other rank waits for
/// @param passed what the forward pass left there. @throws ShapeError where it is of another call
template <class K, std::size_t Rank, class Run, class Finish>
void hand_blocks_back(std::string_view function, const Chain& chain, const ScanBlocks& blocks,
                      const View<const K, Rank>& initial_state, const View<const K, Rank>& dfinal,
                      const View<K, Rank>& dinitial, std::array<Index, Rank> states,
                      PassedStates<K>& passed, const Run& run, const Finish& finish) {
  check_room(function, chain, size_of(states), passed);
  const Index of_channel = states[1] > 0 ? size_of(states) / states[1] : 0;
  for (Index i = 0; i < blocks.count(); ++i) {
    const Share own = blocks.channels(i);
    states[1] = own.count;
    hand_gradients_back<K, Rank>(
        chain, part_of(initial_state, 1, own), part_of(dfinal, 1, own), part_of(dinitial, 1, own),
        states, part_of(passed, of_channel * own.begin, states), passed.leaving,
        [&](const View<const K, Rank>& initial, const View<const K, Rank>& slope,
            const View<K, Rank>& before) { run(i, own, initial, slope, before); });
    finish(i);
  }
}

/// The forward pass of a scan, not of packed sequences, where all states before a rank's steps are
/// known at once:
/// `pass(before)` writes them where this rank is not the first, and `run(initial, final)` is the
/// local call.
template <class K, std::size_t Rank, class Pass, class Run>
void run_on(const Chain& chain, View<const K, Rank> initial_state, const View<K, Rank>& final_state,
            const std::array<Index, Rank>& states, PassedStates<K>& passed, const Pass& pass,
            const Run& run) {
  make_room(chain, initial_state, final_state, size_of(states), passed);
  const View<K, Rank> kept = part_of(passed, 0, states);
  pass(kept);
  if (chain.is_first() && kept) copy_elements<K, Rank>(initial_state, kept);
  if (kept || !chain.is_first()) initial_state = View<const K, Rank>(kept.data(), states);
  run(initial_state, final_state);
}

/// The backward pass: `pass(after)` writes the gradients by the states after this rank's steps
/// where it is not the last, and `run(initial, dfinal)` is the local call.
template <class K, std::size_t Rank, class Pass, class Run>
void run_back(std::string_view function, const Chain& chain, View<const K, Rank> initial_state,
              View<const K, Rank> dfinal, const std::array<Index, Rank>& states,
              PassedStates<K>& passed, const Pass& pass, const Run& run) {
  check_room(function, chain, size_of(states), passed);
  const View<K, Rank> kept = part_of(passed, 0, states);
  if (kept || !chain.is_first()) initial_state = View<const K, Rank>(kept.data(), states);
  passed.leaving.resize({chain.is_last() ? 0 : size_of(states)});
  const View<K, Rank> after(passed.leaving.data(), states);
  pass(after);
  if (!chain.is_last()) dfinal = after;
  run(initial_state, dfinal);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
