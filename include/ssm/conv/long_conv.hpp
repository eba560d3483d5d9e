#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/conv/fft.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What the causal convolution with a long kernel reads. An absent view means: no such term.
template <class T>
struct LongConvInputs {
  View<const T, 3> u;              ///< (batch, length, channels)
  View<const T, 2> kernel;         ///< K (channels, taps), the first tap meets the present input
  View<const T, 1> D;              ///< (channels), optional: the feedthrough
  View<const T, 3> initial_state;  ///< (batch, taps − 1, channels), optional: the inputs before the
                                   ///< first, oldest first; zero when absent
};

/// How a long convolution is computed; all give the same but for rounding.
enum class ConvMethod {
  automatic,  ///< whichever takes the fewest operations
  direct,     ///< the sum as it stands: length · taps multiply-adds
  fft,        ///< one transform over everything
  chunked     ///< overlap-save: transforms of a few times the taps, one after the other
};

struct LongConvOptions {
  ConvMethod method = ConvMethod::automatic;
  bool reversed = false;  ///< time runs from the last step to the first
};

template <class T>
struct LongConvOutputs {
  View<T, 3> y;            ///< (batch, length, channels), may be the memory of u
  View<T, 3> final_state;  ///< (batch, taps − 1, channels), optional: the last inputs; may be the
                           ///< memory of the initial state
};

template <class T>
struct LongConvOutputGradients {
  View<const T, 3> y;            ///< (batch, length, channels)
  View<const T, 3> final_state;  ///< optional: zero when absent
};

/// Gradients that backward overwrites; absent ones are skipped.
template <class T>
struct LongConvInputGradients {
  View<T, 3> u;
  View<T, 2> kernel;
  View<T, 1> D;
  View<T, 3> initial_state;
};

/// Scratch of the long convolution. It grows to the largest call it has served.
template <class T>
struct LongConvWorkspace {
  struct Thread {
    RealFft<T> fft;
    Tensor<T, 1> past, dpast;  ///< (taps − 1 + length): every input in the order of time, or ∂
    Tensor<T, 1> y, taps;      ///< (length) and (taps): of one channel
    Tensor<T, 1> time;         ///< (transform)
    Tensor<std::complex<T>, 1> kernel, dkernel, input, output;  ///< spectra
  };
  std::vector<Thread> threads;
};

namespace detail {

/// How long the pieces of a convolution are; `size` is that of a transform, 0 for direct sums.
struct LongConvPlan {
  Index taps, size, chunk;
};

template <class T>
LongConvPlan plan_long_conv(ConvMethod method, Index length, Index taps) {
  constexpr Index few_taps = sizeof(T) == 4 ? 192 : 96, transforms_of = 4;  // as measured
  const bool automatic = method == ConvMethod::automatic;
  if (method == ConvMethod::direct || (automatic && std::min(taps, length) <= few_taps))
    return {taps, 0, length};
  const Index whole = good_fft_size(std::max<Index>(length, 1) + taps - 1);
  const Index piece = good_fft_size(std::max<Index>(transforms_of * taps, 1024));
  if (method == ConvMethod::fft || (automatic ? 2 * piece : piece) >= whole)
    return {taps, whole, length};
  return {taps, piece, piece - taps + 1};
}

template <class T>
class LongConv {
 public:
  LongConv(std::string_view name, const LongConvInputs<T>& inputs, const LongConvOptions& options,
           bool with_past)
      : in(inputs),
        batch(inputs.u.extent(0)),
        length(inputs.u.extent(1)),
        channels(inputs.u.extent(2)),
        states{batch, std::max<Index>(inputs.kernel.extent(1), 1) - 1, channels},
        reversed_(options.reversed) {
    const Index taps = inputs.kernel.extent(1);
    check_shape(name, "kernel", in.kernel, std::array{channels, taps});
    if (taps < 1) throw_shape(name, "kernel", "of no taps", "at least one tap");
    check_optional_shape(name, "D", in.D, std::array{channels});
    check_optional_shape(name, "initial_state", in.initial_state, states);
    // Taps that reach before a first input without a past meet zeros only.
    const Index reach = with_past ? taps : std::clamp<Index>(length, 1, taps);
    plan = plan_long_conv<T>(options.method, length, reach);
  }

  template <class U>
  [[nodiscard]] View<U, 3> in_time(const View<U, 3>& view) const {
    return view && reversed_ ? view.reversed(1) : view;
  }

  /// The inputs of one channel from taps − 1 before the first, in w.past.
  void load_past(typename LongConvWorkspace<T>::Thread& w, Index b, Index c) const {
    const Index before = plan.taps - 1;
    w.past.resize({before + length});
    for (Index i = 0; i < before; ++i)
      w.past(i) = in.initial_state ? in.initial_state(b, i, c) : T(0);
    const View<const T, 3> u = in_time(in.u);
    for (Index t = 0; t < length; ++t) w.past(before + t) = u(b, t, c);
  }

  /// Writes the last taps − 1 inputs of one channel, zeros where w.past does not reach. (Apart from
  /// the reads: g++ 12 loads ahead of a condition.)
  template <class Read, class Write>
  void for_final_state(const Read& read, const Write& write) const {
    const Index count = states[1], first = plan.taps - 1 + length - count;  // in w.past
    const Index missing = std::clamp<Index>(-first, 0, count);
    for (Index i = 0; i < missing; ++i) write(i, T(0));
    for (Index i = missing; i < count; ++i) write(i, read(first + i));
  }

  void load_kernel(typename LongConvWorkspace<T>::Thread& w, Index c) const {
    w.taps.resize({plan.taps});
    for (Index l = 0; l < plan.taps; ++l) w.taps(l) = in.kernel(c, l);
    w.y.resize({length});
    if (plan.size == 0) return;
    w.time.resize({plan.size});
    for (auto* spectrum : {&w.kernel, &w.dkernel, &w.input, &w.output})
      spectrum->resize({plan.size / 2 + 1});
    transform(w, w.taps.data(), plan.taps, 0, w.kernel);
  }

  /// The spectrum of `count` numbers from position `at` on, zeros around them.
  void transform(typename LongConvWorkspace<T>::Thread& w, const T* x, Index count, Index at,
                 Tensor<std::complex<T>, 1>& spectrum) const {
    std::fill_n(w.time.data(), at, T(0));
    std::copy_n(x, count, w.time.data() + at);
    std::fill(w.time.data() + at + count, w.time.end(), T(0));
    w.fft.forward(plan.size, w.time.data(), spectrum.data());
  }

  /// w.y = the convolution of w.past and w.taps.
  void forward(typename LongConvWorkspace<T>::Thread& w) const {
    const Index before = plan.taps - 1;
    if (plan.size == 0) {
      w.y.fill(T(0));
      for (Index l = 0; l < plan.taps; ++l)
        axpy(length, w.taps(l), w.past.data() + before - l, w.y.data());
      return;
    }
    for (Index begin = 0; begin < length; begin += plan.chunk) {
      const Index count = std::min(plan.chunk, length - begin);
      transform(w, w.past.data() + begin, before + count, 0, w.input);
      for (Index k = 0; k < w.input.size(); ++k) w.output(k) = times(w.input(k), w.kernel(k));
      w.fft.inverse(plan.size, w.output.data(), w.time.data());
      std::copy_n(w.time.data() + before, count, w.y.data() + begin);
    }
  }

  /// Adds to w.dpast, and to the gradient of the kernel: to w.dkernel as a spectrum or, summed
  /// directly, to dtaps. w.y is the gradient of y.
  void backward(typename LongConvWorkspace<T>::Thread& w, T* dtaps) const {
    const Index before = plan.taps - 1;
    if (plan.size == 0) {
      for (Index l = 0; l < plan.taps; ++l) {
        axpy(length, w.taps(l), w.y.data(), w.dpast.data() + before - l);
        const T* x = w.past.data() + before - l;
        T sum(0);
        for (Index t = 0; t < length; ++t) sum += w.y(t) * x[t];
        dtaps[l] += sum;
      }
      return;
    }
    for (Index begin = 0; begin < length; begin += plan.chunk) {
      const Index count = std::min(plan.chunk, length - begin);
      transform(w, w.past.data() + begin, before + count, 0, w.input);
      transform(w, w.y.data() + begin, count, before, w.output);
      for (Index k = 0; k < w.input.size(); ++k) {
        w.dkernel(k) += times(w.output(k), std::conj(w.input(k)));
        w.output(k) = times(w.output(k), std::conj(w.kernel(k)));
      }
      w.fft.inverse(plan.size, w.output.data(), w.time.data());
      axpy(before + count, T(1), w.time.data(), w.dpast.data() + begin);
    }
  }

  const LongConvInputs<T>& in;
  const Index batch, length, channels;
  const std::array<Index, 3> states;
  LongConvPlan plan;

 private:
  static void axpy(Index count, T a, const T* x, T* y) noexcept {
    for (Index t = 0; t < count; ++t) y[t] += a * x[t];
  }
  static std::complex<T> times(std::complex<T> a, std::complex<T> b) noexcept {
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
  }

  bool reversed_;
};

/// Calls body(channel, scratch) for every channel.
template <class T, class Body>
void for_conv_channels(const Cpu& backend, Index channels, LongConvWorkspace<T>& workspace,
                       const Body& body) {
  const Index runs = std::min<Index>(channels, backend.thread_count());
  if (static_cast<Index>(workspace.threads.size()) < runs)
    workspace.threads.resize(static_cast<std::size_t>(runs));
  parallel_for(backend, runs, [&](Index run) {
    for (Index c = channels * run / runs; c < channels * (run + 1) / runs; ++c)
      body(c, workspace.threads[static_cast<std::size_t>(run)]);
  });
}

}  // namespace detail

/// The causal convolution of every channel with a kernel of its own,
///
///   y_t = Σ_l K_l u_{t−l} + D u_t,  l = 0 … taps − 1,
///
/// where u before the first input is the initial state. The final state is the last taps − 1
/// inputs, so that a sequence can be split anywhere and a stream be taken in pieces.
///
/// @throws ShapeError
/// Cost: length · taps multiply-adds, or O((length + taps) log taps) by transforms; the same bits
/// for every number of threads; allocates while the workspace grows.
template <class T>
void long_conv(const Cpu& backend, const LongConvInputs<T>& in, const LongConvOptions& options,
               const LongConvOutputs<T>& out, LongConvWorkspace<T>& workspace) {
  constexpr std::string_view name = "long_conv";
  const detail::LongConv<T> conv(name, in, options, bool(in.initial_state));
  detail::check_shape(name, "y", out.y, in.u.extents());
  detail::check_optional_shape(name, "final_state", out.final_state, conv.states);
  const View<T, 3> y = conv.in_time(out.y);
  detail::for_conv_channels(backend, conv.channels, workspace, [&](Index c, auto& w) {
    conv.load_kernel(w, c);
    const T D = in.D ? in.D(c) : T(0);
    for (Index b = 0; b < conv.batch; ++b) {
      conv.load_past(w, b, c);
      conv.forward(w);
      const T* u = w.past.data() + (conv.plan.taps - 1);
      for (Index t = 0; t < conv.length; ++t) y(b, t, c) = in.D ? w.y(t) + D * u[t] : w.y(t);
      if (out.final_state)
        conv.for_final_state([&](Index at) { return w.past(at); },
                             [&](Index i, T value) { out.final_state(b, i, c) = value; });
    }
  });
}

/// The gradients of long_conv: with g = ∂y,
///
///   ∂u_t = Σ_l K_l g_{t+l} + D g_t,  ∂K_l = Σ_t g_t u_{t−l},  ∂D = Σ_t g_t u_t,
///
/// past inputs being the initial state, and the gradient of the final state added to the inputs
/// that it holds.
///
/// @param in, options as given to long_conv
/// @throws ShapeError
/// Cost: about twice long_conv; the same bits for every number of threads.
template <class T>
void long_conv_backward(const Cpu& backend, const LongConvInputs<T>& in,
                        const LongConvOptions& options, const LongConvOutputGradients<T>& dout,
                        const LongConvInputGradients<T>& din, LongConvWorkspace<T>& workspace) {
  constexpr std::string_view name = "long_conv_backward";
  const detail::LongConv<T> conv(name, in, options, in.initial_state || din.initial_state);
  detail::check_shape(name, "gradient of y", dout.y, in.u.extents());
  detail::check_optional_shape(name, "gradient of final_state", dout.final_state, conv.states);
  detail::check_optional_shape(name, "gradient of u", din.u, in.u.extents());
  detail::check_optional_shape(name, "gradient of kernel", din.kernel, in.kernel.extents());
  detail::check_optional_shape(name, "gradient of D", din.D, std::array{conv.channels});
  detail::check_optional_shape(name, "gradient of initial_state", din.initial_state, conv.states);
  const View<const T, 3> dy = conv.in_time(dout.y);
  const View<T, 3> du = conv.in_time(din.u);
  const Index before = conv.plan.taps - 1, length = conv.length;
  detail::for_conv_channels(backend, conv.channels, workspace, [&](Index c, auto& w) {
    conv.load_kernel(w, c);
    w.dpast.resize({before + length + conv.plan.taps});  // the last of it: the gradient of the taps
    T* dtaps = w.dpast.data() + before + length;
    std::fill_n(dtaps, conv.plan.taps, T(0));
    w.dkernel.fill(T(0));
    const T D = in.D ? in.D(c) : T(0);
    T D_gradient(0);
    for (Index b = 0; b < conv.batch; ++b) {
      conv.load_past(w, b, c);
      for (Index t = 0; t < length; ++t) w.y(t) = dy(b, t, c);
      std::fill_n(w.dpast.data(), before + length, T(0));
      conv.backward(w, dtaps);
      for (Index t = 0; t < length; ++t) {
        w.dpast(before + t) += D * w.y(t);
        D_gradient += w.y(t) * w.past(before + t);
      }
      const Index count = conv.states[1];
      if (dout.final_state)
        for (Index i = 0; i < count; ++i)
          if (before + length - count + i >= 0)
            w.dpast(before + length - count + i) += dout.final_state(b, i, c);
      if (du)
        for (Index t = 0; t < length; ++t) du(b, t, c) = w.dpast(before + t);
      if (din.initial_state)
        for (Index i = 0; i < count; ++i) din.initial_state(b, i, c) = w.dpast(i);
    }
    if (din.D) din.D(c) = D_gradient;
    if (!din.kernel) return;
    if (conv.plan.size > 0) {
      w.fft.inverse(conv.plan.size, w.dkernel.data(), w.time.data());
      std::copy_n(w.time.data(), conv.plan.taps, dtaps);
    }
    for (Index l = 0; l < in.kernel.extent(1); ++l)
      din.kernel(c, l) = l < conv.plan.taps ? dtaps[l] : T(0);
  });
}

}  // namespace ssm
