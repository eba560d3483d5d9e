#include "ssm/layers/rms_norm.hpp"

#include <limits>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

TEMPLATE_TEST_CASE("rms_norm is w x / sqrt(mean x² + ε)", "", float, double) {
  Random random(1);
  for (const Index rows : {0, 1, 37})
    for (const Index width : {1, 3, 16, 185}) {
      const auto x = random.normal<TestType, 2>({rows, width}, 2);
      const auto weight = random.normal<TestType, 1>({width});
      Tensor<TestType, 2> y({rows, width}), want({rows, width});
      for (Index i = 0; i < rows; ++i) {
        double squares = 0;
        for (Index c = 0; c < width; ++c) squares += double{x(i, c)} * double{x(i, c)};
        for (Index c = 0; c < width; ++c)
          want(i, c) = static_cast<TestType>(
              weight(c) * x(i, c) / std::sqrt(squares / static_cast<double>(width) + 1e-5));
      }
      RmsNormScratch<TestType> scratch;
      rms_norm(cpu(2), {x, weight}, {}, {y}, scratch);
      CHECK(test::relative_error(y, want) <=
            8 * std::numeric_limits<TestType>::epsilon() * std::sqrt(static_cast<double>(width)));
      auto in_place = x;
      rms_norm_step(RmsNormInputs<TestType>{in_place, weight}, {}, in_place);
      CHECK(test::same_bits(in_place, y));
      in_place = x;
      rms_norm(cpu(2), {in_place, weight}, {}, {in_place}, scratch);
      CHECK(test::same_bits(in_place, y));
    }
}

TEST_CASE("rms_norm has the gradients of finite differences") {
  Random random(2);
  for (const Index rows : {0, 1, 5}) {
    auto x = random.normal<double, 2>({rows, 7});
    auto weight = random.normal<double, 1>({7});
    const auto dy = random.normal<double, 2>({rows, 7});
    Tensor<double, 2> y({rows, 7}), dx({rows, 7});
    Tensor<double, 1> dweight({7});
    RmsNormScratch<double> scratch;
    const auto loss = [&] {
      rms_norm(cpu(1), {x, weight}, {}, {y}, scratch);
      return test::dot(y, dy);
    };
    loss();
    dx.fill(5);
    dweight.fill(5);
    rms_norm_backward(cpu(2), {x, weight}, {}, {dy}, {dx, dweight}, scratch);
    CHECK(test::gradient_error(loss, x, dx) < 1e-9);
    CHECK(test::gradient_error(loss, weight, dweight) < 1e-9);

    loss();
    Tensor<double, 2> added = dy;
    rms_norm_backward(cpu(2), {x, weight}, {.write = Write::accumulate}, {dy}, {added}, scratch);
    for (Index i = 0; i < dx.size(); ++i)
      CHECK(added.data()[i] == Approx(dx.data()[i] + dy.data()[i]));

    Tensor<double, 2> over_dy = dy, over_x = x;
    rms_norm_backward(cpu(2), {x, weight}, {}, {over_dy}, {over_dy}, scratch);
    CHECK(test::same_bits(over_dy, dx));
    rms_norm_backward(cpu(2), {over_x, weight}, {}, {dy}, {over_x}, scratch);
    CHECK(test::same_bits(over_x, dx));
  }
}

TEST_CASE("rms_norm without a weight is rms_norm with a weight of 1") {
  Random random(4);
  const auto x = random.normal<double, 2>({5, 7}), dy = random.normal<double, 2>({5, 7});
  Tensor<double, 1> ones({7}), dones({7});
  ones.fill(1);
  Tensor<double, 2> y({5, 7}), want(y), dx(y), want_dx(y);
  RmsNormScratch<double> scratch;
  rms_norm(cpu, {x, ones}, {}, {want}, scratch);
  rms_norm_backward(cpu, {x, ones}, {}, {dy}, {want_dx, dones}, scratch);
  rms_norm(cpu, {x}, {}, {y}, scratch);
  rms_norm_backward(cpu, {x}, {}, {dy}, {dx}, scratch);
  CHECK(test::same_bits(y, want));
  CHECK(test::relative_error(dx, want_dx) <= 4 * std::numeric_limits<double>::epsilon());
  rms_norm_step(RmsNormInputs<double>{x}, {}, y);
  CHECK(test::same_bits(y, want));
  CHECK_THROWS_WITH(rms_norm_backward(cpu, {x}, {}, {dy}, {dx, dones}, scratch),
                    "rms_norm_backward: weight is absent, expected (width), as its gradient is");
}

TEST_CASE("rms_norm's bits do not depend on the number of threads") {
  Random random(3);
  const auto x = random.normal<float, 2>({333, 48});
  const auto weight = random.normal<float, 1>({48});
  const auto dy = random.normal<float, 2>({333, 48});
  const auto run = [&](int threads) {
    Tensor<float, 2> y({333, 48}), dx({333, 48});
    Tensor<float, 1> dweight({48});
    RmsNormScratch<float> scratch;
    rms_norm(cpu(threads), {x, weight}, {}, {y}, scratch);
    rms_norm_backward(cpu(threads), {x, weight}, {}, {dy}, {dx, dweight}, scratch);
    return std::tuple(y, dx, dweight);
  };
  const auto [y, dx, dweight] = run(1);
  for (const int threads : {2, 3}) {
    const auto [y2, dx2, dweight2] = run(threads);
    CHECK(test::same_bits(y, y2));
    CHECK(test::same_bits(dx, dx2));
    CHECK(test::same_bits(dweight, dweight2));
  }
}

TEST_CASE("rms_norm passes NaN on, in its own row only") {
  Tensor<float, 2> x({2, 3}), y({2, 3});
  Tensor<float, 1> weight({3});
  RmsNormScratch<float> scratch;
  x.fill(1);
  weight.fill(1);
  x(0, 1) = std::numeric_limits<float>::quiet_NaN();
  rms_norm(cpu, {x, weight}, {}, {y}, scratch);
  for (Index c = 0; c < 3; ++c) {
    CHECK(std::isnan(y(0, c)));
    CHECK(y(1, c) == Approx(1).epsilon(1e-4));
  }
}

TEST_CASE("rms_norm names the argument that it refuses") {
  Tensor<float, 2> x({2, 3}), y({2, 3});
  Tensor<float, 1> weight({3}), short_weight({2});
  RmsNormScratch<float> scratch;
  const auto refuses = [&](const RmsNormInputs<float>& inputs, const RmsNormOptions& options,
                           const View<float, 2>& out, const std::string& sentence) {
    CHECK_THROWS_WITH(rms_norm(cpu, inputs, options, {out}, scratch), "rms_norm: " + sentence);
    CHECK_THAT(test::last_words([&] { rms_norm_step(inputs, options, out); }),
               test::contains("rms_norm_step: " + sentence));
  };
  refuses({x, short_weight}, {}, y, "weight is (2), expected (3)");
  refuses({x, weight}, {}, {}, "y is absent, expected (2, 3)");
  refuses({x, weight}, {.epsilon = -1}, y, "epsilon is -1.000000, expected 0 or more");
  refuses({x, weight}, {.epsilon = std::nan("")}, y, "epsilon is nan, expected 0 or more");
  refuses({x, weight}, {}, View<float, 2>(y.data(), {2, 3}, {0, 1}),
          "y is strided as (0, 1), expected no stride of 0 in what is written");
  refuses({View<const float, 2>(y.data(), {2, 3}, {2, 1}), weight}, {}, y,
          "y is over a part of the memory of x, expected all of it or memory of its own");
}

TEST_CASE("rms_norm_backward refuses a scratch that another call filled") {
  Tensor<float, 2> x({2, 3}), other({1, 3}), dx({2, 3});
  Tensor<float, 1> weight({3});
  RmsNormScratch<float> scratch;
  CHECK_THROWS_WITH(rms_norm_backward(cpu, {x, weight}, {}, {x}, {dx}, scratch),
                    test::contains("expected one that rms_norm filled with x (2, 3)"));
  rms_norm(cpu, {x, weight}, {}, {dx}, scratch);
  rms_norm(cpu, {other, weight}, {}, {other}, scratch);
  CHECK_THROWS_WITH(rms_norm_backward(cpu, {x, weight}, {}, {dx}, {dx}, scratch),
                    "rms_norm_backward: scratch is of another call, with x (1, 3), "
                    "expected one that rms_norm filled with x (2, 3)");
}
