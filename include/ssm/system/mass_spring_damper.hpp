#pragma once

#include <cmath>
#include <concepts>
#include <string>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/companion.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// A mass on a spring and a damper, pulled by a force F: m y'' + c y' + k y = F.
template <std::floating_point T>
struct MassSpringDamper {
  T mass;       ///< m, kg
  T damping;    ///< c, N·s/m
  T stiffness;  ///< k, N/m

  /// ω = √(k/m), rad/s: how fast it swings without damping.
  [[nodiscard]] T natural_frequency() const noexcept { return std::sqrt(stiffness / mass); }

  /// ζ = c / (2 √(k m)): it swings when ζ < 1 and creeps when ζ ≥ 1.
  [[nodiscard]] T damping_ratio() const noexcept {
    return damping / (T(2) * std::sqrt(stiffness * mass));
  }
};

/// The state-space form of a mass on a spring and a damper: the state is position (m) and
/// velocity (m/s), the input force (N), the output position (m).
/// @throws DomainError unless the mass is positive
template <std::floating_point T>
[[nodiscard]] StateSpace<T, 2, 1, 1> state_space(const MassSpringDamper<T>& model) {
  if (!(model.mass > T(0)))
    detail::throw_domain("state_space", "mass", detail::number(model.mass), "> 0");
  return companion(Eigen::Matrix<T, 3, 1>(model.mass, model.damping, model.stiffness),
                   Eigen::Matrix<T, 1, 1>(T(1)));
}

}  // namespace ssm
