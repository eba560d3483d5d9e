#pragma once

#include <Eigen/Core>

#include "ssm/system/riccati.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// The feedback u = −K x that costs least.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic>
struct LinearQuadraticRegulator {
  Eigen::Matrix<T, Inputs, States> K;  ///< (inputs, states), the gain
  Eigen::Matrix<T, States, States> P;  ///< (states, states), xᵀ P x is the cost from x on
};

namespace detail {

template <class T, int N, int M>
LinearQuadraticRegulator<T, N, M> regulator(const RiccatiSolution<Eigen::MatrixXd>& solution) {
  return {solution.K.template cast<T>(), solution.P.template cast<T>()};
}

}  // namespace detail

/// The linear-quadratic regulator in continuous time: u = −K x with K = R⁻¹ Bᵀ P minimizes
///
///   ∫₀^∞ xᵀ Q x + uᵀ R u dt
///
/// for x' = A x + B u, and makes A − B K stable (Kalman 1960). P is riccati(A, B, Q, R).
///
/// @param Q (states, states), symmetric, positive semidefinite: the cost of being off
/// @param R (inputs, inputs), symmetric, positive definite: the cost of control
/// @throws ShapeError, DomainError, ConvergenceError as riccati does
template <class T, int N, int M, int P, class DQ, class DR>
[[nodiscard]] LinearQuadraticRegulator<T, N, M> lqr(const StateSpace<T, N, M, P>& system,
                                                    const Eigen::MatrixBase<DQ>& Q,
                                                    const Eigen::MatrixBase<DR>& R) {
  return detail::regulator<T, N, M>(
      detail::checked_riccati("lqr", detail::Time::continuous, system.A(), system.B(), Q, R));
}

/// The linear-quadratic regulator in discrete time: u_t = −K x_{t−1} with
/// K = (R + B_barᵀ P B_bar)⁻¹ B_barᵀ P A_bar minimizes
///
///   Σ_{t ≥ 1} x_{t−1}ᵀ Q x_{t−1} + u_tᵀ R u_t
///
/// for x_t = A_bar x_{t−1} + B_bar u_t, and makes A_bar − B_bar K stable. P is
/// discrete_riccati(A_bar, B_bar, Q, R).
///
/// @param Q (states, states), symmetric, positive semidefinite: the cost of being off
/// @param R (inputs, inputs), symmetric, positive definite: the cost of control
/// @throws ShapeError, DomainError, ConvergenceError as discrete_riccati does
template <class T, int N, int M, int P, class DQ, class DR>
[[nodiscard]] LinearQuadraticRegulator<T, N, M> discrete_lqr(
    const DiscreteStateSpace<T, N, M, P>& system, const Eigen::MatrixBase<DQ>& Q,
    const Eigen::MatrixBase<DR>& R) {
  return detail::regulator<T, N, M>(detail::checked_riccati("discrete_lqr", detail::Time::discrete,
                                                            system.A_bar(), system.B_bar(), Q, R));
}

}  // namespace ssm
