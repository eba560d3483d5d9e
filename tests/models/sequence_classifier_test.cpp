#include "ssm/models/sequence_classifier.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "../../examples/gru.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/s4.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s5.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/precision.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

/// A classifier of blocks around a mixer.
template <class Mixer>
using Model = SequenceClassifier<S4Block<Mixer>>;

template <class Mixer>
typename Model<Mixer>::Config config_of(const typename Mixer::Config& mixer) {
  return {.inputs = 2, .classes = 3, .backbone = {2, {{mixer}, 1e-5}}};
}

template <class Mixer>
Model<Mixer> draw(const typename Mixer::Config& mixer_config) {
  Model<Mixer> model(config_of<Mixer>(mixer_config));
  initialize(model, 1, [](auto& block, std::uint64_t block_seed) {
    initialize(block, block_seed, [](auto& gated, std::uint64_t gated_seed) {
      initialize(gated, gated_seed, [](Mixer& mixer, std::uint64_t seed) {
        if constexpr (std::is_same_v<Mixer, S4<double>>)
          initialize(mixer, hippo_dplr<double>(Hippo::legs, mixer.config.state), seed, 0.05, 0.2);
        else if constexpr (std::is_same_v<Mixer, S4d<double>> || std::is_same_v<Mixer, S5<double>>)
          initialize(mixer, s4d_modes<double>(S4dInit::legs, mixer.config.state), seed, 0.05, 0.2);
        else
          initialize(mixer, seed);
      });
    });
  });
  Random random(2);
  for (double& x : model.head_bias) x = random.normal();
  return model;
}

Tensor<Token, 1> labels_of(std::initializer_list<Token> values) {
  Tensor<Token, 1> labels({static_cast<Index>(values.size())});
  std::copy(values.begin(), values.end(), labels.begin());
  return labels;
}

template <class Mixer>
void check_gradients(const typename Mixer::Config& config) {
  auto model = draw<Mixer>(config);
  const auto labels = labels_of({2, 0, 1});
  LayerOptions<> options;
  options.dropout = {0.2, 4};
  const auto u = Random(3).normal<double, 3>({3, 7, 2});
  typename Model<Mixer>::Scratch scratch;
  const auto value = [&] { return loss(cpu(2), model, u, labels, {}, options, scratch); };
  Model<Mixer> gradients;
  CHECK(loss(cpu(2), model, u, labels, gradients, options, scratch) ==
        Approx(value()).epsilon(1e-14));
  parameters(model, [&](std::string_view name, auto& tensor, const auto&, bool) {
    parameters(gradients, [&](std::string_view its, auto& gradient, const auto&, bool) {
      if constexpr (std::is_same_v<decltype(tensor), decltype(gradient)>)
        if (name == its) {
          INFO(std::string(name));
          CHECK(test::gradient_error(value, tensor, gradient) < 1e-8);
        }
    });
  });
}

}  // namespace

TEST_CASE("a classifier has the gradients of finite differences around every mixer") {
  check_gradients<S4d<double>>({.width = 3, .state = 4});
  check_gradients<S4<double>>({.width = 3, .state = 4});
  check_gradients<S5<double>>({.width = 3, .state = 4});
  check_gradients<Mamba<double>>({.width = 3, .state = 2});
  check_gradients<gru::Gru<double>>({.width = 3});
}

TEST_CASE("a classifier's bits do not depend on threads, nor on the other sequences") {
  const auto model = draw<S5<double>>({.width = 5, .state = 6});
  const auto u = Random(5).normal<double, 3>({4, 33, 2});
  const auto logits = [&](const View<const double, 3>& sequences, int threads) {
    Model<S5<double>>::Scratch scratch;
    Tensor<double, 2> result({sequences.extent(0), 3});
    forward(cpu(threads), model, sequences, result, {}, scratch);
    return result;
  };
  const auto all = logits(u, 1);
  CHECK(test::same_bits(all, logits(u, 3)));
  const auto alone = logits(u.view().slice(0, 2, 1), 1);
  for (Index k = 0; k < 3; ++k) CHECK(std::abs(alone(0, k) - all(2, k)) < 1e-13);
}

TEST_CASE("packed sequences are classified each by itself: padding moves no score") {
  const auto model = draw<S4d<double>>({.width = 5, .state = 6});
  const auto u = Random(9).normal<double, 3>({1, 30, 2});
  Tensor<Index, 1> offsets({4});
  offsets(1) = 12;
  offsets(2) = 13;
  offsets(3) = 30;
  LayerOptions<> options;
  options.sequences.offsets = offsets;
  Model<S4d<double>>::Scratch scratch;
  Tensor<double, 2> packed({3, 3}), alone({1, 3});
  forward(cpu(2), model, u, packed, options, scratch);
  const auto labels = labels_of({2, 0, 1});
  Model<S4d<double>> gradients, one;
  const double mean = loss(cpu(2), model, u, labels, gradients, options, scratch);
  double sum = 0;
  for (Index s = 0; s < 3; ++s) {
    const auto piece = u.view().slice(1, offsets(s), offsets(s + 1) - offsets(s));
    forward(cpu(1), model, piece, alone, {}, scratch);
    for (Index k = 0; k < 3; ++k) CHECK(std::abs(alone(0, k) - packed(s, k)) < 1e-12);
    sum += loss(cpu(1), model, piece, labels_of({labels(s)}), one, {}, scratch);
  }
  CHECK(mean == Approx(sum / 3).epsilon(1e-12));
}

namespace {

template <class Mixer>
void check_nan(const typename Mixer::Config& config) {
  const auto model = draw<Mixer>(config);
  typename Model<Mixer>::Scratch scratch;
  for (const Index length : {20, 300}) {
    auto u = Random(7).normal<double, 3>({3, length, 2});
    u(1, 10, 0) = std::numeric_limits<double>::quiet_NaN();
    Tensor<double, 2> logits({3, 3});
    forward(cpu(1), model, u, logits, {}, scratch);
    for (Index k = 0; k < 3; ++k) {
      CHECK(std::isfinite(logits(0, k)));
      CHECK(std::isnan(logits(1, k)));
      CHECK(std::isfinite(logits(2, k)));
    }
  }
}

}  // namespace

TEST_CASE("a NaN spoils a classifier's scores of its sequence, and of no other") {
  check_nan<S4d<double>>({.width = 3, .state = 4});
  check_nan<S4<double>>({.width = 3, .state = 4});
  check_nan<S5<double>>({.width = 3, .state = 4});
}

namespace {

template <class Mixer>
void check_steps(const typename Mixer::Config& config) {
  const auto model = draw<Mixer>(config);
  const auto u = Random(6).normal<double, 3>({2, 9, 2});
  LayerOptions<> options;
  options.rate = 2;
  typename Model<Mixer>::Scratch scratch;
  auto state = make_state(model, 2);
  typename Model<Mixer>::Stepper stepper(model, 2, options);
  Tensor<double, 2> now({2, 3}), whole({2, 3});
  for (Index t = 0; t < 9; ++t) {
    const View<const double, 2> input(&u(0, t, 0), {2, 2}, {18, 1});
    CHECK(test::allocations_of([&] { step(stepper, input, state, now); }) == 0);
    Tensor<double, 3> so_far({2, t + 1, 2});
    for (Index b = 0; b < 2; ++b) std::copy_n(&u(b, 0, 0), 2 * (t + 1), &so_far(b, 0, 0));
    forward(cpu(1), model, so_far, whole, options, scratch);
    CHECK(test::relative_error(now, whole) < 1e-12);
  }
}

}  // namespace

TEST_CASE("a classifier's steps say what its forward pass says of the sequence so far") {
  check_steps<S4d<double>>({.width = 3, .state = 4});
  check_steps<S4<double>>({.width = 3, .state = 4});
  check_steps<S5<double>>({.width = 3, .state = 4});
}

TEST_CASE(
    "a classifier's step with what belongs to another model ends the program with a sentence") {
  const auto model = draw<S4d<double>>({.width = 3, .state = 4});
  const auto run = [&](Model<S4d<double>>::State state, Index inputs) {
    return test::last_words([&] {
      Model<S4d<double>>::Stepper stepper(model, 2);
      const Tensor<double, 2> input({2, inputs});
      Tensor<double, 2> logits({2, 3});
      step(stepper, input, state, logits);
    });
  };
  CHECK(run(make_state(model, 2), 2).empty());
  CHECK_THAT(run(make_state(model, 2), 3),
             test::contains("step of SequenceClassifier: input is (2, 3), expected (2, 2)"));
  CHECK_THAT(run({}, 2),
             test::contains("step of SequenceClassifier: state is (0, 0), expected (2, 3)"));
}

TEST_CASE("a classifier needs sequences of its inputs and labels of its classes") {
  const auto model = draw<S4d<double>>({.width = 3, .state = 4});
  Model<S4d<double>>::Scratch scratch;
  const Tensor<double, 3> u({1, 5, 2}), wide({1, 5, 3});
  const auto value = [&](const Tensor<double, 3>& sequences, const Tensor<Token, 1>& labels) {
    return loss(cpu(1), model, sequences, labels, {}, {}, scratch);
  };
  CHECK_THROWS_AS(value(wide, labels_of({0})), ShapeError);
  CHECK_THROWS_AS(value(u, labels_of({0, 1})), ShapeError);
  CHECK_THROWS_AS(value(u, labels_of({3})), DomainError);
  auto none = config_of<S4d<double>>({.width = 3, .state = 4});
  none.inputs = 0;
  CHECK_THROWS_AS(Model<S4d<double>>(none), DomainError);
  CHECK(std::isfinite(value(u, labels_of({2}))));
}

namespace {

template <template <class...> class Mixer>
void check_float(const typename Mixer<double>::Config& config, Index length) {
  const auto wide = draw<Mixer<double>>(config);
  Model<Mixer<float>> narrow(config_of<Mixer<float>>(config));
  test::assign(wide, narrow);
  const auto labels = labels_of({2, 0, 1});
  const auto run = [&]<class T>(T) {
    Model<Mixer<T>> model(config_of<Mixer<T>>(config)), gradients;
    test::assign(narrow, model);
    const auto u = test::float_normal<T>(8, std::array<Index, 3>{3, length, 2});
    typename Model<Mixer<T>>::Scratch scratch;
    test::Results results;
    Tensor<double, 1> value({1});
    value(0) = loss(cpu(1), model, u, labels, gradients, {}, scratch);
    test::add_result(results, "loss", value);
    test::add_results(results, gradients);
    return results;
  };
  const auto [error, where] = test::largest_error(run(float()), run(double()));
  INFO(where << " length " << length);
  CHECK(error < 16 * static_cast<double>(std::numeric_limits<float>::epsilon()) *
                    std::sqrt(static_cast<double>(length)));
}

}  // namespace

TEST_CASE("a classifier's loss and gradients in float are those in double, around every mixer") {
  for (const Index length : {1, 300}) {
    check_float<S4d>({.width = 8, .state = 16}, length);
    check_float<S4d>({.width = 8, .state = 16, .bidirectional = true}, length);
    check_float<S4>({.width = 8, .state = 16}, length);
    check_float<S5>({.width = 8, .state = 16}, length);
  }
}
