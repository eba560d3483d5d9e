#pragma once

#include <array>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/add_next_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Calls body(row, t, next) for every step of every sequence, `next` where the step after it lies,
/// or −1 after the last.
template <class Body>
void for_next_steps(const Cpu& backend, const Sequences<Host>& sequences, Index batch, Index length,
                    const Body& body) {
  parallel_for(backend, sequences.count(batch), [&](Index s) {
    const SequenceSpan span = span_of(sequences, s, length);
    const Index by = sequences.reversed ? -1 : 1,
                last = span.step(span.length() - 1, sequences.reversed);
    for (Index t = span.begin; t < span.end; ++t) body(span.row, t, t == last ? -1 : t + by);
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// y_t += x_{t+1}: adds to every step of a sequence the value of the step after it, and nothing to
/// the last step. Bidirectional layers use it: when x are the outputs of a pass that runs from the
/// end to the start, x_{t+1} depends only on the inputs after step t.
///
/// Cost: one addition for each element. The bits are the same for every number of threads.
/// @throws ShapeError for extents that do not fit; DomainError for offsets that run backward or
///   past the end
template <class T>
void add_next(const Cpu& backend, const AddNextInputs<T>& inputs, const AddNextOptions&,
              const std::type_identity_t<AddNextOutputs<T>>& outputs, AddNextScratch<T>&) {
  constexpr std::string_view function = "add_next";
  const auto& x = inputs.x;
  const auto& y = outputs.y;
  const auto [batch, length, channels] = x.extents();
  detail::check_shape(function, "y", y, x.extents());
  detail::check_sequences(function, inputs.sequences, batch, length);
  detail::for_next_steps(backend, inputs.sequences, batch, length,
                         [&, count = channels](Index b, Index t, Index next) {
                           if (next < 0) return;
                           for (Index c = 0; c < count; ++c) y(b, t, c) += x(b, next, c);
                         });
}

/// The gradient of add_next: ∂x_{t+1} = ∂y_t, and 0 for the first step of a sequence.
/// @throws ShapeError, DomainError as add_next
template <class T>
void add_next_backward(const Cpu& backend, const AddNextInputs<T>& inputs, const AddNextOptions&,
                       const std::type_identity_t<AddNextOutputGradients<T>>& output_gradients,
                       const std::type_identity_t<AddNextInputGradients<T>>& input_gradients,
                       AddNextScratch<T>&) {
  constexpr std::string_view function = "add_next_backward";
  const auto& dy = output_gradients.y;
  const auto& dx = input_gradients.x;
  const auto [batch, length, channels] = inputs.x.extents();
  detail::check_shape(function, "the gradient of y", dy, inputs.x.extents());
  detail::check_shape(function, "the gradient of x", dx, inputs.x.extents());
  detail::check_sequences(function, inputs.sequences, batch, length);
  detail::for_next_steps(backend, inputs.sequences.turned(), batch, length,
                         [&, count = channels](Index b, Index t, Index before) {
                           for (Index c = 0; c < count; ++c)
                             dx(b, t, c) = before < 0 ? T(0) : dy(b, before, c);
                         });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(add_next, AddNext, float)
SSM_INSTANCE_OPERATION(add_next, AddNext, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
