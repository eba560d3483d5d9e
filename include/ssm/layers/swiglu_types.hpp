#pragma once

#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What swiglu reads.
template <class T, class Space = Host>
struct SwigluInputs {
  View<const T, 2, Space> gate;  ///< (rows, width), elements of a row adjacent
  View<const T, 2, Space> up;    ///< (rows, width), elements of a row adjacent
};

/// There is nothing to choose.
struct SwigluOptions {};

/// What swiglu writes.
template <class T, class Space = Host>
struct SwigluOutputs {
  View<T, 2, Space> y;  ///< (rows, width); may be the memory of an input if no backward pass
                        ///< follows
};

/// The gradient of a scalar loss with respect to the output, which swiglu_backward reads.
template <class T, class Space = Host>
struct SwigluOutputGradients {
  View<const T, 2, Space> y;  ///< (rows, width)
};

/// The gradients that swiglu_backward writes.
template <class T, class Space = Host>
struct SwigluInputGradients {
  View<T, 2, Space> gate;  ///< (rows, width), overwritten; may be the memory of gate
  View<T, 2, Space> up;    ///< (rows, width), overwritten; may be the memory of up
};

/// Empty: swiglu needs no scratch memory.
template <class T, class Space = Host>
struct SwigluScratch {};

namespace detail {

template <class T, class Space>
void check_swiglu_inputs(std::string_view function, const SwigluInputs<T, Space>& in) {
  check_rows(function, "gate", in.gate, in.gate.extents());
  check_rows(function, "up", in.up, in.gate.extents());
}

template <class T, class Space>
void check_swiglu(std::string_view function, const SwigluInputs<T, Space>& in,
                  const View<T, 2, Space>& y) {
  check_swiglu_inputs(function, in);
  check_output_rows(function, "y", y, in.gate.extents());
  check_same_or_apart(function, "y", y, "gate", in.gate);
  check_same_or_apart(function, "y", y, "up", in.up);
}

template <class T, class Space>
void check_swiglu_gradients(std::string_view function, const SwigluInputs<T, Space>& in,
                            const SwigluOutputGradients<T, Space>& dout,
                            const SwigluInputGradients<T, Space>& din) {
  const auto& extents = in.gate.extents();
  check_swiglu_inputs(function, in);
  check_rows(function, "the gradient of y", dout.y, extents);
  check_output_rows(function, "the gradient of gate", din.gate, extents);
  check_output_rows(function, "the gradient of up", din.up, extents);
  check_same_or_apart(function, "the gradient of gate", din.gate, "gate", in.gate);
  check_no_overlap(function, "the gradient of gate", din.gate, "up", in.up);
  check_same_or_apart(function, "the gradient of up", din.up, "up", in.up);
  check_no_overlap(function, "the gradient of up", din.up, "gate", in.gate);
  check_no_overlap(function, "the gradient of gate", din.gate, "the gradient of y", dout.y);
  check_no_overlap(function, "the gradient of up", din.up, "the gradient of y", dout.y);
  check_no_overlap(function, "the gradient of up", din.up, "the gradient of gate", din.gate);
}

}  // namespace detail
}  // namespace ssm
