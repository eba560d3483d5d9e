#pragma once

#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The data of a Riccati equation in double.
struct RiccatiEquation {
  Time time;
  RealMatrix A, B, Q, R;
};

/// The cost-to-go xᵀ P x and the gain K of u = −K x that reaches it.
struct RiccatiSolution {
  RealMatrix P, K;
};

/// The stabilizing solution, with the errors of riccati but for those of shape.
/// @param epsilon of the type that Q and R are symmetric to the rounding of
[[nodiscard]] RiccatiSolution solve_riccati(std::string_view function, RiccatiEquation equation,
                                            double epsilon);

/// Throws DomainError when Q has an eigenvalue that is negative by more than the rounding of a type
/// of this epsilon.
void check_semidefinite(std::string_view function, const RealMatrix& Q, double epsilon);

SSM_END_COMPILED

namespace ssm {
namespace detail {

template <class DA, class DB, class DQ, class DR>
RiccatiSolution checked_riccati(std::string_view function, Time time,
                                const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                                const Eigen::MatrixBase<DQ>& Q, const Eigen::MatrixBase<DR>& R) {
  check_matrix(function, "A", A, A.rows(), A.rows());
  check_matrix(function, "B", B, A.rows(), B.cols());
  check_matrix(function, "Q", Q, A.rows(), A.rows());
  check_matrix(function, "R", R, B.cols(), B.cols());
  return solve_riccati(function, {time, RealMatrix(A), RealMatrix(B), RealMatrix(Q), RealMatrix(R)},
                       epsilon_of<typename DQ::Scalar>);
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
///   Aᵀ P + P A − P B R⁻¹ Bᵀ P + Q = 0:
///
/// xᵀ P x is the least cost ∫ xᵀQx + uᵀRu dt from x on of a control that leads to rest, and
/// u = −R⁻¹Bᵀ P x reaches it. The matrix sign function of the Hamiltonian, then corrections from a
/// residual in twice the precision of double: an element Pᵢⱼ is right to a few epsilon of
/// √(Pᵢᵢ Pⱼⱼ), however ill-conditioned P is, up to a condition of about 1e16, and to 1e-8 or it
/// throws beyond that. Computed in double for float as well. P is exactly symmetric.
///
/// Where P is that ill-conditioned, the rounding of P may cost the gain all its digits; lqr's K is
/// rounded from that of the P in twice the precision, and stabilizes.
///
/// @param A (states, states), 1/s
/// @param B (states, inputs)
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive definite
/// @throws ShapeError
/// @throws DomainError when Q or R is not symmetric, R not positive definite, A or B not finite
/// @throws ConvergenceError when there is no stabilizing solution that double can tell from none:
///   (A, B) is not stabilizable, or Q leaves a mode on the imaginary axis unseen
/// Cost: about ten inverses of (2 states)² for each of two or three corrections, ten times as much
/// for the worst conditioned.
template <class DA, class DB, class DQ, class DR>
[[nodiscard]] auto riccati(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                           const Eigen::MatrixBase<DQ>& Q, const Eigen::MatrixBase<DR>& R) {
  return detail::cost_to_go<DA>(
      detail::checked_riccati("riccati", detail::Time::continuous, A, B, Q, R));
}

/// The stabilizing solution P of the discrete algebraic Riccati equation
///
///   Aᵀ P A − P − Aᵀ P B (R + Bᵀ P B)⁻¹ Bᵀ P A + Q = 0:
///
/// xᵀ P x is the least cost Σ xᵀQx + uᵀRu from x on of a control that leads to rest, and
/// u = −(R + BᵀPB)⁻¹ BᵀPA x reaches it. Structured doubling, then corrections as riccati makes
/// them, and as accurate; a singular A is as good as any. Computed in double for float as well. P
/// is exactly symmetric.
///
/// A Kalman filter's predicted covariance is discrete_riccati(Aᵀ, Cᵀ, Q, R).
///
/// @param A (states, states)
/// @param B (states, inputs)
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive definite
/// @throws ShapeError
/// @throws DomainError when Q or R is not symmetric, R not positive definite, A or B not finite
/// @throws ConvergenceError when there is no stabilizing solution that double can tell from none:
///   (A, B) is not stabilizable, or Q leaves a mode on the unit circle unseen
/// Cost: about ten doublings of 10 states³ for each of two or three corrections, ten times as much
/// for the worst conditioned.
template <class DA, class DB, class DQ, class DR>
[[nodiscard]] auto discrete_riccati(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                                    const Eigen::MatrixBase<DQ>& Q,
                                    const Eigen::MatrixBase<DR>& R) {
  return detail::cost_to_go<DA>(
      detail::checked_riccati("discrete_riccati", detail::Time::discrete, A, B, Q, R));
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/riccati_impl.hpp"
#endif
