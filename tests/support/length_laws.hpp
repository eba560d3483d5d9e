#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "ssm/layers/layer.hpp"
#include "support/any_layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_runs.hpp"
#include "support/random.hpp"

/// What every layer that takes packed sequences promises of sequences of different lengths:
///
///     test::check_lengths(draw<double>({.width = 3, .state = 8}), {.rounding = 40});
namespace ssm::test {

/// Lengths of sequences that lie end to end, 0 and 1 among them wherever chance puts them.
inline std::vector<Index> draw_lengths(Random& random, Index count, Index longest) {
  std::vector<Index> lengths(static_cast<std::size_t>(count));
  for (Index& length : lengths) {
    const Index kind = random.integer(0, 4);
    length = kind < 2 ? kind : random.integer(2, longest);
  }
  return lengths;
}

inline Tensor<Index, 1> offsets_after(const std::vector<Index>& lengths) {
  Tensor<Index, 1> offsets({static_cast<Index>(lengths.size()) + 1});
  for (std::size_t s = 0; s < lengths.size(); ++s)
    offsets(static_cast<Index>(s) + 1) = offsets(static_cast<Index>(s)) + lengths[s];
  return offsets;
}

/// Sequences of these lengths in one call.
template <class L>
struct PackedCall {
  Tensor<Index, 1> offsets;
  Given<L> given;

  PackedCall(const L& layer, const std::vector<Index>& lengths, std::uint64_t seed,
             const LayerLaws& laws)
      : offsets(offsets_after(lengths)),
        given(draw_given(layer, 1, offsets(count()), count(), seed, laws)) {}

  [[nodiscard]] Index count() const { return offsets.extent(0) - 1; }
  [[nodiscard]] Index length(Index s) const { return offsets(s + 1) - offsets(s); }
  template <class T>
  [[nodiscard]] Tensor<T, 3> steps(const Tensor<T, 3>& x, Index s) const {
    return detail::cut(x, 1, offsets(s), length(s));
  }
  /// What sequence s is given when it is alone.
  [[nodiscard]] Given<L> alone(Index s, const LayerLaws& laws) const {
    if (!laws.states) return {steps(given.u, s), steps(given.dy, s), given.before, given.dafter};
    return {steps(given.u, s), steps(given.dy, s), detail::cut_state(given.before, s),
            detail::cut_state(given.dafter, s)};
  }
  /// The part of a packed pass that belongs to sequence s, all but the gradients of weights.
  [[nodiscard]] Results part(const Passed<L>& passed, Index s, const LayerLaws& laws) const {
    Results results;
    add_result(results, "output", steps(passed.y, s));
    add_result(results, "the gradient of input", steps(passed.du, s));
    if (!laws.states) return results;
    detail::add_state(results, "state", detail::cut_state(passed.after, s));
    detail::add_state(results, "the gradient of state", detail::cut_state(passed.dbefore, s));
    return results;
  }
  [[nodiscard]] OptionsOf<L> options(bool reversed) const {
    OptionsOf<L> options;
    options.sequences = {offsets, reversed};
    return options;
  }
};

/// Results of a pass, all but the gradients of weights.
template <class L>
Results results_without_weights(const Passed<L>& passed, const LayerLaws& laws) {
  Results results;
  add_result(results, "output", passed.y);
  add_result(results, "the gradient of input", passed.du);
  if (!laws.states) return results;
  detail::add_state(results, "state", passed.after);
  detail::add_state(results, "the gradient of state", passed.dbefore);
  return results;
}

/// Sequences of random lengths in one call give what each gives alone, and the sum of the gradients
/// of the weights, whatever ran in the scratch before; the same bits for every number of threads.
template <SequenceLayer L>
void check_random_lengths(const L& layer, const LayerLaws& laws) {
  Random random(7000);
  ScratchOf<L> used;
  std::vector<std::vector<Index>> batches{{0}, {1}, {0, 0, 0}, {1, 1, 1}, {}};
  for (const Index longest : {laws.length, Index(70)})
    for (const Index count : {1, 2, 5, 9}) batches.push_back(draw_lengths(random, count, longest));
  std::uint64_t seed = 7100;
  for (const auto& lengths : batches)
    for (const bool reversed : {false, true}) {
      if (reversed && !laws.reverses) continue;
      std::string text;
      for (const Index length : lengths) text += " " + std::to_string(length);
      INFO("sequences of length" << text << ", reversed " << reversed);
      const PackedCall<L> call(layer, lengths, seed += 50, laws);
      const auto options = call.options(reversed);
      const auto all = run(layer, call.given, laws, options);
      CHECK(
          detail::same_bits(results_of(all), results_of(run(layer, call.given, laws, options, 3))));
      Passed<L> again = all;
      const auto maybe = [&](StateOf<L>& state) {
        return laws.states ? Maybe<StateOf<L>>(state) : Maybe<StateOf<L>>();
      };
      again.after = call.given.before;
      again.dbefore = call.given.dafter;
      again.y = run_forward(layer, call.given.u, maybe(again.after), options, used);
      backward(cpu(1), layer, InputOf<L>(call.given.u), maybe(again.dbefore),
               InputOf<L>(call.given.dy), OutputOf<L>(again.du), again.gradients, options, used);
      CHECK(detail::same_bits(results_of(all), results_of(again)));

      Results sum, gradients;
      const double bound = rounding_bound<L>(laws, std::max<Index>(70, laws.length));
      OptionsOf<L> alone;
      alone.sequences.reversed = reversed;
      for (Index s = 0; s < call.count(); ++s) {
        INFO("sequence " << s);
        const auto want = run(layer, call.alone(s, laws), laws, alone);
        check_agree(call.part(all, s, laws), results_without_weights(want, laws), bound);
        Results terms;
        add_results(terms, want.gradients);
        detail::add_to(sum, terms);
      }
      add_results(gradients, all.gradients);
      if (call.count() > 0) {
        check_agree(gradients, sum, bound);
      } else {
        for (const auto& [name, gradient] : gradients) {
          INFO(name);
          for (const auto& x : gradient) CHECK(x == 0.0);
        }
      }
    }
}

/// A sequence that is not a number spoils none that lies beside it: their bits stay.
template <SequenceLayer L>
void check_nan_among_lengths(const L& layer, const LayerLaws& laws) {
  const std::vector<Index> lengths{3, 1, 0, 12, 1, 40, 2};
  for (const bool reversed : {false, true}) {
    if (reversed && !laws.reverses) continue;
    for (const Index bad : {1, 3, 5}) {
      INFO("not a number in sequence " << bad << ", reversed " << reversed);
      PackedCall<L> call(layer, lengths, 7900, laws);
      const auto options = call.options(reversed);
      const auto want = run(layer, call.given, laws, options);
      call.given.u(0, call.offsets(bad) + call.length(bad) / 2, 0) =
          std::numeric_limits<typename L::value_type>::quiet_NaN();
      const auto got = run(layer, call.given, laws, options);
      for (Index s = 0; s < call.count(); ++s) {
        INFO("sequence " << s);
        const bool same = detail::same_bits(call.part(got, s, laws), call.part(want, s, laws));
        CHECK(same == (s != bad));
      }
    }
  }
}

/// All of these.
template <SequenceLayer L>
void check_lengths(const L& its, const LayerLaws& laws = {}) {
  const auto layer = any(its);
  check_random_lengths(layer, laws);
  check_nan_among_lengths(layer, laws);
}

}  // namespace ssm::test
