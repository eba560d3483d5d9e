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
    CrossEntropyScratch<double> scratch;
    Tensor<double, 2> gradient({6, vocab});
    const auto loss = [&] { return cross_entropy(cpu(1), {logits, targets}, {}, {}, scratch); };
    CHECK(loss() == Approx(want).epsilon(1e-14).margin(1e-14));
    const double with_gradient = cross_entropy(cpu(2), {logits, targets}, {}, {gradient}, scratch);
    CHECK(with_gradient == Approx(want).epsilon(1e-14).margin(1e-14));
    CHECK(test::gradient_error(loss, logits, gradient) < 1e-9);
    auto in_place = logits;
    cross_entropy(cpu(1), {in_place, targets}, {}, {in_place}, scratch);
    CHECK(test::same_bits(in_place, gradient));
  }
}

TEST_CASE("cross-entropy holds for huge logits, passes NaN on, and is 0 for nothing") {
  CrossEntropyScratch<float> scratch;
  Tensor<float, 2> logits({1, 3});
  Tensor<Token, 2> targets({1, 1});
  logits(0, 0) = 3e38f;
  logits(0, 1) = -3e38f;
  CHECK(cross_entropy(cpu, {logits, targets}, {}, {}, scratch) == 0);
  logits(0, 2) = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(cross_entropy(cpu, {logits, targets}, {}, {}, scratch)));
  CHECK(cross_entropy(cpu, {Tensor<float, 2>({0, 3}), Tensor<Token, 2>({0, 5})}, {}, {}, scratch) ==
        0);
}

TEST_CASE("the losses and gradients of parts of a batch are those of the whole") {
  Random random(2);
  const auto logits = random.normal<double, 2>({6, 5});
  Tensor<Token, 2> targets({1, 6});
  for (Token& t : targets) t = static_cast<Token>(random.integer(0, 4));
  targets(0, 4) = -100;
  CrossEntropyScratch<double> scratch;
  Tensor<double, 2> whole({6, 5}), parts({6, 5});
  const double want = cross_entropy(cpu, {logits, targets}, {}, {whole}, scratch);
  double sum = 0;
  for (const Index begin : {0, 2})
    sum += cross_entropy(cpu,
                         {logits.view().slice(0, begin, begin == 0 ? 2 : 4),
                          targets.view().slice(1, begin, begin == 0 ? 2 : 4)},
                         {.count = 5}, {parts.view().slice(0, begin, begin == 0 ? 2 : 4)}, scratch);
  CHECK(sum == Approx(want).epsilon(1e-14));
  CHECK(test::relative_error(parts, whole) < 1e-15);
  CHECK_THROWS_WITH(cross_entropy(cpu, {logits, targets}, {.count = -1}, {}, scratch),
                    "cross_entropy: count is -1, expected 0 or more");
}

TEST_CASE("cross-entropy's bits do not depend on the number of threads") {
  Random random(3);
  const auto logits = random.normal<float, 2>({500, 31});
  Tensor<Token, 2> targets({5, 100});
  for (Token& t : targets) t = static_cast<Token>(random.integer(0, 30));
  CrossEntropyScratch<float> scratch;
  Tensor<float, 2> one({500, 31}), many({500, 31});
  const double loss = cross_entropy(cpu(1), {logits, targets}, {}, {one}, scratch);
  for (const int threads : {2, 3}) {
    CHECK(cross_entropy(cpu(threads), {logits, targets}, {}, {many}, scratch) == loss);
    CHECK(test::same_bits(one, many));
  }
}

TEST_CASE("cross-entropy refuses a target outside the vocabulary") {
  CrossEntropyScratch<float> scratch;
  Tensor<Token, 2> targets({1, 1});
  targets(0, 0) = 3;
  CHECK_THROWS_AS(cross_entropy(cpu, {Tensor<float, 2>({1, 3}), targets}, {}, {}, scratch),
                  DomainError);
}

TEST_CASE("targets to ignore count for nothing") {
  Random random(4);
  CrossEntropyScratch<double> scratch;
  const auto logits = random.normal<double, 2>({8, 5}, 2);
  for (const Token ignore : {-100, -1, 2}) {
    Tensor<Token, 2> targets({2, 4}), few({1, 3});
    for (const Index i : {0, 1, 3, 5, 6}) targets.data()[i] = ignore;
    few(0, 0) = targets(0, 2) = 4;
    few(0, 1) = targets(1, 0) = 0;
    few(0, 2) = targets(1, 3) = 1;
    Tensor<double, 2> kept({3, 5}), dkept({3, 5}), dlogits({8, 5});
    const std::array<Index, 3> rows{2, 4, 7};
    for (Index k = 0; k < 3; ++k)
      for (Index v = 0; v < 5; ++v) kept(k, v) = logits(rows[static_cast<std::size_t>(k)], v);
    const double want = cross_entropy(cpu(1), {kept, few}, {}, {dkept}, scratch);
    auto spoilt = logits;
    spoilt(0, 1) = std::numeric_limits<double>::quiet_NaN();
    CHECK(cross_entropy(cpu(2), {spoilt, targets}, {ignore}, {dlogits}, scratch) == want);
    auto in_place = spoilt;
    CHECK(cross_entropy(cpu(2), {in_place, targets}, {ignore}, {in_place}, scratch) == want);
    CHECK(test::same_bits(in_place, dlogits));
    for (Index i = 0, k = 0; i < 8; ++i) {
      const bool counts = k < 3 && rows[static_cast<std::size_t>(k)] == i;
      for (Index v = 0; v < 5; ++v) CHECK(dlogits(i, v) == (counts ? dkept(k, v) : 0.0));
      k += counts ? 1 : 0;
    }
    targets.fill(ignore);
    CHECK(cross_entropy(cpu, {logits, targets}, {ignore}, {dlogits}, scratch) == 0);
    for (const double d : dlogits) CHECK(d == 0);
  }
}

TEST_CASE("cross-entropy names the argument of a wrong shape") {
  CrossEntropyScratch<float> scratch;
  Tensor<float, 2> logits({2, 3}), other({2, 4});
  Tensor<Token, 2> targets({1, 2}), more({1, 3});
  CHECK_THROWS_WITH(cross_entropy(cpu, {logits}, {}, {}, scratch),
                    "cross_entropy: targets is absent, expected (batch, length)");
  CHECK_THROWS_WITH(cross_entropy(cpu, {logits, more}, {}, {}, scratch),
                    "cross_entropy: logits is (2, 3), expected (3, 3)");
  CHECK_THROWS_WITH(cross_entropy(cpu, {logits, targets}, {}, {other}, scratch),
                    "cross_entropy: the gradient of logits is (2, 4), expected (2, 3)");
  CHECK_THROWS_AS(cross_entropy(cpu, {logits, targets}, {},
                                {View<float, 2>(logits.data(), {2, 3}, {2, 1})}, scratch),
                  ShapeError);
  const View<const float, 2> part(other.data(), {2, 3}, {4, 1});
  CHECK_THROWS_WITH(
      cross_entropy(cpu, {part, targets}, {}, {View<float, 2>(other.data(), {2, 3})}, scratch),
      "cross_entropy: the gradient of logits is over a part of the memory of logits, "
      "expected all of it or memory of its own");
}
