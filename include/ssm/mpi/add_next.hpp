#pragma once

#include <string_view>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/add_next.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/ranks.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// What came from a neighbour is added to the last step of each sequence, or to the first; to most
/// packed ones zero.
template <class T>
void add_beyond(const View<const T, 2>& beyond, const Sequences<Host>& sequences, bool last,
                const View<T, 3>& to) {
  for (Index s = 0; beyond && s < beyond.extent(0); ++s) {
    const SequenceSpan at = span_of(sequences, s, to.extent(1));
    if (at.length() == 0) continue;
    const Index step = at.step(last ? at.length() - 1 : 0, sequences.reversed);
    for (Index c = 0; c < to.extent(2); ++c) to(at.row, step, c) += beyond(s, c);
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// add_next over ranks: the step after a rank's last one is the first of the next rank, which
/// sends it, (batch · channels) numbers.
/// @throws ShapeError as on the cpu; MpiError
template <class T>
void add_next(const Ranks& backend, const AddNextInputs<T>& inputs, const AddNextOptions& options,
              const std::type_identity_t<AddNextOutputs<T>>& outputs, AddNextScratch<T>& scratch) {
  constexpr std::string_view function = "add_next";
  detail::check_shape(function, "y", outputs.y, inputs.x.extents());
  detail::check_packed(function, inputs.sequences);
  const auto next = detail::exchange_steps<T>(detail::Chain(backend, inputs.sequences), false,
                                              inputs.x, inputs.sequences, {}, scratch.passed);
  add_next(backend.local, inputs, options, outputs, scratch);
  detail::add_beyond<T>(next, inputs.sequences, true, outputs.y);
}

/// The gradient of add_next over ranks: a rank sends the gradient of its last y to the next.
/// @throws ShapeError as on the cpu; MpiError
template <class T>
void add_next_backward(const Ranks& backend, const AddNextInputs<T>& inputs,
                       const AddNextOptions& options,
                       const std::type_identity_t<AddNextOutputGradients<T>>& output_gradients,
                       const std::type_identity_t<AddNextInputGradients<T>>& input_gradients,
                       AddNextScratch<T>& scratch) {
  constexpr std::string_view function = "add_next_backward";
  detail::check_shape(function, "the gradient of y", output_gradients.y, inputs.x.extents());
  detail::check_shape(function, "the gradient of x", input_gradients.x, inputs.x.extents());
  detail::check_packed(function, inputs.sequences);
  const auto before =
      detail::exchange_steps<T>(detail::Chain(backend, inputs.sequences), true, output_gradients.y,
                                inputs.sequences, {}, scratch.passed);
  add_next_backward(backend.local, inputs, options, output_gradients, input_gradients, scratch);
  detail::add_beyond<T>(before, inputs.sequences, false, input_gradients.x);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
