#include "ssm/train/clip.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "train/toy_weights.hpp"

using ssm::test::random_weights;
using ssm::test::same_bits;
using ssm::test::ToyWeights;

namespace {

template <class T>
double plain_norm(const ToyWeights<T>& weights) {
  double sum = 0;
  ssm::parameters(weights, [&](const auto&, const auto& tensor, const auto&, bool) {
    for (T x : tensor) sum += static_cast<double>(x) * static_cast<double>(x);
  });
  return std::sqrt(sum);
}

}  // namespace

TEST_CASE("the gradient norm is the root of the sum of all squares") {
  const ToyWeights<float> gradients = random_weights<float>(3);
  const double norm = ssm::gradient_norm(ssm::cpu(1), gradients);
  CHECK(norm == Approx(plain_norm(gradients)).epsilon(1e-12));
  CHECK(ssm::gradient_norm(ssm::cpu(2), gradients) == norm);
  CHECK(ssm::gradient_norm(ssm::cpu(7), gradients) == norm);
  CHECK(ssm::gradient_norm(ssm::cpu, ToyWeights<float>()) == 0);
}

TEST_CASE("the norm of float gradients does not overflow") {
  ToyWeights<float> gradients;
  gradients.bias.fill(1e38f);
  CHECK(ssm::gradient_norm(ssm::cpu, gradients) == Approx(1e38 * std::sqrt(7.0)).epsilon(1e-6));
}

TEST_CASE("clipping scales long gradients to the limit and leaves short ones alone") {
  const ToyWeights<double> original = random_weights<double>(4);
  const double norm = ssm::gradient_norm(ssm::cpu, original);

  ToyWeights<double> gradients = original;
  CHECK(ssm::clip_gradients(ssm::cpu, gradients, norm * 1.01) == norm);
  CHECK(same_bits(gradients.matrix, original.matrix));

  CHECK(ssm::clip_gradients(ssm::cpu, gradients, 0.5) == norm);
  CHECK(plain_norm(gradients) == Approx(0.5).epsilon(1e-12));
  CHECK(gradients.bias(2) == Approx(original.bias(2) * 0.5 / norm).epsilon(1e-13));
}

TEST_CASE("clipping reports a norm that is no number and leaves the gradients alone") {
  for (double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    ToyWeights<double> gradients = random_weights<double>(5);
    gradients.cube(1, 0, 2) = bad;
    const ToyWeights<double> original = gradients;
    CHECK_FALSE(std::isfinite(ssm::clip_gradients(ssm::cpu, gradients, 1)));
    CHECK(same_bits(gradients.matrix, original.matrix));
  }
}

TEST_CASE("clipping refuses a limit that is not positive") {
  ToyWeights<double> gradients;
  CHECK_THROWS_AS(ssm::clip_gradients(ssm::cpu, gradients, 0), ssm::DomainError);
  CHECK_THROWS_AS(ssm::clip_gradients(ssm::cpu, gradients, std::nan("")), ssm::DomainError);
}
