#pragma once

#include <type_traits>

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
template <int Rows, bool Add, bool Causal, class T>
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
    // `count` steps of the inner index, for the vectors from `First` on.
    const auto run = [&]<int First>(std::integral_constant<int, First>, Index count)
        __attribute__((always_inline)) {
      for (Index k = 0; k < count; ++k, left += a.inner, right += b.row) {
        Vec<T> row[V];
        unroll<V - First>([&](auto v) __attribute__((always_inline)) {
          row[First + v] = Vec<T>::load(right + (First + v) * W);
        });
        unroll<Rows>([&](auto r) __attribute__((always_inline)) {
          const Vec<T> factor(left[r * a.row]);
          unroll<V - First>([&](auto v) __attribute__((always_inline)) {
            sums[r][First + v] = fma(factor, row[First + v], sums[r][First + v]);
          });
        });
      }
    };
    constexpr std::integral_constant<int, 0> all;
    if constexpr (Causal) {
      unroll<V>([&](auto v)
                    __attribute__((always_inline)) { run(std::integral_constant<int, v>(), W); });
      run(all, inner - V * W);
    } else {
      run(all, inner);
    }
    unroll<Rows>([&](auto r) __attribute__((always_inline)) {
      unroll<V>([&](auto v) __attribute__((always_inline)) {
        sums[r][v].store(c.data + r * c.row + column + v * W);
      });
    });
  }
}

/// c (rows, cols) = a (rows, inner) b (inner, cols), or with Add, c += a b. Every element is summed
/// in the order of the inner index, whatever the number of rows. Causal: the columns are one block,
/// and row k of b is zero before column k for so many rows; vectors of zeros are passed over.
template <bool Add, class T, bool Causal = false, int Largest = vector_registers / 4>
void small_product(Panel<const T> a, Panel<const T> b, Panel<T> c, Index rows, Index inner,
                   Index cols) noexcept {
  for (; rows >= Largest; rows -= Largest) {
    small_product_rows<Largest, Add, Causal, T>(a, b, c, inner, cols);
    a.data += Largest * a.row;
    c.data += Largest * c.row;
  }
  if constexpr (Largest > 1)
    if (rows > 0) small_product<Add, T, Causal, Largest / 2>(a, b, c, rows, inner, cols);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
