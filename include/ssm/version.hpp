#pragma once

/// State-space models, from a mass on a spring to Mamba.
namespace ssm {

/// A version of the library, major.minor.patch. Before 1.0 a new minor version may change any
/// signature, and the change log says how to follow; a new patch version changes none.
struct Version {
  int major,  ///< 0 until the interface is settled
      minor,  ///< raised when a signature changes
      patch;  ///< raised when only the behaviour does
};

/// The version of these headers.
inline constexpr Version version{0, 2, 0};

}  // namespace ssm
