#pragma once

#include <concepts>
#include <limits>
#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/detail/units.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// @throws DomainError when the system is unstable or not finite
[[nodiscard]] double h2_norm_of(std::string_view function, Time time, const Quadruple& system);

struct Peak {
  double gain, frequency;  ///< rad/s, or rad per step in discrete time
};
/// @throws DomainError as h2_norm_of does
[[nodiscard]] Peak peak_of(std::string_view function, Time time, Quadruple system,
                           double tolerance);

SSM_END_COMPILED

namespace ssm {

/// The H2 norm of a stable system: the root of the power of its outputs when every input is white
/// noise of density 1, and of the energy of its impulse responses,
///
///   ‖G‖₂² = 1/(2π) ∫ ‖G(iω)‖_F² dω = tr C W Cᵀ,  in discrete time  tr(C W Cᵀ + D Dᵀ),
///
/// W the controllability gramian. Infinite for a continuous system with D ≠ 0. Computed in double
/// for float as well.
///
/// @throws DomainError when the system is unstable or not finite
/// Cost: about 50 states³.
template <LinearSystem System>
[[nodiscard]] typename System::Scalar h2_norm(const System& system) {
  return static_cast<typename System::Scalar>(
      detail::h2_norm_of("h2_norm", detail::SystemTraits<System>::time, detail::Quadruple(system)));
}

/// The largest gain of a system and where it is reached.
template <std::floating_point T>
struct PeakGain {
  T gain;       ///< sup_ω σ_max(G(iω))
  T frequency;  ///< ω, rad/s; infinite where only ω → ∞ comes as near
};

/// The H∞ norm of a stable system, sup_ω σ_max(G(iω)), in discrete time over ω in [0, π/Δ], and the
/// frequency of the peak: by how much energy can grow from inputs to outputs at most.
///
/// From a lower bound the frequencies at which the gain crosses it, eigenvalues of a Hamiltonian
/// matrix on the imaginary axis, give intervals with a higher gain, until there are none (Bruinsma
/// & Steinbuch 1990); then the peak is climbed to rounding. Discrete systems through the bilinear
/// map. Computed in double for float as well.
///
/// @param system continuous or discrete
/// @param tolerance how far, relatively, another peak may be above the one found
/// @throws DomainError when the system is unstable or not finite, or tolerance is not in (0, 1)
/// Cost: about 80 states³ for each of some five steps.
template <LinearSystem System>
[[nodiscard]] PeakGain<typename System::Scalar> hinf_norm(const System& system,
                                                          double tolerance = 1e-10) {
  using T = typename System::Scalar;
  detail::Peak peak = detail::peak_of("hinf_norm", detail::SystemTraits<System>::time,
                                      detail::Quadruple(system), tolerance);
  if constexpr (detail::is_discrete<System>) peak.frequency /= static_cast<double>(system.delta());
  return {static_cast<T>(peak.gain), static_cast<T>(peak.frequency)};
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/norms_impl.hpp"
#endif
