#include "ssm/core/float16.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "support/catch.hpp"
#include "support/random.hpp"

namespace {

bool is_nan_half(std::uint16_t h) { return (h & 0x7fffu) > 0x7c00u; }
bool is_nan_bfloat16(std::uint16_t b) { return (b & 0x7fffu) > 0x7f80u; }

/// Whether `to_bits(value)` is the nearest of the numbers that 16 bits can stand for, ties to even.
template <class ToBits, class FromBits>
bool nearest(float value, ToBits to_bits, FromBits from_bits) {
  const std::uint16_t bits = to_bits(value);
  const double got = std::abs(from_bits(bits) - static_cast<double>(value));
  for (int step : {-1, 1}) {
    const auto neighbour = static_cast<std::uint16_t>(bits + step);
    const double there = from_bits(neighbour);
    if (!std::isfinite(there) || std::signbit(there) != std::signbit(value)) continue;
    const double distance = std::abs(there - static_cast<double>(value));
    if (distance < got || (distance == got && bits % 2 == 1)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("every half survives the way to float and back") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = ssm::half_to_float(half);
    if (is_nan_half(half)) {
      REQUIRE(std::isnan(value));
      REQUIRE(is_nan_half(ssm::float_to_half(value)));
    } else {
      REQUIRE(ssm::float_to_half(value) == half);
    }
  }
}

TEST_CASE("every bfloat16 survives the way to float and back") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto short_float = static_cast<std::uint16_t>(bits);
    const float value = ssm::bfloat16_to_float(short_float);
    if (is_nan_bfloat16(short_float)) {
      REQUIRE(std::isnan(value));
      REQUIRE(is_nan_bfloat16(ssm::float_to_bfloat16(value)));
    } else {
      REQUIRE(ssm::float_to_bfloat16(value) == short_float);
    }
  }
}

TEST_CASE("halves have the values that the standard gives them") {
  CHECK(ssm::half_to_float(0x3c00) == 1.0f);
  CHECK(ssm::half_to_float(0xc000) == -2.0f);
  CHECK(ssm::half_to_float(0x7bff) == 65504.0f);
  CHECK(ssm::half_to_float(0x0001) == 0x1p-24f);
  CHECK(ssm::half_to_float(0x0400) == 0x1p-14f);
  CHECK(std::signbit(ssm::half_to_float(0x8000)));
  CHECK(ssm::half_to_float(0x7c00) == std::numeric_limits<float>::infinity());
  CHECK(ssm::float_to_half(65519.996f) == 0x7bff);
  CHECK(ssm::float_to_half(65520.0f) == 0x7c00);
  CHECK(ssm::float_to_half(0x1p-25f) == 0);  // a tie, to even
  CHECK(ssm::float_to_half(0x1.8p-25f) == 1);
  CHECK(ssm::bfloat16_to_float(0x4049) == 3.140625f);
}

TEST_CASE("floats round to the nearest half and bfloat16, ties to even") {
  ssm::test::Random random(7);
  for (int i = 0; i < 200000; ++i) {
    const auto value = static_cast<float>(random.normal() * std::exp2(random.uniform(-28, 13)));
    REQUIRE(nearest(value, ssm::float_to_half, ssm::half_to_float));
    REQUIRE(nearest(value, ssm::float_to_bfloat16, ssm::bfloat16_to_float));
    const float tie =
        std::bit_cast<float>((std::bit_cast<std::uint32_t>(value) & ~0x1fffu) | 0x1000u);
    REQUIRE(nearest(tie, ssm::float_to_half, ssm::half_to_float));
  }
}
