#pragma once

// The CUDA runtime of the device, or the emulated one, for tests that run on either.

#include <cstdint>

#ifdef SSM_ON_DEVICE
#include <cuda_runtime_api.h>
#else
#include "support/emulated_cuda.hpp"
#endif

#include "support/catch.hpp"

namespace ssm::test {

/// Runs the body in orders that streams may take: as many as there are seeds on the emulator, which
/// then has no memory left, and a few times on a device.
template <class Body>
void in_every_order(int seeds, const Body& body) {
#ifdef SSM_ON_DEVICE
  for (int i = 0; i < (seeds < 5 ? seeds : 5); ++i) body();
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
#else
  for (int seed = 1; seed <= seeds; ++seed) {
    INFO("order " << seed);
    emulator().restart(static_cast<std::uint64_t>(seed));
    emulator().hides_memory = true;
    body();
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(emulator().allocated() == 0);
  }
  emulator().restart(1);
#endif
}

/// A stream that waits for the default stream or, as ssm::Stream, does not.
class RawStream {
 public:
  explicit RawStream(unsigned flags = cudaStreamNonBlocking) {
    REQUIRE(cudaStreamCreateWithFlags(&stream_, flags) == cudaSuccess);
  }
  RawStream(const RawStream&) = delete;
  RawStream& operator=(const RawStream&) = delete;
  ~RawStream() { cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// What `body` puts into a stream, as a graph; nothing of it stays where the body throws.
class Graph {
 public:
  template <class Body>
  Graph(cudaStream_t stream, const Body& body) {
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
    try {
      body();
    } catch (...) {
      if (cudaStreamEndCapture(stream, &graph_) == cudaSuccess) cudaGraphDestroy(graph_);
      throw;
    }
    REQUIRE(cudaStreamEndCapture(stream, &graph_) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&exec_, graph_, 0) == cudaSuccess);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    cudaGraphExecDestroy(exec_);
    cudaGraphDestroy(graph_);
  }
  void launch(cudaStream_t stream) const { REQUIRE(cudaGraphLaunch(exec_, stream) == cudaSuccess); }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace ssm::test
