#pragma once

#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/view.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/ranks.hpp"
#include "ssm/scan/diagonal_recurrence.hpp"
#include "ssm/scan/diagonal_scan.hpp"
#include "ssm/scan/dplr_scan.hpp"

/// @file
/// The scans of S4D and S4 over ranks, each with its own steps. A rank waits for the state before
/// them, scans, and hands its last state on: (sequences · channels · state) numbers, whatever the
/// length. Backward, gradients by states run from the last rank to the first.

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// diagonal_scan or `recurrence`, by `run(inputs, outputs)`.
template <class T, class K, class Run>
void diagonal_over_ranks(std::string_view function, const Ranks& backend,
                         const DiagonalScanInputs<T, K>& inputs, const DiagonalScanOptions& options,
                         const DiagonalScanOutputs<T, K>& outputs,
                         DiagonalScanScratch<T, K>& scratch, const Run& run) {
  check_diagonal_inputs(function, inputs, options);
  check_diagonal_outputs(function, inputs, outputs);
  refuse_packed(function, inputs.sequences);
  const bool reversed = inputs.sequences.reversed;
  hand_states_on(Chain(backend, reversed), inputs, outputs.final_state, diagonal_states(inputs),
                 scratch.passed[reversed ? 1 : 0],
                 [&](const DiagonalScanInputs<T, K>& in, const View<K, 3>& final_state) {
                   run(in, DiagonalScanOutputs<T, K>{outputs.y, final_state});
                 });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// diagonal_scan over ranks.
/// @throws ShapeError and DomainError as on the cpu; DomainError for packed sequences; MpiError
template <class T, class K>
void diagonal_scan(const Ranks& backend, const DiagonalScanInputs<T, K>& inputs,
                   const DiagonalScanOptions& options,
                   const std::type_identity_t<DiagonalScanOutputs<T, K>>& outputs,
                   DiagonalScanScratch<T, K>& scratch) {
  detail::check_constant("diagonal_scan", inputs.delta);
  detail::diagonal_over_ranks("diagonal_scan", backend, inputs, options, outputs, scratch,
                              [&](const auto& in, const auto& out) {
                                diagonal_scan(backend.local, in, options, out, scratch);
                              });
}

/// `recurrence` of diagonal systems over ranks.
/// @throws ShapeError and DomainError as on the cpu; DomainError for packed sequences; MpiError
template <class T, class K>
void recurrence(const Ranks& backend, const DiagonalScanInputs<T, K>& inputs,
                const DiagonalScanOptions& options,
                const std::type_identity_t<DiagonalScanOutputs<T, K>>& outputs,
                DiagonalScanScratch<T, K>& scratch) {
  detail::diagonal_over_ranks("recurrence", backend, inputs, options, outputs, scratch,
                              [&](const auto& in, const auto& out) {
                                recurrence(backend.local, in, options, out, scratch);
                              });
}

/// The gradients of diagonal_scan or `recurrence` over ranks. The scratch holds the state that the
/// forward pass in the same direction of time took from the rank before.
/// @throws as diagonal_scan, and ShapeError for a scratch of another call
template <class T, class K>
void diagonal_scan_backward(
    const Ranks& backend, const DiagonalScanInputs<T, K>& inputs,
    const DiagonalScanOptions& options,
    const std::type_identity_t<DiagonalScanOutputGradients<T, K>>& output_gradients,
    const std::type_identity_t<DiagonalScanInputGradients<T, K>>& input_gradients,
    DiagonalScanScratch<T, K>& scratch) {
  constexpr std::string_view function = "diagonal_scan_backward";
  detail::check_constant(function, inputs.delta);
  detail::check_diagonal_inputs(function, inputs, options);
  detail::check_diagonal_gradients(function, inputs, output_gradients, input_gradients);
  detail::refuse_packed(function, inputs.sequences);
  const bool reversed = inputs.sequences.reversed;
  const detail::Chain chain(backend, reversed);
  const auto states = detail::diagonal_states(inputs);
  auto& passed = scratch.passed[reversed ? 1 : 0];
  DiagonalScanInputs<T, K> in = inputs;
  detail::restore_initial_state(function, chain, in, states, passed);
  detail::hand_gradients_back(chain, output_gradients.final_state, input_gradients.initial_state,
                              states, passed,
                              [&](const View<const K, 3>& dfinal, const View<K, 3>& dinitial) {
                                DiagonalScanInputGradients<T, K> din = input_gradients;
                                din.initial_state = dinitial;
                                diagonal_scan_backward(backend.local, in, options,
                                                       {output_gradients.y, dfinal}, din, scratch);
                              });
}

/// dplr_scan over ranks.
/// @throws ShapeError and DomainError as on the cpu; DomainError for packed sequences; MpiError
template <class T>
void dplr_scan(const Ranks& backend, const DplrScanInputs<T>& inputs,
               const DplrScanOptions& options,
               const std::type_identity_t<DplrScanOutputs<T>>& outputs,
               DplrScanScratch<T>& scratch) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "dplr_scan";
  const auto sizes = detail::check_dplr_inputs(function, inputs);
  detail::check_dplr_outputs(function, inputs, sizes, options, outputs);
  detail::refuse_packed(function, inputs.sequences);
  detail::hand_states_on(detail::Chain(backend, inputs.sequences.reversed), inputs,
                         outputs.final_state,
                         std::array{sizes.sequences, sizes.channels, sizes.modes}, scratch.passed,
                         [&](const DplrScanInputs<T>& in, const View<Complex, 3>& final_state) {
                           dplr_scan(backend.local, in, options, {outputs.y, final_state}, scratch);
                         });
}

/// The gradients of dplr_scan over ranks.
/// @throws as dplr_scan, and ShapeError for a scratch of another call
template <class T>
void dplr_scan_backward(const Ranks& backend, const DplrScanInputs<T>& inputs,
                        const DplrScanOptions& options,
                        const std::type_identity_t<DplrScanOutputGradients<T>>& output_gradients,
                        const std::type_identity_t<DplrScanInputGradients<T>>& input_gradients,
                        DplrScanScratch<T>& scratch) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "dplr_scan_backward";
  const auto sizes = detail::check_dplr_inputs(function, inputs);
  detail::check_dplr_gradients(function, inputs, sizes, output_gradients, input_gradients);
  detail::refuse_packed(function, inputs.sequences);
  const detail::Chain chain(backend, inputs.sequences.reversed);
  const std::array states{sizes.sequences, sizes.channels, sizes.modes};
  DplrScanInputs<T> in = inputs;
  detail::restore_initial_state(function, chain, in, states, scratch.passed);
  detail::hand_gradients_back(
      chain, output_gradients.final_state, input_gradients.initial_state, states, scratch.passed,
      [&](const View<const Complex, 3>& dfinal, const View<Complex, 3>& dinitial) {
        DplrScanInputGradients<T> din = input_gradients;
        din.initial_state = dinitial;
        dplr_scan_backward(backend.local, in, options, {output_gradients.y, dfinal}, din, scratch);
      });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
