#pragma once

#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/detail/chunked_scan.hpp"
#include "ssm/scan/detail/diagonal_scan_checks.hpp"
#include "ssm/scan/diagonal_scan_types.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Runs diagonal time-invariant systems, each channel one with one input and one output, by matrix
/// products over chunks of time:
///
///   x_t = ā x_{t−1} + B̄ u_t,  y_t = [2 Re] C·x_t + D u_t,
///
/// with ā and B̄ from λ and B by options.method, and 2 Re for a complex K. The result is that of
/// `recurrence` with a constant Δ.
///
/// A chunk is 32 steps of float with AVX-512. Its outputs are those of its own inputs, through the
/// kernel C ā^j B̄, and those of the state before it, through C ā^{j+1}; the recurrence runs only
/// from chunk to chunk, with ā^chunk (Dao & Gu 2024, section 6, for a constant ā). Powers of ā are
/// computed in double and rounded once for each chunk; the plain loop rounds at every step. An
/// input that is NaN or infinite makes the outputs of its channel NaN or infinite from its step on,
/// and those of some steps before it in its chunk.
///
/// @param inputs with a constant Δ (channels)
/// @param outputs y may be the memory of u, final_state that of initial_state
/// @throws ShapeError for shapes that do not fit, for a Δ of each step, and for outputs that share
///   any other memory or whose stride is 0; DomainError when the method changes C or D, when a Δ is
///   not positive and finite, or when offsets run backward or past the end
/// Cost: for complex states, 4 state + chunk multiply-adds for each channel and step, and
/// O(state · chunk) for each channel. The bits are the same for every number of threads. Allocates
/// while the scratch grows.
template <class T, class K>
void diagonal_scan(const Cpu& backend, const DiagonalScanInputs<T, K>& inputs,
                   const DiagonalScanOptions& options,
                   const std::type_identity_t<DiagonalScanOutputs<T, K>>& outputs,
                   DiagonalScanScratch<T, K>& scratch) {
  constexpr std::string_view name = "diagonal_scan";
  detail::check_constant(name, inputs.delta);
  detail::check_diagonal_inputs(name, inputs, options);
  detail::check_diagonal_outputs(name, inputs, outputs);
  detail::for_channel_blocks(
      backend, inputs.u.extent(2), scratch, [&](Index first, Index count, auto& room) {
        detail::ChunkedScan<T, K>(inputs, options, first, count, room).forward(outputs);
      });
}

/// The gradients of diagonal_scan with the same inputs and options.
///
/// It reads u and the initial state, which must not have been overwritten, and computes the states
/// again. It needs nothing that the forward pass left, so the outputs may also come from
/// `recurrence` or a convolution with the kernel of the same system.
///
/// @throws ShapeError, DomainError as diagonal_scan
/// Cost: about three times diagonal_scan. The bits are the same for every number of threads.
template <class T, class K>
void diagonal_scan_backward(
    const Cpu& backend, const DiagonalScanInputs<T, K>& inputs, const DiagonalScanOptions& options,
    const std::type_identity_t<DiagonalScanOutputGradients<T, K>>& output_gradients,
    const std::type_identity_t<DiagonalScanInputGradients<T, K>>& input_gradients,
    DiagonalScanScratch<T, K>& scratch) {
  constexpr std::string_view name = "diagonal_scan_backward";
  detail::check_constant(name, inputs.delta);
  detail::check_diagonal_inputs(name, inputs, options);
  detail::check_diagonal_gradients(name, inputs, output_gradients, input_gradients);
  detail::for_channel_blocks(backend, inputs.u.extent(2), scratch,
                             [&](Index first, Index count, auto& room) {
                               detail::ChunkedScan<T, K>(inputs, options, first, count, room)
                                   .backward(output_gradients, input_gradients);
                             });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(diagonal_scan, DiagonalScan, float, float)
SSM_INSTANCE_OPERATION(diagonal_scan, DiagonalScan, float, std::complex<float>)
SSM_INSTANCE_OPERATION(diagonal_scan, DiagonalScan, double, double)
SSM_INSTANCE_OPERATION(diagonal_scan, DiagonalScan, double, std::complex<double>)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
