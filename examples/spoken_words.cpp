// Ten spoken words, one sample at a time: a classifier hears 5,000 samples of raw sound and says at
// the end which word it was, of voices that it has never heard. Trained at 8 kHz, it also hears
// 4 kHz, with as much longer a step and nothing trained again. make_spoken_words.py makes the data.
//
//   spoken_words train --data words --layer s4d --out model.safetensors
//   spoken_words eval  --data words --model model.safetensors --svg picture.svg

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "classifying.hpp"
#include "idx.hpp"
#include "job.hpp"
#include "options.hpp"
#include "pixel_models.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "ssm/io/save_load.hpp"

namespace {

using classifying::kind_in;
using classifying::Run;
using job::interrupted;
using ssm::Index;
using ssm::Tensor;
using ssm::Token;

constexpr Index classes = 10, hertz = 8000;

/// Clips of one length with the words that are said in them.
class Words {
 public:
  Words(const std::filesystem::path& directory, const std::string& part) {
    constexpr std::uint64_t most = std::uint64_t{1} << 31;  // bytes
    IdxFile clips = read_idx(directory / (part + "-words-idx2-ubyte.gz"), 2, most);
    IdxFile named = read_idx(directory / (part + "-labels-idx1-ubyte.gz"), 1, most);
    if (clips.extents[0] != named.extents[0] || clips.values.empty())
      throw std::runtime_error((directory / part).string() + ": has clips and labels of " +
                               std::to_string(clips.extents[0]) + " and " +
                               std::to_string(named.extents[0]) + " words");
    samples_ = clips.extents[1];
    values_ = std::move(clips.values);
    labels_ = std::move(named.values);
    if (std::any_of(labels_.begin(), labels_.end(), [](unsigned char k) { return k >= classes; }))
      throw std::runtime_error((directory / part).string() + ": has a label above 9");
  }
  [[nodiscard]] Index count() const { return static_cast<Index>(labels_.size()); }
  [[nodiscard]] Index samples() const { return samples_; }

  /// Clips order[first … first + batch) as sequences of every `every`-th sample, of variance about
  /// 1 where somebody speaks.
  void take(const std::vector<Index>& order, Index first, Index batch, Index every,
            Tensor<float, 3>& sequences, Tensor<Token, 1>& names) const {
    sequences.resize({batch, (samples_ + every - 1) / every, 1});
    names.resize({batch});
    for (Index b = 0; b < batch; ++b) {
      const Index clip = order[static_cast<std::size_t>(first + b)];
      names(b) = labels_[static_cast<std::size_t>(clip)];
      const unsigned char* from = values_.data() + clip * samples_;
      for (Index t = 0; t < sequences.extent(1); ++t)
        sequences(b, t, 0) = (static_cast<float>(from[t * every]) - 128) / 12.7f;
    }
  }

 private:
  Index samples_ = 0;
  std::vector<unsigned char> values_;  // (count, samples)
  std::vector<unsigned char> labels_;  // (count)
};

struct Arguments : classifying::Job {
  std::string data = "words", svg;
};

/// Returns work(model) with an empty model of the kind.
constexpr auto with_kind = [](const std::string& layer, auto&& work) {
  if (layer == "s4") return work(pixel_models::Classifier<ssm::S4<float>>());
  if (layer == "s4d") return work(pixel_models::Classifier<ssm::S4d<float>>());
  if (layer == "s5") return work(pixel_models::Classifier<ssm::S5<float>>());
  throw std::runtime_error("this program has no models of the kind " + layer);
};

ssm::LayerOptions<> hearing(Index every, const ssm::Dropout& dropout = {}) {
  ssm::LayerOptions<> options;
  options.rate = static_cast<double>(every);
  options.dropout = dropout;
  return options;
}

int train(options::Command& app, int argc, char** argv, Arguments& a) {
  return begin_or_resume(
      app, argc, argv, a, with_kind, [&]<class Model>(const Model& model, Run<Model>* so_far) {
        const classifying::Training& t = a.training;
        const Words all(a.data, "train"), tests(a.data, "heldout");
        const auto config = pixel_models::config_of(model, classes, t.width, t.state, t.layers);
        Run<Model> run = so_far != nullptr ? std::move(*so_far) : Run<Model>({t, 0, config});
        if (so_far == nullptr) {
          pixel_models::draw(run.trainer.model, t.seed);
          run.trainer.average = run.trainer.model;
        }
        return train(a, std::move(run), all, tests, "words", hearing);
      });
}

int evaluate(const Arguments& a) {
  const std::string kind = kind_in(a.path);
  const Words tests(a.data, "heldout");
  const Index count = classifying::count_of(a.training.only, tests.count());
  job::end_in_order_on_interrupt();
  return with_kind(kind, [&]<class Model>(const Model&) {
    const auto model = ssm::load<Model>(a.path);
    plot::Plot picture{
        "What is known of a word while it is heard", "seconds heard", "named rightly (%)", {}};
    for (const Index every : {1, 2}) {
      const job::Stopwatch watch;
      const double right = classifying::accuracy(ssm::cpu(a.threads), model, tests, count, every,
                                                 hearing(every), [](Index, Index) {});
      if (interrupted != 0) return job::exit_interrupted;
      std::printf("%s: %.1f%% of %lld words of new voices right at %lld Hz, %.0f words/s\n",
                  kind.c_str(), 100 * right, static_cast<long long>(count),
                  static_cast<long long>(hertz / every),
                  static_cast<double>(count) / watch.seconds());
      std::fflush(stdout);
      if (a.svg.empty()) continue;
      picture.series.push_back(
          classifying::known_while_reading(model, tests, count, every, hearing(every), 1.0 / hertz,
                                           kind + ", " + std::to_string(hertz / every) + " Hz"));
      if (interrupted != 0) return job::exit_interrupted;
    }
    if (!a.svg.empty()) plot::show(picture, a.svg);
    return 0;
  });
}

int run(int argc, char** argv) {
  options::Command app("Spoken words, one sample at a time");
  Arguments a;
  classifying::Training& t = a.training;
  t = {.width = 32,
       .state = 32,
       .layers = 3,
       .epochs = 10,
       .batch = 20,
       .learning_rate = 8e-3,
       .system_rate = 0.25};
  options::Command training = app.command("train", "learn from the voices of the training part");
  options::Command evaluation =
      app.command("eval", "count the words of the other voices named rightly, at two rates");
  for (options::Command* command : {&training, &evaluation}) {
    command->add("--data", a.data, "directory that make_spoken_words.py made").show_default();
    command->add("--threads", a.threads, "0: all").check(options::between(0, 4096));
    command->add("--words", t.only, "only the first so many; 0: all")
        .check(options::between(0, 1e9));
  }
  training.add("--layer", t.mixer).one_of({"s4", "s4d", "s5"}).show_default();
  a.add_options(training);
  evaluation.add("--model", a.path).required();
  evaluation.add("--svg", a.svg, "file to draw what is known while a word is heard into");
  if (const auto ended = app.parse(argc, argv)) return *ended;
  return training.parsed() ? train(app, argc, argv, a) : evaluate(a);
}

}  // namespace

int main(int argc, char** argv) {
  return job::main(argv[0], [&] { return run(argc, argv); });
}
