#include "ssm/layers/s4_block.hpp"

#include <limits>

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

constexpr S4dShape small{.width = 3, .state = 6};

S4BlockWeights<double> draw(std::uint64_t seed, const S4dShape& shape = small) {
  S4BlockWeights<double> weights(shape);
  DiagonalModes<double> modes{Eigen::VectorXcd(shape.modes()),
                              Eigen::VectorXcd::Ones(shape.modes())};
  for (Index n = 0; n < shape.modes(); ++n) modes.lambda(n) = {-0.5, 3.0 * static_cast<double>(n)};
  initialize(weights, modes, seed, 0.02, 0.2);
  Random random(seed);
  for (double& x : weights.norm) x += 0.2 * random.normal();
  for (double& x : weights.out_bias) x = 0.2 * random.normal();
  return weights;
}

struct Result {
  Tensor<double, 3> y;
  S4dState<double> final;
  S4BlockSaved<double> saved;
};

Result forward(const S4BlockWeights<double>& weights, const View<const double, 3>& x,
               const S4dState<double>* initial, const S4BlockOptions<double>& options,
               int threads = 1) {
  Result result{Tensor<double, 3>(x.extents()), {}, {}};
  S4BlockWorkspace<double> workspace;
  s4_block_forward<double>(cpu(threads), weights, x, initial, result.y, &result.final, options,
                           result.saved, workspace);
  return result;
}

S4dState<double> draw_state(std::uint64_t seed) {
  S4dState<double> state(small, 2);
  state.x = Random(seed).normal<std::complex<double>, 3>(state.x.extents());
  return state;
}

}  // namespace

TEST_CASE("an S4 block has the gradients of finite differences, with dropout") {
  for (const Index length : {0, 1, 9}) {
    auto weights = draw(1);
    auto x = Random(2).normal<double, 3>({2, length, 3});
    const auto initial = draw_state(3), dfinal = draw_state(4);
    const auto dy = Random(5).normal<double, 3>(x.extents());
    const S4BlockOptions<double> options{.dropout = {.probability = 0.3, .seed = 6}, .layer = 1};
    const auto loss = [&] {
      const auto result = forward(weights, x, &initial, options);
      double sum = test::dot(result.y, dy);
      for (Index i = 0; i < dfinal.x.size(); ++i)
        sum += std::real(std::conj(dfinal.x.data()[i]) * result.final.x.data()[i]);
      return sum;
    };
    const auto saved = forward(weights, x, &initial, options).saved;
    S4BlockWeights<double> gradients;
    S4dState<double> dinitial;
    S4BlockWorkspace<double> workspace;
    auto dx = dy;
    s4_block_backward<double>(cpu(2), weights, x, &initial, options, saved, dx, &dfinal, gradients,
                              dx, &dinitial, workspace);
    CHECK(test::gradient_error(loss, x, dx) < 1e-8);
    CHECK(test::gradient_error(loss, weights.norm, gradients.norm) < 1e-8);
    CHECK(test::gradient_error(loss, weights.out_proj, gradients.out_proj) < 1e-8);
    CHECK(test::gradient_error(loss, weights.out_bias, gradients.out_bias) < 1e-8);
    CHECK(test::gradient_error(loss, weights.mixer.log_decay, gradients.mixer.log_decay) < 1e-8);
    CHECK(test::gradient_error(loss, weights.mixer.log_delta, gradients.mixer.log_delta) < 1e-8);
    CHECK(test::gradient_error(loss, weights.mixer.C, gradients.mixer.C) < 1e-8);
  }
}

TEST_CASE("an S4 block's step equals its forward pass and allocates nothing") {
  const auto weights = draw(7);
  const auto x = Random(8).normal<double, 3>({2, 12, 3});
  const auto initial = draw_state(9);
  const auto whole = forward(weights, x, &initial, {});
  auto state = initial;
  Tensor<double, 3> y(x.extents());
  S4BlockStepScratch<double> scratch(weights, 2);
  for (Index t = 0; t < 12; ++t) {
    const View<const double, 2> now(&x(0, t, 0), {2, 3}, {36, 1});
    const View<double, 2> out(&y(0, t, 0), {2, 3}, {36, 1});
    CHECK(test::allocations_of([&] { s4_block_step<double>(weights, now, state, out, scratch); }) ==
          0);
  }
  CHECK(test::relative_error(y, whole.y) < 1e-12);
  CHECK(test::relative_error(state.x, whole.final.x) < 1e-12);
}

TEST_CASE("an S4 block's step with a scratch of another batch ends the program with a sentence") {
  const auto weights = draw(7);
  static_assert(!std::is_default_constructible_v<S4BlockStepScratch<double>>);
  CHECK_THAT(test::last_words([&] {
               S4BlockStepScratch<double> scratch(weights, 2);
               S4dState<double> state(small, 3);
               Tensor<double, 2> row({3, 3});
               s4_block_step<double>(weights, row, state, row, scratch);
             }),
             test::contains("s4_block_step: input is (3, 3), expected (2, 3)"));
}

TEST_CASE("an S4 block's bits do not depend on the number of threads") {
  const S4dShape shape{.width = 20, .state = 8};
  const auto weights = draw(10, shape);
  const auto x = Random(11).normal<double, 3>({2, 150, 20});
  const auto one = forward(weights, x, nullptr, {}, 1), three = forward(weights, x, nullptr, {}, 3);
  CHECK(test::same_bits(one.y, three.y));
  CHECK(test::same_bits(one.final.x, three.final.x));
}

TEST_CASE("the gradients of an S4 block in float are those in double, with dropout") {
  const auto wide = draw(13);
  S4BlockWeights<float> narrow(small);
  test::assign(wide, narrow);
  for (const Index length : {1, 40, 600}) {
    const auto run = [&]<class T>(T) {
      S4BlockWeights<T> weights(small), gradients;
      test::assign(narrow, weights);
      const std::array<Index, 3> extents{2, length, 3};
      const auto x = test::float_normal<T>(14, extents), dy = test::float_normal<T>(15, extents);
      S4dState<T> initial(small, 2), dfinal(small, 2), dinitial;
      initial.x = test::float_normal<std::complex<T>>(16, initial.x.extents());
      dfinal.x = test::float_normal<std::complex<T>>(17, initial.x.extents());
      Tensor<T, 3> y(extents), dx(extents);
      S4BlockSaved<T> saved;
      S4BlockWorkspace<T> workspace;
      const S4BlockOptions<T> options{.dropout = {.probability = 0.3, .seed = 6}};
      s4_block_forward<T>(cpu(1), weights, x, &initial, y, nullptr, options, saved, workspace);
      s4_block_backward<T>(cpu(1), weights, x, &initial, options, saved, dy, &dfinal, gradients, dx,
                           &dinitial, workspace);
      test::Results results;
      test::add_results(results, gradients);
      test::add_result(results, "input", dx);
      test::add_result(results, "initial", dinitial.x);
      return results;
    };
    const auto [error, where] = test::largest_error(run(float()), run(double()));
    INFO(where << " length " << length);
    CHECK(error < 16 * static_cast<double>(std::numeric_limits<float>::epsilon()) *
                      std::sqrt(static_cast<double>(length)));
  }
}
