#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/riccati.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The P and K of step t from the P of t + 1, with the errors of finite_horizon_lqr.
[[nodiscard]] RiccatiSolution step_back(const RiccatiCaller& caller, const RiccatiEquation& step,
                                        const RealMatrix& P);

/// Throws unless the data of a step are finite, symmetric and not negative.
void check_cost_of_step(const RiccatiCaller& caller, RiccatiEquation step);

SSM_END_COMPILED

namespace ssm {

/// A step of a system whose matrices change, x_{t+1} = A x_t + B u_t, and what it costs:
/// xᵀ Q x + 2 xᵀ N u + uᵀ R u.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic>
struct RegulatedStep {
  Eigen::Matrix<T, States, States> A;  ///< (states, states)
  Eigen::Matrix<T, States, Inputs> B;  ///< (states, inputs)
  Eigen::Matrix<T, States, States> Q;  ///< (states, states), symmetric, positive semidefinite
  Eigen::Matrix<T, Inputs, Inputs> R;  ///< (inputs, inputs), symmetric, positive semidefinite
  Eigen::Matrix<T, States, Inputs> N;  ///< (states, inputs)
};

/// The feedback u_t = −K_t x_t that costs least over a number of steps.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic>
struct FiniteHorizonRegulator {
  std::vector<Eigen::Matrix<T, Inputs, States>> K;  ///< (steps) gains (inputs, states)
  /// (steps + 1): xᵀ P_t x is the cost from x at t on; the last is the cost of the end.
  std::vector<Eigen::Matrix<T, States, States>> P;
};

namespace detail {

/// Walks back from the cost of the end by the equation of each step.
template <class T, int N, int M, class Step>
FiniteHorizonRegulator<T, N, M> walk_back(std::size_t steps, const RealMatrix& end,
                                          const Step& equation_of) {
  FiniteHorizonRegulator<T, N, M> regulator;
  regulator.K.resize(steps);
  regulator.P.resize(steps + 1);
  RiccatiSolution solution{end, {}};
  regulator.P[steps] = to_eigen<Eigen::Matrix<T, N, N>>(solution.P);
  for (std::size_t t = steps; t-- > 0;) {
    const std::string name = "finite_horizon_lqr at step " + std::to_string(t);
    const RiccatiCaller caller{name, epsilon_of<T>, RiccatiOf::regulator, true};
    solution = step_back(caller, equation_of(caller, t), solution.P);
    regulator.K[t] = to_eigen<Eigen::Matrix<T, M, N>>(solution.K);
    regulator.P[t] = to_eigen<Eigen::Matrix<T, N, N>>(solution.P);
  }
  return regulator;
}

/// The cost of the end, which is checked.
template <class T, class DQ>
RealMatrix checked_end(const Eigen::MatrixBase<DQ>& Q_end, Index states) {
  check_matrix("finite_horizon_lqr", "Q_end", Q_end, states, states);
  const RealMatrix Q(Q_end);
  check_cost_of_step({"finite_horizon_lqr at the end", epsilon_of<T>, RiccatiOf::regulator, true},
                     {Time::discrete, RealMatrix(states, states), RealMatrix(states, 0), Q,
                      RealMatrix(0, 0), RealMatrix(states, 0)});
  return symmetric_part(Q);
}

}  // namespace detail

/// The regulator of a number of steps: u_t = −K_t x_t minimizes
///
///   x_sᵀ Q_end x_s + Σ_{0 ≤ t < s} x_tᵀ Q x_t + 2 x_tᵀ N u_t + u_tᵀ R u_t
///
/// for x_{t+1} = A_bar x_t + B_bar u_t. Backwards from P_s = Q_end (Bryson & Ho 1975, Applied
/// Optimal Control, section 6.4), with S = R + B_barᵀ P_{t+1} B_bar,
///
///   K_t = S⁻¹ (B_barᵀ P_{t+1} A_bar + Nᵀ),
///   P_t = [I; −K_t]ᵀ [Q N; Nᵀ R] [I; −K_t] + (A_bar − B_bar K_t)ᵀ P_{t+1} (A_bar − B_bar K_t),
///
/// sums of what is not negative. With many steps K_0 becomes that of discrete_lqr. Computed in
/// double for float as well.
///
/// @param system A_bar and B_bar
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive semidefinite
/// @param Q_end (states, states), symmetric, positive semidefinite: the cost of the end
/// @param steps s, at least 0
/// @param cross N (states, inputs); absent for 0
/// @throws ShapeError
/// @throws DomainError when a matrix is not finite, a cost not symmetric or could be negative, the
///   number of steps is negative or above 2³¹, or an input costs nothing and moves nothing that
///   does
/// Cost: 8 products of (states, states) a step.
template <class T, int N, int M, int P, class DQ, class DR, class DE, class... DN>
requires(sizeof...(DN) <= 1) [[nodiscard]] FiniteHorizonRegulator<T, N, M> finite_horizon_lqr(
    const DiscreteStateSpace<T, N, M, P>& system, const Eigen::MatrixBase<DQ>& Q,
    const Eigen::MatrixBase<DR>& R, const Eigen::MatrixBase<DE>& Q_end, Index steps,
    const Eigen::MatrixBase<DN>&... cross) {
  constexpr std::string_view name = "finite_horizon_lqr";
  const Index n = system.states(), m = system.inputs();
  detail::check_matrix(name, "Q", Q, n, n);
  detail::check_matrix(name, "R", R, m, m);
  detail::RealMatrix between(n, m);
  ((detail::check_matrix(name, "N", cross, n, m), between = detail::RealMatrix(cross)), ...);
  constexpr Index most_steps = Index(1) << 31;
  if (steps < 0 || steps > most_steps)
    detail::throw_domain(name, "steps", std::to_string(steps), "0 to 2^31");
  const detail::RiccatiEquation equation{detail::Time::discrete,
                                         detail::RealMatrix(system.A_bar()),
                                         detail::RealMatrix(system.B_bar()),
                                         detail::RealMatrix(Q),
                                         detail::RealMatrix(R),
                                         std::move(between)};
  detail::check_cost_of_step({name, detail::epsilon_of<T>, detail::RiccatiOf::regulator, true},
                             equation);
  return detail::walk_back<T, N, M>(
      static_cast<std::size_t>(steps), detail::checked_end<T>(Q_end, n),
      [&](const detail::RiccatiCaller&, std::size_t) -> const detail::RiccatiEquation& {
        return equation;
      });
}

/// The same where matrices and costs change from step to step, as along a trajectory.
///
/// @param steps a span of RegulatedStep of one size
/// @param Q_end (states, states), symmetric, positive semidefinite: the cost of the end
/// @throws ShapeError, DomainError as for equal steps; errors name the step
template <class T, int N, int M, class DE>
[[nodiscard]] FiniteHorizonRegulator<T, N, M> finite_horizon_lqr(
    std::span<const RegulatedStep<T, N, M>> steps, const Eigen::MatrixBase<DE>& Q_end) {
  const Index n = Q_end.rows(), m = steps.empty() ? 0 : steps[0].B.cols();
  return detail::walk_back<T, N, M>(steps.size(), detail::checked_end<T>(Q_end, n),
                                    [&](const detail::RiccatiCaller& caller, std::size_t t) {
                                      const RegulatedStep<T, N, M>& step = steps[t];
                                      detail::check_matrix(caller.function, "A", step.A, n, n);
                                      detail::check_matrix(caller.function, "B", step.B, n, m);
                                      detail::check_matrix(caller.function, "Q", step.Q, n, n);
                                      detail::check_matrix(caller.function, "R", step.R, m, m);
                                      detail::check_matrix(caller.function, "N", step.N, n, m);
                                      detail::RiccatiEquation equation{
                                          detail::Time::discrete,     detail::RealMatrix(step.A),
                                          detail::RealMatrix(step.B), detail::RealMatrix(step.Q),
                                          detail::RealMatrix(step.R), detail::RealMatrix(step.N)};
                                      detail::check_cost_of_step(caller, equation);
                                      return equation;
                                    });
}
/// The same of a vector.
template <class T, int N, int M, class DE>
[[nodiscard]] FiniteHorizonRegulator<T, N, M> finite_horizon_lqr(
    const std::vector<RegulatedStep<T, N, M>>& steps, const Eigen::MatrixBase<DE>& Q_end) {
  return finite_horizon_lqr(std::span<const RegulatedStep<T, N, M>>(steps), Q_end);
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/finite_horizon_lqr_impl.hpp"
#endif
