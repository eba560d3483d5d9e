#pragma once

#include <string_view>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/causal_conv.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/ranks.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// The final state of a causal convolution: its last inputs, those before the first step from the
/// initial state.
template <class T>
void last_inputs(const CausalConvInputs<T>& in, const View<T, 3>& to) noexcept {
  const Index past = to.extent(1);
  for (Index s = 0; s < to.extent(0); ++s) {
    const SequenceSpan at = span_of(in.sequences, s, in.x.extent(1));
    for (Index i = 0; i < past; ++i)
      for (Index c = 0; c < to.extent(2); ++c) {
        const Index t = at.length() - past + i;
        to(s, i, c) = t >= 0             ? in.x(at.row, at.step(t, in.sequences.reversed), c)
                      : in.initial_state ? in.initial_state(s, i + at.length(), c)
                                         : T(0);
      }
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// causal_conv over ranks, each with its own steps. What moves to the next rank is the last
/// width − 1 inputs, (batch · (width − 1) · channels) numbers; a rank with as many steps sends them
/// before it waits for those of its neighbour.
/// @throws ShapeError and DomainError as on the cpu; MpiError
template <class T>
void causal_conv(const Ranks& backend, const CausalConvInputs<T>& inputs,
                 const CausalConvOptions& options, const CausalConvOutputs<T>& outputs,
                 CausalConvScratch<T>& scratch) {
  constexpr std::string_view function = "causal_conv";
  detail::check_causal_conv(function, inputs);
  detail::check_causal_conv_outputs(function, inputs, outputs);
  detail::check_packed(function, inputs.sequences);
  const detail::Chain chain(backend, inputs.sequences);
  const auto states = detail::causal_conv_states(inputs);
  const Index count = detail::size_of(states);
  auto& passed = scratch.passed;
  detail::make_room(chain, inputs.initial_state, outputs.final_state, count, passed);
  const View<T, 3> kept = detail::part_of(passed, 0, states);
  CausalConvInputs<T> in = inputs;
  const auto send = [&] {
    passed.leaving.resize({count});
    const View<T, 3> leaving(passed.leaving.data(), states);
    detail::last_inputs<T>(in, leaving);
    chain.send_to_after(chain.exit(leaving));
  };
  const auto last = detail::span_of(inputs.sequences, chain.exit(), inputs.x.extent(1));
  const bool sends = !chain.is_last(), long_enough = last.length() >= states[1];
  if (sends && long_enough) send();
  detail::receive_states<T, 3>(chain, inputs.initial_state, kept);
  if (kept || !chain.is_first()) in.initial_state = View<const T, 3>(kept.data(), states);
  if (sends && !long_enough) send();
  causal_conv(backend.local, in, options, outputs, scratch);
}

/// The gradients of causal_conv over ranks. What moves to the rank before is the gradient by the
/// last inputs that it sent.
/// @throws as causal_conv, and ShapeError for a scratch of another call
template <class T>
void causal_conv_backward(const Ranks& backend, const CausalConvInputs<T>& inputs,
                          const CausalConvOptions& options,
                          const CausalConvOutputGradients<T>& output_gradients,
                          const CausalConvInputGradients<T>& input_gradients,
                          CausalConvScratch<T>& scratch) {
  constexpr std::string_view function = "causal_conv_backward";
  detail::check_causal_conv(function, inputs);
  detail::check_causal_conv_gradients(function, inputs, output_gradients, input_gradients);
  detail::check_packed(function, inputs.sequences);
  const detail::Chain chain(backend, inputs.sequences);
  const auto states = detail::causal_conv_states(inputs);
  detail::check_room(function, chain, detail::size_of(states), scratch.passed);
  detail::hand_gradients_back<T, 3>(
      chain, inputs.initial_state, output_gradients.final_state, input_gradients.initial_state,
      states, detail::part_of(scratch.passed, 0, states), scratch.passed.leaving,
      [&](const View<const T, 3>& initial, const View<const T, 3>& dfinal,
          const View<T, 3>& dinitial) {
        CausalConvInputs<T> in = inputs;
        CausalConvInputGradients<T> din = input_gradients;
        in.initial_state = initial;
        din.initial_state = dinitial;
        causal_conv_backward(backend.local, in, options, {output_gradients.y, dfinal}, din,
                             scratch);
      });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
