#include <cmath>
#include <complex>

#include "ssm/system/transfer_function_arithmetic.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"

namespace transfer_arithmetic_test {

using namespace ssm;
using ssm::test::contains;
using Complex = std::complex<double>;
using Transfer = TransferFunction<double>;

namespace {

const Complex somewhere(0.3, 1.7);

template <class K>
TransferFunction<K> random_transfer(ssm::test::Random& random, Index zeros, Index poles) {
  Eigen::Matrix<K, Dynamic, 1> above(zeros + 1), below(poles + 1);
  for (auto* side : {&above, &below})
    for (K& x : *side) {
      if constexpr (std::is_same_v<K, double>)
        x = random.normal();
      else
        x = {random.normal(), random.normal()};
    }
  return {above, below};
}

template <class Got>
void check(const Got& got, Complex want) {
  CHECK(std::abs(Complex(got(somewhere)) / want - 1.0) <= 1e-11);
}

template <class K>
void check_laws(std::uint64_t seed) {
  ssm::test::Random random(seed);
  for (const Index n : {0, 1, 3})
    for (const Index k : {0, 2, 3}) {
      CAPTURE(n, k);
      const auto G = random_transfer<K>(random, k, n), H = random_transfer<K>(random, n, k);
      const Complex g = G(somewhere), h = H(somewhere);
      check(G + H, g + h);
      check(G - H, g - h);
      check(G * H, g * h);
      check(G / H, g / h);
      check(-G, -g);
      check(pow(G, 3), g * g * g);
      check(pow(G, -2), 1.0 / (g * g));
      check(pow(G, 0), 1.0);
      check(feedback(G, H), g / (1.0 + g * h));
      check(feedback(G), g / (1.0 + g));
      check(K(2) * G + K(1), 2.0 * g + 1.0);
      check(K(1) / (G - K(3)), 1.0 / (g - 3.0));
      const auto zG = zeros_poles_gain(G), zH = zeros_poles_gain(H);
      check(zG * zH, g * h);
      check(zG / zH, g / h);
      check(zG + zH, g + h);
      check(zG - zH, g - h);
      check(pow(zG, -2), 1.0 / (g * g));
      check(feedback(zG, zH), g / (1.0 + g * h));
      CHECK((zG + zH).poles.size() == n + k);  // nothing cancels
    }
}

}  // namespace

TEST_CASE("transfer functions add, multiply, divide and close loops as their values do") {
  check_laws<double>(1);
  check_laws<Complex>(2);
}

TEST_CASE("nothing cancels unless it is asked for, and then with conjugates and exact zeros") {
  const Transfer lag{{1}, {1, 1}};
  CHECK((lag / lag).denominator.size() == 2);
  CHECK(minimal(lag / lag).denominator.size() == 1);
  CHECK((lag + lag).denominator.size() == 2);  // equal denominators are shared
  CHECK((lag - lag).numerator == Eigen::VectorXd::Zero(1));
  const Transfer s{{1, 0}, {1}}, wave{{1}, {1, 0.4, 4}};
  const Transfer built = s * wave / (s * wave * lag);
  const Transfer simple = minimal(built);
  CHECK(simple.numerator.size() == 2);
  CHECK(simple.denominator.size() == 1);
  CHECK(std::abs(simple(somewhere) - (1.0 + somewhere)) <= 1e-12);
  // a loop that is opened again
  const Transfer plant{{2, 3}, {1, 3, 7, 6}};
  const auto opened = minimal(feedback(plant, lag) / (1. - feedback(plant, lag) * lag), 1e-5);
  CHECK(opened.denominator.size() == plant.denominator.size());
  CHECK(std::abs(opened(somewhere) / plant(somewhere) - 1.0) <= 1e-5);
  // units of time change nothing
  for (const double unit : {0x1p-40, 0x1p40}) {
    const ZerosPolesGain<double> near{Eigen::VectorXcd::Constant(1, unit * (1 + 1e-9)),
                                      Eigen::Vector2cd(unit, unit * 3), 1};
    CHECK(minimal(near).poles.size() == 1);
    CHECK(minimal(near, 1e-10).poles.size() == 2);
  }
  const Transfer untouched = minimal(Transfer{{0, 1, 2}, {0, 1, 3, 5}});
  CHECK(untouched.numerator == Eigen::Vector2d(1, 2));
}

TEST_CASE("quotients by zero, loops without an answer and what is not finite are refused") {
  const Transfer one{{1}, {1}}, zero{{0}, {1}}, bad{{std::nan("")}, {1}}, none{};
  CHECK_THROWS_WITH(one / zero, "operator/: the divisor is 0, expected not 0");
  CHECK_THROWS_WITH(pow(zero, -1), "pow: the divisor is 0, expected not 0");
  CHECK_THROWS_WITH(feedback(one, -one), "feedback: 1 + G H is 0, expected a loop with an answer");
  CHECK_THROWS_WITH(one + bad, "operator+: numerator is not finite, expected finite");
  CHECK_THROWS_AS(one * none, ShapeError);
  CHECK_THROWS_AS(bad * one, DomainError);
  const auto roots = zeros_poles_gain(one);
  CHECK_THROWS_AS(roots / zeros_poles_gain(zero), DomainError);
  CHECK_THROWS_AS(feedback(roots, -roots), DomainError);
  CHECK_THROWS_AS(minimal(roots, -1), DomainError);
  CHECK_THROWS_AS(minimal(roots, std::nan("")), DomainError);
}

}  // namespace transfer_arithmetic_test
