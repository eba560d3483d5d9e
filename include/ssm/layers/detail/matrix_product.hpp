#pragma once

#include <algorithm>
#include <cstring>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_lanes.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"
#include "ssm/core/write.hpp"

/// The product of two matrices of any size.
///
/// The right factor is packed block by block into panels: `panel_width` columns, row after row, in
/// the second-level cache. Against them go a few rows of the left factor at a time, in the
/// first-level cache, and the block of the result that both make stays in registers. Each number of
/// the result is the sum of its products in order, `panel_depth` at a time, whatever the size of
/// the result and whoever computes which part of it.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The block of the result that is in registers.
inline constexpr int tile_rows = vector_registers >= 32 ? 8 : 6;
inline constexpr int tile_vectors = vector_registers >= 32 ? 3 : 2;

template <class T>
inline constexpr Index panel_width = tile_vectors* lanes<T>;
/// A multiple of 128, as the blocks of stored matrices want it.
template <class T>
inline constexpr Index panel_depth = static_cast<Index>(1536 / sizeof(T));
/// Columns that are packed at a time.
template <class T>
inline constexpr Index packed_columns = (192 + panel_width<T> - 1) / panel_width<T>* panel_width<T>;
/// Numbers that a thread packs at a time.
template <class T>
inline constexpr Index packed_size = packed_columns<T>* panel_depth<T>;
/// From one row of the left factor to the next, which are not a power of two apart: their numbers
/// would be in each other's place in the cache.
template <class T>
inline constexpr Index left_stride = panel_depth<T> + static_cast<Index>(64 / sizeof(T));

/// dst (rows, columns) ← or += left (M, depth) · panel (depth, panel_width), of which rows ≤ M and
/// columns ≤ N vectors are wanted.
template <int M, int N, class T>
void product_tile_of(const T* left, const T* panel, Index depth, T* dst, Index dst_stride,
                     Index rows, Index columns, Write write) noexcept {
  for (Index i = 0; i < rows; ++i)
    for (int j = 0; j < N; ++j) __builtin_prefetch(dst + i * dst_stride + j * lanes<T>, 1);
  Vec<T> sums[M][N];
  unroll<M * N>([&](auto p) __attribute__((always_inline)) { sums[p / N][p % N] = Vec<T>(T(0)); });
  for (Index d = 0; d < depth; ++d, panel += panel_width<T>) {
    Vec<T> right[N];
    unroll<N>([&](auto j) __attribute__((always_inline)) {
      right[j] = Vec<T>::load(panel + j * lanes<T>);
    });
    unroll<M>([&](auto i) __attribute__((always_inline)) {
      const Vec<T> factor(left[i * left_stride<T> + d]);
      unroll<N>([&](auto j) __attribute__((always_inline)) {
        sums[i][j] = fma(factor, right[j], sums[i][j]);
      });
    });
  }
  unroll<M>([&](auto i) __attribute__((always_inline)) {
    if (i >= rows) return;
    unroll<N>([&](auto j) __attribute__((always_inline)) {
      T* const to = dst + i * dst_stride + j * lanes<T>;
      const Index count = (std::min)(columns - j * lanes<T>, lanes<T>);
      const Vec<T> sum = sums[i][j];
      (write == Write::accumulate ? Vec<T>::load(to, count) + sum : sum).store(to, count);
    });
  });
}

/// The product of up to `tile_rows` rows and all packed columns.
template <int M, class T>
void multiply_panels(const T* left, const T* panels, Index depth, T* dst, Index dst_stride,
                     Index rows, Index columns, Write write) noexcept {
  for (; columns > 0;
       columns -= panel_width<T>, panels += depth * panel_width<T>, dst += panel_width<T>) {
    const Index vectors = (columns + lanes<T> - 1) / lanes<T>;
    if (vectors >= tile_vectors)
      product_tile_of<M, tile_vectors>(left, panels, depth, dst, dst_stride, rows, columns, write);
    else if (vectors == 1)
      product_tile_of<M, 1>(left, panels, depth, dst, dst_stride, rows, columns, write);
    else
      product_tile_of<M, 2>(left, panels, depth, dst, dst_stride, rows, columns, write);
  }
}

/// to (depth, …) ← rows (count, depth), transposed. Lanes beyond `count` are zero up to a whole
/// vector.
template <class T>
void transpose_rows(const T* rows, Index row_stride, Index count, Index depth, T* to,
                    Index to_stride) noexcept {
  constexpr auto width = static_cast<int>(lanes<T>);
  for (Index begin = 0; begin < count; begin += width) {
    const Index n = (std::min)(lanes<T>, count - begin);
    const T* const from = rows + begin * row_stride;
    for (Index d = 0; d < depth; d += width) {
      const Index m = (std::min)(lanes<T>, depth - d);
      Vec<T> square[width];
      if (n == width && m == width)
        unroll<width>([&](auto i) __attribute__((always_inline)) {
          square[i] = Vec<T>::load(from + i * row_stride + d);
        });
      else
        unroll<width>([&](auto i) __attribute__((always_inline)) {
          square[i] = i < n ? Vec<T>::load(from + i * row_stride + d, m) : Vec<T>(T(0));
        });
      transpose(square);
      T* const at = to + d * to_stride + begin;
      unroll<width>([&](auto i) __attribute__((always_inline)) {
        if (i < m) square[i].store(at + i * to_stride);
      });
    }
  }
}

/// A right factor (depth, columns), rows or columns of adjacent elements.
template <class T>
struct RightFactor {
  View<const T, 2> view;

  /// Packs a block of it.
  void pack(Index first, Index depth, Index column, Index columns, T* panels) const noexcept {
    for (Index c = 0; c < columns; c += panel_width<T>, panels += depth * panel_width<T>) {
      const Index count = (std::min)(columns - c, panel_width<T>);
      const T* from = view.data() + first * view.stride(0) + (column + c) * view.stride(1);
      if (view.stride(1) != 1) {
        transpose_rows(from, view.stride(1), count, depth, panels, panel_width<T>);
        continue;
      }
      T* to = panels;
      for (Index d = 0; d < depth; ++d, from += view.stride(0), to += panel_width<T>)
        unroll<tile_vectors>([&](auto j) __attribute__((always_inline)) {
          const Index left = (std::max)(count - j * lanes<T>, Index{0});
          Vec<T>::load(from + (std::min)(count, j * lanes<T>), left).store(to + j * lanes<T>);
        });
    }
  }
};

/// Copies rows of the left factor, of which either rows or columns are adjacent elements.
template <class T>
void copy_left(const T* from, const View<const T, 2>& lhs, Index rows, Index depth,
               T* left) noexcept {
  if (lhs.stride(1) != 1)
    return transpose_rows(from, lhs.stride(1), depth, rows, left, left_stride<T>);
  for (Index r = 0; r < rows; ++r)
    std::memcpy(left + r * left_stride<T>, from + r * lhs.stride(0),
                static_cast<std::size_t>(depth) * sizeof(T));
}

/// dst (m, n) ← or += lhs (m, k) · the columns of `right` from `first` on, on the calling thread.
/// @param panels room for packed_size numbers
template <class T, class Right>
void multiply_packed(const View<const T, 2>& lhs, const Right& right, Index first,
                     const View<T, 2>& dst, Write write, T* panels) noexcept {
  const Index m = dst.extent(0), n = dst.extent(1), k = lhs.extent(1);
  if (k == 0 && write == Write::overwrite)
    for (Index i = 0; i < m; ++i) std::fill_n(dst.data() + i * dst.stride(0), n, T(0));
  // Rows that are not there are zero, or left from before.
  alignas(64) T left[tile_rows * left_stride<T>] = {};
  for (Index c = 0; c < n; c += packed_columns<T>)
    for (Index d = 0; d < k; d += panel_depth<T>) {
      const Index columns = (std::min)(n - c, packed_columns<T>);
      const Index depth = (std::min)(k - d, panel_depth<T>);
      right.pack(d, depth, first + c, columns, panels);
      for (Index i = 0; i < m; i += tile_rows) {
        const Index rows = (std::min)(m - i, Index{tile_rows});
        copy_left(lhs.data() + i * lhs.stride(0) + d * lhs.stride(1), lhs, rows, depth, left);
        const auto run = [&]<int M>() {
          multiply_panels<M>(left, panels, depth, dst.data() + i * dst.stride(0) + c, dst.stride(0),
                             rows, columns, d == 0 ? write : Write::accumulate);
        };
        if (rows > tile_rows / 2)
          run.template operator()<tile_rows>();
        else
          run.template operator()<tile_rows / 2>();
      }
    }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
