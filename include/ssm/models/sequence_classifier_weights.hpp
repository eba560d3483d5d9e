#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/layers/s4_block.hpp"

namespace ssm {

/// Sizes of a sequence classifier.
template <class Mixer = S4dMixer>
struct SequenceClassifierConfig {
  Index inputs = 1;                  ///< numbers per step of the sequence
  Index classes = 2;                 ///< labels 0 … classes − 1
  Index layers = 1;                  ///< blocks
  typename Mixer::Shape mixer = {};  ///< of every block; its width is that of the residual stream

  friend bool operator==(const SequenceClassifierConfig&,
                         const SequenceClassifierConfig&) = default;
};

/// Weights of a sequence classifier, or their gradient, or the moments of an optimizer.
template <class T, class Mixer = S4dMixer>
struct SequenceClassifierWeights {
  using Config = SequenceClassifierConfig<Mixer>;

  Config config;
  Tensor<T, 2> encoder;       ///< (width, inputs)
  Tensor<T, 1> encoder_bias;  ///< (width)
  std::vector<S4BlockWeights<T, Mixer>> layers;
  Tensor<T, 1> final_norm;  ///< (width)
  Tensor<T, 2> head;        ///< (classes, width)
  Tensor<T, 1> head_bias;   ///< (classes)

  SequenceClassifierWeights() = default;

  /// All zero. @throws DomainError for sizes that make no model
  explicit SequenceClassifierWeights(const Config& sizes) : config(sizes) {
    const auto check = [](const char* name, Index value, Index least) {
      if (value < least)
        detail::throw_domain("SequenceClassifierWeights", name, std::to_string(value),
                             "at least " + std::to_string(least));
    };
    const Index width = config.mixer.width;
    check("inputs", config.inputs, 1);
    check("classes", config.classes, 1);
    check("layers", config.layers, 0);
    check("width", width, 1);
    encoder.resize({width, config.inputs});
    encoder_bias.resize({width});
    layers.reserve(static_cast<std::size_t>(config.layers));
    for (Index i = 0; i < config.layers; ++i) layers.emplace_back(config.mixer);
    final_norm.resize({width});
    head.resize({config.classes, width});
    head_bias.resize({config.classes});
  }

  /// Calls f(name, tensor, decay) for every parameter in a fixed order; weight decay applies to the
  /// encoder, the head, and what the blocks say.
  template <class F>
  void visit(F&& f) {
    visit_parameters(*this, f);
  }
  template <class F>
  void visit(F&& f) const {
    visit_parameters(*this, f);
  }

 private:
  template <class Self, class F>
  static void visit_parameters(Self& self, F& f) {
    f(std::string("encoder.weight"), self.encoder, true);
    f(std::string("encoder.bias"), self.encoder_bias, false);
    for (std::size_t i = 0; i < self.layers.size(); ++i)
      self.layers[i].visit([&](const std::string& name, auto& tensor, bool decay) {
        f("layers." + std::to_string(i) + "." + name, tensor, decay);
      });
    f(std::string("norm.weight"), self.final_norm, false);
    f(std::string("head.weight"), self.head, true);
    f(std::string("head.bias"), self.head_bias, false);
  }
};

/// Draws the weights: each mixer's by draw(mixer_weights, seed), the linear maps U(±1/√fan_in),
/// norms 1, biases of head and blocks 0. The same seed gives the same weights everywhere.
template <class T, class Mixer, class Draw>
void initialize(SequenceClassifierWeights<T, Mixer>& weights, std::uint64_t seed,
                const Draw& draw) {
  detail::InitialDraws draws(seed);
  const auto inverse_root = [](Index n) { return 1 / std::sqrt(static_cast<double>(n)); };
  draws.uniform(weights.encoder, inverse_root(weights.config.inputs));
  draws.uniform(weights.encoder_bias, inverse_root(weights.config.inputs));
  for (std::size_t i = 0; i < weights.layers.size(); ++i)
    initialize(weights.layers[i], seed + 1 + i, draw);
  weights.final_norm.fill(T(1));
  draws.uniform(weights.head, inverse_root(weights.config.mixer.width));
  weights.head_bias.fill(T(0));
}

}  // namespace ssm
