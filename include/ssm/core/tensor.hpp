#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

namespace ssm {
namespace detail {

inline namespace SSM_DETAIL_ISA {

/// Cache-line alignment, so that a full vector register loads from one line.
template <class T>
struct AlignedAllocator {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};

  AlignedAllocator() noexcept = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t count) {
    if (count > (std::numeric_limits<std::size_t>::max)() / sizeof(T))
      raise<std::length_error>("Tensor: more elements than memory can address");
    return static_cast<T*>(::operator new(count * sizeof(T), alignment));
  }
  void deallocate(T* pointer, std::size_t) noexcept { ::operator delete(pointer, alignment); }
  friend bool operator==(const AlignedAllocator&, const AlignedAllocator&) noexcept { return true; }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail

/// A contiguous, row-major array of T with Rank extents, which owns its memory on the host. It is
/// aligned to a cache line and zero when made. It converts to a View wherever one is wanted.
template <class T, std::size_t Rank>
class Tensor {
 public:
  using value_type = T;                      ///< type of an element
  using space = Host;                        ///< where the elements are
  using Extents = std::array<Index, Rank>;   ///< one number for each dimension
  static constexpr std::size_t rank = Rank;  ///< number of dimensions

  Tensor() = default;
  /// A tensor of these extents, all zero. @throws ShapeError as resize
  explicit Tensor(const Extents& extents) { resize(extents); }

  ///@{
  /// A copy has memory of its own. A tensor that was moved from has no elements and no extent.
  Tensor(const Tensor&) = default;
  Tensor& operator=(const Tensor&) = default;
  Tensor(Tensor&& other) noexcept
      : elements_(std::move(other.elements_)), extents_(std::exchange(other.extents_, {})) {}
  Tensor& operator=(Tensor&& other) noexcept {
    elements_ = std::exchange(other.elements_, {});
    extents_ = std::exchange(other.extents_, {});
    return *this;
  }
  ///@}
  ~Tensor() = default;

  /// Gives the tensor these extents. Elements keep their linear order; new ones are zero. Shrinking
  /// keeps the memory, so that resizing within the largest shape so far allocates nothing.
  /// @throws ShapeError for a negative extent and for a size that cannot be addressed
  void resize(const Extents& extents) {
    std::size_t size = 1;
    for (Index extent : extents) {
      if (extent < 0)
        detail::throw_shape("Tensor", "extents", detail::to_string(extents), "no negative extent");
      const auto count = static_cast<std::size_t>(extent);
      if (count != 0 && size > elements_.max_size() / count)
        detail::throw_shape("Tensor", "extents", detail::to_string(extents),
                            "a size that can be addressed");
      size *= count;
    }
    elements_.resize(size);
    extents_ = extents;
  }

  /// Sets every element to `value`.
  void fill(const T& value) { std::fill(elements_.begin(), elements_.end(), value); }

  ///@{
  /// A view of all elements. It is valid until the tensor is resized or destroyed.
  [[nodiscard]] View<T, Rank> view() noexcept { return {elements_.data(), extents_}; }
  [[nodiscard]] View<const T, Rank> view() const noexcept { return {elements_.data(), extents_}; }
  operator View<T, Rank>() noexcept { return view(); }
  operator View<const T, Rank>() const noexcept { return view(); }
  ///@}

  /// The length of every dimension.
  [[nodiscard]] const Extents& extents() const noexcept { return extents_; }
  /// The length of dimension `i`.
  [[nodiscard]] Index extent(std::size_t i) const noexcept { return extents_[i]; }
  /// The number of elements.
  [[nodiscard]] Index size() const noexcept { return static_cast<Index>(elements_.size()); }
  ///@{
  /// The first element, in row-major order.
  [[nodiscard]] T* data() noexcept { return elements_.data(); }
  [[nodiscard]] const T* data() const noexcept { return elements_.data(); }
  ///@}
  ///@{
  /// The range of all elements, in row-major order.
  [[nodiscard]] T* begin() noexcept { return elements_.data(); }
  [[nodiscard]] T* end() noexcept { return elements_.data() + elements_.size(); }
  [[nodiscard]] const T* begin() const noexcept { return elements_.data(); }
  [[nodiscard]] const T* end() const noexcept { return elements_.data() + elements_.size(); }
  ///@}

  ///@{
  /// The element at these indices, one for each dimension. They are checked where assert is.
  template <class... Is>
  [[nodiscard]] T& operator()(Is... indices) noexcept {
    return view()(indices...);
  }
  template <class... Is>
  [[nodiscard]] const T& operator()(Is... indices) const noexcept {
    return view()(indices...);
  }
  ///@}

 private:
  std::vector<T, detail::AlignedAllocator<T>> elements_;
  Extents extents_{};
};

namespace detail {

template <class T, std::size_t Rank, class Space>
struct TensorIn;
template <class T, std::size_t Rank>
struct TensorIn<T, Rank, Host> {
  using type = Tensor<T, Rank>;
};

}  // namespace detail

/// The tensor type that owns memory in `Space`: Tensor for Host, DeviceTensor for Device.
template <class T, std::size_t Rank, class Space>
using TensorIn = typename detail::TensorIn<T, Rank, Space>::type;

/// Gives a tensor these extents in the memory of the backend, as Tensor::resize does.
template <class T, std::size_t Rank>
void resize(const Cpu&, Tensor<T, Rank>& tensor, const std::array<Index, Rank>& extents) {
  tensor.resize(extents);
}

}  // namespace ssm
