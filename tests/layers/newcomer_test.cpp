// The layer of CONTRIBUTING.md, as it stands there, joins all that the library does with layers.

#include "leaky_integrator.hpp"

#include <array>
#include <span>

#include "ssm/io/save_load.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/stack.hpp"
#include "ssm/layers/streamer.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/sequence_classifier.hpp"
#include "ssm/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

namespace newcomer_test {

using mine::Leaky;
using ssm::Index;
using ssm::Tensor;

namespace {

template <class T>
Leaky<T> leaky(Index width) {
  Leaky<T> layer({.width = width});
  initialize(layer, 1);
  return layer;
}

const ssm::test::LayerLaws laws{.packs = false, .reverses = false, .rates = false};

}  // namespace

TEST_CASE("a newcomer's layer keeps the laws of layers") {
  ssm::test::check_layer_laws(leaky<double>(3), laws);
  ssm::test::check_precision(leaky<float>(3), Leaky<double>({.width = 3}), laws);
}

TEST_CASE("it stands in a block, in a stack, and beside other kinds") {
  using Block = ssm::S4Block<Leaky<double>>;
  ssm::Stack<Block> stack({2, {{{.width = 3}}, 1e-5}});
  initialize(stack, 2);
  ssm::test::check_split(ssm::test::any(stack), laws);
  ssm::test::check_step(ssm::test::any(stack), laws);

  using Mixed = ssm::OneOf<ssm::Mamba<double>, Leaky<double>>;
  ssm::StackConfig<ssm::Residual<Mixed>> config(
      2, {{ssm::MambaConfig{.width = 3, .state = 2}}, 1e-5});
  config.layers[1].mixer.kind = mine::LeakyConfig{3};
  ssm::Stack<ssm::Residual<Mixed>> mixed(config);
  initialize(mixed, 3);
  ssm::test::check_split(ssm::test::any(mixed), laws);
}

TEST_CASE("a classifier of it learns, is saved, loaded, and says the same") {
  using Model = ssm::SequenceClassifier<ssm::S4Block<Leaky<float>>>;
  Model model(Model::Config{.inputs = 1, .classes = 2, .backbone = {1, {{{.width = 8}}, 1e-5}}});
  initialize(model, 4);
  // Which of two sequences rises.
  Tensor<float, 3> u({8, 20, 1});
  Tensor<ssm::Token, 1> labels({8});
  for (Index b = 0; b < 8; ++b) {
    labels(b) = static_cast<ssm::Token>(b % 2);
    for (Index t = 0; t < 20; ++t)
      u(b, t, 0) = (b % 2 == 0 ? 0.1f : -0.1f) * static_cast<float>(t) + 0.3f * static_cast<float>(b);
  }
  Model::Scratch scratch;
  ssm::Trainer<Model> trainer(model, {.schedule = {.peak = 1e-2, .steps = 200}});
  ssm::TrainingReport last;
  for (int i = 0; i < 200; ++i)
    last = trainer.step(ssm::cpu, [&](const Model& now, Model& gradients) {
      return loss(ssm::cpu, now, u, labels, gradients, {}, scratch);
    });
  CHECK(last.loss < 0.1);

  const ssm::test::TempDirectory folder;
  ssm::save(folder / "leaky.safetensors", trainer.model);
  const auto loaded = ssm::load<Model>(folder / "leaky.safetensors");
  Tensor<float, 2> before({8, 2}), after({8, 2});
  forward(ssm::cpu, trainer.model, u, before, {}, scratch);
  forward(ssm::cpu, loaded, u, after, {}, scratch);
  CHECK(ssm::test::same_bits(before, after));
}

TEST_CASE("a language model of it trains") {
  using Model = ssm::LanguageModel<ssm::Residual<Leaky<double>>>;
  Model model(Model::Config{5, {2, {{.width = 6}, 1e-5}}}), gradients;
  initialize(model, 5);
  Tensor<ssm::Token, 2> tokens({1, 7}), targets({1, 7});
  for (Index t = 0; t < 7; ++t) targets(0, t) = static_cast<ssm::Token>(t % 5);
  Model::Scratch scratch;
  const auto value = [&] { return loss(ssm::cpu, model, tokens, targets, {}, {}, {}, scratch); };
  loss(ssm::cpu, model, tokens, targets, {}, gradients, {}, scratch);
  CHECK(ssm::test::gradient_error(value, model.backbone.layers[1].mixer.log_rate,
                                  gradients.backbone.layers[1].mixer.log_rate) < 1e-7);
}

TEST_CASE("a streamer runs it, sample by sample or in blocks") {
  ssm::Streamer by_sample(leaky<float>(1)), by_block(leaky<float>(1));
  const std::array<float, 5> x{1, -2, 3, 0.5f, 0};
  std::array<float, 5> y{};
  by_block(std::span<const float>(x), std::span<float>(y));
  for (std::size_t t = 0; t < x.size(); ++t) CHECK(by_sample(x[t]) == y[t]);
  by_block.reset();
  CHECK(by_block(1.0f) == y[0]);
}

}  // namespace newcomer_test
