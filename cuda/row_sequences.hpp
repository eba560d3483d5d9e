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
  /// Whether a sequence other than the row's first starts in [begin, end).
  SSM_DEVICE bool starts_in(Index begin, Index end) const {
    const Index k = before(end);
    return k > 0 && start(k) >= begin;
  }
};

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

/// Cuts rows of `row_length` steps, that `warps` warps would walk whole, so that a large GPU has
/// enough to do; by the shape alone, so that the bits do not depend on the device. A cut costs a
/// second pass, which an idle multiprocessor gives for nothing: pieces are short only where warps
/// are few. Lengths are multiples of `granularity`.
inline Cuts plan_cuts(Index row_length, Index warps, Index granularity) {
  constexpr Index enough_warps = 2112;  // 132 multiprocessors of 4 schedulers, 4 warps each
  constexpr Index shortest = 128;
  const Index wanted = warps < 1 ? 1 : (enough_warps + warps / 2) / warps;
  const Index most = row_length / shortest;
  const Index count = wanted < most ? wanted : most;
  if (count <= 1) return {row_length, 1};
  const Index length =
      ((row_length + count - 1) / count + granularity - 1) / granularity * granularity;
  return {length, (row_length + length - 1) / length};
}

}  // namespace ssm::kernels
