#pragma once

#include <string>

#include "ssm/core/backend.hpp"
#include "ssm/core/elementwise.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/scan/selective_checks.hpp"

namespace ssm {

/// What the causal depthwise convolution reads. An absent view means: no such term.
template <class T>
struct CausalConvInputs {
  View<const T, 3> x;              ///< (batch, length, channels), channels adjacent
  View<const T, 2> weight;         ///< (channels, width), the last tap meets the present input
  View<const T, 1> bias;           ///< (channels), optional
  View<const T, 3> initial_state;  ///< (sequences, width − 1, channels), optional: the inputs
                                   ///< before the first, oldest first; zero when absent
  View<const Index, 1> offsets;    ///< (sequences + 1), optional: packed sequences, batch 1
};

struct CausalConvOptions {
  bool silu = false;      ///< y ← silu(y)
  bool reversed = false;  ///< time runs from the last step to the first
};

template <class T>
struct CausalConvOutputs {
  View<T, 3> y;            ///< (batch, length, channels)
  View<T, 3> final_state;  ///< (sequences, width − 1, channels), optional: the last inputs; may be
                           ///< the memory of the initial state
};

template <class T>
struct CausalConvOutputGradients {
  View<const T, 3> y;
  View<const T, 3> final_state;  ///< optional: zero when absent
};

/// Gradients that backward overwrites; absent ones are skipped.
template <class T>
struct CausalConvInputGradients {
  View<T, 3> x;
  View<T, 2> weight;
  View<T, 1> bias;
  View<T, 3> initial_state;
};

/// Scratch of the convolution, grown to its largest call.
template <class T>
struct CausalConvWorkspace {
  Tensor<T, 1> taps;        ///< (width, channels): the weight with its channels adjacent
  Tensor<T, 1> activation;  ///< (batch, length, channels): gradient before the activation
  Tensor<T, 1> partials;    ///< (pieces, width + 1, channels): shares of dweight and dbias
};

namespace detail {

/// The sequences of a convolution and the rows of its arrays by time.
template <class T>
class CausalConv {
 public:
  struct Position {
    Index sequence;
    SequenceSpan span;
    Index time;
  };

  CausalConv(const char* function, const CausalConvInputs<T>& inputs, bool reversed,
             CausalConvWorkspace<T>& workspace)
      : in(inputs),
        batch(inputs.x.extent(0)),
        length(inputs.x.extent(1)),
        channels(inputs.x.extent(2)),
        width(inputs.weight.extent(1)),
        sequences(inputs.offsets ? inputs.offsets.extent(0) - 1 : batch),
        reversed_(reversed) {
    if (width < 1) throw_shape(function, "weight", "of width 0", "at least one tap");
    check_shape<View<const T, 2>, 2>(function, "weight", in.weight, {channels, width});
    check_optional_shape<View<const T, 1>, 1>(function, "bias", in.bias, {channels});
    if (in.offsets) check_offsets(function, in.offsets, batch, length);
    check_optional_shape<View<const T, 3>, 3>(function, "initial_state", in.initial_state,
                                              {sequences, width - 1, channels});
    workspace.taps.resize({std::max(workspace.taps.size(), width * channels)});
    for (Index j = 0; j < width; ++j)
      for (Index c = 0; c < channels; ++c)
        workspace.taps.data()[j * channels + c] = in.weight(c, j);
    taps_ = workspace.taps.data();
  }

  [[nodiscard]] SequenceSpan span(Index sequence) const {
    if (in.offsets) return {0, in.offsets(sequence), in.offsets(sequence + 1)};
    return {sequence, 0, length};
  }

  /// Where row `row` of (batch · length) stands.
  [[nodiscard]] Position position(Index row) const {
    Index sequence = row / length, step = row % length;
    if (in.offsets) {
      sequence = 0;
      for (Index high = sequences; high - sequence > 1;) {
        const Index middle = (sequence + high) / 2;
        (in.offsets(middle) <= row ? sequence : high) = middle;
      }
      step = row;
    }
    const SequenceSpan s = span(sequence);
    return {sequence, s, reversed_ ? s.end - 1 - step : step - s.begin};
  }

  template <class U>
  [[nodiscard]] U* row(const View<U, 3>& view, const SequenceSpan& s, Index time) const {
    return view.data() + s.row * view.stride(0) + s.step(time, reversed_) * view.stride(1);
  }

  /// The input at `time`, from the initial state if before the start; null where it is zero.
  [[nodiscard]] const T* source(const Position& at, Index time) const {
    if (time >= 0) return row(in.x, at.span, time);
    if (!in.initial_state) return nullptr;
    return in.initial_state.data() + at.sequence * in.initial_state.stride(0) +
           (width - 1 + time) * in.initial_state.stride(1);
  }

  [[nodiscard]] auto tap(Index j) const { return array(taps_ + j * channels, channels); }

  /// y ← bias + Σ_j w_j x_{t − (width − 1) + j}, before any activation.
  void convolve(const Position& at, T* y) const {
    auto sum = array(y, channels);
    if (in.bias)
      sum = as_eigen(in.bias).array();
    else
      sum.setZero();
    for (Index j = 0; j < width; ++j)
      if (const T* x = source(at, at.time - (width - 1) + j)) sum += tap(j) * array(x, channels);
  }

  const CausalConvInputs<T>& in;
  const Index batch, length, channels, width, sequences;

 private:
  bool reversed_;
  const T* taps_;
};

}  // namespace detail

/// Causal depthwise convolution with bias:
///   y_t = b + Σ_j w_j x_{t−(width−1)+j}, j = 0 … width − 1, then silu if asked for.
/// The final state is the last width − 1 inputs, so that a sequence can be split anywhere.
/// Cost batch · length · channels · width. Throws ShapeError, DomainError.
template <class T>
void causal_conv_forward(const Cpu& backend, const CausalConvInputs<T>& in,
                         const CausalConvOptions& options, const CausalConvOutputs<T>& out,
                         CausalConvWorkspace<T>& workspace) {
  const char* function = "causal_conv_forward";
  const detail::CausalConv<T> conv(function, in, options.reversed, workspace);
  detail::check_shape<View<T, 3>, 3>(function, "y", out.y, in.x.extents());
  detail::check_optional_shape<View<T, 3>, 3>(function, "final_state", out.final_state,
                                              {conv.sequences, conv.width - 1, conv.channels});
  const detail::Pieces rows(conv.batch * conv.length, 32);
  parallel_for(backend, rows.pieces, [&](Index piece) {
    for (Index i = rows.begin(piece); i < rows.end(piece); ++i) {
      const auto at = conv.position(i);
      T* y = conv.row(out.y, at.span, at.time);
      conv.convolve(at, y);
      if (options.silu) detail::silu_in_place(y, conv.channels);
    }
  });
  if (!out.final_state) return;
  for (Index s = 0; s < conv.sequences; ++s) {
    const auto span = conv.span(s);
    for (Index i = 0; i < conv.width - 1; ++i) {  // ascending, so that a state may shift in place
      const T* x = conv.source({s, span, 0}, span.length() - (conv.width - 1) + i);
      for (Index c = 0; c < conv.channels; ++c) out.final_state(s, i, c) = x ? x[c] : T(0);
    }
  }
}

/// Gradients of causal_conv_forward: with g_t = ∂loss/∂y_t before the activation,
///   dx_t = Σ_j w_j g_{t+(width−1)−j}, dw_j = Σ_t g_t x_{t−(width−1)+j}, db = Σ_t g_t,
/// and the gradient of the final state added to the inputs that it holds.
/// Cost about three forward passes.
template <class T>
void causal_conv_backward(const Cpu& backend, const CausalConvInputs<T>& in,
                          const CausalConvOptions& options,
                          const CausalConvOutputGradients<T>& dout,
                          const CausalConvInputGradients<T>& din,
                          CausalConvWorkspace<T>& workspace) {
  const char* function = "causal_conv_backward";
  const detail::CausalConv<T> conv(function, in, options.reversed, workspace);
  const Index channels = conv.channels, width = conv.width;
  const std::array<Index, 3> states{conv.sequences, width - 1, channels};
  detail::check_shape<View<const T, 3>, 3>(function, "the gradient of y", dout.y, in.x.extents());
  detail::check_optional_shape<View<const T, 3>, 3>(function, "the gradient of final_state",
                                                    dout.final_state, states);
  detail::check_optional_shape<View<T, 3>, 3>(function, "the gradient of x", din.x, in.x.extents());
  detail::check_optional_shape<View<T, 2>, 2>(function, "the gradient of weight", din.weight,
                                              in.weight.extents());
  detail::check_optional_shape<View<T, 1>, 1>(function, "the gradient of bias", din.bias,
                                              {channels});
  detail::check_optional_shape<View<T, 3>, 3>(function, "the gradient of initial_state",
                                              din.initial_state, states);
  const detail::Pieces rows(conv.batch * conv.length, 32);

  View<const T, 3> g = dout.y;
  if (options.silu) {
    workspace.activation.resize({std::max(workspace.activation.size(), in.x.size())});
    const View<T, 3> activation(workspace.activation.data(), in.x.extents());
    parallel_for(backend, rows.pieces, [&](Index piece) {
      for (Index i = rows.begin(piece); i < rows.end(piece); ++i) {
        const auto at = conv.position(i);
        T* row = conv.row(activation, at.span, at.time);
        conv.convolve(at, row);
        detail::silu_backward_in_place(row, conv.row(dout.y, at.span, at.time), channels);
      }
    });
    g = activation;
  }

  // The gradient of the input at `time`, which may lie before the start, in the initial state.
  const auto input_gradient = [&](Index s, const detail::SequenceSpan& span, Index time, T* dx) {
    auto sum = detail::array(dx, channels);
    sum.setZero();
    for (Index j = 0; j < width; ++j) {
      const Index later = time + (width - 1) - j;
      if (later >= 0 && later < span.length())
        sum += conv.tap(j) * detail::array(conv.row(g, span, later), channels);
    }
    const Index kept = time - (span.length() - (width - 1));
    if (dout.final_state && kept >= 0)
      sum += detail::array(dout.final_state.data() + s * dout.final_state.stride(0) +
                               kept * dout.final_state.stride(1),
                           channels);
  };

  const Index share = (width + 1) * channels;
  workspace.partials.resize({std::max(workspace.partials.size(), rows.pieces * share)});
  parallel_for(backend, rows.pieces, [&](Index piece) {
    T* partial = workspace.partials.data() + piece * share;
    detail::array(partial, share).setZero();
    for (Index i = rows.begin(piece); i < rows.end(piece); ++i) {
      const auto at = conv.position(i);
      if (din.x) input_gradient(at.sequence, at.span, at.time, conv.row(din.x, at.span, at.time));
      const auto g_row = detail::array(conv.row(g, at.span, at.time), channels);
      for (Index j = 0; j < width; ++j)
        if (const T* x = conv.source(at, at.time - (width - 1) + j))
          detail::array(partial + j * channels, channels) += g_row * detail::array(x, channels);
      detail::array(partial + width * channels, channels) += g_row;
    }
  });
  for (Index piece = 1; piece < rows.pieces; ++piece)
    detail::array(workspace.partials.data(), share) +=
        detail::array(workspace.partials.data() + piece * share, share);
  const T* total = workspace.partials.data();
  for (Index c = 0; c < channels; ++c) {
    for (Index j = 0; din.weight && j < width; ++j) din.weight(c, j) = total[j * channels + c];
    if (din.bias) din.bias(c) = total[width * channels + c];
  }
  if (!din.initial_state) return;
  for (Index s = 0; s < conv.sequences; ++s)
    for (Index i = 0; i < width - 1; ++i)
      input_gradient(s, conv.span(s), i - (width - 1),
                     din.initial_state.data() + s * din.initial_state.stride(0) +
                         i * din.initial_state.stride(1));
}

/// One step: y (batch, channels) from x (batch, channels), the state moved on in place.
/// Does not allocate, throw or start a thread. Shapes are asserted.
template <class T>
void causal_conv_step(const View<const T, 2>& x, const View<const T, 2>& weight,
                      const View<const T, 1>& bias, const CausalConvOptions& options,
                      const View<T, 3>& state, const View<T, 2>& y) noexcept {
  const Index channels = x.extent(1), width = weight.extent(1);
  for (Index b = 0; b < x.extent(0); ++b) {
    T* out = y.data() + b * y.stride(0);
    for (Index c = 0; c < channels; ++c) {
      T sum = bias ? bias(c) : T(0);
      const T* w = weight.data() + c * weight.stride(0);
      T* past = state.data() + b * state.stride(0) + c * state.stride(2);
      const T now = x(b, c);
      for (Index j = 0; j + 1 < width; ++j) {
        T& slot = past[j * state.stride(1)];
        sum += w[j * weight.stride(1)] * slot;
        slot = j + 2 < width ? past[(j + 1) * state.stride(1)] : now;
      }
      out[c] = sum + w[(width - 1) * weight.stride(1)] * now;
    }
    if (options.silu) detail::silu_in_place(out, channels);
  }
}

}  // namespace ssm
