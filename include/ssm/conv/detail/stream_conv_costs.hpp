#pragma once

#include "ssm/core/index.hpp"

namespace ssm::detail {

/// What the pieces of a convolution in a stream take, in picoseconds, measured on a Zen 5 with 512
/// bits a vector: the sizes of partitions are chosen by it, and the work is spread over time by it.
/// A point is two vectors, the real and imaginary parts.
struct StreamCosts {
  static constexpr Index load = 1500;          ///< a point: its inputs to the transform
  static constexpr Index split_4 = 4200;       ///< four points of a level that divides by four
  static constexpr Index split_2 = 1600;       ///< two points of a level that divides by two
  static constexpr Index turn_a_lane = 4200;   ///< of a square of lanes and points, each lane
  static constexpr Index multiply_once = 500;  ///< a point: of all partitions together
  static constexpr Index head_in_lanes = 160;  ///< a tap of the direct sum, a channel in each lane
  static constexpr Index head_in_times = 290;  ///< of one channel, for a vector of steps
  static constexpr Index level = 500;          ///< a point, of each size of partitions: the rest

  /// A point of a partition, input times kernel, when the spectra of its size take so many bytes.
  [[nodiscard]] static constexpr Index multiply(Index bytes) noexcept {
    constexpr Index second_level = 512 << 10, third_level = 16 << 20;
    return bytes <= second_level ? 1000 : bytes <= third_level ? 1800 : 2500;
  }
};

}  // namespace ssm::detail
