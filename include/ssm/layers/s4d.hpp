#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/conv/detail/sequence_view.hpp"
#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/s4d_kernel.hpp"
#include "ssm/conv/s4d_state.hpp"
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
#include "ssm/layers/detail/s4d_forms.hpp"
#include "ssm/layers/detail/two_directions.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/s4d_step.hpp"
#include "ssm/layers/s4d_weights.hpp"
#include "ssm/layers/sample_modes.hpp"
#include "ssm/scan/diagonal_recurrence.hpp"
#include "ssm/scan/diagonal_scan.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Room for S4D as a convolution, which there is in host memory.
template <class T, class Space>
struct S4dConvolutionScratch {
  DiagonalKernelScratch<T, Space> kernels;
  LongConvScratch<T, Space> conv;
};
template <class T>
struct S4dConvolutionScratch<T, Device> {};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// What forward of an S4D layer leaves for backward, and scratch memory for both. It grows to the
/// largest call.
template <class T, class Space>
struct S4dScratch {
  /// @cond internal
  using Complex = std::complex<T>;
  /// Of a pass in one direction.
  struct Direction {
    S4dForm form = S4dForm::scan;  ///< in which it ran forward
    TensorIn<T, 2, Space> kernel,
        dkernel;  ///< (width, steps of the longest sequence), of a convolution
    TensorIn<Complex, 2, Space> dlambda, dB;  ///< (width, state/2)
    TensorIn<T, 1, Space> ddelta;             ///< (width)
  };

  detail::KeptCall<4> call;            ///< batch, length, width, sequences
  bool stateful = false;               ///< forward was given a state
  S4dState<T, Space> before;           ///< that state
  TensorIn<Complex, 2, Space> lambda;  ///< (width, state/2)
  TensorIn<Complex, 2, Space> B;       ///< (width, state/2), of DSS
  TensorIn<T, 1, Space> delta;         ///< (width)
  std::array<Direction, 2> directions;
  TensorIn<T, 3, Space> back, du;  ///< (batch, length, width): what the second direction gives
  SampleModesScratch<T, Space> modes;
  DiagonalScanScratch<T, Complex, Space> scan;
  detail::S4dConvolutionScratch<T, Space> convolution;
  AddNextScratch<T, Space> next;
  AddReadoutScratch<T, Space> readout;
  AddScratch<T, Space> add;
  std::vector<S4dScratch> alone;  ///< of each packed sequence, where each is a model of its own
  S4d<T, Space> share;            ///< of the gradients: what one such sequence gives
  /// @endcond
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// One direction of an S4D layer.
template <class Backend, class T, class Space>
struct S4dPass {
  using Complex = std::complex<T>;
  const Backend& backend;
  const S4d<T, Space>& layer;
  S4dScratch<T, Space>& scratch;
  std::size_t direction;
  Sequences<Space> sequences;
  Index longest;
  /// Whether there is a choice: forms but the scan need whole sequences, and host memory.
  static constexpr bool has_forms = holds_whole_time<Backend> && std::is_same_v<Space, Host>;

  [[nodiscard]] View<const Complex, 2, Space> B() const {
    if (layer.config.dss) return scratch.B;
    return as_complex(layer.B.view());
  }
  [[nodiscard]] View<const Complex, 2, Space> C() const {
    return as_complex(layer.C.view()[static_cast<Index>(direction)]);
  }
  [[nodiscard]] View<const T, 1, Space> D() const {
    return direction == 0 ? layer.D.view() : View<const T, 1, Space>();
  }
  [[nodiscard]] DiagonalKernelInputs<T, Space> model() const {
    return {scratch.lambda, scratch.delta, B(), C()};
  }
  /// The form of a pass over u, of which `choose` knows the fastest.
  template <class Choose>
  [[nodiscard]] S4dForm form(const View<const T, 3, Space>& u, bool stateful,
                             const Choose& choose) const {
    const S4dConfig& config = layer.config;
    if (longest == 0 || !has_forms) return S4dForm::scan;
    if (config.form != S4dForm::fastest) return config.form;
    const bool has_kernel = config.method == Discretization::zero_order_hold ||
                            config.method == Discretization::bilinear;
    return choose(S4dCall{u.extent(0), u.extent(1), config.modes(),
                          has_kernel && !stateful && !sequences.offsets});
  }
  void make_kernel() const {
    auto& kernel = scratch.directions[direction].kernel;
    resize(backend, kernel, {layer.config.width, longest});
    s4d_kernel(backend, model(), {layer.config.method}, {kernel}, scratch.convolution.kernels);
  }
  [[nodiscard]] DiagonalScanInputs<T, Complex, Space> inputs(
      const View<const T, 3, Space>& u, const View<const Complex, 3, Space>& initial) const {
    return {u, scratch.lambda, scratch.delta, B(), C(), D(), initial, sequences};
  }

  void forward(const View<const T, 3, Space>& u, const View<T, 3, Space>& y,
               const View<Complex, 3, Space>& state) const {
    auto& own = scratch.directions[direction];
    own.form = form(u, bool(state), forward_form<T>);
    const DiagonalScanOptions options{layer.config.method};
    if constexpr (has_forms) {
      if (own.form == S4dForm::recurrence)
        return recurrence(backend, inputs(u, state), options, {y, state}, scratch.scan);
      if (own.form == S4dForm::convolution) return convolve(u, y, state);
    }
    diagonal_scan(backend, inputs(u, state), options, {y, state}, scratch.scan);
  }
  void convolve(const View<const T, 3, Space>& u, const View<T, 3, Space>& y,
                const View<Complex, 3, Space>& state) const {
    make_kernel();
    const auto& kernel = scratch.directions[direction].kernel;
    long_conv(backend, {u, kernel, D(), {}, sequences}, {}, {y, {}}, scratch.convolution.conv);
    if (state)
      s4d_pass_state(backend, {model(), u, state, sequences}, {layer.config.method}, {y, state},
                     scratch.convolution.kernels);
  }

  /// Overwrites din, all of it present but for the gradients of D and the initial state.
  void backward(const View<const T, 3, Space>& u, const View<const Complex, 3, Space>& initial,
                const View<const T, 3, Space>& dy, const View<const Complex, 3, Space>& dfinal,
                const DiagonalScanInputGradients<T, Complex, Space>& din) const {
    const bool stateful = initial || dfinal || din.initial_state;
    if constexpr (has_forms) {
      if (form(u, stateful, backward_form<T>) == S4dForm::convolution)
        return convolve_backward(u, initial, dy, dfinal, din, stateful);
    }
    diagonal_scan_backward(backend, inputs(u, initial), {layer.config.method}, {dy, dfinal}, din,
                           scratch.scan);
  }
  void convolve_backward(const View<const T, 3, Space>& u,
                         const View<const Complex, 3, Space>& initial,
                         const View<const T, 3, Space>& dy,
                         const View<const Complex, 3, Space>& dfinal,
                         const DiagonalScanInputGradients<T, Complex, Space>& din,
                         bool stateful) const {
    const Discretization method = layer.config.method;
    auto& own = scratch.directions[direction];
    if (own.form != S4dForm::convolution) make_kernel();
    resize(backend, own.dkernel, own.kernel.extents());
    long_conv_backward(backend, {u, own.kernel, D(), {}, sequences}, {}, {dy, {}},
                       {din.u, own.dkernel, din.D, {}}, scratch.convolution.conv);
    const DiagonalKernelInputGradients<T, Space> model_gradients{din.lambda, din.delta, din.B,
                                                                 din.C};
    s4d_kernel_backward(backend, model(), {method}, {own.dkernel}, model_gradients,
                        scratch.convolution.kernels);
    if (stateful)
      s4d_pass_state_backward(backend, {model(), u, initial, sequences}, {method}, {dy, dfinal},
                              {model_gradients, din.u, din.initial_state},
                              scratch.convolution.kernels);
  }
};

/// @return the steps of the longest sequence
template <class T, class Space>
Index check_s4d_call(std::string_view function, const S4d<T, Space>& layer,
                     const InputOf<S4d<T, Space>>& input, const OutputOf<S4d<T, Space>>& output,
                     const LayerOptions<Space>& options, std::string_view argument,
                     const Maybe<S4dState<T, Space>>& state) {
  const S4dConfig& config = layer.config;
  check_s4d_config(function, config);
  check_parameters(function, layer);
  check_layer_call(function, layer, input, output, options);
  check_no_overlap(function, "what is written", output, "input", input);
  check_rate(function, options.rate);
  const Index batch = input.extent(0);
  check_direction_states(
      function, argument, config, state,
      std::array<Index, 3>{options.sequences.count(batch), config.width, config.modes()});
  if (config.dss && config.dss_length == 0 && state)
    throw_domain(function, argument, "given", "none for dss without a dss_length");
  return longest_sequence(options.sequences, input.extent(1));
}

template <class T, class Space>
SampleModesInputs<T, Space> s4d_modes_of(const S4d<T, Space>& layer) {
  return {layer.log_decay, layer.frequency, layer.log_delta, as_complex(layer.B.view())};
}

/// For an input whose longest sequence has this many steps.
inline SampleModesOptions s4d_sampling(const S4dConfig& config, double rate, Index longest) {
  const Index dss_length =
      config.dss_length > 0 ? config.dss_length : (std::max<Index>)(longest, 1);
  return {rate, config.method, config.dss ? dss_length : 0};
}

/// DSS whose L is the length of the sequence needs to know it.
template <class Backend, class Space>
void check_whole_length(std::string_view function, const S4dConfig& config,
                        const Sequences<Space>& sequences) {
  if (std::is_same_v<Space, Device> && config.dss && config.dss_length == 0 && sequences.offsets)
    throw_domain(function, "dss_length", "0, the length of each packed sequence",
                 "a length, as offsets on a device are not read");
  if (!holds_whole_time<Backend> && config.dss && config.dss_length == 0)
    throw_domain(function, "dss_length", "0, the length of the sequence",
                 "a length, where a rank holds a piece of it");
}

/// Whether each of several packed sequences is a model of its own: DSS whose L is their length.
template <class Space>
bool differ_by_length(const S4dConfig& config, const Sequences<Space>& sequences) noexcept {
  return std::is_same_v<Space, Host> && config.dss && config.dss_length == 0 && sequences.offsets &&
         sequences.count(1) > 0;
}

/// Calls body(s, part) for each packed sequence, where part(view) is its steps of a view.
template <class Body>
void for_each_alone(const Sequences<Host>& sequences, const Body& body) {
  for (Index s = 0; s < sequences.count(1); ++s) {
    const SequenceSpan span = span_of(sequences, s, 0);
    body(s, [&](const auto& view) { return view.slice(1, span.begin, span.length()); });
  }
}

/// to += from, weight by weight.
template <class Backend, class T, class Space>
void accumulate_weights(const Backend& backend, S4d<T, Space>& from, S4d<T, Space>& to,
                        AddScratch<T, Space>& scratch) {
  const auto add_one = [&](auto& x, auto& y) {
    accumulate(backend, View<T, 2, Space>(x.data(), {1, x.size()}),
               View<T, 2, Space>(y.data(), {1, y.size()}), scratch);
  };
  add_one(from.log_decay, to.log_decay);
  add_one(from.frequency, to.frequency);
  add_one(from.log_delta, to.log_delta);
  add_one(from.B, to.B);
  add_one(from.C, to.C);
  add_one(from.D, to.D);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs an S4D layer over sequences; see S4d for the equations and S4dForm for how it computes.
/// A packed sequence gives what it gives alone: where the form is named the same bits, with
/// `fastest`, which packed sequences make the scan, the same to rounding.
///
/// An input that is NaN or infinite makes the outputs of its channel NaN or infinite from its step
/// on, and those of some earlier steps too: with the form `scan` up to 31 of them, with
/// `convolution` up to all steps of the sequence. The form `recurrence` and a step affect no
/// earlier output.
///
/// Cost: as diagonal_scan, or as s4d_kernel and long_conv. The bits are the same for every number
/// of threads. Allocates while the scratch grows.
/// @param input, output (batch, length, width), not the same memory
/// @param state optional: x (sequences, width, state/2) is read as the state before the first step
///   and overwritten with that after the last. Of a bidirectional layer x_back, of the same
///   extents, is read as the state of the pass from the end before it meets the last step, which is
///   what the steps after this piece leave in it, and overwritten with that after the first step.
///   Absent, both passes start from zero
/// @throws ShapeError; DomainError for a rate that is not above 0 and finite, offsets that run
///   backward or past the end, and with dss of dss_length 0 for a state
template <class Backend, class T, class Space>
void forward(const Backend& backend, const S4d<T, Space>& layer,
             const InputOf<S4d<T, Space>>& input, Maybe<StateOf<S4d<T, Space>>> state,
             const OutputOf<S4d<T, Space>>& output, const OptionsOf<S4d<T, Space>>& options,
             S4dScratch<T, Space>& scratch) {
  const S4dConfig& config = layer.config;
  const Index longest =
      detail::check_s4d_call("S4d forward", layer, input, output, options, "state", state);
  detail::check_whole_length<Backend>("S4d forward", config, options.sequences);
  const Index batch = input.extent(0), length = input.extent(1);
  scratch.call.drop();
  const auto keep = [&] {
    if (options.keep)
      scratch.call.keep({batch, length, config.width, options.sequences.count(batch)},
                        detail::variant_of(options.sequences));
  };
  if constexpr (std::is_same_v<Space, Host>)
    if (detail::differ_by_length(config, options.sequences)) {
      const Index kept = options.keep ? options.sequences.count(batch) : 1;
      if (static_cast<Index>(scratch.alone.size()) < kept)
        scratch.alone.resize(static_cast<std::size_t>(kept));
      OptionsOf<S4d<T, Space>> alone = options;
      alone.sequences.offsets = {};
      detail::for_each_alone(options.sequences, [&](Index s, const auto& part) {
        forward(backend, layer, part(input), {}, part(output), alone,
                scratch.alone[static_cast<std::size_t>(options.keep ? s : 0)]);
      });
      return keep();
    }
  scratch.stateful = bool(state);
  if (state && options.keep) detail::keep_states(backend, *state, scratch.before);
  resize(backend, scratch.lambda, {config.width, config.modes()});
  resize(backend, scratch.delta, {config.width});
  if (config.dss) resize(backend, scratch.B, {config.width, config.modes()});
  sample_modes(backend, detail::s4d_modes_of(layer),
               detail::s4d_sampling(config, options.rate, longest),
               {.lambda = scratch.lambda,
                .delta = scratch.delta,
                .B = config.dss ? scratch.B.view() : View<std::complex<T>, 2, Space>()},
               scratch.modes);
  detail::S4dPass<Backend, T, Space>{backend, layer, scratch, 0, options.sequences, longest}
      .forward(input, output, detail::state_of(state, 0));
  if (config.bidirectional) {
    resize(backend, scratch.back, {batch, length, config.width});
    scratch.directions[1].form = S4dForm::scan;
    if (longest > 1 || state || !holds_whole_time<Backend>) {
      const auto beyond = detail::state_of(state, 1);
      detail::S4dPass<Backend, T, Space> pass{
          backend, layer, scratch, 1, options.sequences.turned(), longest};
      add_readout(backend, {pass.C(), beyond, options.sequences}, {}, {output}, scratch.readout);
      pass.forward(input, scratch.back, beyond);
      add_next(backend, {scratch.back, options.sequences}, {}, {output}, scratch.next);
    }
  }
  keep();
}

/// The gradients of an S4D layer, of every weight and of the input, overwritten.
///
/// Cost: about three times forward.
/// @param dstate optional: read as the gradient with respect to the states that forward left,
///   overwritten with that of the states that it read; absent, the former is zero and the latter is
///   not computed
/// @param options, scratch those of the forward call
/// @throws ShapeError and DomainError as forward; ShapeError for the scratch of another call
template <class Backend, class T, class Space>
void backward(const Backend& backend, const S4d<T, Space>& layer,
              const InputOf<S4d<T, Space>>& input, Maybe<StateOf<S4d<T, Space>>> dstate,
              const InputOf<S4d<T, Space>>& doutput, const OutputOf<S4d<T, Space>>& dinput,
              S4d<T, Space>& gradients, const OptionsOf<S4d<T, Space>>& options,
              S4dScratch<T, Space>& scratch) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "S4d backward";
  const S4dConfig& config = layer.config;
  const Index longest = detail::check_s4d_call(function, layer, input, dinput, options,
                                               "the gradient of state", dstate);
  detail::check_whole_length<Backend>(function, config, options.sequences);
  const Index batch = input.extent(0), length = input.extent(1);
  detail::check_shape(function, "the gradient of output", doutput, input.extents());
  detail::check_no_overlap(function, "the gradient of input", dinput, "the gradient of output",
                           doutput);
  scratch.call.check(function, "S4d forward with options.keep",
                     {batch, length, config.width, options.sequences.count(batch)},
                     detail::variant_of(options.sequences));
  resize_gradients(backend, layer, gradients);
  if constexpr (std::is_same_v<Space, Host>)
    if (detail::differ_by_length(config, options.sequences)) {
      OptionsOf<S4d<T, Space>> alone = options;
      alone.sequences.offsets = {};
      detail::for_each_alone(options.sequences, [&](Index s, const auto& part) {
        S4d<T, Space>& own = s == 0 ? gradients : scratch.share;
        backward(backend, layer, part(input), {}, part(doutput), part(dinput), own, alone,
                 scratch.alone[static_cast<std::size_t>(s)]);
        if (s > 0) detail::accumulate_weights(backend, own, gradients, scratch.add);
      });
      return;
    }
  auto& [first, second] = scratch.directions;
  for (auto* own : {&first, &second}) {
    resize(backend, own->dlambda, {config.width, config.modes()});
    resize(backend, own->ddelta, {config.width});
  }
  const View<Complex, 2, Space> dB = detail::as_complex(gradients.B.view());
  const auto dC = [&](Index d) { return detail::as_complex(gradients.C.view()[d]); };
  const auto before =
      scratch.stateful ? Maybe<S4dState<T, Space>>(scratch.before) : Maybe<S4dState<T, Space>>();
  const View<Complex, 3, Space> slope = detail::state_of(dstate, 0);
  detail::S4dPass<Backend, T, Space>{backend, layer, scratch, 0, options.sequences, longest}
      .backward(input, detail::state_of(before, 0), doutput, slope,
                {.u = dinput,
                 .lambda = first.dlambda,
                 .delta = first.ddelta,
                 .B = dB,
                 .C = dC(0),
                 .D = gradients.D,
                 .initial_state = slope});
  if (config.bidirectional) {
    const View<Complex, 3, Space> beyond = detail::state_of(before, 1),
                                  slope_back = detail::state_of(dstate, 1);
    resize(backend, second.dB, {config.width, config.modes()});
    resize(backend, scratch.du, {batch, length, config.width});
    add_next_backward(backend, {input, options.sequences}, {}, {doutput}, {scratch.back},
                      scratch.next);
    detail::S4dPass<Backend, T, Space> pass{backend, layer, scratch, 1, options.sequences.turned(),
                                            longest};
    pass.backward(input, beyond, scratch.back, slope_back,
                  {.u = scratch.du,
                   .lambda = second.dlambda,
                   .delta = second.ddelta,
                   .B = second.dB,
                   .C = dC(1),
                   .D = {},
                   .initial_state = slope_back});
    add_readout_backward(backend, {pass.C(), beyond, options.sequences}, {}, {doutput},
                         {dC(1), slope_back}, scratch.readout);
    for (Index b = 0; b < batch; ++b)
      detail::accumulate(backend, scratch.du.view()[b], dinput[b], scratch.add);
    const auto parts = [](auto& tensor) { return detail::as_real_rows(tensor.view()); };
    detail::accumulate(backend, parts(second.dlambda), parts(first.dlambda), scratch.add);
    detail::accumulate(backend, parts(second.dB), detail::as_real_rows(dB), scratch.add);
    detail::accumulate(backend, detail::as_row(second.ddelta.view()),
                       detail::as_row(first.ddelta.view()), scratch.add);
  }
  sample_modes_backward(
      backend, detail::s4d_modes_of(layer), detail::s4d_sampling(config, options.rate, longest),
      {.lambda = first.dlambda, .delta = first.ddelta, .B = dB},
      {gradients.log_decay, gradients.frequency, gradients.log_delta, dB}, scratch.modes);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_LAYER(S4d<float>)
SSM_INSTANCE_LAYER(S4d<double>)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
