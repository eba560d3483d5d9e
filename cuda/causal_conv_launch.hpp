#pragma once

#include "arrays.hpp"
#include "launch.hpp"
#include "math.hpp"
#include "row_sequences.hpp"
#include "scratch.hpp"
#include "ssm/cuda/causal_conv.hpp"

namespace ssm {
namespace kernels {

/// The convolution's arguments, and its inputs by position: those before a sequence's start come
/// from its initial state.
template <class T>
struct ConvArguments {
  using R = Arithmetic<T>;

  Array<const T, 3> x;
  Array<const R, 2> weight;
  Array<const R, 1> bias;
  Array<const T, 3> initial_state;
  RowSequences sequences;
  Index rows, channels, width;
  bool silu;

  ConvArguments(const CausalConvInputs<T, Device>& in, const CausalConvOptions& options)
      : x(in.x, in.sequences),
        weight(in.weight),
        bias(in.bias),
        initial_state(in.initial_state),
        sequences(in.sequences, in.x.extent(1)),
        rows(in.x.extent(0)),
        channels(in.x.extent(2)),
        width(in.weight.extent(1)),
        silu(options.silu) {}

  /// Row, position and channel of the i-th element of a sequence array.
  SSM_DEVICE void place(Index i, Index& row, Index& position, Index& c) const {
    c = i % channels;
    position = i / channels % sequences.length;
    row = i / channels / sequences.length;
  }
  /// The row of the s-th sequence, and its place in time among those of the row.
  SSM_DEVICE void place_sequence(Index s, Index& row, Index& k) const {
    const bool packed = sequences.offsets != nullptr;
    row = packed ? 0 : s;
    k = !packed ? 0 : sequences.reversed ? sequences.count - 1 - s : s;
  }
  /// The sequence, in time, that position i belongs to.
  SSM_DEVICE Index sequence_of(Index i) const { return sequences.before(i + 1); }
  SSM_DEVICE Index end_of(Index k) const {
    return k + 1 < sequences.count ? sequences.start(k + 1) : sequences.length;
  }
  /// The input at position i ≥ start(k) − (width − 1) of sequence k.
  SSM_DEVICE R input(Index row, Index k, Index i, Index c) const {
    const Index before = sequences.start(k) - i;
    if (before <= 0) return widen(x(row, i, c));
    if (!initial_state.present || before >= width) return R(0);
    return widen(initial_state(sequences.number(row, k), width - 1 - before, c));
  }
  SSM_DEVICE R sum(Index row, Index k, Index i, Index c) const {
    R total = bias.present ? bias(c) : R(0);
    for (Index j = 0; j < width; ++j) total += weight(c, j) * input(row, k, i - (width - 1) + j, c);
    return total;
  }
};

/// One thread an element of y.
template <class T>
struct ConvForward {
  ConvArguments<T> in;
  Array<T, 3> y;

  SSM_DEVICE void operator()(Index i) const {
    using R = Arithmetic<T>;
    Index row, position, c;
    in.place(i, row, position, c);
    const R sum = in.sum(row, in.sequence_of(position), position, c);
    y(row, position, c) = narrow_to<T>(in.silu ? Silu<R>(sum).value : sum);
  }
};

/// One thread a sequence and channel: all inputs of the final state are read before it is written,
/// as it may be the initial one.
template <class T>
struct ConvFinalState {
  ConvArguments<T> in;
  Array<T, 3> final_state;

  SSM_DEVICE void operator()(Index i) const {
    const Index c = i % in.channels, s = i / in.channels;
    Index row, k;
    in.place_sequence(s, row, k);
    const Index past = in.width - 1, end = in.end_of(k);
    for (Index j = 0; j < past; ++j)  // the state moves toward its start: older ones are done with
      final_state(s, j, c) = narrow_to<T>(in.input(row, k, end - past + j, c));
  }
};

/// ∂loss/∂(y before its activation): one thread an element.
template <class T>
struct ConvPreGradient {
  using R = Arithmetic<T>;
  ConvArguments<T> in;
  Array<const T, 3> dy;
  R* g;  ///< (rows, positions, channels)

  SSM_DEVICE void operator()(Index i) const {
    Index row, position, c;
    in.place(i, row, position, c);
    R gradient = widen(dy(row, position, c));
    if (in.silu) gradient *= Silu<R>(in.sum(row, in.sequence_of(position), position, c)).slope;
    g[i] = gradient;
  }
};

/// What an input at position i of sequence k, or of the state before it, gains: from the outputs
/// that saw it, and from the final state if it holds it.
template <class T>
SSM_DEVICE Arithmetic<T> conv_input_gradient(const ConvArguments<T>& in, const Arithmetic<T>* g,
                                             const Array<const T, 3>& dfinal, Index row, Index k,
                                             Index i, Index c) {
  using R = Arithmetic<T>;
  const Index start = in.sequences.start(k), end = in.end_of(k), past = in.width - 1;
  R total = 0;
  if (dfinal.present && i >= end - past && i < end)
    total = widen(dfinal(in.sequences.number(row, k), i - (end - past), c));
  for (Index t = i < start ? start : i; t <= i + past && t < end; ++t)
    total += in.weight(c, past - (t - i)) * g[(row * in.sequences.length + t) * in.channels + c];
  return total;
}

template <class T>
struct ConvInputGradient {
  ConvArguments<T> in;
  const Arithmetic<T>* g;
  Array<const T, 3> dfinal;
  Array<T, 3> dx;

  SSM_DEVICE void operator()(Index i) const {
    Index row, position, c;
    in.place(i, row, position, c);
    dx(row, position, c) = narrow_to<T>(
        conv_input_gradient(in, g, dfinal, row, in.sequence_of(position), position, c));
  }
};

/// One thread an element (sequence, past, channel).
template <class T>
struct ConvStateGradient {
  ConvArguments<T> in;
  const Arithmetic<T>* g;
  Array<const T, 3> dfinal;
  Array<T, 3> dinitial;

  SSM_DEVICE void operator()(Index i) const {
    const Index past = in.width - 1;
    const Index c = i % in.channels, j = i / in.channels % past, s = i / in.channels / past;
    Index row, k;
    in.place_sequence(s, row, k);
    dinitial(s, j, c) = narrow_to<T>(
        conv_input_gradient(in, g, dfinal, row, k, in.sequences.start(k) - past + j, c));
  }
};

/// A piece's share of the gradients of the weight and the bias: one thread a piece, tap and
/// channel.
template <class T>
struct ConvWeightShares {
  using R = Arithmetic<T>;
  ConvArguments<T> in;
  const R* g;
  R* shares;  ///< (pieces, width + 1, channels)
  Index piece_steps, row_pieces;

  SSM_DEVICE void operator()(Index i) const {
    const Index c = i % in.channels, j = i / in.channels % (in.width + 1);
    const Index piece = i / in.channels / (in.width + 1);
    const Index row = piece / row_pieces, begin = piece % row_pieces * piece_steps;
    const Index length = in.sequences.length;
    const Index end = begin + piece_steps < length ? begin + piece_steps : length;
    Index k = in.sequence_of(begin), stop = in.end_of(k);
    R total = 0;
    for (Index t = begin; t < end; ++t) {
      if (t >= stop) {
        k = in.sequence_of(t);
        stop = in.end_of(k);
      }
      const R gradient = g[(row * length + t) * in.channels + c];
      total += j == in.width ? gradient : gradient * in.input(row, k, t - (in.width - 1) + j, c);
    }
    shares[i] = total;
  }
};

/// Adds the shares up in order: one thread a tap and channel.
template <class T>
struct ConvSumShares {
  using R = Arithmetic<T>;
  const R* shares;
  Index pieces, channels, width;
  Array<R, 2> dweight;
  Array<R, 1> dbias;

  SSM_DEVICE void operator()(Index i) const {
    const Index c = i % channels, j = i / channels;
    R total = 0;
    for (Index p = 0; p < pieces; ++p) total += shares[p * (width + 1) * channels + i];
    if (j < width && dweight.present) dweight(c, j) = total;
    if (j == width && dbias.present) dbias(c) = total;
  }
};

/// One thread a row and channel.
template <class T>
struct ConvStep {
  using R = Arithmetic<T>;
  Array<const T, 2> x;
  Array<const R, 2> weight;
  Array<const R, 1> bias;
  Array<T, 3> states;
  Array<T, 2> y;
  Array<const Index, 1> slots;
  Index channels, width, slot_count;
  bool silu;

  SSM_DEVICE void operator()(Index i) const {
    const Index c = i % channels, row = i / channels;
    const Index slot = slots.present ? slots(row) : row;
    if (slot < 0 || slot >= slot_count) return;
    R sum = bias.present ? bias(c) : R(0);
    const T now = x(row, c);
    for (Index j = 0; j + 1 < width; ++j) {
      T& past = states(slot, j, c);
      sum += weight(c, j) * R(widen(past));
      past = j + 2 < width ? states(slot, j + 1, c) : now;
    }
    sum += weight(c, width - 1) * R(widen(now));
    y(row, c) = narrow_to<T>(silu ? Silu<R>(sum).value : sum);
  }
};

}  // namespace kernels

template <class T>
void causal_conv(const Cuda& backend, const CausalConvInputs<T, Device>& inputs,
                 const CausalConvOptions& options,
                 const std::type_identity_t<CausalConvOutputs<T, Device>>& outputs,
                 CausalConvScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "causal_conv";
  ssm::detail::check_causal_conv(function, inputs);
  ssm::detail::check_causal_conv_outputs(function, inputs, outputs);
  const ConvArguments<T> in(inputs, options);
  launch_elementwise(backend, function, inputs.x.size(),
                     ConvForward<T>{in, Array<T, 3>(outputs.y, inputs.sequences)});
  if (outputs.final_state && in.width > 1)
    launch_elementwise(backend, function, outputs.final_state.extent(0) * in.channels,
                       ConvFinalState<T>{in, Array<T, 3>(outputs.final_state)});
}

template <class T>
void causal_conv_backward(
    const Cuda& backend, const CausalConvInputs<T, Device>& inputs,
    const CausalConvOptions& options,
    const std::type_identity_t<CausalConvOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<CausalConvInputGradients<T, Device>>& din,
    CausalConvScratch<T, Device>& scratch) {
  using namespace kernels;
  using R = Arithmetic<T>;
  const char* function = "causal_conv_backward";
  ssm::detail::check_causal_conv(function, inputs);
  ssm::detail::check_causal_conv_gradients(function, inputs, output_gradients, din);
  constexpr Index piece_steps = 256;
  const ConvArguments<T> in(inputs, options);
  const Sequences<Device>& time = inputs.sequences;
  const Index row_pieces = (in.sequences.length + piece_steps - 1) / piece_steps;
  const Index pieces = in.rows * row_pieces, taps = (in.width + 1) * in.channels;
  // Of a sequence shorter than the state, the two overlap.
  const bool overwritten =
      ssm::detail::is_same_memory(din.initial_state, output_gradients.final_state);
  struct Arrays {
    R *g, *shares;
    T* dfinal;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    return Arrays{s.array<R>(inputs.x.size()), s.array<R>(pieces * taps),
                  overwritten ? s.array<T>(din.initial_state.size()) : nullptr};
  });
  const Array<const T, 3> dfinal =
      overwritten ? copy_elements(backend, function, output_gradients.final_state, arrays.dfinal)
                  : Array<const T, 3>(output_gradients.final_state);
  launch_elementwise(backend, function, inputs.x.size(),
                     ConvPreGradient<T>{in, Array<const T, 3>(output_gradients.y, time), arrays.g});
  if (din.x)
    launch_elementwise(backend, function, din.x.size(),
                       ConvInputGradient<T>{in, arrays.g, dfinal, Array<T, 3>(din.x, time)});
  if (din.weight || din.bias) {
    launch_elementwise(backend, function, pieces * taps,
                       ConvWeightShares<T>{in, arrays.g, arrays.shares, piece_steps, row_pieces});
    launch_elementwise(backend, function, taps,
                       ConvSumShares<T>{arrays.shares, pieces, in.channels, in.width,
                                        Array<R, 2>(din.weight), Array<R, 1>(din.bias)});
  }
  if (din.initial_state)
    launch_elementwise(backend, function, din.initial_state.size(),
                       ConvStateGradient<T>{in, arrays.g, dfinal, Array<T, 3>(din.initial_state)});
}

namespace detail {

/// What the step on the CPU asks, and that `states` has a place for every row.
template <class T>
void check_device_step(const CausalConvStepInputs<T, Device>& in, const View<T, 3, Device>& states,
                       const View<T, 2, Device>& y, const View<const Index, 1, Device>& slots) {
  const char* function = "causal_conv_step";
  check_given(function, "x", in.x, "(batch, channels)");
  check_given(function, "weight", in.weight, "(channels, width)");
  check_given(function, "states", states, "(slots, width - 1, channels)");
  const Index rows = in.x.extent(0), channels = in.x.extent(1), width = in.weight.extent(1);
  if (width < 1) throw_shape(function, "weight", "of width 0", "at least one tap");
  check_shape(function, "weight", in.weight, std::array<Index, 2>{channels, width});
  check_optional_shape(function, "bias", in.bias, std::array<Index, 1>{channels});
  check_optional_shape(function, "slots", slots, std::array<Index, 1>{rows});
  check_output_shape(function, "states", states,
                     std::array<Index, 3>{slots ? states.extent(0) : rows, width - 1, channels});
  check_output_shape(function, "y", y, in.x.extents());
}

}  // namespace detail

template <class T>
void causal_conv_step(const Cuda& backend, const CausalConvStepInputs<T, Device>& inputs,
                      const CausalConvOptions& options,
                      const std::type_identity_t<View<T, 3, Device>>& states,
                      const std::type_identity_t<View<T, 2, Device>>& y,
                      const View<const Index, 1, Device>& slots) {
  using namespace kernels;
  using R = Arithmetic<T>;
  ssm::detail::check_device_step(inputs, states, y, slots);
  launch_elementwise(backend, "causal_conv_step", inputs.x.size(),
                     ConvStep<T>{Array<const T, 2>(inputs.x), Array<const R, 2>(inputs.weight),
                                 Array<const R, 1>(inputs.bias), Array<T, 3>(states),
                                 Array<T, 2>(y), Array<const Index, 1>(slots), inputs.x.extent(1),
                                 inputs.weight.extent(1), states.extent(0), options.silu});
}

}  // namespace ssm

#define SSM_CAUSAL_CONV(T)                                                                      \
  template void ssm::causal_conv(const Cuda&, const CausalConvInputs<T, Device>&,               \
                                 const CausalConvOptions&, const CausalConvOutputs<T, Device>&, \
                                 CausalConvScratch<T, Device>&);                                \
  template void ssm::causal_conv_backward(                                                      \
      const Cuda&, const CausalConvInputs<T, Device>&, const CausalConvOptions&,                \
      const CausalConvOutputGradients<T, Device>&, const CausalConvInputGradients<T, Device>&,  \
      CausalConvScratch<T, Device>&);                                                           \
  template void ssm::causal_conv_step(                                                          \
      const Cuda&, const CausalConvStepInputs<T, Device>&, const CausalConvOptions&,            \
      const View<T, 3, Device>&, const View<T, 2, Device>&, const View<const Index, 1, Device>&);
