#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "ssm/core/copy.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/add.hpp"

/// What layers of one direction or two, S4D, S4 and S5, ask.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

template <class Config>
void check_one_direction(std::string_view function, const Config& config) {
  if (config.bidirectional)
    throw_domain(function, "layer", "bidirectional",
                 "one direction, as a pass from the end has no step");
}

/// @param state as in `Maybe<State>`, with the tensors x and x_back
template <class Config, class MaybeState, class Extents>
void check_direction_states(std::string_view function, std::string_view argument,
                            const Config& config, const MaybeState& state, const Extents& extents) {
  if (!state) return;
  check_shape(function, argument, state->x, extents);
  const auto& back = state->x_back;
  if (config.bidirectional ? same_extents(back.extents(), extents) : back.size() == 0) return;
  const std::string name = "x_back of " + std::string(argument);
  if (config.bidirectional) throw_extents(function, name, back.extents(), extents);
  throw_shape(function, name, to_string(back.extents()), "none, as the layer has one direction");
}

/// Of what reads a sequence from piece to piece, each with the state that the one before it left.
template <class State>
void check_runs_with_time(std::string_view function, std::string_view argument, State& state) {
  tensors(state, [&](std::string_view name, auto&) {
    if (name.ends_with("_back"))
      throw_domain(function, argument, "bidirectional",
                   "one direction, as what is to come is not known");
  });
}

/// The state of direction 0 or 1, absent where there is none.
template <class MaybeState>
[[nodiscard]] auto state_of(const MaybeState& state, std::size_t direction) noexcept {
  using States = decltype(state->x.view());
  if (!state) return States();
  return direction == 0 ? state->x.view() : state->x_back.view();
}

/// A copy of what forward starts from, for backward.
template <class Backend, class State>
void keep_states(const Backend& backend, const State& from, State& to) {
  resize(backend, to.x, from.x.extents());
  copy(backend, from.x.view(), to.x.view());
  resize(backend, to.x_back, from.x_back.extents());
  copy(backend, from.x_back.view(), to.x_back.view());
}

/// to += from: what the second direction adds to the first.
template <class Backend, class T, class Space>
void accumulate(const Backend& backend, const View<T, 2, Space>& from, const View<T, 2, Space>& to,
                AddScratch<T, Space>& scratch) {
  add(backend, {to, from}, {}, {to}, scratch);
}

template <class T, class Space>
[[nodiscard]] View<T, 2, Space> as_row(const View<T, 1, Space>& x) noexcept {
  return {x.data(), {1, x.extent(0)}};
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
