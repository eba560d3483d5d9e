#pragma once

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"

/// Products of matrices that stay in the first-level cache.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Columns of a block of a product: every number of columns is a multiple of it.
inline constexpr int product_block_vectors = 2;
template <class T>
inline constexpr Index product_block_cols = product_block_vectors* lanes<T>;

/// A row-major factor or result, its rows `row` elements apart. The left factor's elements of a row
/// lie `inner` apart, so that it may be a transposed matrix.
template <class T>
struct Panel {
  T* data;
  Index row;
  Index inner = 1;
};

/// `Rows` rows of small_product.
template <int Rows, bool Add, class T>
void small_product_rows(Panel<const T> a, Panel<const T> b, Panel<T> c, Index inner,
                        Index cols) noexcept {
  constexpr int V = product_block_vectors;
  constexpr Index W = lanes<T>;
  for (Index column = 0; column < cols; column += V * W) {
    Vec<T> sums[Rows][V];
    unroll<Rows>([&](auto r) __attribute__((always_inline)) {
      unroll<V>([&](auto v) __attribute__((always_inline)) {
        sums[r][v] = Add ? Vec<T>::load(c.data + r * c.row + column + v * W) : Vec<T>(T(0));
      });
    });
    const T *left = a.data, *right = b.data + column;
    for (Index k = 0; k < inner; ++k, left += a.inner, right += b.row) {
      Vec<T> row[V];
      unroll<V>([&](auto v)
                    __attribute__((always_inline)) { row[v] = Vec<T>::load(right + v * W); });
      unroll<Rows>([&](auto r) __attribute__((always_inline)) {
        const Vec<T> factor(left[r * a.row]);
        unroll<V>([&](auto v) __attribute__((always_inline)) {
          sums[r][v] = fma(factor, row[v], sums[r][v]);
        });
      });
    }
    unroll<Rows>([&](auto r) __attribute__((always_inline)) {
      unroll<V>([&](auto v) __attribute__((always_inline)) {
        sums[r][v].store(c.data + r * c.row + column + v * W);
      });
    });
  }
}

/// c (rows, cols) = a (rows, inner) b (inner, cols), or with Add, c += a b. Every element is summed
/// in the order of the inner index, whatever the number of rows.
template <bool Add, class T, int Largest = vector_registers / 4>
void small_product(Panel<const T> a, Panel<const T> b, Panel<T> c, Index rows, Index inner,
                   Index cols) noexcept {
  for (; rows >= Largest; rows -= Largest) {
    small_product_rows<Largest, Add, T>(a, b, c, inner, cols);
    a.data += Largest * a.row;
    c.data += Largest * c.row;
  }
  if constexpr (Largest > 1)
    if (rows > 0) small_product<Add, T, Largest / 2>(a, b, c, rows, inner, cols);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
