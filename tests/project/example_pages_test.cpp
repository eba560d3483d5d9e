#include <filesystem>
#include <fstream>
#include <string>

#include "support/catch.hpp"

namespace example_pages_test {
namespace {

const std::filesystem::path examples = std::filesystem::path(SSM_SOURCE_DIR) / "examples";

std::string trimmed(const std::string& line) {
  const auto begin = line.find_first_not_of(' ');
  return begin == std::string::npos ? "" : line.substr(begin);
}

}  // namespace
}  // namespace example_pages_test

using namespace example_pages_test;

TEST_CASE("the code on the pages of the examples is that of their programs") {
  std::ifstream page(examples / "README.md");
  REQUIRE(page);
  int blocks = 0;
  for (std::string line; std::getline(page, line);) {
    if (line != "```cpp") continue;
    REQUIRE(std::getline(page, line));
    REQUIRE(line.starts_with("// "));
    const std::string name = line.substr(3);
    std::ifstream program(examples / name);
    INFO(name);
    REQUIRE(program);
    ++blocks;
    while (std::getline(page, line) && line != "```") {
      INFO(line);
      bool found = false;
      for (std::string code; !found && std::getline(program, code);)
        found = trimmed(code) == trimmed(line);
      CHECK(found);
    }
  }
  CHECK(blocks >= 6);
}

TEST_CASE("every picture on the pages of the examples is there") {
  std::ifstream page(examples / "README.md");
  REQUIRE(page);
  int pictures = 0;
  for (std::string line; std::getline(page, line);) {
    const auto begin = line.starts_with("![") ? line.find("](") : std::string::npos;
    if (begin == std::string::npos) continue;
    const std::string name = line.substr(begin + 2, line.find(')', begin) - begin - 2);
    INFO(name);
    CHECK(std::filesystem::exists(examples / name));
    ++pictures;
  }
  CHECK(pictures >= 5);
}
