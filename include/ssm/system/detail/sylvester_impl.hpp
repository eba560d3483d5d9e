#pragma once

#include <complex>

#include "ssm/core/error.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/sylvester.hpp"

SSM_BEGIN_COMPILED

/// Y of S Y + Y T = F or S Y T − Y = F for upper triangular S and T, column by column.
SSM_INLINE ComplexMatrix solve_triangular_sylvester(Time time, const ComplexMatrix& S,
                                                    const ComplexMatrix& T, ComplexMatrix F) {
  using Complex = std::complex<double>;
  const Index n = S.rows(), m = T.rows();
  const bool continuous = time == Time::continuous;
  ComplexVector known(n);
  for (Index k = 0; k < m; ++k) {
    for (Index i = 0; i < n; ++i) known(i) = 0;
    for (Index j = 0; j < k; ++j)
      for (Index i = 0; i < n; ++i) known(i) += product_of(F(i, j), T(j, k));
    if (!continuous)
      for (Index i = 0; i < n; ++i) {
        Complex sum = 0;
        for (Index j = i; j < n; ++j) sum += product_of(S(i, j), known(j));
        known(i) = sum;
      }
    for (Index i = 0; i < n; ++i) F(i, k) -= known(i);
    const Complex factor = continuous ? Complex(1) : T(k, k);
    const Complex shift = continuous ? T(k, k) : Complex(-1);
    for (Index j = n; j-- > 0;) {
      const Complex y = F(j, k) /= product_of(factor, S(j, j)) + shift;
      const Complex weight = product_of(factor, y);
      for (Index i = 0; i < j; ++i) F(i, k) -= product_of(S(i, j), weight);
    }
  }
  return F;
}

SSM_INLINE RealMatrix solve_sylvester(std::string_view function, Time time, const RealMatrix& A,
                                      const RealMatrix& B, const RealMatrix& C) {
  if (!A.all_finite() || !B.all_finite() || !C.all_finite())
    throw_domain(function, "A, B or C", "not finite", "finite");
  const SchurForm left(function, A), right(function, B);
  const bool continuous = time == Time::continuous;
  for (Index i = 0; i < A.rows(); ++i)
    for (Index k = 0; k < B.rows(); ++k) {
      const std::complex<double> a = left.T()(i, i), b = right.T()(k, k);
      const double gap = continuous ? std::abs(a + b) : std::abs(1.0 - a * b);
      const double one = continuous ? 1 : std::abs(b), other = continuous ? 1 : std::abs(a);
      if (gap > one * left.error(i) + other * right.error(k)) continue;
      if (gap > one * left.doubt(i) + other * right.doubt(k)) continue;
      throw_domain(function, "an eigenvalue of A",
                   continuous ? "the negative of one of B" : "the reciprocal of one of B",
                   continuous ? "none that add up to 0" : "none whose product is 1");
    }
  // A = S Â S⁻¹, B = R B̂ R⁻¹: X = S X̂ R⁻¹.
  const RealVector &S = left.scale(), &R = right.scale();
  const RealMatrix F = scale_columns(scale_rows(inverse_of(S), C), R);
  const ComplexMatrix left_adjoint = adjoint(left.U()), right_adjoint = adjoint(right.U());
  const auto solve = [&](const RealMatrix& rest) {
    return real_part(left.U() *
                     solve_triangular_sylvester(time, left.T(), right.T(),
                                                left_adjoint * to_complex(rest) * right.U()) *
                     right_adjoint);
  };
  RealMatrix X = solve(F);
  X += solve(continuous ? F - left.balanced() * X - X * right.balanced()
                        : F - left.balanced() * X * right.balanced() + X);
  return scale_columns(scale_rows(S, X), inverse_of(R));
}

SSM_END_COMPILED
