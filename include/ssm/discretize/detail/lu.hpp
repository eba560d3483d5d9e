#pragma once

#include <Eigen/Core>
#include <cmath>

#include "ssm/core/index.hpp"

namespace ssm::detail {

/// P A = L U with partial pivoting, for the small matrices of a system: column operations only,
/// which never allocate for a fixed size, in a hundredth of the code that a blocked factorization
/// compiles to. A zero pivot leaves infinities and NaN in the solution.
template <class Matrix>
class Lu {
 public:
  explicit Lu(const Matrix& A) : factors_(A), rows_(A.rows()) {
    const Index n = A.rows();
    for (Index k = 0; k < n; ++k) {
      Index pivot = k;
      for (Index i = k + 1; i < n; ++i)
        if (std::abs(factors_(i, k)) > std::abs(factors_(pivot, k))) pivot = i;
      rows_(k) = pivot;
      if (pivot != k) factors_.row(k).swap(factors_.row(pivot));
      const Index below = n - k - 1;
      factors_.col(k).tail(below) /= factors_(k, k);
      for (Index j = k + 1; j < n; ++j)
        factors_.col(j).tail(below) -= factors_(k, j) * factors_.col(k).tail(below);
    }
  }

  /// L below the diagonal, where it has ones, and U on it and above.
  [[nodiscard]] const Matrix& factors() const noexcept { return factors_; }

  /// P B, in place.
  template <class Rhs>
  void permute(Rhs& B) const {
    for (Index k = 0; k < B.rows(); ++k)
      if (rows_(k) != k) B.row(k).swap(B.row(rows_(k)));
  }

  /// A⁻¹ B.
  template <class Rhs>
  [[nodiscard]] Rhs solve(Rhs B) const {
    permute(B);
    const Index n = B.rows();
    for (Index j = 0; j < B.cols(); ++j) {
      for (Index k = 0; k < n; ++k)
        B.col(j).tail(n - k - 1) -= B(k, j) * factors_.col(k).tail(n - k - 1);
      for (Index k = n; k-- > 0;) {
        B(k, j) /= factors_(k, k);
        B.col(j).head(k) -= B(k, j) * factors_.col(k).head(k);
      }
    }
    return B;
  }

 private:
  Matrix factors_;
  Eigen::Matrix<Index, Matrix::RowsAtCompileTime, 1> rows_;  ///< k was swapped with rows_(k)
};

}  // namespace ssm::detail
