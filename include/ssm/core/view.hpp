#pragma once

#include <array>
#include <cassert>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include "ssm/core/index.hpp"

namespace ssm {

/// The memory of the processor, as the space of a view. Views of different spaces do not convert
/// into each other.
struct Host {};
/// The memory of a GPU, as the space of a view. Views of different spaces do not convert into each
/// other.
struct Device {};

/// A strided window on memory that it does not own: a pointer, 64-bit extents and strides.
///
/// Strides count elements and may be negative (a reversed view). A default-constructed view is
/// absent: it stands for an optional argument that was not given, and converts to false. A view of
/// a tensor without elements is present.
template <class T, std::size_t Rank, class Space = Host>
class View {
  static_assert(Rank >= 1, "a view has at least one extent");

 public:
  using value_type = std::remove_const_t<T>;  ///< type of an element, without const
  using element_type = T;                     ///< type of an element
  using space = Space;                        ///< where the elements are
  using Extents = std::array<Index, Rank>;    ///< one number for each dimension
  static constexpr std::size_t rank = Rank;   ///< number of dimensions

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

  /// A view with these strides, counted in elements.
  constexpr View(T* data, const Extents& extents, const Extents& strides) noexcept
      : data_(data), extents_(extents), strides_(strides), present_(true) {}

  /// View<T> converts to View<const T>, and to nothing else.
  template <class U>
  requires(std::is_same_v<const U, T> &&
           !std::is_same_v<U, T>) constexpr View(const View<U, Rank, Space>& other) noexcept {
    if (other) *this = View(other.data(), other.extents(), other.strides());
  }

  /// The element at index 0 of every dimension.
  [[nodiscard]] constexpr T* data() const noexcept { return data_; }
  /// The length of every dimension.
  [[nodiscard]] constexpr const Extents& extents() const noexcept { return extents_; }
  /// How many elements apart neighbours are, for every dimension.
  [[nodiscard]] constexpr const Extents& strides() const noexcept { return strides_; }
  /// The length of dimension `i`.
  [[nodiscard]] constexpr Index extent(std::size_t i) const noexcept { return extents_[i]; }
  /// How many elements apart neighbours in dimension `i` are.
  [[nodiscard]] constexpr Index stride(std::size_t i) const noexcept { return strides_[i]; }
  /// False for a default-constructed view, an argument that was not given.
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return present_; }

  /// The number of elements, the product of the extents.
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

  /// The element at these indices, one for each dimension. They are checked where assert is.
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

  /// The view at index `i` of the first dimension, with one dimension less.
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

  /// Consecutive parts of dimension `dimension`, of these sizes:
  ///
  ///     const auto [x, z] = rows.split(2, {channels, channels});
  template <std::size_t Parts>
  [[nodiscard]] constexpr std::array<View, Parts> split(
      std::size_t dimension, const Index (&sizes)[Parts]) const noexcept {
    std::array<View, Parts> parts;
    Index begin = 0;
    for (std::size_t i = 0; i < Parts; begin += sizes[i++])
      parts[i] = slice(dimension, begin, sizes[i]);
    return parts;
  }

  /// The part with indices [begin, begin + count) in dimension `dimension`.
  [[nodiscard]] constexpr View slice(std::size_t dimension, Index begin,
                                     Index count) const noexcept {
    assert(begin >= 0 && count >= 0 && begin + count <= extents_[dimension]);
    View result = *this;
    result.extents_[dimension] = count;
    if (data_ != nullptr) result.data_ += begin * strides_[dimension];
    return result;
  }

  /// This view with the indices of dimension `dimension` in reverse order.
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

}  // namespace ssm
