#pragma once

#include "causal_conv_runs.hpp"
#include "scratch.hpp"

namespace ssm {
namespace kernels {

// Convolutions of any width, an element a thread; causal_conv_runs.hpp has those of two to four
// taps.

/// Row, position and channel of the i-th element of a sequence array.
template <class T>
SSM_DEVICE void place_element(const ConvArguments<T>& in, Index i, Index& row, Index& position,
                              Index& c) {
  c = i % in.channels;
  position = i / in.channels % in.sequences.length;
  row = i / in.channels / in.sequences.length;
}

/// One thread an element of y.
template <class T>
struct ConvElements {
  ConvArguments<T> in;
  Array<T, 3> y;

  SSM_DEVICE void operator()(Index i) const {
    using R = Arithmetic<T>;
    Index row, position, c;
    place_element(in, i, row, position, c);
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
    place_element(in, i, row, position, c);
    g[i] = in.pre_gradient(dy, row, in.sequence_of(position), position, c);
  }
};

/// What an input at position i of sequence k, or of the state before it, gains: from the outputs
/// that saw it, whose gradients before the activation are g(t), and from the final state.
template <class T, class Gradient>
SSM_DEVICE Arithmetic<T> conv_input_gradient(const ConvArguments<T>& in, const Gradient& g,
                                             const Array<const T, 3>& dfinal, Index row, Index k,
                                             Index i, Index c) {
  const Index start = in.sequences.start(k), end = in.end_of(k), past = in.width - 1;
  Arithmetic<T> total = in.final_gradient(dfinal, row, k, i, c);
  for (Index t = i < start ? start : i; t <= i + past && t < end; ++t)
    total += in.weight(c, past - (t - i)) * g(t);
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
    place_element(in, i, row, position, c);
    const auto gradient = [&](Index t) {
      return g[(row * in.sequences.length + t) * in.channels + c];
    };
    dx(row, position, c) = narrow_to<T>(
        conv_input_gradient(in, gradient, dfinal, row, in.sequence_of(position), position, c));
  }
};

/// One thread an element (sequence, past, channel).
template <class T>
struct ConvStateGradient {
  ConvArguments<T> in;
  Array<const T, 3> dy, dfinal;
  Array<T, 3> dinitial;

  SSM_DEVICE void operator()(Index i) const {
    const Index past = in.width - 1;
    const Index c = i % in.channels, j = i / in.channels % past, s = i / in.channels / past;
    Index row, k;
    in.place_sequence(s, row, k);
    const auto gradient = [&](Index t) { return in.pre_gradient(dy, row, k, t, c); };
    dinitial(s, j, c) = narrow_to<T>(
        conv_input_gradient(in, gradient, dfinal, row, k, in.sequences.start(k) - past + j, c));
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
    SSM_UNROLL_BY(16)
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

/// Whether a thread may move two adjacent channels of an array at once.
template <class T>
bool has_adjacent(const Array<T, 3>& array) {
  return !array.present ||
         (array.stride[2] == 1 && array.stride[0] % 2 == 0 && array.stride[1] % 2 == 0 &&
          reinterpret_cast<std::uintptr_t>(array.data) % (2 * sizeof(T)) == 0);
}

/// Calls body with the taps and the channels of a thread where the convolution is of few taps, and
/// returns whether it did.
template <class T, class Body>
bool with_taps(Index width, bool adjacent, const Body& body) {
  using std::integral_constant;
  if constexpr (sizeof(T) == 2)
    if (width == 4 && adjacent)
      return body(integral_constant<int, 4>(), integral_constant<int, 2>()), true;
  if (width == 4) return body(integral_constant<int, 4>(), integral_constant<int, 1>()), true;
  if (width == 3) return body(integral_constant<int, 3>(), integral_constant<int, 1>()), true;
  if (width == 2) return body(integral_constant<int, 2>(), integral_constant<int, 1>()), true;
  return false;
}

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
  const Array<T, 3> y(outputs.y, inputs.sequences);
  const bool adjacent = in.channels % 2 == 0 && has_adjacent(in.x) && has_adjacent(y);
  const bool few = with_taps<T>(in.width, adjacent, [&](auto width, auto channels) {
    constexpr Index run_steps = 32;
    const ConvShape shape(in.rows, in.sequences.length, in.channels, channels(), run_steps);
    launch(backend, function, shape.blocks, ConvShape::threads, 0,
           ConvForward<T, width(), channels()>{in, shape, y});
  });
  if (!few) launch_elementwise(backend, function, inputs.x.size(), ConvElements<T>{in, y});
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
  const ConvArguments<T> in(inputs, options);
  const Sequences<Device>& time = inputs.sequences;
  const Array<const T, 3> dy(output_gradients.y, time);
  const Array<T, 3> dx(din.x, time);
  const bool few = in.width >= 2 && in.width <= 4, of_taps = din.weight || din.bias;
  const Index piece_steps = few ? 128 : 256;
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
    return Arrays{few ? nullptr : s.array<R>(inputs.x.size()),
                  of_taps ? s.array<R>(pieces * taps) : nullptr,
                  overwritten ? s.array<T>(din.initial_state.size()) : nullptr};
  });
  const Array<const T, 3> dfinal =
      overwritten ? copy_elements(backend, function, output_gradients.final_state, arrays.dfinal)
                  : Array<const T, 3>(output_gradients.final_state);
  const bool adjacent =
      in.channels % 2 == 0 && has_adjacent(in.x) && has_adjacent(dy) && has_adjacent(dx);
  with_taps<T>(in.width, adjacent, [&](auto width, auto channels) {
    const ConvShape shape(in.rows, in.sequences.length, in.channels, channels(), piece_steps);
    launch(backend, function, shape.blocks, ConvShape::threads, 0,
           ConvBackward<T, width(), channels()>{in, shape, dy, dfinal, dx, arrays.shares});
  });
  if (!few) {
    launch_elementwise(backend, function, inputs.x.size(), ConvPreGradient<T>{in, dy, arrays.g});
    if (din.x)
      launch_elementwise(backend, function, din.x.size(),
                         ConvInputGradient<T>{in, arrays.g, dfinal, dx});
    if (of_taps)
      launch_elementwise(backend, function, pieces * taps,
                         ConvWeightShares<T>{in, arrays.g, arrays.shares, piece_steps, row_pieces});
  }
  if (of_taps)
    launch_elementwise(backend, function, taps,
                       ConvSumShares<T>{arrays.shares, pieces, in.channels, in.width,
                                        Array<R, 2>(din.weight), Array<R, 1>(din.bias)});
  if (din.initial_state)
    launch_elementwise(backend, function, din.initial_state.size(),
                       ConvStateGradient<T>{in, dy, dfinal, Array<T, 3>(din.initial_state)});
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
