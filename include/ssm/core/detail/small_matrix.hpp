#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/index.hpp"

// Products and factorisations of Eigen's matrices in plain loops, without its machinery of
// expressions, which takes the compiler seconds a size. Nothing allocates for fixed sizes.

namespace ssm::detail {

/// True for a matrix of double whose size is known at run time, or so large that it gains nothing
/// by being known: its loops run in tiles and are compiled once for all sizes.
template <class Matrix>
inline constexpr bool is_large =
    std::is_same_v<typename Matrix::Scalar, double> && !Matrix::IsRowMajor &&
    (Matrix::RowsAtCompileTime == Eigen::Dynamic ? Matrix::ColsAtCompileTime == Eigen::Dynamic
                                                 : Matrix::RowsAtCompileTime > 8);
/// True for a factor on the right of one that is large.
template <class Matrix>
inline constexpr bool beside_large = is_large<Matrix> ||
                                     (std::is_same_v<typename Matrix::Scalar, double> &&
                                      !Matrix::IsRowMajor &&
                                      Matrix::SizeAtCompileTime != Eigen::Dynamic);

/// The type of A B: of at most so many rows and columns where A and B are.
template <class A, class B, class T = typename A::Scalar, int Rows = A::RowsAtCompileTime,
          int Cols = B::ColsAtCompileTime>
using ProductOf = std::conditional_t<
    Rows == Eigen::Dynamic && A::MaxRowsAtCompileTime != Eigen::Dynamic,
    Eigen::Matrix<T, Rows, Cols, Eigen::ColMajor, A::MaxRowsAtCompileTime, B::MaxColsAtCompileTime>,
    Eigen::Matrix<T, Rows, Cols>>;

/// C += A B; C is neither A nor B.
template <class C, class A, class B>
void add_product_to(C& c, const A& a, const B& b) {
  const Index rows = a.rows(), depth = a.cols(), cols = b.cols();
  if constexpr (is_large<C> && is_large<A> && beside_large<B>) {
    add_product({c.data(), rows, cols, rows}, 1, {a.data(), rows, depth, rows},
                {b.data(), depth, cols, depth});
  } else {
    for (Index j = 0; j < cols; ++j)
      for (Index k = 0; k < depth; ++k) {
        const auto weight = b(k, j);
        for (Index i = 0; i < rows; ++i) c(i, j) += product_of(a(i, k), weight);
      }
  }
}

/// A B, where A and B are matrices, not expressions.
template <class A, class B>
ProductOf<A, B> multiply(const A& a, const B& b) {
  ProductOf<A, B> c(a.rows(), b.cols());
  if constexpr (is_large<ProductOf<A, B>> && is_large<A> && beside_large<B>) {
    multiply_tiles({c.data(), c.rows(), c.cols(), c.rows()}, false, 1,
                   {a.data(), a.rows(), a.cols(), a.rows()}, b.data(), 1, b.rows());
  } else {
    c.setZero();
    add_product_to(c, a, b);
  }
  return c;
}

/// Aᵀ as a matrix.
template <class A>
auto transposed(const A& a) {
  Eigen::Matrix<typename A::Scalar, A::ColsAtCompileTime, A::RowsAtCompileTime> result(a.cols(),
                                                                                       a.rows());
  for (Index j = 0; j < a.cols(); ++j)
    for (Index i = 0; i < a.rows(); ++i) result(j, i) = a(i, j);
  return result;
}

/// Replaces a square A by (A + Aᵀ)/2.
template <class A>
void symmetrize(A& a) {
  for (Index j = 0; j < a.cols(); ++j)
    for (Index i = 0; i < j; ++i) a(i, j) = a(j, i) = (a(i, j) + a(j, i)) / typename A::Scalar(2);
}

/// diag(left) A diag(right).
template <class A, class Left, class Right>
void scale_both(const Left& left, A& a, const Right& right) {
  for (Index j = 0; j < a.cols(); ++j)
    for (Index i = 0; i < a.rows(); ++i) a(i, j) *= left(i) * right(j);
}

/// P A = L U of a square A by partial pivoting.
template <class Matrix>
class SmallLu {
  using T = typename Matrix::Scalar;
  static constexpr int size = Matrix::RowsAtCompileTime;

 public:
  explicit SmallLu(Matrix A) : lu_(std::move(A)), pivots_(lu_.rows()) {
    const Index n = lu_.rows();
    if constexpr (is_large<Matrix>) {
      factor_lu(lu_.data(), n, pivots_.data());
      return;
    }
    for (Index k = 0; k < n; ++k) {
      Index pivot = k;
      for (Index i = k + 1; i < n; ++i)
        if (std::abs(lu_(i, k)) > std::abs(lu_(pivot, k))) pivot = i;
      pivots_(k) = pivot;
      if (pivot != k)
        for (Index j = 0; j < n; ++j) std::swap(lu_(k, j), lu_(pivot, j));
      if (lu_(k, k) == T(0)) continue;
      const T inverse = T(1) / lu_(k, k);
      for (Index i = k + 1; i < n; ++i) lu_(i, k) = product_of(lu_(i, k), inverse);
      for (Index j = k + 1; j < n; ++j)
        for (Index i = k + 1; i < n; ++i) lu_(i, j) -= product_of(lu_(i, k), lu_(k, j));
    }
  }

  /// U, and L below its diagonal.
  [[nodiscard]] const Matrix& factors() const noexcept { return lu_; }

  /// Exchanges rows as the factorisation did, or back.
  template <class B>
  void permute(B& b, bool back = false) const {
    for (Index step = 0; step < lu_.rows(); ++step) {
      const Index k = back ? lu_.rows() - 1 - step : step;
      if (pivots_(k) != k)
        for (Index j = 0; j < b.cols(); ++j) std::swap(b(k, j), b(pivots_(k), j));
    }
  }

  /// A⁻¹ B; not finite for a singular A.
  template <class B>
  [[nodiscard]] B solve(B b) const {
    const Index n = lu_.rows();
    if constexpr (is_large<Matrix> && beside_large<B>) {
      solve_lu(lu_.data(), n, pivots_.data(), b.data(), b.cols());
      return b;
    }
    if constexpr (B::SizeAtCompileTime != Eigen::Dynamic && B::ColsAtCompileTime > 2) {
      // rows of a length known to the compiler are vectors
      Eigen::Matrix<T, size, B::ColsAtCompileTime, Eigen::RowMajor> rows;
      for (Index j = 0; j < b.cols(); ++j)
        for (Index i = 0; i < n; ++i) rows(i, j) = b(i, j);
      solve_rows(rows);
      for (Index j = 0; j < b.cols(); ++j)
        for (Index i = 0; i < n; ++i) b(i, j) = rows(i, j);
      return b;
    }
    permute(b);
    for (Index k = 0; k < n; ++k)
      for (Index j = 0; j < b.cols(); ++j)
        for (Index i = k + 1; i < n; ++i) b(i, j) -= product_of(lu_(i, k), b(k, j));
    for (Index k = n; k-- > 0;)
      for (Index j = 0; j < b.cols(); ++j) {
        b(k, j) /= lu_(k, k);
        for (Index i = 0; i < k; ++i) b(i, j) -= product_of(lu_(i, k), b(k, j));
      }
    return b;
  }

  /// Replaces the rows of B by those of A⁻¹ B; their number of columns is fixed.
  template <class Rows>
  void solve_rows(Rows& b) const {
    constexpr Index cols = Rows::ColsAtCompileTime;
    const Index n = lu_.rows();
    permute(b);
    const auto subtract = [&](Index i, Index k) {  // from row i what it has of row k
      const T weight = lu_(i, k);
      for (Index j = 0; j < cols; ++j) b(i, j) -= product_of(weight, b(k, j));
    };
    for (Index i = 1; i < n; ++i)
      for (Index k = 0; k < i; ++k) subtract(i, k);
    for (Index i = n; i-- > 0;) {
      for (Index k = n; k-- > i + 1;) subtract(i, k);
      const T inverse = T(1) / lu_(i, i);
      for (Index j = 0; j < cols; ++j) b(i, j) = product_of(b(i, j), inverse);
    }
  }

  /// A⁻ᵀ B.
  template <class B>
  [[nodiscard]] B solve_transposed(B b) const {
    const Index n = lu_.rows();
    for (Index j = 0; j < b.cols(); ++j) {
      for (Index k = 0; k < n; ++k) {
        for (Index i = 0; i < k; ++i) b(k, j) -= product_of(lu_(i, k), b(i, j));
        b(k, j) /= lu_(k, k);
      }
      for (Index k = n; k-- > 0;)
        for (Index i = k + 1; i < n; ++i) b(k, j) -= product_of(lu_(i, k), b(i, j));
    }
    permute(b, true);
    return b;
  }

 private:
  Matrix lu_;
  Eigen::Matrix<Index, size, 1, Eigen::ColMajor, Matrix::MaxRowsAtCompileTime, 1> pivots_;
};

/// A = L Lᵀ of a symmetric A.
template <class Matrix>
class SmallCholesky {
  using T = typename Matrix::Scalar;

 public:
  explicit SmallCholesky(Matrix A) : L_(std::move(A)) {
    const Index n = L_.rows();
    for (Index j = 0; j < n; ++j) {
      for (Index k = 0; k < j; ++k)
        for (Index i = j; i < n; ++i) L_(i, j) -= L_(i, k) * L_(j, k);
      definite_ = definite_ && L_(j, j) > T(0);
      const T root = std::sqrt(L_(j, j));
      for (Index i = j; i < n; ++i) L_(i, j) /= root;
    }
  }

  /// False when A is not positive definite, and when it holds NaN.
  [[nodiscard]] bool definite() const noexcept { return definite_; }
  /// L; what is above its diagonal means nothing.
  [[nodiscard]] const Matrix& L() const noexcept { return L_; }

  /// A⁻¹ B.
  template <class B>
  [[nodiscard]] B solve(B b) const {
    const Index n = L_.rows();
    for (Index j = 0; j < b.cols(); ++j) {
      for (Index k = 0; k < n; ++k) {
        b(k, j) /= L_(k, k);
        for (Index i = k + 1; i < n; ++i) b(i, j) -= L_(i, k) * b(k, j);
      }
      for (Index k = n; k-- > 0;) {
        for (Index i = k + 1; i < n; ++i) b(k, j) -= L_(i, k) * b(i, j);
        b(k, j) /= L_(k, k);
      }
    }
    return b;
  }

 private:
  Matrix L_;
  bool definite_ = true;
};

/// P A Pᵀ = L D Lᵀ of a symmetric, non-negative A, the largest of what is left of the diagonal
/// first, so that a singular A has its zeros at the end.
template <class Matrix>
class SmallLdlt {
  using T = typename Matrix::Scalar;

 public:
  explicit SmallLdlt(Matrix A) : ld_(std::move(A)), pivots_(ld_.rows()) {
    const Index n = ld_.rows();
    for (Index k = 0; k < n; ++k) {
      Index pivot = k;
      for (Index i = k + 1; i < n; ++i)
        if (std::abs(ld_(i, i)) > std::abs(ld_(pivot, pivot))) pivot = i;
      pivots_(k) = pivot;
      if (pivot != k) {
        for (Index j = 0; j < n; ++j) std::swap(ld_(k, j), ld_(pivot, j));
        for (Index i = 0; i < n; ++i) std::swap(ld_(i, k), ld_(i, pivot));
      }
      const T d = ld_(k, k);
      if (!is_regular(d)) continue;
      for (Index j = k + 1; j < n; ++j) {
        const T weight = ld_(k, j) / d;
        for (Index i = k + 1; i < n; ++i) ld_(i, j) -= ld_(i, k) * weight;
      }
      for (Index i = k + 1; i < n; ++i) ld_(i, k) /= d;
    }
  }

  /// A⁻¹ B, without the directions in which A is 0.
  template <class B>
  [[nodiscard]] B solve(B b) const {
    const Index n = ld_.rows();
    for (Index j = 0; j < b.cols(); ++j) {
      for (Index k = 0; k < n; ++k) std::swap(b(k, j), b(pivots_(k), j));
      for (Index k = 0; k < n; ++k)
        if (is_regular(ld_(k, k)))
          for (Index i = k + 1; i < n; ++i) b(i, j) -= ld_(i, k) * b(k, j);
      for (Index k = 0; k < n; ++k) b(k, j) = is_regular(ld_(k, k)) ? b(k, j) / ld_(k, k) : T(0);
      for (Index k = n; k-- > 0;)
        if (is_regular(ld_(k, k)))
          for (Index i = k + 1; i < n; ++i) b(k, j) -= ld_(i, k) * b(i, j);
      for (Index k = n; k-- > 0;) std::swap(b(k, j), b(pivots_(k), j));
    }
    return b;
  }

 private:
  static bool is_regular(T d) { return !(std::abs(d) <= (std::numeric_limits<T>::min)()); }

  Matrix ld_;
  Eigen::Matrix<Index, Matrix::RowsAtCompileTime, 1> pivots_;
};

}  // namespace ssm::detail
