#include "ssm/layers/linear.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

/// A matrix kept otherwise than as a view: numbers of a byte with one scale.
struct ByteMatrix {
  View<const std::int8_t, 2> numbers;
  float scale;

  [[nodiscard]] Index extent(std::size_t i) const noexcept { return numbers.extent(i); }
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(numbers); }
};

}  // namespace

template <>
struct ssm::detail::LinearProduct<float, ByteMatrix> {
  static void run(const Cpu& backend, const View<const float, 2>& x, const ByteMatrix& weight,
                  const View<float, 2>& y, Write write, LinearScratch<float>&) {
    run_few(backend, x, weight, y, write);
  }
  static void run_few(const Cpu&, const View<const float, 2>& x, const ByteMatrix& weight,
                      const View<float, 2>& y, Write write) noexcept {
    for (Index i = 0; i < y.extent(0); ++i)
      for (Index o = 0; o < weight.extent(0); ++o) {
        float sum = 0;
        for (Index k = 0; k < weight.extent(1); ++k) sum += weight.numbers(o, k) * x(i, k);
        y(i, o) = weight.scale * sum + (write == Write::accumulate ? y(i, o) : 0);
      }
  }
};

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
        LinearScratch<TestType> scratch;
        y.fill(7);
        linear(cpu(2), {x, weight, bias}, {}, {y}, scratch);
        const double bound = 2 * epsilon * static_cast<double>(in + 2);
        CHECK(test::relative_error(y, want) <= bound);
        y.fill(7);
        linear_step(LinearInputs<TestType>{x, weight, bias}, {}, y);
        CHECK(test::relative_error(y, want) <= bound);
        auto stepped = y;
        y.fill(0);
        linear(cpu(2), {x, weight}, {}, {y}, scratch);
        linear(cpu(2), {x, weight, bias}, {Write::accumulate}, {y}, scratch);
        for (Index i = 0; i < rows; ++i)
          for (Index o = 0; o < out; ++o) y(i, o) = (y(i, o) + bias(o)) / 2;
        CHECK(test::relative_error(y, want) <= 2 * bound);
        linear_step(LinearInputs<TestType>{x, weight, bias}, {Write::accumulate}, stepped);
        for (TestType& value : stepped) value /= 2;
        CHECK(test::relative_error(stepped, want) <= 2 * bound);
      }
}

TEST_CASE("a linear map has the gradients of finite differences") {
  Random random(2);
  for (const Index rows : {0, 1, 6}) {
    auto x = random.normal<double, 2>({rows, 5});
    auto weight = random.normal<double, 2>({4, 5});
    auto bias = random.normal<double, 1>({4});
    const auto dy = random.normal<double, 2>({rows, 4});
    LinearScratch<double> scratch;
    const auto loss = [&] {
      Tensor<double, 2> y({rows, 4});
      linear(cpu(1), {x, weight, bias}, {}, {y}, scratch);
      return test::dot(y, dy);
    };
    Tensor<double, 2> dx({rows, 5}), dweight({4, 5});
    Tensor<double, 1> dbias({4});
    for (auto* t : {&dx, &dweight}) t->fill(3);
    dbias.fill(3);
    linear_backward(cpu(2), {x, weight, bias}, {}, {dy}, {dx, dweight, dbias}, scratch);
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
  LinearScratch<double> scratch;
  linear_backward(cpu(2), {x, weight}, {}, {dy}, {dx, dweight}, scratch);
  CHECK(test::relative_error(dweight, want) < 2049 * std::numeric_limits<double>::epsilon());
  for (int i = 0; i < 2; ++i)
    linear_backward(cpu(2), {x, weight}, {Write::accumulate}, {dy}, {twice}, scratch);
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
    LinearScratch<float> scratch;
    linear(cpu(threads), {x, weight, bias}, {}, {y}, scratch);
    linear_backward(cpu(threads), {x, weight, bias}, {}, {dy}, {dx, dweight, dbias}, scratch);
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

TEST_CASE("a linear map of many rows gives a row the same bits among any others") {
  Random random(8);
  const double epsilon = std::numeric_limits<float>::epsilon();
  for (int i = 0; i < 6; ++i) {
    const Index rows = random.integer(34, 50), in = random.integer(380, 430);
    const Index out = random.integer(1, 220), some = random.integer(17, 33);
    INFO(rows << " x " << in << " to " << out << ", of which " << some);
    const auto x = random.normal<float, 2>({rows, in});
    const auto weight = random.normal<float, 2>({out, in});
    Tensor<float, 2> y({rows, out}), threaded({rows, out}), part({some, out});
    LinearScratch<float> scratch;
    linear(cpu(1), {x, weight}, {}, {y}, scratch);
    linear(cpu(5), {x, weight}, {}, {threaded}, scratch);
    linear(cpu(1), {x.view().slice(0, rows - some, some), weight}, {}, {part}, scratch);
    CHECK(test::relative_error(y, by_hand(x, weight, Tensor<float, 1>({out}))) <=
          epsilon * std::sqrt(static_cast<double>(in)));
    CHECK(test::same_bits(y, threaded));
    CHECK(std::equal(part.begin(), part.end(), &y(rows - some, 0)));
  }
}

TEMPLATE_TEST_CASE("a linear map's gradients are sums of products, for every size", "", float,
                   double) {
  Random random(9);
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  constexpr std::array<std::array<Index, 3>, 8> sizes{{{0, 5, 3},
                                                       {40, 1, 1},
                                                       {1, 49, 13},
                                                       {17, 130, 50},
                                                       {395, 20, 13},
                                                       {1030, 3, 50},
                                                       {1030, 49, 2},
                                                       {33, 49, 210}}};
  for (const auto& [rows, in, out] : sizes) {
    INFO(rows << " x " << in << " to " << out);
    const auto x = random.normal<TestType, 2>({rows, in});
    const auto weight = random.normal<TestType, 2>({out, in});
    const auto dy = random.normal<TestType, 2>({rows, out});
    Tensor<TestType, 2> dx({rows, in}), want_dx({rows, in});
    Tensor<TestType, 2> dweight({out, in}), want_dweight({out, in}), again({out, in});
    for (Index i = 0; i < rows; ++i)
      for (Index o = 0; o < out; ++o)
        for (Index k = 0; k < in; ++k) {
          want_dx(i, k) += dy(i, o) * weight(o, k);
          want_dweight(o, k) += dy(i, o) * x(i, k);
        }
    LinearScratch<TestType> scratch;
    for (auto* t : {&dx, &dweight, &again}) t->fill(7);
    linear_backward(cpu(2), {x, weight}, {}, {dy}, {dx, dweight}, scratch);
    linear_backward(cpu(1), {x, weight}, {}, {dy}, {{}, again}, scratch);
    CHECK(test::relative_error(dx, want_dx) <= 2 * epsilon * static_cast<double>(out + 2));
    CHECK(test::relative_error(dweight, want_dweight) <= epsilon * static_cast<double>(rows + 4));
    CHECK(test::same_bits(dweight, again));
  }
}

TEST_CASE("a linear map reads strided rows") {
  Random random(5);
  const auto wide = random.normal<double, 2>({300, 30});
  const auto weight = random.normal<double, 2>({6, 11});
  Tensor<double, 2> narrow({300, 11}), want({300, 6}), got({300, 10});
  for (Index i = 0; i < 300; ++i)
    for (Index k = 0; k < 11; ++k) narrow(i, k) = wide(i, k + 7);
  LinearScratch<double> scratch;
  linear(cpu(1), {narrow, weight}, {}, {want}, scratch);
  linear(cpu(1), {wide.view().slice(1, 7, 11), weight}, {}, {got.view().slice(1, 3, 6)}, scratch);
  CHECK(test::same_bits(got, [&] {
    auto again = got;
    linear_step(LinearInputs<double>{wide.view().slice(1, 7, 11), weight}, {},
                again.view().slice(1, 3, 6));
    for (Index i = 0; i < 300; ++i)
      for (Index o = 0; o < 6; ++o) CHECK(again(i, o + 3) == Approx(want(i, o)));
    for (Index i = 0; i < 300; ++i)
      for (Index o = 0; o < 6; ++o) again(i, o + 3) = got(i, o + 3);
    return again;
  }()));
  for (Index i = 0; i < 300; ++i)
    for (Index o = 0; o < 10; ++o) {
      const bool inside = o >= 3 && o < 9;
      CHECK(got(i, o) == Approx(inside ? want(i, o - 3) : 0.0));
    }
}

TEST_CASE("columns of one array may be read and written by one linear map") {
  Random random(6);
  auto all = random.normal<double, 2>({20, 9});
  const auto before = all;
  const auto weight = random.normal<double, 2>({4, 5});
  Tensor<double, 2> want({20, 4});
  LinearScratch<double> scratch;
  linear(cpu(1), {all.view().slice(1, 4, 5), weight}, {}, {want}, scratch);
  linear(cpu(1), {all.view().slice(1, 4, 5), weight}, {}, {all.view().slice(1, 0, 4)}, scratch);
  for (Index i = 0; i < 20; ++i)
    for (Index o = 0; o < 9; ++o) CHECK(all(i, o) == (o < 4 ? want(i, o) : before(i, o)));
}

TEST_CASE("a linear map with a matrix kept in another way is that with its numbers") {
  Random random(7);
  const auto x = random.normal<float, 2>({6, 5});
  const auto bias = random.normal<float, 1>({4});
  Tensor<std::int8_t, 2> numbers({4, 5});
  Tensor<float, 2> weight({4, 5}), y({6, 4});
  for (Index i = 0; i < 20; ++i) {
    numbers.data()[i] = static_cast<std::int8_t>(random.integer(-127, 127));
    weight.data()[i] = 0.5f * numbers.data()[i];
  }
  const auto want = by_hand(x, weight, bias);
  LinearScratch<float> scratch;
  const LinearInputs<float, Host, ByteMatrix> inputs{x, {numbers, 0.5f}, bias};
  linear(cpu, inputs, {}, {y}, scratch);
  CHECK(test::relative_error(y, want) < 1e-6);
  y.fill(0);
  linear_step(inputs, {Write::accumulate}, y);
  CHECK(test::relative_error(y, want) < 1e-6);
  CHECK_THROWS_WITH(
      linear(cpu, LinearInputs<float, Host, ByteMatrix>{y, {numbers, 0.5f}}, {}, {y}, scratch),
      "linear: weight is (4, 5), expected (4, 4)");
}

TEST_CASE("a linear map names the argument that it refuses") {
  Tensor<float, 2> x({3, 4}), weight({5, 4}), y({3, 5}), dx({3, 4}), dweight({5, 4});
  Tensor<float, 1> bias({5}), dbias({5});
  LinearScratch<float> scratch;
  const auto refuses = [&](const LinearInputs<float>& inputs, const LinearOutputs<float>& outputs,
                           const std::string& sentence) {
    CHECK_THROWS_WITH(linear(cpu, inputs, {}, outputs, scratch), "linear: " + sentence);
    CHECK_THAT(test::last_words([&] { linear_step(inputs, {}, outputs.y); }),
               test::contains("linear_step: " + sentence));
  };
  const Tensor<float, 2> deep({5, 6});
  const Tensor<float, 1> long_bias({6});
  const View<const float, 2> every_other(x.data(), {3, 2}, {4, 2});
  const View<float, 2> stuck(y.data(), {3, 5}, {0, 1}), woven(y.data(), {3, 5}, {2, 1});
  refuses({{}, weight}, {y}, "x is absent, expected (rows, in)");
  refuses({x}, {y}, "weight is absent, expected (out, in)");
  refuses({x, deep}, {y}, "weight is (5, 6), expected (5, 4)");
  refuses({x, weight, long_bias}, {y}, "bias is (6), expected (5)");
  refuses({x, weight}, {dx}, "y is (3, 4), expected (3, 5)");
  refuses({x, weight}, {}, "y is absent, expected (3, 5)");
  refuses({every_other, View<const float, 2>(weight.data(), {5, 2})}, {y},
          "x is strided as (4, 2), expected adjacent elements in the last extent");
  refuses({x, weight}, {View<float, 2>(y.data(), {3, 5}, {1, 3})},
          "y is strided as (1, 3), expected adjacent elements in the last extent");
  refuses({x, weight}, {stuck},
          "y is strided as (0, 1), expected no stride of 0 in what is written");
  refuses({x, weight}, {woven},
          "y is (3, 5) strided as (2, 1), expected memory that holds every element once");
  refuses({View<const float, 2>(nullptr, {3, 4}), weight}, {y},
          "x is a null pointer to (3, 4), expected elements");
  refuses({View<const float, 2>(x.data(), {-3, 4}), weight}, {y},
          "x is (-3, 4), expected no negative extent");
  refuses({View<const float, 2>(y.data(), {3, 4}), weight}, {y},
          "y is in the memory of x, expected memory of its own");
  refuses({x, weight}, {View<float, 2>(weight.data(), {3, 5})},
          "y is in the memory of weight, expected memory of its own");

  const auto refuses_backward = [&](const LinearInputGradients<float>& gradients,
                                    const std::string& sentence) {
    CHECK_THROWS_WITH(linear_backward(cpu, {x, weight}, {}, {y}, gradients, scratch),
                      "linear_backward: " + sentence);
  };
  refuses_backward({dx, y}, "the gradient of weight is (3, 5), expected (5, 4)");
  refuses_backward({x}, "the gradient of x is in the memory of x, expected memory of its own");
  refuses_backward({View<float, 2>(y.data(), {3, 4})},
                   "the gradient of x is in the memory of the gradient of y, "
                   "expected memory of its own");
  refuses_backward({dx, dweight, View<float, 1>(dx.data(), {5})},
                   "the gradient of bias is in the memory of the gradient of x, "
                   "expected memory of its own");
}
