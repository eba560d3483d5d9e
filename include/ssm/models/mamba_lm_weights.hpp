#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "ssm/core/elementwise.hpp"
#include "ssm/core/error.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/layers/mamba.hpp"

namespace ssm {

/// Sizes of a Mamba language model.
struct MambaLMConfig {
  Index vocab = 256;
  Index width = 0;  ///< of the residual stream
  Index layers = 0;
  Index state = 16;      ///< states of each channel
  Index conv_width = 4;  ///< taps of each convolution
  Index expand = 2;      ///< inner channels of a block per channel of the stream
  Index dt_rank = 0;     ///< 0: ⌈width/16⌉
  double norm_epsilon = 1e-5;

  [[nodiscard]] MambaShape block() const noexcept {
    return {width, expand * width, state, conv_width, dt_rank > 0 ? dt_rank : (width + 15) / 16};
  }

  friend bool operator==(const MambaLMConfig&, const MambaLMConfig&) = default;
};

namespace detail {

inline void check_config(const char* function, const MambaLMConfig& config) {
  const auto check = [&](const char* name, Index value, Index least) {
    if (value < least)
      throw_domain(function, name, std::to_string(value), "at least " + std::to_string(least));
  };
  check("vocab", config.vocab, 1);
  check("width", config.width, 1);
  check("layers", config.layers, 0);
  check("state", config.state, 1);
  check("conv_width", config.conv_width, 1);
  check("expand", config.expand, 1);
  check("dt_rank", config.dt_rank, 0);
  if (!(config.norm_epsilon >= 0))
    throw_domain(function, "norm_epsilon", std::to_string(config.norm_epsilon), "at least 0");
}

}  // namespace detail

template <class T>
struct MambaLayerWeights {
  Tensor<T, 1> norm;  ///< (width)
  MambaWeights<T> mixer;
};

/// Weights of a Mamba language model, or their gradient, or the moments of an optimizer.
template <class T>
struct MambaLMWeights {
  MambaLMConfig config;
  Tensor<T, 2> embedding;  ///< (vocab, width), also the output head
  std::vector<MambaLayerWeights<T>> layers;
  Tensor<T, 1> final_norm;  ///< (width)

  MambaLMWeights() = default;

  /// All zero. Throws DomainError for sizes that make no model.
  explicit MambaLMWeights(const MambaLMConfig& sizes) : config(sizes) {
    detail::check_config("MambaLMWeights", config);
    embedding.resize({config.vocab, config.width});
    layers.reserve(static_cast<std::size_t>(config.layers));
    for (Index i = 0; i < config.layers; ++i)
      layers.push_back({Tensor<T, 1>({config.width}), MambaWeights<T>(config.block())});
    final_norm.resize({config.width});
  }

  /// Calls f(name, tensor, decay) for every parameter in a fixed order, under the names of
  /// state-spaces/mamba; `decay` tells whether weight decay applies: to matrices other than A_log.
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
    f(std::string("backbone.embedding.weight"), self.embedding, true);
    for (std::size_t i = 0; i < self.layers.size(); ++i) {
      auto& layer = self.layers[i];
      const std::string prefix = "backbone.layers." + std::to_string(i) + ".";
      f(prefix + "norm.weight", layer.norm, false);
      f(prefix + "mixer.in_proj.weight", layer.mixer.in_proj, true);
      f(prefix + "mixer.conv1d.weight", layer.mixer.conv_weight, true);
      f(prefix + "mixer.conv1d.bias", layer.mixer.conv_bias, false);
      f(prefix + "mixer.x_proj.weight", layer.mixer.x_proj, true);
      f(prefix + "mixer.dt_proj.weight", layer.mixer.dt_proj, true);
      f(prefix + "mixer.dt_proj.bias", layer.mixer.dt_bias, false);
      f(prefix + "mixer.A_log", layer.mixer.A_log, false);
      f(prefix + "mixer.D", layer.mixer.D, false);
      f(prefix + "mixer.out_proj.weight", layer.mixer.out_proj, true);
    }
    f(std::string("backbone.norm_f.weight"), self.final_norm, false);
  }
};

/// What the model carries from one token to the next, for each of `batch` streams: a plain value,
/// zero when made.
template <class T>
struct MambaLMState {
  std::vector<MambaState<T>> layers;

  MambaLMState() = default;
  MambaLMState(const MambaLMConfig& config, Index batch)
      : layers(static_cast<std::size_t>(config.layers), MambaState<T>(config.block(), batch)) {}
};

/// Draws the weights as the reference implementation does (Gu & Dao 2023, section 3.6; the
/// published code): A = −(1 … state), D = 1, step sizes log-uniform in [1e-3, 1e-1], the step
/// projection U(±1/√dt_rank), out_proj divided by √layers, the embedding normal with deviation
/// 0.02, other maps U(±1/√fan_in), norms 1. The same seed gives the same weights everywhere.
template <class T>
void initialize(MambaLMWeights<T>& weights, std::uint64_t seed) {
  detail::InitialDraws draws(seed);
  const MambaShape s = weights.config.block();
  const auto inverse_root = [](Index n) { return 1 / std::sqrt(static_cast<double>(n)); };
  for (T& x : weights.embedding) x = static_cast<T>(0.02 * draws.normal());
  weights.final_norm.fill(T(1));
  for (MambaLayerWeights<T>& layer : weights.layers) {
    MambaWeights<T>& w = layer.mixer;
    layer.norm.fill(T(1));
    draws.uniform(w.in_proj, inverse_root(s.width));
    draws.uniform(w.conv_weight, inverse_root(s.conv_width));
    draws.uniform(w.conv_bias, inverse_root(s.conv_width));
    draws.uniform(w.x_proj, inverse_root(s.inner));
    draws.uniform(w.dt_proj, inverse_root(s.dt_rank));
    for (T& x : w.dt_bias) {
      const double step = std::exp(draws.uniform(std::log(1e-3), std::log(1e-1)));
      x = static_cast<T>(inverse_softplus(std::max(step, 1e-4)));
    }
    for (Index c = 0; c < s.inner; ++c)
      for (Index n = 0; n < s.state; ++n)
        w.A_log(c, n) = static_cast<T>(std::log(static_cast<double>(n + 1)));
    w.D.fill(T(1));
    draws.uniform(w.out_proj, inverse_root(s.inner) * inverse_root(weights.config.layers));
  }
}

}  // namespace ssm
