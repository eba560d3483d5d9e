#pragma once

#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/detail/chunked_scan.hpp"
#include "ssm/scan/detail/diagonal_scan_checks.hpp"
#include "ssm/scan/diagonal_scan_types.hpp"

namespace ssm {

/// The recurrence of diagonal time-invariant systems, one with one input and one output a channel,
/// as matrix products:
///
///   x_t = ā x_{t−1} + B̄ u_t,  y_t = [2 Re] C·x_t + D u_t,
///
/// the same as `recurrence` with a constant Δ, which defines it. The steps of a chunk (32 floats
/// with AVX-512) are taken at once: the inputs of a chunk meet the kernel C ā^j B̄ and the state
/// that enters it meets C ā^{j+1}, so that the recurrence itself runs over whole chunks with
/// ā^chunk (Dao & Gu 2024, section 6, for a constant ā). Powers are taken in double: over time they
/// are exact to the rounding of one step a chunk, where the plain loop rounds ā at every step. An
/// input that is not finite spoils the chunk it lies in and what follows.
///
/// @param inputs with Δ (channels)
/// @param outputs y may be the memory of u, final_state that of initial_state
/// @throws ShapeError for shapes that do not fit, for a Δ of each step, and for outputs that share
///   any other memory or whose stride is 0; DomainError when the method changes C or D, when a Δ is
///   not positive and finite, or when offsets run backward or past the end
/// Cost: for complex states 4 state + chunk multiply-adds a channel and step, and
/// O(state · chunk) a channel; the same bits for every number of threads; allocates while the
/// scratch grows.
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

/// The gradients of diagonal_scan with the same inputs and options. Nothing is kept from the
/// forward pass: the states at the edges of chunks are computed again, from u and the initial state
/// as forward found them. So backward may follow another form of the same system's forward pass,
/// the recurrence or a convolution.
///
/// @throws ShapeError, DomainError as diagonal_scan
/// Cost: about three times diagonal_scan; the same bits for every number of threads.
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

}  // namespace ssm
