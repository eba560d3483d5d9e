#include "ssm/layers/s4.hpp"

#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ssm/layers/mixers.hpp"
#include "ssm/layers/s4_recurrence.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

S4Weights<double> draw(const S4Shape& shape, std::uint64_t seed = 1) {
  S4Weights<double> weights(shape);
  const Hippo measure = shape.rank == 2 ? Hippo::legt : Hippo::legs;
  initialize(weights, hippo_dplr<double>(measure, shape.state), seed, 0.02, 0.2);
  return weights;
}

struct Result {
  Tensor<double, 3> y;
  S4State<double> final;
};

Result forward(const S4Weights<double>& weights, const View<const double, 3>& u,
               const S4State<double>* initial, int threads = 1, double rate = 1) {
  Result result{Tensor<double, 3>(u.extents()), {}};
  S4Workspace<double> workspace;
  s4_forward<double>(cpu(threads), weights, u, initial, result.y, &result.final, {rate}, workspace);
  return result;
}

/// From rest.
Tensor<double, 3> forward(const S4Weights<double>& weights, const View<const double, 3>& u,
                          int threads = 1, double rate = 1) {
  S4Workspace<double> workspace;
  Tensor<double, 3> y(u.extents());
  s4_forward<double>(cpu(threads), weights, u, nullptr, y, nullptr, {rate}, workspace);
  return y;
}

S4State<double> draw_state(const S4Shape& shape, Index batch, std::uint64_t seed) {
  S4State<double> state(shape, batch);
  state.x = Random(seed).normal<std::complex<double>, 3>(state.x.extents());
  return state;
}

/// Step t of a sequence, as (batch, width).
template <class Array>
auto at_step(Array& sequence, Index t) {
  const auto view = sequence.view().slice(1, t, 1);
  using Element = typename decltype(view)::element_type;
  return View<Element, 2>(view.data(), {view.extent(0), view.extent(2)},
                          {view.stride(0), view.stride(2)});
}

/// What the recurrence says of u, step by step.
Result by_steps(const S4Weights<double>& weights, const Tensor<double, 3>& u,
                const S4State<double>& initial, double rate = 1) {
  const S4Recurrence recurrence(weights, rate);
  Result result{Tensor<double, 3>(u.extents()), initial};
  for (Index t = 0; t < u.extent(1); ++t)
    CHECK(test::allocations_of([&] {
            recurrence.step<double>(at_step(u, t), result.final.x, at_step(result.y, t));
          }) == 0);
  return result;
}

Tensor<double, 3> by_steps(const S4Weights<double>& weights, const Tensor<double, 3>& u,
                           double rate = 1) {
  return by_steps(weights, u, S4State<double>(weights.shape(), u.extent(0)), rate).y;
}

}  // namespace

TEST_CASE("an S4 layer is its recurrence, for every length up to the one it is trained for") {
  for (const Index rank : {1, 2})
    for (const Index longest : {1, 7, 64, 301}) {
      const auto weights = draw({.width = 3, .state = 8, .rank = rank, .length = longest});
      for (const Index length : {Index{0}, Index{1}, (longest + 1) / 2, longest}) {
        INFO("rank " << rank << " length " << length << " of " << longest);
        const auto u = Random(2).normal<double, 3>({2, length, 3});
        const auto y = forward(weights, u);
        if (length > 0) CHECK(test::relative_error(y, by_steps(weights, u)) < 1e-11);
      }
    }
}

TEST_CASE("an S4 layer whose length is doubled computes the same, and longer sequences") {
  auto weights = draw({.width = 2, .state = 8, .length = 33});
  const auto u = Random(3).normal<double, 3>({1, 33, 2});
  const auto before = forward(weights, u);
  s4_double_length(weights);
  CHECK(weights.length == 66);
  CHECK(test::relative_error(forward(weights, u), before) < 1e-11);
  const auto longer = Random(4).normal<double, 3>({1, 66, 2});
  CHECK(test::relative_error(forward(weights, longer), by_steps(weights, longer)) < 1e-11);
}

TEST_CASE("an S4 layer with a state is its recurrence, from a state to a state") {
  for (const Index rank : {1, 2})
    for (const Index longest : {1, 7, 150}) {
      const S4Shape shape{.width = 3, .state = 8, .rank = rank, .length = longest};
      const auto weights = draw(shape);
      const auto initial = draw_state(shape, 2, 13);
      for (const Index length : {Index{0}, Index{1}, (longest + 1) / 2, longest}) {
        INFO("rank " << rank << " length " << length << " of " << longest);
        const auto u = Random(2).normal<double, 3>({2, length, 3});
        const auto got = forward(weights, u, &initial);
        const auto want = by_steps(weights, u, initial);
        CHECK(test::relative_error(got.y, want.y) < 1e-11);
        CHECK(test::relative_error(got.final.x, want.final.x) < 1e-12);
      }
    }
}

TEST_CASE("an S4 layer split anywhere and resumed computes the same, beyond its length too") {
  const S4Shape shape{.width = 3, .state = 8, .length = 100};
  const auto weights = draw(shape, 14);
  const auto u = Random(15).normal<double, 3>({2, 100, 3});
  const auto whole = forward(weights, u, nullptr);
  for (const Index cut : {0, 1, 37, 64, 99, 100}) {
    INFO("cut " << cut);
    const auto first = forward(weights, u.view().slice(1, 0, cut), nullptr);
    const auto second = forward(weights, u.view().slice(1, cut, 100 - cut), &first.final);
    CHECK(test::relative_error(second.final.x, whole.final.x) < 1e-12);
    Tensor<double, 3> y(u.extents());
    for (Index b = 0; b < 2; ++b)
      for (Index t = 0; t < 100; ++t)
        for (Index c = 0; c < 3; ++c)
          y(b, t, c) = t < cut ? first.y(b, t, c) : second.y(b, t - cut, c);
    CHECK(test::relative_error(y, whole.y) < 1e-11);
  }
  const auto more = Random(16).normal<double, 3>({2, 250, 3});
  const auto want = by_steps(weights, more);
  S4State<double> state(shape, 2);
  for (Index begin = 0; begin < 250; begin += 100) {
    const Index count = std::min<Index>(100, 250 - begin);
    const auto piece = forward(weights, more.view().slice(1, begin, count), &state);
    state = piece.final;
    for (Index t = 0; t < count; ++t)
      CHECK(std::abs(piece.y(1, t, 2) - want(1, begin + t, 2)) < 1e-10);
  }
}

TEST_CASE("an S4 step equals the forward pass, follows the weights, allocates nothing") {
  const S4Shape shape{.width = 3, .state = 8, .rank = 2, .length = 25};
  auto weights = draw(shape, 17);
  const auto u = Random(18).normal<double, 3>({2, 25, 3});
  const auto initial = draw_state(shape, 2, 19);
  S4StepScratch<double> scratch(weights);
  const auto check = [&] {
    const auto whole = forward(weights, u, &initial);
    auto state = initial;
    Tensor<double, 3> y(u.extents());
    for (Index t = 0; t < 25; ++t)
      CHECK(test::allocations_of([&] {
              S4Mixer::step<double>(weights, at_step(u, t), state, at_step(y, t), scratch);
            }) == 0);
    CHECK(test::relative_error(y, whole.y) < 1e-11);
    CHECK(test::relative_error(state.x, whole.final.x) < 1e-12);
  };
  check();
  for (auto* tensor : {&weights.log_decay, &weights.frequency}) {
    for (double& x : *tensor) x += 0.1;
    check();
  }
  weights.log_delta(2) += 0.1;
  check();
  weights.D(0) += 1;
  check();
  weights.P(1, 2, 1, 0) += 0.2;
  check();
  weights.B(1, 0, 1) += 1;
  check();
  weights.C(0, 0, 3, 1) += 1;
  check();
  s4_double_length(weights);
  check();
}

TEST_CASE("an S4 step has no set-up to forget") {
  const S4Shape shape{.width = 2, .state = 4, .length = 5};
  const auto weights = draw(shape);
  static_assert(!std::is_default_constructible_v<S4StepScratch<double>>);
  CHECK_THROWS_WITH(
      S4StepScratch<double>(draw({.width = 2, .state = 4, .bidirectional = true})),
      "S4StepScratch: weights is bidirectional, expected one direction, as a pass from the end has "
      "no step");
  CHECK_THROWS_AS(S4StepScratch<double>(weights, {.rate = 0}), DomainError);
  const auto step = [&](const S4Weights<double>& w, S4State<double> state) {
    return test::last_words([&] {
      S4StepScratch<double> scratch(weights);
      Tensor<double, 2> row({1, 2});
      s4_step<double>(w, row, state, row, scratch);
    });
  };
  CHECK(step(weights, {shape, 1}).empty());
  const S4Shape wide{.width = 2, .state = 64, .length = 5};
  CHECK_THAT(step(draw(wide), {wide, 1}),
             test::contains("s4_step: scratch is made for weights of another shape, expected one "
                            "made for these"));
  CHECK_THAT(step(weights, {}), test::contains("s4_step: state is (0, 0, 0), expected (1, 2, 2)"));
}

TEST_CASE("an S4 layer at another rate is its recurrence at that rate, by sequence and by step") {
  for (const Index rank : {1, 2})
    for (const double rate : {0.5, 2.0, 3.0}) {
      const S4Shape shape{.width = 3, .state = 8, .rank = rank, .length = 60};
      auto weights = draw(shape, 29);
      const auto initial = draw_state(shape, 2, 30);
      S4StepScratch<double> scratch(weights, {.rate = rate});
      for (int pass = 0; pass < 2; ++pass) {
        for (const Index length : {1, 31, 60}) {
          INFO("rank " << rank << " rate " << rate << " length " << length);
          const double bound =
              200 * static_cast<double>(length) * std::numeric_limits<double>::epsilon();
          const auto u = Random(31).normal<double, 3>({2, length, 3});
          const auto want = by_steps(weights, u, initial, rate);
          const auto got = forward(weights, u, &initial, 1, rate);
          CHECK(test::relative_error(got.y, want.y) < bound);
          CHECK(test::relative_error(got.final.x, want.final.x) < bound);
          auto state = initial;
          Tensor<double, 3> y(u.extents());
          for (Index t = 0; t < length; ++t)
            CHECK(test::allocations_of([&] {
                    s4_step<double>(weights, at_step(u, t), state, at_step(y, t), scratch);
                  }) == 0);
          CHECK(test::relative_error(y, want.y) < bound);
          CHECK(test::relative_error(state.x, want.final.x) < bound);
          auto changed = weights;
          s4_change_rate(changed, rate);
          CHECK(test::relative_error(forward(changed, u, &initial).y, want.y) < bound);
        }
        weights.log_delta(1) += 0.3;
      }
    }
}

TEST_CASE("a workspace serves an S4 layer at any rate after any other, and weights that change") {
  auto weights = draw({.width = 2, .state = 4, .length = 20});
  const auto u = Random(32).normal<double, 3>({1, 20, 2});
  S4Workspace<double> workspace;
  const auto check = [&](double rate) {
    Tensor<double, 3> y(u.extents());
    s4_forward<double>(cpu(1), weights, u, nullptr, y, nullptr, {rate}, workspace);
    CHECK(test::same_bits(y, forward(weights, u, 1, rate)));
  };
  for (const double rate : {2.0, 1.0, 2.0, 3.0}) check(rate);
  for (auto* tensor : {&weights.log_decay, &weights.frequency}) {
    tensor->data()[1] += 0.1;
    check(3);
  }
  weights.log_delta(0) += 0.1;
  check(3);
  weights.P(1, 1, 0, 0) += 0.1;
  check(3);
  weights.B(1, 1, 0) += 0.1;
  check(3);
  weights.C(0, 1, 1, 0) += 0.1;
  check(3);
  s4_double_length(weights);
  check(3);
}

TEST_CASE("a change of an S4 layer's rate can be undone, and trains") {
  const S4Shape shape{.width = 2, .state = 6, .length = 30, .bidirectional = true};
  const auto weights = draw(shape);
  auto changed = weights;
  s4_change_rate(changed, 2);
  const auto u = Random(33).normal<double, 3>({1, 30, 2});
  S4Weights<double> gradients;
  S4Workspace<double> workspace;
  Tensor<double, 3> du(u.extents());
  const auto backward = [&](const S4Weights<double>& w, double rate) {
    s4_backward<double>(cpu(1), w, u, nullptr, {rate}, u, nullptr, gradients, du, nullptr,
                        workspace);
  };
  CHECK_THROWS_WITH(backward(weights, 2),
                    "s4_backward: rate is 2.000000, expected 1 (s4_change_rate makes weights that "
                    "train at another)");
  backward(changed, 1);
  const auto loss = [&] { return test::dot(forward(changed, u), u); };
  CHECK(test::gradient_error(loss, changed.C, gradients.C) < 1e-8);
  CHECK(test::gradient_error(loss, changed.log_delta, gradients.log_delta) < 1e-8);
  s4_change_rate(changed, 0.5);
  CHECK(test::relative_error(changed.log_delta, weights.log_delta) < 1e-15);
  CHECK(test::relative_error(changed.C, weights.C) < 1e-12);
  CHECK_THROWS_AS(s4_change_rate(changed, 0), DomainError);
}

TEST_CASE("an S4 layer with a state has the gradients of finite differences") {
  // 70 steps are a block of 64 and single ones; a length of 12 has two bits.
  for (const auto& [length, longest] : {std::pair<Index, Index>{0, 3}, {1, 1}, {7, 12}, {70, 70}}) {
    INFO("length " << length << " of " << longest);
    const S4Shape shape{.width = 2, .state = 4, .rank = 2, .length = longest};
    auto weights = draw(shape, 20);
    for (double& x : weights.log_decay) x += 8;  // LegT's zeros would have next to no gradient
    auto u = Random(21).normal<double, 3>({2, length, 2});
    auto initial = draw_state(shape, 2, 22);
    const auto dfinal = draw_state(shape, 2, 23);
    const auto dy = Random(24).normal<double, 3>(u.extents());
    for (const bool to_final : {true, false}) {
      const auto loss = [&] {
        const auto result = forward(weights, u, &initial);
        double sum = test::dot(result.y, dy);
        for (Index i = 0; to_final && i < dfinal.x.size(); ++i)
          sum += std::real(std::conj(dfinal.x.data()[i]) * result.final.x.data()[i]);
        return sum;
      };
      S4Weights<double> gradients;
      S4Workspace<double> workspace;
      S4State<double> dinitial;
      Tensor<double, 3> du(u.extents());
      s4_backward<double>(cpu(2), weights, u, &initial, {}, dy, to_final ? &dfinal : nullptr,
                          gradients, du, &dinitial, workspace);
      CHECK(test::gradient_error(loss, u, du) < 1e-8);
      CHECK(test::gradient_error(loss, initial.x, dinitial.x) < 1e-8);
      CHECK(test::gradient_error(loss, weights.log_decay, gradients.log_decay) < 1e-8);
      CHECK(test::gradient_error(loss, weights.frequency, gradients.frequency) < 1e-8);
      CHECK(test::gradient_error(loss, weights.log_delta, gradients.log_delta) < 1e-8);
      CHECK(test::gradient_error(loss, weights.P, gradients.P) < 1e-8);
      CHECK(test::gradient_error(loss, weights.B, gradients.B) < 1e-8);
      CHECK(test::gradient_error(loss, weights.C, gradients.C) < 1e-8);
      CHECK(test::gradient_error(loss, weights.D, gradients.D) < 1e-8);
    }
  }
}

TEST_CASE("an S4 layer has the gradients of finite differences") {
  for (const bool bidirectional : {false, true})
    for (const Index length : {1, 5, 8}) {
      INFO("bidirectional " << bidirectional << " length " << length);
      auto weights =
          draw({.width = 2, .state = 4, .rank = 2, .length = 8, .bidirectional = bidirectional}, 5);
      auto u = Random(6).normal<double, 3>({2, length, 2});
      const auto dy = Random(7).normal<double, 3>(u.extents());
      const auto loss = [&] { return test::dot(forward(weights, u), dy); };
      S4Weights<double> gradients;
      S4Workspace<double> workspace;
      Tensor<double, 3> du(u.extents());
      s4_backward<double>(cpu(2), weights, u, nullptr, {}, dy, nullptr, gradients, du, nullptr,
                          workspace);
      CHECK(test::gradient_error(loss, u, du) < 1e-8);
      CHECK(test::gradient_error(loss, weights.log_decay, gradients.log_decay) < 1e-7);
      CHECK(test::gradient_error(loss, weights.frequency, gradients.frequency) < 1e-8);
      CHECK(test::gradient_error(loss, weights.log_delta, gradients.log_delta) < 1e-8);
      CHECK(test::gradient_error(loss, weights.P, gradients.P) < 1e-8);
      CHECK(test::gradient_error(loss, weights.B, gradients.B) < 1e-8);
      CHECK(test::gradient_error(loss, weights.C, gradients.C) < 1e-8);
      CHECK(test::gradient_error(loss, weights.D, gradients.D) < 1e-8);
    }
}

TEST_CASE("a bidirectional S4 layer hears every other input once, from both sides, at any rate") {
  auto weights = draw({.width = 1, .state = 6, .length = 9, .bidirectional = true}, 8);
  auto forward_only = draw({.width = 1, .state = 6, .length = 9}, 8);
  auto backward_only = forward_only;
  for (auto* one : {&forward_only, &backward_only}) {
    one->log_delta = weights.log_delta;
    one->D = weights.D;
  }
  std::copy_n(weights.C.data(), forward_only.C.size(), forward_only.C.data());
  std::copy_n(weights.C.data() + forward_only.C.size(), forward_only.C.size(),
              backward_only.C.data());
  backward_only.D.fill(0);
  const auto u = Random(9).normal<double, 3>({1, 9, 1});
  Tensor<double, 3> mirrored({1, 9, 1});
  for (Index t = 0; t + 1 < 9; ++t) mirrored(0, t, 0) = u(0, 8 - t, 0);
  for (const double rate : {1, 2}) {
    const auto y = forward(weights, u, 1, rate), past = by_steps(forward_only, u, rate),
               future = by_steps(backward_only, mirrored, rate);
    for (Index t = 0; t < 9; ++t) {
      const double want = past(0, t, 0) + (t < 8 ? future(0, 7 - t, 0) : 0);
      CHECK(std::abs(y(0, t, 0) - want) < 1e-12 * 9 * (1 + std::abs(want)));
    }
  }
}

TEST_CASE("an S4 layer at half the rate sees the same signal") {
  auto weights = draw({.width = 1, .state = 8, .length = 2000}, 10);
  weights.log_delta.fill(std::log(0.002));
  Tensor<double, 3> fine({1, 2000, 1}), coarse({1, 1000, 1});
  for (Index t = 0; t < 2000; ++t) fine(0, t, 0) = std::sin(0.01 * static_cast<double>(t));
  for (Index t = 0; t < 1000; ++t) coarse(0, t, 0) = fine(0, 2 * t, 0);
  const auto y = by_steps(weights, fine), half = forward(weights, coarse, 1, 2);
  double largest = 0, error = 0;
  for (Index t = 100; t < 1000; ++t) {
    largest = std::max(largest, std::abs(y(0, 2 * t, 0)));
    error = std::max(error, std::abs(y(0, 2 * t, 0) - half(0, t, 0)));
  }
  CHECK(error < 0.02 * largest);
}

TEST_CASE("an S4 layer's bits do not depend on threads, and float follows double") {
  const auto weights = draw({.width = 5, .state = 16, .length = 100}, 11);
  const auto u = Random(12).normal<double, 3>({2, 100, 5});
  const auto y = forward(weights, u);
  CHECK(test::same_bits(y, forward(weights, u, 3)));
  const auto initial = draw_state(weights.shape(), 2, 13);
  const auto one = forward(weights, u, &initial), three = forward(weights, u, &initial, 3);
  CHECK(test::same_bits(one.y, three.y));
  CHECK(test::same_bits(one.final.x, three.final.x));
  S4Weights<float> narrow({.width = 5, .state = 16, .length = 100});
  initialize(narrow, hippo_dplr<double>(Hippo::legs, 16), 11, 0.02, 0.2);
  Tensor<float, 3> input(u.extents()), output(u.extents());
  std::copy(u.begin(), u.end(), input.begin());
  S4Workspace<float> workspace;
  for (const float rate : {1.0f, 2.0f}) {
    s4_forward<float>(cpu(1), narrow, input, nullptr, output, nullptr, {rate}, workspace);
    CHECK(test::relative_error(output, forward(weights, u, 1, double{rate})) < 1e-4);
  }
}

TEST_CASE("the gradients of S4 in float follow those in double, whatever the length") {
  for (const bool stateful : {false, true})
    for (const Index length : {1, 40, 600}) {
      INFO("stateful " << stateful << " length " << length);
      const S4Shape shape{.width = 3, .state = 16, .rank = 2, .length = length};
      auto weights = draw(shape, 26);
      S4Weights<float> narrow(shape);
      const auto round = [](auto& wide, auto& to) {
        std::copy(wide.begin(), wide.end(), to.begin());
        std::copy(to.begin(), to.end(), wide.begin());
      };
      round(weights.log_decay, narrow.log_decay);
      round(weights.frequency, narrow.frequency);
      round(weights.log_delta, narrow.log_delta);
      round(weights.P, narrow.P);
      round(weights.B, narrow.B);
      round(weights.C, narrow.C);
      round(weights.D, narrow.D);
      const auto run = [&]<class T>(const S4Weights<T>& w) {
        const auto input = Random(27).normal<float, 3>({2, length, 3});
        const auto slope = Random(28).normal<float, 3>(input.extents());
        Tensor<T, 3> u(input.extents()), dy(input.extents()), du(input.extents());
        std::copy(input.begin(), input.end(), u.begin());
        std::copy(slope.begin(), slope.end(), dy.begin());
        S4State<T> initial(shape, 2), dfinal(shape, 2), dinitial;
        initial.x.fill(T(1));
        dfinal.x.fill(T(-1));
        S4Weights<T> gradients;
        S4Workspace<T> workspace;
        s4_backward<T>(cpu(1), w, u, stateful ? &initial : nullptr, {}, dy,
                       stateful ? &dfinal : nullptr, gradients, du, stateful ? &dinitial : nullptr,
                       workspace);
        return std::tuple(gradients, du, dinitial);
      };
      const auto [got, du, dinitial] = run(narrow);
      const auto [want, du_wide, dinitial_wide] = run(weights);
      const double bound = 8 * static_cast<double>(std::numeric_limits<float>::epsilon()) *
                           std::sqrt(static_cast<double>(length));
      CHECK(test::relative_error(du, du_wide) < bound);
      CHECK(test::relative_error(dinitial.x, dinitial_wide.x) < bound);
      CHECK(test::relative_error(got.log_decay, want.log_decay) < bound);
      CHECK(test::relative_error(got.frequency, want.frequency) < bound);
      // A kernel of one tap does not depend on Δ.
      CHECK(test::relative_error(got.log_delta, want.log_delta, 1e-3) < bound);
      CHECK(test::relative_error(got.P, want.P) < bound);
      CHECK(test::relative_error(got.B, want.B) < bound);
      CHECK(test::relative_error(got.C, want.C) < bound);
      CHECK(test::relative_error(got.D, want.D) < bound);
    }
}

TEST_CASE("an S4 layer refuses what it cannot do by name") {
  const auto weights = draw({.width = 1, .state = 4, .length = 8});
  CHECK_THROWS_WITH(forward(weights, Tensor<double, 3>({1, 9, 1})),
                    "s4_forward: length is 9, expected at most 8, which C is truncated for "
                    "(s4_double_length doubles that, and a state carries on from piece to piece)");
  const S4Shape both{.width = 1, .state = 4, .length = 8, .bidirectional = true};
  const auto state = draw_state(both, 1, 25);
  CHECK_THROWS_AS(forward(draw(both), Tensor<double, 3>({1, 8, 1}), &state), DomainError);
  CHECK_THROWS_AS(forward(weights, Tensor<double, 3>({2, 8, 1}), &state), ShapeError);
  CHECK_THROWS_AS(forward(weights, Tensor<double, 3>({1, 8, 2})), ShapeError);
  CHECK_THROWS_AS(S4Weights<double>({.width = 1, .state = 5}), DomainError);
  CHECK_THROWS_AS(S4Weights<double>({.width = 1, .rank = 17}), DomainError);
  CHECK_THROWS_AS(S4Weights<double>({.width = 1, .length = 0}), DomainError);
  CHECK_THROWS_AS(S4Recurrence(weights, 0), DomainError);
}
