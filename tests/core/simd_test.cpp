#include "ssm/core/detail/simd.hpp"

#include <algorithm>
#include <array>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "ssm/core/detail/simd_lanes.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
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

TEMPLATE_TEST_CASE("powers of two next to 1 have no bias", "", float, double) {
  using T = TestType;
  constexpr double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  ssm::test::Random random(4);
  for (const double size : {1e-2, 1e-3, 1e-4, 1e-5, 1e-6})
    for (const double sign : {-1.0, 1.0}) {
      CAPTURE(size, sign);
      constexpr int draws = 20000;
      double sum = 0;
      for (int draw = 0; draw < draws; ++draw) {
        std::array<T, vector_bytes / sizeof(T)> x, got;
        for (T& value : x) value = static_cast<T>(sign * size * random.uniform(0.5, 1));
        exp2(Vec<T>::load(x.data())).store(got.data());
        for (std::size_t i = 0; i < x.size(); ++i)
          sum += static_cast<double>(got[i] / std::exp2(static_cast<long double>(x[i])) - 1);
      }
      const double mean = sum / (draws * static_cast<double>(lanes<T>));
      CHECK(std::abs(mean) <= 0.02 * epsilon);
    }
}

TEST_CASE("a state that decays slowly, each step by another factor, drifts nowhere") {
  constexpr Index W = lanes<float>;
  constexpr int steps = 200000;
  for (const auto& [rate, bound] : {std::pair(1e-3, 8e-6), std::pair(1e-4, 3e-5),
                                    std::pair(1e-5, 1e-4)}) {  // a loop with std::exp: a third
    std::array<float, static_cast<std::size_t>(W)> A, h;
    std::array<double, static_cast<std::size_t>(W)> exact{};
    ssm::test::Random random(5);
    for (float& value : A) value = static_cast<float>(-rate * random.uniform(0.9, 1.1));
    Vec<float> state(0.0f);
    for (int step = 0; step < steps; ++step) {
      const auto delta = static_cast<float>(std::log1p(std::exp(random.uniform(-1, 1))));
      const Vec<float> decay = exp2(Vec<float>(delta * log2_e<float>) * Vec<float>::load(A.data()));
      state = fma(Vec<float>(delta), Vec<float>(1.0f), state * decay);
      for (std::size_t i = 0; i < A.size(); ++i)
        exact[i] = exact[i] * std::exp(static_cast<double>(delta) * static_cast<double>(A[i])) +
                   static_cast<double>(delta);
    }
    state.store(h.data());
    double error = 0;
    for (std::size_t i = 0; i < A.size(); ++i)
      error = ssm::test::worse(error, std::abs(static_cast<double>(h[i]) / exact[i] - 1));
    CAPTURE(rate);
    CHECK(error <= bound);
  }
}

TEMPLATE_TEST_CASE("elementwise functions hold in every rounding mode", "", float, double) {
  using T = TestType;
  const int before = std::fegetround();
  for (const int mode : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    CAPTURE(mode);
    std::fesetround(mode);
    std::array<T, 8> got;
    volatile T at_point[] = {T(-200), T(-1.3), T(-2000)};
    got[0] = at<T>([](Vec<T> x) { return sigmoid(x); }, at_point[0]);
    got[1] = at<T>([](Vec<T> x) { return exp(x); }, at_point[1]);
    got[2] = at<T>([](Vec<T> x) { return exp2(x); }, at_point[1]);
    got[3] = at<T>([](Vec<T> x) { return exp(x); }, at_point[2]);
    got[4] = at<T>([](Vec<T> x) { return exp2(x); }, at_point[2]);
    got[5] = at<T>([](Vec<T> x) { return softplus(x); }, at_point[0]);
    std::fesetround(before);
    const double bound = 64 * static_cast<double>(std::numeric_limits<T>::epsilon());
    const double tiny = static_cast<double>(std::numeric_limits<T>::min());
    CHECK(std::abs(static_cast<double>(got[0]) - std::exp(-200.0)) <=
          bound * std::exp(-200.0) + tiny);
#if defined(__AVX__) || defined(__aarch64__)
    CHECK(std::abs(static_cast<double>(got[1]) / std::exp(static_cast<double>(T(-1.3))) - 1) <=
          bound);
    CHECK(std::abs(static_cast<double>(got[2]) / std::exp2(static_cast<double>(T(-1.3))) - 1) <=
          bound);
#else  // no instruction rounds to nearest then
    CHECK(std::abs(static_cast<double>(got[1]) / std::exp(-1.3) - 1) <= 1e-3);
    CHECK(std::abs(static_cast<double>(got[2]) / std::exp2(-1.3) - 1) <= 1e-3);
#endif
    CHECK((got[3] >= 0 && static_cast<double>(got[3]) <= tiny));
    CHECK((got[4] >= 0 && static_cast<double>(got[4]) <= tiny));
    CHECK(std::abs(static_cast<double>(got[5]) - std::exp(-200.0)) <=
          bound * std::exp(-200.0) + tiny);
  }
}

TEMPLATE_TEST_CASE("a few lanes are read and written, and no others", "", float, double) {
  using T = TestType;
  constexpr auto W = static_cast<std::size_t>(lanes<T>);
  std::array<T, W> from, got;
  for (std::size_t i = 0; i < W; ++i) from[i] = static_cast<T>(i + 1);
  for (std::size_t count = 0; count <= W; ++count) {
    Vec<T>::load(from.data(), static_cast<Index>(count)).store(got.data());
    bool same = true;
    for (std::size_t i = 0; i < W; ++i) same = same && got[i] == (i < count ? from[i] : T(0));
    got.fill(T(-1));
    Vec<T>::load(from.data()).store(got.data(), static_cast<Index>(count));
    for (std::size_t i = 0; i < W; ++i) same = same && got[i] == (i < count ? from[i] : T(-1));
    CHECK(same);
  }
}

TEMPLATE_TEST_CASE("transposed vectors are rows that became columns", "", float, double) {
  using T = TestType;
  constexpr auto W = static_cast<std::size_t>(lanes<T>);
  Vec<T> matrix[W];
  std::array<T, W * W> got;
  for (std::size_t i = 0; i < W * W; ++i) got[i] = static_cast<T>(i);
  for (std::size_t i = 0; i < W; ++i) matrix[i] = Vec<T>::load(got.data() + i * W);
  transpose(matrix);
  for (std::size_t i = 0; i < W; ++i) matrix[i].store(got.data() + i * W);
  bool same = true;
  for (std::size_t i = 0; i < W; ++i)
    for (std::size_t j = 0; j < W; ++j) same = same && got[i * W + j] == static_cast<T>(j * W + i);
  CHECK(same);
}

TEMPLATE_TEST_CASE("softplus and its slope from one exponential have the bits of each alone", "",
                   float, double) {
  using T = TestType;
  ssm::test::Random random(7);
  for (int trial = 0; trial < 1000; ++trial) {
    const auto x = static_cast<T>(random.uniform(-40, 40));
    CHECK(at<T>([](Vec<T> v) { return SoftplusAndSlope<Vec<T>>(v).value; }, x) ==
          at<T>([](Vec<T> v) { return softplus(v); }, x));
    CHECK(at<T>([](Vec<T> v) { return SoftplusAndSlope<Vec<T>>(v).slope; }, x) ==
          at<T>([](Vec<T> v) { return sigmoid(v); }, x));
  }
}
