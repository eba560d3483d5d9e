#include "ssm/train/schedule.hpp"

#include <cmath>

#include "support/catch.hpp"

using ssm::CosineSchedule;
using ssm::Index;

TEST_CASE("the schedule rises linearly to its peak, and reaches it with the last warm-up step") {
  const CosineSchedule schedule{.peak = 0.4, .warmup = 8, .steps = 100, .final_fraction = 0.1};
  for (Index step = 0; step < 8; ++step)
    CHECK(schedule(step) == Approx(0.05 * static_cast<double>(step + 1)));
  CHECK(schedule(8) == 0.4);
}

TEST_CASE("the schedule falls along half a cosine to its end, and stays there") {
  const CosineSchedule schedule{.peak = 2, .warmup = 10, .steps = 50, .final_fraction = 0.25};
  CHECK(schedule(30) == Approx(2 * (0.25 + 0.75 * 0.5)));  // half-way
  CHECK(schedule(20) == Approx(2 * (0.25 + 0.75 * 0.5 * (1 + std::sqrt(0.5)))));
  for (Index step = 10; step < 50; ++step) CHECK(schedule(step + 1) < schedule(step));
  CHECK(schedule(50) == 0.5);
  CHECK(schedule(1'000'000) == 0.5);
}

TEST_CASE("a schedule without warm-up starts at its peak, and one of no steps is at its end") {
  CHECK(CosineSchedule{.peak = 3, .warmup = 0, .steps = 10}(0) == 3);
  CHECK(CosineSchedule{.peak = 3, .warmup = 0, .steps = 0, .final_fraction = 0.5}(0) == 1.5);
}
