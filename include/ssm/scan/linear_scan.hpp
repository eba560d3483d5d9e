#pragma once

#include <Eigen/Core>
#include <array>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/detail/linear_scan_checks.hpp"
#include "ssm/scan/detail/linear_scan_pieces.hpp"
#include "ssm/scan/linear_scan_types.hpp"

namespace ssm {
namespace detail {

/// Sequence s of packed ones, as a batch of one.
template <class V>
V packed_steps(const V& view, const View<const Index, 1>& offsets, Index s) {
  return view ? view.slice(1, offsets(s), offsets(s + 1) - offsets(s)) : view;
}
template <class V>
V packed_state(const V& view, Index s) {
  return view ? view.slice(0, s, 1) : view;
}
template <class K>
LinearScanInputs<K> packed_inputs(const LinearScanInputs<K>& in, Index s) {
  const auto& [offsets, reversed] = in.sequences;
  return {packed_steps(in.a, offsets, s),
          packed_steps(in.b, offsets, s),
          packed_state(in.initial_state, s),
          {{}, reversed}};
}

/// linear_scan of arguments that fit, without packing.
template <class K>
void run_linear_scan(const Cpu& backend, const LinearScanInputs<K>& inputs,
                     const LinearScanOutputs<K>& outputs, LinearScanScratch<K>& scratch) {
  const auto [batch, length, channels] = inputs.b.extents();
  const View<K, 3> x = in_time(outputs.x, inputs.sequences);
  scan_pieces<false>(backend, in_time(inputs.a, inputs.sequences),
                     in_time(inputs.b, inputs.sequences), inputs.initial_state, x, scratch,
                     [](auto...) {});
  if (!outputs.final_state) return;
  const View<const K, 3> last = length > 0 ? x.slice(1, length - 1, 1) : scratch.carry.view();
  for (Index s = 0; s < batch; ++s)
    for (Index c = 0; c < channels; ++c) outputs.final_state(s, c) = last(s, 0, c);
}

/// linear_scan_backward of arguments that fit, without packing.
template <class K>
void run_linear_scan_backward(const Cpu& backend, const LinearScanInputs<K>& inputs,
                              const View<const K, 3>& x,
                              const LinearScanOutputGradients<K>& output_gradients,
                              const LinearScanInputGradients<K>& input_gradients,
                              LinearScanScratch<K>& scratch) {
  const auto shape = inputs.b.extents();
  const auto [batch, length, channels] = shape;
  View<const K, 3> x_gradient = output_gradients.x;
  if (!x_gradient) {
    scratch.zero.resize({channels});
    scratch.zero.fill(K(0));
    x_gradient = {scratch.zero.data(), shape, {0, 0, 1}};
  }
  View<K, 3> b_gradient = input_gradients.b;
  if (!b_gradient) {
    scratch.gradient.resize(shape);
    b_gradient = scratch.gradient;
  }

  // Row r of these is step length − 1 − r in time.
  const Sequences<> backwards = inputs.sequences.turned();
  const auto a = in_time(inputs.a, backwards);
  const auto states = in_time(x, backwards);
  const auto g = in_time(b_gradient, backwards);
  const auto a_gradient = input_gradients.a ? in_time(input_gradients.a, backwards) : View<K, 3>();
  const auto emit = [&, length = length](auto width, Index sequence, Index channel, Index count,
                                         Index r) {
    using Rows = ScanRows<K, width>;
    if (!a_gradient) return;
    const auto gradient = Rows(g, sequence, channel, count)(r);
    auto target = Rows(a_gradient, sequence, channel, count)(r);
    if (r + 1 < length) {
      const ScanRows<const K, width> rows(states, sequence, channel, count);
      target = gradient * rows(r + 1).conjugate();
    } else if (inputs.initial_state) {
      for (Index c = 0; c < count; ++c)
        target(c) = gradient(c) * Eigen::numext::conj(inputs.initial_state(sequence, channel + c));
    } else {
      target.setZero();
    }
  };
  scan_pieces<true>(backend, a, in_time(x_gradient, backwards), output_gradients.final_state, g,
                    scratch, emit);

  if (!input_gradients.initial_state) return;
  for (Index s = 0; s < batch; ++s)
    for (Index c = 0; c < channels; ++c)
      input_gradients.initial_state(s, c) =
          length > 0 ? Eigen::numext::conj(a(s, length - 1, c)) * g(s, length - 1, c)
                     : scratch.carry(s, 0, c);
}

}  // namespace detail

/// The linear scan as its formula says, one element after the other: the definition that
/// linear_scan is tested against. Takes any strides.
template <class K>
void linear_scan_reference(const LinearScanInputs<K>& inputs, const LinearScanOptions&,
                           const std::type_identity_t<LinearScanOutputs<K>>& outputs) {
  const auto& [a, b, initial_state, sequences] = inputs;
  const auto [batch, length, channels] = b.extents();
  for (Index s = 0; s < sequences.count(batch); ++s) {
    const auto span = detail::span_of(sequences, s, length);
    for (Index c = 0; c < channels; ++c) {
      K state = initial_state ? initial_state(s, c) : K(0);
      for (Index i = 0; i < span.length(); ++i) {
        const Index t = span.step(i, sequences.reversed);
        state = a(span.row, t, c) * state + b(span.row, t, c);
        outputs.x(span.row, t, c) = state;
      }
      if (outputs.final_state) outputs.final_state(s, c) = state;
    }
  }
}

/// The first-order linear scan x_t = a_t x_{t−1} + b_t of every channel by itself (Blelloch 1990,
/// section 1.4: the operator (a, b)∘(a', b') = (a'a, a'b + b')).
///
/// With few channels and many steps, time is cut into chunks that run side by side, joined by the
/// product of `a` over each. Where |a| > 1 so long that this product overflows, the state after it
/// is NaN or infinite. The scratch remembers where x is, and keeps the initial state where the
/// final one overwrites it, for linear_scan_backward.
///
/// @throws ShapeError when shapes differ, when the channels of a, b or x are not side by side, and
///   for outputs that share memory with each other or with inputs (but x with b, final_state with
///   initial_state) or whose stride is 0; DomainError for offsets that run backward or past the end
/// Cost: 2 flops an element, 6 when time is cut; the same bits for every number of threads;
/// allocates while the scratch grows.
template <class K>
void linear_scan(const Cpu& backend, const LinearScanInputs<K>& inputs, const LinearScanOptions&,
                 const std::type_identity_t<LinearScanOutputs<K>>& outputs,
                 LinearScanScratch<K>& scratch) {
  constexpr std::string_view name = "linear_scan";
  detail::check_linear_scan_inputs(name, inputs);
  detail::check_linear_scan_outputs(name, inputs, outputs);
  scratch.call.drop();
  const bool overwritten = detail::is_same_memory(outputs.final_state, inputs.initial_state);
  const auto states = detail::state_shape(inputs);
  scratch.initial.resize(overwritten ? states : std::array<Index, 2>{});
  if (overwritten)
    for (Index s = 0; s < states[0]; ++s)
      for (Index c = 0; c < states[1]; ++c) scratch.initial(s, c) = inputs.initial_state(s, c);

  const auto& offsets = inputs.sequences.offsets;
  if (!offsets) {
    detail::run_linear_scan(backend, inputs, outputs, scratch);
  } else {
    for (Index s = 0; s + 1 < offsets.extent(0); ++s)
      detail::run_linear_scan<K>(backend, detail::packed_inputs(inputs, s),
                                 {detail::packed_steps(outputs.x, offsets, s),
                                  detail::packed_state(outputs.final_state, s)},
                                 scratch);
  }
  scratch.x = outputs.x;
  scratch.call.keep(detail::linear_scan_call(inputs), detail::linear_scan_variant(inputs));
}

/// The gradients of linear_scan with the same inputs, which filled the scratch and whose outputs.x
/// still holds what it wrote. With g_t = ∂x_t + conj(a_{t+1}) g_{t+1}, which starts from the
/// gradient of the final state:
///
///   ∂b_t = g_t,  ∂a_t = g_t conj(x_{t−1}),  ∂x_{−1} = conj(a_0) g_0,
///
/// the same scan walked back in time. Of b only the shape is read: x may lie in its memory.
///
/// @throws ShapeError, DomainError as linear_scan; ShapeError for a scratch of another call
/// Cost: twice linear_scan; the same bits for every number of threads.
template <class K>
void linear_scan_backward(
    const Cpu& backend, const LinearScanInputs<K>& inputs, const LinearScanOptions&,
    const std::type_identity_t<LinearScanOutputGradients<K>>& output_gradients,
    const std::type_identity_t<LinearScanInputGradients<K>>& input_gradients,
    LinearScanScratch<K>& scratch) {
  constexpr std::string_view name = "linear_scan_backward";
  detail::check_linear_scan_inputs(name, inputs);
  scratch.call.check(name, "linear_scan", detail::linear_scan_call(inputs),
                     detail::linear_scan_variant(inputs));
  const View<const K, 3> x = scratch.x;
  detail::check_linear_scan_gradients<K>(name, inputs, x, output_gradients, input_gradients);
  LinearScanInputs<K> in = inputs;
  if (scratch.initial.size() > 0) in.initial_state = scratch.initial;

  const auto& offsets = in.sequences.offsets;
  if (!offsets)
    return detail::run_linear_scan_backward(backend, in, x, output_gradients, input_gradients,
                                            scratch);
  for (Index s = 0; s + 1 < offsets.extent(0); ++s)
    detail::run_linear_scan_backward<K>(backend, detail::packed_inputs(in, s),
                                        detail::packed_steps(x, offsets, s),
                                        {detail::packed_steps(output_gradients.x, offsets, s),
                                         detail::packed_state(output_gradients.final_state, s)},
                                        {detail::packed_steps(input_gradients.a, offsets, s),
                                         detail::packed_steps(input_gradients.b, offsets, s),
                                         detail::packed_state(input_gradients.initial_state, s)},
                                        scratch);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(linear_scan, LinearScan, float)
SSM_INSTANCE_OPERATION(linear_scan, LinearScan, double)
SSM_INSTANCE_OPERATION(linear_scan, LinearScan, std::complex<float>)
SSM_INSTANCE_OPERATION(linear_scan, LinearScan, std::complex<double>)
#endif

}  // namespace ssm
