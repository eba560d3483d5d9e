#pragma once

#include <string>

#include "support/catch.hpp"

namespace ssm::test {

/// Matches texts with `part` in them, under Catch2's name for that in each of its versions.
inline auto contains(const std::string& part) {
#if CATCH_VERSION_MAJOR == 2
  return Catch::Contains(part);
#else
  return Catch::Matchers::ContainsSubstring(part);
#endif
}

}  // namespace ssm::test
