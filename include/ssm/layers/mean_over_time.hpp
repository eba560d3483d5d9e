#pragma once

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/mean_over_time_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// 1/length, and 0 for no step.
template <class T>
[[nodiscard]] T share_of_step(const SequenceSpan& span) noexcept {
  return span.length() > 0 ? T(1) / static_cast<T>(span.length()) : T(0);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// y = the mean of x over the steps of each sequence, 0 for a sequence without steps. Steps are
/// summed in the order of memory. An x that is NaN or infinite affects the mean of its own sequence
/// only.
/// @throws ShapeError for extents that do not fit, elements of a row that are not adjacent, and a y
///   in the memory of x; DomainError for offsets that do not cut x into sequences
template <class T>
void mean_over_time(const Cpu& backend, const MeanOverTimeInputs<T>& inputs,
                    const MeanOverTimeOptions&, const MeanOverTimeOutputs<T>& outputs,
                    MeanOverTimeScratch<T>&) {
  const auto& x = inputs.x;
  const auto& y = outputs.y;
  detail::check_mean_over_time("mean_over_time", inputs);
  detail::check_output_rows("mean_over_time", "y", y, detail::mean_extents(inputs));
  detail::check_no_overlap("mean_over_time", "y", y, "x", x);
  const Index width = x.extent(2);
  parallel_for(for_elements(backend, x.size()), y.extent(0), [&](Index s) {
    const auto span = detail::span_of(inputs.sequences, s, x.extent(1));
    auto mean = detail::array(y.data() + s * y.stride(0), width);
    mean.setZero();
    for (Index t = span.begin; t < span.end; ++t)
      mean += detail::array(x.data() + span.row * x.stride(0) + t * x.stride(1), width);
    mean *= detail::share_of_step<T>(span);
  });
}

/// The gradient of mean_over_time: dx_t = dy / length at each step of a sequence.
/// @throws ShapeError, DomainError as mean_over_time
template <class T>
void mean_over_time_backward(const Cpu& backend, const MeanOverTimeInputs<T>& inputs,
                             const MeanOverTimeOptions&,
                             const MeanOverTimeOutputGradients<T>& output_gradients,
                             const MeanOverTimeInputGradients<T>& input_gradients,
                             MeanOverTimeScratch<T>&) {
  const auto& dy = output_gradients.y;
  const auto& dx = input_gradients.x;
  const char* function = "mean_over_time_backward";
  detail::check_mean_over_time(function, inputs);
  detail::check_rows(function, "the gradient of y", dy, detail::mean_extents(inputs));
  detail::check_output_rows(function, "the gradient of x", dx, inputs.x.extents());
  detail::check_no_overlap(function, "the gradient of x", dx, "the gradient of y", dy);
  const Index width = dx.extent(2);
  parallel_for(for_elements(backend, dx.size()), dy.extent(0), [&](Index s) {
    const auto span = detail::span_of(inputs.sequences, s, dx.extent(1));
    const T share = detail::share_of_step<T>(span);
    for (Index t = span.begin; t < span.end; ++t)
      detail::array(dx.data() + span.row * dx.stride(0) + t * dx.stride(1), width) =
          detail::array(dy.data() + s * dy.stride(0), width) * share;
  });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(mean_over_time, MeanOverTime, float)
SSM_INSTANCE_OPERATION(mean_over_time, MeanOverTime, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
