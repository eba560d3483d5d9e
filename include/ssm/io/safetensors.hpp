#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/safetensors_header.hpp"

/// Safetensors: an 8-byte little-endian length, a JSON header of that length, the raw tensors.
namespace ssm {
namespace detail {

static_assert(std::endian::native == std::endian::little,
              "safetensors are little-endian and are read and written without swapping");

inline constexpr std::uint64_t largest_safetensors_header = 100'000'000;

/// The dtype whose elements are the bytes of a T, which must be one of these types.
template <class T>
constexpr DType dtype_of() noexcept {
  if constexpr (std::same_as<T, float>) return DType::F32;
  if constexpr (std::same_as<T, double>) return DType::F64;
  if constexpr (std::same_as<T, std::int8_t>) return DType::I8;
  if constexpr (std::same_as<T, std::uint8_t>) return DType::U8;
  if constexpr (std::same_as<T, std::int16_t>) return DType::I16;
  if constexpr (std::same_as<T, std::uint16_t>) return DType::U16;
  if constexpr (std::same_as<T, std::int32_t>) return DType::I32;
  if constexpr (std::same_as<T, std::uint32_t>) return DType::U32;
  if constexpr (std::same_as<T, std::int64_t>) return DType::I64;
  if constexpr (std::same_as<T, std::uint64_t>) return DType::U64;
}

/// to[i] = convert(the i-th Source at `bytes`), for `count` of them.
template <class Source, class T, class Convert>
void convert_elements(const char* bytes, std::size_t count, T* to, Convert&& convert) {
  for (std::size_t i = 0; i < count; ++i) {
    Source source;
    std::memcpy(&source, bytes + i * sizeof(Source), sizeof(Source));
    to[i] = static_cast<T>(convert(source));
  }
}

}  // namespace detail

/// What to do about a floating-point tensor with elements that are NaN or infinite.
enum class NonFinite { reject, allow };

/// A safetensors file open for reading. The constructor reads and checks the whole header against
/// the real size of the file; tensors are then read one by one, each once, straight to their place.
/// Every fault of a file is a FileError that names the file and the tensor.
class SafetensorsReader {
 public:
  explicit SafetensorsReader(std::filesystem::path path) : path_(std::move(path)) {
    const std::uint64_t size = detail::regular_file_size(path_);
    if (size < 8)
      fail("has " + std::to_string(size) + " bytes, too few for the 8-byte header length");
    file_ = detail::open_for_reading(path_);
    std::uint64_t length = 0;
    read_bytes(reinterpret_cast<char*>(&length), sizeof(length));
    if (length > size - 8)
      fail("says that its header has " + std::to_string(length) + " bytes, but only " +
           std::to_string(size - 8) + " follow");
    if (length > detail::largest_safetensors_header)
      fail("says that its header has " + std::to_string(length) + " bytes, expected at most " +
           std::to_string(detail::largest_safetensors_header));
    std::string text(static_cast<std::size_t>(length), '\0');
    read_bytes(text.data(), text.size());
    data_ = 8 + length;
    header_ = detail::parse_safetensors_header(path_, text, size - data_);
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] const std::map<std::string, SafetensorsEntry>& tensors() const noexcept {
    return header_.tensors;
  }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept {
    return header_.metadata;
  }
  [[nodiscard]] bool contains(const std::string& name) const {
    return header_.tensors.count(name) != 0;
  }
  /// What the header says of a tensor. Throws FileError when there is none of that name.
  [[nodiscard]] const SafetensorsEntry& entry(const std::string& name) const {
    const auto found = header_.tensors.find(name);
    if (found == header_.tensors.end()) fail("has no tensor " + detail::in_quotes(name));
    return found->second;
  }

  /// Reads a tensor of the given shape. F16, BF16, F32 and F64 convert to float and double; an
  /// integer T wants its own dtype, and std::uint8_t takes BOOL as well. Throws FileError for
  /// another shape or dtype, and for NaN and infinity unless they are allowed.
  template <class T, std::size_t Rank>
  [[nodiscard]] Tensor<T, Rank> read(const std::string& name, const std::array<Index, Rank>& shape,
                                     NonFinite non_finite = NonFinite::reject) {
    const std::vector<Index> extents(shape.begin(), shape.end());
    check(name, extents);
    Tensor<T, Rank> tensor(shape);
    read_into(name, extents, tensor.data(), non_finite);
    return tensor;
  }

  /// The same into memory that is there, for a shape of any rank.
  template <class T>
  void read_into(const std::string& name, const std::vector<Index>& shape, T* to,
                 NonFinite non_finite = NonFinite::reject) {
    check(name, shape);
    Index count = 1;
    for (Index extent : shape) count *= extent;
    read_elements(name, entry(name), to, static_cast<std::size_t>(count), non_finite);
  }

  /// Throws FileError unless there is a tensor of that name and shape.
  void check(const std::string& name, const std::vector<Index>& shape) const {
    const SafetensorsEntry& found = entry(name);
    if (found.shape != shape)
      fail("tensor " + detail::in_quotes(name) + " is " + detail::to_string(found.shape) +
           ", expected " + detail::to_string(shape));
  }

  /// Reads a tensor of the given rank and whatever shape the file has.
  template <class T, std::size_t Rank>
  [[nodiscard]] Tensor<T, Rank> read(const std::string& name,
                                     NonFinite non_finite = NonFinite::reject) {
    const SafetensorsEntry& found = entry(name);
    if (found.shape.size() != Rank)
      fail("tensor " + detail::in_quotes(name) + " is " + detail::to_string(found.shape) +
           ", expected " + std::to_string(Rank) + " extents");
    std::array<Index, Rank> shape{};
    std::copy(found.shape.begin(), found.shape.end(), shape.begin());
    return read<T>(name, shape, non_finite);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { detail::throw_file(path_, what); }

  void read_bytes(char* to, std::size_t count) {
    file_.read(to, static_cast<std::streamsize>(count));
    if (!file_) fail("ended before it was read to its end");
  }

  template <class T>
  void read_elements(const std::string& name, const SafetensorsEntry& entry, T* to,
                     std::size_t count, NonFinite non_finite) {
    file_.seekg(static_cast<std::streamoff>(data_ + entry.begin));
    const bool boolean = std::same_as<T, std::uint8_t> && entry.dtype == DType::BOOL;
    if (entry.dtype == detail::dtype_of<T>() || boolean) {
      read_bytes(reinterpret_cast<char*>(to), count * sizeof(T));
    } else if constexpr (std::floating_point<T>) {
      read_converted(name, entry.dtype, to, count);
    } else {
      throw_dtype(name, entry.dtype, std::string(detail::facts(detail::dtype_of<T>()).name));
    }
    if constexpr (std::floating_point<T>) {
      if (non_finite == NonFinite::allow) return;
      const T* bad = std::find_if_not(to, to + count, [](T x) { return std::isfinite(x); });
      if (bad != to + count)
        fail("tensor " + detail::in_quotes(name) + " has " +
             (std::isnan(*bad) ? "NaN" : "infinity") + " at element " + std::to_string(bad - to) +
             ", expected finite numbers");
    }
  }

  template <class T>
  void read_converted(const std::string& name, DType dtype, T* to, std::size_t count) {
    constexpr std::size_t chunk = 8192;
    std::array<char, chunk * 8> bytes;
    const std::size_t size = detail::facts(dtype).bytes;
    for (std::size_t done = 0; done < count || done == 0; done += chunk) {
      const std::size_t now = (std::min)(chunk, count - done);
      read_bytes(bytes.data(), now * size);
      const char* from = bytes.data();
      switch (dtype) {
        case DType::F16:
          detail::convert_elements<std::uint16_t>(from, now, to + done, half_to_float);
          break;
        case DType::BF16:
          detail::convert_elements<std::uint16_t>(from, now, to + done, bfloat16_to_float);
          break;
        case DType::F32:
          detail::convert_elements<float>(from, now, to + done, [](float x) { return x; });
          break;
        case DType::F64:
          detail::convert_elements<double>(from, now, to + done, [](double x) { return x; });
          break;
        default:
          throw_dtype(name, dtype, "F16, BF16, F32 or F64");
      }
    }
  }

  [[noreturn]] void throw_dtype(const std::string& name, DType got, const std::string& want) const {
    fail("tensor " + detail::in_quotes(name) + " is " + std::string(detail::facts(got).name) +
         ", expected " + want);
  }

  std::filesystem::path path_;
  std::ifstream file_;
  std::uint64_t data_ = 0;
  SafetensorsHeader header_;
};

/// Collects tensors, by view, and writes them as one safetensors file.
class SafetensorsWriter {
 public:
  std::map<std::string, std::string> metadata;

  /// Adds a contiguous tensor, in its own dtype, or float as F16 or BF16 rounded to nearest. The
  /// memory must live until `save`. Throws DomainError for a name that is there already or a dtype
  /// that the elements do not convert to, ShapeError for a view with gaps.
  template <class T, std::size_t Rank>
  void add(const std::string& name, const View<const T, Rank>& view,
           DType stored = detail::dtype_of<T>()) {
    if (!view.contiguous())
      detail::throw_shape("SafetensorsWriter", name, "a view with gaps", "a contiguous one");
    add(name, {view.extents().begin(), view.extents().end()}, view.data(), stored);
  }
  template <class T, std::size_t Rank>
  void add(const std::string& name, const Tensor<T, Rank>& tensor,
           DType stored = detail::dtype_of<T>()) {
    add(name, tensor.view(), stored);
  }

  /// The same for elements that lie row-major at `data`, under a shape of any rank.
  template <class T>
  void add(const std::string& name, std::vector<Index> shape, const T* data,
           DType stored = detail::dtype_of<T>()) {
    constexpr DType own = detail::dtype_of<T>();
    const bool narrowed = std::same_as<T, float> && (stored == DType::F16 || stored == DType::BF16);
    if (stored != own && !narrowed)
      detail::throw_domain("SafetensorsWriter", "dtype", std::string(detail::facts(stored).name),
                           "the tensor's own, or F16 or BF16 for float");
    const auto is_taken = [&](const Item& item) { return item.name == name; };
    if (name == "__metadata__" || std::any_of(items_.begin(), items_.end(), is_taken))
      detail::throw_domain("SafetensorsWriter", "name", detail::in_quotes(name), "a new name");
    items_.push_back(
        {name, {stored, std::move(shape), 0, 0}, reinterpret_cast<const char*>(data), own});
  }

  /// Writes the file beside `path` and moves it there in one step. Throws FileError.
  void save(const std::filesystem::path& path) {
    // Wide elements first, so that every tensor is aligned to its element.
    std::stable_sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
      return detail::facts(a.entry.dtype).bytes > detail::facts(b.entry.dtype).bytes;
    });
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!metadata.empty()) header["__metadata__"] = metadata;
    std::uint64_t end = 0;
    for (Item& item : items_) {
      item.entry.begin = end;
      end += detail::byte_count(item.entry).value();
      item.entry.end = end;
      header[item.name] = {{"dtype", detail::facts(item.entry.dtype).name},
                           {"shape", item.entry.shape},
                           {"data_offsets", {item.entry.begin, item.entry.end}}};
    }
    std::string text;
    try {
      text = header.dump();
    } catch (const nlohmann::json::exception&) {
      detail::throw_file(path, "cannot be written: a name or a metadata value is not UTF-8");
    }
    text.append((8 - text.size() % 8) % 8, ' ');
    detail::write_atomically(path, [&](std::ostream& file) {
      const std::uint64_t length = text.size();
      file.write(reinterpret_cast<const char*>(&length), sizeof(length));
      file.write(text.data(), static_cast<std::streamsize>(text.size()));
      for (const Item& item : items_) write(file, item);
    });
  }

 private:
  struct Item {
    std::string name;
    SafetensorsEntry entry;
    const char* data;
    DType own;
  };

  static void write(std::ostream& file, const Item& item) {
    const std::uint64_t bytes = item.entry.end - item.entry.begin;
    if (item.entry.dtype == item.own) {
      file.write(item.data, static_cast<std::streamsize>(bytes));
      return;
    }
    std::vector<std::uint16_t> narrowed(static_cast<std::size_t>(bytes / 2));
    const auto* elements = reinterpret_cast<const float*>(item.data);
    std::transform(elements, elements + narrowed.size(), narrowed.begin(),
                   item.entry.dtype == DType::F16 ? float_to_half : float_to_bfloat16);
    file.write(reinterpret_cast<const char*>(narrowed.data()), static_cast<std::streamsize>(bytes));
  }

  std::vector<Item> items_;
};

}  // namespace ssm
