#pragma once

#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/scan/detail/selective_scan_backward.hpp"
#include "ssm/scan/detail/selective_scan_checks.hpp"
#include "ssm/scan/detail/selective_scan_forward.hpp"
#include "ssm/scan/selective_scan_reference.hpp"
#include "ssm/scan/selective_scan_step.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The selective scan S6 (Gu & Dao 2023, algorithm 2); see selective_scan_reference for the
/// equations.
///
/// Calls with varying B and C and contiguous channels run as vector code, for a real and a complex
/// A and both holds; all others run the loop of selective_scan_reference. With options.keep the
/// scratch receives what selective_scan_backward needs: the states at every sixteenth step (of the
/// vector code), and the initial state when the final state overwrites it.
///
/// Cost: O(batch · length · channels · state); a complex A takes about 2.7 times as long as a real
/// one, the exact hold 1.4 times. Threads share sequences and vectors of channels, and where these
/// are few the two halves of the states; no more threads run than the work repays. The bits are the
/// same for every number of threads. Allocates while the scratch grows.
/// @throws ShapeError for shapes that do not fit, for groups that do not divide the channels or
///   differ between B and C, for outputs that share memory with each other or with inputs
///   (final_state may share that of initial_state) or whose stride is 0; DomainError for offsets
///   that run backward or past the end, and for a hold other than simplified and zero_order
template <class T, class K>
void selective_scan(const Cpu& backend, const SelectiveScanInputs<T, K>& inputs,
                    const SelectiveScanOptions& options,
                    const std::type_identity_t<SelectiveScanOutputs<T, K>>& outputs,
                    SelectiveScanScratch<T, K>& scratch) {
  if constexpr (std::is_same_v<T, Real<K>>) {
    constexpr std::string_view function = "selective_scan";
    const auto sizes = detail::check_selective_inputs(function, inputs, options);
    detail::check_selective_outputs(function, outputs, inputs, sizes);
    if (sizes.channels > 0 && detail::is_fast_case(inputs) &&
        detail::is_contiguous_in_channels(outputs.y)) {
      detail::begin_selective_call(inputs, options, outputs, sizes, scratch);
      detail::SelectiveForward<K>(inputs, options, sizes).run(backend, outputs, scratch);
      return detail::end_selective_call(inputs, options, sizes, scratch);
    }
  }
  selective_scan_reference(backend, inputs, options, outputs, scratch);
}

/// The gradients of the selective_scan that filled the scratch with these inputs and options.
///
/// It starts from the states that the scratch keeps and computes those between them again. The
/// scratch is not changed in what it keeps, so backward may run several times. The bits are the
/// same for every number of threads, as sums over channels and sequences run over fixed pieces in a
/// fixed order. Cost: two and a half to three forward passes.
/// @throws ShapeError and DomainError as selective_scan; ShapeError for a scratch of another call,
///   or of a call without options.keep
template <class T, class K>
void selective_scan_backward(
    const Cpu& backend, const SelectiveScanInputs<T, K>& inputs,
    const SelectiveScanOptions& options,
    const std::type_identity_t<SelectiveScanOutputGradients<T, K>>& output_gradients,
    const std::type_identity_t<SelectiveScanInputGradients<T, K>>& input_gradients,
    SelectiveScanScratch<T, K>& scratch) {
  if constexpr (std::is_same_v<T, Real<K>>) {
    const auto sizes = detail::check_selective_backward(inputs, options, output_gradients,
                                                        input_gradients, scratch);
    if (scratch.kept.size() > 0 && sizes.channels > 0 && detail::is_fast_case(inputs) &&
        detail::is_contiguous_in_channels(output_gradients.y) &&
        detail::is_contiguous_in_channels(input_gradients.u) &&
        detail::is_contiguous_in_channels(input_gradients.delta) &&
        detail::is_contiguous_in_channels(input_gradients.z))
      return detail::SelectiveBackward<K>(inputs, options, sizes)
          .run(backend, output_gradients, input_gradients, scratch);
  }
  selective_scan_reference_backward(backend, inputs, options, output_gradients, input_gradients,
                                    scratch);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(selective_scan, SelectiveScan, float, float)
SSM_INSTANCE_OPERATION(selective_scan, SelectiveScan, double, double)
SSM_INSTANCE_OPERATION(selective_scan, SelectiveScan, float, std::complex<float>)
SSM_INSTANCE_OPERATION(selective_scan, SelectiveScan, double, std::complex<double>)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
