#pragma once

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/commit.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"
#include "ssm/io/model_config.hpp"
#include "ssm/io/names_in_file.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/models/mamba_lm.hpp"

/// @file
/// Language models in the files of state-spaces/mamba: a folder with model.safetensors and
/// config.json.

namespace ssm {
namespace detail {

/// Throws FileError when `sets` times what a config describes is more than the file can hold,
/// before memory is taken for it. No dtype that is read has less than two bytes.
inline void check_parameter_count(const SafetensorsReader& file, const MambaLMConfig& config,
                                  int sets) {
  double bytes = 0;
  for (const auto& [name, entry] : file.tensors())
    bytes += static_cast<double>(entry.end - entry.begin);
  const auto whole = [](double x) {
    char text[400];
    return std::string(text,
                       std::to_chars(text, text + sizeof(text), x, std::chars_format::fixed).ptr);
  };
  const double layers = sets * static_cast<double>(config.layers);
  if (10 * layers > static_cast<double>(file.tensors().size()))
    throw_file(file.path(), "has " + std::to_string(file.tensors().size()) +
                                " tensors, too few for the " + std::to_string(config.layers) +
                                " layers of its config");
  const double count = sets * parameters_of(config);
  if (2 * count > bytes)
    throw_file(file.path(), "has " + whole(bytes) + " bytes of tensors, too few for the " +
                                whole(count) + " parameters of its config");
}

/// Fills weights from the tensors named `prefix` + their own name.
template <class T>
void read_weights(const SafetensorsReader& file, const std::string& prefix, MambaLM<T>& weights) {
  parameters(weights, [&](std::string_view name, auto& tensor, const auto&, bool) {
    file.read_into(prefix + std::string(name), shape_in_file(name, tensor.extents()),
                   tensor.data());
  });
}

/// Throws FileError for an output head that is not the embedding.
template <class T>
void check_tied_head(const SafetensorsReader& file, const MambaLM<T>& weights) {
  const auto head = file.read<T>("lm_head.weight", weights.embedding.extents());
  if (!std::equal(head.begin(), head.end(), weights.embedding.begin()))
    throw_file(file.path(),
               "tensor \"lm_head.weight\" differs from the embedding, expected a tied head");
}

/// Throws FileError with what to do for a folder that has a model in another form than one
/// safetensors file.
inline void check_model_file(const std::filesystem::path& folder) {
  const auto has = [&](const char* name) {
    return type_of(folder / name) != std::filesystem::file_type::not_found;
  };
  if (has("model.safetensors")) return;
  if (has("model.safetensors.index.json"))
    throw_file(folder,
               "has its weights in several files (model.safetensors.index.json), which are "
               "not read yet; join them into one model.safetensors, in Python with "
               "model.save_pretrained(folder, max_shard_size=\"1TB\")");
  if (has("pytorch_model.bin") || has("pytorch_model.bin.index.json"))
    throw_file(folder,
               "has its weights in pytorch_model.bin, which is not read; convert it to "
               "model.safetensors, in Python with safetensors.torch.save_file(torch.load("
               "\"pytorch_model.bin\", weights_only=True), \"model.safetensors\")");
}

/// The config beside a model, or the one that its file carries where there is none beside it.
inline MambaLMConfig read_config_of(const SafetensorsReader& file) {
  const std::filesystem::path path = file.path().parent_path() / "config.json";
  const auto own = file.metadata().find("config");
  if (own != file.metadata().end() && type_of(path) == std::filesystem::file_type::not_found) {
    const Json json = parse_json(file.path(), own->second, "config");
    return read_config(JsonObject(file.path(), "config", json));
  }
  const Json json = parse_json(path, read_file(path, longest_json));
  return read_config(JsonObject(path, "config", json));
}

/// Adds model.safetensors and config.json to a commit.
///
/// The file carries its config, and a config.json that says another thing is let go before the
/// file takes its place: whatever happens in between, no folder has new weights under an old
/// config, nor weights without one.
template <class T>
void add_mamba_lm(Commit& commit, const std::filesystem::path& folder, const MambaLM<T>& weights,
                  DType matrices) {
  const std::string config = to_json(published_config(weights.config)).text(2) + "\n";
  SafetensorsWriter file;
  file.metadata = {{"format", "pt"}, {"config", config}};
  parameters(weights, [&](std::string_view name, const auto& tensor, const auto&, bool) {
    const bool matrix =
        std::remove_cvref_t<decltype(tensor)>::rank == 2 && !name.ends_with(".A_log");
    file.add(std::string(name), shape_in_file(name, tensor.extents()), tensor.data(),
             matrix ? matrices : dtype_of<T>());
  });
  file.save(commit, folder / "model.safetensors");
  const std::filesystem::path path = folder / "config.json";
  commit.add(path, [&](OutputFile& to) { to.write(config); });
  if (type_of(path) != std::filesystem::file_type::not_found) {
    const InputFile old(path);
    if (old.size() > longest_json || old.read_all(longest_json) != config)
      commit.remove_first(path);
  }
}

}  // namespace detail

/// Loads a Mamba language model from a folder with model.safetensors and config.json, or from a
/// safetensors file with config.json beside it. Without config.json it uses the configuration that
/// save_mamba_lm puts into the safetensors file. It reads the names and configurations of
/// state-spaces/mamba and of its `-hf` form. Elements of F16, BF16, F32 and F64 are converted to T.
///
/// The sizes are checked against the file before memory is allocated for them.
/// @throws FileError when something is missing, superfluous, of another shape, not finite, or asks
///   for a feature that this model does not have
template <class T = float>
[[nodiscard]] MambaLM<T> load_mamba_lm(const std::filesystem::path& path) {
  const bool directory = detail::type_of(path) == std::filesystem::file_type::directory;
  if (directory) detail::check_model_file(path);
  const std::filesystem::path model = directory ? path / "model.safetensors" : path;
  std::optional<detail::FolderHold> hold(std::in_place, model.parent_path(), true);
  const SafetensorsReader file(model);
  const MambaLMConfig config = detail::read_config_of(file);
  hold.reset();  // both are of one save; nobody need wait for the rest
  detail::check_parameter_count(file, config, 1);
  MambaLM<T> weights(mamba_lm_config<T>(config));
  const auto in_file = [&](std::string_view name) {
    const std::string other = "backbone.embeddings.weight";
    return name == "backbone.embedding.weight" && file.contains(other) ? other : std::string(name);
  };
  detail::NamesInFile names(file);
  parameters(weights,
             [&](std::string_view name, auto&, const auto&, bool) { names.expect(in_file(name)); });
  const bool head = file.contains("lm_head.weight") && names.expect("lm_head.weight");
  names.check();
  parameters(weights, [&](std::string_view name, auto& tensor, const auto&, bool) {
    file.read_into(in_file(name), detail::shape_in_file(name, tensor.extents()), tensor.data());
  });
  if (head) detail::check_tied_head(file, weights);
  return weights;
}

/// Saves a Mamba language model as model.safetensors and config.json in the folder `directory`,
/// which is made if it does not exist. If the program is killed at any moment, the folder holds the
/// model before or the new one.
/// @param matrices the element type of all matrices but A_log in the file; F16 and BF16 halve the
///   file of a float model. Other parameters keep their type
/// @throws FileError
template <class T>
void save_mamba_lm(const std::filesystem::path& directory, const MambaLM<T>& weights,
                   DType matrices = detail::dtype_of<T>()) {
  detail::make_folder(directory);
  detail::Commit commit;
  detail::add_mamba_lm(commit, directory, weights, matrices);
  commit.finish();
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE MambaLM<float> load_mamba_lm<float>(const std::filesystem::path&);
SSM_INSTANCE void save_mamba_lm(const std::filesystem::path&, const MambaLM<float>&, DType);
SSM_INSTANCE MambaLM<double> load_mamba_lm<double>(const std::filesystem::path&);
SSM_INSTANCE void save_mamba_lm(const std::filesystem::path&, const MambaLM<double>&, DType);
#endif

}  // namespace ssm
