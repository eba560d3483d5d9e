#include "ssm/models/text_generator.hpp"

#include <limits>
#include <span>
#include <string>
#include <utility>

#include "ssm/layers/residual.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s4d_step.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/train/text_trainer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"

using namespace ssm;

namespace {

MambaLM<float> model_of(std::uint64_t seed, Index vocab = 256) {
  MambaLM<float> model(mamba_lm_config(vocab, 2, {.width = 8, .state = 4}));
  initialize(model, seed);
  return model;
}

const std::string text = [] {
  std::string t;
  for (int i = 0; i < 40; ++i) t += "the cat sat on the mat. ";
  return t;
}();
std::span<const unsigned char> bytes() {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

}  // namespace

TEST_CASE("a generator writes the same after a prompt in one piece as after one in many") {
  TextGenerator whole(model_of(1), {.seed = 7}), parts(model_of(1), {.seed = 7});
  const std::string prompt(2500, 'x');
  whole.read(prompt + "abc");
  parts.read(prompt);
  parts.read("");
  parts.read("ab");
  parts.read("c");
  CHECK(whole.write(40) == parts.write(40));
}

TEST_CASE("a generator that goes on from the state of another writes what that one would have") {
  const SamplingOptions sampling{.min_p = 0.01, .repetition_penalty = 1.3, .seed = 7};
  TextGenerator whole(model_of(1), sampling), first(model_of(1), sampling),
      second(model_of(1), sampling);
  whole.read("a prompt");
  const std::string all = whole.write(40);
  first.read("a prompt");
  CHECK(first.write(20) == all.substr(0, 20));
  second.read("something else");
  const auto go_on = [&] {
    second.resume(first.state(), first.logits(), first.sampler().recent(), first.sampler().drawn());
  };
  go_on();
  CHECK(second.write(20) == all.substr(20));
  go_on();
  CHECK(second.write(20) == all.substr(20));
  second.reset();
  CHECK_THROWS_AS(second.next(), DomainError);
  second.read("a prompt");
  CHECK(second.write(40) == all);
}

TEST_CASE("a generator refuses a state that is not of its model, and has not changed") {
  TextGenerator writer(model_of(1), {.seed = 7}), same(model_of(1), {.seed = 7}),
      other(model_of(1, 300), {.seed = 7});
  MambaLM<float> wide(mamba_lm_config(256, 2, {.width = 16, .state = 4}));
  TextGenerator wider(wide);
  writer.read("ab");
  same.read("ab");
  CHECK_THROWS_AS(writer.resume(wider.state(), wider.logits()), ShapeError);
  CHECK_THROWS_AS(writer.resume(other.state(), other.logits()), ShapeError);
  CHECK_THROWS_AS(writer.resume(same.state(), same.logits(), {256}), DomainError);
  CHECK_THROWS_AS(writer.resume(make_state(wide, 0), same.logits()), DomainError);
  CHECK(writer.write(20) == same.write(20));
}

TEST_CASE("a generator refuses to write before it has read, and words that are no bytes") {
  TextGenerator writer(model_of(2));
  CHECK_THROWS_AS(writer.next(), DomainError);
  TextGenerator tokens(model_of(2, 300));
  CHECK_THROWS_AS(tokens.read("abc"), DomainError);
  Tensor<Token, 1> prompt({2});
  prompt(1) = 299;
  tokens.read(prompt.view());
  CHECK(tokens.next() < 300);
  prompt(1) = 300;
  CHECK_THROWS_AS(tokens.read(prompt.view()), DomainError);
}

TEST_CASE("a generator refuses tokens that are not there, and a model without parameters") {
  TextGenerator writer(model_of(2));
  const Token some[] = {1, 2, 3, 4};
  CHECK_THROWS_WITH(writer.read(View<const Token, 1>(nullptr, {3})),
                    test::contains("TextGenerator::read: tokens is a null pointer to (3)"));
  CHECK_THROWS_WITH(writer.read(View<const Token, 1>(some + 4, {-3})),
                    test::contains("tokens is (-3), expected no negative extent"));
  CHECK_THROWS_AS(writer.next(), DomainError);
  CHECK_THROWS_AS(TextGenerator(MambaLM<float>()), ShapeError);
  auto model = model_of(2);
  const auto moved = std::move(model);
  CHECK_THROWS_AS(TextGenerator(std::move(model)), ShapeError);
}

TEST_CASE("a generator that was moved from says so, and the one it became goes on") {
  TextGenerator writer(model_of(2), {.seed = 3}), stayed(model_of(2), {.seed = 3});
  writer.read("ab");
  stayed.read("ab");
  TextGenerator moved = std::move(writer);
  CHECK_THROWS_WITH(writer.read("a"), test::contains("TextGenerator: the generator is moved from"));
  CHECK_THROWS_AS(writer.read(Tensor<Token, 1>({1}).view()), DomainError);
  CHECK_THROWS_AS(writer.next(), DomainError);
  CHECK_THROWS_AS(writer.write(1), DomainError);
  CHECK(moved.write(10) == stayed.write(10));
}

TEST_CASE("a few steps of training learn a repeated text") {
  MambaLM<float> model(mamba_lm_config(256, 1, {.width = 16, .state = 4}));
  initialize(model, 3);
  TextTrainerOptions options{.batch = 4, .streams = {.length = 24}};
  options.trainer.schedule = {.peak = 1e-2, .warmup = 5, .steps = 120};
  options.trainer.average = 0.9;
  TextTrainer<MambaLM<float>> trainer(model, options);
  double first = 0, last = 0;
  for (int i = 0; i < 120; ++i) {
    last = trainer.step(cpu, bytes()).loss;
    if (i == 0) first = last;
  }
  CHECK(trainer.steps() == 120);
  CHECK(last < 0.3 * first);
  TextGenerator writer(trainer.trainer.best(), {.temperature = 0});
  writer.read("the cat sat on the ");
  CHECK(writer.write(3) == "mat");
}

TEST_CASE("a step whose loss is not finite is forgotten: sound weights go on") {
  TextTrainerOptions options{.batch = 2, .streams = {.length = 16}};
  TextTrainer<MambaLM<float>> trainer(model_of(4), options);
  CHECK(trainer.step(cpu, bytes()).finite);
  auto& weight = trainer.trainer.model.backbone.layers[0].mixer.in_proj(0, 0);
  const float sound = weight;
  weight = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(trainer.step(cpu, bytes()).finite);
  CHECK(trainer.steps() == 1);
  weight = sound;
  for (int i = 0; i < 5; ++i) CHECK(trainer.step(cpu, bytes()).finite);
}

TEST_CASE("options that no run could have are refused when it is made") {
  const auto make = [](const TextTrainerOptions& options) {
    TextTrainer<MambaLM<float>>(model_of(5), options);
  };
  TextTrainerOptions options;
  make(options);
  options.streams.latest_of = 0;
  CHECK_THROWS_AS(make(options), DomainError);
  options = {};
  options.batch = 0;
  CHECK_THROWS_AS(make(options), DomainError);
  options = {};
  options.dropout = 1;
  CHECK_THROWS_AS(make(options), DomainError);
  options = {};
  options.streams.rename = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(make(options), DomainError);
  options = {};
  options.trainer.max_norm = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(make(options), DomainError);
}

TEST_CASE("a model that would read the text from its end as well is not trained on text") {
  using Model = LanguageModel<Residual<S4d<float>>>;
  for (const bool bidirectional : {false, true}) {
    const Residual<S4d<float>>::Config layer{
        {.width = 4, .state = 2, .bidirectional = bidirectional}, 1e-5};
    const auto make = [&] {
      TextTrainer<Model>(Model(Model::Config{.vocab = 256, .backbone = {1, layer}}), {});
    };
    if (bidirectional)
      CHECK_THROWS_WITH(make(),
                        "TextTrainer: model is bidirectional, expected one direction, as what is "
                        "to come is not known");
    else
      CHECK_NOTHROW(make());
  }
}

TEST_CASE("options that no run could have are refused at a step, before anything has changed") {
  TextTrainer<MambaLM<float>> trainer(model_of(6), {.batch = 2, .streams = {.length = 16}});
  CHECK(trainer.step(cpu, bytes()).finite);
  const auto refuses = [&](auto&& spoil) {
    const TextTrainerOptions sound = trainer.options;
    const auto model = trainer.trainer.model;
    const auto positions = trainer.streams.positions;
    spoil(trainer.options);
    CHECK_THROWS_AS(trainer.step(cpu, bytes()), DomainError);
    CHECK(trainer.steps() == 1);
    CHECK(trainer.streams.positions == positions);
    CHECK(ssm::test::same_bits(trainer.trainer.model.embedding, model.embedding));
    trainer.options = sound;
  };
  for (const Index batch : {1, 3, 4})
    refuses([&](TextTrainerOptions& options) { options.batch = batch; });
  refuses([](TextTrainerOptions& options) { options.trainer.average = 2; });
  refuses([](TextTrainerOptions& options) { options.trainer.adamw.beta1 = 2; });
  refuses([](TextTrainerOptions& options) { options.streams.length = 0; });
  CHECK(trainer.step(cpu, bytes()).finite);
}
