#include <cstring>
#include <new>
#include <utility>

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"

// ssm::cuda without a device: memory is the host's, and a stream has done everything at once.

namespace ssm {

int device_count() noexcept { return 1; }
void synchronize(const Cuda&) {}
Stream::Stream() = default;
Stream::~Stream() = default;

DeviceBuffer::~DeviceBuffer() { ::operator delete(data_); }
void* DeviceBuffer::reserve(const Cuda& backend, std::size_t bytes) {
  if (bytes == 0) return data_;
  backend_ = backend;
  if (bytes > size_) {
    ::operator delete(std::exchange(data_, nullptr));
    size_ = 0;
    data_ = ::operator new(bytes);
    size_ = bytes;
    std::memset(data_, 0xff, bytes);  // NaN, so that what is read unwritten shows
  }
  return data_;
}

namespace detail {

void copy_bytes(const Cuda&, Copy, void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memmove(to, from, bytes);
}

}  // namespace detail
}  // namespace ssm
