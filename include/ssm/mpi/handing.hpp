#pragma once

#include <algorithm>
#include <cmath>

#include "ssm/core/index.hpp"
#include "ssm/mpi/detail/measured_costs.hpp"

/// How a selective scan hands its state from rank to rank, and what that costs.
namespace ssm {

/// A way for states to pass from rank to rank.
enum class Handing {
  by_cost,   ///< the cheaper of these two
  chain,     ///< a rank scans a block of channels when the one before it has: no step is done twice
  summaries  ///< a rank first sums up what its steps do to any state, which nobody waits for;
             ///< states come from log₂(ranks) rounds of messages, and then it scans
};

/// The scans of one pass of a model, forward or backward.
struct ScansOverRanks {
  Index ranks = 1;        ///< that share the time of the sequences
  Index layers = 1;       ///< each with one scan, one after the other
  Index blocks = 1;       ///< of channels, which the chain hands on one by one
  Index channels = 1;     ///< of a layer
  Index steps = 0;        ///< of a rank's piece, on average
  Index states = 0;       ///< numbers in the states of a layer: sequences · channels · state
  Index bytes = 4;        ///< of each
  bool backward = false;  ///< the direction
};

/// What the parts of these scans take, in seconds. Measured for one machine; of processes on
/// several, latency and byte are those of the network.
struct ScanCosts {
  ///@{
  /// A number of the state, a step.
  double scan = detail::MeasuredCosts::scan, scan_backward = detail::MeasuredCosts::scan_backward;
  ///@}
  ///@{
  /// A block of channels, where there are several, costs the scan of so many channels more: B and C
  /// are read again, and their gradients summed.
  double block = detail::MeasuredCosts::block,
         block_backward = detail::MeasuredCosts::block_backward;
  ///@}
  ///@{
  /// The same of a summary.
  double sum = detail::MeasuredCosts::sum, sum_backward = detail::MeasuredCosts::sum_backward;
  ///@}
  double join = detail::MeasuredCosts::join;        ///< a number of the state: two summaries
  double latency = detail::MeasuredCosts::latency;  ///< a message, however short
  double byte = detail::MeasuredCosts::byte;        ///< each byte of a message
};

/// How many rounds of messages give each of so many ranks the summary of all before it:
/// log₂(ranks), rounded up.
[[nodiscard]] constexpr int summary_rounds(Index ranks) noexcept {
  int rounds = 0;
  for (Index reach = 1; reach < ranks; reach *= 2) ++rounds;
  return rounds;
}

/// Seconds that the slowest rank takes for the scans of a pass by the chain. Every rank has blocks
/// · layers blocks to scan; the last begins when those before it have each scanned and sent one. It
/// keeps that distance through all layers, so that it waits once a pass:
///
///   blocks · layers · b + (ranks − 1) (b + message),
///   b = states · steps · scan · (1 / blocks + block / channels),
///
/// and a single block costs no more than its scan.
[[nodiscard]] constexpr double chain_seconds(const ScansOverRanks& scans,
                                             const ScanCosts& costs = {}) noexcept {
  const auto blocks = static_cast<double>(scans.blocks), states = static_cast<double>(scans.states);
  const double scan = scans.backward ? costs.scan_backward : costs.scan;
  const double more = scans.blocks == 1 ? 0 : scans.backward ? costs.block_backward : costs.block;
  const double block = states * static_cast<double>(scans.steps) * scan *
                       (1 / blocks + more / static_cast<double>(scans.channels));
  const double message =
      costs.latency + states / blocks * static_cast<double>(scans.bytes) * costs.byte;
  return blocks * static_cast<double>(scans.layers) * block +
         static_cast<double>(scans.ranks - 1) * (block + message);
}

/// In how many blocks of channels the chain of so many ranks costs least, forward and backward
/// together: √((ranks − 1) channels / (layers · block)). At least two, so that a rank which is
/// slower for a while holds up nobody at once; at most sixteen.
[[nodiscard]] inline Index chain_blocks(Index ranks, Index layers, Index channels) noexcept {
  using Costs = detail::MeasuredCosts;
  if (ranks < 2) return 1;
  constexpr double block =
      (Costs::scan * Costs::block + Costs::scan_backward * Costs::block_backward) /
      (Costs::scan + Costs::scan_backward);
  const double blocks = std::sqrt(static_cast<double>(ranks - 1) * static_cast<double>(channels) /
                                  (static_cast<double>((std::max<Index>)(layers, 1)) * block));
  return static_cast<Index>(std::clamp(std::round(blocks), 2.0, 16.0));
}

/// The same by summaries, where every layer has its own rounds of messages:
///
///   layers (states · steps (sum + scan) + rounds (message + 2 joins)).
[[nodiscard]] constexpr double summaries_seconds(const ScansOverRanks& scans,
                                                 const ScanCosts& costs = {}) noexcept {
  const auto states = static_cast<double>(scans.states);
  const double each =
      scans.backward ? costs.sum_backward + costs.scan_backward : costs.sum + costs.scan;
  const double message = costs.latency + states * static_cast<double>(scans.bytes) * costs.byte;
  return static_cast<double>(scans.layers) *
         (states * static_cast<double>(scans.steps) * each +
          summary_rounds(scans.ranks) * (message + 2 * states * costs.join));
}

/// The cheaper way for a forward pass, or where one `trains` for it and the backward pass after it;
/// the chain where they cost the same.
[[nodiscard]] constexpr Handing cheaper_handing(ScansOverRanks scans, bool trains = true,
                                                const ScanCosts& costs = {}) noexcept {
  scans.backward = false;
  double chain = chain_seconds(scans, costs), summaries = summaries_seconds(scans, costs);
  scans.backward = true;
  if (trains) {
    chain += chain_seconds(scans, costs);
    summaries += summaries_seconds(scans, costs);
  }
  return summaries < chain ? Handing::summaries : Handing::chain;
}

}  // namespace ssm
