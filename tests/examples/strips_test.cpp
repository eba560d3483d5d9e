#include "../../examples/strips.hpp"

#include <string>

#include "support/catch.hpp"

namespace strips_test {

const strips::Picture picture{"a title", "1 um&\n", {{"one", {0, 1, 2, 4, 8, 8}}}};

TEST_CASE("a strip has a bar a letter, the highest full and zero empty") {
  CHECK(strips::to_text(picture, 80) == "a title\n\none   ▁▂▄██\n     1 um&↵\n");
}

TEST_CASE("a long strip goes on in the next line") {
  CHECK(strips::to_text(picture, 4) == "a title\n\none   ▁▂▄\n     1 um\n\none  ██\n     &↵\n");
}

TEST_CASE("a strip of zeros is empty, and a picture of nothing has its title") {
  CHECK(strips::to_text({"t", "ab", {{"", {0, 0}}}}, 9) == "t\n\n    \n  ab\n");
  CHECK(strips::to_text({"t", "", {}}, 9) == "t\n");
}

TEST_CASE("a picture in SVG has a bar and a letter each, escaped") {
  const std::string svg = strips::to_svg(picture);
  const auto count = [&](const std::string& what) {
    int times = 0;
    for (std::size_t at = 0; (at = svg.find(what, at)) != std::string::npos; ++at) ++times;
    return times;
  };
  CHECK(count("<rect") == 1 + 6);
  CHECK(count(">&amp;</text>") == 1);
  CHECK(count(">u</text>") == 1);
  CHECK(svg.ends_with("</svg>\n"));
}

}  // namespace strips_test
