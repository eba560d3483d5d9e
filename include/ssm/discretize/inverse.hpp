#pragma once

#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/discretize/matrix_logarithm.hpp"
#include "ssm/discretize/tustin.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

template <class T, int N, int M, int P>
StateSpace<T, N, M, P> invert_tustin(const DiscreteStateSpace<T, N, M, P>& system, T h) {
  const auto lu = factor_implicit("inverse_tustin", system.A_bar(), T(-1));
  Eigen::Matrix<T, N, N> difference = system.A_bar();
  for (Index k = 0; k < system.states(); ++k) difference(k, k) -= T(1);
  difference *= T(2) / h;
  const Eigen::Matrix<T, N, M> input = T(2) / h * system.B_bar();
  const Eigen::Matrix<T, P, N> C = T(2) * transposed(lu.solve_transposed(transposed(system.C())));
  return {lu.solve(difference), lu.solve(input), C,
          system.D() - multiply(C, system.B_bar()) / T(2)};
}

}  // namespace detail

/// The continuous system that zero-order hold samples into this one:
///
///   A = log(A_bar)/Δ,  B = (∫₀^Δ e^{sA} ds)⁻¹ B_bar,  C and D unchanged.
///
/// Of the many A with that e^{ΔA} it is the one whose modes turn by less than half a turn a step:
/// the system that was sampled above twice its fastest oscillation. A mode that has decayed below
/// epsilon within a step is known no better than its rounding.
///
/// @throws DomainError when A_bar has an eigenvalue on the closed negative real axis: no real
///   system is sampled so, or it is a mode at the Nyquist frequency
/// Cost: matrix_logarithm and a zero-order hold; allocates.
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_zero_order_hold(
    const DiscreteStateSpace<T, N, M, P>& system) {
  using Matrix = Eigen::Matrix<double, N, N>;
  const Index states = system.states();
  const Matrix logarithm = matrix_logarithm(system.A_bar().template cast<double>());
  Matrix A_bar = logarithm, mean = Matrix::Identity(states, states);
  detail::hold_in_place(A_bar, mean);  // mean = φ₁(ΔA), regular as every |Im λ| Δ < π
  const double delta = static_cast<double>(system.delta());
  const Eigen::Matrix<double, N, M> B_bar = system.B_bar().template cast<double>() / delta;
  const Eigen::Matrix<double, N, M> B = detail::SmallLu<Matrix>(mean).solve(B_bar);
  return {(logarithm / delta).template cast<T>(), B.template cast<T>(), system.C(), system.D()};
}

/// The continuous system that Tustin's method samples into this one, s = (2/Δ) (z − 1)/(z + 1):
///
///   A = 2/Δ G⁻¹ (A_bar − I),  B = 2/Δ G⁻¹ B_bar,  C = 2 C_bar G⁻¹,  D = D_bar − C B_bar/2,
///   G = I + A_bar.
///
/// @throws DomainError when A_bar has an eigenvalue −1
/// Cost: one LU of (states) and states + inputs + outputs solves.
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_tustin(const DiscreteStateSpace<T, N, M, P>& system) {
  return detail::invert_tustin(system, system.delta());
}

/// The same for Tustin's method prewarped at ω: Δ' = 2 tan(ωΔ/2)/ω takes the place of Δ.
/// @param system A_bar, B_bar, C, D and Δ
/// @param frequency ω, rad/s, with 0 ≤ ωΔ < π
/// @throws DomainError when ωΔ is outside [0, π) or A_bar has an eigenvalue −1
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_tustin(const DiscreteStateSpace<T, N, M, P>& system,
                                                    std::type_identity_t<T> frequency) {
  return detail::invert_tustin(
      system, detail::prewarped_step<T>("inverse_tustin", system.delta(), frequency));
}

}  // namespace ssm
