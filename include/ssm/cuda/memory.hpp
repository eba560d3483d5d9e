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

/// A block of device memory that grows and never shrinks: the scratch memory of operations.
///
/// A buffer serves one stream at a time, the one that reserved it last. When another stream
/// reserves it, that stream waits for the work which the one before it was given, and the memory is
/// freed in the order of the stream that it serves. That stream must live until another one
/// reserves the buffer or the buffer is destroyed.
///
/// Growing loses the contents. While the stream is being captured, growing throws CudaError; run an
/// operation once before its capture, and nothing will grow. Memory that a captured graph uses is
/// freed only when the buffer is destroyed, and the graph must have finished by then. The buffer
/// does not see when a graph runs: where other streams use it too, whoever launches the graph puts
/// it in order with them, most simply by launching it into the stream that the buffer serves. A
/// buffer that is destroyed while the stream it serves is captured leaves its memory allocated.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  ~DeviceBuffer();
  ///@{
  /// The buffer that is moved from is empty.
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    DeviceBuffer taken(std::move(other));
    swap(taken);
    return *this;
  }
  ///@}
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  /// Memory of at least `bytes` bytes for a stream, aligned to 256 bytes.
  /// @throws CudaError, also when its memory or the stream is of a device other than the current
  /// one, and when it served another stream that is being captured
  [[nodiscard]] void* reserve(const Cuda& backend, std::size_t bytes);
  /// The memory; null if there is none.
  [[nodiscard]] void* data() const noexcept { return data_; }
  /// The size of the memory in bytes.
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
void zero_bytes(const Cuda& backend, void* to, std::size_t bytes);

/// The bytes of an array of these extents; throws ShapeError where there is no such number.
template <class T, std::size_t Rank>
[[nodiscard]] std::size_t tensor_bytes(std::string_view function,
                                       const std::array<Index, Rank>& extents) {
  std::size_t bytes = sizeof(T);
  for (Index extent : extents) {
    if (extent < 0) throw_shape(function, "extents", to_string(extents), "no negative extent");
    const auto count = static_cast<std::size_t>(extent);
    if (count != 0 && bytes > (std::numeric_limits<std::size_t>::max)() / count)
      throw_shape(function, "extents", to_string(extents), "a size that can be addressed");
    bytes *= count;
  }
  return bytes;
}

}  // namespace detail

/// A contiguous, row-major array in device memory, which it owns. Its elements are not initialized.
template <class T, std::size_t Rank>
class DeviceTensor {
  static_assert(std::is_trivially_copyable_v<T>, "device memory holds plain bytes");

 public:
  using value_type = T;                      ///< type of an element
  using space = Device;                      ///< where the elements are
  using Extents = std::array<Index, Rank>;   ///< one number for each dimension
  static constexpr std::size_t rank = Rank;  ///< number of dimensions

  DeviceTensor() = default;
  /// A tensor of these extents. @throws ShapeError, CudaError
  DeviceTensor(const Cuda& backend, const Extents& extents) { resize(backend, extents); }
  ///@{
  /// A tensor that was moved from has no elements and no extent.
  DeviceTensor(DeviceTensor&& other) noexcept
      : buffer_(std::move(other.buffer_)), extents_(std::exchange(other.extents_, {})) {}
  DeviceTensor& operator=(DeviceTensor&& other) noexcept {
    buffer_ = std::move(other.buffer_);
    extents_ = std::exchange(other.extents_, {});
    return *this;
  }
  ///@}
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;
  ~DeviceTensor() = default;

  /// Gives the tensor these extents, for use in this stream. Elements keep their linear order if
  /// the memory need not grow; when it grows, they are not initialized. Shrinking keeps the memory,
  /// so that resizing within the largest shape so far allocates nothing. @throws ShapeError,
  /// CudaError
  void resize(const Cuda& backend, const Extents& extents) {
    const std::size_t bytes = detail::tensor_bytes<T>("DeviceTensor", extents);
    static_cast<void>(buffer_.reserve(backend, bytes));
    extents_ = extents;
  }

  /// The first element, in row-major order.
  [[nodiscard]] T* data() const noexcept { return static_cast<T*>(buffer_.data()); }
  /// The length of every dimension.
  [[nodiscard]] const Extents& extents() const noexcept { return extents_; }
  /// The length of dimension `i`.
  [[nodiscard]] Index extent(std::size_t i) const noexcept { return extents_[i]; }
  /// The number of elements.
  [[nodiscard]] Index size() const noexcept {
    Index size = 1;
    for (Index extent : extents_) size *= extent;
    return size;
  }

  ///@{
  /// A view of all elements. It is valid until the tensor is resized or destroyed.
  [[nodiscard]] View<T, Rank, Device> view() noexcept { return {data(), extents_}; }
  [[nodiscard]] View<const T, Rank, Device> view() const noexcept { return {data(), extents_}; }
  operator View<T, Rank, Device>() noexcept { return view(); }
  operator View<const T, Rank, Device>() const noexcept { return view(); }
  ///@}

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

/// Gives a tensor these extents in the memory of the device, as DeviceTensor::resize does.
/// @throws ShapeError, CudaError
template <class T, std::size_t Rank>
void resize(const Cuda& backend, DeviceTensor<T, Rank>& tensor,
            const std::type_identity_t<std::array<Index, Rank>>& extents) {
  tensor.resize(backend, extents);
}

/// Copies elements between host and device memory, or within the device, in the order of the stream
/// and without waiting. Host memory must live, and must not be changed, until the stream has done
/// the copy. Both views are contiguous.
/// @throws ShapeError where the extents differ or elements are not adjacent; CudaError
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

/// Sets all elements of a device view to zero, in the order of the stream. It is contiguous.
/// @throws ShapeError where elements are not adjacent; CudaError
template <class T, std::size_t Rank>
void zero(const Cuda& backend, const View<T, Rank, Device>& view) {
  if (!view.contiguous()) detail::throw_shape("zero", "view", "strided", "adjacent elements");
  detail::zero_bytes(backend, view.data(), static_cast<std::size_t>(view.size()) * sizeof(T));
}

/// A copy of a host array in device memory. It waits for the stream, so the array may be a
/// temporary object.
/// @throws CudaError
template <class T, std::size_t Rank>
[[nodiscard]] DeviceTensor<T, Rank> to_device(const Cuda& backend, const Tensor<T, Rank>& tensor) {
  DeviceTensor<T, Rank> result(backend, tensor.extents());
  copy(backend, tensor.view(), result.view());
  synchronize(backend);
  return result;
}

/// A copy of a device array in host memory. It waits for the stream.
/// @throws CudaError
template <class T, std::size_t Rank>
[[nodiscard]] Tensor<T, Rank> to_host(const Cuda& backend, const DeviceTensor<T, Rank>& tensor) {
  Tensor<T, Rank> result(tensor.extents());
  copy(backend, tensor.view(), result.view());
  synchronize(backend);
  return result;
}

}  // namespace ssm
