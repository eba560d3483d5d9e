#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/cuda/backend.hpp"

namespace ssm {

/// Bytes in device memory that grow and never shrink: what operations need beside their arguments.
///
/// A buffer serves one stream at a time, the one that reserved it last, and is freed in that one's
/// order: a stream that takes it over waits for what the one before was given to do. The stream it
/// serves must live until another takes it over or the buffer goes.
///
/// Growing forgets the contents. It throws CudaError while the stream is captured: run an operation
/// once before its capture, and nothing grows. What a captured graph uses is not freed when the
/// buffer grows later, but when it goes, and graphs must be done by then.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  /// At least `bytes` bytes, aligned to 256. Throws CudaError, also where the memory it has is
  /// another device's than the current one.
  [[nodiscard]] void* reserve(const Cuda& backend, std::size_t bytes);
  [[nodiscard]] void* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(backend_, other.backend_);
    std::swap(device_, other.device_);
    std::swap(in_graph_, other.in_graph_);
    of_graphs_.swap(other.of_graphs_);
  }

  void* data_ = nullptr;
  std::size_t size_ = 0;
  Cuda backend_;                  ///< the stream it serves
  int device_ = 0;                ///< whose memory it is
  bool in_graph_ = false;         ///< a captured graph uses data_
  std::vector<void*> of_graphs_;  ///< outgrown, and still used by captured graphs
};

namespace detail {

enum class Copy { to_device, to_host, on_device };

void copy_bytes(const Cuda& backend, Copy direction, void* to, const void* from, std::size_t bytes);

/// The bytes of an array of these extents; throws ShapeError where there is no such number.
template <class T, std::size_t Rank>
[[nodiscard]] std::size_t tensor_bytes(std::string_view function,
                                       const std::array<Index, Rank>& extents) {
  std::size_t bytes = sizeof(T);
  for (Index extent : extents) {
    if (extent < 0) throw_shape(function, "extents", to_string(extents), "no negative extent");
    const auto count = static_cast<std::size_t>(extent);
    if (count != 0 && bytes > std::numeric_limits<std::size_t>::max() / count)
      throw_shape(function, "extents", to_string(extents), "a size that can be addressed");
    bytes *= count;
  }
  return bytes;
}

}  // namespace detail

/// A contiguous, row-major array in device memory. Its elements are not set when it is made.
template <class T, std::size_t Rank>
class DeviceTensor {
  static_assert(std::is_trivially_copyable_v<T>, "device memory holds plain bytes");

 public:
  using value_type = T;
  using space = Device;
  using Extents = std::array<Index, Rank>;
  static constexpr std::size_t rank = Rank;

  DeviceTensor() = default;
  /// Throws ShapeError, CudaError.
  DeviceTensor(const Cuda& backend, const Extents& extents) { resize(backend, extents); }
  DeviceTensor(DeviceTensor&& other) noexcept
      : buffer_(std::move(other.buffer_)), extents_(std::exchange(other.extents_, {})) {}
  DeviceTensor& operator=(DeviceTensor&& other) noexcept {
    buffer_ = std::move(other.buffer_);
    extents_ = std::exchange(other.extents_, {});
    return *this;
  }
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;
  ~DeviceTensor() = default;

  /// Makes the tensor this shape, and serve this stream. Elements keep their linear order where
  /// their memory suffices, and are not set where it grows. Shrinking keeps the memory, so a tensor
  /// that is resized within its largest shape never allocates. Throws ShapeError, CudaError.
  void resize(const Cuda& backend, const Extents& extents) {
    const std::size_t bytes = detail::tensor_bytes<T>("DeviceTensor", extents);
    static_cast<void>(buffer_.reserve(backend, bytes));
    extents_ = extents;
  }

  [[nodiscard]] T* data() const noexcept { return static_cast<T*>(buffer_.data()); }
  [[nodiscard]] const Extents& extents() const noexcept { return extents_; }
  [[nodiscard]] Index extent(std::size_t i) const noexcept { return extents_[i]; }
  [[nodiscard]] Index size() const noexcept {
    Index size = 1;
    for (Index extent : extents_) size *= extent;
    return size;
  }

  [[nodiscard]] View<T, Rank, Device> view() noexcept { return {data(), extents_}; }
  [[nodiscard]] View<const T, Rank, Device> view() const noexcept { return {data(), extents_}; }
  operator View<T, Rank, Device>() noexcept { return view(); }
  operator View<const T, Rank, Device>() const noexcept { return view(); }

 private:
  DeviceBuffer buffer_;
  Extents extents_{};
};

namespace detail {

template <class T, std::size_t Rank>
struct TensorIn<T, Rank, Device> {
  using type = DeviceTensor<T, Rank>;
};

}  // namespace detail

/// Makes a tensor this shape where the backend computes, as DeviceTensor::resize does: it grows,
/// without a value, and keeps its memory when it shrinks. Throws ShapeError, CudaError.
template <class T, std::size_t Rank>
void resize(const Cuda& backend, DeviceTensor<T, Rank>& tensor,
            const std::type_identity_t<std::array<Index, Rank>>& extents) {
  tensor.resize(backend, extents);
}

/// Copies elements between places, in the order of the stream and without waiting: the host's
/// memory must live, and is not to be touched, until the stream has come past. Both views are
/// contiguous. Throws ShapeError where the extents differ or elements are not adjacent, CudaError.
template <class From, class To, std::size_t Rank, class FromSpace, class ToSpace>
void copy(const Cuda& backend, const View<From, Rank, FromSpace>& from,
          const View<To, Rank, ToSpace>& to) {
  static_assert(std::is_same_v<std::remove_const_t<From>, To>, "a copy keeps the type");
  static_assert(std::is_same_v<FromSpace, Device> || std::is_same_v<ToSpace, Device>,
                "one side of the copy is on the device");
  detail::check_shape("copy", "to", to, from.extents());
  if (!from.contiguous() || !to.contiguous())
    detail::throw_shape("copy", from.contiguous() ? "to" : "from", "strided", "adjacent elements");
  constexpr detail::Copy direction = std::is_same_v<FromSpace, Host> ? detail::Copy::to_device
                                     : std::is_same_v<ToSpace, Host> ? detail::Copy::to_host
                                                                     : detail::Copy::on_device;
  detail::copy_bytes(backend, direction, to.data(), from.data(),
                     static_cast<std::size_t>(from.size()) * sizeof(To));
}

/// A copy of a host array in device memory. It waits for the stream, so that the array may be a
/// temporary; `copy` does not. Throws CudaError.
template <class T, std::size_t Rank>
[[nodiscard]] DeviceTensor<T, Rank> to_device(const Cuda& backend, const Tensor<T, Rank>& tensor) {
  DeviceTensor<T, Rank> result(backend, tensor.extents());
  copy(backend, tensor.view(), result.view());
  synchronize(backend);
  return result;
}

/// A copy of a device array in host memory, once the stream has come so far. Throws CudaError.
template <class T, std::size_t Rank>
[[nodiscard]] Tensor<T, Rank> to_host(const Cuda& backend, const DeviceTensor<T, Rank>& tensor) {
  Tensor<T, Rank> result(tensor.extents());
  copy(backend, tensor.view(), result.view());
  synchronize(backend);
  return result;
}

}  // namespace ssm
