#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ssm/io/checkpoint.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/train/trainer.hpp"

namespace ssm {

template <class T>
using MambaLMTrainingState = TrainingState<MambaLMWeights<T>, MambaLMState<T>>;

/// A training run that can go on as if it had never stopped: bit for bit.
template <class T>
struct TrainingCheckpoint {
  MambaLMTrainingState<T> state;
  TrainingOptions options;
  std::map<std::string, std::string> notes;  ///< the caller's own, such as which text was read
};

namespace detail {

inline constexpr const char* training_format = "ssm-training-2";

inline nlohmann::json to_json(const TrainingOptions& o) {
  return {{"batch", o.batch},
          {"length", o.streams.length},
          {"seed", o.streams.seed},
          {"jump_interval", o.streams.jump_interval},
          {"latest_of", o.streams.latest_of},
          {"rename", o.streams.rename},
          {"schedule",
           {{"peak", o.schedule.peak},
            {"warmup", o.schedule.warmup},
            {"steps", o.schedule.steps},
            {"final_fraction", o.schedule.final_fraction}}},
          {"adamw",
           {{"beta1", o.adamw.beta1},
            {"beta2", o.adamw.beta2},
            {"epsilon", o.adamw.epsilon},
            {"weight_decay", o.adamw.weight_decay}}},
          {"max_norm", o.max_norm},
          {"dropout", o.dropout},
          {"average", o.average}};
}

inline TrainingOptions read_training_options(const JsonObject& json) {
  TrainingOptions o;
  o.batch = json.size("batch");
  o.streams = {.length = json.size("length"),
               .seed = json.bits("seed"),
               .jump_interval = json.bits("jump_interval"),
               .latest_of = json.size("latest_of"),
               .rename = json.number("rename")};
  const JsonObject schedule = json.object("schedule");
  o.schedule = {schedule.number("peak"), schedule.count("warmup"), schedule.count("steps"),
                schedule.number("final_fraction")};
  const JsonObject adamw = json.object("adamw");
  o.adamw = {.learning_rate = o.schedule.peak,
             .beta1 = adamw.number("beta1"),
             .beta2 = adamw.number("beta2"),
             .epsilon = adamw.number("epsilon"),
             .weight_decay = adamw.number("weight_decay")};
  o.max_norm = json.number("max_norm");
  o.dropout = json.number("dropout");
  o.average = json.number("average");
  return o;
}

/// Calls f(name, object) for each of the four objects that have the shape of the weights.
template <class State, class F>
void visit_weight_sets(State& state, bool averaged, F&& f) {
  f("weights.", state.weights);
  f("first_moment.", state.first_moment);
  f("second_moment.", state.second_moment);
  if (averaged) f("average.", state.average);
}

/// Calls f(name, tensor) for every tensor that the model carries from step to step.
template <class State, class F>
void visit_carried(State& state, F&& f) {
  for (std::size_t i = 0; i < state.layers.size(); ++i) {
    const std::string layer = "carried." + std::to_string(i);
    f(layer + ".conv", state.layers[i].conv);
    f(layer + ".scan", state.layers[i].scan);
  }
}

}  // namespace detail

/// A run at its beginning: initialised weights, zero moments, every stream before its first byte.
template <class T>
[[nodiscard]] MambaLMTrainingState<T> start_training(const MambaLMConfig& config,
                                                     const TrainingOptions& options) {
  MambaLMTrainingState<T> state;
  state.weights = MambaLMWeights<T>(config);
  state.first_moment = state.second_moment = state.weights;
  initialize(state.weights, options.streams.seed);
  state.average = state.weights;
  state.carried = MambaLMState<T>(config, options.batch);
  state.streams = TextStreams(options.batch);
  return state;
}

/// Writes everything a run needs to go on as one safetensors file, in one step. Throws FileError.
template <class T>
void save_training(const std::filesystem::path& path, const MambaLMTrainingState<T>& state,
                   const TrainingOptions& options,
                   const std::map<std::string, std::string>& notes = {}) {
  SafetensorsWriter file;
  const nlohmann::json run = {
      {"format", detail::training_format},
      {"step", state.step},
      {"config", detail::to_json(state.weights.config)},
      {"options", detail::to_json(options)},
  };
  file.metadata = notes;
  file.metadata["training"] = run.dump();
  detail::visit_weight_sets(
      state, options.average > 0, [&](const std::string& prefix, const MambaLMWeights<T>& set) {
        set.visit([&](const std::string& name, const auto& tensor, bool) {
          file.add(prefix + name, detail::shape_in_file(name, tensor), tensor.data());
        });
      });
  detail::visit_carried(
      state.carried, [&](const std::string& name, const auto& tensor) { file.add(name, tensor); });
  const std::vector<Index> streams{static_cast<Index>(state.streams.positions.size())};
  file.add("streams.positions", streams, state.streams.positions.data());
  file.add("streams.starts", streams, state.streams.starts.data());
  file.save(path);
}

/// Reads what save_training wrote. Throws FileError.
template <class T>
[[nodiscard]] TrainingCheckpoint<T> load_training(const std::filesystem::path& path) {
  SafetensorsReader file(path);
  const auto found = file.metadata().find("training");
  if (found == file.metadata().end())
    detail::throw_file(path, "is not a training checkpoint: its metadata has no \"training\"");
  const nlohmann::json json = detail::parse_json(path, found->second);
  const detail::JsonObject run(path, "training", json);
  run.require("format", detail::training_format);

  TrainingCheckpoint<T> checkpoint;
  checkpoint.notes = file.metadata();
  checkpoint.notes.erase("training");
  checkpoint.options = detail::read_training_options(run.object("options"));
  const MambaLMConfig config = detail::read_config(run.object("config"));
  const bool averaged = checkpoint.options.average > 0;
  detail::check_parameter_count(file, config);

  MambaLMTrainingState<T>& state = checkpoint.state;
  state.step = run.count("step");
  const Index batch = checkpoint.options.batch;
  file.check("streams.positions", {batch});
  file.check("streams.starts", {batch});
  state.streams = TextStreams(batch);
  file.read_into("streams.positions", {batch}, state.streams.positions.data());
  file.read_into("streams.starts", {batch}, state.streams.starts.data());
  state.weights = MambaLMWeights<T>(config);
  state.first_moment = state.second_moment = state.average = state.weights;
  detail::visit_weight_sets(state, averaged,
                            [&](const std::string& prefix, MambaLMWeights<T>& set) {
                              detail::read_weights(file, prefix, set);
                            });
  if (!averaged) state.average = state.weights;
  state.carried = MambaLMState<T>(config, 0);
  detail::visit_carried(state.carried, [&](const std::string& name, auto& tensor) {
    tensor = file.read<T>(name, std::array{batch, tensor.extent(1), tensor.extent(2)});
  });
  return checkpoint;
}

/// One training step of a Mamba language model: training_step with mamba_lm_loss.
template <class T>
struct MambaLMTrainer {
  MambaLMTrainingState<T> state;
  TrainingOptions options;

  TrainingReport step(const Cpu& backend, std::span<const unsigned char> text) {
    if (gradients_.config != state.weights.config)
      gradients_ = MambaLMWeights<T>(state.weights.config);
    const auto loss = [&](const View<const Token, 2>& tokens, const View<const Token, 2>& targets,
                          MambaLMState<T>& carried, MambaLMWeights<T>& gradients) {
      const Dropout dropout{options.dropout,
                            options.streams.seed + static_cast<std::uint64_t>(state.step)};
      return mamba_lm_loss(backend, state.weights, tokens, targets, carried, &gradients, workspace_,
                           dropout);
    };
    const auto reset = [](MambaLMState<T>& carried, Index stream) {
      for (MambaState<T>& layer : carried.layers) {
        for (Tensor<T, 3>* tensor : {&layer.conv, &layer.scan}) {
          const Index size = tensor->extent(1) * tensor->extent(2);
          std::fill_n(tensor->data() + stream * size, size, T(0));
        }
      }
    };
    return training_step(backend, text, options, state, gradients_, batch_, loss, reset);
  }

 private:
  MambaLMWeights<T> gradients_;
  TextStreams::Batch batch_;
  MambaLMWorkspace<T> workspace_;
};

}  // namespace ssm
