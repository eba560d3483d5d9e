#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Copies every element of `from` to `to`, converted to the type of `to`. Both views are
/// contiguous.
/// @throws ShapeError where the extents differ or elements are not adjacent
template <class From, class To, std::size_t Rank>
void copy(const Cpu&, const View<From, Rank>& from, const View<To, Rank>& to) {
  static_assert(std::is_same_v<std::remove_const_t<From>, To>, "a copy keeps the type");
  detail::check_shape("copy", "to", to, from.extents());
  if (!from.contiguous() || !to.contiguous())
    detail::throw_shape("copy", from.contiguous() ? "to" : "from", "strided", "adjacent elements");
  if (from.size() > 0 && from.data() != to.data()) std::copy_n(from.data(), from.size(), to.data());
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
