#pragma once

namespace ssm::detail {

/// What the parts of a selective scan over ranks take, in seconds, measured by
/// bench/ranks_model.cpp between two processes of one machine, an Emerald Rapids with 512 bits a
/// vector: float, a real A, the simplified hold, one thread a rank. How states are handed on
/// follows from the ratios, and these hold for other scans and processors as well, nearly.
struct MeasuredCosts {
  ///@{
  /// A number of the state, a step.
  static constexpr double scan = 0.24e-9;
  static constexpr double scan_backward = 0.66e-9;
  static constexpr double sum = 0.17e-9;  ///< of a summary
  static constexpr double sum_backward = 0.17e-9;
  ///@}
  ///@{
  /// A block of channels, beside its scan: as many channels more.
  static constexpr double block = 16;
  static constexpr double block_backward = 4;
  ///@}
  static constexpr double join = 0.26e-9;    ///< a number of the state: two summaries
  static constexpr double latency = 0.5e-6;  ///< a message
  static constexpr double byte = 0.31e-9;    ///< in a message
};

}  // namespace ssm::detail
