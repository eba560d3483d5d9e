#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/index.hpp"

namespace ssm::detail {

/// x y without the look for infinities that std::complex takes.
inline std::complex<double> product_of(std::complex<double> x, std::complex<double> y) noexcept {
  return {x.real() * y.real() - x.imag() * y.imag(), x.real() * y.imag() + x.imag() * y.real()};
}
template <class T>
T product_of(const T& x, const T& y) noexcept {
  return x * y;
}

/// A column of double or complex double.
template <class K>
class DenseVector {
 public:
  DenseVector() = default;
  explicit DenseVector(Index size) : elements_(static_cast<std::size_t>(size)) {}

  [[nodiscard]] Index size() const noexcept { return static_cast<Index>(elements_.size()); }
  [[nodiscard]] K& operator()(Index i) noexcept { return elements_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] const K& operator()(Index i) const noexcept {
    return elements_[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] K* data() noexcept { return elements_.data(); }
  [[nodiscard]] const K* begin() const noexcept { return elements_.data(); }
  [[nodiscard]] const K* end() const noexcept { return elements_.data() + elements_.size(); }

 private:
  std::vector<K> elements_;
};

/// A column-major matrix of double or complex double for the algorithms of design and analysis.
///
/// Its operations are plain loops, each compiled once for whatever sizes: Eigen's expressions take
/// the compiler seconds where these take it milliseconds. Products and factorisations of real
/// matrices run in tiles, so that large ones are no slower than they need be.
template <class K>
class DenseMatrix {
 public:
  using Scalar = K;

  DenseMatrix() = default;
  DenseMatrix(Index rows, Index cols)
      : rows_(rows), cols_(cols), elements_(static_cast<std::size_t>(rows * cols)) {}
  /// The elements of any real matrix of Eigen.
  template <class Derived>
  explicit DenseMatrix(const Eigen::MatrixBase<Derived>& matrix)
      : DenseMatrix(matrix.rows(), matrix.cols()) {
    const auto& plain = matrix.eval();
    for (Index j = 0; j < cols_; ++j)
      for (Index i = 0; i < rows_; ++i) (*this)(i, j) = static_cast<K>(plain(i, j));
  }

  [[nodiscard]] static DenseMatrix Zero(Index rows, Index cols) { return {rows, cols}; }
  [[nodiscard]] static DenseMatrix Identity(Index rows, Index cols) {
    DenseMatrix result(rows, cols);
    for (Index i = 0; i < (std::min)(rows, cols); ++i) result(i, i) = 1;
    return result;
  }

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Index size() const noexcept { return rows_ * cols_; }
  [[nodiscard]] K* data() noexcept { return elements_.data(); }
  [[nodiscard]] const K* data() const noexcept { return elements_.data(); }
  [[nodiscard]] K* col(Index j) noexcept { return elements_.data() + j * rows_; }
  [[nodiscard]] const K* col(Index j) const noexcept { return elements_.data() + j * rows_; }
  [[nodiscard]] K& operator()(Index i, Index j) noexcept {
    return elements_[static_cast<std::size_t>(j * rows_ + i)];
  }
  [[nodiscard]] const K& operator()(Index i, Index j) const noexcept {
    return elements_[static_cast<std::size_t>(j * rows_ + i)];
  }

  /// A copy of the rows and columns from (i, j) on.
  [[nodiscard]] DenseMatrix block(Index i, Index j, Index rows, Index cols) const {
    DenseMatrix result(rows, cols);
    for (Index c = 0; c < cols; ++c)
      std::copy_n(col(j + c) + i, static_cast<std::size_t>(rows), result.col(c));
    return result;
  }
  void set_block(Index i, Index j, const DenseMatrix& block) {
    for (Index c = 0; c < block.cols(); ++c)
      std::copy_n(block.col(c), static_cast<std::size_t>(block.rows()), col(j + c) + i);
  }
  [[nodiscard]] DenseMatrix transpose() const {
    DenseMatrix result(cols_, rows_);
    for (Index j = 0; j < cols_; ++j)
      for (Index i = 0; i < rows_; ++i) result(j, i) = (*this)(i, j);
    return result;
  }

  [[nodiscard]] double norm() const {
    double sum = 0;
    for (const K& x : elements_) sum += std::norm(x);
    if (sum > 1e-280 && sum < 1e300) return std::sqrt(sum);
    if (std::isnan(sum)) return sum;
    double largest = 0;  // squares overflow or vanish but in units of the largest
    for (const K& x : elements_) largest = (std::max)(largest, std::abs(x));
    if (!(largest > 0 && std::isfinite(largest))) return largest;
    sum = 0;
    for (const K& x : elements_) sum += std::norm(x / largest);
    return largest * std::sqrt(sum);
  }
  [[nodiscard]] bool all_finite() const {
    for (const K& x : elements_)
      if (!std::isfinite(std::real(x)) || !std::isfinite(std::imag(x))) return false;
    return true;
  }
  [[nodiscard]] bool is_zero() const {
    for (const K& x : elements_)
      if (x != K(0)) return false;
    return true;
  }
  friend bool operator==(const DenseMatrix& a, const DenseMatrix& b) {
    return a.rows_ == b.rows_ && a.cols_ == b.cols_ && a.elements_ == b.elements_;
  }

  DenseMatrix& operator+=(const DenseMatrix& other) {
    for (std::size_t i = 0; i < elements_.size(); ++i) elements_[i] += other.elements_[i];
    return *this;
  }
  DenseMatrix& operator-=(const DenseMatrix& other) {
    for (std::size_t i = 0; i < elements_.size(); ++i) elements_[i] -= other.elements_[i];
    return *this;
  }
  DenseMatrix& operator*=(double factor) {
    for (K& x : elements_) x *= factor;
    return *this;
  }
  friend DenseMatrix operator+(DenseMatrix a, const DenseMatrix& b) { return a += b; }
  friend DenseMatrix operator-(DenseMatrix a, const DenseMatrix& b) { return a -= b; }
  friend DenseMatrix operator-(DenseMatrix a) { return a *= -1; }
  friend DenseMatrix operator*(double factor, DenseMatrix a) { return a *= factor; }

 private:
  Index rows_ = 0, cols_ = 0;
  std::vector<K> elements_;
};

using RealMatrix = DenseMatrix<double>;
using ComplexMatrix = DenseMatrix<std::complex<double>>;
using RealVector = DenseVector<double>;
using ComplexVector = DenseVector<std::complex<double>>;

template <>
struct DiagonalOfMatrix<RealMatrix> {
  using type = RealVector;
};

/// The matrix of Eigen with these elements.
template <class Result, class K>
Result to_eigen(const DenseMatrix<K>& matrix) {
  Result result(matrix.rows(), matrix.cols());
  for (Index j = 0; j < matrix.cols(); ++j)
    for (Index i = 0; i < matrix.rows(); ++i)
      result(i, j) = static_cast<typename Result::Scalar>(matrix(i, j));
  return result;
}
template <class Result, class K>
Result to_eigen(const DenseVector<K>& vector) {
  Result result(vector.size());
  for (Index i = 0; i < vector.size(); ++i)
    result(i) = static_cast<typename Result::Scalar>(vector(i));
  return result;
}

/// The epsilon of float or double as a double.
template <class T>
inline constexpr double epsilon_of = static_cast<double>(std::numeric_limits<T>::epsilon());

/// 1/x of each element.
inline RealVector inverse_of(RealVector vector) {
  for (Index i = 0; i < vector.size(); ++i) vector(i) = 1 / vector(i);
  return vector;
}

/// diag(left) A.
template <class K>
DenseMatrix<K> scale_rows(const RealVector& left, DenseMatrix<K> A) {
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < A.rows(); ++i) A(i, j) *= left(i);
  return A;
}
/// A diag(right).
template <class K>
DenseMatrix<K> scale_columns(DenseMatrix<K> A, const RealVector& right) {
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < A.rows(); ++i) A(i, j) *= right(j);
  return A;
}

inline RealMatrix symmetric_part(const RealMatrix& A) {
  RealMatrix result(A.rows(), A.cols());
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < A.rows(); ++i) result(i, j) = 0.5 * (A(i, j) + A(j, i));
  return result;
}

}  // namespace ssm::detail
