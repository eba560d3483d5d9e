#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/detail/large_memory.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/io/safetensors_folder.hpp"
#include "ssm/layers/detail/stored_product.hpp"
#include "ssm/layers/stored_matrix.hpp"

/// @file
/// Matrices in blocks of few bits in safetensors files: the whole numbers are a tensor of I8, or of
/// U8 with two of them a byte, and their factors a tensor of BF16 whose name has ".scales" behind
/// that of the matrix.

namespace ssm::detail {

/// The name of the factors of a matrix.
[[nodiscard]] inline std::string scales_of(const std::string& matrix) { return matrix + ".scales"; }

/// The format of a matrix in blocks of few bits, if it is one. A and the taps of convolutions never
/// are. Throws FileError where there are factors beside something else.
[[nodiscard]] inline std::optional<MatrixFormat> blocks_of(const SafetensorsFolder& file,
                                                           const std::string& name) {
  if (name.ends_with("A_log") || name.ends_with("conv1d.weight")) return std::nullopt;
  if (!file.contains(scales_of(name)) || !file.contains(name)) return std::nullopt;
  const SafetensorsEntry& entry = file.entry(name);
  if (entry.dtype == DType::I8) return MatrixFormat::q8;
  if (entry.dtype == DType::U8) return MatrixFormat::q4;
  throw_file(file.path(), "tensor " + in_quotes(name) + " is of dtype " +
                              in_quotes(entry.dtype_name) + ", expected I8 or U8 as " +
                              in_quotes(scales_of(name)) + " is there");
}

/// Throws FileError unless a matrix in blocks and its factors are of the right shapes and types.
inline void check_blocks(const SafetensorsFolder& file, const std::string& name,
                         MatrixFormat format, const std::array<Index, 2>& extents) {
  file.file_of(name).check(name, {extents[0], row_bytes(format, extents[1])});
  const SafetensorsReader& beside = file.file_of(scales_of(name));
  beside.check(scales_of(name), {extents[0], scale_bytes(format, extents[1]) / 2});
  if (const SafetensorsEntry& entry = beside.entry(scales_of(name)); entry.dtype != DType::BF16)
    throw_file(beside.path(), "tensor " + in_quotes(scales_of(name)) + " is of dtype " +
                                  in_quotes(entry.dtype_name) + ", expected BF16");
}

/// Reads a matrix in blocks, of which check_blocks has nothing to say. Throws FileError for factors
/// that are not finite.
[[nodiscard]] inline StoredMatrix read_blocks(const SafetensorsFolder& file,
                                              const std::string& name, MatrixFormat format,
                                              const std::array<Index, 2>& extents) {
  const Index row = row_bytes(format, extents[1]), scales = scale_bytes(format, extents[1]);
  const auto factors = file.read<Bfloat16, 2>(scales_of(name), {extents[0], scales / 2});
  const auto memory = allocate_large(stored_bytes(format, extents));
  std::byte* const numbers = memory.get();
  const std::vector<Index> shape{extents[0], row};
  if (format == MatrixFormat::q8)
    file.read_into(name, shape, reinterpret_cast<std::int8_t*>(numbers));
  else
    file.read_into(name, shape, reinterpret_cast<std::uint8_t*>(numbers));
  std::byte* const behind = numbers + extents[0] * row;
  if (factors.size() > 0)
    std::memcpy(behind, factors.data(), static_cast<std::size_t>(2 * factors.size()));
  return StoredMatrix({format, extents, numbers, behind}, memory);
}

/// The numbers of a stored matrix.
template <class T>
void unpack_into(const StoredMatrix& matrix, Tensor<T, 2>& to) {
  const Index in = matrix.extent(1);
  std::vector<float> row(static_cast<std::size_t>(in));
  for (Index r = 0; r < matrix.extent(0); ++r) {
    read_row(matrix.view(), r, row.data());
    std::transform(row.begin(), row.end(), to.data() + r * in,
                   [](float x) { return static_cast<T>(x); });
  }
}

/// Adds a stored matrix to a file, as it is stored.
inline void add_matrix(SafetensorsWriter& file, const std::string& name,
                       const StoredMatrix& matrix) {
  const StoredMatrixView m = matrix.view();
  const Index out = m.extents[0], row = row_bytes(m.format, m.extents[1]);
  const auto as = [&]<class T>(const T*) {
    file.add(name, {out, row / static_cast<Index>(sizeof(T))},
             reinterpret_cast<const T*>(m.numbers));
  };
  switch (m.format) {
    case MatrixFormat::f32:
      return as(static_cast<const float*>(nullptr));
    case MatrixFormat::f16:
      return as(static_cast<const Half*>(nullptr));
    case MatrixFormat::bf16:
      return as(static_cast<const Bfloat16*>(nullptr));
    case MatrixFormat::q8:
      as(static_cast<const std::int8_t*>(nullptr));
      break;
    case MatrixFormat::q4:
      as(static_cast<const std::uint8_t*>(nullptr));
      break;
  }
  file.add(scales_of(name), {out, scale_bytes(m.format, m.extents[1]) / 2},
           reinterpret_cast<const Bfloat16*>(m.scales));
}

}  // namespace ssm::detail
