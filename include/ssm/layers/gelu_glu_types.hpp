#pragma once

#include <array>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What gelu reads.
template <class T, class Space = Host>
struct GeluInputs {
  View<const T, 2, Space> x;  ///< (rows, width), elements of a row adjacent
};

/// There is nothing to choose.
struct GeluOptions {};

/// What gelu writes.
template <class T, class Space = Host>
struct GeluOutputs {
  View<T, 2, Space> y;  ///< (rows, width); may be the memory of x if no backward pass follows
};

/// The gradient of a scalar loss with respect to the output, which gelu_backward reads.
template <class T, class Space = Host>
struct GeluOutputGradients {
  View<const T, 2, Space> y;  ///< (rows, width)
};

/// The gradients that gelu_backward writes.
template <class T, class Space = Host>
struct GeluInputGradients {
  View<T, 2, Space> x;  ///< (rows, width), overwritten; may be the memory of x or of the gradient
                        ///< of y
};

/// Empty: gelu needs no scratch memory.
template <class T, class Space = Host>
struct GeluScratch {};

/// What glu reads.
template <class T, class Space = Host>
struct GluInputs {
  View<const T, 2, Space> x;  ///< (rows, 2 · width): [a, g], elements of a row adjacent
};

/// There is nothing to choose.
struct GluOptions {};

/// What glu writes.
template <class T, class Space = Host>
struct GluOutputs {
  View<T, 2, Space> y;  ///< (rows, width); may be the memory of a if no backward pass follows
};

/// The gradient of a scalar loss with respect to the output, which glu_backward reads.
template <class T, class Space = Host>
struct GluOutputGradients {
  View<const T, 2, Space> y;  ///< (rows, width)
};

/// The gradients that glu_backward writes.
template <class T, class Space = Host>
struct GluInputGradients {
  View<T, 2, Space> x;  ///< (rows, 2 · width), overwritten; may be the memory of x
};

/// Empty: the gated linear unit needs no scratch memory.
template <class T, class Space = Host>
struct GluScratch {};

namespace detail {

template <class T, class Space>
void check_gelu(std::string_view function, const GeluInputs<T, Space>& in,
                const View<T, 2, Space>& y) {
  check_rows(function, "x", in.x, in.x.extents());
  check_output_rows(function, "y", y, in.x.extents());
  check_same_or_apart(function, "y", y, "x", in.x);
}

template <class T, class Space>
void check_gelu_gradients(std::string_view function, const GeluInputs<T, Space>& in,
                          const GeluOutputGradients<T, Space>& dout,
                          const GeluInputGradients<T, Space>& din) {
  check_rows(function, "x", in.x, in.x.extents());
  check_rows(function, "the gradient of y", dout.y, in.x.extents());
  check_output_rows(function, "the gradient of x", din.x, in.x.extents());
  check_same_or_apart(function, "the gradient of x", din.x, "x", in.x);
  check_same_or_apart(function, "the gradient of x", din.x, "the gradient of y", dout.y);
}

template <class T, class Space>
void check_glu(std::string_view function, const GluInputs<T, Space>& in,
               const View<T, 2, Space>& y) {
  const Index rows = y.extent(0), width = y.extent(1);
  check_output_rows(function, "y", y, y.extents());
  check_rows(function, "x", in.x, std::array<Index, 2>{rows, 2 * width});
  check_same_or_apart(function, "y", y, "x", in.x.slice(1, 0, width));
  check_no_overlap(function, "y", y, "x", in.x.slice(1, width, width));
}

template <class T, class Space>
void check_glu_gradients(std::string_view function, const GluInputs<T, Space>& in,
                         const GluOutputGradients<T, Space>& dout,
                         const GluInputGradients<T, Space>& din) {
  const Index rows = dout.y.extent(0), width = dout.y.extent(1);
  check_rows(function, "the gradient of y", dout.y, dout.y.extents());
  check_rows(function, "x", in.x, std::array<Index, 2>{rows, 2 * width});
  check_output_rows(function, "the gradient of x", din.x, in.x.extents());
  check_same_or_apart(function, "the gradient of x", din.x, "x", in.x);
  check_no_overlap(function, "the gradient of x", din.x, "the gradient of y", dout.y);
}

}  // namespace detail
}  // namespace ssm
