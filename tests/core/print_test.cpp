#include "ssm/core/print.hpp"

#include <sstream>

#include "support/catch.hpp"

using namespace ssm;

namespace {

template <class T>
std::string printed(const T& value) {
  std::ostringstream stream;
  stream << value;
  return stream.str();
}

}  // namespace

TEST_CASE("views and tensors print their shape and their elements, nested as they lie") {
  Tensor<double, 2> small({2, 3});
  small(0, 1) = 1.5;
  small(1, 2) = -2;
  CHECK(printed(small) ==
        "(2, 3) [[0, 1.5, 0],\n"
        "        [0, 0, -2]]");
  CHECK(printed(small.view().slice(1, 1, 1)) ==
        "(2, 1) [[1.5],\n"
        "        [0]]");
  CHECK(printed(View<const float, 2>()) == "absent");
  CHECK(printed(Tensor<int, 1>({0})) == "(0) []");
}

TEST_CASE("of a long extent the first and last three are printed") {
  Tensor<int, 1> numbers({1000});
  for (Index i = 0; i < 1000; ++i) numbers(i) = static_cast<int>(i);
  CHECK(printed(numbers) == "(1000) [0, 1, 2, ..., 997, 998, 999]");
  CHECK(printed(numbers.view().reversed(0)) == "(1000) [999, 998, 997, ..., 2, 1, 0]");
}

TEST_CASE("device memory prints as its shape") {
  CHECK(printed(View<float, 2, Device>(nullptr, {3, 4})) == "(3, 4)");
}
