#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/ranks.hpp"

/// Positions in time of steps that lie across ranks.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Where the pieces of all ranks lie. Ranks in the order of time are places, from 0. Every rank
/// makes it together: a number of pieces and of slots moves, and the positions before the first
/// step.
class Timeline {
 public:
  /// @param length of this rank's piece
  /// @param steps (sequences): the position of each sequence's first step, read where time begins;
  ///   absent for 0
  /// @param before, after slots of the caches before and after the pass; −1: there is none
  /// @throws DomainError for packed sequences; MpiError
  Timeline(std::string_view function, const Ranks& backend, const Sequences<Host>& sequences,
           Index batch, Index length, const View<const Index, 1>& steps, Index before = -1,
           Index after = -1)
      : comm_(*backend.time),
        reversed_(sequences.reversed),
        begin_(static_cast<std::size_t>(comm_.size()) + 1),
        after_(static_cast<std::size_t>(comm_.size())),
        past_({batch}) {
    refuse_packed(function, sequences);
    const std::array<Index, 4> own{length, steps ? 1 : 0, before, after};
    const std::vector<std::array<Index, 4>> all = comm_.of_all(own);
    for (int p = 0; p < count(); ++p) {
      const auto& [steps_there, given, slots, slots_after] = all[index(rank(p))];
      begin_[index(p) + 1] = begin_[index(p)] + steps_there;
      after_[index(p)] = slots_after;
      if (p > 0) continue;
      slots_before_ = slots;
      if (!given) continue;
      if (place() == 0) copy_elements<Index, 1>(steps, past_);
      comm_.broadcast(rank(0), past_.data(), batch);
    }
    positions_ = past_;
    for (Index& position : positions_) position += begin(place());
  }

  [[nodiscard]] Communicator& comm() const noexcept { return comm_; }
  [[nodiscard]] int count() const noexcept { return comm_.size(); }
  /// The place of this rank, and the rank of a place.
  [[nodiscard]] int place() const noexcept { return rank(comm_.rank()); }
  [[nodiscard]] int rank(int place) const noexcept {
    return reversed_ ? comm_.size() - 1 - place : place;
  }
  [[nodiscard]] bool is_first() const noexcept { return place() == 0; }

  /// How many steps the places before one have, and all have.
  [[nodiscard]] Index begin(int place) const noexcept { return begin_[index(place)]; }
  [[nodiscard]] Index length() const noexcept { return begin_.back(); }
  /// The position of the first step of each sequence, and of its first one on this rank.
  [[nodiscard]] View<const Index, 1> past() const noexcept { return past_; }
  [[nodiscard]] View<const Index, 1> positions() const noexcept { return positions_; }

  /// Slots of the cache before the first step, and of that after the last step of a place; −1:
  /// there is none.
  [[nodiscard]] Index slots_before() const noexcept { return slots_before_; }
  [[nodiscard]] Index slots_after(int place) const noexcept { return after_[index(place)]; }

 private:
  static std::size_t index(int i) noexcept { return static_cast<std::size_t>(i); }

  Communicator& comm_;
  bool reversed_;
  std::vector<Index> begin_, after_;
  Index slots_before_ = -1;
  Tensor<Index, 1> past_, positions_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
