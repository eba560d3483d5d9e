#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "ssm/io/file.hpp"
#include "ssm/models/mamba_lm.hpp"

namespace ssm {
namespace detail {

/// A JSON object of a file, read field by field with errors that name file and field.
class JsonObject {
 public:
  JsonObject(const std::filesystem::path& path, std::string name, const nlohmann::json& object)
      : path_(path), name_(std::move(name)), object_(object) {
    if (!object.is_object()) throw_file(path, name_ + " is not a JSON object");
  }

  [[nodiscard]] bool contains(const char* field) const { return object_.contains(field); }

  /// A whole number from 1 to 2³¹ − 1.
  [[nodiscard]] Index size(const char* field) const {
    const nlohmann::json& value = at(field);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 ||
        value.get<std::uint64_t>() > 0x7fffffffu)
      fail(field, "a whole number from 1 to 2147483647");
    return value.get<Index>();
  }
  [[nodiscard]] Index size(const char* field, Index otherwise) const {
    return contains(field) ? size(field) : otherwise;
  }
  /// Like size, where the word "auto" stands for 0.
  [[nodiscard]] Index size_or_auto(const char* field) const {
    if (!contains(field)) return 0;
    return at(field) == "auto" ? 0 : size(field);
  }
  /// A number from 0, or `otherwise` where there is none.
  [[nodiscard]] double number(const char* field, double otherwise) const {
    return contains(field) ? number(field) : otherwise;
  }
  [[nodiscard]] Index count(const char* field) const {
    const nlohmann::json& value = at(field);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t{1} << 62)
      fail(field, "a whole number from 0");
    return value.get<Index>();
  }
  [[nodiscard]] std::uint64_t bits(const char* field) const {
    if (!at(field).is_number_unsigned()) fail(field, "a whole number from 0 to 2^64 - 1");
    return at(field).get<std::uint64_t>();
  }
  [[nodiscard]] double number(const char* field) const {
    const nlohmann::json& value = at(field);
    if (!value.is_number() || !(value.get<double>() >= 0)) fail(field, "a number from 0");
    return value.get<double>();
  }
  [[nodiscard]] JsonObject object(const char* field) const {
    return {path_, name_ + "." + field, at(field)};
  }
  /// Throws when the field is there with another value: one that would change what the model does.
  void require(const char* field, const nlohmann::json& only) const {
    if (contains(field) && at(field) != only) fail(field, only.dump());
  }

 private:
  [[nodiscard]] const nlohmann::json& at(const char* field) const {
    const auto found = object_.find(field);
    if (found == object_.end()) throw_file(path_, name_ + " has no " + field);
    return *found;
  }
  [[noreturn]] void fail(const char* field, const std::string& want) const {
    const nlohmann::json& value = at(field);
    const std::string got =
        value.is_primitive()
            ? value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 80)
            : value.type_name();
    throw_file(path_, name_ + "." + field + " is " + got + ", expected " + want);
  }

  std::filesystem::path path_;
  std::string name_;
  const nlohmann::json& object_;
};

/// Parses JSON text that belongs to `path`. Throws FileError.
inline nlohmann::json parse_json(const std::filesystem::path& path, const std::string& text) {
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded()) throw_file(path, "is not valid UTF-8 JSON");
  return json;
}

/// The fields of state-spaces/mamba, or those of the `-hf` checkpoints.
inline MambaLMConfig read_config(const JsonObject& json) {
  MambaLMConfig config;
  if (json.contains("d_model")) {
    json.require("rms_norm", true);
    json.require("d_intermediate", 0);
    json.require("attn_layer_idx", nlohmann::json::array());
    const Index multiple = json.size("pad_vocab_size_multiple", 8);
    config.vocab = (json.size("vocab_size") + multiple - 1) / multiple * multiple;
    config.width = json.size("d_model");
    config.layers = json.size("n_layer");
    config.norm_epsilon = json.number("norm_epsilon", config.norm_epsilon);
    if (json.contains("ssm_cfg")) {
      const JsonObject ssm = json.object("ssm_cfg");
      ssm.require("layer", "Mamba1");
      config.state = ssm.size("d_state", config.state);
      config.conv_width = ssm.size("d_conv", config.conv_width);
      config.expand = ssm.size("expand", config.expand);
      config.dt_rank = ssm.size_or_auto("dt_rank");
    }
    return config;
  }
  json.require("model_type", "mamba");
  json.require("hidden_act", "silu");
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

/// The fields of state-spaces/mamba.
inline nlohmann::ordered_json to_json(const MambaLMConfig& config) {
  nlohmann::ordered_json ssm = {{"layer", "Mamba1"},
                                {"d_state", config.state},
                                {"d_conv", config.conv_width},
                                {"expand", config.expand}};
  if (config.dt_rank > 0) ssm["dt_rank"] = config.dt_rank;
  nlohmann::ordered_json json = {{"d_model", config.width},
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
inline double parameter_count(const MambaLMConfig& config) {
  const MambaShape s = config.block();
  const auto width = static_cast<double>(s.width), inner = static_cast<double>(s.inner);
  const auto row = 2 * width + static_cast<double>(s.conv_width) + 1 +
                   2 * static_cast<double>(s.dt_rank) + 2 * static_cast<double>(s.state) + 1 +
                   static_cast<double>(s.state) + 1 + width;
  return static_cast<double>(config.vocab) * width + width +
         static_cast<double>(config.layers) * (inner * row + width);
}

}  // namespace detail
}  // namespace ssm
