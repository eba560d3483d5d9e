#pragma once

#include <array>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/add_readout_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class T, class Output>
void check_readout(std::string_view function, const AddReadoutInputs<T>& in,
                   std::string_view argument, const Output& y) {
  check_given(function, "C", in.C, "(channels, state/2)");
  check_given(function, argument, y, "(batch, length, channels)");
  const auto [channels, modes] = in.C.extents();
  const Index batch = y.extent(0), length = y.extent(1);
  check_shape(function, argument, y, std::array{batch, length, channels});
  check_sequences(function, in.sequences, batch, length);
  check_optional_shape(function, "x", in.x, std::array{in.sequences.count(batch), channels, modes});
}

/// Calls body(s, row, t) for every sequence that has a step, t where its last one lies.
template <class Body>
void for_last_steps(const Sequences<Host>& sequences, Index batch, Index length, const Body& body) {
  for (Index s = 0; s < sequences.count(batch); ++s) {
    const SequenceSpan span = span_of(sequences, s, length);
    if (span.length() > 0) body(s, span.row, span.step(span.length() - 1, sequences.reversed));
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// y_last += 2 Re Σ_n C_n x_n: adds to the last step of every sequence what a state gives through
/// C. Layers of two directions use it with the state that lies beyond that step, from which their
/// pass from the end sets out. A sequence without steps has nothing to add to.
///
/// Cost: state/2 multiply-adds for each sequence and channel. The bits are the same for every
/// number of threads.
/// @throws ShapeError for extents that do not fit; DomainError for offsets that run backward or
///   past the end
template <class T>
void add_readout(const Cpu& backend, const AddReadoutInputs<T>& inputs, const AddReadoutOptions&,
                 const std::type_identity_t<AddReadoutOutputs<T>>& outputs, AddReadoutScratch<T>&) {
  const auto& y = outputs.y;
  detail::check_readout("add_readout", inputs, "y", y);
  if (!inputs.x) return;
  const Index channels = inputs.C.extent(0), modes = inputs.C.extent(1);
  parallel_for(for_elements(backend, inputs.x.size(), 1), channels, [&](Index c) {
    detail::for_last_steps(inputs.sequences, y.extent(0), y.extent(1),
                           [&](Index s, Index row, Index t) {
                             T sum = 0;
                             for (Index n = 0; n < modes; ++n) {
                               const std::complex<T> C = inputs.C(c, n), x = inputs.x(s, c, n);
                               sum += C.real() * x.real() - C.imag() * x.imag();
                             }
                             y(row, t, c) += T(2) * sum;
                           });
  });
}

/// The gradients of add_readout: ∂x_n += 2 C_n* ∂y_last, ∂C_n += Σ 2 x_n* ∂y_last over the
/// sequences.
///
/// Cost: twice add_readout. The bits are the same for every number of threads.
/// @throws ShapeError, DomainError as add_readout
template <class T>
void add_readout_backward(
    const Cpu& backend, const AddReadoutInputs<T>& inputs, const AddReadoutOptions&,
    const std::type_identity_t<AddReadoutOutputGradients<T>>& output_gradients,
    const std::type_identity_t<AddReadoutInputGradients<T>>& input_gradients,
    AddReadoutScratch<T>&) {
  constexpr std::string_view function = "add_readout_backward";
  const auto& dy = output_gradients.y;
  const auto& din = input_gradients;
  detail::check_readout(function, inputs, "the gradient of y", dy);
  const Index channels = inputs.C.extent(0), modes = inputs.C.extent(1);
  const Index sequences = inputs.sequences.count(dy.extent(0));
  detail::check_optional_shape(function, "the gradient of C", din.C, inputs.C.extents());
  detail::check_optional_shape(function, "the gradient of x", din.x,
                               std::array{sequences, channels, modes});
  parallel_for(for_elements(backend, sequences * channels * modes, 2), channels, [&](Index c) {
    detail::for_last_steps(inputs.sequences, dy.extent(0), dy.extent(1),
                           [&](Index s, Index row, Index t) {
                             const T slope = T(2) * dy(row, t, c);
                             if (din.x)
                               for (Index n = 0; n < modes; ++n)
                                 din.x(s, c, n) += slope * std::conj(inputs.C(c, n));
                             if (din.C && inputs.x)
                               for (Index n = 0; n < modes; ++n)
                                 din.C(c, n) += slope * std::conj(inputs.x(s, c, n));
                           });
  });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(add_readout, AddReadout, float)
SSM_INSTANCE_OPERATION(add_readout, AddReadout, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
