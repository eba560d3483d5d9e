#include "ssm/core/flush_denormals.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

using namespace ssm;

namespace {

/// Half of x, by arithmetic that no compiler does in advance.
template <class T>
T half(T x) {
  volatile T a = x, b = T(0.5);
  return a * b;
}

}  // namespace

TEMPLATE_TEST_CASE("denormal numbers are zero while a guard lives, and themselves again after it",
                   "", float, double) {
  constexpr TestType smallest = std::numeric_limits<TestType>::min();
  if (!FlushDenormals::available) return;
  CHECK(half(smallest) > 0);
  {
    const FlushDenormals flush;
    CHECK(half(smallest) == 0);
    CHECK(half(2 * smallest) == smallest);
    {
      const FlushDenormals again;
      CHECK(half(smallest) == 0);
    }
    CHECK(half(smallest) == 0);
    CHECK(half(half(smallest / 8)) == 0);
  }
  CHECK(half(smallest) > 0);
}
