// Sixteen tokens lie anywhere in 4096 steps of noise, and are to be repeated in their order at the
// end (Gu & Dao 2023, section 4.1.1). The steps between them are others in every text, so that what
// is the same at every step, S4, cannot pick them out; what chooses by its input, S6, can.
//
//   selective_copying train --kind mamba_s6 --out mamba_s6.safetensors
//   selective_copying eval  --model mamba_s6.safetensors --model mamba_s4.safetensors --svg it.svg

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "job.hpp"
#include "mamba_around.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "s6.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/s4.hpp"
#include "ssm/models/language_model.hpp"
#include "token_task.hpp"

namespace {

using ssm::Index;
using ssm::Tensor;
using ssm::Token;

constexpr Index vocabulary = 16, most_tokens = 16;
constexpr Token noise = 0, question = vocabulary - 1;  // the rest is what is copied

/// Either system in either block; a residual connection with a norm runs around each.
using PlainS4 = ssm::Gated<ssm::S4<float>>;  // GELU, then a gated linear map of the output
using PlainS6 = ssm::Gated<s6::S6<float>>;
using MambaS4 = mamba_around::MambaAround<ssm::S4<float>>;  // convolution before, gate by the input
using MambaS6 = ssm::Mamba<float>;
using Model = ssm::LanguageModel<ssm::Residual<ssm::OneOf<PlainS4, PlainS6, MambaS4, MambaS6>>>;

constexpr std::array names{"S4, plain block", "S6, plain block", "S4, Mamba's block",
                           "S6, Mamba's block"};  // in the order of OneOf

Model first_model(const token_task::Training& t) {
  const Index s4_states = 4 * t.state;  // half as many complex ones and their conjugates; S4's 64
  ssm::OneOfConfig<PlainS4, PlainS6, MambaS4, MambaS6> layer;
  if (t.kind == "plain_s4")
    layer.kind = PlainS4::Config{{.width = t.width, .state = s4_states}};
  else if (t.kind == "plain_s6")
    layer.kind = PlainS6::Config{{.width = t.width, .state = t.state}};
  else if (t.kind == "mamba_s4")
    layer.kind =
        MambaS4::Config{.width = t.width, .inner = {.width = 2 * t.width, .state = s4_states}};
  else
    layer.kind = MambaS6::Config{.width = t.width, .state = t.state};
  Model model(Model::Config{vocabulary, {t.layers, {layer}}});
  initialize(model, t.seed);
  return model;
}

/// Texts of `length` steps with 16 tokens among them, fewer at the first levels, and the question
/// as often as there are tokens.
class Copying {
 public:
  explicit Copying(Index length) : length_(length) {}

  [[nodiscard]] Index levels() const {  // 2 tokens in 8 steps, 4 in 16, 8 in 32, 16 in 64, 128, …
    Index count = 1;
    while (8 << (count - 1) < length_) ++count;
    return count;
  }
  [[nodiscard]] Index steps(Index level) const { return std::min<Index>(8 << level, length_); }
  [[nodiscard]] Index tokens(Index level) const {
    return level > 2 ? most_tokens : Index{2} << level;
  }
  [[nodiscard]] Index size(Index level) const { return steps(level) + tokens(level); }
  [[nodiscard]] std::string name(Index level) const {
    return job::format("%lld tokens in %lld steps", static_cast<long long>(tokens(level)),
                       static_cast<long long>(steps(level)));
  }

  void draw(std::mt19937_64& engine, Index level, Index row, Tensor<Token, 2>& texts,
            Tensor<Token, 2>& targets) const {
    const Index count = tokens(level), asked = steps(level);
    std::fill_n(&texts(row, 0), asked, noise);
    std::fill_n(&texts(row, asked), count, question);
    token_task::choose_places(engine, count, asked, [&](Index place, Index n) {
      texts(row, place) = targets(row, asked + n) =
          1 + static_cast<Token>(engine() % (vocabulary - 2));
    });
  }

  void save(const std::string& path, const Model& model) const { ssm::save(path, model); }

 private:
  Index length_;
};

struct Arguments : token_task::Job {
  std::vector<std::string> models;
  std::string svg;
  Index longest = 16384, texts = 64;
};

int evaluate(const Arguments& a) {
  job::end_in_order_on_interrupt();
  plot::Plot picture{"Sixteen tokens among noise: how many are repeated rightly",
                     "steps in which they lie, 2 to the power of",
                     "tokens right (%)",
                     {}};
  for (const std::string& path : a.models) {
    const auto model = ssm::load<Model>(path);
    const std::string name = names[model.backbone.layers.at(0).mixer.kind.index()];
    plot::Series series{name, plot::Style::line, {}, {}};
    for (Index steps = 64; steps <= a.longest; steps *= 2) {
      const Copying task(steps);
      const auto score =
          token_task::score(ssm::cpu(a.threads), task, model, task.levels() - 1, a.texts);
      if (job::interrupted != 0) return job::exit_interrupted;
      std::printf("%s: %.2f%% of the tokens in %lld steps right, all 16 in %.1f%% of the texts\n",
                  name.c_str(), 100 * score.tokens, static_cast<long long>(steps),
                  100 * score.texts);
      std::fflush(stdout);
      series.x.push_back(std::log2(static_cast<double>(steps)));
      series.y.push_back(100 * score.tokens);
    }
    picture.series.push_back(series);
  }
  if (!a.svg.empty()) plot::show(picture, a.svg);
  return 0;
}

int run(int argc, char** argv) {
  options::Command app("Selective copying: S4 against S6, in a plain block and in Mamba's");
  Arguments a;
  a.training.kind = "mamba_s6";
  options::Command training = app.command("train", "learn to copy");
  options::Command evaluation = app.command("eval", "count the tokens that are copied rightly");
  training.add("--kind", a.training.kind)
      .one_of({"plain_s4", "plain_s6", "mamba_s4", "mamba_s6"})
      .show_default();
  a.add_options(training);
  evaluation.add("--model", a.models, "one or more").required();
  evaluation.add("--threads", a.threads, "0: all").check(options::between(0, 4096));
  evaluation.add("--longest", a.longest, "steps").check(options::between(64, 1e9)).show_default();
  evaluation.add("--texts", a.texts, "of each length")
      .check(options::between(1, 1e6))
      .show_default();
  evaluation.add("--svg", a.svg, "write the picture to this file");
  if (const auto ended = app.parse(argc, argv)) return *ended;
  if (evaluation.parsed()) return evaluate(a);
  return token_task::begin_or_resume<Model>(
      app, argc, argv, a, [](const token_task::Training& t) { return Copying(t.length); },
      first_model);
}

}  // namespace

int main(int argc, char** argv) {
  return job::main(argv[0], [&] { return run(argc, argv); });
}
