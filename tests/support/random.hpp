#pragma once

#include <complex>
#include <cstdint>
#include <random>

#include "ssm/core/tensor.hpp"

namespace ssm::test {

/// Seeded source of numbers that are the same on every standard library. What draws them is in
/// random.cpp, which is always optimized: tests draw more than they compute.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  double uniform(double low, double high);
  /// Sum of twelve uniforms: mean 0, variance 1, bounded by 6.
  double normal();
  Index integer(Index low, Index high);  // inclusive

  template <class T, std::size_t Rank>
  Tensor<T, Rank> normal(const std::array<Index, Rank>& extents, double scale = 1,
                         double shift = 0) {
    Tensor<T, Rank> tensor(extents);
    for (T& x : tensor) x = draw<T>(scale, shift);
    return tensor;
  }

 private:
  template <class T>
  T draw(double scale, double shift) {
    if constexpr (std::is_floating_point_v<T>) {
      return static_cast<T>(shift + scale * normal());
    } else {
      using Real = typename T::value_type;
      const double re = shift + scale * normal();
      return {static_cast<Real>(re), static_cast<Real>(scale * normal())};
    }
  }
  std::mt19937_64 engine_;
};

}  // namespace ssm::test
