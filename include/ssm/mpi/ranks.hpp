#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/states.hpp"
#include "ssm/mpi/communicator.hpp"
#include "ssm/mpi/handing.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Ranks as the places to compute: the first argument of an operation over host views whose time
/// lies across ranks. Rank r holds the r-th contiguous piece of the dimension of time of every
/// sequence, in memory as a sequence of its own; pieces may have any lengths, 0 among them, and
/// piece_of gives even ones. Every rank calls the same operations in the same order, on batches of
/// the same size. ssm/mpi.hpp has a first program.
///
///     const auto backend = ssm::ranks(world);  // and every layer and model as on one cpu:
///     forward(backend, model, tokens_of_this_rank, state, logits_of_this_rank, {}, scratch);
///
/// An operation over time hands states on: forward from a rank to the next, in backward passes
/// their gradients to the one before. What moves is one state a layer, whatever the length; with
/// many ranks, a selective scan sends log₂(ranks) of them, so that nobody waits for all ranks
/// before (ssm/mpi/handing.hpp). Of attention it is keys and values, in proportion to the length.
/// - `state` in forward, and initial_state in operations: the rank where time begins reads it, the
///   others take what the rank before them hands on. Afterwards it is the state after the last step
///   of each rank's own piece, on the rank where time ends that of the whole. pass_on gives it to
///   all ranks, for the next call or for a step.
/// - `dstate`, and gradients of final_state: the rank where time ends reads it. Afterwards it is
///   the gradient by the state before each rank's own piece.
/// - A loss is that of all ranks, and the same on each. Gradients of weights are those of the
///   rank's own piece: sum_over_ranks makes them those of the whole.
///
/// Results are those of one cpu to rounding. Scans whose states pass by the chain, recurrences
/// and causal convolutions give the same bits as on one cpu with the sequence cut at the same
/// places (linear_scan, and so S5, with `blocks` 1); everything gives the same bits again with as
/// many ranks and the same pieces, for any number of threads. What a sequence's whole length must
/// be known for is refused, such as long_conv.
///
/// Packed sequences lie end to end over all ranks. The offsets of a rank are those of its own
/// steps: its first sequence goes on with the one that the rank before ends with, and its last one
/// goes on in the first of the next. So where one ends between two ranks, the first sequence of the
/// later rank is empty; see offsets_of. States have a row for each sequence of the rank: of the one
/// that goes on it is the state where the rank begins, read where no rank is before it, and where
/// it ends. Attention, and means over time, take no packed sequences over ranks.
struct Ranks {
  using space = Host;  ///< where the memory is that this backend computes on

  Communicator* time;  ///< the ranks that time lies across, in its order; must outlive this
  Communicator* all;   ///< these, and those that have other sequences of the same batch
  Cpu local;           ///< with which each computes its piece
  Index blocks = 0;  ///< of channels, which a selective scan hands on one by one, so that the next
                     ///< rank begins when the first is done; 0: chain_blocks
  Handing handing = Handing::by_cost;  ///< of the states of selective scans
  Index layers = 1;    ///< scans of a pass, one after the other; a Stack says so itself
  Index steps = 4096;  ///< by_cost: of a rank's piece, roughly; the same on every rank
};

/// The backend of layers that run one after the other.
[[nodiscard]] inline Ranks for_layers(Ranks backend, Index count) noexcept {
  backend.layers *= count;
  return backend;
}

/// Time lies across the ranks of `comm`, each of which computes with `local`.
[[nodiscard]] inline Ranks ranks(Communicator& comm, const Cpu& local = cpu) noexcept {
  return {&comm, &comm, local};
}

/// Ranks in rows and columns: the sequences of a batch are shared between rows, and the time of a
/// row's sequences lies across its ranks, `time_ranks` neighbours.
class Grid {
 public:
  /// @throws DomainError unless `time_ranks` divides the number of ranks; MpiError
  Grid(Communicator& all, int time_ranks) : all_(&all), time_(make(all, time_ranks)) {}

  /// Every rank.
  [[nodiscard]] Communicator& all() noexcept { return *all_; }
  /// The ranks that hold the same sequences as this one.
  [[nodiscard]] Communicator& time() noexcept { return time_; }
  /// How many rows there are.
  [[nodiscard]] int rows() const noexcept { return all_->size() / time_.size(); }
  /// Which of them this rank is in.
  [[nodiscard]] int row() const noexcept { return all_->rank() / time_.size(); }

 private:
  static Communicator make(Communicator& all, int time_ranks) {
    if (time_ranks < 1 || all.size() % time_ranks != 0)
      detail::throw_domain("Grid", "time_ranks", std::to_string(time_ranks),
                           "a divisor of the number of ranks, " + std::to_string(all.size()));
    return all.split(all.rank() / time_ranks);
  }

  Communicator* all_;
  Communicator time_;
};

/// Sequences are shared between the rows of `grid`, their time lies across the ranks of a row. A
/// loss is the mean over all rows, and sum_over_ranks sums over all ranks.
[[nodiscard]] inline Ranks ranks(Grid& grid, const Cpu& local = cpu) noexcept {
  return {&grid.time(), &grid.all(), local};
}

/// A sequence does not lie in one piece; see ssm/core/backend.hpp.
template <>
inline constexpr bool holds_whole_time<Ranks> = false;

/// The cpu of this rank.
[[nodiscard]] inline const Cpu& local_cpu(const Ranks& backend) noexcept { return backend.local; }
/// Across how many ranks time lies.
[[nodiscard]] inline int time_ranks(const Ranks& backend) noexcept { return backend.time->size(); }
/// The steps of a sequence of so many that this rank holds where they are shared evenly. Operations
/// take any other pieces as well.
[[nodiscard]] inline Share piece_of(const Ranks& backend, Index length) noexcept {
  return share_of(length, backend.time->rank(), backend.time->size());
}
/// The sequences of a batch of so many that this rank holds where they are shared evenly between
/// the rows of a Grid.
[[nodiscard]] inline Share sequences_of(const Ranks& backend, Index batch) noexcept {
  const int row = backend.time->size();
  return share_of(batch, backend.all->rank() / row, backend.all->size() / row);
}

/// Gives every tensor of `state` the values that it has on the rank where time ends, on all ranks
/// of the same sequences: after a forward pass, the state after the last step of the whole, from
/// which the next call goes on and any rank may step. The x_back of a layer of two directions ends
/// on the other rank, and comes from there.
/// @param reversed whether time ran backward, and so ended on the first rank
/// @throws MpiError
template <class State>
void pass_on(const Ranks& backend, State& state, bool reversed = false) {
  if (backend.time->size() == 1) return;
  tensors(state, [&](std::string_view name, auto& tensor) {
    const int last = name.ends_with("x_back") != reversed ? 0 : backend.time->size() - 1;
    backend.time->broadcast(last, tensor.data(), tensor.size());
  });
}

/// Gives every rank the states that all sequences of a batch have where their time ends, as pass_on
/// does those of its own.
/// @param own of the sequences of this rank, those of sequences_of
/// @param all overwritten: of the whole batch; may be `own`, where that is the whole
/// @throws MpiError
template <class State>
void gather_states(const Ranks& backend, State& own, State& all) {
  const int row = backend.time->size(), rows = backend.all->size() / row;
  if (&own != &all) {
    Index batch = 0;
    tensors(all, [&](std::string_view, auto& tensor) { batch = tensor.extent(0); });
    const Share here = sequences_of(backend, batch);
    copy_sequences(own, 0, all, here.begin, here.count);
  }
  if (backend.all->size() == 1) return;
  tensors(all, [&](std::string_view name, auto& tensor) {
    const Index batch = tensor.extent(0), size = batch > 0 ? tensor.size() / batch : 0;
    const int last = name.ends_with("x_back") ? 0 : row - 1;
    for (int r = 0; r < rows; ++r) {
      const Share its = share_of(batch, r, rows);
      backend.all->broadcast(r * row + last, tensor.data() + its.begin * size, its.count * size);
    }
  });
}

///@{
/// The sum of a number over all ranks, and the largest, on every rank. @throws MpiError
[[nodiscard]] inline Index sum_over_ranks(const Ranks& backend, Index number) {
  return backend.all->sum_of_all(number);
}
[[nodiscard]] inline Index largest_over_ranks(const Ranks& backend, Index number) {
  return backend.all->largest_of_all(number);
}
///@}

/// Makes the gradients of each rank's own piece those of the whole, on every rank: the sum over all
/// ranks, of each number in the order of ranks, so that the bits are the same on every rank and
/// in every run with these pieces. The trainer calls it once after a backward pass.
///
/// Each rank sends and receives about twice the size of the gradients, and uses memory for at most
/// 4 · 2^20 numbers.
/// @throws MpiError
template <class Model>
void sum_over_ranks(const Ranks& backend, Model& gradients) {
  using T = typename Model::value_type;
  Communicator& all = *backend.all;
  const Index size = all.size();
  if (size == 1) return;
  constexpr Index most = Index{1} << 20;
  std::vector<T> mine, theirs;
  std::vector<std::array<T*, 2>> ranges;  // of the elements that `mine` holds copies of
  const auto sum = [&] {
    const Index count = (static_cast<Index>(mine.size()) + size - 1) / size;
    const auto room = static_cast<std::size_t>(count * size);
    mine.resize(room);
    theirs.resize(room);
    all.exchange(mine.data(), count, theirs.data());
    for (Index i = 0; i < count; ++i) {
      T total = theirs[static_cast<std::size_t>(i)];
      for (Index r = 1; r < size; ++r) total += theirs[static_cast<std::size_t>(r * count + i)];
      theirs[static_cast<std::size_t>(i)] = total;
    }
    all.gather(theirs.data(), count, mine.data());
    const T* from = mine.data();
    for (const auto& [begin, end] : ranges) {
      std::copy(from, from + (end - begin), begin);
      from += end - begin;
    }
    mine.clear();
    ranges.clear();
  };
  parameters(gradients, [&](std::string_view, auto& tensor, const auto&, bool) {
    for (Index begin = 0; begin < tensor.size();) {
      const Index held = static_cast<Index>(mine.size());
      const Index count = (std::min)(most - held, tensor.size() - begin);
      T* const at = tensor.data() + begin;
      mine.insert(mine.end(), at, at + count);
      ranges.push_back({at, at + count});
      begin += count;
      if (held + count == most) sum();
    }
  });
  if (!ranges.empty()) sum();
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
