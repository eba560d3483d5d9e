#pragma once

#include <cmath>
#include <complex>
#include <concepts>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/detail/units.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The eigenvalues of A, complex ones as neighbours of their exact conjugates.
/// @throws DomainError when A is not finite
[[nodiscard]] ComplexVector eigenvalues_of(std::string_view function, RealMatrix A);

/// The rank of C (λI − A)⁻¹ B + D at all but finitely many λ, from matrices whose elements have
/// this relative error.
[[nodiscard]] Index normal_rank(Quadruple system, double error);

/// The finite λ at which [A − λI, B; C, D] loses rank.
/// @throws DomainError when the system is not finite
[[nodiscard]] ComplexVector zeros_of(std::string_view function, Quadruple system,
                                     double tolerance = 0);

/// dc_gain of a system, with its errors.
[[nodiscard]] RealMatrix gain_at_rest(Quadruple system, Time time);

SSM_END_COMPILED

namespace ssm {

/// One pole of a system and what it means in time.
template <std::floating_point T>
struct Mode {
  std::complex<T> pole;  ///< λ, 1/s, or in discrete time its z
  T natural_frequency;   ///< ω_n = |λ|, rad/s
  T damping_ratio;       ///< ζ = −Re λ / |λ|; 1 for λ = 0
  T time_constant;       ///< τ = −1 / Re λ, s: negative for a mode that grows, else infinite
};

/// The poles of a system: the eigenvalues of A or A_bar, complex ones as neighbours of their exact
/// conjugates.
///
/// @return (states), 1/s for a continuous system
/// @throws DomainError when A is not finite
/// Cost: about 10 states³. Computed in double for float as well.
template <LinearSystem System>
[[nodiscard]] auto poles(const System& system) {
  using T = typename System::Scalar;
  return detail::to_eigen<Eigen::Matrix<std::complex<T>, detail::SystemTraits<System>::states, 1>>(
      detail::eigenvalues_of("poles", detail::RealMatrix(detail::state_matrix(system))));
}

/// The finite invariant zeros of a system of any number of inputs and outputs: where
///
///   [A − λI, B; C, D]
///
/// has less than its usual rank: the transmission zeros and, where there are as many inputs as
/// outputs, the modes that inputs do not reach or outputs do not show. Read by Readout::after, C
/// and D are C A_bar and D + C B_bar, whose zeros at 0 belong to the factor z.
///
/// Reduced to a pencil of full rank without infinite zeros (Emami-Naeini & Van Dooren 1982), then a
/// generalized eigenvalue problem; no polynomial is formed. Computed in double for float as well.
/// What is a zero and what only rounding made look like a finite one is decided against the size of
/// the very numbers in question, so that no choice of units changes how many there are.
///
/// @param system continuous or discrete
/// @param readout of a discrete system; a continuous one has none
/// @param tolerance the relative error that the elements of the matrices have; rounding when 0
/// @return as many as there are, at most states of them
/// @throws DomainError when the system is not finite, or tolerance is not in [0, 1)
/// Cost: about 50 states³.
template <LinearSystem System>
[[nodiscard]] auto zeros(const System& system, Readout readout = Readout::before,
                         double tolerance = 0) {
  using T = typename System::Scalar;
  return detail::to_eigen<Eigen::Matrix<std::complex<T>, Eigen::Dynamic, 1>>(
      detail::zeros_of("zeros", detail::Quadruple(system, readout), tolerance));
}

/// True when every pole decays by more than rounding: Re λ < 0, or |z| < 1 in discrete time.
/// @throws DomainError when A is not finite
template <LinearSystem System>
[[nodiscard]] bool is_stable(const System& system) {
  return detail::SchurForm("is_stable", detail::RealMatrix(detail::state_matrix(system)))
      .stable(detail::SystemTraits<System>::time);
}

/// What a constant input becomes in the end: D − C A⁻¹ B, or C (I − A_bar)⁻¹ B_bar + D, whether the
/// output is read before the step or after.
///
/// Where a pole at λ = 0 or z = 1 leads from an input to an output, that element is infinite, of
/// the sign with which the output grows; the others are what they are without it. A pole counts as
/// one at rest where rounding of the elements of A could have put it there, whatever their units
/// are.
///
/// @return (outputs, inputs)
/// @throws DomainError when the system is not finite
/// Cost: states³, with poles at rest about 50 states³.
template <LinearSystem System>
[[nodiscard]] typename System::FeedthroughMatrix dc_gain(const System& system) {
  return detail::to_eigen<typename System::FeedthroughMatrix>(
      detail::gain_at_rest(detail::Quadruple(system), detail::SystemTraits<System>::time));
}

/// Natural frequency, damping ratio and time constant of every pole, in the order of poles. A
/// discrete pole z counts as λ = ln z / Δ.
/// @throws DomainError when A is not finite
template <LinearSystem System>
[[nodiscard]] std::vector<Mode<typename System::Scalar>> damping(const System& system) {
  using T = typename System::Scalar;
  std::vector<Mode<T>> modes;
  for (const std::complex<T>& pole : poles(system)) {
    std::complex<T> lambda = pole;
    if constexpr (detail::is_discrete<System>) lambda = std::log(pole) / system.delta();
    const T frequency = std::abs(lambda);
    const T ratio = std::isinf(frequency) || frequency == T(0) ? T(1) : -lambda.real() / frequency;
    const T rate = lambda.real() == T(0) ? T(0) : -lambda.real();
    modes.push_back({pole, frequency, ratio, T(1) / rate});
  }
  return modes;
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/poles_zeros_impl.hpp"
#endif
