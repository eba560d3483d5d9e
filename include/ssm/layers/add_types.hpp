#pragma once

#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What add reads.
template <class T, class Space = Host>
struct AddInputs {
  View<const T, 2, Space> a;       ///< (rows, width), elements of a row adjacent
  View<const T, 2, Space> b = {};  ///< (rows, width), elements of a row adjacent
};

/// There is nothing to choose.
struct AddOptions {};

/// What add writes.
template <class T, class Space = Host>
struct AddOutputs {
  View<T, 2, Space> y;  ///< (rows, width); may be the memory of a or of b
};

/// Empty: a sum needs no scratch memory.
template <class T, class Space = Host>
struct AddScratch {};

namespace detail {

template <class T, class Space>
void check_add(std::string_view function, const AddInputs<T, Space>& in,
               const View<T, 2, Space>& y) {
  check_rows(function, "a", in.a, in.a.extents());
  check_rows(function, "b", in.b, in.a.extents());
  check_output_rows(function, "y", y, in.a.extents());
  check_same_or_apart(function, "y", y, "a", in.a);
  check_same_or_apart(function, "y", y, "b", in.b);
}

}  // namespace detail
}  // namespace ssm
