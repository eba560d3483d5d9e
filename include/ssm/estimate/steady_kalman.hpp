#pragma once

#include <concepts>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/system/riccati.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// Where a Kalman filter of equal steps settles.
template <std::floating_point T, int States = Dynamic, int Outputs = Dynamic>
struct SteadyKalman {
  Eigen::Matrix<T, States, Outputs> gain;            ///< the filter gain K = P Cᵀ S⁻¹
  Eigen::Matrix<T, States, Outputs> predictor_gain;  ///< A_bar K, or (A_bar P Cᵀ + N) S⁻¹
  Eigen::Matrix<double, States, States> predicted;   ///< P before a reading
  Eigen::Matrix<double, States, States> corrected;   ///< P after it
};

/// The filter of Kalman and Bucy, which reads all the time.
template <std::floating_point T, int States = Dynamic, int Outputs = Dynamic>
struct KalmanBucy {
  Eigen::Matrix<T, States, Outputs> gain;            ///< K, 1/s times the unit of x over that of y
  Eigen::Matrix<double, States, States> covariance;  ///< P, of what x is off
};

namespace detail {

/// The dual of the Riccati equation of a regulator.
template <class DA, class DC, class DQ, class DR, class Cross = NoCrossTerm>
auto solve_filter(std::string_view function, Time time, const DA& A, const DC& C, const DQ& Q,
                  const DR& R, const Cross& N = {}) {
  const bool discrete = time == Time::discrete;
  const Index states = A.rows(), outputs = C.rows();
  check_matrix(function, discrete ? "A_bar" : "A", A, states, states);
  check_matrix(function, "C", C, outputs, states);
  check_matrix(function, discrete ? "Q_bar" : "Q", Q, states, states);
  check_matrix(function, "R", R, outputs, outputs);
  if constexpr (!std::is_same_v<Cross, NoCrossTerm>)
    check_matrix(function, "N", N, states, outputs);
  return sized_riccati<DA::RowsAtCompileTime, DC::RowsAtCompileTime>(
      {function, epsilon_of<typename DA::Scalar>, RiccatiOf::filter, true}, time, transposed(A),
      transposed(C), Q, R, N);
}

/// P Cᵀ S⁻¹ with S = C P Cᵀ + R, the short way or the long one.
template <int N, int P, class DC, class DR>
Eigen::Matrix<double, N, P> sized_gain(const Eigen::Matrix<double, N, N>& covariance,
                                       const Eigen::MatrixBase<DC>& C,
                                       const Eigen::MatrixBase<DR>& R) {
  using Gain = Eigen::Matrix<double, N, P>;
  constexpr bool fixed = N > 0 && P > 0;
  const auto room = [](Index n, Index p) {
    return filter_gain_room(n, p) + padded(n, n) + padded(p, n) + padded(p, p) + padded(n, p);
  };
  const Index n = covariance.rows(), p = C.rows();
  WorkspaceMemory<fixed ? room(N, P) : 0> memory(room(n, p));
  Workspace work = memory.workspace();
  const Padded gain = work.matrix(n, p);
  if (gain_of_filter(work.matrix(covariance), work.matrix(C), work.matrix(R), gain, work))
    return to_eigen<Gain>(gain);
  return to_eigen<Gain>(gain_of_filter(RealMatrix(covariance), RealMatrix(C), RealMatrix(R)));
}

}  // namespace detail

/// The steady filter of x_{t+1} = A_bar x_t + w_t, y_t = C x_t + v_t with E[w_t v_tᵀ] = N: the
/// predicted P solves the discrete algebraic Riccati equation of (A_barᵀ, Cᵀ, Q_bar, R, N),
///
///   K = P Cᵀ S⁻¹ and L = (A_bar P Cᵀ + N) S⁻¹ with S = C P Cᵀ + R
///
/// are the gains of the filter and of the predictor, and A_bar − L C is stable.
///
/// @param step A_bar, B_bar and Q_bar
/// @param C (outputs, states)
/// @param R (outputs, outputs), symmetric, positive semidefinite; 0 for meters without noise, where
///   noise reaches what they read
/// @param cross N (states, outputs), the covariance of w_t and v_t; absent for 0
/// @throws ShapeError
/// @throws DomainError when a matrix is not finite, or Q_bar, R or both with N are not a covariance
/// @throws ConvergenceError when no filter settles; the sentence names a mode that does not decay
///   and that no meter reads, or one that neither grows nor decays and that no noise drives, as of
///   a bias, which in time is known exactly
template <class T, int N, int M, class DC, class DR, class... DN>
requires(sizeof...(DN) <= 1)
    [[nodiscard]] auto steady_kalman(const NoisyStep<T, N, M>& step, const Eigen::MatrixBase<DC>& C,
                                     const Eigen::MatrixBase<DR>& R,
                                     const Eigen::MatrixBase<DN>&... cross) {
  constexpr int P = DC::RowsAtCompileTime;
  const auto solution = detail::solve_filter("steady_kalman", detail::Time::discrete, step.A_bar, C,
                                             step.Q_bar, R, cross...);
  SteadyKalman<T, N, P> steady;
  steady.predicted = solution.P;
  steady.predictor_gain = detail::transposed(solution.K).template cast<T>();
  steady.gain = detail::sized_gain<N, P>(solution.P, C, R).template cast<T>();
  Belief<double, N> belief{Eigen::Matrix<double, N, 1>::Zero(step.A_bar.rows()), steady.predicted};
  kalman_correct<double, N, P>(C.template cast<double>(), R.template cast<double>(),
                               Eigen::Matrix<double, P, 1>::Zero(C.rows()), belief);
  steady.corrected = belief.covariance;
  return steady;
}

/// The same for a continuous system that is read every Δ.
/// @param noisy the system and its noise
/// @param delta Δ, s, > 0
template <class T, int N, int M, int P>
[[nodiscard]] SteadyKalman<T, N, P> steady_kalman(const NoisyStateSpace<T, N, M, P>& noisy,
                                                  std::type_identity_t<T> delta) {
  detail::check_sampling("steady_kalman", delta);
  return steady_kalman(noisy_step(noisy, delta), noisy.system().C(), noisy.R());
}

/// The steady filter in continuous time (Kalman & Bucy 1961): of x' = A x + B u + w,
/// y = C x + D u + v, where w and v are white with densities Q and R and E[w vᵀ] has the density N,
///
///   x̂' = A x̂ + B u + K (y − C x̂ − D u),  K = (P Cᵀ + N) R⁻¹,
///   A P + P Aᵀ − (P Cᵀ + N) R⁻¹ (P Cᵀ + N)ᵀ + Q = 0,
///
/// and A − K C is stable. R is a density here, not the covariance of one reading as in
/// NoisyStateSpace: readings of covariance R every Δ are worth about a density of R Δ.
///
/// @param system A and C
/// @param Q (states, states), symmetric, positive semidefinite; unit of x squared a second
/// @param R (outputs, outputs), symmetric, positive definite; unit of y squared times a second
/// @param cross N (states, outputs); absent for 0
/// @throws ShapeError, DomainError, ConvergenceError as steady_kalman does
template <class T, int N, int M, int P, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1)
    [[nodiscard]] KalmanBucy<T, N, P> kalman_bucy(const StateSpace<T, N, M, P>& system,
                                                  const Eigen::MatrixBase<DQ>& Q,
                                                  const Eigen::MatrixBase<DR>& R,
                                                  const Eigen::MatrixBase<DN>&... cross) {
  const auto solution = detail::solve_filter("kalman_bucy", detail::Time::continuous, system.A(),
                                             system.C(), Q, R, cross...);
  return {detail::transposed(solution.K).template cast<T>(), solution.P};
}

}  // namespace ssm
