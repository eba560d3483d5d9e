#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/io/checkpoint.hpp"
#include "ssm/io/config_json.hpp"
#include "ssm/io/names_in_file.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/io/state_tensors.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/train/text_trainer.hpp"

namespace ssm {

/// A training run as read from a file. It goes on with the same bits as if it had never stopped.
template <class Model>
struct TrainingCheckpoint {
  TextTrainer<Model> run;  ///< model, optimizer, average and streams
  std::map<std::string, std::string>
      notes;  ///< further texts of the caller, such as which text was read
};

namespace detail {

inline constexpr const char* training_format = "ssm-training-4";

inline Json to_json(const TextTrainerOptions& o) {
  const TrainerOptions& t = o.trainer;
  return Json::Object{
      {"batch", o.batch},
      {"length", o.streams.length},
      {"seed", o.streams.seed},
      {"jump_interval", o.streams.jump_interval},
      {"latest_of", o.streams.latest_of},
      {"rename", o.streams.rename},
      {"schedule", Json::Object{{"peak", t.schedule.peak},
                                {"warmup", t.schedule.warmup},
                                {"steps", t.schedule.steps},
                                {"final_fraction", t.schedule.final_fraction}}},
      {"adamw", Json::Object{{"beta1", t.adamw.beta1},
                             {"beta2", t.adamw.beta2},
                             {"epsilon", t.adamw.epsilon},
                             {"weight_decay", t.adamw.weight_decay}}},
      {"max_norm", t.max_norm},
      {"dropout", o.dropout},
      {"pieces", Json::Object{{"length", o.pieces.length}, {"states", o.pieces.states}}},
      {"average", t.average}};
}

inline TextTrainerOptions read_training_options(const JsonObject& json) {
  TextTrainerOptions o;
  TrainerOptions& t = o.trainer;
  o.batch = json.size("batch");
  o.streams = {.length = json.size("length"),
               .seed = json.bits("seed"),
               .jump_interval = json.bits("jump_interval"),
               .latest_of = json.count("latest_of"),
               .rename = json.number("rename")};
  const JsonObject schedule = json.object("schedule");
  t.schedule = {schedule.number("peak"), schedule.count("warmup"), schedule.count("steps"),
                schedule.number("final_fraction")};
  const JsonObject adamw = json.object("adamw");
  t.adamw = {.learning_rate = t.schedule.peak,
             .beta1 = adamw.number("beta1"),
             .beta2 = adamw.number("beta2"),
             .epsilon = adamw.number("epsilon"),
             .weight_decay = adamw.number("weight_decay")};
  t.max_norm = json.number_or_infinity("max_norm");
  o.dropout = json.number("dropout");
  if (json.contains("pieces")) {
    const JsonObject pieces = json.object("pieces");
    o.pieces = {pieces.count("length"), pieces.size("states")};
  }
  t.average = json.number("average");
  return o;
}

/// Calls f(prefix, model) for each of the objects that have the shape of the model.
template <class Trainer, class F>
void visit_models(Trainer& trainer, F&& f) {
  f("weights.", trainer.model);
  f("first_moment.", trainer.optimizer.first_moment);
  f("second_moment.", trainer.optimizer.second_moment);
  if (trainer.options.average > 0) f("average.", trainer.average);
}

}  // namespace detail

/// A training run before its first step: initialized weights, moments of zero, and all streams
/// before their first byte.
/// @throws DomainError for sizes that make no model and for options out of range
template <class Model>
[[nodiscard]] TextTrainer<Model> start_training(const typename Model::Config& config,
                                                const TextTrainerOptions& options) {
  Model model(config);
  initialize(model, options.streams.seed);
  return TextTrainer<Model>(std::move(model), options);
}

namespace detail {

template <class Model>
void add_training(Commit& commit, const std::filesystem::path& path, const TextTrainer<Model>& run,
                  const std::map<std::string, std::string>& notes) {
  SafetensorsWriter file;
  const Json json = Json::Object{
      {"format", training_format},
      {"step", run.steps()},
      {"config", to_json(run.trainer.model.config)},
      {"options", to_json(run.options)},
  };
  file.metadata = notes;
  file.metadata["training"] = json.text();
  visit_models(run.trainer, [&](const std::string& prefix, const Model& model) {
    add_parameters(file, prefix, model);
  });
  auto carried = run.carried;  // listed as what may change
  add_state(file, "carried.", carried);
  const std::vector<Index> streams{static_cast<Index>(run.streams.positions.size())};
  file.add("streams.positions", streams, run.streams.positions.data());
  file.add("streams.starts", streams, run.streams.starts.data());
  file.save(commit, path);
}

/// Adds the model of a run to a commit, in the form in which it is loaded: that of
/// save_mamba_lm where there is one.
template <class Model>
void add_trained(Commit& commit, const std::filesystem::path& folder, const Model& model,
                 DType matrices) {
  SafetensorsWriter file;
  file.metadata = {{"format", "pt"}, {"config", to_json(model.config).text()}};
  add_parameters(file, "", model, matrices);
  file.save(commit, folder / "model.safetensors");
}
template <class T>
void add_trained(Commit& commit, const std::filesystem::path& folder, const MambaLM<T>& model,
                 DType matrices) {
  add_mamba_lm(commit, folder, model, {.matrices = matrices});
}

}  // namespace detail

/// Saves everything that a training run needs to go on, as one safetensors file, which is replaced
/// in one step. @throws FileError
template <class Model>
void save_training(const std::filesystem::path& path, const TextTrainer<Model>& run,
                   const std::map<std::string, std::string>& notes = {}) {
  detail::Commit commit;
  detail::add_training(commit, path, run, notes);
  commit.finish();
}

/// Saves a training run into a folder, which is made if it does not exist: training.safetensors,
/// from which the run goes on, and its best weights, as save_mamba_lm does where the model is a
/// MambaLM, and otherwise as `save` does, in model.safetensors.
///
/// All files are written completely before the first replaces an old one, and
/// training.safetensors is replaced first. So if the program is killed in between,
/// training.safetensors is never older than the model beside it: a resumed run does not fall back
/// behind a model that was saved.
/// @param tokenizer the text of the tokenizer.json that is written beside the model; empty: one
/// that
///   is there is removed, as the model reads bytes; nothing: what is there stays
/// @throws FileError
template <class Model>
void save_run(const std::filesystem::path& folder, const TextTrainer<Model>& run,
              const std::map<std::string, std::string>& notes = {},
              DType matrices = detail::dtype_of<typename Model::value_type>(),
              const std::optional<std::string>& tokenizer = {}) {
  detail::make_folder(folder);
  detail::Commit commit;
  detail::add_training(commit, folder / "training.safetensors", run, notes);
  if (tokenizer && tokenizer->empty()) commit.remove_first(folder / "tokenizer.json");
  if (tokenizer && !tokenizer->empty())
    commit.add(folder / "tokenizer.json",
               [&](detail::OutputFile& file) { file.write(*tokenizer); });
  detail::add_trained(commit, folder, run.trainer.best(), matrices);
  commit.finish();
}

/// Loads what save_training wrote. @throws FileError
template <class Model>
[[nodiscard]] TrainingCheckpoint<Model> load_training(const std::filesystem::path& path) {
  const SafetensorsReader file(path);
  const auto found = file.metadata().find("training");
  if (found == file.metadata().end())
    detail::throw_file(path, "is not a training checkpoint: its metadata has no \"training\"");
  const Json json = detail::parse_json(path, found->second, "training");
  const detail::JsonObject run(path, "training", json);
  run.require("format", detail::training_format);

  TextTrainerOptions options = detail::read_training_options(run.object("options"));
  const auto config =
      config_from_json<typename Model::Config>(run.at("config"), path, "training.config");
  const Index batch = options.batch;
  for (const char* name : {"streams.positions", "streams.starts"}) file.check(name, {batch});

  {  // all that is read must be there before memory is taken for it
    const Model blank = detail::from_file(path, [&] {
      Model model;
      configure(model, config);
      return model;
    });
    detail::NamesInFile expected(file);
    for (const char* prefix : {"weights.", "first_moment.", "second_moment."})
      detail::check_file(file, prefix, blank, expected);
    if (options.trainer.average > 0) detail::check_file(file, "average.", blank, expected);
    auto carried = make_state(blank, 0);
    detail::check_state(file, "carried.", carried, batch, expected);
    expected.check_missing();
  }
  TrainingCheckpoint<Model> checkpoint;
  TextTrainer<Model>& trainer = checkpoint.run;
  try {
    trainer = TextTrainer<Model>(Model(config), options);
  } catch (const std::logic_error& error) {  // ShapeError, DomainError
    detail::throw_file(path, error.what());
  }
  checkpoint.notes = file.metadata();
  checkpoint.notes.erase("training");
  trainer.trainer.optimizer.step = run.count("step");
  file.read_into("streams.positions", {batch}, trainer.streams.positions.data());
  file.read_into("streams.starts", {batch}, trainer.streams.starts.data());
  detail::visit_models(trainer.trainer, [&](const std::string& prefix, Model& part) {
    detail::fill(file, prefix, part);
  });
  if (!(options.trainer.average > 0)) trainer.trainer.average = trainer.trainer.model;
  detail::read_state(file, "carried.", trainer.carried);
  return checkpoint;
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE Trainer<MambaLM<float>>::Trainer(MambaLM<float>, const TrainerOptions&);
SSM_INSTANCE TextTrainer<MambaLM<float>>::TextTrainer(MambaLM<float>, const TextTrainerOptions&);
SSM_INSTANCE TrainingReport TextTrainer<MambaLM<float>>::step(const Cpu&, const TextView&);
SSM_INSTANCE TextTrainer<MambaLM<float>> start_training(const MambaLM<float>::Config&,
                                                        const TextTrainerOptions&);
SSM_INSTANCE void save_training(const std::filesystem::path&, const TextTrainer<MambaLM<float>>&,
                                const std::map<std::string, std::string>&);
SSM_INSTANCE void save_run(const std::filesystem::path&, const TextTrainer<MambaLM<float>>&,
                           const std::map<std::string, std::string>&, DType,
                           const std::optional<std::string>&);
SSM_INSTANCE TrainingCheckpoint<MambaLM<float>> load_training(const std::filesystem::path&);
#endif

}  // namespace ssm
