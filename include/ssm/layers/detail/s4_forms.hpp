#pragma once

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/layers/s4_weights.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Sequences from which the convolution repays its kernel, one scan more: with gradients and
/// without.
inline constexpr Index s4_convolves_to_train = 3, s4_convolves = 16;

/// The form in which a pass runs. A convolution starts from rest: a state asks for the scan.
/// @param sequences how many have steps to run
inline S4Form s4_form(S4Form wanted, Index sequences, bool stateful, bool trains) noexcept {
  if (stateful || sequences == 0) return S4Form::scan;
  if (wanted != S4Form::fastest) return wanted;
  return sequences >= (trains ? s4_convolves_to_train : s4_convolves) ? S4Form::convolution
                                                                      : S4Form::scan;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
