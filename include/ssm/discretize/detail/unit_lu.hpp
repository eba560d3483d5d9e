#pragma once

#include <cmath>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"

namespace ssm::detail {

/// A SmallLu of S⁻¹ A S with S of own_units, which solves with A: powers of two in the units of A
/// change no pivot, and so no digit of the results.
template <class Matrix>
class UnitLu {
  using T = typename Matrix::Scalar;

 public:
  explicit UnitLu(Matrix A) : scale_(units(A)), lu_(scaled(std::move(A))) {}

  /// The factors of S⁻¹ A S.
  [[nodiscard]] const SmallLu<Matrix>& inner() const noexcept { return lu_; }
  /// S⁻¹ A S, or of another matrix.
  [[nodiscard]] Matrix scaled(Matrix A) const {
    for (Index j = 0; j < A.cols(); ++j)
      for (Index i = 0; i < A.rows(); ++i) A(i, j) = A(i, j) * scale_(j) / scale_(i);
    return A;
  }

  /// A⁻¹ B; not finite for a singular A.
  template <class B>
  [[nodiscard]] B solve(B b) const {
    divide(b);
    b = lu_.solve(std::move(b));
    multiply(b);
    return b;
  }
  /// A⁻ᵀ B.
  template <class B>
  [[nodiscard]] B solve_transposed(B b) const {
    multiply(b);
    b = lu_.solve_transposed(std::move(b));
    divide(b);
    return b;
  }

 private:
  using Scale = Eigen::Matrix<T, Matrix::RowsAtCompileTime, 1>;

  static Scale units(const Matrix& A) {
    const auto wide = own_units(A);
    Scale scale(A.rows());
    for (Index i = 0; i < A.rows(); ++i) {
      scale(i) = static_cast<T>(wide(i));
      if (!std::isnormal(scale(i)) || !std::isnormal(1 / scale(i))) {
        scale.setOnes();  // units that are further apart than T can say
        break;
      }
    }
    return scale;
  }
  template <class B>
  void multiply(B& b) const {
    for (Index j = 0; j < b.cols(); ++j)
      for (Index i = 0; i < b.rows(); ++i) b(i, j) *= scale_(i);
  }
  template <class B>
  void divide(B& b) const {
    for (Index j = 0; j < b.cols(); ++j)
      for (Index i = 0; i < b.rows(); ++i) b(i, j) /= scale_(i);
  }

  Scale scale_;
  SmallLu<Matrix> lu_;
};

}  // namespace ssm::detail
