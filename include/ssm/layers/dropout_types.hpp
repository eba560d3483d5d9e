#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/hash.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// Which elements a pass of training drops (Srivastava et al. 2014, inverted): each with this
/// probability, as a hash of (seed, element) says, so that no mask is stored and backward
/// finds the one that forward used.
struct Dropout {
  double probability = 0;  ///< in [0, 1); 0 leaves everything as it is
  std::uint64_t seed = 0;

  /// Dropout of one part of what drops, with masks of its own.
  [[nodiscard]] constexpr Dropout of(Index part) const noexcept {
    return {probability, detail::mix(seed + static_cast<std::uint64_t>(part) + 1)};
  }
};

using DropoutOptions = Dropout;

/// What dropout reads.
template <class T, class Space = Host>
struct DropoutInputs {
  View<const T, 2, Space> x;  ///< (rows, width), contiguous; backward reads its extents only
};

/// What dropout writes.
template <class T, class Space = Host>
struct DropoutOutputs {
  View<T, 2, Space> y;  ///< (rows, width), contiguous; may be the memory of x, which costs least
};

/// The gradient of a scalar loss with respect to the output, which dropout_backward reads.
template <class T, class Space = Host>
struct DropoutOutputGradients {
  View<const T, 2, Space> y;  ///< (rows, width), contiguous
};

/// The gradients that dropout_backward writes.
template <class T, class Space = Host>
struct DropoutInputGradients {
  View<T, 2, Space> x;  ///< (rows, width), contiguous; may be the memory of the gradient of y
};

/// Dropout needs no room.
template <class T, class Space = Host>
struct DropoutScratch {};

namespace detail {

inline void check_dropout(std::string_view function, const Dropout& dropout) {
  if (!(dropout.probability >= 0 && dropout.probability < 1))
    throw_domain(function, "probability", std::to_string(dropout.probability), "in [0, 1)");
}

}  // namespace detail
}  // namespace ssm
