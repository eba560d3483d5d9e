#include <algorithm>
#include <cmath>
#include <cstdio>

#include "object.hpp"

/// Both objects of the program give the same numbers but for rounding, by scan and by step.
int main() {
  if (!__builtin_cpu_supports("avx2")) return 77;  // one of the objects cannot run here
  const Outcome one = computed_for_this_processor(), other = computed_for_any_processor();
  double worst = 0;
  const auto compare = [&](const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size() || a.empty()) worst = 1;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
      worst = std::fmax(worst, std::abs(static_cast<double>(a[i] - b[i])));
  };
  compare(one.scanned, one.stepped);
  compare(one.scanned, other.scanned);
  compare(one.scanned, other.stepped);
  compare(one.gradient, other.gradient);
  std::printf("largest difference: %g\n", worst);
  return worst < 1e-5 ? 0 : 1;
}
