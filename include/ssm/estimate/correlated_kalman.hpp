#pragma once

#include <string_view>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"
#include "ssm/estimate/kalman.hpp"

namespace ssm {

/// One step of the predictor where the noise of the reading is correlated with that of the step
/// after it: x_{t+1} = A_bar x_t + B_bar u_t + w_t, y_t = C x_t + v_t with E[w_t v_tᵀ] = N. With
/// S = C P Cᵀ + R and L = (A_bar P Cᵀ + N) S⁻¹,
///
///   mean ← A_bar mean + B_bar u + L residual,
///   P ← (A_bar − L C) P (A_bar − L C)ᵀ + Q_bar − L Nᵀ − N Lᵀ + L R Lᵀ
///
/// (Anderson & Moore 1979, Optimal Filtering, section 5.5). With N = 0 it is kalman_correct, then
/// kalman_predict. No allocation, no lock, no exception for fixed sizes.
///
/// @param step A_bar, B_bar and Q_bar
/// @param cross N (states, outputs); [Q_bar N; Nᵀ R] is positive semidefinite
/// @param C (outputs, states)
/// @param R (outputs, outputs), symmetric, non-negative
/// @param input u (inputs), constant over the step; a number for one input
/// @param residual (outputs), y less its expected value C mean + D u
/// @param belief before reading t, and before reading t + 1
/// @return what the reading told; its gain is the filter's, P Cᵀ S⁻¹
/// @throws ShapeError for dynamic sizes
/// Cost: a Cholesky factorisation of (outputs), five products with (states, states).
template <class T, int N, int M, int P>
Innovation<T, N, P> correlated_kalman_step(
    const NoisyStep<T, N, M>& step, const Eigen::Matrix<T, N, P>& cross,
    const std::type_identity_t<Eigen::Matrix<T, P, N>>& C,
    const std::type_identity_t<Eigen::Matrix<T, P, P>>& R,
    const std::type_identity_t<detail::VectorArgument<T, M>>& input,
    const std::type_identity_t<Eigen::Matrix<T, P, 1>>& residual,
    Belief<T, N>& belief) noexcept(N != Dynamic && M != Dynamic && P != Dynamic) {
  constexpr std::string_view name = "correlated_kalman_step";
  const auto u = input.vector();
  const Index states = step.A_bar.rows(), inputs = step.B_bar.cols(), outputs = C.rows();
  detail::check_dynamic(name, "A_bar", step.A_bar, states, states);
  detail::check_dynamic(name, "B_bar", step.B_bar, states, inputs);
  detail::check_dynamic(name, "Q_bar", step.Q_bar, states, states);
  detail::check_dynamic(name, "N", cross, states, outputs);
  detail::check_dynamic(name, "C", C, outputs, states);
  detail::check_dynamic(name, "R", R, outputs, outputs);
  detail::check_dynamic(name, "u", u, inputs, 1);
  detail::check_dynamic(name, "residual", residual, outputs, 1);
  detail::check_belief(name, "belief", belief, states);
  using Gain = Eigen::Matrix<double, N, P>;
  using Square = Eigen::Matrix<double, N, N>;
  const Square& A = detail::in_double(step.A_bar);
  const Eigen::Matrix<double, P, N>& seen = detail::in_double(C);
  const Eigen::Matrix<double, P, P>& noise = detail::in_double(R);
  const Gain& shared = detail::in_double(cross);
  Innovation<T, N, P> innovation{residual, {}, {}};
  const Gain K = detail::weigh<N, P>(seen, belief.covariance, noise, innovation.covariance);
  Gain L = detail::multiply(A, K);  // + N S⁻¹
  Eigen::Matrix<double, P, N> told = detail::transposed(shared);
  {
    Eigen::Matrix<double, P, P> S = innovation.covariance;
    const detail::InnovationFactor<P> factor(S, Eigen::Matrix<double, P, 1>::Zero(outputs));
    factor.divide(told);
    factor.divide_transposed(told);
  }
  L += detail::transposed(told);
  innovation.gain = K.template cast<T>();
  detail::settle_residual(innovation, seen, K, belief);

  Eigen::Matrix<T, N, 1> mean = detail::multiply(step.A_bar, belief.mean);
  detail::add_product_to(mean, step.B_bar, u);
  detail::add_product_to(mean, L.template cast<T>().eval(), innovation.residual);
  belief.mean = mean;
  Square closed = A;
  detail::add_product_to(closed, Gain(-L), seen);
  Square grown = detail::in_double(step.Q_bar);
  const Gain less = detail::multiply(L, noise) - 2 * shared;  // symmetrized below
  detail::add_product_to(grown, less, detail::transposed(L));
  detail::carry_covariance<Square>(closed, grown, belief.covariance);
  return innovation;
}

}  // namespace ssm
