#include "support/random.hpp"

namespace ssm::test {

double Random::uniform(double low, double high) {
  return low + (high - low) * (static_cast<double>(engine_() >> 11) * 0x1.0p-53);
}

double Random::normal() {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += uniform(0, 1);
  return sum;
}

Index Random::integer(Index low, Index high) {
  return low + static_cast<Index>(engine_() % static_cast<std::uint64_t>(high - low + 1));
}

}  // namespace ssm::test
