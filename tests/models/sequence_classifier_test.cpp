#include "ssm/models/sequence_classifier.hpp"

#include <limits>

#include "../../examples/gru.hpp"
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

template <class Mixer>
SequenceClassifierWeights<double, Mixer> draw(const typename Mixer::Shape& shape) {
  SequenceClassifierWeights<double, Mixer> weights(
      {.inputs = 2, .classes = 3, .layers = 2, .mixer = shape});
  initialize(weights, 1, [](auto& mixer, std::uint64_t seed) {
    if constexpr (std::is_same_v<Mixer, gru::Mixer>)
      initialize(mixer, seed);
    else if constexpr (std::is_same_v<Mixer, S4Mixer>)
      initialize(mixer, hippo_dplr<double>(Hippo::legs, mixer.shape().state), seed, 0.05, 0.2);
    else
      initialize(mixer, s4d_modes<double>(S4dInit::legs, mixer.shape().state), seed, 0.05, 0.2);
  });
  Random random(2);
  for (double& x : weights.head_bias) x = random.normal();
  return weights;
}

Tensor<Token, 1> labels_of(std::initializer_list<Token> values) {
  Tensor<Token, 1> labels({static_cast<Index>(values.size())});
  std::copy(values.begin(), values.end(), labels.begin());
  return labels;
}

template <class Mixer>
void check_gradients(const typename Mixer::Shape& shape) {
  auto weights = draw<Mixer>(shape);
  const auto labels = labels_of({2, 0, 1});
  const SequenceClassifierOptions<double, Mixer> options{
      .dropout = {.probability = 0.2, .seed = 4}};
  for (const Index length : {1, 6}) {
    const auto u = Random(3).normal<double, 3>({3, length, 2});
    SequenceClassifierWorkspace<double, Mixer> workspace;
    SequenceClassifierWeights<double, Mixer> gradients;
    classifier_loss<double>(cpu(2), weights, u, labels, &gradients, options, workspace);
    const auto loss = [&] {
      return classifier_loss<double, Mixer>(cpu(1), weights, u, labels, nullptr, options,
                                            workspace);
    };
    std::vector<std::pair<const double*, Index>> wanted;
    gradients.visit([&](const std::string&, const auto& tensor, bool) {
      wanted.emplace_back(tensor.data(), tensor.size());
    });
    std::size_t at = 0;
    weights.visit([&](const std::string& name, auto& tensor, bool) {
      auto gradient = tensor;
      std::copy_n(wanted[at].first, wanted[at].second, gradient.begin());
      ++at;
      INFO(name << " length " << length);
      CHECK(test::gradient_error(loss, tensor, gradient) < 1e-7);
    });
  }
}

}  // namespace

TEST_CASE("a classifier has the gradients of finite differences around every mixer") {
  check_gradients<S4dMixer>({.width = 3, .state = 4});
  check_gradients<S4Mixer>({.width = 3, .state = 4, .length = 6});
  check_gradients<S5Mixer>({.width = 3, .state = 4});
  check_gradients<gru::Mixer>({.width = 3});
}

TEST_CASE("a classifier's bits do not depend on threads, nor on the other sequences") {
  const auto weights = draw<S5Mixer>({.width = 5, .state = 6});
  const auto u = Random(5).normal<double, 3>({4, 33, 2});
  const auto logits = [&](const View<const double, 3>& sequences, int threads) {
    SequenceClassifierWorkspace<double, S5Mixer> workspace;
    Tensor<double, 2> result({sequences.extent(0), 3});
    classifier_forward<double>(cpu(threads), weights, sequences, result, {}, workspace);
    return result;
  };
  const auto all = logits(u, 1);
  CHECK(test::same_bits(all, logits(u, 3)));
  const auto alone = logits(u.view().slice(0, 2, 1), 1);
  for (Index k = 0; k < 3; ++k) CHECK(std::abs(alone(0, k) - all(2, k)) < 1e-13);
}

namespace {

template <class Mixer>
void check_nan(const typename Mixer::Shape& shape) {
  const auto weights = draw<Mixer>(shape);
  SequenceClassifierWorkspace<double, Mixer> workspace;
  for (const Index length : {20, 300}) {
    auto u = Random(7).normal<double, 3>({3, length, 2});
    u(1, 10, 0) = std::numeric_limits<double>::quiet_NaN();
    Tensor<double, 2> logits({3, 3});
    classifier_forward<double>(cpu(1), weights, u, logits, {}, workspace);
    for (Index k = 0; k < 3; ++k) {
      CHECK(std::isfinite(logits(0, k)));
      CHECK(std::isnan(logits(1, k)));
      CHECK(std::isfinite(logits(2, k)));
    }
  }
}

}  // namespace

TEST_CASE("a NaN spoils a classifier's scores of its sequence, and of no other") {
  check_nan<S4dMixer>({.width = 3, .state = 4});
  check_nan<S4Mixer>({.width = 3, .state = 4, .length = 300});
  check_nan<S5Mixer>({.width = 3, .state = 4});
}

namespace {

template <class Mixer>
void check_steps(const typename Mixer::Shape& shape) {
  const auto weights = draw<Mixer>(shape);
  const auto u = Random(6).normal<double, 3>({2, 9, 2});
  const SequenceClassifierOptions<double, Mixer> options{.mixer = {.rate = 2}};
  SequenceClassifierWorkspace<double, Mixer> workspace;
  SequenceClassifierState<double, Mixer> state(weights.config, 2);
  SequenceClassifierStepScratch<double, Mixer> scratch(weights, 2, options);
  Tensor<double, 2> now({2, 3}), whole({2, 3});
  for (Index t = 0; t < 9; ++t) {
    const View<const double, 2> input(&u(0, t, 0), {2, 2}, {18, 1});
    CHECK(test::allocations_of(
              [&] { classifier_step<double>(weights, input, state, now, scratch); }) == 0);
    Tensor<double, 3> so_far({2, t + 1, 2});
    for (Index b = 0; b < 2; ++b) std::copy_n(&u(b, 0, 0), 2 * (t + 1), &so_far(b, 0, 0));
    classifier_forward<double>(cpu(1), weights, so_far, whole, options, workspace);
    CHECK(test::relative_error(now, whole) < 1e-12);
  }
}

}  // namespace

TEST_CASE("a classifier's steps say what its forward pass says of the sequence so far") {
  check_steps<S4dMixer>({.width = 3, .state = 4});
  check_steps<S4Mixer>({.width = 3, .state = 4, .length = 9});
  check_steps<S5Mixer>({.width = 3, .state = 4});
}

TEST_CASE(
    "a classifier's step with what belongs to another model ends the program with a sentence") {
  const auto weights = draw<S4dMixer>({.width = 3, .state = 4});
  const auto step = [&](SequenceClassifierState<double> state, Index inputs) {
    return test::last_words([&] {
      SequenceClassifierStepScratch<double> scratch(weights, 2);
      Tensor<double, 2> input({2, inputs}), logits({2, 3});
      classifier_step<double>(weights, input, state, logits, scratch);
    });
  };
  CHECK(step({weights.config, 2}, 2).empty());
  CHECK_THAT(step({weights.config, 2}, 3),
             test::contains("classifier_step: input is (2, 3), expected (2, 2)"));
  CHECK_THAT(step({}, 2), test::contains("classifier_step: state is (0, 0), expected (2, 3)"));
}

TEST_CASE("a classifier needs sequences of its inputs and labels of its classes") {
  const auto weights = draw<S4dMixer>({.width = 3, .state = 4});
  SequenceClassifierWorkspace<double> workspace;
  const Tensor<double, 3> u({1, 5, 2}), wide({1, 5, 3});
  const auto loss = [&](const Tensor<double, 3>& sequences, const Tensor<Token, 1>& labels) {
    return classifier_loss<double>(cpu(1), weights, sequences, labels, nullptr, {}, workspace);
  };
  CHECK_THROWS_AS(loss(wide, labels_of({0})), ShapeError);
  CHECK_THROWS_AS(loss(u, labels_of({0, 1})), ShapeError);
  CHECK_THROWS_AS(loss(u, labels_of({3})), DomainError);
  CHECK_THROWS_AS(SequenceClassifierWeights<double>({.inputs = 0}), DomainError);
  CHECK(std::isfinite(loss(u, labels_of({2}))));
}

namespace {

template <class Mixer>
void check_float(const typename Mixer::Shape& shape, Index length) {
  const auto wide = draw<Mixer>(shape);
  SequenceClassifierWeights<float, Mixer> narrow(wide.config);
  test::assign(wide, narrow);
  const auto labels = labels_of({2, 0, 1});
  const auto run = [&]<class T>(T) {
    SequenceClassifierWeights<T, Mixer> weights(wide.config), gradients;
    test::assign(narrow, weights);
    const auto u = test::float_normal<T>(8, std::array<Index, 3>{3, length, 2});
    SequenceClassifierWorkspace<T, Mixer> workspace;
    test::Results results;
    Tensor<double, 1> loss({1});
    loss(0) = classifier_loss<T>(cpu(1), weights, u, labels, &gradients, {}, workspace);
    test::add_result(results, "loss", loss);
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
    check_float<S4dMixer>({.width = 8, .state = 16}, length);
    check_float<S4dMixer>({.width = 8, .state = 16, .bidirectional = true}, length);
    check_float<S4Mixer>({.width = 8, .state = 16, .length = 300}, length);
    check_float<S5Mixer>({.width = 8, .state = 16}, length);
  }
}
