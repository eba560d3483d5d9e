#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <complex>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/bytes.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/safetensors_header.hpp"

/// What stands before the elements of an array in NumPy's .npy format, version 1 to 3: the bytes
/// \x93NUMPY, the version, a length, and a Python dictionary of that length, such as
///
///   {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
namespace ssm::detail {

struct NpyHeader {
  std::string dtype;          ///< as in the file: '<f4'
  char kind = 'f';            ///< f, c, i, u, or b
  std::uint64_t size = 4;     ///< bytes of an element
  bool swapped = false;       ///< whether the bytes of an element lie in another order than here
  bool column_major = false;  ///< whether the first index is the fastest
  std::vector<Index> shape;
  std::uint64_t data = 0;  ///< where the elements begin
};

/// Reads the dictionary of a header.
class NpyDictionary {
 public:
  NpyDictionary(const std::string& name, std::string_view text) : name_(name), text_(text) {}

  NpyHeader parse() {
    NpyHeader header;
    bool has_dtype = false, has_order = false, has_shape = false;
    take('{');
    while (!takes('}')) {
      const std::string key = text();
      take(':');
      if (key == "descr" && !has_dtype) {
        has_dtype = true;
        if (next() == '[') fail("is an array of records, expected one of numbers");
        header.dtype = text();
      } else if (key == "fortran_order" && !has_order) {
        has_order = true;
        header.column_major = boolean();
      } else if (key == "shape" && !has_shape) {
        has_shape = true;
        header.shape = shape();
      } else {
        fail("has a header with " + in_quotes(key) +
             ", expected descr, fortran_order and shape, once each");
      }
      if (!takes(',') && next() != '}') broken();
    }
    if (at_ < text_.size()) broken();
    if (!has_dtype || !has_order || !has_shape)
      fail("has a header without descr, fortran_order or shape");
    return header;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw FileError(name_ + ": " + what); }
  [[noreturn]] void broken() const {
    fail("has a header that is no dictionary from its byte " + std::to_string(at_) + " on");
  }

  /// The next character that is no space, or 0 at the end.
  char next() noexcept {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool takes(char c) noexcept {
    if (next() != c) return false;
    ++at_;
    next();
    return true;
  }
  void take(char c) {
    if (!takes(c)) broken();
  }
  std::string text() {
    const char quote = next();
    if (quote != '\'' && quote != '"') broken();
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) broken();
    std::string found(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return found;
  }
  bool boolean() {
    next();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    broken();
  }
  std::vector<Index> shape() {
    constexpr std::size_t most = 64;  // NumPy's own bound
    std::vector<Index> extents;
    take('(');
    while (!takes(')')) {
      if (extents.size() == most) fail("has more than 64 extents");
      Index extent = 0;
      const std::size_t begin = at_;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
        const Index digit = text_[at_] - '0';
        if (extent > ((std::numeric_limits<Index>::max)() - digit) / 10) fail("is too large");
        extent = 10 * extent + digit;
      }
      if (at_ == begin) broken();
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // of Python 2
      extents.push_back(extent);
      if (!takes(',') && next() != ')') broken();
    }
    return extents;
  }

  const std::string& name_;
  std::string_view text_;
  std::size_t at_ = 0;
};

/// Sets what a dtype such as '<f4' says. @throws FileError for one that is not read
inline void set_dtype(const std::string& name, NpyHeader& header) {
  const std::string& dtype = header.dtype;
  const char order = dtype.empty() ? '\0' : dtype[0];
  header.kind = dtype.size() == 3 || dtype.size() == 4 ? dtype[1] : '\0';
  const std::string size = dtype.size() > 2 ? dtype.substr(2) : "";
  const auto is_one_of = [&](std::initializer_list<const char*> sizes) {
    return std::find(sizes.begin(), sizes.end(), size) != sizes.end();
  };
  const bool known =
      (header.kind == 'f' && is_one_of({"2", "4", "8"})) ||
      (header.kind == 'c' && is_one_of({"8", "16"})) ||
      ((header.kind == 'i' || header.kind == 'u') && is_one_of({"1", "2", "4", "8"})) ||
      (header.kind == 'b' && is_one_of({"1"}));
  if (!known || (order != '<' && order != '>' && order != '|' && order != '='))
    throw FileError(name + ": is of dtype " + in_quotes(dtype) +
                    ", expected numbers: f2, f4, f8, c8, c16, i1 to i8, u1 to u8 or b1");
  header.size = std::stoull(size);
  constexpr char other = std::endian::native == std::endian::little ? '>' : '<';
  header.swapped = order == other;
}

/// Reads and checks what stands before the elements, which must be all that follows.
/// @param name how errors call the array
/// @throws FileError
inline NpyHeader read_npy_header(const std::string& name, const Bytes& bytes) {
  const auto fail = [&](const std::string& what) { throw FileError(name + ": " + what); };
  constexpr std::string_view magic = "\x93NUMPY";
  std::array<char, 12> start{};
  bytes.read(start.data(), static_cast<std::size_t>((std::min<std::uint64_t>)(12, bytes.size())),
             0);
  if (bytes.size() < 10 || std::string_view(start.data(), magic.size()) != magic)
    fail("is no array in .npy format: it does not begin with \\x93NUMPY");
  const int version = static_cast<unsigned char>(start[6]);
  if (version < 1 || version > 3)
    fail("is of version " + std::to_string(version) + " of the .npy format, expected 1, 2 or 3");
  const std::size_t digits = version == 1 ? 2 : 4;
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < digits; ++i)
    length |= std::uint64_t{static_cast<unsigned char>(start[8 + i])} << (8 * i);
  const std::uint64_t begin = 8 + digits;
  constexpr std::uint64_t longest = 65536;
  if (bytes.size() < begin || length > bytes.size() - begin || length > longest)
    fail("is cut short or no array: its header would have " + std::to_string(length) +
         " bytes of " + std::to_string(bytes.size()));
  std::string text(static_cast<std::size_t>(length), '\0');
  bytes.read(text.data(), text.size(), begin);
  NpyHeader header = NpyDictionary(name, text).parse();
  set_dtype(name, header);
  header.data = begin + length;

  const std::uint64_t follow = bytes.size() - header.data;
  std::uint64_t wanted = header.size;
  constexpr auto most = static_cast<std::uint64_t>((std::numeric_limits<Index>::max)());
  for (const Index extent : header.shape) {
    const auto factor = static_cast<std::uint64_t>(extent);
    if (factor != 0 && wanted > most / factor) fail("is too large: " + to_string(header.shape));
    wanted *= factor;
  }
  if (wanted != follow)
    fail("has " + std::to_string(follow) + " bytes after its header, expected the " +
         std::to_string(wanted) + " of its elements");
  return header;
}

/// The dtype whose elements are the bytes of a T.
template <class T>
[[nodiscard]] std::string npy_dtype() {
  static_assert(!std::same_as<T, Bfloat16>, "NumPy has no bfloat16: convert the array to float");
  static_assert(std::endian::native == std::endian::little);
  char kind = 'f';
  if constexpr (std::signed_integral<T>) kind = 'i';
  if constexpr (std::unsigned_integral<T>) kind = 'u';
  if constexpr (std::same_as<T, std::complex<float>> || std::same_as<T, std::complex<double>>)
    kind = 'c';
  return std::string(sizeof(T) == 1 ? "|" : "<") + kind + std::to_string(sizeof(T));
}

/// What stands before the elements of a row-major array, in version 1, of 64 bytes or a multiple.
template <class T>
[[nodiscard]] std::string npy_header(const std::vector<Index>& shape) {
  std::string text = "{'descr': '" + npy_dtype<T>() + "', 'fortran_order': False, 'shape': (";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text.append(i > 0 ? ", " : "").append(std::to_string(shape[i]));
  text += shape.size() == 1 ? ",), }" : "), }";
  text.append(63 - (10 + text.size()) % 64, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() % 256);
  header += static_cast<char>(text.size() / 256);
  return header + text;
}

}  // namespace ssm::detail
