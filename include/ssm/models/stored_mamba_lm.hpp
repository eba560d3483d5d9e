#pragma once

#include <cstddef>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/layers/store_matrix.hpp"
#include "ssm/layers/stored_matrix.hpp"
#include "ssm/models/mamba_lm.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// A Mamba language model to run and not to train: its projections, its embedding and its head are
/// stored matrices, of 32, 16, 8 or 4 bits a number. Everything else is as in MambaLM<float>.
using StoredMambaLM = LanguageModel<Residual<Mamba<float, StoredMatrix>>>;

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

[[nodiscard]] inline StoredMambaLM::Config stored_config(const MambaLM<float>::Config& config) {
  StoredMambaLM::Config stored{
      .vocab = config.vocab, .epsilon = config.epsilon, .tied = config.tied};
  stored.backbone.channels = config.backbone.channels;
  for (const auto& block : config.backbone.layers)
    stored.backbone.layers.push_back({block.mixer, block.epsilon});
  return stored;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// A model with the numbers of another, its matrices rounded to `format`.
[[nodiscard]] inline StoredMambaLM store_mamba_lm(const Cpu& backend, const MambaLM<float>& model,
                                                  MatrixFormat format) {
  StoredMambaLM stored(detail::stored_config(model.config));
  const auto keep = [&](const Tensor<float, 2>& from, StoredMatrix& to) {
    if (from.size() > 0) to = store_matrix(backend, from, format);
  };
  keep(model.embedding, stored.embedding);
  keep(model.head, stored.head);
  stored.norm = model.norm;
  for (std::size_t i = 0; i < model.backbone.layers.size(); ++i) {
    const auto& from = model.backbone.layers[i];
    auto& to = stored.backbone.layers[i];
    to.norm = from.norm;
    const Mamba<float>& m = from.mixer;
    Mamba<float, StoredMatrix>& s = to.mixer;
    keep(m.in_proj, s.in_proj);
    keep(m.x_proj, s.x_proj);
    keep(m.dt_proj, s.dt_proj);
    keep(m.out_proj, s.out_proj);
    s.in_bias = m.in_bias;
    s.conv_weight = m.conv_weight;
    s.conv_bias = m.conv_bias;
    s.dt_bias = m.dt_bias;
    s.A_log = m.A_log;
    s.D = m.D;
    s.out_bias = m.out_bias;
  }
  return stored;
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE void forward(const Cpu&, const StoredMambaLM&, const View<const Token, 2>&,
                          Maybe<StateOf<StoredMambaLM>>, const OutputOf<StoredMambaLM>&,
                          const OptionsOf<StoredMambaLM>&, ScratchOf<StoredMambaLM>&);
SSM_INSTANCE LanguageModel<Residual<Mamba<float, StoredMatrix>>>::LanguageModel(
    const StoredMambaLM::Config&);
SSM_INSTANCE LanguageModelStepper<Residual<Mamba<float, StoredMatrix>>>::LanguageModelStepper(
    const StoredMambaLM&, Index, const LayerOptions<>&);
SSM_INSTANCE void LanguageModelStepper<Residual<Mamba<float, StoredMatrix>>>::advance(
    const Cpu&, const View<const Token, 1>&, StackState<Residual<Mamba<float, StoredMatrix>>>&,
    const View<float, 2>&) noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
