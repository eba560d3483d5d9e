#pragma once

#include "block.hpp"

namespace ssm::kernels {

/// How a row is cut over time: pieces that are scanned from zero, joined, and scanned again.
struct Cuts {
  Index length = 0;  ///< steps of a piece but the last
  Index count = 1;

  SSM_DEVICE Index begin(Index piece) const { return piece * length; }
  SSM_DEVICE Index end(Index piece, Index row_length) const {
    const Index end = (piece + 1) * length;
    return piece + 1 == count || end > row_length ? row_length : end;
  }
};

/// What a device holds of a kernel at once.
struct Residency {
  Index multiprocessors;
  Index blocks;   ///< on each of them
  Index threads;  ///< of a block
};

/// What a pass over `blocks` blocks takes that walk one step, in steps of one block that is alone
/// and has enough others beside it to be busy. A multiprocessor works on what it holds, then on the
/// rest; few blocks take it as long as enough of them, as it waits for memory meanwhile.
inline double pass_time(Index blocks, const Residency& device) {
  constexpr double enough_warps = 24;  // 6 for each of 4 schedulers hide what a step waits for
  const double enough = enough_warps * warp / static_cast<double>(device.threads);
  const Index held = device.blocks > 0 ? device.blocks : 1;
  const Index each = (blocks + device.multiprocessors - 1) / device.multiprocessors;
  const auto round = [&](Index count) {
    const auto time = static_cast<double>(count);
    return count == 0 ? 0.0 : time < enough ? enough : time;
  };
  return static_cast<double>(each / held) * round(held) + round(each % held);
}

/// What a scan takes over rows that `threads` threads walk whole, cut into `count` pieces of
/// `length` steps, in the unit of pass_time. All pieces but the last are walked twice, the first
/// time for `first_pass` of what a step costs, and one thread a state walks the pieces between.
inline double scan_time(Index threads, Index count, Index length, const Residency& device,
                        double first_pass) {
  const Index blocks = (threads * count + device.threads - 1) / device.threads;
  const double pass = pass_time(blocks, device) * static_cast<double>(length);
  if (count == 1) return pass;
  const auto pieces = static_cast<double>(count);
  return pass * (1 + first_pass * (pieces - 1) / pieces) + pass_time(1, device) * pieces;
}

/// Cuts rows of `row_length` steps, that `threads` threads would walk whole, as scan_time says is
/// the fastest on this device, where that is well below the time of whole rows: a cut is more work
/// for certain, and the rest is a model. Lengths are multiples of `granularity`.
inline Cuts plan_cuts(Index row_length, Index threads, const Residency& device, Index granularity,
                      double first_pass) {
  constexpr Index shortest = 128, most_rounds = 4;
  constexpr double well_below = 0.85;
  Cuts best{row_length, 1};
  if (threads < 1) return best;
  const Index most_threads =
      most_rounds * device.multiprocessors * (device.blocks + 1) * device.threads;
  double best_time = well_below * scan_time(threads, 1, row_length, device, first_pass);
  for (Index wanted = 2; wanted <= row_length / shortest && threads * wanted <= most_threads;
       ++wanted) {
    const Index length =
        ((row_length + wanted - 1) / wanted + granularity - 1) / granularity * granularity;
    const Index count = (row_length + length - 1) / length;
    const double time = scan_time(threads, count, length, device, first_pass);
    if (count > 1 && time < best_time) best = {length, count}, best_time = time;
  }
  return best;
}

}  // namespace ssm::kernels
