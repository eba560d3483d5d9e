#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/core/index.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/safetensors_reader.hpp"

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
  explicit NamesInFile(const SafetensorsReader& file) : file_(file) {}

  /// Counts a name as expected. Returns whether it is there.
  bool expect(const std::string& name) {
    const bool there = file_.contains(name);
    (there ? found_ : missing_).insert(name);
    return there;
  }

  /// Throws FileError with the first few names when any is missing, whatever else there is.
  void check_missing() const {
    if (!missing_.empty()) throw_file(file_.path(), "missing tensors: " + list(missing_));
  }

  /// Throws FileError with the first few names when any is missing or left over.
  void check() const {
    std::vector<std::string> left_over;
    for (const auto& [name, entry] : file_.tensors())
      if (found_.count(name) == 0) left_over.push_back(name);
    if (missing_.empty() && left_over.empty()) return;
    std::string text;
    if (!missing_.empty()) text = "missing tensors: " + list(missing_);
    if (!left_over.empty())
      text += (text.empty() ? "tensors left over: " : "; left over: ") + list(left_over);
    throw_file(file_.path(), text);
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

  const SafetensorsReader& file_;
  std::set<std::string> found_, missing_;
};

}  // namespace ssm::detail
