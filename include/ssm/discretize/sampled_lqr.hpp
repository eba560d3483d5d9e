#pragma once

#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/discretize/noise_covariance.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/lqr.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// What a step with a constant input costs: xᵀ Q x + 2 xᵀ N u + uᵀ R u of the state at its start.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic>
struct SampledCost {
  Eigen::Matrix<T, States, States> Q;  ///< (states, states)
  Eigen::Matrix<T, Inputs, Inputs> R;  ///< (inputs, inputs)
  Eigen::Matrix<T, States, Inputs> N;  ///< (states, inputs)
};

namespace detail {

/// sampled_cost in double.
template <class T, int N, int M, int P, class DQ, class DR, class... DN>
SampledCost<double, N, M> cost_over_step(std::string_view function,
                                         const StateSpace<T, N, M, P>& system,
                                         const Eigen::MatrixBase<DQ>& Q,
                                         const Eigen::MatrixBase<DR>& R, T delta,
                                         const Eigen::MatrixBase<DN>&... cross) {
  constexpr int size = fixed_sum(N, M);
  using Square = Eigen::Matrix<double, size, size>;
  const Index n = system.states(), m = system.inputs();
  check_matrix(function, "Q", Q, n, n);
  check_matrix(function, "R", R, m, m);
  (check_matrix(function, "N", cross, n, m), ...);
  check_sampling(function, delta);
  RealMatrix between;
  ((between = RealMatrix(cross)), ...);
  RiccatiEquation data{Time::continuous, RealMatrix(system.A()), RealMatrix(system.B()),
                       RealMatrix(Q),    RealMatrix(R),          std::move(between)};
  check_data({function, epsilon_of<T>}, data);
  // [x; u] moves by F = [A B; 0 0], so that its cost is that integral which is the covariance of
  // the noise of Fᵀ.
  Square F = Square::Zero(n + m, n + m), W = Square::Zero(n + m, n + m);
  const auto put = [&](Square& to, Index row, Index col, const RealMatrix& from) {
    for (Index j = 0; j < from.cols(); ++j)
      for (Index i = 0; i < from.rows(); ++i) to(row + i, col + j) = from(i, j);
  };
  put(F, 0, 0, data.A);
  put(F, 0, n, data.B);
  put(W, 0, 0, data.Q);
  put(W, n, n, data.R);
  put(W, 0, n, data.N);
  put(W, n, 0, data.N.transpose());
  const Square cost = sampled_noise_covariance(transposed(F), W, static_cast<double>(delta));
  SampledCost<double, N, M> result{Eigen::Matrix<double, N, N>(n, n),
                                   Eigen::Matrix<double, M, M>(m, m),
                                   Eigen::Matrix<double, N, M>(n, m)};
  for (Index j = 0; j < n + m; ++j)
    for (Index i = 0; i <= j; ++i) {
      if (j < n)
        result.Q(i, j) = result.Q(j, i) = cost(i, j);
      else if (i >= n)
        result.R(i - n, j - n) = result.R(j - n, i - n) = cost(i, j);
      else
        result.N(i, j - n) = cost(i, j);
    }
  return result;
}

}  // namespace detail

/// The cost ∫₀^Δ xᵀ Q x + 2 xᵀ N u + uᵀ R u dt of a step over which u is constant, as one of the
/// state at its start and of u: exact, also of what happens between samples. With F = [A B; 0 0] it
/// is ∫₀^Δ e^{Fᵀs} [Q N; Nᵀ R] e^{Fs} ds (Van Loan 1978, section 1).
///
/// @param system A and B
/// @param Q (states, states), symmetric; cost a second
/// @param R (inputs, inputs), symmetric; cost a second
/// @param delta Δ, s
/// @param cross N (states, inputs); absent for 0
/// @return costs of a step
/// @throws ShapeError
/// @throws DomainError when Δ is not positive and finite
/// Cost: that of sampled_noise_covariance for (states + inputs); computed in double.
template <class T, int N, int M, int P, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1)
    [[nodiscard]] SampledCost<T, N, M> sampled_cost(const StateSpace<T, N, M, P>& system,
                                                    const Eigen::MatrixBase<DQ>& Q,
                                                    const Eigen::MatrixBase<DR>& R,
                                                    std::type_identity_t<T> delta,
                                                    const Eigen::MatrixBase<DN>&... cross) {
  const auto cost = detail::cost_over_step<T>("sampled_cost", system, Q, R, delta, cross...);
  return {cost.Q.template cast<T>(), cost.R.template cast<T>(), cost.N.template cast<T>()};
}

/// The regulator of a continuous plant and a continuous cost by a computer that holds u for Δ:
/// u = −K x at each sample minimizes
///
///   ∫₀^∞ xᵀ Q x + 2 xᵀ N u + uᵀ R u dt
///
/// of such inputs, also between samples: discrete_lqr of zero_order_hold and sampled_cost. With
/// Δ → 0 it becomes lqr.
///
/// @param system A and B
/// @param Q (states, states), symmetric, positive semidefinite: the cost of being off, a second
/// @param R (inputs, inputs), symmetric, positive semidefinite: the cost of control, a second
/// @param delta Δ, s
/// @param cross N (states, inputs), the cost of both together; absent for 0
/// @throws ShapeError
/// @throws DomainError when Δ is not positive and finite, e^{ΔA} overflows, a matrix is not finite
/// or
///   the cost could be negative
/// @throws ConvergenceError as discrete_lqr does; modes are those of e^{ΔA}
/// Cost: those of zero_order_hold, sampled_cost and discrete_lqr.
template <class T, int N, int M, int P, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1) [[nodiscard]] LinearQuadraticRegulator<T, N, M> sampled_lqr(
    const StateSpace<T, N, M, P>& system, const Eigen::MatrixBase<DQ>& Q,
    const Eigen::MatrixBase<DR>& R, std::type_identity_t<T> delta,
    const Eigen::MatrixBase<DN>&... cross) {
  constexpr std::string_view name = "sampled_lqr";
  const auto cost = detail::cost_over_step<T>(name, system, Q, R, delta, cross...);
  const StateSpace<double, N, M, 0> plant(system.A().template cast<double>(),
                                          system.B().template cast<double>(),
                                          Eigen::Matrix<double, 0, N>(0, system.states()));
  const auto held = detail::held_step<double>(name, plant, static_cast<double>(delta));
  const auto best = detail::checked_riccati(
      {name, detail::epsilon_of<T>, detail::RiccatiOf::regulator, true}, detail::Time::discrete,
      held.A_bar, held.B_bar, cost.Q, cost.R, cost.N);
  return {best.K.template cast<T>(), best.P.template cast<T>()};
}

}  // namespace ssm
