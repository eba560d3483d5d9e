// The library's own calls of the CUDA runtime, against one that writes down what it is asked.
#include "../../cuda/runtime.cu"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"

using namespace ssm;
using test::fake_cuda;
using test::FakeCuda;
using Log = std::vector<std::string>;

namespace {

struct Streams {
  CUstream_st first{"1"}, second{"2"};
  Streams() { fake_cuda = {}; }
  ~Streams() { CHECK(fake_cuda.memory.empty()); }
};

}  // namespace

TEST_CASE("a stream that takes a buffer over waits for the one before, and frees it") {
  Streams streams;
  {
    DeviceBuffer buffer;
    void* const memory = buffer.reserve(cuda(&streams.first), 100);
    CHECK(buffer.reserve(cuda(&streams.first), 100) == memory);
    CHECK(fake_cuda.log == Log{});
    CHECK(buffer.reserve(cuda(&streams.second), 50) == memory);
    CHECK(fake_cuda.log == Log{"2 waits for 1"});
  }
  CHECK(fake_cuda.log == Log{"2 waits for 1", "free a on 2 of device 0"});
}

TEST_CASE("a buffer that grows frees what it had in the order of the stream that used it") {
  Streams streams;
  {
    DeviceBuffer buffer;
    static_cast<void>(buffer.reserve(cuda(&streams.first), 100));
    static_cast<void>(buffer.reserve(cuda(&streams.second), 200));
    CHECK(fake_cuda.log == Log{"free a on 1 of device 0"});
  }
  CHECK(fake_cuda.log == Log{"free a on 1 of device 0", "free b on 2 of device 0"});
}

TEST_CASE("what a captured graph uses is kept until the buffer goes, and does not grow meanwhile") {
  Streams streams;
  {
    DeviceBuffer buffer;
    void* const memory = buffer.reserve(cuda(&streams.first), 100);
    streams.first.captured = true;
    CHECK(buffer.reserve(cuda(&streams.first), 100) == memory);
    CHECK_THROWS_AS(buffer.reserve(cuda(&streams.first), 101), CudaError);
    streams.first.captured = false;
    CHECK(buffer.reserve(cuda(&streams.first), 200) != memory);
    CHECK(buffer.reserve(cuda(&streams.first), 300) != memory);
    CHECK(fake_cuda.log == Log{"free b on 1 of device 0"});
    DeviceBuffer taken = std::move(buffer);
    CHECK(taken.size() == 300);
  }
  CHECK(fake_cuda.log ==
        Log{"free b on 1 of device 0", "free a on 1 of device 0", "free c on 1 of device 0"});
}

TEST_CASE("a buffer of another device is refused, and goes where it came from") {
  Streams streams;
  {
    DeviceBuffer buffer;
    static_cast<void>(buffer.reserve(cuda, 100));
    fake_cuda.device = 1;
    CHECK_THROWS_AS(buffer.reserve(cuda, 10), CudaError);
  }
  CHECK(fake_cuda.log == Log{"free a on 0 of device 0"});
  CHECK(fake_cuda.device == 1);
}

TEST_CASE("an error is told once, and those of others are neither told nor taken") {
  Streams streams;
  fake_cuda.last = cudaErrorOfAnother;
  {
    std::optional<DeviceBuffer> buffer(std::in_place);
    CHECK_NOTHROW(buffer->reserve(cuda, 100));
    CHECK_NOTHROW(synchronize(cuda));
    CHECK(device_count() == 2);
    CHECK(fake_cuda.last == cudaErrorOfAnother);
    fake_cuda.last = cudaSuccess;
    fake_cuda.fails = true;
    void* const memory = buffer->data();
    CHECK_THROWS_AS(buffer->reserve(cuda, 200), CudaError);
    CHECK(fake_cuda.last == cudaSuccess);
    CHECK(buffer->data() == memory);  // as it was
    CHECK(buffer->size() == 100);
  }
  CHECK(fake_cuda.last == cudaSuccess);  // of the free that failed
}
