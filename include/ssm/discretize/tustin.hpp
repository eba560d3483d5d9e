#pragma once

#include <cmath>
#include <string>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/discretize/bilinear_euler.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// The generalized bilinear map of step h; the result says that it was made for a step of delta.
template <class T, int N, int M, int P>
DiscreteStateSpace<T, N, M, P> map_bilinearly(std::string_view function,
                                              const StateSpace<T, N, M, P>& system, T h, T alpha,
                                              T delta) {
  check_sampling(function, delta);
  const auto lu = factor_implicit(function, system.A(), alpha * h);
  const Eigen::Matrix<T, N, M> input = h * system.B();
  const Eigen::Matrix<T, N, M> B_bar = lu.solve(input);
  const auto C_bar = transposed(lu.solve_transposed(transposed(system.C())));
  Eigen::Matrix<T, P, M> D_bar = multiply(system.C(), B_bar);
  D_bar = (system.D() + alpha * D_bar).eval();
  return {lu.solve(explicit_step(system.A(), (T(1) - alpha) * h)), B_bar, C_bar, D_bar, delta};
}

/// The step for which Tustin's map meets the frequency ω: 2 tan(ωΔ/2)/ω, and Δ for ω = 0.
template <class T>
T prewarped_step(std::string_view function, T delta, T frequency) {
  const T angle = frequency * delta;
  if (!(angle >= T(0) && angle < T(3.14159265358979323846)))
    throw_domain(function, "frequency times delta", detail::number(angle),
                 "in [0, pi): below the Nyquist frequency");
  return angle == T(0) ? delta : T(2) * std::tan(angle / T(2)) / frequency;
}

}  // namespace detail

/// The generalized bilinear map: the trapezoid at α = 1/2, the forward difference at α = 0, the
/// backward difference at α = 1,
///
///   A_bar = E⁻¹ (I + (1−α)ΔA),  B_bar = E⁻¹ ΔB,  C_bar = C E⁻¹,  D_bar = D + α C B_bar,
///   E = I − αΔA   (Zhang, Chen & Chen 2009, "Digital redesign via the generalised bilinear
///   transformation"),
///
/// which puts s = (z − 1)/(Δ (α z + 1 − α)) into the transfer function. Stable systems stay stable
/// when α ≥ 1/2. C and D change; ssm::bilinear is S4's map, which keeps them. Read the output by
/// Readout::before.
///
/// @param system A, B, C, D
/// @param delta Δ, s
/// @param alpha α, in [0, 1]
/// @throws DomainError when α is outside [0, 1], E is singular, or Δ not positive and finite
/// Cost: one LU of (states) and states + inputs + outputs solves.
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, N, M, P> generalized_bilinear(
    const StateSpace<T, N, M, P>& system, std::type_identity_t<T> delta,
    std::type_identity_t<T> alpha) {
  if (!(alpha >= T(0) && alpha <= T(1)))
    detail::throw_domain("generalized_bilinear", "alpha", detail::number(alpha), "in [0, 1]");
  return detail::map_bilinearly("generalized_bilinear", system, delta, alpha, delta);
}

/// Tustin's method, s = (2/Δ) (z − 1)/(z + 1): generalized_bilinear with α = 1/2, second order in
/// Δ. The response at the angular frequency ω is that of the continuous system at
/// (2/Δ) tan(ωΔ/2).
///
/// @param system A, B, C, D
/// @param delta Δ, s
/// @throws DomainError when I − Δ/2 A is singular, or Δ not positive and finite
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, N, M, P> tustin(const StateSpace<T, N, M, P>& system,
                                                    std::type_identity_t<T> delta) {
  return detail::map_bilinearly("tustin", system, delta, T(0.5), delta);
}

/// Tustin's method prewarped: with Δ' = 2 tan(ωΔ/2)/ω in the place of Δ, the sampled system has
/// the continuous one's response at ω exactly, magnitude and phase.
///
/// @param system A, B, C, D
/// @param delta Δ, s
/// @param frequency ω, rad/s, with 0 ≤ ωΔ < π
/// @throws DomainError when ωΔ is outside [0, π), I − Δ'/2 A is singular, or Δ not positive and
///   finite
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, N, M, P> tustin(const StateSpace<T, N, M, P>& system,
                                                    std::type_identity_t<T> delta,
                                                    std::type_identity_t<T> frequency) {
  const T h = detail::prewarped_step<T>("tustin", delta, frequency);
  return detail::map_bilinearly("tustin", system, h, T(0.5), delta);
}

/// Impulse invariance: the response to a unit pulse at t = 0 samples Δ times that to an impulse,
///
///   A_bar = e^{ΔA},  B_bar = Δ e^{ΔA} B,  C unchanged,  D_bar = Δ C B
///
/// (Oppenheim & Schafer, Discrete-Time Signal Processing, section 7.2.1). Frequencies above
/// Nyquist fold back. Read the output by Readout::before.
///
/// @param system A, B, C, D
/// @param delta Δ, s
/// @throws DomainError when D is not 0, as an impulse through D has no samples, or Δ is not
///   positive and finite
/// Cost: matrix_exponential of (states).
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, N, M, P> impulse_invariant(const StateSpace<T, N, M, P>& system,
                                                               std::type_identity_t<T> delta) {
  if (!(system.D().array() == T(0)).all())
    detail::throw_domain("impulse_invariant", "D", "not zero", "zero");
  detail::check_sampling("impulse_invariant", delta);
  const Eigen::Matrix<T, N, N> A_bar = matrix_exponential(system.A() * delta);
  detail::check_held("impulse_invariant", system, delta, A_bar);
  return {A_bar, delta * detail::multiply(A_bar, system.B()), system.C(),
          delta * detail::multiply(system.C(), system.B()), delta};
}

}  // namespace ssm
