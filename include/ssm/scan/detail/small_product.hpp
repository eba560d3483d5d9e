#pragma once

#include <type_traits>
#include <utility>

#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"

/// Products of matrices that stay in the first-level cache, and transposed blocks of vectors.
namespace ssm::detail {

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

/// The lower or upper halves of two vectors, lane by lane from one and the other.
template <bool Upper, class T, int... Lane>
[[nodiscard]] Vec<T> interleave(Vec<T> a, Vec<T> b, std::integer_sequence<int, Lane...>) noexcept {
  constexpr int W = static_cast<int>(lanes<T>);
  return Vec<T>(
      __builtin_shufflevector(a.v, b.v, (Lane / 2 + (Lane % 2) * W + (Upper ? W / 2 : 0))...));
}

/// Lane j of vector i becomes lane i of vector j.
template <class T, int Count = static_cast<int>(lanes<T>)>
[[gnu::always_inline]] inline void transpose_vectors(Vec<T>* x) noexcept {
  constexpr int W = static_cast<int>(lanes<T>);
  if constexpr (Count > 1) {
    using Lanes = std::make_integer_sequence<int, W>;
    Vec<T> y[W];
    unroll<W / 2>([&](auto i) __attribute__((always_inline)) {
      y[2 * i] = interleave<false>(x[i], x[i + W / 2], Lanes{});
      y[2 * i + 1] = interleave<true>(x[i], x[i + W / 2], Lanes{});
    });
    unroll<W>([&](auto i) __attribute__((always_inline)) { x[i] = y[i]; });
    transpose_vectors<T, Count / 2>(x);
  }
}

}  // namespace ssm::detail
