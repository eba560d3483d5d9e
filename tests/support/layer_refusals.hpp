#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <string>

#include "ssm/layers/layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/last_words.hpp"
#include "support/layer_runs.hpp"

namespace ssm::test {

/// Wrong shapes, weights, options and scratches are refused by name, and in a step they end the
/// program.
template <SequenceLayer L>
void check_refusals(const L& layer, const LayerLaws& laws) {
  using T = typename L::value_type;
  const Index batch = laws.batch, width = width_of(layer.config);
  const auto given = draw_given(layer, laws.length, 1200, laws);
  const Tensor<T, 3> wide({batch, laws.length, width + 1}), longer({batch, laws.length + 1, width});
  ScratchOf<L> scratch;
  const auto go = [&](const L& model, const Tensor<T, 3>& u, Tensor<T, 3> y,
                      Maybe<StateOf<L>> state, const OptionsOf<L>& options) {
    forward(cpu(1), model, InputOf<L>(u), state, OutputOf<L>(y), options, scratch);
  };
  const auto refuse_options = [&](const OptionsOf<L>& options, Index rows) {
    const auto part = detail::cut(given.u, 0, 0, rows);
    CHECK_THROWS_AS(go(layer, part, part, {}, options), DomainError);
  };
  CHECK_THROWS_AS(go(layer, wide, given.u, {}, {}), ShapeError);
  CHECK_THROWS_AS(go(layer, given.u, longer, {}, {}), ShapeError);
  CHECK_THROWS_AS(go(layer, given.u, wide, {}, {}), ShapeError);
  {
    Tensor<T, 3> y(given.u.extents());
    CHECK_THROWS_AS(forward(cpu(1), layer, InputOf<L>(), Maybe<StateOf<L>>(), OutputOf<L>(y),
                            OptionsOf<L>{}, scratch),
                    ShapeError);
    CHECK_THROWS_AS(forward(cpu(1), layer, InputOf<L>(given.u), Maybe<StateOf<L>>(), OutputOf<L>(),
                            OptionsOf<L>{}, scratch),
                    ShapeError);
  }
  {
    Tensor<T, 3> y(given.u.extents());
    const std::array<Index, 3> negative{-batch, -laws.length, width};
    CHECK_THROWS_AS(
        forward(cpu(1), layer, InputOf<L>(given.u.data(), negative), Maybe<StateOf<L>>(),
                OutputOf<L>(y.data(), negative), OptionsOf<L>{}, scratch),
        ShapeError);
  }
  StateOf<L> state = make_state(layer, batch), rows = make_state(layer, batch + 1);
  bool remembers = false;  // a state without tensors fits any number of sequences
  tensors(state, [&](const auto&, const auto&) { remembers = true; });
  if (laws.states && remembers)
    CHECK_THROWS_AS(go(layer, given.u, given.u, rows, {}), ShapeError);
  else if (!laws.states)
    CHECK_THROWS_AS(go(layer, given.u, given.u, state, {}), DomainError);
  std::size_t count = 0;
  parameters(layer, [&](const auto&, const auto&, const auto&, bool) { ++count; });
  for (std::size_t wrong = 0; wrong < count; ++wrong) {
    L broken = layer;
    std::size_t i = 0;
    parameters(broken, [&](const auto& name, auto& tensor, const auto&, bool) {
      if (i++ != wrong) return;
      INFO("a wrong " << name);
      auto extents = tensor.extents();
      ++extents[0];
      tensor.resize(extents);
    });
    CHECK_THROWS_AS(go(broken, given.u, given.u, {}, {}), ShapeError);
  }

  // Sequences and rates.
  Tensor<Index, 1> offsets({3});
  offsets(1) = 2;
  offsets(2) = laws.length;
  OptionsOf<L> options;
  options.sequences.offsets = offsets;
  if (laws.packs) {
    CHECK_THROWS_AS(go(layer, given.u, given.u, {}, options), ShapeError);
    for (const auto& [middle, last] : {std::pair<Index, Index>{laws.length + 1, laws.length},
                                       {2, laws.length - 1},
                                       {-1, laws.length}}) {
      offsets(1) = middle;
      offsets(2) = last;
      refuse_options(options, 1);
    }
  } else {
    refuse_options(options, 1);
  }
  options = {};
  options.sequences.reversed = true;
  if (!laws.reverses) refuse_options(options, batch);
  CHECK_THROWS_AS(StepperOf<L>(layer, batch, options), DomainError);
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double rate : {0.0, -1.0, std::numeric_limits<double>::infinity(), nan, 2.0}) {
    if (rate == 2 && laws.rates) continue;
    options = {};
    options.rate = rate;
    refuse_options(options, batch);
    CHECK_THROWS_AS(StepperOf<L>(layer, batch, options), DomainError);
  }

  // A scratch that holds no forward pass of this call.
  L gradients;
  Tensor<T, 3> du(given.u.extents());
  const auto back = [&](const Tensor<T, 3>& u, const Tensor<T, 3>& dy, Tensor<T, 3> to,
                        Maybe<StateOf<L>> dstate, ScratchOf<L>& from) {
    backward(cpu(1), layer, InputOf<L>(u), dstate, InputOf<L>(dy), OutputOf<L>(to), gradients,
             OptionsOf<L>{}, from);
  };
  ScratchOf<L> fresh;
  CHECK_THROWS_AS(back(given.u, given.dy, du, {}, fresh), ShapeError);
  go(layer, given.u, du, {}, {});
  CHECK_THROWS_AS(back(longer, longer, longer, {}, scratch), ShapeError);
  go(layer, given.u, du, {}, {});
  CHECK_THROWS_AS(back(given.u, wide, du, {}, scratch), ShapeError);
  CHECK_THROWS_AS(back(given.u, given.dy, longer, {}, scratch), ShapeError);
  if (laws.states && remembers) {
    CHECK_THROWS_AS(back(given.u, given.dy, du, rows, scratch), ShapeError);
  } else if (!laws.states) {
    CHECK_THROWS_AS(back(given.u, given.dy, du, state, scratch), DomainError);
  }
  options = {};
  options.keep = false;
  ScratchOf<L> unkept;
  forward(cpu(1), layer, InputOf<L>(given.u), Maybe<StateOf<L>>(), OutputOf<L>(du), options,
          unkept);
  CHECK_THROWS_AS(back(given.u, given.dy, du, {}, unkept), ShapeError);

  // Steps.
  if (!laws.steps) {
    CHECK_THROWS_AS(StepperOf<L>(layer, batch, OptionsOf<L>{}), DomainError);
    return;
  }
  const auto words = [&](Index columns, Index out_rows, StateOf<L> its) {
    return last_words([&] {
      StepperOf<L> stepper(layer, batch, OptionsOf<L>{});
      const Tensor<T, 2> now({batch, columns});
      Tensor<T, 2> out({out_rows, width});
      step(stepper, now.view(), its, out.view());
    });
  };
  CHECK(words(width, batch, state).empty());
  CHECK_THAT(words(width + 1, batch, state), contains("expected"));
  CHECK_THAT(words(width, batch + 1, state), contains("expected"));
  if (remembers) CHECK_THAT(words(width, batch, rows), contains("expected"));
}

}  // namespace ssm::test
