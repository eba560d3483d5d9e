#pragma once

#include <limits>
#include <string>

#include "block.hpp"
#include "check.hpp"
#include "cuts.hpp"
#include "ssm/core/error.hpp"
#include "ssm/cuda/backend.hpp"
namespace ssm::kernels {

/// Bytes that `count` elements take in shared memory.
template <class T>
constexpr Index shared_size(Index count) {
  return (count * static_cast<Index>(sizeof(T)) + 15) / 16 * 16;
}

#ifdef __CUDACC__
template <class Kernel>
__global__ void __launch_bounds__(Kernel::most_threads) run(const __grid_constant__ Kernel kernel) {
  Block block;
  kernel(block);
}
#else
/// What the emulator knows a kernel by; it calls the kernel itself.
template <class Kernel>
void run(Kernel) {}
#endif

/// A property of the current device.
inline int device_attribute(const char* function, cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  check(function, "cudaGetDevice", cudaGetDevice(&device));
  check(function, "cudaDeviceGetAttribute", cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

/// Lets blocks of a kernel have so much shared memory on the current device. The limit is the
/// device's, always the same, so that threads that launch the kernel at once set no other.
template <class Kernel>
void allow_shared(const char* function, Index bytes) {
  constexpr Index without_asking = 48 * 1024;
  if (bytes > without_asking)
    check(
        function, "cudaFuncSetAttribute",
        cudaFuncSetAttribute(run<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             device_attribute(function, cudaDevAttrMaxSharedMemoryPerBlockOptin)));
}

/// What the current device holds of a kernel.
template <class Kernel>
Residency residency(const char* function, int threads, Index shared_bytes) {
  allow_shared<Kernel>(function, shared_bytes);
  int blocks = 0;
  check(function, "cudaOccupancyMaxActiveBlocksPerMultiprocessor",
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, run<Kernel>, threads,
                                                      static_cast<std::size_t>(shared_bytes)));
  return {device_attribute(function, cudaDevAttrMultiProcessorCount), blocks, threads};
}

/// Puts `blocks` blocks of a kernel into the stream.
template <class Kernel>
void launch(const Cuda& backend, const char* function, Index blocks, int threads,
            Index shared_bytes, const Kernel& kernel) {
  if (blocks == 0) return;
  if (blocks > (std::numeric_limits<std::int32_t>::max)())
    ssm::detail::throw_shape(function, "the number of blocks", std::to_string(blocks),
                             "less than 2^31");
  allow_shared<Kernel>(function, shared_bytes);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = backend.stream;
  check(function, "the launch of a kernel", cudaLaunchKernelEx(&config, run<Kernel>, kernel));
}

/// A kernel of one thread an element: `each(i)` for 0 ≤ i < count.
template <class Each>
struct Elementwise {
  static constexpr int most_threads = 256;
  Index count;
  Each each;

  SSM_DEVICE void operator()(Block& block) const {
    const Index i = block.index() * most_threads + block.thread();
    if (i < count) each(i);
  }
};

template <class Each>
void launch_elementwise(const Cuda& backend, const char* function, Index count, const Each& each) {
  constexpr Index threads = Elementwise<Each>::most_threads;
  launch(backend, function, (count + threads - 1) / threads, threads, 0,
         Elementwise<Each>{count, each});
}

}  // namespace ssm::kernels
