#pragma once

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/layers/s4_weights.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// A step of the scan with so many states takes as long as one of the convolution.
inline constexpr Index s4_states_of_a_convolution = 16;

/// The form in which a pass runs, forward and backward. The kernel costs as much as the scan of one
/// sequence, so that the convolution repays it from the second sequence on where states are many.
/// It starts from rest: a state asks for the scan.
///
/// The constant fits the times of both forms on one thread of an AMD EPYC with AVX-512
/// (build/bench/dplr_scan_bench), from 64 to 16384 steps, with gradients and without.
/// @param sequences how many have steps to run
inline S4Form s4_form(const S4Config& config, Index sequences, bool stateful) noexcept {
  if (stateful || sequences == 0) return S4Form::scan;
  if (config.form != S4Form::fastest) return config.form;
  const bool repaid = (sequences - 1) * config.state >= sequences * s4_states_of_a_convolution;
  return repaid ? S4Form::convolution : S4Form::scan;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
