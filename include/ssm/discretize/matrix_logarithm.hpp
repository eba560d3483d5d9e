#pragma once

#include <array>
#include <limits>
#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"

SSM_BEGIN_COMPILED

/// The principal logarithm of a finite A whose elements are known to `epsilon`.
/// @throws DomainError as matrix_logarithm does
[[nodiscard]] RealMatrix principal_logarithm(std::string_view function, const RealMatrix& A,
                                             double epsilon);

SSM_END_COMPILED

namespace ssm {

/// The principal logarithm of a square real matrix: the real matrix whose exponential is A and
/// whose eigenvalues have imaginary parts between −π and π.
///
/// Balancing and complex Schur form, square roots until it is close to I, a Padé approximant, and
/// doubling back (Higham, Functions of Matrices, algorithm 11.9). Singular results (eigenvalues 1
/// of A) and defective matrices need no special care. Computed in double for float as well.
///
/// An eigenvalue below the rounding of A, 64 n epsilon times its norm, has no digit that says what
/// it is, and so no logarithm; but each block of a block triangular A, in whatever order its rows
/// and columns stand, has a rounding of its own: a diagonal A may hold 1 and e⁻⁸⁰.
///
/// @param A (n, n), float or double
/// @throws ShapeError when A is not square
/// @throws DomainError when A has an eigenvalue on the closed negative real axis, or one that is
///   zero to the precision of A
/// Cost: the Schur form, about 25 n³, and up to n³ a root; allocates.
template <class Derived>
[[nodiscard]] auto matrix_logarithm(const Eigen::MatrixBase<Derived>& A) {
  using T = typename Derived::Scalar;
  constexpr int size = Derived::RowsAtCompileTime;
  using Result = Eigen::Matrix<T, size, size>;
  if (A.rows() != A.cols())
    detail::throw_shape("matrix_logarithm", "A",
                        detail::to_string(std::array<Index, 2>{A.rows(), A.cols()}),
                        "a square matrix");
  const detail::RealMatrix wide(A);
  if (!wide.all_finite())
    return Result(Result::Constant(A.rows(), A.cols(), std::numeric_limits<T>::quiet_NaN()));
  return detail::to_eigen<Result>(
      detail::principal_logarithm("matrix_logarithm", wide, detail::epsilon_of<T>));
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/discretize/detail/matrix_logarithm_impl.hpp"
#endif
