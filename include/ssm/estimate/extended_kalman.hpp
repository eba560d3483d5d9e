#pragma once

#include <string_view>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/discretize/noise_covariance.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/system/linearize.hpp"

namespace ssm {

/// Carries a belief over any Δ ≥ 0 of x' = f(x, u) + w, linearized at its mean (the extended Kalman
/// filter). With A = ∂f/∂x there, x' = f + A (x − mean) is held exactly:
///
///   mean ← mean + ∫₀^Δ e^{sA} ds f,  P ← e^{ΔA} P e^{ΔAᵀ} + Q_bar  (Jazwinski 1970, Stochastic
///   Processes and Filtering Theory, chapter 8).
///
/// The mean errs by O(Δ³) a step where f is curved: split long steps, and linearize anew in each. A
/// reading h(x, u) is corrected by kalman_correct with C = ∂h/∂x and residual y − h, both at the
/// mean. No allocation and no lock for fixed sizes.
///
/// @param slope f (states) at the mean, unit of x a second
/// @param A (states, states) ∂f/∂x at the mean, 1/s
/// @param Q (states, states) density of w, unit of x squared a second
/// @param delta Δ, s
/// @param belief before the step, and after it; as it was when an error is thrown
/// @throws DomainError when Δ < 0, as of a time stamp out of order, or is not finite, for fixed and
///   dynamic sizes alike
/// @throws ShapeError for dynamic sizes
/// Cost: two matrix exponentials of (states).
template <class T, int N>
void extended_predict(const Eigen::Matrix<T, N, 1>& slope,
                      const std::type_identity_t<Eigen::Matrix<T, N, N>>& A,
                      const std::type_identity_t<Eigen::Matrix<T, N, N>>& Q,
                      std::type_identity_t<T> delta, Belief<T, N>& belief) {
  constexpr std::string_view name = "extended_predict";
  detail::check_elapsed(name, delta);
  const Index states = belief.mean.size();
  detail::check_belief(name, "belief", belief, states);
  detail::check_dynamic(name, "slope", slope, states, 1);
  detail::check_dynamic(name, "A", A, states, states);
  detail::check_dynamic(name, "Q", Q, states, states);
  const double h = static_cast<double>(delta);
  Eigen::Matrix<double, N, N> A_bar = A.template cast<double>() * h;
  Eigen::Matrix<double, N, 1> move = slope.template cast<double>() * h;
  detail::hold_in_place(A_bar, move);
  NoisyStep<T, N, 1> step{A_bar.template cast<T>(), Eigen::Matrix<T, N, 1>::Zero(states),
                          sampled_noise_covariance(A, Q, delta)};
  const Eigen::Matrix<T, N, 1> mean = belief.mean + move.template cast<T>();
  kalman_predict(step, Eigen::Matrix<T, 1, 1>::Zero(), belief);
  belief.mean = mean;
}

/// The same for a function: its slope and its derivative are taken at the mean.
///
/// @param Q (states, states), density of w, unit of x squared a second
/// @param delta Δ, s, ≥ 0
/// @param belief before and after
/// @param f x ↦ f(x, u) with the inputs of the step in it, as for ssm::jacobian
/// @throws ShapeError, DomainError as extended_predict of a slope does
/// Cost: states + 1 evaluations of f beside that of the step.
template <class F, class T, int N>
void extended_predict(const F& f, const std::type_identity_t<Eigen::Matrix<T, N, N>>& Q,
                      std::type_identity_t<T> delta, Belief<T, N>& belief) {
  const Eigen::Matrix<T, N, 1> slope = f(belief.mean);
  extended_predict(slope, jacobian(f, belief.mean), Q, delta, belief);
}

/// Corrects a belief by a reading y = h(x) + v, linearized at its mean: kalman_correct with
/// C = ∂h/∂x and residual y − h(mean).
///
/// @param belief before and after
/// @param h x ↦ (outputs), as for ssm::jacobian
/// @param R (outputs, outputs), covariance of v
/// @param y (outputs)
/// @throws ShapeError for dynamic sizes
/// Cost: states + 1 evaluations of h beside that of the correction.
template <class H, class T, int N, int P>
Innovation<T, N, P> extended_correct(const H& h, const Eigen::Matrix<T, P, P>& R,
                                     const std::type_identity_t<Eigen::Matrix<T, P, 1>>& y,
                                     Belief<T, N>& belief) {
  const Eigen::Matrix<T, P, N> C = jacobian(h, belief.mean);
  const Eigen::Matrix<T, P, 1> expected = h(belief.mean);
  detail::check_dynamic("extended_correct", "y", y, expected.size(), 1);
  return kalman_correct<T, N, P>(C, R, y - expected, belief);
}

}  // namespace ssm
