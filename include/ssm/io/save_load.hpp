#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/fields.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/io/config_json.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/names_in_file.hpp"
#include "ssm/io/safetensors.hpp"

/// @file
/// Saving and loading any layer or model, each in a file of its own:
///
///     ssm::save("layer.safetensors", layer);
///     auto layer = ssm::load<ssm::S4d<float>>("layer.safetensors");
///
/// The file is a safetensors file. It has the parameters under the names that `parameters` gives
/// them, and the configuration as JSON in its metadata. The weight of a depthwise convolution has
/// the shape that PyTorch gives it, (channels, 1, taps).

namespace ssm {

/// A layer or a model that can be saved: it lists its parameters, and its configuration names its
/// fields.
template <class L>
concept Keepable = HasFields<typename L::Config> && requires(L& layer) {
  { layer.config } -> std::convertible_to<const typename L::Config&>;
  parameters(layer, [](const auto&, auto&, const auto&, bool) {});
};

/// How a layer is saved.
struct SaveOptions {
  /// The element type in the file of those matrices of a float layer to which weight decay applies;
  /// F16 and BF16 halve the file. When absent, and for all other parameters, elements keep their
  /// type.
  std::optional<DType> matrices = {};
  /// Further texts to store, by name. The names "format" and "config" are used by the library.
  std::map<std::string, std::string> metadata = {};
};

/// Adds the parameters of a layer to a file, each under the name `prefix` followed by its own. The
/// layer must live until the file is saved. @throws DomainError for a name that was added before
template <class L>
void add_parameters(SafetensorsWriter& file, const std::string& prefix, const L& layer,
                    std::optional<DType> matrices = {}) {
  parameters(
      layer, [&](std::string_view name, const auto& tensor, const auto& extents, bool decay) {
        using Element = typename std::remove_cvref_t<decltype(tensor)>::value_type;
        constexpr DType own = detail::dtype_of<Element>();
        if (tensor.extents() != extents)
          detail::throw_shape("save", name, detail::to_string(tensor.extents()),
                              detail::to_string(extents));
        file.add(prefix + std::string(name), detail::shape_in_file(name, extents), tensor.data(),
                 decay && extents.size() >= 2 && own == DType::F32 ? matrices.value_or(own) : own);
      });
}

namespace detail {

/// The names and shapes of a layer's parameters, as its configuration gives them.
template <class L>
[[nodiscard]] std::vector<std::string> parameter_list(const L& layer) {
  std::vector<std::string> list;
  parameters(layer, [&](std::string_view name, const auto&, const auto& extents, bool) {
    list.push_back(std::string(name) + " " + to_string(extents));
  });
  return list;
}

/// Throws ShapeError for a layer whose parts are not those of its configuration, which is all that
/// `load` will know of them.
template <class L>
void check_parts(const L& layer) {
  L blank;
  configure(blank, layer.config);
  std::vector<std::string> has = parameter_list(layer), wants = parameter_list(blank);
  has.resize((std::max)(has.size(), wants.size()), "absent");
  wants.resize(has.size(), "none, as in its configuration");
  const auto [got, want] = std::mismatch(has.begin(), has.end(), wants.begin());
  if (got != has.end()) throw_shape("save", "a parameter of the layer", *got, *want);
}

/// Holds the names and shapes of a layer's parameters, which need no memory yet, against a file.
template <class L>
void check_file(const SafetensorsReader& file, const std::string& prefix, const L& layer,
                NamesInFile& expected) {
  parameters(layer, [&](std::string_view name, const auto& tensor, const auto& extents, bool) {
    using Element = typename std::remove_cvref_t<decltype(tensor)>::value_type;
    const std::string full = prefix + std::string(name);
    if (expected.expect(full)) file.check<Element>(full, shape_in_file(name, extents));
  });
}

template <class L>
void fill(const SafetensorsReader& file, const std::string& prefix, L& layer) {
  parameters(layer, [&](std::string_view name, auto& tensor, const auto& extents, bool) {
    file.read_into(prefix + std::string(name), shape_in_file(name, extents), tensor.data());
  });
}

/// Calls make(), of a configuration out of a file: what is wrong with that is wrong with the file.
template <class Make>
auto from_file(const std::filesystem::path& path, const Make& make) {
  try {
    return make();
  } catch (const std::logic_error& error) {  // ShapeError, DomainError
    throw_file(path, std::string("config: ") + error.what());
  }
}

/// The configuration that a file carries.
template <class Config>
Config config_in(const SafetensorsReader& file) {
  const auto found = file.metadata().find("config");
  if (found == file.metadata().end())
    throw_file(file.path(),
               "carries no config; read its tensors with load(path, layer) into a layer of yours");
  return config_from_json<Config>(parse_json(file.path(), found->second, "config"), file.path());
}

/// A layer of this configuration, with memory only for what the file bears out.
template <class L>
L read_layer(const SafetensorsReader& file, const typename L::Config& config) {
  NamesInFile expected(file);
  const L blank = from_file(file.path(), [&] {
    L layer;
    configure(layer, config);
    return layer;
  });
  check_file(file, "", blank, expected);
  expected.check();
  L layer = from_file(file.path(), [&] { return L(config); });
  fill(file, "", layer);
  return layer;
}

}  // namespace detail

/// Saves a layer or a model as one safetensors file. The file is replaced in one step: readers see
/// the old file or the whole new one. A symbolic link is followed; a path to a device or a folder
/// is an error.
/// @throws FileError with the reason that the system gives, and for a parameter that is not finite
///   or too large for its element type; ShapeError for a parameter whose shape is not that of the
///   configuration
template <Keepable L>
void save(const std::filesystem::path& path, const L& layer, const SaveOptions& options = {}) {
  detail::check_parts(layer);
  SafetensorsWriter file;
  file.metadata = options.metadata;
  for (const char* taken : {"format", "config"})
    if (file.metadata.count(taken) != 0)
      detail::throw_domain("save", "metadata", detail::in_quotes(taken), "another name");
  file.metadata["format"] = "pt";
  file.metadata["config"] = to_json(layer.config).text();
  add_parameters(file, "", layer, options.matrices);
  file.save(path);
}

/// Loads a layer or a model that `save` wrote: its configuration and its parameters. Elements of
/// F16, BF16, F32 and F64 are converted to the type of the layer. The sizes are checked against the
/// file before memory is allocated for them.
/// @throws FileError for a configuration that is missing or not one of L, and for parameters that
///   are missing, superfluous, of another shape or not finite
template <Keepable L>
[[nodiscard]] L load(const std::filesystem::path& path) {
  const SafetensorsReader file(path);
  return detail::read_layer<L>(file, detail::config_in<typename L::Config>(file));
}

/// Loads parameters into a layer that already has its configuration, from any file with the same
/// names. A configuration in the file is ignored. On an error the layer is unchanged.
/// @throws FileError for parameters that are missing, superfluous, of another shape or not finite
template <Keepable L>
void load(const std::filesystem::path& path, L& layer) {
  layer = detail::read_layer<L>(SafetensorsReader(path), layer.config);
}

/// Reads the parameters of a layer from the tensors of a file whose names are `prefix` followed by
/// the names of the parameters. The file may have other tensors too. On an error the layer is
/// unchanged.
/// @throws FileError for parameters that are missing, of another shape or not finite
template <class L>
void read_into(const SafetensorsReader& file, const std::string& prefix, L& layer) {
  detail::NamesInFile expected(file);
  detail::check_file(file, prefix, layer, expected);
  expected.check_missing();
  L read = layer;
  detail::fill(file, prefix, read);
  layer = std::move(read);
}

}  // namespace ssm
