#pragma once

#include <array>
#include <cstddef>
#include <string_view>

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
  Chain(const Ranks& backend, bool reversed) noexcept
      : comm_(*backend.time),
        before_(comm_.rank() - (reversed ? -1 : 1)),
        after_(comm_.rank() + (reversed ? -1 : 1)) {}

  /// Whether time begins on this rank, or ends.
  [[nodiscard]] bool is_first() const noexcept { return !has(before_); }
  [[nodiscard]] bool is_last() const noexcept { return !has(after_); }

  template <class K>
  void receive_from_before(Tensor<K, 1>& to, Index count) const {
    to.resize({count});
    comm_.receive(before_, to.data(), count);
  }
  template <class K>
  void receive_from_after(Tensor<K, 1>& to, Index count) const {
    to.resize({count});
    comm_.receive(after_, to.data(), count);
  }
  template <class K>
  void send_to_before(const Tensor<K, 1>& from) const {
    comm_.send(before_, from.data(), from.size());
  }
  template <class K>
  void send_to_after(const Tensor<K, 1>& from) const {
    comm_.send(after_, from.data(), from.size());
  }

 private:
  [[nodiscard]] bool has(int rank) const noexcept { return rank >= 0 && rank < comm_.size(); }

  Communicator& comm_;
  int before_, after_;
};

inline void refuse_packed(std::string_view function, const Sequences<Host>& sequences) {
  if (sequences.offsets)
    throw_domain(function, "offsets", "given", "none, as packed sequences do not lie across ranks");
}

template <std::size_t Rank>
[[nodiscard]] Index size_of(const std::array<Index, Rank>& extents) noexcept {
  Index size = 1;
  for (const Index extent : extents) size *= extent;
  return size;
}

/// Calls body(indices...) for every element of extents of rank 1 to 3.
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
/// @param x (batch, length, channels), in the order of time
/// @param beyond what stands beyond the end of time, (batch, channels); absent: zero
/// @return what stands beyond this rank's piece, in the memory of `passed.arrived`, or `beyond`
template <class K>
View<const K, 2> exchange_steps(const Chain& chain, bool forward, const View<const K, 3>& x,
                                const View<const K, 2>& beyond, PassedStates<K>& passed) {
  const Index batch = x.extent(0), length = x.extent(1), channels = x.extent(2);
  const std::array<Index, 2> rows{batch, channels};
  const bool receives = forward ? !chain.is_first() : !chain.is_last();
  const bool sends = forward ? !chain.is_last() : !chain.is_first();
  const auto send = [&](const View<const K, 2>& step) {
    passed.leaving.resize({batch * channels});
    passed.leaving.fill(K(0));
    if (step) copy_elements<K, 2>(step, {passed.leaving.data(), rows});
    forward ? chain.send_to_after(passed.leaving) : chain.send_to_before(passed.leaving);
  };
  if (sends && length > 0) {  // before it waits
    const Index edge = forward ? length - 1 : 0;
    send({x.data() + edge * x.stride(1), rows, {x.stride(0), x.stride(2)}});
  }
  View<const K, 2> arrived = beyond;
  if (receives) {
    if (forward)
      chain.receive_from_before(passed.arrived, batch * channels);
    else
      chain.receive_from_after(passed.arrived, batch * channels);
    arrived = {passed.arrived.data(), rows};
  }
  if (sends && length == 0) send(arrived);
  return arrived;
}

/// The forward pass of an operation that takes and gives a state: `run(in, final)` is the local
/// call, with the initial state in its inputs and the view for its final state, absent where
/// nobody wants it.
///
/// What the rank before hands on is kept in `passed.arrived` for backward; so is a copy of the
/// caller's initial state where the final one overwrites it. On the first rank it is empty else.
template <class Inputs, class K, std::size_t Rank, class Run>
void hand_states_on(const Chain& chain, Inputs in, const View<K, Rank>& final_state,
                    const std::array<Index, Rank>& states, PassedStates<K>& passed,
                    const Run& run) {
  const Index count = size_of(states);
  passed.arrived.resize({0});
  if (!chain.is_first()) {
    chain.receive_from_before(passed.arrived, count);
  } else if (overlap(final_state, in.initial_state)) {
    passed.arrived.resize({count});
    copy_elements<K, Rank>(in.initial_state, {passed.arrived.data(), states});
  }
  if (!chain.is_first() || passed.arrived.size() > 0)
    in.initial_state = View<const K, Rank>(passed.arrived.data(), states);
  if (chain.is_last() && !final_state) return run(in, View<K, Rank>());
  passed.leaving.resize({count});
  const View<K, Rank> leaving(passed.leaving.data(), states);
  run(in, leaving);
  if (!chain.is_last()) chain.send_to_after(passed.leaving);
  if (final_state) copy_elements<K, Rank>(leaving, final_state);
}

/// The initial state that hand_states_on gave to the local call.
template <class Inputs, class K, std::size_t Rank>
void restore_initial_state(std::string_view function, const Chain& chain, Inputs& in,
                           const std::array<Index, Rank>& states, const PassedStates<K>& passed) {
  const Index count = size_of(states);
  if (passed.arrived.size() != count && (!chain.is_first() || passed.arrived.size() > 0))
    throw_shape(function, "scratch", "of another call", "one that the forward pass filled");
  if (!chain.is_first() || passed.arrived.size() > 0)
    in.initial_state = View<const K, Rank>(passed.arrived.data(), states);
}

/// The backward pass: `run(dfinal, dinitial)` is the local call, with the gradient by its final
/// state, absent for zero, and the view for that by its initial state, absent where nobody wants
/// it.
template <class K, std::size_t Rank, class Run>
void hand_gradients_back(const Chain& chain, const View<const K, Rank>& final_state,
                         const View<K, Rank>& initial_state, const std::array<Index, Rank>& states,
                         PassedStates<K>& passed, const Run& run) {
  const Index count = size_of(states);
  View<const K, Rank> dfinal = final_state;
  if (!chain.is_last()) {
    chain.receive_from_after(passed.leaving, count);
    dfinal = View<const K, Rank>(passed.leaving.data(), states);
  }
  if (chain.is_first() && !initial_state) return run(dfinal, View<K, Rank>());
  passed.leaving.resize({count});
  if (chain.is_last() && dfinal) {  // the local call may read it after it has begun to write
    copy_elements<K, Rank>(dfinal, {passed.leaving.data(), states});
    dfinal = View<const K, Rank>(passed.leaving.data(), states);
  }
  const View<K, Rank> dinitial(passed.leaving.data(), states);
  run(dfinal, dinitial);
  if (!chain.is_first()) chain.send_to_before(passed.leaving);
  if (initial_state) copy_elements<K, Rank>(dinitial, initial_state);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
