#pragma once

#include <array>
#include <string_view>

#include "ssm/core/detail/offsets.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What the causal depthwise convolution reads. T is float or double, and on a GPU also Half or
/// Bfloat16, then with weights in float. An absent view means: no such term.
template <class T, class Space = Host>
struct CausalConvInputs {
  View<const T, 3, Space> x;  ///< (batch, length, channels), channels adjacent
  View<const Arithmetic<T>, 2, Space>
      weight;  ///< (channels, width), the last tap meets the present input
  View<const Arithmetic<T>, 1, Space> bias;  ///< (channels), optional
  View<const T, 3, Space>
      initial_state;  ///< (sequences, width − 1, channels), optional: the inputs
                      ///< before the first, oldest first; zero when absent
  View<const Index, 1, Space> offsets;  ///< (sequences + 1), optional: packed sequences, batch 1
};

struct CausalConvOptions {
  bool silu = false;      ///< y ← silu(y)
  bool reversed = false;  ///< time runs from the last step to the first
};

template <class T, class Space = Host>
struct CausalConvOutputs {
  View<T, 3, Space> y;            ///< (batch, length, channels)
  View<T, 3, Space> final_state;  ///< (sequences, width − 1, channels), optional: the last inputs;
                                  ///< may be the memory of the initial state
};

template <class T, class Space = Host>
struct CausalConvOutputGradients {
  View<const T, 3, Space> y;
  View<const T, 3, Space> final_state;  ///< optional: zero when absent
};

/// Gradients that backward overwrites; absent ones are skipped.
template <class T, class Space = Host>
struct CausalConvInputGradients {
  View<T, 3, Space> x;
  View<Arithmetic<T>, 2, Space> weight;
  View<Arithmetic<T>, 1, Space> bias;
  View<T, 3, Space> initial_state;
};

/// Scratch of the convolution, grown to its largest call.
template <class T, class Space = Host>
struct CausalConvWorkspace;

template <class T>
struct CausalConvWorkspace<T, Host> {
  Tensor<T, 1> taps;      ///< (width + 1, channels): the weight, channels adjacent, and the bias
  Tensor<T, 1> heads;     ///< (sequences, 2 (width − 1), channels): initial state, first inputs
  Tensor<T, 1> partials;  ///< (pieces, 2 width + 1, channels): shares of dweight and dbias, and
                          ///< the last gradients before the activation
};

namespace detail {

/// (sequences, width − 1, channels)
template <class T, class Space>
[[nodiscard]] std::array<Index, 3> causal_conv_states(const CausalConvInputs<T, Space>& in) {
  return {in.offsets ? in.offsets.extent(0) - 1 : in.x.extent(0), in.weight.extent(1) - 1,
          in.x.extent(2)};
}

template <class T, class Space>
void check_causal_conv(std::string_view function, const CausalConvInputs<T, Space>& in) {
  const Index channels = in.x.extent(2), width = in.weight.extent(1);
  if (width < 1) throw_shape(function, "weight", "of width 0", "at least one tap");
  check_shape(function, "weight", in.weight, std::array<Index, 2>{channels, width});
  check_optional_shape(function, "bias", in.bias, std::array<Index, 1>{channels});
  if (in.offsets) check_offsets(function, in.offsets, in.x.extent(0), in.x.extent(1));
  check_optional_shape(function, "initial_state", in.initial_state, causal_conv_states(in));
}

template <class T, class Space>
void check_causal_conv_outputs(std::string_view function, const CausalConvInputs<T, Space>& in,
                               const CausalConvOutputs<T, Space>& out) {
  check_shape(function, "y", out.y, in.x.extents());
  check_optional_shape(function, "final_state", out.final_state, causal_conv_states(in));
}

template <class T, class Space>
void check_causal_conv_gradients(std::string_view function, const CausalConvInputs<T, Space>& in,
                                 const CausalConvOutputGradients<T, Space>& dout,
                                 const CausalConvInputGradients<T, Space>& din) {
  const auto states = causal_conv_states(in);
  check_shape(function, "the gradient of y", dout.y, in.x.extents());
  check_optional_shape(function, "the gradient of final_state", dout.final_state, states);
  check_optional_shape(function, "the gradient of x", din.x, in.x.extents());
  check_optional_shape(function, "the gradient of weight", din.weight, in.weight.extents());
  check_optional_shape(function, "the gradient of bias", din.bias, std::array<Index, 1>{states[2]});
  check_optional_shape(function, "the gradient of initial_state", din.initial_state, states);
}

}  // namespace detail
}  // namespace ssm
