#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <array>
#include <cmath>
#include <complex>
#include <limits>

#include "ssm/core/error.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/discretize/matrix_exponential.hpp"

namespace ssm {
namespace detail {

/// The principal square root of an upper triangular matrix: Björck & Hammarling (1983).
inline Eigen::MatrixXcd triangular_square_root(const Eigen::MatrixXcd& T) {
  const Index n = T.rows();
  Eigen::MatrixXcd R = Eigen::MatrixXcd::Zero(n, n);
  for (Index j = 0; j < n; ++j) {
    R(j, j) = std::sqrt(T(j, j));
    for (Index i = j; i-- > 0;) {
      std::complex<double> rest = T(i, j);
      for (Index k = i + 1; k < j; ++k) rest -= R(i, k) * R(k, j);
      R(i, j) = rest / (R(i, i) + R(j, j));
    }
  }
  return R;
}

/// log(I + X) for ‖X‖₁ ≤ 0.264: its [7/7] Padé approximant, in partial fractions at the nodes x_j
/// and weights w_j of Gauss and Legendre: Σ w_j X (I + x_j X)⁻¹ (Higham, Functions of Matrices,
/// eq. 11.18 and table 11.1).
inline Eigen::MatrixXcd logarithm_near_identity(const Eigen::MatrixXcd& X) {
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
  const Eigen::MatrixXcd identity = Eigen::MatrixXcd::Identity(X.rows(), X.cols());
  Eigen::MatrixXcd sum = Eigen::MatrixXcd::Zero(X.rows(), X.cols());
  for (const Node& node : nodes) {
    const Eigen::MatrixXcd denominator = identity + (node.at + 1) / 2 * X;
    sum += node.weight / 2 * denominator.triangularView<Eigen::Upper>().solve(X);
  }
  return sum;
}

}  // namespace detail

/// The principal logarithm of a square real matrix: the real matrix whose exponential is A and
/// whose eigenvalues have imaginary parts between −π and π.
///
/// Balancing and complex Schur form, square roots until it is close to I, a Padé approximant, and
/// doubling back (Higham, Functions of Matrices, algorithm 11.9). Singular results (eigenvalues 1
/// of A) and defective matrices need no special care. Computed in double for float as well.
///
/// @param A (n, n), float or double
/// @throws ShapeError when A is not square
/// @throws DomainError when A has an eigenvalue on the closed negative real axis, zero included
/// Cost: the Schur form, about 25 n³, and up to n³ a root; allocates.
template <class Derived>
[[nodiscard]] auto matrix_logarithm(const Eigen::MatrixBase<Derived>& A) {
  using T = typename Derived::Scalar;
  constexpr int size = Derived::RowsAtCompileTime;
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  using Result = Eigen::Matrix<T, size, size>;
  if (A.rows() != A.cols())
    detail::throw_shape("matrix_logarithm", "A",
                        detail::to_string(std::array<Index, 2>{A.rows(), A.cols()}),
                        "a square matrix");
  const Index n = A.rows();
  if (n == 0) return Result(A);
  Eigen::MatrixXd balanced = A.template cast<double>();
  if (!balanced.allFinite())
    return Result(Result::Constant(n, n, std::numeric_limits<T>::quiet_NaN()));
  const Eigen::VectorXd scale = detail::balance(balanced);
  const Eigen::ComplexSchur<Eigen::MatrixXd> schur(balanced);
  Eigen::MatrixXcd root = schur.matrixT();

  Eigen::VectorXcd logarithms(n);
  const double rounding = 4 * static_cast<double>(n) * epsilon * detail::one_norm(balanced);
  for (Index i = 0; i < n; ++i) {
    const std::complex<double> eigenvalue = root(i, i);
    if (eigenvalue.real() <= 0 && std::abs(eigenvalue.imag()) <= rounding)
      detail::throw_domain("matrix_logarithm", "an eigenvalue of A",
                           std::to_string(eigenvalue.real()), "off the closed negative real axis");
    logarithms(i) = std::log(eigenvalue);
  }

  // The diagonal of root − I comes from the logarithms, as subtracting 1 would cancel.
  Eigen::MatrixXcd X = root;
  double doubling = 1;
  const auto subtract_identity = [&] {
    X = root;
    for (Index i = 0; i < n; ++i) {
      const std::complex<double> z = logarithms(i) / doubling;
      X(i, i) = z * phi1(z);
    }
  };
  subtract_identity();
  while (detail::one_norm(X) > 0.25 && doubling < 0x1p200) {
    root = detail::triangular_square_root(root);
    doubling *= 2;
    subtract_identity();
  }
  Eigen::MatrixXcd logarithm = doubling * detail::logarithm_near_identity(X);
  logarithm.diagonal() = logarithms;
  const Eigen::MatrixXd real =
      (schur.matrixU() * logarithm.triangularView<Eigen::Upper>() * schur.matrixU().adjoint())
          .real();
  return Result((scale.asDiagonal() * real * scale.cwiseInverse().asDiagonal()).template cast<T>());
}

}  // namespace ssm
