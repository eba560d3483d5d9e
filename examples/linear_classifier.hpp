#pragma once

#include <stdexcept>

#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/cross_entropy.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"

/// What a sequence model is compared with: logistic regression on all pixels at once, in the shape
/// of a classifier.
namespace linear {

using ssm::Index;
using ssm::Tensor;
using ssm::Token;
using ssm::View;

struct Config {
  Index inputs = 1, classes = 2;

  friend bool operator==(const Config&, const Config&) = default;
};
template <class Visit>
void fields(Config& config, Visit&& visit) {
  visit("inputs", config.inputs);
  visit("classes", config.classes);
}

struct Linear {
  using value_type = float;
  using Config = linear::Config;
  struct Scratch {
    Tensor<float, 2> logits;
    ssm::CrossEntropyScratch<float> loss;
    ssm::LinearScratch<float> linear;
  };

  linear::Config config;
  Tensor<float, 2> weight;
  Tensor<float, 1> bias;

  Linear() = default;
  explicit Linear(const linear::Config& c) : config(c) { ssm::resize_parameters(*this); }
};

template <class Visit>
void parameters(Linear& model, Visit&& visit) {
  visit("weight", model.weight, ssm::shape(model.config.classes, model.config.inputs), true);
  visit("bias", model.bias, ssm::shape(model.config.classes), false);
}

inline View<const float, 2> rows_of(const View<const float, 3>& sequences) {
  return {sequences.data(), {sequences.extent(0), sequences.extent(1)}};
}
inline void forward(const ssm::Cpu& cpu, const Linear& model, const View<const float, 3>& sequences,
                    const View<float, 2>& logits, const ssm::LayerOptions<>& options,
                    Linear::Scratch& scratch) {
  if (options.rate != 1) throw std::runtime_error("a linear model needs every pixel");
  ssm::linear(cpu, {rows_of(sequences), model.weight, model.bias}, {}, {logits}, scratch.linear);
}
/// As of a classifier, with gradients.
inline double loss(const ssm::Cpu& cpu, const Linear& model, const View<const float, 3>& sequences,
                   const View<const Token, 1>& labels, ssm::Maybe<Linear> gradients,
                   const ssm::LayerOptions<>& options, Linear::Scratch& scratch) {
  scratch.logits.resize({sequences.extent(0), model.config.classes});
  forward(cpu, model, sequences, scratch.logits, options, scratch);
  const View<const Token, 2> targets(labels.data(), {labels.extent(0), 1});
  const double nats =
      cross_entropy(cpu, {scratch.logits, targets}, {}, {scratch.logits}, scratch.loss);
  linear_backward(cpu, {rows_of(sequences), model.weight, model.bias}, {}, {scratch.logits},
                  {{}, gradients->weight, gradients->bias}, scratch.linear);
  return nats;
}

}  // namespace linear
