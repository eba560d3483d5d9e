#include "ssm/io/checkpoint.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

namespace checkpoint_test {

using ssm::FileError;
using ssm::Index;
using ssm::Json;
using ssm::MambaLMConfig;
using Model = ssm::MambaLM<float>;
using ssm::Tensor;
using ssm::test::contains;
using ssm::test::same_bits;
using ssm::test::TempDirectory;

namespace {

constexpr MambaLMConfig small{
    .vocab = 11, .width = 6, .layers = 2, .state = 3, .conv_width = 4, .expand = 2, .dt_rank = 2};

Model some_weights(const MambaLMConfig& config = small) {
  Model weights(ssm::mamba_lm_config<float>(config));
  ssm::initialize(weights, 5);
  return weights;
}

bool same_weights(const Model& a, const Model& b) {
  std::vector<Tensor<float, 1>> flat[2];
  const auto flatten = [&](const Model& weights, auto& to) {
    ssm::parameters(weights, [&](std::string_view, const auto& tensor, const auto&, bool) {
      Tensor<float, 1> line({tensor.size()});
      std::copy(tensor.begin(), tensor.end(), line.begin());
      to.push_back(line);
    });
  };
  flatten(a, flat[0]);
  flatten(b, flat[1]);
  return a.config == b.config &&
         std::equal(flat[0].begin(), flat[0].end(), flat[1].begin(), flat[1].end(),
                    [](const auto& x, const auto& y) { return same_bits(x, y); });
}

/// The tensors of `weights`, to be written with changes: `change` may rename, drop (return "") or
/// keep a name.
void save_changed(const std::filesystem::path& path, const Model& weights,
                  const std::function<std::string(const std::string&)>& change,
                  const Tensor<float, 2>* head = nullptr) {
  ssm::SafetensorsWriter file;
  ssm::parameters(weights, [&](std::string_view view, const auto& tensor, const auto&, bool) {
    const std::string name(view);
    if (const std::string changed = change(name); !changed.empty())
      file.add(changed, ssm::detail::shape_in_file(name, tensor.extents()), tensor.data());
  });
  if (head != nullptr) file.add("lm_head.weight", *head);
  file.save(path);
}

std::string complaint(const std::filesystem::path& path) {
  try {
    (void)ssm::load_mamba_lm(path);
    return "";
  } catch (const FileError& error) {
    return error.what();
  }
}

const auto keep = [](const std::string& name) { return name; };

}  // namespace

TEST_CASE("a saved model comes back with its bits and its sizes, from directory or file") {
  const TempDirectory directory;
  for (MambaLMConfig config :
       {small, MambaLMConfig{.width = 20, .layers = 1},
        MambaLMConfig{.vocab = 3, .width = 1, .layers = 1, .expand = 1, .norm_epsilon = 1e-3}}) {
    const auto weights = some_weights(config);
    ssm::save_mamba_lm(directory / "new", weights);
    CHECK(same_weights(ssm::load_mamba_lm(directory / "new"), weights));
    CHECK(same_weights(ssm::load_mamba_lm(directory / "new/model.safetensors"), weights));
  }
}

TEST_CASE("files have the names and shapes of state-spaces/mamba") {
  const TempDirectory directory;
  ssm::save_mamba_lm(directory.path(), some_weights());
  const ssm::SafetensorsReader file(directory / "model.safetensors");
  const std::string mixer = "backbone.layers.1.mixer.";
  CHECK(file.tensors().size() == 2 + 2 * 10);
  CHECK_NOTHROW(file.check("backbone.embedding.weight", {11, 6}));
  CHECK_NOTHROW(file.check("backbone.norm_f.weight", {6}));
  CHECK_NOTHROW(file.check("backbone.layers.0.norm.weight", {6}));
  CHECK_NOTHROW(file.check(mixer + "in_proj.weight", {24, 6}));
  CHECK_NOTHROW(file.check(mixer + "conv1d.weight", {12, 1, 4}));
  CHECK_NOTHROW(file.check(mixer + "conv1d.bias", {12}));
  CHECK_NOTHROW(file.check(mixer + "x_proj.weight", {2 + 2 * 3, 12}));
  CHECK_NOTHROW(file.check(mixer + "dt_proj.weight", {12, 2}));
  CHECK_NOTHROW(file.check(mixer + "dt_proj.bias", {12}));
  CHECK_NOTHROW(file.check(mixer + "A_log", {12, 3}));
  CHECK_NOTHROW(file.check(mixer + "D", {12}));
  CHECK_NOTHROW(file.check(mixer + "out_proj.weight", {6, 12}));
}

TEST_CASE("matrices are stored narrow on request, all else exactly") {
  const TempDirectory directory;
  const auto weights = some_weights();
  ssm::save_mamba_lm(directory.path(), weights, {.matrices = ssm::DType::F16});
  const auto loaded = ssm::load_mamba_lm(directory.path());
  CHECK(ssm::test::relative_error(loaded.embedding, weights.embedding) < 0x1p-11);
  CHECK_FALSE(same_bits(loaded.embedding, weights.embedding));
  CHECK(same_bits(loaded.backbone.layers[1].mixer.A_log, weights.backbone.layers[1].mixer.A_log));
  CHECK(
      same_bits(loaded.backbone.layers[1].mixer.dt_bias, weights.backbone.layers[1].mixer.dt_bias));
}

TEST_CASE("the -hf names and config give the same model, and so does a tied head that is stored") {
  const TempDirectory directory;
  const auto weights = some_weights();
  save_changed(
      directory / "model.safetensors", weights,
      [](const std::string& name) {
        return name == "backbone.embedding.weight" ? "backbone.embeddings.weight" : name;
      },
      &weights.embedding);
  directory.write("config.json", R"({"model_type": "mamba", "vocab_size": 11, "hidden_size": 6,
      "num_hidden_layers": 2, "state_size": 3, "conv_kernel": 4, "expand": 2,
      "intermediate_size": 12, "time_step_rank": 2, "layer_norm_epsilon": 1e-05,
      "hidden_act": "silu", "use_bias": false, "use_conv_bias": true})");
  CHECK(same_weights(ssm::load_mamba_lm(directory.path()), weights));
}

TEST_CASE("the original config pads its vocabulary and has defaults") {
  const TempDirectory directory;
  const MambaLMConfig config{.vocab = 16, .width = 20, .layers = 1};
  ssm::save_mamba_lm(directory.path(), some_weights(config));
  directory.write("config.json", R"({"d_model": 20, "n_layer": 1, "vocab_size": 11, "ssm_cfg": {},
      "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true,
      "pad_vocab_size_multiple": 8})");
  const auto loaded = ssm::load_mamba_lm(directory.path());
  CHECK(ssm::published_config(loaded.config) == config);
  CHECK(loaded.backbone.layers[0].mixer.config.rank() == 2);
}

TEST_CASE("a model that says other things than its config is refused") {
  const TempDirectory directory;
  const auto weights = some_weights();
  ssm::save_mamba_lm(directory.path(), weights);
  const auto model = directory / "model.safetensors";

  Tensor<float, 2> other = weights.embedding;
  other(3, 3) += 1;
  save_changed(model, weights, keep, &other);
  CHECK_THAT(complaint(directory.path()), contains("lm_head.weight"));

  save_changed(model, weights,
               [](const std::string& name) { return name.ends_with("1.mixer.D") ? "" : name; });
  CHECK_THAT(complaint(directory.path()), contains("backbone.layers.1.mixer.D"));

  const Tensor<float, 2> extra({2, 2});
  ssm::SafetensorsWriter file;
  ssm::parameters(weights, [&](std::string_view view, const auto& tensor, const auto&, bool) {
    const std::string name(view);
    file.add(name, ssm::detail::shape_in_file(name, tensor.extents()), tensor.data());
  });
  file.add("backbone.layers.0.mixer.in_proj.bias", extra);
  file.save(model);
  CHECK_THAT(complaint(directory.path()),
             contains("tensors left over: \"backbone.layers.0.mixer.in_proj.bias\""));

  auto poisoned = weights;
  poisoned.backbone.layers[0].mixer.D(4) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(ssm::save_mamba_lm(directory.path(), poisoned),
                    contains("NaN") && contains("0.mixer.D"));
  ssm::SafetensorsWriter careless;
  ssm::parameters(poisoned, [&](std::string_view view, const auto& tensor, const auto&, bool) {
    const std::string name(view);
    careless.add(name, ssm::detail::shape_in_file(name, tensor.extents()), tensor.data());
  });
  careless.save(model, ssm::NonFinite::allow);
  CHECK_THAT(complaint(directory.path()), contains("NaN") && contains("0.mixer.D"));
}

namespace {

/// The config of `directory` with one field another value, the file that it makes, and what is said
/// of the model then. A field of ssm_cfg is "ssm_cfg/name".
std::string complaint_with(const TempDirectory& directory, const Json& config,
                           const std::string& field, const Json& value) {
  Json changed = config;
  const std::size_t slash = field.find('/');
  if (slash == field.npos)
    changed[field] = value;
  else
    changed[field.substr(0, slash)][field.substr(slash + 1)] = value;
  directory.write("config.json", changed.text());
  return complaint(directory.path());
}

Json config_of(const TempDirectory& directory) {
  const auto path = directory / "config.json";
  return ssm::detail::parse_json(path, ssm::test::read_bytes(path));
}

/// A folder with a small model under a published -hf config, which has fields of both kinds.
Json save_hf(const TempDirectory& directory, const Model& weights) {
  save_changed(directory / "model.safetensors", weights, [](const std::string& name) {
    return name == "backbone.embedding.weight" ? "backbone.embeddings.weight" : name;
  });
  return ssm::detail::parse_json(directory.path(), R"({
      "architectures": ["MambaForCausalLM"], "bos_token_id": 0, "conv_kernel": 4, "d_inner": 1536,
      "d_model": 768, "eos_token_id": 0, "expand": 2, "fused_add_norm": true, "hidden_act": "silu",
      "hidden_size": 6, "initializer_range": 0.1, "intermediate_size": 12,
      "layer_norm_epsilon": 0.1, "model_type": "mamba", "n_layer": 24, "num_hidden_layers": 2,
      "pad_token_id": 0, "pad_vocab_size_multiple": 8, "rescale_prenorm_residual": false,
      "residual_in_fp32": true, "rms_norm": true, "ssm_cfg": {}, "state_size": 3,
      "time_step_floor": 0.0001, "time_step_init_scheme": "random", "time_step_max": 0.1,
      "time_step_min": 0.001, "time_step_rank": 2, "time_step_scale": 1.0,
      "torch_dtype": "float32", "transformers_version": "4.39.0.dev0", "use_bias": false,
      "use_cache": true, "use_conv_bias": true, "vocab_size": 11})");
}

}  // namespace

TEST_CASE("a config that is wrong in any field is refused by that field") {
  const TempDirectory directory;
  ssm::save_mamba_lm(directory.path(), some_weights());
  const Json good = config_of(directory);
  const auto with = [&](const std::string& field, const Json& value) {
    return complaint_with(directory, good, field, value);
  };
  CHECK(with("unknown", 3).empty());
  for (const std::string field :
       {"d_model", "n_layer", "vocab_size", "pad_vocab_size_multiple", "ssm_cfg/d_state",
        "ssm_cfg/d_conv", "ssm_cfg/expand", "ssm_cfg/dt_rank"}) {
    INFO(field);
    for (const Json& value :
         {Json(0), Json(-1), Json(1.5), Json("x"), Json(), Json(true),
          Json(std::numeric_limits<double>::infinity()), Json(Json::Array{1}), Json(UINT64_MAX)})
      CHECK_THAT(with(field, value), contains(field.substr(field.find('/') + 1)));
    if (field == "pad_vocab_size_multiple") continue;  // a vocabulary may be written unpadded
    // Sizes that are numbers but not those of the file, up to ones that no memory can hold.
    CHECK_FALSE(with(field, 37).empty());
    CHECK_FALSE(with(field, 0x7fffffff).empty());
  }
  CHECK_THAT(with("ssm_cfg/layer", 2), contains("ssm_cfg.layer is 2, expected a string"));
  CHECK_THAT(with("rms_norm", false), contains("rms_norm"));
  CHECK_THAT(with("attn_layer_idx", Json::Array{1}), contains("attn_layer_idx"));
  CHECK_THAT(with("norm_epsilon", -1), contains("norm_epsilon"));
  CHECK_FALSE(with("ssm_cfg", 3).empty());

  for (const char* text : {"", "[]", "3", "{", "{}", "{\"d_model\": \"\xff\"}", "null"}) {
    directory.write("config.json", text);
    CHECK_THAT(complaint(directory.path()), contains("config"));
  }
  directory.write("config.json", std::string(500'000, '['));
  CHECK_THAT(complaint(directory.path()), contains("JSON"));
  directory.write("config.json", std::string(2 << 20, ' '));
  CHECK_THAT(complaint(directory.path()), contains("at most"));
  directory.write("config.json", "{\n  \"d_model\": 6,\n  \"n_layer\": 2\n  \"vocab_size\": 11\n}");
  CHECK_THAT(complaint(directory.path()), contains("line 4, column 3: expected ','"));
}

TEST_CASE("a field that would make another model is refused by name") {
  const TempDirectory directory;
  ssm::save_mamba_lm(directory.path(), some_weights());
  const double infinity = std::numeric_limits<double>::infinity();
  const Json original = config_of(directory);
  for (const auto& [field, value, same] :
       {std::tuple<std::string, Json, Json>{"tie_embeddings", 3, true},
        {"d_intermediate", 12, 0},
        {"ssm_cfg/bias", "no", false},
        {"ssm_cfg/conv_bias", Json(), true},
        {"ssm_cfg/dt_limit", Json::Array{0.001, 0.1}, Json::Array{0.0, infinity}},
        {"ssm_cfg/dt_limit", 3, Json::Array{0, infinity}}}) {
    INFO(field);
    CHECK_THAT(complaint_with(directory, original, field, value),
               contains(field.substr(field.find('/') + 1)));
    CHECK(complaint_with(directory, original, field, same).empty());
  }
  const Json hf = save_hf(directory, some_weights());
  for (const auto& [field, value, same] :
       {std::tuple<std::string, Json, Json>{"tie_word_embeddings", 1, true},
        {"use_bias", 0, false},
        {"use_conv_bias", "yes", true},
        {"hidden_act", "gelu", "silu"},
        {"intermediate_size", 12.5, 12},
        {"model_type", "mamba3", "mamba"},
        {"model_type", 3, "mamba"},
        {"quantization_config", Json::Object{{"quant_method", "fp8"}}, Json()},
        {"time_step_limit", Json::Array{0.001, 0.1}, Json::Array{0.0, infinity}}}) {
    INFO(field);
    CHECK_THAT(complaint_with(directory, hf, field, value), contains(field));
    CHECK(complaint_with(directory, hf, field, same).empty());
  }
}

TEST_CASE("where a config has fields of both kinds, its model_type decides") {
  const TempDirectory directory;
  MambaLMConfig config = small;
  config.norm_epsilon = 0.1;
  const auto weights = some_weights(config);
  const Json hf = save_hf(directory, weights);
  directory.write("config.json", hf.text());
  CHECK(same_weights(ssm::load_mamba_lm(directory.path()), weights));
  CHECK_THAT(complaint_with(directory, hf, "state_size", 8), contains("x_proj"));
}

TEST_CASE("a kind of model that is not here is refused by its name, with those that are") {
  const TempDirectory directory;
  ssm::save_mamba_lm(directory.path(), some_weights());
  const std::string can =
      ", a kind of model that cannot be read; those that can are Mamba of state-spaces/mamba, "
      "\"mamba\", \"falcon_mamba\" and \"caduceus\"";
  for (const std::string type : {"mamba2", "jamba", "zamba", "bamba", "nemotron_h", "falcon_h1",
                                 "granitemoehybrid", "llama"}) {
    directory.write("config.json", R"({"model_type": ")" + type + R"(", "hidden_size": 6,
        "num_hidden_layers": 2, "vocab_size": 11, "time_step_limit": [0.0, Infinity]})");
    CHECK_THAT(complaint(directory.path()),
               contains("config.model_type is \"" + type + "\"" + can));
  }
  directory.write("config.json", R"({"d_model": 6, "n_layer": 2, "vocab_size": 11,
      "ssm_cfg": {"layer": "Mamba2", "dt_limit": [0.0, Infinity]}})");
  CHECK_THAT(complaint(directory.path()), contains("config.ssm_cfg.layer is \"Mamba2\"" + can));
  directory.write("config.json", R"({"architectures": ["JambaForCausalLM"], "hidden_size": 6})");
  CHECK_THAT(complaint(directory.path()), contains("architectures is \"JambaForCausalLM\"" + can));
  for (const char* names : {"3", "[]", "[1]", "[\"MambaForCausalLM\", \"x\"]"}) {
    directory.write("config.json", "{\"architectures\": " + std::string(names) + "}");
    CHECK_THAT(complaint(directory.path()), contains("config.architectures is"));
  }
}

TEST_CASE("a model without the config beside it is what its file says of itself") {
  const TempDirectory directory;
  const auto old = some_weights(), weights = some_weights({.vocab = 7, .width = 3, .layers = 1});
  ssm::save_mamba_lm(directory / "m", old);
  ssm::save_mamba_lm(directory / "m", weights);
  // What a kill between the last two steps of saving leaves.
  std::filesystem::remove(directory / "m/config.json");
  CHECK(same_weights(ssm::load_mamba_lm(directory / "m"), weights));
  CHECK(same_weights(ssm::load_mamba_lm(directory / "m/model.safetensors"), weights));
  // What one that saved without such care would: never weights under another's config.
  ssm::save_mamba_lm(directory / "old", old);
  std::filesystem::copy_file(directory / "old/config.json", directory / "m/config.json");
  CHECK_THAT(complaint(directory / "m"), contains("missing tensors"));
}

TEST_CASE("tensors that are missing or left over are named, a few of them") {
  const TempDirectory directory;
  const auto weights = some_weights();
  ssm::save_mamba_lm(directory.path(), weights);
  const Tensor<float, 1> bias({24});
  ssm::SafetensorsWriter file;
  ssm::parameters(weights, [&](std::string_view view, const auto& tensor, const auto&, bool) {
    const std::string name(view);
    if (!name.ends_with("1.mixer.D"))
      file.add(name, ssm::detail::shape_in_file(name, tensor.extents()), tensor.data());
  });
  for (int i = 0; i < 6; ++i) file.add("layers." + std::to_string(i) + ".in_proj.bias", bias);
  file.save(directory / "model.safetensors");
  const std::string text = complaint(directory.path());
  CHECK_THAT(text, contains("missing tensors: \"backbone.layers.1.mixer.D\"; left over: "));
  CHECK_THAT(text, contains("\"layers.3.in_proj.bias\" and 2 more"));
}

TEST_CASE("a folder whose weights are in another form says what to do") {
  const TempDirectory directory;
  directory.write("config.json", "{}");
  directory.write("pytorch_model.bin", "");
  CHECK_THAT(complaint(directory.path()), contains("pytorch_model.bin") && contains("convert") &&
                                              contains("save_file({n: w.clone() for n, w in"));
}

TEST_CASE(
    "sizes that are not those of the file are refused by the tensor, before memory is taken") {
  const TempDirectory directory;
  ssm::save_mamba_lm(directory.path(), some_weights());
  const Json config = config_of(directory);
  CHECK_THAT(
      complaint_with(directory, config, "d_model", 0x7fffffff),
      contains("tensor \"backbone.embedding.weight\" is (11, 6), expected (11, 2147483647)"));
  CHECK_THAT(complaint_with(directory, config, "n_layer", 3),
             contains("missing tensors: \"backbone.layers.2.mixer.A_log\""));
  CHECK_THAT(complaint_with(directory, config, "n_layer", 0x7fffffff),
             contains("has 22 tensors, too few for the 2147483647 layers of its config"));
}

TEST_CASE("a model that is not there is refused by its path") {
  const TempDirectory directory;
  CHECK_THAT(complaint(directory / "nowhere"), contains("nowhere: no such file"));
  CHECK_THAT(complaint(directory.path()), contains("model.safetensors: no such file"));
}

namespace {

/// Sizes of every kind that files have words for.
std::vector<MambaLMConfig> variants() {
  std::vector<MambaLMConfig> all(6, small);
  all[0].bias = true;
  all[1].conv_bias = false;
  all[2].tied = false;
  all[3].projection_epsilon = 1e-5;
  all[4].inner = 9;
  all[5] = {.vocab = 11,
            .width = 6,
            .layers = 1,
            .norm_epsilon = 0.1,
            .bias = true,
            .conv_bias = false,
            .projection_epsilon = 1e-6,
            .tied = false};
  return all;
}

}  // namespace

TEST_CASE("a model of every kind comes back with its bits from either layout") {
  const TempDirectory directory;
  for (const MambaLMConfig& config : variants()) {
    const auto weights = some_weights(config);
    ssm::save_mamba_lm(directory.path(), weights);
    CHECK(same_weights(ssm::load_mamba_lm(directory.path()), weights));
    ssm::save_mamba_lm(directory.path(), weights, {.layout = ssm::MambaLayout::hf});
    CHECK(same_weights(ssm::load_mamba_lm(directory.path()), weights));
    std::filesystem::remove(directory / "config.json");
    CHECK(same_weights(ssm::load_mamba_lm(directory.path()), weights));

    const bool original = config.projection_epsilon == 0 && config.inner == 0;
    if (original)
      ssm::save_mamba_lm(directory.path(), weights, {.layout = ssm::MambaLayout::original});
    else
      CHECK_THROWS_WITH(
          ssm::save_mamba_lm(directory.path(), weights, {.layout = ssm::MambaLayout::original}),
          contains("save_mamba_lm: layout is original, expected hf for a model with"));
    CHECK(ssm::SafetensorsReader(directory / "model.safetensors")
              .contains(original ? "backbone.embedding.weight" : "backbone.embeddings.weight"));
    CHECK(same_weights(ssm::load_mamba_lm(directory.path()), weights));
  }
}

TEST_CASE("a weight that the config leaves out, or that it asks for, is refused by its name") {
  const TempDirectory directory;
  for (const MambaLMConfig& config : variants()) {
    if (config.projection_epsilon != 0 || config.inner != 0) continue;
    ssm::save_mamba_lm(directory / "with", some_weights(config));
    ssm::save_mamba_lm(directory / "without", some_weights());
    std::filesystem::rename(directory / "with/config.json", directory / "config.json");
    std::filesystem::rename(directory / "without/config.json", directory / "with/config.json");
    std::filesystem::rename(directory / "config.json", directory / "without/config.json");
    const char* name = config.bias        ? "backbone.layers.0.mixer.in_proj.bias"
                       : config.conv_bias ? "lm_head.weight"
                                          : "backbone.layers.0.mixer.conv1d.bias";
    CHECK_THAT(complaint(directory / "with"), contains(name));
    CHECK_THAT(complaint(directory / "without"), contains(name));
  }
}

TEST_CASE("names come with backbone., with model., or with neither") {
  const TempDirectory directory;
  auto config = small;
  config.tied = false;
  const auto weights = some_weights(config);
  ssm::save_mamba_lm(directory.path(), weights);
  for (const std::string prefix : {"model.", ""}) {
    save_changed(directory / "model.safetensors", weights, [&](const std::string& name) {
      if (!name.starts_with("backbone.")) return name;
      return prefix + (name == "backbone.embedding.weight" ? "embeddings.weight" : name.substr(9));
    });
    CHECK(same_weights(ssm::load_mamba_lm(directory.path()), weights));
  }
  ssm::SafetensorsWriter twice;
  ssm::parameters(weights, [&](std::string_view view, const auto& tensor, const auto&, bool) {
    const std::string name(view);
    twice.add(name, ssm::detail::shape_in_file(name, tensor.extents()), tensor.data());
  });
  twice.add("embeddings.weight", weights.embedding);
  twice.save(directory / "model.safetensors");
  CHECK_THAT(complaint(directory.path()), contains("left over: \"embeddings.weight\""));
}

TEST_CASE("a vocabulary is as long as its config says, or padded to the multiple that it says") {
  const TempDirectory directory;
  auto config = small;
  config.vocab = 12;
  const auto weights = some_weights(config);
  ssm::save_mamba_lm(directory.path(), weights);
  const Json original = config_of(directory);
  CHECK(complaint_with(directory, original, "pad_vocab_size_multiple", 4).empty());
  Json short_by_one = original;
  short_by_one["vocab_size"] = 11;
  CHECK(complaint_with(directory, short_by_one, "pad_vocab_size_multiple", 4).empty());
  CHECK(complaint_with(directory, short_by_one, "pad_vocab_size_multiple", 12).empty());
  CHECK_THAT(complaint_with(directory, short_by_one, "pad_vocab_size_multiple", 5),
             contains("embedding"));
  // Written as it is, though the default would pad it.
  CHECK(complaint_with(directory, original, "pad_vocab_size_multiple", 8).empty());
  ssm::save_mamba_lm(directory.path(), weights, {.layout = ssm::MambaLayout::hf});
  Json hf = config_of(directory);
  CHECK_THAT(complaint_with(directory, hf, "vocab_size", 11), contains("embeddings.weight"));
  hf["pad_vocab_size_multiple"] = 4;
  CHECK(complaint_with(directory, hf, "vocab_size", 11).empty());
}

TEST_CASE(
    "tensors that are no weights and that nobody asks for do not matter, whatever their type") {
  const TempDirectory directory;
  const auto weights = some_weights();
  ssm::save_mamba_lm(directory.path(), weights);
  const auto with = [&](const std::string& name, const std::string& dtype, std::size_t bytes) {
    // A file with one more tensor, which the writer would not write: its header changed by hand.
    ssm::save_mamba_lm(directory.path(), weights);
    const std::string file = ssm::test::read_bytes(directory / "model.safetensors");
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    const std::size_t header = static_cast<std::size_t>(length);
    const std::size_t end = file.size() - 8 - header;
    std::string text = file.substr(8, header);
    text.erase(text.find_last_of('}'));
    text += ", \"" + name + "\": {\"dtype\": \"" + dtype +
            "\", \"shape\": [1], \"data_offsets\": [" + std::to_string(end) + ", " +
            std::to_string(end + bytes) + "]}}";
    length = text.size();
    directory.write("model.safetensors", std::string(reinterpret_cast<const char*>(&length), 8) +
                                             text + file.substr(8 + header) +
                                             std::string(bytes, '\0'));
    return complaint(directory.path());
  };
  CHECK(with("backbone.position_ids", "I64", 8).empty());
  CHECK(with("other.scale", "F8_E8M0", 1).empty());
  CHECK(with("other.blocks", "F4", 3).empty());
  CHECK(with("mask", "BOOL", 1).empty());
  const auto names = [](const std::string& name) {
    return contains("tensors left over: \"" + name + "\"");
  };
  for (const std::string name :
       {"backbone.layers.2.mixer.D", "lm_head.bias", "backbone.layers.0.mixer.dt_layernorm.weight"})
    for (const auto& [dtype, bytes] :
         {std::pair<std::string, std::size_t>{"F8_E4M3", 1}, {"I8", 1}, {"BF16", 2}, {"F64", 8}})
      CHECK_THAT(with(name, dtype, bytes), names(name));
  CHECK_THAT(with("scale", "F32", 4), names("scale"));
}

TEST_CASE("a tied head that is stored may be there, one that differs says what its config says") {
  const TempDirectory directory;
  const auto weights = some_weights();
  ssm::save_mamba_lm(directory.path(), weights, {.layout = ssm::MambaLayout::hf});
  Tensor<float, 2> head = weights.embedding;
  save_changed(directory / "model.safetensors", weights, keep, &head);
  CHECK(complaint(directory.path()).empty());
  head(0, 0) += 1;
  save_changed(directory / "model.safetensors", weights, keep, &head);
  CHECK_THAT(complaint(directory.path()), contains("lm_head.weight") && contains("tied head"));
  const Json hf = config_of(directory);
  CHECK(complaint_with(directory, hf, "tie_word_embeddings", false).empty());
  CHECK(same_bits(ssm::load_mamba_lm(directory.path()).head, head));
}

namespace {

/// A model of both directions in the files of Caduceus; what both share is stored of one alone.
Json save_caduceus(const TempDirectory& directory, const ssm::BothWaysMambaLM<float>& weights) {
  ssm::SafetensorsWriter file;
  ssm::parameters(weights, [&](std::string_view view, const auto& tensor, const auto&, bool) {
    std::string name(view);
    const auto replace = [&](const std::string& from, const std::string& to) {
      if (const auto at = name.find(from); at != name.npos) name.replace(at, from.size(), to);
    };
    if (name.ends_with("back.in_proj.weight") || name.ends_with("ahead.out_proj.weight")) return;
    replace("backbone.", "caduceus.backbone.");
    replace("embedding.weight", "embeddings.word_embeddings.weight");
    replace(".ahead.", ".mamba_fwd.");
    replace(".back.", ".mamba_rev.");
    file.add(name, ssm::detail::shape_in_file(name, tensor.extents()), tensor.data());
  });
  file.save(directory / "model.safetensors");
  return ssm::detail::parse_json(directory.path(), R"({"model_type": "caduceus", "d_model": 6,
      "architectures": ["CaduceusForMaskedLM"], "n_layer": 2, "vocab_size": 16, "rms_norm": true,
      "ssm_cfg": {"d_state": 3, "d_conv": 4, "expand": 2, "dt_rank": "auto", "conv_bias": true,
      "bias": false, "use_fast_path": true}, "pad_vocab_size_multiple": 8, "norm_epsilon": 1e-05,
      "bidirectional": true, "bidirectional_strategy": "add", "bidirectional_weight_tie": true,
      "rcps": false, "complement_map": {"0": 0}, "initializer_cfg": {"n_residuals_per_layer": 1}})");
}

}  // namespace

TEST_CASE("a model of both directions is opened by a call of its own, as each call says") {
  const TempDirectory directory;
  ssm::BothWaysMambaLM<float> weights(
      ssm::both_ways_mamba_lm_config<float>({.vocab = 16, .width = 6, .layers = 2, .state = 3}));
  ssm::initialize(weights, 3);
  for (auto& layer : weights.backbone.layers) {
    layer.mixer.back.in_proj = layer.mixer.ahead.in_proj;
    layer.mixer.back.out_proj = layer.mixer.ahead.out_proj;
  }
  const Json config = save_caduceus(directory, weights);
  const auto complaint_of = [&](const std::string& field, const Json& value) -> std::string {
    Json changed = config;
    changed[field] = value;
    directory.write("config.json", changed.text());
    try {
      const auto loaded = ssm::load_both_ways_mamba_lm(directory.path());
      ssm::parameters(weights, [&](std::string_view name, const auto& tensor, const auto&, bool) {
        ssm::parameters(loaded, [&](std::string_view its, const auto& other, const auto&, bool) {
          if (name == its) CHECK(std::equal(tensor.begin(), tensor.end(), other.begin()));
        });
      });
      return "";
    } catch (const FileError& error) {
      return error.what();
    }
  };
  CHECK(complaint_of("bidirectional_strategy", "add").empty());
  CHECK(complaint_of("bidirectional_strategy", Json()).empty());
  CHECK_THAT(complaint_of("bidirectional_strategy", "ew_multiply"), contains("strategy is"));
  CHECK_THAT(complaint_of("rcps", true), contains("config.rcps is true, expected false"));
  CHECK_THAT(complaint_of("bidirectional", false), contains("config.bidirectional is false"));
  CHECK_THAT(
      complaint_of("bidirectional_weight_tie", false),
      contains("missing tensors: \"caduceus.backbone.layers.0.mixer.mamba_fwd.out_proj.weight\""));
  directory.write("config.json", config.text());
  CHECK_THAT(complaint(directory.path()),
             contains("is a model of both directions, which load_both_ways_mamba_lm opens"));
  ssm::save_mamba_lm(directory / "one", some_weights());
  CHECK_THROWS_WITH(ssm::load_both_ways_mamba_lm(directory / "one"),
                    contains("is a model of one direction, which load_mamba_lm opens"));
}

}  // namespace checkpoint_test
