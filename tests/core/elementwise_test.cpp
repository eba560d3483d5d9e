#include "ssm/core/elementwise.hpp"

#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include "ssm/core/phi.hpp"
#include "support/catch.hpp"

using namespace ssm;

namespace {

/// Arguments of every size and both signs, within what e^x of T can hold.
template <class T>
std::vector<T> arguments() {
  const T end = sizeof(T) == 4 ? T(86) : T(700);
  std::vector<T> all{0};
  for (T x = end; x > std::numeric_limits<T>::min() * 16; x *= T(0.83)) {
    all.push_back(x);
    all.push_back(-x);
  }
  return all;
}

/// The largest relative error over the arguments, in epsilons of T. NaN counts as infinite.
template <class T, class F, class G>
double worst_in_epsilons(F&& function, G&& exact) {
  double worst = 0;
  for (const T x : arguments<T>()) {
    const long double want = exact(static_cast<long double>(x));
    const long double got = function(x);
    const auto error = static_cast<double>(want == got ? 0 : std::abs((got - want) / want));
    if (!(error <= worst)) worst = error;
  }
  return worst / static_cast<double>(std::numeric_limits<T>::epsilon());
}

long double exact_sigmoid(long double x) { return 1 / (1 + std::exp(-x)); }
long double exact_softplus(long double x) {
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

}  // namespace

TEMPLATE_TEST_CASE("elementwise functions keep their digits at both ends", "", float, double) {
  using T = TestType;
  CHECK(worst_in_epsilons<T>([](T x) { return sigmoid(x); }, exact_sigmoid) <= 3);
  CHECK(worst_in_epsilons<T>([](T x) { return softplus(x); }, exact_softplus) <= 3);
  CHECK(worst_in_epsilons<T>([](T x) { return softplus_derivative(x); }, exact_sigmoid) <= 3);
  CHECK(worst_in_epsilons<T>([](T x) { return silu(x); },
                             [](long double x) { return x * exact_sigmoid(x); }) <= 4);
  CHECK(worst_in_epsilons<T>([](T x) { return sigmoid_derivative(x); },
                             [](long double x) { return exact_sigmoid(x) * exact_sigmoid(-x); }) <=
        6);
}

TEMPLATE_TEST_CASE("the derivative of silu is right up to the rounding of its two terms", "", float,
                   double) {
  double worst = 0;
  for (const TestType x : arguments<TestType>()) {
    const long double y = x, s = exact_sigmoid(y);
    const long double scale = s * (1 + std::abs(y) * exact_sigmoid(-y));
    const auto error =
        static_cast<double>(std::abs(silu_derivative(x) - s * (1 + y * exact_sigmoid(-y))) / scale);
    if (!(error <= worst)) worst = error;
  }
  CHECK(worst <= 6 * static_cast<double>(std::numeric_limits<TestType>::epsilon()));
}

TEMPLATE_TEST_CASE("the inverse of softplus undoes it, down to the smallest step sizes", "", float,
                   double) {
  for (const double y : {1e-30, 1e-4, 1e-3, 0.1, 1.0, 20.0, 80.0}) {
    const auto want = static_cast<TestType>(y);
    const double got = softplus(inverse_softplus(want));
    // a y of e^x is known to |x| epsilon
    const double bound = 4 * (2 + std::abs(std::log(y))) *
                         static_cast<double>(std::numeric_limits<TestType>::epsilon());
    CHECK(got == Approx(want).epsilon(bound));
  }
}

TEMPLATE_TEST_CASE("elementwise functions pass NaN on and meet their limits at infinity", "", float,
                   double) {
  using T = TestType;
  const T nan = std::numeric_limits<T>::quiet_NaN(), infinity = std::numeric_limits<T>::infinity();
  CHECK(std::isnan(sigmoid(nan)));
  CHECK(std::isnan(softplus(nan)));
  CHECK(std::isnan(silu(nan)));
  CHECK(std::isnan(silu_derivative(nan)));
  CHECK(sigmoid(infinity) == 1);
  CHECK(sigmoid(-infinity) == 0);
  CHECK(softplus(infinity) == infinity);
  CHECK(softplus(-infinity) == 0);
  CHECK(silu(infinity) == infinity);
}

TEST_CASE("phi1 and its derivative keep their digits where the formula cancels") {
  struct Case {
    std::complex<double> z, phi, derivative;
  };
  const std::vector<Case> cases{// mpmath, 60 digits
                                {1e-9, 1.0000000005, 0.500000000333333333},
                                {{-1e-3, 2e-3},
                                 {0.999499500458274943, 0.000999333250199947213},
                                 {0.499666292033284673, 0.000666166600166621421}},
                                {-0.999, 0.632384880266603682, 0.264401777430371132},
                                {1.001, 1.71928218769388488, 1.00071856362406982},
                                {{-0.3, 0.9},
                                 {0.760136183851576809, 0.346065726880260239},
                                 {0.334115851588508839, 0.221557153025257128}},
                                {{-2, 31},
                                 {0.0000593877136024981522, 0.0282607841448642533},
                                 {-0.00292088745019396491, -0.00380308882154879752}},
                                {-700, 0.00142857142857142857, 2.04081632653061224e-6}};
  const auto close = [](std::complex<double> got, std::complex<double> want, double bound) {
    return std::abs(got - want) <= bound * std::abs(want);
  };
  for (const auto& [z, phi, derivative] : cases) {
    CAPTURE(z);
    CHECK(close(phi1(z), phi, 4e-15));
    CHECK(close(phi1_derivative(z), derivative, 1e-14));
    const std::complex<float> narrow(z);
    CHECK(close(std::complex<double>(phi1(narrow)), phi, 2e-6));
    if (z.imag() != 0) continue;
    CHECK(close(phi1(z.real()), phi, 4e-15));
    CHECK(close(phi1_derivative(z.real()), derivative, 1e-14));
  }
  CHECK(phi1(0.) == 1);
  CHECK(phi1(std::complex<float>(0)) == 1.f);
  CHECK(phi1_derivative(0.) == 0.5);
}

TEST_CASE("a complex exponential less 1 keeps the digits of its imaginary part far to the left") {
  for (const double x : {-0.3, -0.7, -3.0, -20.0, -38.0, -300.0})
    for (const double y : {1e-9, 0.5, 2.0, -40.0}) {
      CAPTURE(x, y);
      const double imag = expm1(std::complex<double>(x, y)).imag();
      const long double want =
          std::exp(static_cast<long double>(x)) * std::sin(static_cast<long double>(y));
      CHECK(static_cast<double>(std::abs((imag - want) / want)) <= 1e-14);
    }
}
