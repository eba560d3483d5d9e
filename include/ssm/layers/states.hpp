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

/// Copies `count` sequences of a state, from `first` on, to those of another one of the same layer
/// from `place` on.
/// @throws DomainError for sequences that one of them does not have; ShapeError for states of
///   different layers
template <class State>
void copy_sequences(State& from, Index first, State& to, Index place, Index count) {
  struct Rows {
    std::byte* data;
    std::size_t bytes;  // of all
  };
  const auto rows_of = [&](State& state, const char* name, Index begin) {
    std::vector<Rows> rows;
    tensors(state, [&](std::string_view, auto& tensor) {
      using K = typename std::remove_reference_t<decltype(tensor)>::value_type;
      static_assert(std::is_trivially_copyable_v<K>);
      const Index sequences = tensor.extent(0);
      if (begin < 0 || count < 0 || begin > sequences - count)
        detail::throw_domain("copy_sequences", name,
                             std::to_string(begin) + " … " + std::to_string(begin + count - 1),
                             "in [0, " + std::to_string(sequences) + ")");
      const Index size = sequences > 0 ? tensor.size() / sequences : 0;
      rows.push_back({reinterpret_cast<std::byte*>(tensor.data() + begin * size),
                      static_cast<std::size_t>(size * count) * sizeof(K)});
    });
    return rows;
  };
  const std::vector<Rows> read = rows_of(from, "first", first), write = rows_of(to, "place", place);
  if (!std::equal(read.begin(), read.end(), write.begin(), write.end(),
                  [](const Rows& a, const Rows& b) { return a.bytes == b.bytes; }))
    detail::throw_shape("copy_sequences", "to", "of another layer", "of the layer that from is of");
  for (std::size_t i = 0; i < write.size(); ++i)
    std::copy_n(read[i].data, read[i].bytes, write[i].data);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
