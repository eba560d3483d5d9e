#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "ssm/core/index.hpp"

namespace ssm {

/// The number whose IEEE binary16 bits are `half`; exact.
[[nodiscard]] constexpr float half_to_float(std::uint16_t half) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t fraction = half & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent == 0) {  // zero or subnormal: fraction · 2⁻²⁴
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

/// The bits of the IEEE binary16 number that is nearest, ties to even. Numbers that round beyond
/// 65504 become infinite; NaN stays NaN.
[[nodiscard]] constexpr std::uint16_t float_to_half(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // 65520 and more round to infinity
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // normal: from 2⁻¹⁴
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {
    // Subnormal: adding ½ puts the last bit of a half, 2⁻²⁴, at the last bit of the float, so that
    // the addition itself rounds.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    half = std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u;
  }
  return static_cast<std::uint16_t>(sign | half);
}

/// The number whose bfloat16 bits, the upper half of a float, are `bits`; exact.
[[nodiscard]] constexpr float bfloat16_to_float(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// The bits of the bfloat16 number that is nearest, ties to even; NaN stays NaN.
[[nodiscard]] constexpr std::uint16_t float_to_bfloat16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// A number stored in the 16 bits of IEEE binary16. Computations convert it to float.
struct Half {
  std::uint16_t bits = 0;  ///< the 16 bits as stored

  constexpr Half() noexcept = default;
  /// Rounds to nearest, ties to even.
  constexpr explicit Half(float value) noexcept : bits(float_to_half(value)) {}
  /// The number as a float; exact.
  [[nodiscard]] constexpr explicit operator float() const noexcept { return half_to_float(bits); }
};

/// A number stored in 16 bits, the upper half of a float. Computations convert it to float.
struct Bfloat16 {
  std::uint16_t bits = 0;  ///< the 16 bits as stored

  constexpr Bfloat16() noexcept = default;
  /// Rounds to nearest, ties to even.
  constexpr explicit Bfloat16(float value) noexcept : bits(float_to_bfloat16(value)) {}
  /// The number as a float; exact.
  [[nodiscard]] constexpr explicit operator float() const noexcept {
    return bfloat16_to_float(bits);
  }
};

/// The type in which numbers stored as T are computed: float for Half and Bfloat16, T itself for
/// all others.
template <class T>
using Arithmetic =
    std::conditional_t<std::is_same_v<T, Half> || std::is_same_v<T, Bfloat16>, float, T>;

}  // namespace ssm
