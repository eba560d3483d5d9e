#include "ssm/io/training_checkpoint.hpp"

#if !defined(_WIN32)
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

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

ssm::TrainingOptions options(double average) {
  ssm::TrainingOptions o;
  o.batch = 3;
  o.streams = {.length = 9,
               .seed = (std::uint64_t{1} << 63) + 12345,
               .jump_interval = 4,
               .latest_of = 2,
               .rename = 0.5};
  o.schedule = {.peak = 1.0 / 300, .warmup = 2, .steps = 6, .final_fraction = 0.1};
  o.dropout = 0.2;
  o.average = average;
  return o;
}

std::vector<unsigned char> some_text() {
  ssm::test::Random random(9);
  std::vector<unsigned char> text(200);
  for (unsigned char& byte : text)
    byte = static_cast<unsigned char>("ABcde fgh"[random.integer(0, 8)]);
  return text;
}

ssm::MambaLMTrainer<float> started(double average) {
  ssm::MambaLMTrainer<float> trainer;
  trainer.options = options(average);
  trainer.state = ssm::start_training<float>(config, trainer.options);
  return trainer;
}

double run(ssm::MambaLMTrainer<float>& trainer, int steps, int threads) {
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
    ssm::save_training(directory / "whole", whole.state, whole.options);

    auto first = started(average);
    run(first, 3, 2);
    ssm::save_training(directory / "half-way", first.state, first.options);
    auto checkpoint = ssm::load_training<float>(directory / "half-way");
    ssm::MambaLMTrainer<float> second;
    second.state = std::move(checkpoint.state);
    second.options = checkpoint.options;
    CHECK(run(second, 3, 2) == loss);
    ssm::save_training(directory / "resumed", second.state, second.options);

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
  trainer.options.schedule = {.peak = 1e-2, .warmup = 0, .steps = 1000, .final_fraction = 1};
  const double before = run(trainer, 1, 0);
  const double after = run(trainer, 60, 0);
  CHECK(before > 5);   // log 256 = 5.5
  CHECK(after < 2.5);  // nine equally likely bytes: log 9 = 2.2
  CHECK(&trainer.state.best(trainer.options) == &trainer.state.average);
  CHECK(ssm::test::relative_error(trainer.state.average.embedding,
                                  trainer.state.weights.embedding) < 0.5);
}

TEST_CASE("a loss that is no number changes no weight") {
  auto trainer = started(0);
  run(trainer, 1, 0);
  trainer.state.weights.final_norm(0) = std::numeric_limits<float>::quiet_NaN();
  const auto embedding = trainer.state.weights.embedding;
  const ssm::TrainingReport report = trainer.step(ssm::cpu, some_text());
  CHECK_FALSE(report.finite);
  CHECK(trainer.state.step == 1);
  CHECK(ssm::test::same_bits(trainer.state.weights.embedding, embedding));
}

TEST_CASE("a checkpoint keeps its notes, and refuses to be what it is not") {
  const TempDirectory directory;
  auto trainer = started(0);
  run(trainer, 1, 0);
  ssm::save_training(directory / "run", trainer.state, trainer.options, {{"text", "a book"}});
  CHECK(ssm::load_training<float>(directory / "run").notes ==
        std::map<std::string, std::string>{{"text", "a book"}});

  ssm::save_mamba_lm(directory.path(), trainer.state.weights);
  CHECK_THROWS_AS(ssm::load_training<float>(directory / "model.safetensors"), FileError);
  CHECK_THROWS_AS(ssm::load_training<float>(directory / "missing"), FileError);
}

TEST_CASE("a checkpoint with any bytes of its header changed is loaded or refused") {
  const TempDirectory directory;
  auto trainer = started(0.9);
  ssm::save_training(directory / "run", trainer.state, trainer.options);
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
      (void)ssm::load_training<float>(directory.write("bad", bytes));
    } catch (const FileError&) {
      ++refused;
    }
  }
  CHECK(refused > 100);
}

TEST_CASE("options at the edge of their range come back") {
  const TempDirectory directory;
  auto trainer = started(0);
  trainer.options.max_norm = std::numeric_limits<double>::infinity();
  trainer.options.streams.latest_of = 0;
  ssm::save_training(directory / "run", trainer.state, trainer.options);
  const auto loaded = ssm::load_training<float>(directory / "run").options;
  CHECK(loaded.max_norm == trainer.options.max_norm);
  CHECK(loaded.streams.latest_of == 0);
}

TEST_CASE("sizes are believed only as far as the file bears them out") {
  const TempDirectory directory;
  auto trainer = started(0.9);
  ssm::save_training(directory / "run", trainer.state, trainer.options);
  std::string training = ssm::SafetensorsReader(directory / "run").metadata().at("training");
  const auto swap = [&](const std::string& from, const std::string& to) {
    training.replace(training.find(from), from.size(), to);
  };
  // Layers so small that the bytes would bear them out, but not the tensors.
  swap("\"d_model\": 8", "\"d_model\": 1");
  swap("\"n_layer\": 2", "\"n_layer\": 100000");
  const ssm::Tensor<std::uint8_t, 1> bytes({40'000'000});
  ssm::SafetensorsWriter writer;
  writer.metadata["training"] = training;
  writer.add("bytes", bytes);
  writer.save(directory / "large");
  CHECK_THROWS_WITH(ssm::load_training<float>(directory / "large"),
                    contains("too few for the 100000 layers"));

  writer.metadata["training"] = "{\"a\": " + std::string(2'000'000, '[');
  writer.save(directory / "deep");
  CHECK_THROWS_WITH(ssm::load_training<float>(directory / "deep"), contains("expected at most"));
}

#if !defined(_WIN32)

TEST_CASE("a run killed while it saves goes on from what is no older than the model beside it") {
  const TempDirectory directory;
  auto trainer = started(0);
  // The number of the save stands in a weight.
  const auto save = [&](int number) {
    trainer.state.step = number;
    trainer.state.weights.final_norm(0) = static_cast<float>(number);
    ssm::save_run(directory / "run", trainer.state, trainer.options);
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
    const auto run = ssm::load_training<float>(directory / "run/training.safetensors").state;
    const auto model = ssm::load_mamba_lm(directory / "run");
    CHECK(run.weights.final_norm(0) == static_cast<float>(run.step));
    CHECK((model.final_norm(0) == static_cast<float>(run.step) || run.step == 1 + 1000 * trial ||
           model.final_norm(0) == static_cast<float>(run.step - 1)));
  }
}

#endif
