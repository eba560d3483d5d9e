#include "../../examples/idx.hpp"

#include <zlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/temp_directory.hpp"

using namespace std::string_literals;

namespace {

const std::string header = "\0\0\x08\x02\0\0\0\x02\0\0\0\x03"s;

}  // namespace

TEST_CASE("an IDX file is read, compressed or not") {
  const ssm::test::TempDirectory directory;
  const std::filesystem::path plain = directory.write("file", header + "abcdef");
  const std::filesystem::path packed = directory / "file.gz";
  const gzFile file = gzopen(packed.c_str(), "wb");
  gzwrite(file, (header + "abcdef").data(), 18);
  gzclose(file);
  for (const auto& path : {plain, packed}) {
    const IdxFile idx = read_idx(path, 2);
    CHECK(idx.extents == std::vector<std::uint32_t>{2, 3});
    CHECK(std::string(idx.values.begin(), idx.values.end()) == "abcdef");
  }
  CHECK(
      read_idx(directory.write("file", "\0\0\x08\x02\0\0\0\0\xff\xff\xff\xff"s), 2).values.empty());
}

TEST_CASE("a hostile IDX file gives one clear error") {
  const ssm::test::TempDirectory directory;
  const auto fails = [&](const std::string& bytes, const std::string& what) {
    CHECK_THROWS_WITH(read_idx(directory.write("file", bytes), 2),
                      (directory / "file").string() + ": " + what);
  };
  fails("", "ends early or is damaged");
  fails(header.substr(0, 9), "ends early or is damaged");
  fails(header + "abcde", "ends early or is damaged");
  fails(header + "abcdefg", "goes on after its last value");
  fails("\0\0\x0d\x02"s + header.substr(4) + "abcdef",
        "is not an IDX file of unsigned bytes with 2 extents");
  fails("\0\0\x08\x01"s + header.substr(4) + "abcdef",
        "is not an IDX file of unsigned bytes with 2 extents");
  fails("\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff"s,
        "says that it holds more than 268435456 bytes");
  fails("\0\0\x08\x02\0\x01\0\0\0\0\x10\0"s, "ends early or is damaged");
  fails("\x1f\x8b\x08\0\0\0\0\0\0\0garbage"s, "ends early or is damaged");
  CHECK_THROWS_WITH(read_idx(directory / "none", 2),
                    (directory / "none").string() + ": cannot be opened");
  CHECK_THROWS_WITH(read_idx(directory.path(), 2), directory.path().string() + ": is not a file");
  CHECK_THROWS_WITH(read_idx(directory.write("file", header + "abcdef"), 2, 5),
                    (directory / "file").string() + ": says that it holds more than 5 bytes");
}

TEST_CASE("a compressed IDX file is read to the end of its check") {
  const ssm::test::TempDirectory directory;
  const std::filesystem::path path = directory / "file.gz";
  const gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, (header + "abcdef").data(), 18);
  gzclose(file);
  std::string bytes = ssm::test::read_bytes(path);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CAPTURE(size);
    CHECK_THROWS_AS(read_idx(directory.write("cut.gz", bytes.substr(0, size)), 2),
                    std::runtime_error);
  }
  bytes[bytes.size() - 6] ^= 1;
  CHECK_THROWS_AS(read_idx(directory.write("cut.gz", bytes), 2), std::runtime_error);
}
