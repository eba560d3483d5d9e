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

/// A contiguous, row-major array in host memory, aligned to a cache line, zero when made.
template <class T, std::size_t Rank>
class Tensor {
 public:
  using value_type = T;
  using space = Host;
  using Extents = std::array<Index, Rank>;
  static constexpr std::size_t rank = Rank;

  Tensor() = default;
  explicit Tensor(const Extents& extents) { resize(extents); }

  Tensor(const Tensor&) = default;
  Tensor& operator=(const Tensor&) = default;
  /// What is moved from has no elements and no extent.
  Tensor(Tensor&& other) noexcept
      : elements_(std::move(other.elements_)), extents_(std::exchange(other.extents_, {})) {}
  Tensor& operator=(Tensor&& other) noexcept {
    elements_ = std::exchange(other.elements_, {});
    extents_ = std::exchange(other.extents_, {});
    return *this;
  }
  ~Tensor() = default;

  /// Makes the tensor this shape. Elements keep their linear order; new ones are zero. Shrinking
  /// keeps the memory, so a tensor that is resized within its largest shape never allocates.
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

  void fill(const T& value) { std::fill(elements_.begin(), elements_.end(), value); }

  [[nodiscard]] View<T, Rank> view() noexcept { return {elements_.data(), extents_}; }
  [[nodiscard]] View<const T, Rank> view() const noexcept { return {elements_.data(), extents_}; }
  operator View<T, Rank>() noexcept { return view(); }
  operator View<const T, Rank>() const noexcept { return view(); }

  [[nodiscard]] const Extents& extents() const noexcept { return extents_; }
  [[nodiscard]] Index extent(std::size_t i) const noexcept { return extents_[i]; }
  [[nodiscard]] Index size() const noexcept { return static_cast<Index>(elements_.size()); }
  [[nodiscard]] T* data() noexcept { return elements_.data(); }
  [[nodiscard]] const T* data() const noexcept { return elements_.data(); }
  [[nodiscard]] T* begin() noexcept { return elements_.data(); }
  [[nodiscard]] T* end() noexcept { return elements_.data() + elements_.size(); }
  [[nodiscard]] const T* begin() const noexcept { return elements_.data(); }
  [[nodiscard]] const T* end() const noexcept { return elements_.data() + elements_.size(); }

  template <class... Is>
  [[nodiscard]] T& operator()(Is... indices) noexcept {
    return view()(indices...);
  }
  template <class... Is>
  [[nodiscard]] const T& operator()(Is... indices) const noexcept {
    return view()(indices...);
  }

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

/// The tensor that owns memory in a space: Tensor for Host, DeviceTensor for Device.
template <class T, std::size_t Rank, class Space>
using TensorIn = typename detail::TensorIn<T, Rank, Space>::type;

/// Makes a tensor this shape where the backend computes, as Tensor::resize does.
template <class T, std::size_t Rank>
void resize(const Cpu&, Tensor<T, Rank>& tensor, const std::array<Index, Rank>& extents) {
  tensor.resize(extents);
}

}  // namespace ssm
