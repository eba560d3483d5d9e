#pragma once

#include <limits>
#include <string>

#include "block.hpp"
#include "ssm/core/error.hpp"
#include "ssm/cuda/backend.hpp"
#ifdef __CUDACC__
#include "check.hpp"
#endif

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

/// The most shared memory that a block may ask for.
inline int most_shared_bytes(const char* function) {
  int device = 0, bytes = 0;
  check(function, "cudaGetDevice", cudaGetDevice(&device));
  check(function, "cudaDeviceGetAttribute",
        cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return bytes;
}

#endif

/// Puts `blocks` blocks of a kernel into the stream.
template <class Kernel>
void launch(const Cuda& backend, const char* function, Index blocks, int threads,
            Index shared_bytes, const Kernel& kernel) {
  if (blocks == 0) return;
  if (blocks > std::numeric_limits<std::int32_t>::max())
    ssm::detail::throw_shape(function, "the number of blocks", std::to_string(blocks),
                             "less than 2^31");
#ifdef __CUDACC__
  constexpr Index without_asking = 48 * 1024;
  if (shared_bytes > without_asking)  // always for the same, whatever another thread launches
    check(function, "cudaFuncSetAttribute",
          cudaFuncSetAttribute(run<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               most_shared_bytes(function)));
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = backend.stream;
  check(function, "the launch of a kernel", cudaLaunchKernelEx(&config, run<Kernel>, kernel));
#else
  static_cast<void>(backend);
  emulate(blocks, threads, shared_bytes, kernel);
#endif
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
#ifdef __CUDACC__
  constexpr Index threads = Elementwise<Each>::most_threads;
  launch(backend, function, (count + threads - 1) / threads, threads, 0,
         Elementwise<Each>{count, each});
#else
  static_cast<void>(backend), static_cast<void>(function);
  for (Index i = count; i-- > 0;) each(i);  // its threads never meet: no fibers
#endif
}

}  // namespace ssm::kernels
