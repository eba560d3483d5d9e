#include "ssm/layers/cross_entropy.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

TEST_CASE("cross-entropy is the mean of −log softmax at the target, with its gradient") {
  Random random(1);
  for (const Index vocab : {1, 2, 13, 40}) {
    auto logits = random.normal<double, 2>({6, vocab}, 3);
    Tensor<Token, 2> targets({2, 3});
    for (Token& t : targets) t = static_cast<Token>(random.integer(0, vocab - 1));
    double want = 0;
    for (Index i = 0; i < 6; ++i) {
      double sum = 0;
      for (Index v = 0; v < vocab; ++v) sum += std::exp(logits(i, v));
      want += (std::log(sum) - logits(i, targets(i / 3, i % 3))) / 6;
    }
    CrossEntropyWorkspace workspace;
    Tensor<double, 2> gradient({6, vocab});
    const auto loss = [&] { return cross_entropy<double>(cpu(1), logits, targets, {}, workspace); };
    CHECK(loss() == Approx(want).epsilon(1e-14).margin(1e-14));
    const double with_gradient =
        cross_entropy<double>(cpu(2), logits, targets, gradient, workspace);
    CHECK(with_gradient == Approx(want).epsilon(1e-14).margin(1e-14));
    CHECK(test::gradient_error(loss, logits, gradient) < 1e-9);
    auto in_place = logits;
    cross_entropy<double>(cpu(1), in_place, targets, in_place, workspace);
    CHECK(test::same_bits(in_place, gradient));
  }
}

TEST_CASE("cross-entropy holds for huge logits, passes NaN on, and is 0 for nothing") {
  CrossEntropyWorkspace workspace;
  Tensor<float, 2> logits({1, 3});
  Tensor<Token, 2> targets({1, 1});
  logits(0, 0) = 3e38f;
  logits(0, 1) = -3e38f;
  CHECK(cross_entropy<float>(cpu, logits, targets, {}, workspace) == 0);
  logits(0, 2) = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(cross_entropy<float>(cpu, logits, targets, {}, workspace)));
  CHECK(cross_entropy<float>(cpu, Tensor<float, 2>({0, 3}), Tensor<Token, 2>({0, 5}), {},
                             workspace) == 0);
}

TEST_CASE("cross-entropy's bits do not depend on the number of threads") {
  Random random(3);
  const auto logits = random.normal<float, 2>({500, 31});
  Tensor<Token, 2> targets({5, 100});
  for (Token& t : targets) t = static_cast<Token>(random.integer(0, 30));
  CrossEntropyWorkspace workspace;
  Tensor<float, 2> one({500, 31}), many({500, 31});
  const double loss = cross_entropy<float>(cpu(1), logits, targets, one, workspace);
  for (const int threads : {2, 3}) {
    CHECK(cross_entropy<float>(cpu(threads), logits, targets, many, workspace) == loss);
    CHECK(test::same_bits(one, many));
  }
}

TEST_CASE("cross-entropy refuses a target outside the vocabulary") {
  CrossEntropyWorkspace workspace;
  Tensor<Token, 2> targets({1, 1});
  targets(0, 0) = 3;
  CHECK_THROWS_AS(cross_entropy<float>(cpu, Tensor<float, 2>({1, 3}), targets, {}, workspace),
                  DomainError);
}
