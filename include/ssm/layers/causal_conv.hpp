#pragma once

#include <algorithm>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/causal_conv_types.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Row i of the state of sequence s; null if the state is absent.
template <class T>
[[nodiscard]] T* state_row(const View<T, 3>& view, Index s, Index i) noexcept {
  return view ? view.data() + s * view.stride(0) + i * view.stride(1) : nullptr;
}

/// The sequences of a convolution, and the rows of its arrays by time.
template <class T>
class CausalConv {
 public:
  struct Position {
    Index sequence;
    SequenceSpan span;
    Index time;
  };
  /// Rows that follow each other in time.
  struct Window {
    const T* first;
    Index step;

    [[nodiscard]] const T* operator[](Index i) const noexcept { return first + i * step; }
  };

  CausalConv(const char* function, const CausalConvInputs<T>& inputs, CausalConvScratch<T>& scratch)
      : in(inputs),
        batch(inputs.x.extent(0)),
        length(inputs.x.extent(1)),
        channels(inputs.x.extent(2)),
        width(inputs.weight.extent(1)),
        sequences(inputs.sequences.count(batch)),
        reversed_(inputs.sequences.reversed) {
    check_causal_conv(function, in);
    check_adjacent(function, "x", in.x);
    check_adjacent(function, "weight", in.weight);
    check_adjacent(function, "bias", in.bias);
    check_adjacent(function, "initial_state", in.initial_state);
    fill_taps(scratch.taps);
    fill_heads(scratch.heads);
  }

  [[nodiscard]] SequenceSpan span(Index sequence) const {
    return span_of(in.sequences, sequence, length);
  }

  /// Where row `row` of (batch · length) stands.
  [[nodiscard]] Position position(Index row) const {
    Index sequence = row / length, step = row % length;
    if (in.sequences.offsets) {
      sequence = 0;
      for (Index high = sequences; high - sequence > 1;) {
        const Index middle = (sequence + high) / 2;
        (in.sequences.offsets(middle) <= row ? sequence : high) = middle;
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

  /// The inputs from `time` − (width − 1) to `time`, those before the start from the initial state.
  [[nodiscard]] Window inputs(const Position& at) const {
    if (at.time >= width - 1)
      return {row(in.x, at.span, at.time - (width - 1)),
              reversed_ ? -in.x.stride(1) : in.x.stride(1)};
    return {heads_ + (at.sequence * 2 * (width - 1) + at.time) * channels, channels};
  }

  [[nodiscard]] const T* tap(Index j) const { return taps_ + j * channels; }

  /// y ← f(bias + Σ_j w_j x_{t−(width−1)+j}, c, n) for the n channels from c on of a row.
  template <class F>
  [[gnu::always_inline]] void convolve(const Position& at, T* y, F&& f) const {
    const Window x = inputs(at);
    for_each_vector<T>(channels, [&](Index c, Index n) {
      auto sum = Vec<T>::load(tap(width) + c, n);
      for (Index j = 0; j < width; ++j)
        sum = fma(Vec<T>::load(tap(j) + c, n), Vec<T>::load(x[j] + c, n), sum);
      f(sum, c, n).store(y + c, n);
    });
  }

  /// shares (width + 1, channels) += what g_t adds to dweight and dbias.
  void add_shares(const Position& at, const T* g, T* shares) const {
    const Window x = inputs(at);
    for_each_vector<T>(channels, [&](Index c, Index n) {
      const auto gradient = Vec<T>::load(g + c, n);
      T* sum = shares + c;
      for (Index j = 0; j < width; ++j, sum += channels)
        fma(gradient, Vec<T>::load(x[j] + c, n), Vec<T>::load(sum, n)).store(sum, n);
      (Vec<T>::load(sum, n) + gradient).store(sum, n);
    });
  }

  const CausalConvInputs<T>& in;
  const Index batch, length, channels, width, sequences;

 private:
  void fill_taps(Tensor<T, 1>& taps) {
    taps.resize({(std::max)(taps.size(), (width + 1) * channels)});
    T* tap = taps.data();
    for (Index j = 0; j < width; ++j)
      for (Index c = 0; c < channels; ++c) *tap++ = in.weight(c, j);
    for (Index c = 0; c < channels; ++c) *tap++ = in.bias ? in.bias(c) : T(0);
    taps_ = taps.data();
  }

  void fill_heads(Tensor<T, 1>& heads) {
    const Index past = width - 1;
    heads.resize({(std::max)(heads.size(), sequences * 2 * past * channels)});
    T* head = heads.data();
    for (Index s = 0; s < sequences; ++s) {
      const SequenceSpan steps = span(s);
      for (Index i = 0; i < past; ++i)
        for (Index c = 0; c < channels; ++c)
          *head++ = in.initial_state ? in.initial_state(s, i, c) : T(0);
      for (Index i = 0; i < past; ++i, head += channels)
        if (i < steps.length()) std::copy_n(row(in.x, steps, i), channels, head);
    }
    heads_ = heads.data();
  }

  bool reversed_;
  const T* taps_ = nullptr;
  const T* heads_ = nullptr;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The causal depthwise convolution (every channel by itself) with bias:
///
///   y_t = b + Σ_j w_j x_{t−(width−1)+j},  j = 0 … width − 1,  then y_t ← silu(y_t) if
///   options.silu.
///
/// The final state is the last width − 1 inputs, so that a sequence can be split anywhere.
/// Cost: batch · length · channels · width multiply-adds.
/// @throws ShapeError for extents that do not fit, channels that are not adjacent, and a y in the
///   memory of an input; DomainError for offsets that do not cut x into sequences
template <class T>
void causal_conv(const Cpu& backend, const CausalConvInputs<T>& inputs,
                 const CausalConvOptions& options, const CausalConvOutputs<T>& outputs,
                 CausalConvScratch<T>& scratch) {
  using Vec = detail::Vec<T>;
  const char* function = "causal_conv";
  const auto& out = outputs;
  const detail::CausalConv<T> conv(function, inputs, scratch);
  detail::check_causal_conv_outputs(function, inputs, out);
  detail::check_adjacent(function, "y", out.y);
  detail::check_adjacent(function, "final_state", out.final_state);
  const detail::Pieces rows(conv.batch * conv.length, 32);
  parallel_for(for_elements(backend, inputs.x.size()), rows.pieces, [&](Index piece) {
    for (Index i = rows.begin(piece); i < rows.end(piece); ++i) {
      const auto at = conv.position(i);
      T* y = conv.row(out.y, at.span, at.time);
      if (options.silu)
        conv.convolve(at, y, [](Vec sum, Index, Index) { return sum * detail::sigmoid(sum); });
      else
        conv.convolve(at, y, [](Vec sum, Index, Index) { return sum; });
    }
  });
  if (!out.final_state || conv.width == 1) return;
  for (Index s = 0; s < conv.sequences; ++s) {
    const auto span = conv.span(s);
    const auto last = conv.inputs({s, span, span.length()});  // one past the end reads back from it
    for (Index i = 0; i < conv.width - 1; ++i)
      for (Index c = 0; c < conv.channels; ++c) out.final_state(s, i, c) = last[i][c];
  }
}

/// The gradients of causal_conv. With g_t the gradient with respect to y_t before silu,
///
///   dx_t = Σ_j w_j g_{t+(width−1)−j},  dw_j = Σ_t g_t x_{t−(width−1)+j},  db = Σ_t g_t,
///
/// and the gradient of the final state is added to those of the inputs that it holds.
/// Cost: about three forward passes.
/// @throws ShapeError and DomainError as causal_conv; ShapeError for a gradient in the memory of
///   another argument where CausalConvInputGradients does not allow it
template <class T>
void causal_conv_backward(const Cpu& backend, const CausalConvInputs<T>& inputs,
                          const CausalConvOptions& options,
                          const CausalConvOutputGradients<T>& output_gradients,
                          const CausalConvInputGradients<T>& input_gradients,
                          CausalConvScratch<T>& scratch) {
  using Vec = detail::Vec<T>;
  const char* function = "causal_conv_backward";
  const auto& dout = output_gradients;
  const auto& din = input_gradients;
  const detail::CausalConv<T> conv(function, inputs, scratch);
  const Index channels = conv.channels, width = conv.width;
  detail::check_causal_conv_gradients(function, inputs, dout, din);
  detail::check_adjacent(function, "the gradient of y", dout.y);
  detail::check_adjacent(function, "the gradient of final_state", dout.final_state);
  detail::check_adjacent(function, "the gradient of x", din.x);
  detail::check_adjacent(function, "the gradient of weight", din.weight);
  detail::check_adjacent(function, "the gradient of bias", din.bias);
  detail::check_adjacent(function, "the gradient of initial_state", din.initial_state);

  const Index past = width - 1, share = (width + 1) * channels, ring = width * channels;
  // In place, the gradient of the initial state would be written before that of the final state of
  // a later piece is read.
  View<const T, 3> dfinals = dout.final_state;
  if (detail::overlap(din.initial_state, dfinals)) {
    scratch.dfinals.resize(dfinals.extents());
    for (Index s = 0; s < conv.sequences; ++s)
      for (Index i = 0; i < past; ++i)
        std::copy_n(detail::state_row(dfinals, s, i), channels, &scratch.dfinals(s, i, 0));
    dfinals = scratch.dfinals;
  }
  // Inputs of times [begin, end) of a sequence, in the order of time: g_t goes into a ring of rows,
  // and once the last g that saw an input is there, so is the gradient of that input.
  const auto run = [&](Index s, const detail::SequenceSpan& span, Index begin, Index end,
                       T* partial) {
    const auto g = [&](Index t) { return partial + share + t % width * channels; };
    for (Index t = begin; t < end + past; ++t) {
      if (t < span.length()) {
        const typename detail::CausalConv<T>::Position at{s, span, t};
        const T* dy = conv.row(dout.y, span, t);
        if (options.silu)
          conv.convolve(at, g(t), [&](Vec x, Index c, Index n) {
            const Vec sigma = detail::sigmoid(x);
            return Vec::load(dy + c, n) * sigma * fma(x, Vec(T(1)) - sigma, Vec(T(1)));
          });
        else
          std::copy_n(dy, channels, g(t));
        if (t < end) conv.add_shares(at, g(t), partial);
      }
      const Index done = t - past;
      if (done >= end || (done < begin && begin > 0)) continue;
      T* dx = done < 0 ? detail::state_row(din.initial_state, s, past + done)
                       : (din.x ? conv.row(din.x, span, done) : nullptr);
      if (!dx) continue;
      const Index kept = done - (span.length() - past);
      const T* dfinal = kept < 0 ? nullptr : detail::state_row(dfinals, s, kept);
      detail::for_each_vector<T>(channels, [&](Index c, Index n) {
        auto sum = dfinal ? Vec::load(dfinal + c, n) : Vec(T(0));
        for (Index u = (std::max<Index>)(done, 0); u < (std::min)(done + width, span.length()); ++u)
          sum = fma(Vec::load(conv.tap(done + past - u) + c, n), Vec::load(g(u) + c, n), sum);
        sum.store(dx + c, n);
      });
    }
  };

  const detail::Pieces rows(conv.batch * conv.length, 32);
  scratch.partials.resize({(std::max)(scratch.partials.size(), rows.pieces * (share + ring))});
  parallel_for(for_elements(backend, inputs.x.size(), 1.0), rows.pieces, [&](Index piece) {
    T* partial = scratch.partials.data() + piece * (share + ring);
    std::fill_n(partial, share, T(0));
    for (Index i = rows.begin(piece); i < rows.end(piece);) {
      const auto at = conv.position(i);
      const Index count = (std::min)(rows.end(piece), at.span.row * conv.length + at.span.end) - i;
      const Index begin = inputs.sequences.reversed ? at.time - (count - 1) : at.time;
      run(at.sequence, at.span, begin, begin + count, partial);
      i += count;
    }
  });
  for (Index s = 0; s < conv.sequences; ++s)  // without a step, the final state is the initial one
    if (conv.span(s).length() == 0) run(s, conv.span(s), 0, 0, scratch.partials.data());

  for (Index piece = 1; piece < rows.pieces; ++piece)
    detail::array(scratch.partials.data(), share) +=
        detail::array(scratch.partials.data() + piece * (share + ring), share);
  const T* total = scratch.partials.data();
  for (Index c = 0; c < channels; ++c) {
    for (Index j = 0; din.weight && j < width; ++j) din.weight(c, j) = total[j * channels + c];
    if (din.bias) din.bias(c) = total[width * channels + c];
  }
}

/// One step of causal_conv on the calling thread, without allocation. Arguments that do not fit end
/// the program with an error message.
/// @param state (batch, width − 1, channels), updated
/// @param y (batch, channels), written; may be the memory of x
template <class T>
void causal_conv_step(const CausalConvStepInputs<T>& inputs, const CausalConvOptions& options,
                      const std::type_identity_t<View<T, 3>>& state,
                      const std::type_identity_t<View<T, 2>>& y) noexcept {
  detail::check_or_terminate(
      [&] { detail::check_causal_conv_step<T>("causal_conv_step", inputs, state, y); });
  const auto& [x, weight, bias] = inputs;
  const Index channels = x.extent(1), width = weight.extent(1);
  for (Index b = 0; b < x.extent(0); ++b) {
    T* out = y.data() + b * y.stride(0);
    for (Index c = 0; c < channels; ++c) {
      T sum = bias ? bias(c) : T(0);
      const T* w = weight.data() + c * weight.stride(0);
      T* past = width > 1 ? &state(b, 0, c) : nullptr;
      const T now = x(b, c);
      for (Index j = 0; j + 1 < width; ++j) {
        T& slot = past[j * state.stride(1)];
        sum += w[j * weight.stride(1)] * slot;
        slot = j + 2 < width ? past[(j + 1) * state.stride(1)] : now;
      }
      out[c] = sum + w[(width - 1) * weight.stride(1)] * now;
    }
    if (options.silu)
      detail::for_each_vector<T>(channels, [&](Index c, Index n) {
        const auto sum = detail::Vec<T>::load(out + c, n);
        (sum * detail::sigmoid(sum)).store(out + c, n);
      });
  }
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(causal_conv, CausalConv, float)
SSM_INSTANCE_OPERATION(causal_conv, CausalConv, double)
SSM_INSTANCE void causal_conv_step(const CausalConvStepInputs<float>&, const CausalConvOptions&,
                                   const View<float, 3>&, const View<float, 2>&) noexcept;
SSM_INSTANCE void causal_conv_step(const CausalConvStepInputs<double>&, const CausalConvOptions&,
                                   const View<double, 3>&, const View<double, 2>&) noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
