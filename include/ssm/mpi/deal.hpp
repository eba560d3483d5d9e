#pragma once

#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/in_pieces.hpp"
#include "ssm/mpi/ranks.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The steps of a sequence that this rank holds where the sequence runs in pieces, each of which
/// lies across the ranks (loss_in_pieces): its share of every piece, in order, one after the other
/// in memory. A piece is pieces.length steps for each rank; the first may be shorter.
/// @throws DomainError for a length of pieces below 1
[[nodiscard]] inline std::vector<Share> deal(const Ranks& backend, Index length,
                                             const PieceOptions& pieces) {
  detail::check_cut("deal", pieces.length, pieces.states);
  const detail::CutSequence cut{length, pieces.length * backend.time->size()};
  std::vector<Share> shares;
  for (Index piece = 0; piece < cut.count(); ++piece) {
    const Share share = piece_of(backend, cut.size(piece));
    shares.push_back({cut.begin(piece) + share.begin, share.count});
  }
  return shares;
}

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
