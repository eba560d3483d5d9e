#include "ssm/layers/mean_over_time.hpp"

#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

TEST_CASE("mean_over_time is the mean of each sequence, with its gradient") {
  Random random(1);
  MeanOverTimeScratch<double> scratch;
  for (const Index length : {0, 1, 12}) {
    auto x = random.normal<double, 3>({3, length, 5});
    Tensor<double, 2> y({3, 5}), want({3, 5});
    const auto dy = random.normal<double, 2>({3, 5});
    for (Index b = 0; b < 3; ++b)
      for (Index c = 0; c < 5; ++c)
        for (Index t = 0; t < length; ++t) want(b, c) += x(b, t, c) / static_cast<double>(length);
    const auto loss = [&] {
      mean_over_time(cpu(2), {x}, {}, {y}, scratch);
      return test::dot(y, dy);
    };
    loss();
    CHECK(test::relative_error(y, want) < 1e-14);
    Tensor<double, 3> dx(x.extents());
    dx.fill(9);
    mean_over_time_backward(cpu(2), {x}, {}, {dy}, {dx}, scratch);
    CHECK(test::gradient_error(loss, x, dx) < 1e-10);
  }
}

TEST_CASE("the means of packed sequences are those one by one, in either direction") {
  Random random(2);
  MeanOverTimeScratch<float> scratch;
  const auto x = random.normal<float, 3>({1, 9, 6});
  Tensor<Index, 1> offsets({5});
  for (Index s = 0; const Index offset : {0, 4, 4, 5, 9}) offsets(s++) = offset;
  const auto dy = random.normal<float, 2>({4, 6});
  for (const bool reversed : {false, true}) {
    const Sequences<> sequences{offsets, reversed};
    Tensor<float, 2> y({4, 6});
    Tensor<float, 3> dx({1, 9, 6});
    y.fill(1);
    mean_over_time(cpu(2), {x, sequences}, {}, {y}, scratch);
    mean_over_time_backward(cpu(2), {x, sequences}, {}, {dy}, {dx}, scratch);
    for (Index s = 0; s < 4; ++s) {
      const Index length = offsets(s + 1) - offsets(s);
      const auto part = x.view().slice(1, offsets(s), length);
      Tensor<float, 2> alone({1, 6});
      Tensor<float, 3> dpart({1, length, 6});
      mean_over_time(cpu, {part}, {}, {alone}, scratch);
      mean_over_time_backward(cpu, {part}, {}, {dy.view().slice(0, s, 1)}, {dpart}, scratch);
      for (Index c = 0; c < 6; ++c) {
        CHECK(y(s, c) == alone(0, c));
        for (Index t = 0; t < length; ++t) CHECK(dx(0, offsets(s) + t, c) == dpart(0, t, c));
      }
    }
  }
}

TEST_CASE("mean_over_time names the argument that it refuses") {
  Tensor<float, 3> x({2, 4, 3}), other({2, 4, 2});
  Tensor<float, 2> y({2, 3}), more({3, 3});
  Tensor<Index, 1> offsets({2});
  MeanOverTimeScratch<float> scratch;
  CHECK_THROWS_WITH(mean_over_time(cpu, {}, {}, {y}, scratch),
                    "mean_over_time: x is absent, expected given");
  CHECK_THROWS_WITH(mean_over_time(cpu, {x}, {}, {more}, scratch),
                    "mean_over_time: y is (3, 3), expected (2, 3)");
  CHECK_THROWS_WITH(mean_over_time(cpu, {x, {offsets}}, {}, {y}, scratch),
                    "mean_over_time: offsets is given with batch 2, "
                    "expected packed sequences in a batch of 1");
  CHECK_THROWS_WITH(mean_over_time(cpu, {x}, {}, {View<float, 2>(x.data(), {2, 3})}, scratch),
                    "mean_over_time: y is in the memory of x, expected memory of its own");
  CHECK_THROWS_WITH(mean_over_time_backward(cpu, {x}, {}, {y}, {other}, scratch),
                    "mean_over_time_backward: the gradient of x is (2, 4, 2), expected (2, 4, 3)");
}
