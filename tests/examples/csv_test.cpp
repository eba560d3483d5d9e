#include "../../examples/csv.hpp"

#include <string>

#include "support/catch.hpp"
#include "support/temp_directory.hpp"

TEST_CASE("rows of a .csv are sequences after their class") {
  const ssm::test::TempDirectory directory;
  for (const char* text : {"1,0.5,-2,3e1\n0,4,5\n", "1,0.5,-2,3e1\r\n0,4,5"}) {
    const auto data = read_csv(directory.write("file", text));
    CHECK(data.values.extents() == std::array<ssm::Index, 3>{1, 5, 1});
    CHECK(std::vector<float>(data.values.begin(), data.values.end()) ==
          std::vector<float>{0.5f, -2, 30, 4, 5});
    CHECK(std::vector<ssm::Index>(data.offsets.begin(), data.offsets.end()) ==
          std::vector<ssm::Index>{0, 3, 5});
    CHECK(std::vector<ssm::Token>(data.labels.begin(), data.labels.end()) ==
          std::vector<ssm::Token>{1, 0});
  }
}

TEST_CASE("a wrong .csv gives one clear error") {
  const ssm::test::TempDirectory directory;
  const auto fails = [&](const std::string& text, const std::string& what) {
    CHECK_THROWS_WITH(read_csv(directory.write("file", text)),
                      (directory / "file").string() + what);
  };
  fails("", ": is empty");
  fails("label,a,b\n", ", line 1: column 1 is no class from 0");
  fails("-1,2\n", ", line 1: column 1 is no class from 0");
  fails("0.5,2\n", ", line 1: column 1 is no class from 0");
  fails("1e9,2\n", ", line 1: column 1 is no class from 0");
  fails("0,1,2\n1,1,x\n", ", line 2: column 3 is no number");
  fails("0,1,2\n1,1,\n", ", line 2: column 3 is no number");
  fails("0,1 2\n", ", line 1: column 2 is no number");
  fails("0,1,2\n\n", ", line 2: has 0 numbers, expected at least 2");
  fails("0\n", ", line 1: has 1 numbers, expected at least 2");
  CHECK_THROWS_WITH(read_csv(directory / "none"),
                    (directory / "none").string() + ": cannot be opened");
}
