#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/conv/detail/stream_pass.hpp"
#include "ssm/conv/stream_conv_types.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

template <class T>
struct StreamConvState<T, Host> {
  /// @cond internal
  Tensor<Index, 1> steps;  ///< (1): so many so far
  Tensor<T, 1> past;       ///< the last inputs, in rings
  Tensor<T, 1> head;       ///< what the direct sum has of the outputs to come, in rings
  Tensor<T, 1> spectra;    ///< of the windows of inputs
  Tensor<T, 1> outputs;    ///< of the partitions: of this block of each, and of the next
  /// @endcond
};

inline namespace SSM_DETAIL_ISA {

/// The causal convolution of a stream with long kernels, of every channel with its own,
///
///   y_t = Σ_l K_l u_{t−l} + D u_t,  l = 0 … taps − 1,
///
/// at any number of steps a call, without latency: y_t is there as soon as u_t is. Made ready once,
/// it serves any number of streams, on any number of threads, each with a state of its own:
///
///     ssm::StreamConv<float> room({response});      // (channels, taps): 2 s at 48 kHz, say
///     auto state = make_state(room);
///     step(room, block, state, block);              // (64, channels), in a callback
///
/// The first taps are summed directly. The others lie in partitions whose sizes grow with their
/// distance, several of each size (Gardner 1995; the sizes chosen as in Garcia 2002; the terms are
/// those of Wefers 2015). A partition begins two of its lengths from the present, so that its
/// transforms have as much time as it is long. They are cut into small items, of which every step
/// does its share, on the thread that calls: no call has to do the work of many, and none waits for
/// another thread.
///
/// A NaN or an infinity stays in its channel. It leaves after `taps` steps, rounded up: to the end
/// of a block of the longest partition, at most twice its steps later; where all taps are summed
/// directly, at most 15 steps later.
///
/// long_conv convolves sequences that are there as a whole, at less cost; ConvMethod::chunked does
/// so in pieces of a few times the taps. Its state is the last taps − 1 inputs: get_past gives
/// these, and set_past takes them, so that a stream goes on where long_conv ended, and the other
/// way round, with the same results up to rounding.
template <class T>
class StreamConv {
 public:
  using value_type = T;  ///< type of a sample

  /// Makes the kernels ready. Their spectra take two to three times the memory of the kernels, a
  /// state about four times. Cost: for each channel one transform of every partition.
  /// @throws ShapeError for shapes that do not fit; DomainError for options that are no powers of
  ///   two
  explicit StreamConv(const StreamConvInputs<T>& inputs, const StreamConvOptions& options = {})
      : channels_(inputs.kernel.extent(0)), taps_(inputs.kernel.extent(1)) {
    check(inputs, channels_, taps_);
    check_power("shortest", options.shortest);
    check_power("longest", options.longest);
    detail::cut_into_blocks<T>(channels_, cut_);
    for (const detail::LongConvBlock& block : cut_) {
      const Lanes order = block.width == 1 ? Lanes::times : Lanes::sequences;
      std::size_t i = 0;
      while (i < passes_.size() && passes_[i].order() != order) ++i;
      if (i == passes_.size()) passes_.emplace_back(taps_, order, options);
      const detail::StreamSizes& sizes = passes_[i].sizes();
      blocks_.push_back({block, i, all_, kernels_});
      all_ += sizes;
      kernels_ += passes_[i].kernel_size();
    }
    kernel_.resize({kernels_});
    for (const detail::StreamPass<T>& pass : passes_)
      scratch_.resize({(std::max)(scratch_.size(), pass.scratch_size())});
    update(inputs);
  }

  /// Takes over other kernels of the same shape. Allocates nothing. A stream goes on with them; for
  /// twice the steps of the longest partition, its output is of both, and may click: to hear
  /// nothing, run two and fade from one to the other. No step may run at the same time.
  /// Cost: that of making ready, which is no work for a callback.
  /// @throws ShapeError for shapes other than those of the first
  void update(const StreamConvInputs<T>& inputs) {
    check(inputs, channels_, taps_);
    for (const Block& block : blocks_)
      passes_[block.pass].load_kernel(inputs, block.channels, kernel_.data() + block.kernel,
                                      scratch_.data());
  }

  [[nodiscard]] Index channels() const noexcept { return channels_; }  ///< how many there are
  [[nodiscard]] Index taps() const noexcept { return taps_; }          ///< of each kernel

  /// One step after the other; see step.
  void operator()(const View<const T, 2>& u, StreamConvState<T>& state,
                  const View<T, 2>& y) const noexcept {
    detail::check_or_terminate([&] {
      constexpr std::string_view name = "StreamConv step";
      detail::check_given(name, "u", u, "(steps, channels)");
      detail::check_shape(name, "u", u, std::array{u.extent(0), channels_});
      detail::check_output_shape(name, "y", y, u.extents());
      detail::check_same_or_apart(name, "y", y, "u", u);
      check_state(name, state);
    });
    const Index time = state.steps(0);
    for (const Block& block : blocks_)
      passes_[block.pass].run(time, u, y, block.channels, kernel_.data() + block.kernel,
                              memory(block, state));
    state.steps(0) += u.extent(0);
  }

 private:
  using Lanes = detail::Lanes;
  struct Block {
    detail::LongConvBlock channels;
    std::size_t pass;
    detail::StreamSizes before;  // memory of the blocks before it
    Index kernel;
  };

  static void check(const StreamConvInputs<T>& inputs, Index channels, Index taps) {
    constexpr std::string_view name = "StreamConv";
    detail::check_given(name, "kernel", inputs.kernel, "(channels, taps)");
    detail::check_shape(name, "kernel", inputs.kernel, std::array{channels, taps});
    if (taps < 1) detail::throw_shape(name, "kernel", "of no taps", "at least one tap");
    detail::check_optional_shape(name, "D", inputs.D, std::array{channels});
  }
  static void check_power(std::string_view argument, Index steps) {
    if (steps < 0 || (steps & (steps - 1)) != 0)
      detail::throw_domain("StreamConv", argument, std::to_string(steps), "a power of two, or 0");
  }
  void check_state(std::string_view name, const StreamConvState<T>& state) const {
    if (state.steps.size() != 1 || state.steps(0) < 0 || state.past.size() != all_.past ||
        state.head.size() != all_.head || state.spectra.size() != all_.spectra ||
        state.outputs.size() != all_.outputs)
      throw_state(name);
  }
  [[noreturn, gnu::cold, gnu::noinline]] static void throw_state(std::string_view name) {
    detail::throw_shape(name, "state", "of another convolution", "what make_state made for this");
  }
  [[nodiscard]] static detail::StreamMemory<T> memory(const Block& block,
                                                      StreamConvState<T>& state) noexcept {
    const detail::StreamSizes& at = block.before;
    return {state.past.data() + at.past, state.head.data() + at.head,
            state.spectra.data() + at.spectra, state.outputs.data() + at.outputs};
  }

  template <class U>
  friend StreamConvState<U> make_state(const StreamConv<U>& conv);
  template <class U>
  friend void get_past(const StreamConv<U>& conv, const StreamConvState<U>& state,
                       const std::type_identity_t<View<U, 2>>& past);
  template <class U>
  friend void set_past(const StreamConv<U>& conv,
                       const std::type_identity_t<View<const U, 2>>& past,
                       StreamConvState<U>& state);

  Index channels_, taps_;
  std::vector<detail::LongConvBlock> cut_;
  std::vector<detail::StreamPass<T>> passes_;  // of channels in lanes, and of those one by one
  std::vector<Block> blocks_;
  detail::StreamSizes all_;
  Index kernels_ = 0;
  Tensor<T, 1> kernel_;   // of each block: the first taps, and the spectra of the others
  Tensor<T, 1> scratch_;  // of update
};

/// The state of a stream that begins: every input before is zero.
template <class T>
[[nodiscard]] StreamConvState<T> make_state(const StreamConv<T>& conv) {
  const detail::StreamSizes& sizes = conv.all_;
  return {Tensor<Index, 1>({1}), Tensor<T, 1>({sizes.past}), Tensor<T, 1>({sizes.head}),
          Tensor<T, 1>({sizes.spectra}), Tensor<T, 1>({sizes.outputs})};
}

/// Goes through the state's tensors: visit(name, tensor). All zero is the beginning of a stream.
template <class T, class Visit>
void tensors(StreamConvState<T>& state, Visit&& visit) {
  visit("steps", state.steps);
  visit("past", state.past);
  visit("head", state.head);
  visit("spectra", state.spectra);
  visit("outputs", state.outputs);
}

/// Takes any number of steps of a stream, and gives y of each, with the same bits however the
/// stream is cut into calls. Does not allocate, lock or throw; a shape that does not fit ends the
/// program with an error message. To keep steps fast while inputs decay to zero, see
/// FlushDenormals.
///
/// Cost of a step: O(log² taps) for each channel. Any call takes about as long as another of as
/// many steps; the longest of 64 steps took 1.2 to 1.5 times the mean (bench/README.md).
/// @param u (steps, channels), 0 steps or more
/// @param state moves on
/// @param y (steps, channels), may be the same memory as u
template <class T>
void step(const StreamConv<T>& conv, const std::type_identity_t<View<const T, 2>>& u,
          StreamConvState<T>& state, const std::type_identity_t<View<T, 2>>& y) noexcept {
  conv(u, state, y);
}

/// The last taps − 1 inputs of a stream, oldest first: what long_conv takes as a sequence's
/// initial_state to go on from there, as `initial_state.view()[0]` of one that is
/// (1, taps − 1, channels).
/// @param past (taps − 1, channels), overwritten
/// @throws ShapeError
template <class T>
void get_past(const StreamConv<T>& conv, const StreamConvState<T>& state,
              const std::type_identity_t<View<T, 2>>& past) {
  detail::check_output_shape("get_past", "past", past, std::array{conv.taps_ - 1, conv.channels_});
  conv.check_state("get_past", state);
  for (const auto& block : conv.blocks_)
    conv.passes_[block.pass].get_past(state.steps(0), state.past.data() + block.before.past,
                                      block.channels, past);
}

/// The state of a stream after these inputs: what long_conv gives as a sequence's final_state.
/// Allocates. Cost: that of taps − 1 steps.
/// @param past (taps − 1, channels), oldest first
/// @param state overwritten
/// @throws ShapeError
template <class T>
void set_past(const StreamConv<T>& conv, const std::type_identity_t<View<const T, 2>>& past,
              StreamConvState<T>& state) {
  detail::check_shape("set_past", "past", past, std::array{conv.taps_ - 1, conv.channels_});
  state = make_state(conv);
  constexpr Index at_once = 256;
  Tensor<T, 2> unheard({at_once, conv.channels_});
  for (Index t = 0; t < past.extent(0); t += at_once) {
    const Index count = (std::min)(at_once, past.extent(0) - t);
    conv(past.slice(0, t, count), state, unheard.view().slice(0, 0, count));
  }
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE StreamConv<float>::StreamConv(const StreamConvInputs<float>&,
                                           const StreamConvOptions&);
SSM_INSTANCE void StreamConv<float>::update(const StreamConvInputs<float>&);
SSM_INSTANCE void StreamConv<float>::operator()(const View<const float, 2>&,
                                                StreamConvState<float>&,
                                                const View<float, 2>&) const noexcept;
SSM_INSTANCE StreamConv<double>::StreamConv(const StreamConvInputs<double>&,
                                            const StreamConvOptions&);
SSM_INSTANCE void StreamConv<double>::update(const StreamConvInputs<double>&);
SSM_INSTANCE void StreamConv<double>::operator()(const View<const double, 2>&,
                                                 StreamConvState<double>&,
                                                 const View<double, 2>&) const noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
