#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/system/dplr.hpp"

SSM_BEGIN_COMPILED

/// Conjugate pairs (a + ib)/√2 over the span of the columns of `null`, which conjugation maps into
/// itself: half as many columns, from a real orthonormal basis by Gram and Schmidt, the longest
/// remainder first.
SSM_INLINE ComplexMatrix pair_up(const ComplexMatrix& null) {
  const Index state = null.rows(), count = null.cols();
  RealMatrix parts(state, 2 * count), basis(state, count);
  for (Index j = 0; j < count; ++j)
    for (Index i = 0; i < state; ++i) {
      parts(i, j) = null(i, j).real();
      parts(i, count + j) = null(i, j).imag();
    }
  const auto dot = [&](const double* a, const double* b) {
    double sum = 0;
    for (Index i = 0; i < state; ++i) sum += a[i] * b[i];
    return sum;
  };
  for (Index k = 0; k < count; ++k) {
    Index longest = 0;
    double most = -1;
    for (Index j = 0; j < parts.cols(); ++j)
      if (const double square = dot(parts.col(j), parts.col(j)); square > most) {
        most = square;
        longest = j;
      }
    const double length = std::sqrt(most);
    for (Index i = 0; i < state; ++i) basis(i, k) = parts(i, longest) / length;
    for (int twice = 0; twice < 2; ++twice)
      for (Index j = 0; j < parts.cols(); ++j) {
        const double along = dot(basis.col(k), parts.col(j));
        for (Index i = 0; i < state; ++i) parts(i, j) -= basis(i, k) * along;
      }
  }
  ComplexMatrix pairs(state, count / 2);
  for (Index k = 0; k < pairs.cols(); ++k)
    for (Index i = 0; i < state; ++i)
      pairs(i, k) = std::sqrt(0.5) * std::complex<double>(basis(i, 2 * k), basis(i, 2 * k + 1));
  return pairs;
}

/// The modes iω of a skew matrix K = V iω V*, one of each conjugate pair, and their orthonormal V.
struct SkewModes {
  RealVector omega;  ///< (state/2), ≥ 0, ascending
  ComplexMatrix V;   ///< (state, state/2)
};
SSM_INLINE SkewModes skew_modes(const RealMatrix& K) {
  const Index state = K.rows(), half = state / 2;
  const ComplexSchurForm form = complex_schur("dplr", K);
  std::vector<Index> order(static_cast<std::size_t>(state));
  for (Index j = 0; j < state; ++j) order[static_cast<std::size_t>(j)] = j;
  const auto omega = [&](Index j) { return form.T(j, j).imag(); };
  std::sort(order.begin(), order.end(), [&](Index a, Index b) { return omega(a) < omega(b); });
  const auto columns = [&](Index from, Index count) {
    ComplexMatrix result(state, count);
    for (Index j = 0; j < count; ++j)
      std::copy_n(form.U.col(order[static_cast<std::size_t>(from + j)]), state, result.col(j));
    return result;
  };

  SkewModes modes{RealVector(half), columns(half, half)};
  for (Index j = 0; j < half; ++j) {
    modes.omega(j) = omega(order[static_cast<std::size_t>(half + j)]);
    // Of a mode's vectors, which differ by their phase, the one whose first component is positive.
    const std::complex<double> first = modes.V(0, j);
    const double size = std::abs(first);
    if (size == 0) continue;
    for (Index i = 0; i < state; ++i) modes.V(i, j) *= std::conj(first) / size;
  }
  // Eigenvalues of zero come without a sign: their vectors are paired by hand.
  const double zero = 1e-12 * std::abs(modes.omega(half - 1));
  Index still = 0;
  while (still < half && std::abs(modes.omega(still)) <= zero) modes.omega(still++) = 0;
  if (still > 0) modes.V.set_block(0, 0, pair_up(columns(half - still, 2 * still)));
  return modes;
}

SSM_INLINE DplrForm dplr_form(const RealMatrix& A, const RealMatrix& B, const RealMatrix& P) {
  const Index state = A.rows();
  const RealMatrix S = A + P * P.transpose(), symmetric = symmetric_part(S);
  double c = 0;
  for (Index i = 0; i < state; ++i) c += S(i, i);
  c /= static_cast<double>(state);
  const double rest = (symmetric - c * RealMatrix::Identity(state, state)).norm();
  if (!(rest <= 1e-4 * (S.norm() + P.norm() * P.norm())))
    throw_domain("dplr", "A + P P^T - c I", "symmetric by " + detail::number(rest), "skew");

  SkewModes modes = skew_modes(0.5 * (S - S.transpose()));
  const Index half = state / 2;
  const auto in_modes = [&](const RealMatrix& M) {  // V* M
    ComplexMatrix result(half, M.cols());
    for (Index j = 0; j < M.cols(); ++j)
      for (Index i = 0; i < half; ++i)
        for (Index k = 0; k < state; ++k) result(i, j) += std::conj(modes.V(k, i)) * M(k, j);
    return result;
  };
  DplrForm form{ComplexVector(half), in_modes(P), in_modes(B), {}};
  for (Index i = 0; i < half; ++i) form.lambda(i) = {c, modes.omega(i)};
  form.V = std::move(modes.V);
  return form;
}

SSM_END_COMPILED
