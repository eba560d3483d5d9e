#pragma once

#include <stdexcept>

#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/cross_entropy.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/pack_sequences.hpp"

/// What a sequence model is compared with: logistic regression on all pixels at once, in the shape
/// of a classifier. Packed sequences may be shorter: the weights of what is not there do not count.
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
    Tensor<float, 3> rows;  // (sequences, inputs, 1): packed sequences and zeros
    Tensor<float, 2> logits;
    ssm::UnpackSequencesScratch<float> unpack;
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

/// One sequence a row, (sequences, inputs).
inline View<const float, 2> rows_of(const ssm::Cpu& cpu, const Linear& model,
                                    const View<const float, 3>& sequences,
                                    const ssm::LayerOptions<>& options, Linear::Scratch& scratch) {
  const auto& [offsets, reversed] = options.sequences;
  if (options.rate != 1) throw std::runtime_error("a linear model needs every pixel");
  if (reversed) throw std::runtime_error("a linear model knows no direction of time");
  if (!offsets) return {sequences.data(), {sequences.extent(0), sequences.extent(1)}};
  scratch.rows.resize({options.sequences.count(1), model.config.inputs, 1});
  unpack_sequences(cpu, {sequences, offsets}, {}, {scratch.rows}, scratch.unpack);
  return {scratch.rows.data(), {scratch.rows.extent(0), scratch.rows.extent(1)}};
}
inline void forward(const ssm::Cpu& cpu, const Linear& model, const View<const float, 3>& sequences,
                    const View<float, 2>& logits, const ssm::LayerOptions<>& options,
                    Linear::Scratch& scratch) {
  const auto rows = rows_of(cpu, model, sequences, options, scratch);
  ssm::linear(cpu, {rows, model.weight, model.bias}, {}, {logits}, scratch.linear);
}
/// As of a classifier, with gradients.
inline double loss(const ssm::Cpu& cpu, const Linear& model, const View<const float, 3>& sequences,
                   const View<const Token, 1>& labels, ssm::Maybe<Linear> gradients,
                   const ssm::LayerOptions<>& options, Linear::Scratch& scratch) {
  const auto rows = rows_of(cpu, model, sequences, options, scratch);
  scratch.logits.resize({rows.extent(0), model.config.classes});
  ssm::linear(cpu, {rows, model.weight, model.bias}, {}, {scratch.logits}, scratch.linear);
  const View<const Token, 2> targets(labels.data(), {labels.extent(0), 1});
  const double nats =
      cross_entropy(cpu, {scratch.logits, targets}, {}, {scratch.logits}, scratch.loss);
  linear_backward(cpu, {rows, model.weight, model.bias}, {}, {scratch.logits},
                  {{}, gradients->weight, gradients->bias}, scratch.linear);
  return nats;
}

}  // namespace linear
