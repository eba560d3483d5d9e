#pragma once

#include <concepts>
#include <string_view>
#include <type_traits>

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
template <class T, int N, int M, class DQ, class DR, class... Cross>
LinearQuadraticRegulator<T, N, M> regulator(std::string_view function, Time time,
                                            const Eigen::Matrix<T, N, N>& A,
                                            const Eigen::Matrix<T, N, M>& B,
                                            const Eigen::MatrixBase<DQ>& Q,
                                            const Eigen::MatrixBase<DR>& R, const Cross&... cross) {
  const RiccatiCaller caller{function, epsilon_of<T>, RiccatiOf::regulator, true};
  const auto solution = checked_riccati(caller, time, A, B, Q, R, cross...);
  return {solution.K.template cast<T>(), solution.P.template cast<T>()};
}

}  // namespace detail

/// The linear-quadratic regulator in continuous time: u = −K x with K = R⁻¹ (Bᵀ P + Nᵀ) minimizes
///
///   ∫₀^∞ xᵀ Q x + 2 xᵀ N u + uᵀ R u dt
///
/// for x' = A x + B u, and makes A − B K stable (Kalman 1960). P is riccati(A, B, Q, R, N). A cost
/// of outputs, yᵀ Q_y y with y = C x + D u, is Q = Cᵀ Q_y C, N = Cᵀ Q_y D, R + Dᵀ Q_y D.
///
/// @param system A and B
/// @param Q (states, states), symmetric, positive semidefinite: the cost of being off
/// @param R (inputs, inputs), symmetric, positive definite: the cost of control
/// @param cross N (states, inputs), the cost of both together; absent for 0
/// @throws ShapeError, DomainError, ConvergenceError as riccati does, and DomainError when the cost
///   could be negative: [Q N; Nᵀ R] is not positive semidefinite by more than rounding
template <class T, int N, int M, int P, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1)
    [[nodiscard]] LinearQuadraticRegulator<T, N, M> lqr(const StateSpace<T, N, M, P>& system,
                                                        const Eigen::MatrixBase<DQ>& Q,
                                                        const Eigen::MatrixBase<DR>& R,
                                                        const Eigen::MatrixBase<DN>&... cross) {
  return detail::regulator("lqr", detail::Time::continuous, system.A(), system.B(), Q, R, cross...);
}

/// The same of one input, whose R is a number.
template <class T, int N, int M, int P, class DQ>
[[nodiscard]] LinearQuadraticRegulator<T, N, M> lqr(const StateSpace<T, N, M, P>& system,
                                                    const Eigen::MatrixBase<DQ>& Q,
                                                    std::type_identity_t<T> R) {
  return lqr(system, Q, Eigen::Matrix<T, 1, 1>(R));
}

/// The linear-quadratic regulator in discrete time: u_t = −K x_t with
/// K = (R + B_barᵀ P B_bar)⁻¹ (B_barᵀ P A_bar + Nᵀ) minimizes
///
///   Σ_{t ≥ 0} x_tᵀ Q x_t + 2 x_tᵀ N u_t + u_tᵀ R u_t
///
/// for x_{t+1} = A_bar x_t + B_bar u_t, and makes A_bar − B_bar K stable. P is
/// discrete_riccati(A_bar, B_bar, Q, R, N). sampled_lqr takes a cost in continuous time.
///
/// @param system A_bar and B_bar
/// @param Q (states, states), symmetric, positive semidefinite: the cost of being off
/// @param R (inputs, inputs), symmetric, positive semidefinite: the cost of control; an input may
///   cost nothing where Q sees what it moves
/// @param cross N (states, inputs), the cost of both together; absent for 0
/// @throws ShapeError, DomainError, ConvergenceError as discrete_riccati does, and DomainError when
///   the cost could be negative: [Q N; Nᵀ R] is not positive semidefinite by more than rounding
template <class T, int N, int M, int P, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1) [[nodiscard]] LinearQuadraticRegulator<T, N, M> discrete_lqr(
    const DiscreteStateSpace<T, N, M, P>& system, const Eigen::MatrixBase<DQ>& Q,
    const Eigen::MatrixBase<DR>& R, const Eigen::MatrixBase<DN>&... cross) {
  return detail::regulator("discrete_lqr", detail::Time::discrete, system.A_bar(), system.B_bar(),
                           Q, R, cross...);
}

/// The same of one input, whose R is a number.
template <class T, int N, int M, int P, class DQ>
[[nodiscard]] LinearQuadraticRegulator<T, N, M> discrete_lqr(
    const DiscreteStateSpace<T, N, M, P>& system, const Eigen::MatrixBase<DQ>& Q,
    std::type_identity_t<T> R) {
  return discrete_lqr(system, Q, Eigen::Matrix<T, 1, 1>(R));
}

}  // namespace ssm
