#pragma once

#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
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

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
