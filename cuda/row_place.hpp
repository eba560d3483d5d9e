#pragma once

#include "rows.hpp"

namespace ssm::kernels {

/// Which row of a matrix a thread works on, and its lane there: `lanes` threads share a row.
struct RowPlace {
  Index row;
  int lane;
  bool inside;

  SSM_DEVICE RowPlace(const Block& block, Index rows, int lanes)
      : row(block.index() * (block.threads() / lanes) + block.thread() / lanes),
        lane(block.thread() % lanes),
        inside(row < rows) {}
};

/// A sum by one block, in a fixed order. `Term` has operator()(i).
template <class Term>
SSM_DEVICE double sum_by_block(Block& block, Index count, const Term& term) {
  const Shared<double> room = block.shared<double>(block.threads() / warp);
  double sum = 0;
  SSM_UNROLL_BY(4)
  for (Index i = block.thread(); i < count; i += block.threads()) sum += term(i);
  return join_row(block, room, sum, block.threads(), SumOf());
}

/// Launches a kernel whose `lanes` threads share a row, with room for a number of each warp.
template <class Kernel>
void launch_by_row(const Cuda& backend, const char* function, Index rows, const Kernel& kernel) {
  constexpr int threads = Kernel::most_threads;
  const Index each = threads / kernel.lanes;
  launch(backend, function, (rows + each - 1) / each, threads, shared_size<double>(threads / warp),
         kernel);
}

}  // namespace ssm::kernels
