#pragma once

#include <string_view>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/add_next.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/ranks.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// add_next over ranks: the step after a rank's last one is the first of the next rank, which
/// sends it, (batch · channels) numbers.
/// @throws ShapeError as on the cpu; DomainError for packed sequences; MpiError
template <class T>
void add_next(const Ranks& backend, const AddNextInputs<T>& inputs, const AddNextOptions& options,
              const std::type_identity_t<AddNextOutputs<T>>& outputs, AddNextScratch<T>& scratch) {
  constexpr std::string_view function = "add_next";
  detail::check_shape(function, "y", outputs.y, inputs.x.extents());
  detail::refuse_packed(function, inputs.sequences);
  const auto [batch, length, channels] = inputs.x.extents();
  const auto next =
      detail::exchange_steps<T>(detail::Chain(backend, inputs.sequences.reversed), false,
                                detail::in_time(inputs.x, inputs.sequences), {}, scratch.passed);
  add_next(backend.local, inputs, options, outputs, scratch);
  if (!next || length == 0) return;
  const auto y = detail::in_time(outputs.y, inputs.sequences);
  for (Index b = 0; b < batch; ++b)
    for (Index c = 0; c < channels; ++c) y(b, length - 1, c) += next(b, c);
}

/// The gradient of add_next over ranks: a rank sends the gradient of its last y to the next.
/// @throws ShapeError as on the cpu; DomainError for packed sequences; MpiError
template <class T>
void add_next_backward(const Ranks& backend, const AddNextInputs<T>& inputs,
                       const AddNextOptions& options,
                       const std::type_identity_t<AddNextOutputGradients<T>>& output_gradients,
                       const std::type_identity_t<AddNextInputGradients<T>>& input_gradients,
                       AddNextScratch<T>& scratch) {
  constexpr std::string_view function = "add_next_backward";
  detail::check_shape(function, "the gradient of y", output_gradients.y, inputs.x.extents());
  detail::check_shape(function, "the gradient of x", input_gradients.x, inputs.x.extents());
  detail::refuse_packed(function, inputs.sequences);
  const auto [batch, length, channels] = inputs.x.extents();
  const auto before = detail::exchange_steps<T>(
      detail::Chain(backend, inputs.sequences.reversed), true,
      detail::in_time(output_gradients.y, inputs.sequences), {}, scratch.passed);
  add_next_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
  if (!before || length == 0) return;
  const auto dx = detail::in_time(input_gradients.x, inputs.sequences);
  for (Index b = 0; b < batch; ++b)
    for (Index c = 0; c < channels; ++c) dx(b, 0, c) = before(b, c);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
