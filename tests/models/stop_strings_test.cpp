#include "ssm/models/stop_strings.hpp"

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "support/catch.hpp"

namespace stop_strings_test {

using ssm::StopStrings;

namespace {

/// What comes of a text in pieces of up to so many bytes.
std::string given(StopStrings& stops, std::string_view text, std::size_t most, std::mt19937& draw) {
  std::string all;
  while (!text.empty()) {
    const std::size_t size = std::min(text.size(), 1 + draw() % most);
    all += stops.take(text.substr(0, size));
    text.remove_prefix(size);
  }
  return stops.stopped() ? all : all + stops.finish();
}

/// The text up to the stop that ends first, the longest of those, by trying all.
std::string up_to_stop(const std::vector<std::string>& stops, const std::string& text,
                       std::string& found) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    for (const std::string& stop : stops)
      if (stop.size() > found.size() && std::string_view(text).substr(0, end).ends_with(stop))
        found = stop;
    if (!found.empty()) return text.substr(0, end - found.size());
  }
  return text;
}

}  // namespace

TEST_CASE("a text ends at its first stop, however it is cut into pieces") {
  std::mt19937 draw(7);
  int stopped = 0;
  for (int i = 0; i < 3000; ++i) {
    const auto word = [&](std::size_t size) {
      std::string text(size, ' ');
      for (char& c : text) c = "ab"[draw() % 2];
      return text;
    };
    std::vector<std::string> stops(draw() % 4);
    for (std::string& stop : stops) stop = word(1 + draw() % 7);
    const std::string text = word(draw() % 40);
    std::string found;
    const std::string expected = up_to_stop(stops, text, found);
    StopStrings matcher(stops);
    INFO(text);
    CHECK(given(matcher, text, 1 + draw() % 9, draw) == expected);
    CHECK(matcher.found() == found);
    CHECK(matcher.stopped() == !found.empty());
    stopped += matcher.stopped() ? 1 : 0;
    matcher.reset();
    CHECK(given(matcher, text, 3, draw) == expected);
  }
  CHECK(stopped > 1000);
}

TEST_CASE("what may begin a stop is held back until it is decided, and nothing else is") {
  StopStrings stops({"</s>", "\n\nUser:"});
  CHECK(stops.take("a<") == "a");
  CHECK(stops.take("/") == "");
  CHECK(stops.take("/s>\n") == "<//s>");
  CHECK(stops.take("\n") == "");
  CHECK(stops.take("\n") == "\n");
  CHECK(stops.take("User") == "");
  StopStrings alone = stops;
  CHECK(alone.finish() == "\n\nUser");
  CHECK(alone.take(":b") == ":b");
  CHECK(stops.take(": more") == "");
  CHECK(stops.found() == "\n\nUser:");
  CHECK(stops.take("more") == "");

  StopStrings none;
  CHECK(none.take("all at once") == "all at once");
  CHECK(none.finish() == "");
}

TEST_CASE("a stop without text is refused") {
  CHECK_THROWS_WITH(StopStrings({"a", ""}),
                    "StopStrings: a stop is empty, expected at least one byte");
}

}  // namespace stop_strings_test
