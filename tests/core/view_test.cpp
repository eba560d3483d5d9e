#include "ssm/core/view.hpp"

#include <Eigen/Core>
#include <array>
#include <numeric>
#include <type_traits>

#include "ssm/core/eigen.hpp"
#include "ssm/core/tensor.hpp"
#include "support/catch.hpp"

using namespace ssm;

namespace {

std::array<int, 24> count_up() {
  std::array<int, 24> numbers;
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

template <class AnyView>
concept Readable = requires(const AnyView& view) {
  view(0, 0);
};

}  // namespace

// Mixing spaces, or dropping const, does not compile.
static_assert(std::is_convertible_v<View<float, 2>, View<const float, 2>>);
static_assert(!std::is_convertible_v<View<const float, 2>, View<float, 2>>);
static_assert(!std::is_constructible_v<View<float, 2, Device>, View<float, 2>>);
static_assert(!std::is_constructible_v<View<float, 2>, View<float, 2, Device>>);
static_assert(!std::is_constructible_v<View<const float, 2>, View<float, 2, Device>>);
static_assert(!std::is_constructible_v<View<const float, 2, Device>, View<float, 2>>);
static_assert(std::is_convertible_v<View<float, 2, Device>, View<const float, 2, Device>>);
static_assert(!std::is_constructible_v<View<const double, 2>, View<float, 2>>);
static_assert(!std::is_constructible_v<View<float, 2>, View<float, 3>>);
static_assert(Readable<View<float, 2>> && !Readable<View<float, 2, Device>>);
static_assert(std::is_trivially_copyable_v<View<float, 3>>);
static_assert(sizeof(View<float, 1>{}.extent(0)) == 8);

TEST_CASE("a view is row-major and its last extent contiguous") {
  auto numbers = count_up();
  const View<int, 3> view(numbers.data(), {2, 3, 4});
  CHECK(view.size() == 24);
  CHECK(view.strides() == std::array<Index, 3>{12, 4, 1});
  CHECK(view(1, 2, 3) == 23);
  CHECK(view(0, 1, 2) == 6);
  CHECK(view.contiguous());
  view(1, 0, 0) = -1;
  CHECK(numbers[12] == -1);
}

TEST_CASE("an index takes the first extent away") {
  auto numbers = count_up();
  const View<int, 3> view(numbers.data(), {2, 3, 4});
  CHECK(view[1].extents() == std::array<Index, 2>{3, 4});
  CHECK(view[1](2, 1) == view(1, 2, 1));
  CHECK(view[1][2](1) == view(1, 2, 1));
}

TEST_CASE("a slice keeps the strides, may be empty, and shares the elements") {
  auto numbers = count_up();
  const View<int, 3> view(numbers.data(), {2, 3, 4});
  const auto middle = view.slice(1, 1, 2).slice(2, 2, 1);
  CHECK(middle.extents() == std::array<Index, 3>{2, 2, 1});
  CHECK(middle(1, 1, 0) == view(1, 2, 2));
  CHECK_FALSE(middle.contiguous());
  CHECK(view.slice(0, 1, 1).contiguous());
  CHECK(view.slice(1, 3, 0).size() == 0);
  CHECK(view.slice(1, 3, 0));
}

TEST_CASE("a reversed view walks from the end, and twice reversed is the same") {
  auto numbers = count_up();
  const View<int, 3> view(numbers.data(), {2, 3, 4});
  const auto back = view.reversed(1);
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 3; ++j)
      for (Index k = 0; k < 4; ++k) CHECK(back(i, j, k) == view(i, 2 - j, k));
  CHECK_FALSE(back.contiguous());
  const auto twice = back.reversed(1);
  CHECK(twice.data() == view.data());
  CHECK(twice.strides() == view.strides());
  const View<int, 2> empty(numbers.data(), {0, 4});
  CHECK(empty.reversed(0).data() == empty.data());
}

TEST_CASE("an absent view is false, one without elements is true, and const keeps which") {
  int number = 0;
  const View<int, 2> absent, empty(&number, {0, 4});
  CHECK_FALSE(absent);
  CHECK(empty);
  const View<const int, 2> still_absent = absent, still_empty = empty;
  CHECK_FALSE(still_absent);
  CHECK(still_empty);
  CHECK(still_empty.extent(1) == 4);
}

TEST_CASE("views count their elements in 64 bits") {
  const View<char, 3, Device> large(nullptr, {1 << 20, 1 << 20, 4});
  CHECK(large.size() == Index(1) << 42);
  CHECK(large.stride(0) == Index(1) << 22);
  CHECK(large.slice(0, 7, 9).extent(0) == 9);
}

TEST_CASE("a view goes to Eigen and back with its strides") {
  Tensor<double, 2> tensor({3, 5});
  std::iota(tensor.begin(), tensor.end(), 0.);
  const auto window = tensor.view().slice(1, 1, 3).reversed(0);
  const auto map = as_eigen(window);
  CHECK(map.rows() == 3);
  CHECK(map.cols() == 3);
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 3; ++j) CHECK(map(i, j) == window(i, j));
  const auto back = as_view(map);
  CHECK(back.data() == window.data());
  CHECK(back.strides() == window.strides());
  as_eigen(window)(0, 0) = -7;
  CHECK(tensor(2, 1) == -7);
  CHECK(as_eigen(tensor.view()[1]).sum() == 35);
}

TEST_CASE("a view of an Eigen matrix follows its storage order, and its const") {
  Eigen::MatrixXf column_major(2, 3);
  column_major << 1, 2, 3, 4, 5, 6;
  const auto view = as_view(column_major);
  static_assert(std::is_same_v<decltype(view), const View<float, 2>>);
  CHECK(view.strides() == std::array<Index, 2>{1, 2});
  CHECK(view(1, 2) == 6);
  view(0, 1) = 20;
  CHECK(column_major(0, 1) == 20);

  const Eigen::Matrix<float, 2, 3, Eigen::RowMajor> row_major = column_major;
  const auto fixed = as_view(row_major);
  static_assert(std::is_same_v<decltype(fixed), const View<const float, 2>>);
  CHECK(fixed.contiguous());
  CHECK(fixed(0, 1) == 20);
  auto block = column_major.block(0, 1, 2, 2);
  CHECK(as_view(block)(1, 1) == 6);
}

TEST_CASE("a view of an Eigen vector has rank 1, wherever its elements lie") {
  Eigen::VectorXd vector = Eigen::VectorXd::LinSpaced(4, 0, 3);
  const auto view = as_view(vector);
  static_assert(std::is_same_v<decltype(view), const View<double, 1>>);
  CHECK(view.extent(0) == 4);
  view(3) = 7;
  CHECK(vector(3) == 7);
  const Eigen::RowVector3f fixed(1, 2, 3);
  static_assert(std::is_same_v<decltype(as_view(fixed)), View<const float, 1>>);
  CHECK(as_view(fixed)(2) == 3);
  Eigen::MatrixXd matrix(2, 3);
  matrix << 1, 2, 3, 4, 5, 6;
  auto row = matrix.row(1);
  CHECK(as_view(row).stride(0) == 2);
  CHECK(as_view(row)(2) == 6);
  const Eigen::VectorXd none(0);
  CHECK(static_cast<bool>(as_view(none)));
}
