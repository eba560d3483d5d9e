#pragma once

#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/controllability.hpp"
#include "ssm/system/pole_placement.hpp"

SSM_BEGIN_COMPILED

/// The real poles, then one of each conjugate pair, the one above the real axis.
SSM_INLINE Poles half_of_conjugates(std::string_view function, Poles poles, double tolerance) {
  Poles half, upper;
  for (const auto& pole : poles)
    if (pole.imag() == 0) half.push_back(pole);
  std::erase_if(poles, [](const auto& pole) { return pole.imag() == 0; });
  while (!poles.empty()) {
    const std::complex<double> pole = poles.back();
    poles.pop_back();
    const auto partner = std::find_if(poles.begin(), poles.end(), [&](const auto& other) {
      return std::abs(other - std::conj(pole)) <= tolerance * std::abs(pole);
    });
    if (partner == poles.end())
      throw_domain(function, "poles", "without the conjugate of one", "conjugate pairs");
    poles.erase(partner);
    upper.emplace_back(pole.real(), std::abs(pole.imag()));
  }
  half.insert(half.end(), upper.begin(), upper.end());
  return half;
}

/// The row k for which A − b k has the given poles, where W gives H = Wᵀ A W, W's first column
/// is b, and H is Hessenberg without a zero below its diagonal: k = e_nᵀ φ(H) Wᵀ / Π h_{i+1,i},
/// Ackermann's formula without the matrix [b Ab A²b …].
template <class Matrix>
Matrix place_by_one_input(const Matrix& A, const Matrix& basis, const Poles& half) {
  const Index n = A.rows();
  const Eigen::HessenbergDecomposition<Matrix> hessenberg(basis.transpose() * A * basis);
  const Matrix H = hessenberg.matrixH();
  const Matrix W = basis * Matrix(hessenberg.matrixQ());
  using Row = Eigen::Matrix<typename Matrix::Scalar, 1, Eigen::Dynamic>;
  Row k = Row::Unit(n, n - 1);
  Index below = n - 1;  // the next of the entries below the diagonal to divide by
  const auto divide = [&] {
    if (below > 0) k /= H(below, below - 1);
    --below;
  };
  for (const auto& pole : half) {
    if (pole.imag() == 0) {
      k = (k * H - pole.real() * k).eval();
    } else {
      const Row first = k * H - 2 * pole.real() * k;
      k = (first * H + std::norm(pole) * k).eval();
      divide();
    }
    divide();
  }
  return k * W.transpose();
}

/// The closed loop X Λ X⁻¹ with eigenvectors in the subspaces that B allows, chosen to make |det X|
/// large, one vector or conjugate pair after the other: Kautsky, Nichols & Van Dooren (1985),
/// method 0, with the rank-2 updates of Tits & Yang (1996) for pairs. The first `rank` columns of
/// `basis` span the range of B.
template <class Matrix>
Matrix place_by_many_inputs(const Matrix& A, const Matrix& basis, Index rank, const Poles& half) {
  using Complex =
      Eigen::Matrix<std::complex<typename Matrix::Scalar>, Eigen::Dynamic, Eigen::Dynamic>;
  using ComplexColumn = Eigen::Matrix<std::complex<typename Matrix::Scalar>, Eigen::Dynamic, 1>;
  constexpr int most_sweeps = 100;
  const Index n = A.rows();
  const Matrix outside = basis.rightCols(n - rank);

  // Columns of X: one for a real pole, real and imaginary part for a pair.
  std::vector<Complex> allowed;
  Matrix X(n, n), Lambda = Matrix::Zero(n, n);
  Index at = 0;
  for (const auto& pole : half) {
    Complex shifted = A.template cast<std::complex<double>>();
    shifted.diagonal().array() -= pole;
    const Complex normal = shifted.adjoint() * outside.template cast<std::complex<double>>();
    const Complex Q = Eigen::HouseholderQR<Complex>(normal).householderQ();
    allowed.push_back(Q.rightCols(rank));
    ComplexColumn start(rank);
    for (Index i = 0; i < rank; ++i)  // anything in general position
      start(i) = {std::cos(double(1 + at + 2 * i * i)), std::sin(double(2 + 3 * at + i))};
    const ComplexColumn x = allowed.back() * start;
    X.col(at) = x.real().normalized();
    Lambda(at, at) = pole.real();
    if (pole.imag() != 0) {
      X.col(at + 1) = x.imag().normalized();
      Lambda(at + 1, at + 1) = pole.real();
      Lambda(at, at + 1) = pole.imag();
      Lambda(at + 1, at) = -pole.imag();
    }
    at += pole.imag() == 0 ? 1 : 2;
  }

  double gain = 2;  // of |det X| in the last sweep
  for (int sweep = 0; sweep < most_sweeps && gain > 1.001; ++sweep) {
    gain = 1;
    at = 0;
    for (std::size_t j = 0; j < half.size(); ++j) {
      const Index width = half[j].imag() == 0 ? 1 : 2;
      Matrix others(n, n - width);
      others << X.leftCols(at), X.rightCols(n - at - width);
      const Matrix Q = Eigen::HouseholderQR<Matrix>(others).householderQ();
      const Matrix free = Q.rightCols(width);
      const double before = std::abs((free.transpose() * X.middleCols(at, width)).determinant());
      const Complex g = free.transpose().template cast<std::complex<double>>() * allowed[j];
      if (width == 1) {
        X.col(at) = (allowed[j] * g.adjoint()).real().col(0).normalized();
      } else {
        // |det X| is proportional to |Im(g₁z · conj(g₂z))|, a Hermitian form in z
        const Complex cross = std::complex<double>(0, 0.5) *
                              (g.row(0).adjoint() * g.row(1) - g.row(1).adjoint() * g.row(0));
        const Eigen::SelfAdjointEigenSolver<Complex> form(cross);
        const auto& values = form.eigenvalues();
        const Index best = std::abs(values(0)) > std::abs(values(rank - 1)) ? 0 : rank - 1;
        const ComplexColumn x = allowed[j] * form.eigenvectors().col(best);
        X.col(at) = x.real() * std::sqrt(2.0);
        X.col(at + 1) = x.imag() * std::sqrt(2.0);
      }
      const double after = std::abs((free.transpose() * X.middleCols(at, width)).determinant());
      gain *= before > 0 ? after / before : 2;
      at += width;
    }
  }
  const Matrix right = (X * Lambda).transpose();
  return Eigen::PartialPivLU<Matrix>(X.transpose()).solve(right).transpose();
}

template <class Matrix>
RealMatrix place_poles(const RealMatrix& dynamics, const RealMatrix& inputs, const Poles& half) {
  constexpr std::string_view function = "place_poles";
  if (dynamics.rows() == 0) return RealMatrix(inputs.cols(), 0);
  if (reachable_dimension(dynamics, inputs) < dynamics.rows())
    throw_domain(function, "(A, B)", "not controllable", "controllable");
  Matrix A = to_eigen<Matrix>(dynamics), B = to_eigen<Matrix>(inputs);
  const DiagonalOf<Matrix> scale = balance(A);
  B = scale.cwiseInverse().asDiagonal() * B;
  const Eigen::ColPivHouseholderQR<Matrix> range(B);
  const Matrix basis = range.householderQ();
  Matrix change;  // A minus the closed loop
  if (range.rank() == 1) {
    change = basis.col(0) * place_by_one_input(A, basis, half);
  } else {
    for (const auto& pole : half)
      if (std::count(half.begin(), half.end(), pole) > range.rank())
        throw_domain(function, "the multiplicity of a pole", "above the rank of B",
                     "at most " + std::to_string(range.rank()));
    change = A - place_by_many_inputs(A, basis, range.rank(), half);
  }
  const Matrix K = range.solve(change);
  return RealMatrix(Matrix(K * scale.cwiseInverse().asDiagonal()));
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE RealMatrix place_poles<Eigen::MatrixXd>(const RealMatrix&, const RealMatrix&,
                                                     const Poles&);
#endif

SSM_END_COMPILED
