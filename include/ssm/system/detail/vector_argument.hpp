#pragma once

#include <array>
#include <concepts>
#include <span>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"

namespace ssm::detail {

/// A vector that a function reads: a vector or expression of Eigen, a contiguous range such as
/// std::vector, or, for one element, a number. What lies in memory already is not copied.
///
/// A range that does not have the elements of a fixed size is refused with a ShapeError.
template <class T, int Size>
class VectorArgument {
  using Vector = Eigen::Matrix<T, Size, 1>;

 public:
  /// Without elements: absent, where that is allowed.
  VectorArgument() noexcept = default;
  template <class Derived>
  VectorArgument(const Eigen::MatrixBase<Derived>& vector) noexcept(Size != Eigen::Dynamic) {
    static_assert(Derived::ColsAtCompileTime == 1 || Derived::RowsAtCompileTime == 1 ||
                      Derived::SizeAtCompileTime == Eigen::Dynamic,
                  "a vector is expected");
    if constexpr (std::is_same_v<Derived, Vector>) {
      data_ = vector.derived().data();
      size_ = vector.size();
    } else {
      own_ = vector;
      data_ = own_.data();
      size_ = own_.size();
    }
  }
  VectorArgument(const T& number) noexcept(Size != Eigen::Dynamic) requires(Size == 1 ||
                                                                            Size == Eigen::Dynamic)
      : size_(1) {
    own_.resize(1);
    own_(0) = number;
    data_ = own_.data();
  }
  template <class Range>
  requires(std::constructible_from<std::span<const T>, const Range&> &&
           !std::derived_from<Range, Eigen::EigenBase<Range>>) VectorArgument(const Range& range)
      : data_(std::span<const T>(range).data()),
        size_(static_cast<Index>(std::span<const T>(range).size())) {
    if (Size != Eigen::Dynamic && size_ != Size)
      throw_shape("a vector", "its size", to_string(std::array<Index, 1>{size_}),
                  to_string(std::array<Index, 1>{Size}));
  }
  VectorArgument(const VectorArgument&) = delete;
  VectorArgument& operator=(const VectorArgument&) = delete;

  [[nodiscard]] explicit operator bool() const noexcept { return data_ != nullptr; }
  [[nodiscard]] Index size() const noexcept { return size_; }
  [[nodiscard]] auto vector() const noexcept { return Eigen::Map<const Vector>(data_, size_); }

 private:
  Vector own_;
  const T* data_ = nullptr;
  Index size_ = 0;
};

}  // namespace ssm::detail
