#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "job.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "run.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/tokenizer.hpp"
#include "ssm/io/train_tokenizer.hpp"
#include "ssm/io/training_checkpoint.hpp"
#include "ssm/train/text_trainer.hpp"
#include "text_memory.hpp"
#include "text_models.hpp"
#include "text_place.hpp"
#include "text_scoring.hpp"

/// The command of mamba_lm that trains: a run over a text, which can stop and go on. Over ranks all
/// have the same run, and the first prints and saves.
namespace text_run {

using job::format;
using text_place::Place;
using text_scoring::bits_per_nat;
using text_scoring::Bytes;
using text_scoring::Reading;
using text_scoring::Text;

template <class Model>
using Run = ssm::TextTrainer<Model>;

/// What the command line says of a run.
struct Arguments {
  std::string called, text, out = "model";
  text_models::Sizes sizes;
  ssm::Index vocab = 256;  ///< 256: bytes
  ssm::TextTrainerOptions options;
  double held_out = 0.1;
  bool resume = false, overwrite = false, half = false;
  int threads = 0, time_ranks = 0;
  double memory = 0;  ///< bytes; 0: as much as a step takes whole
  ssm::Index evaluate_every = 0, save_every = 500;
  std::size_t evaluate_bytes = 65536;

  Arguments() {
    auto& o = options.trainer;
    o.schedule = {.peak = 2e-3, .warmup = 100, .steps = 2000, .final_fraction = 0.05};
    o.average = 0.999;
  }
  [[nodiscard]] std::filesystem::path checkpoint() const {
    return std::filesystem::path(out) / "training.safetensors";
  }
};

/// Which text a run has read: it must not change before the run goes on.
inline std::string describe(const Text& text) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const unsigned char byte : text.training()) hash = (hash ^ byte) * 1099511628211u;
  return std::to_string(text.split) + " bytes, FNV-1a " + std::to_string(hash);
}

/// What a run reads, and what its checkpoint keeps of that.
class Source {
 public:
  /// @param json the text of a tokenizer.json that is learnt already; empty: it is learnt here, of
  ///   what the model learns from, where the vocabulary is larger than that of bytes
  Source(const Place& place, const Arguments& a, std::string json)
      : text(a.text, a.held_out), note(describe(text)), json_(std::move(json)) {
    if (json_.empty() && a.vocab > 256) learn(place, a.vocab);
    if (json_.empty()) return;
    const std::string name = a.checkpoint().string() + ": tokenizer";
    tokenizer_.emplace(
        ssm::Tokenizer::from_json(ssm::detail::parse_json(name, json_, "", json_.size()), name));
  }

  const Text text;
  const std::string note;  ///< tells this text from others

  /// Null where the model reads bytes.
  [[nodiscard]] const ssm::Tokenizer* tokenizer() const {
    return tokenizer_ ? &*tokenizer_ : nullptr;
  }
  /// The text of the tokenizer.json; empty where the model reads bytes.
  [[nodiscard]] const std::string& json() const { return json_; }
  [[nodiscard]] ssm::Index vocab() const { return tokenizer_ ? tokenizer_->vocab() : 256; }

 private:
  void learn(const Place& place, ssm::Index vocab) {
    Progress progress("token", vocab);
    ssm::TokenizerTraining how{.vocab = vocab};
    if (place.first()) how.progress = [&](ssm::Index tokens) { progress.update(tokens, ""); };
    const Bytes bytes = text.training();
    json_ = ssm::train_tokenizer({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, how)
                .text(2) +
            "\n";
    progress.finish();
  }

  std::string json_;
  std::optional<ssm::Tokenizer> tokenizer_;
};

template <class Model>
void save(const Arguments& a, const Run<Model>& run, const Source& source) {
  const ssm::MambaLMConfig& m = a.sizes.mamba;
  ssm::save_run(a.out, run,
                {{"text", source.note},
                 {"vocab", std::to_string(a.vocab)},
                 {"tokenizer", source.json()},
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
                a.half ? ssm::DType::F16 : ssm::DType::F32, source.json());
}

/// What save has noted beside the options of the trainer.
inline void read_notes(const std::map<std::string, std::string>& notes, Arguments& a) {
  const auto read = [&](const char* name, auto& value) {
    if (const auto note = notes.find(name); note != notes.end()) options::read(note->second, value);
  };
  ssm::MambaLMConfig& m = a.sizes.mamba;
  read("vocab", a.vocab);
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
void print_held_out(Place& place, const Arguments& a, const Source& source, const Run<Model>& run) {
  const Bytes held_out = source.text.held_out();
  const Bytes part = held_out.first(std::min(held_out.size(), a.evaluate_bytes));
  if (part.empty()) return;
  const Reading reading(part, source.tokenizer());
  const double bits = place.bits(run.trainer.best(), nullptr, reading.text(), 0,
                                 [&](std::size_t, double) { return !place.interrupted(); });
  if (place.interrupted() || !place.first()) return;
  std::printf("step %lld  held out %.4f bits/byte over %zu bytes\n",
              static_cast<long long>(run.steps()), bits / static_cast<double>(part.size()),
              part.size());
  std::fflush(stdout);
}

/// How many bytes the model has predicted in the last step.
template <class Model>
double bytes_of_step(const Reading& reading, const Run<Model>& run) {
  const auto length = static_cast<std::size_t>(run.options.streams.length);
  std::size_t bytes = 0;
  for (const ssm::Index next : run.streams.positions)
    bytes += reading.bytes_of(static_cast<std::size_t>(next) + 1 - length, length);
  return static_cast<double>(bytes);
}

/// Steps until the schedule ends or somebody interrupts. A step that is not finite is left out; too
/// many of them in a row are an error.
template <class Model>
void train_on(Place& place, const Arguments& a, const Source& source, const Reading& reading,
              Run<Model>& run) {
  constexpr int patience = 3;
  const ssm::Index last = run.options.trainer.schedule.steps;
  const auto due = [&](ssm::Index every) { return every > 0 && run.steps() % every == 0; };
  Progress progress("step", last);
  const job::Stopwatch watch;
  double smooth = 0, weight = 0, read = 0;
  int spoiled = 0;
  while (run.steps() < last && !place.interrupted()) {
    const ssm::TrainingReport report = place.step(run, reading.text());
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
      if (place.first()) std::fprintf(stderr, "%s; left out\n", what.c_str());
      continue;
    }
    spoiled = 0;
    const auto tokens = static_cast<double>(a.options.batch * a.options.streams.length);
    const double bytes = bytes_of_step(reading, run);
    smooth = 0.98 * smooth + 0.02 * report.loss * (tokens / bytes) * bits_per_nat;
    weight = 0.98 * weight + 0.02;
    read += bytes;
    if (place.first())
      progress.update(run.steps(), format("loss %.4f bits/byte  norm %.2f  lr %.2e  %.0f bytes/s",
                                          smooth / weight, report.gradient_norm,
                                          report.learning_rate, read / watch.seconds()));
    if (due(a.evaluate_every)) {
      progress.finish();
      print_held_out(place, a, source, run);
    }
    if (due(a.save_every) && place.first()) save(a, run, source);
  }
  progress.finish();
}

template <class Model>
int train(Place& place, Arguments& a, ssm::TrainingCheckpoint<Model>* from) {
  place.use(a.threads, a.time_ranks);
  if (a.vocab > 256 && a.options.streams.rename > 0)
    throw std::runtime_error(
        "--rename gives names other letters, and with --vocab the model reads tokens, not letters: "
        "leave one out");
  const Source source(place, a, from != nullptr ? from->notes["tokenizer"] : "");
  const Text& text = source.text;
  const Reading reading(text.training(), source.tokenizer());
  a.sizes.mamba.vocab = source.vocab();
  const std::size_t tokens = reading.text().size();
  if (const auto least = static_cast<std::size_t>(a.options.streams.length) + 1; tokens < least)
    throw std::runtime_error(
        format("%s: has %zu %s to learn from, expected at least %zu, which "
               "is --length and one",
               a.text.c_str(), tokens, a.sizes.unit(), least));
  const ssm::PieceOptions pieces =
      text_memory::pieces_within<Model>(a.memory, a.sizes, a.options, place);
  if (from != nullptr && from->notes["text"] != source.note)
    throw std::runtime_error(a.text + ": is not the text that the run in " + a.out + " read");
  Run<Model> run = from != nullptr ? std::move(from->run)
                                   : ssm::start_training<Model>(
                                         text_models::config_of(Model(), a.sizes), a.options);
  run.options = a.options;
  run.options.pieces = pieces;
  // All have read the files that the first is going to replace.
  place.wait_for_all(source.note + source.json() + ssm::detail::to_json(run.options).text() +
                     a.sizes.kinds +
                     format(" %lld parameters, step %lld, %d, %lld, %zu",
                            static_cast<long long>(parameter_count(run.trainer.model)),
                            static_cast<long long>(run.steps()), a.time_ranks,
                            static_cast<long long>(a.evaluate_every), a.evaluate_bytes));
  if (place.first()) {
    std::printf("%lld parameters, %zu bytes to learn from, %zu held out\n",
                static_cast<long long>(parameter_count(run.trainer.model)), text.training().size(),
                text.held_out().size());
    if (source.tokenizer() != nullptr)
      std::printf("a vocabulary of %lld, a token for every %.2f bytes%s\n",
                  static_cast<long long>(source.vocab()),
                  static_cast<double>(text.split) / static_cast<double>(tokens),
                  source.vocab() < a.vocab ? ": no more pairs occur twice" : "");
    std::fflush(stdout);
    save(a, run, source);  // what cannot be written fails now, not after hours
  }
  job::end_in_order_on_interrupt();
  train_on(place, a, source, reading, run);
  const bool interrupted = place.interrupted();
  if (!place.first()) return interrupted ? job::exit_interrupted : 0;
  save(a, run, source);
  if (interrupted) {
    std::fprintf(stderr,
                 "stopped after step %lld; go on with: %s train --text %s --out %s --resume\n",
                 static_cast<long long>(run.steps()), job::quoted(a.called).c_str(),
                 job::quoted(a.text).c_str(), job::quoted(a.out).c_str());
    return job::exit_interrupted;
  }
  std::printf("saved %s\n", a.out.c_str());
  return 0;
}

inline void add_options(options::Command& app, Arguments& a) {
  constexpr double many = 1e9;
  const auto add = [&](const char* name, auto& value, double least, double most,
                       const char* what = "") {
    app.add(name, value, what).check(options::between(least, most)).show_default();
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
  add("--window", a.sizes.window, 1, 1e9, "bytes or tokens that attention sees");
  app.add("--vocab", a.vocab,
          "256: the model reads bytes; more: so many tokens at most, learnt from the text, whose "
          "tokenizer.json then lies beside the model")
      .check(options::between(256, 2097152))
      .show_default();
  add("--batch", o.batch, 1, 1e6, "parallel streams of text");
  add("--length", o.streams.length, 1, many, "bytes or tokens per stream and step");
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
  add("--time-ranks", a.time_ranks, 0, 1e6,
      "under mpirun: over so many ranks each stream is cut, and groups of these share the streams; "
      "0: cut over all");
  add("--eval-every", a.evaluate_every, 0, many, "steps between evaluations; 0: never");
  add("--eval-bytes", a.evaluate_bytes, 0, 1e15, "held-out bytes per evaluation");
  add("--save-every", a.save_every, 0, many, "steps between checkpoints; 0: only at the end");
  app.flag("--half", a.half, "store the matrices of the model as F16");
  add_resume(app, a.resume, a.overwrite);
}

/// Begins a run, or goes on with one: its options first, then once more those that were given.
inline int train_or_resume(options::Command& app, int argc, char** argv, Place& place,
                           Arguments& a) {
  if (!a.resume) {
    bool taken = std::filesystem::exists(a.checkpoint());
    for (const char* file : {"model.safetensors", "tokenizer.json"})
      taken = taken || std::filesystem::exists(std::filesystem::path(a.out) / file);
    require_new(a.out, taken, a.overwrite);
    return a.sizes.mixed() ? train<text_models::MixedModel>(place, a, nullptr)
                           : train<text_models::MambaModel>(place, a, nullptr);
  }
  const auto go_on = [&]<class Model>(const Model&) {
    auto checkpoint = ssm::load_training<Model>(a.checkpoint());
    const auto had = checkpoint.run.options;
    a.options = had;
    read_notes(checkpoint.notes, a);
    const text_models::Sizes sizes = a.sizes;
    const ssm::Index vocab = a.vocab;
    if (const auto ended = app.parse(argc, argv, !place.first())) return *ended;
    if (a.sizes != sizes || a.vocab != vocab || a.options.batch != had.batch ||
        (a.options.trainer.average > 0) != (had.trainer.average > 0))
      throw std::runtime_error(
          "--resume keeps the kinds and the sizes of the model, --vocab, --batch and whether --ema "
          "is "
          "on");
    return train<Model>(place, a, &checkpoint);
  };
  const ssm::SafetensorsReader file(a.checkpoint());
  const auto kinds = file.metadata().find("mixer");
  a.sizes.kinds = kinds != file.metadata().end() ? kinds->second : "mamba";
  return a.sizes.mixed() ? go_on(text_models::MixedModel()) : go_on(text_models::MambaModel());
}

}  // namespace text_run
