#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/detail/intrinsics.hpp"
#include "ssm/core/detail/padded.hpp"

SSM_BEGIN_COMPILED

/// The lanes of a vector in the columns of a Padded.
using PaddedLanes [[gnu::vector_size(std::size_t(tile_lanes) * sizeof(double))]] = double;

SSM_INLINE PaddedLanes load_lanes(const double* from) {
  PaddedLanes lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}
SSM_INLINE void store_lanes(double* to, const PaddedLanes& lanes) {
  std::memcpy(to, &lanes, sizeof(lanes));
}

SSM_INLINE void put_product(const Padded& C, bool add, double factor, const Padded& A,
                            const Padded& B, Turned turned) {
  const bool straight = turned == Turned::no;
  if constexpr (tile_lanes == padding)  // a column is a vector: all of up to eight at once
    if (C.stride() == padding && C.cols() <= 8 && C.cols() > 0) {
      constexpr auto tiles = []<int... count>(std::integer_sequence<int, count...>) {
        return std::array{&multiply_tile<tile_lanes, 1, count + 1>...};
      }
      (std::make_integer_sequence<int, 8>());
      tiles[static_cast<std::size_t>(C.cols() - 1)](C.data(), padding, add, factor, A.data(),
                                                    padding, B.data(), straight ? 1 : B.stride(),
                                                    straight ? B.stride() : 1, A.cols());
      return;
    }
  multiply_tiles({C.data(), C.stride(), C.cols(), C.stride()}, add, factor,
                 {A.data(), A.stride(), A.cols(), A.stride()}, B.data(), straight ? 1 : B.stride(),
                 straight ? B.stride() : 1);
}

SSM_INLINE void put_transpose(const Padded& to, const Padded& from) {
  for (Index j = 0; j < from.cols(); ++j)
    for (Index i = 0; i < from.rows(); ++i) to(j, i) = from(i, j);
}

SSM_INLINE void put_copy(const Padded& to, const Padded& from) {
  std::copy_n(from.data(), from.size(), to.data());
}

SSM_INLINE void add_multiple(const Padded& C, double factor, const Padded& A) {
  for (Index i = 0; i < C.size(); i += tile_lanes)
    store_lanes(C.data() + i, load_lanes(C.data() + i) + factor * load_lanes(A.data() + i));
}

SSM_INLINE void add_to_diagonal(const Padded& C, double value) {
  for (Index i = 0; i < C.cols(); ++i) C(i, i) += value;
}

SSM_INLINE void make_symmetric(const Padded& A) {
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < j; ++i) A(i, j) = A(j, i) = 0.5 * (A(i, j) + A(j, i));
}

SSM_INLINE double sum_of(PaddedLanes lanes) {
#pragma GCC unroll 4
  for (Index half = tile_lanes / 2; half > 0; half /= 2)
#pragma GCC unroll 4
    for (Index i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

SSM_INLINE double sum_of_squares(const Padded& A) {
  PaddedLanes sum{};
  for (Index i = 0; i < A.size(); i += tile_lanes) {
    const PaddedLanes x = load_lanes(A.data() + i);
    sum += x * x;
  }
  return sum_of(sum);
}

SSM_INLINE bool is_number(const Padded& A) {
  PaddedLanes sum{};  // of zeros, or NaN
  for (Index i = 0; i < A.size(); i += tile_lanes) sum += 0 * load_lanes(A.data() + i);
  return sum_of(sum) == 0;
}

SSM_INLINE bool invert(const Padded& A, bool exchange) {
  const Index n = A.cols(), stride = A.stride();
  ShortVector<Index> pivots(n);
  for (Index k = 0; k < n; ++k) {
    double* const column = A.col(k);
    Index pivot = k;
    if (exchange) {
      double largest = std::abs(column[k]);
      for (Index i = k + 1; i < n; ++i)
        if (std::abs(column[i]) > largest) {
          largest = std::abs(column[i]);
          pivot = i;
        }
      if (pivot != k)
        for (Index j = 0; j < n; ++j) std::swap(A(k, j), A(pivot, j));
    }
    pivots(k) = pivot;
    const double inverse = 1 / column[k];
    if (!std::isfinite(inverse) || inverse == 0) return false;
    column[k] = 0;
    for (Index j = 0; j < n; ++j) {
      if (j == k) continue;
      double* const other = A.col(j);
      const double weight = other[k] * inverse;
      for (Index i = 0; i < stride; i += tile_lanes)
        store_lanes(other + i, load_lanes(other + i) - weight * load_lanes(column + i));
      other[k] = weight;
    }
    for (Index i = 0; i < stride; i += tile_lanes)
      store_lanes(column + i, -inverse * load_lanes(column + i));
    column[k] = inverse;
  }
  if (exchange)
    for (Index k = n; k-- > 0;)
      if (pivots(k) != k) std::swap_ranges(A.col(k), A.col(k) + stride, A.col(pivots(k)));
  return true;
}

SSM_INLINE double least_pivot(const Padded& A) {
  const Index n = A.cols(), stride = A.stride();
  ShortVector<double> diagonal(n);
  for (Index k = 0; k < n; ++k) diagonal(k) = A(k, k);
  double least = 1;
  for (Index k = 0; k < n; ++k) {
    const double* const column = A.col(k);
    if (!(column[k] > 0)) return 0;
    least = (std::min)(least, column[k] / diagonal(k));
    const double inverse = 1 / column[k];
    for (Index j = k + 1; j < n; ++j) {
      const double weight = column[j] * inverse;
      for (Index i = j / padding * padding; i < stride; i += tile_lanes)
        store_lanes(A.col(j) + i, load_lanes(A.col(j) + i) - weight * load_lanes(column + i));
    }
  }
  return least;
}

SSM_INLINE PaddedSum zero_sum(Index rows, Index cols, Workspace& work) {
  const PaddedSum sum{work.matrix(rows, cols), work.matrix(rows, cols)};
  std::fill_n(sum.high.data(), sum.high.size(), 0.0);
  std::fill_n(sum.low.data(), sum.low.size(), 0.0);
  return sum;
}

/// x y − product, product being x y rounded.
SSM_INLINE PaddedLanes rest_of_product(PaddedLanes x, PaddedLanes y, PaddedLanes product) {
#if defined(__AVX512F__)
  return PaddedLanes(_mm512_fmsub_pd(__m512d(x), __m512d(y), __m512d(product)));
#elif defined(__FMA__)
  return PaddedLanes(_mm256_fmsub_pd(__m256d(x), __m256d(y), __m256d(product)));
#elif defined(__aarch64__)
  return PaddedLanes(vnegq_f64(vfmsq_f64(float64x2_t(product), float64x2_t(x), float64x2_t(y))));
#else  // Dekker (1971), by halves of the digits
  const double split = 0x1p27 + 1;
  const PaddedLanes x_far = split * x, y_far = split * y;
  const PaddedLanes x_high = x_far - (x_far - x), y_high = y_far - (y_far - y);
  const PaddedLanes x_low = x - x_high, y_low = y - y_high;
  return ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low;
#endif
}

template <int cols>
void add_exact_tile(double* high, double* low, Index C_stride, double factor, const double* A,
                    Index A_stride, const double* B, Index B_down, Index B_across, Index depth) {
  PaddedLanes sums[cols], rests[cols];
#pragma GCC unroll 4
  for (int j = 0; j < cols; ++j) {
    sums[j] = load_lanes(high + j * C_stride);
    rests[j] = load_lanes(low + j * C_stride);
  }
  for (Index k = 0; k < depth; ++k) {
    const PaddedLanes a = load_lanes(A + k * A_stride);
#pragma GCC unroll 4
    for (int j = 0; j < cols; ++j) {
      const PaddedLanes b = factor * B[j * B_across + k * B_down] + PaddedLanes{};
      const PaddedLanes product = a * b, old = sums[j], next = old + product, part = next - old;
      rests[j] += rest_of_product(a, b, product) + ((old - (next - part)) + (product - part));
      sums[j] = next;
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < cols; ++j) {
    store_lanes(high + j * C_stride, sums[j]);
    store_lanes(low + j * C_stride, rests[j]);
  }
}

SSM_INLINE void add_exactly(const PaddedSum& C, double factor, const Padded& A, const Padded& B,
                            Turned turned) {
  const bool straight = turned == Turned::no;
  const Index stride = C.high.stride(), down = straight ? 1 : B.stride(),
              across = straight ? B.stride() : 1;
  Index j = 0;
  const auto take = [&](auto columns) {
    for (Index i = 0; i < stride; i += tile_lanes)
      add_exact_tile<columns()>(C.high.col(j) + i, C.low.col(j) + i, stride, factor, A.data() + i,
                                stride, B.data() + j * across, down, across, A.cols());
    j += columns();
  };
  while (C.high.cols() - j >= 4) take(std::integral_constant<int, 4>());
  while (C.high.cols() - j >= 1) take(std::integral_constant<int, 1>());
}

SSM_INLINE void add_exactly(const PaddedSum& C, double factor, const PaddedSum& A, const Padded& B,
                            Turned turned) {
  add_exactly(C, factor, A.high, B, turned);
  put_product(C.low, true, factor, A.low, B, turned);
}

SSM_INLINE void add_exactly(const PaddedSum& C, double factor, const Padded& A) {
  for (Index i = 0; i < A.size(); i += tile_lanes) {
    const PaddedLanes old = load_lanes(C.high.data() + i), more = factor * load_lanes(A.data() + i);
    const PaddedLanes next = old + more, part = next - old;
    store_lanes(C.low.data() + i,
                load_lanes(C.low.data() + i) + ((old - (next - part)) + (more - part)));
    store_lanes(C.high.data() + i, next);
  }
}

SSM_END_COMPILED
