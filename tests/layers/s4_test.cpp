#include "ssm/layers/s4.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "ssm/system/hippo.hpp"
#include "support/both_ways_laws.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"
#include "support/s4_recurrence.hpp"

namespace s4_test {

using namespace ssm;
using test::Random;

static_assert(SequenceLayer<S4<float>> && SequenceLayer<S4<double>>);

namespace {

template <class T = double>
S4<T> draw(const S4Config& config, std::uint64_t seed = 1) {
  S4<T> layer(config);
  const Hippo measure = config.rank == 2 ? Hippo::legt : Hippo::legs;
  auto form = hippo_dplr<double>(measure, config.state);
  if (config.rank == 0) form.P.resize(config.state / 2, 0);
  initialize(layer, form, seed, 0.02, 0.2);
  return layer;
}

/// LegT's zeros would have next to no gradient.
template <class T>
S4<T> damped(S4<T> layer) {
  if (layer.config.rank == 2)
    for (T& x : layer.log_decay) x += T(8);
  return layer;
}

struct Result {
  Tensor<double, 3> y;
  S4State<double> final;
};

/// From a state.
Result run(const S4<double>& layer, const View<const double, 3>& u, const S4State<double>& initial,
           double rate = 1) {
  Result result{Tensor<double, 3>(u.extents()), initial};
  S4Scratch<double> scratch;
  forward(cpu(1), layer, u, result.final, result.y, {.rate = rate}, scratch);
  return result;
}

/// From rest.
Tensor<double, 3> run(const S4<double>& layer, const View<const double, 3>& u, double rate = 1) {
  S4Scratch<double> scratch;
  Tensor<double, 3> y(u.extents());
  forward(cpu(1), layer, u, {}, y, {.rate = rate}, scratch);
  return y;
}

S4State<double> draw_state(const S4<double>& layer, Index batch, std::uint64_t seed) {
  auto state = make_state(layer, batch);
  state.x = Random(seed).normal<std::complex<double>, 3>(state.x.extents());
  return state;
}

/// What the recurrence says of u, step by step.
Result by_steps(const S4<double>& layer, const Tensor<double, 3>& u, const S4State<double>& initial,
                double rate = 1) {
  const test::S4Recurrence recurrence(layer, rate);
  Result result{Tensor<double, 3>(u.extents()), initial};
  for (Index t = 0; t < u.extent(1); ++t)
    recurrence.step<double>(test::detail::at_step(u.view(), t), result.final.x,
                            test::detail::at_step(result.y.view(), t));
  return result;
}

Tensor<double, 3> by_steps(const S4<double>& layer, const Tensor<double, 3>& u, double rate = 1) {
  return by_steps(layer, u, make_state(layer, u.extent(0)), rate).y;
}

const test::LayerLaws laws{};
const test::LayerLaws of_both{.resumes = false, .steps = false, .causal = false};

}  // namespace

TEST_CASE("S4 keeps the laws of layers, of every rank and in every form") {
  for (const S4Form form : {S4Form::fastest, S4Form::scan, S4Form::convolution})
    for (const Index rank : {0, 1, 2}) {
      INFO("form " << static_cast<int>(form) << " rank " << rank);
      test::check_layer_laws(damped(draw({.width = 3, .state = 4, .rank = rank, .form = form}, 20)),
                             laws);
    }
}

TEST_CASE("S4 of two directions keeps the laws of layers") {
  for (const S4Form form : {S4Form::scan, S4Form::convolution}) {
    INFO("form " << static_cast<int>(form));
    const auto layer =
        damped(draw({.width = 3, .state = 4, .rank = 2, .bidirectional = true, .form = form}, 5));
    test::check_layer_laws(layer, of_both);
    test::check_split_both_ways(layer, of_both);
  }
}

TEST_CASE("S4 has the gradients of finite differences at lengths 1, 70 and at another rate") {
  for (const S4Form form : {S4Form::scan, S4Form::convolution})
    for (const Index length : {1, 70}) {
      INFO("form " << static_cast<int>(form) << " length " << length);
      test::LayerLaws at = laws;
      at.fd_length = length;
      at.packs = length > 2;
      test::check_gradients(
          test::any(damped(draw({.width = 2, .state = 4, .rank = 2, .form = form}, 20))), at);
    }
}

TEST_CASE("S4 in float is S4 in double, whatever the length") {
  for (const Index length : {1, 40, 600})
    for (const bool bidirectional : {false, true}) {
      INFO("length " << length << " bidirectional " << bidirectional);
      const S4Config config{.width = 3, .state = 16, .rank = 2, .bidirectional = bidirectional};
      test::LayerLaws at = bidirectional ? of_both : laws;
      at.precision_lengths = {length};
      test::check_precision(draw<float>(config, 26), S4<double>(config), at);
    }
}

TEST_CASE("an S4 layer is its recurrence, from a state to a state, at any length and rate") {
  for (const S4Form form : {S4Form::scan, S4Form::convolution})
    for (const Index rank : {0, 1, 2})
      for (const double rate : {0.5, 1.0, 3.0}) {
        const auto layer = draw({.width = 3, .state = 8, .rank = rank, .form = form});
        const auto initial = draw_state(layer, 2, 13);
        for (const Index length : {0, 1, 7, 150}) {
          INFO("form " << static_cast<int>(form) << " rank " << rank << " rate " << rate
                       << " length " << length);
          const auto u = Random(2).normal<double, 3>({2, length, 3});
          const auto got = run(layer, u, initial, rate);
          const auto want = by_steps(layer, u, initial, rate);
          CHECK(test::relative_error(got.y, want.y) < 1e-12);
          CHECK(test::relative_error(got.final.x, want.final.x) < 1e-12);
          if (length > 0)
            CHECK(test::relative_error(run(layer, u, rate), by_steps(layer, u, rate)) < 1e-12);
        }
      }
}

TEST_CASE("an S4 layer takes a rank above the state") {
  S4<double> layer({.width = 2, .state = 4, .rank = 20});
  Random random(3);
  for (auto* tensor : {&layer.log_decay, &layer.frequency})
    for (double& x : *tensor) x = random.normal();
  for (double& x : layer.log_delta) x = -2;
  for (double& x : layer.P) x = random.normal() / 4;
  for (double& x : layer.B) x = random.normal();
  for (double& x : layer.C) x = random.normal();
  test::LayerLaws at = laws;
  at.fd_length = 5;
  test::check_layer_laws(layer, at);
}

TEST_CASE("an S4 stepper follows each of its weights") {
  auto layer = draw({.width = 3, .state = 8, .rank = 2}, 17);
  const auto u = Random(18).normal<double, 3>({2, 25, 3});
  const auto initial = draw_state(layer, 2, 19);
  S4Stepper<double> stepper(layer, 2);
  const auto check = [&] {
    const long made = test::allocations_of([&] { stepper.update(layer); });
    CHECK(made == 0);
    const auto whole = run(layer, u, initial);
    auto state = initial;
    Tensor<double, 3> y(u.extents());
    for (Index t = 0; t < 25; ++t)
      step(stepper, test::detail::at_step(u.view(), t), state, test::detail::at_step(y.view(), t));
    CHECK(test::relative_error(y, whole.y) < 1e-11);
    CHECK(test::relative_error(state.x, whole.final.x) < 1e-12);
  };
  check();
  for (auto* tensor : {&layer.log_decay, &layer.frequency}) {
    for (double& x : *tensor) x += 0.1;
    check();
  }
  layer.log_delta(2) += 0.1;
  check();
  layer.D(0) += 1;
  check();
  layer.P(1, 2, 1, 0) += 0.2;
  check();
  layer.B(1, 0, 1) += 1;
  check();
  layer.C(0, 0, 3, 1) += 1;
  check();
}

TEST_CASE("what an S4 step cannot do is said when its stepper is made") {
  const auto layer = draw({.width = 2, .state = 4});
  static_assert(!std::is_default_constructible_v<S4Stepper<double>>);
  const auto two_ways = draw({.width = 2, .state = 4, .bidirectional = true});
  CHECK_THROWS_WITH(S4Stepper<double>(two_ways, 1),
                    "S4Stepper: layer is bidirectional, expected one direction, as a pass from the "
                    "end has no step");
  const auto wide = draw({.width = 2, .state = 64});
  S4Stepper<double> made(layer, 1);
  CHECK_THROWS_WITH(made.update(wide),
                    "S4Stepper: layer is of another configuration, expected that of the first");
  const auto words = [&](S4State<double> state) {
    return test::last_words([&] {
      S4Stepper<double> stepper(layer, 1);
      Tensor<double, 2> row({1, 2});
      step(stepper, row, state, row);
    });
  };
  CHECK(words(make_state(layer, 1)).empty());
  CHECK_THAT(words({}), test::contains("S4 step: state is (0, 0, 0), expected (1, 2, 2)"));
}

TEST_CASE("a bidirectional S4 layer hears every other input once, from both sides, at any rate") {
  const auto layer = draw({.width = 1, .state = 6, .bidirectional = true}, 8);
  auto forward_only = draw({.width = 1, .state = 6}, 8);
  auto backward_only = forward_only;
  for (auto* one : {&forward_only, &backward_only}) {
    one->log_delta = layer.log_delta;
    one->D = layer.D;
  }
  std::copy_n(layer.C.data(), forward_only.C.size(), forward_only.C.data());
  std::copy_n(layer.C.data() + forward_only.C.size(), forward_only.C.size(),
              backward_only.C.data());
  backward_only.D.fill(0);
  const auto u = Random(9).normal<double, 3>({1, 9, 1});
  Tensor<double, 3> mirrored({1, 9, 1});
  for (Index t = 0; t + 1 < 9; ++t) mirrored(0, t, 0) = u(0, 8 - t, 0);
  for (const double rate : {1, 2}) {
    const auto y = run(layer, u, rate), past = by_steps(forward_only, u, rate),
               future = by_steps(backward_only, mirrored, rate);
    for (Index t = 0; t < 9; ++t) {
      const double want = past(0, t, 0) + (t < 8 ? future(0, 7 - t, 0) : 0);
      CHECK(std::abs(y(0, t, 0) - want) < 1e-12 * 9 * (1 + std::abs(want)));
    }
  }
}

TEST_CASE("an S4 layer at half the rate sees the same signal") {
  auto layer = draw({.width = 1, .state = 8}, 10);
  layer.log_delta.fill(std::log(0.002));
  Tensor<double, 3> fine({1, 2000, 1}), coarse({1, 1000, 1});
  for (Index t = 0; t < 2000; ++t) fine(0, t, 0) = std::sin(0.01 * static_cast<double>(t));
  for (Index t = 0; t < 1000; ++t) coarse(0, t, 0) = fine(0, 2 * t, 0);
  const auto y = by_steps(layer, fine), half = run(layer, coarse, 2);
  double largest = 0, error = 0;
  for (Index t = 100; t < 1000; ++t) {
    largest = std::max(largest, std::abs(y(0, 2 * t, 0)));
    error = ssm::test::worse(error, std::abs(y(0, 2 * t, 0) - half(0, t, 0)));
  }
  CHECK(error < 0.02 * largest);
}

TEST_CASE("an S4 layer's bits do not depend on threads, and float follows double at any rate") {
  const S4Config config{.width = 5, .state = 16};
  const auto layer = draw(config, 11);
  test::LayerLaws at = laws;
  at.long_length = 100;
  test::check_threads(test::any(layer), at);
  const auto u = Random(12).normal<double, 3>({2, 100, 5});
  const auto narrow = draw<float>(config, 11);
  Tensor<float, 3> input(u.extents()), output(u.extents());
  std::copy(u.begin(), u.end(), input.begin());
  S4Scratch<float> scratch;
  for (const double rate : {1.0, 2.0}) {
    forward(cpu(1), narrow, input, {}, output, {.rate = rate}, scratch);
    CHECK(test::relative_error(output, run(layer, u, rate)) < 1e-4);
  }
}

TEST_CASE("an S4 layer refuses what it cannot do by name") {
  const auto layer = draw({.width = 1, .state = 4});
  const auto both = draw({.width = 1, .state = 4, .bidirectional = true});
  const auto state = draw_state(layer, 1, 25);
  CHECK_THROWS_WITH(run(both, Tensor<double, 3>({1, 8, 1}), state),
                    "S4 forward: x_back of state is (0, 0, 0), expected (1, 1, 2)");
  CHECK_THROWS_WITH(run(layer, Tensor<double, 3>({1, 8, 1}), make_state(both, 1)),
                    "S4 forward: x_back of state is (1, 1, 2), expected none, as the layer has one "
                    "direction");
  CHECK_THROWS_AS(run(layer, Tensor<double, 3>({2, 8, 1}), state), ShapeError);
  CHECK_THROWS_AS(run(layer, Tensor<double, 3>({1, 8, 2})), ShapeError);
  CHECK_THROWS_AS(S4<double>({.width = 1, .state = 5}), DomainError);
  CHECK_THROWS_AS(S4<double>({.width = 1, .rank = -1}), DomainError);
}

}  // namespace s4_test
