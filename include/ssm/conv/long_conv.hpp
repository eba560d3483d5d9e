#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/conv/detail/sequence_view.hpp"
#include "ssm/conv/fft.hpp"
#include "ssm/conv/long_conv_types.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// How long the pieces of a convolution are; `size` is that of a transform, 0 for direct sums.
struct LongConvPlan {
  Index taps, size, chunk;
  friend bool operator==(const LongConvPlan&, const LongConvPlan&) = default;
};

/// One sequence, and how it is convolved.
struct LongConvSequence {
  SequenceSpan span;
  LongConvPlan plan;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail

template <class T>
struct LongConvScratch<T, Host> {
  struct Thread {
    detail::LongConvPlan plan;  ///< of the sequence at hand
    RealFft<T> fft;
    Tensor<T, 1> past, dpast;  ///< (taps − 1 + length): every input in the order of time, or ∂
    Tensor<T, 1> y;            ///< (length), of one channel
    Tensor<T, 1> taps, dtaps;  ///< (taps), of one channel
    Tensor<T, 1> time;         ///< (transform)
    Tensor<std::complex<T>, 1> kernel, dkernel, input, output;  ///< spectra
  };
  std::vector<detail::LongConvSequence> sequences;
  std::vector<Thread> threads;
};

namespace detail {
inline namespace SSM_DETAIL_ISA {

/// @throws DomainError where the method needs a transform that is longer than there is
template <class T>
LongConvPlan plan_long_conv(std::string_view name, ConvMethod method, Index length, Index taps) {
  constexpr Index few_taps = sizeof(T) == 4 ? 192 : 96, transforms_of = 4;  // as measured
  const bool automatic = method == ConvMethod::automatic;
  if (method == ConvMethod::direct || (automatic && (std::min)(taps, length) <= few_taps))
    return {taps, 0, length};
  // 0 stands for a transform that is too long
  const auto size_for = [](Index least) {
    const Index size = least > longest_fft ? 0 : good_fft_size(least);
    return size > longest_fft ? 0 : size;
  };
  const bool countable = length <= longest_fft && taps <= longest_fft;
  const Index whole = countable ? size_for((std::max<Index>)(length, 1) + taps - 1) : 0;
  const Index piece =
      taps > longest_fft ? 0 : size_for((std::max<Index>)(transforms_of * taps, 1024));
  if (whole == 0 && piece == 0)
    throw_domain(name, "taps", std::to_string(taps),
                 "at most " + std::to_string(longest_fft / transforms_of) +
                     " for transforms, the longest of which has " + std::to_string(longest_fft));
  if (whole == 0 && method == ConvMethod::fft)
    throw_domain(name, "the length of a sequence", std::to_string(length),
                 "at most " + std::to_string(longest_fft) +
                     " with the taps, the longest transform, for the method fft");
  if (method == ConvMethod::fft || piece == 0 ||
      (whole > 0 && (automatic ? 2 * piece : piece) >= whole))
    return {taps, whole, length};
  return {taps, piece, piece - taps + 1};
}

template <class T>
class LongConv {
 public:
  using Thread = typename LongConvScratch<T>::Thread;

  /// Checks the inputs, and plans every sequence.
  LongConv(std::string_view name, const LongConvInputs<T>& inputs, const LongConvOptions& options,
           bool with_past, LongConvScratch<T>& scratch)
      : in(inputs), sequences(scratch.sequences) {
    check_given(name, "u", in.u, "(batch, length, channels)");
    check_given(name, "kernel", in.kernel, "(channels, taps)");
    const Index batch = in.u.extent(0), length = in.u.extent(1), taps = in.kernel.extent(1);
    channels = in.u.extent(2);
    check_shape(name, "kernel", in.kernel, std::array{channels, taps});
    if (taps < 1) throw_shape(name, "kernel", "of no taps", "at least one tap");
    check_optional_shape(name, "D", in.D, std::array{channels});
    check_sequences(name, in.sequences, batch, length);
    states = {in.sequences.count(batch), taps - 1, channels};
    check_optional_shape(name, "initial_state", in.initial_state, states);
    sequences.clear();
    for (Index s = 0; s < states[0]; ++s) {
      const SequenceSpan span = span_of(in.sequences, s, length);
      if (s > 0 && span.length() == sequences.back().span.length()) {
        sequences.push_back({span, sequences.back().plan});
        continue;
      }
      // Taps that reach before a first input without a past meet zeros only.
      const Index reach = with_past ? taps : std::clamp<Index>(span.length(), 1, taps);
      sequences.push_back({span, plan_long_conv<T>(name, options.method, span.length(), reach)});
    }
  }

  template <std::size_t Most>
  void add_inputs(OverlapChecks<Most>& memory) const noexcept {
    memory.input("u", in.u);
    memory.input("kernel", in.kernel);
    memory.input("D", in.D);
    memory.input("initial_state", in.initial_state);
  }

  /// Calls body(s, span) for every sequence with w ready for its plan; enter() once it is, leave()
  /// when the plan is left.
  template <class Body, class Enter, class Leave>
  void for_sequences(Thread& w, Index c, const Body& body, const Enter& enter,
                     const Leave& leave) const {
    bool ready = false;
    Index s = 0;
    for (const LongConvSequence& sequence : sequences) {
      if (!ready || w.plan != sequence.plan) {
        if (ready) leave();
        w.plan = sequence.plan;
        load_kernel(w, c);
        enter();
        ready = true;
      }
      body(s++, sequence.span);
    }
    if (ready) leave();
  }

  /// The inputs of one channel from taps − 1 before the first, in w.past.
  void load_past(Thread& w, Index s, const SequenceSpan& span, Index c) const {
    const Index before = w.plan.taps - 1, length = span.length();
    w.past.resize({before + length});
    for (Index i = 0; i < before; ++i)
      w.past(i) = in.initial_state ? in.initial_state(s, i, c) : T(0);
    const View<const T, 2> u = steps_of(in.u, span, in.sequences.reversed);
    for (Index t = 0; t < length; ++t) w.past(before + t) = u(t, c);
  }

  /// Writes the last taps − 1 inputs of one channel, zeros where w.past does not reach. (Apart from
  /// the reads: g++ 12 loads ahead of a condition.)
  template <class Read, class Write>
  void for_final_state(const Thread& w, Index length, const Read& read, const Write& write) const {
    const Index count = states[1], first = w.plan.taps - 1 + length - count;  // in w.past
    const Index missing = std::clamp<Index>(-first, 0, count);
    for (Index i = 0; i < missing; ++i) write(i, T(0));
    for (Index i = missing; i < count; ++i) write(i, read(first + i));
  }

  /// w.y = the convolution of w.past and w.taps.
  void forward(Thread& w, Index length) const {
    const Index before = w.plan.taps - 1;
    w.y.resize({length});
    if (w.plan.size == 0) {
      w.y.fill(T(0));
      for (Index l = 0; l < w.plan.taps; ++l)
        axpy(length, w.taps(l), w.past.data() + before - l, w.y.data());
      return;
    }
    for (Index begin = 0; begin < length; begin += w.plan.chunk) {
      const Index count = (std::min)(w.plan.chunk, length - begin);
      transform(w, w.past.data() + begin, before + count, 0, w.input);
      multiply(w.input.size(), w.input.data(), w.kernel.data(), w.output.data());
      w.fft.inverse(w.plan.size, w.output.data(), w.time.data());
      std::copy_n(w.time.data() + before, count, w.y.data() + begin);
    }
  }

  /// Adds to w.dpast, and to the gradient of the kernel: to w.dkernel as a spectrum or, summed
  /// directly, to w.dtaps. w.y is the gradient of y.
  void backward(Thread& w, Index length) const {
    const Index before = w.plan.taps - 1;
    if (w.plan.size == 0) {
      for (Index l = 0; l < w.plan.taps; ++l) {
        axpy(length, w.taps(l), w.y.data(), w.dpast.data() + before - l);
        const T* x = w.past.data() + before - l;
        T sum(0);
        for (Index t = 0; t < length; ++t) sum += w.y(t) * x[t];
        w.dtaps(l) += sum;
      }
      return;
    }
    for (Index begin = 0; begin < length; begin += w.plan.chunk) {
      const Index count = (std::min)(w.plan.chunk, length - begin);
      transform(w, w.past.data() + begin, before + count, 0, w.input);
      transform(w, w.y.data() + begin, count, before, w.output);
      multiply_backward(w.input.size(), w.input.data(), w.kernel.data(), w.dkernel.data(),
                        w.output.data());
      w.fft.inverse(w.plan.size, w.output.data(), w.time.data());
      axpy(before + count, T(1), w.time.data(), w.dpast.data() + begin);
    }
  }

  /// Adds to w.dtaps what the plan that is left has in w.dkernel.
  void leave_backward(Thread& w) const {
    if (w.plan.size == 0) return;
    w.fft.inverse(w.plan.size, w.dkernel.data(), w.time.data());
    axpy(w.plan.taps, T(1), w.time.data(), w.dtaps.data());
  }

  const LongConvInputs<T>& in;
  std::vector<LongConvSequence>& sequences;
  Index channels = 0;
  std::array<Index, 3> states{};

 private:
  void load_kernel(Thread& w, Index c) const {
    w.taps.resize({w.plan.taps});
    for (Index l = 0; l < w.plan.taps; ++l) w.taps(l) = in.kernel(c, l);
    if (w.plan.size == 0) return;
    w.time.resize({w.plan.size});
    for (auto* spectrum : {&w.kernel, &w.dkernel, &w.input, &w.output})
      spectrum->resize({w.plan.size / 2 + 1});
    transform(w, w.taps.data(), w.plan.taps, 0, w.kernel);
  }

  /// The spectrum of `count` numbers from position `at` on, zeros around them.
  void transform(Thread& w, const T* x, Index count, Index at,
                 Tensor<std::complex<T>, 1>& spectrum) const {
    std::fill_n(w.time.data(), at, T(0));
    std::copy_n(x, count, w.time.data() + at);
    std::fill(w.time.data() + at + count, w.time.end(), T(0));
    w.fft.forward(w.plan.size, w.time.data(), spectrum.data());
  }

  static void axpy(Index count, T a, const T* x, T* y) noexcept {
    for (Index t = 0; t < count; ++t) y[t] += a * x[t];
  }
  static void multiply(Index count, const std::complex<T>* a, const std::complex<T>* b,
                       std::complex<T>* product) noexcept {
    for (Index k = 0; k < count; ++k) product[k] = times(a[k], b[k]);
  }
  /// From the gradient of the product to that of a, in place; adds to that of b.
  static void multiply_backward(Index count, const std::complex<T>* a, const std::complex<T>* b,
                                std::complex<T>* db, std::complex<T>* gradient) noexcept {
    for (Index k = 0; k < count; ++k) {
      db[k] += times(gradient[k], std::conj(a[k]));
      gradient[k] = times(gradient[k], std::conj(b[k]));
    }
  }
  static std::complex<T> times(std::complex<T> a, std::complex<T> b) noexcept {
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
  }
};

/// Calls body(channel, scratch) for every channel.
template <class T, class Body>
void for_conv_channels(const Cpu& backend, Index channels, LongConvScratch<T>& scratch,
                       const Body& body) {
  const Index runs = (std::min<Index>)(channels, backend.thread_count());
  if (static_cast<Index>(scratch.threads.size()) < runs)
    scratch.threads.resize(static_cast<std::size_t>(runs));
  parallel_for(backend, runs, [&](Index run) {
    for (Index c = channels * run / runs; c < channels * (run + 1) / runs; ++c)
      body(c, scratch.threads[static_cast<std::size_t>(run)]);
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The causal convolution of every channel with a kernel of its own,
///
///   y_t = Σ_l K_l u_{t−l} + D u_t,  l = 0 … taps − 1,
///
/// where the initial state holds the inputs before the first one. The final state is the last
/// taps − 1 inputs, so that a sequence can be split anywhere and a stream convolved in pieces.
/// Packed sequences are convolved one by one.
///
/// Cost: length · taps multiply-adds, or O((length + taps) log taps) by transforms; where
/// neighbouring packed sequences differ in length, also one transform of the taps. The bits are the
/// same for every number of threads. Allocates while the scratch grows.
///
/// @throws ShapeError for shapes that do not fit and outputs in memory that LongConvOutputs does
/// not
///   allow; DomainError for offsets that do not cut the batch into sequences, and when a transform
///   would be longer than longest_fft: for the method fft, when the length of a sequence plus the
///   taps exceeds it; for the methods automatic and chunked, when the taps exceed a quarter of it
template <class T>
void long_conv(const Cpu& backend, const LongConvInputs<T>& inputs, const LongConvOptions& options,
               const LongConvOutputs<T>& outputs, LongConvScratch<T>& scratch) {
  constexpr std::string_view name = "long_conv";
  const detail::LongConv<T> conv(name, inputs, options, bool(inputs.initial_state), scratch);
  const auto& [y, final_state] = outputs;
  detail::check_output_shape(name, "y", y, inputs.u.extents());
  detail::check_optional_output_shape(name, "final_state", final_state, conv.states);
  detail::OverlapChecks<6> memory(name);
  conv.add_inputs(memory);
  memory.output("y", y, "u");
  memory.output("final_state", final_state, "initial_state");
  detail::for_conv_channels(backend, conv.channels, scratch, [&](Index c, auto& w) {
    const T D = inputs.D ? inputs.D(c) : T(0);
    const auto convolve = [&](Index s, const detail::SequenceSpan& span) {
      conv.load_past(w, s, span, c);
      conv.forward(w, span.length());
      const T* u = w.past.data() + (w.plan.taps - 1);
      const View<T, 2> to = detail::steps_of(outputs.y, span, inputs.sequences.reversed);
      for (Index t = 0; t < span.length(); ++t) to(t, c) = inputs.D ? w.y(t) + D * u[t] : w.y(t);
      if (outputs.final_state)
        conv.for_final_state(
            w, span.length(), [&](Index at) { return w.past(at); },
            [&](Index i, T value) { outputs.final_state(s, i, c) = value; });
    };
    conv.for_sequences(
        w, c, convolve, [] {}, [] {});
  });
}

/// The gradients of long_conv: with g = ∂y,
///
///   ∂u_t = Σ_l K_l g_{t+l} + D g_t,  ∂K_l = Σ_t g_t u_{t−l},  ∂D = Σ_t g_t u_t,
///
/// where u before the first input is the initial state, and the gradient of the final state is
/// added to those of the inputs that it holds.
///
/// Cost: about twice long_conv. The bits are the same for every number of threads.
/// @param inputs, options as given to long_conv
/// @param scratch any; nothing that long_conv left in it is read
/// @throws ShapeError, DomainError as long_conv
template <class T>
void long_conv_backward(const Cpu& backend, const LongConvInputs<T>& inputs,
                        const LongConvOptions& options,
                        const LongConvOutputGradients<T>& output_gradients,
                        const LongConvInputGradients<T>& input_gradients,
                        LongConvScratch<T>& scratch) {
  constexpr std::string_view name = "long_conv_backward";
  const auto& dout = output_gradients;
  const auto& din = input_gradients;
  const detail::LongConv<T> conv(name, inputs, options, inputs.initial_state || din.initial_state,
                                 scratch);
  detail::check_shape(name, "gradient of y", dout.y, inputs.u.extents());
  detail::check_optional_shape(name, "gradient of final_state", dout.final_state, conv.states);
  detail::check_optional_output_shape(name, "gradient of u", din.u, inputs.u.extents());
  detail::check_optional_output_shape(name, "gradient of kernel", din.kernel,
                                      inputs.kernel.extents());
  detail::check_optional_output_shape(name, "gradient of D", din.D, std::array{conv.channels});
  detail::check_optional_output_shape(name, "gradient of initial_state", din.initial_state,
                                      conv.states);
  detail::OverlapChecks<10> memory(name);
  conv.add_inputs(memory);
  memory.input("the gradient of y", dout.y);
  memory.input("the gradient of final_state", dout.final_state);
  memory.output("gradient of u", din.u, "the gradient of y");
  memory.output("gradient of kernel", din.kernel);
  memory.output("gradient of D", din.D);
  memory.output("gradient of initial_state", din.initial_state, "the gradient of final_state");
  detail::for_conv_channels(backend, conv.channels, scratch, [&](Index c, auto& w) {
    w.dtaps.resize({inputs.kernel.extent(1)});
    w.dtaps.fill(T(0));
    const T D = inputs.D ? inputs.D(c) : T(0);
    T D_gradient(0);
    const auto go_back = [&](Index s, const detail::SequenceSpan& span) {
      const Index before = w.plan.taps - 1, length = span.length();
      const bool reversed = inputs.sequences.reversed;
      const View<const T, 2> dy = detail::steps_of(dout.y, span, reversed);
      const View<T, 2> du = detail::steps_of(din.u, span, reversed);
      conv.load_past(w, s, span, c);
      w.y.resize({length});
      for (Index t = 0; t < length; ++t) w.y(t) = dy(t, c);
      w.dpast.resize({before + length});
      w.dpast.fill(T(0));
      conv.backward(w, length);
      T sum = D_gradient;
      const T *const g = w.y.data(), *const u = w.past.data() + before;
      T* const dpast = w.dpast.data() + before;
      for (Index t = 0; t < length; ++t) {
        dpast[t] += D * g[t];
        sum += g[t] * u[t];
      }
      D_gradient = sum;
      const Index count = conv.states[1];
      if (dout.final_state)
        for (Index i = 0; i < count; ++i)
          if (before + length - count + i >= 0)
            w.dpast(before + length - count + i) += dout.final_state(s, i, c);
      if (du)
        for (Index t = 0; t < length; ++t) du(t, c) = w.dpast(before + t);
      if (din.initial_state)
        for (Index i = 0; i < count; ++i) din.initial_state(s, i, c) = w.dpast(i);
    };
    conv.for_sequences(
        w, c, go_back, [&] { w.dkernel.fill(T(0)); }, [&] { conv.leave_backward(w); });
    if (din.D) din.D(c) = D_gradient;
    for (Index l = 0; din.kernel && l < inputs.kernel.extent(1); ++l) din.kernel(c, l) = w.dtaps(l);
  });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(long_conv, LongConv, float)
SSM_INSTANCE_OPERATION(long_conv, LongConv, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
