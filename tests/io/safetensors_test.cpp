#include "ssm/io/safetensors.hpp"

#include <cmath>
#include <complex>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

using ssm::DType;
using ssm::FileError;
using ssm::Index;
using ssm::NonFinite;
using ssm::SafetensorsReader;
using ssm::SafetensorsWriter;
using ssm::Tensor;
using ssm::test::contains;
using ssm::test::same_bits;
using ssm::test::TempDirectory;

TEMPLATE_TEST_CASE("a tensor comes back from a file with the bits it had", "", float, double,
                   std::int8_t, std::uint8_t, std::int16_t, std::uint16_t, std::int32_t,
                   std::uint32_t, std::int64_t, std::uint64_t) {
  const TempDirectory directory;
  Tensor<TestType, 3> tensor({3, 5, 7});
  ssm::test::Random random(1);
  for (TestType& x : tensor) x = static_cast<TestType>(random.uniform(0, 120));
  tensor(0, 0, 0) = std::numeric_limits<TestType>::max();
  tensor(0, 0, 1) = std::numeric_limits<TestType>::lowest();
  Tensor<TestType, 2> empty({0, 4});

  SafetensorsWriter writer;
  writer.add("tensor", tensor);
  writer.add("empty", empty);
  writer.save(directory / "a");

  SafetensorsReader reader(directory / "a");
  CHECK(reader.tensors().size() == 2);
  CHECK(same_bits(reader.read<TestType, 3>("tensor"), tensor));
  CHECK(same_bits(reader.read<TestType>("tensor", std::array<Index, 3>{3, 5, 7}), tensor));
  CHECK(same_bits(reader.read<TestType, 2>("empty"), empty));
}

TEST_CASE("floats are stored narrow on request, each as its nearest neighbour") {
  const TempDirectory directory;
  const auto tensor = ssm::test::Random(2).normal<float>(std::array<Index, 2>{31, 33});
  SafetensorsWriter writer;
  writer.add("f16", tensor, DType::F16);
  writer.add("bf16", tensor, DType::BF16);
  writer.save(directory / "a");

  SafetensorsReader reader(directory / "a");
  CHECK(reader.entry("f16").dtype == DType::F16);
  CHECK(reader.entry("bf16").end - reader.entry("bf16").begin == 2 * 31 * 33);
  const auto half = reader.read<float, 2>("f16");
  const auto wide = reader.read<double, 2>("bf16");
  for (Index i = 0; i < tensor.size(); ++i) {
    CHECK(half.data()[i] == ssm::half_to_float(ssm::float_to_half(tensor.data()[i])));
    CHECK(wide.data()[i] == ssm::bfloat16_to_float(ssm::float_to_bfloat16(tensor.data()[i])));
  }
}

TEST_CASE("F32 and F64 convert into each other, across many blocks of a read") {
  const TempDirectory directory;
  const auto tensor = ssm::test::Random(3).normal<double>(std::array<Index, 1>{20000});
  Tensor<float, 1> narrow({20000});
  std::transform(tensor.begin(), tensor.end(), narrow.begin(),
                 [](double x) { return static_cast<float>(x); });
  SafetensorsWriter writer;
  writer.add("wide", tensor);
  writer.add("narrow", narrow);
  writer.save(directory / "a");
  SafetensorsReader reader(directory / "a");
  CHECK(same_bits(reader.read<float, 1>("wide"), narrow));
  const auto widened = reader.read<double, 1>("narrow");
  for (Index i = 0; i < 20000; ++i) REQUIRE(widened(i) == static_cast<double>(narrow(i)));
}

TEST_CASE("metadata and names may hold any UTF-8 text") {
  const TempDirectory directory;
  const std::string text = "λ \"quoted\" \n \t \\ \xe4\xb8\xad";
  Tensor<float, 1> tensor({1});
  SafetensorsWriter writer;
  writer.metadata = {{"note", text}, {text, ""}};
  writer.add(text, tensor);
  writer.save(directory / "a");
  const SafetensorsReader reader(directory / "a");
  CHECK(reader.metadata() == writer.metadata);
  CHECK(reader.contains(text));
  CHECK_FALSE(reader.contains("__metadata__"));
}

TEST_CASE("tensors are aligned to their elements, and the data to eight bytes") {
  const TempDirectory directory;
  Tensor<std::uint8_t, 1> bytes({3});
  Tensor<double, 1> doubles({2});
  Tensor<float, 1> floats({1});
  SafetensorsWriter writer;
  writer.add("a", bytes);
  writer.add("b", doubles);
  writer.add("c", floats);
  writer.save(directory / "a");
  const SafetensorsReader reader(directory / "a");
  CHECK(reader.entry("b").begin == 0);
  CHECK(reader.entry("c").begin == 16);
  CHECK(reader.entry("a").begin == 20);
  CHECK((std::filesystem::file_size(directory / "a") - 23) % 8 == 0);
}

TEST_CASE("a file without tensors is a file") {
  const TempDirectory directory;
  SafetensorsWriter().save(directory / "a");
  CHECK(SafetensorsReader(directory / "a").tensors().empty());
}

TEST_CASE("saving replaces a file whole or not at all, and leaves nothing beside it") {
  const TempDirectory directory;
  Tensor<float, 1> tensor({1});
  SafetensorsWriter writer;
  writer.add("x", tensor);
  writer.save(directory / "a");
  const std::string before = ssm::test::read_bytes(directory / "a");
  writer.metadata["bad"] = "\xff";
  CHECK_THROWS_AS(writer.save(directory / "a"), FileError);
  CHECK(ssm::test::read_bytes(directory / "a") == before);
  CHECK_THROWS_AS(writer.save(directory / "no such directory" / "a"), FileError);
  CHECK(std::distance(std::filesystem::directory_iterator(directory.path()), {}) == 1);
}

TEST_CASE("a writer refuses a name twice, gaps, and a dtype that loses what it was not asked to") {
  Tensor<float, 2> tensor({2, 3});
  Tensor<std::int32_t, 1> integers({2});
  SafetensorsWriter writer;
  writer.add("x", tensor);
  CHECK_THROWS_AS(writer.add("x", tensor), ssm::DomainError);
  CHECK_THROWS_AS(writer.add("y", ssm::View<const float, 2>(tensor.view().slice(1, 0, 2))),
                  ssm::ShapeError);
  CHECK_THROWS_AS(writer.add("y", integers, DType::F16), ssm::DomainError);
  CHECK_THROWS_AS(writer.add("__metadata__", tensor), ssm::DomainError);
}

TEST_CASE("reading wants the name, rank, shape and dtype that are there") {
  const TempDirectory directory;
  Tensor<float, 2> tensor({2, 3});
  Tensor<std::int32_t, 1> integers({2});
  SafetensorsWriter writer;
  writer.add("x", tensor);
  writer.add("i", integers);
  writer.save(directory / "a");
  SafetensorsReader reader(directory / "a");
  CHECK_THROWS_AS((reader.read<float, 2>("y")), FileError);
  CHECK_THROWS_AS((reader.read<float, 1>("x")), FileError);
  CHECK_THROWS_AS(reader.read<float>("x", std::array<Index, 2>{3, 2}), FileError);
  CHECK_THROWS_AS((reader.read<std::int32_t, 2>("x")), FileError);
  CHECK_THROWS_AS((reader.read<float, 1>("i")), FileError);
  CHECK_NOTHROW(reader.read<float, 2>("x"));
}

TEST_CASE("NaN and infinity are refused by name and place unless they are allowed") {
  const TempDirectory directory;
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    Tensor<float, 1> tensor({4});
    tensor(2) = bad;
    SafetensorsWriter writer;
    writer.add("w", tensor);
    writer.add("h", tensor, DType::F16);
    CHECK_THROWS_WITH(writer.save(directory / "a"),
                      contains("\"w\"") && contains("element 2") && contains("a: tensor"));
    CHECK(std::filesystem::is_empty(directory.path()));
    writer.save(directory / "a", NonFinite::allow);
    SafetensorsReader reader(directory / "a");
    for (const char* name : {"w", "h"}) {
      CHECK_THROWS_WITH((reader.read<float, 1>(name)),
                        contains("element 2") && contains(std::string("\"") + name));
      CHECK_THROWS_AS((reader.read<double, 1>(name)), FileError);
      const float got = reader.read<float, 1>(name, NonFinite::allow)(2);
      CHECK((std::isnan(bad) ? std::isnan(got) : got == bad));
    }
    std::filesystem::remove(directory / "a");
  }
}

TEST_CASE("a double that no float can hold is refused as a float") {
  const TempDirectory directory;
  Tensor<double, 1> tensor({1});
  tensor(0) = 1e300;
  SafetensorsWriter writer;
  writer.add("w", tensor);
  writer.save(directory / "a");
  SafetensorsReader reader(directory / "a");
  CHECK_THROWS_AS((reader.read<float, 1>("w")), FileError);
  CHECK(reader.read<double, 1>("w")(0) == 1e300);
}

TEST_CASE("a number that a narrow dtype cannot hold is refused by tensor, place and value") {
  const TempDirectory directory;
  Tensor<float, 1> tensor({20000});
  SafetensorsWriter writer;
  writer.add("good", tensor);
  writer.add("large", tensor, DType::F16);
  tensor(12345) = 65519;  // rounds to the largest half
  writer.save(directory / "a");
  CHECK(SafetensorsReader(directory / "a").read<float, 1>("large")(12345) == 65504);
  for (float large : {65520.0f, 1e5f, -1e6f, std::numeric_limits<float>::max()}) {
    tensor(12345) = large;
    CHECK_THROWS_WITH(writer.save(directory / "a"),
                      contains("\"large\"") && contains("element 12345") && contains("F16"));
  }
  CHECK(SafetensorsReader(directory / "a").read<float, 1>("large")(12345) == 65504);

  SafetensorsWriter rounding;
  rounding.add("w", tensor, DType::BF16);
  CHECK_THROWS_WITH(rounding.save(directory / "b"), contains("BF16"));
  tensor(12345) = 3.38e38f;
  CHECK_NOTHROW(rounding.save(directory / "b"));
}

TEST_CASE("what a writer writes a reader reads: all else is refused when it is saved") {
  const TempDirectory directory;
  const Tensor<float, 1> tensor({1});
  const auto refused = [&](const std::string& name, const std::string& expected) {
    SafetensorsWriter writer;
    writer.add(name, tensor);
    CHECK_THROWS_WITH(writer.save(directory / "a"), contains(expected));
  };
  refused("\xff", "UTF-8");
  refused("\xed\xa0\x80", "UTF-8");
  SafetensorsWriter writer;
  CHECK_THROWS_AS(writer.add("w", std::vector<Index>{-1}, tensor.data()), ssm::ShapeError);
  CHECK_THROWS_AS(writer.add("w", std::vector<Index>{Index{1} << 62, 4}, tensor.data()),
                  ssm::ShapeError);
  writer.add("w", std::vector<Index>(65, 1), tensor.data());
  CHECK_THROWS_WITH(writer.save(directory / "a"), contains("64 extents"));

  SafetensorsWriter long_header;
  long_header.metadata["note"] = std::string(100'000'001, 'x');
  CHECK_THROWS_WITH(long_header.save(directory / "a"), contains("at most 100000000"));
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE("a header's text is that of any JSON writer") {
  const TempDirectory directory;
  Tensor<std::uint8_t, 2> tensor({1, 2});
  SafetensorsWriter writer;
  writer.metadata = {{"a", "1\n\x01"}, {"b", "\"\\"}};
  writer.add("λ", tensor);
  writer.save(directory / "a");
  const std::string header =
      R"({"__metadata__":{"a":"1\n\u0001","b":"\"\\"},"λ":{"dtype":"U8","shape":[1,2],"data_offsets":[0,2]}})";
  CHECK_THAT(ssm::test::read_bytes(directory / "a"), contains(header));
}
