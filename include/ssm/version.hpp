#pragma once

/// The version of the library: major.minor.patch. Before 1.0 a new minor version may change any
/// signature, and the change log says how to follow; a new patch version changes none.
namespace ssm {

struct Version {
  int major, minor, patch;
};

inline constexpr Version version{0, 2, 0};

}  // namespace ssm
