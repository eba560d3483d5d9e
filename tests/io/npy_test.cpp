#include "ssm/io/npy.hpp"

#include <array>
#include <cmath>
#include <complex>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "ssm/io/inflate.hpp"
#include "ssm/io/npz.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

namespace npy_test {

using namespace ssm;
using test::contains;
using test::same_bits;
using test::TempDirectory;

namespace {

const std::filesystem::path golden = SSM_SOURCE_DIR "/tests/golden";

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The header of an array in version 1, and its elements.
std::string npy(const std::string& dictionary, const std::string& elements) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(dictionary.size() % 256);
  bytes += static_cast<char>(dictionary.size() / 256);
  return bytes + dictionary + elements;
}

/// i − 3 for element i, or i, or (i − 3) − i j.
template <class T>
bool is_counting(const Tensor<T, 2>& x, bool has_sign = true) {
  bool same = x.extents() == std::array<Index, 2>{2, 3};
  for (Index i = 0; same && i < 6; ++i) {
    const T got = x.data()[i];
    const double shift = has_sign ? 3 : 0;
    if constexpr (std::is_same_v<T, std::complex<float>> || std::is_same_v<T, std::complex<double>>)
      same = got == T(static_cast<Real<T>>(i - 3), static_cast<Real<T>>(-i));
    else
      same = static_cast<double>(static_cast<Arithmetic<T>>(got)) == static_cast<double>(i) - shift;
  }
  return same;
}

void check_counting(const NpzReader& file) {
  for (const char* name : {"f2", "f4", "f8", "i1", "i2", "i4", "i8", ">i4", "swapped"}) {
    INFO(name);
    CHECK(is_counting(file.read<float, 2>(name)));
    CHECK(is_counting(file.read<double, 2>(name)));
    CHECK(is_counting(file.read<Half, 2>(name)));
    CHECK(is_counting(file.read<Bfloat16, 2>(name)));
  }
  for (const char* name : {"i1", "i2", "i4", "i8", ">i4"}) {
    CHECK(is_counting(file.read<std::int8_t, 2>(name)));
    CHECK(is_counting(file.read<std::int64_t, 2>(name)));
  }
  for (const char* name : {"u1", "u2", "u4", "u8"}) {
    INFO(name);
    CHECK(is_counting(file.read<std::uint8_t, 2>(name), false));
    CHECK(is_counting(file.read<std::int32_t, 2>(name), false));
    CHECK(is_counting(file.read<float, 2>(name), false));
  }
  for (const char* name : {"c8", "c16", ">c8"}) {
    INFO(name);
    CHECK(is_counting(file.read<std::complex<float>, 2>(name)));
    CHECK(is_counting(file.read<std::complex<double>, 2>(name)));
  }
  const auto odd = file.read<std::uint8_t, 2>("bool");
  for (Index i = 0; i < 6; ++i) CHECK(odd.data()[i] == i % 2);
  CHECK(file.read<float, 2>("empty").extents() == std::array<Index, 2>{0, 4});
  const auto turned = file.read<std::int32_t, 3>("fortran");
  CHECK(turned.extents() == std::array<Index, 3>{2, 3, 4});
  for (Index i = 0; i < turned.size(); ++i) CHECK(turned.data()[i] == i - 3);
}

}  // namespace

TEST_CASE("what NumPy wrote is read: every dtype, either order of bytes and of indices") {
  const NpzReader file(golden / "arrays.npz");
  CHECK(file.names().size() == 19);
  CHECK(file.contains("f4"));
  CHECK(!file.contains("f5"));
  CHECK(file.shape("fortran") == std::vector<Index>{2, 3, 4});
  check_counting(file);
  const auto turned = load_npy<std::int32_t, 3>(golden / "fortran.npy");
  for (Index i = 0; i < turned.size(); ++i) CHECK(turned.data()[i] == i - 3);
}

TEST_CASE("what NumPy compressed is read with zlib, and refused without") {
  const auto path = golden / "arrays_compressed.npz";
  const NpzReader file(path, inflate_by_zlib);
  check_counting(file);
  CHECK(same_bits(file.read<float, 1>("long"), Tensor<float, 1>({100000})));
  CHECK_THROWS_WITH((NpzReader(path).read<float, 2>("f4")),
                    path.string() +
                        ": array \"f4\" is compressed: give NpzReader inflate_by_zlib of "
                        "ssm/io/inflate.hpp, or write the file with numpy.savez");
}

TEMPLATE_TEST_CASE("an array comes back with the bits it had", "", float, double, Half,
                   std::complex<float>, std::complex<double>, std::int8_t, std::uint8_t,
                   std::int16_t, std::uint16_t, std::int32_t, std::uint32_t, std::int64_t,
                   std::uint64_t) {
  const TempDirectory directory;
  test::Random random(1);
  Tensor<TestType, 3> x({3, 5, 700});
  for (TestType& element : x)
    element = TestType(static_cast<Arithmetic<Real<TestType>>>(random.uniform(0, 120)));
  const Tensor<TestType, 1> empty({0});
  save_npy(directory / "x.npy", x);
  CHECK(same_bits(load_npy<TestType, 3>(directory / "x.npy"), x));
  save_npy(directory / "empty.npy", empty);
  CHECK(load_npy<TestType, 1>(directory / "empty.npy").size() == 0);

  NpzWriter writer;
  writer.add("x", x);
  writer.add("\xc3\xa9mpty/one", empty);
  writer.save(directory / "x.npz");
  const std::string bytes = bytes_of(directory / "x.npz");
  writer.save(directory / "x.npz");
  CHECK(bytes_of(directory / "x.npz") == bytes);
  const NpzReader file(directory / "x.npz");
  CHECK(file.names() == std::vector<std::string>{"x", "\xc3\xa9mpty/one"});
  CHECK(same_bits(file.read<TestType, 3>("x"), x));
  CHECK(file.read<TestType, 1>("\xc3\xa9mpty/one").size() == 0);
}

TEST_CASE("an archive of no array is one") {
  const TempDirectory directory;
  NpzWriter().save(directory / "none.npz");
  CHECK(NpzReader(directory / "none.npz").names().empty());
}

TEST_CASE("an array that is not what was asked for is refused in one sentence") {
  const TempDirectory directory;
  const std::string name = (directory / "a").string();
  const auto refuses = [&](const std::string& bytes, const std::string& sentence, auto read) {
    directory.write("a", bytes);
    CHECK_THROWS_WITH(read(), name + ": " + sentence);
  };
  const auto read = [&] { return load_npy<float, 2>(name); };
  const std::string shape = "'fortran_order': False, 'shape': (1, 2), }", eight(8, '\0');
  refuses("", "is no array in .npy format: it does not begin with \\x93NUMPY", read);
  refuses(npy("{'descr': '<f4', " + shape, "1234567"),
          "has 7 bytes after its header, expected the 8 of its elements", read);
  refuses(npy("{'descr': '<f4', " + shape, "123456789"),
          "has 9 bytes after its header, expected the 8 of its elements", read);
  refuses(npy("{'descr': '<U1', " + shape, eight),
          "is of dtype \"<U1\", expected numbers: f2, f4, f8, c8, c16, i1 to i8, u1 to u8 or b1",
          read);
  refuses(npy("{'descr': [('a', '<f4')], " + shape, eight),
          "is an array of records, expected one of numbers", read);
  refuses(npy("{'descr': '<f4', 'descr': '<f4', " + shape, eight),
          "has a header with \"descr\", expected descr, fortran_order and shape, once each", read);
  refuses(npy("{'descr': '<f4'}", eight), "has a header without descr, fortran_order or shape",
          read);
  refuses(npy("{'descr': '<f4', 'fortran_order': Maybe", eight),
          "has a header that is no dictionary from its byte 34 on", read);
  refuses(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", eight),
          "is too large: (4294967296, 4294967296)", read);
  refuses(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", eight),
          "is too large", read);
  refuses(npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1)}", eight),
          "is of dtype \"<c8\", expected real numbers, integers or booleans", read);
  refuses(npy("{'descr': '<f4', " + shape, eight), "is (1, 2), expected 1 extents",
          [&] { return load_npy<float, 1>(name); });
  refuses(npy("{'descr': '<f4', " + shape, eight),
          "is of dtype \"<f4\", expected integers or booleans",
          [&] { return load_npy<int, 2>(name); });
  const std::string big("\x00\x00\x00\x00\x01\x00\x00\x01", 8);  // 0, 2^24 + 1
  refuses(npy("{'descr': '<i4', " + shape, big),
          "has 16777217 at element 1, expected at most 2^24 in size", read);
  refuses(npy("{'descr': '<i4', " + shape, big),
          "has 16777217 at element 1, expected a number that fits",
          [&] { return load_npy<std::uint16_t, 2>(name); });
  CHECK(load_npy<double, 2>(name)(0, 1) == 16777217);
  const std::string long_one("\x01\x00\x00\x00\x00\x00\x20\x00", 8);  // 2^53 + 1
  refuses(npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1, 1), }", long_one),
          "has 9007199254740993 at element 0, expected at most 2^53 in size",
          [&] { return load_npy<double, 2>(name); });
  const std::string nan("\x00\x00\x00\x00\x00\x00\xc0\x7f", 8);
  refuses(npy("{'descr': '<f4', " + shape, nan), "has NaN at element 1, expected finite numbers",
          read);
  CHECK(std::isnan(load_npy<float, 2>(name, NonFinite::allow)(0, 1)));
  CHECK_THROWS_WITH((load_npy<float, 1>(directory / "none")), contains("no such file"));
}

TEST_CASE("arrays that cannot be kept until save, or have no name of their own, are refused") {
  const Tensor<float, 1> x({2});
  NpzWriter writer;
  writer.add("x", x);
  CHECK_THROWS_AS(writer.add("x", x), DomainError);
  CHECK_THROWS_AS(writer.add("", x), DomainError);
  const Tensor<float, 2> wide({2, 4});
  CHECK_THROWS_AS(writer.add("gaps", wide.view().slice(1, 0, 2)), ShapeError);
  CHECK_THROWS_AS(save_npy("never", wide.view().slice(1, 0, 2)), ShapeError);
}

TEST_CASE("a file that is cut short or has a wrong byte gives an error or its arrays, never more") {
  const TempDirectory directory;
  const auto tries = [&](const std::string& bytes) {
    const auto path = directory.write("a", bytes);
    try {
      const NpzReader file(path, inflate_by_zlib);
      for (const std::string& name : file.names())
        if (const auto shape = file.shape(name); shape.size() == 2)
          (void)file.read<std::complex<double>, 2>(name);
    } catch (const FileError&) {
    }
    try {
      (void)load_npy<std::int32_t, 3>(path);
    } catch (const FileError&) {
    }
  };
  test::Random random(2);
  for (const char* name : {"fortran.npy", "arrays.npz", "arrays_compressed.npz"}) {
    const std::string whole = bytes_of(golden / name);
    REQUIRE(!whole.empty());
    for (int i = 0; i < 300; ++i) {
      const auto at =
          static_cast<std::size_t>(random.integer(0, static_cast<int>(whole.size()) - 1));
      tries(whole.substr(0, at));
      std::string wrong = whole;
      wrong[at] = static_cast<char>(random.integer(0, 255));
      tries(wrong);
      const std::size_t near_end = whole.size() - 1 - at % 300;  // where archives have their sizes
      wrong = whole;
      wrong[near_end] =
          static_cast<char>(random.integer(0, 1) == 0 ? 0xff : random.integer(0, 255));
      tries(wrong);
    }
  }
}

}  // namespace npy_test
