#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "run.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/tokens.hpp"
#include "ssm/train/groups.hpp"
#include "ssm/train/trainer.hpp"

/// What programs share that train a classifier of sequences and judge it. Their data have count(),
/// the number of sequences, and take(order, first, batch, every, sequences, labels), which makes a
/// batch of every so many-th step of those sequences.
namespace classifying {

using job::format;
using job::interrupted;
using ssm::Index;
using ssm::Tensor;
using ssm::Token;

// --- A run that can go on -----------------------------------------------------------------------

/// How a run trains; `only` is how many of the sequences it sees, 0 for all.
struct Training {
  std::string mixer = "s4d";
  Index width = 64, state = 32, layers = 3, epochs = 8, batch = 50, only = 0;
  Index coarse = 0;  ///< epochs, the first ones, that read every second step only
  double learning_rate = 4e-3, weight_decay = 0.05, dropout = 0.1;
  double system_rate = 1;  ///< learning rate of Λ, P, Δ and B over that of the rest
  std::uint64_t seed = 1;

  /// What a run cannot change on its way.
  [[nodiscard]] auto fixed() const { return std::tie(mixer, width, state, layers, batch, only); }
};
template <class Visit>
void fields(Training& t, Visit&& visit) {
  visit("mixer", t.mixer);
  visit("width", t.width);
  visit("state", t.state);
  visit("layers", t.layers);
  visit("epochs", t.epochs);
  visit("batch", t.batch);
  visit("only", t.only);
  visit("learning_rate", t.learning_rate);
  visit("weight_decay", t.weight_decay);
  visit("dropout", t.dropout);
  visit("system_rate", t.system_rate, ssm::Field::optional);
  visit("seed", t.seed);
  visit("coarse", t.coarse, ssm::Field::optional);
}

template <class Model>
using Run = ::Run<Model, Training>;

/// What the command line says of a run.
struct Job {
  std::string path;  ///< of the model
  Training training;
  int threads = 0;
  bool resume = false, overwrite = false;

  /// Adds the options of a command that trains.
  void add_options(options::Command& command) {
    const auto add = [&](const char* name, auto& value, double least, double most,
                         const char* what = "") {
      command.add(name, value, what).check(options::between(least, most)).show_default();
    };
    Training& t = training;
    command.add("--out", path, "file for the model").required();
    add("--width", t.width, 1, 65536);
    add("--state", t.state, 2, 65536, "of s4 and s4d (each channel) and s5 (all together), even");
    add("--layers", t.layers, 1, 1000);
    add("--epochs", t.epochs, 1, 65536);
    add("--coarse", t.coarse, 0, 65536,
        "of the epochs, so many read every second step, with Δ doubled: half the work");
    add("--batch", t.batch, 1, 65536);
    add("--lr", t.learning_rate, 0, 10);
    add("--system-lr", t.system_rate, 0, 10, "of Δ, Λ, P and B, over that of the rest");
    add("--weight-decay", t.weight_decay, 0, 10);
    add("--dropout", t.dropout, 0, 0.9);
    add("--seed", t.seed, 0, 1.8e19);
    add_resume(command, resume, overwrite);
  }
};

/// So many of what there is; 0: all.
inline Index count_of(Index wanted, Index there) {
  return wanted > 0 ? std::min(wanted, there) : there;
}

/// The kind of the model, or of the run, in a file of such a program.
inline std::string kind_in(const std::filesystem::path& path) {
  const ssm::SafetensorsReader file(path);
  const auto found = file.metadata().find("mixer");
  if (found == file.metadata().end())
    throw std::runtime_error(path.string() + ": is not a model of this program");
  return found->second;
}

// --- The work -----------------------------------------------------------------------------------

inline std::vector<Index> in_order(Index count) {
  std::vector<Index> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), Index{0});
  return order;
}

inline bool names_rightly(const Tensor<float, 2>& logits, const Tensor<Token, 1>& labels, Index b) {
  const float* row = &logits(b, 0);
  return std::all_of(row, row + logits.extent(1), [](float x) { return std::isfinite(x); }) &&
         std::max_element(row, row + logits.extent(1)) - row == labels(b);
}

/// The part of the sequences that the model names rightly. `reading` is how it reads them.
template <class Model, class Data, class Each>
double accuracy(const ssm::Cpu& cpu, const Model& model, const Data& tests, Index count,
                Index every, const ssm::LayerOptions<>& reading, Each&& each) {
  const std::vector<Index> order = in_order(count);
  typename Model::Scratch scratch;
  Tensor<float, 3> sequences;
  Tensor<Token, 1> labels;
  Tensor<float, 2> logits;
  Index right = 0;
  for (Index first = 0; first < count && interrupted == 0; first += sequences.extent(0)) {
    tests.take(order, first, std::min<Index>(100, count - first), every, sequences, labels);
    logits.resize({labels.size(), model.config.classes});
    forward(cpu, model, sequences, logits, reading, scratch);
    for (Index b = 0; b < labels.size(); ++b) right += names_rightly(logits, labels, b);
    each(first + labels.size(), right);
  }
  return static_cast<double>(right) / static_cast<double>(std::max<Index>(count, 1));
}

template <class Model>
void save(const Job& a, Run<Model>& run) {
  run.config.step = run.trainer.steps();
  const ssm::SaveOptions kind{.matrices = {}, .metadata = {{"mixer", a.training.mixer}}};
  ssm::save(checkpoint_of(a.path), run, kind);  // first: it is never older than the model beside it
  ssm::save(a.path, run.trainer.best(), kind);
}

/// Trains until the epochs are over or somebody interrupts.
/// @param many what a message calls the sequences
/// @param reading (every, dropout) how the model reads every so many-th step of them
template <class Model, class Data, class Reading>
int train(const Job& a, Run<Model> run, const Data& all, const Data& tests, const char* many,
          const Reading& reading) {
  const Training& t = run.config.options = a.training;
  const ssm::Cpu cpu = ssm::cpu(a.threads);
  const Index count = count_of(t.only, all.count()), tested = count_of(t.only, tests.count());
  const Index steps = count / t.batch, last = t.epochs * steps;
  if (steps == 0) throw std::runtime_error(format("there are fewer %s than --batch", many));
  ssm::Trainer<Model>& trainer = run.trainer;
  trainer.options = {.schedule = {.peak = t.learning_rate,
                                  .warmup = std::min<Index>(500, steps / 2),
                                  .steps = last,
                                  .final_fraction = 0.01},
                     .adamw = {.beta2 = 0.99, .weight_decay = t.weight_decay},
                     .average = 0.998};
  if (t.system_rate != 1)
    trainer.groups = ssm::SystemGroups{.learning_rate = t.system_rate, .rest_decays = false};
  trainer.optimizer.step = run.config.step;
  std::printf("%s: %lld parameters, %lld %s\n", t.mixer.c_str(),
              static_cast<long long>(ssm::parameter_count(trainer.model)),
              static_cast<long long>(count), many);
  std::fflush(stdout);
  save(a, run);  // what cannot be written fails now, not after hours

  job::end_in_order_on_interrupt();
  std::vector<Index> order = in_order(count);
  std::mt19937_64 engine(t.seed);
  Tensor<float, 3> sequences;
  Tensor<Token, 1> labels;
  typename Model::Scratch scratch;
  const job::Stopwatch watch;
  Progress progress("step", last);
  const Index first = trainer.steps();
  for (Index epoch = 0; epoch < t.epochs && interrupted == 0; ++epoch) {
    for (std::size_t i = order.size(); i > 1; --i)  // Fisher-Yates: the same order everywhere
      std::swap(order[i - 1], order[engine() % i]);
    if (trainer.steps() >= (epoch + 1) * steps) continue;  // done before the run was resumed
    const Index every = epoch < t.coarse ? 2 : 1;
    double sum = 0;
    Index seen = 0;
    while (trainer.steps() < (epoch + 1) * steps && interrupted == 0) {
      const Index step = trainer.steps();
      all.take(order, (step - epoch * steps) * t.batch, t.batch, every, sequences, labels);
      const ssm::Dropout dropout{t.dropout, t.seed + static_cast<std::uint64_t>(step)};
      const auto report = trainer.step(cpu, [&](const Model& model, Model& gradients) {
        return loss(cpu, model, sequences, labels, gradients, reading(every, dropout), scratch);
      });
      if (!report.finite)
        throw std::runtime_error(
            format("step %lld: the loss is %g, expected a finite number; try "
                   "a lower --lr",
                   static_cast<long long>(step + 1), std::abs(report.loss)));
      sum += report.loss;
      progress.update(
          step + 1,
          format("epoch %lld  loss %.4f  %.0f %s/s", static_cast<long long>(epoch + 1),
                 sum / static_cast<double>(++seen),
                 static_cast<double>((step + 1 - first) * t.batch) / watch.seconds(), many));
    }
    progress.finish();
    save(a, run);
    if (interrupted != 0) break;
    const double right =
        accuracy(cpu, trainer.best(), tests, tested, 1, reading(1, {}), [](Index, Index) {});
    std::printf("epoch %lld  loss %.4f  test accuracy %.2f%%  %.0f s\n",
                static_cast<long long>(epoch + 1), sum / static_cast<double>(seen), 100 * right,
                watch.seconds());
    std::fflush(stdout);
  }
  std::printf("saved %s%s\n", a.path.c_str(),
              interrupted != 0 ? ", the weights so far; --resume goes on" : "");
  return interrupted != 0 ? job::exit_interrupted : 0;
}

/// Begins the run of a job, or goes on with it: work(model, run) with an empty model of its kind
/// and, when it goes on, the run so far.
/// @param with_kind (kind, work) calls work(model)
template <class WithKind, class Work>
int begin_or_resume(options::Command& app, int argc, char** argv, Job& a, const WithKind& with_kind,
                    const Work& work) {
  if (!a.resume) {
    require_new(a.path, std::filesystem::exists(a.path), a.overwrite);
    return with_kind(a.training.mixer, [&]<class Model>(const Model& model) {
      return work(model, static_cast<Run<Model>*>(nullptr));
    });
  }
  return with_kind(kind_in(checkpoint_of(a.path)), [&]<class Model>(const Model& model) {
    auto run = ssm::load<Run<Model>>(checkpoint_of(a.path));
    const Training had = a.training = run.config.options;
    if (const auto ended = app.parse(argc, argv)) return *ended;  // once more what was given
    if (a.training.fixed() != had.fixed())
      throw std::runtime_error(
          "--resume keeps the kind and the sizes of the model, --batch and the part of the data");
    return work(model, &run);
  });
}

/// The part of the sequences, in percent, that is named rightly after each step, by steps.
/// @param scale of a step of the data on the axis of x
template <class Model, class Data>
plot::Series known_while_reading(const Model& model, const Data& tests, Index count, Index every,
                                 const ssm::LayerOptions<>& reading, double scale,
                                 const std::string& name) {
  const std::vector<Index> order = in_order(count);
  Tensor<float, 3> sequences;
  Tensor<Token, 1> labels;
  Tensor<float, 2> input, logits;
  std::vector<Index> right;
  Progress progress("read", count);
  for (Index first = 0; first < count && interrupted == 0; first += sequences.extent(0)) {
    tests.take(order, first, std::min<Index>(100, count - first), every, sequences, labels);
    const Index batch = sequences.extent(0), length = sequences.extent(1);
    right.resize(static_cast<std::size_t>(length));
    input.resize({batch, 1});
    logits.resize({batch, model.config.classes});
    typename Model::Stepper stepper(model, batch, reading);
    auto state = make_state(model, batch);
    for (Index t = 0; t < length; ++t) {
      for (Index b = 0; b < batch; ++b) input(b, 0) = sequences(b, t, 0);
      step(stepper, input, state, logits);
      for (Index b = 0; b < batch; ++b)
        right[static_cast<std::size_t>(t)] += names_rightly(logits, labels, b);
    }
    progress.update(first + batch, name);
  }
  progress.finish();
  plot::Series series{name, plot::Style::line, {}, {}};
  const std::size_t thinned = 1 + right.size() / 1000;  // a line has no more dots than that
  for (std::size_t t = 0; t < right.size(); t += thinned) {
    series.x.push_back(static_cast<double>(t + 1) * static_cast<double>(every) * scale);
    series.y.push_back(100 * static_cast<double>(right[t]) / static_cast<double>(count));
  }
  return series;
}

}  // namespace classifying
