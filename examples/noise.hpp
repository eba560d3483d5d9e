#pragma once

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <random>

/// Noise of the examples' meters and roads: the same for a seed wherever it runs.
class Noise {
 public:
  explicit Noise(std::uint64_t seed) : engine_(seed) {}

  double uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>(engine_() >> 11) * 0x1.0p-53);
  }

  /// Of mean 0 and variance 1: Box & Muller (1958).
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform(0, 1)));
    return radius * std::cos(6.283185307179586 * uniform(0, 1));
  }

  template <int N>
  Eigen::Matrix<double, N, 1> normal() {
    Eigen::Matrix<double, N, 1> noise;
    for (double& x : noise) x = normal();
    return noise;
  }

 private:
  std::mt19937_64 engine_;
};
