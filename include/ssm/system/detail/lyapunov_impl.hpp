#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <utility>

#include "ssm/core/balance.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/lyapunov.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE ComplexMatrix adjoint(const ComplexMatrix& A) {
  ComplexMatrix result = A.transpose();
  for (Index i = 0; i < result.size(); ++i) result.data()[i] = std::conj(result.data()[i]);
  return result;
}

SSM_INLINE ComplexMatrix to_complex(const RealMatrix& A) {
  ComplexMatrix result(A.rows(), A.cols());
  std::copy_n(A.data(), static_cast<std::size_t>(A.size()), result.data());
  return result;
}

SSM_INLINE RealMatrix real_part(const ComplexMatrix& A) {
  RealMatrix result(A.rows(), A.cols());
  for (Index i = 0; i < A.size(); ++i) result.data()[i] = A.data()[i].real();
  return result;
}

SSM_INLINE void SchurForm::factor(std::string_view function) {
  if (!balanced_.all_finite()) throw_domain(function, "A", "not finite", "finite");
  scale_ = balance(balanced_);
  form_ = complex_schur(function, balanced_);
  error_ = (form_.U * form_.T * adjoint(form_.U) - to_complex(balanced_)).norm();
}

SSM_INLINE bool SchurForm::stable(Time time) const {
  const double doubt = 8 * error_;
  for (Index i = 0; i < form_.T.rows(); ++i) {
    const std::complex<double> lambda = form_.T(i, i);
    if (!(time == Time::continuous ? lambda.real() < -doubt : std::abs(lambda) + doubt < 1))
      return false;
  }
  return true;
}

/// Throws DomainError when two eigenvalues cancel to working precision.
SSM_INLINE void check_unique_solution(std::string_view function, Time time,
                                      const SchurForm& schur) {
  const ComplexMatrix& T = schur.T();
  for (Index k = 0; k < T.rows(); ++k)
    for (Index i = 0; i < T.rows(); ++i) {
      const bool continuous = time == Time::continuous;
      const double gap = continuous ? std::abs(T(i, i) + std::conj(T(k, k)))
                                    : std::abs(1.0 - T(i, i) * std::conj(T(k, k)));
      const double doubt = schur.error() * (continuous ? 2 : std::abs(T(i, i)) + std::abs(T(k, k)));
      if (!(gap > doubt))
        throw_domain(
            function, "an eigenvalue of A",
            continuous ? "the negative of another" : "the reciprocal of another",
            continuous ? "no two eigenvalues that add up to 0" : "no two whose product is 1");
    }
}

/// Solves A X + X Aᵀ + Q = 0 or A X Aᵀ − X + Q = 0 for a balanced A given in Schur form, column by
/// column from the last.
SSM_INLINE RealMatrix solve_in_schur_form(Time time, const SchurForm& schur, const RealMatrix& Q) {
  using Complex = std::complex<double>;
  const Index n = Q.rows();
  const ComplexMatrix &T = schur.T(), &U = schur.U(), U_adjoint = adjoint(U);
  ComplexMatrix Y = U_adjoint * to_complex(Q) * U;
  ComplexVector known(n);
  for (Index k = n; k-- > 0;) {
    const Complex lambda = std::conj(T(k, k));
    for (Index i = 0; i < n; ++i) known(i) = 0;
    for (Index j = k + 1; j < n; ++j)
      for (Index i = 0; i < n; ++i) known(i) += product_of(Y(i, j), std::conj(T(k, j)));
    if (time == Time::discrete)
      for (Index i = 0; i < n; ++i) {  // known ← T known, from the top as T is triangular
        Complex sum = 0;
        for (Index j = i; j < n; ++j) sum += product_of(T(i, j), known(j));
        known(i) = sum;
      }
    for (Index i = 0; i < n; ++i) Y(i, k) += known(i);
    const Complex factor = time == Time::continuous ? Complex(-1) : -lambda;
    const Complex shift = time == Time::continuous ? -lambda : Complex(1);
    for (Index j = n; j-- > 0;) {
      const Complex y = Y(j, k) /= product_of(factor, T(j, j)) + shift;
      const Complex weight = product_of(factor, y);
      for (Index i = 0; i < j; ++i) Y(i, k) -= product_of(T(i, j), weight);
    }
  }
  return real_part(U * Y * U_adjoint);
}

SSM_INLINE RealMatrix solve_lyapunov(std::string_view function, Time time, RealMatrix matrix,
                                     const RealMatrix& Q) {
  const SchurForm schur(function, std::move(matrix));
  check_unique_solution(function, time, schur);
  const RealMatrix& A = schur.balanced();
  const RealVector &scale = schur.scale(), inverse = inverse_of(scale);
  const RealMatrix F = scale_columns(scale_rows(inverse, Q), inverse);
  RealMatrix X = solve_in_schur_form(time, schur, F);
  RealMatrix residual = F;  // for one step of refinement
  if (time == Time::continuous)
    residual += A * X + X * A.transpose();
  else
    residual += A * X * A.transpose() - X;
  X += solve_in_schur_form(time, schur, residual);
  if (Q == Q.transpose()) X = symmetric_part(X);
  return scale_columns(scale_rows(scale, X), scale);
}

SSM_END_COMPILED
