#pragma once

#include "linear_tiles.hpp"
#include "scratch.hpp"
#include "ssm/cuda/linear_scan.hpp"
#include "ssm/scan/detail/linear_scan_checks.hpp"

namespace ssm {

template <class K>
void linear_scan(const Cuda& backend, const LinearScanInputs<K, Device>& inputs,
                 const LinearScanOptions&,
                 const std::type_identity_t<LinearScanOutputs<K, Device>>& outputs,
                 LinearScanScratch<K, Device>& scratch) {
  using namespace kernels;
  using E = Element<K>;
  const char* function = "linear_scan";
  ssm::detail::check_linear_scan_inputs(function, inputs);
  ssm::detail::check_linear_scan_outputs(function, inputs, outputs);
  scratch.call.drop();
  const auto states = ssm::detail::state_shape(inputs);
  const auto [rows, length, channels] = inputs.b.extents();
  const Sequences<Device>& time = inputs.sequences;
  const LinearTileShape<E> shape(rows, channels, RowSequences(time, length));
  struct Arrays {
    E *entries, *decays;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    return Arrays{shape.is_cut() ? s.array<E>(shape.states()) : nullptr,
                  shape.is_cut() ? s.array<E>(shape.states()) : nullptr};
  });
  const Array<const E, 3> a(inputs.a, time), b(inputs.b, time);
  Array<const E, 2> initial(inputs.initial_state);
  // Backward needs the initial states, and so do other pieces when one writes the final ones.
  const bool overwritten = ssm::detail::is_same_memory(outputs.final_state, inputs.initial_state);
  resize(backend, scratch.initial, overwritten ? states : std::array<Index, 2>{});
  if (overwritten)
    initial = copy_elements(backend, function, inputs.initial_state,
                            reinterpret_cast<E*>(scratch.initial.data()));
  scratch.x = outputs.x;
  scratch.call.keep(ssm::detail::linear_scan_call(inputs),
                    ssm::detail::linear_scan_variant(inputs));
  if (states[0] == 0) return;

  scan_rows(
      backend, function, shape,
      LinearSteps<E>{a, b, initial, Array<E, 3>(outputs.x, time), Array<E, 2>(outputs.final_state)},
      arrays.decays, arrays.entries);
}

template <class K>
void linear_scan_backward(
    const Cuda& backend, const LinearScanInputs<K, Device>& inputs, const LinearScanOptions&,
    const std::type_identity_t<LinearScanOutputGradients<K, Device>>& output_gradients,
    const std::type_identity_t<LinearScanInputGradients<K, Device>>& input_gradients,
    LinearScanScratch<K, Device>& scratch) {
  using namespace kernels;
  using E = Element<K>;
  const char* function = "linear_scan_backward";
  ssm::detail::check_linear_scan_inputs(function, inputs);
  scratch.call.check(function, "linear_scan", ssm::detail::linear_scan_call(inputs),
                     ssm::detail::linear_scan_variant(inputs));
  ssm::detail::check_linear_scan_gradients(function, inputs, scratch.x, output_gradients,
                                           input_gradients);
  if (ssm::detail::state_shape(inputs)[0] == 0) return;

  const auto [rows, length, channels] = inputs.b.extents();
  const Sequences<Device> back = inputs.sequences.turned();
  const LinearTileShape<E> shape(rows, channels, RowSequences(back, length));
  // Another tile may still have to read the gradients of final states when one writes those of
  // initial ones.
  const bool overwritten =
      ssm::detail::is_same_memory(input_gradients.initial_state, output_gradients.final_state);
  struct Arrays {
    E *exits, *decays, *dfinal;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    return Arrays{shape.is_cut() ? s.array<E>(shape.states()) : nullptr,
                  shape.is_cut() ? s.array<E>(shape.states()) : nullptr,
                  overwritten ? s.array<E>(output_gradients.final_state.size()) : nullptr};
  });
  const Array<const E, 2> initial = scratch.initial.size() > 0
                                        ? Array<const E, 2>(scratch.initial.view())
                                        : Array<const E, 2>(inputs.initial_state);
  const Array<const E, 2> dfinal =
      overwritten ? copy_elements(backend, function, output_gradients.final_state, arrays.dfinal)
                  : Array<const E, 2>(output_gradients.final_state);
  scan_rows(backend, function, shape,
            LinearAdjointSteps<E>{
                Array<const E, 3>(inputs.a, back), Array<const E, 3>(scratch.x, back),
                Array<const E, 3>(output_gradients.x, back), initial, dfinal,
                Array<E, 3>(input_gradients.a, back), Array<E, 3>(input_gradients.b, back),
                Array<E, 2>(input_gradients.initial_state)},
            arrays.decays, arrays.exits);
}

}  // namespace ssm

#define SSM_LINEAR_SCAN(K)                                                                      \
  template void ssm::linear_scan(const Cuda&, const LinearScanInputs<K, Device>&,               \
                                 const LinearScanOptions&, const LinearScanOutputs<K, Device>&, \
                                 LinearScanScratch<K, Device>&);                                \
  template void ssm::linear_scan_backward(                                                      \
      const Cuda&, const LinearScanInputs<K, Device>&, const LinearScanOptions&,                \
      const LinearScanOutputGradients<K, Device>&, const LinearScanInputGradients<K, Device>&,  \
      LinearScanScratch<K, Device>&);
