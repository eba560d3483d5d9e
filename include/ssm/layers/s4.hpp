#pragma once

#include <array>
#include <complex>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/conv/detail/sequence_view.hpp"
#include "ssm/conv/long_conv.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/maybe.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/add.hpp"
#include "ssm/layers/add_next.hpp"
#include "ssm/layers/add_readout.hpp"
#include "ssm/layers/detail/complex_views.hpp"
#include "ssm/layers/detail/s4_forms.hpp"
#include "ssm/layers/detail/two_directions.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/s4_step.hpp"
#include "ssm/layers/s4_weights.hpp"
#include "ssm/layers/sample_modes.hpp"
#include "ssm/scan/dplr_scan.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// What forward of an S4 layer leaves for backward, and scratch memory for both. It grows to the
/// largest call.
template <class T>
struct S4Scratch {
  /// @cond internal
  using Complex = std::complex<T>;
  /// Of a pass in one direction.
  struct Direction {
    S4Form form = S4Form::scan;  ///< in which it ran forward
    DplrScanScratch<T> scan;     ///< of the sequences, or of the impulse
    Tensor<T, 3> kernel;         ///< (1, steps of the longest sequence, width)
    Tensor<Complex, 2> dlambda;  ///< (width, state/2)
    Tensor<Complex, 2> dB;       ///< (width, state/2)
    Tensor<Complex, 3> dP;       ///< (width, state/2, rank)
    Tensor<T, 1> ddelta;         ///< (width)
  };

  detail::KeptCall<4> call;   ///< batch, length, width, sequences
  bool stateful = false;      ///< forward was given a state
  S4State<T> before;          ///< that state
  Tensor<Complex, 2> lambda;  ///< (width, state/2)
  Tensor<T, 1> delta;         ///< (width)
  Tensor<T, 1> impulse;       ///< (steps of the longest sequence): 1, 0, 0, …
  Tensor<T, 3> dkernel;       ///< (1, steps of the longest sequence, width)
  std::array<Direction, 2> directions;
  Tensor<T, 3> back, du;  ///< (batch, length, width): what the second direction gives
  SampleModesScratch<T> modes;
  LongConvScratch<T> conv;
  AddNextScratch<T> next;
  AddReadoutScratch<T> readout;
  AddScratch<T> add;
  /// @endcond
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// One direction of an S4 layer.
template <class Backend, class T>
struct S4Pass {
  using Complex = std::complex<T>;
  const Backend& backend;
  const S4<T>& layer;
  S4Scratch<T>& scratch;
  std::size_t direction;
  Sequences<Host> sequences;
  Index longest;  ///< steps of the longest sequence

  [[nodiscard]] View<const Complex, 2> C() const {
    return as_complex(layer.C.view()[static_cast<Index>(direction)]);
  }
  [[nodiscard]] View<const T, 1> D() const {
    return direction == 0 ? layer.D.view() : View<const T, 1>();
  }
  [[nodiscard]] DplrScanInputs<T> inputs(const View<const T, 3>& u, const View<const T, 1>& feed,
                                         const View<const Complex, 3>& initial,
                                         const Sequences<Host>& over) const {
    return {u,
            scratch.lambda,
            as_complex(layer.P.view()),
            scratch.delta,
            as_complex(layer.B.view()),
            C(),
            feed,
            initial,
            over};
  }
  /// The same impulse for every channel.
  [[nodiscard]] DplrScanInputs<T> impulse() const {
    const View<const T, 3> u(scratch.impulse.data(), {1, longest, layer.config.width},
                             {longest, 1, 0});
    return inputs(u, {}, {}, {});
  }
  /// (1, longest, width) as (width, longest).
  template <class AnyTensor>
  [[nodiscard]] auto as_kernel(AnyTensor& of) const {
    using Element = std::remove_reference_t<decltype(*of.data())>;
    const Index width = layer.config.width;
    return View<Element, 2>(of.data(), {width, longest}, {1, width});
  }
  void make_kernel(bool keep) const {
    auto& own = scratch.directions[direction];
    resize(backend, scratch.impulse, {longest});
    scratch.impulse.fill(T(0));
    scratch.impulse(0) = T(1);
    resize(backend, own.kernel, {1, longest, layer.config.width});
    dplr_scan(backend, impulse(), {keep}, {own.kernel, {}}, own.scan);
  }

  void forward(const View<const T, 3>& u, const View<T, 3>& y, const View<Complex, 3>& state,
               bool keep) const {
    auto& own = scratch.directions[direction];
    const Index sequences_run = longest > 0 ? sequences.count(u.extent(0)) : 0;
    own.form = s4_form(layer.config, sequences_run, bool(state) || !holds_whole_time<Backend>);
    if constexpr (holds_whole_time<Backend>) {
      if (own.form == S4Form::convolution) {
        make_kernel(keep);
        return long_conv(backend, {u, as_kernel(std::as_const(own.kernel)), D(), {}, sequences}, {},
                         {y, {}}, scratch.conv);
      }
    }
    dplr_scan(backend, inputs(u, D(), state, sequences), {keep}, {y, state}, own.scan);
  }

  /// Overwrites din, all of it present but for the gradients of D and the initial state.
  void backward(const View<const T, 3>& u, const View<const Complex, 3>& initial,
                const View<const T, 3>& dy, const View<const Complex, 3>& dfinal,
                const DplrScanInputGradients<T>& din) const {
    auto& own = scratch.directions[direction];
    const DplrScanInputs<T> of_scan = inputs(u, D(), initial, sequences);
    if (own.form == S4Form::convolution && (dfinal || din.initial_state)) {
      // A convolution has left no states of the sequences.
      resize(backend, scratch.du, u.extents());
      dplr_scan(backend, of_scan, {}, {scratch.du, {}}, own.scan);
      own.form = S4Form::scan;
    }
    if constexpr (holds_whole_time<Backend>) {
      if (own.form == S4Form::convolution) return convolve_backward(u, dy, din);
    }
    dplr_scan_backward(backend, of_scan, {}, {dy, dfinal}, din, own.scan);
  }
  void convolve_backward(const View<const T, 3>& u, const View<const T, 3>& dy,
                         const DplrScanInputGradients<T>& din) const {
    auto& own = scratch.directions[direction];
    resize(backend, scratch.dkernel, own.kernel.extents());
    long_conv_backward(backend, {u, as_kernel(std::as_const(own.kernel)), D(), {}, sequences}, {},
                       {dy, {}}, {din.u, as_kernel(scratch.dkernel), din.D, {}}, scratch.conv);
    dplr_scan_backward(
        backend, impulse(), {}, {scratch.dkernel, {}},
        {.lambda = din.lambda, .P = din.P, .delta = din.delta, .B = din.B, .C = din.C}, own.scan);
  }
};

template <class T>
SampleModesInputs<T> s4_modes_of(const S4<T>& layer) {
  return {layer.log_decay, layer.frequency, layer.log_delta};
}

/// @return the steps of the longest sequence
template <class T>
Index check_s4_call(std::string_view function, const S4<T>& layer, const InputOf<S4<T>>& input,
                    const OutputOf<S4<T>>& output, const LayerOptions<>& options,
                    std::string_view argument, const Maybe<S4State<T>>& state) {
  const S4Config& config = layer.config;
  check_s4(function, layer);
  check_layer_call(function, layer, input, output, options);
  check_no_overlap(function, "what is written", output, "input", input);
  check_rate(function, options.rate);
  check_direction_states(
      function, argument, config, state,
      std::array<Index, 3>{options.sequences.count(input.extent(0)), config.width, config.modes()});
  return longest_sequence(options.sequences, input.extent(1));
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs an S4 layer over sequences; see S4 for the equations and S4Form for how it computes.
///
/// An input that is NaN or infinite makes the outputs of its channel NaN or infinite from its step
/// on; with the form `convolution` those of earlier steps too.
///
/// Cost: as dplr_scan; with the form `convolution` as one of a single sequence, and long_conv. The
/// bits are the same for every number of threads. Allocates while the scratch grows.
/// @param input, output (batch, length, width), not the same memory
/// @param state optional: x (sequences, width, state/2) is read as the state before the first step
///   and overwritten with that after the last. Of a bidirectional layer x_back, of the same
///   extents, is read as the state of the pass from the end before it meets the last step, which is
///   what the steps after this piece leave in it, and overwritten with that after the first step.
///   Absent, both passes start from zero
/// @throws ShapeError; DomainError for offsets that run backward or past the end, or a rate that is
///   not above 0 and finite
template <class Backend, class T>
void forward(const Backend& backend, const S4<T>& layer, const InputOf<S4<T>>& input,
             Maybe<StateOf<S4<T>>> state, const OutputOf<S4<T>>& output,
             const OptionsOf<S4<T>>& options, S4Scratch<T>& scratch) {
  const S4Config& config = layer.config;
  const Index longest =
      detail::check_s4_call("S4 forward", layer, input, output, options, "state", state);
  const Index batch = input.extent(0), length = input.extent(1);
  scratch.call.drop();
  scratch.stateful = bool(state);
  if (state && options.keep) scratch.before = *state;
  resize(backend, scratch.lambda, {config.width, config.modes()});
  resize(backend, scratch.delta, {config.width});
  sample_modes(backend, detail::s4_modes_of(layer), {.rate = options.rate},
               {.lambda = scratch.lambda, .delta = scratch.delta}, scratch.modes);
  detail::S4Pass<Backend, T>{backend, layer, scratch, 0, options.sequences, longest}.forward(
      input, output, detail::state_of(state, 0), options.keep);
  if (config.bidirectional) {
    resize(backend, scratch.back, {batch, length, config.width});
    const auto beyond = detail::state_of(state, 1);
    detail::S4Pass<Backend, T> pass{backend, layer, scratch, 1, options.sequences.turned(),
                                    longest};
    add_readout(backend, {pass.C(), beyond, options.sequences}, {}, {output}, scratch.readout);
    pass.forward(input, scratch.back, beyond, options.keep);
    add_next(backend, {scratch.back, options.sequences}, {}, {output}, scratch.next);
  }
  if (options.keep)
    scratch.call.keep({batch, length, config.width, options.sequences.count(batch)},
                      detail::variant_of(options.sequences));
}

/// The gradients of an S4 layer, of every weight and of the input, overwritten.
///
/// Cost: about three times forward.
/// @param dstate optional: read as the gradient with respect to the states that forward left,
///   overwritten with that of the states that it read; absent, the former is zero and the latter is
///   not computed
/// @param options, scratch those of the forward call
/// @throws ShapeError and DomainError as forward; ShapeError for the scratch of another call
template <class Backend, class T>
void backward(const Backend& backend, const S4<T>& layer, const InputOf<S4<T>>& input,
              Maybe<StateOf<S4<T>>> dstate, const InputOf<S4<T>>& doutput,
              const OutputOf<S4<T>>& dinput, S4<T>& gradients, const OptionsOf<S4<T>>& options,
              S4Scratch<T>& scratch) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "S4 backward";
  const S4Config& config = layer.config;
  const Index longest = detail::check_s4_call(function, layer, input, dinput, options,
                                              "the gradient of state", dstate);
  const Index batch = input.extent(0), length = input.extent(1);
  detail::check_shape(function, "the gradient of output", doutput, input.extents());
  detail::check_no_overlap(function, "the gradient of input", dinput, "the gradient of output",
                           doutput);
  scratch.call.check(function, "S4 forward with options.keep",
                     {batch, length, config.width, options.sequences.count(batch)},
                     detail::variant_of(options.sequences));
  resize_gradients(backend, layer, gradients);
  auto& [first, second] = scratch.directions;
  for (auto* own : {&first, &second}) {
    resize(backend, own->dlambda, {config.width, config.modes()});
    resize(backend, own->ddelta, {config.width});
  }
  const View<Complex, 2> dB = detail::as_complex(gradients.B.view());
  const View<Complex, 3> dP = detail::as_complex(gradients.P.view());
  const auto dC = [&](Index d) { return detail::as_complex(gradients.C.view()[d]); };
  const auto before = scratch.stateful ? Maybe<S4State<T>>(scratch.before) : Maybe<S4State<T>>();
  const View<Complex, 3> slope = detail::state_of(dstate, 0);
  detail::S4Pass<Backend, T>{backend, layer, scratch, 0, options.sequences, longest}.backward(
      input, detail::state_of(before, 0), doutput, slope,
      {.u = dinput,
       .lambda = first.dlambda,
       .P = dP,
       .delta = first.ddelta,
       .B = dB,
       .C = dC(0),
       .D = gradients.D,
       .initial_state = slope});
  if (config.bidirectional) {
    const View<Complex, 3> beyond = detail::state_of(before, 1),
                           slope_back = detail::state_of(dstate, 1);
    resize(backend, second.dB, {config.width, config.modes()});
    resize(backend, second.dP, {config.width, config.modes(), config.rank});
    resize(backend, scratch.du, input.extents());
    add_next_backward(backend, {input, options.sequences}, {}, {doutput}, {scratch.back},
                      scratch.next);
    detail::S4Pass<Backend, T> pass{backend, layer, scratch, 1, options.sequences.turned(),
                                    longest};
    pass.backward(input, beyond, scratch.back, slope_back,
                  {.u = scratch.du,
                   .lambda = second.dlambda,
                   .P = second.dP,
                   .delta = second.ddelta,
                   .B = second.dB,
                   .C = dC(1),
                   .initial_state = slope_back});
    add_readout_backward(backend, {pass.C(), beyond, options.sequences}, {}, {doutput},
                         {dC(1), slope_back}, scratch.readout);
    for (Index b = 0; b < batch; ++b)
      detail::accumulate(backend, scratch.du.view()[b], dinput[b], scratch.add);
    const auto add = [&](const auto& from, const auto& to) {
      detail::accumulate(backend, detail::as_real_rows(from), detail::as_real_rows(to),
                         scratch.add);
    };
    add(second.dlambda.view(), first.dlambda.view());
    add(second.dP.view(), dP);
    add(second.dB.view(), dB);
    detail::accumulate(backend, detail::as_row(second.ddelta.view()),
                       detail::as_row(first.ddelta.view()), scratch.add);
  }
  sample_modes_backward(backend, detail::s4_modes_of(layer), {.rate = options.rate},
                        {.lambda = first.dlambda, .delta = first.ddelta},
                        {gradients.log_decay, gradients.frequency, gradients.log_delta},
                        scratch.modes);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_LAYER(S4<float>)
SSM_INSTANCE_LAYER(S4<double>)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
