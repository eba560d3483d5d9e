#include "ssm/io/checkpoint.hpp"

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

using ssm::FileError;
using ssm::Index;
using ssm::MambaLMConfig;
using ssm::MambaLMWeights;
using ssm::Tensor;
using ssm::test::contains;
using ssm::test::same_bits;
using ssm::test::TempDirectory;

namespace {

constexpr MambaLMConfig small{
    .vocab = 11, .width = 6, .layers = 2, .state = 3, .conv_width = 4, .expand = 2, .dt_rank = 2};

MambaLMWeights<float> some_weights(const MambaLMConfig& config = small) {
  MambaLMWeights<float> weights(config);
  ssm::initialize(weights, 5);
  return weights;
}

bool same_weights(const MambaLMWeights<float>& a, const MambaLMWeights<float>& b) {
  std::vector<Tensor<float, 1>> flat[2];
  const auto flatten = [&](const MambaLMWeights<float>& weights, auto& to) {
    weights.visit([&](const std::string&, const auto& tensor, bool) {
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
void save_changed(const std::filesystem::path& path, const MambaLMWeights<float>& weights,
                  const std::function<std::string(const std::string&)>& change,
                  const Tensor<float, 2>* head = nullptr) {
  ssm::SafetensorsWriter file;
  weights.visit([&](const std::string& name, const auto& tensor, bool) {
    if (const std::string changed = change(name); !changed.empty())
      file.add(changed, ssm::detail::shape_in_file(name, tensor), tensor.data());
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
  CHECK(same_bits(loaded.layers[1].mixer.A_log, weights.layers[1].mixer.A_log));
  CHECK(same_bits(loaded.layers[1].mixer.dt_bias, weights.layers[1].mixer.dt_bias));
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
  CHECK(loaded.config == config);
  CHECK(loaded.layers[0].mixer.shape().dt_rank == 2);
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
  weights.visit([&](const std::string& name, const auto& tensor, bool) {
    file.add(name, ssm::detail::shape_in_file(name, tensor), tensor.data());
  });
  file.add("backbone.layers.0.mixer.in_proj.bias", extra);
  file.save(model);
  CHECK_THAT(complaint(directory.path()), contains("23 tensors, expected 22"));

  auto poisoned = weights;
  poisoned.layers[0].mixer.D(4) = std::numeric_limits<float>::quiet_NaN();
  ssm::save_mamba_lm(directory.path(), poisoned);
  CHECK_THAT(complaint(directory.path()), contains("NaN") && contains("0.mixer.D"));
}

TEST_CASE("a config that is wrong in any field is refused by that field") {
  const TempDirectory directory;
  ssm::save_mamba_lm(directory.path(), some_weights());
  const auto good = nlohmann::json::parse(ssm::test::read_bytes(directory / "config.json"));
  const auto with = [&](const char* pointer, const nlohmann::json& value) {
    nlohmann::json json = good;
    json[nlohmann::json::json_pointer(pointer)] = value;
    directory.write("config.json", json.dump());
    return complaint(directory.path());
  };
  CHECK(with("/unknown", 3).empty());
  for (const char* field :
       {"/d_model", "/n_layer", "/vocab_size", "/pad_vocab_size_multiple", "/ssm_cfg/d_state",
        "/ssm_cfg/d_conv", "/ssm_cfg/expand", "/ssm_cfg/dt_rank"}) {
    INFO(field);
    const std::string name = std::string(field).substr(std::string(field).rfind('/') + 1);
    for (const nlohmann::json& value :
         {nlohmann::json(0), nlohmann::json(-1), nlohmann::json(1.5), nlohmann::json("x\xff"),
          nlohmann::json(), nlohmann::json::array({1}), nlohmann::json(UINT64_MAX)}) {
      nlohmann::json json = good;
      json[nlohmann::json::json_pointer(field)] = value;
      directory.write("config.json",
                      json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      CHECK_THAT(complaint(directory.path()), contains(name));
    }
    // Sizes that are numbers but not those of the file, up to ones that no memory can hold.
    CHECK_FALSE(with(field, 37).empty());
    CHECK_FALSE(with(field, 0x7fffffff).empty());
  }
  CHECK_THAT(with("/ssm_cfg/layer", "Mamba2"), contains("Mamba1"));
  CHECK_THAT(with("/rms_norm", false), contains("rms_norm"));
  CHECK_THAT(with("/attn_layer_idx", {1}), contains("attn_layer_idx"));
  CHECK_THAT(with("/norm_epsilon", -1), contains("norm_epsilon"));
  CHECK_FALSE(with("/ssm_cfg", 3).empty());

  for (const char* text : {"", "[]", "3", "{", "{}", "{\"d_model\": \"\xff\"}", "null"}) {
    directory.write("config.json", text);
    CHECK_THAT(complaint(directory.path()), contains("config"));
  }
  directory.write("config.json", std::string(500'000, '['));
  CHECK_THAT(complaint(directory.path()), contains("JSON"));
  directory.write("config.json", std::string(2 << 20, ' '));
  CHECK_THAT(complaint(directory.path()), contains("at most"));
}

TEST_CASE("a model that is not there is refused by its path") {
  const TempDirectory directory;
  CHECK_THAT(complaint(directory / "nowhere"), contains("nowhere: no such file"));
  CHECK_THAT(complaint(directory.path()), contains("model.safetensors: no such file"));
}
