#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ssm/core/detail/intrinsics.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/index.hpp"

/// How the products of a matrix and a few vectors see its rows: as vectors of lanes, whatever the
/// numbers are stored as.
///
/// `Rows::row(r)` is row r. `row.load<u>(k)` are the elements from k + u · lanes on, where k is a
/// multiple of `chunk`; `row.load<u>(k, count)` are the same at the end of the row, of which the
/// first `count` count. What lies beyond is finite.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

typedef std::int8_t LaneBytes __attribute__((vector_size(vector_bytes / 4)));
typedef std::uint16_t LaneHalves __attribute__((vector_size(vector_bytes / 2)));
typedef std::uint32_t LaneWords __attribute__((vector_size(vector_bytes)));

template <class Packed>
[[nodiscard]] Packed load_packed(const void* from) noexcept {
  Packed packed;
  std::memcpy(&packed, from, sizeof packed);
  return packed;
}
/// The first `count` of 16-bit lanes, zero in the rest.
[[nodiscard]] inline LaneHalves load_halves(const void* from, Index count) noexcept {
  if (count >= lanes<float>) return load_packed<LaneHalves>(from);
  LaneHalves packed{};
  std::memcpy(&packed, from, static_cast<std::size_t>(count) * sizeof(std::uint16_t));
  return packed;
}

[[nodiscard]] inline Vec<float> from_bits(LaneWords bits) noexcept {
  return Vec<float>(reinterpret_cast<Vec<float>::Native>(bits));
}
[[nodiscard]] inline Vec<float> from_bfloat16(LaneHalves halves) noexcept {
  return from_bits(__builtin_convertvector(halves, LaneWords) << 16);
}
/// Of finite numbers.
[[nodiscard]] inline Vec<float> from_half(LaneHalves halves) noexcept {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return Vec<float>(_mm512_maskz_cvtph_ps(0xffff, std::bit_cast<__m256i>(halves)));
#elif defined(__F16C__)
  return Vec<float>(_mm256_cvtph_ps(std::bit_cast<__m128i>(halves)));
#else
  // Exponents differ by 112; as a factor that is right for subnormal numbers too.
  const LaneWords bits = __builtin_convertvector(halves, LaneWords);
  const Vec<float> magnitude = from_bits((bits & 0x7fffu) << 13) * Vec<float>(0x1p112f);
  return from_bits(reinterpret_cast<LaneWords>(magnitude.v) | ((bits & 0x8000u) << 16));
#endif
}

[[nodiscard]] inline Vec<float> from_bytes(LaneBytes bytes) noexcept {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return Vec<float>(_mm512_maskz_cvtepi32_ps(
      0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, std::bit_cast<__m128i>(bytes))));
#elif defined(__AVX2__)
  const __m128i low = _mm_cvtsi64_si128(std::bit_cast<long long>(bytes));
  return Vec<float>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low)));
#else
  typedef std::int32_t Ints __attribute__((vector_size(vector_bytes)));
  const Ints q = __builtin_convertvector(bytes, Ints);
  return Vec<float>(__builtin_convertvector(q, Vec<float>::Native));
#endif
}

/// Numbers as they are computed with.
template <class T>
struct PlainRows {
  struct Row {
    const std::byte* data;  // as a file has them: at any address
    template <int U>
    [[nodiscard]] Vec<T> load(Index k) const noexcept {
      return Vec<T>(load_packed<typename Vec<T>::Native>(at(k + U * lanes<T>)));
    }
    template <int U>
    [[nodiscard]] Vec<T> load(Index k, Index count) const noexcept {
      if (count >= lanes<T>) return load<U>(k);
      std::array<T, static_cast<std::size_t>(lanes<T>)> part{};
      std::memcpy(part.data(), at(k + U * lanes<T>), static_cast<std::size_t>(count) * sizeof(T));
      return Vec<T>::load(part.data());
    }
    [[nodiscard]] const std::byte* at(Index k) const noexcept {
      return data + k * static_cast<Index>(sizeof(T));
    }
  };
  static constexpr int chunk = 4 * static_cast<int>(lanes<T>);
  const std::byte* data;
  Index stride;  ///< bytes from row to row
  [[nodiscard]] Row row(Index r) const noexcept { return {data + r * stride}; }
};

/// 16-bit numbers, which Convert turns into floats.
template <Vec<float> (*Convert)(LaneHalves) noexcept>
struct HalfRows {
  struct Row {
    const std::byte* data;
    template <int U>
    [[nodiscard]] Vec<float> load(Index k) const noexcept {
      return Convert(load_packed<LaneHalves>(data + 2 * (k + U * lanes<float>)));
    }
    template <int U>
    [[nodiscard]] Vec<float> load(Index k, Index count) const noexcept {
      return Convert(load_halves(data + 2 * (k + U * lanes<float>), count));
    }
  };
  static constexpr int chunk = 4 * static_cast<int>(lanes<float>);
  const std::byte* data;
  Index stride;
  [[nodiscard]] Row row(Index r) const noexcept { return {data + r * stride}; }
};

/// The factor of the block that has element k + `beyond` of a row, where k is a multiple of 64. Two
/// factors are read at once, of which one is the upper half of a float already.
template <int beyond>
[[nodiscard]] Vec<float> block_scale(const std::byte* scales, Index k) noexcept {
  constexpr int block = beyond / 32;
  std::uint32_t two;
  std::memcpy(&two, scales + static_cast<std::size_t>(k) / 16 + block / 2 * 4, sizeof two);
  const LaneWords both = two - LaneWords{};
  return from_bits(block % 2 == 0 ? both << 16 : both & 0xffff0000u);
}

/// Rows in blocks, each with its numbers and its factors.
template <class BlockRow, int elements>
struct FactoredRows {
  using Row = BlockRow;
  static constexpr int chunk = elements;
  const std::byte* data;
  Index stride;
  const std::byte* scales;
  Index scales_stride;
  [[nodiscard]] Row row(Index r) const noexcept {
    return {data + r * stride, scales + r * scales_stride};
  }
};

/// Blocks of 32 bytes q that stand for q times the scale of the block. Rows are whole pairs of
/// blocks.
struct ByteRow {
  const std::byte *data, *scales;
  template <int U>
  [[nodiscard]] Vec<float> load(Index k) const noexcept {
    const Index at = k + U * lanes<float>;
    return from_bytes(load_packed<LaneBytes>(data + at)) *
           block_scale<U* static_cast<int>(lanes<float>)>(scales, k);
  }
  template <int U>
  [[nodiscard]] Vec<float> load(Index k, Index) const noexcept {
    return load<U>(k);
  }
};
using ByteRows = FactoredRows<ByteRow, 64>;

/// Blocks of 32 numbers q from 0 to 15 that stand for q − 8 times the scale of the block. Element
/// 128 g + 16 i + j of a row has bits 4 i to 4 i + 3 of its 32-bit word 16 g + j, so that a vector
/// of words, shifted, is a vector of elements. Rows are whole groups of 128.
struct NibbleRow {
  const std::byte *data, *scales;
  template <int U>
  [[nodiscard]] Vec<float> load(Index k) const noexcept {
    constexpr int per_sixteen = 16 / static_cast<int>(lanes<float>);  // vectors
    constexpr int shift = 4 * (U / per_sixteen), part = U % per_sixteen;
    const auto words = load_packed<LaneWords>(data + static_cast<std::size_t>(k) / 2 +
                                              part * static_cast<Index>(vector_bytes));
    const Vec<float> scale = block_scale<U* static_cast<int>(lanes<float>)>(scales, k);
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    const Vec<float>::Native levels{-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    return Vec<float>(_mm512_maskz_permutexvar_ps(0xffff, std::bit_cast<__m512i>(words >> shift),
                                                  (Vec<float>(levels) * scale).v));
#else
    typedef std::int32_t Ints __attribute__((vector_size(vector_bytes)));
    const Ints q = reinterpret_cast<Ints>((words >> shift) & 15u) - 8;
    return Vec<float>(__builtin_convertvector(q, Vec<float>::Native)) * scale;
#endif
  }
  template <int U>
  [[nodiscard]] Vec<float> load(Index k, Index) const noexcept {
    return load<U>(k);
  }
};
using NibbleRows = FactoredRows<NibbleRow, 128>;

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
