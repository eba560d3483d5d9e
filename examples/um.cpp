// Digits, among "um"s and silences of any length; at a question mark the model repeats the digits.
// A system that is the same at every step forgets them by and by. One that chooses its step size
// Δ by what it reads takes a digit in with a large Δ, and lets an "um" pass with one of nearly
// zero:
//
//   um train --out model
//   um eval  --model model
//   um say   --model model --text "4um  um um7  um um  1um?"
//   um delta --model model --text "4um  um um7  um um  1um?" --svg um.svg
//   um delta --model examples/checkpoints/kjv --text "And God said, Let there be light"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "ssm/io/checkpoint.hpp"
#include "ssm/layers/step_sizes.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/models/text_generator.hpp"
#include "strips.hpp"
#include "token_task.hpp"

namespace {

using ssm::Index;
using ssm::Tensor;
using ssm::Token;
using Model = ssm::MambaLM<float>;

constexpr Index most_digits = 5;

/// Texts such as "4um  um7 um?47" and a line break, of bytes.
class Um {
 public:
  explicit Um(Index length) : length_(length) {}

  [[nodiscard]] Index levels() const {  // of 8, 16, 32, … letters before the question
    Index count = 1;
    while (8 << (count - 1) < length_) ++count;
    return count;
  }
  [[nodiscard]] Index letters(Index level) const { return std::min<Index>(8 << level, length_); }
  [[nodiscard]] Index size(Index level) const { return letters(level) + 1 + most_digits; }
  [[nodiscard]] std::string name(Index level) const {
    return job::format("%lld letters", static_cast<long long>(letters(level)));
  }

  /// From one to five digits anywhere, with a wait in "um"s or in silence after each.
  void draw(std::mt19937_64& engine, Index level, Index row, Tensor<Token, 2>& tokens,
            Tensor<Token, 2>& targets) const {
    const Index question = letters(level);
    const auto digits = 1 + static_cast<Index>(engine() % most_digits);
    std::fill_n(&tokens(row, 0), question, Token{' '});
    tokens(row, question) = '?';
    for (Index t = question + 1; t < size(level); ++t) tokens(row, t) = '\n';
    token_task::choose_places(engine, digits, question, [&](Index place, Index n) {
      const auto digit = static_cast<Token>('0' + engine() % 10);
      tokens(row, place) = digit;
      targets(row, question + n) = digit;
      if (question + 1 + n < size(level)) tokens(row, question + 1 + n) = digit;
    });
    targets(row, question + digits) = '\n';
    for (Index t = 0; t + 1 < question; ++t)
      if (tokens(row, t) == ' ' && tokens(row, t + 1) == ' ' && engine() % 3 == 0) {
        tokens(row, t) = 'u';
        tokens(row, ++t) = 'm';
      }
  }

  void save(const std::string& path, const Model& model) const { ssm::save_mamba_lm(path, model); }

 private:
  Index length_;
};

struct Arguments : token_task::Job {
  std::string text = "um  4 um um  7um   um um  1 um um?", svg;
  Index longest = 65536, texts = 64;
};

Model first_model(const token_task::Training& t) {
  Model model(ssm::mamba_lm_config<float>(
      {.vocab = 256, .width = t.width, .layers = t.layers, .state = t.state}));
  initialize(model, t.seed);
  return model;
}

int evaluate(const Arguments& a) {
  const Model model = ssm::load_mamba_lm(a.path);
  job::end_in_order_on_interrupt();
  std::puts("letters before the question   digits right   whole answers right");
  for (Index letters = 64; letters <= a.longest && job::interrupted == 0; letters *= 4) {
    const Um task(letters);
    const auto score =
        token_task::score(ssm::cpu(a.threads), task, model, task.levels() - 1, a.texts);
    if (job::interrupted != 0) break;
    std::printf("%27lld   %11.1f%%   %18.1f%%\n", static_cast<long long>(letters),
                100 * score.tokens, 100 * score.texts);
    std::fflush(stdout);
  }
  return job::interrupted != 0 ? job::exit_interrupted : 0;
}

int say(const Arguments& a) {
  ssm::TextGenerator writer(ssm::load_mamba_lm(a.path), {.temperature = 0}, ssm::cpu(a.threads));
  writer.read(a.text);
  std::printf("%s", a.text.c_str());
  for (int n = 0; n < 20; ++n) {
    const char letter = static_cast<char>(writer.next());
    if (letter == '\n') break;
    std::putchar(letter);
  }
  std::putchar('\n');
  return 0;
}

/// The Δ of every layer at every letter, the mean over the eighth of its channels whose Δ rises
/// highest above its median: those that choose. Most others have a nearly constant one.
std::vector<strips::Strip> deltas(const ssm::Cpu& cpu, const Model& model, std::string_view text) {
  const auto length = static_cast<Index>(text.size());
  const Index width = model.config.width();
  Tensor<float, 3> x({1, length, width}), delta;
  for (Index t = 0; t < length; ++t)
    std::copy_n(&model.embedding(static_cast<unsigned char>(text[static_cast<std::size_t>(t)]), 0),
                width, &x(0, t, 0));
  std::vector<strips::Strip> strips;
  for (const auto& block : model.backbone.layers) {
    ssm::ResidualScratch<ssm::Mamba<float>> scratch;
    forward(cpu, block, x, {}, x, {.keep = false}, scratch);
    const Index channels = block.config.mixer.channels();
    delta.resize({1, length, channels});
    step_sizes(block, scratch, delta);

    std::vector<std::pair<float, Index>> rises;
    std::vector<float> of_channel(text.size());
    for (Index c = 0; c < channels; ++c) {
      for (Index t = 0; t < length; ++t) of_channel[static_cast<std::size_t>(t)] = delta(0, t, c);
      std::sort(of_channel.begin(), of_channel.end());
      rises.emplace_back(of_channel.back() / of_channel[of_channel.size() / 2], c);
    }
    std::sort(rises.rbegin(), rises.rend());
    rises.resize(static_cast<std::size_t>((channels + 7) / 8));

    strips::Strip strip{job::format("layer %zu", strips.size() + 1), {}};
    for (Index t = 0; t < length; ++t) {
      double sum = 0;
      for (const auto& [rise, c] : rises) sum += static_cast<double>(delta(0, t, c));
      strip.values.push_back(sum / static_cast<double>(rises.size()));
    }
    strips.push_back(strip);
  }
  return strips;
}

int show_delta(const Arguments& a) {
  const Model model = ssm::load_mamba_lm(a.path);
  if (model.config.vocab != 256)
    throw std::runtime_error(a.path + ": does not read bytes, as this program's models do");
  if (a.text.empty()) throw std::runtime_error("--text is empty, expected at least one letter");
  strips::show({"Step size Δ at each letter: where it is large, a layer takes the letter in",
                a.text, deltas(ssm::cpu(a.threads), model, a.text)},
               a.svg);
  return 0;
}

int run(int argc, char** argv) {
  options::Command app("Digits among ums");
  Arguments a;
  a.training.kind = "um";
  a.training.width = 32;
  a.training.length = 8192;
  a.training.steps = 6000;
  options::Command training = app.command("train", "learn to repeat the digits");
  options::Command evaluation = app.command("eval", "count right answers after ever longer texts");
  options::Command saying = app.command("say", "answer a text");
  options::Command showing = app.command("delta", "show what a Mamba of bytes makes of a text");
  a.add_options(training);
  for (options::Command* command : {&evaluation, &saying, &showing}) {
    command->add("--model", a.path, "directory or safetensors file").required();
    command->add("--threads", a.threads, "0: all").check(options::between(0, 4096));
  }
  for (options::Command* command : {&saying, &showing})
    command->add("--text", a.text).show_default();
  evaluation.add("--longest", a.longest, "letters").check(options::between(64, 1e9)).show_default();
  evaluation.add("--texts", a.texts, "of each length")
      .check(options::between(1, 1e6))
      .show_default();
  showing.add("--svg", a.svg, "write the picture to this file");
  if (const auto ended = app.parse(argc, argv)) return *ended;
  if (evaluation.parsed()) return evaluate(a);
  if (saying.parsed()) return say(a);
  if (showing.parsed()) return show_delta(a);
  return token_task::begin_or_resume<Model>(
      app, argc, argv, a, [](const token_task::Training& t) { return Um(t.length); }, first_model);
}

}  // namespace

int main(int argc, char** argv) {
  return job::main(argv[0], [&] { return run(argc, argv); });
}
