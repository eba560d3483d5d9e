// Clothes, one pixel at a time: a classifier reads the 784 pixels of a picture as a sequence and
// says at the end what it saw.
//
//   fashion_mnist train --mixer s4d --out model.safetensors
//   fashion_mnist eval  --model model.safetensors --every 2
//   fashion_mnist watch --model model.safetensors --svg picture.svg

#include <CLI/CLI.hpp>
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
#include <type_traits>
#include <utility>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "pictures.hpp"
#include "pixel_models.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "run.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/train/trainer.hpp"

namespace {

using job::exit_interrupted;
using job::format;
using job::interrupted;
using linear::Linear;
using options::between;
using pictures::classes;
using pictures::Pictures;
using pictures::pixels;
using pictures::side;
using pixel_models::kind_in;
using pixel_models::reading;
using pixel_models::with_kind;
using ssm::Index;
using ssm::Tensor;
using ssm::Token;

// --- A run that can go on -----------------------------------------------------------------------

struct Training {
  std::string mixer = "s4d";
  Index width = 64, state = 32, layers = 3, epochs = 8, batch = 50, pictures = 0;
  double learning_rate = 4e-3, weight_decay = 0.05, dropout = 0.1;
  std::uint64_t seed = 1;

  /// What a run cannot change on its way.
  [[nodiscard]] auto fixed() const {
    return std::tie(mixer, width, state, layers, batch, pictures);
  }
};
template <class Visit>
void fields(Training& t, Visit&& visit) {
  visit("mixer", t.mixer);
  visit("width", t.width);
  visit("state", t.state);
  visit("layers", t.layers);
  visit("epochs", t.epochs);
  visit("batch", t.batch);
  visit("pictures", t.pictures);
  visit("learning_rate", t.learning_rate);
  visit("weight_decay", t.weight_decay);
  visit("dropout", t.dropout);
  visit("seed", t.seed);
}

template <class Model>
using Run = ::Run<Model, Training>;

template <class Model>
Run<Model> start(const Training& t) {
  Run<Model> run({.options = t,
                  .step = 0,
                  .model = pixel_models::config_of(Model(), t.width, t.state, t.layers)});
  pixel_models::draw(run.trainer.model, t.seed);
  run.trainer.average = run.trainer.model;
  return run;
}

// --- The work -----------------------------------------------------------------------------------

struct Arguments {
  std::string data = "/usr/share/datasets/fashion-mnist", path, svg;
  std::vector<std::string> watched;
  Training training;
  Index every = 1, pictures = 0;
  int threads = 0;
  bool resume = false, overwrite = false;

  /// Of a run, beside its model.
  [[nodiscard]] std::filesystem::path checkpoint() const {
    return std::filesystem::path(path).replace_extension(".training.safetensors");
  }
};

/// So many of the pictures that there are; 0: all.
Index count_of(Index wanted, const Pictures& there) {
  return wanted > 0 ? std::min(wanted, there.count()) : there.count();
}

std::vector<Index> in_order(Index count) {
  std::vector<Index> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), Index{0});
  return order;
}

bool names_rightly(const Tensor<float, 2>& logits, const Tensor<Token, 1>& labels, Index b) {
  const float* row = &logits(b, 0);
  return std::max_element(row, row + classes) - row == labels(b);
}

/// The part of the pictures that the model names rightly.
template <class Model, class Each>
double accuracy(const ssm::Cpu& cpu, const Model& model, const Pictures& tests, Index count,
                Index every, Each&& each) {
  const std::vector<Index> order = in_order(count);
  typename Model::Scratch scratch;
  Tensor<float, 3> sequences;
  Tensor<Token, 1> labels;
  Tensor<float, 2> logits;
  Index right = 0;
  for (Index first = 0; first < count && interrupted == 0; first += sequences.extent(0)) {
    tests.take(order, first, std::min<Index>(100, count - first), every, sequences, labels);
    logits.resize({labels.size(), classes});
    forward(cpu, model, sequences, logits, reading<Model>(every), scratch);
    for (Index b = 0; b < labels.size(); ++b) right += names_rightly(logits, labels, b);
    each(first + labels.size(), right);
  }
  return static_cast<double>(right) / static_cast<double>(std::max<Index>(count, 1));
}

template <class Model>
void save(const Arguments& a, Run<Model>& run) {
  run.config.step = run.trainer.steps();
  const ssm::SaveOptions kind{.matrices = {}, .metadata = {{"mixer", a.training.mixer}}};
  ssm::save(a.checkpoint(), run, kind);  // first: it is never older than the model beside it
  ssm::save(a.path, run.trainer.best(), kind);
}

/// Trains until the epochs are over or somebody interrupts.
template <class Model>
int train(const Arguments& a, Run<Model> run) {
  const Training& t = run.config.options = a.training;
  const ssm::Cpu cpu = ssm::cpu(a.threads);
  const Pictures all(a.data, "train"), tests(a.data, "t10k");
  const Index count = count_of(t.pictures, all), tested = count_of(t.pictures, tests);
  const Index steps = count / t.batch, last = t.epochs * steps;
  if (steps == 0) throw std::runtime_error("there are fewer pictures than --batch");
  ssm::Trainer<Model>& trainer = run.trainer;
  trainer.options = {.schedule = {.peak = t.learning_rate,
                                  .warmup = std::min<Index>(500, steps / 2),
                                  .steps = last,
                                  .final_fraction = 0.01},
                     .adamw = {.beta2 = 0.99, .weight_decay = t.weight_decay},
                     .average = 0.998};
  trainer.optimizer.step = run.config.step;
  std::printf("%s: %lld parameters, %lld pictures\n", t.mixer.c_str(),
              static_cast<long long>(ssm::parameter_count(trainer.model)),
              static_cast<long long>(count));
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
    double sum = 0;
    Index seen = 0;
    while (trainer.steps() < (epoch + 1) * steps && interrupted == 0) {
      const Index step = trainer.steps();
      all.take(order, (step - epoch * steps) * t.batch, t.batch, 1, sequences, labels);
      const ssm::Dropout dropout{t.dropout, t.seed + static_cast<std::uint64_t>(step)};
      const auto report = trainer.step(cpu, [&](const Model& model, Model& gradients) {
        return loss(cpu, model, sequences, labels, gradients, reading<Model>(1, dropout), scratch);
      });
      if (!report.finite)
        throw std::runtime_error(
            format("step %lld: the loss is %g, expected a finite number; try "
                   "a lower --lr",
                   static_cast<long long>(step + 1), std::abs(report.loss)));
      sum += report.loss;
      progress.update(step + 1,
                      format("epoch %lld  loss %.4f  %.0f pictures/s",
                             static_cast<long long>(epoch + 1), sum / static_cast<double>(++seen),
                             static_cast<double>((step + 1 - first) * t.batch) / watch.seconds()));
    }
    progress.finish();
    save(a, run);
    if (interrupted != 0) break;
    const double right = accuracy(cpu, trainer.best(), tests, tested, 1, [](Index, Index) {});
    std::printf("epoch %lld  loss %.4f  test accuracy %.2f%%  %.0f s\n",
                static_cast<long long>(epoch + 1), sum / static_cast<double>(seen), 100 * right,
                watch.seconds());
    std::fflush(stdout);
  }
  std::printf("saved %s%s\n", a.path.c_str(),
              interrupted != 0 ? ", the weights so far; --resume goes on" : "");
  return interrupted != 0 ? exit_interrupted : 0;
}

int train_or_resume(CLI::App& app, int argc, char** argv, Arguments& a) {
  if (!a.resume) {
    if (std::filesystem::exists(a.path) && !a.overwrite)
      throw std::runtime_error(a.path +
                               ": holds a model already; --resume goes on with it, "
                               "--overwrite begins anew in its place");
    return with_kind(a.training.mixer,
                     [&]<class Model>(const Model&) { return train(a, start<Model>(a.training)); });
  }
  return with_kind(kind_in(a.checkpoint()), [&]<class Model>(const Model&) {
    auto run = ssm::load<Run<Model>>(a.checkpoint());
    const Training had = a.training = run.config.options;
    CLI11_PARSE(app, argc, argv);  // once more what was given
    if (a.training.fixed() != had.fixed())
      throw std::runtime_error(
          "--resume keeps --mixer, the sizes of the model, --batch and --pictures");
    return train(a, std::move(run));
  });
}

int evaluate(const Arguments& a) {
  const std::string kind = kind_in(a.path);
  const Pictures tests(a.data, "t10k");
  const Index count = count_of(a.pictures, tests);
  job::end_in_order_on_interrupt();
  return with_kind(kind, [&]<class Model>(const Model&) {
    const auto model = ssm::load<Model>(a.path);
    const job::Stopwatch watch;
    Progress progress("picture", count);
    const double right =
        accuracy(ssm::cpu(a.threads), model, tests, count, a.every, [&](Index done, Index good) {
          progress.update(done, format("%.2f%% right", 100 * static_cast<double>(good) /
                                                           static_cast<double>(done)));
        });
    progress.finish();
    if (interrupted != 0) return exit_interrupted;
    std::printf("%s: %.2f%% of %lld pictures right, %lld of %lld pixels read, %.0f pictures/s\n",
                kind.c_str(), 100 * right, static_cast<long long>(count),
                static_cast<long long>((pixels + a.every - 1) / a.every),
                static_cast<long long>(pixels), static_cast<double>(count) / watch.seconds());
    return 0;
  });
}

/// The part of the pictures that is named rightly after each pixel, by steps from pixel to pixel.
template <class Model>
plot::Series watch_model(const Arguments& a, const Model& model, const Pictures& tests,
                         const std::string& name) {
  const Index count = count_of(a.pictures > 0 ? a.pictures : 1000, tests);
  const std::vector<Index> order = in_order(count);
  Tensor<float, 3> sequences;
  Tensor<Token, 1> labels;
  Tensor<float, 2> input, logits;
  std::vector<Index> right;
  Progress progress("picture", count);
  for (Index first = 0; first < count && interrupted == 0; first += sequences.extent(0)) {
    tests.take(order, first, std::min<Index>(100, count - first), a.every, sequences, labels);
    const Index batch = sequences.extent(0), length = sequences.extent(1);
    right.resize(static_cast<std::size_t>(length));
    input.resize({batch, 1});
    logits.resize({batch, classes});
    typename Model::Stepper stepper(model, batch, reading<Model>(a.every));
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
  for (std::size_t t = 0; t < right.size(); ++t) {
    series.x.push_back(static_cast<double>(t + 1) * static_cast<double>(a.every) / side);
    series.y.push_back(100 * static_cast<double>(right[t]) / static_cast<double>(count));
  }
  return series;
}

int watch(const Arguments& a) {
  const Pictures tests(a.data, "t10k");
  plot::Plot picture{
      "What is known of a picture while it is read", "rows read, of 28", "named rightly (%)", {}};
  job::end_in_order_on_interrupt();
  for (const std::string& path : a.watched) {
    const std::string kind = kind_in(path);
    with_kind(kind, [&]<class Model>(const Model&) {
      if constexpr (std::is_same_v<Model, Linear>)
        throw std::runtime_error(path + ": a linear model is not read pixel by pixel");
      else
        picture.series.push_back(watch_model(a, ssm::load<Model>(path), tests, kind));
      return 0;
    });
  }
  if (interrupted != 0) return exit_interrupted;
  plot::show(picture, a.svg);
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app("Fashion-MNIST, one pixel at a time");
  app.require_subcommand(1);
  Arguments a;
  Training& t = a.training;
  CLI::App& training = *app.add_subcommand("train", "learn from the training pictures");
  CLI::App& evaluation = *app.add_subcommand("eval", "count the test pictures named rightly");
  CLI::App& watching =
      *app.add_subcommand("watch", "draw what a model knows after each pixel, read as a stream");
  const auto add = [](CLI::App& command, const char* name, auto& value, double least, double most,
                      const char* what = "") {
    command.add_option(name, value, what)->check(between(least, most))->capture_default_str();
  };
  for (CLI::App* command : {&training, &evaluation, &watching}) {
    command
        ->add_option("--data", a.data, "directory of the IDX files (Debian: dataset-fashion-mnist)")
        ->capture_default_str();
    add(*command, "--threads", a.threads, 0, 4096, "0: all");
    add(*command, "--pictures", command == &training ? t.pictures : a.pictures, 0, 1e6,
        "only the first so many; 0: all");
  }
  training.add_option("--mixer", t.mixer)
      ->check(CLI::IsMember({"s4d", "s5", "gru", "linear"}))
      ->capture_default_str();
  training.add_option("--out", a.path, "file for the model")->required();
  add(training, "--width", t.width, 1, 65536);
  add(training, "--state", t.state, 2, 65536, "of s4d (each channel) and s5 (all together), even");
  add(training, "--layers", t.layers, 1, 1000);
  add(training, "--epochs", t.epochs, 1, 65536);
  add(training, "--batch", t.batch, 1, 65536);
  add(training, "--lr", t.learning_rate, 0, 10);
  add(training, "--weight-decay", t.weight_decay, 0, 10);
  add(training, "--dropout", t.dropout, 0, 0.9);
  add(training, "--seed", t.seed, 0, 1.8e19);
  CLI::Option* resume = training.add_flag(
      "--resume", a.resume, "go on with the run of --out; its options hold unless given again");
  training.add_flag("--overwrite", a.overwrite, "begin anew where --out is a model already")
      ->excludes(resume);
  evaluation.add_option("--model", a.path)->required();
  watching.add_option("--model", a.watched, "of s4d, s5 or gru, one or more")->required();
  watching.add_option("--svg", a.svg, "file to draw into");
  for (CLI::App* command : {&evaluation, &watching})
    add(*command, "--every", a.every, 1, 784,
        "reads every so many-th pixel only, with as much longer a step");
  CLI11_PARSE(app, argc, argv);
  if (training.parsed()) return train_or_resume(app, argc, argv, a);
  return watching.parsed() ? watch(a) : evaluate(a);
}

}  // namespace

int main(int argc, char** argv) {
  return job::main(argv[0], [&] { return run(argc, argv); });
}
