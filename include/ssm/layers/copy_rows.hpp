#pragma once

#include <algorithm>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/pieces.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/copy_rows_types.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// y = x, row by row.
/// @throws ShapeError for extents that do not fit, elements of a row that are not adjacent, and a y
///   that overlaps a part of x
template <class T>
void copy_rows(const Cpu& backend, const CopyRowsInputs<T>& inputs, const CopyRowsOptions&,
               const CopyRowsOutputs<T>& outputs, CopyRowsScratch<T>&) {
  const View<const T, 2>& x = inputs.x;
  const View<T, 2>& y = outputs.y;
  detail::check_copy_rows("copy_rows", inputs, y);
  if (detail::same_elements(x, y)) return;
  const detail::Pieces rows(x.extent(0), 64);
  parallel_for(for_elements(backend, y.size()), rows.pieces, [&](Index piece) {
    for (Index i = rows.begin(piece); i < rows.end(piece); ++i)
      std::copy_n(x.data() + i * x.stride(0), x.extent(1), y.data() + i * y.stride(0));
  });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_FORWARD(copy_rows, CopyRows, float)
SSM_INSTANCE_FORWARD(copy_rows, CopyRows, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
