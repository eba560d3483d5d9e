#pragma once

#include "block.hpp"
#include "ssm/core/sequences.hpp"

namespace ssm::kernels {

/// The sequences of one row of a batch in the order of time, which is the order of memory or, when
/// reversed, its opposite: kernels count steps in time, and their Arrays are in that order.
/// Sequence k, in time, is [start(k), start(k + 1)), and may be empty.
///
/// Offsets come from device memory unchecked: whatever they hold, positions stay within the row and
/// sequence numbers within [0, count).
struct RowSequences {
  const Index* offsets;  ///< (count + 1), null: each row is one sequence
  Index stride;          ///< of the offsets
  Index count;           ///< sequences of a row
  Index length;          ///< steps of a row
  bool reversed;

  /// As an operation takes them, of rows of `row_length` steps.
  RowSequences(const Sequences<Device>& sequences, Index row_length)
      : offsets(sequences.offsets.data()),
        stride(sequences.offsets ? sequences.offsets.stride(0) : 1),
        count(sequences.count(1)),
        length(row_length),
        reversed(sequences.reversed) {}

  SSM_DEVICE Index start(Index k) const {
    if (offsets == nullptr || k == 0) return 0;
    const Index offset = offsets[(reversed ? count - k : k) * stride];
    const Index within = offset < 0 ? 0 : offset > length ? length : offset;
    return reversed ? length - within : within;
  }
  /// The sequence under which states of sequence k of the row are kept.
  SSM_DEVICE Index number(Index row, Index k) const {
    if (offsets == nullptr) return row;
    return reversed ? count - 1 - k : k;
  }
  /// The last sequence that starts before `position`, 0 if none does.
  SSM_DEVICE Index before(Index position) const {
    Index low = 0, high = count;
    while (high - low > 1) {
      const Index middle = low + (high - low) / 2;
      if (start(middle) < position)
        low = middle;
      else
        high = middle;
    }
    return low;
  }
  /// Whether sequence k is the last one before `position`, where another starts or the row ends.
  SSM_DEVICE bool ends_at(Index k, Index position) const {
    return position >= length || (k + 1 < count && start(k + 1) == position);
  }
  /// Whether a sequence other than the row's first starts in [begin, end).
  SSM_DEVICE bool starts_in(Index begin, Index end) const {
    const Index k = before(end);
    return k > 0 && start(k) >= begin;
  }
};

}  // namespace ssm::kernels
