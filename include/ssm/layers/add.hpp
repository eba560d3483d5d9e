#pragma once

#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/layers/add_types.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class T>
[[gnu::always_inline]] inline void add_at(const AddInputs<T>& in, const View<T, 2>& y, Index r,
                                          Index i, Index n) noexcept {
  const auto b = Vec<T>::load(at(in.b, r, i), n);
  (Vec<T>::load(at(in.a, r, i), n) + b).store(at(y, r, i), n);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// y = a + b, a residual connection. It has no backward pass: the gradients of a and of b are that
/// of y.
/// @throws ShapeError for extents that do not fit, elements of a row that are not adjacent, and a y
///   that overlaps a part of a or b
template <class T>
void add(const Cpu& backend, const AddInputs<T>& inputs, const AddOptions&,
         const AddOutputs<T>& outputs, AddScratch<T>&) {
  detail::check_add("add", inputs, outputs.y);
  detail::for_row_vectors<T>(
      backend, inputs.a.extent(0), inputs.a.extent(1),
      [&](Index r, Index i, Index n) noexcept { detail::add_at<T>(inputs, outputs.y, r, i, n); });
}

/// `add` for a few rows on the calling thread, without allocation. Arguments for which `add` would
/// throw end the program with the message of that exception.
template <class T>
void add_step(const AddInputs<T>& inputs, const AddOptions&,
              const std::type_identity_t<View<T, 2>>& y) noexcept {
  detail::check_or_terminate([&] { detail::check_add("add_step", inputs, y); });
  for (Index r = 0; r < y.extent(0); ++r)
    detail::for_each_vector<T>(y.extent(1),
                               [&](Index i, Index n) { detail::add_at<T>(inputs, y, r, i, n); });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_FORWARD(add, Add, float)
SSM_INSTANCE_FORWARD(add, Add, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
