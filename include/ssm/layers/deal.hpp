#pragma once

#include <algorithm>
#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/layers/detail/piece_walk.hpp"
#include "ssm/layers/in_pieces.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The steps of a sequence that are computed here where it runs in pieces, each of which lies
/// across all ranks (loss_in_pieces): the share of every piece, in order, one after the other in
/// memory. A piece is pieces.length steps for each rank; the first may be shorter. On one cpu they
/// are the whole.
/// @throws DomainError for a length of pieces below 1
template <class Backend>
[[nodiscard]] std::vector<Share> deal(const Backend& backend, Index length,
                                      const PieceOptions& pieces) {
  detail::check_cut("deal", pieces.length, pieces.states);
  // No piece is longer than the sequence, lest their product overflow.
  const Index most = std::clamp(length, Index{1}, pieces.length);
  const detail::CutSequence cut{length, most * time_ranks(backend)};
  std::vector<Share> shares;
  for (Index piece = 0; piece < cut.count(); ++piece) {
    const Share share = piece_of(backend, cut.size(piece));
    shares.push_back({cut.begin(piece) + share.begin, share.count});
  }
  return shares;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
