#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/hash.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// Which elements a training pass drops (Srivastava et al. 2014; the others are scaled up by
/// 1/(1 − probability), "inverted" dropout). A hash of (seed, index of the element) decides, so
/// that no mask is stored and backward drops the same elements as forward.
struct Dropout {
  double probability = 0;  ///< in [0, 1); 0 leaves everything as it is
  std::uint64_t seed =
      0;  ///< another seed drops other elements; use a new one for every training step

  /// The dropout of one part of a model: the same probability, with masks of its own.
  [[nodiscard]] constexpr Dropout of(Index part) const noexcept {
    return {probability, detail::mix(seed + static_cast<std::uint64_t>(part) + 1)};
  }
};

/// How dropout is to run.
using DropoutOptions = Dropout;

/// What dropout reads.
template <class T, class Space = Host>
struct DropoutInputs {
  View<const T, 2, Space> x;  ///< (rows, width), contiguous; backward reads only its extents
};

/// What dropout writes.
template <class T, class Space = Host>
struct DropoutOutputs {
  View<T, 2, Space> y;  ///< (rows, width), contiguous; may be the memory of x, which is fastest
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

/// Empty: dropout needs no scratch memory.
template <class T, class Space = Host>
struct DropoutScratch {};

namespace detail {

inline void check_dropout(std::string_view function, const Dropout& dropout) {
  if (!(dropout.probability >= 0 && dropout.probability < 1))
    throw_domain(function, "probability", std::to_string(dropout.probability), "in [0, 1)");
}

}  // namespace detail
}  // namespace ssm
