#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <concepts>
#include <limits>
#include <string>
#include <utility>

#include "ssm/layers/layer.hpp"
#include "support/any_layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
#include "support/layer_refusals.hpp"
#include "support/layer_runs.hpp"

/// The laws that every SequenceLayer keeps, each a function of a layer with any weights:
///
///     test::check_layer_laws(draw<double>({.width = 3, .state = 8}), {.rounding = 40});
///     test::check_precision(draw<float>(config), S4d<double>(config), {});
///     test::check_step(test::any(draw<float>(config)), {});
///
/// It replaces operator new: one source file of a program includes it.
namespace ssm::test {

/// Step = forward, at any rate; a stepper follows weights that have changed; no step allocates.
template <SequenceLayer L>
void check_step(L layer, const LayerLaws& laws) {
  using T = typename L::value_type;
  for (const double rate : {1.0, 2.0}) {
    if (rate != 1 && !laws.rates) continue;
    INFO("step at rate " << rate);
    OptionsOf<L> options;
    options.rate = rate;
    const auto given = draw_given(layer, laws.length, 100, laws);
    StepperOf<L> stepper(layer, laws.batch, options);
    for (int pass = 0; pass < 2; ++pass) {
      StateOf<L> after = given.before, state = given.before;
      ScratchOf<L> scratch;
      Results want, got;
      add_result(want, "output",
                 run_forward(layer, given.u, Maybe<StateOf<L>>(after), options, scratch));
      detail::add_state(want, "state", after);
      Tensor<T, 3> y(given.u.extents());
      long allocations = 0;
      for (Index t = 0; t < laws.length; ++t) {
        const auto now = detail::at_step(given.u.view(), t);
        const auto out = detail::at_step(y.view(), t);
        allocations += allocations_of([&] { step(stepper, now, state, out); });
      }
      CHECK(allocations == 0);
      add_result(got, "output", y);
      detail::add_state(got, "state", state);
      check_agree(got, want, rounding_bound<L>(laws, laws.length));
      move_parameters(layer);
      stepper.update(layer);
    }
  }
}

/// A sequence cut anywhere and resumed, state and gradients carried over in place.
template <SequenceLayer L>
void check_split(const L& layer, const LayerLaws& laws) {
  const Index length = laws.length;
  const auto given = draw_given(layer, length, 200, laws);
  const auto whole = results_of(run(layer, given, laws));
  for (const Index at : {Index(0), Index(1), length / 2, length - 1, length}) {
    INFO("cut at " << at << " of " << length);
    std::array<Given<L>, 2> parts;
    std::array<Tensor<typename L::value_type, 3>, 2> y, du;
    std::array<ScratchOf<L>, 2> scratch;
    std::array<L, 2> gradients;
    StateOf<L> state = given.before, dstate = given.dafter;
    for (std::size_t i = 0; i < 2; ++i) {
      const Index begin = i == 0 ? 0 : at, count = i == 0 ? at : length - at;
      parts[i].u = detail::cut(given.u, 1, begin, count);
      parts[i].dy = detail::cut(given.dy, 1, begin, count);
      y[i] = run_forward(layer, parts[i].u, Maybe<StateOf<L>>(state), {}, scratch[i]);
    }
    for (std::size_t i = 2; i-- > 0;) {
      du[i].resize(parts[i].u.extents());
      backward(cpu(1), layer, InputOf<L>(parts[i].u), Maybe<StateOf<L>>(dstate),
               InputOf<L>(parts[i].dy), OutputOf<L>(du[i]), gradients[i], OptionsOf<L>{},
               scratch[i]);
    }
    Passed<L> both{detail::unwritten<typename L::value_type>(given.u.extents()),
                   detail::unwritten<typename L::value_type>(given.u.extents()), state, dstate,
                   gradients[0]};
    for (Index b = 0; b < given.u.extent(0); ++b)
      for (Index t = 0; t < length; ++t)
        for (Index c = 0; c < given.u.extent(2); ++c) {
          const std::size_t i = t < at ? 0 : 1;
          both.y(b, t, c) = y[i](b, i == 0 ? t : t - at, c);
          both.du(b, t, c) = du[i](b, i == 0 ? t : t - at, c);
        }
    auto sum = results_of(both);
    Results second;
    add_results(second, gradients[1]);
    for (std::size_t i = 0; i < second.size(); ++i) {
      auto& to = sum[sum.size() - second.size() + i].second;
      for (Index k = 0; k < to.size(); ++k) to.data()[k] += second[i].second.data()[k];
    }
    check_agree(sum, whole, rounding_bound<L>(laws, length));
  }
}

/// Packed sequences, among them an empty one and one of a single step, give what each gives by
/// itself, and the sum of the gradients of the weights.
template <SequenceLayer L>
void check_packed(const L& layer, const LayerLaws& laws) {
  const std::array<Index, 5> ends{0, 9, 9, 10, laws.length};
  Tensor<Index, 1> offsets({5});
  std::copy(ends.begin(), ends.end(), offsets.begin());
  for (const bool reversed : {false, true}) {
    if (reversed && !laws.reverses) continue;
    INFO("packed, reversed " << reversed);
    const auto given = draw_given(layer, 1, laws.length, 4, 300, laws);
    OptionsOf<L> options;
    options.sequences = {offsets, reversed};
    const auto all = run(layer, given, laws, options, 2);
    const double bound = rounding_bound<L>(laws, laws.length);
    Results sum, gradients;
    for (Index s = 0; s < 4; ++s) {
      INFO("sequence " << s);
      const Index begin = ends[static_cast<std::size_t>(s)];
      const Index count = ends[static_cast<std::size_t>(s + 1)] - begin;
      const auto take = [&](const auto& x) { return detail::cut(x, 1, begin, count); };
      const auto take_state = [&](const StateOf<L>& state) {
        return laws.states ? detail::cut_state(state, s) : state;
      };
      const Given<L> part{take(given.u), take(given.dy), take_state(given.before),
                          take_state(given.dafter)};
      OptionsOf<L> alone;
      alone.sequences.reversed = reversed;
      const auto want = run(layer, part, laws, alone);
      Results got, wanted, terms;
      add_result(got, "output", take(all.y));
      add_result(got, "the gradient of input", take(all.du));
      detail::add_state(got, "state", take_state(all.after));
      detail::add_state(got, "the gradient of state", take_state(all.dbefore));
      add_result(wanted, "output", want.y);
      add_result(wanted, "the gradient of input", want.du);
      detail::add_state(wanted, "state", want.after);
      detail::add_state(wanted, "the gradient of state", want.dbefore);
      check_agree(got, wanted, bound);
      add_results(terms, want.gradients);
      detail::add_to(sum, terms);
    }
    add_results(gradients, all.gradients);
    check_agree(gradients, sum, bound);
  }
}

/// A layer whose time runs backward is the layer of the mirrored input.
template <SequenceLayer L>
void check_reversal(const L& layer, const LayerLaws& laws) {
  for (const Index length : {Index(1), laws.length}) {
    INFO("mirrored, of length " << length);
    auto given = draw_given(layer, length, 400, laws);
    OptionsOf<L> options;
    options.sequences.reversed = true;
    auto got = run(layer, given, laws, options);
    got.y = detail::mirrored(got.y);
    got.du = detail::mirrored(got.du);
    given.u = detail::mirrored(given.u);
    given.dy = detail::mirrored(given.dy);
    check_agree(results_of(got), results_of(run(layer, given, laws)),
                rounding_bound<L>(laws, length));
  }
}

/// An output knows of no later input, and of its own.
template <SequenceLayer L>
void check_causality(const L& layer, const LayerLaws& laws) {
  auto given = draw_given(layer, laws.length, 500, laws);
  const auto before = run(layer, given, laws);
  for (const Index at : {Index(0), laws.length / 2, laws.length - 1}) {
    INFO("the input changes at step " << at);
    auto changed = given;
    for (Index c = 0; c < given.u.extent(2); ++c) changed.u(0, at, c) += 1;
    const auto after = run(layer, changed, laws);
    const double scale = 1 + relative_error(after.y, Tensor<double, 3>(after.y.extents()), 1);
    double early = 0, now = 0, others = 0;
    for (Index b = 0; b < given.u.extent(0); ++b)
      for (Index t = 0; t <= at; ++t)
        for (Index c = 0; c < given.u.extent(2); ++c) {
          double& largest = b > 0 ? others : t < at ? early : now;
          largest = std::max(largest,
                             static_cast<double>(std::abs(after.y(b, t, c) - before.y(b, t, c))));
        }
    CHECK(early <= rounding_bound<L>(laws, laws.length) * scale);
    CHECK(others == 0);
    CHECK(now > 1e-6);
  }
}

/// The gradients by every weight, the input and the initial state, with a gradient by the final
/// state, against finite differences in double.
template <SequenceLayer L>
requires std::same_as<typename L::value_type, double>
void check_gradients(L layer, const LayerLaws& laws) {
  Tensor<Index, 1> offsets({4});
  const std::array<Index, 4> ends{0, 2, 2, laws.fd_length};
  std::copy(ends.begin(), ends.end(), offsets.begin());
  enum class Time { plain, backward, packed };
  for (const Time time : {Time::plain, Time::backward, Time::packed}) {
    if ((time == Time::backward && !laws.reverses) || (time == Time::packed && !laws.packs))
      continue;
    for (const Index length : {Index(0), Index(1), laws.fd_length}) {
      if (time != Time::plain && length != laws.fd_length) continue;
      INFO("gradients of length " << length << ", time " << static_cast<int>(time));
      const bool packed = time == Time::packed;
      auto given =
          draw_given(layer, packed ? 1 : laws.batch, length, packed ? 3 : laws.batch, 600, laws);
      OptionsOf<L> options;
      options.rate = laws.rates && laws.rates_train ? 1.5 : 1;
      options.sequences.reversed = time == Time::backward;
      if (packed) options.sequences.offsets = offsets;
      auto passed = run(layer, given, laws, options, 2);
      ScratchOf<L> scratch;
      const auto loss = [&] {
        StateOf<L> state = given.before;
        const auto y = run_forward(layer, given.u,
                                   laws.states ? Maybe<StateOf<L>>(state) : Maybe<StateOf<L>>(),
                                   options, scratch);
        double sum = dot(y, given.dy);
        Results after, slopes;
        if (laws.states) {
          detail::add_state(after, "", state);
          detail::add_state(slopes, "", given.dafter);
        }
        for (std::size_t i = 0; i < after.size(); ++i)
          for (Index k = 0; k < after[i].second.size(); ++k)
            sum += (std::conj(slopes[i].second.data()[k]) * after[i].second.data()[k]).real();
        return sum;
      };
      CHECK(gradient_error(loss, given.u, passed.du) < laws.gradient);
      parameters(layer, [&](const auto& name, auto& tensor, const auto&, bool) {
        parameters(passed.gradients, [&](const auto& its, auto& gradient, const auto&, bool) {
          if constexpr (std::same_as<decltype(tensor), decltype(gradient)>)
            if (std::string(name) == std::string(its)) {
              INFO("by " << name);
              CHECK(gradient_error(loss, tensor, gradient) < laws.gradient);
            }
        });
      });
      if (!laws.states) continue;
      tensors(given.before, [&](const auto& name, auto& tensor) {
        using K = typename std::remove_cvref_t<decltype(tensor)>::value_type;
        tensors(passed.dbefore, [&](const auto& its, auto& gradient) {
          if constexpr (std::same_as<decltype(tensor), decltype(gradient)> &&
                        !std::is_integral_v<K>)
            if (std::string(name) == std::string(its)) {
              INFO("by state " << name);
              CHECK(gradient_error(loss, tensor, gradient) < laws.gradient);
            }
        });
      });
    }
  }
}

/// Without a gradient by the final state, and without any state, backward is that of zeros.
template <SequenceLayer L>
void check_absent_states(const L& layer, const LayerLaws& laws) {
  auto given = draw_given(layer, laws.length, 700, laws);
  given.before = make_state(layer, laws.batch);
  given.dafter = make_state(layer, laws.batch);
  const auto want = run(layer, given, laws);
  LayerLaws none = laws;
  none.states = false;
  const auto got = run(layer, given, none);
  const double bound = rounding_bound<L>(laws, laws.length);
  CHECK(relative_error(got.y, want.y, 1) <= bound);
  CHECK(relative_error(got.du, want.du, 1) <= bound);
  Results some, all;
  add_results(some, got.gradients);
  add_results(all, want.gradients);
  check_agree(some, all, bound);
}

/// The same bits for every number of threads.
template <SequenceLayer L>
void check_threads(const L& layer, const LayerLaws& laws) {
  const auto given = draw_given(layer, laws.long_length, 800, laws);
  const auto one = results_of(run(layer, given, laws));
  CHECK(detail::same_bits(one, results_of(run(layer, given, laws, {}, 3))));
}

/// A forward pass that keeps nothing gives the same bits, and so does a scratch that served a
/// larger call.
template <SequenceLayer L>
void check_scratch(const L& layer, const LayerLaws& laws) {
  const auto given = draw_given(layer, laws.length, 900, laws);
  const auto larger = draw_given(layer, laws.batch + 1, laws.length, laws.batch + 1, 910, laws);
  const auto want = run(layer, given, laws);
  const auto maybe = [&](StateOf<L>& state) {
    return laws.states ? Maybe<StateOf<L>>(state) : Maybe<StateOf<L>>();
  };
  ScratchOf<L> scratch;
  for (const bool keep : {true, false, true}) {
    INFO("keep " << keep);
    OptionsOf<L> options;
    options.keep = keep;
    StateOf<L> others = larger.before;
    run_forward(layer, larger.u, maybe(others), options, scratch);
    Passed<L> got{{},
                  detail::unwritten<typename L::value_type>(given.u.extents()),
                  given.before,
                  given.dafter,
                  want.gradients};  // to be overwritten
    got.y = run_forward(layer, given.u, maybe(got.after), options, scratch);
    CHECK(same_bits(got.y, want.y));
    Results state, wanted;
    detail::add_state(state, "state", got.after);
    detail::add_state(wanted, "state", want.after);
    CHECK(detail::same_bits(state, wanted));
    if (!keep) continue;
    backward(cpu(1), layer, InputOf<L>(given.u), maybe(got.dbefore), InputOf<L>(given.dy),
             OutputOf<L>(got.du), got.gradients, options, scratch);
    CHECK(detail::same_bits(results_of(got), results_of(want)));
  }
}

/// A call of the shape of the one before allocates nothing.
template <SequenceLayer L>
void check_allocations(const L& layer, const LayerLaws& laws) {
  using T = typename L::value_type;
  const auto given = draw_given(layer, laws.length, 940, laws);
  Tensor<T, 3> y(given.u.extents()), du(given.u.extents());
  StateOf<L> state = given.before, slope = given.dafter;
  const auto maybe = [&](StateOf<L>& one) {
    return laws.states ? Maybe<StateOf<L>>(one) : Maybe<StateOf<L>>();
  };
  ScratchOf<L> scratch;
  L gradients;
  const auto both = [&] {
    forward(cpu(1), layer, InputOf<L>(given.u), maybe(state), OutputOf<L>(y), OptionsOf<L>{},
            scratch);
    backward(cpu(1), layer, InputOf<L>(given.u), maybe(slope), InputOf<L>(given.dy),
             OutputOf<L>(du), gradients, OptionsOf<L>{}, scratch);
  };
  both();
  both();
  CHECK(allocations_of(both) == 0);
}

/// Over the memory of its input, and with the gradient of the input over that of the output, a
/// layer gives the same bits or refuses. Gradients that were moved from are made anew.
template <SequenceLayer L>
void check_in_place(const L& layer, const LayerLaws& laws) {
  using T = typename L::value_type;
  const auto given = draw_given(layer, laws.length, 950, laws);
  const auto want = run(layer, given, laws);
  const auto maybe = [&](StateOf<L>& state) {
    return laws.states ? Maybe<StateOf<L>>(state) : Maybe<StateOf<L>>();
  };
  ScratchOf<L> scratch;
  StateOf<L> state = given.before;
  Tensor<T, 3> both = given.u;
  try {
    forward(cpu(1), layer, InputOf<L>(both), maybe(state), OutputOf<L>(both), OptionsOf<L>{},
            scratch);
    CHECK(same_bits(both, want.y));
  } catch (const ShapeError&) {
  }
  state = given.before;
  run_forward(layer, given.u, maybe(state), OptionsOf<L>{}, scratch);
  L gradients = want.gradients;
  const L moved = std::move(gradients);
  both = given.dy;
  StateOf<L> slope = given.dafter;
  try {
    backward(cpu(1), layer, InputOf<L>(given.u), maybe(slope), InputOf<L>(both), OutputOf<L>(both),
             gradients, OptionsOf<L>{}, scratch);
    CHECK(same_bits(both, want.du));
    Results got, wanted;
    add_results(got, gradients);
    add_results(wanted, want.gradients);
    CHECK(detail::same_bits(got, wanted));
  } catch (const ShapeError&) {
  }
}

/// No step changes nothing; an empty batch is one.
template <SequenceLayer L>
void check_empty(const L& layer, const LayerLaws& laws) {
  const auto given = draw_given(layer, 0, 1000, laws);
  const auto got = run(layer, given, laws);
  Results results, want;
  detail::add_state(results, "state", got.after);
  detail::add_state(results, "the gradient of state", got.dbefore);
  detail::add_state(want, "state", given.before);
  detail::add_state(want, "the gradient of state", given.dafter);
  check_agree(results, want, laws.rounding * std::numeric_limits<double>::epsilon());
  add_results(results = {}, got.gradients);
  for (const auto& [name, gradient] : results) {
    INFO(name);
    for (const auto& x : gradient) CHECK(x == 0.0);
  }
  run(layer, draw_given(layer, 0, laws.length, 0, 1010, laws), laws);
}

/// What is not a number stays in its own sequence.
template <SequenceLayer L>
void check_nan(const L& layer, const LayerLaws& laws) {
  auto given = draw_given(layer, laws.length, 1100, laws);
  const auto want = run(layer, given, laws);
  given.u(0, laws.length / 2, 0) = std::numeric_limits<typename L::value_type>::quiet_NaN();
  const auto got = run(layer, given, laws);
  CHECK(same_bits(detail::cut(got.y, 0, 1, laws.batch - 1),
                  detail::cut(want.y, 0, 1, laws.batch - 1)));
  bool spoiled = false;
  for (Index c = 0; c < given.u.extent(2); ++c)
    spoiled = spoiled || !std::isfinite(got.y(0, laws.length / 2, c));
  CHECK(spoiled);
}

/// All of these that a layer promises.
template <SequenceLayer L>
requires std::same_as<typename L::value_type, double>
void check_layer_laws(const L& its, const LayerLaws& laws = {}) {
  const auto layer = any(its);
  if (laws.steps) check_step(layer, laws);
  if (laws.states && laws.resumes) check_split(layer, laws);
  if (laws.states) check_absent_states(layer, laws);
  if (laws.packs) check_packed(layer, laws);
  if (laws.reverses) check_reversal(layer, laws);
  if (laws.causal) check_causality(layer, laws);
  check_gradients(layer, laws);
  check_threads(layer, laws);
  check_scratch(layer, laws);
  check_allocations(layer, laws);
  check_in_place(layer, laws);
  check_empty(layer, laws);
  check_nan(layer, laws);
  check_refusals(layer, laws);
}

/// Outputs, states and gradients in float are those in double of the same weights, states and
/// inputs, whatever the length.
/// @param another a layer of the same configuration, with any weights
template <SequenceLayer Narrow, SequenceLayer Wide>
void check_precision(const Narrow& its, const Wide& another, const LayerLaws& laws) {
  const auto narrow = any(its);
  auto wide = any(another);
  assign(narrow, wide);
  for (const Index length : laws.precision_lengths) {
    const auto got = results_of(run(narrow, draw_given(narrow, length, 1300, laws), laws));
    const auto want = results_of(run(wide, draw_given(wide, length, 1300, laws), laws));
    const auto [error, where] = largest_error(got, want);
    INFO("float against double: " << where << ", length " << length);
    CHECK(error < laws.precision * static_cast<double>(std::numeric_limits<float>::epsilon()) *
                      std::sqrt(static_cast<double>(std::max(length, laws.precision_floor))));
  }
}

}  // namespace ssm::test
