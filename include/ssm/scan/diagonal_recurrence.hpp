#pragma once

#include <complex>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/scan/detail/diagonal_scan_checks.hpp"
#include "ssm/scan/diagonal_scan_types.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Runs every channel with the (ā, B̄) that `mode_at(row, t, c, n)` gives for its states.
template <class T, class K, class ModeAt>
void run_diagonal_recurrence(const Cpu& backend, const DiagonalScanInputs<T, K>& in,
                             const DiagonalScanOutputs<T, K>& out,
                             DiagonalScanScratch<T, K>& scratch, const ModeAt& mode_at) {
  const auto [sequences, channels, state] = diagonal_states(in);
  scratch.state.resize({sequences * channels, state});
  parallel_for(backend, sequences * channels, [&, channels = channels, state = state](Index task) {
    const Index s = task / channels, c = task % channels;
    const SequenceSpan span = span_of(in.sequences, s, in.u.extent(1));
    K* x = scratch.state.data() + task * state;
    for (Index n = 0; n < state; ++n) x[n] = in.initial_state ? in.initial_state(s, c, n) : K(0);
    for (Index i = 0; i < span.length(); ++i) {
      const Index t = span.step(i, in.sequences.reversed);
      const T u = in.u(span.row, t, c);
      T sum = 0;
      for (Index n = 0; n < state; ++n) {
        const auto [a_bar, b_bar] = mode_at(span.row, t, c, n);
        x[n] = a_bar * x[n] + b_bar * u;
        sum += std::real(in.C(c, n) * x[n]);
      }
      out.y(span.row, t, c) = output_scale<K> * sum + (in.D ? in.D(c) * u : T(0));
    }
    if (out.final_state)
      for (Index n = 0; n < state; ++n) out.final_state(s, c, n) = x[n];
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs diagonal systems x' = λ x + B u, y = [2 Re] C·x + D u step by step, each channel a system
/// with one input and one output. The sample time Δ is one number for each channel, or one for each
/// channel and step (irregularly sampled sequences):
///
///   x_t = ā x_{t−1} + B̄ u_t,  y_t = [2 Re] C·x_t + D u_t,
///
/// with ā and B̄ from λ and B by options.method (S4D: Gu et al. 2022, section 3), and 2 Re for a
/// complex K. This plain loop defines what diagonal_scan computes faster.
///
/// When Δ varies with the step, it is not checked to be positive and finite. A wrong Δ makes the
/// results of its channel and sequence wrong from that step on, and no others.
///
/// Cost: batch · length · channels · state multiply-adds, and the discretization of each mode, once
/// or (with a Δ for each step) at each step. The bits are the same for every number of threads.
/// Allocates while the scratch grows.
/// @throws ShapeError for shapes that do not fit, and for outputs that share other memory than
///   DiagonalScanOutputs allows or whose stride is 0; DomainError when the method changes C or D,
///   when a constant Δ is not positive and finite, or when offsets run backward or past the end
template <class T, class K>
void recurrence(const Cpu& backend, const DiagonalScanInputs<T, K>& inputs,
                const DiagonalScanOptions& options,
                const std::type_identity_t<DiagonalScanOutputs<T, K>>& outputs,
                DiagonalScanScratch<T, K>& scratch) {
  constexpr std::string_view name = "recurrence";
  detail::check_diagonal_inputs(name, inputs, options);
  detail::check_diagonal_outputs(name, inputs, outputs);
  if (inputs.delta.varying)
    return detail::run_diagonal_recurrence(
        backend, inputs, outputs, scratch, [&](Index row, Index t, Index c, Index n) {
          const DiscreteMode<K> mode =
              discretize(options.method, inputs.lambda(c, n), inputs.delta.varying(row, t, c));
          return std::pair{mode.a_bar, mode.b_bar_factor * inputs.B(c, n)};
        });
  scratch.a_bar.resize(inputs.lambda.extents());
  scratch.b_bar.resize(inputs.lambda.extents());
  discretize_diagonal<K>(backend, options.method, inputs.lambda, inputs.delta.constant,
                         scratch.a_bar, scratch.b_bar);
  for (Index c = 0; c < inputs.lambda.extent(0); ++c)
    for (Index n = 0; n < inputs.lambda.extent(1); ++n) scratch.b_bar(c, n) *= inputs.B(c, n);
  const View<const K, 2> a_bar = scratch.a_bar, b_bar = scratch.b_bar;
  detail::run_diagonal_recurrence(backend, inputs, outputs, scratch,
                                  [&](Index, Index, Index c, Index n) {
                                    return std::pair{a_bar(c, n), b_bar(c, n)};
                                  });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_FORWARD(recurrence, DiagonalScan, float, float)
SSM_INSTANCE_FORWARD(recurrence, DiagonalScan, float, std::complex<float>)
SSM_INSTANCE_FORWARD(recurrence, DiagonalScan, double, double)
SSM_INSTANCE_FORWARD(recurrence, DiagonalScan, double, std::complex<double>)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
