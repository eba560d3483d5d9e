#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>

#include "ssm/io/checkpoint.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/temp_directory.hpp"

/// Mamba language models in every form in which they are published against transformers;
/// golden/make_mamba_variants.py says what the files hold.

namespace mamba_variants_test {

using namespace ssm;

namespace {

using Model = MambaLM<float>;

struct Golden {
  Tensor<Token, 2> tokens;
  Tensor<float, 3> logits;

  explicit Golden(const std::filesystem::path& folder) {
    const SafetensorsReader expected(folder / "expected.safetensors");
    const auto read = expected.read<std::int64_t, 2>("tokens");
    tokens.resize(read.extents());
    std::transform(read.begin(), read.end(), tokens.begin(),
                   [](std::int64_t token) { return static_cast<Token>(token); });
    logits = expected.read<float, 3>("logits");
  }
};

Tensor<float, 3> read_in_chunks(const Model& model, const Tensor<Token, 2>& tokens, Index longest) {
  const auto [batch, length] = tokens.extents();
  const Index vocab = model.config.vocab;
  auto state = make_state(model, batch);
  Model::Scratch scratch;
  Tensor<float, 3> logits({batch, length, vocab});
  for (Index begin = 0; begin < length; begin += longest) {
    const Index count = std::min(longest, length - begin);
    Tensor<float, 3> part({batch, count, vocab});
    forward(cpu(2), model, tokens.view().slice(1, begin, count), state, part, {}, scratch);
    for (Index b = 0; b < batch; ++b)
      std::copy_n(&part(b, 0, 0), count * vocab, &logits(b, begin, 0));
  }
  return logits;
}

Tensor<float, 3> read_in_steps(const Model& model, const Tensor<Token, 2>& tokens) {
  const auto [batch, length] = tokens.extents();
  const Index vocab = model.config.vocab;
  auto state = make_state(model, batch);
  Model::Stepper stepper(model, batch);
  Tensor<float, 3> logits({batch, length, vocab});
  for (Index t = 0; t < length; ++t)
    step(stepper, View<const Token, 1>(&tokens(0, t), {batch}, {length}), state,
         View<float, 2>(&logits(0, t, 0), {batch, vocab}, {length * vocab, 1}));
  return logits;
}

void check(const Model& model, const Golden& golden, double tolerance) {
  REQUIRE(golden.logits.extent(2) == model.config.vocab);
  CHECK(test::relative_error(read_in_chunks(model, golden.tokens, 1000), golden.logits) <=
        tolerance);
  CHECK(test::relative_error(read_in_chunks(model, golden.tokens, 5), golden.logits) <= tolerance);
  CHECK(test::relative_error(read_in_steps(model, golden.tokens), golden.logits) <= tolerance);
}

/// Holds what is in a folder against what it says it computes, then after saving in each layout.
void check_folder(const std::filesystem::path& folder, double tolerance) {
  CAPTURE(folder.string());
  const Golden golden(folder);
  const Model model = load_mamba_lm(folder);
  check(model, golden, tolerance);
  const test::TempDirectory directory;
  save_mamba_lm(directory.path(), model, {.layout = MambaLayout::hf});
  const auto again = read_in_chunks(load_mamba_lm(directory.path()), golden.tokens, 1000);
  CHECK(test::relative_error(again, golden.logits) <= tolerance);
}

constexpr const char* names[] = {"biases", "untied", "falcon_mamba", "sharded", "half", "original"};

}  // namespace

TEST_CASE("logits of models in every published form equal those of transformers") {
  // Both sides round in every product and sum of two layers, none of which cancels much.
  for (const char* name : names)
    check_folder(std::filesystem::path(SSM_SOURCE_DIR "/tests/golden/mamba_variants") / name,
                 64 * static_cast<double>(std::numeric_limits<float>::epsilon()));
}

TEST_CASE("published forms are what their configurations say") {
  const auto config = [](const char* name) {
    const std::string root = SSM_SOURCE_DIR "/tests/golden/mamba_variants/";
    return published_config(load_mamba_lm(root + name).config);
  };
  CHECK(config("biases").bias);
  CHECK(config("untied").vocab == 29);
  CHECK_FALSE(config("untied").tied);
  CHECK_FALSE(config("untied").conv_bias);
  CHECK(config("falcon_mamba").projection_epsilon == 1e-3);
  CHECK(config("falcon_mamba").inner == 20);
  CHECK(config("half").tied);
  CHECK(config("original").vocab == 24);
}

TEST_CASE("logits of a model of both directions equal those of transformers' mixers") {
  const std::filesystem::path folder = SSM_SOURCE_DIR "/tests/golden/mamba_variants/caduceus";
  const Golden golden(folder);
  const auto model = load_both_ways_mamba_lm(folder);
  BothWaysMambaLM<float>::Scratch scratch;
  Tensor<float, 3> logits(golden.logits.extents());
  forward(cpu(2), model, golden.tokens, {}, logits, {}, scratch);
  CHECK(test::relative_error(logits, golden.logits) <=
        64 * static_cast<double>(std::numeric_limits<float>::epsilon()));
}

// Of the size of mamba-130m, in the folder of golden/make_mamba_variants.py that is named.
TEST_CASE("logits of large models in every published form equal those of transformers",
          "[large]") {
  const char* root = std::getenv("SSM_GOLDEN_MAMBA");
  if (root == nullptr) {
    WARN("not tried: SSM_GOLDEN_MAMBA names no folder");
    return;
  }
  for (const char* name : names) check_folder(std::filesystem::path(root) / name, 1e-4);
}

}  // namespace mamba_variants_test
