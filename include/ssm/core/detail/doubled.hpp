#pragma once

#include <cmath>
#include <utility>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/index.hpp"

namespace ssm::detail {

/// A matrix to twice the precision of double: the sum of `high`, which is the sum rounded, and
/// `low`.
template <class Matrix>
struct Doubled {
  Matrix high, low;

  explicit Doubled(Matrix matrix) : high(std::move(matrix)) {
    low = Matrix::Zero(high.rows(), high.cols());
  }
  /// The sum of any two matrices, to twice the precision of double (Knuth's TwoSum).
  Doubled(const Matrix& a, const Matrix& b) : high(a + b) {
    const Matrix b_part = high - a;
    low = (a - (high - b_part)) + (b - b_part);
  }

  [[nodiscard]] Doubled transpose() const {
    Doubled result(Matrix(high.transpose()));
    result.low = low.transpose();
    return result;
  }

  friend Doubled operator+(const Doubled& a, const Doubled& b) {
    Doubled sum(a.high, b.high);
    return Doubled(sum.high, Matrix(sum.low + a.low + b.low));
  }
  friend Doubled operator-(const Doubled& a, const Doubled& b) {
    Doubled difference(a.high, Matrix(-b.high));
    return Doubled(difference.high, Matrix(difference.low + a.low - b.low));
  }
  /// Ogita, Rump & Oishi (2005), algorithm 5.3 (Dot2), for each element.
  friend Doubled operator*(const Doubled& a, const Doubled& b) {
    Matrix sum = Matrix::Zero(a.high.rows(), b.high.cols());
    Matrix rest = a.high * b.low + a.low * b.high;
    for (Index j = 0; j < b.high.cols(); ++j)
      for (Index k = 0; k < a.high.cols(); ++k)
        for (Index i = 0; i < a.high.rows(); ++i) {
          const double x = a.high(i, k), y = b.high(k, j), old = sum(i, j);
          const double product = x * y, next = old + product, part = next - old;
          rest(i, j) += std::fma(x, y, -product) + ((old - (next - part)) + (product - part));
          sum(i, j) = next;
        }
    return Doubled(sum, rest);
  }
};

}  // namespace ssm::detail
