// An amplifier for an audio callback. Its weights come from a file; where there is none yet, a
// small S4D learns them from what a synthetic amplifier makes of a guitar that is a sine.
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "ssm/io/save_load.hpp"
#include "ssm/layers.hpp"
#include "ssm/train.hpp"

using Amp = ssm::Projected<ssm::Stack<ssm::S4Block<ssm::S4d<float>>>>;

int main() {
  ssm::Tensor<float, 3> dry({1, 4096, 1}), wet(dry), y(dry), dy(dry), dx(dry);
  for (int t = 0; t < 4096; ++t) dry(0, t, 0) = std::sin(0.05f * float(t) + 1e-5f * float(t * t));
  for (int t = 0; t < 4096; ++t) wet(0, t, 0) = std::tanh(3 * dry(0, t, 0));

  if (!std::filesystem::exists("amp.safetensors")) {
    Amp amp({.width = 1, .inner = {2, {.mixer = {.mixer = {.width = 8, .state = 8}}}}});
    initialize(amp, 1);
    ssm::Trainer trainer(amp, {.schedule = {.peak = 1e-2, .warmup = 10, .steps = 200}});
    for (Amp::Scratch scratch; trainer.steps() < 200;)
      trainer.step(ssm::cpu, [&](const Amp& now, Amp& gradients) {
        double loss = 0;
        forward(ssm::cpu, now, dry, {}, y, {}, scratch);
        for (int t = 0; t < 4096; ++t) loss += std::pow(dy(0, t, 0) = y(0, t, 0) - wet(0, t, 0), 2);
        backward(ssm::cpu, now, dry, {}, dy, dx, gradients, {}, scratch);
        return loss;
      });
    ssm::save("amp.safetensors", trainer.model);
  }

  ssm::Streamer amp(ssm::load<Amp>("amp.safetensors"));
  for (int t = 0; t < 4096; t += 64)  // a block: nothing is allocated, locked or thrown
    amp(std::span(&dry(0, t, 0), 64), std::span(&y(0, t, 0), 64));
  std::printf("%.3f, the amplifier itself %.3f\n", double(y(0, 999, 0)), double(wet(0, 999, 0)));
}
