#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/ranks.hpp"
#include "ssm/scan/dplr_scan.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// The views of inputs, or of their gradients, for a block of channels: all but the initial state.
template <class Views>
[[nodiscard]] Views dplr_part(const Views& whole, const Share& own) {
  Views part = whole;
  part.u = part_of(whole.u, 2, own);
  part.lambda = part_of(whole.lambda, 0, own);
  part.P = part_of(whole.P, 0, own);
  part.delta = part_of(whole.delta, 0, own);
  part.B = part_of(whole.B, 0, own);
  part.C = part_of(whole.C, 0, own);
  part.D = part_of(whole.D, 0, own);
  part.initial_state = {};
  return part;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// dplr_scan over ranks, each with its own steps. A rank waits for the state before them, scans,
/// and hands its last state on, a block of channels after the other: (sequences · channels ·
/// state/2) complex numbers, whatever the length.
/// @throws ShapeError and DomainError as on the cpu; MpiError
template <class T>
void dplr_scan(const Ranks& backend, const DplrScanInputs<T>& inputs,
               const DplrScanOptions& options,
               const std::type_identity_t<DplrScanOutputs<T>>& outputs,
               DplrScanScratch<T>& scratch) {
  using K = std::complex<T>;
  constexpr std::string_view function = "dplr_scan";
  const auto sizes = detail::check_dplr_inputs(function, inputs);
  detail::check_dplr_outputs(function, inputs, sizes, options, outputs);
  detail::check_packed(function, inputs.sequences);
  const detail::Chain chain(backend, inputs.sequences);
  const detail::ScanBlocks blocks(backend, sizes.channels);
  blocks.make_room(scratch.blocks);
  detail::hand_blocks_on<K, 3>(
      chain, blocks, inputs.initial_state, outputs.final_state,
      {sizes.sequences, sizes.channels, sizes.modes}, scratch.passed,
      [&](Index i, const Share& own, const View<const K, 3>& initial, const View<K, 3>& after) {
        auto in = detail::dplr_part(inputs, own);
        in.initial_state = initial;
        dplr_scan(backend.local, in, options, {detail::part_of(outputs.y, 2, own), after},
                  scratch.blocks[static_cast<std::size_t>(i)]);
      });
}

/// The gradients of dplr_scan over ranks: those by states run from the last rank to the first.
/// @throws as dplr_scan, and ShapeError for a scratch of another call
template <class T>
void dplr_scan_backward(const Ranks& backend, const DplrScanInputs<T>& inputs,
                        const DplrScanOptions& options,
                        const std::type_identity_t<DplrScanOutputGradients<T>>& output_gradients,
                        const std::type_identity_t<DplrScanInputGradients<T>>& input_gradients,
                        DplrScanScratch<T>& scratch) {
  using K = std::complex<T>;
  constexpr std::string_view function = "dplr_scan_backward";
  const auto sizes = detail::check_dplr_inputs(function, inputs);
  detail::check_dplr_gradients(function, inputs, sizes, output_gradients, input_gradients);
  detail::check_packed(function, inputs.sequences);
  const detail::Chain chain(backend, inputs.sequences);
  const detail::ScanBlocks blocks(backend, sizes.channels);
  blocks.check_room(function, scratch.blocks);
  detail::hand_blocks_back<K, 3>(
      function, chain, blocks, inputs.initial_state, output_gradients.final_state,
      input_gradients.initial_state, {sizes.sequences, sizes.channels, sizes.modes}, scratch.passed,
      [&](Index i, const Share& own, const View<const K, 3>& initial,
          const View<const K, 3>& dfinal, const View<K, 3>& dinitial) {
        auto in = detail::dplr_part(inputs, own);
        auto din = detail::dplr_part(input_gradients, own);
        in.initial_state = initial;
        din.initial_state = dinitial;
        dplr_scan_backward(backend.local, in, options,
                           {detail::part_of(output_gradients.y, 2, own), dfinal}, din,
                           scratch.blocks[static_cast<std::size_t>(i)]);
      },
      [](Index) {});
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
