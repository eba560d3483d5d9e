#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <complex>
#include <string_view>

#include "ssm/core/balance.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// A = S U T U* S⁻¹ with S a diagonal of powers of two, U unitary and T upper triangular.
///
/// `error` bounds how far rounding moved T, as it came out: it is 0 for a triangular A, whose
/// eigenvalues are exact however far apart they lie.
template <class Matrix>
class SchurForm {
 public:
  using Complex = Eigen::Matrix<std::complex<double>, Eigen::Dynamic, Eigen::Dynamic>;

  SchurForm(std::string_view function, const Matrix& A) : balanced_(A) {
    if (!A.allFinite()) throw_domain(function, "A", "not finite", "finite");
    scale_ = balance(balanced_);
    if (A.rows() == 0) return;
    const Eigen::ComplexSchur<Matrix> schur(balanced_);
    if (schur.info() != Eigen::Success)
      throw_convergence(function, "the Schur form of A", "not found", "one");
    T_ = schur.matrixT().template triangularView<Eigen::Upper>();
    U_ = schur.matrixU();
    error_ = (U_ * T_ * U_.adjoint() - balanced_).norm();
  }

  [[nodiscard]] const Matrix& balanced() const noexcept { return balanced_; }
  [[nodiscard]] const Eigen::VectorXd& scale() const noexcept { return scale_; }
  [[nodiscard]] const Complex& T() const noexcept { return T_; }
  [[nodiscard]] const Complex& U() const noexcept { return U_; }
  [[nodiscard]] double error() const noexcept { return error_; }

  /// True when every eigenvalue is stable by more than rounding.
  [[nodiscard]] bool stable(Time time) const {
    const double doubt = 8 * error_;
    for (const std::complex<double>& lambda : T_.diagonal())
      if (!(time == Time::continuous ? lambda.real() < -doubt : std::abs(lambda) + doubt < 1))
        return false;
    return true;
  }

 private:
  Matrix balanced_;
  Eigen::VectorXd scale_;
  Complex T_, U_;
  double error_ = 0;
};

/// Throws DomainError when two eigenvalues cancel to working precision.
template <class Matrix>
void check_unique_solution(std::string_view function, Time time, const SchurForm<Matrix>& schur) {
  const auto lambda = schur.T().diagonal();
  for (Index k = 0; k < lambda.size(); ++k)
    for (Index i = 0; i < lambda.size(); ++i) {
      const bool continuous = time == Time::continuous;
      const double gap = continuous ? std::abs(lambda(i) + std::conj(lambda(k)))
                                    : std::abs(1.0 - lambda(i) * std::conj(lambda(k)));
      const double doubt =
          schur.error() * (continuous ? 2 : std::abs(lambda(i)) + std::abs(lambda(k)));
      if (!(gap > doubt))
        throw_domain(
            function, "an eigenvalue of A",
            continuous ? "the negative of another" : "the reciprocal of another",
            continuous ? "no two eigenvalues that add up to 0" : "no two whose product is 1");
    }
}

/// Solves A X + X Aᵀ + Q = 0 or A X Aᵀ − X + Q = 0 for a balanced A given in Schur form, column by
/// column from the last.
template <class Matrix>
Matrix solve_in_schur_form(Time time, const SchurForm<Matrix>& schur, const Matrix& Q) {
  using Complex = typename SchurForm<Matrix>::Complex;
  const Index n = Q.rows();
  const Complex &T = schur.T(), &U = schur.U();
  const Complex wide = Q.template cast<std::complex<double>>();
  const Complex F = U.adjoint() * wide * U;
  Complex Y(n, n), triangle(n, n);
  for (Index k = n - 1; k >= 0; --k) {
    const Index later = n - 1 - k;
    const std::complex<double> lambda = std::conj(T(k, k));
    Eigen::VectorXcd known = Y.rightCols(later) * T.row(k).tail(later).adjoint();
    if (time == Time::continuous) {
      triangle = -T;
      triangle.diagonal().array() -= lambda;
    } else {
      triangle = -lambda * T;
      triangle.diagonal().array() += 1.0;
      known = T * known;
    }
    Y.col(k) = triangle.template triangularView<Eigen::Upper>().solve(F.col(k) + known);
  }
  return (U * Y * U.adjoint()).real();
}

/// The solution for an A in Schur form, with one step of refinement on its residual.
template <class Matrix>
Matrix solve_lyapunov(Time time, const SchurForm<Matrix>& schur, const Matrix& Q) {
  const Matrix& A = schur.balanced();
  const Eigen::VectorXd &scale = schur.scale(), inverse = scale.cwiseInverse();
  const Matrix F = inverse.asDiagonal() * Q * inverse.asDiagonal();
  Matrix X = solve_in_schur_form(time, schur, F);
  Matrix residual = F;
  if (time == Time::continuous)
    residual += A * X + X * A.transpose();
  else
    residual += A * X * A.transpose() - X;
  X += solve_in_schur_form(time, schur, residual);
  if (Q == Q.transpose()) X = (0.5 * (X + X.transpose())).eval();
  return scale.asDiagonal() * X * scale.asDiagonal();
}

/// What lyapunov and discrete_lyapunov share.
template <class DA, class DQ>
auto checked_lyapunov(std::string_view function, Time time, const Eigen::MatrixBase<DA>& A,
                      const Eigen::MatrixBase<DQ>& Q) {
  using T = typename DA::Scalar;
  constexpr int size = DA::RowsAtCompileTime;
  check_matrix(function, "A", A, A.rows(), A.rows());
  check_matrix(function, "Q", Q, A.rows(), A.rows());
  const SchurForm<Eigen::MatrixXd> schur(function, A.template cast<double>());
  check_unique_solution(function, time, schur);
  const Eigen::MatrixXd X = solve_lyapunov<Eigen::MatrixXd>(time, schur, Q.template cast<double>());
  return Eigen::Matrix<T, size, size>(X.template cast<T>());
}

}  // namespace detail

/// The X that solves the continuous Lyapunov equation
///
///   A X + X Aᵀ + Q = 0.
///
/// With this sign a stable A and a positive definite Q give a positive definite X, and Q = B Bᵀ
/// gives the controllability gramian. Bartels & Stewart (1972) on the complex Schur form of the
/// balanced A, then one step of refinement. Computed in double for float as well.
///
/// @param A (n, n), 1/s; it need not be stable
/// @param Q (n, n); a symmetric Q gives an exactly symmetric X
/// @throws ShapeError
/// @throws DomainError when two eigenvalues of A add up to 0, so that X is not unique, or A is not
///   finite
/// Cost: about 60 n³.
template <class DA, class DQ>
[[nodiscard]] auto lyapunov(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DQ>& Q) {
  return detail::checked_lyapunov("lyapunov", detail::Time::continuous, A, Q);
}

/// The X that solves the discrete Lyapunov (Stein) equation
///
///   A X Aᵀ − X + Q = 0,
///
/// X = Σ_k A^k Q (Aᵀ)^k when A is stable. Kitagawa (1977) on the complex Schur form of the
/// balanced A, then one step of refinement. Computed in double for float as well.
///
/// @param A (n, n); it need not be stable
/// @param Q (n, n); a symmetric Q gives an exactly symmetric X
/// @throws ShapeError
/// @throws DomainError when the product of two eigenvalues of A is 1, or A is not finite
/// Cost: about 60 n³.
template <class DA, class DQ>
[[nodiscard]] auto discrete_lyapunov(const Eigen::MatrixBase<DA>& A,
                                     const Eigen::MatrixBase<DQ>& Q) {
  return detail::checked_lyapunov("discrete_lyapunov", detail::Time::discrete, A, Q);
}

}  // namespace ssm
