#pragma once

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/layers/decay_types.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// A = −exp(A_log), the diagonal A of Mamba, which is negative for every A_log (Gu & Dao 2023,
/// section 3.6). Cost: one exponential for each element.
/// @throws ShapeError for extents that do not fit, views that are not contiguous, and an A that
///   overlaps a part of A_log
template <class T>
void decay(const Cpu&, const DecayInputs<T>& inputs, const DecayOptions&,
           const DecayOutputs<T>& outputs, DecayScratch<T>&) {
  detail::check_decay("decay", inputs, outputs);
  const Index count = inputs.A_log.size();
  detail::array(outputs.A.data(), count) = -detail::array(inputs.A_log.data(), count).exp();
}

/// The gradient of decay: dA_log = dA · A, as dA/dA_log = A.
/// @throws ShapeError as decay, and for a gradient of A_log that overlaps a part of the gradient of
/// A
template <class T>
void decay_backward(const Cpu&, const DecayInputs<T>& inputs, const DecayOptions&,
                    const DecayOutputGradients<T>& output_gradients,
                    const DecayInputGradients<T>& input_gradients, DecayScratch<T>&) {
  detail::check_decay_gradients("decay_backward", inputs, output_gradients, input_gradients);
  const Index count = inputs.A_log.size();
  detail::array(input_gradients.A_log.data(), count) =
      detail::array(output_gradients.A.data(), count) *
      -detail::array(inputs.A_log.data(), count).exp();
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(decay, Decay, float)
SSM_INSTANCE_OPERATION(decay, Decay, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
