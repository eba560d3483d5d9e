#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/padded.hpp"
#include "ssm/system/detail/doubling.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// A = S U T U* S⁻¹ with S a diagonal of powers of two, U unitary and T upper triangular.
///
/// States that act on each other in a circle stand together, in the order of these groups A is
/// block upper triangular, and each group has a Schur form of its own, its fastest states first. So
/// a matrix that is triangular in some order of its states keeps its eigenvalues to the bit, and
/// the result depends neither on the order of states nor on their units more than rounding does.
class SchurForm {
 public:
  SchurForm(std::string_view function, RealMatrix A) : balanced_(std::move(A)) { factor(function); }

  [[nodiscard]] const RealMatrix& balanced() const noexcept { return balanced_; }
  [[nodiscard]] const RealVector& scale() const noexcept { return scale_; }
  [[nodiscard]] const ComplexMatrix& T() const noexcept { return form_.T; }
  [[nodiscard]] const ComplexMatrix& U() const noexcept { return form_.U; }
  /// How far T is from what it should be in the group of the i-th eigenvalue; 0 in a group of one.
  [[nodiscard]] double error(Index i) const { return error_(i); }
  /// How far that error and the rounding of A's elements move the i-th eigenvalue, to first order:
  /// |y|ᵀ (|R| + ε|A|) |x| / |y* x| of its left and right eigenvectors, which no unit changes.
  /// Infinite for a multiple eigenvalue.
  [[nodiscard]] double doubt(Index i) const;

  /// True when the i-th eigenvalue is stable by more than rounding.
  [[nodiscard]] bool stable(Time time, Index i) const;
  /// True when every eigenvalue is.
  [[nodiscard]] bool stable(Time time) const;

 private:
  void factor(std::string_view function);

  RealMatrix balanced_;
  RealVector scale_, error_;
  std::vector<Index> first_, end_;  // of the group of each eigenvalue
  ComplexSchurForm form_;
};

/// The eigenvalues of A, group by group, complex ones as neighbours of their exact conjugates.
[[nodiscard]] ComplexVector grouped_eigenvalues(std::string_view function, RealMatrix A);

/// The X of A X + X Aᵀ + Q = 0 or A X Aᵀ − X + Q = 0, with their errors but for those of shape.
[[nodiscard]] RealMatrix solve_lyapunov(std::string_view function, Time time, RealMatrix A,
                                        const RealMatrix& Q);

SSM_END_COMPILED

namespace ssm {
namespace detail {

/// What lyapunov and discrete_lyapunov share.
template <class DA, class DQ>
auto checked_lyapunov(std::string_view function, Time time, const Eigen::MatrixBase<DA>& A,
                      const Eigen::MatrixBase<DQ>& Q) {
  constexpr int size = DA::RowsAtCompileTime;
  using Result = Eigen::Matrix<typename DA::Scalar, size, size>;
  const Index n = A.rows();
  check_matrix(function, "A", A, n, n);
  check_matrix(function, "Q", Q, n, n);
  WorkspaceMemory<(size > 0 ? lyapunov_room(size) : 0)> memory(lyapunov_room(n));
  Workspace work = memory.workspace();
  const Padded dynamics = work.matrix(A), cost = work.matrix(Q), X = work.matrix(n, n);
  const Result result =
      lyapunov_by_doubling(time, dynamics, cost, X, work)
          ? to_eigen<Result>(X)
          : to_eigen<Result>(solve_lyapunov(function, time, RealMatrix(A), RealMatrix(Q)));
  if (!result.allFinite())
    throw_domain(function, "X", "beyond the largest number", "A and Q whose X can be held");
  return result;
}

}  // namespace detail

/// The X that solves the continuous Lyapunov equation
///
///   A X + X Aᵀ + Q = 0.
///
/// With this sign a stable A and a positive definite Q give a positive definite X, and Q = B Bᵀ
/// gives the controllability gramian. Where A is stable and Q symmetric, doubling of the balanced
/// equation in discrete time that Cayley's transform makes of it (Smith 1968) and a correction from
/// a residual in twice the precision of double; where that does not reach rounding, and for any
/// other A and Q, Bartels & Stewart (1972) on the complex Schur form of the balanced A, then one
/// step of refinement. Computed in double for float as well.
///
/// @param A (n, n), 1/s; it need not be stable
/// @param Q (n, n); a symmetric Q gives an exactly symmetric X
/// @throws ShapeError
/// @throws DomainError when two eigenvalues of A add up to 0, so that X is not unique, A or Q is
///   not finite, or X overflows
/// Cost: by doubling about 60 n³ of multiplications and additions, and no allocation for a fixed
/// size of up to 40; by the Schur form some ten times the time.
template <class DA, class DQ>
[[nodiscard]] auto lyapunov(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DQ>& Q) {
  return detail::checked_lyapunov("lyapunov", detail::Time::continuous, A, Q);
}

/// The X that solves the discrete Lyapunov (Stein) equation
///
///   A X Aᵀ − X + Q = 0,
///
/// X = Σ_k A^k Q (Aᵀ)^k when A is stable, which is then summed by doubling as in lyapunov; else
/// Kitagawa (1977) on the complex Schur form of the balanced A, then one step of refinement.
/// Computed in double for float as well.
///
/// @param A (n, n); it need not be stable
/// @param Q (n, n); a symmetric Q gives an exactly symmetric X
/// @throws ShapeError
/// @throws DomainError when the product of two eigenvalues of A is 1, A or Q is not finite, or X
///   overflows
/// Cost: as lyapunov.
template <class DA, class DQ>
[[nodiscard]] auto discrete_lyapunov(const Eigen::MatrixBase<DA>& A,
                                     const Eigen::MatrixBase<DQ>& Q) {
  return detail::checked_lyapunov("discrete_lyapunov", detail::Time::discrete, A, Q);
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/lyapunov_impl.hpp"
#endif
