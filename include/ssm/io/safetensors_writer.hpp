#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/io/commit.hpp"
#include "ssm/io/json_text.hpp"
#include "ssm/io/safetensors_header.hpp"

namespace ssm {

/// Writes tensors as one safetensors file. It collects views of them first, and writes when `save`
/// is called.
class SafetensorsWriter {
 public:
  std::map<std::string, std::string> metadata;  ///< further texts for the header, by name

  /// Adds a contiguous tensor. Its memory must live until `save`.
  /// @param stored the element type in the file: that of T, or for float and double also F16 or
  ///   BF16, rounded to nearest
  /// @throws DomainError for a name that was added before and for an element type to which T does
  ///   not convert; ShapeError for a view that is not contiguous
  template <class T, std::size_t Rank>
  void add(const std::string& name, const View<const T, Rank>& view,
           DType stored = detail::dtype_of<T>()) {
    if (!view.contiguous())
      detail::throw_shape("SafetensorsWriter", name, "a view with gaps", "a contiguous one");
    add(name, {view.extents().begin(), view.extents().end()}, view.data(), stored);
  }
  /// Adds a tensor, which must live until `save`.
  /// @param stored the element type in the file: that of T, or for float and double also F16 or
  ///   BF16, rounded to nearest
  /// @throws DomainError for a name that was added before and for an element type to which T does
  ///   not convert
  template <class T, std::size_t Rank>
  void add(const std::string& name, const Tensor<T, Rank>& tensor,
           DType stored = detail::dtype_of<T>()) {
    add(name, tensor.view(), stored);
  }

  /// Adds a tensor of any rank whose elements lie row-major at `data`. They must live until `save`.
  /// @param stored the element type in the file: that of T, or for float and double also F16 or
  ///   BF16, rounded to nearest
  /// @throws DomainError for a name that was added before and for an element type to which T does
  ///   not convert
  template <class T>
  void add(const std::string& name, std::vector<Index> shape, const T* data,
           DType stored = detail::dtype_of<T>()) {
    constexpr DType own = detail::dtype_of<T>();
    const bool narrowed = std::same_as<T, float> && (stored == DType::F16 || stored == DType::BF16);
    if (stored != own && !narrowed)
      detail::throw_domain("SafetensorsWriter", "dtype", std::string(detail::facts(stored).name),
                           "the tensor's own, or F16 or BF16 for float");
    if (!detail::byte_count(stored, shape))
      detail::throw_shape("SafetensorsWriter", name, detail::to_string(shape),
                          "extents from 0 and less than 2^60 bytes");
    if (name == "__metadata__" || !names_.insert(name).second)
      detail::throw_domain("SafetensorsWriter", "name", detail::in_quotes(name), "a new name");
    items_.push_back({name, stored, std::move(shape), reinterpret_cast<const char*>(data), own});
  }

  /// Writes the file under a temporary name in the same folder, and then renames it to `path`:
  /// readers see the old file or the whole new one. A symbolic link is followed.
  /// @throws FileError, which names file and tensor, for elements that are NaN or infinite (or
  ///   become infinite in a smaller element type) unless that is allowed, for names that are not
  ///   UTF-8, for a header above 100 MB, and for errors of the system. An existing file is then
  ///   unchanged
  void save(const std::filesystem::path& path, NonFinite non_finite = NonFinite::reject) {
    detail::Commit commit;
    save(commit, path, non_finite);
    commit.finish();
  }

  /// Writes the file as one of several that are renamed together.
  /// @throws FileError as the other save
  void save(detail::Commit& commit, const std::filesystem::path& path,
            NonFinite non_finite = NonFinite::reject) {
    // Wide elements first, so that every tensor is aligned to its element.
    std::stable_sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
      return detail::facts(a.stored).bytes > detail::facts(b.stored).bytes;
    });
    const std::string text = header(path);
    commit.add(path, [&](detail::OutputFile& file) {
      const std::uint64_t length = text.size();
      file.write(&length, sizeof(length));
      file.write(text);
      for (const Item& item : items_) write(path, file, item, non_finite);
    });
  }

 private:
  struct Item {
    std::string name;
    DType stored;
    std::vector<Index> shape;
    const char* data;
    DType own;

    [[nodiscard]] std::uint64_t bytes() const { return detail::byte_count(stored, shape).value(); }
  };

  [[nodiscard]] std::string header(const std::filesystem::path& path) const {
    std::string text = "{";
    const auto name = [&](const std::string& of) {
      if (text.back() != '{') text += ',';
      detail::write_json_string(text, of);
      text += ':';
    };
    if (!metadata.empty()) {
      text += "\"__metadata__\":{";
      for (const auto& [key, value] : metadata) {
        name(key);
        detail::write_json_string(text, value);
      }
      text += '}';
    }
    std::uint64_t end = 0;
    for (const Item& item : items_) {
      name(item.name);
      const std::uint64_t begin = end;
      end += item.bytes();
      // Appended piece by piece: of sums that begin with a literal, g++ 12 warns (bug 105651).
      text.append("{\"dtype\":\"").append(detail::facts(item.stored).name);
      text.append("\",\"shape\":[");
      for (std::size_t i = 0; i < item.shape.size(); ++i) {
        if (i > 0) text += ',';
        text += std::to_string(item.shape[i]);
      }
      text += "],\"data_offsets\":[" + std::to_string(begin) + ',' + std::to_string(end) + "]}";
    }
    text += '}';
    text.append((8 - text.size() % 8) % 8, ' ');
    if (text.size() > detail::largest_safetensors_header)
      detail::throw_file(path, "would have a header of " + std::to_string(text.size()) +
                                   " bytes, expected at most " +
                                   std::to_string(detail::largest_safetensors_header));
    (void)detail::parse_safetensors_header(path, text, end);  // what can be written can be read
    return text;
  }

  static void write(const std::filesystem::path& path, detail::OutputFile& file, const Item& item,
                    NonFinite non_finite) {
    const auto count = static_cast<std::size_t>(item.bytes() / detail::facts(item.stored).bytes);
    const bool reject = non_finite == NonFinite::reject;
    if (item.own == DType::F64 && reject)
      check_finite(path, item, reinterpret_cast<const double*>(item.data), count);
    if (item.own == DType::F32 && reject)
      check_finite(path, item, reinterpret_cast<const float*>(item.data), count);
    if (item.own == DType::F16 && reject)
      check_finite(path, item, reinterpret_cast<const Half*>(item.data), count);
    if (item.own == DType::BF16 && reject)
      check_finite(path, item, reinterpret_cast<const Bfloat16*>(item.data), count);
    if (item.stored == item.own)
      return file.write(item.data, static_cast<std::size_t>(item.bytes()));

    const auto* elements = reinterpret_cast<const float*>(item.data);
    std::array<std::uint16_t, 8192> narrow;
    for (std::size_t done = 0; done < count; done += narrow.size()) {
      const std::size_t now = (std::min)(narrow.size(), count - done);
      for (std::size_t i = 0; i < now; ++i) {
        const float x = elements[done + i];
        narrow[i] = item.stored == DType::F16 ? float_to_half(x) : float_to_bfloat16(x);
        const std::uint16_t exponent = item.stored == DType::F16 ? 0x7c00 : 0x7f80;
        if (reject && (narrow[i] & exponent) == exponent)
          detail::throw_file(path, "tensor " + detail::in_quotes(item.name) + " has " +
                                       detail::json_text(static_cast<double>(x)) + " at element " +
                                       std::to_string(done + i) + ", too large for " +
                                       std::string(detail::facts(item.stored).name));
      }
      file.write(narrow.data(), now * sizeof(std::uint16_t));
    }
  }

  template <class T>
  static void check_finite(const std::filesystem::path& path, const Item& item, const T* elements,
                           std::size_t count) {
    using Number = Arithmetic<T>;
    const T* bad = std::find_if_not(elements, elements + count,
                                    [](T x) { return std::isfinite(static_cast<Number>(x)); });
    if (bad != elements + count)
      detail::throw_file(path, "tensor " + detail::in_quotes(item.name) + " has " +
                                   (std::isnan(static_cast<Number>(*bad)) ? "NaN" : "infinity") +
                                   " at element " + std::to_string(bad - elements) +
                                   ", expected finite numbers");
  }

  std::vector<Item> items_;
  std::set<std::string> names_;
};

}  // namespace ssm
