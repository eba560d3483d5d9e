#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"

/// How a backward pass walks through pieces of which only states were kept.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// A sequence cut into pieces of `length` steps, in the order of time. The first may be shorter:
/// the last is the first of which a layer keeps anything, and so makes room for all.
struct CutSequence {
  Index steps, length;
  bool reversed = false;
  Index least = 1;  ///< pieces, the first of them empty where there are no steps for it

  [[nodiscard]] Index count() const noexcept {
    return (std::max)(least, steps / length + (steps % length > 0 ? 1 : 0));
  }
  [[nodiscard]] Index size(Index piece) const noexcept {
    return piece > 0 ? length : steps - (count() - 1) * length;
  }
  /// Where it begins in memory.
  [[nodiscard]] Index begin(Index piece) const noexcept {
    const Index later = (count() - 1 - piece) * length;
    return reversed ? later : steps - later - size(piece);
  }
  /// The part of a view whose dimension 1 is time.
  template <class AnyView>
  [[nodiscard]] AnyView of(const AnyView& view, Index piece) const noexcept {
    return view.slice(1, begin(piece), size(piece));
  }
};

/// How states are kept: `groups` on each of `levels`.
struct Nesting {
  Index groups = 1, levels = 1;
};

/// The fewest levels, each of which costs a forward pass, with which about `states` states suffice
/// for this many pieces.
[[nodiscard]] inline Nesting nesting_of(Index pieces, Index states) noexcept {
  for (Index levels = 1;; ++levels) {
    const Index groups = (std::max)(Index{2}, states / levels);
    Index reach = 1;
    for (Index level = 0; level < levels && reach < pieces; ++level)
      reach = reach > pieces / groups ? pieces : reach * groups;
    if (reach >= pieces) return {groups, levels};
  }
}

/// Pieces in groups of nearly the same size.
struct Grouped {
  Index first, count, groups;

  [[nodiscard]] Index begin(Index group) const noexcept {
    return first + group * (count / groups) + (std::min)(group, count % groups);
  }
};

/// The states before groups of pieces, before the groups within the group at work, and so on.
template <class State>
struct KeptStates {
  Nesting nesting;
  std::vector<std::vector<State>> levels;

  void plan(Index pieces, Index most) {
    nesting = nesting_of(pieces, most);
    levels.resize(static_cast<std::size_t>(nesting.levels));
  }
  [[nodiscard]] Grouped grouped(Index first, Index count) const noexcept {
    return {first, count, (std::min)(count, nesting.groups)};
  }

  /// Runs pieces [first, first + count), all but those of the last group, from the state `before`
  /// by advance(piece, state), and keeps the state before each group. It returns the last of them.
  template <class Advance>
  const State& run_to_last_group(Index first, Index count, std::size_t level, const State& before,
                                 const Advance& advance) {
    const Grouped pieces = grouped(first, count);
    std::vector<State>& kept = levels[level];
    kept.resize(static_cast<std::size_t>(pieces.groups));
    kept[0] = before;
    for (std::size_t g = 1; g < kept.size(); ++g) {
      kept[g] = kept[g - 1];
      const auto group = static_cast<Index>(g);
      for (Index i = pieces.begin(group - 1); i < pieces.begin(group); ++i) advance(i, kept[g]);
    }
    return kept.back();
  }

  /// Calls back(piece, before) for each of those pieces, from the last to the first, with the state
  /// before it; run_to_last_group has kept the states on this level.
  template <class Advance, class Back>
  void back_through_groups(Index first, Index count, std::size_t level, const Advance& advance,
                           const Back& back) {
    const Grouped pieces = grouped(first, count);
    for (Index g = pieces.groups; g-- > 0;)
      back_through(pieces.begin(g), pieces.begin(g + 1) - pieces.begin(g), level + 1,
                   levels[level][static_cast<std::size_t>(g)], advance, back);
  }

  /// The same for pieces of which only the state before the first is known.
  template <class Advance, class Back>
  void back_through(Index first, Index count, std::size_t level, const State& before,
                    const Advance& advance, const Back& back) {
    if (count == 1) return back(first, before);
    run_to_last_group(first, count, level, before, advance);
    back_through_groups(first, count, level, advance, back);
  }
};

/// Throws DomainError for numbers that are none of a cut.
inline void check_cut(std::string_view function, Index length, Index states) {
  if (length < 1)
    throw_domain(function, "pieces.length", std::to_string(length), "at least 1 step");
  if (states < 2) throw_domain(function, "pieces.states", std::to_string(states), "at least 2");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
