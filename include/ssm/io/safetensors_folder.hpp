#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"
#include "ssm/io/safetensors_header.hpp"
#include "ssm/io/safetensors_reader.hpp"

namespace ssm {

/// The tensors of a model in one safetensors file, or in several beside an index of which is where,
/// as transformers writes large ones. It reads like a SafetensorsReader: the constructor reads the
/// headers of all files and holds the index against them, tensors are then read one by one. Every
/// error is a FileError that names the file and the tensor.
class SafetensorsFolder {
 public:
  /// Opens a safetensors file, an index (a name that ends in ".index.json"), or what a folder has:
  /// model.safetensors, otherwise model.safetensors.index.json. The files of an index lie beside
  /// it.
  /// @throws FileError for a file that is missing or wrong, an index that names files elsewhere,
  ///   and a tensor that is not, or not only, in the file that the index says
  explicit SafetensorsFolder(std::filesystem::path path) : path_(std::move(path)) {
    if (detail::type_of(path_) == std::filesystem::file_type::directory) {
      const auto one = path_ / "model.safetensors", index = path_ / "model.safetensors.index.json";
      const auto there = [](const std::filesystem::path& file) {
        return detail::type_of(file) != std::filesystem::file_type::not_found;
      };
      path_ = there(one) || !there(index) ? one : index;
    }
    if (path_.filename().string().ends_with(".index.json")) {
      open_indexed();
    } else {
      files_.emplace_back(path_);
      metadata_ = files_[0].metadata();
      for (const auto& [name, entry] : files_[0].tensors()) place(name, entry, 0);
    }
  }

  /// The path of the file, or of the index of several.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// The files, one or more.
  [[nodiscard]] const std::vector<SafetensorsReader>& files() const noexcept { return files_; }
  /// What the headers say about every tensor, by name. Bytes are counted in the tensor's own file.
  [[nodiscard]] const std::map<std::string, SafetensorsEntry>& tensors() const noexcept {
    return tensors_;
  }
  /// The further texts of the header of a single file, by name; none of several.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept {
    return metadata_;
  }
  /// Whether there is a tensor of this name.
  [[nodiscard]] bool contains(const std::string& name) const { return tensors_.count(name) != 0; }
  /// The file that a tensor is in. @throws FileError when there is none of that name
  [[nodiscard]] const SafetensorsReader& file_of(const std::string& name) const {
    const auto found = where_.find(name);
    if (found == where_.end())
      detail::throw_file(path_, "has no tensor " + detail::in_quotes(name));
    return files_[found->second];
  }
  /// What the header says about a tensor. @throws FileError when there is none of that name
  [[nodiscard]] const SafetensorsEntry& entry(const std::string& name) const {
    return file_of(name).entry(name);
  }
  /// Reads a tensor as SafetensorsReader::read does. @throws FileError as that
  template <class T, std::size_t Rank>
  [[nodiscard]] Tensor<T, Rank> read(const std::string& name,
                                     const std::array<Index, Rank>& shape) const {
    return file_of(name).template read<T>(name, shape);
  }
  /// Reads a tensor as SafetensorsReader::read_into does. @throws FileError as that
  template <class T>
  void read_into(const std::string& name, const std::vector<Index>& shape, T* to) const {
    file_of(name).read_into(name, shape, to);
  }

 private:
  void place(const std::string& name, const SafetensorsEntry& entry, std::size_t file) {
    tensors_.emplace(name, entry);
    where_.emplace(name, file);
  }

  /// A file beside the index and nowhere else.
  [[nodiscard]] static bool is_name_of_file(std::string_view name) {
    for (const char c : name)
      if (static_cast<unsigned char>(c) < 0x20 || c == '/' || c == '\\' || c == ':') return false;
    return name.ends_with(".safetensors");
  }

  void open_indexed() {
    const Json json =
        detail::parse_json(path_, detail::read_file(path_, detail::longest_json), "index");
    const detail::JsonObject map = detail::JsonObject(path_, "index", json).object("weight_map");
    std::map<std::string, std::string> place_of;
    std::map<std::string, std::size_t> numbers;  // of files, by name
    for (const auto& [name, value] : map.fields()) {
      const auto* file = value.as<std::string>();
      if (file == nullptr || !is_name_of_file(*file))
        detail::throw_file(path_, "index puts tensor " + detail::in_quotes(name) + " into " +
                                      detail::JsonObject::describe(value) +
                                      ", expected the name of a .safetensors file beside it");
      place_of.emplace(name, *file);
      if (numbers.emplace(*file, files_.size()).second)
        files_.emplace_back(path_.parent_path() / *file);
    }
    for (const auto& [file, number] : numbers)
      for (const auto& [name, entry] : files_[number].tensors()) {
        const auto expected = place_of.find(name);
        const bool elsewhere = expected != place_of.end() && expected->second != file;
        if (elsewhere || contains(name))
          detail::throw_file(
              files_[number].path(),
              "has tensor " + detail::in_quotes(name) + ", expected in " +
                  (elsewhere ? detail::in_quotes(expected->second) + " alone" : "one file alone"));
        place(name, entry, number);
      }
    for (const auto& [name, file] : place_of)
      if (!contains(name))
        detail::throw_file(path_, "index puts tensor " + detail::in_quotes(name) + " into " +
                                      detail::in_quotes(file) + ", which has no such tensor");
  }

  std::filesystem::path path_;
  std::vector<SafetensorsReader> files_;
  std::map<std::string, SafetensorsEntry> tensors_;
  std::map<std::string, std::size_t> where_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace ssm
