#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"
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
template <class Matrix>
double one_norm(const Matrix& A) {
  double norm = 0;
  for (Index j = 0; j < A.cols(); ++j) {
    double column = 0;
    for (Index i = 0; i < A.rows(); ++i) column += std::abs(A(i, j));
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
    const Index n = M.rows();
    for (Index k = 0; k < n; ++k)
      if (S(k) == 1 && std::abs(M(k, k) + 1.0) < 0.5) {
        M(k, k) += 1.0;
        S(k) = 0;
      }
    if constexpr (with_input) {
      Input next = N;
      for (Index j = 0; j < N.cols(); ++j)
        for (Index i = 0; i < n; ++i) next(i, j) += S(i) * N(i, j);
      add_product_to(next, M, N);
      N = std::move(next);
    }
    Matrix square(n, n);
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < n; ++i) square(i, j) = (S(i) + S(j)) * M(i, j);
    add_product_to(square, M, M);
    M = std::move(square);
  }

  [[nodiscard]] Matrix exponential() const {
    Matrix E = M;
    for (Index k = 0; k < M.rows(); ++k) E(k, k) += S(k);
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
  const Index n = X.rows();
  // what the powers from X² on, as many as are asked for, add up to beside b[j], b[j + 2], …
  const auto sum_of = [&](std::size_t j, std::size_t terms) {
    Matrix sum(n, n);
    for (Index i = 0; i < sum.size(); ++i) sum.data()[i] = b[j] * even[0].data()[i];
    for (std::size_t term = 1; term < terms; ++term)
      for (Index i = 0; i < sum.size(); ++i)
        sum.data()[i] += b[j + 2 * term] * even[term].data()[i];
    return sum;
  };
  const std::size_t terms = degree == 13 ? 3 : static_cast<std::size_t>(degree / 2);
  Matrix V = sum_of(2, terms), odd = sum_of(3, terms);
  if (degree == 13) {
    add_product_to(V, even[2], sum_of(8, 3));
    add_product_to(odd, even[2], sum_of(9, 3));
  }
  for (Index k = 0; k < n; ++k) {
    V(k, k) += b[0];
    odd(k, k) += b[1];
  }
  Matrix U = multiply(X, odd);
  for (Index i = 0; i < V.size(); ++i) V.data()[i] -= U.data()[i];
  const SmallLu<Matrix> denominator(std::move(V));
  ExponentialParts<Matrix, Input> parts;
  if constexpr (ExponentialParts<Matrix, Input>::with_input) {
    Input right = multiply(odd, F);
    constexpr int size = Matrix::RowsAtCompileTime, inputs = Input::ColsAtCompileTime;
    if constexpr (size != Eigen::Dynamic && inputs != Eigen::Dynamic && !is_large<Matrix>) {
      Eigen::Matrix<typename Matrix::Scalar, size, size + inputs, Eigen::RowMajor> both;
      for (Index i = 0; i < n; ++i) {
        for (Index j = 0; j < n; ++j) both(i, j) = 2.0 * U(i, j);
        for (Index j = 0; j < inputs; ++j) both(i, n + j) = 2.0 * right(i, j);
      }
      denominator.solve_rows(both);
      for (Index i = 0; i < n; ++i) {
        for (Index j = 0; j < n; ++j) parts.M(i, j) = both(i, j);
        for (Index j = 0; j < inputs; ++j) parts.N(i, j) = both(i, n + j);
      }
    } else {
      U *= 2.0;
      right *= 2.0;
      parts.M = denominator.solve(std::move(U));
      parts.N = denominator.solve(std::move(right));
    }
  } else {
    U *= 2.0;
    parts.M = denominator.solve(std::move(U));
    parts.N.resize(n, 0);
  }
  parts.S.setOnes(n);
  return parts;
}

/// How often X must be halved so that rounding in the Padé sums does not show: ℓ of Al-Mohy &
/// Higham (2009), eq. (5.1), from the norm of |X|^(2m+1).
template <class Matrix>
int halvings_for_rounding(const Matrix& X, int degree) {
  const Index n = X.rows();
  const double norm = one_norm(X);
  double coefficient = 1;  // (2m)! (2m+1)! / (m!)²
  for (int j = 1; j <= degree; ++j) coefficient *= double(degree + j) / j;
  double whole = coefficient, bound = 0x1p53;  // ‖X‖^(2m), which bounds the norm sought over ‖X‖
  for (int j = 1; j <= 2 * degree + 1; ++j) whole *= j;
  for (int j = 0; j < 2 * degree; ++j) bound *= norm;
  if (bound <= whole) return 0;
  // |X| with its rows in adjacent memory, so that a product with it is a sum of vectors
  Eigen::Matrix<double, Matrix::ColsAtCompileTime, Matrix::RowsAtCompileTime> size(n, n);
  for (Index k = 0; k < n; ++k)
    for (Index i = 0; i < n; ++i) size(k, i) = std::abs(X(i, k));
  DiagonalOf<Matrix> row(n), next(n);
  row.setOnes();
  double growth = 1;    // the largest of the row
  double exponent = 0;  // of two, taken out of the row
  for (int j = 1; j <= 2 * degree + 1; ++j) {
    coefficient *= j;
    next.setZero();
    for (Index i = 0; i < n; ++i)
      for (Index k = 0; k < n; ++k) next(k) += row(i) * size(k, i);
    growth = 0;
    for (Index k = 0; k < n; ++k)
      if (next(k) > growth) growth = next(k);
    row = next;
    if (growth == 0) return 0;
    if (growth > 1e100 || growth < 1e-100) {
      const int power = std::ilogb(growth);
      row *= std::ldexp(1.0, -power);
      growth = std::ldexp(growth, -power);
      exponent += power;
    }
  }
  const double excess = exponent + std::log2(growth) - std::log2(coefficient) - std::log2(norm) +
                        53;  // unit roundoff 2^-53
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
  const auto pade_of_13 = [&](int more) {
    if (more > 0) {
      X *= std::ldexp(1.0, -more);
      for (int i = 0; i < 3; ++i)
        even[static_cast<std::size_t>(i)] *= std::ldexp(1.0, -2 * (i + 1) * more);
      halvings += more;
    }
    const Input F = B * std::ldexp(1.0, -halvings);
    auto parts = pade(13, X, even, F);
    for (int i = 0; i < halvings; ++i) parts.double_step();
    return parts;
  };
  even[0] = multiply(X, X);
  // Where one halving or none brings the norm below the bound, the bounds that spare halvings cost
  // more than they spare.
  constexpr double widest = pade_degrees.back().bound, next = pade_degrees[3].bound;
  if (norm > next && norm <= 2 * widest) {
    even[1] = multiply(even[0], even[0]);
    even[2] = multiply(even[0], even[1]);
    return pade_of_13(norm > widest ? 1 : 0);
  }
  for (const PadeDegree& candidate : pade_degrees) {  // ‖X‖ bounds every ‖X^p‖^(1/p)
    const int degree = candidate.degree;
    if (degree == 13) break;
    if (degree == 5) even[1] = multiply(even[0], even[0]);
    if (degree == 7) even[2] = multiply(even[0], even[1]);
    if (degree == 9) even[3] = multiply(even[1], even[1]);
    if (norm <= candidate.bound) return pade(degree, X, even, B);
  }

  // ‖X^p‖^(1/p) can lie far below ‖X‖, and is what the truncation error depends on.
  const double d4 = std::sqrt(std::sqrt(one_norm(even[1])));
  const double d6 = std::cbrt(std::sqrt(one_norm(even[2])));
  const double d8 = std::sqrt(std::sqrt(std::sqrt(one_norm(even[3]))));
  const double low = (std::max)(d4, d6);
  const double high = (std::max)(d6, d8);

  for (const PadeDegree& candidate : pade_degrees) {
    const int degree = candidate.degree;
    if (degree < 13 && halvings == 0 && (degree <= 5 ? low : high) <= candidate.bound &&
        halvings_for_rounding(X, degree) == 0)
      return pade(degree, X, even, B);
  }
  const auto halvings_to_bound = [](double size) {
    return size > widest ? static_cast<int>(std::ceil(std::log2(size / widest))) : 0;
  };
  const double d10 = std::pow(one_norm(multiply(even[1], even[2])), 0.1);
  const int for_truncation = halvings_to_bound((std::min)(high, (std::max)(d8, d10)));
  const int for_rounding = halvings_for_rounding(Matrix(X * std::ldexp(1.0, -for_truncation)), 13);
  return pade_of_13((std::min)(for_truncation + for_rounding, halvings_to_bound(one_norm(X))));
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

/// e^A, of a square A that comes as a Matrix of its scalar in double precision.
template <class Result, class Matrix>
Result exponential_of(Matrix A) {
  const DiagonalOf<Matrix> scale = balance_in_own_units(A);
  Matrix exponential = exponential_of_balanced(A);
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < A.rows(); ++i)
      exponential(i, j) = rescaled(exponential(i, j), scale(i), scale(j));
  if constexpr (std::is_same_v<Result, Matrix>)
    return exponential;
  else
    return exponential.template cast<typename Result::Scalar>();
}

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
  using Result = Eigen::Matrix<Scalar, size, size>;
  if constexpr (size == Eigen::Dynamic && std::is_same_v<typename Matrix::Scalar, double>) {
    constexpr int few = 8;  // allocating takes longer than their arithmetic
    using Small = Eigen::Matrix<double, size, size, Eigen::ColMajor, few, few>;
    if (A.rows() <= few) return detail::exponential_of<Result>(Small(A.template cast<double>()));
  }
  return detail::exponential_of<Result>(Matrix(A.template cast<typename Matrix::Scalar>()));
}

}  // namespace ssm
