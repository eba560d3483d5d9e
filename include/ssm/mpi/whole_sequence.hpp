#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include "ssm/conv/long_conv.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/cross_entropy.hpp"
#include "ssm/layers/dropout.hpp"
#include "ssm/layers/mean_over_time.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/ranks.hpp"

/// @file
/// Operations over whole sequences, across ranks: means over time, losses, and dropout, whose masks
/// differ from rank to rank.

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Masks of this rank's own where there are several.
[[nodiscard]] inline Dropout dropout_of(const Ranks& backend, const Dropout& options) noexcept {
  return backend.all->size() > 1 ? options.of(backend.all->rank()) : options;
}

/// x ← the sum of x over ranks, in their order.
template <class T>
void sum_in_order(Communicator& comm, const View<T, 2>& x, Tensor<T, 3>& shares,
                  Tensor<T, 2>& sum) {
  const auto [rows, width] = x.extents();
  sum.resize({rows, width});
  shares.resize({comm.size(), rows, width});
  copy_elements<T, 2>(x, sum);
  comm.gather(sum.data(), sum.size(), shares.data());
  for (Index i = 0; i < rows; ++i)
    for (Index c = 0; c < width; ++c) {
      x(i, c) = shares(0, i, c);
      for (Index r = 1; r < comm.size(); ++r) x(i, c) += shares(r, i, c);
    }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The mean over the steps of all ranks, on every rank. Each gives (sequences · width) numbers.
/// @throws ShapeError as on the cpu; DomainError for packed sequences; MpiError
template <class T>
void mean_over_time(const Ranks& backend, const MeanOverTimeInputs<T>& inputs,
                    const MeanOverTimeOptions& options, const MeanOverTimeOutputs<T>& outputs,
                    MeanOverTimeScratch<T>& scratch) {
  detail::refuse_packed("mean_over_time", inputs.sequences);
  mean_over_time(backend.local, inputs, options, outputs, scratch);
  const Index length = inputs.x.extent(1), all = backend.time->sum_of_all(length);
  const T share = all > 0 ? static_cast<T>(length) / static_cast<T>(all) : T(0);
  const View<T, 2>& y = outputs.y;
  for (Index s = 0; s < y.extent(0); ++s)
    for (Index c = 0; c < y.extent(1); ++c) y(s, c) *= share;
  detail::sum_in_order(*backend.time, y, scratch.shares, scratch.sum);
}

/// The gradient of mean_over_time over ranks. Every rank has the mean and its own share of what
/// the loss depends on it, so that the gradient by the mean is the sum over ranks.
/// @throws ShapeError as on the cpu; DomainError for packed sequences; MpiError
template <class T>
void mean_over_time_backward(const Ranks& backend, const MeanOverTimeInputs<T>& inputs,
                             const MeanOverTimeOptions& options,
                             const MeanOverTimeOutputGradients<T>& output_gradients,
                             const MeanOverTimeInputGradients<T>& input_gradients,
                             MeanOverTimeScratch<T>& scratch) {
  constexpr std::string_view function = "mean_over_time_backward";
  detail::refuse_packed(function, inputs.sequences);
  detail::check_mean_over_time(function, inputs);
  detail::check_rows(function, "the gradient of y", output_gradients.y,
                     detail::mean_extents(inputs));
  const Index length = inputs.x.extent(1), all = backend.time->sum_of_all(length);
  const T share = all > 0 ? static_cast<T>(length) / static_cast<T>(all) : T(0);
  Tensor<T, 2>& dy = scratch.dy;
  dy.resize(output_gradients.y.extents());
  detail::copy_elements<T, 2>(output_gradients.y, dy);
  detail::sum_in_order(*backend.time, dy.view(), scratch.shares, scratch.sum);
  for (T& x : dy) x *= share;  // the local mean divides by the local length
  mean_over_time_backward(backend.local, inputs, options, {dy}, input_gradients, scratch);
}

/// The mean over the targets of all ranks, on every rank, and the gradient by this rank's logits.
/// Targets are counted on every rank, so that a target that all ranks have counts as often.
/// @return the loss, the sum over ranks in their order
/// @throws ShapeError and DomainError as on the cpu; MpiError
template <class T>
double cross_entropy(const Ranks& backend, const CrossEntropyInputs<T>& inputs,
                     const CrossEntropyOptions& options, const CrossEntropyOutputs<T>& outputs,
                     CrossEntropyScratch<T>& scratch) {
  CrossEntropyOptions own = options;
  if (options.count == 0)
    own.count = backend.all->sum_of_all(detail::count_targets(inputs.targets, options.ignore));
  return backend.all->sum_of_all(cross_entropy(backend.local, inputs, own, outputs, scratch));
}

/// dropout over ranks: every rank drops other elements, and with another number of ranks others are
/// dropped than with this one. @throws ShapeError, DomainError as on the cpu
template <class T>
void dropout(const Ranks& backend, const DropoutInputs<T>& inputs, const DropoutOptions& options,
             const DropoutOutputs<T>& outputs, DropoutScratch<T>& scratch) {
  dropout(backend.local, inputs, detail::dropout_of(backend, options), outputs, scratch);
}
/// The gradient of dropout over ranks. @throws ShapeError, DomainError as on the cpu
template <class T>
void dropout_backward(const Ranks& backend, const DropoutInputs<T>& inputs,
                      const DropoutOptions& options,
                      const DropoutOutputGradients<T>& output_gradients,
                      const DropoutInputGradients<T>& input_gradients, DropoutScratch<T>& scratch) {
  dropout_backward(backend.local, inputs, detail::dropout_of(backend, options), output_gradients,
                   input_gradients, scratch);
}

///@{
/// A transform needs the whole sequence. S4D and S4 run as scans over ranks.
template <class T>
void long_conv(const Ranks&, const LongConvInputs<T>&, const LongConvOptions&,
               const std::type_identity_t<LongConvOutputs<T>>&, LongConvScratch<T>&) = delete;
template <class T>
void long_conv_backward(const Ranks&, const LongConvInputs<T>&, const LongConvOptions&,
                        const std::type_identity_t<LongConvOutputGradients<T>>&,
                        const std::type_identity_t<LongConvInputGradients<T>>&,
                        LongConvScratch<T>&) = delete;
///@}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
