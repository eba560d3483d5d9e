#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>

#include "options.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/train/trainer.hpp"

/// The checkpoint of a run, beside its model.
inline std::filesystem::path checkpoint_of(const std::string& model) {
  return std::filesystem::path(model).replace_extension(".training.safetensors");
}

/// The options of a command that goes on with a run of --out, or begins one in its place.
inline void add_resume(options::Command& command, bool& resume, bool& overwrite) {
  const options::Option goes_on = command.flag(
      "--resume", resume, "go on with the run of --out; its options hold unless given again");
  command.flag("--overwrite", overwrite, "begin anew where --out is a model already")
      .excludes(goes_on);
}

/// Throws where a new run would take the place of a model that nobody has said to overwrite.
inline void require_new(const std::string& path, bool taken, bool overwrite) {
  if (taken && !overwrite)
    throw std::runtime_error(path +
                             ": holds a model already; --resume goes on with it, --overwrite "
                             "begins anew in its place");
}

template <class Model, class Options>
struct RunConfig {
  Options options;  ///< of the program
  ssm::Index step = 0;
  typename Model::Config model;
};
template <class Model, class Options, class Visit>
void fields(RunConfig<Model, Options>& config, Visit&& visit) {
  visit("options", config.options);
  visit("step", config.step);
  visit("model", config.model);
}

/// All that a run goes on from, which is saved and loaded as a layer is.
template <class Model, class Options>
struct Run {
  using Config = RunConfig<Model, Options>;
  Config config;
  ssm::Trainer<Model> trainer;

  Run() = default;
  explicit Run(const Config& c) : config(c), trainer(Model(c.model)) {}
};
template <class Model, class Options, class Visit>
void parameters(Run<Model, Options>& run, Visit&& visit) {
  parameters(run.trainer.model, ssm::within("weights.", visit));
  parameters(run.trainer.average, ssm::within("average.", visit));
  parameters(run.trainer.optimizer.first_moment, ssm::within("first_moment.", visit));
  parameters(run.trainer.optimizer.second_moment, ssm::within("second_moment.", visit));
}
template <class Model, class Options>
void configure(Run<Model, Options>& run, const RunConfig<Model, Options>& config) {
  using ssm::configure;
  run.config = config;
  auto& t = run.trainer;
  for (Model* part : {&t.model, &t.average, &t.optimizer.first_moment, &t.optimizer.second_moment})
    configure(*part, config.model);
}
