#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <ostream>
#include <string>
#include <type_traits>
#include <vector>

#include "ssm/core/tensor.hpp"
#include "ssm/io/model_config.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/models/mamba_lm.hpp"

/// Models on disk as state-spaces/mamba keeps them: model.safetensors and config.json beside it.
namespace ssm {
namespace detail {

/// The shape under which files keep a parameter: a depthwise convolution has an extent of 1 for
/// the inputs of each channel.
template <class AnyTensor>
std::vector<Index> shape_in_file(const std::string& name, const AnyTensor& tensor) {
  std::vector<Index> shape(tensor.extents().begin(), tensor.extents().end());
  if (name.ends_with("conv1d.weight")) shape.insert(shape.begin() + 1, 1);
  return shape;
}

/// Throws FileError when a config describes more parameters than the file can hold, before memory
/// is taken for them. No dtype that is read has less than two bytes.
inline void check_parameter_count(const SafetensorsReader& file, const MambaLMConfig& config) {
  double bytes = 0;
  for (const auto& [name, entry] : file.tensors())
    bytes += static_cast<double>(entry.end - entry.begin);
  const double count = parameter_count(config);
  if (2 * count > bytes || static_cast<double>(config.layers) > bytes)
    throw_file(file.path(), "has " + std::to_string(static_cast<std::uint64_t>(bytes)) +
                                " bytes of tensors, too few for the " + std::to_string(count) +
                                " parameters of its config");
}

/// Fills weights from the tensors named `prefix` + their own name.
template <class T>
void read_weights(SafetensorsReader& file, const std::string& prefix, MambaLMWeights<T>& weights) {
  weights.visit([&](const std::string& name, auto& tensor, bool) {
    file.read_into(prefix + name, shape_in_file(name, tensor), tensor.data());
  });
}

/// Throws FileError for an output head that is not the embedding.
template <class T>
void check_tied_head(SafetensorsReader& file, const MambaLMWeights<T>& weights) {
  const auto head = file.read<T>("lm_head.weight", weights.embedding.extents());
  if (!std::equal(head.begin(), head.end(), weights.embedding.begin()))
    throw_file(file.path(),
               "tensor \"lm_head.weight\" differs from the embedding, expected a tied head");
}

}  // namespace detail

/// Loads a language model from a directory with model.safetensors and config.json, or from a
/// safetensors file with config.json beside it. Names and config of state-spaces/mamba and of its
/// `-hf` form are read; F16, BF16, F32 and F64 convert to T.
///
/// Throws FileError when anything is missing, left over, of another shape, not finite, or asks for
/// something that this model does not do. Memory is taken only for sizes that the file bears out.
template <class T = float>
[[nodiscard]] MambaLMWeights<T> load_mamba_lm(const std::filesystem::path& path) {
  const bool directory = std::filesystem::is_directory(path);
  SafetensorsReader file(directory ? path / "model.safetensors" : path);
  const std::filesystem::path config_path = (directory ? path : path.parent_path()) / "config.json";
  const nlohmann::json json =
      detail::parse_json(config_path, detail::read_file(config_path, 1 << 20));
  const MambaLMConfig config = detail::read_config(detail::JsonObject(config_path, "config", json));
  detail::check_parameter_count(file, config);
  MambaLMWeights<T> weights(config);
  std::size_t expected = 0;
  weights.visit([&](std::string name, auto& tensor, bool) {
    const std::vector<Index> shape = detail::shape_in_file(name, tensor);
    const std::string other = "backbone.embeddings.weight";
    if (name == "backbone.embedding.weight" && file.contains(other)) name = other;
    file.read_into(name, shape, tensor.data());
    ++expected;
  });
  if (file.contains("lm_head.weight")) {
    detail::check_tied_head(file, weights);
    ++expected;
  }
  if (file.tensors().size() != expected)
    detail::throw_file(file.path(), "has " + std::to_string(file.tensors().size()) +
                                        " tensors, expected " + std::to_string(expected));
  return weights;
}

/// Saves a language model as model.safetensors and config.json in `directory`, which is made when
/// there is none. `matrices` is the dtype of the matrices other than A_log, where F16 and BF16
/// halve the file of a float model; everything else is kept as it is. Throws FileError.
template <class T>
void save_mamba_lm(const std::filesystem::path& directory, const MambaLMWeights<T>& weights,
                   DType matrices = detail::dtype_of<T>()) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) detail::throw_file(directory, "cannot be made: " + error.message());
  SafetensorsWriter file;
  file.metadata["format"] = "pt";
  weights.visit([&](const std::string& name, const auto& tensor, bool) {
    const bool matrix =
        std::remove_cvref_t<decltype(tensor)>::rank == 2 && !name.ends_with(".A_log");
    file.add(name, detail::shape_in_file(name, tensor), tensor.data(),
             matrix ? matrices : detail::dtype_of<T>());
  });
  file.save(directory / "model.safetensors");
  detail::write_atomically(directory / "config.json", [&](std::ostream& stream) {
    stream << detail::to_json(weights.config).dump(2) << '\n';
  });
}

}  // namespace ssm
