#pragma once

#include "ssm/core/fields.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/train/trainer.hpp"

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
