#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"

/// What is done with the state of any layer or model, whose tensors have one row a sequence.
namespace ssm {

/// Puts one sequence back before its first step.
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

/// The states of chosen sequences, in the order chosen, each as often as it is named: for beams,
/// and for batches that sequences join and leave.
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

}  // namespace ssm
