#pragma once

#include <string>
#include <string_view>

#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"

namespace ssm::detail {

/// The most steps that a sequence may have had: sums of positions and lengths never overflow.
inline constexpr Index most_positions = Index{1} << 48;

/// Throws DomainError for a number of earlier steps that none can be, such as one out of a file.
inline void check_position(std::string_view function, std::string_view argument, Index sequence,
                           Index steps) {
  if (steps < 0 || steps > most_positions)
    throw_domain(function, std::string(argument) + "[" + std::to_string(sequence) + "]",
                 std::to_string(steps), "from 0 to " + std::to_string(most_positions));
}

}  // namespace ssm::detail
