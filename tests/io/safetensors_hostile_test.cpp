#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "ssm/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

using ssm::FileError;
using ssm::Index;
using ssm::SafetensorsReader;
using ssm::test::contains;
using ssm::test::TempDirectory;

namespace {

std::string length_bytes(std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

/// A file with this header and `data` bytes of zero after it.
std::string file_of(const std::string& header, std::size_t data) {
  return length_bytes(header.size()) + header + std::string(data, '\0');
}

/// What the reader says about a file; "" when it accepts it.
std::string complaint(const std::string& bytes) {
  const TempDirectory directory;
  try {
    SafetensorsReader reader(directory.write("hostile", bytes));
    return "";
  } catch (const FileError& error) {
    const std::string text = error.what();
    CHECK_THAT(text, contains("hostile: "));
    CHECK(text.find('\n') == std::string::npos);
    return text;
  }
}

std::string complaint(const std::string& header, std::size_t data) {
  return complaint(file_of(header, data));
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
         offsets + "}";
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{" + tensor("w", dtype, shape, offsets) + "}";
}

}  // namespace

TEST_CASE("a small correct file is accepted, whatever the order of its fields and tensors") {
  CHECK(complaint(one("F32", "[2]", "[0,8]"), 8).empty());
  CHECK(complaint(R"({"w":{"data_offsets":[0,8],"shape":[2],"dtype":"F32"}}   )", 8).empty());
  CHECK(complaint(
            "{" + tensor("b", "F32", "[]", "[4,8]") + "," + tensor("a", "U8", "[4]", "[0,4]") + "}",
            8)
            .empty());
  CHECK(complaint("{" + tensor("b", "F32", "[0]", "[4,4]") + "," +
                      tensor("a", "F32", "[1]", "[0,4]") + "," +
                      tensor("c", "F32", "[0,9]", "[0,0]") + "}",
                  4)
            .empty());
  CHECK(complaint(R"({"__metadata__":{}})", 0).empty());
}

TEST_CASE("booleans are read as bytes") {
  const TempDirectory directory;
  SafetensorsReader reader(directory.write("flags", file_of(one("BOOL", "[3]", "[0,3]"), 3)));
  CHECK(reader.read<std::uint8_t, 1>("w").size() == 3);
  CHECK_THROWS_AS((reader.read<std::int8_t, 1>("w")), FileError);
}

TEST_CASE("a missing file and a directory are refused") {
  const TempDirectory directory;
  CHECK_THROWS_AS(SafetensorsReader(directory / "missing"), FileError);
  CHECK_THROWS_AS(SafetensorsReader(directory.path()), FileError);
}

TEST_CASE("a file cut anywhere is refused") {
  const std::string whole = file_of(one("F32", "[2]", "[0,8]"), 8);
  for (std::size_t size = 0; size < whole.size(); ++size)
    CHECK_FALSE(complaint(whole.substr(0, size)).empty());
  CHECK_THAT(complaint(whole + "x"), contains("fill 8"));
}

TEST_CASE("a header length beyond the file or the limit is refused before memory is taken") {
  CHECK_THAT(complaint(length_bytes(UINT64_MAX) + "{}"), contains("header"));
  CHECK_THAT(complaint(length_bytes(std::uint64_t{1} << 63) + "{}"), contains("header"));
  CHECK_THAT(complaint(length_bytes(3) + "{}"), contains("only 2 follow"));
  CHECK_THAT(complaint(length_bytes(0)), contains("'{'"));
  CHECK_THAT(complaint(std::string("1234567")), contains("7 bytes"));
}

TEST_CASE("a header that is not the JSON of the format is refused") {
  for (const char* header :
       {"[]",
        "null",
        " {}",
        "{",
        "{}}",
        "{\"w\":}",
        "{\"w\":3}",
        "{\"w\":[]}",
        "{\"w\":null}",
        "{'w':1}",
        "{} x",
        "{\"\xff\":{}}",
        "{\"w\":{\"dtype\":\"\xc3\"}}",
        "{\"w\":{}}",
        R"({"__metadata__":3})",
        R"({"__metadata__":{"a":1}})",
        R"({"__metadata__":{"a":{}}})",
        R"({"__metadata__":{"a":"1","a":"2"}})",
        R"({"w":{"dtype":"F32"}})",
        R"({"w":{"shape":[]}})",
        R"({"w":{"dtype":"F32","shape":[]}})",
        R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0]}})",
        R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4,8]}})",
        R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4],"more":1}})",
        R"({"w":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F32","shape":[],"shape":[],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F32","shape":{},"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F32","shape":[],"data_offsets":{"a":0}}})",
        R"({"w":{"dtype":["F32"],"shape":[],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":3,"shape":[],"data_offsets":[0,4]}})"}) {
    INFO(header);
    CHECK_FALSE(complaint(header, 4).empty());
  }
  CHECK_THAT(complaint("{\"w\": oops}", 0), contains("JSON"));
}

TEST_CASE("deep nesting is refused at its first surplus level") {
  const std::string deep(1'000'000, '[');
  CHECK_FALSE(complaint("{\"w\":" + deep, 0).empty());
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  CHECK_FALSE(complaint(objects, 0).empty());
}

TEST_CASE("a name that comes twice is refused by that name") {
  const std::string twice =
      "{" + tensor("w", "U8", "[1]", "[0,1]") + "," + tensor("w", "U8", "[1]", "[1,2]") + "}";
  CHECK_THAT(complaint(twice, 2), contains("\"w\" comes twice"));
}

TEST_CASE("a tensor of an unknown dtype is refused by name when it is read, and no sooner") {
  const TempDirectory directory;
  for (const char* dtype : {"C64", "F8_E8M0", "f32", ""}) {
    // Its size is nobody's business either: a shape costs no memory.
    for (const char* shape : {"[1]", "[1099511627776,1048576]", "[3,5]"}) {
      const std::string header = "{" + tensor("odd", dtype, shape, "[0,8]") + "," +
                                 tensor("w", "F32", "[2]", "[8,16]") + "}";
      SafetensorsReader reader(directory.write("mixed", file_of(header, 16)));
      CHECK(reader.entry("odd").dtype == ssm::DType::other);
      CHECK(reader.entry("odd").dtype_name == dtype);
      CHECK(reader.read<float, 1>("w").size() == 2);
      const std::string expected = std::string("\"odd\" is of dtype \"") + dtype + "\"";
      if (reader.entry("odd").shape.size() == 1) {
        CHECK_THROWS_WITH((reader.read<float, 1>("odd")), contains(expected));
      } else {
        CHECK_THROWS_WITH((reader.read<float, 2>("odd")), contains(expected));
        CHECK_THROWS_WITH((reader.read<std::uint8_t, 2>("odd")), contains(expected));
      }
    }
  }
  const std::string header =
      "{" + tensor("odd", "C64", "[1]", "[0,8]") + "," + tensor("w", "F32", "[2]", "[12,20]") + "}";
  CHECK_THAT(complaint(header, 20), contains("\"w\"") && contains("expected 8"));
}

TEST_CASE("a header that two readers could take for two things is refused") {
  const std::string w = tensor("w", "F32", "[2]", "[0,8]");
  CHECK_THAT(complaint("{" + w + "}" + std::string(1, '\0') + "   ", 8), contains("JSON"));
  CHECK_THAT(complaint("{" + w + "}" + std::string(1, '\0') + "{}", 8), contains("JSON"));
  CHECK_THAT(complaint("{" + w + "} {}", 8), contains("JSON"));
  CHECK_THAT(complaint(R"({"__metadata__":{"a":"1"},)" + w + R"(,"__metadata__":{"a":"2"}})", 8),
             contains("__metadata__ twice"));
  CHECK_FALSE(
      complaint(R"({"w":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,8]}})", 8).empty());
}

TEST_CASE("a header takes no more memory than a few times its length") {
  std::string ones = "[1";
  for (int i = 0; i < 1'000'000; ++i) ones += ",1";
  CHECK_THAT(complaint(one("F32", ones + "]", "[0,4]"), 4), contains("more than 64 extents"));
  CHECK_THAT(complaint("{\"__metadata__\":{\"a\":" + std::string(10'000'000, '['), 0),
             contains("a list for \"a\""));
}

TEST_CASE("shapes that are negative, fractional or too large for 64 bits are refused") {
  for (const char* shape :
       {"[-1]", "[2,-3]", "[1.5]", "[2.0]", "[1e2]", "[true]", "[null]", "[9223372036854775808]",
        "[99999999999999999999999]", "[4294967296,4294967296]", "[4611686018427387904,4]",
        "[3037000500,3037000500,2,2]", "[9223372036854775807,9223372036854775807,0]",
        "[0,4611686018427387904]"}) {
    INFO(shape);
    CHECK_THAT(complaint(one("F32", shape, "[0,8]"), 8), contains("\"w\""));
    CHECK_THAT(complaint(one("F32", shape, "[0,0]"), 0), contains("\"w\""));
  }
}

TEST_CASE("spans that lie wrongly are refused with what was expected") {
  CHECK_THAT(complaint(one("F32", "[2]", "[0,4]"), 4), contains("takes 8 bytes"));
  CHECK_THAT(complaint(one("F32", "[2]", "[0,12]"), 12), contains("takes 8 bytes"));
  CHECK_THAT(complaint(one("F32", "[2]", "[0,8]"), 4), contains("outside"));
  CHECK_THAT(complaint(one("F32", "[2]", "[8,0]"), 8), contains("end before they begin"));
  CHECK_THAT(complaint(one("F32", "[2]", "[4,12]"), 12), contains("expected 0"));
  CHECK_THAT(complaint(one("F32", "[2]", "[0,8]"), 12), contains("fill 8"));
  CHECK_THAT(complaint(one("F32", "[2]", "[-8,0]"), 8), contains("data_offsets"));
  CHECK_THAT(complaint(one("U8", "[1]", "[18446744073709551615,18446744073709551615]"), 8),
             contains("outside"));
  const auto two = [](const char* first, const char* second) {
    return "{" + tensor("a", "F32", "[2]", first) + "," + tensor("b", "F32", "[2]", second) + "}";
  };
  CHECK(complaint(two("[0,8]", "[8,16]"), 16).empty());
  CHECK_THAT(complaint(two("[0,8]", "[4,12]"), 12), contains("\"b\"") && contains("expected 8"));
  CHECK_THAT(complaint(two("[0,8]", "[0,8]"), 8), contains("expected 8"));
  CHECK_THAT(complaint(two("[0,8]", "[12,20]"), 20), contains("expected 8"));
}

TEST_CASE("a hostile name is printed in one short line") {
  const std::string name = std::string(5000, 'x') + "\\n\\u001b[2J";
  const std::string text = complaint("{" + tensor(name, "F32", "[1]", "[0,8]") + "}", 4);
  CHECK(text.size() < 400);
  CHECK(text.find('\x1b') == std::string::npos);
}

TEST_CASE("a correct file with any bytes changed or cut is loaded or refused, nothing else") {
  const TempDirectory directory;
  ssm::SafetensorsWriter writer;
  const auto matrix = ssm::test::Random(1).normal<float>(std::array<Index, 2>{3, 5});
  const auto vector = ssm::test::Random(2).normal<double>(std::array<Index, 1>{4});
  writer.metadata["note"] = "text";
  writer.add("matrix", matrix);
  writer.add("half", matrix, ssm::DType::F16);
  writer.add("vector", vector);
  writer.save(directory / "good");
  const std::string good = ssm::test::read_bytes(directory / "good");
  const std::size_t header_end = good.rfind('}') + 1;

  ssm::test::Random random(3);
  int loaded = 0, refused = 0;
  const auto index = [&](std::size_t size) {
    return static_cast<std::size_t>(random.integer(0, static_cast<Index>(size) - 1));
  };
  for (int trial = 0; trial < 3000; ++trial) {
    std::string bytes = good;
    for (Index changes = random.integer(1, 3); changes > 0; --changes) {
      const std::size_t at = index(random.integer(0, 3) == 0 ? bytes.size() : header_end);
      switch (random.integer(0, 3)) {
        case 0:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.integer(0, 7)));
          break;
        case 1:  // a character that means something in a header
          bytes[at] = "{}[]\",:0123456789-.e"[index(20)];
          break;
        case 2:
          bytes.erase(at, 1 + index(4));
          break;
        default:
          bytes.insert(at, 1, bytes[index(bytes.size())]);
      }
      if (bytes.size() < header_end) break;
    }
    if (random.integer(0, 9) == 0) bytes.resize(index(bytes.size() + 1));
    try {
      SafetensorsReader reader(directory.write("bad", bytes));
      for (const auto& [name, entry] : reader.tensors()) {
        if (entry.shape.size() == 1) (void)reader.read<double, 1>(name);
        if (entry.shape.size() == 2) (void)reader.read<float, 2>(name);
      }
      ++loaded;
    } catch (const FileError&) {
      ++refused;
    }
  }
  CHECK(loaded + refused == 3000);
  CHECK(loaded > 50);
  CHECK(refused > 500);
}
