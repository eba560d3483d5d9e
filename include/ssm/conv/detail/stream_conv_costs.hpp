#pragma once

#include "ssm/core/index.hpp"

namespace ssm::detail {

/// What the pieces of a convolution in a stream take, in picoseconds, with 512 bits a vector: the
/// sizes of partitions are chosen by it, and the work is spread over time by it.
struct StreamCosts {
  static constexpr Index load = 1500;        ///< of a point: its inputs to the transform
  static constexpr Index split_4 = 4000;     ///< four points of a level that divides by four
  static constexpr Index split_2 = 2000;     ///< two points of a level that divides by two
  static constexpr Index turn_a_lane = 3500; ///< of a square of lanes and points, for each lane
  static constexpr Index multiply = 900;     ///< a point of a partition: input times kernel
  static constexpr Index multiply_once = 500;  ///< and of all partitions together
  static constexpr Index head = 300;         ///< a tap of the direct sum, for all lanes
  static constexpr Index level = 500;        ///< a level of partitions, for a point: all the rest
};

}  // namespace ssm::detail
