#include "../../examples/progress.hpp"

#include <cstdint>
#include <string>

#include "support/catch.hpp"

namespace {

const std::string counts = "step 1234/12000";
const std::string details = "loss 1.6123 bits/byte  norm 0.52  lr 1.90e-03  13250 bytes/s";
const std::string left = "0:55:10";

}  // namespace

TEST_CASE("a line of progress says all of it where there is room") {
  CHECK(progress::line(200, 0.5, counts, details, left) ==
        "[##########..........] " + counts + "  " + details + "  left " + left);
}

TEST_CASE("a line of progress is shorter than the terminal is wide") {
  for (std::int64_t columns = 0; columns <= 200; ++columns) {
    const std::string line = progress::line(columns, 0.3, counts, details, left);
    CAPTURE(columns, line);
    CHECK(static_cast<std::int64_t>(line.size()) <= (columns > 0 ? columns - 1 : 0));
  }
}

TEST_CASE("in a narrow terminal the bar gives way, then the details from their end") {
  CHECK(progress::line(102, 0.5, counts, details, left) ==
        counts + "  " + details + "  left " + left);
  CHECK(progress::line(70, 0.5, counts, details, left) ==
        counts + "  loss 1.6123 bits/byte  norm 0.52  left " + left);
  CHECK(progress::line(40, 0.5, counts, details, left) == counts + "  left " + left);
}

TEST_CASE("a bar is never longer than itself") {
  CHECK(progress::line(80, -1, "", "", "?") == "[....................]   left ?");
  CHECK(progress::line(80, 7, "", "", "?") == "[####################]   left ?");
}

TEST_CASE("a time left is in hours, minutes and seconds") {
  CHECK(progress::clock(0) == "0:00:00");
  CHECK(progress::clock(3599.9) == "0:59:59");
  CHECK(progress::clock(360000) == "100:00:00");
}
