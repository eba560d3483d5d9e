#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "gru.hpp"
#include "linear_classifier.hpp"
#include "pictures.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/s4.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s5.hpp"
#include "ssm/models/sequence_classifier.hpp"
#include "ssm/system/dplr.hpp"

/// The kinds of models that read pictures pixel by pixel.
namespace pixel_models {

using ssm::Index;

template <class Mixer>
using Classifier = ssm::SequenceClassifier<ssm::S4Block<Mixer>>;

/// The configuration of a model of these sizes.
template <class Mixer>
ssm::SequenceClassifierConfig<ssm::S4Block<Mixer>> config_of(const Classifier<Mixer>&,
                                                             Index classes, Index width,
                                                             Index state, Index layers) {
  typename Mixer::Config mixer;
  mixer.width = width;
  if constexpr (requires { mixer.state; }) mixer.state = state;
  return {.inputs = 1, .classes = classes, .backbone = {layers, {.mixer = {mixer}}}};
}
inline linear::Config config_of(const linear::Linear&, Index classes, Index, Index, Index) {
  return {pictures::pixels, classes};
}

/// Draws the weights of a model; a linear one starts from zero.
template <class Mixer>
void draw(Classifier<Mixer>& model, std::uint64_t seed) {
  const auto mixer = [](Mixer& m, std::uint64_t s) {
    if constexpr (std::is_same_v<Mixer, ssm::S4d<float>>)
      initialize(m, ssm::s4d_modes<double>(ssm::S4dInit::lin, m.config.state), s);
    else
      initialize(m, s);
  };
  const auto gated = [&](ssm::Gated<Mixer>& g, std::uint64_t s) { initialize(g, s, mixer); };
  initialize(model, seed, [&](auto& block, std::uint64_t s) { initialize(block, s, gated); });
}
inline void draw(linear::Linear&, std::uint64_t) {}

/// How a model is to read every so many-th pixel: with as much longer a step where it has one.
template <class Model>
ssm::LayerOptions<> reading(Index every, const ssm::Dropout& dropout = {}) {
  ssm::LayerOptions<> options;
  if (!std::is_same_v<Model, Classifier<gru::Gru<float>>>)
    options.rate = static_cast<double>(every);
  options.dropout = dropout;
  return options;
}

/// Returns work(model) with an empty model of the kind.
/// @throws std::runtime_error for another kind
template <class Work>
int with_kind(const std::string& mixer, Work&& work) {
  if (mixer == "s4") return work(Classifier<ssm::S4<float>>());
  if (mixer == "s4d") return work(Classifier<ssm::S4d<float>>());
  if (mixer == "s5") return work(Classifier<ssm::S5<float>>());
  if (mixer == "gru") return work(Classifier<gru::Gru<float>>());
  if (mixer == "linear") return work(linear::Linear());
  throw std::runtime_error("this program has no models of the kind " + mixer);
}

}  // namespace pixel_models
