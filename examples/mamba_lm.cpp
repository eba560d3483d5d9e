// A byte-level Mamba language model, from any text file to a model that writes:
//
//   mamba_lm train    --text book.txt --out model
//   mamba_lm eval     --text book.txt --model model
//   mamba_lm generate --model model --prompt "In the beginning"

#include "ssm/models/mamba_lm.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "job.hpp"
#include "progress.hpp"
#include "ssm/io/checkpoint.hpp"
#include "ssm/io/training_checkpoint.hpp"
#include "ssm/models/sampling.hpp"

namespace {

using Bytes = std::span<const unsigned char>;
using Weights = ssm::MambaLMWeights<float>;
using State = ssm::MambaLMState<float>;
using Workspace = ssm::MambaLMWorkspace<float>;

constexpr double bits_per_nat = 1 / std::numbers::ln2;
using job::exit_interrupted;
using job::format;
using job::interrupted;
using job::Stopwatch;

/// A text in memory: what the model learns from, and what it is judged by.
struct Text {
  std::string bytes;
  std::size_t split = 0;

  Text(const std::string& path, double held_out) : bytes(ssm::detail::read_file(path)) {
    split = bytes.size() - static_cast<std::size_t>(held_out * static_cast<double>(bytes.size()));
  }
  [[nodiscard]] Bytes all() const {
    return {reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()};
  }
  [[nodiscard]] Bytes training() const { return all().first(split); }
  [[nodiscard]] Bytes held_out() const { return all().subspan(split); }
};

/// A model that goes on learning while it is judged, from each piece once that has been predicted,
/// as a compressor does (dynamic evaluation, Krause et al. 2018).
struct Learner {
  Weights weights, gradients, first_moment, second_moment;
  double learning_rate;
  ssm::Index step = 0;

  Learner(const Weights& start, double rate)
      : weights(start),
        gradients(start.config),
        first_moment(start.config),
        second_moment(start.config),
        learning_rate(rate) {}

  void learn(const ssm::Cpu& cpu) {
    if (!std::isfinite(ssm::clip_gradients(cpu, gradients, 1.0))) return;
    // A long memory of how large gradients are: a piece alone is a noisy measure.
    ssm::adamw_step(cpu, weights, gradients, first_moment, second_moment, ++step,
                    {.learning_rate = learning_rate, .beta2 = 0.999, .weight_decay = 0});
  }
};

/// Runs the model through `text` from `state` in pieces, each byte predicted from all that come
/// before it. Calls `each(bytes, nats)` with how many are predicted so far and their loss together;
/// returns that loss in the end. With a learner, its weights take the place of `weights`.
template <class Each>
double read_through(const ssm::Cpu& cpu, const Weights& weights, Learner* learner, Bytes text,
                    State& state, Each&& each) {
  const std::size_t piece = learner ? 256 : 1024;
  Workspace workspace;
  ssm::Tensor<ssm::Token, 2> tokens, targets;
  double total = 0;
  for (std::size_t at = 0; at + 1 < text.size() && interrupted == 0; at += piece) {
    const std::size_t count = std::min(piece, text.size() - 1 - at);
    tokens.resize({1, static_cast<ssm::Index>(count)});
    targets.resize({1, static_cast<ssm::Index>(count)});
    std::copy_n(text.begin() + static_cast<std::ptrdiff_t>(at), count, tokens.begin());
    std::copy_n(text.begin() + static_cast<std::ptrdiff_t>(at) + 1, count, targets.begin());
    const double nats =
        ssm::mamba_lm_loss<float>(cpu, learner ? learner->weights : weights, tokens, targets, state,
                                  learner ? &learner->gradients : nullptr, workspace);
    if (learner) learner->learn(cpu);
    total += nats * static_cast<double>(count);
    each(at + count, total);
  }
  return total;
}

/// Bits per byte of `text` in one pass, the state carried from its first byte to its last. `prime`
/// is read before it, and not counted. Without it nothing predicts the first byte, which then
/// counts as 8 bits.
template <class Each>
double bits_per_byte(const ssm::Cpu& cpu, const Weights& weights, Learner* learner, Bytes prime,
                     Bytes text, Each&& each) {
  State state(weights.config, 1);
  if (prime.empty()) {
    const double nats = read_through(cpu, weights, learner, text, state, each);
    return (8 + nats * bits_per_nat) / static_cast<double>(text.size());
  }
  read_through(cpu, weights, learner, prime, state, [](std::size_t, double) {});
  // The last byte of `prime` has not been read yet: it predicts the first one of `text`.
  const Bytes rest(prime.data() + prime.size() - 1, text.size() + 1);
  const double nats = read_through(cpu, weights, learner, rest, state, each);
  return nats * bits_per_nat / static_cast<double>(text.size());
}

struct TrainArguments {
  std::string text, out = "model";
  ssm::MambaLMConfig config{.width = 192, .layers = 4};
  ssm::TrainingOptions options;
  double held_out = 0.1;
  bool resume = false;
  int threads = 0;
  ssm::Index evaluate_every = 0, save_every = 500;
  std::size_t evaluate_bytes = 65536;
  bool half = false;

  TrainArguments() {
    options.schedule = {.peak = 2e-3, .warmup = 100, .steps = 2000, .final_fraction = 0.05};
    options.average = 0.999;
  }
};

/// Which text a run has read: it must not change before the run goes on.
std::string describe(const Text& text) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const unsigned char byte : text.training()) hash = (hash ^ byte) * 1099511628211u;
  return std::to_string(text.split) + " bytes, FNV-1a " + std::to_string(hash);
}

void save(const TrainArguments& a, const ssm::MambaLMTrainer<float>& trainer, const Text& text) {
  const std::filesystem::path out(a.out);
  ssm::save_mamba_lm(out, trainer.state.best(trainer.options),
                     a.half ? ssm::DType::F16 : ssm::DType::F32);
  ssm::save_training(out / "training.safetensors", trainer.state, trainer.options,
                     {{"text", describe(text)},
                      {"held_out", format("%.17g", a.held_out)},
                      {"half", a.half ? "true" : "false"}});
}

/// Bits per byte over the beginning of what is held out.
void print_held_out(const ssm::Cpu& cpu, const TrainArguments& a, const Text& text,
                    const ssm::MambaLMTrainer<float>& trainer) {
  const Bytes held_out = text.held_out();
  const Bytes part = held_out.first(std::min(held_out.size(), a.evaluate_bytes));
  if (part.empty()) return;
  const double bits = bits_per_byte(cpu, trainer.state.best(trainer.options), nullptr, {}, part,
                                    [](std::size_t, double) {});
  if (interrupted != 0) return;
  std::printf("step %lld  held out %.4f bits/byte over %zu bytes\n",
              static_cast<long long>(trainer.state.step), bits, part.size());
  std::fflush(stdout);
}

/// Steps until the schedule ends or somebody interrupts.
void train_on(const ssm::Cpu& cpu, const TrainArguments& a, const Text& text,
              ssm::MambaLMTrainer<float>& trainer) {
  const ssm::TrainingOptions& options = trainer.options;
  const ssm::Index first = trainer.state.step, last = options.schedule.steps;
  const auto due = [&](ssm::Index every) { return every > 0 && trainer.state.step % every == 0; };
  Progress progress("step", last);
  const Stopwatch watch;
  double smooth = 0, weight = 0;
  while (trainer.state.step < last && interrupted == 0) {
    const ssm::TrainingReport report = trainer.step(cpu, text.training());
    if (!report.finite) {
      progress.finish();
      throw std::runtime_error(
          format("step %lld: the loss is %g and the gradient norm %g, expected finite numbers; go "
                 "on from the last checkpoint with --resume and a lower --lr",
                 static_cast<long long>(trainer.state.step), report.loss, report.gradient_norm));
    }
    smooth = 0.98 * smooth + 0.02 * report.loss * bits_per_nat;
    weight = 0.98 * weight + 0.02;
    const auto read =
        static_cast<double>((trainer.state.step - first) * options.batch * options.streams.length);
    progress.update(trainer.state.step,
                    format("loss %.4f bits/byte  norm %.2f  lr %.2e  %.0f bytes/s", smooth / weight,
                           report.gradient_norm, report.learning_rate, read / watch.seconds()));
    if (due(a.evaluate_every)) {
      progress.finish();
      print_held_out(cpu, a, text, trainer);
    }
    if (due(a.save_every)) save(a, trainer, text);
  }
  progress.finish();
}

int train(const TrainArguments& a, const ssm::TrainingCheckpoint<float>* from) {
  const Text text(a.text, a.held_out);
  ssm::MambaLMTrainer<float> trainer;
  trainer.options = a.options;
  if (from == nullptr) {
    trainer.state = ssm::start_training<float>(a.config, a.options);
  } else if (const auto read = from->notes.find("text");
             read != from->notes.end() && read->second == describe(text)) {
    trainer.state = from->state;
  } else {
    throw std::runtime_error(a.text + ": is not the text that the run in " + a.out + " read");
  }
  std::size_t parameters = 0;
  trainer.state.weights.visit([&](const std::string&, const auto& tensor, bool) {
    parameters += static_cast<std::size_t>(tensor.size());
  });
  std::printf("%zu parameters, %zu bytes to learn from, %zu held out\n", parameters,
              text.training().size(), text.held_out().size());
  std::fflush(stdout);

  job::end_in_order_on_interrupt();
  train_on(ssm::cpu(a.threads), a, text, trainer);
  save(a, trainer, text);
  if (interrupted != 0) {
    std::fprintf(
        stderr, "stopped after step %lld; go on with: mamba_lm train --text %s --out %s --resume\n",
        static_cast<long long>(trainer.state.step), a.text.c_str(), a.out.c_str());
    return exit_interrupted;
  }
  std::printf("saved %s\n", a.out.c_str());
  return 0;
}

/// A number of at least this much; CLI11 itself would wrap a negative one where none is expected.
CLI::Validator at_least(double least) {
  const auto check = [least](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= least) return "";
    return format("%s is not a number from %g", text.c_str(), least);
  };
  return {check, "", "at least"};
}

void add_train(CLI::App& app, TrainArguments& a) {
  app.add_option("--text", a.text, "file to learn from")->required();
  app.add_option("--out", a.out, "directory for the model and the checkpoint")
      ->capture_default_str();
  app.add_option("--held-out", a.held_out, "part of the text, at its end, that is not read")
      ->check(CLI::Range(0.0, 0.99))
      ->capture_default_str();
  app.add_option("--width", a.config.width, "of the residual stream")
      ->check(at_least(1))
      ->capture_default_str();
  app.add_option("--layers", a.config.layers)->check(at_least(1))->capture_default_str();
  app.add_option("--state", a.config.state, "states per channel")
      ->check(at_least(1))
      ->capture_default_str();
  app.add_option("--expand", a.config.expand, "channels per width")
      ->check(at_least(1))
      ->capture_default_str();
  auto& o = a.options;
  app.add_option("--batch", o.batch, "parallel streams of text")
      ->check(at_least(1))
      ->capture_default_str();
  app.add_option("--length", o.streams.length, "bytes per stream and step")
      ->check(at_least(1))
      ->capture_default_str();
  app.add_option("--steps", o.schedule.steps)->check(at_least(1))->capture_default_str();
  app.add_option("--lr", o.schedule.peak, "highest learning rate")
      ->check(at_least(0))
      ->capture_default_str();
  app.add_option("--final-lr", o.schedule.final_fraction, "last learning rate, as part of --lr")
      ->check(at_least(0))
      ->capture_default_str();
  app.add_option("--warmup", o.schedule.warmup, "steps of rising learning rate")
      ->check(at_least(0))
      ->capture_default_str();
  app.add_option("--weight-decay", o.adamw.weight_decay)->check(at_least(0))->capture_default_str();
  app.add_option("--beta2", o.adamw.beta2, "of AdamW")
      ->check(CLI::Range(0.0, 0.99999999))
      ->capture_default_str();
  app.add_option("--clip", o.max_norm, "largest gradient norm")
      ->check(CLI::Range(1e-9, 1e9))
      ->capture_default_str();
  app.add_option("--ema", o.average, "decay of the average of the weights; 0: off")
      ->check(CLI::Range(0.0, 0.99999999))
      ->capture_default_str();
  app.add_option("--dropout", o.dropout, "probability, on what each block reads")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str();
  app.add_option("--jump-interval", o.streams.jump_interval, "mean steps between jumps of a stream")
      ->check(at_least(0))
      ->capture_default_str();
  app.add_option("--latest-of", o.streams.latest_of,
                 "a jump goes to the latest of so many random places: more favour the text's end")
      ->check(at_least(1))
      ->capture_default_str();
  app.add_option("--rename", o.streams.rename,
                 "probability that a name (a capitalised word) has other letters as long as a "
                 "stream reads on: they are then learnt from context, not by heart")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--seed", o.streams.seed)->check(at_least(0))->capture_default_str();
  app.add_option("--threads", a.threads, "0: all")->check(at_least(0))->capture_default_str();
  app.add_option("--eval-every", a.evaluate_every, "steps between evaluations; 0: never")
      ->capture_default_str();
  app.add_option("--eval-bytes", a.evaluate_bytes, "held-out bytes per evaluation")
      ->check(at_least(0))
      ->capture_default_str();
  app.add_option("--save-every", a.save_every, "steps between checkpoints; 0: only at the end")
      ->capture_default_str();
  app.add_flag("--half", a.half, "store the matrices of the model as F16");
  app.add_flag("--resume", a.resume,
               "go on from the checkpoint in --out; its options hold unless given again");
}

struct EvaluateArguments {
  std::string model, text;
  double held_out = 0.1;
  std::size_t prime = 0;  ///< KiB
  double adapt = 0;
  int threads = 0;
};

int evaluate(const EvaluateArguments& a) {
  const ssm::Cpu cpu = ssm::cpu(a.threads);
  const Weights weights = ssm::load_mamba_lm(a.model);
  const Text text(a.text, a.held_out);
  const Bytes held_out = text.held_out();
  if (held_out.empty()) throw std::runtime_error(a.text + ": nothing is held out of it");
  const Bytes prime = text.training().last(std::min(text.split, a.prime * 1024));
  job::end_in_order_on_interrupt();
  Progress progress("byte", static_cast<std::int64_t>(held_out.size()));
  const Stopwatch watch;
  Learner learner(weights, a.adapt);
  const double bits = bits_per_byte(
      cpu, weights, a.adapt > 0 ? &learner : nullptr, prime, held_out,
      [&](std::size_t done, double nats) {
        progress.update(static_cast<std::int64_t>(done),
                        format("%.4f bits/byte", nats * bits_per_nat / static_cast<double>(done)));
      });
  progress.finish();
  if (interrupted != 0) return exit_interrupted;
  const auto read = static_cast<double>(prime.size() + held_out.size());
  std::printf("%.4f bits/byte over the last %zu of %zu bytes, %.0f bytes/s\n", bits,
              held_out.size(), text.bytes.size(), read / watch.seconds());
  return 0;
}

void add_evaluate(CLI::App& app, EvaluateArguments& a) {
  app.add_option("--model", a.model, "directory or safetensors file")->required();
  app.add_option("--text", a.text, "file to measure on")->required();
  app.add_option("--held-out", a.held_out, "part of the text, at its end, that is measured")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--prime", a.prime, "KiB before the measured part that are read first")
      ->check(at_least(0))
      ->capture_default_str();
  app.add_option("--adapt", a.adapt,
                 "learning rate at which the model goes on learning from what it has predicted, "
                 "as compressors do; 0: it does not")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--threads", a.threads, "0: all")->check(at_least(0))->capture_default_str();
}

struct GenerateArguments {
  std::string model, prompt = "\n";
  std::size_t bytes = 1000;
  ssm::SamplingOptions sampling;
  int threads = 0;
};

int generate(const GenerateArguments& a) {
  const Weights weights = ssm::load_mamba_lm(a.model);
  const ssm::Index vocab = weights.config.vocab;
  if (vocab != 256)
    throw std::runtime_error(a.model + ": has a vocabulary of " + std::to_string(vocab) +
                             ", expected 256 bytes");
  if (a.prompt.empty()) throw std::runtime_error("--prompt is empty, expected at least one byte");
  ssm::Sampler sampler(vocab, a.sampling);
  State state(weights.config, 1);
  Workspace workspace;

  // All of the prompt but its last byte moves the state only, in pieces, so that a long one takes
  // no more memory than a short one; then its last byte is the first step.
  const auto length = static_cast<ssm::Index>(a.prompt.size());
  ssm::Tensor<ssm::Token, 2> prompt({1, length});
  for (ssm::Index t = 0; t < length; ++t) {
    prompt(0, t) = static_cast<unsigned char>(a.prompt[static_cast<std::size_t>(t)]);
    sampler.observe(prompt(0, t));
  }
  for (ssm::Index at = 0; at + 1 < length; at += 1024)
    ssm::mamba_lm_forward<float>(
        ssm::cpu(a.threads), weights,
        std::as_const(prompt).view().slice(1, at, std::min<ssm::Index>(1024, length - 1 - at)),
        state, {}, workspace);
  ssm::Tensor<float, 2> logits({1, vocab});
  ssm::Tensor<ssm::Token, 1> token({1});
  token(0) = prompt(0, length - 1);
  workspace.reserve_step(weights.config, 1);
  ssm::mamba_lm_step<float>(weights, state, token, logits, workspace);

  job::end_in_order_on_interrupt();
  std::fwrite(a.prompt.data(), 1, a.prompt.size(), stdout);
  const Stopwatch watch;
  std::size_t written = 0;
  for (; written < a.bytes && interrupted == 0; ++written) {
    token(0) = sampler(std::as_const(logits).view()[0]);
    std::putchar(token(0));
    std::fflush(stdout);
    ssm::mamba_lm_step<float>(weights, state, token, logits, workspace);
  }
  std::putchar('\n');
  std::fflush(stdout);
  std::fprintf(stderr, "%zu bytes, %.0f bytes/s\n", written,
               static_cast<double>(written) / watch.seconds());
  return interrupted != 0 ? exit_interrupted : 0;
}

void add_generate(CLI::App& app, GenerateArguments& a) {
  app.add_option("--model", a.model, "directory or safetensors file")->required();
  app.add_option("--prompt", a.prompt, "text to go on from; a line break when not given");
  app.add_option("--bytes", a.bytes, "how many to write")
      ->check(at_least(0))
      ->capture_default_str();
  auto& s = a.sampling;
  app.add_option("--temperature", s.temperature, "0: always the likeliest")->capture_default_str();
  app.add_option("--top-k", s.top_k, "0: all")->capture_default_str();
  app.add_option("--top-p", s.top_p)->capture_default_str();
  app.add_option("--min-p", s.min_p)->capture_default_str();
  app.add_option("--repetition-penalty", s.repetition_penalty)->capture_default_str();
  app.add_option("--repetition-window", s.repetition_window)->capture_default_str();
  app.add_option("--seed", s.seed)->check(at_least(0))->capture_default_str();
  app.add_option("--threads", a.threads, "that read the prompt; 0: all")->capture_default_str();
}

int run(int argc, char** argv) {
  CLI::App app("A byte-level Mamba language model");
  app.require_subcommand(1);
  TrainArguments train_arguments;
  EvaluateArguments evaluate_arguments;
  GenerateArguments generate_arguments;
  CLI::App& train_command = *app.add_subcommand("train", "learn from a text");
  CLI::App& evaluate_command = *app.add_subcommand("eval", "measure bits per byte");
  CLI::App& generate_command = *app.add_subcommand("generate", "write");
  add_train(train_command, train_arguments);
  add_evaluate(evaluate_command, evaluate_arguments);
  add_generate(generate_command, generate_arguments);
  CLI11_PARSE(app, argc, argv);

  if (evaluate_command.parsed()) return evaluate(evaluate_arguments);
  if (generate_command.parsed()) return generate(generate_arguments);
  if (!train_arguments.resume) return train(train_arguments, nullptr);

  // The options of the checkpoint first, then once more those that were given.
  const auto checkpoint = ssm::load_training<float>(std::filesystem::path(train_arguments.out) /
                                                    "training.safetensors");
  train_arguments.config = checkpoint.state.weights.config;
  train_arguments.options = checkpoint.options;
  if (const auto note = checkpoint.notes.find("held_out"); note != checkpoint.notes.end())
    CLI::detail::lexical_cast(note->second, train_arguments.held_out);
  if (const auto note = checkpoint.notes.find("half"); note != checkpoint.notes.end())
    train_arguments.half = note->second == "true";
  CLI11_PARSE(app, argc, argv);
  if (train_arguments.config != checkpoint.state.weights.config ||
      train_arguments.options.batch != checkpoint.options.batch ||
      (train_arguments.options.average > 0) != (checkpoint.options.average > 0))
    throw std::runtime_error(
        "--resume keeps the sizes of the model, --batch and whether --ema is on");
  return train(train_arguments, &checkpoint);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mamba_lm: %s\n", error.what());
    return 1;
  }
}
