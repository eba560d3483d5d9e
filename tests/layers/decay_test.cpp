#include "ssm/layers/decay.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

TEMPLATE_TEST_CASE("decay is −exp(A_log)", "", float, double) {
  DecayScratch<TestType> scratch;
  const auto A_log = Random(1).normal<TestType, 2>({13, 5});
  Tensor<TestType, 2> A(A_log.extents()), want(A_log.extents());
  for (Index i = 0; i < A.size(); ++i) want.data()[i] = -std::exp(A_log.data()[i]);
  decay(cpu, {A_log}, {}, {A}, scratch);
  CHECK(test::relative_error(A, want) <= 4 * std::numeric_limits<TestType>::epsilon());
}

TEST_CASE("decay has the gradients of finite differences, in place too") {
  Random random(2);
  DecayScratch<double> scratch;
  for (const Index channels : {0, 1, 6}) {
    auto A_log = random.normal<double, 2>({channels, 3});
    const auto dA = random.normal<double, 2>({channels, 3});
    Tensor<double, 2> A({channels, 3}), dA_log({channels, 3});
    const auto loss = [&] {
      decay(cpu, {A_log}, {}, {A}, scratch);
      return test::dot(A, dA);
    };
    decay_backward(cpu, {A_log}, {}, {dA}, {dA_log}, scratch);
    CHECK(test::gradient_error(loss, A_log, dA_log) < 1e-10);
    auto in_place = dA;
    decay_backward(cpu, {A_log}, {}, {in_place}, {in_place}, scratch);
    CHECK(test::same_bits(in_place, dA_log));
  }
}

TEST_CASE("decay names the argument that it refuses") {
  Tensor<float, 2> A_log({2, 3}), A({2, 3}), other({3, 2}), wide({2, 4});
  DecayScratch<float> scratch;
  CHECK_THROWS_WITH(decay(cpu, {}, {}, {A}, scratch), "decay: A_log is absent, expected given");
  CHECK_THROWS_WITH(decay(cpu, {A_log}, {}, {other}, scratch),
                    "decay: A is (3, 2), expected (2, 3)");
  CHECK_THROWS_WITH(decay(cpu, {A_log}, {}, {wide.view().slice(1, 0, 3)}, scratch),
                    "decay: A is strided as (4, 1), expected contiguous");
  CHECK_THROWS_WITH(decay_backward(cpu, {A_log}, {}, {A}, {A_log}, scratch),
                    "decay_backward: the gradient of A_log is in the memory of A_log, "
                    "expected memory of its own");
}
