#include "ssm/io/open_mamba_lm.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "ssm/models/stored_mamba_lm.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/temp_directory.hpp"

using namespace ssm;

namespace {

MambaLM<float> small_model() {
  MambaLM<float> model(
      mamba_lm_config(MambaLMConfig{.vocab = 40, .width = 24, .layers = 2, .state = 5}));
  initialize(model, 8);
  return model;
}

std::vector<float> logits_of(const StoredMambaLM& model) {
  const std::array<Token, 5> text{3, 1, 4, 1, 5};
  Tensor<float, 3> logits({1, 5, model.config.vocab});
  StoredMambaLM::Scratch scratch;
  forward(cpu(1), model, View<const Token, 2>(text.data(), {1, 5}), {}, logits, {}, scratch);
  return {logits.begin(), logits.end()};
}

double error_of(const std::vector<float>& got, const std::vector<float>& want) {
  const auto view = [](const auto& all) {
    return View<const float, 1>(all.data(), {static_cast<Index>(all.size())});
  };
  return test::relative_error(view(got), view(want));
}

}  // namespace

TEST_CASE("a model opens with the numbers it was saved with, in every format, mapped or resident") {
  const MambaLM<float> model = small_model();
  for (const MatrixFormat format : {MatrixFormat::f32, MatrixFormat::f16, MatrixFormat::bf16,
                                    MatrixFormat::q8, MatrixFormat::q4}) {
    INFO(name_of(format));
    const test::TempDirectory folder;
    const StoredMambaLM stored = store_mamba_lm(cpu(1), model, format);
    save_mamba_lm(folder.path(), stored);
    const std::vector<float> want = logits_of(stored);
    const StoredMambaLM mapped = open_mamba_lm(folder.path());
    CHECK(mapped.backbone.layers[1].mixer.in_proj.format() == format);
    CHECK(logits_of(mapped) == want);
    CHECK(logits_of(open_mamba_lm(folder.path(), {.resident = true})) == want);
    // Numbers of any format come back as floats, which are exact; products with those of whole
    // numbers may round x (StoredMatrix).
    const bool whole = format == MatrixFormat::q8 || format == MatrixFormat::q4;
    const double bound = !whole ? 0 : SSM_DETAIL_BYTE_PRODUCTS ? 1e-4 : 1e-5;
    const MambaLM<float> loaded = load_mamba_lm(folder.path());
    CHECK(error_of(logits_of(store_mamba_lm(cpu(1), loaded, MatrixFormat::f32)), want) <= bound);
    const StoredMambaLM widened = open_mamba_lm(folder.path(), {.format = MatrixFormat::f32});
    CHECK(error_of(logits_of(widened), want) <= bound);
  }
}

TEST_CASE("a mapped model outlives its file's name, and the file may be replaced under it") {
  const test::TempDirectory folder;
  save_mamba_lm(folder.path(), small_model());
  const StoredMambaLM model = open_mamba_lm(folder.path());
  const std::vector<float> want = logits_of(model);
  MambaLM<float> other = small_model();
  other.embedding.fill(1);
  save_mamba_lm(folder.path(), other);
  CHECK(logits_of(model) == want);
  std::filesystem::remove(folder.path() / "model.safetensors");
  CHECK(logits_of(model) == want);
}

TEST_CASE("a matrix that another format cannot hold is refused by its name") {
  const test::TempDirectory folder;
  MambaLM<float> model = small_model();
  model.backbone.layers[1].mixer.x_proj(0, 0) = 1e30f;
  save_mamba_lm(folder.path(), model);
  CHECK_THROWS_AS(open_mamba_lm(folder.path(), {.format = MatrixFormat::f16}), FileError);
  CHECK_THROWS_WITH(open_mamba_lm(folder.path(), {.format = MatrixFormat::f16}),
                    test::contains("backbone.layers.1.mixer.x_proj.weight"));
  CHECK_NOTHROW(open_mamba_lm(folder.path(), {.format = MatrixFormat::bf16}));
}

TEST_CASE("matrices of few bits that do not fit the model are refused by name") {
  const test::TempDirectory folder;
  save_mamba_lm(folder.path(), store_mamba_lm(cpu(1), small_model(), MatrixFormat::q4));
  const std::filesystem::path file = folder.path() / "model.safetensors";
  std::ifstream in(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const auto with = [&](const std::string& from, const std::string& to) {
    REQUIRE(from.size() == to.size());
    std::string changed = bytes;
    const std::size_t at = changed.find(from);
    REQUIRE(at != std::string::npos);
    changed.replace(at, from.size(), to);
    std::ofstream(file, std::ios::binary) << changed;
  };
  const auto refuses = [&](const std::string& what) {
    CHECK_THROWS_WITH(open_mamba_lm(folder.path()), test::contains(what));
    CHECK_THROWS_WITH(load_mamba_lm(folder.path()), test::contains(what));
  };
  with("backbone.layers.1.mixer.in_proj.weight.scales",
       "backbone.layers.1.mixer.in_proj.weight.scalez");
  refuses("backbone.layers.1.mixer.in_proj.weight");
  with("\"backbone.layers.0.mixer.x_proj.weight\":{\"dtype\":\"U8\"",
       "\"backbone.layers.0.mixer.x_proj.weight\":{\"dtype\":\"I8\"");
  refuses("backbone.layers.0.mixer.x_proj.weight");
  with("\"BF16\"", "\"F16\" ");
  CHECK_THROWS_AS(open_mamba_lm(folder.path()), FileError);
}
