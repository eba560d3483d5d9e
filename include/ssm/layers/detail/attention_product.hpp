#pragma once

#include <algorithm>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_lanes.hpp"
#include "ssm/core/index.hpp"

/// Products of small blocks that are in the first-level cache: what attention computes with.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Vectors of a row of a product that are in registers at once, and rows: as many sums as hide the
/// latency of a multiply-add.
inline constexpr int block_vectors = vector_registers >= 32 ? 4 : 3;
inline constexpr int block_rows = 4;

/// A factor of a product: element (row, k) is data[row · row_step + k · step].
template <class T>
struct ProductRows {
  const T* data;
  Index row_step, step;
};

/// Rows of adjacent elements.
template <class T>
struct ProductLanes {
  T* data;
  Index step;
};

/// R rows and C vectors of a product, the last vector of `last` lanes.
template <int R, int C, bool Whole, class T>
[[gnu::always_inline]] inline void product_tile(const ProductRows<T>& a,
                                                const ProductLanes<const T>& b, Index depth,
                                                const ProductLanes<T>& out, bool add,
                                                Index last) noexcept {
  const auto lanes_of = [&](int c) { return Whole || c + 1 < C ? lanes<T> : last; };
  Vec<T> sum[R][C];
  unroll<R>([&](auto r) __attribute__((always_inline)) {
    unroll<C>([&](auto c) __attribute__((always_inline)) {
      sum[r][c] =
          add ? Vec<T>::load(out.data + r * out.step + c * lanes<T>, lanes_of(c)) : Vec<T>(T(0));
    });
  });
  const T* right = b.data;
  const T* left = a.data;
  for (Index k = 0; k < depth; ++k, right += b.step, left += a.step) {
    Vec<T> row[C];
    unroll<C>([&](auto c) __attribute__((always_inline)) {
      row[c] = Vec<T>::load(right + c * lanes<T>, lanes_of(c));
      in_register(row[c]);
    });
    unroll<R>([&](auto r) __attribute__((always_inline)) {
      const Vec<T> factor(left[r * a.row_step]);
      unroll<C>([&](auto c)
                    __attribute__((always_inline)) { sum[r][c] = fma(factor, row[c], sum[r][c]); });
    });
  }
  unroll<R>([&](auto r) __attribute__((always_inline)) {
    unroll<C>([&](auto c) __attribute__((always_inline)) {
      sum[r][c].store(out.data + r * out.step + c * lanes<T>, lanes_of(c));
    });
  });
}

template <int C, bool Whole, class T>
void block_columns(ProductRows<T> a, const ProductLanes<const T>& b, Index rows, Index depth,
                   ProductLanes<T> out, bool add, Index last) noexcept {
  Index r = 0;
  for (; r + block_rows <= rows; r += block_rows) {
    product_tile<block_rows, C, Whole, T>(a, b, depth, out, add, last);
    a.data += block_rows * a.row_step;
    out.data += block_rows * out.step;
  }
  for (; r < rows; ++r) {
    product_tile<1, C, Whole, T>(a, b, depth, out, add, last);
    a.data += a.row_step;
    out.data += out.step;
  }
}

/// out (rows, columns) ← or += a (rows, depth) · b (depth, columns).
template <class T>
void block_product(const ProductRows<T>& a, ProductLanes<const T> b, Index rows, Index depth,
                   Index columns, ProductLanes<T> out, bool add) noexcept {
  constexpr Index width = block_vectors * lanes<T>;
  for (; columns > 0; columns -= width, b.data += width, out.data += width) {
    if (columns >= width) {
      block_columns<block_vectors, true, T>(a, b, rows, depth, out, add, lanes<T>);
      continue;
    }
    const Index vectors = (columns + lanes<T> - 1) / lanes<T>;
    const Index last = columns - (vectors - 1) * lanes<T>;
    unroll<block_vectors>([&](auto c) {
      if (vectors == c + 1) {
        if (last == lanes<T>)
          block_columns<c + 1, true, T>(a, b, rows, depth, out, add, last);
        else
          block_columns<c + 1, false, T>(a, b, rows, depth, out, add, last);
      }
    });
  }
}

/// out (depth, …) ← factor · rows (count, depth), transposed: lane i of a row of `out` is of row i.
/// Lanes beyond `count` are zero up to a whole vector.
template <class T>
void gather_lanes(const T* rows, Index row_step, Index count, Index depth, T factor, T* out,
                  Index out_step) noexcept {
  for (Index begin = 0; begin < count; begin += lanes<T>) {
    const Index n = (std::min)(lanes<T>, count - begin);
    for (Index d = 0; d < depth; d += lanes<T>) {
      const Index m = (std::min)(lanes<T>, depth - d);
      Square<T> square;
      for (Index i = 0; i < lanes<T>; ++i)
        square[static_cast<std::size_t>(i)] =
            i < n ? Vec<T>::load(rows + (begin + i) * row_step + d, m) : Vec<T>(T(0));
      transpose(square.data());
      for (Index i = 0; i < m; ++i)
        (square[static_cast<std::size_t>(i)] * Vec<T>(factor))
            .store(out + (d + i) * out_step + begin);
    }
  }
}

/// rows (count, depth) ← in (depth, …), transposed, each lane times its factor.
template <class T>
void scatter_lanes(const T* in, Index in_step, Index count, Index depth, const T* factors, T* rows,
                   Index row_step) noexcept {
  for (Index begin = 0; begin < count; begin += lanes<T>) {
    const Index n = (std::min)(lanes<T>, count - begin);
    const auto factor = Vec<T>::load(factors + begin);
    for (Index d = 0; d < depth; d += lanes<T>) {
      const Index m = (std::min)(lanes<T>, depth - d);
      Square<T> square;
      for (Index i = 0; i < lanes<T>; ++i)
        square[static_cast<std::size_t>(i)] =
            i < m ? Vec<T>::load(in + (d + i) * in_step + begin) * factor : Vec<T>(T(0));
      transpose(square.data());
      for (Index i = 0; i < n; ++i)
        square[static_cast<std::size_t>(i)].store(rows + (begin + i) * row_step + d, m);
    }
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
