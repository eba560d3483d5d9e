#pragma once

#include <string>
#include <string_view>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/layers/causal_attention.hpp"
#include "ssm/layers/rotary.hpp"
#include "ssm/mpi/ranks.hpp"

/// @file
/// Attention over ranks. A step attends to all steps before it, so that what would move is the keys
/// and values of a whole piece. It is refused where time lies across several ranks; sequences may
/// be shared between the rows of a Grid whose rows are one rank each.

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

inline void require_whole_time(std::string_view function, const Ranks& backend) {
  if (backend.time->size() > 1)
    throw_domain(function, "backend",
                 "time across " + std::to_string(backend.time->size()) + " ranks",
                 "time on one, as a step attends to all before it");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// As on the cpu, of the sequences of this rank.
/// @throws as on the cpu, and DomainError where time lies across several ranks
template <class T>
void rotary(const Ranks& backend, const RotaryInputs<T>& inputs, const RotaryOptions& options,
            const RotaryOutputs<T>& outputs, RotaryScratch<T>& scratch) {
  detail::require_whole_time("rotary", backend);
  rotary(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of the sequences of this rank.
/// @throws as on the cpu, and DomainError where time lies across several ranks
template <class T>
void rotary_backward(const Ranks& backend, const RotaryInputs<T>& inputs,
                     const RotaryOptions& options, const RotaryOutputGradients<T>& output_gradients,
                     const RotaryInputGradients<T>& input_gradients, RotaryScratch<T>& scratch) {
  detail::require_whole_time("rotary_backward", backend);
  rotary_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

/// As on the cpu, of the sequences of this rank.
/// @throws as on the cpu, and DomainError where time lies across several ranks
template <class T>
void causal_attention(const Ranks& backend, const CausalAttentionInputs<T>& inputs,
                      const CausalAttentionOptions& options,
                      const CausalAttentionOutputs<T>& outputs,
                      CausalAttentionScratch<T>& scratch) {
  detail::require_whole_time("causal_attention", backend);
  causal_attention(backend.local, inputs, options, outputs, scratch);
}
/// As on the cpu, of the sequences of this rank.
/// @throws as on the cpu, and DomainError where time lies across several ranks
template <class T>
void causal_attention_backward(const Ranks& backend, const CausalAttentionInputs<T>& inputs,
                               const CausalAttentionOptions& options,
                               const CausalAttentionOutputGradients<T>& output_gradients,
                               const CausalAttentionInputGradients<T>& input_gradients,
                               CausalAttentionScratch<T>& scratch) {
  detail::require_whole_time("causal_attention_backward", backend);
  causal_attention_backward(backend.local, inputs, options, output_gradients, input_gradients,
                            scratch);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
