#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/maybe.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/dropout.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How a sequence layer is to run; the options are the same for every layer. A layer that does not
/// support an option throws a DomainError that says so.
template <class Space = Host>
struct LayerOptions {
  Sequences<Space> sequences = {};  ///< packed sequences, and the direction of time
  double rate = 1;  ///< Δ is multiplied by it: 2 for sequences sampled half as often as in training
  bool keep = true;      ///< whether backward will follow and the scratch keeps what it needs
  Dropout dropout = {};  ///< applied in training, where the layer has dropout
};

/// The view of the input of a layer L: (batch, length, width).
template <class L>
using InputOf = View<const typename L::value_type, 3, typename L::space>;
/// The view of the output of a layer L: (batch, length, width).
template <class L>
using OutputOf = View<typename L::value_type, 3, typename L::space>;
/// What a layer L carries from step to step.
template <class L>
using StateOf = typename L::State;
/// The scratch memory of a layer L.
template <class L>
using ScratchOf = typename L::Scratch;
/// The object that runs a layer L step by step.
template <class L>
using StepperOf = typename L::Stepper;
/// The options of a layer L.
template <class L>
using OptionsOf = LayerOptions<typename L::space>;

/// The number of channels that a layer of this configuration reads and writes.
template <class Config>
[[nodiscard]] constexpr Index width_of(const Config& config) noexcept {
  if constexpr (requires { config.width(); })
    return config.width();
  else
    return config.width;
}

/// A layer that maps sequences (batch, length, width) to sequences of the same shape through a
/// state, and can be trained, saved, stacked and streamed like any other.
///
/// It is a value with public tensors, and has
///  - L::value_type, and L::space, where its memory is;
///  - L::Config, comparable, with a `width`, a number or a function without arguments; the member
///    `config`; a constructor from it;
///  - L::State, what it carries from step to step: a plain value whose tensors have one row a
///    sequence, made by make_state(layer, sequences) and listed by
///    tensors(state, visit) with visit(name, tensor);
///  - L::Scratch, default-constructible: what forward leaves for backward, and the working memory
///  of
///    both. An optional function hand_over_room(from, to) lets the layers of a stack share the
///    latter;
///  - L::Stepper, constructible from (const L&, Index batch, const LayerOptions&), with
///    `update(layer)` for when the weights have changed;
///  - parameters(layer, visit), as ssm/core/parameters.hpp describes;
///  - forward (backend, layer, input, state, output, options, scratch);
///  - backward(backend, layer, input, dstate, doutput, dinput, gradients, options, scratch);
///  - step(stepper, input, state, output) noexcept, with input and output (batch, width). One whose
///    step is large may have step(backend, stepper, input, state, output) too, which stacks and
///    models call.
///
/// forward reads `state` as the state before the first step and overwrites it with the state after
/// the last. When it is absent, sequences start from zero. The state of a layer that also runs from
/// the end has a part for that pass, which is read as the state beyond the last step and
/// overwritten with that after the first. backward reads `dstate` as the gradient with respect to
/// the state that forward left, and overwrites it with that of the state that forward read. When it
/// is absent, the former is zero and the latter is not computed. backward overwrites dinput and
/// gradients. It must follow a forward pass with the same layer, input, options and scratch, and
/// with options.keep.
template <class L>
concept SequenceLayer =
    std::copyable<L> && std::default_initializable<typename L::Scratch> &&
    std::copyable<typename L::State> && std::equality_comparable<typename L::Config> &&
    std::constructible_from<L, const typename L::Config&> &&
    std::constructible_from < typename L::Stepper,
        const L&, Index, const OptionsOf<L>
& > &&requires(const L& layer, L& gradients, InputOf<L> input, Maybe<StateOf<L>> state,
               StateOf<L>& running, OutputOf<L> output, OptionsOf<L> options, ScratchOf<L>& scratch,
               StepperOf<L>& stepper, View<const typename L::value_type, 2, typename L::space> now,
               View<typename L::value_type, 2, typename L::space> out) {
  { width_of(layer.config) } -> std::convertible_to<Index>;
  { make_state(layer, Index{1}) } -> std::same_as<typename L::State>;
  forward(cpu, layer, input, state, output, options, scratch);
  backward(cpu, layer, input, state, input, output, gradients, options, scratch);
  { step(stepper, now, running, out) }
  noexcept;
  stepper.update(layer);
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Hands on the room of a scratch that holds nothing of a call, so that layers which run one after
/// the other need it once: by hand_over_room(from, to), where a layer's scratch has that.
template <class Scratch>
void hand_over(Scratch& from, Scratch& to) {
  if constexpr (requires { hand_over_room(from, to); }) hand_over_room(from, to);
}

/// A step on the threads of a backend, where the stepper has that; else on the calling thread.
template <class Stepper, class Input, class State, class Output>
void step_on(const Cpu& backend, Stepper& stepper, const Input& input, State& state,
             Output&& output) noexcept {
  if constexpr (requires { step(backend, stepper, input, state, output); })
    step(backend, stepper, input, state, output);
  else
    step(stepper, input, state, output);
}

/// Throws DomainError for a rate that is no rate.
inline void check_rate(std::string_view function, double rate) {
  if (!(rate > 0 && rate <= 1.7976931348623157e308))
    throw_domain(function, "rate", std::to_string(rate), "above 0 and finite");
}

/// Of layers that know no Δ.
template <class Space>
void check_no_rate(std::string_view function, const LayerOptions<Space>& options) {
  if (options.rate != 1)
    throw_domain(function, "rate", std::to_string(options.rate),
                 "1, as this layer has no sample rate");
}

/// Of layers that read every row of the batch as one sequence, from its first step to its last.
template <class Space>
void check_plain_sequences(std::string_view function, const LayerOptions<Space>& options) {
  if (options.sequences.offsets)
    throw_domain(function, "offsets", "given", "none, as this layer takes no packed sequences");
  if (options.sequences.reversed)
    throw_domain(function, "reversed", "true", "false, as this layer runs forward in time");
}

/// Of what a stepper is made for: one step of one sequence a row, forward in time.
template <class Space>
void check_step_options(std::string_view function, const LayerOptions<Space>& options) {
  if (options.sequences.offsets)
    throw_domain(function, "offsets", "given", "none, as a step is of one sequence a row");
  if (options.sequences.reversed)
    throw_domain(function, "reversed", "true", "false, as a pass from the end has no step");
}

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_blank(std::string_view function,
                                                               Index width) {
  throw_shape(function, "layer", "made without a configuration, 0 wide",
              "one as wide as the input, " + std::to_string(width));
}

/// What a step is given: input and output (batch, width), of a batch that the stepper is made for.
template <class L>
void check_step_call(std::string_view function, const L& layer, Index batch,
                     const View<const typename L::value_type, 2, typename L::space>& input,
                     const View<typename L::value_type, 2, typename L::space>& output) {
  const std::array<Index, 2> extents{batch, width_of(layer.config)};
  check_shape(function, "input", input, extents);
  check_shape(function, "output", output, extents);
}

/// input and output (batch, length, width), and offsets that fit them.
template <class L>
void check_layer_call(std::string_view function, const L& layer, const InputOf<L>& input,
                      const std::type_identity_t<OutputOf<L>>& output,
                      const OptionsOf<L>& options) {
  check_given(function, "input", input, "(batch, length, width)");
  const std::array<Index, 3> extents{input.extent(0), input.extent(1), width_of(layer.config)};
  if (extents[2] == 0 && input.extent(2) != 0) throw_blank(function, input.extent(2));
  check_shape(function, "input", input, extents);
  check_shape(function, "output", output, extents);
  check_sequences(function, options.sequences, extents[0], extents[1]);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// What a layer supports besides unpacked sequences that run forward in time.
struct LayerSupports {
  bool packed = false;    ///< packed sequences
  bool reversed = false;  ///< time that runs backward
  bool rate = false;      ///< sample rates other than that of training
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class Space>
void check_supports(std::string_view function, const LayerOptions<Space>& options,
                    const LayerSupports& supports) {
  if (!supports.packed && options.sequences.offsets)
    throw_domain(function, "offsets", "given", "none, as this layer takes no packed sequences");
  if (!supports.reversed && options.sequences.reversed)
    throw_domain(function, "reversed", "true", "false, as this layer runs forward in time");
  if (supports.rate)
    check_rate(function, options.rate);
  else
    check_no_rate(function, options);
}

/// A state of the kind that make_state makes, of so many sequences.
template <class L>
void check_state(std::string_view function, std::string_view argument, const L& layer,
                 Maybe<StateOf<L>> state, Index sequences) {
  if (!state) return;
  StateOf<L> none = make_state(layer, 0);
  tensors(*state, [&](std::string_view name, const auto& tensor) {
    tensors(none, [&](std::string_view its, const auto& empty) {
      if constexpr (std::is_same_v<decltype(tensor), decltype(empty)>)
        if (name == its) {
          auto extents = empty.extents();
          extents[0] = sequences;
          check_shape(function, argument, tensor, extents);
        }
    });
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// A note in the scratch of a layer of the forward pass that filled it: batch, length and
/// sequences.
using LayerCall = detail::KeptCall<3>;

/// Checks the arguments of the forward pass of a layer, and notes them in `call`, a member of the
/// layer's scratch, for check_backward. A layer calls it first in its forward pass.
/// @param function the name of the function in error messages
/// @throws ShapeError, DomainError
template <class L>
void check_forward(std::string_view function, const L& layer, const InputOf<L>& input,
                   const Maybe<StateOf<L>>& state, const OutputOf<L>& output,
                   const OptionsOf<L>& options, const LayerSupports& supports, LayerCall& call) {
  call.drop();
  detail::check_layer_call(function, layer, input, output, options);
  detail::check_parameters(function, layer);
  detail::check_supports(function, options, supports);
  const Index batch = input.extent(0), sequences = options.sequences.count(batch);
  detail::check_state(function, "state", layer, state, sequences);
  if (options.keep) call.keep({batch, input.extent(1), sequences});
}

/// Checks the arguments of the backward pass of a layer. A layer calls it first in its backward
/// pass.
/// @param function the name of the function in error messages
/// @param call what check_forward noted
/// @throws ShapeError, also for the scratch of another call, and DomainError
template <class L>
void check_backward(std::string_view function, const L& layer, const InputOf<L>& input,
                    const Maybe<StateOf<L>>& dstate, const InputOf<L>& doutput,
                    const OutputOf<L>& dinput, const OptionsOf<L>& options,
                    const LayerSupports& supports, const LayerCall& call) {
  detail::check_layer_call(function, layer, input, dinput, options);
  detail::check_shape(function, "doutput", doutput, input.extents());
  detail::check_supports(function, options, supports);
  const Index batch = input.extent(0), sequences = options.sequences.count(batch);
  detail::check_state(function, "dstate", layer, dstate, sequences);
  call.check(function, "forward with options.keep", {batch, input.extent(1), sequences});
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
