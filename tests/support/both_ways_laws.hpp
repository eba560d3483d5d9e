#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "ssm/layers/layer.hpp"
#include "support/any_layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_runs.hpp"

/// What layers promise that run from both ends and have a state for each:
///
///     test::check_split_both_ways(draw<double>({.width = 3, .bidirectional = true}), {});
namespace ssm::test {

namespace detail {

/// Whether a tensor of a state is of the pass against time.
inline bool runs_back(std::string_view name) { return name.ends_with("_back"); }

/// to ← from, of one of the two directions.
template <class State>
void take_direction(bool back, const State& from, State& to) {
  State copy = from;
  tensors(copy, [&](std::string_view name, auto& tensor) {
    tensors(to, [&](std::string_view its, auto& other) {
      if constexpr (std::is_same_v<decltype(tensor), decltype(other)>)
        if (name == its && runs_back(name) == back) other = tensor;
    });
  });
}

}  // namespace detail

/// A sequence cut in two anywhere gives what it gives whole: the first piece runs for the state
/// that it hands to the second, the second for its results and what it hands back, and the first
/// again. Gradients go the same ways, from the second piece to the first and back.
template <SequenceLayer Its>
void check_split_both_ways(const Its& its, const LayerLaws& laws) {
  using T = typename Its::value_type;
  using L = AnyLayer<T>;
  const L layer = any(its);
  const Index length = laws.length;
  OptionsOf<L> options;
  options.rate = laws.rates ? 1.5 : 1;
  for (const bool reversed : {false, true}) {
    options.sequences.reversed = reversed;
    const auto given = draw_given(layer, length, 1400, laws);
    const auto whole = results_of(run(layer, given, laws, options));
    for (const Index at : {Index(0), Index(1), length / 3, length - 1, length}) {
      INFO("cut at " << at << " of " << length << ", reversed " << reversed);
      // Pieces 0 and 1 in the order of time, each with its place in memory.
      const Index later = length - at;
      const std::array<Index, 2> begin{reversed ? later : 0, reversed ? 0 : at};
      const std::array<Index, 2> count{at, later};
      std::array<Given<L>, 2> parts;
      for (std::size_t i = 0; i < 2; ++i)
        parts[i] = {detail::cut(given.u, 1, begin[i], count[i]),
                    detail::cut(given.dy, 1, begin[i], count[i]), given.before, given.dafter};
      std::array<Passed<L>, 2> passed;
      const auto go = [&](std::size_t i) { passed[i] = run(layer, parts[i], laws, options); };
      // Of the state in time, x of a later piece is what the earlier one left, and x_back the other
      // way round; of the gradients, the opposite.
      go(0);
      detail::take_direction(false, passed[0].after, parts[1].before);
      go(1);
      detail::take_direction(true, passed[1].after, parts[0].before);
      detail::take_direction(false, passed[1].dbefore, parts[0].dafter);
      go(0);
      detail::take_direction(true, passed[0].dbefore, parts[1].dafter);
      go(1);

      Passed<L> both = passed[0];
      both.y = both.du = detail::unwritten<T>(given.u.extents());
      for (std::size_t i = 0; i < 2; ++i)
        for (Index b = 0; b < given.u.extent(0); ++b)
          for (Index t = 0; t < count[i]; ++t)
            for (Index c = 0; c < given.u.extent(2); ++c) {
              both.y(b, begin[i] + t, c) = passed[i].y(b, t, c);
              both.du(b, begin[i] + t, c) = passed[i].du(b, t, c);
            }
      detail::take_direction(false, passed[1].after, both.after);
      detail::take_direction(true, passed[0].after, both.after);
      detail::take_direction(false, passed[0].dbefore, both.dbefore);
      detail::take_direction(true, passed[1].dbefore, both.dbefore);
      auto sum = results_of(both);
      Results second;
      add_results(second, passed[1].gradients);
      for (std::size_t i = 0; i < second.size(); ++i) {
        auto& to = sum[sum.size() - second.size() + i].second;
        for (Index k = 0; k < to.size(); ++k) to.data()[k] += second[i].second.data()[k];
      }
      check_agree(sum, whole, rounding_bound<L>(laws, length));
    }
  }
}

}  // namespace ssm::test
