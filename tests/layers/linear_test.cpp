#include "ssm/layers/linear.hpp"

#include <limits>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

template <class T>
Tensor<T, 2> by_hand(const Tensor<T, 2>& x, const Tensor<T, 2>& weight, const Tensor<T, 1>& bias) {
  Tensor<T, 2> y({x.extent(0), weight.extent(0)});
  for (Index i = 0; i < y.extent(0); ++i)
    for (Index o = 0; o < y.extent(1); ++o) {
      T sum = bias(o);
      for (Index k = 0; k < x.extent(1); ++k) sum += x(i, k) * weight(o, k);
      y(i, o) = sum;
    }
  return y;
}

}  // namespace

TEMPLATE_TEST_CASE("a linear map is the sum of products, for every size", "", float, double) {
  Random random(1);
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  for (const Index rows : {0, 1, 2, 63, 400})
    for (const Index in : {0, 1, 5, 48, 201})
      for (const Index out : {1, 3, 16, 450}) {
        const auto x = random.normal<TestType, 2>({rows, in});
        const auto weight = random.normal<TestType, 2>({out, in});
        const auto bias = random.normal<TestType, 1>({out});
        const auto want = by_hand(x, weight, bias);
        Tensor<TestType, 2> y({rows, out});
        y.fill(7);
        linear_forward<TestType>(cpu(2), x, weight, bias, y);
        const double bound = 2 * epsilon * static_cast<double>(in + 2);
        CHECK(test::relative_error(y, want) <= bound);
        y.fill(7);
        linear_step<TestType>(x, weight, bias, y);
        CHECK(test::relative_error(y, want) <= bound);
        y.fill(0);
        linear_forward<TestType>(cpu(2), x, weight, {}, y);
        linear_forward<TestType>(cpu(2), x, weight, bias, y, Write::accumulate);
        for (Index i = 0; i < rows; ++i)
          for (Index o = 0; o < out; ++o) y(i, o) = (y(i, o) + bias(o)) / 2;
        CHECK(test::relative_error(y, want) <= 2 * bound);
      }
}

TEST_CASE("a linear map has the gradients of finite differences") {
  Random random(2);
  for (const Index rows : {0, 1, 6}) {
    auto x = random.normal<double, 2>({rows, 5});
    auto weight = random.normal<double, 2>({4, 5});
    auto bias = random.normal<double, 1>({4});
    const auto dy = random.normal<double, 2>({rows, 4});
    const auto loss = [&] {
      Tensor<double, 2> y({rows, 4});
      linear_forward<double>(cpu(1), x, weight, bias, y);
      return test::dot(y, dy);
    };
    Tensor<double, 2> dx({rows, 5}), dweight({4, 5});
    Tensor<double, 1> dbias({4});
    for (auto* t : {&dx, &dweight}) t->fill(3);
    dbias.fill(3);
    LinearWorkspace<double> workspace;
    linear_backward<double>(cpu(2), x, weight, dy, {dx, dweight, dbias}, workspace);
    CHECK(test::gradient_error(loss, x, dx) < 1e-10);
    CHECK(test::gradient_error(loss, weight, dweight) < 1e-10);
    CHECK(test::gradient_error(loss, bias, dbias) < 1e-10);
  }
}

TEST_CASE("a linear map's deep weight gradient is the sum over all rows") {
  Random random(3);
  const auto x = random.normal<double, 2>({2049, 7});
  const auto weight = random.normal<double, 2>({9, 7});
  const auto dy = random.normal<double, 2>({2049, 9});
  Tensor<double, 2> want({9, 7}), dweight({9, 7}), dx({2049, 7}), twice({2049, 7});
  for (Index i = 0; i < 2049; ++i)
    for (Index o = 0; o < 9; ++o)
      for (Index k = 0; k < 7; ++k) want(o, k) += dy(i, o) * x(i, k);
  LinearWorkspace<double> workspace;
  linear_backward<double>(cpu(2), x, weight, dy, {dx, dweight, {}}, workspace);
  CHECK(test::relative_error(dweight, want) < 2049 * std::numeric_limits<double>::epsilon());
  for (int i = 0; i < 2; ++i)
    linear_backward<double>(cpu(2), x, weight, dy, {twice, {}, {}}, workspace, Write::accumulate);
  for (double& d : twice) d /= 2;
  CHECK(test::relative_error(twice, dx) < 1e-15);
}

TEST_CASE("a linear map's bits do not depend on the number of threads") {
  Random random(4);
  const auto x = random.normal<float, 2>({1500, 40});
  const auto weight = random.normal<float, 2>({50, 40});
  const auto bias = random.normal<float, 1>({50});
  const auto dy = random.normal<float, 2>({1500, 50});
  const auto run = [&](int threads) {
    Tensor<float, 2> y({1500, 50}), dx({1500, 40}), dweight({50, 40});
    Tensor<float, 1> dbias({50});
    LinearWorkspace<float> workspace;
    linear_forward<float>(cpu(threads), x, weight, bias, y);
    linear_backward<float>(cpu(threads), x, weight, dy, {dx, dweight, dbias}, workspace);
    return std::tuple(y, dx, dweight, dbias);
  };
  const auto [y, dx, dweight, dbias] = run(1);
  for (const int threads : {2, 3}) {
    const auto [y2, dx2, dweight2, dbias2] = run(threads);
    CHECK(test::same_bits(y, y2));
    CHECK(test::same_bits(dx, dx2));
    CHECK(test::same_bits(dweight, dweight2));
    CHECK(test::same_bits(dbias, dbias2));
  }
}

TEST_CASE("a linear map reads strided rows") {
  Random random(5);
  const auto wide = random.normal<double, 2>({300, 30});
  const auto weight = random.normal<double, 2>({6, 11});
  Tensor<double, 2> narrow({300, 11}), want({300, 6}), got({300, 10});
  for (Index i = 0; i < 300; ++i)
    for (Index k = 0; k < 11; ++k) narrow(i, k) = wide(i, k + 7);
  linear_forward<double>(cpu(1), narrow, weight, {}, want);
  linear_forward<double>(cpu(1), wide.view().slice(1, 7, 11), weight, {},
                         got.view().slice(1, 3, 6));
  for (Index i = 0; i < 300; ++i)
    for (Index o = 0; o < 10; ++o) {
      const bool inside = o >= 3 && o < 9;
      CHECK(got(i, o) == Approx(inside ? want(i, o - 3) : 0.0));
    }
}

TEST_CASE("a linear map names the argument of a wrong shape") {
  Tensor<float, 2> x({3, 4}), weight({5, 6}), y({3, 5});
  CHECK_THROWS_WITH(linear_forward<float>(cpu, x, weight, {}, y),
                    "linear_forward: weight is (5, 6), expected (5, 4)");
}

TEST_CASE("rows whose elements are not adjacent are refused") {
  ssm::Tensor<float, 2> x({2, 6}), weight({4, 3}), y({2, 4});
  const ssm::View<const float, 2> every_other(x.data(), {2, 3}, {6, 2});
  CHECK_THROWS_AS(ssm::linear_forward<float>(ssm::cpu(1), every_other, weight, {}, y),
                  ssm::ShapeError);
}
