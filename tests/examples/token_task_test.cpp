#include "../../examples/token_task.hpp"

#include <array>
#include <random>
#include <vector>

#include "support/catch.hpp"

namespace token_task_test {

using namespace ssm;

TEST_CASE("chosen places are as many as asked for, from left to right, and all as likely") {
  std::mt19937_64 engine(1);
  std::array<int, 5> times{};
  for (int draw = 0; draw < 5000; ++draw) {
    std::vector<Index> places;
    token_task::choose_places(engine, 2, 5, [&](Index place, Index n) {
      CHECK(n == static_cast<Index>(places.size()));
      places.push_back(place);
    });
    REQUIRE(places.size() == 2);
    CHECK(places[0] < places[1]);
    for (const Index place : places) ++times.at(static_cast<std::size_t>(place));
  }
  for (const int count : times) CHECK(std::abs(count - 2000) < 200);  // 6 standard deviations
}

TEST_CASE("all places are chosen where as many are asked for, and none of none") {
  std::mt19937_64 engine(2);
  Index sum = 0;
  token_task::choose_places(engine, 4, 4, [&](Index place, Index n) { sum += place == n; });
  CHECK(sum == 4);
  token_task::choose_places(engine, 0, 0, [&](Index, Index) { FAIL("no place is there"); });
}

TEST_CASE("a step is mostly of the level that a run has reached, and of none above it") {
  int reached = 0;
  std::array<int, 4> times{};
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    const Index level = token_task::level_of(seed, 3);
    REQUIRE((level >= 0 && level <= 3));
    ++times.at(static_cast<std::size_t>(level));
    reached += level == 3;
  }
  CHECK(reached > 3000);
  for (const int count : times) CHECK(count > 150);
  CHECK(token_task::level_of(7, 0) == 0);
}

/// A text of one token, which is to be repeated.
struct Echo {
  [[nodiscard]] static Index levels() { return 1; }
  [[nodiscard]] static Index size(Index) { return 2; }
  static void draw(std::mt19937_64& engine, Index, Index row, Tensor<Token, 2>& tokens,
                   Tensor<Token, 2>& targets) {
    tokens(row, 0) = static_cast<Token>(engine() % 5);
    targets(row, 1) = tokens(row, 0);
    tokens(row, 1) = 5;
  }
};

TEST_CASE("texts are the same for a seed, and what is not asked does not count") {
  token_task::Batch first, again, other;
  draw(Echo(), 3, 0, 40, first);
  draw(Echo(), 3, 0, 40, again);
  draw(Echo(), 4, 0, 40, other);
  int same = 0;
  for (Index b = 0; b < 40; ++b) {
    CHECK(first.tokens(b, 0) == again.tokens(b, 0));
    CHECK(first.targets(b, 0) == token_task::unasked);
    CHECK(first.targets(b, 1) == first.tokens(b, 0));
    same += first.tokens(b, 0) == other.tokens(b, 0);
  }
  CHECK(same < 30);
}

}  // namespace token_task_test
