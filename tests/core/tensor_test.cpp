#include "ssm/core/tensor.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "support/catch.hpp"
#include "support/count_allocations.hpp"

using namespace ssm;

TEST_CASE("a tensor is zero when made, aligned to a cache line, and contiguous") {
  const Tensor<float, 3> tensor({3, 5, 7});
  CHECK(tensor.size() == 105);
  CHECK(std::all_of(tensor.begin(), tensor.end(), [](float x) { return x == 0; }));
  CHECK(reinterpret_cast<std::uintptr_t>(tensor.data()) % 64 == 0);
  CHECK(tensor.view().contiguous());
  CHECK(tensor.view().extents() == tensor.extents());
}

TEST_CASE("a tensor's elements are those of its view, and a copy's are its own") {
  Tensor<int, 2> tensor({2, 3});
  tensor(1, 2) = 5;
  CHECK(tensor.view()(1, 2) == 5);
  CHECK(tensor.data()[5] == 5);
  Tensor<int, 2> copy = tensor;
  copy.fill(1);
  CHECK(tensor(1, 2) == 5);
  const Tensor<int, 2> moved = std::move(copy);
  CHECK(std::count(moved.begin(), moved.end(), 1) == 6);
}

TEST_CASE("a tensor that is resized within its largest shape does not allocate") {
  Tensor<double, 2> tensor({10, 10});
  const double* memory = tensor.data();
  CHECK(ssm::test::allocations_of([&] {
          tensor.resize({5, 7});
          tensor.resize({0, 3});
          tensor.resize({100, 1});
        }) == 0);
  CHECK(tensor.data() == memory);
  CHECK(tensor.extents() == std::array<Index, 2>{100, 1});
}

TEST_CASE("a tensor keeps its elements in order when resized, and new ones are zero") {
  Tensor<int, 1> tensor({2});
  tensor.fill(3);
  tensor.resize({4});
  CHECK(tensor(1) == 3);
  CHECK(tensor(3) == 0);
}

TEST_CASE("a tensor without elements is a present view") {
  const Tensor<float, 2> tensor({0, 4});
  CHECK(tensor.size() == 0);
  CHECK(tensor.view());
  CHECK(tensor.begin() == tensor.end());
}

TEST_CASE("extents that are negative or cannot be addressed are refused, and change nothing") {
  Tensor<float, 2> tensor({2, 2});
  CHECK_THROWS_WITH(tensor.resize({2, -1}),
                    "Tensor: extents is (2, -1), expected no negative extent");
  constexpr Index huge = std::numeric_limits<Index>::max() / 2;
  CHECK_THROWS_AS(tensor.resize({huge, huge}), ShapeError);
  CHECK(tensor.extents() == std::array<Index, 2>{2, 2});
}

TEST_CASE("a tensor that is moved from is empty, and may be used again") {
  Tensor<float, 2> from({2, 3});
  from.fill(4);
  const Tensor<float, 2> made(std::move(from));
  CHECK(made.extents() == std::array<Index, 2>{2, 3});
  CHECK(made(1, 2) == 4);
  CHECK(from.extents() == std::array<Index, 2>{0, 0});
  CHECK(from.size() == 0);
  from.resize({1, 2});
  Tensor<float, 2> assigned({5, 5});
  assigned = std::move(from);
  CHECK(assigned.extents() == std::array<Index, 2>{1, 2});
  CHECK(from.view().size() == 0);
}
