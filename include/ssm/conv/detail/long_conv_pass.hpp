#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/conv/detail/lane_transform.hpp"
#include "ssm/conv/detail/long_conv_blocks.hpp"
#include "ssm/conv/detail/sequence_view.hpp"
#include "ssm/conv/fft.hpp"
#include "ssm/conv/long_conv_types.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
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
struct LongConvSpectra<T, Host> {
  /// @cond internal
  detail::LongConvPlan plan{0, 0, 0};
  Index channels = 0;
  bool with_D = false;
  Tensor<T, 1> spectra;  ///< of each block, in order
  /// @endcond
};

template <class T>
struct LongConvScratch<T, Host> {
  /// @cond internal
  struct Thread {
    detail::LongConvPlan plan;  ///< of the sequence at hand
    const detail::LaneTransform<T>* transform = nullptr;
    Tensor<T, 1> past,
        dpast;       ///< (taps − 1 + length, width): every input in the order of time, or ∂
    Tensor<T, 1> y;  ///< (length, width)
    Tensor<T, 1> taps, dtaps;  ///< (taps, width)
    const T* kernel_spectrum = nullptr;
    Tensor<T, 1> kernel, dkernel;  ///< spectra
    Tensor<T, 1> input, output;    ///< points of a transform, and their spectra
  };
  std::vector<detail::LongConvSequence> sequences;
  std::vector<detail::LongConvBlock> blocks;
  std::vector<detail::LaneTransform<T>> transforms;
  std::vector<Thread> threads;
  /// @endcond
};

namespace detail {
inline namespace SSM_DETAIL_ISA {

/// @throws DomainError where the method needs a transform that is longer than there is
template <class T>
LongConvPlan plan_long_conv(std::string_view name, ConvMethod method, Index length, Index taps) {
  constexpr Index few_taps = 32, few_sums = 128 * 128, transforms_of = 4;  // as measured
  const bool automatic = method == ConvMethod::automatic;
  const Index reach = (std::min)(taps, length);
  const bool few = reach <= few_taps || (reach < few_sums && reach * length <= few_sums);
  if (method == ConvMethod::direct || (automatic && few)) return {taps, 0, length};
  // 0 stands for a transform that is too long
  const auto size_for = [](Index least) {
    return least > longest_fft ? 0 : LaneTransform<T>::size_for(least);
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
      : in(inputs),
        sequences(scratch.sequences),
        blocks(scratch.blocks),
        transforms_(scratch.transforms) {
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
    if (in.spectra != nullptr) check_spectra(name, *in.spectra);
    sequences.clear();
    for (Index s = 0; s < states[0]; ++s) {
      const SequenceSpan span = span_of(in.sequences, s, length);
      if (s > 0 && span.length() == sequences.back().span.length()) {
        sequences.push_back({span, sequences.back().plan});
        continue;
      }
      // Taps that reach before a first input without a past meet zeros only.
      const Index reach =
          with_past || in.spectra != nullptr ? taps : std::clamp<Index>(span.length(), 1, taps);
      sequences.push_back({span, plan_long_conv<T>(name, options.method, span.length(), reach)});
    }
    cut_into_blocks<T>(channels, blocks);
    make_transforms();
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
  void for_sequences(Thread& w, const LongConvBlock& block, const Body& body, const Enter& enter,
                     const Leave& leave) const {
    bool ready = false;
    Index s = 0;
    for (const LongConvSequence& sequence : sequences) {
      if (!ready || w.plan != sequence.plan) {
        if (ready) leave();
        w.plan = sequence.plan;
        load_kernel(w, block);
        enter();
        ready = true;
      }
      body(s++, sequence.span);
    }
    if (ready) leave();
  }

  /// The inputs of a block from taps − 1 before the first, in w.past.
  void load_past(Thread& w, Index s, const SequenceSpan& span, const LongConvBlock& block) const {
    const Index before = w.plan.taps - 1, length = span.length();
    w.past.resize({(before + length) * block.width});
    if (in.initial_state)
      load_block<T>(in.initial_state[s].slice(0, 0, before), block, w.past.data());
    else
      std::fill_n(w.past.data(), before * block.width, T(0));
    load_block<T>(steps_of(in.u, span, in.sequences.reversed), block,
                  w.past.data() + before * block.width);
  }

  /// Writes the last taps − 1 inputs of a block, zeros before the first where there is no past.
  void write_final_state(Index s, const SequenceSpan& span, const LongConvBlock& block,
                         const View<T, 3>& final_state) const {
    if (!final_state) return;
    const View<const T, 2> u = steps_of(in.u, span, in.sequences.reversed);
    const Index count = states[1], first = span.length() - count;
    for (Index i = 0; i < count; ++i)
      for (Index c = block.channel; c < block.channel + block.used; ++c) {
        const Index t = first + i;
        if (t >= 0)
          final_state(s, i, c) = u(t, c);
        else
          final_state(s, i, c) = in.initial_state ? in.initial_state(s, count + t, c) : T(0);
      }
  }

  /// Whether a block's sequences each fit one transform, with a channel in each lane.
  [[nodiscard]] bool is_whole(const Thread& w, const LongConvBlock& block,
                              Index length) const noexcept {
    return block.width > 1 && w.plan.size > 0 && length <= w.plan.chunk;
  }
  /// w.input = the points of a block's past and inputs.
  void load_whole(Thread& w, Index s, const SequenceSpan& span, const LongConvBlock& block) const {
    const Index before = w.plan.taps - 1, length = span.length();
    const BlockRows<const T> u(steps_of(in.u, span, in.sequences.reversed), block);
    const BlockRows<const T> past(in.initial_state ? in.initial_state[s] : View<const T, 2>(),
                                  block);
    w.transform->load_rows(
        [&](Index t) {
          if (t >= before) return t - before < length ? u.load(t - before) : Vec<T>(T(0));
          return in.initial_state ? past.load(t) : Vec<T>(T(0));
        },
        w.input.data());
  }
  /// w.output = the points of the gradient of a block's outputs.
  void load_gradient(Thread& w, const View<const T, 2>& dy, const LongConvBlock& block) const {
    const Index before = w.plan.taps - 1, length = dy.extent(0);
    const BlockRows<const T> g(dy, block);
    w.transform->load_rows(
        [&](Index t) {
          return t >= before && t - before < length ? g.load(t - before) : Vec<T>(T(0));
        },
        w.output.data());
  }
  /// Whether a block's sequence from rest, in the first half of one transform, has all its results
  /// there.
  [[nodiscard]] bool is_half(const Thread& w, const LongConvBlock& block,
                             Index length) const noexcept {
    return is_whole(w, block, length) && 2 * length <= w.plan.size;
  }
  /// The rows of a block of lanes of (length, channels), zeros after the last.
  [[nodiscard]] static auto rows_of(const View<const T, 2>& steps, const LongConvBlock& block) {
    return [ rows = BlockRows<const T>(steps, block), length = steps.extent(0) ](Index t)
        __attribute__((always_inline)) {
      return t < length ? rows.load(t) : Vec<T>(T(0));
    };
  }
  /// Writes the rows of such a block where there are some.
  [[nodiscard]] static auto write_rows(const View<T, 2>& steps, const LongConvBlock& block) {
    return [ rows = BlockRows<T>(steps, block), length = steps.extent(0) ](Index t, Vec<T> row)
        __attribute__((always_inline)) {
      if (t < length) rows.store(t, row);
    };
  }
  /// The convolution of one sequence of a block from rest.
  void convolve_half(Thread& w, const View<const T, 2>& u, const View<T, 2>& y,
                     const LongConvBlock& block) const {
    w.transform->forward_and_back_rows(rows_of(u, block), w.input.data(), product(w),
                                       write_rows(y, block));
  }
  /// Its gradients; adds to the spectrum of that of the kernel.
  void convolve_half_backward(Thread& w, const View<const T, 2>& u, const View<const T, 2>& dy,
                              const View<T, 2>& du, const LongConvBlock& block) const {
    w.transform->forward_rows(rows_of(u, block), w.input.data());
    w.transform->forward_and_back_rows(rows_of(dy, block), w.output.data(), product_backward(w),
                                       write_rows(du, block));
  }

  /// The convolution of w.input in place.
  void convolve(Thread& w) const { w.transform->forward_and_back(w.input.data(), product(w)); }
  /// From the points of the inputs and of the gradient of the outputs, in w.input and w.output, to
  /// the gradient of the former, in w.output; adds to the spectrum of that of the kernel.
  void convolve_backward(Thread& w) const {
    w.transform->forward(w.input.data());
    w.transform->forward_and_back(w.output.data(), product_backward(w));
  }

  /// w.y = the convolution of w.past and w.taps.
  void forward(Thread& w, const LongConvBlock& block, Index length) const {
    const Index before = w.plan.taps - 1, width = block.width;
    w.y.resize({length * width});
    if (w.plan.size == 0) return width == 1 ? sum_times(w, length) : sum_lanes(w, length);
    for (Index begin = 0; begin < length; begin += w.plan.chunk) {
      const Index count = (std::min)(w.plan.chunk, length - begin);
      w.transform->load(w.past.data() + begin * width, 0, (before + count) * width, w.input.data());
      convolve(w);
      T* const y = w.y.data() + begin * width;
      w.transform->read(w.input.data(), before * width, count * width,
                        [&](Index i, const T* numbers, Index some) {
                          Vec<T>::load(numbers, some).store(y + i, some);
                        });
    }
  }

  /// Adds to w.dpast, and to the gradient of the kernel: to w.dkernel as a spectrum or, summed
  /// directly, to w.dtaps. w.y is the gradient of y.
  void backward(Thread& w, const LongConvBlock& block, Index length) const {
    const Index before = w.plan.taps - 1, width = block.width;
    if (w.plan.size == 0)
      return width == 1 ? sum_times_backward(w, length) : sum_lanes_backward(w, length);
    for (Index begin = 0; begin < length; begin += w.plan.chunk) {
      const Index count = (std::min)(w.plan.chunk, length - begin);
      w.transform->load(w.past.data() + begin * width, 0, (before + count) * width, w.input.data());
      w.transform->load(w.y.data() + begin * width, before * width, count * width, w.output.data());
      convolve_backward(w);
      T* const dpast = w.dpast.data() + begin * width;
      w.transform->read(
          w.output.data(), 0, (before + count) * width, [&](Index i, const T* numbers, Index some) {
            (Vec<T>::load(dpast + i, some) + Vec<T>::load(numbers, some)).store(dpast + i, some);
          });
    }
  }

  /// Adds to w.dtaps what the plan that is left has in w.dkernel.
  void leave_backward(Thread& w, const LongConvBlock& block) const {
    if (w.plan.size == 0) return;
    w.transform->back(w.dkernel.data());
    const Vec<T> scale(T(2) / static_cast<T>(w.plan.size));
    w.transform->read(
        w.dkernel.data(), 0, w.plan.taps * block.width, [&](Index i, const T* numbers, Index some) {
          T* const to = w.dtaps.data() + i;
          fma(scale, Vec<T>::load(numbers, some), Vec<T>::load(to, some)).store(to, some);
        });
  }

  /// The spectrum of a block's kernels, for sequences of w.plan.
  void make_spectrum(Thread& w, const LongConvBlock& block, T* spectrum) const {
    load_time(w, block);
    w.transform = find(w.plan.size, order_of(block));
    write_spectrum(w, block, spectrum);
  }

  const LongConvInputs<T>& in;
  std::vector<LongConvSequence>& sequences;
  std::vector<LongConvBlock>& blocks;
  Index channels = 0;
  std::array<Index, 3> states{};

 private:
  void check_spectra(std::string_view name, const LongConvSpectra<T>& spectra) const {
    const Index taps = in.kernel.extent(1);
    if (spectra.channels != channels || spectra.plan.taps != taps)
      throw_shape(name, "spectra",
                  "of a kernel " + to_string(std::array{spectra.channels, spectra.plan.taps}),
                  "one of the kernel, " + to_string(std::array{channels, taps}));
    if (spectra.with_D != static_cast<bool>(in.D))
      throw_domain(name, "spectra", spectra.with_D ? "made with D" : "made without D",
                   "what was made of this kernel and D");
  }

  static constexpr Index transform_step = LaneTransform<T>::step;

  /// A part of the spectrum times that of the kernel.
  [[nodiscard]] static auto product(const Thread& w) {
    return [&w](T* x, Index first, Index points) {
      const T* k = w.kernel_spectrum + first * transform_step;
      for (Index i = 0; i < points * transform_step; i += transform_step)
        (ComplexVec<T>::load(x + i) * ComplexVec<T>::load(k + i)).store(x + i);
    };
  }
  /// The gradients by a part of the inputs' spectrum and of the kernel's from that by the outputs.
  [[nodiscard]] static auto product_backward(Thread& w) {
    return [&w](T* g, Index first, Index points) {
      const Index at = first * transform_step;
      const T *const k = w.kernel_spectrum + at, *const x = w.input.data() + at;
      T* const dk = w.dkernel.data() + at;
      for (Index i = 0; i < points * transform_step; i += transform_step) {
        const auto gradient = ComplexVec<T>::load(g + i);
        (ComplexVec<T>::load(dk + i) + conj_times(ComplexVec<T>::load(x + i), gradient))
            .store(dk + i);
        conj_times(ComplexVec<T>::load(k + i), gradient).store(g + i);
      }
    };
  }

  [[nodiscard]] static Lanes order_of(const LongConvBlock& block) noexcept {
    return block.width == 1 ? Lanes::times : Lanes::sequences;
  }
  [[nodiscard]] const LaneTransform<T>* find(Index size, Lanes order) const noexcept {
    for (const LaneTransform<T>& transform : transforms_)
      if (transform.size() == size && transform.order() == order) return &transform;
    return nullptr;
  }
  /// Those of this call; those of another that are not wanted go.
  void make_transforms() {
    std::erase_if(transforms_, [&](const LaneTransform<T>& transform) {
      return std::none_of(sequences.begin(), sequences.end(), [&](const LongConvSequence& s) {
        return s.plan.size == transform.size();
      });
    });
    if (blocks.empty()) return;
    for (const LongConvSequence& sequence : sequences)
      for (const LongConvBlock* block : {&blocks.front(), &blocks.back()})
        if (sequence.plan.size > 0 && find(sequence.plan.size, order_of(*block)) == nullptr)
          transforms_.emplace_back(sequence.plan.size, order_of(*block));
  }

  void load_kernel(Thread& w, const LongConvBlock& block) const {
    const bool known = in.spectra != nullptr && in.spectra->plan == w.plan;
    if (!known || w.plan.size == 0) load_time(w, block);
    if (w.plan.size == 0) return;
    w.transform = find(w.plan.size, order_of(block));
    for (auto* points : {&w.dkernel, &w.input, &w.output}) points->resize({w.transform->memory()});
    if (known) {
      w.kernel_spectrum = in.spectra->spectra.data() + block.memory * w.plan.size;
      return;
    }
    w.kernel.resize({w.transform->memory()});
    write_spectrum(w, block, w.kernel.data());
    w.kernel_spectrum = w.kernel.data();
  }
  void load_time(Thread& w, const LongConvBlock& block) const {
    w.taps.resize({w.plan.taps * block.width});
    load_taps(in.kernel, block, w.plan.taps, w.taps.data());
    // D u_t is what a further K_0 gives.
    for (Index c = 0; in.D && c < block.used; ++c) w.taps(c) += in.D(block.channel + c);
  }
  /// The spectrum of a block's kernels, divided by n.
  void write_spectrum(Thread& w, const LongConvBlock& block, T* spectrum) const {
    const T scale = T(2) / static_cast<T>(w.plan.size);
    if (block.width > 1 && 2 * w.plan.taps <= w.plan.size)
      return w.transform->forward_rows(
          [&, taps = w.plan.taps](Index l) {
            return l < taps ? Vec<T>(scale) * Vec<T>::load(w.taps.data() + l * lanes<T>)
                            : Vec<T>(T(0));
          },
          spectrum);
    for (T& value : w.taps) value *= scale;
    w.transform->load(w.taps.data(), 0, w.plan.taps * block.width, spectrum);
    w.transform->forward(spectrum);
  }

  static void axpy(Index count, T a, const T* x, T* y) noexcept {
    for (Index t = 0; t < count; ++t) y[t] += a * x[t];
  }
  static void sum_times(Thread& w, Index length) noexcept {
    w.y.fill(T(0));
    for (Index l = 0; l < w.plan.taps; ++l)
      axpy(length, w.taps(l), w.past.data() + (w.plan.taps - 1 - l), w.y.data());
  }
  static void sum_times_backward(Thread& w, Index length) noexcept {
    for (Index l = 0; l < w.plan.taps; ++l) {
      const Index before = w.plan.taps - 1 - l;
      axpy(length, w.taps(l), w.y.data(), w.dpast.data() + before);
      const T* x = w.past.data() + before;
      Vec<T> sums(T(0));
      for (Index t = 0; t < length; t += lanes<T>)
        sums = fma(Vec<T>::load(w.y.data() + t, length - t), Vec<T>::load(x + t, length - t), sums);
      w.dtaps(l) += sum(sums);
    }
  }

  /// Calls body(t, steps) for all t in steps of a constant, then one by one.
  template <class Body>
  static void in_tiles(Index length, const Body& body) {
    constexpr int tile = 8;
    Index t = 0;
    for (; t + tile <= length; t += tile) body(t, std::integral_constant<int, tile>());
    for (; t < length; ++t) body(t, std::integral_constant<int, 1>());
  }
  /// The sums of a few neighbouring outputs stay in registers.
  static void sum_lanes(Thread& w, Index length) noexcept {
    constexpr Index W = lanes<T>;
    const Index taps = w.plan.taps;
    in_tiles(length, [&]<int Steps>(Index t, std::integral_constant<int, Steps>) {
      std::array<Vec<T>, Steps> y;
      y.fill(Vec<T>(T(0)));
      const T* past = w.past.data() + (taps - 1 + t) * W;
      for (Index l = 0; l < taps; ++l) {
        const auto k = Vec<T>::load(w.taps.data() + l * W);
        unroll<Steps>([&](auto i) { y[i] = fma(k, Vec<T>::load(past + (i - l) * W), y[i]); });
      }
      unroll<Steps>([&](auto i) { y[i].store(w.y.data() + (t + i) * W); });
    });
  }
  static void sum_lanes_backward(Thread& w, Index length) noexcept {
    constexpr Index W = lanes<T>;
    const Index taps = w.plan.taps;
    in_tiles(length, [&]<int Steps>(Index t, std::integral_constant<int, Steps>) {
      std::array<Vec<T>, Steps> g;
      unroll<Steps>([&](auto i) { g[i] = Vec<T>::load(w.y.data() + (t + i) * W); });
      for (Index l = 0; l < taps; ++l) {
        const Index at = (taps - 1 + t - l) * W;
        const auto k = Vec<T>::load(w.taps.data() + l * W);
        auto dk = Vec<T>::load(w.dtaps.data() + l * W);
        unroll<Steps>([&](auto i) {
          T* const dx = w.dpast.data() + at + i * W;
          dk = fma(g[i], Vec<T>::load(w.past.data() + at + i * W), dk);
          fma(k, g[i], Vec<T>::load(dx)).store(dx);
        });
        dk.store(w.dtaps.data() + l * W);
      }
    });
  }

  std::vector<LaneTransform<T>>& transforms_;
};

/// Calls body(block, scratch) for every block of channels.
template <class T, class Body>
void for_conv_blocks(const Cpu& backend, LongConvScratch<T>& scratch, const Body& body) {
  const auto blocks = static_cast<Index>(scratch.blocks.size());
  const Index runs = (std::min<Index>)(blocks, backend.thread_count());
  if (static_cast<Index>(scratch.threads.size()) < runs)
    scratch.threads.resize(static_cast<std::size_t>(runs));
  parallel_for(backend, runs, [&](Index run) {
    for (Index b = blocks * run / runs; b < blocks * (run + 1) / runs; ++b)
      body(scratch.blocks[static_cast<std::size_t>(b)],
           scratch.threads[static_cast<std::size_t>(run)]);
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
}  // namespace ssm
