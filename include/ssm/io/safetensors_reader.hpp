#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/safetensors_header.hpp"

namespace ssm {
namespace detail {

/// to[i] = convert(the i-th Source at `bytes`), for `count` of them.
template <class Source, class T, class Convert>
void convert_elements(const char* bytes, std::size_t count, T* to, Convert&& convert) {
  for (std::size_t i = 0; i < count; ++i) {
    Source source;
    std::memcpy(&source, bytes + i * sizeof(Source), sizeof(Source));
    to[i] = T(static_cast<Arithmetic<T>>(convert(source)));
  }
}

}  // namespace detail

/// A safetensors file, open for reading. The constructor reads the whole header and checks it
/// against the size of the file. Tensors are then read one by one, directly into their memory;
/// several threads may read at once. A tensor of an unknown element type is an error only when it
/// is read. Every error is a FileError that names the file and the tensor.
class SafetensorsReader {
 public:
  /// Opens a file and reads its header. @throws FileError
  explicit SafetensorsReader(std::filesystem::path path) : file_(std::move(path)) {
    const std::uint64_t size = file_.size();
    if (size < 8)
      fail("has " + std::to_string(size) + " bytes, too few for the 8-byte header length");
    std::uint64_t length = 0;
    file_.read(reinterpret_cast<char*>(&length), sizeof(length), 0);
    if (length > size - 8)
      fail("is no safetensors file or is cut short: its first 8 bytes say that the header has " +
           std::to_string(length) + " bytes, but only " + std::to_string(size - 8) + " follow");
    if (length > detail::largest_safetensors_header)
      fail("is no safetensors file or is cut short: its first 8 bytes say that the header has " +
           std::to_string(length) + " bytes, expected at most " +
           std::to_string(detail::largest_safetensors_header));
    std::string text(static_cast<std::size_t>(length), '\0');
    file_.read(text.data(), text.size(), 8);
    data_ = 8 + length;
    header_ = detail::parse_safetensors_header(file_.path(), text, size - data_);
  }

  /// The path of the file.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return file_.path(); }
  /// What the header says about every tensor, by name.
  [[nodiscard]] const std::map<std::string, SafetensorsEntry>& tensors() const noexcept {
    return header_.tensors;
  }
  /// The further texts of the header, by name.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept {
    return header_.metadata;
  }
  /// Whether the file has a tensor of this name.
  [[nodiscard]] bool contains(const std::string& name) const {
    return header_.tensors.count(name) != 0;
  }
  /// What the header says about a tensor. @throws FileError when there is none of that name
  [[nodiscard]] const SafetensorsEntry& entry(const std::string& name) const {
    const auto found = header_.tensors.find(name);
    if (found == header_.tensors.end()) fail("has no tensor " + detail::in_quotes(name));
    return found->second;
  }

  /// The memory of all tensors, mapped from the file: where entry.begin and entry.end count from.
  /// It outlives the reader, and its pages are read when they are first looked at.
  /// @throws FileError where the system cannot map the file
  [[nodiscard]] std::shared_ptr<const std::byte> map() const {
    const std::shared_ptr<const std::byte> whole = file_.map();
    return {whole, whole.get() + data_};
  }

  /// Reads a tensor of the given shape. Elements of F16, BF16, F32 and F64 are converted to float,
  /// double, Half or Bfloat16. An integer T must be the element type of the file; std::uint8_t also
  /// reads BOOL.
  /// @throws FileError for another shape or element type, and for NaN and infinity unless they are
  /// allowed
  template <class T, std::size_t Rank>
  [[nodiscard]] Tensor<T, Rank> read(const std::string& name, const std::array<Index, Rank>& shape,
                                     NonFinite non_finite = NonFinite::reject) const {
    const std::vector<Index> extents(shape.begin(), shape.end());
    check<T>(name, extents);  // before memory is taken
    Tensor<T, Rank> tensor(shape);
    read_into(name, extents, tensor.data(), non_finite);
    return tensor;
  }

  /// Reads a tensor of the given shape, of any rank, into memory that the caller owns. Elements are
  /// converted as `read` does.
  /// @param to room for all elements, row-major
  /// @throws FileError as read
  template <class T>
  void read_into(const std::string& name, const std::vector<Index>& shape, T* to,
                 NonFinite non_finite = NonFinite::reject) const {
    check<T>(name, shape);
    Index count = 1;
    for (Index extent : shape) count *= extent;
    read_elements(name, entry(name), to, static_cast<std::size_t>(count), non_finite);
  }

  /// Checks that the file has a tensor of this name and shape. @throws FileError if not
  void check(const std::string& name, const std::vector<Index>& shape) const {
    const SafetensorsEntry& found = entry(name);
    if (found.shape != shape)
      fail("tensor " + detail::in_quotes(name) + " is " + detail::to_string(found.shape) +
           ", expected " + detail::to_string(shape));
  }

  /// Checks that the file has a tensor of this name and shape whose elements convert to T.
  /// @throws FileError if not
  template <class T>
  void check(const std::string& name, const std::vector<Index>& shape) const {
    check(name, shape);
    check_dtype<T>(name, entry(name));
  }

  /// Reads a tensor of the given rank, of any shape. Elements are converted as the other `read`
  /// does.
  /// @throws FileError for another rank or element type, and for NaN and infinity unless they are
  /// allowed
  template <class T, std::size_t Rank>
  [[nodiscard]] Tensor<T, Rank> read(const std::string& name,
                                     NonFinite non_finite = NonFinite::reject) const {
    const SafetensorsEntry& found = entry(name);
    if (found.shape.size() != Rank)
      fail("tensor " + detail::in_quotes(name) + " is " + detail::to_string(found.shape) +
           ", expected " + std::to_string(Rank) + " extents");
    std::array<Index, Rank> shape{};
    std::copy(found.shape.begin(), found.shape.end(), shape.begin());
    return read<T>(name, shape, non_finite);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { detail::throw_file(path(), what); }

  template <class T>
  void check_dtype(const std::string& name, const SafetensorsEntry& entry) const {
    constexpr bool real = detail::is_real<T>;
    const auto is = [&](DType dtype) { return entry.dtype == dtype; };
    if (is(detail::dtype_of<T>()) || (std::same_as<T, std::uint8_t> && is(DType::BOOL)) ||
        (real && (is(DType::F16) || is(DType::BF16) || is(DType::F32) || is(DType::F64))))
      return;
    fail("tensor " + detail::in_quotes(name) + " is of dtype " +
         detail::in_quotes(entry.dtype_name) + ", expected " +
         (real ? "F16, BF16, F32 or F64" : std::string(detail::facts(detail::dtype_of<T>()).name)));
  }

  template <class T>
  void read_elements(const std::string& name, const SafetensorsEntry& entry, T* to,
                     std::size_t count, NonFinite non_finite) const {
    if (entry.dtype == detail::dtype_of<T>() || entry.dtype == DType::BOOL) {
      file_.read(reinterpret_cast<char*>(to), count * sizeof(T), data_ + entry.begin);
    } else if constexpr (detail::is_real<T>) {
      read_converted(entry, to, count);
    }
    if constexpr (detail::is_real<T>) {
      if (non_finite == NonFinite::allow) return;
      using Number = Arithmetic<T>;
      const T* bad = std::find_if_not(to, to + count,
                                      [](T x) { return std::isfinite(static_cast<Number>(x)); });
      if (bad != to + count)
        fail("tensor " + detail::in_quotes(name) + " has " +
             (std::isnan(static_cast<Number>(*bad)) ? "NaN" : "infinity") + " at element " +
             std::to_string(bad - to) + ", expected finite numbers");
    }
  }

  template <class T>
  void read_converted(const SafetensorsEntry& entry, T* to, std::size_t count) const {
    constexpr std::size_t chunk = 8192;
    std::array<char, chunk * 8> bytes;
    const std::size_t size = detail::facts(entry.dtype).bytes;
    for (std::size_t done = 0; done < count; done += chunk) {
      const std::size_t now = (std::min)(chunk, count - done);
      file_.read(bytes.data(), now * size, data_ + entry.begin + done * size);
      const char* from = bytes.data();
      switch (entry.dtype) {
        case DType::F16:
          detail::convert_elements<std::uint16_t>(from, now, to + done, half_to_float);
          break;
        case DType::BF16:
          detail::convert_elements<std::uint16_t>(from, now, to + done, bfloat16_to_float);
          break;
        case DType::F32:
          detail::convert_elements<float>(from, now, to + done, [](float x) { return x; });
          break;
        default:  // F64
          detail::convert_elements<double>(from, now, to + done, [](double x) { return x; });
      }
    }
  }

  detail::InputFile file_;
  std::uint64_t data_ = 0;
  SafetensorsHeader header_;
};

}  // namespace ssm
