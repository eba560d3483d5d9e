#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>

#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"
#include "ssm/models/mamba_lm.hpp"

namespace ssm::detail {

/// Throws for a field that is there and is not the range from 0 to infinity: Δ is not clamped.
inline void require_no_limits(const JsonObject& json, std::string_view field) {
  if (!json.contains(field)) return;
  const auto* limits = json.at(field).as<Json::Array>();
  if (limits == nullptr || limits->size() != 2 || JsonObject::to_double((*limits)[0]) != 0 ||
      JsonObject::to_double((*limits)[1]) != std::numeric_limits<double>::infinity())
    json.fail(field, "[0.0, Infinity]");
}

/// The kinds of configs that are read.
enum class PublishedKind { original, mamba, falcon_mamba, caduceus };

/// Throws FileError for a kind of model that is not here.
[[noreturn]] inline void refuse_kind(const JsonObject& json, std::string_view field,
                                     std::string_view kind) {
  throw_file(json.path(), json.name() + "." + std::string(field) + " is " + in_quotes(kind) +
                              ", a kind of model that cannot be read; those that can are Mamba of "
                              "state-spaces/mamba, \"mamba\", \"falcon_mamba\" and \"caduceus\"");
}

/// What kind of config it is by its `model_type`, or by its `architectures` where it has none, or
/// by its fields where it has neither.
inline PublishedKind kind_of(const JsonObject& json) {
  const bool original = json.contains("d_model");
  if (json.contains("model_type")) {
    const std::string& type = json.text("model_type");
    if (type == "falcon_mamba") return PublishedKind::falcon_mamba;
    if (type == "caduceus") return PublishedKind::caduceus;
    if (type != "mamba") refuse_kind(json, "model_type", type);
    // Published -hf configs carry the fields of state-spaces/mamba as well, as they were before
    // conversion; these do not count.
    return original && !json.contains("hidden_size") ? PublishedKind::original
                                                     : PublishedKind::mamba;
  }
  if (json.contains("architectures") && !(json.at("architectures") == Json())) {
    const auto* names = json.at("architectures").as<Json::Array>();
    if (names == nullptr || names->size() != 1 || (*names)[0].as<std::string>() == nullptr)
      json.fail("architectures", "a list of one name");
    const std::string& name = *(*names)[0].as<std::string>();
    if (name == "FalconMambaForCausalLM" || name == "FalconMambaModel")
      return PublishedKind::falcon_mamba;
    if (name == "CaduceusForMaskedLM" || name == "Caduceus") return PublishedKind::caduceus;
    if (name != "MambaForCausalLM" && name != "MambaModel" && name != "MambaLMHeadModel")
      refuse_kind(json, "architectures", name);
  }
  return original ? PublishedKind::original : PublishedKind::mamba;
}

/// The number of tokens that a model has where its file has `rows` of them: vocab_size, or that
/// filled up to a multiple.
inline Index read_vocab(const JsonObject& json, Index multiple, Index rows) {
  const Index size = json.size("vocab_size"), of = json.size("pad_vocab_size_multiple", multiple);
  const Index padded = (size + of - 1) / of * of;
  if (rows == size || rows == padded) return rows;
  return multiple == 1 ? size : padded;
}

/// The fields of state-spaces/mamba.
inline MambaLMConfig read_original_config(const JsonObject& json, Index rows) {
  json.require("rms_norm", true);
  json.require("d_intermediate", 0);
  json.require("attn_layer_idx", Json::Array{});
  MambaLMConfig config;
  config.vocab = read_vocab(json, 8, rows);
  config.width = json.size("d_model");
  config.layers = json.size("n_layer");
  config.norm_epsilon = json.number("norm_epsilon", config.norm_epsilon);
  config.tied = json.flag("tie_embeddings", true);
  if (json.contains("ssm_cfg") && !(json.at("ssm_cfg") == Json())) {
    const JsonObject ssm = json.object("ssm_cfg");
    if (ssm.contains("layer") && ssm.text("layer") != "Mamba1")
      refuse_kind(ssm, "layer", ssm.text("layer"));
    require_no_limits(ssm, "dt_limit");
    config.bias = ssm.flag("bias", false);
    config.conv_bias = ssm.flag("conv_bias", true);
    config.state = ssm.size("d_state", config.state);
    config.conv_width = ssm.size("d_conv", config.conv_width);
    config.expand = ssm.size("expand", config.expand);
    config.dt_rank = ssm.size_or_auto("dt_rank");
  }
  return config;
}

/// The fields of transformers, for Mamba and for FalconMamba.
inline MambaLMConfig read_hf_config(const JsonObject& json, PublishedKind kind, Index rows) {
  json.require("hidden_act", "silu");
  require_no_limits(json, "time_step_limit");
  if (json.contains("quantization_config") && !(json.at("quantization_config") == Json()))
    json.fail("quantization_config", "none: its weights in fewer bits are not read");
  MambaLMConfig config;
  config.vocab = read_vocab(json, 1, rows);
  config.width = json.size("hidden_size");
  config.layers = json.size("num_hidden_layers");
  config.state = json.size("state_size", config.state);
  config.conv_width = json.size("conv_kernel", config.conv_width);
  if (!json.contains("intermediate_size"))
    config.expand = json.size("expand", config.expand);
  else if (const Index inner = json.size("intermediate_size"); inner % config.width == 0)
    config.expand = inner / config.width;
  else
    config.inner = inner;
  config.dt_rank = json.size_or_auto("time_step_rank");
  config.norm_epsilon = json.number("layer_norm_epsilon", config.norm_epsilon);
  config.bias = json.flag("use_bias", false);
  config.conv_bias = json.flag("use_conv_bias", true);
  config.tied = json.flag("tie_word_embeddings", true);
  if (kind == PublishedKind::falcon_mamba) {
    config.projection_epsilon = json.number("mixer_rms_eps", 1e-6);
    if (config.projection_epsilon == 0) json.fail("mixer_rms_eps", "a number above 0");
  }
  return config;
}

/// What a config says of a language model.
struct PublishedConfig {
  PublishedKind kind = PublishedKind::original;
  MambaLMConfig sizes = {};
  bool shared = false;  ///< of both directions: whether they share in_proj and out_proj

  /// Whether its blocks run in both directions.
  [[nodiscard]] bool both_ways() const noexcept { return kind == PublishedKind::caduceus; }
};

/// The config of a language model whose file has an embedding of so many rows.
inline PublishedConfig read_config(const JsonObject& json, Index rows) {
  PublishedConfig config{.kind = kind_of(json)};
  if (config.kind == PublishedKind::original) {
    config.sizes = read_original_config(json, rows);
  } else if (config.both_ways()) {  // fields of state-spaces/mamba and a few more
    json.require("bidirectional", true);
    json.require("rcps", false);
    if (json.contains("bidirectional_strategy") && !(json.at("bidirectional_strategy") == Json()))
      json.require("bidirectional_strategy", "add");
    config.sizes = read_original_config(json, rows);
    config.sizes.tied = json.flag("tie_word_embeddings", true);
    config.shared = json.flag("bidirectional_weight_tie", true);
  } else {
    config.sizes = read_hf_config(json, config.kind, rows);
  }
  return config;
}

/// The fields of state-spaces/mamba, of a model without norms of dt, B and C.
inline Json original_config(const MambaLMConfig& config) {
  Json ssm = Json::Object{{"layer", "Mamba1"},
                          {"d_state", config.state},
                          {"d_conv", config.conv_width},
                          {"expand", config.expand}};
  // The original reader refuses fields that it does not know, so these only when they matter.
  if (config.dt_rank > 0) ssm["dt_rank"] = config.dt_rank;
  if (config.bias) ssm["bias"] = true;
  if (!config.conv_bias) ssm["conv_bias"] = false;
  Json json = Json::Object{{"d_model", config.width},
                           {"n_layer", config.layers},
                           {"vocab_size", config.vocab},
                           {"ssm_cfg", ssm},
                           {"rms_norm", true},
                           {"residual_in_fp32", true},
                           {"pad_vocab_size_multiple", 1},
                           {"tie_embeddings", config.tied}};
  if (config.norm_epsilon != MambaLMConfig{}.norm_epsilon)
    json["norm_epsilon"] = config.norm_epsilon;
  return json;
}

/// The fields of transformers; a model with norms of dt, B and C is a FalconMamba.
inline Json hf_config(const MambaLMConfig& config, const char* dtype) {
  const MambaConfig block = config.block();
  Json json = Json::Object{
      {"architectures",
       Json::Array{block.normalizes() ? "FalconMambaForCausalLM" : "MambaForCausalLM"}},
      {"model_type", block.normalizes() ? "falcon_mamba" : "mamba"},
      {"vocab_size", config.vocab},
      {"hidden_size", config.width},
      {"num_hidden_layers", config.layers},
      {"state_size", config.state},
      {"conv_kernel", config.conv_width},
      {"expand", config.expand},
      {"intermediate_size", block.channels()},
      {"time_step_rank", block.rank()},
      {"layer_norm_epsilon", config.norm_epsilon},
      {"hidden_act", "silu"},
      {"use_bias", config.bias},
      {"use_conv_bias", config.conv_bias},
      {"residual_in_fp32", true},
      {"tie_word_embeddings", config.tied},
      {"torch_dtype", dtype}};
  if (block.normalizes()) json["mixer_rms_eps"] = config.projection_epsilon;
  return json;
}

}  // namespace ssm::detail
