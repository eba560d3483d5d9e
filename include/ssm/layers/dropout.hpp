#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/hash.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/dropout_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// y ← x m/(1 − p)
template <class T>
void apply_dropout(std::string_view function, const Cpu& backend, std::string_view from,
                   const View<const T, 2>& x, const Dropout& options, std::string_view to,
                   const View<T, 2>& y) {
  check_dropout(function, options);
  check_rows(function, from, x, x.extents());
  check_rows(function, to, y, x.extents());
  if (!x.contiguous()) throw_shape(function, from, "strided", "contiguous rows");
  if (!y.contiguous()) throw_shape(function, to, "strided", "contiguous rows");
  check_same_or_apart(function, to, y, from, x);
  const bool in_place = y.data() == x.data();
  if (in_place && options.probability == 0) return;
  const std::uint64_t key = mix(options.seed);
  const auto threshold = static_cast<std::int64_t>(std::ldexp(options.probability, 53));
  const T scale = static_cast<T>(1 / (1 - options.probability));
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  parallel_for(for_elements(backend, x.size()), x.extent(0), [&](Index row) {
    T* values = y.data() + row * y.extent(1);
    if (!in_place) std::copy_n(x.data() + row * x.extent(1), x.extent(1), values);
    if (options.probability == 0) return;
    const std::uint64_t first = key + static_cast<std::uint64_t>(row * y.extent(1));
    // Without a branch and in bits alone, which compilers turn into vector code.
    for (Index i = 0; i < y.extent(1); ++i) {
      const std::uint64_t draw = mix(first + static_cast<std::uint64_t>(i)) >> 11;
      const std::int64_t beyond = static_cast<std::int64_t>(draw) - threshold;
      const auto kept = static_cast<Bits>(~(beyond >> 63));  // all bits, or none
      values[i] = std::bit_cast<T>(std::bit_cast<Bits>(values[i] * scale) & kept);
    }
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// y = x m/(1 − p), where m is 0 for the elements that are dropped and 1 for the others. Calls with
/// the same options and extents drop the same elements. With p = 0 it copies x, or does nothing
/// where y is x.
/// @throws ShapeError for extents that do not fit, rows that are not contiguous, and a y that
///   overlaps a part of x; DomainError unless 0 ≤ p < 1
template <class T>
void dropout(const Cpu& backend, const DropoutInputs<T>& inputs, const DropoutOptions& options,
             const DropoutOutputs<T>& outputs, DropoutScratch<T>&) {
  detail::apply_dropout<T>("dropout", backend, "x", inputs.x, options, "y", outputs.y);
}

/// The gradient of dropout: dx = dy m/(1 − p), with the m of the forward pass.
/// @throws ShapeError, DomainError as dropout
template <class T>
void dropout_backward(const Cpu& backend, const DropoutInputs<T>& inputs,
                      const DropoutOptions& options,
                      const DropoutOutputGradients<T>& output_gradients,
                      const DropoutInputGradients<T>& input_gradients, DropoutScratch<T>&) {
  detail::check_shape("dropout_backward", "the gradient of y", output_gradients.y,
                      inputs.x.extents());
  detail::apply_dropout<T>("dropout_backward", backend, "the gradient of y", output_gradients.y,
                           options, "the gradient of x", input_gradients.x);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(dropout, Dropout, float)
SSM_INSTANCE_OPERATION(dropout, Dropout, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
