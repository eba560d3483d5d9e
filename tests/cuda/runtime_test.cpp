// The library's calls of the CUDA runtime that fail, or that a device would forgive: emulator
// alone.
#include <optional>
#include <string>
#include <vector>

#include "../../cuda/launch.hpp"
#include "ssm/cuda.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/cuda_api.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::EmulationError;
using test::emulator;
using Log = std::vector<std::string>;

namespace {

/// Writes `value` into an array of shared memory, and from there to `to`.
struct ThroughShared {
  static constexpr int most_threads = 32;
  int count;
  float value;
  float* to;

  void operator()(kernels::Block& block) const {
    const auto memory = block.shared<float>(count);
    memory[block.thread()] = value;
    block.sync();
    to[block.thread()] = memory[block.thread()];
  }
};
void launch_with_shared(int count, float* to) {
  kernels::launch(cuda, "test", 1, 32, count * 4, ThroughShared{count, 2, to});
}

struct Restart {
  Restart() { emulator().restart(1); }
  ~Restart() {
    emulator().restart(1);
    CHECK(emulator().allocated() == 0);
  }
};

}  // namespace

TEST_CASE("an error is told once, and those of others are neither told nor taken") {
  const Restart restart;
  static_cast<void>(cudaSetDevice(100));  // somebody else's mistake
  const Stream other;
  std::optional<DeviceBuffer> buffer(std::in_place);
  CHECK_NOTHROW(buffer->reserve(cuda, 128));
  CHECK_NOTHROW(synchronize(cuda));
  CHECK_NOTHROW(launch_with_shared(32, static_cast<float*>(buffer->data())));
  CHECK(device_count() == 2);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaSuccess);

  void* const memory = buffer->data();
  for (const char* call :
       {"cudaMallocAsync", "cudaPointerGetAttributes", "cudaStreamIsCapturing"}) {
    INFO(call);
    emulator().fail(call, cudaErrorMemoryAllocation);
    CHECK_THROWS_WITH(buffer->reserve(cuda, 200),
                      "DeviceBuffer: " + std::string(call) + " failed: out of memory");
    emulator().fail(call, cudaSuccess);
    CHECK(cudaPeekAtLastError() == cudaSuccess);
    CHECK(buffer->data() == memory);  // as it was
    CHECK(buffer->size() == 128);
    CHECK(emulator().allocated() == 1);
  }
  emulator().fail("cudaLaunchKernelEx", cudaErrorInvalidValue);
  CHECK_THROWS_WITH(launch_with_shared(32, nullptr),
                    "test: the launch of a kernel failed: invalid argument");
  emulator().fail("cudaLaunchKernelEx", cudaSuccess);
  CHECK(cudaPeekAtLastError() == cudaSuccess);

  for (const char* call : {"cudaEventCreateWithFlags", "cudaEventRecord", "cudaStreamWaitEvent"}) {
    emulator().fail(call, cudaErrorMemoryAllocation);
    CHECK_THROWS_AS(buffer->reserve(other, 50), CudaError);
    emulator().fail(call, cudaSuccess);
    CHECK(cudaPeekAtLastError() == cudaSuccess);
  }
  emulator().writes_down = true;
  CHECK_NOTHROW(buffer->reserve(other, 50));  // it still serves the first
  CHECK(emulator().log == Log{"stream 1 waits for default of device 0"});
}

TEST_CASE("a device that is broken is told of by every call, and by no destructor") {
  const Restart restart;
  {
    const DeviceTensor<float, 1> tensor(cuda, {10});
    const Stream stream;
    emulator().break_device(cudaErrorIllegalAddress);
    CHECK_THROWS_WITH(synchronize(cuda),
                      "synchronize: cudaStreamSynchronize failed: an illegal memory access was "
                      "encountered");
    CHECK_THROWS_AS(synchronize(cuda), CudaError);
    CHECK_THROWS_AS(Stream(), CudaError);
    CHECK_THROWS_AS((DeviceTensor<float, 1>(cuda, {10})), CudaError);
    CHECK(device_count() == 0);
    emulator().fail("cudaFreeAsync", cudaErrorIllegalAddress);
    emulator().break_device(cudaSuccess);
    static_cast<void>(cudaGetLastError());
    const DeviceTensor<float, 1> lost(cuda, {10});
  }
  CHECK(cudaPeekAtLastError() == cudaSuccess);
  CHECK(emulator().allocated() == 2);
  emulator().forget_memory();
}

TEST_CASE(
    "a buffer that goes while its stream is captured leaves its memory, and the graph whole") {
  const Restart restart;
  const test::RawStream stream;
  std::optional<DeviceBuffer> buffer(std::in_place);
  static_cast<void>(buffer->reserve(cuda(stream), 100));
  const test::Graph graph(stream, [&] { buffer.reset(); });
  CHECK(emulator().allocated() == 1);
  emulator().forget_memory();
}

TEST_CASE("shared memory beyond 48 KiB is asked for on each device, always the same") {
  const Restart restart;
  for (const int device : {0, 1}) {
    REQUIRE(cudaSetDevice(device) == cudaSuccess);
    DeviceTensor<float, 1> to(cuda, {32});
    for (const int count : {20000, 13000, 32, 15000}) {
      CHECK_NOTHROW(launch_with_shared(count, to.data()));
      CHECK(to_host(cuda, to)(31) == 2);
    }
    CHECK_THROWS_AS(launch_with_shared(100000, to.data()), CudaError);
  }
}

TEST_CASE("the emulated runtime names what a device would leave undefined") {
  const Restart restart;
  DeviceTensor<float, 1> to(cuda, {10});
  synchronize(cuda);  // it is there
  const auto touch = [](float* at) {
    return test::last_words([&] {
      struct Write {
        float* at;
        void operator()(Index) const { *at = 1; }
      };
      kernels::launch_elementwise(cuda, "test", 1, Write{at});
      synchronize(cuda);
    });
  };
  using Catch::Contains;
  CHECK(touch(to.data() + 5).empty());
  CHECK_THAT(touch(to.data() + 1000), Contains("bytes beyond a block of 40 bytes that is in use"));
  float* freed = nullptr;
  {
    emulator().reuses_memory = false;
    DeviceTensor<float, 1> other(cuda, {10});
    freed = other.data();
  }
  CHECK_THAT(
      touch(freed),
      Contains("byte 0 of a block of 40 bytes that was freed on stream default of device 0"));
  REQUIRE(cudaSetDevice(1) == cudaSuccess);
  CHECK_THAT(touch(to.data()), Contains("of a block of 40 bytes that is in use on device 0"));
  REQUIRE(cudaSetDevice(0) == cudaSuccess);
  synchronize(cuda);
  Tensor<float, 1> host({20});
  CHECK(cudaMemcpyAsync(to.data(), host.data(), 80, cudaMemcpyHostToDevice, nullptr) ==
        cudaSuccess);
  CHECK_THROWS_AS(synchronize(cuda), EmulationError);
  CHECK(cudaMemcpyAsync(to.data(), host.data(), 4, cudaMemcpyDeviceToHost, nullptr) == cudaSuccess);
  CHECK_THROWS_AS(synchronize(cuda), EmulationError);
  const cudaLaunchConfig_t too_many{1, 64};
  CHECK(cudaLaunchKernelEx(&too_many, kernels::run<ThroughShared>, ThroughShared{}) ==
        cudaErrorInvalidValue);
  static_cast<void>(cudaGetLastError());
}
