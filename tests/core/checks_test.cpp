#include "ssm/core/checks.hpp"

#include <algorithm>
#include <vector>

#include "ssm/core/view.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

/// Some view on 64 numbers, in any order, with any gaps.
View<const float, 3> draw(Random& random, const std::vector<float>& memory) {
  for (;;) {
    std::array<Index, 3> extents, strides;
    Index first = 0, last = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      extents[i] = random.integer(0, 3);
      strides[i] = random.integer(0, 3) == 0 ? 1 : random.integer(-9, 9);
      (strides[i] < 0 ? first : last) += (extents[i] - 1) * strides[i];
    }
    const Index begin = random.integer(0, 63);
    if (begin + first < 0 || begin + last > 63) continue;
    return {memory.data() + begin, extents, strides};
  }
}

std::vector<const float*> elements_of(const View<const float, 3>& view) {
  std::vector<const float*> elements;
  for (Index i = 0; i < view.extent(0); ++i)
    for (Index j = 0; j < view.extent(1); ++j)
      for (Index k = 0; k < view.extent(2); ++k) elements.push_back(&view(i, j, k));
  std::sort(elements.begin(), elements.end());
  return elements;
}

bool refused(const View<const float, 3>& view) {
  try {
    detail::check_output("f", "y", view);
    return false;
  } catch (const ShapeError&) {
    return true;
  }
}

}  // namespace

TEST_CASE("views that share an element are always said to") {
  Random random(1);
  const std::vector<float> memory(64);
  int apart = 0, shared = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto a = draw(random, memory), b = draw(random, memory);
    const auto x = elements_of(a), y = elements_of(b);
    std::vector<const float*> both;
    std::set_intersection(x.begin(), x.end(), y.begin(), y.end(), std::back_inserter(both));
    const bool said = detail::overlap(a, b);
    CHECK(said == detail::overlap(b, a));
    if (!both.empty()) CHECK(said);
    shared += both.empty() ? 0 : 1;
    apart += said ? 0 : 1;
    if (detail::same_elements(a, b) && !x.empty()) CHECK(x == y);
  }
  CHECK(shared > 500);
  CHECK(apart > 1000);
}

TEST_CASE("different columns of the same rows share nothing") {
  std::vector<float> memory(60);
  const View<float, 2> all(memory.data(), {5, 12});
  const View<float, 3> batches(memory.data(), {1, 5, 12});
  const auto columns = [&](Index begin, Index count) { return all.slice(1, begin, count); };
  CHECK_FALSE(detail::overlap(columns(0, 4), columns(4, 8)));
  CHECK_FALSE(detail::overlap(columns(4, 8), columns(0, 4)));
  CHECK_FALSE(detail::overlap(columns(4, 3).reversed(0), batches.slice(2, 7, 5)));
  CHECK(detail::overlap(columns(0, 5), columns(4, 8)));
  CHECK(detail::overlap(columns(4, 8), columns(0, 5)));
  CHECK(detail::overlap(columns(4, 3).reversed(0), batches.slice(2, 6, 5)));
  CHECK_FALSE(detail::overlap(columns(0, 0), all));
  // An empty view has no elements, wherever it lies.
  CHECK_FALSE(detail::overlap(columns(3, 0), all));
  CHECK_FALSE(detail::overlap(all, all.slice(0, 2, 0)));
  detail::OverlapChecks<2> call("f");
  call.input("x", all);
  CHECK_NOTHROW(call.output("y", columns(3, 0)));
  CHECK_FALSE(detail::overlap(View<float, 2>(), all));
}

TEST_CASE("an output that holds an element twice is refused, and usual strides are not") {
  Random random(2);
  const std::vector<float> memory(64);
  for (int i = 0; i < 20000; ++i) {
    const auto view = draw(random, memory);
    const auto elements = elements_of(view);
    if (std::adjacent_find(elements.begin(), elements.end()) != elements.end())
      CHECK(refused(view));
  }
  const float* data = memory.data();
  CHECK_FALSE(refused({data, {2, 3, 4}}));
  CHECK_FALSE(refused({data, {2, 3, 4}, {4, 8, 1}}));
  CHECK_FALSE(refused(View<const float, 3>(data, {2, 3, 4}).reversed(1)));
  CHECK_FALSE(refused({data, {1, 3, 4}, {0, 4, 1}}));
  CHECK_FALSE(refused({data, {2, 0, 4}, {0, 0, 0}}));
  CHECK(refused({data, {2, 3, 4}, {0, 4, 1}}));
  CHECK(refused({data, {2, 3, 4}, {12, 4, 0}}));
}

TEST_CASE("a view without memory is refused by name") {
  const auto refuses = [](const View<const float, 2>& view, const std::string& sentence) {
    CHECK_THROWS_WITH(detail::check_given("f", "x", view, "rows"), "f: x is " + sentence);
  };
  const float one = 1;
  refuses({}, "absent, expected rows");
  refuses({&one, {-1, 2}}, "(-1, 2), expected no negative extent");
  refuses({nullptr, {1, 2}}, "a null pointer to (1, 2), expected elements");
  CHECK_NOTHROW(detail::check_given("f", "x", View<const float, 2>(nullptr, {0, 2})));
}
