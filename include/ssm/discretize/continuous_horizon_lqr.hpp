#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/discretize/matrix_exponential.hpp"
#include "ssm/system/finite_horizon_lqr.hpp"
#include "ssm/system/riccati.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// The feedback u(t) = −K(t) x(t) that costs least until the last of some times.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic>
struct HorizonRegulator {
  std::vector<Eigen::Matrix<T, Inputs, States>> K;  ///< (inputs, states) at each time
  /// (states, states) at each time: xᵀ P x is the cost from x at that time on.
  std::vector<Eigen::Matrix<T, States, States>> P;
};

namespace detail {

/// How the solution of a Riccati equation goes back over a time: P ← θ + αᵀ P (I + γ P)⁻¹ α. Two of
/// them in a row are one.
struct RiccatiFlow {
  RealMatrix alpha, gamma, theta;

  /// Over δ, so short that the exponential of the Hamiltonian H δ of x' = A x − S λ,
  /// λ' = −Q x − Aᵀ λ is near the identity; halved until it is, and doubled again. A template, of
  /// Eigen::MatrixXd, so that only a program that asks for it compiles it.
  template <class Matrix>
  [[nodiscard]] static RiccatiFlow over(const RealMatrix& A, const RealMatrix& S,
                                        const RealMatrix& Q, double delta) {
    const Index n = A.rows();
    const RealMatrix H = hamiltonian(A, S, Q);
    RealMatrix even = H;
    balance(even);
    const double turn = even.norm() * delta;
    const int halvings = turn > 0.25 ? std::ilogb(turn) + 3 : 0;
    const auto flow =
        RealMatrix(matrix_exponential(to_eigen<Matrix>(std::ldexp(delta, -halvings) * H)));
    // (x, λ) of the end: λ = Φ₂₂⁻¹ (λ_end − Φ₂₁ x)
    const DenseLu lower(flow.block(n, n, n, n));
    const RealMatrix inverse = lower.solve(RealMatrix::Identity(n, n));
    RealMatrix alpha = inverse.transpose();
    RealMatrix gamma = symmetric_part(-(flow.block(0, n, n, n) * inverse));
    RealMatrix theta = symmetric_part(-lower.solve(flow.block(n, 0, n, n)));
    for (int i = 0; i < halvings; ++i) {
      const DenseLu sum(RealMatrix::Identity(n, n) + gamma * theta);
      const RealMatrix through = sum.solve(alpha);
      theta += symmetric_part(alpha.transpose() * theta * through);
      gamma += symmetric_part(alpha * sum.solve(gamma * alpha.transpose()));
      alpha = alpha * through;
    }
    return {std::move(alpha), std::move(gamma), std::move(theta)};
  }

  [[nodiscard]] RealMatrix back(const RealMatrix& P) const {
    const DenseLu sum(RealMatrix::Identity(P.rows(), P.rows()) + gamma * P);
    return symmetric_part(theta + alpha.transpose() * P * sum.solve(alpha));
  }
};

}  // namespace detail

/// The regulator of a time in continuous time: u(t) = −K(t) x(t) minimizes
///
///   x(t_e)ᵀ Q_end x(t_e) + ∫ xᵀ Q x + 2 xᵀ N u + uᵀ R u dt
///
/// until t_e, the last of the times, for x' = A x + B u, with K = R⁻¹ (Bᵀ P + Nᵀ) and P from
///
///   −P' = Aᵀ P + P A − (P B + N) R⁻¹ (Bᵀ P + Nᵀ) + Q,  P(t_e) = Q_end
///
/// (Bryson & Ho 1975, Applied Optimal Control, section 5.2). No step size: from one time to the
/// next P follows the flow of the Hamiltonian system, by its exponential over a short time, which
/// is then doubled (Anderson 1978, "Second-order convergent algorithms for the steady-state Riccati
/// equation"), so that a long time costs little and nothing grows. Where closed-loop rates are k
/// decades apart, the slow ones lose k of sixteen digits. Far before the end K is that of lqr.
/// Computed in double for float as well.
///
/// @param system A and B
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive definite
/// @param Q_end (states, states), symmetric, positive semidefinite: the cost of the end
/// @param times s, at least one, increasing: where K and P are wanted
/// @param cross N (states, inputs); absent for 0
/// @return K and P at each of the times, of the last P = Q_end
/// @throws ShapeError when shapes do not fit or there are no times
/// @throws DomainError when a matrix is not finite, a cost not symmetric or could be negative, R is
///   singular, or the times do not increase
/// @throws ConvergenceError when P is not finite, as it overflows
/// Cost: 30 products of (states, states) for each different distance of neighbouring times, more
/// for long ones by log₂ of their length, and 4 a time.
template <class T, int N, int M, int P, class DQ, class DR, class DE, class... DN>
requires(sizeof...(DN) <= 1) [[nodiscard]] HorizonRegulator<T, N, M> finite_horizon_lqr(
    const StateSpace<T, N, M, P>& system, const Eigen::MatrixBase<DQ>& Q,
    const Eigen::MatrixBase<DR>& R, const Eigen::MatrixBase<DE>& Q_end, const std::vector<T>& times,
    const Eigen::MatrixBase<DN>&... cross) {
  using detail::RealMatrix;
  constexpr std::string_view name = "finite_horizon_lqr";
  const Index n = system.states(), m = system.inputs();
  detail::check_matrix(name, "Q", Q, n, n);
  detail::check_matrix(name, "R", R, m, m);
  RealMatrix between(n, m);
  ((detail::check_matrix(name, "N", cross, n, m), between = RealMatrix(cross)), ...);
  if (times.empty()) detail::throw_shape(name, "times", "(0)", "one or more");
  for (std::size_t i = 0; i < times.size(); ++i)
    if (!std::isfinite(times[i]) ||
        (i > 0 && !(times[i] > times[i - 1] && std::isfinite(times[i] - times[i - 1]))))
      detail::throw_domain(name, "times at " + std::to_string(i), detail::number(times[i]),
                           "finite and above the one before");
  const RealMatrix A(system.A()), B(system.B());
  const RealMatrix cost = detail::symmetric_part(RealMatrix(R));
  detail::check_cost_of_step(
      {name, detail::epsilon_of<T>, detail::RiccatiOf::regulator, true},
      {detail::Time::continuous, A, B, RealMatrix(Q), RealMatrix(R), between});
  const detail::DenseCholesky weight(cost);
  if (!weight.definite()) detail::throw_domain(name, "R", "singular", "positive definite");
  // In u + R⁻¹ Nᵀ x there is no cross term.
  const RealMatrix shared = weight.solve(between.transpose());
  const RealMatrix A_0 = A - B * shared;
  const RealMatrix Q_0 = detail::symmetric_part(RealMatrix(Q) - between * shared);
  const RealMatrix S = detail::symmetric_part(B * weight.solve(B.transpose()));

  HorizonRegulator<T, N, M> regulator;
  regulator.K.resize(times.size());
  regulator.P.resize(times.size());
  RealMatrix value = detail::checked_end<T>(Q_end, n);
  const auto store = [&](std::size_t at) {
    if (!value.all_finite())
      detail::throw_convergence(name, "P at " + detail::number(times[at]), "not finite",
                                "a cost within double");
    regulator.P[at] = detail::to_eigen<Eigen::Matrix<T, N, N>>(value);
    regulator.K[at] = detail::to_eigen<Eigen::Matrix<T, M, N>>(
        weight.solve(B.transpose() * value + between.transpose()));
  };
  store(times.size() - 1);
  std::vector<std::pair<double, detail::RiccatiFlow>> last;  // the latest distance and its flow
  for (std::size_t at = times.size() - 1; at-- > 0;) {
    const double delta = static_cast<double>(times[at + 1]) - static_cast<double>(times[at]);
    // distances on a uniform grid differ by the rounding of its times
    const double rounding =
        4 * detail::epsilon_of<T> * std::abs(static_cast<double>(times[at + 1]));
    if (last.empty() || !(std::abs(last[0].first - delta) <= rounding)) {
      last.clear();
      last.emplace_back(delta, detail::RiccatiFlow::over<Eigen::MatrixXd>(A_0, S, Q_0, delta));
    }
    value = last[0].second.back(value);
    store(at);
  }
  return regulator;
}

}  // namespace ssm
