#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/index.hpp"

namespace ssm::detail {

template <class Matrix>
struct DiagonalOfMatrix {
  using type = Eigen::Matrix<double, Matrix::RowsAtCompileTime, 1, Eigen::ColMajor,
                             Matrix::MaxRowsAtCompileTime, 1>;
};

/// A column of real numbers, as many as a matrix has rows.
template <class Matrix>
using DiagonalOf = typename DiagonalOfMatrix<Matrix>::type;

/// 2^k with k the nearest integer to log₂(row/column)/2, of positive finite numbers.
inline double even_out(double row, double column) noexcept {
  constexpr int mantissa_bits = 52, bias = 1023, most = 1000;
  // The bits of a positive number grow with it, an exponent's worth for every power of two.
  const std::int64_t binades =
      (std::bit_cast<std::int64_t>(row) - std::bit_cast<std::int64_t>(column)) >> mantissa_bits;
  const std::int64_t k = std::clamp<std::int64_t>((binades + 1) >> 1, -most, most);
  return std::bit_cast<double>((k + bias) << mantissa_bits);
}

/// Replaces A by S⁻¹ A S with a diagonal S of powers of two that evens out the off-diagonal
/// 1-norms of row i and column i, and returns the diagonal of S. Exact but for underflow.
/// Parlett & Reinsch (1969), algorithm balance, without permutations.
template <class Matrix>
DiagonalOf<Matrix> balance(Matrix& A) {
  constexpr int sweeps = 100;  // a sweep that changes nothing ends it, nearly always within ten
  const Index n = A.rows();
  DiagonalOf<Matrix> scale(n);
  for (Index i = 0; i < n; ++i) scale(i) = 1;
  bool changed = true;
  for (int sweep = 0; changed && sweep < sweeps; ++sweep) {
    changed = false;
    for (Index i = 0; i < n; ++i) {
      double column = 0, row = 0;
      for (Index j = 0; j < n; ++j)
        if (j != i) {
          column += std::abs(A(j, i));
          row += std::abs(A(i, j));
        }
      if (!(column > 0 && row > 0 && std::isfinite(column) && std::isfinite(row))) continue;
      const double factor = even_out(row, column), inverse = 1 / factor;
      if (factor == 1) continue;
      const double total = scale(i) * factor;
      const bool pays = column * factor + row * inverse < 0.95 * (column + row);
      if (!pays || !std::isnormal(total) || !std::isnormal(1.0 / total)) continue;
      scale(i) = total;
      for (Index j = 0; j < n; ++j)
        if (j != i) {
          A(j, i) *= factor;
          A(i, j) *= inverse;
        }
      changed = true;
    }
  }
  return scale;
}

/// x scale/inverse of two powers of two, also where their quotient is none that double holds.
template <class Scalar>
[[nodiscard]] Scalar rescaled(const Scalar& x, double scale, double inverse) noexcept {
  const double factor = scale / inverse;
  return std::isnormal(factor) ? x * factor : x * scale / inverse;
}

/// A diagonal S of powers of two for which S⁻¹ A S is the same whatever powers of two the units of
/// A were, and near balance: state by state, the row and the column towards those before it evened
/// out; where only one of the two is not 0, that one as large as the state's own element.
template <class Matrix>
DiagonalOf<Matrix> own_units(const Matrix& A) {
  const Index n = A.rows();
  DiagonalOf<Matrix> scale(n), row(n), column(n);  // towards the states before, in their units
  for (Index i = 0; i < n; ++i) {
    scale(i) = 0;  // not known yet
    row(i) = column(i) = 0;
  }
  for (Index count = 0; count < n; ++count) {
    Index next = -1, links = -1;  // the first of the states that have most links
    for (Index i = 0; i < n && links < 2; ++i) {
      if (scale(i) != 0) continue;
      const Index found = (row(i) > 0) + (column(i) > 0);
      if (found <= links) continue;
      links = found;
      next = i;
    }
    double unit = 1;
    if (links > 0) {
      const double own = std::abs(A(next, next)), link = (std::max)(row(next), column(next));
      constexpr double of_integrator = 0x1p-8;  // its exponential takes least there
      const double target = std::isnormal(own) ? own : of_integrator;
      if (links == 2)
        unit = even_out(row(next), column(next));
      else
        unit = std::ldexp(1.0, row(next) > 0 ? std::ilogb(link) - std::ilogb(target)
                                             : std::ilogb(target) - std::ilogb(link));
      if (!(unit > 0x1p-400 &&
            unit < 0x1p400)) {  // further apart than double can say, or no number
        for (Index i = 0; i < n; ++i) scale(i) = 1;
        return scale;
      }
    }
    scale(next) = unit;
    const double inverse = 1 / unit;
    for (Index i = 0; i < n; ++i) row(i) += std::abs(A(i, next)) * unit;
    for (Index i = 0; i < n; ++i) column(i) += std::abs(A(next, i)) * inverse;
  }
  return scale;
}

/// balance of A in own_units: powers of two in the units of A scale the result and change no digit.
template <class Matrix>
DiagonalOf<Matrix> balance_in_own_units(Matrix& A) {
  const Index n = A.rows();
  const DiagonalOf<Matrix> start = own_units(A);
  for (Index i = 0; i < n; ++i) {
    const double factor = start(i), inverse = 1 / factor;
    if (factor == 1) continue;
    for (Index j = 0; j < n; ++j)
      if (j != i) {
        A(j, i) *= factor;
        A(i, j) *= inverse;
      }
  }
  DiagonalOf<Matrix> scale = balance(A);
  for (Index i = 0; i < n; ++i) scale(i) *= start(i);
  return scale;
}

}  // namespace ssm::detail
