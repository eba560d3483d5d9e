#pragma once

#include <cmath>
#include <complex>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/stable_split.hpp"
#include "ssm/system/sylvester.hpp"

SSM_BEGIN_COMPILED

/// Exchanges the k-th and the next eigenvalue of A = U T U* by a rotation.
SSM_INLINE void swap_neighbours(ComplexMatrix& T, ComplexMatrix& U, Index k) {
  using Complex = std::complex<double>;
  const Complex a = T(k, k), b = T(k + 1, k + 1), above = T(k, k + 1), gap = b - a;
  const double length = std::hypot(std::abs(above), std::abs(gap));
  if (!(length > 0)) return;
  const Complex c = above / length, s = gap / length;  // (c, s) is the eigenvector of b
  const auto columns = [&](ComplexMatrix& M) {
    for (Index i = 0; i < M.rows(); ++i) {
      const Complex x = M(i, k), y = M(i, k + 1);
      M(i, k) = product_of(x, c) + product_of(y, s);
      M(i, k + 1) = product_of(y, std::conj(c)) - product_of(x, std::conj(s));
    }
  };
  columns(T);
  columns(U);
  for (Index j = 0; j < T.cols(); ++j) {
    const Complex x = T(k, j), y = T(k + 1, j);
    T(k, j) = product_of(std::conj(c), x) + product_of(std::conj(s), y);
    T(k + 1, j) = product_of(c, y) - product_of(s, x);
  }
  T(k + 1, k) = 0;
  T(k, k) = b;
  T(k + 1, k + 1) = a;
}

SSM_INLINE SplitParts split_parts(std::string_view function, Time time, Quadruple system) {
  if (!system.all_finite()) throw_domain(function, "the system", "not finite", "finite");
  const Index n = system.A.rows(), m = system.B.cols(), p = system.C.rows();
  const SchurForm schur(function, system.A);
  ComplexMatrix T = schur.T(), U = schur.U();
  std::vector<bool> stable;
  Index count = 0;
  for (Index i = 0; i < n; ++i) {
    stable.push_back(schur.stable(time, i));
    if (stable.back()) ++count;
  }
  for (Index end = n; end > 1; --end)
    for (Index i = 0; i + 1 < end; ++i)
      if (!stable[static_cast<std::size_t>(i)] && stable[static_cast<std::size_t>(i) + 1]) {
        swap_neighbours(T, U, i);
        stable[static_cast<std::size_t>(i)] = true;
        stable[static_cast<std::size_t>(i) + 1] = false;
      }
  // A real basis of what the first columns of U span, and of what is orthogonal to that.
  RealMatrix both(n, 2 * count);
  for (Index j = 0; j < count; ++j)
    for (Index i = 0; i < n; ++i) {
      both(i, j) = U(i, j).real();
      both(i, count + j) = U(i, j).imag();
    }
  const RealMatrix Q = singular_values(both.transpose()).V;
  const RealVector& S = schur.scale();
  const RealMatrix A = Q.transpose() * schur.balanced() * Q;
  const RealMatrix B = Q.transpose() * scale_rows(inverse_of(S), system.B);
  const RealMatrix C = scale_columns(system.C, S) * Q;
  const Index rest = n - count;
  const RealMatrix A11 = A.block(0, 0, count, count), A22 = A.block(count, count, rest, rest);
  const RealMatrix B1 = B.block(0, 0, count, m), B2 = B.block(count, 0, rest, m);
  const RealMatrix C1 = C.block(0, 0, p, count), C2 = C.block(0, count, p, rest);
  // z = x1 − Y x2 is the stable part alone when A11 Y − Y A22 + A12 = 0.
  const RealMatrix Y =
      solve_sylvester(function, Time::continuous, A11, -A22, -A.block(0, count, count, rest));
  return {{A11, B1 - Y * B2, C1, std::move(system.D)}, {A22, B2, C2 + C1 * Y, RealMatrix(p, m)}};
}

SSM_END_COMPILED
