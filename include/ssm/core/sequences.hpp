#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

#include "ssm/core/detail/hash.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// Which steps of an array (batch, length, …) form a sequence, and in which direction time runs.
/// Packed, sequences of different lengths run in one call. Each gives what it gives alone, to
/// rounding, and none moves another. See ssm/layers/pack_sequences.hpp for padded batches.
template <class Space = Host>
struct Sequences {
  /// (sequences + 1), optional. Absent: every row of the batch is one sequence. Given: the batch
  /// has one row, which holds packed sequences end to end: sequence s is the steps from offsets[s]
  /// to offsets[s + 1] − 1. The first offset is 0, the last is the length. A sequence may be empty.
  View<const Index, 1, Space> offsets = {};
  bool reversed = false;  ///< time runs from the last step of each sequence to its first

  /// How many sequences an array of `batch` rows holds.
  [[nodiscard]] constexpr Index count(Index batch) const noexcept {
    return offsets ? offsets.extent(0) - 1 : batch;
  }
  /// These sequences with time running in the other direction.
  [[nodiscard]] constexpr Sequences turned() const noexcept { return {offsets, !reversed}; }
};

namespace detail {

/// Where one sequence lies: steps [begin, end) of row `row` of the batch.
struct SequenceSpan {
  Index row, begin, end;

  [[nodiscard]] constexpr Index length() const noexcept { return end - begin; }
  /// The position in memory of the i-th step in time.
  [[nodiscard]] constexpr Index step(Index i, bool reversed) const noexcept {
    return reversed ? end - 1 - i : begin + i;
  }
};

/// Sequence `s` of arrays with `length` steps a row.
[[nodiscard]] inline SequenceSpan span_of(const Sequences<Host>& sequences, Index s,
                                          Index length) noexcept {
  if (sequences.offsets) return {0, sequences.offsets(s), sequences.offsets(s + 1)};
  return {s, 0, length};
}

/// An array whose second extent is time, its steps in the order of time. Packed sequences are
/// turned one by one, not here.
template <class AnyView, class Space>
[[nodiscard]] AnyView in_time(const AnyView& view, const Sequences<Space>& sequences) noexcept {
  return view && sequences.reversed ? view.reversed(1) : view;
}

/// Throws unless offsets, where given, cut a batch of one row of `length` steps into sequences.
/// Their values are not read on a device, as that would wait for it.
template <class Space>
void check_sequences(std::string_view function, const Sequences<Space>& sequences, Index batch,
                     Index length) {
  const auto& offsets = sequences.offsets;
  if (!offsets) return;
  if (batch != 1)
    throw_shape(function, "offsets", "given with batch " + std::to_string(batch),
                "packed sequences in a batch of 1");
  const Index count = offsets.extent(0);
  if (count < 1) throw_shape(function, "offsets", "(0)", "at least one offset");
  check_memory(function, "offsets", offsets);
  if constexpr (std::same_as<Space, Host>) {
    if (offsets(0) != 0) throw_domain(function, "offsets[0]", std::to_string(offsets(0)), "0");
    for (Index s = 1; s < count; ++s)
      if (offsets(s) < offsets(s - 1))
        throw_domain(function, "offsets[" + std::to_string(s) + "]", std::to_string(offsets(s)),
                     "no less than the offset before it");
    if (offsets(count - 1) != length)
      throw_domain(function, "the last offset", std::to_string(offsets(count - 1)),
                   "the length, " + std::to_string(length));
  }
}

/// A number by which a scratch tells one call's sequences from another's: it differs for the other
/// direction and, on the host, most likely for other offsets.
template <class Space>
[[nodiscard]] Index variant_of(const Sequences<Space>& sequences) noexcept {
  std::uint64_t variant = sequences.reversed ? 1 : 0;
  if (!sequences.offsets) return static_cast<Index>(variant);
  variant = mix(variant + 2);
  if constexpr (std::same_as<Space, Host>)
    for (Index s = 0; s < sequences.offsets.extent(0); ++s)
      variant = mix(variant + static_cast<std::uint64_t>(sequences.offsets(s)));
  return static_cast<Index>(variant >> 1);
}

}  // namespace detail
}  // namespace ssm
