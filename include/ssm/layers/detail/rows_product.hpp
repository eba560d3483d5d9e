#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_lanes.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/write.hpp"
#include "ssm/layers/detail/matrix_rows.hpp"

/// The product of a matrix and a few vectors, at the rate at which the matrix can be read.
///
/// One vector: a row of the matrix at a time, so that memory is read as one stream. Several: a few
/// rows, unpacked where they are not numbers to compute with, serve all vectors out of the
/// first-level cache. Each number of the result comes from the same operations in the same order,
/// however many vectors and threads there are.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// So many elements of a row are summed before the sum is added to the result.
inline constexpr Index product_depth = 768;

/// Calls f(integral_constant<int, u>) for every u below N.
template <int N, class F>
[[gnu::always_inline]] inline void unrolled(const F& f) noexcept {
  [&]<int... U>(std::integer_sequence<int, U...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, U>()), ...);
  }
  (std::make_integer_sequence<int, N>());
}

/// to(m, i) ← row_i · x(m) over k in [begin, end), for R rows and M vectors: lane by lane, in two
/// sums that take vectors of elements in turn.
/// @tparam whole whether begin to end are whole chunks
/// @param begin a multiple of Rows::chunk
/// @param x the first number of the first vector; the next begins x_stride further on
/// @param to R vectors of lanes for each m
template <class Rows, int R, int M, bool whole = false, class T>
[[gnu::always_inline]] inline void product_block(const std::array<typename Rows::Row, R>& rows,
                                                 Index begin, Index end, const T* x, Index x_stride,
                                                 T* to) noexcept {
  constexpr Index width = lanes<T>;
  constexpr int vectors = Rows::chunk / static_cast<int>(width);
  Vec<T> sums[R][M][2];
  // Loops over constants are written out before the compiler looks for what can be in registers.
  unrolled<R * M>([&]<int P>(std::integral_constant<int, P>) __attribute__((always_inline)) {
    sums[P / M][P % M][0] = sums[P / M][P % M][1] = Vec<T>(T(0));
  });
  Index k = begin;
  for (; k + Rows::chunk <= end; k += Rows::chunk)
    unrolled<vectors>([&]<int U>(std::integral_constant<int, U>) __attribute__((always_inline)) {
      Vec<T> w[R];
      unrolled<R>([&]<int I>(std::integral_constant<int, I>) __attribute__((always_inline)) {
        w[I] = rows[static_cast<std::size_t>(I)].template load<U>(k);
        if constexpr (M > 1) in_register(w[I]);
      });
      unrolled<M>([&]<int J>(std::integral_constant<int, J>) __attribute__((always_inline)) {
        Vec<T> v = Vec<T>::load(x + J * x_stride + k + U * width);
        if constexpr (R > 1) in_register(v);
        unrolled<R>([&]<int I>(std::integral_constant<int, I>) __attribute__((always_inline)) {
          sums[I][J][U % 2] = fma(w[I], v, sums[I][J][U % 2]);
        });
      });
    });
  if (!whole && k < end)
    unrolled<vectors>([&]<int U>(std::integral_constant<int, U>) __attribute__((always_inline)) {
      const Index left = end - k - U * width;
      if (left <= 0) return;
      const Index count = (std::min)(left, width);
      unrolled<M>([&]<int J>(std::integral_constant<int, J>) __attribute__((always_inline)) {
        const Vec<T> v = Vec<T>::load(x + J * x_stride + k + U * width, count);
        unrolled<R>([&]<int I>(std::integral_constant<int, I>) __attribute__((always_inline)) {
          sums[I][J][U % 2] = fma(rows[static_cast<std::size_t>(I)].template load<U>(k, count), v,
                                  sums[I][J][U % 2]);
        });
      });
    });
  unrolled<R * M>([&]<int P>(std::integral_constant<int, P>) __attribute__((always_inline)) {
    constexpr int i = P / M, m = P % M;
    (sums[i][m][0] + sums[i][m][1]).store(to + (m * R + i) * width);
  });
}

/// Rows that were unpacked: aligned, and zero up to a whole chunk.
template <class T>
struct UnpackedRows {
  struct Row {
    const T* data;
    template <int U>
    [[nodiscard]] Vec<T> load(Index k) const noexcept {
      return Vec<T>::load(data + k + U * lanes<T>);
    }
    template <int U>
    [[nodiscard]] Vec<T> load(Index k, Index) const noexcept {
      return load<U>(k);
    }
  };
  static constexpr int chunk = 2 * static_cast<int>(lanes<T>);
};

/// Elements [begin, end) of a row, and where `padded` zero up to a whole chunk.
template <class Rows, bool padded, class T>
void unpack(const typename Rows::Row& row, Index begin, Index end, T* to) noexcept {
  constexpr int vectors = Rows::chunk / static_cast<int>(lanes<T>);
  Index k = begin;
  for (; k + Rows::chunk <= end; k += Rows::chunk)
    unrolled<vectors>([&]<int U>(std::integral_constant<int, U>) __attribute__((always_inline)) {
      row.template load<U>(k).store(to + k - begin + U * lanes<T>);
    });
  if (k < end)
    unrolled<vectors>([&]<int U>(std::integral_constant<int, U>) __attribute__((always_inline)) {
      const Index count = end - k - U * lanes<T>;
      const Vec<T> part =
          count > 0 ? row.template load<U>(k, (std::min)(count, lanes<T>)) : Vec<T>(T(0));
      if constexpr (padded)
        part.store(to + k - begin + U * lanes<T>);
      else if (count > 0)
        part.store(to + k - begin + U * lanes<T>, count);
    });
}

/// How many unpacked rows are multiplied with how many vectors at a time: their sums fill the
/// registers.
inline constexpr int block_of_rows = vector_registers >= 32 ? 4 : 2;
inline constexpr int block_of_vectors = 3;

/// The memory of the rows that are unpacked next, asked for little by little while others are at
/// work.
struct RowsToCome {
  const std::byte *at = nullptr, *end = nullptr;
  void prefetch(Index bytes) noexcept {
    for (; bytes > 0 && at < end; bytes -= 64, at += 64) __builtin_prefetch(at, 0, 2);
  }
};

/// A block of rows, of which `count_rows` count, times all vectors.
template <class Rows, class T>
void product_of_block(const std::array<typename Rows::Row, block_of_rows>& rows, Index count_rows,
                      Index depth, const T* x, Index x_stride, Index count, T* y, Index y_stride,
                      Write write, RowsToCome to_come) noexcept {
  constexpr Index width = lanes<T>;
  constexpr Index whole =
      (block_of_rows * block_of_vectors + width - 1) / width * width;  // groups to sum at once
  alignas(64) T sums[whole * width] = {};
  alignas(64) T totals[whole];
  const Index share = (to_come.end - to_come.at) * block_of_vectors / (count + 1) + 64;
  const auto some = [&]<int M>(std::integral_constant<int, M>, Index m) {
    to_come.prefetch(share);
    product_block<Rows, block_of_rows, M>(rows, 0, depth, x + m * x_stride, x_stride, sums);
    for (Index i = 0; i < block_of_rows * M; i += width)
      transposed_sum<T>(sums + i * width).store(totals + i);
    for (Index j = 0; j < M; ++j)
      for (Index i = 0; i < count_rows; ++i) {
        T& to = y[(m + j) * y_stride + i];
        const T total = totals[j * block_of_rows + i];
        to = write == Write::accumulate ? to + total : total;
      }
  };
  Index m = 0;
  for (; m + 3 <= count && count - m != 4; m += 3) some(std::integral_constant<int, 3>(), m);
  for (; m + 2 <= count; m += 2) some(std::integral_constant<int, 2>(), m);
  if (m < count) some(std::integral_constant<int, 1>(), m);
}

/// The rows [first, last) of `matrix` times each of `count` vectors x, on the calling thread.
template <class Rows, class T>
void multiply_rows(const Rows& matrix, Index in, Index first, Index last, const T* x,
                   Index x_stride, Index count, T* y, Index y_stride, Write write) noexcept {
  if (in == 0 && write == Write::overwrite)
    for (Index m = 0; m < count; ++m)
      std::fill(y + m * y_stride + first, y + m * y_stride + last, T(0));
  const auto write_at = [&](Index begin) { return begin == 0 ? write : Write::accumulate; };
  if (count == 1) {
    const auto run = [&]<bool whole>() {
      for (Index r = first; r < last; ++r)
        for (Index k = 0; k < in; k += product_depth) {
          Vec<T> lanes_of_sum;
          product_block<Rows, 1, 1, whole>(std::array{matrix.row(r)}, k,
                                           (std::min)(k + product_depth, in), x, x_stride,
                                           reinterpret_cast<T*>(&lanes_of_sum.v));
          const T total = sum(lanes_of_sum);
          y[r] = write_at(k) == Write::accumulate ? y[r] + total : total;
        }
    };
    if (in % Rows::chunk == 0)
      run.template operator()<true>();
    else
      run.template operator()<false>();
    return;
  }
  alignas(64) T unpacked[block_of_rows][product_depth + 16];
  for (Index r = first; r < last; r += block_of_rows) {
    const Index rows = (std::min)(Index{block_of_rows}, last - r);
    const Index next = (std::min)(r + rows, last), beyond = (std::min)(next + rows, last);
    const RowsToCome to_come{matrix.row(next).data, matrix.row(beyond).data};
    for (Index k = 0; k < in; k += product_depth) {
      const Index depth = (std::min)(in - k, product_depth);
      using Block = std::conditional_t<std::is_same_v<Rows, PlainRows<T>>, Rows, UnpackedRows<T>>;
      std::array<typename Block::Row, block_of_rows> block;
      for (std::size_t i = 0; i < block_of_rows; ++i) {
        const Index at = (std::min)(static_cast<Index>(i), rows - 1);
        if constexpr (std::is_same_v<Rows, Block>) {
          block[i] = {matrix.row(r + at).data + k * static_cast<Index>(sizeof(T))};
        } else {
          unpack<Rows, true>(matrix.row(r + at), k, k + depth, unpacked[i]);
          block[i] = {unpacked[i]};
        }
      }
      product_of_block<Block>(block, rows, depth, x + k, x_stride, count, y + r, y_stride,
                              write_at(k), k == 0 ? to_come : RowsToCome{});
    }
  }
}

/// Cuts the rows of a matrix (out, in) over threads, for its product with `count` vectors: calls
/// body(first, last).
/// @param bytes of the matrix
template <class Body>
void for_rows(const Cpu& backend, Index out, Index in, Index count, double bytes,
              const Body& body) noexcept {
  if (count == 0) return;
  const double multiplied =
      static_cast<double>(out) * static_cast<double>(in) * static_cast<double>(count);
  constexpr double bytes_per_ns = 8, ns_per_product = 0.02;
  const Cpu threads =
      for_work(backend, (std::max)(bytes / bytes_per_ns, multiplied * ns_per_product));
  constexpr Index at_once = 16;
  parallel_ranges(threads, (out + at_once - 1) / at_once, [&](Index begin, Index end) {
    body(begin * at_once, (std::min)(end * at_once, out));
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
