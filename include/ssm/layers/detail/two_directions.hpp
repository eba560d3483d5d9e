#pragma once

#include <string_view>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/add.hpp"

/// What layers of one direction or two, S4D, S4 and S5, ask: a pass from the end has no state.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

template <class Config>
void check_one_direction(std::string_view function, const Config& config) {
  if (config.bidirectional)
    throw_domain(function, "layer", "bidirectional",
                 "one direction, as a pass from the end has no step");
}

/// @param state as in `Maybe<State>`, with the tensor x
template <class Config, class MaybeState, class Extents>
void check_direction_state(std::string_view function, std::string_view argument,
                           const Config& config, const MaybeState& state, const Extents& extents) {
  if (!state) return;
  if (config.bidirectional)
    throw_domain(function, argument, "given", "no state, as a pass from the end has none");
  check_shape(function, argument, state->x, extents);
}

/// to += from: what the second direction adds to the first.
template <class Backend, class T>
void accumulate(const Backend& backend, const View<T, 2>& from, const View<T, 2>& to,
                AddScratch<T>& scratch) {
  add(backend, {to, from}, {}, {to}, scratch);
}

template <class T, class Space>
[[nodiscard]] View<T, 2, Space> as_row(const View<T, 1, Space>& x) noexcept {
  return {x.data(), {1, x.extent(0)}};
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
