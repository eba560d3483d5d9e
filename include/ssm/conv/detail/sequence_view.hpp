#pragma once

#include <algorithm>
#include <cstddef>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The steps of one sequence of an array (batch, length, channels) in the order of time, as
/// (length, channels); absent where the array is.
template <class U>
[[nodiscard]] View<U, 2> steps_of(const View<U, 3>& array, const SequenceSpan& span,
                                  bool reversed) noexcept {
  if (!array) return {};
  const View<U, 2> steps = array[span.row].slice(0, span.begin, span.length());
  return reversed ? steps.reversed(0) : steps;
}

/// One channel of (length, channels).
template <class U>
[[nodiscard]] View<U, 1> channel_of(const View<U, 2>& steps, Index channel) noexcept {
  U* const first = steps.extent(0) == 0 ? steps.data() : steps.data() + channel * steps.stride(1);
  return {first, {steps.extent(0)}, {steps.stride(0)}};
}

/// The steps of the longest sequence.
[[nodiscard]] inline Index longest_sequence(const Sequences<Host>& sequences,
                                            Index length) noexcept {
  if (!sequences.offsets) return length;
  Index longest = 0;
  for (Index s = 0; s < sequences.count(1); ++s)
    longest = (std::max)(longest, span_of(sequences, s, length).length());
  return longest;
}
/// On a device offsets are not read: no sequence is longer than its row.
[[nodiscard]] inline Index longest_sequence(const Sequences<Device>&, Index length) noexcept {
  return length;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
