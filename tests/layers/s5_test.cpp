#include "ssm/layers/s5.hpp"

#include <cmath>
#include <limits>
#include <type_traits>

#include "support/both_ways_laws.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/last_words.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"

namespace s5_test {

using namespace ssm;
using test::Random;

static_assert(SequenceLayer<S5<float>> && SequenceLayer<S5<double>>);

namespace {

template <class T>
S5<T> draw(const S5Config& config, std::uint64_t seed) {
  S5<T> layer(config);
  DiagonalModes<double> block{Eigen::VectorXcd(2), Eigen::VectorXcd::Ones(2)};
  block.lambda << std::complex<double>(-0.5, 0.4), std::complex<double>(-0.7, 4.0);
  initialize(layer, block, seed, 0.02, 0.2);
  return layer;
}

template <class T>
S5State<T> draw_state(const S5<T>& layer, Index batch, std::uint64_t seed) {
  auto state = make_state(layer, batch);
  state.x = Random(seed).normal<std::complex<T>, 2>(state.x.extents());
  return state;
}

template <class T>
struct Result {
  Tensor<T, 3> y;
  S5State<T> final;
};

/// From a state, or from rest without a state after.
template <class T>
Result<T> run(const S5<T>& layer, const View<const T, 3>& x, const S5State<T>* initial,
              const LayerOptions<>& options = {}, int threads = 1) {
  Result<T> result{Tensor<T, 3>(x.extents()), {}};
  S5Scratch<T> scratch;
  if (initial) {
    result.final = *initial;
    forward(cpu(threads), layer, x, result.final, result.y, options, scratch);
  } else {
    forward(cpu(threads), layer, x, {}, result.y, options, scratch);
  }
  return result;
}

constexpr S5Config small{.width = 3, .state = 8};
constexpr S5Config both{.width = 3, .state = 8, .bidirectional = true};
const test::LayerLaws of_both{.resumes = false, .steps = false, .causal = false};

}  // namespace

TEST_CASE("S5 keeps the laws of layers, by every method") {
  for (const auto method : {Discretization::zero_order_hold, Discretization::bilinear,
                            Discretization::forward_euler, Discretization::backward_euler}) {
    INFO("method " << static_cast<int>(method));
    test::check_layer_laws(draw<double>({.width = 3, .state = 8, .method = method}, 1), {});
  }
}

TEST_CASE("S5 of two directions keeps the laws of layers") {
  test::check_layer_laws(draw<double>(both, 2), of_both);
  test::check_split_both_ways(draw<double>(both, 3), of_both);
}

TEST_CASE("S5 in float is S5 in double") {
  test::check_precision(draw<float>(small, 26), S5<double>(small), {});
  test::check_precision(draw<float>(both, 26), S5<double>(both), of_both);
}

TEST_CASE("S5's bits do not depend on the number of threads") {
  for (const bool bidirectional : {false, true})
    test::check_threads(
        draw<double>({.width = 24, .state = 20, .bidirectional = bidirectional}, 14),
        {.long_length = 900});
}

TEMPLATE_TEST_CASE("S5 is its formula in double, step by step", "", float, double) {
  using T = TestType;
  const auto layer = draw<T>(small, 1);
  for (const Index length : {0, 1, 5, 700}) {
    const auto u = Random(2).normal<T, 3>({2, length, 3});
    const auto initial = draw_state<T>(layer, 2, 3);
    Tensor<double, 3> want(u.extents());
    Tensor<std::complex<double>, 2> x({2, 4});
    std::copy(initial.x.begin(), initial.x.end(), x.begin());
    for (Index b = 0; b < 2; ++b)
      for (Index t = 0; t < length; ++t) {
        for (Index c = 0; c < 3; ++c) want(b, t, c) = double{layer.D(c)} * double{u(b, t, c)};
        for (Index n = 0; n < 4; ++n) {
          const auto mode = zero_order_hold<std::complex<double>>(
              {-std::exp(double{layer.log_decay(n)}), layer.frequency(n)},
              std::exp(double{layer.log_delta(n)}));
          x(b, n) *= mode.a_bar;
          for (Index c = 0; c < 3; ++c)
            x(b, n) += mode.b_bar_factor *
                       std::complex<double>(layer.B(n, 0, c), layer.B(n, 1, c)) *
                       double{u(b, t, c)};
          for (Index c = 0; c < 3; ++c)
            want(b, t, c) +=
                2 * (std::complex<double>(layer.C(c, n, 0), layer.C(c, n, 1)) * x(b, n)).real();
        }
      }
    const auto got = run<T>(layer, u, &initial);
    const double bound = 8 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                         static_cast<double>(length + 1);
    CHECK(test::relative_error(got.y, want, 1) <= bound);
    CHECK(test::relative_error(got.final.x, x, 1) <= bound);
  }
}

TEST_CASE("what an S5 step cannot do is said when its stepper is made") {
  static_assert(!std::is_default_constructible_v<S5Stepper<double>>);
  const auto two_ways = draw<double>(both, 9);
  CHECK_THROWS_WITH(S5Stepper<double>(two_ways, 1),
                    "S5Stepper: layer is bidirectional, expected one direction, as a pass from the "
                    "end has no step");
  const auto layer = draw<double>(small, 9);
  const auto wide = draw<double>({.width = 3, .state = 64}, 9);
  S5Stepper<double> made(layer, 1);
  CHECK_THROWS_WITH(made.update(wide),
                    "S5Stepper: layer is of another configuration, expected that of the first");
  const auto words = [&](S5State<double> state) {
    return test::last_words([&] {
      S5Stepper<double> stepper(layer, 1);
      Tensor<double, 2> u({1, 3}), y({1, 3});
      step(stepper, u, state, y);
    });
  };
  CHECK(words(make_state(layer, 1)).empty());
  CHECK_THAT(words({}), test::contains("S5 step: state is (0, 0), expected (1, 4)"));
}

TEST_CASE("S5 refuses a rate that is no number above 0") {
  const auto layer = draw<double>(small, 31);
  const auto x = Random(32).normal<double, 3>({1, 4, 3});
  for (const double rate : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()})
    CHECK_THROWS_AS(run<double>(layer, x, nullptr, {.rate = rate}), DomainError);
}

TEST_CASE("S5 at half the sample rate and twice the Δ gives the output of a held input") {
  const auto layer = draw<double>(small, 12);
  const auto slow = Random(13).normal<double, 3>({1, 40, 3});
  Tensor<double, 3> fast({1, 80, 3}), want(slow.extents());
  for (Index t = 0; t < 80; ++t)
    for (Index c = 0; c < 3; ++c) fast(0, t, c) = slow(0, t / 2, c);
  const auto at_full = run<double>(layer, fast, nullptr);
  for (Index t = 0; t < 40; ++t)
    for (Index c = 0; c < 3; ++c) want(0, t, c) = at_full.y(0, 2 * t + 1, c);
  CHECK(test::relative_error(run<double>(layer, slow, nullptr, {.rate = 2}).y, want) < 1e-12);
}

TEST_CASE("S5 refuses wrong shapes, and methods that change C or D") {
  CHECK_THROWS_AS(S5<double>({.width = 3, .state = 8, .method = Discretization::tustin}),
                  DomainError);
  CHECK_THROWS_AS(S5<double>({.width = 3, .state = 7}), DomainError);
  const auto layer = draw<double>(small, 16);
  const auto x = Random(17).normal<double, 3>({2, 3, 4});
  CHECK_THROWS_WITH(run<double>(layer, x, nullptr),
                    "S5 forward: input is (2, 3, 4), expected (2, 3, 3)");
  const auto two_ways = draw<double>(both, 24);
  const auto one_way = make_state(layer, 1), both_ways = make_state(two_ways, 1);
  const Tensor<double, 3> u({1, 4, 3});
  CHECK_THROWS_WITH(run<double>(two_ways, u, &one_way),
                    "S5 forward: x_back of state is (0, 0), expected (1, 4)");
  CHECK_THROWS_WITH(run<double>(layer, u, &both_ways),
                    "S5 forward: x_back of state is (1, 4), expected none, as the layer has one "
                    "direction");
}

TEST_CASE("a bidirectional S5 is one layer forward and one from the end") {
  for (const bool reversed : {false, true})
    for (const Index length : {0, 1, 17}) {
      const auto layer = draw<double>(both, 21);
      const auto x = Random(22).normal<double, 3>({2, length, 3});
      S5<double> one(small), other(small);
      for (auto* part : {&one, &other}) {
        part->log_decay = layer.log_decay;
        part->frequency = layer.frequency;
        part->log_delta = layer.log_delta;
        part->B = layer.B;
      }
      one.C = layer.C;
      one.D = layer.D;
      other.C = layer.C_back;
      const auto at = [&](const S5<double>& l, bool backward, int threads) {
        LayerOptions<> options{.rate = 1.5};
        options.sequences.reversed = backward;
        return run<double>(l, x, nullptr, options, threads).y;
      };
      auto sum = at(one, reversed, 1);
      const auto later = at(other, !reversed, 1);
      for (Index i = 0; i < sum.size(); ++i) sum.data()[i] += later.data()[i];
      const auto y = at(layer, reversed, 1);
      CHECK(test::relative_error(y, sum, 1) < 1e-13);
      CHECK(test::same_bits(y, at(layer, reversed, 3)));
    }
}

}  // namespace s5_test
