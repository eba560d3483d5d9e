#pragma once

#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ssm/io/checkpoint.hpp"
#include "ssm/io/open_mamba_lm.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s4d_step.hpp"

/// Language models of bytes or tokens: Mamba, in the files of its authors, and those whose layers
/// are of several kinds.
namespace text_models {

using ssm::Index;

using MambaModel = ssm::MambaLM<float>;
using MambaBlock = ssm::Residual<ssm::Mamba<float>>;
using AttentionBlock = ssm::Residual<ssm::Attention<float>>;
using MlpBlock = ssm::Residual<ssm::GatedMlp<float>>;
using S4dBlock = ssm::S4Block<ssm::S4d<float>>;
using MixedModel = ssm::LanguageModel<ssm::OneOf<MambaBlock, AttentionBlock, MlpBlock, S4dBlock>>;

/// What a model is made of. Layer i is of the kind i modulo their number: "mamba",
/// "attention,mlp", "mamba,mamba,attention".
struct Sizes {
  std::string kinds = "mamba";
  ssm::MambaLMConfig mamba{.width = 192, .layers = 4};
  Index heads = 4, window = 1024;

  [[nodiscard]] bool mixed() const { return kinds != "mamba"; }
  /// What the model reads: "bytes", or the "tokens" of a larger vocabulary.
  [[nodiscard]] const char* unit() const { return mamba.vocab == 256 ? "bytes" : "tokens"; }
  friend bool operator==(const Sizes&, const Sizes&) = default;
};

inline MambaModel::Config config_of(const MambaModel&, const Sizes& sizes) {
  return ssm::mamba_lm_config(sizes.mamba);
}
inline MixedModel::Config config_of(const MixedModel&, const Sizes& sizes) {
  const Index width = sizes.mamba.width;
  std::vector<std::string> kinds(1);
  for (const char c : sizes.kinds)
    if (c == ',')
      kinds.emplace_back();
    else
      kinds.back() += c;
  MixedModel::Config config{.vocab = sizes.mamba.vocab};
  config.backbone.channels = width;
  for (Index i = 0; i < sizes.mamba.layers; ++i) {
    const std::string& kind = kinds[static_cast<std::size_t>(i) % kinds.size()];
    auto& layer = config.backbone.layers.emplace_back().kind;
    if (kind == "mamba")
      layer = MambaBlock::Config{.mixer = sizes.mamba.block()};
    else if (kind == "attention")
      layer = AttentionBlock::Config{
          .mixer = {.width = width, .heads = sizes.heads, .window = sizes.window}};
    else if (kind == "mlp")
      layer = MlpBlock::Config{.mixer = {.width = width}};
    else if (kind == "s4d")
      layer = S4dBlock::Config{.mixer = {.mixer = {.width = width, .state = sizes.mamba.state}}};
    else
      throw std::runtime_error("--mixer: " + ssm::detail::in_quotes(kind) +
                               " is none of mamba, attention, mlp and s4d");
  }
  return config;
}

/// The file of a model of several kinds of layers, if it is one.
inline std::optional<std::filesystem::path> mixed_file(const std::filesystem::path& path) {
  const bool folder = std::filesystem::is_directory(path);
  const std::filesystem::path file = folder ? path / "model.safetensors" : path;
  if (!std::filesystem::exists(file) || file.extension() != ".safetensors") return std::nullopt;
  const ssm::SafetensorsReader reader(file);
  const auto config = reader.metadata().find("config");
  const bool mixed =
      config != reader.metadata().end() && config->second.find("\"backbone\"") != std::string::npos;
  return mixed ? std::optional(file) : std::nullopt;
}

/// Calls work(model) with the model in a folder or a file, to be trained or measured.
template <class Work>
int with_model(const std::filesystem::path& path, const Work& work) {
  if (const auto file = mixed_file(path)) return work(ssm::load<MixedModel>(*file));
  return work(ssm::load_mamba_lm(path));
}

/// How a model that only runs keeps its matrices.
struct Running {
  std::string format;  ///< one of f32, f16, bf16, q8, q4; "": that of the file
  bool resident = false;

  [[nodiscard]] static std::optional<ssm::MatrixFormat> format_of(const std::string& name) {
    using enum ssm::MatrixFormat;
    for (const ssm::MatrixFormat format : {f32, f16, bf16, q8, q4})
      if (name == ssm::name_of(format)) return format;
    return std::nullopt;
  }
};

/// Calls work(model) with the model in a folder or a file, to run and not to be trained.
template <class Work>
int with_running_model(const std::filesystem::path& path, const Running& how,
                       const ssm::Cpu& backend, const Work& work) {
  if (const auto file = mixed_file(path)) {
    if (!how.format.empty() || how.resident)
      throw std::runtime_error(file->string() +
                               ": is no Mamba model, expected one for --format "
                               "and --resident");
    return work(ssm::load<MixedModel>(*file));
  }
  return work(ssm::open_mamba_lm(
      path, {.format = Running::format_of(how.format), .resident = how.resident}, backend));
}

}  // namespace text_models
