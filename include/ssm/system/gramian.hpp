#pragma once

#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/detail/units.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// A real L with L Lᵀ = X, A X + X Aᵀ + B Bᵀ = 0 or A X Aᵀ − X + B Bᵀ = 0.
/// @throws DomainError when A is unstable or not finite
[[nodiscard]] RealMatrix gramian_factor(std::string_view function, Time time, const RealMatrix& A,
                                        const RealMatrix& B);

/// That X, refined by a step.
/// @throws DomainError as gramian_factor does
[[nodiscard]] RealMatrix gramian_of(std::string_view function, Time time, const RealMatrix& A,
                                    const RealMatrix& B);

/// The coordinates in which both gramians are diag(σ): x = to z, z = from x, as many of z as carry
/// more from input to output than rounding does, which are `order`.
struct Balancing {
  RealVector sigma;
  RealMatrix to, from;
  Index order = 0;
};
/// @throws DomainError when A is unstable or something is not finite
[[nodiscard]] Balancing balancing_of(std::string_view function, Time time, const Quadruple& system);

SSM_END_COMPILED

namespace ssm {
/// The controllability gramian of a stable system,
///
///   W = ∫₀^∞ e^{tA} B Bᵀ e^{tAᵀ} dt,  or in discrete time  W = Σ_k A_bar^k B_bar B_barᵀ
///   (A_barᵀ)^k:
///
/// xᵀ W⁻¹ x is the least energy ∫ uᵀu of an input that takes the state from rest to x. By
/// Hammarling's method, then one step of refinement. Computed in double for float as well.
///
/// @throws DomainError when the system is unstable or not finite
/// Cost: about 60 states³.
template <LinearSystem System>
[[nodiscard]] typename System::StateMatrix controllability_gramian(const System& system) {
  return detail::to_eigen<typename System::StateMatrix>(
      detail::gramian_of("controllability_gramian", detail::SystemTraits<System>::time,
                         detail::RealMatrix(detail::state_matrix(system)),
                         detail::RealMatrix(detail::input_matrix(system))));
}

/// The observability gramian of a stable system,
///
///   W = ∫₀^∞ e^{tAᵀ} Cᵀ C e^{tA} dt,  or in discrete time  W = Σ_k (A_barᵀ)^k Cᵀ C A_bar^k:
///
/// xᵀ W x is the energy ∫ yᵀy of the output that follows from x when the input rests. Computed as
/// controllability_gramian is.
///
/// @throws DomainError when the system is unstable or not finite
/// Cost: about 60 states³.
template <LinearSystem System>
[[nodiscard]] typename System::StateMatrix observability_gramian(const System& system) {
  return detail::to_eigen<typename System::StateMatrix>(
      detail::gramian_of("observability_gramian", detail::SystemTraits<System>::time,
                         detail::RealMatrix(detail::state_matrix(system)).transpose(),
                         detail::RealMatrix(system.C()).transpose()));
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/gramian_impl.hpp"
#endif
