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

/// Throws for what says that it is a Mamba-2 model.
inline void refuse_mamba_2(const JsonObject& json, std::string_view field, const char* two,
                           const char* one) {
  if (json.contains(field) && json.at(field) == Json(two))
    throw_file(json.path(), "Mamba-2 is not supported: config." + std::string(field) + " is " +
                                in_quotes(two) + ", expected " + in_quotes(one));
}

/// The fields of state-spaces/mamba.
inline MambaLMConfig read_original_config(const JsonObject& json) {
  json.require("rms_norm", true);
  json.require("d_intermediate", 0);
  json.require("attn_layer_idx", Json::Array{});
  json.require("tie_embeddings", true);
  MambaLMConfig config;
  const Index multiple = json.size("pad_vocab_size_multiple", 8);
  config.vocab = (json.size("vocab_size") + multiple - 1) / multiple * multiple;
  config.width = json.size("d_model");
  config.layers = json.size("n_layer");
  config.norm_epsilon = json.number("norm_epsilon", config.norm_epsilon);
  if (json.contains("ssm_cfg")) {
    const JsonObject ssm = json.object("ssm_cfg");
    refuse_mamba_2(ssm, "layer", "Mamba2", "Mamba1");
    ssm.require("layer", "Mamba1");
    ssm.require("bias", false);
    ssm.require("conv_bias", true);
    require_no_limits(ssm, "dt_limit");
    config.state = ssm.size("d_state", config.state);
    config.conv_width = ssm.size("d_conv", config.conv_width);
    config.expand = ssm.size("expand", config.expand);
    config.dt_rank = ssm.size_or_auto("dt_rank");
  }
  return config;
}

/// The fields of the `-hf` checkpoints. Published ones carry those of state-spaces/mamba as well,
/// as they were before conversion; these do not count.
inline MambaLMConfig read_hf_config(const JsonObject& json) {
  json.require("model_type", "mamba");
  json.require("hidden_act", "silu");
  json.require("use_bias", false);
  json.require("use_conv_bias", true);
  json.require("tie_word_embeddings", true);
  require_no_limits(json, "time_step_limit");
  MambaLMConfig config;
  config.vocab = json.size("vocab_size");
  config.width = json.size("hidden_size");
  config.layers = json.size("num_hidden_layers");
  config.state = json.size("state_size", config.state);
  config.conv_width = json.size("conv_kernel", config.conv_width);
  config.expand = json.size("expand", config.expand);
  json.require("intermediate_size", config.expand * config.width);
  config.dt_rank = json.size_or_auto("time_step_rank");
  config.norm_epsilon = json.number("layer_norm_epsilon", config.norm_epsilon);
  return config;
}

/// The config of a language model: of the `-hf` form where it has a `model_type`, else of
/// state-spaces/mamba where it has a `d_model`.
inline MambaLMConfig read_config(const JsonObject& json) {
  refuse_mamba_2(json, "model_type", "mamba2", "mamba");
  const bool original = !json.contains("model_type") && json.contains("d_model");
  return original ? read_original_config(json) : read_hf_config(json);
}

/// The fields of state-spaces/mamba.
inline Json to_json(const MambaLMConfig& config) {
  Json ssm = Json::Object{{"layer", "Mamba1"},
                          {"d_state", config.state},
                          {"d_conv", config.conv_width},
                          {"expand", config.expand}};
  if (config.dt_rank > 0) ssm["dt_rank"] = config.dt_rank;
  Json json = Json::Object{{"d_model", config.width},
                           {"n_layer", config.layers},
                           {"vocab_size", config.vocab},
                           {"ssm_cfg", ssm},
                           {"rms_norm", true},
                           {"residual_in_fp32", true},
                           {"pad_vocab_size_multiple", 1},
                           {"tie_embeddings", true}};
  // The original reader refuses fields that it does not know, so this one only when it matters.
  if (config.norm_epsilon != MambaLMConfig{}.norm_epsilon)
    json["norm_epsilon"] = config.norm_epsilon;
  return json;
}

/// The number of parameters, as a double, which no config can overflow.
inline double parameters_of(const MambaLMConfig& config) {
  const MambaConfig s = config.block();
  const auto width = static_cast<double>(s.width), inner = static_cast<double>(s.channels());
  const auto row = 2 * width + static_cast<double>(s.conv_width) + 1 +
                   2 * static_cast<double>(s.rank()) + 2 * static_cast<double>(s.state) + 1 +
                   static_cast<double>(s.state) + 1 + width;
  return static_cast<double>(config.vocab) * width + width +
         static_cast<double>(config.layers) * (inner * row + width);
}

}  // namespace ssm::detail
