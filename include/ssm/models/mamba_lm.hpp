#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/layers/both_ways.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/models/language_model.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The language model of Mamba (Gu & Dao 2023, section 3.4).
template <class T>
using MambaLM = LanguageModel<Residual<Mamba<T>>>;

/// A Mamba language model whose blocks run in both directions, which fills gaps in a text that it
/// reads from both ends (Schiff et al. 2024, Caduceus).
template <class T>
using BothWaysMambaLM = LanguageModel<Residual<BothWays<Mamba<T>>>>;

/// The sizes of a Mamba language model whose blocks are all alike, by the names that its files and
/// papers use.
struct MambaLMConfig {
  Index vocab = 256;              ///< number of tokens in the vocabulary
  Index width = 0;                ///< of the residual stream
  Index layers = 0;               ///< number of blocks
  Index state = 16;               ///< states of each channel
  Index conv_width = 4;           ///< taps of each convolution
  Index expand = 2;               ///< inner channels of a block per channel of the stream
  Index dt_rank = 0;              ///< 0: ⌈width/16⌉
  double norm_epsilon = 1e-5;     ///< ε of every norm of the stream
  Index inner = 0;                ///< inner channels of a block; 0: expand · width
  bool bias = false;              ///< whether in_proj and out_proj have biases
  bool conv_bias = true;          ///< whether the convolutions have biases
  double projection_epsilon = 0;  ///< ε of the norms of dt, B and C of FalconMamba; 0: no norms
  bool tied = true;               ///< whether the head has the weights of the embedding

  /// The configuration of one block.
  [[nodiscard]] MambaConfig block() const noexcept {
    return {width,
            inner > 0 ? inner : expand * width,
            state,
            conv_width,
            dt_rank > 0 ? dt_rank : (width + 15) / 16,
            bias,
            conv_bias,
            projection_epsilon};
  }
  friend bool operator==(const MambaLMConfig&, const MambaLMConfig&) = default;
};

/// The configuration of the language model with these sizes.
/// @throws DomainError for sizes that make no model
template <class T = float>
[[nodiscard]] typename MambaLM<T>::Config mamba_lm_config(const MambaLMConfig& config) {
  constexpr std::string_view function = "mamba_lm_config";
  constexpr Index largest = 0x7fffffff;  // of which no product of two overflows
  const auto check = [&](const char* name, Index value, Index least) {
    if (value < least || value > largest)
      detail::throw_domain(function, name, std::to_string(value),
                           "from " + std::to_string(least) + " to " + std::to_string(largest));
  };
  check("vocab", config.vocab, 1);
  check("width", config.width, 1);
  check("layers", config.layers, 0);
  check("state", config.state, 1);
  check("conv_width", config.conv_width, 1);
  check("expand", config.expand, 1);
  check("dt_rank", config.dt_rank, 0);
  check("inner", config.inner, 0);
  for (const auto& [name, value] : {std::pair("norm_epsilon", config.norm_epsilon),
                                    {"projection_epsilon", config.projection_epsilon}})
    if (!(value >= 0)) detail::throw_domain(function, name, std::to_string(value), "at least 0");
  return {config.vocab,
          {config.layers, {config.block(), config.norm_epsilon}},
          config.norm_epsilon,
          config.tied};
}

/// The configuration of a Mamba language model of `layers` blocks, all alike.
template <class T = float>
[[nodiscard]] typename MambaLM<T>::Config mamba_lm_config(Index vocab, Index layers,
                                                          const MambaConfig& block,
                                                          double epsilon = 1e-5) {
  return {vocab, {layers, {block, epsilon}}, epsilon};
}

/// The configuration of the language model of both directions with these sizes.
/// @throws DomainError for sizes that make no model
template <class T = float>
[[nodiscard]] typename BothWaysMambaLM<T>::Config both_ways_mamba_lm_config(
    const MambaLMConfig& config) {
  (void)mamba_lm_config<T>(config);  // checks
  return {config.vocab,
          {config.layers, {{config.block()}, config.norm_epsilon}},
          config.norm_epsilon,
          config.tied};
}

/// The sizes of a model, as its files store them.
/// @throws DomainError for blocks that differ
template <class T, class Matrix>
[[nodiscard]] MambaLMConfig published_config(
    const LanguageModelConfig<Residual<Mamba<T, Matrix>>>& config) {
  constexpr std::string_view function = "published_config";
  const auto& blocks = config.backbone.layers;
  MambaLMConfig result{.vocab = config.vocab,
                       .width = config.width(),
                       .layers = static_cast<Index>(blocks.size()),
                       .norm_epsilon = config.epsilon,
                       .tied = config.tied};
  if (blocks.empty()) return result;
  const MambaConfig& block = blocks.front().mixer;
  for (const auto& other : blocks)
    if (!(other == blocks.front()) || other.epsilon != config.epsilon)
      detail::throw_domain(function, "layers", "unlike each other", "blocks of one configuration");
  result.state = block.state;
  result.conv_width = block.conv_width;
  if (block.channels() % config.width() == 0)
    result.expand = block.channels() / config.width();
  else
    result.inner = block.channels();
  result.dt_rank = block.rank() == (config.width() + 15) / 16 ? 0 : block.rank();
  result.bias = block.bias;
  result.conv_bias = block.conv_bias;
  result.projection_epsilon = block.projection_epsilon;
  return result;
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_LAYER(Residual<Mamba<float>>)
SSM_INSTANCE_LAYER(Stack<Residual<Mamba<float>>>)
SSM_INSTANCE void forward(const Cpu&, const MambaLM<float>&, const View<const Token, 2>&,
                          Maybe<StateOf<MambaLM<float>>>, const OutputOf<MambaLM<float>>&,
                          const OptionsOf<MambaLM<float>>&, ScratchOf<MambaLM<float>>&);
SSM_INSTANCE void backward(const Cpu&, const MambaLM<float>&, const View<const Token, 2>&,
                           Maybe<StateOf<MambaLM<float>>>, const InputOf<MambaLM<float>>&,
                           MambaLM<float>&, const OptionsOf<MambaLM<float>>&,
                           ScratchOf<MambaLM<float>>&);
SSM_INSTANCE double loss(const Cpu&, const MambaLM<float>&, const View<const Token, 2>&,
                         const View<const Token, 2>&, Maybe<StateOf<MambaLM<float>>>,
                         Maybe<MambaLM<float>>, const OptionsOf<MambaLM<float>>&,
                         ScratchOf<MambaLM<float>>&);
SSM_INSTANCE MambaLM<float>::LanguageModel(const MambaLM<float>::Config&);
SSM_INSTANCE Stack<Residual<Mamba<float>>>::Stack(const StackConfig<Residual<Mamba<float>>>&);
SSM_INSTANCE StackState<Residual<Mamba<float>>> make_state(const Stack<Residual<Mamba<float>>>&,
                                                           Index);
SSM_INSTANCE void initialize(MambaLM<float>&, std::uint64_t);
SSM_INSTANCE LanguageModelStepper<Residual<Mamba<float>>>::LanguageModelStepper(
    const MambaLM<float>&, Index, const LayerOptions<>&);
SSM_INSTANCE void LanguageModelStepper<Residual<Mamba<float>>>::update(const MambaLM<float>&);
SSM_INSTANCE void LanguageModelStepper<Residual<Mamba<float>>>::advance(
    const Cpu&, const View<const Token, 1>&, StackState<Residual<Mamba<float>>>&,
    const View<float, 2>&) noexcept;
SSM_INSTANCE MambaLM<float>::Config mamba_lm_config<float>(const MambaLMConfig&);
SSM_INSTANCE MambaLMConfig published_config(const MambaLM<float>::Config&);
SSM_INSTANCE_LAYER(Residual<Mamba<double>>)
SSM_INSTANCE_LAYER(Stack<Residual<Mamba<double>>>)
SSM_INSTANCE void forward(const Cpu&, const MambaLM<double>&, const View<const Token, 2>&,
                          Maybe<StateOf<MambaLM<double>>>, const OutputOf<MambaLM<double>>&,
                          const OptionsOf<MambaLM<double>>&, ScratchOf<MambaLM<double>>&);
SSM_INSTANCE void backward(const Cpu&, const MambaLM<double>&, const View<const Token, 2>&,
                           Maybe<StateOf<MambaLM<double>>>, const InputOf<MambaLM<double>>&,
                           MambaLM<double>&, const OptionsOf<MambaLM<double>>&,
                           ScratchOf<MambaLM<double>>&);
SSM_INSTANCE double loss(const Cpu&, const MambaLM<double>&, const View<const Token, 2>&,
                         const View<const Token, 2>&, Maybe<StateOf<MambaLM<double>>>,
                         Maybe<MambaLM<double>>, const OptionsOf<MambaLM<double>>&,
                         ScratchOf<MambaLM<double>>&);
SSM_INSTANCE MambaLM<double>::LanguageModel(const MambaLM<double>::Config&);
SSM_INSTANCE Stack<Residual<Mamba<double>>>::Stack(const StackConfig<Residual<Mamba<double>>>&);
SSM_INSTANCE StackState<Residual<Mamba<double>>> make_state(const Stack<Residual<Mamba<double>>>&,
                                                            Index);
SSM_INSTANCE void initialize(MambaLM<double>&, std::uint64_t);
SSM_INSTANCE LanguageModelStepper<Residual<Mamba<double>>>::LanguageModelStepper(
    const MambaLM<double>&, Index, const LayerOptions<>&);
SSM_INSTANCE void LanguageModelStepper<Residual<Mamba<double>>>::update(const MambaLM<double>&);
SSM_INSTANCE void LanguageModelStepper<Residual<Mamba<double>>>::advance(
    const Cpu&, const View<const Token, 1>&, StackState<Residual<Mamba<double>>>&,
    const View<double, 2>&) noexcept;
SSM_INSTANCE MambaLM<double>::Config mamba_lm_config<double>(const MambaLMConfig&);
SSM_INSTANCE MambaLMConfig published_config(const MambaLM<double>::Config&);
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
