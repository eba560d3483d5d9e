#pragma once

#include <string_view>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/layers/add_readout.hpp"
#include "ssm/mpi/ranks.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

inline void refuse_readout(std::string_view function, const Ranks& backend, bool given) {
  if (given && backend.time->size() > 1)
    throw_domain(function, "x", "given",
                 "absent, as which rank has the last step of a sequence is not known");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// add_readout over ranks, which takes no state where there are several: layers of two directions
/// run from rest then.
/// @throws ShapeError as on the cpu; DomainError for a state across several ranks
template <class T>
void add_readout(const Ranks& backend, const AddReadoutInputs<T>& inputs,
                 const AddReadoutOptions& options,
                 const std::type_identity_t<AddReadoutOutputs<T>>& outputs,
                 AddReadoutScratch<T>& scratch) {
  detail::refuse_readout("add_readout", backend, static_cast<bool>(inputs.x));
  add_readout(backend.local, inputs, options, outputs, scratch);
}

/// The gradients of add_readout over ranks, none across several.
/// @throws ShapeError as on the cpu; DomainError for a state across several ranks
template <class T>
void add_readout_backward(
    const Ranks& backend, const AddReadoutInputs<T>& inputs, const AddReadoutOptions& options,
    const std::type_identity_t<AddReadoutOutputGradients<T>>& output_gradients,
    const std::type_identity_t<AddReadoutInputGradients<T>>& input_gradients,
    AddReadoutScratch<T>& scratch) {
  detail::refuse_readout("add_readout_backward", backend, inputs.x || input_gradients.x);
  add_readout_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
