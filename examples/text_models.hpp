#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ssm/io/checkpoint.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s4d_step.hpp"

/// Language models of bytes: Mamba, in the files of its authors, and those whose layers are of
/// several kinds.
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

/// Calls work(model) with the model in a folder or a file.
template <class Work>
int with_model(const std::filesystem::path& path, const Work& work) {
  const bool folder = std::filesystem::is_directory(path);
  const std::filesystem::path file = folder ? path / "model.safetensors" : path;
  bool mixed = false;
  if (std::filesystem::exists(file)) {
    const ssm::SafetensorsReader reader(file);
    const auto config = reader.metadata().find("config");
    mixed = config != reader.metadata().end() &&
            config->second.find("\"backbone\"") != std::string::npos;
  }
  if (mixed) return work(ssm::load<MixedModel>(file));
  return work(ssm::load_mamba_lm(path));
}

}  // namespace text_models
