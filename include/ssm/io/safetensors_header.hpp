#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/float16.hpp"
#include "ssm/core/index.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/json_text.hpp"

namespace ssm {

/// The element types of the safetensors format that can be read, and `other` for those that cannot.
enum class DType {
  BOOL,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  U16,
  I16,
  F16,
  BF16,
  U32,
  I32,
  F32,
  U64,
  I64,
  F64,
  other
};

/// What to do about a floating-point tensor with elements that are NaN or infinite.
enum class NonFinite { reject, allow };

namespace detail {

static_assert(std::endian::native == std::endian::little,
              "safetensors are little-endian and are read and written without swapping");

/// Numbers with a point, among them those kept in 16 bits.
template <class T>
inline constexpr bool is_real = std::floating_point<Arithmetic<T>>;

struct DTypeFacts {
  DType dtype;
  std::string_view name;
  std::uint64_t bytes;
};

inline constexpr std::array<DTypeFacts, 16> dtypes{{{DType::BOOL, "BOOL", 1},
                                                    {DType::U8, "U8", 1},
                                                    {DType::I8, "I8", 1},
                                                    {DType::F8_E5M2, "F8_E5M2", 1},
                                                    {DType::F8_E4M3, "F8_E4M3", 1},
                                                    {DType::U16, "U16", 2},
                                                    {DType::I16, "I16", 2},
                                                    {DType::F16, "F16", 2},
                                                    {DType::BF16, "BF16", 2},
                                                    {DType::U32, "U32", 4},
                                                    {DType::I32, "I32", 4},
                                                    {DType::F32, "F32", 4},
                                                    {DType::U64, "U64", 8},
                                                    {DType::I64, "I64", 8},
                                                    {DType::F64, "F64", 8},
                                                    {DType::other, "an unknown type", 0}}};

constexpr const DTypeFacts& facts(DType dtype) noexcept {
  return dtypes[static_cast<std::size_t>(dtype)];
}

inline constexpr std::uint64_t largest_safetensors_header = 100'000'000;

/// The dtype whose elements are the bytes of a T, which must be one of these types.
template <class T>
constexpr DType dtype_of() noexcept {
  if constexpr (std::same_as<T, float>) return DType::F32;
  if constexpr (std::same_as<T, double>) return DType::F64;
  if constexpr (std::same_as<T, Half>) return DType::F16;
  if constexpr (std::same_as<T, Bfloat16>) return DType::BF16;
  if constexpr (std::same_as<T, std::int8_t>) return DType::I8;
  if constexpr (std::same_as<T, std::uint8_t>) return DType::U8;
  if constexpr (std::same_as<T, std::int16_t>) return DType::I16;
  if constexpr (std::same_as<T, std::uint16_t>) return DType::U16;
  if constexpr (std::same_as<T, std::int32_t>) return DType::I32;
  if constexpr (std::same_as<T, std::uint32_t>) return DType::U32;
  if constexpr (std::same_as<T, std::int64_t>) return DType::I64;
  if constexpr (std::same_as<T, std::uint64_t>) return DType::U64;
}

inline std::string to_string(const std::vector<Index>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + ")";
}

}  // namespace detail

/// What the header says of one tensor; `begin` and `end` count bytes from the end of the header.
struct SafetensorsEntry {
  DType dtype = DType::F32;
  std::string dtype_name = {};  ///< as the file has it
  std::vector<Index> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;
};

namespace detail {

/// Builds a header from the events of the JSON parser. There is no document in between, so memory
/// is bounded by the format, and a name that comes twice is noticed.
class SafetensorsParser {
 public:
  SafetensorsHeader header;
  std::string failure;

  bool start_object() {
    if (place_ == Place::outside) return enter(Place::root);
    if (place_ != Place::root) return unexpected("an object");
    if (name_ == "__metadata__") {
      if (std::exchange(has_metadata_, true)) return fail("header has __metadata__ twice");
      return enter(Place::metadata);
    }
    if (header.tensors.count(name_) != 0)
      return fail("tensor " + in_quotes(name_) + " comes twice");
    entry_ = {};
    has_dtype_ = has_shape_ = false;
    offsets_.clear();
    return enter(Place::tensor);
  }
  bool key(std::string& text) {
    (place_ == Place::root ? name_ : key_) = text;
    if (place_ == Place::tensor && text != "dtype" && text != "shape" && text != "data_offsets")
      return fail(where() + "has the unknown field " + in_quotes(text));
    return true;
  }
  bool end_object() {
    if (place_ == Place::tensor) {
      if (!has_dtype_) return fail(where() + "has no dtype");
      if (!has_shape_) return fail(where() + "has no shape");
      if (offsets_.size() != 2)
        return fail(where() + "has " + std::to_string(offsets_.size()) +
                    " data_offsets, expected 2");
      entry_.begin = offsets_[0];
      entry_.end = offsets_[1];
      header.tensors.emplace(name_, std::move(entry_));
    }
    return enter(place_ == Place::root ? Place::outside : Place::root);
  }
  bool start_array() {
    if (place_ == Place::tensor && key_ == "shape" && !has_shape_) {
      has_shape_ = true;
      return enter(Place::shape);
    }
    if (place_ == Place::tensor && key_ == "data_offsets" && offsets_.empty())
      return enter(Place::offsets);
    return unexpected("a list");
  }
  bool end_array() { return enter(Place::tensor); }

  bool string(std::string& text) {
    if (place_ == Place::metadata) {
      if (!header.metadata.emplace(key_, text).second)
        return fail("__metadata__ has " + in_quotes(key_) + " twice");
      return true;
    }
    if (place_ != Place::tensor || key_ != "dtype" || has_dtype_) return unexpected("a string");
    const auto found =
        std::find_if(dtypes.begin(), dtypes.end(), [&](const auto& f) { return f.name == text; });
    // Of a type that nobody asks for only its name is needed.
    entry_.dtype = found == dtypes.end() ? DType::other : found->dtype;
    entry_.dtype_name = text;
    return has_dtype_ = true;
  }
  bool number(std::uint64_t value) {
    constexpr auto largest = static_cast<std::uint64_t>((std::numeric_limits<Index>::max)());
    if (place_ == Place::shape && value <= largest) {
      if (entry_.shape.size() == most_extents)
        return fail(where() + "has more than " + std::to_string(most_extents) + " extents");
      entry_.shape.push_back(static_cast<Index>(value));
      return true;
    }
    if (place_ == Place::offsets && offsets_.size() < 2) {
      offsets_.push_back(value);
      return true;
    }
    return unexpected(std::to_string(value));
  }
  bool number(std::int64_t value) { return unexpected(std::to_string(value)); }
  bool number(double value) { return unexpected(json_text(value)); }
  bool boolean(bool value) { return unexpected(value ? "true" : "false"); }
  bool null() { return unexpected("null"); }

 private:
  static constexpr std::size_t most_extents = 64;

  enum class Place { outside, root, metadata, tensor, shape, offsets };

  bool enter(Place place) {
    place_ = place;
    return true;
  }
  bool fail(std::string what) {
    failure = std::move(what);
    return false;
  }
  [[nodiscard]] std::string where() const { return "tensor " + in_quotes(name_) + " "; }
  bool unexpected(const std::string& got) {
    switch (place_) {
      case Place::outside:
        return fail("header is " + got + ", expected an object");
      case Place::root:
        return fail("header has " + got + " for " + in_quotes(name_) + ", expected an object");
      case Place::metadata:
        return fail("__metadata__ has " + got + " for " + in_quotes(key_) + ", expected a string");
      case Place::tensor:
        return fail(where() + "has " + got + " for " + key_ +
                    (key_ == "dtype" ? ", expected one string" : ", expected one list of numbers"));
      case Place::shape:
        return fail(where() + "has " + got + " in its shape, expected whole numbers from 0");
      case Place::offsets:
        return fail(where() + "has " + got + " in data_offsets, expected two whole numbers from 0");
    }
    return false;
  }

  Place place_ = Place::outside;
  std::string name_, key_;
  SafetensorsEntry entry_;
  bool has_metadata_ = false, has_dtype_ = false, has_shape_ = false;
  std::vector<std::uint64_t> offsets_;
};

/// No tensor has more bytes, not even with its extents of 0 left out: then its elements can be
/// counted and addressed in whatever type they are read.
inline constexpr std::uint64_t largest_tensor = std::uint64_t{1} << 60;

/// shape × dtype in bytes, or nothing when that exceeds the largest tensor.
inline std::optional<std::uint64_t> byte_count(DType dtype, const std::vector<Index>& shape) {
  std::uint64_t bytes = facts(dtype).bytes;
  bool empty = false;
  for (Index extent : shape) {
    if (extent < 0) return {};
    const auto factor = static_cast<std::uint64_t>(extent);
    if (factor == 0)
      empty = true;
    else if (bytes > largest_tensor / factor)
      return {};
    else
      bytes *= factor;
  }
  return empty ? 0 : bytes;
}

/// Throws FileError unless the tensors fill a buffer of `size` bytes end to end, as the format
/// demands: no overlap, no hole, nothing outside, every span as long as shape and dtype say.
inline void check_layout(const std::filesystem::path& path, const SafetensorsHeader& header,
                         std::uint64_t size) {
  std::vector<const std::pair<const std::string, SafetensorsEntry>*> order;
  for (const auto& item : header.tensors) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t filled = 0;
  for (const auto* item : order) {
    const std::string& name = item->first;
    const SafetensorsEntry& entry = item->second;
    const auto fail = [&](const std::string& what) {
      throw_file(path, "tensor " + in_quotes(name) + " " + what);
    };
    std::string span = "[";
    span += std::to_string(entry.begin) + ", " + std::to_string(entry.end) + ")";
    if (entry.end < entry.begin) fail("has data_offsets " + span + ", which end before they begin");
    if (entry.end > size)
      fail("lies at " + span + ", outside the file's " + std::to_string(size) + " bytes of data");
    const std::optional<std::uint64_t> bytes = entry.dtype == DType::other
                                                   ? entry.end - entry.begin
                                                   : byte_count(entry.dtype, entry.shape);
    if (!bytes || *bytes != entry.end - entry.begin)
      fail("has data_offsets " + span + ", but " + std::string(facts(entry.dtype).name) +
           " of shape " + to_string(entry.shape) + " takes " +
           (bytes ? std::to_string(*bytes) + " bytes" : "more than 2^60 bytes"));
    if (entry.begin != filled)
      fail("begins at byte " + std::to_string(entry.begin) + ", expected " +
           std::to_string(filled) + " where the tensor before it ends");
    filled = entry.end;
  }
  if (filled != size)
    throw_file(path, "has " + std::to_string(size) + " bytes of data, but its tensors fill " +
                         std::to_string(filled));
}

/// Parses and checks a header for a file with `buffer_size` bytes after it. Throws FileError.
inline SafetensorsHeader parse_safetensors_header(const std::filesystem::path& path,
                                                  std::string_view text,
                                                  std::uint64_t buffer_size) {
  if (text.empty() || text.front() != '{') throw_file(path, "header does not begin with '{'");
  SafetensorsParser parser;
  if (const JsonFault fault = parse_json_events(text, parser, {.depth = 4})) {
    if (!parser.failure.empty()) throw_file(path, parser.failure);
    throw_file(path, "header is not valid UTF-8 JSON at its byte " +
                         std::to_string(fault.position) + ": " + fault.what);
  }
  check_layout(path, parser.header, buffer_size);
  return std::move(parser.header);
}

}  // namespace detail
}  // namespace ssm
