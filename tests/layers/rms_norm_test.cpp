#include "ssm/layers/rms_norm.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
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
      Tensor<TestType, 1> inverse({rows});
      for (Index i = 0; i < rows; ++i) {
        double squares = 0;
        for (Index c = 0; c < width; ++c) squares += double{x(i, c)} * double{x(i, c)};
        for (Index c = 0; c < width; ++c)
          want(i, c) = static_cast<TestType>(
              weight(c) * x(i, c) / std::sqrt(squares / static_cast<double>(width) + 1e-5));
      }
      rms_norm_forward<TestType>(cpu(2), x, weight, TestType(1e-5), y, inverse);
      CHECK(test::relative_error(y, want) <=
            8 * std::numeric_limits<TestType>::epsilon() * std::sqrt(static_cast<double>(width)));
    }
}

TEST_CASE("rms_norm has the gradients of finite differences") {
  Random random(2);
  for (const Index rows : {0, 1, 5}) {
    auto x = random.normal<double, 2>({rows, 7});
    auto weight = random.normal<double, 1>({7});
    const auto dy = random.normal<double, 2>({rows, 7});
    Tensor<double, 2> y({rows, 7}), dx({rows, 7});
    Tensor<double, 1> inverse({rows}), dweight({7});
    const auto loss = [&] {
      rms_norm_forward<double>(cpu(1), x, weight, 1e-5, y, inverse);
      return test::dot(y, dy);
    };
    loss();
    RmsNormWorkspace<double> workspace;
    dx.fill(5);
    dweight.fill(5);
    rms_norm_backward<double>(cpu(2), x, weight, inverse, dy, dx, dweight, workspace);
    CHECK(test::gradient_error(loss, x, dx) < 1e-9);
    CHECK(test::gradient_error(loss, weight, dweight) < 1e-9);

    Tensor<double, 2> added = dy;
    rms_norm_backward<double>(cpu(2), x, weight, inverse, dy, added, dweight, workspace,
                              Write::accumulate);
    for (Index i = 0; i < dx.size(); ++i)
      CHECK(added.data()[i] == Approx(dx.data()[i] + dy.data()[i]));
  }
}

TEST_CASE("rms_norm's bits do not depend on the number of threads") {
  Random random(3);
  const auto x = random.normal<float, 2>({333, 48});
  const auto weight = random.normal<float, 1>({48});
  const auto dy = random.normal<float, 2>({333, 48});
  const auto run = [&](int threads) {
    Tensor<float, 2> y({333, 48}), dx({333, 48});
    Tensor<float, 1> inverse({333}), dweight({48});
    RmsNormWorkspace<float> workspace;
    rms_norm_forward<float>(cpu(threads), x, weight, 1e-5f, y, inverse);
    rms_norm_backward<float>(cpu(threads), x, weight, inverse, dy, dx, dweight, workspace);
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
  Tensor<float, 1> weight({3}), inverse({2});
  x.fill(1);
  weight.fill(1);
  x(0, 1) = std::numeric_limits<float>::quiet_NaN();
  rms_norm_forward<float>(cpu, x, weight, 1e-5f, y, inverse);
  for (Index c = 0; c < 3; ++c) {
    CHECK(std::isnan(y(0, c)));
    CHECK(y(1, c) == Approx(1).epsilon(1e-4));
  }
}
