// The smallest form of learning from a context: a special token stands somewhere among random ones,
// and when it comes again at the end, the model must say what followed it the first time (Gu & Dao
// 2023, section 4.1.2). Mamba and attention learn on texts of 256 tokens, and are asked after
// longer and longer ones.
//
//   induction_heads train --kind mamba --out mamba.safetensors
//   induction_heads train --kind attention --out attention.safetensors
//   induction_heads eval  --model mamba.safetensors --model attention.safetensors --svg it.svg

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/models/language_model.hpp"
#include "token_task.hpp"

namespace {

using ssm::Index;
using ssm::Tensor;
using ssm::Token;

constexpr Index vocabulary = 16, taught = 256;  // tokens of the longest text to learn from
constexpr Token special = vocabulary - 1;

/// A residual connection with a norm runs around each layer.
using Mamba = ssm::Mamba<float>;
using Attention = ssm::Attention<float>;  // all steps before, with rotary positions
using Mlp = ssm::GatedMlp<float>;
using Model = ssm::LanguageModel<ssm::Residual<ssm::OneOf<Mamba, Attention, Mlp>>>;

/// Makes every Δ e^by times as large where it is small: to the states, a token lasts so much
/// longer.
void stretch_time(Model& model, float by) {
  for (auto& layer : model.backbone.layers)
    if (auto* mamba = std::get_if<Mamba>(&layer.mixer.kind))
      for (float& bias : mamba->dt_bias) bias += by;
}

/// Layers of Mamba, or as many of attention with a perceptron after each, of as many weights.
Model first_model(const token_task::Training& t) {
  Model::Config config{.vocab = vocabulary};
  config.backbone.channels = t.width;
  for (Index i = 0; i < t.layers; ++i) {
    auto& layers = config.backbone.layers;
    if (t.kind == "mamba") {
      layers.emplace_back().mixer.kind = Mamba::Config{.width = t.width, .state = t.state};
    } else {
      layers.emplace_back().mixer.kind = Attention::Config{.width = t.width, .heads = 4};
      layers.emplace_back().mixer.kind = Mlp::Config{.width = t.width, .inner = 4 * t.width / 3};
    }
  }
  Model model(config);
  initialize(model, t.seed);
  stretch_time(model, -6);  // what is read must open Δ
  return model;
}

/// Texts of `length` tokens, shorter at the first levels.
class Induction {
 public:
  explicit Induction(Index length) : length_(length) {}

  [[nodiscard]] Index levels() const {  // 8 tokens, 16, 32, …
    Index count = 1;
    while (Index{8} << (count - 1) < length_) ++count;
    return count;
  }
  [[nodiscard]] Index size(Index level) const { return std::min(Index{8} << level, length_); }
  [[nodiscard]] std::string name(Index level) const {
    return job::format("%lld tokens", static_cast<long long>(size(level)));
  }

  void draw(std::mt19937_64& engine, Index level, Index row, Tensor<Token, 2>& tokens,
            Tensor<Token, 2>& targets) const {
    const Index last = size(level) - 1;
    for (Index t = 0; t < last; ++t)
      tokens(row, t) = static_cast<Token>(engine() % static_cast<std::uint64_t>(special));
    const auto place = static_cast<Index>(engine() % static_cast<std::uint64_t>(last - 1));
    tokens(row, place) = tokens(row, last) = special;
    targets(row, last) = tokens(row, place + 1);
  }

  /// As a step of training sees the model: its tokens last up to e^9 times as long, so that what it
  /// keeps through 256 of those it keeps through two million. Attention has no such time.
  [[nodiscard]] Model seen(Model model, std::uint64_t seed) const {
    std::mt19937_64 engine(seed);
    stretch_time(model, std::uniform_real_distribution<float>(0, 9)(engine));
    return model;
  }

  void save(const std::string& path, const Model& model) const { ssm::save(path, model); }

 private:
  Index length_;
};

struct Arguments : token_task::Job {
  std::vector<std::string> models;
  std::string svg;
  Index longest = 1 << 20, attention_longest = 1 << 14, texts = 256, tokens = 1 << 18;
};

bool is_mamba(const Model& model) {
  return std::holds_alternative<Mamba>(model.backbone.layers.at(0).mixer.kind);
}

/// The part of the texts of each length that a model answers rightly, in percent.
plot::Series accuracy(const Arguments& a, Model model) {
  const bool mamba = is_mamba(model);
  const Index longest = mamba ? a.longest : std::min(a.longest, a.attention_longest);
  const std::string name = mamba ? "Mamba" : "attention";
  plot::Series series{name, plot::Style::line, {}, {}};
  if (longest < a.longest)
    series.name += job::format(", asked up to 2^%.0f", std::log2(static_cast<double>(longest)));
  for (Index length = 64; length <= longest; length *= 2) {
    for (auto& layer : model.backbone.layers)  // room for all that it has read
      if (auto* attention = std::get_if<Attention>(&layer.mixer.kind))
        attention->config.capacity = length;
    const Index texts = std::clamp<Index>(a.tokens / length, std::min<Index>(a.texts, 16), a.texts);
    const Induction task(length);
    const job::Stopwatch watch;
    const auto score =
        token_task::score(ssm::cpu(a.threads), task, model, task.levels() - 1, texts);
    if (job::interrupted != 0) break;
    std::printf("%s: %.1f%% of %lld texts of %lld tokens right, %.0f s\n", name.c_str(),
                100 * score.tokens, static_cast<long long>(texts), static_cast<long long>(length),
                watch.seconds());
    std::fflush(stdout);
    series.x.push_back(std::log2(static_cast<double>(length)));
    series.y.push_back(100 * score.tokens);
  }
  return series;
}

int evaluate(const Arguments& a) {
  job::end_in_order_on_interrupt();
  plot::Plot picture{"What followed this token the first time, learnt on 256 tokens",
                     "tokens of a text, 2 to the power of",
                     "texts answered rightly (%)",
                     {}};
  for (const std::string& path : a.models) {
    picture.series.push_back(accuracy(a, ssm::load<Model>(path)));
    if (job::interrupted != 0) return job::exit_interrupted;
  }
  const double here = std::log2(static_cast<double>(taught));
  picture.series.push_back({"learnt up to here", plot::Style::line, {here, here}, {0, 100}});
  plot::show(picture, a.svg);
  return 0;
}

int run(int argc, char** argv) {
  options::Command app("Induction heads: what followed this token the first time?");
  Arguments a;
  a.training.kind = "mamba";
  a.training.length = taught;
  options::Command training = app.command("train", "learn to answer");
  options::Command evaluation = app.command("eval", "count right answers after ever longer texts");
  training.add("--kind", a.training.kind).one_of({"mamba", "attention"}).show_default();
  a.add_options(training);
  const auto number = [&](const char* name, Index& value, const char* what) {
    evaluation.add(name, value, what).check(options::between(1, 1e12)).show_default();
  };
  evaluation.add("--model", a.models, "one or more").required();
  evaluation.add("--threads", a.threads, "0: all").check(options::between(0, 4096));
  number("--longest", a.longest, "tokens of a text");
  number("--attention-longest", a.attention_longest, "the same for attention");
  number("--texts", a.texts, "of each length, at most");
  number("--tokens", a.tokens, "of all texts of a length, but at least 16 texts");
  evaluation.add("--svg", a.svg, "write the picture to this file");
  if (const auto ended = app.parse(argc, argv)) return *ended;
  if (evaluation.parsed()) return evaluate(a);
  return token_task::begin_or_resume<Model>(
      app, argc, argv, a, [](const token_task::Training& t) { return Induction(t.length); },
      first_model);
}

}  // namespace

int main(int argc, char** argv) {
  return job::main(argv[0], [&] { return run(argc, argv); });
}
