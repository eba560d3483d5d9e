#pragma once

#include <array>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/scan/detail/chunked_scan.hpp"
#include "ssm/scan/diagonal_recurrence.hpp"

namespace ssm {

/// Gradients of a scalar loss that backward reads.
template <class T, class K = T>
struct DiagonalScanOutputGradients {
  View<const T, 3> y;            ///< (batch, length, channels)
  View<const K, 3> final_state;  ///< (sequences, channels, state), optional: zero when absent
};

/// Gradients that backward overwrites, each with the shape of its input; absent ones are skipped.
/// The gradient by a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class K = T>
struct DiagonalScanInputGradients {
  View<T, 3> u;  ///< may be the memory of the gradient of y
  View<K, 2> lambda;
  View<K, 2> B;
  View<K, 2> C;
  View<T, 1> D;
  View<T, 1> delta;
  View<K, 3> initial_state;  ///< may be the memory of the gradient of final_state
};

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
/// @param inputs u (batch, length, channels), λ, B, C (channels, state), D, initial_state, offsets
/// @param delta Δ (channels), s
/// @param outputs y may be the memory of u, final_state that of initial_state
/// @throws ShapeError, and DomainError when the method changes C or D or offsets run backward or
///   past the end
/// Cost: for complex states 4 state + chunk multiply-adds a channel and step, and
/// O(state · chunk) a channel; the same bits for every number of threads; allocates while the
/// workspace grows.
template <class T, class K = T>
void diagonal_scan(const Cpu& backend, Discretization method,
                   const DiagonalRecurrenceInputs<T, K>& inputs,
                   const std::type_identity_t<View<const T, 1>>& delta,
                   const DiagonalScanOptions& options,
                   const DiagonalRecurrenceOutputs<T, K>& outputs,
                   DiagonalScanWorkspace<T>& workspace) {
  constexpr std::string_view name = "diagonal_scan";
  const Index channels = inputs.u.extent(2);
  detail::check_diagonal_inputs(name, method, inputs);
  detail::check_shape(name, "delta", delta, std::array{channels});
  detail::check_diagonal_outputs(name, inputs, outputs);
  detail::for_channel_blocks<T>(
      backend, channels, workspace, [&](Index first, Index count, auto& scratch) {
        detail::ChunkedScan<T, K>(method, inputs, delta, options.reversed, first, count, scratch)
            .forward(outputs);
      });
}

/// The gradients of diagonal_scan with the same inputs and options. Nothing is kept from the
/// forward pass: the states at the edges of chunks are computed again.
///
/// @throws ShapeError, and DomainError when the method changes C or D or offsets run backward or
///   past the end
/// Cost: about three times diagonal_scan; the same bits for every number of threads.
template <class T, class K = T>
void diagonal_scan_backward(const Cpu& backend, Discretization method,
                            const DiagonalRecurrenceInputs<T, K>& inputs,
                            const std::type_identity_t<View<const T, 1>>& delta,
                            const DiagonalScanOptions& options,
                            const DiagonalScanOutputGradients<T, K>& output_gradients,
                            const DiagonalScanInputGradients<T, K>& input_gradients,
                            DiagonalScanWorkspace<T>& workspace) {
  constexpr std::string_view name = "diagonal_scan_backward";
  const Index channels = inputs.u.extent(2);
  detail::check_diagonal_inputs(name, method, inputs);
  detail::check_shape(name, "delta", delta, std::array{channels});
  const std::array rows{channels, inputs.lambda.extent(1)};
  const std::array states{detail::sequence_count(inputs), channels, rows[1]};
  const auto& [dy, dfinal] = output_gradients;
  const auto& din = input_gradients;
  detail::check_shape(name, "the gradient of y", dy, inputs.u.extents());
  detail::check_optional_shape(name, "the gradient of final_state", dfinal, states);
  detail::check_optional_shape(name, "the gradient of u", din.u, inputs.u.extents());
  detail::check_optional_shape(name, "the gradient of lambda", din.lambda, rows);
  detail::check_optional_shape(name, "the gradient of B", din.B, rows);
  detail::check_optional_shape(name, "the gradient of C", din.C, rows);
  detail::check_optional_shape(name, "the gradient of D", din.D, std::array{channels});
  detail::check_optional_shape(name, "the gradient of delta", din.delta, std::array{channels});
  detail::check_optional_shape(name, "the gradient of initial_state", din.initial_state, states);
  detail::for_channel_blocks<T>(
      backend, channels, workspace, [&](Index first, Index count, auto& scratch) {
        detail::ChunkedScan<T, K>(method, inputs, delta, options.reversed, first, count, scratch)
            .backward(output_gradients, input_gradients);
      });
}

}  // namespace ssm
