#pragma once

#include <algorithm>
#include <cmath>
#include <complex>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/frequency_response.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE Quadruple hessenberg_response(Quadruple system) {
  if (!system.A.all_finite()) throw_domain("FrequencyResponse", "A", "not finite", "finite");
  const RealVector scale = balance(system.A);
  const RealMatrix Q = to_hessenberg(system.A, true);
  system.B = Q.transpose() * scale_rows(inverse_of(scale), system.B);
  system.C = scale_columns(system.C, scale) * Q;
  return system;
}

SSM_INLINE ComplexMatrix response_at(const Quadruple& system, std::complex<double> point) {
  using Complex = std::complex<double>;
  const auto& [A, B, C, D] = system;
  const Index n = A.rows(), inputs = B.cols();
  ComplexMatrix M(n, n), X(n, inputs), G(C.rows(), inputs);
  for (Index j = 0; j < n; ++j) {
    for (Index i = 0; i < (std::min)(j + 2, n); ++i) M(i, j) = -A(i, j);
    M(j, j) += point;
  }
  std::copy_n(B.data(), static_cast<std::size_t>(B.size()), X.data());
  for (Index k = 0; k + 1 < n; ++k) {  // rotations make M upper triangular
    const Complex p = M(k, k), q = M(k + 1, k);
    const double length = std::hypot(std::abs(p), std::abs(q));
    if (length == 0) continue;
    const Complex c = std::conj(p) / length, s = std::conj(q) / length;
    const auto rotate = [&](ComplexMatrix& matrix, Index from) {
      for (Index j = from; j < matrix.cols(); ++j) {
        const Complex x = matrix(k, j), y = matrix(k + 1, j);
        matrix(k, j) = product_of(c, x) + product_of(s, y);
        matrix(k + 1, j) = product_of(std::conj(c), y) - product_of(std::conj(s), x);
      }
    };
    rotate(M, k);
    rotate(X, 0);
  }
  for (Index j = 0; j < inputs; ++j) {
    for (Index k = n; k-- > 0;) {
      const Complex weight = X(k, j) /= M(k, k);
      for (Index i = 0; i < k; ++i) X(i, j) -= product_of(M(i, k), weight);
    }
    for (Index i = 0; i < C.rows(); ++i) {
      Complex sum = D(i, j);
      for (Index k = 0; k < n; ++k) sum += C(i, k) * X(k, j);
      G(i, j) = sum;
    }
  }
  return G;
}

SSM_END_COMPILED
