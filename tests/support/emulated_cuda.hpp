#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include "ssm/core/index.hpp"
#include "support/emulated_memory.hpp"
#include "support/multiprocessor.hpp"

/// As much of the CUDA runtime as ssm::cuda and its tests call, on the host, and as hostile as the
/// specification allows: what is put into a stream runs when somebody waits for it, among all
/// streams in an order that a seed draws from those that events and streams leave open; memory is
/// made and freed in the order of a stream and may be the same memory again; a graph keeps what it
/// was given; functions have attributes for each device; errors stay until they are asked for.
/// What a device would leave undefined throws EmulationError or ends the program with a sentence.

struct CUstream_st;
struct CUevent_st;
struct CUgraph_st;
struct CUgraphExec_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraphExec_st*;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorIllegalAddress = 700,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureUnjoined = 904,
  cudaErrorStreamCaptureIsolation = 905,
  cudaErrorStreamCaptureImplicit = 906,
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone,
  cudaStreamCaptureStatusActive,
  cudaStreamCaptureStatusInvalidated
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal };
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3
};
enum cudaMemoryType { cudaMemoryTypeUnregistered = 0, cudaMemoryTypeDevice = 2 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
inline constexpr unsigned cudaStreamDefault = 0, cudaStreamNonBlocking = 1,
                          cudaEventDisableTiming = 2;

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned count = 1) : x(count) {}
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize();

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);

cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory);

namespace ssm::test {

/// A launch as the device was asked for it.
struct Launch {
  std::string kernel;  ///< ssm::kernels::SelectiveForward<…>
  std::int64_t blocks;
  int threads;
  std::int64_t shared_bytes;
};

/// What a test may set and ask. Two devices are there.
struct Emulator {
  Multiprocessors model = device_model(90);  ///< of both devices
  bool runs_kernels = true;   ///< else launches are written down alone, and memory stays as it is
  bool hides_memory = false;  ///< device memory is out of the host's reach when nothing runs
  bool reuses_memory = true;  ///< that which was freed before in the order of the same stream
  std::vector<Launch> launches;  ///< where `writes_down`
  bool writes_down = false;      ///< launches and the log are kept
  std::vector<std::string> log;  ///< "free 0 on stream 1", "stream 2 waits for 1"
  std::function<int(const std::string&)> registers = [](const std::string&) { return 64; };

  /// Does what is left in all streams, and draws what comes by another seed.
  void restart(std::uint64_t seed);
  /// Blocks of memory that are not freed.
  [[nodiscard]] std::size_t allocated() const;
  /// What could not be freed is not missed.
  void forget_memory();
  /// The next calls of this name return the error; one that is sticky every call from then on, as
  /// after a kernel that failed. cudaSuccess ends it.
  void fail(const std::string& call, cudaError_t error);
  void break_device(cudaError_t error);
};
Emulator& emulator();

namespace emulator_detail {

cudaError_t launch(const cudaLaunchConfig_t& config, const std::type_info& kernel, int most_threads,
                   std::function<void()> run);
cudaError_t set_attribute(const std::type_info& kernel, cudaFuncAttribute attribute, int value);
cudaError_t resident_blocks(int* blocks, const std::type_info& kernel, int most_threads,
                            int threads, std::size_t shared_bytes);

}  // namespace emulator_detail
}  // namespace ssm::test

namespace ssm::kernels {
template <class Kernel>
void emulate(Index blocks, int threads, Index shared_bytes, const Kernel& kernel);
}

template <class Kernel>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*)(Kernel),
                               const std::type_identity_t<Kernel>& kernel) {
  return ssm::test::emulator_detail::launch(
      *config, typeid(Kernel), Kernel::most_threads, [asked = *config, kernel] {
        ssm::kernels::emulate(ssm::Index{asked.gridDim.x}, static_cast<int>(asked.blockDim.x),
                              static_cast<ssm::Index>(asked.dynamicSmemBytes), kernel);
      });
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(void (*)(Kernel), cudaFuncAttribute attribute, int value) {
  return ssm::test::emulator_detail::set_attribute(typeid(Kernel), attribute, value);
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*)(Kernel),
                                                          int threads, std::size_t shared_bytes) {
  return ssm::test::emulator_detail::resident_blocks(blocks, typeid(Kernel), Kernel::most_threads,
                                                     threads, shared_bytes);
}
