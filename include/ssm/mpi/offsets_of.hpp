#pragma once

#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/core/view.hpp"
#include "ssm/mpi/ranks.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The offsets of this rank's steps where packed sequences lie end to end over the ranks, for
/// options.sequences: the rest of the sequence that goes on from the rank before, empty where it
/// has ended, then those that begin here.
/// @param offsets of the whole, on every rank; see Sequences
/// @param piece the steps of this rank, those of all ranks one after the other
[[nodiscard]] inline std::vector<Index> offsets_of(const Ranks& backend,
                                                   const View<const Index, 1>& offsets,
                                                   const Share& piece) {
  const bool is_last = backend.time->rank() == backend.time->size() - 1;
  const Index end = piece.begin + piece.count;
  std::vector<Index> own{0};
  for (Index s = 1; s < offsets.extent(0) - 1; ++s)
    if (const Index at = offsets(s); at >= piece.begin && (at < end || is_last))
      own.push_back(at - piece.begin);
  own.push_back(piece.count);
  return own;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
