#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/io/bytes.hpp"
#include "ssm/io/commit.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/npy.hpp"
#include "ssm/io/npy_header.hpp"
#include "ssm/io/safetensors_header.hpp"
#include "ssm/io/zip.hpp"

/// @file
/// Several arrays in one file, as NumPy's `numpy.savez` writes them and `numpy.load` reads them:
///
///     const ssm::NpzReader file("data.npz");
///     const auto u = file.read<float, 3>("u");
///
///     ssm::NpzWriter result;
///     result.add("y", y);
///     result.save("result.npz");

namespace ssm {

/// What undoes deflate: `size` bytes from the bytes given, or nothing where these are no such
/// thing. inflate_by_zlib of ssm/io/inflate.hpp is one.
using Inflate = std::function<bool(std::string_view deflated, std::string& to, std::size_t size)>;

/// An .npz file, open for reading. The constructor reads the list of its arrays; each is then read
/// when it is asked for, and held against its checksum. Every error is a FileError that names the
/// file and the array.
class NpzReader {
 public:
  /// @param inflate for files of numpy.savez_compressed; without, a compressed array is refused
  /// @throws FileError
  explicit NpzReader(const std::filesystem::path& path, Inflate inflate = {})
      : file_(std::make_shared<detail::InputFile>(path)),
        entries_(detail::read_zip_directory(*file_)),
        inflate_(std::move(inflate)) {}

  /// The names of the arrays, as numpy.load has them: without ".npy".
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : entries_)
      if (name.ends_with(suffix)) names.push_back(name.substr(0, name.size() - suffix.size()));
    return names;
  }
  /// Whether the file has an array of this name.
  [[nodiscard]] bool contains(const std::string& name) const {
    return entries_.count(name + std::string(suffix)) != 0;
  }
  /// The extents of an array. @throws FileError where there is none of this name
  [[nodiscard]] std::vector<Index> shape(const std::string& name) const {
    return open(name).header().shape;
  }
  /// Reads an array as load_npy does. @throws FileError as load_npy, where there is none of this
  /// name, and for one that is not what its checksum says
  template <class T, std::size_t Rank>
  [[nodiscard]] Tensor<T, Rank> read(const std::string& name,
                                     NonFinite non_finite = NonFinite::reject) const {
    return open(name).read<T, Rank>(non_finite);
  }

 private:
  static constexpr std::string_view suffix = ".npy";

  [[nodiscard]] detail::NpyArray open(const std::string& name) const {
    const std::string known = file_->path().string() + ": array " + detail::in_quotes(name);
    const auto found = entries_.find(name + std::string(suffix));
    if (found == entries_.end())
      throw FileError(file_->path().string() + ": has no array " + detail::in_quotes(name));
    const detail::ZipEntry& entry = found->second;
    detail::Bytes bytes(file_, detail::zip_data(*file_, known, entry), entry.packed);
    if (entry.method != 0) bytes = detail::Bytes(inflated(known, entry, bytes));
    if (detail::crc32(bytes) != entry.crc)
      throw FileError(known + " is damaged: it is not what its checksum says");
    return {known, std::move(bytes)};
  }
  [[nodiscard]] std::string inflated(const std::string& known, const detail::ZipEntry& entry,
                                     const detail::Bytes& bytes) const {
    if (!inflate_)
      throw FileError(known + " is compressed: give NpzReader inflate_by_zlib of " +
                      "ssm/io/inflate.hpp, or write the file with numpy.savez");
    constexpr std::uint64_t most = 1032;  // deflate packs no more bytes into one
    if (entry.size / most > entry.packed)
      throw FileError(known + " is damaged: " + std::to_string(entry.packed) +
                      " bytes do not unfold to " + std::to_string(entry.size));
    std::string packed(static_cast<std::size_t>(entry.packed), '\0'), unpacked;
    bytes.read(packed.data(), packed.size(), 0);
    if (!inflate_(packed, unpacked, static_cast<std::size_t>(entry.size)) ||
        unpacked.size() != entry.size)
      throw FileError(known + " is damaged: it cannot be decompressed");
    return unpacked;
  }

  std::shared_ptr<detail::InputFile> file_;
  std::map<std::string, detail::ZipEntry> entries_;
  Inflate inflate_;
};

/// Writes arrays as one .npz file, uncompressed, as numpy.savez does. It collects views of them
/// first, and writes when `save` is called.
class NpzWriter {
 public:
  /// Adds an array of adjacent elements, which must live until `save`.
  /// @throws DomainError for a name that was added before, or none; ShapeError for a view with gaps
  template <class T, std::size_t Rank>
  void add(const std::string& name, const View<const T, Rank>& array) {
    if (!array.contiguous())
      detail::throw_shape("NpzWriter", name, "a view with gaps", "a contiguous one");
    if (name.empty() || name.size() > 1000 || !names_.insert(name).second)
      detail::throw_domain("NpzWriter", "name", detail::in_quotes(name),
                           "a new name of 1 to 1000 bytes");
    items_.push_back({name + ".npy",
                      detail::npy_header<T>({array.extents().begin(), array.extents().end()}),
                      {reinterpret_cast<const char*>(array.data()),
                       static_cast<std::size_t>(array.size()) * sizeof(T)}});
  }
  /// The same of a tensor.
  template <class T, std::size_t Rank>
  void add(const std::string& name, const Tensor<T, Rank>& array) {
    add(name, View<const T, Rank>(array.view()));
  }
  template <class T, std::size_t Rank>
  void add(const std::string& name, Tensor<T, Rank>&& array) = delete;  // it must live until save

  /// Writes the file; an old one is replaced in one step. The same arrays give the same bytes.
  /// @throws FileError with the reason that the system gives
  void save(const std::filesystem::path& path) const {
    detail::write_atomically(path, [&](detail::OutputFile& file) {
      detail::ZipWriter zip(file);
      for (const Item& item : items_) zip.add(item.name, {item.header, item.elements});
      zip.finish();
    });
  }

 private:
  struct Item {
    std::string name, header;
    std::string_view elements;
  };

  std::vector<Item> items_;
  std::set<std::string> names_;
};

}  // namespace ssm
