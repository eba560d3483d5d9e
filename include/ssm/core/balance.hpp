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
  using type = Eigen::Matrix<double, Matrix::RowsAtCompileTime, 1>;
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

}  // namespace ssm::detail
