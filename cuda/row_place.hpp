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

/// Launches a kernel whose `lanes` threads share a row, with room for a number of each warp.
template <class Kernel>
void launch_by_row(const Cuda& backend, const char* function, Index rows, const Kernel& kernel) {
  constexpr int threads = Kernel::most_threads;
  const Index each = threads / kernel.lanes;
  launch(backend, function, (rows + each - 1) / each, threads, shared_size<double>(threads / warp),
         kernel);
}

}  // namespace ssm::kernels
