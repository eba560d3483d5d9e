// Clothes, one pixel at a time: a classifier reads the 784 pixels of a picture as a sequence and
// says at the end what it saw.
//
//   fashion_mnist train --mixer s4d --out model.safetensors
//   fashion_mnist eval  --model model.safetensors --every 2
//   fashion_mnist watch --model model.safetensors --svg picture.svg

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "gru.hpp"
#include "idx.hpp"
#include "job.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/models/sequence_classifier.hpp"
#include "ssm/train/adamw.hpp"
#include "ssm/train/average.hpp"
#include "ssm/train/clip.hpp"
#include "ssm/train/schedule.hpp"

namespace {

using job::exit_interrupted;
using job::format;
using job::interrupted;
using ssm::Index;
using ssm::Tensor;
using ssm::Token;
using ssm::View;

constexpr Index side = 28, pixels = side * side, classes = 10;
constexpr const char* format_name = "ssm-fashion-mnist-1";

/// Pictures with their labels.
struct Pictures {
  std::vector<unsigned char> values;  ///< (count, pixels)
  std::vector<unsigned char> labels;  ///< (count)

  Pictures(const std::filesystem::path& directory, const std::string& part) {
    const auto path = [&](const std::string& name) {
      const std::filesystem::path plain = directory / name;
      return std::filesystem::exists(plain) ? plain : directory / (name + ".gz");
    };
    const IdxFile images = read_idx(path(part + "-images-idx3-ubyte"), 3);
    const IdxFile named = read_idx(path(part + "-labels-idx1-ubyte"), 1);
    if (images.extents[0] != named.extents[0] || images.extents[1] != side ||
        images.extents[2] != side)
      throw std::runtime_error((directory / part).string() +
                               ": its labels and its 28 x 28 pictures do not match");
    values = images.values;
    labels = named.values;
    if (std::any_of(labels.begin(), labels.end(), [](unsigned char k) { return k >= classes; }))
      throw std::runtime_error((directory / part).string() + ": has a label above 9");
  }
  [[nodiscard]] Index count() const { return static_cast<Index>(labels.size()); }

  /// Pictures order[first … first + batch) as sequences of every `every`-th pixel, of mean 0 and
  /// variance 1 over the training pictures.
  void take(const std::vector<Index>& order, Index first, Index batch, Index every,
            Tensor<float, 3>& sequences, Tensor<Token, 1>& names) const {
    constexpr float mean = 0.2860f, deviation = 0.3530f;
    sequences.resize({batch, (pixels + every - 1) / every, 1});
    names.resize({batch});
    for (Index b = 0; b < batch; ++b) {
      const Index picture = order[static_cast<std::size_t>(first + b)];
      names(b) = labels[static_cast<std::size_t>(picture)];
      const unsigned char* from = values.data() + picture * pixels;
      for (Index t = 0; t < sequences.extent(1); ++t)
        sequences(b, t, 0) = (static_cast<float>(from[t * every]) / 255 - mean) / deviation;
    }
  }
};

// --- The models: weights, loss and scores under the same names ----------------------------------

/// A residual stack around a mixer.
template <class Mixer>
struct SequenceModel {
  using Weights = ssm::SequenceClassifierWeights<float, Mixer>;
  using Options = ssm::SequenceClassifierOptions<float, Mixer>;
  ssm::SequenceClassifierWorkspace<float, Mixer> workspace;

  static Weights draw(const ssm::SequenceClassifierConfig<Mixer>& config, std::uint64_t seed) {
    Weights weights(config);
    initialize(weights, seed, [](auto& mixer, std::uint64_t its_seed) {
      if constexpr (std::is_same_v<Mixer, gru::Mixer>)
        initialize(mixer, its_seed);
      else if constexpr (std::is_same_v<Mixer, ssm::S5Mixer>)
        initialize(mixer, ssm::s4d_modes<double>(ssm::S4dInit::legs, mixer.shape().state),
                   its_seed);
      else
        initialize(mixer, ssm::s4d_modes<double>(ssm::S4dInit::lin, mixer.shape().state), its_seed);
    });
    return weights;
  }
  static Options options(Index every, const ssm::Dropout& dropout) {
    Options result;
    result.dropout = dropout;
    if constexpr (!std::is_same_v<Mixer, gru::Mixer>) result.mixer.rate = static_cast<float>(every);
    return result;
  }
  double loss(const ssm::Cpu& cpu, const Weights& weights, const Tensor<float, 3>& sequences,
              const Tensor<Token, 1>& labels, Weights& gradients, const ssm::Dropout& dropout) {
    return ssm::classifier_loss<float>(cpu, weights, sequences, labels, &gradients,
                                       options(1, dropout), workspace);
  }
  void scores(const ssm::Cpu& cpu, const Weights& weights, const Tensor<float, 3>& sequences,
              Index every, const View<float, 2>& logits) {
    ssm::classifier_forward<float>(cpu, weights, sequences, logits, options(every, {}), workspace);
  }
};

/// Logistic regression on all pixels at once.
template <class T>
struct LinearWeights {
  Tensor<T, 2> weight{{classes, pixels}};
  Tensor<T, 1> bias{{classes}};

  template <class F>
  void visit(F&& f) {
    f(std::string("weight"), weight, true);
    f(std::string("bias"), bias, false);
  }
  template <class F>
  void visit(F&& f) const {
    f(std::string("weight"), weight, true);
    f(std::string("bias"), bias, false);
  }
};

struct LinearModel {
  using Weights = LinearWeights<float>;
  Tensor<float, 2> logits;
  ssm::CrossEntropyWorkspace losses;
  ssm::LinearWorkspace<float> linear;

  static View<const float, 2> rows(const Tensor<float, 3>& sequences) {
    return {sequences.data(), {sequences.extent(0), sequences.extent(1)}};
  }
  double loss(const ssm::Cpu& cpu, const Weights& weights, const Tensor<float, 3>& sequences,
              const Tensor<Token, 1>& labels, Weights& gradients, const ssm::Dropout&) {
    logits.resize({sequences.extent(0), classes});
    scores(cpu, weights, sequences, 1, logits);
    const double loss = ssm::cross_entropy<float>(
        cpu, logits, View<const Token, 2>(labels.data(), {labels.size(), 1}), logits, losses);
    ssm::linear_backward<float>(cpu, rows(sequences), weights.weight, logits,
                                {.x = {}, .weight = gradients.weight, .bias = gradients.bias},
                                linear);
    return loss;
  }
  static void scores(const ssm::Cpu& cpu, const Weights& weights, const Tensor<float, 3>& sequences,
                     Index every, const View<float, 2>& logits) {
    if (every != 1) throw std::runtime_error("a linear model needs every pixel");
    ssm::linear_forward<float>(cpu, rows(sequences), weights.weight, weights.bias, logits);
  }
};

// --- Files --------------------------------------------------------------------------------------

template <class Weights>
void save(const std::filesystem::path& path, const Weights& weights, const std::string& mixer) {
  ssm::SafetensorsWriter file;
  file.metadata = {{"format", format_name}, {"mixer", mixer}};
  weights.visit([&](const std::string& name, const auto& tensor, bool) { file.add(name, tensor); });
  file.save(path);
}

Index extent_in_file(const ssm::SafetensorsReader& file, const std::string& name, std::size_t i) {
  const ssm::SafetensorsEntry& entry = file.entry(name);
  if (i >= entry.shape.size())
    throw std::runtime_error(file.path().string() + ": " + name + " has too few extents");
  return entry.shape[i];
}

/// The sizes of the model, from the shapes of its tensors.
template <class Mixer>
ssm::SequenceClassifierConfig<Mixer> config_in_file(const ssm::SafetensorsReader& file) {
  ssm::SequenceClassifierConfig<Mixer> config{.classes = classes, .layers = 0, .mixer = {}};
  while (file.contains("layers." + std::to_string(config.layers) + ".norm")) ++config.layers;
  config.mixer.width = extent_in_file(file, "encoder.weight", 0);
  if constexpr (std::is_same_v<Mixer, ssm::S4dMixer>)
    config.mixer.state = 2 * extent_in_file(file, "layers.0.mixer.frequency", 1);
  if constexpr (std::is_same_v<Mixer, ssm::S5Mixer>)
    config.mixer.state = 2 * extent_in_file(file, "layers.0.mixer.frequency", 0);
  return config;
}

template <class Weights>
void load_into(ssm::SafetensorsReader& file, Weights& weights) {
  std::size_t expected = 0;
  weights.visit([&](const std::string& name, auto& tensor, bool) {
    file.read_into(name, {tensor.extents().begin(), tensor.extents().end()}, tensor.data());
    ++expected;
  });
  if (file.tensors().size() != expected)
    throw std::runtime_error(file.path().string() + ": has tensors that this model does not know");
}

// --- The work -----------------------------------------------------------------------------------

struct Arguments {
  std::string data = "/usr/share/datasets/fashion-mnist", mixer = "s4d", path, svg;
  std::vector<std::string> watched;
  Index width = 64, state = 32, layers = 3, epochs = 8, batch = 50, every = 1, pictures = 0;
  double learning_rate = 4e-3, weight_decay = 0.05, dropout = 0.1;
  std::uint64_t seed = 1;
  int threads = 0;
};

std::vector<Index> in_order(Index count) {
  std::vector<Index> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), Index{0});
  return order;
}

/// The part of `pictures` that the model names rightly.
template <class Model, class Each>
double accuracy(const ssm::Cpu& cpu, Model& model, const typename Model::Weights& weights,
                const Pictures& pictures, Index count, Index every, Each&& each) {
  const std::vector<Index> order = in_order(count);
  Tensor<float, 3> sequences;
  Tensor<Token, 1> labels;
  Tensor<float, 2> logits;
  Index right = 0;
  for (Index first = 0; first < count && interrupted == 0; first += sequences.extent(0)) {
    pictures.take(order, first, std::min<Index>(100, count - first), every, sequences, labels);
    logits.resize({labels.size(), classes});
    model.scores(cpu, weights, sequences, every, logits);
    for (Index b = 0; b < labels.size(); ++b) {
      const float* row = &logits(b, 0);
      right += std::max_element(row, row + classes) - row == labels(b);
    }
    each(first + labels.size(), right);
  }
  return static_cast<double>(right) / static_cast<double>(std::max<Index>(count, 1));
}

template <class Model>
int train(const Arguments& a, typename Model::Weights weights) {
  using Weights = typename Model::Weights;
  const ssm::Cpu cpu = ssm::cpu(a.threads);
  const Pictures pictures(a.data, "train"), tests(a.data, "t10k");
  const Index count = a.pictures > 0 ? std::min(a.pictures, pictures.count()) : pictures.count();
  const Index tested = a.pictures > 0 ? std::min(a.pictures, tests.count()) : tests.count();
  Model model;
  Weights gradients = weights;
  gradients.visit([](const std::string&, auto& tensor, bool) { tensor.fill(0); });
  Weights first_moment = gradients, second_moment = gradients, average = weights;
  Index parameters = 0;
  weights.visit([&](const std::string&, const auto& tensor, bool) { parameters += tensor.size(); });
  std::printf("%s: %lld parameters, %lld pictures\n", a.mixer.c_str(),
              static_cast<long long>(parameters), static_cast<long long>(count));
  std::fflush(stdout);

  job::end_in_order_on_interrupt();
  const Index steps = count / a.batch;
  if (steps == 0) throw std::runtime_error("there are fewer pictures than --batch");
  const ssm::CosineSchedule schedule{.peak = a.learning_rate,
                                     .warmup = std::min<Index>(500, steps / 2),
                                     .steps = a.epochs * steps,
                                     .final_fraction = 0.01};
  std::vector<Index> order = in_order(count);
  std::mt19937_64 engine(a.seed);
  Tensor<float, 3> sequences;
  Tensor<Token, 1> labels;
  Index step = 0;
  const job::Stopwatch watch;
  Progress progress("step", a.epochs * steps);
  for (Index epoch = 0; epoch < a.epochs && interrupted == 0; ++epoch) {
    for (std::size_t i = order.size(); i > 1; --i)  // Fisher-Yates: the same order everywhere
      std::swap(order[i - 1], order[engine() % i]);
    double sum = 0;
    for (Index i = 0; i < steps && interrupted == 0; ++i) {
      pictures.take(order, i * a.batch, a.batch, 1, sequences, labels);
      const ssm::Dropout dropout{a.dropout, a.seed + static_cast<std::uint64_t>(step)};
      const double loss = model.loss(cpu, weights, sequences, labels, gradients, dropout);
      const double norm = ssm::clip_gradients(cpu, gradients, 1.0);
      if (!std::isfinite(loss) || !std::isfinite(norm))
        throw std::runtime_error(
            format("step %lld: the loss is %g, expected a finite number; try "
                   "a lower --lr",
                   static_cast<long long>(step), loss));
      const double rate = schedule(step++);
      ssm::adamw_step(cpu, weights, gradients, first_moment, second_moment, step,
                      {.learning_rate = rate, .beta2 = 0.99, .weight_decay = a.weight_decay});
      ssm::update_average(cpu, average, weights, step, 0.998);
      sum += loss;
      progress.update(
          step, format("epoch %lld  loss %.4f  %.0f pictures/s", static_cast<long long>(epoch + 1),
                       sum / static_cast<double>(i + 1),
                       static_cast<double>(step * a.batch) / watch.seconds()));
    }
    progress.finish();
    if (interrupted != 0) break;
    const double right = accuracy(cpu, model, average, tests, tested, 1, [](Index, Index) {});
    std::printf("epoch %lld  loss %.4f  test accuracy %.2f%%  %.0f s\n",
                static_cast<long long>(epoch + 1), sum / static_cast<double>(steps), 100 * right,
                watch.seconds());
    std::fflush(stdout);
  }
  save(a.path, average, a.mixer);
  std::printf("saved %s%s\n", a.path.c_str(), interrupted != 0 ? ", the weights so far" : "");
  return interrupted != 0 ? exit_interrupted : 0;
}

/// Loads the model that the file holds and returns work(model, weights, name of its mixer).
template <class Work>
int with_model(const std::string& path, Work&& work) {
  ssm::SafetensorsReader file(path);
  const auto note = [&](const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  const std::string mixer = note("mixer");
  const auto sequence_model = [&]<class Mixer>(Mixer) {
    using Model = SequenceModel<Mixer>;
    typename Model::Weights weights(config_in_file<Mixer>(file));
    load_into(file, weights);
    Model model;
    return work(model, weights, mixer);
  };
  if (note("format") == format_name) {
    if (mixer == "s4d") return sequence_model(ssm::S4dMixer{});
    if (mixer == "s5") return sequence_model(ssm::S5Mixer{});
    if (mixer == "gru") return sequence_model(gru::Mixer{});
    if (mixer == "linear") {
      LinearModel::Weights weights;
      load_into(file, weights);
      LinearModel model;
      return work(model, weights, mixer);
    }
  }
  throw std::runtime_error(path + ": is not a model of this program");
}

int evaluate(const Arguments& a) {
  const Pictures tests(a.data, "t10k");
  const Index count = a.pictures > 0 ? std::min(a.pictures, tests.count()) : tests.count();
  job::end_in_order_on_interrupt();
  return with_model(a.path, [&](auto& model, const auto& weights, const std::string& mixer) {
    const job::Stopwatch watch;
    Progress progress("picture", count);
    const double right = accuracy(
        ssm::cpu(a.threads), model, weights, tests, count, a.every, [&](Index done, Index good) {
          progress.update(done, format("%.2f%% right", 100 * static_cast<double>(good) /
                                                           static_cast<double>(done)));
        });
    progress.finish();
    if (interrupted != 0) return exit_interrupted;
    std::printf("%s: %.2f%% of %lld pictures right, %lld of %lld pixels read, %.0f pictures/s\n",
                mixer.c_str(), 100 * right, static_cast<long long>(count),
                static_cast<long long>((pixels + a.every - 1) / a.every),
                static_cast<long long>(pixels), static_cast<double>(count) / watch.seconds());
    return 0;
  });
}

/// The part of the pictures that is named rightly after each pixel, by steps from pixel to pixel.
template <class Mixer>
plot::Series watch_model(const Arguments& a,
                         const ssm::SequenceClassifierWeights<float, Mixer>& weights,
                         const Pictures& tests, const std::string& name) {
  const Index count = std::min(a.pictures > 0 ? a.pictures : Index{1000}, tests.count());
  const std::vector<Index> order = in_order(count);
  const auto options = SequenceModel<Mixer>::options(a.every, {});
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
    ssm::SequenceClassifierState<float, Mixer> state(weights.config, batch);
    ssm::SequenceClassifierStepScratch<float, Mixer> scratch(weights, batch, options);
    for (Index t = 0; t < length; ++t) {
      for (Index b = 0; b < batch; ++b) input(b, 0) = sequences(b, t, 0);
      ssm::classifier_step<float>(weights, input, state, logits, scratch);
      for (Index b = 0; b < batch; ++b) {
        const float* row = &logits(b, 0);
        right[static_cast<std::size_t>(t)] +=
            std::max_element(row, row + classes) - row == labels(b);
      }
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
  for (const std::string& path : a.watched)
    with_model(path, [&]<class Model, class Weights>(Model&, const Weights& weights,
                                                     const std::string& mixer) {
      if constexpr (std::is_same_v<Model, SequenceModel<ssm::S4dMixer>> ||
                    std::is_same_v<Model, SequenceModel<ssm::S5Mixer>>)
        picture.series.push_back(watch_model(a, weights, tests, mixer));
      else
        throw std::runtime_error(path + ": only s4d and s5 are read pixel by pixel");
      return 0;
    });
  if (interrupted != 0) return exit_interrupted;
  plot::show(picture, a.svg);
  return 0;
}

template <class Mixer>
int train_sequence_model(const Arguments& a, const typename Mixer::Shape& shape) {
  using Model = SequenceModel<Mixer>;
  return train<Model>(
      a, Model::draw({.classes = classes, .layers = a.layers, .mixer = shape}, a.seed));
}

int train_any(const Arguments& a) {
  if (a.mixer == "s4d")
    return train_sequence_model<ssm::S4dMixer>(a, {.width = a.width, .state = a.state});
  if (a.mixer == "s5")
    return train_sequence_model<ssm::S5Mixer>(a, {.width = a.width, .state = a.state});
  if (a.mixer == "gru") return train_sequence_model<gru::Mixer>(a, {.width = a.width});
  return train<LinearModel>(a, {});
}

int run(int argc, char** argv) {
  CLI::App app("Fashion-MNIST, one pixel at a time");
  app.require_subcommand(1);
  Arguments a;
  CLI::App& training = *app.add_subcommand("train", "learn from the training pictures");
  CLI::App& evaluation = *app.add_subcommand("eval", "count the test pictures named rightly");
  CLI::App& watching =
      *app.add_subcommand("watch", "draw what a model knows after each pixel, read as a stream");
  for (CLI::App* command : {&training, &evaluation, &watching}) {
    command
        ->add_option("--data", a.data, "directory of the IDX files (Debian: dataset-fashion-mnist)")
        ->capture_default_str();
    command->add_option("--threads", a.threads, "0: all")->check(CLI::Range(0, 4096));
    command->add_option("--pictures", a.pictures, "only the first so many; 0: all")
        ->check(CLI::Range(0, 1 << 30));
  }
  const CLI::Range size(1, 65536);
  training.add_option("--mixer", a.mixer)
      ->check(CLI::IsMember({"s4d", "s5", "gru", "linear"}))
      ->capture_default_str();
  training.add_option("--out", a.path, "file for the model")->required();
  training.add_option("--width", a.width)->check(size)->capture_default_str();
  training.add_option("--state", a.state, "of s4d (each channel) and s5 (all together)")
      ->check(size)
      ->capture_default_str();
  training.add_option("--layers", a.layers)->check(CLI::Range(1, 1000))->capture_default_str();
  training.add_option("--epochs", a.epochs)->check(size)->capture_default_str();
  training.add_option("--batch", a.batch)->check(size)->capture_default_str();
  training.add_option("--lr", a.learning_rate)->check(CLI::Range(0.0, 10.0))->capture_default_str();
  training.add_option("--weight-decay", a.weight_decay)
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str();
  training.add_option("--dropout", a.dropout)->check(CLI::Range(0.0, 0.9))->capture_default_str();
  training.add_option("--seed", a.seed)->capture_default_str();
  evaluation.add_option("--model", a.path)->required();
  watching.add_option("--model", a.watched, "s4d or s5, one or more")->required();
  watching.add_option("--svg", a.svg, "file to draw into");
  for (CLI::App* command : {&evaluation, &watching})
    command
        ->add_option("--every", a.every,
                     "reads every so many-th pixel only, with as much longer a step")
        ->check(CLI::Range(1, 784))
        ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (training.parsed()) return train_any(a);
  return watching.parsed() ? watch(a) : evaluate(a);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fashion_mnist: %s\n", error.what());
    return 1;
  }
}
