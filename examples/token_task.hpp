#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "run.hpp"
#include "ssm/core/detail/hash.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/layers/tokens.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/train/groups.hpp"
#include "ssm/train/trainer.hpp"

/// What programs share that train a language model on a task whose texts are drawn anew at every
/// step, of levels that become harder. A task has
///  - levels(), how many; the last is the task itself;
///  - size(level), the number of tokens of a text;
///  - draw(engine, level, row, tokens, targets), which writes one text and what is to be answered:
///    the targets are filled with `unasked` before;
///  - name(level), in words; and save(path, model);
///  - where a step of training is to see the model otherwise than it is, seen(model, seed).
namespace token_task {

using job::format;
using job::interrupted;
using ssm::Index;
using ssm::Tensor;
using ssm::Token;

constexpr Token unasked = -100;  ///< a target that does not count

struct Batch {
  Tensor<Token, 2> tokens, targets;  ///< (texts, length)
};

/// Texts of a level, always the same for a seed.
template <class Task>
void draw(const Task& task, std::uint64_t seed, Index level, Index texts, Batch& batch) {
  std::mt19937_64 engine(ssm::detail::mix(seed));
  batch.tokens.resize({texts, task.size(level)});
  batch.targets.resize(batch.tokens.extents());
  batch.targets.fill(unasked);
  for (Index b = 0; b < texts; ++b) task.draw(engine, level, b, batch.tokens, batch.targets);
}

/// So many different ones of `length` places, each choice as likely: calls body(place, n) for the
/// n-th of them, from left to right (selection sampling, Knuth, volume 2, algorithm 3.4.2 S).
template <class Body>
void choose_places(std::mt19937_64& engine, Index count, Index length, const Body& body) {
  for (Index place = 0, n = 0; n < count; ++place)
    if (static_cast<Index>(engine() % static_cast<std::uint64_t>(length - place)) < count - n)
      body(place, n++);
}

// --- A run that can go on -----------------------------------------------------------------------

/// How a run trains.
struct Training {
  std::string kind;
  Index width = 64, state = 16, layers = 2, length = 4096, steps = 20000;
  Index tokens = 1024;  ///< of a step, but at least one text
  Index level = 0;      ///< that the run has reached
  double learning_rate = 3e-3;
  double learnt = 0.1;  ///< nats an answer, at which the next level begins
  std::uint64_t seed = 1;

  /// What a run cannot change on its way.
  [[nodiscard]] auto fixed() const { return std::tie(kind, width, state, layers); }
};
template <class Visit>
void fields(Training& t, Visit&& visit) {
  visit("kind", t.kind);
  visit("width", t.width);
  visit("state", t.state);
  visit("layers", t.layers);
  visit("length", t.length);
  visit("steps", t.steps);
  visit("tokens", t.tokens);
  visit("level", t.level);
  visit("learning_rate", t.learning_rate);
  visit("learnt", t.learnt);
  visit("seed", t.seed);
}

template <class Model>
using Run = ::Run<Model, Training>;

/// What the command line says of a run.
struct Job {
  std::string path;  ///< of the model
  Training training;
  int threads = 0;
  bool resume = false, overwrite = false, at_once = false;

  /// Adds the options of a command that trains.
  void add_options(options::Command& command) {
    const auto add = [&](const char* name, auto& value, double least, double most,
                         const char* what = "") {
      command.add(name, value, what).check(options::between(least, most)).show_default();
    };
    Training& t = training;
    command.add("--out", path, "where the model goes").required();
    add("--width", t.width, 1, 65536);
    add("--state", t.state, 2, 65536, "states of each channel, even");
    add("--layers", t.layers, 1, 1000);
    add("--length", t.length, 64, 1e9, "tokens of a text before the question");
    add("--steps", t.steps, 1, 1e9);
    add("--tokens", t.tokens, 1, 1e9, "of a step, but at least one text");
    add("--lr", t.learning_rate, 0, 10, "highest learning rate");
    add("--learnt", t.learnt, 0, 10, "nats an answer, at which texts become longer");
    add("--seed", t.seed, 0, 1.8e19);
    add("--threads", threads, 0, 4096, "0: all");
    command.flag("--at-once", at_once, "texts of full length from the first step");
    add_resume(command, resume, overwrite);
  }
};

// --- The work -----------------------------------------------------------------------------------

template <class Task, class Model>
void save(const Job& a, const Task& task, Run<Model>& run) {
  run.config.step = run.trainer.steps();
  ssm::save(checkpoint_of(a.path), run);  // first: it is never older than the model beside it
  task.save(a.path, run.trainer.best());
}

/// The level of a step: that which the run has reached, and every fourth time an easier one, lest
/// it be forgotten.
inline Index level_of(std::uint64_t seed, Index reached) {
  const std::uint64_t chance = ssm::detail::mix(~seed);
  if (chance % 4 != 0) return reached;
  return static_cast<Index>(chance / 4 % (static_cast<std::uint64_t>(reached) + 1));
}

/// Trains until the steps are done or somebody interrupts.
template <class Task, class Model>
int train(const Job& a, const Task& task, Run<Model> run) {
  Training& t = run.config.options;
  const Index last = task.levels() - 1;
  t.level = a.at_once ? last : std::min(t.level, last);
  const ssm::Cpu cpu = ssm::cpu(a.threads);
  ssm::Trainer<Model>& trainer = run.trainer;
  trainer.options = {.schedule = {.peak = t.learning_rate,
                                  .warmup = std::min<Index>(100, t.steps / 2),
                                  .steps = t.steps,
                                  .final_fraction = 0.02},
                     .adamw = {.beta2 = 0.99, .weight_decay = 0},
                     .average = 0.998};
  // S4 learns its system more slowly than the rest, as its authors' code does.
  trainer.groups = ssm::SystemGroups{.learning_rate = 0.25,
                                     .rest_decays = false,
                                     .names = {"log_decay", "frequency", "P", "log_delta", "B"}};
  trainer.optimizer.step = run.config.step;
  std::printf("%s: %lld parameters\n", t.kind.c_str(),
              static_cast<long long>(ssm::parameter_count(trainer.model)));
  std::fflush(stdout);
  save(a, task, run);  // what cannot be written fails now, not after hours

  job::end_in_order_on_interrupt();
  Batch batch;
  typename Model::Scratch scratch;
  const job::Stopwatch watch;
  Progress progress("step", t.steps);
  double smooth = 0, weight = 0, saved = 0;
  while (trainer.steps() < t.steps && interrupted == 0) {
    const Index step = trainer.steps();
    const std::uint64_t seed = ssm::detail::mix(t.seed) + static_cast<std::uint64_t>(step);
    const Index level = level_of(seed, t.level);
    const Index texts = std::max<Index>(1, t.tokens / task.size(level));
    draw(task, seed, level, texts, batch);
    const auto report = trainer.step(cpu, [&](const Model& model, Model& gradients) {
      const auto on = [&](const Model& seen) {
        return loss(cpu, seen, batch.tokens, batch.targets, {}, gradients, {}, scratch);
      };
      if constexpr (requires { task.seen(model, seed); }) return on(task.seen(model, seed));
      return on(model);
    });
    if (!report.finite)
      throw std::runtime_error(
          format("step %lld: the loss is %g, expected a finite number; try "
                 "a lower --lr",
                 static_cast<long long>(step + 1), std::abs(report.loss)));
    if (level == t.level) {
      smooth = 0.98 * smooth + 0.02 * report.loss;
      weight = 0.98 * weight + 0.02;
    }
    progress.update(step + 1, format("%s  loss %.4f  lr %.1e", task.name(t.level).c_str(),
                                     smooth / std::max(weight, 0.02), report.learning_rate));
    if (weight > 0.6 && smooth / weight < t.learnt && t.level < last) {  // of 50 steps or more
      progress.finish();
      std::printf("step %lld, %.0f s: %s learnt\n", static_cast<long long>(step + 1),
                  watch.seconds(), task.name(t.level).c_str());
      std::fflush(stdout);
      ++t.level;
      smooth = weight = 0;
    }
    if (watch.seconds() - saved > 60) {
      save(a, task, run);
      saved = watch.seconds();
    }
  }
  progress.finish();
  save(a, task, run);
  std::printf("saved %s after %.0f s%s\n", a.path.c_str(), watch.seconds(),
              interrupted != 0 ? ", the weights so far; --resume goes on" : "");
  return interrupted != 0 ? job::exit_interrupted : 0;
}

/// Begins the run of a job, or goes on with it.
/// @param task_of (training) makes the task
/// @param model_of (training) makes a model with its first weights
template <class Model, class TaskOf, class ModelOf>
int begin_or_resume(options::Command& app, int argc, char** argv, Job& a, const TaskOf& task_of,
                    const ModelOf& model_of) {
  Run<Model> run;
  if (a.resume) {
    run = ssm::load<Run<Model>>(checkpoint_of(a.path));
    const Training had = a.training = run.config.options;
    if (const auto ended = app.parse(argc, argv)) return *ended;  // once more what was given
    if (a.training.fixed() != had.fixed())
      throw std::runtime_error("--resume keeps the kind and the sizes of the model");
  } else {
    require_new(a.path, std::filesystem::exists(a.path), a.overwrite);
    const Model model = model_of(a.training);
    run = Run<Model>({a.training, 0, model.config});
    run.trainer.model = run.trainer.average = model;
  }
  run.config.options = a.training;
  return train(a, task_of(a.training), std::move(run));
}

/// How a model answers.
struct Score {
  double tokens, texts;  ///< the part of the answers that is right; of the texts, all answers
};

/// Asks a model about texts of a level that no run has seen. Each text is read in pieces, so that
/// one of any length takes the memory of a piece.
template <class Task, class Model>
Score score(const ssm::Cpu& cpu, const Task& task, const Model& model, Index level, Index texts) {
  constexpr Index piece = 2048, together = 8;
  const Index vocab = model.config.vocab;
  typename Model::Scratch scratch;
  Batch batch;
  Tensor<float, 3> logits;
  Index asked = 0, right = 0, whole = 0;
  for (Index first = 0; first < texts && interrupted == 0; first += together) {
    const Index count = std::min(together, texts - first), length = task.size(level);
    draw(task, ~static_cast<std::uint64_t>(first), level, count, batch);
    auto state = make_state(model, count);
    std::vector<Index> wrong(static_cast<std::size_t>(count), 0);
    for (Index at = 0; at < length && interrupted == 0; at += piece) {
      const Index steps = std::min(piece, length - at);
      const auto tokens = std::as_const(batch.tokens).view().slice(1, at, steps);
      logits.resize({count, steps, model.config.vocab});
      forward(cpu, model, tokens, state, logits, {.keep = false}, scratch);
      for (Index b = 0; b < count; ++b)
        for (Index t = 0; t < steps; ++t) {
          const Token target = batch.targets(b, at + t);
          if (target == unasked) continue;
          const float* row = &logits(b, t, 0);
          const bool is = std::all_of(row, row + vocab, [](float x) { return std::isfinite(x); }) &&
                          std::max_element(row, row + vocab) - row == target;
          ++asked;
          right += is;
          wrong[static_cast<std::size_t>(b)] += !is;
        }
    }
    whole += std::count(wrong.begin(), wrong.end(), 0);
  }
  return {static_cast<double>(right) / static_cast<double>(std::max<Index>(asked, 1)),
          static_cast<double>(whole) / static_cast<double>(std::max<Index>(texts, 1))};
}

}  // namespace token_task
