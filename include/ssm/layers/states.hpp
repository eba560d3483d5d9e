#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"

/// @file
/// Operations on the state of any layer or model: a state has one row for each sequence.

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Sets the state of one sequence to that before its first step.
/// @param sequence which row of the state
/// @throws DomainError for a sequence that the state does not have
template <class State>
void reset_sequence(State& state, Index sequence) {
  tensors(state, [&](std::string_view, auto& tensor) {
    using K = typename std::remove_reference_t<decltype(tensor)>::value_type;
    const Index sequences = tensor.extent(0);
    if (sequence < 0 || sequence >= sequences)
      detail::throw_domain("reset_sequence", "sequence", std::to_string(sequence),
                           "in [0, " + std::to_string(sequences) + ")");
    const Index size = tensor.size() / sequences;
    std::fill_n(tensor.data() + sequence * size, size, K(0));
  });
}

/// A state with the rows `chosen` of another, in this order; a row may be chosen several times. Use
/// it for beam search, and for batches in which sequences start and end.
/// @throws DomainError for a sequence that the state does not have
template <class State>
[[nodiscard]] State gather_sequences(const State& state, const std::vector<Index>& chosen) {
  State result = state;
  tensors(result, [&](std::string_view, auto& tensor) {
    const auto from = tensor;
    auto extents = tensor.extents();
    const Index sequences = extents[0], size = sequences > 0 ? tensor.size() / sequences : 0;
    extents[0] = static_cast<Index>(chosen.size());
    tensor.resize(extents);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      if (chosen[i] < 0 || chosen[i] >= sequences)
        detail::throw_domain("gather_sequences", "sequence", std::to_string(chosen[i]),
                             "in [0, " + std::to_string(sequences) + ")");
      std::copy_n(from.data() + chosen[i] * size, size,
                  tensor.data() + static_cast<Index>(i) * size);
    }
  });
  return result;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
