#pragma once

#include <array>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/ranks.hpp"
#include "ssm/scan/diagonal_recurrence.hpp"
#include "ssm/scan/diagonal_scan.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// The views of inputs for a block of channels: all but the initial state.
template <class T, class K>
[[nodiscard]] DiagonalScanInputs<T, K> diagonal_part(const DiagonalScanInputs<T, K>& whole,
                                                     const Share& own,
                                                     const View<const K, 3>& initial_state) {
  DiagonalScanInputs<T, K> part = whole;
  part.u = part_of(whole.u, 2, own);
  part.lambda = part_of(whole.lambda, 0, own);
  part.delta.constant = part_of(whole.delta.constant, 0, own);
  part.delta.varying = part_of(whole.delta.varying, 2, own);
  part.B = part_of(whole.B, 0, own);
  part.C = part_of(whole.C, 0, own);
  part.D = part_of(whole.D, 0, own);
  part.initial_state = initial_state;
  return part;
}

/// diagonal_scan or `recurrence`, by `run(inputs, outputs)` of a block of channels.
template <class T, class K, class Run>
void diagonal_over_ranks(std::string_view function, const Ranks& backend,
                         const DiagonalScanInputs<T, K>& inputs, const DiagonalScanOptions& options,
                         const DiagonalScanOutputs<T, K>& outputs,
                         DiagonalScanScratch<T, K>& scratch, const Run& run) {
  check_diagonal_inputs(function, inputs, options);
  check_diagonal_outputs(function, inputs, outputs);
  check_packed(function, inputs.sequences);
  const bool reversed = inputs.sequences.reversed;
  const auto [sequences, channels, state] = diagonal_states(inputs);
  const Chain chain(backend, inputs.sequences);
  const ScanBlocks blocks(backend, channels);
  hand_blocks_on<K, 3>(
      chain, blocks, inputs.initial_state, outputs.final_state, {sequences, channels, state},
      scratch.passed[reversed ? 1 : 0],
      [&](Index, const Share& own, const View<const K, 3>& initial, const View<K, 3>& after) {
        run(diagonal_part(inputs, own, initial),
            DiagonalScanOutputs<T, K>{part_of(outputs.y, 2, own), after});
      });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// diagonal_scan over ranks, each with its own steps. A rank waits for the state before them,
/// scans, and hands its last state on, a block of channels after the other: (sequences · channels ·
/// state) numbers, whatever the length.
/// @throws ShapeError and DomainError as on the cpu; MpiError
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

/// `recurrence` of diagonal systems over ranks, as diagonal_scan.
/// @throws ShapeError and DomainError as on the cpu; MpiError
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

/// The gradients of diagonal_scan or `recurrence` over ranks: those by states run from the last
/// rank to the first. The scratch holds the states that the forward pass in the same direction of
/// time took from the rank before.
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
  detail::check_packed(function, inputs.sequences);
  const bool reversed = inputs.sequences.reversed;
  const auto [sequences, channels, state] = detail::diagonal_states(inputs);
  const detail::Chain chain(backend, inputs.sequences);
  const detail::ScanBlocks blocks(backend, channels);
  detail::hand_blocks_back<K, 3>(
      function, chain, blocks, inputs.initial_state, output_gradients.final_state,
      input_gradients.initial_state, {sequences, channels, state}, scratch.passed[reversed ? 1 : 0],
      [&](Index, const Share& own, const View<const K, 3>& initial, const View<const K, 3>& dfinal,
          const View<K, 3>& dinitial) {
        const auto& whole = input_gradients;
        DiagonalScanInputGradients<T, K> din;
        din.u = detail::part_of(whole.u, 2, own);
        din.lambda = detail::part_of(whole.lambda, 0, own);
        din.delta = detail::part_of(whole.delta, 0, own);
        din.B = detail::part_of(whole.B, 0, own);
        din.C = detail::part_of(whole.C, 0, own);
        din.D = detail::part_of(whole.D, 0, own);
        din.initial_state = dinitial;
        diagonal_scan_backward(backend.local, detail::diagonal_part(inputs, own, initial), options,
                               {detail::part_of(output_gradients.y, 2, own), dfinal}, din, scratch);
      },
      [](Index) {});
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
