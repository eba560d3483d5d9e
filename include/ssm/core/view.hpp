#pragma once

// g++ 12 takes Eigen's AVX-512 registers for uninitialized ones.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <Eigen/Core>
#pragma GCC diagnostic pop
#else
#include <Eigen/Core>
#endif

#include <array>
#include <cassert>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include "ssm/core/index.hpp"

namespace ssm {

/// Where the elements of a view live. Views of different spaces never convert into each other.
struct Host {};
struct Device {};

/// A strided window on memory that somebody else owns: pointer, 64-bit extents, strides.
///
/// Strides count elements and may be negative (a reversed view). A default-constructed view is
/// absent: it stands for an optional argument that was not given and converts to false. A view of
/// a tensor with no elements is present.
template <class T, std::size_t Rank, class Space = Host>
class View {
  static_assert(Rank >= 1, "a view has at least one extent");

 public:
  using value_type = std::remove_const_t<T>;
  using element_type = T;
  using space = Space;
  using Extents = std::array<Index, Rank>;
  static constexpr std::size_t rank = Rank;

  constexpr View() noexcept = default;

  /// A row-major, contiguous view: the last extent has stride 1.
  constexpr View(T* data, const Extents& extents) noexcept
      : data_(data), extents_(extents), present_(true) {
    Index stride = 1;
    for (std::size_t i = Rank; i-- > 0;) {
      strides_[i] = stride;
      stride *= extents_[i];
    }
  }

  constexpr View(T* data, const Extents& extents, const Extents& strides) noexcept
      : data_(data), extents_(extents), strides_(strides), present_(true) {}

  /// View<T> converts to View<const T>, and to nothing else.
  template <class U>
  requires(std::is_same_v<const U, T> &&
           !std::is_same_v<U, T>) constexpr View(const View<U, Rank, Space>& other) noexcept {
    if (other) *this = View(other.data(), other.extents(), other.strides());
  }

  [[nodiscard]] constexpr T* data() const noexcept { return data_; }
  [[nodiscard]] constexpr const Extents& extents() const noexcept { return extents_; }
  [[nodiscard]] constexpr const Extents& strides() const noexcept { return strides_; }
  [[nodiscard]] constexpr Index extent(std::size_t i) const noexcept { return extents_[i]; }
  [[nodiscard]] constexpr Index stride(std::size_t i) const noexcept { return strides_[i]; }
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return present_; }

  [[nodiscard]] constexpr Index size() const noexcept {
    Index size = 1;
    for (Index extent : extents_) size *= extent;
    return size;
  }

  /// True when the elements lie row-major without gaps.
  [[nodiscard]] constexpr bool contiguous() const noexcept {
    Index stride = 1;
    for (std::size_t i = Rank; i-- > 0;) {
      if (extents_[i] != 1 && strides_[i] != stride) return false;
      stride *= extents_[i];
    }
    return true;
  }

  template <std::convertible_to<Index>... Is>
  requires(sizeof...(Is) == Rank && std::same_as<Space, Host>) [[nodiscard]] constexpr T&
  operator()(Is... indices) const noexcept {
    const Extents at{static_cast<Index>(indices)...};
    Index offset = 0;
    for (std::size_t i = 0; i < Rank; ++i) {
      assert(at[i] >= 0 && at[i] < extents_[i]);
      offset += at[i] * strides_[i];
    }
    return data_[offset];
  }

  /// The view at position `i` of the first extent.
  [[nodiscard]] constexpr auto operator[](Index i) const noexcept requires(Rank > 1) {
    assert(i >= 0 && i < extents_[0]);
    typename View<T, Rank - 1, Space>::Extents extents{};
    typename View<T, Rank - 1, Space>::Extents strides{};
    for (std::size_t d = 1; d < Rank; ++d) {
      extents[d - 1] = extents_[d];
      strides[d - 1] = strides_[d];
    }
    return View<T, Rank - 1, Space>(data_ + i * strides_[0], extents, strides);
  }

  /// Positions [begin, begin + count) of extent `dimension`.
  [[nodiscard]] constexpr View slice(std::size_t dimension, Index begin,
                                     Index count) const noexcept {
    assert(begin >= 0 && count >= 0 && begin + count <= extents_[dimension]);
    View result = *this;
    result.extents_[dimension] = count;
    if (data_ != nullptr) result.data_ += begin * strides_[dimension];
    return result;
  }

  /// The same elements with extent `dimension` walked from its end.
  [[nodiscard]] constexpr View reversed(std::size_t dimension) const noexcept {
    View result = *this;
    if (data_ != nullptr && extents_[dimension] > 0)
      result.data_ += (extents_[dimension] - 1) * strides_[dimension];
    result.strides_[dimension] = -strides_[dimension];
    return result;
  }

 private:
  T* data_ = nullptr;
  Extents extents_{};
  Extents strides_{};
  bool present_ = false;
};

namespace detail {
template <class T>
using EigenMatrix = std::conditional_t<
    std::is_const_v<T>,
    const Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>,
    Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
}  // namespace detail

/// An Eigen map with any strides over the elements of a rank-2 view.
template <class T>
[[nodiscard]] auto as_eigen(const View<T, 2>& view) {
  using Stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  return Eigen::Map<detail::EigenMatrix<T>, Eigen::Unaligned, Stride>(
      view.data(), view.extent(0), view.extent(1), Stride(view.stride(0), view.stride(1)));
}

/// An Eigen column vector over the elements of a rank-1 view.
template <class T>
[[nodiscard]] auto as_eigen(const View<T, 1>& view) {
  using Vector = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, 1>;
  using Mapped = std::conditional_t<std::is_const_v<T>, const Vector, Vector>;
  using Stride = Eigen::InnerStride<Eigen::Dynamic>;
  return Eigen::Map<Mapped, Eigen::Unaligned, Stride>(view.data(), view.extent(0),
                                                      Stride(view.stride(0)));
}

namespace detail {
template <class T, class Derived>
auto view_of(T* data, const Derived& matrix) {
  if constexpr (Derived::IsVectorAtCompileTime)
    return View<T, 1>(data, {matrix.size()}, {matrix.innerStride()});
  else
    return View<T, 2>(data, {matrix.rows(), matrix.cols()},
                      {matrix.rowStride(), matrix.colStride()});
}
}  // namespace detail

/// A view of the elements of an Eigen object that owns or maps memory; rows are the first extent.
/// What its type says is one row or one column has a view of rank 1.
template <class Derived>
requires((Eigen::internal::traits<Derived>::Flags & Eigen::DirectAccessBit) != 0)
    [[nodiscard]] auto as_view(Eigen::DenseBase<Derived>& matrix) {
  return detail::view_of(matrix.derived().data(), matrix.derived());
}

template <class Derived>
requires((Eigen::internal::traits<Derived>::Flags & Eigen::DirectAccessBit) != 0)
    [[nodiscard]] auto as_view(const Eigen::DenseBase<Derived>& matrix) {
  return detail::view_of(matrix.derived().data(), matrix.derived());
}

}  // namespace ssm
