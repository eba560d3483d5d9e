#pragma once

namespace ssm::detail {

/// What the parts of a selective scan over ranks take, in seconds, measured by
/// bench/ranks_model.cpp between two processes of one machine, a Zen 3 with 256 bits a vector that
/// was busy elsewhere: float, a real A, the simplified hold, one thread a rank. How states are
/// handed on follows from the ratios, and these hold for other scans and processors as well,
/// nearly.
struct MeasuredCosts {
  ///@{
  /// A number of the state, a step.
  static constexpr double scan = 0.74e-9;
  static constexpr double scan_backward = 1.2e-9;
  static constexpr double block = 0.8e-9;  ///< where channels run block by block
  static constexpr double block_backward = 1.6e-9;
  static constexpr double sum = 0.47e-9;  ///< of a summary
  static constexpr double sum_backward = 0.48e-9;
  ///@}
  static constexpr double join = 0.3e-9;   ///< a number of the state: two summaries
  static constexpr double latency = 1e-6;  ///< a message
  static constexpr double byte = 0.4e-9;   ///< in a message
};

}  // namespace ssm::detail
