#pragma once

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/layers/s4d_weights.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Sizes of a call, on which it depends what form is the fastest. On the width it does not.
struct S4dCall {
  Index batch, length, modes;
  bool convolves;  ///< from rest, and by a method that has a kernel
};

/// Steps up to which the convolution is the fastest, whatever the batch.
template <class T>
inline constexpr Index few_steps = sizeof(T) == 4 ? 48 : 24;

/// The form that `fastest` stands for: the scan, but for short sequences the convolution, whose
/// kernel costs more the more sequences share the tables of the scan, and for the shortest ones of
/// float the recurrence, which prepares nothing.
///
/// The constants fit the times of all forms on one thread of an AMD EPYC with AVX-512, built with
/// -O3 -march=native, each the least of 8 runs or more (build/bench/diagonal_scan_bench has some of
/// them), for batches of 1 to 32, 16 to 16384 steps, 2 to 64 states, widths of 1
/// to 256, float and double: the choice is within 1.15 of the fastest in 97% of these calls, 1.45
/// in the worst, 1.01 in the mean.
template <class T>
S4dForm forward_form(const S4dCall& call) noexcept {
  constexpr bool is_float = sizeof(T) == 4;
  const Index updates = call.batch * call.length;
  if (is_float && (updates <= 24 || (updates * call.modes <= 320 && call.length <= 128)))
    return S4dForm::recurrence;
  const bool few = call.length <= few_steps<T> ||
                   call.batch * (call.length - 24 - call.modes) <= (is_float ? 88 : 28);
  return call.convolves && few ? S4dForm::convolution : S4dForm::scan;
}

/// The same for the gradients, of which the recurrence has none: 1.25 of the fastest in the worst.
template <class T>
S4dForm backward_form(const S4dCall& call) noexcept {
  return call.convolves && call.length <= few_steps<T> ? S4dForm::convolution : S4dForm::scan;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
