#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

/// As much of the CUDA runtime as cuda/runtime.cu calls, with a log of what it was asked instead of
/// a device. Everything is done at once; streams are names.

struct CUstream_st {
  std::string name;
  bool captured = false;
};
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUstream_st*;

enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation, cudaErrorOfAnother };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum { cudaEventDisableTiming, cudaStreamNonBlocking };

namespace ssm::test {

struct FakeCuda {
  int device = 0;
  cudaError_t last = cudaSuccess;
  bool fails = false;  ///< every allocation and free
  std::vector<std::string> log;
  std::map<void*, std::string> memory;  ///< what is allocated, by a name of its own
  int allocations = 0;

  cudaError_t returns(cudaError_t error) {
    if (error != cudaSuccess) last = error;
    return error;
  }
  static std::string name(cudaStream_t stream) { return stream == nullptr ? "0" : stream->name; }
};
inline FakeCuda fake_cuda;

}  // namespace ssm::test

inline const char* cudaGetErrorString(cudaError_t) { return "a reason"; }
inline cudaError_t cudaGetLastError() {
  return std::exchange(ssm::test::fake_cuda.last, cudaSuccess);
}
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 2, cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  return *device = ssm::test::fake_cuda.device, cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  return ssm::test::fake_cuda.device = device, cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, int) {
  return *stream = new CUstream_st{"own"}, cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream != nullptr && stream->captured ? cudaStreamCaptureStatusActive
                                                  : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, int) {
  return *event = new CUstream_st, cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return event->name = ssm::test::FakeCuda::name(stream), cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, int) {
  ssm::test::fake_cuda.log.push_back(ssm::test::FakeCuda::name(stream) + " waits for " +
                                     event->name);
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
inline cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t) {
  auto& fake = ssm::test::fake_cuda;
  if (fake.fails) return fake.returns(cudaErrorMemoryAllocation);
  *memory = std::malloc(bytes);
  fake.memory[*memory] = std::string(1, static_cast<char>('a' + fake.allocations++));
  return cudaSuccess;
}
inline cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  auto& fake = ssm::test::fake_cuda;
  fake.log.push_back("free " + fake.memory.at(memory) + " on " + ssm::test::FakeCuda::name(stream) +
                     " of device " + std::to_string(fake.device));
  fake.memory.erase(memory);
  std::free(memory);
  return fake.returns(fake.fails ? cudaErrorMemoryAllocation : cudaSuccess);
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
