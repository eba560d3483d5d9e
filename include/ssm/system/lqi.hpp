#pragma once

#include <concepts>
#include <string_view>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/lqr.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// The feedback u = −K x − K_integral z of the state and of what the outputs were off so far.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic, int Outputs = Dynamic>
struct IntegralRegulator {
  Eigen::Matrix<T, Inputs, States> K;            ///< (inputs, states)
  Eigen::Matrix<T, Inputs, Outputs> K_integral;  ///< (inputs, outputs)
  /// (states + outputs)², the cost [x; z]ᵀ P [x; z].
  Eigen::Matrix<T, detail::fixed_sum(States, Outputs), detail::fixed_sum(States, Outputs)> P;
};

namespace detail {

/// What lqi and discrete_lqi share: [A 0; −c C, I or 0] and [B; −c D].
template <class T, int N, int M, int P, class DQ, class DR, class... Cross>
IntegralRegulator<T, N, M, P> integral_regulator(std::string_view function, Time time, T weight,
                                                 const Eigen::Matrix<T, N, N>& A,
                                                 const Eigen::Matrix<T, N, M>& B,
                                                 const Eigen::Matrix<T, P, N>& C,
                                                 const Eigen::Matrix<T, P, M>& D, const DQ& Q,
                                                 const DR& R, const Cross&... cross) {
  constexpr int size = fixed_sum(N, P);
  const Index n = A.rows(), m = B.cols(), p = C.rows();
  Eigen::Matrix<T, size, size> A_all = Eigen::Matrix<T, size, size>::Zero(n + p, n + p);
  Eigen::Matrix<T, size, M> B_all(n + p, m);
  for (Index j = 0; j < n; ++j) {
    for (Index i = 0; i < n; ++i) A_all(i, j) = A(i, j);
    for (Index i = 0; i < p; ++i) A_all(n + i, j) = -weight * C(i, j);
  }
  for (Index i = 0; i < p && time == Time::discrete; ++i) A_all(n + i, n + i) = T(1);
  for (Index j = 0; j < m; ++j) {
    for (Index i = 0; i < n; ++i) B_all(i, j) = B(i, j);
    for (Index i = 0; i < p; ++i) B_all(n + i, j) = -weight * D(i, j);
  }
  const auto best = regulator(function, time, A_all, B_all, Q, R, cross...);
  IntegralRegulator<T, N, M, P> result{Eigen::Matrix<T, M, N>(m, n), Eigen::Matrix<T, M, P>(m, p),
                                       best.P};
  for (Index i = 0; i < m; ++i) {
    for (Index j = 0; j < n; ++j) result.K(i, j) = best.K(i, j);
    for (Index j = 0; j < p; ++j) result.K_integral(i, j) = best.K(i, n + j);
  }
  return result;
}

}  // namespace detail

/// The linear-quadratic regulator with integral action: with z' = r − y for outputs that are to
/// follow references r, u = −K x − K_integral z minimizes
///
///   ∫₀^∞ [x; z]ᵀ Q [x; z] + 2 [x; z]ᵀ N u + uᵀ R u dt
///
/// for r = 0, and where r and disturbances are constant, y comes to rest at r whatever the gains of
/// the plant really are (Young & Willems 1972). The regulator of the larger system
/// [A 0; −C 0], [B; −D].
///
/// There must be at least as many inputs as outputs, and no zero of the plant at 0: else the
/// sentence says that the mode at 0, an integral, is not reached.
///
/// @param system A, B, C, D
/// @param Q (states + outputs)², symmetric, positive semidefinite; its part of z positive
/// @param R (inputs, inputs), symmetric, positive definite
/// @param cross N (states + outputs, inputs); absent for 0
/// @throws ShapeError, DomainError, ConvergenceError as lqr does
template <class T, int N, int M, int P, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1)
    [[nodiscard]] IntegralRegulator<T, N, M, P> lqi(const StateSpace<T, N, M, P>& system,
                                                    const Eigen::MatrixBase<DQ>& Q,
                                                    const Eigen::MatrixBase<DR>& R,
                                                    const Eigen::MatrixBase<DN>&... cross) {
  return detail::integral_regulator("lqi", detail::Time::continuous, T(1), system.A(), system.B(),
                                    system.C(), system.D(), Q, R, cross...);
}

/// The same in discrete time, with z_{t+1} = z_t + Δ (r_t − y_t) and the cost
/// Σ [x; z]ᵀ Q [x; z] + 2 [x; z]ᵀ N u + uᵀ R u.
///
/// @param system A_bar, B_bar, C, D, and Δ
/// @param Q (states + outputs)², symmetric, positive semidefinite; its part of z positive
/// @param R (inputs, inputs), symmetric, positive semidefinite
/// @param cross N (states + outputs, inputs); absent for 0
/// @throws ShapeError, DomainError, ConvergenceError as discrete_lqr does
template <class T, int N, int M, int P, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1) [[nodiscard]] IntegralRegulator<T, N, M, P> discrete_lqi(
    const DiscreteStateSpace<T, N, M, P>& system, const Eigen::MatrixBase<DQ>& Q,
    const Eigen::MatrixBase<DR>& R, const Eigen::MatrixBase<DN>&... cross) {
  return detail::integral_regulator("discrete_lqi", detail::Time::discrete, system.delta(),
                                    system.A_bar(), system.B_bar(), system.C(), system.D(), Q, R,
                                    cross...);
}

}  // namespace ssm
