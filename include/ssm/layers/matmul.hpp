#pragma once

#include <algorithm>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/pieces.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/core/write.hpp"
#include "ssm/layers/detail/matrix_product.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

template <class T>
[[nodiscard]] View<T, 2> transposed(const View<T, 2>& view) noexcept {
  return {view.data(), {view.extent(1), view.extent(0)}, {view.stride(1), view.stride(0)}};
}

/// dst (m, n) ← or += lhs (m, k) · right (k, n), cut over threads by columns, and by rows where
/// there are too few of those. The bits of the result do not depend on how.
/// @param right a RightFactor, or another type that packs its blocks
/// @param room memory for packed blocks, which grows to the largest product
template <class T, class Right>
void multiply_factor(const Cpu& backend, const View<const T, 2>& lhs, const Right& right,
                     const View<T, 2>& dst, Write write, Tensor<T, 1>& room) {
  const Index m = dst.extent(0), n = dst.extent(1);
  // Products of this kind reach some fifty multiply-adds a nanosecond.
  const Cpu cpu = for_work(
      backend, 0.02 * static_cast<double>(dst.size()) * static_cast<double>(lhs.extent(1)));
  const Index threads = cpu.thread_count(), tiles = (m + tile_rows - 1) / tile_rows;
  const Index panels = (n + panel_width<T> - 1) / panel_width<T>;
  const Index across = std::clamp<Index>(panels / 4, 1, threads);
  const Index down = std::clamp<Index>(tiles / 2, 1, threads / across);
  room.resize({(std::max)(room.size(), across * down * packed_size<T>)});
  parallel_for(cpu, across * down, [&](Index i) {
    const auto cut = [](Index count, Index size, Index part, Index parts) {
      return (std::min)(count, (count + size - 1) / size * part / parts * size);
    };
    const Index column = cut(n, panel_width<T>, i % across, across);
    const Index row = cut(m, tile_rows, i / across, down);
    const Index columns = cut(n, panel_width<T>, i % across + 1, across) - column;
    const Index rows = cut(m, tile_rows, i / across + 1, down) - row;
    multiply_packed<T>(lhs.slice(0, row, rows), right, column,
                       dst.slice(0, row, rows).slice(1, column, columns), write,
                       room.data() + i * packed_size<T>);
  });
}

/// dst (m, n) ← or += lhs (m, k) · rhs (k, n).
template <class T>
void multiply(const Cpu& backend, const View<const T, 2>& lhs, const View<const T, 2>& rhs,
              const View<T, 2>& dst, Write write, Tensor<T, 1>& room) {
  multiply_factor<T>(backend, lhs, RightFactor<T>{rhs}, dst, write, room);
}

/// dst (m, n) ← lhs (m, k) · rhs (k, n) for k that may be far above m and n, as with the gradient
/// of a weight. Where dst is too small to be cut over threads, k is cut into pieces, and their
/// shares are summed in order.
template <class T>
void multiply_deep(const Cpu& backend, const View<const T, 2>& lhs, const View<const T, 2>& rhs,
                   const View<T, 2>& dst, Tensor<T, 1>& room) {
  const Index m = dst.extent(0), n = dst.extent(1), k = lhs.extent(1);
  const Pieces rows((m + tile_rows - 1) / tile_rows, (16 * 1024 - 1) / (tile_rows * n + 1) + 1);
  const Pieces depth(k, 512, 16 / rows.pieces);
  if (depth.pieces == 1) return multiply<T>(backend, lhs, rhs, dst, Write::overwrite, room);
  const Cpu cpu = for_work(backend, 0.02 * static_cast<double>(m * n) * static_cast<double>(k));
  const Index tasks = depth.pieces * rows.pieces, shares = depth.pieces * m * n;
  const Index threads = (std::min)(tasks, Index{cpu.thread_count()});
  room.resize({(std::max)(room.size(), threads * packed_size<T> + shares)});
  T* const sums = room.data() + threads * packed_size<T>;
  parallel_for(cpu, threads, [&](Index thread) {
    for (Index task = tasks * thread / threads; task < tasks * (thread + 1) / threads; ++task) {
      const Index d = task / rows.pieces, r = task % rows.pieces;
      const Index first = rows.begin(r) * tile_rows;
      const Index count = (std::min)(m, rows.end(r) * tile_rows) - first;
      multiply_packed<T>(lhs.slice(0, first, count).slice(1, depth.begin(d), depth.size(d)),
                         RightFactor<T>{rhs.slice(0, depth.begin(d), depth.size(d))}, 0,
                         View<T, 2>(sums + (d * m + first) * n, {count, n}), Write::overwrite,
                         room.data() + thread * packed_size<T>);
    }
  });
  const Pieces parts(m, 8);
  parallel_for(for_elements(backend, shares), parts.pieces, [&](Index part) {
    for (Index i = parts.begin(part); i < parts.end(part); ++i) {
      auto sum = array(dst.data() + i * dst.stride(0), n);
      sum.setZero();
      for (Index d = 0; d < depth.pieces; ++d)
        sum += array(static_cast<const T*>(sums) + (d * m + i) * n, n);
    }
  });
}

/// y (n) ← or += matrix (n, k) · x (k) for a row-major matrix: allocates nothing, starts no thread.
template <class T>
void multiply_vector(const View<const T, 2>& matrix, const T* x, T* y, Write write) noexcept {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
  const Eigen::Map<const Matrix, Eigen::Unaligned, Eigen::OuterStride<>> weight(
      matrix.data(), matrix.extent(0), matrix.extent(1), Eigen::OuterStride<>(matrix.stride(0)));
  const Eigen::Map<const Vector> input(x, matrix.extent(1));
  Eigen::Map<Vector> output(y, matrix.extent(0));
  if (write == Write::overwrite) output.setZero();
  output.noalias() += weight * input;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
