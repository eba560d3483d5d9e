#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

/// What the steps of S4D, S4 and S5 ask of their arguments: a few integers, which cost nothing
/// beside a step, so that a wrong call never writes out of bounds.
namespace ssm::detail {

template <class Shape>
void check_one_direction(std::string_view function, const Shape& s) {
  if (s.bidirectional)
    throw_domain(function, "weights", "bidirectional",
                 "one direction, as a pass from the end has no step");
}

template <class Shape, class T, class State, std::size_t Rank>
void check_step(std::string_view function, const Shape& weights, const Shape& scratch,
                const View<const T, 2>& input, const State& state, const View<T, 2>& output,
                const std::array<Index, Rank>& state_extents) {
  if (weights != scratch)
    throw_shape(function, "scratch", "made for weights of another shape", "one made for these");
  const std::array<Index, 2> extents{input.extent(0), weights.width};
  check_shape(function, "input", input, extents);
  check_shape(function, "output", output, extents);
  check_shape(function, "state", state, state_extents);
}

}  // namespace ssm::detail
