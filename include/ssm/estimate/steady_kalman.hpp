#pragma once

#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/system/riccati.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// Where a Kalman filter of equal steps settles.
template <std::floating_point T, int States = Dynamic, int Outputs = Dynamic>
struct SteadyKalman {
  Eigen::Matrix<T, States, Outputs> gain;      ///< the filter gain K; the predictor's is A_bar K
  Eigen::Matrix<T, States, States> predicted;  ///< P before a reading
  Eigen::Matrix<T, States, States> corrected;  ///< P after it
};

/// The steady filter of x_{t+1} = A_bar x_t + w_t, y_t = C x_t + v_t: the predicted P solves the
/// discrete algebraic Riccati equation of (A_barᵀ, Cᵀ, Q_bar, R), K = P Cᵀ (C P Cᵀ + R)⁻¹, and
/// A_bar (I − K C) is stable.
///
/// @param step A_bar, B_bar and Q_bar
/// @param C (outputs, states)
/// @param R (outputs, outputs), symmetric, positive definite
/// @throws ShapeError, DomainError and ConvergenceError as discrete_riccati does
template <class T, int N, int M, class DC, class DR>
[[nodiscard]] auto steady_kalman(const NoisyStep<T, N, M>& step, const Eigen::MatrixBase<DC>& C,
                                 const Eigen::MatrixBase<DR>& R) {
  constexpr int P = DC::RowsAtCompileTime;
  Belief<T, N> belief{
      Eigen::Matrix<T, N, 1>::Zero(step.A_bar.rows()),
      discrete_riccati(step.A_bar.transpose().eval(), C.transpose().eval(), step.Q_bar, R)};
  SteadyKalman<T, N, P> steady;
  steady.predicted = belief.covariance;
  steady.gain = kalman_correct<T, N, P>(C, R, Eigen::Matrix<T, P, 1>::Zero(C.rows()), belief).gain;
  steady.corrected = belief.covariance;
  return steady;
}

/// The same for a continuous system that is read every Δ.
/// @param noisy the system and its noise
/// @param delta Δ, s, > 0
template <class T, int N, int M, int P>
[[nodiscard]] SteadyKalman<T, N, P> steady_kalman(const NoisyStateSpace<T, N, M, P>& noisy,
                                                  std::type_identity_t<T> delta) {
  return steady_kalman(noisy_step(noisy, delta), noisy.system().C(), noisy.R());
}

}  // namespace ssm
