#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "ssm/core/index.hpp"

namespace ssm::detail {

/// Consecutive runs of [0, count), as many as a power of two up to `most`, each of at least `least`
/// elements where there are that many. They depend on the count alone, so that a sum over pieces
/// in order does not depend on the number of threads.
struct Pieces {
  Index count;
  Index pieces;

  constexpr Pieces(Index count_, Index least, Index most = 16) noexcept
      : count(count_),
        pieces(static_cast<Index>(std::bit_floor(
            static_cast<std::uint64_t>(std::clamp<Index>(count_ / least, 1, most))))) {}

  [[nodiscard]] constexpr Index begin(Index piece) const noexcept { return count * piece / pieces; }
  [[nodiscard]] constexpr Index end(Index piece) const noexcept { return begin(piece + 1); }
  [[nodiscard]] constexpr Index size(Index piece) const noexcept {
    return end(piece) - begin(piece);
  }
};

}  // namespace ssm::detail
