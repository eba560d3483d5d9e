#pragma once

#include <algorithm>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"

/// @file
/// What is whose, where several processes share a batch: asked of any backend, by code that runs on
/// one cpu and over ranks alike. One cpu has all of it; see ssm/mpi/ranks.hpp for a backend that
/// has not.

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// A range of steps, or of anything else that is shared.
struct Share {
  Index begin;  ///< the first
  Index count;  ///< how many
  friend bool operator==(const Share&, const Share&) = default;
};

/// What one of `parts` gets of `total`, in order, so that the counts differ by at most one, and the
/// first have more.
[[nodiscard]] constexpr Share share_of(Index total, int part, int parts) noexcept {
  const Index begin = total / parts * part + (std::min)(total % parts, Index{part});
  return {begin, total / parts + (part < total % parts ? 1 : 0)};
}

/// The cpu on which a backend does what is not shared, such as an optimizer's step.
[[nodiscard]] constexpr const Cpu& local_cpu(const Cpu& backend) noexcept { return backend; }
/// Across how many processes time lies.
[[nodiscard]] constexpr int time_ranks(const Cpu&) noexcept { return 1; }
/// The steps of a sequence of so many that are computed here.
[[nodiscard]] constexpr Share piece_of(const Cpu&, Index length) noexcept { return {0, length}; }
/// The sequences of a batch of so many that are computed here.
[[nodiscard]] constexpr Share sequences_of(const Cpu&, Index batch) noexcept { return {0, batch}; }

/// Gives every process of the same sequences the state after their last step: of one, which has it.
template <class State>
void pass_on(const Cpu&, State&, bool = false) noexcept {}
/// Gives every process the states of all sequences: of one, which has them.
template <class State>
void gather_states(const Cpu&, State&, State&) noexcept {}
/// Makes the gradients of what is computed here those of the whole: on one cpu they are.
template <class Model>
void sum_over_ranks(const Cpu&, Model&) noexcept {}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
