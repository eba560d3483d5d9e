#pragma once

#include <cstdint>
#include <random>

#include "ssm/core/detail/isa.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Seeded draws from formulas of our own: the distributions of the standard library differ from one
/// implementation to the next.
class InitialDraws {
 public:
  explicit InitialDraws(std::uint64_t seed) : engine_(seed) {}

  double uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>(engine_() >> 11) * 0x1.0p-53);
  }
  /// Sum of twelve uniforms: mean 0, variance 1, nearly normal, and free of any libm.
  double normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform(0, 1);
    return sum;
  }
  template <class AnyTensor>
  void uniform(AnyTensor& tensor, double bound) {
    for (auto& x : tensor) x = static_cast<typename AnyTensor::value_type>(uniform(-bound, bound));
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
}  // namespace ssm
