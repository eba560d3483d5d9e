#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ssm/core/detail/intrinsics.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_lanes.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/write.hpp"
#include "ssm/layers/detail/matrix_rows.hpp"
#include "ssm/layers/detail/rows_product.hpp"

#if SSM_DETAIL_BYTE_PRODUCTS

/// The product of a matrix in blocks and a few vectors, in whole numbers.
///
/// A vector x is rounded to whole multiples X of its largest number / 32639: to 15 bits and a sign,
/// which errs a hundred times less than a matrix rounded to eight bits. X is two signed bytes, and
/// the processor adds four products of bytes to a lane at once. Blocks sum exactly; only then come
/// the factor of a block, in float, and the sum over blocks.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

typedef std::int32_t LaneInts __attribute__((vector_size(64)));

inline constexpr int split_digits = 2;
inline constexpr float split_most = 127 * 256 + 127;

/// Sixty-four elements of X, in the order in which the numbers of a matrix come out of memory.
struct alignas(64) SplitVector {
  std::array<std::array<std::int8_t, 64>, split_digits> digits;  ///< the highest first
  LaneWords correction;  ///< minus the sum that the offset of the numbers of the matrix adds
};

/// t(i) ← Σ w(i) X, four products a lane, for R rows of Count vectors of bytes without a sign.
template <int R, int Count>
[[gnu::always_inline]] inline void lane_products(const __m512i (&w)[R][Count], const SplitVector* x,
                                                 LaneWords (&t)[R]) noexcept {
  for (LaneWords& sum : t) sum = LaneWords{};
  unroll<split_digits>([&](auto digit) __attribute__((always_inline)) {
    unroll<R>([&](auto i) __attribute__((always_inline)) { t[i] <<= 8; });
    unroll<Count>([&](auto c) __attribute__((always_inline)) {
      __m512i bytes = _mm512_load_si512(x[c].digits[digit].data());
      asm("" : "+v"(bytes));  // loaded once for all rows
      unroll<R>([&](auto i) __attribute__((always_inline)) {
        t[i] = reinterpret_cast<LaneWords>(
            _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(t[i]), w[i][c], bytes));
      });
    });
  });
}

/// How a row of bytes is read: bytes without a sign, and the factor of each lane.
struct ByteBlocks {
  static constexpr int vectors = 1;           ///< of bytes, to which the same factors belong
  static constexpr int chunk = 64 * vectors;  ///< elements
  static constexpr char offset = char(0x80);  ///< what bytes are larger by
  static void load(const ByteRow& row, Index k, __m512i* w) noexcept {
    w[0] = _mm512_xor_si512(_mm512_loadu_si512(row.data + k), _mm512_set1_epi8(offset));
  }
  static Vec<float> factors(const ByteRow& row, Index k) noexcept {
    std::int32_t two;
    std::memcpy(&two, row.scales + k / 16, sizeof two);
    constexpr std::int32_t none = std::int32_t(0x0100ffff), other = std::int32_t(0x0302ffff);
    const LaneInts which{none,  none,  none,  none,  none,  none,  none,  none,
                         other, other, other, other, other, other, other, other};
    return Vec<float>(reinterpret_cast<Vec<float>::Native>(_mm512_maskz_shuffle_epi8(
        ~__mmask64{0}, _mm512_set1_epi32(two), reinterpret_cast<__m512i>(which))));
  }
  /// Where sixteen elements from k on lie: which vector, and which byte of it.
  static std::array<Index, 2> place(Index k) noexcept { return {k / 64, k % 64}; }
};

/// How a row of halves of bytes is read. In order, byte 16 p + j of a vector is of block p.
struct NibbleBlocks {
  static constexpr int vectors = 2;
  static constexpr int chunk = 64 * vectors;
  static constexpr char offset = 8;
  static void load(const NibbleRow& row, Index k, __m512i* w) noexcept {
    alignas(64) static constexpr std::array<std::int8_t, 64> order = [] {
      std::array<std::int8_t, 64> from{};
      for (std::size_t i = 0; i < 64; ++i)
        from[i] = static_cast<std::int8_t>(4 * (i % 16) + i / 16);
      return from;
    }();
    const __m512i both = _mm512_maskz_permutexvar_epi8(
        ~__mmask64{0}, _mm512_load_si512(order.data()), _mm512_loadu_si512(row.data + k / 2));
    const __m512i low = _mm512_set1_epi8(15);
    w[0] = _mm512_and_si512(both, low);
    const LaneWords words = reinterpret_cast<LaneWords>(both) >> 4;
    w[1] = _mm512_and_si512(reinterpret_cast<__m512i>(words), low);
  }
  static Vec<float> factors(const NibbleRow& row, Index k) noexcept {
    long long four;
    std::memcpy(&four, row.scales + k / 16, sizeof four);
    constexpr auto pick = [](int p) {
      return static_cast<std::int32_t>((2 * p + 1) << 24 | (2 * p) << 16 | 0xffff);
    };
    const LaneInts which{pick(0), pick(0), pick(0), pick(0), pick(1), pick(1), pick(1), pick(1),
                         pick(2), pick(2), pick(2), pick(2), pick(3), pick(3), pick(3), pick(3)};
    return Vec<float>(reinterpret_cast<Vec<float>::Native>(_mm512_maskz_shuffle_epi8(
        ~__mmask64{0}, _mm512_set1_epi64(four), reinterpret_cast<__m512i>(which))));
  }
  static std::array<Index, 2> place(Index k) noexcept {
    const Index sixteen = k % 128 / 16;
    return {k / 128 * 2 + sixteen % 2, 16 * (sixteen / 2)};
  }
};

/// What x is to be multiplied with, and its inverse; 0 where x has no largest number or a tiny one.
[[nodiscard]] inline std::array<float, 2> split_scale(const float* x, Index count) noexcept {
  Vec<float> largest(0.0f);
  for (Index k = 0; k < count; k += lanes<float>) {
    const Vec<float> a = absolute(Vec<float>::load(x + k, (std::min)(count - k, lanes<float>)));
    largest = Vec<float>(a.v <= largest.v ? largest.v : a.v);  // a NaN stays
    largest = Vec<float>(largest.v == largest.v ? largest.v : Vec<float>(INFINITY).v);
  }
  std::array<float, 16> each;
  largest.store(each.data());
  const float most = *std::max_element(each.begin(), each.end());
  if (!(most <= 0x1p120f) || most < 0x1p-90f) return {0, 0};
  return {split_most / most, most / split_most};
}

/// Splits the elements [0, count) of x, and zeros up to whole chunks.
template <class Blocks>
void split(const float* x, Index count, float scale, SplitVector* to) noexcept {
  for (Index begin = 0; begin < count; begin += Blocks::chunk) {
    SplitVector* const vectors = to + begin / 64;
    for (Index k = 0; k < Blocks::chunk; k += lanes<float>) {
      const Index left = (std::max)(count - begin - k, Index{0});
      const Vec<float> whole = nearest(
          Vec<float>::load(x + (std::min)(begin + k, count), (std::min)(left, lanes<float>)) *
          Vec<float>(scale));
      LaneInts rest = __builtin_convertvector(whole.v, LaneInts);
      const auto [vector, byte] = Blocks::place(k);
      for (std::size_t digit = split_digits; digit-- > 0;) {
        const LaneInts lowest = (rest << 24) >> 24;
        rest = (rest - lowest) >> 8;
        _mm_storeu_si128(reinterpret_cast<__m128i*>(vectors[vector].digits[digit].data() + byte),
                         _mm512_maskz_cvtepi32_epi8(0xffff, reinterpret_cast<__m512i>(lowest)));
      }
    }
    __m512i offset[1][Blocks::vectors];
    for (__m512i& o : offset[0]) o = _mm512_set1_epi8(Blocks::offset);
    LaneWords sum[1];
    lane_products(offset, vectors, sum);
    vectors->correction = -sum[0];
  }
}

/// to(m, i) ← row_i · X(m), lane by lane, for R rows and M vectors.
template <class Blocks, int R, int M, class Row>
[[gnu::always_inline]] inline void byte_block(const std::array<Row, R>& rows, Index begin,
                                              Index end, const SplitVector* x, Index x_stride,
                                              float* to, Index to_stride) noexcept {
  Vec<float> sums[R][M];
  unroll<R * M>([&](auto p)
                    __attribute__((always_inline)) { sums[p / M][p % M] = Vec<float>(0.0f); });
  for (Index k = begin; k < end; k += Blocks::chunk, x += Blocks::vectors) {
    __m512i w[R][Blocks::vectors];
    Vec<float> factors[R];
    unroll<R>([&](auto i) __attribute__((always_inline)) {
      Blocks::load(rows[i], k, w[i]);
      factors[i] = Blocks::factors(rows[i], k);
    });
    unroll<M>([&](auto m) __attribute__((always_inline)) {
      const SplitVector* const v = x + m * x_stride;
      LaneWords t[R];
      lane_products(w, v, t);
      const LaneWords correction = v->correction;
      unroll<R>([&](auto i) __attribute__((always_inline)) {
        const auto sum = reinterpret_cast<LaneInts>(t[i] + correction);
        sums[i][m] = fma(Vec<float>(__builtin_convertvector(sum, Vec<float>::Native)), factors[i],
                         sums[i][m]);
      });
    });
  }
  unroll<R * M>([&](auto p) __attribute__((always_inline)) {
    sums[p / M][p % M].store(to + p % M * to_stride + p / M * lanes<float>);
  });
}

/// Room for split vectors: sixteen vectors of product_depth elements, or fewer longer ones.
inline constexpr Index split_vectors = 16;
static_assert(product_depth % 128 == 0);

/// The rows [first, last) of `matrix` times vectors of which each has a scale.
template <class Blocks, class Rows>
void multiply_split(const Rows& matrix, Index in, Index first, Index last,
                    const std::array<const float*, split_vectors>& x,
                    const std::array<std::array<float, 2>, split_vectors>& scales, Index count,
                    const std::array<float*, split_vectors>& y, Write write) noexcept {
  constexpr Index width = lanes<float>, at_once = 4, lead = 4;  // blocks of rows
  constexpr Index room = split_vectors * product_depth / 64;
  std::array<SplitVector, room> vectors;
  alignas(64) float sums[split_vectors * width * width] = {};
  const Index pieces = split_vectors / count, whole = pieces * product_depth;
  for (Index begin = 0; begin < in; begin += whole) {
    const Index depth = (std::min)(whole, in - begin);
    const Index parts = (depth + product_depth - 1) / product_depth;
    const Index stride = whole / 64;
    for (std::size_t m = 0; m < static_cast<std::size_t>(count); ++m)
      split<Blocks>(x[m] + begin, depth, scales[m][0],
                    vectors.data() + static_cast<Index>(m) * stride);
    for (Index r = first; r < last; r += width) {
      const Index some = (std::min)(width, last - r);
      for (Index i = 0; i < some; i += at_once) {
        std::array<typename Rows::Row, at_once> rows;
        for (Index j = 0; j < at_once; ++j)
          rows[static_cast<std::size_t>(j)] = matrix.row((std::min)(r + i + j, last - 1));
        RowsToCome to_come;
        if (const Index next = r + i + lead * at_once; next + at_once <= last)
          to_come = {matrix.row(next).data, matrix.row(next + at_once).data};
        const Index share = (to_come.end - to_come.at) * 2 / ((count + 1) / 2 * 2 * parts) + 64;
        for (Index part = 0; part < parts; ++part) {
          const Index from = part * product_depth, to = (std::min)(from + product_depth, depth);
          const SplitVector* const v = vectors.data() + from / 64;
          float* const into = sums + (part * count * width + i) * width;
          Index m = 0;
          for (; m + 2 <= count; m += 2) {
            to_come.prefetch(share);
            byte_block<Blocks, at_once, 2>(rows, begin + from, begin + to, v + m * stride, stride,
                                           into + m * width * width, width * width);
          }
          if (m < count) {
            to_come.prefetch(share);
            byte_block<Blocks, at_once, 1>(rows, begin + from, begin + to, v + m * stride, stride,
                                           into + m * width * width, width * width);
          }
        }
      }
      for (Index part = 0; part < parts; ++part)
        for (std::size_t m = 0; m < static_cast<std::size_t>(count); ++m) {
          const Vec<float> total =
              transposed_sum<float>(sums + (part * count + static_cast<Index>(m)) * width * width) *
              Vec<float>(scales[m][1]);
          float* const to = y[m] + r;
          const bool add = begin + part > 0 || write == Write::accumulate;
          (add ? Vec<float>::load(to, some) + total : total).store(to, some);
        }
    }
  }
}

/// multiply_rows for a matrix in blocks. A vector with a number that is not finite, or with tiny
/// ones alone, is multiplied in float.
template <class Blocks, class Rows>
void multiply_blocks(const Rows& matrix, Index in, Index first, Index last, const float* x,
                     Index x_stride, Index count, float* y, Index y_stride, Write write) noexcept {
  std::array<const float*, split_vectors> from{};
  std::array<std::array<float, 2>, split_vectors> scales{};
  std::array<float*, split_vectors> to{};
  std::size_t some = 0;
  for (Index m = 0; m < count; ++m) {
    from[some] = x + m * x_stride;
    to[some] = y + m * y_stride;
    scales[some] = split_scale(from[some], in);
    if (scales[some][0] != 0)
      ++some;
    else
      multiply_rows(matrix, in, first, last, from[some], x_stride, 1, to[some], y_stride, write);
    if (some == split_vectors || (m + 1 == count && some > 0)) {
      multiply_split<Blocks>(matrix, in, first, last, from, scales, static_cast<Index>(some), to,
                             write);
      some = 0;
    }
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail

#endif
