#pragma once

#include <Eigen/Core>
#include <Eigen/LU>
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <type_traits>

#include "ssm/core/balance.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"

namespace ssm {
namespace detail {

/// Degrees of the diagonal Padé approximants of e^X, and the sizes of X up to which each is exact
/// to the unit roundoff of double: Higham (2005), table 2.3, and Al-Mohy & Higham (2009), eq.
/// (3.6).
struct PadeDegree {
  int degree;
  double bound;
};
inline constexpr std::array<PadeDegree, 5> pade_degrees{{{3, 1.495585217958292e-2},
                                                         {5, 2.539398330063230e-1},
                                                         {7, 9.504178996162932e-1},
                                                         {9, 2.097847961257068},
                                                         {13, 4.25}}};

/// The coefficients of the numerator of degree m: (2m − j)! m! / ((2m)! j! (m − j)!), j = 0..m.
inline std::array<double, 14> pade_coefficients(int degree) {
  std::array<double, 14> b{};
  double value = 1;
  for (int j = 0; j <= degree; ++j) {
    b[static_cast<std::size_t>(j)] = value;
    value *= double(degree - j) / (double(2 * degree - j) * double(j + 1));
  }
  return b;
}

/// The largest 1-norm of a column; NaN when an element is.
template <class Derived>
double one_norm(const Eigen::MatrixBase<Derived>& A) {
  double norm = 0;
  for (Index j = 0; j < A.cols(); ++j) {
    const double column = A.col(j).cwiseAbs().sum();
    if (!(column <= norm)) norm = column;
  }
  return norm;
}

/// The exponential of X with the response to an input beside it, on their way up by doubling X:
///
///   M = e^X − S  and  N = φ₁(X) F,  the blocks of exp([X F; 0 0]) = [M + S  N; 0 I].
///
/// A slow mode next to a fast one is 1 − tiny for most doublings, and the 1 would drown the rest.
/// So a diagonal S is held apart, 1 where the diagonal of e^X is large and 0 where it is small:
/// both kinds of mode keep their digits.
template <class Matrix, class Input>
struct ExponentialParts {
  static constexpr bool with_input = Input::ColsAtCompileTime != 0;

  Matrix M;
  Input N;
  DiagonalOf<Matrix> S;

  /// The same for 2X and 2F. As S² = S, M ← M² + S M + M S and N ← M N + S N + N.
  void double_step() {
    for (Index k = 0; k < M.rows(); ++k)
      if (S(k) == 1 && std::abs(M(k, k) + 1.0) < 0.5) {
        M(k, k) += 1.0;
        S(k) = 0;
      }
    if constexpr (with_input) N = (M * N + S.asDiagonal() * N + N).eval();
    M = (M * M + S.asDiagonal() * M + M * S.asDiagonal()).eval();
  }

  [[nodiscard]] Matrix exponential() const {
    Matrix E = M;
    E.diagonal() += S;
    return E;
  }
};

/// The Padé approximant r = (V − U)⁻¹ (V + U) of e^X, given X and X², X⁴, X⁶, X⁸ as far as the
/// degree needs them: U = X O holds the odd powers, V the even ones, so that r − I = 2 (V − U)⁻¹ U,
/// and φ₁(X) F = (r − I) X⁻¹ F = 2 (V − U)⁻¹ O F.
template <class Matrix, class Input>
ExponentialParts<Matrix, Input> pade(int degree, const Matrix& X, const std::array<Matrix, 4>& even,
                                     const Input& F) {
  const std::array<double, 14> b = pade_coefficients(degree);
  Matrix V = b[0] * Matrix::Identity(X.rows(), X.rows());
  Matrix odd = b[1] * Matrix::Identity(X.rows(), X.rows());
  const std::size_t terms = degree == 13 ? 3 : static_cast<std::size_t>(degree / 2);
  for (std::size_t i = 0; i < terms; ++i) {
    V += b[2 * i + 2] * even[i];
    odd += b[2 * i + 3] * even[i];
  }
  if (degree == 13) {
    V += even[2] * (b[12] * even[2] + b[10] * even[1] + b[8] * even[0]);
    odd += even[2] * (b[13] * even[2] + b[11] * even[1] + b[9] * even[0]);
  }
  const Matrix U = X * odd;
  const Eigen::PartialPivLU<Matrix> denominator(V - U);
  ExponentialParts<Matrix, Input> parts;
  parts.M = denominator.solve((2.0 * U).eval());
  if constexpr (Input::ColsAtCompileTime == 0)
    parts.N.resize(X.rows(), 0);
  else
    parts.N = denominator.solve((2.0 * odd * F).eval());
  parts.S.setOnes(X.rows());
  return parts;
}

/// How often X must be halved so that rounding in the Padé sums does not show: ℓ of Al-Mohy &
/// Higham (2009), eq. (5.1), from the norm of |X|^(2m+1).
template <class Matrix>
int halvings_for_rounding(const Matrix& X, int degree) {
  using Row = Eigen::Matrix<double, 1, Matrix::RowsAtCompileTime>;
  const Eigen::Matrix<double, Matrix::RowsAtCompileTime, Matrix::RowsAtCompileTime> size =
      X.cwiseAbs();
  const double norm = one_norm(X);
  double coefficient = 1;  // (2m)! (2m+1)! / (m!)²
  for (int j = 1; j <= degree; ++j) coefficient *= double(degree + j) / j;
  Row row = Row::Ones(X.rows());
  double exponent = 0;  // of two, taken out of the row
  for (int j = 1; j <= 2 * degree + 1; ++j) {
    coefficient *= j;
    row = (row * size).eval();
    const double growth = row.maxCoeff();
    if (growth == 0) return 0;
    if (growth > 1e100 || growth < 1e-100) {
      const int power = std::ilogb(growth);
      row *= std::ldexp(1.0, -power);
      exponent += power;
    }
  }
  const double excess = exponent + std::log2(row.maxCoeff()) - std::log2(coefficient) -
                        std::log2(norm) + 53;  // unit roundoff 2^-53
  return excess > 0 ? static_cast<int>(std::ceil(excess / (2 * degree))) : 0;
}

/// e^A and φ₁(A) B by scaling and squaring, for a double or complex double A, balanced already.
/// The size of B does not matter, as both are linear in it.
template <class Matrix, class Input>
ExponentialParts<Matrix, Input> exponential_of_balanced(const Matrix& A, const Input& B) {
  const Index n = A.rows();
  const double norm = one_norm(A);
  if (!std::isfinite(norm)) {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    return {Matrix::Constant(n, n, nan), Input::Constant(n, B.cols(), nan),
            DiagonalOf<Matrix>::Zero(n)};
  }
  if (norm == 0) return {Matrix::Zero(n, n), B, DiagonalOf<Matrix>::Ones(n)};

  int halvings =
      (std::max)(0, std::ilogb(norm) - 100);  // so that the tenth power does not overflow
  Matrix X = A * std::ldexp(1.0, -halvings);
  std::array<Matrix, 4> even;
  even[0] = X * X;
  for (const PadeDegree& candidate : pade_degrees) {  // ‖X‖ bounds every ‖X^p‖^(1/p)
    const int degree = candidate.degree;
    if (degree == 13) break;
    if (degree == 5) even[1] = even[0] * even[0];
    if (degree == 7) even[2] = even[0] * even[1];
    if (degree == 9) even[3] = even[1] * even[1];
    if (norm <= candidate.bound) return pade(degree, X, even, B);
  }

  // ‖X^p‖^(1/p) can lie far below ‖X‖, and is what the truncation error depends on.
  const auto root_norm = [](const auto& power, int p) {
    return std::pow(one_norm(power), 1.0 / p);
  };
  const double d6 = root_norm(even[2], 6);
  const double d8 = root_norm(even[3], 8);
  const double low = (std::max)(root_norm(even[1], 4), d6);
  const double high = (std::max)(d6, d8);

  int degree = 0;
  for (const PadeDegree& candidate : pade_degrees) {
    degree = candidate.degree;
    if (degree == 13) {
      const auto halvings_to_bound = [&](double size) {
        return size > candidate.bound
                   ? static_cast<int>(std::ceil(std::log2(size / candidate.bound)))
                   : 0;
      };
      const double d10 = root_norm((even[1] * even[2]).eval(), 10);
      const int for_truncation = halvings_to_bound((std::min)(high, (std::max)(d8, d10)));
      const int for_rounding =
          halvings_for_rounding((X * std::ldexp(1.0, -for_truncation)).eval(), degree);
      const int more = (std::min)(for_truncation + for_rounding, halvings_to_bound(one_norm(X)));
      X *= std::ldexp(1.0, -more);
      for (int i = 0; i < 4; ++i)
        even[static_cast<std::size_t>(i)] *= std::ldexp(1.0, -2 * (i + 1) * more);
      halvings += more;
    } else if (halvings == 0 && (degree <= 5 ? low : high) <= candidate.bound &&
               halvings_for_rounding(X, degree) == 0) {
      break;
    }
  }

  const Input F = B * std::ldexp(1.0, -halvings);
  auto parts = pade(degree, X, even, F);
  for (int i = 0; i < halvings; ++i) parts.double_step();
  return parts;
}

/// e^A alone.
template <class Matrix>
Matrix exponential_of_balanced(const Matrix& A) {
  using NoInput = Eigen::Matrix<typename Matrix::Scalar, Matrix::RowsAtCompileTime, 0>;
  return exponential_of_balanced(A, NoInput(A.rows(), 0)).exponential();
}

/// The same scalar, real or complex, in double precision.
template <class Scalar>
using InDouble =
    std::conditional_t<Eigen::NumTraits<Scalar>::IsComplex, std::complex<double>, double>;

}  // namespace detail

/// e^A of a square matrix.
///
/// Diagonal balancing by powers of two, then scaling and squaring with a diagonal Padé
/// approximant whose degree and scaling follow ‖A^p‖^(1/p) (Al-Mohy & Higham, "A new scaling and
/// squaring algorithm for the matrix exponential", 2009, algorithm 5.1). Singular, defective and
/// stiff matrices need no special care. Computed in double for float as well.
///
/// @param A (n, n), real or complex, float or double
/// @throws ShapeError when A is not square
/// Cost: about (7 + s) products of n × n matrices, s ≈ log₂ of the norm of the balanced A; no
/// allocation for a fixed size. A NaN or an infinity gives NaN everywhere.
template <class Derived>
[[nodiscard]] auto matrix_exponential(const Eigen::MatrixBase<Derived>& A) {
  using Scalar = typename Derived::Scalar;
  constexpr int size = Derived::RowsAtCompileTime;
  using Matrix = Eigen::Matrix<detail::InDouble<Scalar>, size, size>;
  if (A.rows() != A.cols())
    detail::throw_shape("matrix_exponential", "A",
                        detail::to_string(std::array<Index, 2>{A.rows(), A.cols()}),
                        "a square matrix");
  Matrix balanced = A.template cast<typename Matrix::Scalar>();
  const detail::DiagonalOf<Matrix> scale = detail::balance(balanced);
  Matrix exponential = detail::exponential_of_balanced(balanced);
  exponential = scale.asDiagonal() * exponential * scale.cwiseInverse().asDiagonal();
  return Eigen::Matrix<Scalar, size, size>(exponential.template cast<Scalar>());
}

}  // namespace ssm
