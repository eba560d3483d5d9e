#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <string>
#include <string_view>
#include <utility>

#include "ssm/conv/detail/sequence_view.hpp"
#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/s4_kernel.hpp"
#include "ssm/conv/s4_state.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/maybe.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/add.hpp"
#include "ssm/layers/add_next.hpp"
#include "ssm/layers/detail/complex_views.hpp"
#include "ssm/layers/detail/two_directions.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/s4_step.hpp"
#include "ssm/layers/s4_weights.hpp"
#include "ssm/layers/sample_modes.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// What forward of an S4 layer leaves for backward, and scratch memory for both. It grows to the
/// largest call.
template <class T>
struct S4Scratch {
  /// @cond internal
  using Complex = std::complex<T>;
  /// Gradients by the model, of one pass.
  struct Model {
    Tensor<Complex, 2> lambda, B, C;  ///< (width, state/2)
    Tensor<Complex, 3> P;             ///< (width, state/2, rank)
    Tensor<T, 1> delta;               ///< (width)
  };

  detail::KeptCall<4> call;             ///< batch, length, width, sequences
  bool stateful = false;                ///< forward started from a state
  S4State<T> before;                    ///< that state
  Tensor<Complex, 2> lambda;            ///< (width, state/2)
  Tensor<T, 1> delta;                   ///< (width)
  std::array<Tensor<T, 2>, 2> kernels;  ///< (width, config.length), of each direction
  Tensor<T, 2> dkernel;                 ///< (width, config.length)
  Tensor<T, 3> back, du;                ///< (batch, length, width): what the second direction gives
  Model sum, term;                      ///< of the model, and what one pass adds to it
  S4<T> trained;                        ///< whose output at another rate is C
  double rate = 1;                      ///< of C
  Tensor<T, 4> C;                       ///< C̃ (directions, width, state/2, 2)
  SampleModesScratch<T> modes;
  S4KernelScratch<T> kernel;
  S4StateScratch<T> states;
  LongConvScratch<T> conv;
  AddNextScratch<T> next;
  AddScratch<T> add;
  /// @endcond
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Makes scratch.C the C̃ of the weights at another rate, unless it is that already.
template <class T>
void change_rate(const S4<T>& layer, double rate, S4Scratch<T>& scratch) {
  const S4<T>& old = scratch.trained;
  const auto same = [](const auto& a, const auto& b) {
    return a.extents() == b.extents() && std::equal(a.begin(), a.end(), b.begin());
  };
  if (scratch.rate == rate && layer.config == old.config && same(layer.log_decay, old.log_decay) &&
      same(layer.frequency, old.frequency) && same(layer.log_delta, old.log_delta) &&
      same(layer.P, old.P) && same(layer.C, old.C))
    return;
  S4<T> changed = layer;
  s4_change_rate(changed, rate);
  scratch.trained = layer;
  scratch.C = std::move(changed.C);
  scratch.rate = rate;
}

/// The model of one direction, with the Λ, Δ and C̃ that forward has loaded.
template <class T>
S4KernelInputs<T> s4_model(const S4<T>& layer, double rate, const S4Scratch<T>& scratch,
                           Index direction) {
  const Tensor<T, 4>& C = rate == 1 ? layer.C : scratch.C;
  return {scratch.lambda, as_complex(layer.P.view()), as_complex(layer.B.view()),
          as_complex(C.view()[direction]), scratch.delta};
}

template <class T>
SampleModesInputs<T> s4_modes_of(const S4<T>& layer) {
  return {layer.log_decay, layer.frequency, layer.log_delta};
}

/// @return the taps that the longest sequence meets, at least 1
template <class T>
Index check_s4_call(std::string_view function, const S4<T>& layer, const InputOf<S4<T>>& input,
                    const OutputOf<S4<T>>& output, const LayerOptions<>& options,
                    std::string_view argument, const Maybe<S4State<T>>& state) {
  const S4Config& config = layer.config;
  check_s4(function, layer);
  check_layer_call(function, layer, input, output, options);
  check_no_overlap(function, "what is written", output, "input", input);
  check_rate(function, options.rate);
  check_direction_state(
      function, argument, config, state,
      std::array<Index, 3>{options.sequences.count(input.extent(0)), config.width, config.modes()});
  const Index longest = longest_sequence(options.sequences, input.extent(1));
  if (longest > config.length)
    throw_domain(function, "length", std::to_string(longest),
                 "at most " + std::to_string(config.length) +
                     ", which C is truncated for (s4_double_length doubles that, and a state "
                     "carries on from piece to piece)");
  return (std::max<Index>)(longest, 1);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs an S4 layer over sequences; see S4 for the equations.
///
/// The output is a convolution with the kernel of s4_kernel. A given state adds its part to it
/// through s4_pass_state. There is no form as a scan: it would need the output matrix C itself,
/// which costs O(state³ log length) for each channel whenever the weights change.
///
/// An input that is NaN or infinite may make all outputs of its channel NaN or infinite, also those
/// of earlier steps. (A step affects only the outputs from its own time on.)
///
/// Cost: that of s4_kernel and long_conv, of s4_pass_state when there is a state, and of
/// s4_change_rate when the rate is not 1 and the weights differ from those of the last call. The
/// bits are the same for every number of threads. Allocates while the scratch grows.
/// @param input, output (batch, length, width), not the same memory; no sequence longer than
///   config.length
/// @param state (sequences, width, state/2), optional: read as the state before the first step,
///   overwritten with that after the last; absent, sequences start from zero
/// @throws ShapeError; DomainError for a sequence that is too long, a state given to a
/// bidirectional
///   layer, offsets that run backward or past the end, or a rate that is not above 0 and finite
template <class Backend, class T>
void forward(const Backend& backend, const S4<T>& layer, const InputOf<S4<T>>& input,
             Maybe<StateOf<S4<T>>> state, const OutputOf<S4<T>>& output,
             const OptionsOf<S4<T>>& options, S4Scratch<T>& scratch) {
  const S4Config& config = layer.config;
  const Index taps =
      detail::check_s4_call("S4 forward", layer, input, output, options, "state", state);
  scratch.call.drop();
  scratch.stateful = bool(state);
  if (state && options.keep) scratch.before = *state;
  resize(backend, scratch.lambda, {config.width, config.modes()});
  resize(backend, scratch.delta, {config.width});
  sample_modes(backend, detail::s4_modes_of(layer), {.rate = options.rate},
               {.lambda = scratch.lambda, .delta = scratch.delta}, scratch.modes);
  if (options.rate != 1) detail::change_rate(layer, options.rate, scratch);
  const auto convolve = [&](Index direction, const Sequences<Host>& sequences,
                            const View<const T, 1>& D, const View<T, 3>& y) {
    Tensor<T, 2>& kernel = scratch.kernels[static_cast<std::size_t>(direction)];
    resize(backend, kernel, {config.width, config.length});
    s4_kernel(backend, detail::s4_model(layer, options.rate, scratch, direction), {}, {kernel},
              scratch.kernel);
    long_conv(backend, {input, kernel.view().slice(1, 0, taps), D, {}, sequences}, {}, {y, {}},
              scratch.conv);
  };
  convolve(0, options.sequences, layer.D, output);
  if (state)
    s4_pass_state(
        backend,
        {detail::s4_model(layer, options.rate, scratch, 0), input, state->x, options.sequences},
        {config.length}, {output, state->x}, scratch.states);
  if (config.bidirectional) {
    resize(backend, scratch.back, input.extents());
    convolve(1, options.sequences.turned(), {}, scratch.back);
    add_next(backend, {scratch.back, options.sequences}, {}, {output}, scratch.next);
  }
  if (options.keep)
    scratch.call.keep(
        {input.extent(0), input.extent(1), config.width, options.sequences.count(input.extent(0))},
        detail::variant_of(options.sequences));
}

/// The gradients of an S4 layer, of every weight and of the input, overwritten. The rate must be 1;
/// to train at another rate, change the weights with s4_change_rate first.
///
/// Cost: about three times forward.
/// @param dstate (sequences, width, state/2), optional: read as the gradient with respect to the
/// state
///   after the last step, overwritten with that of the state before the first; absent, the former
///   is zero and the latter is not computed
/// @param options, scratch those of the forward call
/// @throws ShapeError and DomainError as forward; DomainError for a rate other than 1; ShapeError
/// for
///   the scratch of another call
template <class Backend, class T>
void backward(const Backend& backend, const S4<T>& layer, const InputOf<S4<T>>& input,
              Maybe<StateOf<S4<T>>> dstate, const InputOf<S4<T>>& doutput,
              const OutputOf<S4<T>>& dinput, S4<T>& gradients, const OptionsOf<S4<T>>& options,
              S4Scratch<T>& scratch) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "S4 backward";
  const S4Config& config = layer.config;
  const Index taps = detail::check_s4_call(function, layer, input, dinput, options,
                                           "the gradient of state", dstate);
  const Index batch = input.extent(0);
  detail::check_shape(function, "the gradient of output", doutput, input.extents());
  detail::check_no_overlap(function, "the gradient of input", dinput, "the gradient of output",
                           doutput);
  if (options.rate != 1)
    detail::throw_domain(function, "rate", std::to_string(options.rate),
                         "1 (s4_change_rate makes weights that train at another)");
  scratch.call.check(function, "S4 forward with options.keep",
                     {batch, input.extent(1), config.width, options.sequences.count(batch)},
                     detail::variant_of(options.sequences));
  resize_gradients(backend, layer, gradients);
  const View<Complex, 2> dB = detail::as_complex(gradients.B.view());
  const View<Complex, 3> dP = detail::as_complex(gradients.P.view());
  const auto dC = [&](Index d) { return detail::as_complex(gradients.C.view()[d]); };
  auto& sum = scratch.sum;
  auto& term = scratch.term;
  for (auto* tensor : {&sum.lambda, &term.lambda, &term.B, &term.C})
    resize(backend, *tensor, {config.width, config.modes()});
  for (auto* tensor : {&sum.delta, &term.delta}) resize(backend, *tensor, {config.width});
  resize(backend, term.P, {config.width, config.modes(), config.rank});
  const auto add_term = [&] {
    const auto accumulate = [&](auto& from, const auto& to) {
      detail::accumulate(backend, detail::as_real_rows(from.view()), detail::as_real_rows(to),
                         scratch.add);
    };
    accumulate(term.lambda, sum.lambda.view());
    accumulate(term.P, dP);
    accumulate(term.B, dB);
    detail::accumulate(backend, detail::as_row(term.delta.view()), detail::as_row(sum.delta.view()),
                       scratch.add);
  };
  const auto turn_back = [&](Index direction, const Sequences<Host>& sequences,
                             const View<const T, 1>& D, const View<const T, 3>& dy,
                             const View<T, 3>& du, const View<T, 1>& dD,
                             const S4KernelInputGradients<T>& model) {
    Tensor<T, 2>& kernel = scratch.kernels[static_cast<std::size_t>(direction)];
    resize(backend, scratch.dkernel, kernel.extents());
    scratch.dkernel.fill(T(0));  // taps beyond the sequences meet no input
    long_conv_backward(backend, {input, kernel.view().slice(1, 0, taps), D, {}, sequences}, {},
                       {dy, {}}, {du, scratch.dkernel.view().slice(1, 0, taps), dD, {}},
                       scratch.conv);
    s4_kernel_backward(backend, detail::s4_model(layer, 1, scratch, direction), {},
                       {scratch.dkernel}, model, scratch.kernel);
  };
  turn_back(0, options.sequences, layer.D, doutput, dinput, gradients.D,
            {sum.lambda, dP, dB, dC(0), sum.delta});
  if (scratch.stateful || dstate) {
    const View<const Complex, 3> before =
        scratch.stateful ? View<const Complex, 3>(scratch.before.x) : View<const Complex, 3>();
    const View<Complex, 3> slope = dstate ? dstate->x.view() : View<Complex, 3>();
    s4_pass_state_backward(
        backend, {detail::s4_model(layer, 1, scratch, 0), input, before, options.sequences},
        {config.length}, {doutput, slope},
        {{term.lambda, term.P, term.B, term.C, term.delta}, dinput, slope}, scratch.states);
    add_term();
    detail::accumulate(backend, detail::as_real_rows(term.C.view()), detail::as_real_rows(dC(0)),
                       scratch.add);
  }
  if (config.bidirectional) {
    resize(backend, scratch.du, input.extents());
    add_next_backward(backend, {input, options.sequences}, {}, {doutput}, {scratch.back},
                      scratch.next);
    turn_back(1, options.sequences.turned(), {}, scratch.back, scratch.du, {},
              {term.lambda, term.P, term.B, dC(1), term.delta});
    for (Index b = 0; b < batch; ++b)
      detail::accumulate(backend, scratch.du.view()[b], dinput[b], scratch.add);
    add_term();
  }
  sample_modes_backward(backend, detail::s4_modes_of(layer), {.rate = options.rate},
                        {.lambda = sum.lambda, .delta = sum.delta},
                        {gradients.log_decay, gradients.frequency, gradients.log_delta},
                        scratch.modes);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_LAYER(S4<float>)
SSM_INSTANCE_LAYER(S4<double>)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
