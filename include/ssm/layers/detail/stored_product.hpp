#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/write.hpp"
#include "ssm/layers/detail/byte_product.hpp"
#include "ssm/layers/detail/matrix_product.hpp"
#include "ssm/layers/detail/matrix_rows.hpp"
#include "ssm/layers/detail/rows_product.hpp"
#include "ssm/layers/stored_matrix.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Calls work(rows) with the rows of a stored matrix, of the type that its format asks for.
template <class Work>
void with_rows(const StoredMatrixView& m, const Work& work) noexcept {
  const Index stride = row_bytes(m.format, m.extents[1]);
  const Index scales = scale_bytes(m.format, m.extents[1]);
  switch (m.format) {
    case MatrixFormat::f32:
      return work(PlainRows<float>{m.numbers, stride});
    case MatrixFormat::f16:
      return work(HalfRows<from_half>{m.numbers, stride});
    case MatrixFormat::bf16:
      return work(HalfRows<from_bfloat16>{m.numbers, stride});
    case MatrixFormat::q8:
      return work(ByteRows{m.numbers, stride, m.scales, scales});
    case MatrixFormat::q4:
      return work(NibbleRows{m.numbers, stride, m.scales, scales});
  }
}

/// The product of rows of a stored matrix and a few vectors, as multiply_rows has it.
template <class Rows>
void multiply_stored(const Rows& matrix, Index in, Index first, Index last, const float* x,
                     Index x_stride, Index count, float* y, Index y_stride, Write write) noexcept {
#if SSM_DETAIL_BYTE_PRODUCTS
  if constexpr (std::is_same_v<Rows, ByteRows>)
    return multiply_blocks<ByteBlocks>(matrix, in, first, last, x, x_stride, count, y, y_stride,
                                       write);
  if constexpr (std::is_same_v<Rows, NibbleRows>)
    return multiply_blocks<NibbleBlocks>(matrix, in, first, last, x, x_stride, count, y, y_stride,
                                         write);
#endif
  multiply_rows(matrix, in, first, last, x, x_stride, count, y, y_stride, write);
}

/// A stored matrix, transposed, as the right factor of a product.
struct StoredFactor {
  StoredMatrixView matrix;

  /// Packs a block of it, of some rows of the matrix at a time, which are in the cache between
  /// being unpacked and being transposed.
  /// @param first a multiple of panel_depth
  template <std::same_as<float> T>
  void pack(Index first, Index depth, Index column, Index columns, T* panels) const noexcept {
    constexpr Index some = lanes<T>, stride = panel_depth<T> + lanes<T>;
    alignas(64) T unpacked[some * stride];
    with_rows(matrix, [&]<class Rows>(const Rows& rows) noexcept {
      for (Index c = 0; c < columns; c += some) {
        const Index count = (std::min)(columns - c, some);
        for (Index i = 0; i < count; ++i)
          unpack<Rows, true>(rows.row(column + c + i), first, first + depth, unpacked + i * stride);
        transpose_rows(unpacked, stride, count, depth,
                       panels + c / panel_width<T> * panel_width<T> * depth + c % panel_width<T>,
                       panel_width<T>);
      }
    });
  }
};

/// Row `row` as floats.
template <std::same_as<float> T>
void read_row(const StoredMatrixView& matrix, Index row, T* to) noexcept {
  with_rows(matrix, [&]<class Rows>(const Rows& rows) noexcept {
    unpack<Rows, false>(rows.row(row), 0, matrix.extents[1], to);
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
