#pragma once

// Kernels over the rows of matrices, and sums over their rows and columns.

#include "arrays.hpp"
#include "launch.hpp"
#include "math.hpp"
#include "modes.hpp"
#include "scratch.hpp"

namespace ssm::kernels {

/// Elements of a row a thread, a block apart: all are read before any is written, as what a thread
/// writes might else be what it reads next, for all nvcc knows. `Each` has a Value, load(row,
/// column) and store(row, column, value).
template <class Each>
struct RowElements {
  static constexpr int most_threads = 256, ahead = 4;
  Each each;
  Index width, chunks;  ///< of a row

  SSM_DEVICE void operator()(Block& block) const {
    const Index row = block.index() / chunks, threads = block.threads();
    const Index first = block.index() % chunks * ahead * threads + block.thread();
    typename Each::Value value[ahead];
    SSM_UNROLL
    for (int k = 0; k < ahead; ++k)
      if (first + k * threads < width) value[k] = each.load(row, first + k * threads);
    SSM_UNROLL
    for (int k = 0; k < ahead; ++k)
      if (first + k * threads < width) each.store(row, first + k * threads, value[k]);
  }
};

/// @param flat whether rows follow each other without gaps in all that `each` reads and writes
template <class Each>
void launch_rows(const Cuda& backend, const char* function, Index rows, Index width, bool flat,
                 const Each& each) {
  using Kernel = RowElements<Each>;
  if (rows == 0 || width == 0) return;
  if (flat) width *= rows, rows = 1;
  constexpr Index most = Kernel::most_threads, ahead = Kernel::ahead;
  const Index wanted = (width + ahead * warp - 1) / (ahead * warp) * warp;
  const Index threads = wanted < most ? wanted : most;
  const Index chunks = (width + ahead * threads - 1) / (ahead * threads);
  launch(backend, function, rows * chunks, static_cast<int>(threads), 0,
         Kernel{each, width, chunks});
}

struct SumOf {
  template <class R>
  SSM_DEVICE R operator()(R a, R b) const {
    return a + b;
  }
};
/// NaN where either is.
struct LargerOf {
  template <class R>
  SSM_DEVICE R operator()(R a, R b) const {
    return b <= a || a != a ? a : b;
  }
};

/// Joins what the lanes of a row have, in each of them and in a fixed order. `lanes` is a power of
/// two from a warp on; `room` has a place for each warp of the block.
template <class R, class Join>
SSM_DEVICE R join_row(Block& block, const Shared<R>& room, R x, int lanes, const Join& join) {
  for (int mask = 1; mask < warp; mask *= 2) x = join(x, block.shuffle_xor(x, mask));
  if (lanes == warp) return x;
  block.sync();  // what was there has been read
  if (block.thread() % warp == 0) room[block.thread() / warp] = x;
  block.sync();
  const int first = block.thread() / lanes * (lanes / warp);
  R all = room[first];
  for (int w = 1; w < lanes / warp; ++w) all = join(all, R(room[first + w]));
  return all;
}

/// Lanes that share a row of this width.
inline int row_lanes(Index width, int most) {
  int lanes = warp;
  while (lanes < most && Index{lanes} * 4 < width) lanes *= 2;
  return lanes;
}

/// Sums over the rows of a matrix, of each column: pieces of rows first, each by one thread a
/// column, then the pieces in double. `Term` has a Value, and operator()(row, column).
template <class Term>
struct ColumnPieces {
  using E = typename Term::Value;
  Term term;
  E* partials;  ///< (pieces, width)
  Index rows, width, piece_rows;

  SSM_DEVICE void operator()(Index i) const {
    const Index c = i % width, begin = i / width * piece_rows;
    const Index end = begin + piece_rows < rows ? begin + piece_rows : rows;
    E sum(Real<E>(0));
    SSM_UNROLL_BY(8)
    for (Index row = begin; row < end; ++row) sum += term(row, c);
    partials[i] = sum;
  }
};
template <class E>
struct JoinColumnPieces {
  const E* partials;
  Array<E, 1> to;
  Index pieces, width;

  SSM_DEVICE void operator()(Index c) const {
    Wide<E> sum(0.0);
    SSM_UNROLL_BY(8)
    for (Index piece = 0; piece < pieces; ++piece) sum += widened(partials[piece * width + c]);
    to(c) = narrowed<E>(sum);
  }
};

template <class Term>
void launch_column_sums(const Cuda& backend, const char* function, Index rows, Index width,
                        const Term& term, const Array<typename Term::Value, 1>& to,
                        DeviceBuffer& memory) {
  using E = typename Term::Value;
  constexpr Index fewest = 16, most_pieces = 256;
  Index piece_rows = (rows + most_pieces - 1) / most_pieces;
  if (piece_rows < fewest) piece_rows = fewest;
  const Index pieces = (rows + piece_rows - 1) / piece_rows;
  E* const partials =
      lay_out(backend, memory, [&](Scratch& s) { return s.array<E>(pieces * width); });
  launch_elementwise(backend, function, pieces * width,
                     ColumnPieces<Term>{term, partials, rows, width, piece_rows});
  launch_elementwise(backend, function, width, JoinColumnPieces<E>{partials, to, pieces, width});
}

/// Whether rows follow each other without gaps in all of these views, where they are there.
template <class... Views>
bool are_flat(const Views&... views) {
  return ((!views || views.contiguous()) && ...);
}

}  // namespace ssm::kernels
