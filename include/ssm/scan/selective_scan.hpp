#pragma once

#include <type_traits>

#include "ssm/scan/detail/selective_fast.hpp"
#include "ssm/scan/selective_reference.hpp"
#include "ssm/scan/selective_step.hpp"
#include "ssm/scan/selective_types.hpp"

namespace ssm {

/// The selective scan S6 (Gu & Dao 2023, algorithm 2); see selective_scan_reference for the
/// equations.
///
/// Real A with varying B and C, the simplified hold and contiguous channels run as vector code in
/// tiles of time; the rest takes the reference's loop. `saved`, when given, receives what
/// selective_scan_backward needs: the states at every sixteenth step, nothing where the reference's
/// loop ran. Outputs must not share memory with inputs.
/// Cost O(batch · length · channels · state). Throws ShapeError, DomainError.
template <class T, class K = T>
void selective_scan(const Cpu& backend, const SelectiveScanInputs<T, K>& inputs,
                    const SelectiveScanOptions& options, const SelectiveScanOutputs<T, K>& outputs,
                    SelectiveScanWorkspace<T, K>& workspace,
                    SelectiveScanSaved<T, K>* saved = nullptr) {
  if constexpr (std::is_same_v<T, K>) {
    const auto sizes = detail::check_selective_inputs("selective_scan", inputs);
    detail::check_selective_outputs("selective_scan", outputs, inputs, sizes);
    if (sizes.channels > 0 && detail::is_fast_case(inputs, options) &&
        detail::is_contiguous_in_channels(outputs.y))
      return detail::SelectiveFast<T>(inputs, options, sizes)
          .forward(backend, outputs, workspace, saved);
  }
  if (saved) saved->states.resize({0});
  selective_scan_reference(backend, inputs, options, outputs, workspace);
}

/// Gradients of a scalar loss through selective_scan with the same inputs and options, from what it
/// saved. States between the saved ones are recomputed, tile by tile. The same bits for any number
/// of threads: sums over channels and sequences run over fixed pieces in a fixed order.
/// Cost about three forward passes. Throws ShapeError, DomainError.
template <class T, class K = T>
void selective_scan_backward(const Cpu& backend, const SelectiveScanInputs<T, K>& inputs,
                             const SelectiveScanOptions& options,
                             const SelectiveScanSaved<T, K>& saved,
                             const SelectiveScanOutputGradients<T, K>& output_gradients,
                             const SelectiveScanInputGradients<T, K>& input_gradients,
                             SelectiveScanWorkspace<T, K>& workspace) {
  if constexpr (std::is_same_v<T, K>) {
    const char* function = "selective_scan_backward";
    const auto sizes = detail::check_selective_inputs(function, inputs);
    detail::check_selective_gradients(function, output_gradients, input_gradients, inputs, sizes);
    if (saved.states.size() > 0 && sizes.channels > 0 && detail::is_fast_case(inputs, options) &&
        detail::is_contiguous_in_channels(output_gradients.y) &&
        detail::is_contiguous_in_channels(input_gradients.u) &&
        detail::is_contiguous_in_channels(input_gradients.delta) &&
        detail::is_contiguous_in_channels(input_gradients.z))
      return detail::SelectiveFast<T>(inputs, options, sizes)
          .backward(backend, saved, output_gradients, input_gradients, workspace);
  }
  selective_scan_reference_backward(backend, inputs, options, output_gradients, input_gradients,
                                    workspace);
}

}  // namespace ssm
