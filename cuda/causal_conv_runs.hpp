#pragma once

#include "arrays.hpp"
#include "launch.hpp"
#include "math.hpp"
#include "row_sequences.hpp"
#include "ssm/cuda/causal_conv.hpp"

namespace ssm::kernels {

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
  SSM_DEVICE R bias_of(Index c) const { return bias.present ? bias(c) : R(0); }
  SSM_DEVICE R sum(Index row, Index k, Index i, Index c) const {
    R total = bias_of(c);
    for (Index j = 0; j < width; ++j) total += weight(c, j) * input(row, k, i - (width - 1) + j, c);
    return total;
  }
  /// ∂loss/∂(y before its activation).
  SSM_DEVICE R pre_gradient(const Array<const T, 3>& dy, Index row, Index k, Index i,
                            Index c) const {
    const R gradient = widen(dy(row, i, c));
    return silu ? gradient * Silu<R>(sum(row, k, i, c)).slope : gradient;
  }
  /// What the input at position i of sequence k, or of the state before it, gains from the final
  /// state if that holds it.
  SSM_DEVICE R final_gradient(const Array<const T, 3>& dfinal, Index row, Index k, Index i,
                              Index c) const {
    const Index end = end_of(k), past = width - 1;
    return dfinal.present && i >= end - past && i < end
               ? R(widen(dfinal(sequences.number(row, k), i - (end - past), c)))
               : R(0);
  }
};

/// How rows are cut into runs of steps: a thread has `at_once` adjacent channels of one run, and
/// neighbouring threads neighbouring ones.
struct ConvShape {
  static constexpr int threads = 128;
  Index run_steps;
  std::uint32_t panels, row_runs;  ///< 32 bits, as dividing 64 takes a hundred instructions
  Index blocks;

  ConvShape(Index rows, Index length, Index channels, int at_once, Index steps)
      : run_steps(steps),
        panels(
            static_cast<std::uint32_t>((channels + threads * at_once - 1) / (threads * at_once))),
        row_runs(static_cast<std::uint32_t>((length + run_steps - 1) / run_steps)),
        blocks(rows * static_cast<Index>(panels) * static_cast<Index>(row_runs)) {}
};

/// Which channels and steps a thread has.
struct ConvPlace {
  Index channel, row, run, begin, end;

  SSM_DEVICE ConvPlace(const Block& block, const ConvShape& shape, int at_once, Index length) {
    const std::uint32_t index = static_cast<std::uint32_t>(block.index());
    const std::uint32_t over = index / shape.panels;
    channel = static_cast<Index>(index % shape.panels * ConvShape::threads +
                                 static_cast<std::uint32_t>(block.thread())) *
              at_once;
    row = over / shape.row_runs;
    run = over % shape.row_runs;
    begin = run * shape.run_steps;
    end = begin + shape.run_steps < length ? begin + shape.run_steps : length;
  }
};

/// `Channels` adjacent elements at a time, from memory or to it.
template <int Channels, class T>
SSM_DEVICE auto load_adjacent(const T* from) {
  if constexpr (Channels == 1)
    return Pack<T, 1>{*from};
  else
    return load_words<Channels>(from);
}
template <class T, int Channels, class R>
SSM_DEVICE void store_adjacent(T* to, const Pack<R, Channels>& x) {
  if constexpr (Channels == 1)
    *to = narrow_to<T>(x[0]);
  else
    store_pack(to, narrow_pair<T>(x[0], x[1]));
}

template <class R, int Channels, class Elements>
SSM_DEVICE void widen_into(Pack<R, Channels>& to, const Elements& from) {
  SSM_UNROLL
  for (int i = 0; i < Channels; ++i) to[i] = widen(from[i]);
}

/// Sets the e-th element, counted by constants alone, as registers have no index.
template <class R, int Channels, int Width>
SSM_DEVICE void put_at(Pack<R, Channels> (&to)[Width], int e, R value) {
  SSM_UNROLL
  for (int j = 0; j < Width * Channels; ++j)
    if (j == e) to[j / Channels][j % Channels] = value;
}

/// The Width − 1 inputs before position t of sequence k, the oldest first.
template <int Channels, class T, int Width>
SSM_DEVICE void load_window(const ConvArguments<T>& in, const ConvPlace& at, Index k, Index t,
                            Pack<Arithmetic<T>, Channels> (&window)[Width]) {
  if (t - in.sequences.start(k) >= Width - 1) {
    decltype(load_adjacent<Channels>(in.x.data)) past[Width];
    SSM_UNROLL
    for (int j = 0; j + 1 < Width; ++j)
      past[j] = load_adjacent<Channels>(&in.x(at.row, t - (Width - 1) + j, at.channel));
    SSM_UNROLL
    for (int j = 0; j + 1 < Width; ++j) SSM_UNROLL
    for (int i = 0; i < Channels; ++i) window[j][i] = widen(past[j][i]);
    return;
  }
  SSM_UNROLL_BY(1)
  for (int e = 0; e < (Width - 1) * Channels; ++e)
    put_at(window, e,
           in.input(at.row, k, t - (Width - 1) + e / Channels, at.channel + e % Channels));
}

/// Convolution by `Width` taps: the last inputs and the taps stay in registers, so that a step
/// takes one load, a multiply-add a tap, and one store. The inputs of the next steps are loaded
/// before the outputs of these are stored.
template <class T, int Width, int Channels>
struct ConvForward {
  using R = Arithmetic<T>;
  static constexpr int most_threads = ConvShape::threads;
  static constexpr int ahead = 8;

  ConvArguments<T> in;
  ConvShape shape;
  Array<T, 3> y;

  SSM_DEVICE void operator()(Block& block) const {
    const ConvPlace at(block, shape, Channels, in.sequences.length);
    if (at.channel >= in.channels) return;
    Pack<R, Channels> taps[Width], bias;
    SSM_UNROLL
    for (int i = 0; i < Channels; ++i) {
      bias[i] = in.bias_of(at.channel + i);
      SSM_UNROLL
      for (int j = 0; j < Width; ++j) taps[j][i] = in.weight(at.channel + i, j);
    }
    for (Index t = at.begin, stop; t < at.end; t = stop) {
      const Index k = in.sequence_of(t);
      stop = in.end_of(k) < at.end ? in.end_of(k) : at.end;
      if (in.silu)
        scan<true>(at, k, t, stop, taps, bias);
      else
        scan<false>(at, k, t, stop, taps, bias);
    }
  }

 private:
  template <bool WithSilu>
  SSM_DEVICE void scan(const ConvPlace& at, Index k, Index t, Index stop,
                       const Pack<R, Channels> (&taps)[Width],
                       const Pack<R, Channels>& bias) const {
    const T* from = &in.x(at.row, t, at.channel);
    T* to = &y(at.row, t, at.channel);
    decltype(load_adjacent<Channels>(from)) next[ahead], now[ahead];
    const auto load = [&] {
      SSM_UNROLL
      for (int s = 0; s < ahead; ++s, from += in.x.stride[1])
        next[s] = load_adjacent<Channels>(from);
    };
    Index left = stop - t;
    if (left >= ahead) load();
    Pack<R, Channels> window[Width];  // the last Width - 1 inputs, the oldest first
    load_window<Channels>(in, at, k, t, window);
    const auto step = [&](const auto& now) {
      Pack<R, Channels> out;
      SSM_UNROLL
      for (int i = 0; i < Channels; ++i) {
        window[Width - 1][i] = widen(now[i]);
        R sum = bias[i];
        SSM_UNROLL
        for (int j = 0; j < Width; ++j) sum += taps[j][i] * window[j][i];
        out[i] = WithSilu ? silu(sum) : sum;
      }
      SSM_UNROLL
      for (int j = 0; j + 1 < Width; ++j) window[j] = window[j + 1];
      store_adjacent(to, out);
      to += y.stride[1];
    };
    for (; left >= ahead; left -= ahead) {
      SSM_UNROLL
      for (int s = 0; s < ahead; ++s) now[s] = next[s];
      if (left >= 2 * ahead) load();
      SSM_UNROLL
      for (int s = 0; s < ahead; ++s) step(now[s]);
    }
    for (; left > 0; --left, from += in.x.stride[1]) step(load_adjacent<Channels>(from));
  }
};

/// The gradients by `Width` taps, walked from the end of a run: ∂loss/∂(y before its activation) at
/// the last steps stays in registers beside the inputs, and no array of it is kept.
template <class T, int Width, int Channels>
struct ConvBackward {
  using R = Arithmetic<T>;
  static constexpr int most_threads = ConvShape::threads;
  static constexpr int ahead = 4;
  using Few = Pack<R, Channels>;

  ConvArguments<T> in;
  ConvShape shape;
  Array<const T, 3> dy, dfinal;
  Array<T, 3> dx;
  R* shares;  ///< (rows, runs, Width + 1, channels) of the gradients of taps and bias, optional

  SSM_DEVICE void operator()(Block& block) const {
    const ConvPlace at(block, shape, Channels, in.sequences.length);
    if (at.channel >= in.channels) return;
    Run run{};
    SSM_UNROLL
    for (int i = 0; i < Channels; ++i) {
      run.bias[i] = in.bias_of(at.channel + i);
      SSM_UNROLL
      for (int j = 0; j < Width; ++j) run.taps[j][i] = in.weight(at.channel + i, j);
    }
    for (Index stop = at.end; stop > at.begin;) {
      const Index k = in.sequence_of(stop - 1), start = in.sequences.start(k);
      const Index from = start > at.begin ? start : at.begin;
      if (in.silu)
        walk<true>(at, k, from, stop, run);
      else
        walk<false>(at, k, from, stop, run);
      stop = from;
    }
    if (shares == nullptr) return;
    R* to = shares + (at.row * shape.row_runs + at.run) * (Width + 1) * in.channels + at.channel;
    SSM_UNROLL
    for (int i = 0; i < Channels; ++i) {
      SSM_UNROLL
      for (int j = 0; j < Width; ++j) to[j * in.channels + i] = run.dtaps[j][i];
      to[Width * in.channels + i] = run.dbias[i];
    }
  }

 private:
  struct Run {
    Few taps[Width], bias, dtaps[Width], dbias;
  };

  template <bool WithSilu>
  SSM_DEVICE void walk(const ConvPlace& at, Index k, Index from, Index stop, Run& run) const {
    const Index start = in.sequences.start(k), end = in.end_of(k);
    Few g[Width];  // at a step and those after it
    SSM_UNROLL_BY(1)
    for (int e = 0; e < (Width - 1) * Channels; ++e) {
      const Index t = stop + e / Channels;
      put_at(g, e, t < end ? in.pre_gradient(dy, at.row, k, t, at.channel + e % Channels) : R(0));
    }
    Few window[Width];  // the inputs that a step sees
    load_window<Channels>(in, at, k, stop - 1, window);
    const T* last = &in.x(at.row, stop - 1, at.channel);
    widen_into(window[Width - 1], load_adjacent<Channels>(last));
    const T* x_at = last - Width * in.x.stride[1];
    const T* dy_at = &dy(at.row, stop - 1, at.channel);
    T* dx_at = dx.present ? &dx(at.row, stop - 1, at.channel) : nullptr;
    using Loaded = decltype(load_adjacent<Channels>(last));

    const auto step = [&](auto in_final_state, Index t, const Few& dy_now, const Few& before) {
      SSM_UNROLL
      for (int j = Width - 1; j > 0; --j) g[j] = g[j - 1];
      Few out;
      SSM_UNROLL
      for (int i = 0; i < Channels; ++i) {
        R sum = run.bias[i], now = dy_now[i];
        SSM_UNROLL
        for (int j = 0; j < Width; ++j) sum += run.taps[j][i] * window[j][i];
        if (WithSilu) now *= Silu<R>(sum).slope;
        g[0][i] = now;
        run.dbias[i] += now;
        out[i] = 0;
        if constexpr (decltype(in_final_state)::value)
          out[i] = in.final_gradient(dfinal, at.row, k, t, at.channel + i);
        SSM_UNROLL
        for (int j = 0; j < Width; ++j) {
          run.dtaps[j][i] += now * window[j][i];
          out[i] += run.taps[Width - 1 - j][i] * g[j][i];
        }
      }
      SSM_UNROLL
      for (int j = Width - 1; j > 0; --j) window[j] = window[j - 1];
      window[0] = before;
      if (dx_at == nullptr) return;
      store_adjacent(dx_at, out);
      dx_at -= dx.stride[1];
    };

    Index t = stop - 1;
    const auto one_by_one = [&](Index until) {
      SSM_UNROLL_BY(1)
      for (; t >= until; --t, dy_at -= dy.stride[1], x_at -= in.x.stride[1]) {
        Few wide_dy, before{};
        widen_into(wide_dy, load_adjacent<Channels>(dy_at));
        SSM_UNROLL
        for (int i = 0; i < Channels; ++i)
          if (t > from) before[i] = in.input(at.row, k, t - Width, at.channel + i);
        step(std::true_type(), t, wide_dy, before);
      }
    };
    // Between what the final state holds and what sees the initial one, no step has a branch.
    const Index plain = start + Width > from ? start + Width : from, held = end - (Width - 1);
    one_by_one(held > from ? held : from);
    Loaded next_x[ahead], next_dy[ahead], x_now[ahead], dy_now[ahead];
    const auto load = [&] {
      SSM_UNROLL
      for (int s = 0; s < ahead; ++s, x_at -= in.x.stride[1], dy_at -= dy.stride[1]) {
        next_x[s] = load_adjacent<Channels>(x_at);
        next_dy[s] = load_adjacent<Channels>(dy_at);
      }
    };
    if (t - ahead + 1 >= plain) load();
    for (; t - ahead + 1 >= plain; t -= ahead) {
      SSM_UNROLL
      for (int s = 0; s < ahead; ++s) x_now[s] = next_x[s], dy_now[s] = next_dy[s];
      if (t - 2 * ahead + 1 >= plain) load();
      SSM_UNROLL
      for (int s = 0; s < ahead; ++s) {
        Few wide_dy, wide_x;
        widen_into(wide_dy, dy_now[s]), widen_into(wide_x, x_now[s]);
        step(std::false_type(), t - s, wide_dy, wide_x);
      }
    }
    one_by_one(from);
  }
};

}  // namespace ssm::kernels
