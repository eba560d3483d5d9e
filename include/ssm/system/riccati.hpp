#pragma once

#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/detail/riccati_equation.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// Throws unless the data of an equation are finite and its costs symmetric, which they are exactly
/// then; an N that is not given becomes 0.
void check_data(const RiccatiCaller& caller, RiccatiEquation& equation);

/// The stabilizing solution, with the errors of riccati but for those of shape.
[[nodiscard]] RiccatiSolution solve_riccati(const RiccatiCaller& caller, RiccatiEquation equation);

/// P Cᵀ S⁻¹ with S = C P Cᵀ + R, rounded from twice the precision of double.
[[nodiscard]] RealMatrix gain_of_filter(const RealMatrix& P, const RealMatrix& C,
                                        const RealMatrix& R);

SSM_END_COMPILED

namespace ssm {
namespace detail {

/// The cross term that is not given.
struct NoCrossTerm {};

template <class DA, class DB, class DQ, class DR, class Cross = NoCrossTerm>
RiccatiSolution checked_riccati(const RiccatiCaller& caller, Time time,
                                const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                                const Eigen::MatrixBase<DQ>& Q, const Eigen::MatrixBase<DR>& R,
                                const Cross& N = {}) {
  check_matrix(caller.function, "A", A, A.rows(), A.rows());
  check_matrix(caller.function, "B", B, A.rows(), B.cols());
  check_matrix(caller.function, "Q", Q, A.rows(), A.rows());
  check_matrix(caller.function, "R", R, B.cols(), B.cols());
  RealMatrix cross;
  if constexpr (!std::is_same_v<Cross, NoCrossTerm>) {
    check_matrix(caller.function, "N", N, A.rows(), B.cols());
    cross = RealMatrix(N);
  }
  return solve_riccati(
      caller, {time, RealMatrix(A), RealMatrix(B), RealMatrix(Q), RealMatrix(R), std::move(cross)});
}

/// The P of a solution, in the type of the A that it belongs to.
template <class DA>
auto cost_to_go(const RiccatiSolution& solution) {
  constexpr int size = DA::RowsAtCompileTime;
  return to_eigen<Eigen::Matrix<typename DA::Scalar, size, size>>(solution.P);
}

}  // namespace detail

/// The stabilizing solution P of the continuous algebraic Riccati equation
///
///   Aᵀ P + P A − (P B + N) R⁻¹ (P B + N)ᵀ + Q = 0:
///
/// xᵀ P x is the least cost ∫ xᵀQx + 2 xᵀNu + uᵀRu dt from x on of a control that leads to rest,
/// and u = −R⁻¹(Bᵀ P + Nᵀ) x reaches it. The matrix sign function of the Hamiltonian, then
/// corrections from a residual in twice the precision of double: an element Pᵢⱼ is right to a few
/// epsilon of √(Pᵢᵢ Pⱼⱼ), however ill-conditioned P is, up to a condition of about 1e16, and to
/// 1e-8 or it throws beyond that. Computed in double for float as well. P is exactly symmetric.
///
/// Units change nothing: states and inputs are first put into units that follow from the data, by
/// powers of two, so that P in other such units is the same P, bit for bit.
///
/// Where P is that ill-conditioned, the rounding of P may cost the gain all its digits; lqr's K is
/// rounded from that of the P in twice the precision, and stabilizes.
///
/// @param A (states, states), 1/s
/// @param B (states, inputs)
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive definite
/// @param N (states, inputs), the cost of state and input together; absent for 0
/// @throws ShapeError
/// @throws DomainError when Q or R is not symmetric, R not positive definite, or a matrix not
/// finite
/// @throws ConvergenceError when there is no stabilizing solution that double can tell from none:
///   (A, B) is not stabilizable, or Q leaves a mode on the imaginary axis unseen; the sentence
///   names the mode
/// Cost: about ten inverses of (2 states)² for each of two or three corrections, ten times as much
/// for the worst conditioned.
template <class DA, class DB, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1)
    [[nodiscard]] auto riccati(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                               const Eigen::MatrixBase<DQ>& Q, const Eigen::MatrixBase<DR>& R,
                               const Eigen::MatrixBase<DN>&... N) {
  const detail::RiccatiCaller caller{"riccati", detail::epsilon_of<typename DQ::Scalar>};
  return detail::cost_to_go<DA>(
      detail::checked_riccati(caller, detail::Time::continuous, A, B, Q, R, N...));
}

/// The stabilizing solution P of the discrete algebraic Riccati equation
///
///   Aᵀ P A − P − (Aᵀ P B + N) (R + Bᵀ P B)⁻¹ (Aᵀ P B + N)ᵀ + Q = 0:
///
/// xᵀ P x is the least cost Σ xᵀQx + 2 xᵀNu + uᵀRu from x on of a control that leads to rest, and
/// u = −(R + BᵀPB)⁻¹ (BᵀPA + Nᵀ) x reaches it. Structured doubling, then corrections as riccati
/// makes them, and as accurate, in any units; a singular A is as good as any. R may be singular, 0
/// among them, where Q sees what each such input moves. Computed in double for float as well. P is
/// exactly symmetric.
///
/// A Kalman filter's predicted covariance is discrete_riccati(Aᵀ, Cᵀ, Q, R).
///
/// @param A (states, states)
/// @param B (states, inputs)
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive semidefinite
/// @param N (states, inputs), the cost of state and input together; absent for 0
/// @throws ShapeError
/// @throws DomainError when Q or R is not symmetric, R indefinite, or a matrix not finite
/// @throws ConvergenceError when there is no stabilizing solution that double can tell from none:
///   (A, B) is not stabilizable, or Q leaves a mode on the unit circle unseen; the sentence names
///   the mode
/// Cost: about ten doublings of 10 states³ for each of two or three corrections, ten times as much
/// for the worst conditioned.
template <class DA, class DB, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1) [[nodiscard]] auto discrete_riccati(
    const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B, const Eigen::MatrixBase<DQ>& Q,
    const Eigen::MatrixBase<DR>& R, const Eigen::MatrixBase<DN>&... N) {
  const detail::RiccatiCaller caller{"discrete_riccati", detail::epsilon_of<typename DQ::Scalar>};
  return detail::cost_to_go<DA>(
      detail::checked_riccati(caller, detail::Time::discrete, A, B, Q, R, N...));
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/riccati_impl.hpp"
#endif
