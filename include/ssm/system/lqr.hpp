#pragma once

#include <concepts>
#include <string_view>

#include "ssm/core/detail/eigen_core.hpp"
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

/// What lqr and discrete_lqr share.
template <class T, int N, int M, class DQ, class DR>
LinearQuadraticRegulator<T, N, M> regulator(std::string_view function, Time time,
                                            const Eigen::Matrix<T, N, N>& A,
                                            const Eigen::Matrix<T, N, M>& B,
                                            const Eigen::MatrixBase<DQ>& Q,
                                            const Eigen::MatrixBase<DR>& R) {
  check_matrix(function, "Q", Q, A.rows(), A.rows());
  check_semidefinite(function, RealMatrix(Q), epsilon_of<T>);
  const RiccatiSolution solution = checked_riccati(function, time, A, B, Q, R);
  return {to_eigen<Eigen::Matrix<T, M, N>>(solution.K),
          to_eigen<Eigen::Matrix<T, N, N>>(solution.P)};
}

}  // namespace detail

/// The linear-quadratic regulator in continuous time: u = −K x with K = R⁻¹ Bᵀ P minimizes
///
///   ∫₀^∞ xᵀ Q x + uᵀ R u dt
///
/// for x' = A x + B u, and makes A − B K stable (Kalman 1960). P is riccati(A, B, Q, R).
///
/// @param system A and B
/// @param Q (states, states), symmetric, positive semidefinite: the cost of being off
/// @param R (inputs, inputs), symmetric, positive definite: the cost of control
/// @throws ShapeError, DomainError, ConvergenceError as riccati does, and DomainError when Q is not
///   positive semidefinite
template <class T, int N, int M, int P, class DQ, class DR>
[[nodiscard]] LinearQuadraticRegulator<T, N, M> lqr(const StateSpace<T, N, M, P>& system,
                                                    const Eigen::MatrixBase<DQ>& Q,
                                                    const Eigen::MatrixBase<DR>& R) {
  return detail::regulator("lqr", detail::Time::continuous, system.A(), system.B(), Q, R);
}

/// The linear-quadratic regulator in discrete time: u_t = −K x_t with
/// K = (R + B_barᵀ P B_bar)⁻¹ B_barᵀ P A_bar minimizes
///
///   Σ_{t ≥ 0} x_tᵀ Q x_t + u_tᵀ R u_t
///
/// for x_{t+1} = A_bar x_t + B_bar u_t, and makes A_bar − B_bar K stable. P is
/// discrete_riccati(A_bar, B_bar, Q, R).
///
/// @param system A_bar and B_bar
/// @param Q (states, states), symmetric, positive semidefinite: the cost of being off
/// @param R (inputs, inputs), symmetric, positive definite: the cost of control
/// @throws ShapeError, DomainError, ConvergenceError as discrete_riccati does, and DomainError when
///   Q is not positive semidefinite
template <class T, int N, int M, int P, class DQ, class DR>
[[nodiscard]] LinearQuadraticRegulator<T, N, M> discrete_lqr(
    const DiscreteStateSpace<T, N, M, P>& system, const Eigen::MatrixBase<DQ>& Q,
    const Eigen::MatrixBase<DR>& R) {
  return detail::regulator("discrete_lqr", detail::Time::discrete, system.A_bar(), system.B_bar(),
                           Q, R);
}

}  // namespace ssm
