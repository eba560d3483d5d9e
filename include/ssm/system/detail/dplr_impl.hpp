#pragma once

#include <Eigen/Eigenvalues>
#include <cmath>
#include <complex>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/dplr.hpp"

SSM_BEGIN_COMPILED

/// Conjugate pairs (a + ib)/√2 over the span of the columns of `null`, which conjugation maps into
/// itself: half as many columns, from a real orthonormal basis by Gram and Schmidt, the longest
/// remainder first.
template <class Matrix>
Matrix pair_up(const Matrix& null) {
  const Index state = null.rows(), count = null.cols();
  Eigen::Matrix<typename Matrix::RealScalar, Eigen::Dynamic, Eigen::Dynamic> parts(state,
                                                                                   2 * count),
      basis(state, count);
  parts << null.real(), null.imag();
  for (Index k = 0; k < count; ++k) {
    Index longest = 0;
    for (Index j = 1; j < parts.cols(); ++j)
      if (parts.col(j).squaredNorm() > parts.col(longest).squaredNorm()) longest = j;
    basis.col(k) = parts.col(longest) / parts.col(longest).norm();
    for (int twice = 0; twice < 2; ++twice)
      for (Index j = 0; j < parts.cols(); ++j)
        parts.col(j) -= basis.col(k) * basis.col(k).dot(parts.col(j));
  }
  Matrix pairs(state, count / 2);
  for (Index k = 0; k < pairs.cols(); ++k)
    for (Index i = 0; i < state; ++i)
      pairs(i, k) = std::complex<double>(basis(i, 2 * k), basis(i, 2 * k + 1)) * std::sqrt(0.5);
  return pairs;
}

template <class Matrix>
SkewModes skew_modes(const RealMatrix& K) {
  using Real = typename Matrix::RealScalar;
  const Index half = K.rows() / 2;
  const auto skew = to_eigen<Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic>>(K);
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(skew * std::complex<double>(0.0, -1.0));
  Eigen::Matrix<Real, Eigen::Dynamic, 1> omega = solver.eigenvalues().tail(half);
  Matrix V = solver.eigenvectors().rightCols(half);
  // Eigenvalues of zero come without a sign: their vectors are paired by hand.
  const double zero = 1e-12 * std::abs(omega(half - 1));
  Index still = 0;
  while (still < half && std::abs(omega(still)) <= zero) ++still;
  omega.head(still).setZero();
  if (still > 0)
    V.leftCols(still) = pair_up<Matrix>(solver.eigenvectors().middleCols(half - still, 2 * still));
  SkewModes modes{RealVector(half), ComplexMatrix(K.rows(), half)};
  for (Index j = 0; j < half; ++j) {
    modes.omega(j) = omega(j);
    for (Index i = 0; i < K.rows(); ++i) modes.V(i, j) = V(i, j);
  }
  return modes;
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE SkewModes skew_modes<Eigen::MatrixXcd>(const RealMatrix&);
#endif

SSM_END_COMPILED
