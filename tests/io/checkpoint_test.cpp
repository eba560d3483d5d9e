#include "ssm/io/checkpoint.hpp"

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
  ssm::save_mamba_lm(directory.path(), weights, ssm::DType::F16);
  const auto loaded = ssm::load_mamba_lm(directory.path());
  CHECK(ssm::test::relative_error(loaded.embedding, weights.embedding) < 0x1p-11);
  CHECK_FALSE(same_bits(loaded.embedding, weights.embedding));
  CHECK(same_bits(loaded.backbone.layers[1].mixer.A_log, weights.backbone.layers[1].mixer.A_log));
  CHECK(same_bits(loaded.backbone.layers[1].mixer.dt_bias, weights.backbone.layers[1].mixer.dt_bias));
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
    // Sizes that are numbers but not those of the file, up to ones that no memory can hold.
    CHECK_FALSE(with(field, 37).empty());
    CHECK_FALSE(with(field, 0x7fffffff).empty());
  }
  CHECK_THAT(with("ssm_cfg/layer", "Mamba2"), contains("Mamba1"));
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
       {std::tuple<std::string, Json, Json>{"tie_embeddings", false, true},
        {"d_intermediate", 12, 0},
        {"ssm_cfg/bias", true, false},
        {"ssm_cfg/conv_bias", false, true},
        {"ssm_cfg/dt_limit", Json::Array{0.001, 0.1}, Json::Array{0.0, infinity}},
        {"ssm_cfg/dt_limit", 3, Json::Array{0, infinity}}}) {
    INFO(field);
    CHECK_THAT(complaint_with(directory, original, field, value),
               contains(field.substr(field.find('/') + 1)));
    CHECK(complaint_with(directory, original, field, same).empty());
  }
  const Json hf = save_hf(directory, some_weights());
  for (const auto& [field, value, same] :
       {std::tuple<std::string, Json, Json>{"tie_word_embeddings", false, true},
        {"use_bias", true, false},
        {"use_conv_bias", false, true},
        {"hidden_act", "gelu", "silu"},
        {"intermediate_size", 24, 12.0},
        {"model_type", "falcon_mamba", "mamba"},
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

TEST_CASE("a Mamba-2 config gets a sentence, though Python wrote Infinity into it") {
  const TempDirectory directory;
  ssm::save_mamba_lm(directory.path(), some_weights());
  directory.write("config.json", R"({"model_type": "mamba2", "hidden_size": 6,
      "num_hidden_layers": 2, "vocab_size": 11, "time_step_limit": [0.0, Infinity]})");
  CHECK_THAT(complaint(directory.path()), contains("Mamba-2 is not supported"));
  directory.write("config.json", R"({"d_model": 6, "n_layer": 2, "vocab_size": 11,
      "ssm_cfg": {"layer": "Mamba2", "dt_limit": [0.0, Infinity]}})");
  CHECK_THAT(complaint(directory.path()), contains("Mamba-2 is not supported"));
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
  CHECK_THAT(complaint(directory / "m"), contains("too few"));
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
  CHECK_THAT(complaint(directory.path()), contains("pytorch_model.bin") && contains("convert"));
  directory.write("model.safetensors.index.json", "{}");
  CHECK_THAT(complaint(directory.path()), contains("several files") && contains("join"));
}

TEST_CASE("counts in messages are whole numbers") {
  const TempDirectory directory;
  ssm::save_mamba_lm(directory.path(), some_weights());
  Json config = config_of(directory);
  CHECK_THAT(complaint_with(directory, config, "d_model", 64),
             contains(" parameters") && !contains(".000"));
}

TEST_CASE("a model that is not there is refused by its path") {
  const TempDirectory directory;
  CHECK_THAT(complaint(directory / "nowhere"), contains("nowhere: no such file"));
  CHECK_THAT(complaint(directory.path()), contains("model.safetensors: no such file"));
}

}  // namespace checkpoint_test
