#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/large_memory.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/stored_matrix.hpp"

namespace ssm {
namespace detail {

/// 32 numbers as whole numbers in [least, most] times a factor.
struct QuantizedBlock {
  static constexpr std::size_t size = 32;
  std::array<int, size> q{};
  Bfloat16 scale;
};

/// The nearest whole numbers for a given factor, and the sum of the squared errors.
inline double quantize_with(const float* x, Index count, float scale, int least, int most,
                            QuantizedBlock& block) noexcept {
  block.scale = Bfloat16(scale);
  const float rounded = static_cast<float>(block.scale);
  // A factor so small that its inverse is infinite is as good as 0.
  const float inverse = std::abs(rounded) >= 0x1p-126f ? 1 / rounded : 0;
  double error = 0;
  block.q.fill(0);
  for (Index i = 0; i < count; ++i) {
    const float nearest = std::nearbyint(
        std::clamp(x[i] * inverse, static_cast<float>(least), static_cast<float>(most)));
    block.q[static_cast<std::size_t>(i)] = static_cast<int>(nearest);
    const double miss = static_cast<double>(x[i]) - static_cast<double>(rounded * nearest);
    error += miss * miss;
  }
  return error;
}

/// 8 bits: the largest number is 127 factors, or a little less.
inline QuantizedBlock quantize_8(const float* x, Index count) noexcept {
  float largest = 0;
  for (Index i = 0; i < count; ++i) largest = (std::max)(largest, std::abs(x[i]));
  QuantizedBlock block;
  // Rounding the factor takes up to 1 part in 256 from it, which must not clip the largest.
  quantize_with(x, count, largest / 127 * (1 + 0x1p-8f), -127, 127, block);
  return block;
}

/// 4 bits: the factor, of either sign as −8 has no counterpart, with the least squared error among
/// some around that of the largest number, each moved to the best for its whole numbers.
inline QuantizedBlock quantize_4(const float* x, Index count) noexcept {
  float largest = 0;
  for (Index i = 0; i < count; ++i)
    if (std::abs(x[i]) > std::abs(largest)) largest = x[i];
  QuantizedBlock best;
  double least_error = quantize_with(x, count, largest / -8, -8, 7, best);
  if (largest == 0) return best;
  const auto attempt = [&](float scale) {
    QuantizedBlock block;
    if (const double error = quantize_with(x, count, scale, -8, 7, block); error < least_error) {
      least_error = error;
      best = block;
    }
    return block;
  };
  for (int i = 0; i <= 12; ++i) {
    const QuantizedBlock block = attempt(largest / (-9.5f + 0.3f * static_cast<float>(i)));
    double xq = 0, qq = 0;
    for (Index j = 0; j < count; ++j) {
      const int q = block.q[static_cast<std::size_t>(j)];
      xq += static_cast<double>(x[j]) * q;
      qq += q * q;
    }
    if (qq > 0) attempt(static_cast<float>(xq / qq));
  }
  return best;
}

/// Throws DomainError for a number that is not finite, or would not be in the format.
inline void check_row(const float* x, Index in, MatrixFormat format) {
  for (Index i = 0; i < in; ++i) {
    const bool finite =
        std::isfinite(x[i]) &&
        (format != MatrixFormat::f16 || std::isfinite(half_to_float(float_to_half(x[i])))) &&
        (format != MatrixFormat::bf16 || std::isfinite(bfloat16_to_float(float_to_bfloat16(x[i]))));
    if (!finite)
      throw_domain("store_matrix", "matrix", std::to_string(x[i]),
                   "finite numbers that " + std::string(name_of(format)) + " can hold");
  }
}

/// One row in its format.
inline void store_row(const float* x, Index in, MatrixFormat format, std::byte* numbers,
                      std::byte* scales) noexcept {
  const auto put = [](std::byte* to, auto value) { std::memcpy(to, &value, sizeof value); };
  if (format == MatrixFormat::f32 && in > 0)
    std::memcpy(numbers, x, static_cast<std::size_t>(in) * sizeof(float));
  if (format == MatrixFormat::f16)
    for (Index i = 0; i < in; ++i) put(numbers + 2 * i, float_to_half(x[i]));
  if (format == MatrixFormat::bf16)
    for (Index i = 0; i < in; ++i) put(numbers + 2 * i, float_to_bfloat16(x[i]));
  if (format != MatrixFormat::q8 && format != MatrixFormat::q4) return;
  const Index blocks = row_elements(format, in) / 32;
  for (Index b = 0; b < blocks; ++b) {
    const Index begin = (std::min)(32 * b, in), count = (std::min)(Index{32}, in - begin);
    const QuantizedBlock block =
        format == MatrixFormat::q8 ? quantize_8(x + begin, count) : quantize_4(x + begin, count);
    put(scales + 2 * b, block.scale.bits);
    for (Index i = 0; i < 32; ++i) {
      const int q = block.q[static_cast<std::size_t>(i)];
      if (format == MatrixFormat::q8) {
        put(numbers + 32 * b + i, static_cast<std::int8_t>(q));
        continue;
      }
      const Index group = (32 * b + i) / 128, sixteen = (32 * b + i) % 128 / 16, lane = i % 16;
      std::byte& both = numbers[64 * group + 4 * lane + sixteen / 2];
      const auto bits = static_cast<std::byte>(q + 8);
      both = sixteen % 2 == 0 ? (both & std::byte{0xf0}) | bits
                              : (both & std::byte{0x0f}) | (bits << 4);
    }
  }
}

inline namespace SSM_DETAIL_ISA {

/// store_matrix in `memory`, of stored_bytes.
[[nodiscard]] inline StoredMatrix store_in(const std::shared_ptr<std::byte>& memory,
                                           const Cpu& backend, const View<const float, 2>& matrix,
                                           MatrixFormat format) {
  check_given("store_matrix", "matrix", matrix, "(out, in)");
  check_adjacent("store_matrix", "matrix", matrix);
  const Index out = matrix.extent(0), in = matrix.extent(1);
  const Index row = row_bytes(format, in), factors = scale_bytes(format, in);
  const StoredMatrixView view{format, {out, in}, memory.get(), memory.get() + out * row};
  const double ns_per_element = format == MatrixFormat::q4 ? 100 : 2;
  parallel_for(for_elements(backend, matrix.size(), ns_per_element), out, [&](Index r) {
    check_row(matrix.data() + r * matrix.stride(0), in, format);
    store_row(matrix.data() + r * matrix.stride(0), in, format, memory.get() + r * row,
              memory.get() + out * row + r * factors);
  });
  return StoredMatrix(view, memory);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail

inline namespace SSM_DETAIL_ISA {

/// A stored matrix of the numbers of `matrix`, rounded to what `format` can hold: f16 and bf16 to
/// the nearest; q8 and q4 in blocks of 32 of a row, each a whole number of 8 bits (from −127) or 4
/// bits (from −8 to 7) times a bfloat16 factor of the block, for 4 bits the factor of the least
/// squared error.
/// @param matrix (out, in), rows contiguous
/// @throws ShapeError for rows that are not contiguous; DomainError for a number that is not
/// finite,
///   or too large for f16 or bf16
[[nodiscard]] inline StoredMatrix store_matrix(const Cpu& backend,
                                               const View<const float, 2>& matrix,
                                               MatrixFormat format) {
  const auto memory = detail::allocate_large(detail::stored_bytes(format, matrix.extents()));
  return detail::store_in(memory, backend, matrix, format);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
