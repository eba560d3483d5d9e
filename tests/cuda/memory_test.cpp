#include "ssm/cuda/memory.hpp"

#include <array>
#include <type_traits>
#include <utility>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

using namespace ssm;

TEST_CASE("what goes to a device and over it comes back, on a stream of its own") {
  test::Random random(1);
  const Stream stream;
  for (const Index length : {0, 1, 7}) {
    const auto host = random.normal<float, 2>({length, 3});
    const auto first = to_device(stream, host);
    DeviceTensor<float, 2> second(stream, host.extents());
    copy(stream, first.view(), second.view());
    CHECK(second.size() == host.size());
    CHECK(test::same_bits(to_host(stream, second), host));
  }
  CHECK(device_count() >= 1);
}

TEST_CASE("a device tensor that is moved from has no elements, and what it held is elsewhere") {
  const Tensor<Index, 1> host = [] {
    Tensor<Index, 1> made({2});
    made(1) = 5;
    return made;
  }();
  auto from = to_device(cuda, host);
  DeviceTensor<Index, 1> to(std::move(from));
  CHECK(from.size() == 0);
  CHECK(test::same_bits(to_host(cuda, to), host));
  DeviceTensor<Index, 1> third;
  third = std::move(to);
  CHECK(to.size() == 0);
  CHECK(test::same_bits(to_host(cuda, third), host));
}

TEST_CASE("a device tensor is resized where the backend computes, and keeps its memory for less") {
  TensorIn<float, 2, Cuda::space> tensor;
  STATIC_REQUIRE(std::is_same_v<decltype(tensor), DeviceTensor<float, 2>>);
  STATIC_REQUIRE(std::is_same_v<decltype(tensor)::space, Device>);
  CHECK(tensor.size() == 0);
  resize(cuda, tensor, {4, 3});
  const float* const memory = tensor.data();
  CHECK(memory != nullptr);
  resize(cuda, tensor, {2, 5});
  CHECK(tensor.data() == memory);
  CHECK(tensor.extents() == std::array<Index, 2>{2, 5});
  CHECK_THROWS_AS(resize(cuda, tensor, {2, -5}), ShapeError);
  CHECK(tensor.extents() == std::array<Index, 2>{2, 5});
  resize(cuda, tensor, {0, 5});
  CHECK(tensor.size() == 0);
}

TEST_CASE("an array on its way to a device may be a temporary") {
  test::Random random(2), again(2);
  const auto host = again.normal<double, 1>({1000});
  const auto device = to_device(cuda, random.normal<double, 1>({1000}));
  CHECK(test::same_bits(to_host(cuda, device), host));
}

TEST_CASE("a buffer grows, keeps its memory for less, and never shrinks") {
  DeviceBuffer buffer;
  CHECK(buffer.size() == 0);
  void* const memory = buffer.reserve(cuda, 100);
  CHECK(buffer.reserve(cuda, 10) == memory);
  CHECK(buffer.size() == 100);
  CHECK(buffer.reserve(cuda, 1000) != nullptr);
  CHECK(buffer.size() == 1000);
}

TEST_CASE(
    "copies between shapes that differ or elements apart are refused, and sizes that cannot be") {
  const Tensor<float, 2> host({2, 3});
  DeviceTensor<float, 2> device(cuda, {3, 2}), same(cuda, {2, 3});
  CHECK_THROWS_AS(copy(cuda, host.view(), device.view()), ShapeError);
  CHECK_THROWS_AS(copy(cuda, host.view().reversed(1), same.view()), ShapeError);
  CHECK_THROWS_AS((DeviceTensor<float, 2>(cuda, {-1, 3})), ShapeError);
  CHECK_THROWS_AS((DeviceTensor<double, 2>(cuda, {Index{1} << 62, 8})), ShapeError);
}
