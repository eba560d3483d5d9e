#include "ssm/layers/dropout.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

using ssm::cpu;
using ssm::Dropout;
using ssm::DropoutScratch;
using ssm::Index;
using ssm::Tensor;

TEST_CASE("dropout zeroes its share of the elements and keeps the mean") {
  const double p = 0.3;
  Tensor<double, 2> x({400, 250});
  x.fill(1);
  DropoutScratch<double> scratch;
  ssm::dropout(cpu, {x}, {p, 7}, {x}, scratch);
  Index zeros = 0;
  double sum = 0;
  for (double value : x) {
    zeros += value == 0 ? 1 : 0;
    sum += value;
    CHECK((value == 0 || value == Approx(1 / (1 - p))));
  }
  const double count = static_cast<double>(x.size());
  const double deviation = std::sqrt(p * (1 - p) / count);
  CHECK(std::abs(static_cast<double>(zeros) / count - p) <= 5 * deviation);
  CHECK(std::abs(sum / count - 1) <= 5 * deviation / (1 - p));
}

TEST_CASE("the same seed and part drop the same elements, for any number of threads") {
  const Tensor<float, 2> x = ssm::test::Random(1).normal<float, 2>({37, 19});
  DropoutScratch<float> scratch;
  const auto dropped = [&](int threads, const Dropout& options) {
    Tensor<float, 2> y = x;
    ssm::dropout(cpu(threads), {y}, options, {y}, scratch);
    return y;
  };
  const Dropout three{0.5, 3}, four{0.5, 4};
  const Tensor<float, 2> once = dropped(1, three.of(2));
  CHECK(ssm::test::same_bits(once, dropped(3, three.of(2))));
  CHECK_FALSE(ssm::test::same_bits(once, dropped(1, three)));
  CHECK_FALSE(ssm::test::same_bits(once, dropped(1, four.of(2))));
  CHECK_FALSE(ssm::test::same_bits(once, dropped(1, three.of(1))));
  CHECK(ssm::test::same_bits(x, dropped(1, {0.0, 3})));
}

TEST_CASE("dropout into other memory, and its gradient, are dropout in place") {
  const Tensor<float, 2> x = ssm::test::Random(2).normal<float, 2>({37, 19});
  DropoutScratch<float> scratch;
  for (const double p : {0.0, 0.4}) {
    const Dropout options{p, 5};
    Tensor<float, 2> in_place = x, y(x.extents()), dx(x.extents());
    ssm::dropout(cpu, {in_place}, options, {in_place}, scratch);
    ssm::dropout(cpu, {x}, options, {y}, scratch);
    CHECK(ssm::test::same_bits(y, in_place));
    ssm::dropout_backward(cpu, {x}, options, {x}, {dx}, scratch);
    CHECK(ssm::test::same_bits(dx, in_place));
  }
}

TEST_CASE("dropout refuses a probability outside [0, 1), and rows that are not contiguous") {
  Tensor<float, 2> x({2, 2}), wide({2, 3});
  DropoutScratch<float> scratch;
  for (double p : {-0.1, 1.0, std::nan("")})
    CHECK_THROWS_AS(ssm::dropout(cpu, {x}, {p}, {x}, scratch), ssm::DomainError);
  for (double p : {0.0, 0.5}) {
    CHECK_THROWS_AS(ssm::dropout(cpu, {wide.view().slice(1, 0, 2)}, {p}, {x}, scratch),
                    ssm::ShapeError);
    CHECK_THROWS_AS(ssm::dropout(cpu, {x}, {p}, {wide.view().slice(1, 0, 2)}, scratch),
                    ssm::ShapeError);
    CHECK_THROWS_AS(ssm::dropout(cpu, {x}, {p}, {wide}, scratch), ssm::ShapeError);
    CHECK_THROWS_AS(ssm::dropout(cpu, {}, {p}, {}, scratch), ssm::ShapeError);
    CHECK_THROWS_AS(ssm::dropout_backward(cpu, {x}, {p}, {wide}, {wide}, scratch), ssm::ShapeError);
  }
}
