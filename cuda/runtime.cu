#include <utility>

#include "launch.hpp"
#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"

namespace ssm {

using kernels::check;

int device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return 0;
  }
  return count;
}

void synchronize(const Cuda& backend) {
  check("synchronize", "cudaStreamSynchronize", cudaStreamSynchronize(backend.stream));
}

Stream::Stream() {
  check("Stream", "cudaStreamCreateWithFlags",
        cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}
Stream::~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) static_cast<void>(cudaFreeAsync(data_, backend_.stream));
}

void* DeviceBuffer::reserve(const Cuda& backend, std::size_t bytes) {
  if (bytes <= size_) return data_;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check("DeviceBuffer", "cudaStreamIsCapturing", cudaStreamIsCapturing(backend.stream, &status));
  if (status != cudaStreamCaptureStatusNone)
    throw CudaError("DeviceBuffer: it holds " + std::to_string(size_) + " bytes, expected " +
                    std::to_string(bytes) +
                    ": it cannot grow while its stream is captured; run the operation once before");
  void* grown = nullptr;
  check("DeviceBuffer", "cudaMallocAsync", cudaMallocAsync(&grown, bytes, backend.stream));
  void* const before = std::exchange(data_, grown);
  size_ = bytes;
  const Cuda backend_before = std::exchange(backend_, backend);
  if (before != nullptr)
    check("DeviceBuffer", "cudaFreeAsync", cudaFreeAsync(before, backend_before.stream));
  return data_;
}

void detail::copy_bytes(const Cuda& backend, Copy direction, void* to, const void* from,
                        std::size_t bytes) {
  if (bytes == 0) return;
  const cudaMemcpyKind kind = direction == Copy::to_device ? cudaMemcpyHostToDevice
                              : direction == Copy::to_host ? cudaMemcpyDeviceToHost
                                                           : cudaMemcpyDeviceToDevice;
  check("copy", "cudaMemcpyAsync", cudaMemcpyAsync(to, from, bytes, kind, backend.stream));
}

}  // namespace ssm
