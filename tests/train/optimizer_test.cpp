#include "ssm/train/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "ssm/train/average.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "train/toy_weights.hpp"

using ssm::Index;
using ssm::test::random_weights;
using ssm::test::relative_error;
using ssm::test::same_bits;
using ssm::test::ToyWeights;

namespace {

constexpr ssm::AdamWOptions options{
    .learning_rate = 3e-2, .beta1 = 0.8, .beta2 = 0.97, .epsilon = 1e-6, .weight_decay = 0.2};

/// One parameter through `steps` steps, written down from the paper with m̂ and v̂ by name.
double reference(double w, double g0, int steps, bool decay) {
  double m = 0, v = 0;
  for (int t = 1; t <= steps; ++t) {
    const double g = g0 / t;
    m = options.beta1 * m + (1 - options.beta1) * g;
    v = options.beta2 * v + (1 - options.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(options.beta1, t));
    const double v_hat = v / (1 - std::pow(options.beta2, t));
    const double lambda = decay ? options.weight_decay : 0;
    w = w - options.learning_rate * (m_hat / (std::sqrt(v_hat) + options.epsilon) + lambda * w);
  }
  return w;
}

template <class T>
ToyWeights<T> optimized(int threads, int steps) {
  ToyWeights<T> weights = random_weights<T>(1);
  ssm::Optimizer<ToyWeights<T>> optimizer(weights);
  const ToyWeights<T> g0 = random_weights<T>(2);
  for (int t = 1; t <= steps; ++t) {
    ToyWeights<T> g = g0;
    parameters(g, [&](const auto&, auto& tensor, const auto&, bool) {
      for (T& x : tensor) x /= static_cast<T>(t);
    });
    ssm::optimizer_step(ssm::cpu(threads), weights, g, optimizer, options);
  }
  return weights;
}

template <class T>
double distance_to_reference(int steps) {
  const ToyWeights<T> got = optimized<T>(2, steps), g = random_weights<T>(2);
  ToyWeights<T> want = random_weights<T>(1);
  const auto fill = [&](auto& w, const auto& gradients, bool decay) {
    for (Index i = 0; i < w.size(); ++i)
      w.data()[i] =
          static_cast<T>(reference(static_cast<double>(w.data()[i]),
                                   static_cast<double>(gradients.data()[i]), steps, decay));
  };
  fill(want.matrix, g.matrix, true);
  fill(want.bias, g.bias, false);
  fill(want.cube, g.cube, true);
  return std::max({relative_error(got.matrix, want.matrix), relative_error(got.bias, want.bias),
                   relative_error(got.cube, want.cube)});
}

}  // namespace

TEST_CASE("AdamW takes the steps of the paper's formula, with decay where it is asked for") {
  constexpr int steps = 5;
  CHECK(distance_to_reference<double>(steps) < 1e-14);
  // Each step adds a few roundings to a weight, and the moments a few more.
  CHECK(distance_to_reference<float>(steps) < 10 * steps * std::numeric_limits<float>::epsilon());
}

TEST_CASE("AdamW gives the same bits for any number of threads") {
  const ToyWeights<float> one = optimized<float>(1, 3);
  for (int threads : {2, 3, 8}) {
    const ToyWeights<float> many = optimized<float>(threads, 3);
    CHECK(same_bits(one.matrix, many.matrix));
    CHECK(same_bits(one.bias, many.bias));
    CHECK(same_bits(one.cube, many.cube));
  }
}

TEST_CASE("AdamW lets NaN through to the weight it belongs to, and no further") {
  ToyWeights<double> weights = random_weights<double>(1), g = random_weights<double>(2);
  ssm::Optimizer<ToyWeights<double>> optimizer(weights);
  g.bias(3) = std::numeric_limits<double>::quiet_NaN();
  ssm::optimizer_step(ssm::cpu, weights, g, optimizer, options);
  for (Index i = 0; i < 7; ++i) CHECK(std::isnan(weights.bias(i)) == (i == 3));
}

TEST_CASE("AdamW refuses options out of range and gradients of another size") {
  ToyWeights<double> weights, gradients;
  ssm::Optimizer<ToyWeights<double>> optimizer(weights);
  const auto step = [&](Index t, const ssm::AdamWOptions& o) {
    optimizer.step = t - 1;
    ssm::optimizer_step(ssm::cpu, weights, gradients, optimizer, o);
  };
  CHECK_NOTHROW(step(1, {}));
  CHECK_THROWS_AS(step(0, {}), ssm::DomainError);
  CHECK_THROWS_AS(step(1, {.learning_rate = -1}), ssm::DomainError);
  CHECK_THROWS_AS(step(1, {.learning_rate = std::nan("")}), ssm::DomainError);
  CHECK_THROWS_AS(step(1, {.beta1 = 1}), ssm::DomainError);
  CHECK_THROWS_AS(step(1, {.beta2 = -0.1}), ssm::DomainError);
  CHECK_THROWS_AS(step(1, {.epsilon = 0}), ssm::DomainError);
  CHECK_THROWS_AS(step(1, {.weight_decay = -1}), ssm::DomainError);
  gradients.bias.resize({6});
  CHECK_THROWS_AS(step(1, {}), ssm::ShapeError);
}

TEST_CASE("a group has a learning rate and a decay of its own") {
  ToyWeights<double> weights = random_weights<double>(1);
  const ToyWeights<double> before = weights, g = random_weights<double>(2);
  ssm::Optimizer<ToyWeights<double>> optimizer(weights);
  ssm::optimizer_step(ssm::cpu, weights, g, optimizer, options,
                      [](std::string_view name, bool) {
                        return name == "bias" ? ssm::ParameterGroup{0, 0}
                               : name == "cube" ? ssm::ParameterGroup{0.5, 0}
                                                : ssm::ParameterGroup{1, 1};
                      });
  CHECK(same_bits(weights.bias, before.bias));
  // The first step of Adam is the sign of the gradient, but for epsilon.
  for (Index i = 0; i < weights.cube.size(); ++i) {
    const double sign = g.cube.data()[i] < 0 ? -1 : 1;
    CHECK(before.cube.data()[i] - weights.cube.data()[i] ==
          Approx(0.5 * options.learning_rate * sign).epsilon(1e-3));
  }
  CHECK(before.matrix(0, 0) * (1 - options.learning_rate * options.weight_decay) -
            weights.matrix(0, 0) ==
        Approx(options.learning_rate * (g.matrix(0, 0) < 0 ? -1 : 1)).epsilon(1e-3));
}

TEST_CASE("the average of weights that do not change is those weights") {
  const ToyWeights<double> weights = random_weights<double>(1);
  ToyWeights<double> average = weights;
  for (Index step = 1; step <= 5; ++step)
    ssm::update_average(ssm::cpu, average, weights, step, 0.9);
  CHECK(same_bits(average.matrix, weights.matrix));
}

TEST_CASE("the average forgets its start first quickly, then with the decay asked for") {
  ToyWeights<double> weights, average;
  average.bias.fill(1);
  double want = 1;
  for (Index step = 1; step <= 40; ++step) {
    ssm::update_average(ssm::cpu, average, weights, step, 0.75);
    want *= std::min(0.75, static_cast<double>(step) / static_cast<double>(step + 9));
    CHECK(average.bias(0) == Approx(want).epsilon(1e-13));
  }
  CHECK_THROWS_AS(ssm::update_average(ssm::cpu, average, weights, 1, 1.0), ssm::DomainError);
  CHECK_THROWS_AS(ssm::update_average(ssm::cpu, average, weights, 0, 0.5), ssm::DomainError);
}
