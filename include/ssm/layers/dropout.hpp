#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <string>
#include <type_traits>

#include "ssm/core/detail/hash.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// Which elements a pass of training drops (Srivastava et al. 2014, inverted): each with this
/// probability, as a hash of (seed, element) says, so that no mask is stored and backward finds the
/// one that forward used.
struct Dropout {
  double probability = 0;  ///< in [0, 1); 0 leaves everything as it is
  std::uint64_t seed = 0;

  /// Dropout of one part of what drops, with masks of its own.
  [[nodiscard]] constexpr Dropout of(Index part) const noexcept {
    return {probability, detail::mix(seed + static_cast<std::uint64_t>(part) + 1)};
  }
};

/// x ← x m/(1 − p), with m = 0 where an element is dropped and 1 elsewhere; `layer` tells the masks
/// of one pass apart. It is its own backward: applied to the gradient of its output it gives that
/// of its input. x (rows, width) contiguous. Throws DomainError unless 0 ≤ p < 1.
template <std::floating_point T>
void apply_dropout(const Cpu& backend, const Dropout& dropout, Index layer, const View<T, 2>& x) {
  if (!(dropout.probability >= 0 && dropout.probability < 1))
    detail::throw_domain("apply_dropout", "probability", std::to_string(dropout.probability),
                         "in [0, 1)");
  if (dropout.probability == 0) return;
  if (!x.contiguous()) detail::throw_shape("apply_dropout", "x", "strided", "contiguous rows");
  const std::uint64_t key =
      detail::mix(detail::mix(dropout.seed) + static_cast<std::uint64_t>(layer));
  const auto threshold = static_cast<std::int64_t>(std::ldexp(dropout.probability, 53));
  const T scale = static_cast<T>(1 / (1 - dropout.probability));
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  parallel_for(backend, x.extent(0), [&](Index row) {
    T* values = x.data() + row * x.extent(1);
    const std::uint64_t first = key + static_cast<std::uint64_t>(row * x.extent(1));
    // Without a branch and in bits alone, which compilers turn into vector code.
    for (Index i = 0; i < x.extent(1); ++i) {
      const std::uint64_t draw = detail::mix(first + static_cast<std::uint64_t>(i)) >> 11;
      const std::int64_t beyond = static_cast<std::int64_t>(draw) - threshold;
      const auto kept = static_cast<Bits>(~(beyond >> 63));  // all bits, or none
      values[i] = std::bit_cast<T>(std::bit_cast<Bits>(values[i] * scale) & kept);
    }
  });
}

}  // namespace ssm
