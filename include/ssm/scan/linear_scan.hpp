#pragma once

#include <array>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/detail/linear_scan_checks.hpp"
#include "ssm/scan/detail/linear_scan_pieces.hpp"
#include "ssm/scan/linear_scan_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

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

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The linear scan x_t = a_t x_{t−1} + b_t, computed one element after the other with any strides.
/// This plain loop defines what linear_scan computes faster.
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

/// The first-order linear scan x_t = a_t x_{t−1} + b_t, every channel by itself (Blelloch 1990,
/// section 1.4: the operator (a, b)∘(a', b') = (a'a, a'b + b')).
///
/// With few channels and many steps, time is cut into chunks that run in parallel and are then
/// joined with the product of `a` over each chunk. When |a| > 1 over so many steps that this
/// product overflows, the states after it are NaN or infinite. For linear_scan_backward the scratch
/// remembers where x is, and keeps a copy of the initial state when the final state overwrites it.
///
/// @throws ShapeError when shapes differ, when the channels of a, b or x are not side by side, and
///   for outputs that share memory with each other or with inputs (x may share that of b,
///   final_state that of initial_state) or whose stride is 0; DomainError for offsets that run
///   backward or past the end
/// Cost: 2 flops for each element, 6 when time is cut. The bits are the same for every number of
/// threads. Allocates while the scratch grows.
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

/// The gradients of the linear_scan that filled the scratch with these inputs. It reads the x that
/// linear_scan wrote where it was written, so that memory must be unchanged.
///
///   g_t = ∂x_t + conj(a_{t+1}) g_{t+1}, starting from the gradient of the final state,
///   ∂b_t = g_t,  ∂a_t = g_t conj(x_{t−1}),  ∂x_{−1} = conj(a_0) g_0:
///
/// a linear scan that runs back in time. The values of b are not read, so that x may have been
/// written over them.
///
/// @throws ShapeError and DomainError as linear_scan; ShapeError for a scratch of another call
/// Cost: twice linear_scan. The bits are the same for every number of threads.
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

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
