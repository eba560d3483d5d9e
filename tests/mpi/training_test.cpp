#include <cmath>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "mpi/over_ranks.hpp"
#include "ssm/io/training_checkpoint.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/train/text_trainer.hpp"
#include "ssm/train/trainer.hpp"
#include "support/temp_directory.hpp"

namespace training_test {

using namespace ssm;
using test::Random;
using test::world;

namespace {

using Block = Residual<Mamba<double>>;
using Model = LanguageModel<Block>;
using Run = TextTrainer<Model>;

std::vector<unsigned char> some_text() {
  Random random(31);
  std::vector<unsigned char> text(300);
  for (unsigned char& byte : text)
    byte = static_cast<unsigned char>("ABcde fgh"[random.integer(0, 8)]);
  return text;
}

/// Streams that jump, read renamed names and wrap around.
Run start(Index batch, Index length) {
  Model model(
      {.vocab = 128, .backbone = StackConfig<Block>(2, {.mixer = {.width = 12, .state = 3}})});
  initialize(model, 3);
  TextTrainerOptions options;
  options.batch = batch;
  options.streams = {.length = length, .seed = 5, .jump_interval = 4, .rename = 0.5};
  options.trainer = {
      .schedule = {.peak = 1e-2, .warmup = 2, .steps = 8}, .max_norm = 0.5, .average = 0.9};
  return Run(std::move(model), options);
}

template <class Backend>
std::vector<double> losses(const Backend& backend, Run& run, int steps) {
  const auto text = some_text();
  std::vector<double> losses;
  for (int i = 0; i < steps; ++i) {
    const TrainingReport report = run.step(backend, text);
    REQUIRE(report.finite);
    losses.push_back(report.loss);
    losses.push_back(report.gradient_norm);
  }
  return losses;
}

/// Adam divides gradients by their size, also those that are rounding alone.
void check_same_run(Run& got, Run& want, double bound) {
  CHECK(got.steps() == want.steps());
  CHECK(got.streams.positions == want.streams.positions);
  CHECK(got.streams.starts == want.streams.starts);
  test::Results results, expected;
  for (const auto& [run, to] : {std::pair{&got, &results}, std::pair{&want, &expected}}) {
    test::add_results(*to, run->trainer.model);
    test::detail::add_state(*to, "carried", run->carried);
  }
  test::check_agree(results, expected, bound);
  parameters(got.trainer.average, [](const auto&, const auto& tensor, const auto&, bool) {
    CHECK(test::same_on_every_rank(tensor));
  });
  parameters(got.trainer.model, [](const auto&, const auto& tensor, const auto&, bool) {
    CHECK(test::same_on_every_rank(tensor));
  });
  tensors(got.carried,
          [](std::string_view, const auto& tensor) { CHECK(test::same_on_every_rank(tensor)); });
}

void check_losses(const std::vector<double>& got, const std::vector<double>& want, double bound) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(want[i]).epsilon(bound));
}

}  // namespace

TEST_CASE("a text trainer over ranks makes the steps of one cpu, and the same on every rank") {
  const auto backend = ranks(world(), cpu(1));
  for (const Index length : {24, 17, 1}) {  // of one byte all ranks but the first have none
    INFO("length " << length);
    Run whole = start(3, length), run = start(3, length);
    const auto want = losses(cpu(1), whole, 4), got = losses(backend, run, 4);
    check_losses(got, want, 1e-9);
    check_same_run(run, whole, 1e-7);
  }
}

TEST_CASE("in a grid, text trainers share the streams and cut them, and have every state") {
  const int size = world().size();
  for (int time_ranks = 1; time_ranks < size; ++time_ranks) {
    if (size % time_ranks != 0) continue;
    Grid grid(world(), time_ranks);
    const auto backend = ranks(grid, cpu(1));
    for (const Index batch : {5, 1}) {  // of one stream all rows but the first have none
      INFO(grid.rows() << " rows of " << time_ranks << " ranks, " << batch << " streams");
      Run whole = start(batch, 13), run = start(batch, 13);
      const auto want = losses(cpu(1), whole, 3), got = losses(backend, run, 3);
      check_losses(got, want, 1e-9);
      check_same_run(run, whole, 1e-7);
    }
  }
}

TEST_CASE("a run goes on from a file with another number of ranks") {
  const auto backend = ranks(world(), cpu(1));
  Run whole = start(3, 20);
  const auto want = losses(cpu(1), whole, 4);
  for (const bool alone_first : {true, false}) {
    INFO((alone_first ? "one cpu, then ranks" : "ranks, then one cpu"));
    Run first = start(3, 20);
    auto got = alone_first ? losses(cpu(1), first, 2) : losses(backend, first, 2);
    const test::TempDirectory directory;
    save_training(directory / "half-way", first);  // each rank its own
    Run second = load_training<Model>(directory / "half-way").run;
    const auto rest = alone_first ? losses(backend, second, 2) : losses(cpu(1), second, 2);
    got.insert(got.end(), rest.begin(), rest.end());
    check_losses(got, want, 1e-9);
    check_same_run(second, whole, 1e-7);
  }
}

TEST_CASE("a step that is not finite is left out on every rank, and its streams start anew") {
  const auto backend = ranks(world(), cpu(1));
  Run run = start(2, 16);
  losses(backend, run, 1);
  auto& weight = run.trainer.model.embedding(Index{'c'}, 0);
  const double sound = weight;
  weight = std::numeric_limits<double>::quiet_NaN();
  const TrainingReport report = run.step(backend, some_text());
  CHECK_FALSE(report.finite);
  CHECK(run.steps() == 1);
  weight = sound;
  tensors(run.carried, [](std::string_view, const auto& tensor) {
    CHECK(test::same_on_every_rank(tensor));
    for (const double x : tensor) CHECK(std::isfinite(x));
  });
  losses(backend, run, 3);
  parameters(run.trainer.model, [](const auto&, const auto& tensor, const auto&, bool) {
    CHECK(test::same_on_every_rank(tensor));
  });
}

TEST_CASE("steps in pieces, each across the ranks, are those of one cpu in one piece") {
  const int size = world().size();
  Grid grid(world(), size % 2 == 0 ? size / 2 : size);
  for (const auto& backend : {ranks(world(), cpu(1)), ranks(grid, cpu(1))}) {
    const Index length = 7 * size + 3;
    INFO("length " << length << " over " << time_ranks(backend) << " of " << size);
    Run whole = start(3, length), run = start(3, length);
    run.options.pieces = {.length = 3, .states = 2};
    const auto want = losses(cpu(1), whole, 2), got = losses(backend, run, 2);
    check_losses(got, want, 1e-9);
    check_same_run(run, whole, 1e-7);
  }
}

}  // namespace training_test
