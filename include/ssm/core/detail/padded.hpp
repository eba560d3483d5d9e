#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/index.hpp"

// Algebra of small matrices in the memory of whoever calls, in whole vectors: compiled once for all
// sizes, and without allocation.

namespace ssm::detail {

/// Columns begin at multiples of so many numbers, whatever vectors the processor has.
inline constexpr Index padding = 8;

/// As many rows as whole vectors hold.
constexpr Index padded(Index rows) { return (rows + padding - 1) / padding * padding; }
/// The numbers that a matrix takes of a workspace.
constexpr Index padded(Index rows, Index cols) { return padded(rows) * cols; }

/// A column-major matrix of double in somebody else's memory, its columns filled up with zeros to
/// whole vectors.
class Padded {
 public:
  using Scalar = double;

  Padded() = default;
  Padded(double* data, Index rows, Index cols) noexcept : data_(data), rows_(rows), cols_(cols) {}

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Index stride() const noexcept { return padded(rows_); }
  [[nodiscard]] Index size() const noexcept { return stride() * cols_; }  ///< with the zeros
  [[nodiscard]] double* data() const noexcept { return data_; }
  [[nodiscard]] double* col(Index j) const noexcept { return data_ + j * stride(); }
  [[nodiscard]] double& operator()(Index i, Index j) const noexcept {
    return data_[j * stride() + i];
  }

 private:
  double* data_ = nullptr;
  Index rows_ = 0, cols_ = 0;
};

/// Memory that is handed out from its beginning on. A copy hands out the same again: a function
/// takes one by value, and what it used is free when it returns.
class Workspace {
 public:
  /// `memory` is at a multiple of 64 bytes.
  explicit Workspace(double* memory) noexcept : next_(memory) {}

  [[nodiscard]] Padded matrix(Index rows, Index cols) noexcept {
    const Padded result(next_, rows, cols);
    next_ += result.size();
    if (rows < result.stride())
      for (Index j = 0; j < cols; ++j)
        for (Index i = result.stride() - padding; i < result.stride(); ++i) result.col(j)[i] = 0;
    return result;
  }
  /// A matrix with the elements of one of Eigen's.
  template <class Derived>
  [[nodiscard]] Padded matrix(const Eigen::MatrixBase<Derived>& from) {
    const Padded result = matrix(from.rows(), from.cols());
    const auto& plain = from.eval();
    for (Index j = 0; j < result.cols(); ++j)
      for (Index i = 0; i < result.rows(); ++i) result(i, j) = static_cast<double>(plain(i, j));
    return result;
  }

 private:
  double* next_;
};

/// The memory of a workspace: part of the object for sizes that the compiler knows, as long as a
/// stack bears that, else allocated.
template <Index Count>
class WorkspaceMemory {
  static constexpr Index most = 36864;  // numbers: for Riccati equations of 40 states
  static constexpr bool fixed = Count > 0 && Count <= most;

 public:
  explicit WorkspaceMemory(Index count) {
    if constexpr (!fixed) {
      allocated_.reset(new double[static_cast<std::size_t>(count + padding)]);
      void* start = allocated_.get();
      std::size_t room = static_cast<std::size_t>(count + padding) * sizeof(double);
      start_ = static_cast<double*>(
          std::align(64, static_cast<std::size_t>(count) * sizeof(double), start, room));
    }
  }
  [[nodiscard]] Workspace workspace() noexcept {
    if constexpr (fixed)
      return Workspace(inside_);
    else
      return Workspace(start_);
  }

 private:
  struct Nothing {};
  alignas(64) double inside_[fixed ? static_cast<std::size_t>(Count) : 1];
  std::conditional_t<fixed, Nothing, std::unique_ptr<double[]>> allocated_;
  double* start_ = nullptr;
};

/// As many values as there are states, allocated where they are many.
template <class T>
class ShortVector {
 public:
  explicit ShortVector(Index size)
      : large_(size > static_cast<Index>(few) ? static_cast<std::size_t>(size) : 0) {}
  [[nodiscard]] T& operator()(Index i) noexcept { return data()[i]; }
  [[nodiscard]] const T& operator()(Index i) const noexcept {
    return const_cast<ShortVector*>(this)->data()[i];
  }

 private:
  static constexpr std::size_t few = 64;
  [[nodiscard]] T* data() noexcept { return large_.empty() ? small_.data() : large_.data(); }

  std::array<T, few> small_;
  std::vector<T> large_;
};

template <>
struct DiagonalOfMatrix<Padded> {
  using type = ShortVector<double>;
};

/// The matrix of Eigen with these elements.
template <class Result>
Result to_eigen(const Padded& matrix) {
  Result result(matrix.rows(), matrix.cols());
  for (Index j = 0; j < matrix.cols(); ++j)
    for (Index i = 0; i < matrix.rows(); ++i)
      result(i, j) = static_cast<typename Result::Scalar>(matrix(i, j));
  return result;
}

}  // namespace ssm::detail

SSM_BEGIN_COMPILED

/// Whether a factor stands as it is or is its transpose.
enum class Turned { no, yes };

/// C ← factor A B or, with `add`, C + factor A B; B or its transpose. C is neither A nor B.
void put_product(const Padded& C, bool add, double factor, const Padded& A, const Padded& B,
                 Turned turned = Turned::no);
/// To ← Fromᵀ.
void put_transpose(const Padded& to, const Padded& from);
/// To ← From, of one size.
void put_copy(const Padded& to, const Padded& from);
/// C ← C + factor A.
void add_multiple(const Padded& C, double factor, const Padded& A);
/// C ← C + I.
void add_to_diagonal(const Padded& C, double value);
/// A ← (A + Aᵀ)/2.
void make_symmetric(const Padded& A);
/// The sum of the squares of all elements.
[[nodiscard]] double sum_of_squares(const Padded& A);
/// True when every element is finite.
[[nodiscard]] bool is_number(const Padded& A);

/// A ← A⁻¹ by Gauss and Jordan, with exchanges of rows or, of a definite A, without. False where
/// a pivot is 0 or no number.
[[nodiscard]] bool invert(const Padded& A, bool exchange = true);
/// The least pivot of a symmetric A beside its diagonal element, without exchanges: about how near
/// A is to a singular one, in whatever units. 0 for one that is not positive definite. Destroys A.
[[nodiscard]] double least_pivot(const Padded& A);

/// A matrix to twice the precision of double: the sum of two.
struct PaddedSum {
  Padded high, low;
};
/// A sum that is 0, in new memory.
[[nodiscard]] PaddedSum zero_sum(Index rows, Index cols, Workspace& work);
/// C ← C + factor A B, every product and sum to twice the precision of double: Ogita, Rump & Oishi
/// (2005), algorithm 5.3 (Dot2), for each element.
void add_exactly(const PaddedSum& C, double factor, const Padded& A, const Padded& B,
                 Turned turned = Turned::no);
/// The same of a sum A.
void add_exactly(const PaddedSum& C, double factor, const PaddedSum& A, const Padded& B,
                 Turned turned = Turned::no);
/// C ← C + factor A, as exactly; `factor` a power of two.
void add_exactly(const PaddedSum& C, double factor, const Padded& A);

SSM_END_COMPILED

#if !SSM_DECLARE_ONLY
#include "ssm/core/detail/padded_impl.hpp"
#endif
