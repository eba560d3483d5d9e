#pragma once

#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What decay reads.
template <class T, class Space = Host>
struct DecayInputs {
  View<const T, 2, Space> A_log;  ///< (channels, state), contiguous
};

/// There is nothing to choose.
struct DecayOptions {};

/// What decay writes.
template <class T, class Space = Host>
struct DecayOutputs {
  View<T, 2, Space> A;  ///< (channels, state), contiguous; may be the memory of A_log if no
                        ///< backward pass follows
};

/// The gradient of a scalar loss with respect to the output, which decay_backward reads.
template <class T, class Space = Host>
struct DecayOutputGradients {
  View<const T, 2, Space> A;  ///< (channels, state), contiguous
};

/// The gradients that decay_backward writes.
template <class T, class Space = Host>
struct DecayInputGradients {
  View<T, 2, Space> A_log;  ///< (channels, state), contiguous, overwritten; may be the memory of
                            ///< the gradient of A
};

/// Empty: decay needs no scratch memory, and its backward pass computes A again.
template <class T, class Space = Host>
struct DecayScratch {};

namespace detail {

template <class AnyView>
void check_contiguous(std::string_view function, std::string_view argument, const AnyView& view) {
  if (!view.contiguous())
    throw_shape(function, argument, "strided as " + to_string(view.strides()), "contiguous");
}

template <class T, class Space>
void check_decay(std::string_view function, const DecayInputs<T, Space>& in,
                 const DecayOutputs<T, Space>& out) {
  check_rows(function, "A_log", in.A_log, in.A_log.extents());
  check_contiguous(function, "A_log", in.A_log);
  check_rows(function, "A", out.A, in.A_log.extents());
  check_contiguous(function, "A", out.A);
  check_same_or_apart(function, "A", out.A, "A_log", in.A_log);
}

template <class T, class Space>
void check_decay_gradients(std::string_view function, const DecayInputs<T, Space>& in,
                           const DecayOutputGradients<T, Space>& dout,
                           const DecayInputGradients<T, Space>& din) {
  check_rows(function, "A_log", in.A_log, in.A_log.extents());
  check_contiguous(function, "A_log", in.A_log);
  check_rows(function, "the gradient of A", dout.A, in.A_log.extents());
  check_contiguous(function, "the gradient of A", dout.A);
  check_rows(function, "the gradient of A_log", din.A_log, in.A_log.extents());
  check_contiguous(function, "the gradient of A_log", din.A_log);
  check_no_overlap(function, "the gradient of A_log", din.A_log, "A_log", in.A_log);
  check_same_or_apart(function, "the gradient of A_log", din.A_log, "the gradient of A", dout.A);
}

}  // namespace detail
}  // namespace ssm
