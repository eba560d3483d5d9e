#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/core/index.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/safetensors_header.hpp"

namespace ssm::detail {

/// The shape under which files keep a parameter: a depthwise convolution has an extent of 1 for
/// the inputs of each channel.
template <class Extents>
std::vector<Index> shape_in_file(std::string_view name, const Extents& extents) {
  const bool depthwise = extents.size() == 2 && name.ends_with("conv1d.weight");
  std::vector<Index> shape;
  shape.reserve(extents.size() + 1);
  for (const Index extent : extents) {
    if (depthwise && shape.size() == 1) shape.push_back(1);
    shape.push_back(extent);
  }
  return shape;
}

/// The names that a file must have, ticked off one by one; it knows what is missing and what is
/// left over.
class NamesInFile {
 public:
  /// Of a SafetensorsReader or a SafetensorsFolder, which must outlive it.
  template <class File>
  explicit NamesInFile(const File& file) : path_(file.path()), tensors_(file.tensors()) {}

  /// Counts a name as expected. Returns whether it is there.
  bool expect(const std::string& name) {
    const bool there = tensors_.count(name) != 0;
    (there ? found_ : missing_).insert(name);
    return there;
  }

  /// Counts tensors as expected that are no weights, by their element type and the last word of
  /// their name: buffers that other code keeps beside the weights, which nobody asks for.
  void expect_buffers() {
    for (const auto& [name, entry] : tensors_) {
      const bool real = entry.dtype == DType::F16 || entry.dtype == DType::BF16 ||
                        entry.dtype == DType::F32 || entry.dtype == DType::F64;
      const std::string last = name.substr(name.rfind('.') + 1);
      if (!real && last != "weight" && last != "bias" && last != "A_log" && last != "D")
        found_.insert(name);
    }
  }

  /// Throws FileError with the first few names when any is missing, whatever else there is.
  void check_missing() const {
    if (!missing_.empty()) throw_file(path_, "missing tensors: " + list(missing_));
  }

  /// Throws FileError with the first few names when any is missing or left over.
  void check() const {
    std::vector<std::string> left_over;
    for (const auto& [name, entry] : tensors_)
      if (found_.count(name) == 0) left_over.push_back(name);
    if (missing_.empty() && left_over.empty()) return;
    std::string text;
    if (!missing_.empty()) text = "missing tensors: " + list(missing_);
    if (!left_over.empty())
      text += (text.empty() ? "tensors left over: " : "; left over: ") + list(left_over);
    throw_file(path_, text);
  }

 private:
  template <class Names>
  static std::string list(const Names& names) {
    constexpr std::size_t most = 4;
    std::string text;
    std::size_t listed = 0;
    for (const std::string& name : names) {
      if (listed == most) break;
      text += (listed++ == 0 ? "" : ", ") + in_quotes(name);
    }
    if (names.size() > most) text += " and " + std::to_string(names.size() - most) + " more";
    return text;
  }

  const std::filesystem::path& path_;
  const std::map<std::string, SafetensorsEntry>& tensors_;
  std::set<std::string> found_, missing_;
};

}  // namespace ssm::detail
