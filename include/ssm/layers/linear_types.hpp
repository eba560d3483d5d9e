#pragma once

#include <array>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/core/write.hpp"

namespace ssm {

/// What linear reads. W is the type of its matrix: a view of T, or another type of matrix with
/// extents (out, in).
template <class T, class Space = Host, class W = View<const T, 2, Space>>
struct LinearInputs {
  View<const T, 2, Space> x;          ///< (rows, in), elements of a row adjacent
  W weight = {};                      ///< (out, in), elements of a row adjacent
  View<const T, 1, Space> bias = {};  ///< (out), optional
};

/// How linear is to run.
struct LinearOptions {
  /// Whether the result overwrites its memory or is added to it. The result is y in the forward
  /// pass, and the gradient of x in the backward pass.
  Write write = Write::overwrite;
};

/// What linear writes.
template <class T, class Space = Host>
struct LinearOutputs {
  View<T, 2, Space> y;  ///< (rows, out), elements of a row adjacent; shares memory with no input
};

/// The gradient of a scalar loss with respect to the output, which linear_backward reads.
template <class T, class Space = Host>
struct LinearOutputGradients {
  View<const T, 2, Space> y;  ///< (rows, out), elements of a row adjacent
};

/// The gradients that linear_backward writes. Absent ones are not computed.
template <class T, class Space = Host>
struct LinearInputGradients {
  View<T, 2, Space> x = {};       ///< (rows, in), overwritten or added to as the options say
  View<T, 2, Space> weight = {};  ///< (out, in), overwritten
  View<T, 1, Space> bias = {};    ///< (out), overwritten
};

/// Scratch memory of linear and linear_backward. It grows to the largest call. Backward reads
/// nothing that forward left in it.
template <class T, class Space = Host>
struct LinearScratch;

template <class T>
struct LinearScratch<T, Host> {
  Tensor<T, 1> room;  ///< packed blocks of matrices, and shares of the gradient of the weight
};

namespace detail {

template <class T, class Space, class W>
void check_linear(std::string_view function, const LinearInputs<T, Space, W>& in) {
  if (!in.x) throw_absent(function, "x", "(rows, in)");
  check_rows(function, "x", in.x, in.x.extents());
  if (!in.weight) throw_absent(function, "weight", "(out, in)");
  const std::array<Index, 2> extents{in.weight.extent(0), in.x.extent(1)};
  if constexpr (std::is_same_v<W, View<const T, 2, Space>>) {
    check_rows(function, "weight", in.weight, extents);
  } else {
    const std::array<Index, 2> got{in.weight.extent(0), in.weight.extent(1)};
    if (!same_extents(got, extents)) throw_extents(function, "weight", got, extents);
  }
  if (in.bias) check_rows(function, "bias", in.bias, std::array<Index, 1>{extents[0]});
}

/// Of forward and of a step.
template <class T, class Space, class W>
void check_linear_output(std::string_view function, const LinearInputs<T, Space, W>& in,
                         const View<T, 2, Space>& y) {
  check_output_rows(function, "y", y, std::array<Index, 2>{in.x.extent(0), in.weight.extent(0)});
  check_no_overlap(function, "y", y, "x", in.x);
  if constexpr (std::is_same_v<W, View<const T, 2, Space>>)
    check_no_overlap(function, "y", y, "weight", in.weight);
  check_no_overlap(function, "y", y, "bias", in.bias);
}

template <class T, class Space>
void check_linear_gradients(std::string_view function, const LinearInputs<T, Space>& in,
                            const LinearOutputGradients<T, Space>& dout,
                            const LinearInputGradients<T, Space>& din) {
  const Index rows = in.x.extent(0), out = in.weight.extent(0);
  check_rows(function, "the gradient of y", dout.y, std::array<Index, 2>{rows, out});
  const auto check = [&](std::string_view name, const auto& view, const auto& extents) {
    if (!view) return;
    check_output_rows(function, name, view, extents);
    check_no_overlap(function, name, view, "x", in.x);
    check_no_overlap(function, name, view, "weight", in.weight);
    check_no_overlap(function, name, view, "the gradient of y", dout.y);
  };
  check("the gradient of x", din.x, in.x.extents());
  check("the gradient of weight", din.weight, in.weight.extents());
  check("the gradient of bias", din.bias, std::array<Index, 1>{out});
  check_no_overlap(function, "the gradient of weight", din.weight, "the gradient of x", din.x);
  check_no_overlap(function, "the gradient of bias", din.bias, "the gradient of x", din.x);
  check_no_overlap(function, "the gradient of bias", din.bias, "the gradient of weight",
                   din.weight);
}

}  // namespace detail
}  // namespace ssm
