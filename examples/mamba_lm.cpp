// A byte-level Mamba language model, from any text file to a model that writes:
//
//   mamba_lm train    --text book.txt --out model
//   mamba_lm eval     --text book.txt --model model
//   mamba_lm generate --model model --prompt "In the beginning"

#include "ssm/models/mamba_lm.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "job.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "ssm/io/checkpoint.hpp"
#include "ssm/io/training_checkpoint.hpp"
#include "ssm/models/mamba_lm_memory.hpp"
#include "ssm/models/text_generator.hpp"
#include "ssm/train/text_trainer.hpp"
#include "text_models.hpp"

namespace {

using Bytes = std::span<const unsigned char>;
template <class Model>
using Run = ssm::TextTrainer<Model>;

constexpr double bits_per_nat = 1 / std::numbers::ln2;
using job::exit_interrupted;
using job::format;
using job::interrupted;
using job::Stopwatch;
using options::between;

/// A text in memory: what the model learns from, and what it is judged by.
struct Text {
  std::string bytes;
  std::size_t split = 0;

  Text(const std::string& path, double held_out) : bytes(ssm::detail::read_file(path)) {
    if (!(held_out >= 0 && held_out <= 1))
      throw std::runtime_error(format("--held-out is %g, expected from 0 to 1", held_out));
    split = bytes.size() - static_cast<std::size_t>(held_out * static_cast<double>(bytes.size()));
  }
  [[nodiscard]] Bytes all() const {
    return {reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()};
  }
  [[nodiscard]] Bytes training() const { return all().first(split); }
  [[nodiscard]] Bytes held_out() const { return all().subspan(split); }
};

/// Runs the model through `text` from `state` in pieces, each byte predicted from all that come
/// before it. Calls `each(bytes, nats)` with how many are predicted so far and their loss together;
/// returns that loss in the end. A learner takes the place of the model, and learns from each piece
/// once that has been predicted.
template <class Model, class Each>
double read_through(const ssm::Cpu& cpu, const Model& model, ssm::Trainer<Model>* learner,
                    Bytes text, typename Model::State& state, Each&& each) {
  const std::size_t piece = learner ? 256 : 1024;
  typename Model::Scratch scratch;
  ssm::Tensor<ssm::Token, 2> tokens, targets;
  double total = 0;
  for (std::size_t at = 0; at + 1 < text.size() && interrupted == 0; at += piece) {
    const std::size_t count = std::min(piece, text.size() - 1 - at);
    tokens.resize({1, static_cast<ssm::Index>(count)});
    targets.resize({1, static_cast<ssm::Index>(count)});
    std::copy_n(text.begin() + static_cast<std::ptrdiff_t>(at), count, tokens.begin());
    std::copy_n(text.begin() + static_cast<std::ptrdiff_t>(at) + 1, count, targets.begin());
    const auto nats = [&](const Model& m, ssm::Maybe<Model> gradients) {
      return loss(cpu, m, tokens, targets, state, gradients, {}, scratch);
    };
    const double mean = learner ? learner->step(cpu, nats).loss : nats(model, {});
    total += mean * static_cast<double>(count);
    each(at + count, total);
  }
  return total;
}

/// Bits per byte of `text` in one pass, the state carried from its first byte to its last. `prime`
/// is read before it, and not counted. Without it nothing predicts the first byte, which then
/// counts as 8 bits.
template <class Model, class Each>
double bits_per_byte(const ssm::Cpu& cpu, const Model& model, ssm::Trainer<Model>* learner,
                     Bytes prime, Bytes text, Each&& each) {
  auto state = make_state(model, 1);
  if (prime.empty()) {
    const double nats = read_through(cpu, model, learner, text, state, each);
    return (8 + nats * bits_per_nat) / static_cast<double>(text.size());
  }
  read_through(cpu, model, learner, prime, state, [](std::size_t, double) {});
  // The last byte of `prime` has not been read yet: it predicts the first one of `text`.
  const Bytes rest(prime.data() + prime.size() - 1, text.size() + 1);
  const double nats = read_through(cpu, model, learner, rest, state, each);
  return nats * bits_per_nat / static_cast<double>(text.size());
}

// --- train
// ----------------------------------------------------------------------------------------

struct TrainArguments {
  std::string called, text, out = "model";
  text_models::Sizes sizes;
  ssm::TextTrainerOptions options;
  double held_out = 0.1;
  bool resume = false, overwrite = false, half = false;
  int threads = 0;
  double memory = 0;  ///< bytes; 0: as much as a step takes whole
  ssm::Index evaluate_every = 0, save_every = 500;
  std::size_t evaluate_bytes = 65536;

  TrainArguments() {
    auto& o = options.trainer;
    o.schedule = {.peak = 2e-3, .warmup = 100, .steps = 2000, .final_fraction = 0.05};
    o.average = 0.999;
  }
  [[nodiscard]] std::filesystem::path checkpoint() const {
    return std::filesystem::path(out) / "training.safetensors";
  }
};

/// Which text a run has read: it must not change before the run goes on.
std::string describe(const Text& text) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const unsigned char byte : text.training()) hash = (hash ^ byte) * 1099511628211u;
  return std::to_string(text.split) + " bytes, FNV-1a " + std::to_string(hash);
}

template <class Model>
void save(const TrainArguments& a, const Run<Model>& run, const std::string& text) {
  const ssm::MambaLMConfig& m = a.sizes.mamba;
  ssm::save_run(a.out, run,
                {{"text", text},
                 {"mixer", a.sizes.kinds},
                 {"width", std::to_string(m.width)},
                 {"layers", std::to_string(m.layers)},
                 {"state", std::to_string(m.state)},
                 {"expand", std::to_string(m.expand)},
                 {"heads", std::to_string(a.sizes.heads)},
                 {"window", std::to_string(a.sizes.window)},
                 {"held_out", format("%.17g", a.held_out)},
                 {"threads", std::to_string(a.threads)},
                 {"half", a.half ? "true" : "false"}},
                a.half ? ssm::DType::F16 : ssm::DType::F32);
}

/// What save has noted beside the options of the trainer.
void read_notes(const std::map<std::string, std::string>& notes, TrainArguments& a) {
  const auto read = [&](const char* name, auto& value) {
    if (const auto note = notes.find(name); note != notes.end()) options::read(note->second, value);
  };
  ssm::MambaLMConfig& m = a.sizes.mamba;
  read("width", m.width);
  read("layers", m.layers);
  read("state", m.state);
  read("expand", m.expand);
  read("heads", a.sizes.heads);
  read("window", a.sizes.window);
  read("held_out", a.held_out);
  read("threads", a.threads);
  read("half", a.half);
}

/// Bits per byte over the beginning of what is held out.
template <class Model>
void print_held_out(const ssm::Cpu& cpu, const TrainArguments& a, const Text& text,
                    const Run<Model>& run) {
  const Bytes held_out = text.held_out();
  const Bytes part = held_out.first(std::min(held_out.size(), a.evaluate_bytes));
  if (part.empty()) return;
  const double bits =
      bits_per_byte<Model>(cpu, run.trainer.best(), nullptr, {}, part, [](std::size_t, double) {});
  if (interrupted != 0) return;
  std::printf("step %lld  held out %.4f bits/byte over %zu bytes\n",
              static_cast<long long>(run.steps()), bits, part.size());
  std::fflush(stdout);
}

/// Steps until the schedule ends or somebody interrupts. A step that is not finite is left out; too
/// many of them in a row are an error.
template <class Model>
void train_on(const ssm::Cpu& cpu, const TrainArguments& a, const Text& text, Run<Model>& run,
              const std::string& text_note) {
  constexpr int patience = 3;
  const ssm::Index first = run.steps(), last = run.options.trainer.schedule.steps;
  const auto due = [&](ssm::Index every) { return every > 0 && run.steps() % every == 0; };
  Progress progress("step", last);
  const Stopwatch watch;
  double smooth = 0, weight = 0;
  int spoiled = 0;
  while (run.steps() < last && interrupted == 0) {
    const ssm::TrainingReport report = run.step(cpu, text.training());
    if (!report.finite) {
      progress.finish();
      const std::string what =
          format("step %lld: the loss is %g and the gradient norm %g, expected finite numbers",
                 static_cast<long long>(run.steps() + 1), std::abs(report.loss),
                 std::abs(report.gradient_norm));
      if (++spoiled == patience)
        throw std::runtime_error(what + format(", %d times in a row; go on from the last "
                                               "checkpoint with --resume and a lower --lr",
                                               patience));
      std::fprintf(stderr, "%s; left out\n", what.c_str());
      continue;
    }
    spoiled = 0;
    smooth = 0.98 * smooth + 0.02 * report.loss * bits_per_nat;
    weight = 0.98 * weight + 0.02;
    const auto read =
        static_cast<double>((run.steps() - first) * a.options.batch * a.options.streams.length);
    progress.update(run.steps(),
                    format("loss %.4f bits/byte  norm %.2f  lr %.2e  %.0f bytes/s", smooth / weight,
                           report.gradient_norm, report.learning_rate, read / watch.seconds()));
    if (due(a.evaluate_every)) {
      progress.finish();
      print_held_out(cpu, a, text, run);
    }
    if (due(a.save_every)) save(a, run, text_note);
  }
  progress.finish();
}

/// How steps are cut so that they fit --memory. Throws for a run that this machine has no memory
/// for.
template <class Model>
ssm::PieceOptions pieces_of(const TrainArguments& a, const ssm::PieceOptions& had) {
  ssm::TrainingMemory memory =
      ssm::training_memory(a.sizes.mamba);  // of no kind of layer is more kept
  Model blank;
  configure(blank, text_models::config_of(blank, a.sizes));
  memory.each_state = 0;
  auto state = make_state(blank, 0);
  tensors(state, [&](const auto&, const auto& tensor) {
    double size = sizeof(*tensor.data());
    for (std::size_t i = 1; i < tensor.extents().size(); ++i)
      size *= static_cast<double>(tensor.extent(i));
    memory.each_state += size;
  });
  const ssm::Index batch = a.options.batch, length = a.options.streams.length;
  const ssm::PieceOptions pieces =
      a.memory > 0 ? ssm::pieces_within(a.memory, memory, batch, length) : had;
  const ssm::Index steps = pieces.length > 0 ? std::min(pieces.length, length) : length;
  job::require_memory(memory.weights + memory.each_token * static_cast<double>(steps * batch) +
                          4 * memory.each_state * static_cast<double>(batch),
                      format("training with %.3g bytes in each of %lld streams, %.3g at a time,",
                             static_cast<double>(length), static_cast<long long>(batch),
                             static_cast<double>(steps)));
  if (steps < length)
    std::printf("each step in pieces of %lld bytes\n", static_cast<long long>(steps));
  return pieces;
}

template <class Model>
int train(const TrainArguments& a, ssm::TrainingCheckpoint<Model>* from) {
  const Text text(a.text, a.held_out);
  const std::string text_note = describe(text);
  if (const auto least = static_cast<std::size_t>(a.options.streams.length) + 1; text.split < least)
    throw std::runtime_error(
        format("%s: has %zu bytes to learn from, expected at least %zu, which "
               "is --length and one",
               a.text.c_str(), text.split, least));
  const ssm::PieceOptions pieces = pieces_of<Model>(a, a.options.pieces);
  if (from != nullptr && from->notes["text"] != text_note)
    throw std::runtime_error(a.text + ": is not the text that the run in " + a.out + " read");
  Run<Model> run = from != nullptr ? std::move(from->run)
                                   : ssm::start_training<Model>(
                                         text_models::config_of(Model(), a.sizes), a.options);
  run.options = a.options;
  run.options.pieces = pieces;
  std::printf("%lld parameters, %zu bytes to learn from, %zu held out\n",
              static_cast<long long>(parameter_count(run.trainer.model)), text.training().size(),
              text.held_out().size());
  std::fflush(stdout);
  save(a, run, text_note);  // what cannot be written fails now, not after hours

  job::end_in_order_on_interrupt();
  train_on(ssm::cpu(a.threads), a, text, run, text_note);
  save(a, run, text_note);
  if (interrupted != 0) {
    std::fprintf(stderr,
                 "stopped after step %lld; go on with: %s train --text %s --out %s --resume\n",
                 static_cast<long long>(run.steps()), job::quoted(a.called).c_str(),
                 job::quoted(a.text).c_str(), job::quoted(a.out).c_str());
    return exit_interrupted;
  }
  std::printf("saved %s\n", a.out.c_str());
  return 0;
}

void add_train(options::Command& app, TrainArguments& a) {
  constexpr double many = 1e9;
  const auto add = [&](const char* name, auto& value, double least, double most,
                       const char* what = "") {
    app.add(name, value, what).check(between(least, most)).show_default();
  };
  auto& o = a.options;
  auto& t = o.trainer;
  app.add("--text", a.text, "file to learn from").required();
  app.add("--out", a.out, "directory for the model and the checkpoint").show_default();
  add("--held-out", a.held_out, 0, 0.99, "part of the text, at its end, that is not read");
  add("--width", a.sizes.mamba.width, 1, 1e6, "of the residual stream");
  add("--layers", a.sizes.mamba.layers, 1, 10000);
  add("--state", a.sizes.mamba.state, 1, 1e6, "states per channel");
  add("--expand", a.sizes.mamba.expand, 1, 1000, "channels per width");
  app.add("--mixer", a.sizes.kinds,
          "kinds of the layers, which take turns: mamba, attention, mlp, s4d, such as "
          "attention,mlp or mamba,mamba,attention")
      .show_default();
  add("--heads", a.sizes.heads, 1, 1e6, "of attention");
  add("--window", a.sizes.window, 1, 1e9, "bytes that attention sees");
  add("--batch", o.batch, 1, 1e6, "parallel streams of text");
  add("--length", o.streams.length, 1, many, "bytes per stream and step");
  app.add("--memory", a.memory,
          "such as 2G: a step that takes more is run in pieces, with the same gradient")
      .bytes();
  add("--steps", t.schedule.steps, 1, many);
  add("--lr", t.schedule.peak, 0, many, "highest learning rate");
  add("--final-lr", t.schedule.final_fraction, 0, many, "last learning rate, as part of --lr");
  add("--warmup", t.schedule.warmup, 0, many, "steps of rising learning rate");
  add("--weight-decay", t.adamw.weight_decay, 0, many);
  add("--beta2", t.adamw.beta2, 0, 0.99999999, "of AdamW");
  add("--clip", t.max_norm, 1e-9, many, "largest gradient norm");
  add("--ema", t.average, 0, 0.99999999, "decay of the average of the weights; 0: off");
  add("--dropout", o.dropout, 0, 0.9, "probability, on what each block adds");
  add("--jump-interval", o.streams.jump_interval, 0, many,
      "mean steps between jumps of a stream; 0: none");
  add("--latest-of", o.streams.latest_of, 1, 1e6,
      "a jump goes to the latest of so many random places: more favour the text's end");
  add("--rename", o.streams.rename, 0, 1,
      "probability that a name (a capitalised word) has other letters as long as a stream reads "
      "on: "
      "they are then learnt from context, not by heart");
  add("--seed", o.streams.seed, 0, 1.8e19);
  add("--threads", a.threads, 0, 4096, "0: all");
  add("--eval-every", a.evaluate_every, 0, many, "steps between evaluations; 0: never");
  add("--eval-bytes", a.evaluate_bytes, 0, 1e15, "held-out bytes per evaluation");
  add("--save-every", a.save_every, 0, many, "steps between checkpoints; 0: only at the end");
  app.flag("--half", a.half, "store the matrices of the model as F16");
  const options::Option resume =
      app.flag("--resume", a.resume,
               "go on from the checkpoint in --out; its options hold unless given again");
  app.flag("--overwrite", a.overwrite, "begin anew where --out holds another model")
      .excludes(resume);
}

/// Begins a run, or goes on with one: its options first, then once more those that were given.
int train_or_resume(options::Command& app, int argc, char** argv, TrainArguments& a) {
  if (!a.resume) {
    const bool taken = std::filesystem::exists(a.checkpoint()) ||
                       std::filesystem::exists(std::filesystem::path(a.out) / "model.safetensors");
    if (taken && !a.overwrite)
      throw std::runtime_error(a.out +
                               ": holds a model already; --resume goes on with it, "
                               "--overwrite begins anew in its place");
    return a.sizes.mixed() ? train<text_models::MixedModel>(a, nullptr)
                           : train<text_models::MambaModel>(a, nullptr);
  }
  const auto go_on = [&]<class Model>(const Model&) {
    auto checkpoint = ssm::load_training<Model>(a.checkpoint());
    const auto had = checkpoint.run.options;
    a.options = had;
    read_notes(checkpoint.notes, a);
    const text_models::Sizes sizes = a.sizes;
    if (const auto ended = app.parse(argc, argv)) return *ended;
    if (a.sizes != sizes || a.options.batch != had.batch ||
        (a.options.trainer.average > 0) != (had.trainer.average > 0))
      throw std::runtime_error(
          "--resume keeps the kinds and the sizes of the model, --batch and whether --ema is on");
    return train<Model>(a, &checkpoint);
  };
  const ssm::SafetensorsReader file(a.checkpoint());
  const auto kinds = file.metadata().find("mixer");
  a.sizes.kinds = kinds != file.metadata().end() ? kinds->second : "mamba";
  return a.sizes.mixed() ? go_on(text_models::MixedModel()) : go_on(text_models::MambaModel());
}

// --- eval
// -----------------------------------------------------------------------------------------

struct EvaluateArguments {
  std::string model, text;
  double held_out = 0.1;
  std::size_t prime = 0;  ///< KiB
  double adapt = 0;
  int threads = 0;
};

template <class Model>
int evaluate(const EvaluateArguments& a, const Model& model) {
  const ssm::Cpu cpu = ssm::cpu(a.threads);
  const Text text(a.text, a.held_out);
  const Bytes held_out = text.held_out();
  if (held_out.empty()) throw std::runtime_error(a.text + ": nothing is held out of it");
  const Bytes prime = text.training().last(std::min(text.split, a.prime * 1024));
  job::end_in_order_on_interrupt();
  Progress progress("byte", static_cast<std::int64_t>(held_out.size() - (prime.empty() ? 1 : 0)));
  const Stopwatch watch;
  // One that goes on learning (dynamic evaluation, Krause et al. 2018). A long memory of how large
  // gradients are: a piece alone is a noisy measure.
  ssm::Trainer<Model> learner;
  if (a.adapt > 0)
    learner = ssm::Trainer<Model>(model, {.schedule = {.peak = a.adapt, .final_fraction = 1},
                                          .adamw = {.beta2 = 0.999, .weight_decay = 0}});
  const double bits = bits_per_byte<Model>(
      cpu, model, a.adapt > 0 ? &learner : nullptr, prime, held_out,
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

void add_evaluate(options::Command& app, EvaluateArguments& a) {
  const auto add = [&](const char* name, auto& value, double most, const char* what) {
    app.add(name, value, what).check(between(0, most)).show_default();
  };
  app.add("--model", a.model, "directory or safetensors file").required();
  app.add("--text", a.text, "file to measure on").required();
  add("--held-out", a.held_out, 1, "part of the text, at its end, that is measured");
  add("--prime", a.prime, 1e12, "KiB before the measured part that are read first");
  add("--adapt", a.adapt, 1,
      "learning rate at which the model goes on learning from what it has predicted, as "
      "compressors "
      "do; 0: it does not");
  add("--threads", a.threads, 4096, "0: all");
}

// --- generate
// -------------------------------------------------------------------------------------

struct GenerateArguments {
  std::string model, prompt = "\n";
  std::size_t bytes = 1000;
  ssm::SamplingOptions sampling;
  int threads = 0;
};

template <class Model>
int generate(const GenerateArguments& a, Model model) {
  if (model.config.vocab != 256)
    throw std::runtime_error(a.model + ": has a vocabulary of " +
                             std::to_string(model.config.vocab) +
                             ", expected 256, as there is no tokenizer: a token is a byte");
  if (a.prompt.empty()) throw std::runtime_error("--prompt is empty, expected at least one byte");
  ssm::TextGenerator writer(std::move(model), a.sampling, ssm::cpu(a.threads));
  writer.read(a.prompt);

  job::end_in_order_on_interrupt();
  std::fwrite(a.prompt.data(), 1, a.prompt.size(), stdout);
  const Stopwatch watch;
  std::size_t written = 0;
  for (; written < a.bytes && interrupted == 0; ++written) {
    std::putchar(writer.next());
    job::flush_output();
  }
  std::putchar('\n');
  job::flush_output();
  std::fprintf(stderr, "%zu bytes, %.0f bytes/s\n", written,
               static_cast<double>(written) / watch.seconds());
  return interrupted != 0 ? exit_interrupted : 0;
}

void add_generate(options::Command& app, GenerateArguments& a) {
  const auto add = [&](const char* name, auto& value, double least, double most,
                       const char* what = "") {
    app.add(name, value, what).check(between(least, most)).show_default();
  };
  auto& s = a.sampling;
  app.add("--model", a.model, "directory or safetensors file").required();
  app.add("--prompt", a.prompt, "text to go on from; a line break when not given");
  add("--bytes", a.bytes, 0, 1e15, "how many to write");
  add("--temperature", s.temperature, 0, 1e9, "0: always the likeliest");
  add("--top-k", s.top_k, 0, 1e9, "0: all");
  add("--top-p", s.top_p, 1e-9, 1);
  add("--min-p", s.min_p, 0, 1);
  add("--repetition-penalty", s.repetition_penalty, 1, 1e9);
  add("--repetition-window", s.repetition_window, 0, 1e6);
  add("--seed", s.seed, 0, 1.8e19);
  add("--threads", a.threads, 0, 4096, "that read the prompt; 0: all");
}

int run(int argc, char** argv) {
  options::Command app("A byte-level language model: Mamba, attention, S4D, or layers of several");
  TrainArguments train_arguments;
  EvaluateArguments evaluate_arguments;
  GenerateArguments generate_arguments;
  train_arguments.called = argv[0];
  options::Command train_command = app.command("train", "learn from a text");
  options::Command evaluate_command = app.command("eval", "measure bits per byte");
  options::Command generate_command = app.command("generate", "write");
  add_train(train_command, train_arguments);
  add_evaluate(evaluate_command, evaluate_arguments);
  add_generate(generate_command, generate_arguments);
  if (const auto ended = app.parse(argc, argv)) return *ended;
  if (evaluate_command.parsed())
    return text_models::with_model(evaluate_arguments.model, [&](const auto& model) {
      return evaluate(evaluate_arguments, model);
    });
  if (generate_command.parsed())
    return text_models::with_model(generate_arguments.model, [&](auto model) {
      return generate(generate_arguments, std::move(model));
    });
  return train_or_resume(app, argc, argv, train_arguments);
}

}  // namespace

int main(int argc, char** argv) {
  return job::main(argv[0], [&] { return run(argc, argv); });
}
