#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <string>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/discretize/matrix_logarithm.hpp"

SSM_BEGIN_COMPILED

/// The principal square root of an upper triangular matrix: Björck & Hammarling (1983).
SSM_INLINE ComplexMatrix triangular_square_root(const ComplexMatrix& T) {
  const Index n = T.rows();
  ComplexMatrix R(n, n);
  for (Index j = 0; j < n; ++j) {
    R(j, j) = std::sqrt(T(j, j));
    for (Index i = j; i-- > 0;) {
      std::complex<double> rest = T(i, j);
      for (Index k = i + 1; k < j; ++k) rest -= product_of(R(i, k), R(k, j));
      R(i, j) = rest / (R(i, i) + R(j, j));
    }
  }
  return R;
}

/// log(I + X) of an upper triangular X, ‖X‖₁ ≤ 0.264: its [7/7] Padé approximant, in partial
/// fractions at the nodes x_j and weights w_j of Gauss and Legendre: Σ w_j X (I + x_j X)⁻¹ (Higham,
/// Functions of Matrices, eq. 11.18 and table 11.1).
SSM_INLINE ComplexMatrix logarithm_near_identity(const ComplexMatrix& X) {
  struct Node {
    double at, weight;  // on [−1, 1]
  };
  constexpr std::array<Node, 7> nodes{{{-0.94910791234275852453, 0.12948496616886969327},
                                       {-0.74153118559939443986, 0.27970539148927666790},
                                       {-0.40584515137739716691, 0.38183005050511894495},
                                       {0, 0.41795918367346938776},
                                       {0.40584515137739716691, 0.38183005050511894495},
                                       {0.74153118559939443986, 0.27970539148927666790},
                                       {0.94910791234275852453, 0.12948496616886969327}}};
  const Index n = X.rows();
  ComplexMatrix sum(n, n);
  for (const Node& node : nodes) {
    const double x = (node.at + 1) / 2;
    ComplexMatrix term = X;  // ← (I + x X)⁻¹ X
    for (Index j = 0; j < n; ++j)
      for (Index k = j + 1; k-- > 0;) {
        const std::complex<double> y = term(k, j) /= 1.0 + x * X(k, k), weight = x * y;
        for (Index i = 0; i < k; ++i) term(i, j) -= product_of(X(i, k), weight);
      }
    sum += node.weight / 2 * term;
  }
  return sum;
}

SSM_INLINE RealMatrix principal_logarithm(RealMatrix A) {
  const Index n = A.rows();
  const RealVector scale = balance(A);
  double norm = 0;  // the largest 1-norm of a column
  for (Index j = 0; j < n; ++j) {
    double column = 0;
    for (Index i = 0; i < n; ++i) column += std::abs(A(i, j));
    norm = (std::max)(norm, column);
  }
  const ComplexSchurForm schur = complex_schur("matrix_logarithm", A);
  ComplexMatrix root = schur.T;

  ComplexVector logarithms(n);
  const double rounding = 4 * static_cast<double>(n) * epsilon_of<double> * norm;
  for (Index i = 0; i < n; ++i) {
    const std::complex<double> eigenvalue = root(i, i);
    if (eigenvalue.real() <= 0 && std::abs(eigenvalue.imag()) <= rounding)
      throw_domain("matrix_logarithm", "an eigenvalue of A", std::to_string(eigenvalue.real()),
                   "off the closed negative real axis");
    logarithms(i) = std::log(eigenvalue);
  }

  // The diagonal of root − I comes from the logarithms, as subtracting 1 would cancel.
  ComplexMatrix X;
  double doubling = 1, size = 0;
  const auto subtract_identity = [&] {
    X = root;
    size = 0;
    for (Index j = 0; j < n; ++j) {
      const std::complex<double> z = logarithms(j) / doubling;
      X(j, j) = z * phi1(z);
      double column = 0;
      for (Index i = 0; i <= j; ++i) column += std::abs(X(i, j));
      size = (std::max)(size, column);
    }
  };
  subtract_identity();
  while (size > 0.25 && doubling < 0x1p200) {
    root = triangular_square_root(root);
    doubling *= 2;
    subtract_identity();
  }
  ComplexMatrix logarithm = doubling * logarithm_near_identity(X), U_adjoint = schur.U.transpose();
  for (Index i = 0; i < n; ++i) logarithm(i, i) = logarithms(i);
  for (Index i = 0; i < n * n; ++i) U_adjoint.data()[i] = std::conj(U_adjoint.data()[i]);
  const ComplexMatrix result = schur.U * logarithm * U_adjoint;
  RealMatrix real(n, n);
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) real(i, j) = rescaled(result(i, j).real(), scale(i), scale(j));
  return real;
}

SSM_END_COMPILED
