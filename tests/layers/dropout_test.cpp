#include "ssm/layers/dropout.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

using ssm::cpu;
using ssm::Dropout;
using ssm::Index;
using ssm::Tensor;

TEST_CASE("dropout zeroes its share of the elements and keeps the mean") {
  const double p = 0.3;
  Tensor<double, 2> x({400, 250});
  x.fill(1);
  ssm::apply_dropout<double>(cpu, {p, 7}, 0, x);
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

TEST_CASE("the same seed and layer drop the same elements, for any number of threads") {
  const Tensor<float, 2> x = ssm::test::Random(1).normal<float, 2>({37, 19});
  const auto dropped = [&](int threads, const Dropout& dropout, Index layer) {
    Tensor<float, 2> y = x;
    ssm::apply_dropout<float>(cpu(threads), dropout, layer, y);
    return y;
  };
  const Tensor<float, 2> once = dropped(1, {0.5, 3}, 2);
  CHECK(ssm::test::same_bits(once, dropped(3, {0.5, 3}, 2)));
  CHECK_FALSE(ssm::test::same_bits(once, dropped(1, {0.5, 4}, 2)));
  CHECK_FALSE(ssm::test::same_bits(once, dropped(1, {0.5, 3}, 1)));
  CHECK(ssm::test::same_bits(x, dropped(1, {0.0, 3}, 2)));
}

TEST_CASE("dropout refuses a probability outside [0, 1)") {
  Tensor<float, 2> x({2, 2});
  for (double p : {-0.1, 1.0, std::nan("")})
    CHECK_THROWS_AS(ssm::apply_dropout<float>(cpu, {p, 0}, 0, x), ssm::DomainError);
}
