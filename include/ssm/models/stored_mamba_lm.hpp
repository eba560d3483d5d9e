#pragma once

#include <cstddef>
#include <type_traits>
#include <variant>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/large_memory.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
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
/// @throws DomainError as store_matrix
[[nodiscard]] inline StoredMambaLM store_mamba_lm(const Cpu& backend, const MambaLM<float>& model,
                                                  MatrixFormat format) {
  StoredMambaLM stored(detail::stored_config(model.config));
  using Parameter = std::variant<const Tensor<float, 1>*, const Tensor<float, 2>*>;
  std::vector<Parameter> from;  // in the order in which both models list their parameters
  parameters(model, [&](const auto&, const auto& tensor, const auto&, bool) {
    from.emplace_back(&tensor);
  });
  detail::LargeMemory memory;
  std::size_t next = 0;
  parameters(stored, [&]<class AnyTensor>(const auto&, AnyTensor& tensor, const auto&, bool) {
    if constexpr (std::is_same_v<AnyTensor, StoredMatrix>) {
      const auto& matrix = *std::get<const Tensor<float, 2>*>(from[next++]);
      tensor = detail::store_in(memory.allocate(detail::stored_bytes(format, matrix.extents())),
                                backend, matrix, format);
    } else {
      tensor = *std::get<const AnyTensor*>(from[next++]);
    }
  });
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
