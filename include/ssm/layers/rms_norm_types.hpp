#pragma once

#include <array>
#include <string>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/core/write.hpp"

namespace ssm {

/// What rms_norm reads.
template <class T, class Space = Host>
struct RmsNormInputs {
  View<const T, 2, Space> x;            ///< (rows, width), elements of a row adjacent
  View<const T, 1, Space> weight = {};  ///< (width), adjacent; absent: 1
};

/// How rms_norm is to run.
struct RmsNormOptions {
  double epsilon = 1e-5;           ///< added to the mean square; 0 or more
  Write write = Write::overwrite;  ///< whether backward overwrites the gradient of x or adds to it;
                                   ///< forward always overwrites y
};

/// What rms_norm writes.
template <class T, class Space = Host>
struct RmsNormOutputs {
  View<T, 2, Space> y;  ///< (rows, width); may be the memory of x if no backward pass follows
};

/// The gradient of a scalar loss with respect to the output, which rms_norm_backward reads.
template <class T, class Space = Host>
struct RmsNormOutputGradients {
  View<const T, 2, Space> y;  ///< (rows, width)
};

/// The gradients that rms_norm_backward writes. Absent ones are not computed.
template <class T, class Space = Host>
struct RmsNormInputGradients {
  View<T, 2, Space> x = {};       ///< (rows, width), overwritten or added to as the options say;
                                  ///< may be the memory of x or of the gradient of y
  View<T, 1, Space> weight = {};  ///< (width), overwritten; absent where the weight is
};

/// Scratch memory of rms_norm and rms_norm_backward, with what the first leaves for the second. It
/// grows to the largest call.
template <class T, class Space = Host>
struct RmsNormScratch;

template <class T>
struct RmsNormScratch<T, Host> {
  Tensor<T, 1> inverse_rms;          ///< (rows) 1/√(mean x² + ε) of the last forward pass
  std::array<Index, 2> extents{-1};  ///< of its x
  Tensor<T, 1> partials;             ///< shares of the gradient of the weight
};

namespace detail {

template <class T, class Space>
void check_rms_norm(std::string_view function, const RmsNormInputs<T, Space>& in,
                    const RmsNormOptions& options) {
  check_given(function, "x", in.x, "(rows, width)");
  check_adjacent(function, "x", in.x);
  if (in.weight) check_rows(function, "weight", in.weight, std::array<Index, 1>{in.x.extent(1)});
  if (!(options.epsilon >= 0))
    throw_domain(function, "epsilon", std::to_string(options.epsilon), "0 or more");
}

/// Of forward and of a step.
template <class T, class Space>
void check_rms_norm_output(std::string_view function, const RmsNormInputs<T, Space>& in,
                           const View<T, 2, Space>& y) {
  check_output_rows(function, "y", y, in.x.extents());
  check_same_or_apart(function, "y", y, "x", in.x);
  check_no_overlap(function, "y", y, "weight", in.weight);
}

template <class T, class Space>
void check_rms_norm_gradients(std::string_view function, const RmsNormInputs<T, Space>& in,
                              const RmsNormOutputGradients<T, Space>& dout,
                              const RmsNormInputGradients<T, Space>& din) {
  check_rows(function, "the gradient of y", dout.y, in.x.extents());
  const auto check = [&](std::string_view name, const auto& view, const auto& extents) {
    if (!view) return;
    check_output_rows(function, name, view, extents);
    check_no_overlap(function, name, view, "weight", in.weight);
  };
  check("the gradient of x", din.x, in.x.extents());
  if (din.weight && !in.weight) throw_absent(function, "weight", "(width), as its gradient is");
  check("the gradient of weight", din.weight, in.weight.extents());
  check_same_or_apart(function, "the gradient of x", din.x, "x", in.x);
  check_same_or_apart(function, "the gradient of x", din.x, "the gradient of y", dout.y);
  check_no_overlap(function, "the gradient of weight", din.weight, "x", in.x);
  check_no_overlap(function, "the gradient of weight", din.weight, "the gradient of y", dout.y);
  check_no_overlap(function, "the gradient of weight", din.weight, "the gradient of x", din.x);
}

}  // namespace detail
}  // namespace ssm
