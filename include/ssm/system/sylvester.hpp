#pragma once

#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The X of A X + X B = C or A X B − X = C, with their errors but for those of shape.
[[nodiscard]] RealMatrix solve_sylvester(std::string_view function, Time time, const RealMatrix& A,
                                         const RealMatrix& B, const RealMatrix& C);

SSM_END_COMPILED

namespace ssm {
namespace detail {

/// What sylvester and discrete_sylvester share.
template <class DA, class DB, class DC>
auto checked_sylvester(std::string_view function, Time time, const Eigen::MatrixBase<DA>& A,
                       const Eigen::MatrixBase<DB>& B, const Eigen::MatrixBase<DC>& C) {
  check_matrix(function, "A", A, A.rows(), A.rows());
  check_matrix(function, "B", B, B.rows(), B.rows());
  check_matrix(function, "C", C, A.rows(), B.rows());
  using Result = Eigen::Matrix<typename DA::Scalar, DA::RowsAtCompileTime, DB::RowsAtCompileTime>;
  return to_eigen<Result>(
      solve_sylvester(function, time, RealMatrix(A), RealMatrix(B), RealMatrix(C)));
}

}  // namespace detail

/// The X that solves the Sylvester equation
///
///   A X + X B = C.
///
/// Bartels & Stewart (1972) on the complex Schur forms of A and B in units of their own, then a
/// step of refinement. Computed in double for float as well.
///
/// @param A (n, n)
/// @param B (m, m)
/// @param C (n, m)
/// @return X (n, m)
/// @throws ShapeError
/// @throws DomainError when an eigenvalue of A is the negative of one of B, so that X is not
/// unique,
///   or something is not finite
/// Cost: about 25 n³ + 25 m³ + 10 n m (n + m).
template <class DA, class DB, class DC>
[[nodiscard]] auto sylvester(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                             const Eigen::MatrixBase<DC>& C) {
  return detail::checked_sylvester("sylvester", detail::Time::continuous, A, B, C);
}

/// The X that solves the discrete Sylvester equation
///
///   A X B − X = C.
///
/// @param A (n, n)
/// @param B (m, m)
/// @param C (n, m)
/// @return X (n, m)
/// @throws ShapeError
/// @throws DomainError when the product of an eigenvalue of A and one of B is 1, or something is
/// not
///   finite
/// Cost: as of sylvester.
template <class DA, class DB, class DC>
[[nodiscard]] auto discrete_sylvester(const Eigen::MatrixBase<DA>& A,
                                      const Eigen::MatrixBase<DB>& B,
                                      const Eigen::MatrixBase<DC>& C) {
  return detail::checked_sylvester("discrete_sylvester", detail::Time::discrete, A, B, C);
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/sylvester_impl.hpp"
#endif
