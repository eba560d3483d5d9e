#pragma once

#include <cmath>
#include <complex>

#include "ssm/core/error.hpp"
#include "ssm/system/detail/lyapunov_impl.hpp"
#include "ssm/system/gramian.hpp"

SSM_BEGIN_COMPILED

/// The upper triangular U for which X = U U* solves T X + X T* + B B* = 0 or T X T* − X + B B* = 0,
/// T upper triangular and stable, last column first, without ever forming B B*: Hammarling (1982),
/// in the form of Sorensen & Zhou (2003), section 4.
SSM_INLINE ComplexMatrix hammarling(Time time, const ComplexMatrix& T, ComplexMatrix B) {
  using Complex = std::complex<double>;
  const Index n = T.rows(), inputs = B.cols();
  const bool continuous = time == Time::continuous;
  ComplexMatrix U(n, n);
  ComplexVector b(inputs), along(n), above(n), change(n);
  for (Index j = n; j-- > 0;) {
    double size = 0;
    for (Index i = 0; i < inputs; ++i) size += std::norm(B(j, i));
    size = std::sqrt(size);
    if (!(size > 0)) continue;
    const Complex lambda = T(j, j);
    const double modulus = std::abs(lambda);
    const double decay =
        continuous ? std::sqrt(-2 * lambda.real()) : std::sqrt((1 - modulus) * (1 + modulus));
    const double tau = size / decay;
    U(j, j) = tau;
    for (Index i = 0; i < inputs; ++i) b(i) = B(j, i) / size;
    for (Index k = 0; k < j; ++k) {
      along(k) = 0;
      for (Index i = 0; i < inputs; ++i) along(k) += product_of(B(k, i), std::conj(b(i)));
      above(k) = T(k, j) * tau;
      U(k, j) = continuous ? -above(k) - along(k) * decay
                           : product_of(above(k), std::conj(lambda)) + along(k) * decay;
    }
    // u of the rows above, in the direction of b
    const Complex factor = continuous ? Complex(1) : -std::conj(lambda);
    const Complex shift = continuous ? std::conj(lambda) : Complex(1);
    for (Index k = j; k-- > 0;) {
      const Complex u = U(k, j) /= product_of(factor, T(k, k)) + shift;
      const Complex weight = product_of(factor, u);
      for (Index i = 0; i < k; ++i) U(i, j) -= product_of(T(i, k), weight);
    }
    for (Index k = 0; k < j; ++k) {
      if (continuous) {
        change(k) = -decay * U(k, j);
        continue;
      }
      Complex sum = above(k);
      for (Index i = k; i < j; ++i) sum += product_of(T(k, i), U(i, j));
      change(k) = decay * sum - product_of(lambda + 1.0, along(k));
    }
    for (Index i = 0; i < inputs; ++i)
      for (Index k = 0; k < j; ++k) B(k, i) += product_of(change(k), b(i));
  }
  return U;
}

SSM_INLINE RealMatrix gramian_factor(std::string_view function, Time time, const RealMatrix& A,
                                     const RealMatrix& B) {
  const Index n = A.rows();
  if (n == 0) return A;
  const SchurForm schur(function, A);
  if (!schur.stable(time)) throw_domain(function, "the system", "unstable", "stable");
  const RealMatrix scaled = scale_rows(inverse_of(schur.scale()), B);
  const ComplexMatrix turned = adjoint(schur.U()) * to_complex(scaled);
  const ComplexMatrix W = schur.U() * hammarling(time, schur.T(), turned);
  RealMatrix stacked(2 * n, n);  // X = Re W Re Wᵀ + Im W Im Wᵀ, as it is real
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) {
      stacked(i, j) = W(j, i).real();
      stacked(n + i, j) = W(j, i).imag();
    }
  RealMatrix nothing(2 * n, 0);
  triangularize(stacked, nothing);
  return scale_rows(schur.scale(), stacked.block(0, 0, n, n).transpose());
}

SSM_END_COMPILED
