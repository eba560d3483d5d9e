#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "ssm/conv/detail/long_conv_pass.hpp"
#include "ssm/conv/long_conv_types.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/view.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The causal convolution of every channel with a kernel of its own,
///
///   y_t = Σ_l K_l u_{t−l} + D u_t,  l = 0 … taps − 1,
///
/// where the initial state holds the inputs before the first one. The final state is the last
/// taps − 1 inputs, so that a sequence can be split anywhere and a stream convolved in pieces; for
/// pieces much shorter than the taps see StreamConv.
/// Packed sequences are convolved one by one.
///
/// Cost: length · taps multiply-adds, or O((length + taps) log taps) by transforms; where
/// neighbouring packed sequences differ in length, also one transform of the taps. The bits are the
/// same for every number of threads. Allocates while the scratch grows.
///
/// @throws ShapeError for shapes that do not fit and outputs in memory that LongConvOutputs does
///   not allow; DomainError for offsets that do not cut the batch into sequences, and when a
///   transform would be longer than longest_fft: for the method fft, when the length of a sequence
///   plus the taps exceeds it; for the methods automatic and chunked, when the taps exceed a
///   quarter of it
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
  detail::for_conv_blocks(backend, scratch, [&](const detail::LongConvBlock& block, auto& w) {
    const auto convolve = [&](Index s, const detail::SequenceSpan& span) {
      const Index length = span.length();
      const View<T, 2> to = detail::steps_of(outputs.y, span, inputs.sequences.reversed);
      if (!inputs.initial_state && conv.is_half(w, block, length)) {
        conv.write_final_state(s, span, block, outputs.final_state);
        return conv.convolve_half(w, detail::steps_of(inputs.u, span, inputs.sequences.reversed),
                                  to, block);
      }
      const bool whole = conv.is_whole(w, block, length);
      whole ? conv.load_whole(w, s, span, block) : conv.load_past(w, s, span, block);
      conv.write_final_state(s, span, block, outputs.final_state);
      if (!whole) {
        conv.forward(w, block, length);
        return detail::store_block(w.y.data(), block, to);
      }
      conv.convolve(w);
      const detail::BlockRows<T> rows(to, block);
      for (Index t = 0; t < length; ++t)
        rows.store(t, w.transform->row(w.input.data(), w.plan.taps - 1 + t));
    };
    conv.for_sequences(
        w, block, convolve, [] {}, [] {});
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
  detail::for_conv_blocks(backend, scratch, [&](const detail::LongConvBlock& block, auto& w) {
    const Index width = block.width, all_taps = inputs.kernel.extent(1);
    w.dtaps.resize({all_taps * width});
    w.dtaps.fill(T(0));
    const auto go_back = [&](Index s, const detail::SequenceSpan& span) {
      const Index before = w.plan.taps - 1, length = span.length();
      const bool reversed = inputs.sequences.reversed;
      const View<const T, 2> dy = detail::steps_of(dout.y, span, reversed);
      const bool stateful = inputs.initial_state || din.initial_state || dout.final_state;
      if (!stateful && conv.is_half(w, block, length))
        return conv.convolve_half_backward(
            w, detail::steps_of(inputs.u, span, reversed), dy,
            din.u ? detail::steps_of(din.u, span, reversed) : View<T, 2>(), block);
      w.dpast.resize({(before + length) * width});
      if (conv.is_whole(w, block, length)) {
        conv.load_whole(w, s, span, block);
        conv.load_gradient(w, dy, block);
        conv.convolve_backward(w);
        for (Index t = 0; t < before + length; ++t)
          w.transform->row(w.output.data(), t).store(w.dpast.data() + t * width);
      } else {
        conv.load_past(w, s, span, block);
        w.y.resize({length * width});
        detail::load_block(dy, block, w.y.data());
        w.dpast.fill(T(0));
        conv.backward(w, block, length);
      }
      const Index count = conv.states[1], first = before + length - count;  // of the state
      for (Index i = (std::max<Index>)(0, -first); dout.final_state && i < count; ++i)
        for (Index c = 0; c < block.used; ++c)
          w.dpast((first + i) * width + c) += dout.final_state(s, i, block.channel + c);
      if (din.u)
        detail::store_block(w.dpast.data() + before * width, block,
                            detail::steps_of(din.u, span, reversed));
      for (Index i = 0; din.initial_state && i < count; ++i)
        for (Index c = 0; c < block.used; ++c)
          din.initial_state(s, i, block.channel + c) = w.dpast(i * width + c);
    };
    conv.for_sequences(
        w, block, go_back, [&] { w.dkernel.fill(T(0)); }, [&] { conv.leave_backward(w, block); });
    for (Index c = 0; din.D && c < block.used; ++c)
      din.D(block.channel + c) = w.dtaps(c);  // of K_0
    if (din.kernel) detail::store_taps(w.dtaps.data(), block, din.kernel);
  });
}

/// Makes kernels ready: their spectra, for long_conv of sequences of so many steps, which then
/// takes about half the time. They serve any number of threads at once.
///
/// Cost: one transform a channel.
/// @throws ShapeError and DomainError as long_conv
template <class T>
void long_conv_spectra(const Cpu& backend, const LongConvSpectraInputs<T>& inputs,
                       const LongConvSpectraOptions& options,
                       const LongConvSpectraOutputs<T>& outputs,
                       LongConvSpectraScratch<T>& scratch) {
  constexpr std::string_view name = "long_conv_spectra";
  detail::check_given(name, "kernel", inputs.kernel, "(channels, taps)");
  if (options.length < 0)
    detail::throw_domain(name, "length", std::to_string(options.length), "0 or more");
  // A sequence of that length; none of its elements is read.
  const Index channels = inputs.kernel.extent(0);
  const T none(0);
  const LongConvInputs<T> shape{.u = {&none, {1, options.length, channels}, {0, 0, 0}},
                                .kernel = inputs.kernel,
                                .D = inputs.D};
  const detail::LongConv<T> conv(name, shape, {options.method}, true, scratch.conv);
  LongConvSpectra<T>& spectra = outputs.spectra;
  spectra.plan = conv.sequences.front().plan;
  spectra.channels = channels;
  spectra.with_D = static_cast<bool>(inputs.D);
  const Index size = spectra.plan.size;
  spectra.spectra.resize(
      {conv.blocks.empty() ? 0 : size * (conv.blocks.back().memory + conv.blocks.back().width)});
  if (size == 0) return;
  detail::for_conv_blocks(backend, scratch.conv, [&](const detail::LongConvBlock& block, auto& w) {
    w.plan = spectra.plan;
    conv.make_spectrum(w, block, spectra.spectra.data() + block.memory * size);
  });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(long_conv, LongConv, float)
SSM_INSTANCE_OPERATION(long_conv, LongConv, double)
SSM_INSTANCE_FORWARD(long_conv_spectra, LongConvSpectra, float)
SSM_INSTANCE_FORWARD(long_conv_spectra, LongConvSpectra, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
