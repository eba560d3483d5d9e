#pragma once

#include <string_view>

#include "ssm/core/error.hpp"

/// What layers of one direction or two, S4D, S4 and S5, ask: a pass from the end has no state.
namespace ssm::detail {

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

}  // namespace ssm::detail
