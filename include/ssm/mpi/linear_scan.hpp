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
#include "ssm/scan/decay_gradient.hpp"
#include "ssm/scan/linear_scan.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// linear_scan over ranks, each with its own steps. A rank waits for the state before them, scans,
/// and hands its last state on, a block of channels after the other: (sequences · channels)
/// numbers, whatever the length.
/// @throws ShapeError and DomainError as on the cpu; MpiError
template <class K>
void linear_scan(const Ranks& backend, const LinearScanInputs<K>& inputs,
                 const LinearScanOptions& options,
                 const std::type_identity_t<LinearScanOutputs<K>>& outputs,
                 LinearScanScratch<K>& scratch) {
  constexpr std::string_view function = "linear_scan";
  detail::check_linear_scan_inputs(function, inputs);
  detail::check_linear_scan_outputs(function, inputs, outputs);
  detail::check_packed(function, inputs.sequences);
  scratch.call.drop();
  const auto [sequences, channels] = detail::state_shape(inputs);
  const detail::Chain chain(backend, inputs.sequences);
  const detail::ScanBlocks blocks(backend, channels);
  blocks.make_room(scratch.blocks);
  detail::hand_blocks_on<K, 2>(
      chain, blocks, inputs.initial_state, outputs.final_state, {sequences, channels},
      scratch.passed,
      [&](Index i, const Share& own, const View<const K, 2>& initial, const View<K, 2>& after) {
        linear_scan(
            backend.local,
            LinearScanInputs<K>{detail::part_of(inputs.a, 2, own),
                                detail::part_of(inputs.b, 2, own), initial, inputs.sequences},
            options, {detail::part_of(outputs.x, 2, own), after},
            scratch.blocks[static_cast<std::size_t>(i)]);
      });
  scratch.x = outputs.x;
  scratch.call.keep(detail::linear_scan_call(inputs), detail::linear_scan_variant(inputs));
}

/// linear_scan_backward over ranks: gradients by states run from the last rank to the first.
/// @throws as linear_scan, and ShapeError for a scratch of another call
template <class K>
void linear_scan_backward(
    const Ranks& backend, const LinearScanInputs<K>& inputs, const LinearScanOptions& options,
    const std::type_identity_t<LinearScanOutputGradients<K>>& output_gradients,
    const std::type_identity_t<LinearScanInputGradients<K>>& input_gradients,
    LinearScanScratch<K>& scratch) {
  constexpr std::string_view function = "linear_scan_backward";
  detail::check_linear_scan_inputs(function, inputs);
  scratch.call.check(function, "linear_scan", detail::linear_scan_call(inputs),
                     detail::linear_scan_variant(inputs));
  detail::check_linear_scan_gradients<K>(function, inputs, scratch.x, output_gradients,
                                         input_gradients);
  detail::check_packed(function, inputs.sequences);
  const auto [sequences, channels] = detail::state_shape(inputs);
  const detail::Chain chain(backend, inputs.sequences);
  const detail::ScanBlocks blocks(backend, channels);
  blocks.check_room(function, scratch.blocks);
  detail::hand_blocks_back<K, 2>(
      function, chain, blocks, inputs.initial_state, output_gradients.final_state,
      input_gradients.initial_state, {sequences, channels}, scratch.passed,
      [&](Index i, const Share& own, const View<const K, 2>& initial,
          const View<const K, 2>& dfinal, const View<K, 2>& dinitial) {
        linear_scan_backward(
            backend.local,
            LinearScanInputs<K>{detail::part_of(inputs.a, 2, own),
                                detail::part_of(inputs.b, 2, own), initial, inputs.sequences},
            options, {detail::part_of(output_gradients.x, 2, own), dfinal},
            {detail::part_of(input_gradients.a, 2, own), detail::part_of(input_gradients.b, 2, own),
             dinitial},
            scratch.blocks[static_cast<std::size_t>(i)]);
      },
      [](Index) {});
}

/// decay_gradient over ranks: the share of each rank's own steps, as every gradient of a weight. A
/// rank sends the state after its last step to the next one, so that one state moves.
/// @throws as on the cpu; MpiError
template <class T>
void decay_gradient(const Ranks& backend, const DecayGradientInputs<T>& inputs,
                    const DecayGradientOptions& options,
                    const std::type_identity_t<DecayGradientOutputs<T>>& outputs,
                    DecayGradientScratch<T>& scratch) {
  constexpr std::string_view function = "decay_gradient";
  detail::check_given(function, "g", inputs.g, "(batch, length, channels)");
  detail::check_shape(function, "x", inputs.x, inputs.g.extents());
  detail::check_packed(function, inputs.sequences);
  const detail::Chain chain(backend, inputs.sequences);
  const std::array<Index, 2> states{inputs.sequences.count(inputs.x.extent(0)), inputs.x.extent(2)};
  detail::check_optional_shape(function, "initial_state", inputs.initial_state, states);
  DecayGradientInputs<T> in = inputs;
  in.initial_state = detail::exchange_steps<std::complex<T>>(
      chain, true, inputs.x, inputs.sequences, inputs.initial_state, scratch.passed);
  decay_gradient(backend.local, in, options, outputs, scratch);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
