#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/write.hpp"
#include "ssm/layers/detail/matrix_rows.hpp"

/// The product of a matrix and a few vectors, at the rate at which the matrix can be read.
///
/// One vector: a row of the matrix at a time, so that memory is read as one stream. Several: a few
/// rows are unpacked where the core has them at hand, and serve all vectors. Each number of the
/// result comes from the same operations in the same order, however many vectors and threads there
/// are.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// So many elements of a row are summed before the sum is added to the result.
inline constexpr Index product_depth = 2048;

/// Calls f(integral_constant<int, u>) for every u below N.
template <int N, class F>
[[gnu::always_inline]] inline void unrolled(const F& f) noexcept {
  [&]<int... U>(std::integer_sequence<int, U...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, U>()), ...);
  }
  (std::make_integer_sequence<int, N>());
}

/// y(m, i) ← or += Σ_k row_i(k) x(m, k) over k in [begin, end), for R rows and M vectors, in two
/// sums that take vectors of elements in turn.
/// @tparam whole whether begin to end are whole chunks
/// @param begin a multiple of Rows::chunk
/// @param x, y the first number of the first vector; the next begins x_stride, y_stride further on
template <class Rows, int R, int M, bool whole = false, class T>
[[gnu::always_inline]] inline void product_block(const std::array<typename Rows::Row, R>& rows,
                                                 Index begin, Index end, const T* x, Index x_stride,
                                                 T* y, Index y_stride, Write write) noexcept {
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
      });
      unrolled<M>([&]<int J>(std::integral_constant<int, J>) __attribute__((always_inline)) {
        const Vec<T> v = Vec<T>::load(x + J * x_stride + k + U * width);
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
    const T total = sum(sums[i][m][0] + sums[i][m][1]);
    T& to = y[m * y_stride + i];
    to = write == Write::accumulate ? to + total : total;
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
  static constexpr int chunk = 4 * static_cast<int>(lanes<T>);
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

/// Asks for the rows that are unpacked next, while these are at work.
template <class Rows>
void prefetch_rows(const Rows& matrix, Index first, Index last) noexcept {
  for (Index r = first; r < last; ++r) {
    const auto* const row = reinterpret_cast<const char*>(matrix.row(r).data);
    for (Index at = 0; at < matrix.stride; at += 64) __builtin_prefetch(row + at, 0, 2);
  }
}

/// How many rows are unpacked at a time, and how many vectors they are multiplied with at a time:
/// their sums fill the registers.
inline constexpr int panel_rows = vector_registers >= 32 ? 6 : 3;
inline constexpr int panel_vectors = 2;

/// One panel of unpacked rows times all vectors.
template <int R, class T>
void product_panel(const std::array<typename UnpackedRows<T>::Row, R>& rows, Index depth,
                   const T* x, Index x_stride, Index count, T* y, Index y_stride,
                   Write write) noexcept {
  const auto some = [&]<int M>(std::integral_constant<int, M>, Index m) {
    product_block<UnpackedRows<T>, R, M>(rows, 0, depth, x + m * x_stride, x_stride,
                                         y + m * y_stride, y_stride, write);
  };
  Index m = 0;
  for (; m + panel_vectors <= count; m += panel_vectors)
    some(std::integral_constant<int, panel_vectors>(), m);
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
        for (Index k = 0; k < in; k += product_depth)
          product_block<Rows, 1, 1, whole>(std::array{matrix.row(r)}, k,
                                           (std::min)(k + product_depth, in), x, x_stride, y + r,
                                           y_stride, write_at(k));
    };
    if (in % Rows::chunk == 0)
      run.template operator()<true>();
    else
      run.template operator()<false>();
    return;
  }
  alignas(64) T panel[panel_rows][product_depth + 128];
  for (Index r = first; r < last; r += panel_rows)
    for (Index k = 0; k < in; k += product_depth) {
      const Index end = (std::min)(k + product_depth, in);
      const Index rows = (std::min)(Index{panel_rows}, last - r);
      std::array<typename UnpackedRows<T>::Row, panel_rows> unpacked;
      for (Index i = 0; i < rows; ++i) {
        unpack<Rows, true>(matrix.row(r + i), k, end, panel[i]);
        unpacked[static_cast<std::size_t>(i)] = {panel[i]};
      }
      if (k == 0) prefetch_rows(matrix, r + rows, (std::min)(r + rows + panel_rows, last));
      if (rows == panel_rows) {
        product_panel<panel_rows>(unpacked, end - k, x + k, x_stride, count, y + r, y_stride,
                                  write_at(k));
        continue;
      }
      for (Index i = 0; i < rows; ++i)
        product_panel<1>(std::array{unpacked[static_cast<std::size_t>(i)]}, end - k, x + k,
                         x_stride, count, y + r + i, y_stride, write_at(k));
    }
}

/// y (count, out) ← or += x (count, in) · matrixᵀ, the rows of the matrix cut over threads.
/// @param bytes of the matrix
template <class Rows, class T>
void multiply_rows(const Cpu& backend, const Rows& matrix, Index out, Index in, double bytes,
                   const T* x, Index x_stride, Index count, T* y, Index y_stride,
                   Write write) noexcept {
  if (count == 0) return;
  const double multiplied =
      static_cast<double>(out) * static_cast<double>(in) * static_cast<double>(count);
  constexpr double bytes_per_ns = 8, ns_per_product = 0.02;
  const Cpu threads =
      for_work(backend, (std::max)(bytes / bytes_per_ns, multiplied * ns_per_product));
  const Index panels = (out + panel_rows - 1) / panel_rows;
  parallel_ranges(threads, panels, [&](Index begin, Index end) {
    multiply_rows(matrix, in, begin * panel_rows, (std::min)(end * panel_rows, out), x, x_stride,
                  count, y, y_stride, write);
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
