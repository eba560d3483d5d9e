#include "ssm/layers/s4.hpp"

#include "ssm/layers/s4_recurrence.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
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

Tensor<double, 3> forward(const S4Weights<double>& weights, const View<const double, 3>& u,
                          int threads = 1) {
  S4Workspace<double> workspace;
  Tensor<double, 3> y(u.extents());
  s4_forward<double>(cpu(threads), weights, u, y, workspace);
  return y;
}

/// What the layer says of u, step by step.
Tensor<double, 3> by_steps(const S4Weights<double>& weights, const Tensor<double, 3>& u,
                           double rate = 1) {
  const S4Recurrence recurrence(weights, rate);
  Tensor<std::complex<double>, 3> state({u.extent(0), u.extent(2), recurrence.modes()});
  Tensor<double, 3> y(u.extents());
  const Index length = u.extent(1), width = u.extent(2);
  for (Index t = 0; t < length; ++t) {
    const View<const double, 2> now(&u(0, t, 0), {u.extent(0), width}, {length * width, 1});
    const View<double, 2> out(&y(0, t, 0), {u.extent(0), width}, {length * width, 1});
    CHECK(test::allocations_of([&] { recurrence.step<double>(now, state, out); }) == 0);
  }
  return y;
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
      s4_backward<double>(cpu(2), weights, u, dy, gradients, du, workspace);
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

TEST_CASE("a bidirectional S4 layer hears every other input once, from both sides") {
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
  const auto y = forward(weights, u), past = forward(forward_only, u),
             future = forward(backward_only, mirrored);
  for (Index t = 0; t < 9; ++t) {
    const double want = past(0, t, 0) + (t < 8 ? future(0, 7 - t, 0) : 0);
    CHECK(std::abs(y(0, t, 0) - want) < 1e-12 * 9 * (1 + std::abs(want)));
  }
}

TEST_CASE("an S4 layer at half the rate sees the same signal") {
  auto weights = draw({.width = 1, .state = 8, .length = 2000}, 10);
  weights.log_delta.fill(std::log(0.002));
  Tensor<double, 3> fine({1, 2000, 1}), coarse({1, 1000, 1});
  for (Index t = 0; t < 2000; ++t) fine(0, t, 0) = std::sin(0.01 * static_cast<double>(t));
  for (Index t = 0; t < 1000; ++t) coarse(0, t, 0) = fine(0, 2 * t, 0);
  const auto y = by_steps(weights, fine), half = by_steps(weights, coarse, 2);
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
  S4Weights<float> narrow({.width = 5, .state = 16, .length = 100});
  initialize(narrow, hippo_dplr<double>(Hippo::legs, 16), 11, 0.02, 0.2);
  Tensor<float, 3> input(u.extents()), output(u.extents());
  std::copy(u.begin(), u.end(), input.begin());
  S4Workspace<float> workspace;
  s4_forward<float>(cpu(1), narrow, input, output, workspace);
  CHECK(test::relative_error(output, y) < 1e-4);
}

TEST_CASE("an S4 layer refuses what it cannot do by name") {
  const auto weights = draw({.width = 1, .state = 4, .length = 8});
  CHECK_THROWS_WITH(forward(weights, Tensor<double, 3>({1, 9, 1})),
                    "s4_forward: length is 9, expected at most 8, which C is truncated for "
                    "(s4_double_length doubles that)");
  CHECK_THROWS_AS(forward(weights, Tensor<double, 3>({1, 8, 2})), ShapeError);
  CHECK_THROWS_AS(S4Weights<double>({.width = 1, .state = 5}), DomainError);
  CHECK_THROWS_AS(S4Weights<double>({.width = 1, .rank = 17}), DomainError);
  CHECK_THROWS_AS(S4Weights<double>({.width = 1, .length = 0}), DomainError);
  CHECK_THROWS_AS(S4Recurrence(weights, 0), DomainError);
}
