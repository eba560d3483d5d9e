#pragma once

#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What copy_rows reads.
template <class T, class Space = Host>
struct CopyRowsInputs {
  View<const T, 2, Space> x;  ///< (rows, width), elements of a row adjacent
};

/// There is nothing to choose.
struct CopyRowsOptions {};

/// What copy_rows writes.
template <class T, class Space = Host>
struct CopyRowsOutputs {
  View<T, 2, Space> y;  ///< (rows, width), elements of a row adjacent; may be the memory of x,
                        ///< which costs nothing
};

/// Empty: a copy needs no scratch memory.
template <class T, class Space = Host>
struct CopyRowsScratch {};

namespace detail {

template <class T, class Space>
void check_copy_rows(std::string_view function, const CopyRowsInputs<T, Space>& in,
                     const View<T, 2, Space>& y) {
  check_rows(function, "x", in.x, in.x.extents());
  check_output_rows(function, "y", y, in.x.extents());
  check_same_or_apart(function, "y", y, "x", in.x);
}

}  // namespace detail
}  // namespace ssm
