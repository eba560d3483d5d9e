#include "ssm/core/detail/simd.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include "support/catch.hpp"
#include "support/random.hpp"

using namespace ssm::detail;
using ssm::Index;

namespace {

/// The largest relative error of `function` over draws from [low, high], in epsilons of T, away
/// from where the result is not a normal number. NaN counts as infinite.
template <class T, class F, class G>
double worst_in_epsilons(double low, double high, F&& function, G&& exact) {
  ssm::test::Random random(3);
  double worst = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    std::array<T, vector_bytes / sizeof(T)> x, got;
    for (T& value : x) value = static_cast<T>(random.uniform(low, high));
    function(Vec<T>::load(x.data())).store(got.data());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const long double want = exact(static_cast<long double>(x[i]));
      if (std::abs(want) < 4 * std::numeric_limits<T>::min()) continue;
      const auto error = static_cast<double>(std::abs((got[i] - want) / want));
      if (!(error <= worst)) worst = error;
    }
  }
  return worst / static_cast<double>(std::numeric_limits<T>::epsilon());
}

template <class T, class F>
T at(F&& function, T x) {
  std::array<T, vector_bytes / sizeof(T)> all;
  function(Vec<T>(x)).store(all.data());
  return all.back();
}

}  // namespace

TEMPLATE_TEST_CASE("vectors of elementwise functions keep their digits", "", float, double) {
  using T = TestType;
  const auto e = [](Vec<T> x) { return exp(x); };
  const auto softly = [](Vec<T> x) { return softplus(x); };
  const auto exact_exp = [](long double x) { return std::exp(x); };
  const auto exact_softplus = [](long double x) {
    return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
  };
  const double end = sizeof(T) == 4 ? 80 : 700;
  for (double low : {-end, -20.0, -1.0, -1e-3}) {
    CHECK(worst_in_epsilons<T>(low, 0, e, exact_exp) <= 2.5);
    CHECK(worst_in_epsilons<T>(low, -low, softly, exact_softplus) <= 3.5);
    CHECK(worst_in_epsilons<T>(
              low, -low, [](Vec<T> x) { return sigmoid(x); },
              [](long double x) { return 1 / (1 + std::exp(-x)); }) <= 4);
    // An exponent is as good as its rounding: ε/2 |x| ln 2 beside the function's own error.
    CHECK(worst_in_epsilons<T>(
              low, 1, [](Vec<T> x) { return exp2(x); },
              [](long double x) { return std::exp2(x); }) <= 2.5);
  }
  for (double high : {1.0, 0.1, 1e-4, 1e-9})
    CHECK(worst_in_epsilons<T>(
              0, high, [](Vec<T> x) { return log1p_unit(x); },
              [](long double x) { return std::log1p(x); }) <= 2);
}

TEMPLATE_TEST_CASE("vectors of elementwise functions are right at the ends, and NaN stays", "",
                   float, double) {
  using T = TestType;
  const T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const auto e = [](Vec<T> x) { return exp(x); };
  const auto power = [](Vec<T> x) { return exp2(x); };
  const auto softly = [](Vec<T> x) { return softplus(x); };
  const auto squashed = [](Vec<T> x) { return sigmoid(x); };
  CHECK(at<T>(e, 0) == 1);
  CHECK(at<T>(e, -infinity) == 0);
  CHECK(at<T>(power, 0) == 1);
  CHECK(at<T>(power, -1) == T(0.5));
  CHECK(at<T>(power, T(-5000)) == 0);
  CHECK(at<T>(softly, -infinity) == 0);
  CHECK(at<T>(softly, infinity) == infinity);
  CHECK(at<T>(squashed, -infinity) == 0);
  CHECK(at<T>(squashed, infinity) == 1);
  for (const T x : {T(1), T(30), T(1000)}) CHECK(at<T>(softly, x) >= x);
  CHECK(std::isnan(at<T>(e, nan)));
  CHECK(std::isnan(at<T>(power, nan)));
  CHECK(std::isnan(at<T>(softly, nan)));
  CHECK(std::isnan(at<T>(squashed, nan)));
}
