// A classifier of your own sequences, of any lengths: classify waves.csv. It is trained, saved,
// loaded, and then reads the first sequence as a stream, sure of it more and more.
#include <cstdio>

#include "csv.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/layers.hpp"
#include "ssm/models.hpp"
#include "ssm/train.hpp"

using Model = ssm::SequenceClassifier<ssm::S4Block<ssm::S4d<float>>>;

int main(int argc, char** argv) {
  const auto data = read_csv(argc > 1 ? argv[1] : "waves.csv");
  Model model({.classes = 2, .backbone = {2, {.mixer = {.mixer = {.width = 16, .state = 16}}}}});
  initialize(model, 1);
  ssm::Trainer trainer(model, {.schedule = {.peak = 1e-2, .warmup = 10, .steps = 100}});
  for (Model::Scratch scratch; trainer.steps() < 100;)
    trainer.step(ssm::cpu, [&](const Model& now, Model& gradients) {
      return loss(ssm::cpu, now, data.values, data.labels, gradients, {.sequences = {data.offsets}},
                  scratch);
    });
  ssm::save("classifier.safetensors", trainer.model);

  model = ssm::load<Model>("classifier.safetensors");
  Model::Stepper stepper(model);
  auto state = make_state(model, 1);
  ssm::Tensor<float, 2> scores({1, 2});
  for (ssm::Index t = 0; t < data.offsets(1); ++t) {
    step(stepper, data.values.view()[0].slice(0, t, 1), state, scores);
    std::printf("%3d read: scores %6.2f %6.2f\n", int(t + 1), double(scores(0, 0)),
                double(scores(0, 1)));
  }
  std::printf("class %d, in truth %d\n", int(scores(0, 1) > scores(0, 0)), data.labels(0));
}
