#include "ssm/io/training_checkpoint.hpp"

#if !defined(_WIN32)
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s4d_step.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

using ssm::FileError;
using ssm::Index;
using ssm::test::contains;
using ssm::test::TempDirectory;

namespace {

constexpr ssm::MambaLMConfig config{.width = 8, .layers = 2, .state = 4};

using Model = ssm::MambaLM<float>;
using Run = ssm::TextTrainer<Model>;

ssm::TextTrainerOptions options(double average) {
  ssm::TextTrainerOptions o;
  o.batch = 3;
  o.streams = {.length = 9,
               .seed = (std::uint64_t{1} << 63) + 12345,
               .jump_interval = 4,
               .latest_of = 2,
               .rename = 0.5};
  o.trainer.schedule = {.peak = 1.0 / 300, .warmup = 2, .steps = 6, .final_fraction = 0.1};
  o.dropout = 0.2;
  o.trainer.average = average;
  return o;
}

std::vector<unsigned char> some_text() {
  ssm::test::Random random(9);
  std::vector<unsigned char> text(200);
  for (unsigned char& byte : text)
    byte = static_cast<unsigned char>("ABcde fgh"[random.integer(0, 8)]);
  return text;
}

Run started(double average) {
  return ssm::start_training<Model>(ssm::mamba_lm_config(config), options(average));
}

double run(Run& trainer, int steps, int threads) {
  const std::vector<unsigned char> text = some_text();
  double loss = 0;
  for (int i = 0; i < steps; ++i) {
    const ssm::TrainingReport report = trainer.step(ssm::cpu(threads), text);
    REQUIRE(report.finite);
    loss = report.loss;
  }
  return loss;
}

}  // namespace

TEST_CASE("a run that is saved and resumed half-way ends with the bits of one that is not") {
  for (double average : {0.0, 0.9}) {
    const TempDirectory directory;
    auto whole = started(average);
    const double loss = run(whole, 6, 1);
    ssm::save_training(directory / "whole", whole);

    auto first = started(average);
    run(first, 3, 2);
    ssm::save_training(directory / "half-way", first);
    auto checkpoint = ssm::load_training<Model>(directory / "half-way");
    Run second = std::move(checkpoint.run);
    CHECK(run(second, 3, 2) == loss);
    ssm::save_training(directory / "resumed", second);

    // The files hold weights, moments, average, carried state, positions, step and options.
    CHECK(ssm::test::read_bytes(directory / "resumed") ==
          ssm::test::read_bytes(directory / "whole"));
    CHECK(ssm::test::read_bytes(directory / "half-way") !=
          ssm::test::read_bytes(directory / "whole"));
  }
}

TEST_CASE("training learns: the loss falls, and the average follows the weights") {
  auto trainer = started(0.9);
  trainer.options.dropout = 0;
  trainer.options.trainer.schedule = {
      .peak = 1e-2, .warmup = 0, .steps = 1000, .final_fraction = 1};
  const double before = run(trainer, 1, 0);
  const double after = run(trainer, 60, 0);
  CHECK(before > 5);   // log 256 = 5.5
  CHECK(after < 2.5);  // nine equally likely bytes: log 9 = 2.2
  CHECK(&trainer.trainer.best() == &trainer.trainer.average);
  CHECK(ssm::test::relative_error(trainer.trainer.average.embedding,
                                  trainer.trainer.model.embedding) < 0.5);
}

TEST_CASE("a run on tokens goes on from its file, and keeps a tokenizer beside its model") {
  ssm::MambaLMConfig larger = config;
  larger.vocab = 1000;
  ssm::TextTrainerOptions how = options(0);
  how.streams.rename = 0;
  auto trainer = ssm::start_training<Model>(ssm::mamba_lm_config(larger), how);
  std::vector<ssm::Token> text;
  for (const unsigned char byte : some_text()) text.push_back(900 - byte);
  const auto step = [&](Run& of) { return of.step(ssm::cpu(1), text).loss; };
  CHECK(step(trainer) > 6);  // log 1000 = 6.9
  const TempDirectory directory;
  const auto tokenizer = directory / "run/tokenizer.json";
  ssm::save_run(directory / "run", trainer, {}, ssm::DType::F32, "{}\n");
  CHECK(ssm::test::read_bytes(tokenizer) == "{}\n");
  ssm::save_run(directory / "run", trainer);
  CHECK(ssm::test::read_bytes(tokenizer) == "{}\n");
  Run second = ssm::load_training<Model>(directory / "run/training.safetensors").run;
  CHECK(step(second) == step(trainer));
  ssm::save_run(directory / "run", trainer, {}, ssm::DType::F32, "");
  CHECK_FALSE(std::filesystem::exists(tokenizer));
  text[100] = 1000;
  CHECK_THROWS_AS(
      [&] {
        for (int i = 0; i < 50; ++i) step(trainer);
      }(),
      ssm::DomainError);
}

TEST_CASE("a loss that is no number changes no weight") {
  auto trainer = started(0);
  run(trainer, 1, 0);
  trainer.trainer.model.norm(0) = std::numeric_limits<float>::quiet_NaN();
  const auto embedding = trainer.trainer.model.embedding;
  const ssm::TrainingReport report = trainer.step(ssm::cpu, some_text());
  CHECK_FALSE(report.finite);
  CHECK(trainer.steps() == 1);
  CHECK(ssm::test::same_bits(trainer.trainer.model.embedding, embedding));
}

TEST_CASE("a checkpoint keeps its notes, and refuses to be what it is not") {
  const TempDirectory directory;
  auto trainer = started(0);
  run(trainer, 1, 0);
  ssm::save_training(directory / "run", trainer, {{"text", "a book"}});
  CHECK(ssm::load_training<Model>(directory / "run").notes ==
        std::map<std::string, std::string>{{"text", "a book"}});

  ssm::save_mamba_lm(directory.path(), trainer.trainer.model);
  CHECK_THROWS_AS(ssm::load_training<Model>(directory / "model.safetensors"), FileError);
  CHECK_THROWS_AS(ssm::load_training<Model>(directory / "missing"), FileError);
}

TEST_CASE("a checkpoint with any bytes of its header changed is loaded or refused") {
  const TempDirectory directory;
  auto trainer = started(0.9);
  ssm::save_training(directory / "run", trainer);
  const std::string good = ssm::test::read_bytes(directory / "run");
  const std::size_t metadata_end = good.find("\"format\\\"") + 800;
  ssm::test::Random random(11);
  int refused = 0;
  for (int trial = 0; trial < 300; ++trial) {
    std::string bytes = good;
    for (int change = 0; change < 2; ++change)
      bytes[static_cast<std::size_t>(random.integer(0, static_cast<Index>(metadata_end)))] =
          "0123456789-.e{}[]\",:"[random.integer(0, 19)];
    try {
      (void)ssm::load_training<Model>(directory.write("bad", bytes));
    } catch (const FileError&) {
      ++refused;
    }
  }
  CHECK(refused > 100);
}

TEST_CASE("a run in pieces learns what one of whole steps does, and goes on from its file") {
  auto whole = started(0.9), pieces = started(0.9);
  whole.options.dropout = pieces.options.dropout = 0;  // its masks differ
  pieces.options.pieces = {.length = 4, .states = 3};
  for (int step = 0; step < 3; ++step) {
    const double want = run(whole, 1, 1);
    CHECK(run(pieces, 1, 2) == Approx(want).epsilon(1e-5));
  }
  CHECK(ssm::test::relative_error(pieces.trainer.model.embedding, whole.trainer.model.embedding) <
        1e-3);

  const TempDirectory directory;
  ssm::save_training(directory / "run", pieces);
  auto second = ssm::load_training<Model>(directory / "run").run;
  CHECK(second.options.pieces.length == 4);
  CHECK(second.options.pieces.states == 3);
  run(pieces, 2, 1);
  run(second, 2, 1);
  ssm::save_training(directory / "pieces", pieces);
  ssm::save_training(directory / "second", second);
  CHECK(ssm::test::read_bytes(directory / "pieces") == ssm::test::read_bytes(directory / "second"));
}

TEST_CASE("a run of any layers goes on from its file, states of complex numbers among them") {
  using Mixed = ssm::LanguageModel<
      ssm::OneOf<ssm::Residual<ssm::Mamba<float>>, ssm::S4Block<ssm::S4d<float>>>>;
  Mixed::Config mixed{
      .vocab = 256,
      .backbone = {2, {ssm::ResidualConfig<ssm::Mamba<float>>{.mixer = {.width = 6, .state = 3}}}}};
  mixed.backbone.layers[1].kind =
      ssm::S4Block<ssm::S4d<float>>::Config{.mixer = {.mixer = {.width = 6, .state = 4}}};
  const auto steps = [](ssm::TextTrainer<Mixed>& trainer, int count) {
    const std::vector<unsigned char> text = some_text();
    for (int i = 0; i < count; ++i) REQUIRE(trainer.step(ssm::cpu(1), text).finite);
  };
  const TempDirectory directory;
  auto whole = ssm::start_training<Mixed>(mixed, options(0.9));
  steps(whole, 3);
  ssm::save_run(directory / "run", whole);
  auto second = ssm::load_training<Mixed>(directory / "run/training.safetensors").run;
  steps(whole, 2);
  steps(second, 2);
  ssm::save_training(directory / "whole", whole);
  ssm::save_training(directory / "second", second);
  CHECK(ssm::test::read_bytes(directory / "whole") == ssm::test::read_bytes(directory / "second"));
  CHECK(ssm::load<Mixed>(directory / "run/model.safetensors").config == mixed);
}

TEST_CASE("a number of steps that none can be is refused, not used as a position") {
  using Model = ssm::LanguageModel<ssm::Residual<ssm::Attention<float>>>;
  const Model::Config config{.vocab = 256,
                             .backbone = {1, {.mixer = {.width = 6, .heads = 1, .window = 5}}}};
  auto trainer = ssm::start_training<Model>(config, options(0));
  REQUIRE(trainer.step(ssm::cpu(1), some_text()).finite);
  const TempDirectory directory;
  for (const Index none : {Index{-1}, (std::numeric_limits<Index>::max)() - 2}) {
    trainer.carried.layers[0].steps(0) = none;
    ssm::save_training(directory / "run", trainer);
    CHECK_THROWS_WITH(ssm::load_training<Model>(directory / "run"),
                      contains("carried.0.steps is no number of steps"));
  }
}

TEST_CASE("options at the edge of their range come back") {
  const TempDirectory directory;
  auto trainer = started(0);
  trainer.options.trainer.max_norm = std::numeric_limits<double>::infinity();
  ssm::save_training(directory / "run", trainer);
  const auto loaded = ssm::load_training<Model>(directory / "run").run.options;
  CHECK(loaded.trainer.max_norm == trainer.options.trainer.max_norm);
}

TEST_CASE("sizes are believed only as far as the file bears them out") {
  const TempDirectory directory;
  auto trainer = started(0.9);
  ssm::save_training(directory / "run", trainer);
  std::string training = ssm::SafetensorsReader(directory / "run").metadata().at("training");
  // A width whose parameters the bytes would bear out, but not the tensors.
  for (const std::string name : {"\"width\": ", "\"channels\": "})
    for (std::size_t at = 0; (at = training.find(name + "8", at)) != std::string::npos; ++at)
      training.replace(at, name.size() + 1, name + "100000");
  const ssm::Tensor<std::uint8_t, 1> bytes({40'000'000});
  ssm::SafetensorsWriter writer;
  writer.metadata["training"] = training;
  writer.add("bytes", bytes);
  writer.save(directory / "large");
  CHECK_THROWS_WITH(ssm::load_training<Model>(directory / "large"), contains("streams.positions"));

  writer.metadata["training"] = "{\"a\": " + std::string(2'000'000, '[');
  writer.save(directory / "deep");
  CHECK_THROWS_WITH(ssm::load_training<Model>(directory / "deep"), contains("expected at most"));
}

#if !defined(_WIN32)

TEST_CASE("a run killed while it saves goes on from what is no older than the model beside it") {
  const TempDirectory directory;
  auto trainer = started(0);
  // The number of the save stands in a weight.
  const auto save = [&](int number) {
    trainer.trainer.optimizer.step = number;
    trainer.trainer.model.norm(0) = static_cast<float>(number);
    ssm::save_run(directory / "run", trainer);
  };
  save(0);
  for (int trial = 0; trial < 15; ++trial) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0)
      for (int number = 1 + 1000 * trial;; ++number) save(number);
    ::usleep(static_cast<useconds_t>(20'000 + 3771 * trial));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const auto run = ssm::load_training<Model>(directory / "run/training.safetensors").run;
    const auto model = ssm::load_mamba_lm(directory / "run");
    CHECK(run.trainer.model.norm(0) == static_cast<float>(run.steps()));
    CHECK((model.norm(0) == static_cast<float>(run.steps()) || run.steps() == 1 + 1000 * trial ||
           model.norm(0) == static_cast<float>(run.steps() - 1)));
  }
}

#endif
