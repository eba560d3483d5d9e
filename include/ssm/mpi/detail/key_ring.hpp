#pragma once

#include <algorithm>
#include <cstddef>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/causal_attention_types.hpp"
#include "ssm/layers/detail/attention_keys.hpp"
#include "ssm/layers/detail/positions.hpp"
#include "ssm/mpi/communicator.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/detail/timeline.hpp"

/// The ways of keys and values over ranks.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Keys and values of some steps, or their gradients, in the order of time, with all sequences of a
/// step together, so that the last steps of a piece are one message each.
template <class T>
struct KeyRows {
  T *k, *v;
  Index steps, batch, groups, head_size;

  /// As `shape`, of so many steps, in a memory that is made as large.
  KeyRows(Tensor<T, 1>& memory, Index count, const View<const T, 4>& shape)
      : steps(count), batch(shape.extent(0)), groups(shape.extent(2)), head_size(shape.extent(3)) {
    if (memory.size() < 2 * size()) memory.resize({2 * size()});
    k = memory.data();
    v = k + size();
  }

  [[nodiscard]] Index of_step() const noexcept { return batch * groups * head_size; }
  [[nodiscard]] Index size() const noexcept { return steps * of_step(); }
  [[nodiscard]] KeyRows last(Index count) const noexcept {
    KeyRows part = *this;
    part.steps = count;
    part.k += (steps - count) * of_step();
    part.v += (steps - count) * of_step();
    return part;
  }
  /// k or v as (batch, steps, groups, head_size).
  [[nodiscard]] View<T, 4> view(T* data) const noexcept {
    return {data, {batch, steps, groups, head_size}, {groups * head_size, of_step(), head_size, 1}};
  }

  void send(Communicator& comm, int rank) const {
    comm.send(rank, k, size());
    comm.send(rank, v, size());
  }
  void receive(Communicator& comm, int rank) const {
    comm.receive(rank, k, size());
    comm.receive(rank, v, size());
  }
};

/// to ← 0, element by element.
template <class T, std::size_t Rank>
void zero_elements(const View<T, Rank>& to) noexcept {
  for (Index i = 0; i < to.extent(0); ++i) {
    if constexpr (Rank == 1)
      to(i) = T(0);
    else
      zero_elements<T, Rank - 1>(to[i]);
  }
}

/// to += from, element by element; both have the same extents.
template <class T, std::size_t Rank>
void add_elements(const View<const T, Rank>& from, const View<T, Rank>& to) noexcept {
  if constexpr (Rank == 1) {
    for (Index i = 0; i < from.extent(0); ++i) to(i) += from(i);
  } else {
    for (Index i = 0; i < from.extent(0); ++i) add_elements<T, Rank - 1>(from[i], to[i]);
  }
}

/// Calls body(s, i, slot) for the `count` steps of each sequence from step `first` of the pass on
/// (negative: before it) that a cache of so many slots holds when `now` steps have passed.
template <class Body>
void for_slots(const Timeline& time, Index first, Index count, Index now, Index slots,
               const Body& body) {
  for (Index s = 0; s < time.past().extent(0); ++s) {
    const Index past = time.past()(s);
    const Index oldest = (std::max<Index>)(past + now - slots, 0);
    for (Index p = (std::max)(past + first, oldest); p < past + first + count; ++p)
      body(s, p - past - first, p % slots);
  }
}

/// How many steps before its first one a place sees: all without a window.
[[nodiscard]] inline Index reach_of(Index window) noexcept {
  return window > 0 ? (std::min)(window, 2 * most_positions) - 1 : 2 * most_positions;
}

/// The way of keys and values over ranks in one pass. Piece p + 1 is the steps of place p, piece 0
/// those of the cache before the first step. A piece goes from place to place in the order of time,
/// as far as it is seen, and of it so many last steps as the next place sees.
template <class T>
class KeyRing {
 public:
  /// @param inputs with the cache where time begins, without one elsewhere
  /// @param reach how many steps before its own first one a place sees
  KeyRing(const Timeline& time, Index reach, const CausalAttentionInputs<T>& inputs,
          PassedStates<T>& passed)
      : time_(time), reach_(reach), in_(inputs), passed_(passed) {
    for (Index s = 0; s < time.past().extent(0); ++s)
      cached_ = (std::max)(cached_, (std::min)(time.past()(s), time.slots_before()));
  }

  [[nodiscard]] static int owner(int piece) noexcept { return (std::max)(piece - 1, 0); }
  /// How many last steps of a piece a place after its owner sees.
  [[nodiscard]] Index seen(int piece, int place) const noexcept {
    if (place >= time_.count()) return 0;
    const Index begin = piece > 0 ? time_.begin(piece - 1) : -cached_;
    return (std::max<Index>)(time_.begin(piece) - (std::max)(begin, time_.begin(place) - reach_),
                             0);
  }
  /// The last place that sees a piece, of which others see something.
  [[nodiscard]] int last_place(int piece) const noexcept {
    int place = owner(piece) + 1;
    while (seen(piece, place + 1) > 0) ++place;
    return place;
  }

  /// Sends what the next place sees of this rank's steps, and of the cache where time begins.
  void send_own() const {
    const int next = time_.place() + 1;
    if (const Index n = seen(next, next); n > 0) {
      const KeyRows<T> rows(passed_.leaving, n, in_.k);
      const auto copy = [&](const View<const T, 4>& from, T* to) {
        copy_elements<T, 4>(in_time(from, in_.sequences).slice(1, from.extent(1) - n, n),
                            rows.view(to));
      };
      copy(in_.k, rows.k);
      copy(in_.v, rows.v);
      rows.send(time_.comm(), time_.rank(next));
    }
    if (const Index n = seen(0, next); time_.is_first() && n > 0) {
      const KeyRows<T> rows(passed_.leaving, n, in_.k);
      std::fill_n(rows.k, 2 * rows.size(), T(0));  // where other sequences had more steps
      for_slots(time_, -n, n, 0, in_.cache.k.extent(1), [&](Index s, Index i, Index slot) {
        copy_elements<T, 2>(in_.cache.k[s][slot], rows.view(rows.k)[s][i]);
        copy_elements<T, 2>(in_.cache.v[s][slot], rows.view(rows.v)[s][i]);
      });
      rows.send(time_.comm(), time_.rank(next));
    }
  }

  /// Calls body(piece, keys) for each piece that comes by, the latest first. It is on its way to
  /// the next place before.
  template <class Body>
  void for_pieces(const Body& body) const {
    const int place = time_.place();
    for (int piece = place; place > 0 && piece >= 0; --piece) {
      const Index n = seen(piece, place), further = seen(piece, place + 1);
      if (n == 0) continue;
      const KeyRows<T> rows(passed_.arrived, n, in_.k);
      rows.receive(time_.comm(), time_.rank(place - 1));
      if (further > 0) rows.last(further).send(time_.comm(), time_.rank(place + 1));
      EarlierKeys<T> keys;
      keys.k = rows.view(rows.k);
      keys.v = rows.view(rows.v);
      keys.gap = time_.begin(place) - time_.begin(piece);
      if (piece == 0) keys.most = time_.past();
      body(piece, keys);
    }
  }

 private:
  const Timeline& time_;
  Index reach_, cached_ = 0;
  const CausalAttentionInputs<T>& in_;
  PassedStates<T>& passed_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
