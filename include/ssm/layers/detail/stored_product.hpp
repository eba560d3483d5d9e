#pragma once

#include <cstddef>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
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

/// `count` rows from `first` on as floats, the next row `stride` further on.
/// @param stride a multiple of 128, at least the length of a row
inline void unpack_rows(const StoredMatrixView& matrix, Index first, Index count, float* to,
                        Index stride) noexcept {
  with_rows(matrix, [&]<class Rows>(const Rows& rows) noexcept {
    for (Index i = 0; i < count; ++i)
      unpack<Rows, true>(rows.row(first + i), 0, matrix.extents[1], to + i * stride);
  });
}

/// Row `row` as floats.
inline void read_row(const StoredMatrixView& matrix, Index row, float* to) noexcept {
  with_rows(matrix, [&]<class Rows>(const Rows& rows) noexcept {
    unpack<Rows, false>(rows.row(row), 0, matrix.extents[1], to);
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
