#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What causal_conv reads. T is float or double, and on a GPU also Half or Bfloat16, with weights
/// in float. An absent view leaves its term out.
template <class T, class Space = Host>
struct CausalConvInputs {
  View<const T, 3, Space> x;  ///< (batch, length, channels), channels adjacent
  View<const Arithmetic<T>, 2, Space> weight =
      {};  ///< (channels, width), the last tap multiplies the present input
  View<const Arithmetic<T>, 1, Space> bias = {};  ///< (channels), optional
  View<const T, 3, Space> initial_state =
      {};  ///< (sequences, width − 1, channels), optional: the inputs before the
           ///< first, oldest first; zero when absent
  Sequences<Space> sequences = {};  ///< packed sequences, and the direction of time
};

/// What causal_conv_step reads.
template <class T, class Space = Host>
struct CausalConvStepInputs {
  View<const T, 2, Space> x;                        ///< (batch, channels), channels adjacent
  View<const Arithmetic<T>, 2, Space> weight = {};  ///< (channels, width)
  View<const Arithmetic<T>, 1, Space> bias = {};    ///< (channels), optional
};

/// How causal_conv is to run.
struct CausalConvOptions {
  bool silu = false;  ///< y ← silu(y)
};

/// What causal_conv writes.
template <class T, class Space = Host>
struct CausalConvOutputs {
  View<T, 3, Space>
      y;  ///< (batch, length, channels), channels adjacent; shares memory with no input
  View<T, 3, Space> final_state = {};  ///< (sequences, width − 1, channels), optional: the last
                                       ///< inputs; may be the memory of the initial state
};

/// The gradient of a scalar loss with respect to the output, which causal_conv_backward reads.
template <class T, class Space = Host>
struct CausalConvOutputGradients {
  View<const T, 3, Space> y;  ///< (batch, length, channels)
  View<const T, 3, Space> final_state =
      {};  ///< (sequences, width − 1, channels), optional: zero when absent
};

/// The gradients that causal_conv_backward overwrites. Absent ones are not computed.
template <class T, class Space = Host>
struct CausalConvInputGradients {
  View<T, 3, Space> x = {};  ///< (batch, length, channels); shares memory with no other argument
  View<Arithmetic<T>, 2, Space> weight = {};  ///< (channels, width)
  View<Arithmetic<T>, 1, Space> bias = {};    ///< (channels)
  View<T, 3, Space> initial_state = {};  ///< may be the memory of the gradient of the final state
};

/// Scratch memory of causal_conv and causal_conv_backward. It grows to the largest call. With one
/// cpu, backward reads nothing that forward left in it.
template <class T, class Space = Host>
struct CausalConvScratch;

template <class T>
struct CausalConvScratch<T, Host> {
  Tensor<T, 1> taps;      ///< (width + 1, channels): the weight, channels adjacent, and the bias
  Tensor<T, 1> heads;     ///< (sequences, 2 (width − 1), channels): initial state, first inputs
  Tensor<T, 1> partials;  ///< (pieces, 2 width + 1, channels): shares of dweight and dbias, and
                          ///< the last gradients before the activation
  Tensor<T, 3> dfinals;   ///< the gradient of the final state, where backward works in place
  PassedStates<T> passed;
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class T>
void hand_over_room(CausalConvScratch<T, Host>& from, CausalConvScratch<T, Host>& to) {
  std::swap(from.taps, to.taps);
  std::swap(from.heads, to.heads);
  std::swap(from.partials, to.partials);
  std::swap(from.dfinals, to.dfinals);
  std::swap(from.passed.leaving, to.passed.leaving);
}

namespace detail {

/// (sequences, width − 1, channels)
template <class T, class Space>
[[nodiscard]] std::array<Index, 3> causal_conv_states(const CausalConvInputs<T, Space>& in) {
  return {in.sequences.count(in.x.extent(0)), in.weight.extent(1) - 1, in.x.extent(2)};
}

template <class T, class Space>
void check_causal_conv(std::string_view function, const CausalConvInputs<T, Space>& in) {
  check_given(function, "x", in.x, "(batch, length, channels)");
  check_given(function, "weight", in.weight, "(channels, width)");
  const Index channels = in.x.extent(2), width = in.weight.extent(1);
  if (width < 1) throw_shape(function, "weight", "of width 0", "at least one tap");
  check_shape(function, "weight", in.weight, std::array<Index, 2>{channels, width});
  check_sequences(function, in.sequences, in.x.extent(0), in.x.extent(1));
  const auto check = [&](std::string_view name, const auto& view, const auto& extents) {
    if (!view) return;
    check_shape(function, name, view, extents);
    check_given(function, name, view);
  };
  check("bias", in.bias, std::array<Index, 1>{channels});
  check("initial_state", in.initial_state, causal_conv_states(in));
}

template <class T, class Space>
void check_causal_conv_outputs(std::string_view function, const CausalConvInputs<T, Space>& in,
                               const CausalConvOutputs<T, Space>& out) {
  const auto check = [&](std::string_view name, const auto& view, const auto& extents) {
    check_shape(function, name, view, extents);
    check_given(function, name, view);
    check_output(function, name, view);
    check_no_overlap(function, name, view, "x", in.x);
    check_no_overlap(function, name, view, "weight", in.weight);
    check_no_overlap(function, name, view, "bias", in.bias);
  };
  check("y", out.y, in.x.extents());
  check_no_overlap(function, "y", out.y, "initial_state", in.initial_state);
  if (!out.final_state) return;
  check("final_state", out.final_state, causal_conv_states(in));
  check_no_overlap(function, "final_state", out.final_state, "y", out.y);
  check_same_or_apart(function, "final_state", out.final_state, "initial_state", in.initial_state);
}

template <class T, class Space>
void check_causal_conv_gradients(std::string_view function, const CausalConvInputs<T, Space>& in,
                                 const CausalConvOutputGradients<T, Space>& dout,
                                 const CausalConvInputGradients<T, Space>& din) {
  const auto states = causal_conv_states(in);
  check_shape(function, "the gradient of y", dout.y, in.x.extents());
  check_given(function, "the gradient of y", dout.y);
  if (dout.final_state) {
    check_shape(function, "the gradient of final_state", dout.final_state, states);
    check_given(function, "the gradient of final_state", dout.final_state);
  }
  const auto check = [&](std::string_view name, const auto& view, const auto& extents) {
    if (!view) return;
    check_shape(function, name, view, extents);
    check_given(function, name, view);
    check_output(function, name, view);
    check_no_overlap(function, name, view, "x", in.x);
    check_no_overlap(function, name, view, "weight", in.weight);
    check_no_overlap(function, name, view, "bias", in.bias);
    check_no_overlap(function, name, view, "initial_state", in.initial_state);
    check_no_overlap(function, name, view, "the gradient of y", dout.y);
  };
  check("the gradient of x", din.x, in.x.extents());
  check("the gradient of weight", din.weight, in.weight.extents());
  check("the gradient of bias", din.bias, std::array<Index, 1>{states[2]});
  check("the gradient of initial_state", din.initial_state, states);
  check_no_overlap(function, "the gradient of x", din.x, "the gradient of final_state",
                   dout.final_state);
  check_same_or_apart(function, "the gradient of initial_state", din.initial_state,
                      "the gradient of final_state", dout.final_state);
  check_no_overlap(function, "the gradient of weight", din.weight, "the gradient of x", din.x);
  check_no_overlap(function, "the gradient of bias", din.bias, "the gradient of x", din.x);
  check_no_overlap(function, "the gradient of bias", din.bias, "the gradient of weight",
                   din.weight);
  check_no_overlap(function, "the gradient of initial_state", din.initial_state,
                   "the gradient of x", din.x);
  check_no_overlap(function, "the gradient of initial_state", din.initial_state,
                   "the gradient of weight", din.weight);
  check_no_overlap(function, "the gradient of initial_state", din.initial_state,
                   "the gradient of bias", din.bias);
  check_no_overlap(function, "the gradient of weight", din.weight, "the gradient of final_state",
                   dout.final_state);
  check_no_overlap(function, "the gradient of bias", din.bias, "the gradient of final_state",
                   dout.final_state);
}

/// `states` (slots, width − 1, channels) with a slot for each row of the batch.
template <class T, class Space>
void check_causal_conv_step(std::string_view function, const CausalConvStepInputs<T, Space>& in,
                            const View<T, 3, Space>& state, const View<T, 2, Space>& y) {
  check_given(function, "x", in.x, "(batch, channels)");
  check_given(function, "weight", in.weight, "(channels, width)");
  const Index channels = in.x.extent(1), width = in.weight.extent(1);
  if (width < 1) throw_shape(function, "weight", "of width 0", "at least one tap");
  check_shape(function, "weight", in.weight, std::array<Index, 2>{channels, width});
  if (in.bias) {
    check_shape(function, "bias", in.bias, std::array<Index, 1>{channels});
    check_given(function, "bias", in.bias);
  }
  if (width > 1) {
    check_shape(function, "state", state,
                std::array<Index, 3>{in.x.extent(0), width - 1, channels});
    check_given(function, "state", state);
    check_output(function, "state", state);
    check_no_overlap(function, "state", state, "x", in.x);
    check_no_overlap(function, "state", state, "y", y);
    check_no_overlap(function, "state", state, "weight", in.weight);
    if (in.bias) check_no_overlap(function, "state", state, "bias", in.bias);
  }
  check_output_rows(function, "y", y, in.x.extents());
  check_same_or_apart(function, "y", y, "x", in.x);
  check_no_overlap(function, "y", y, "weight", in.weight);
  if (in.bias) check_no_overlap(function, "y", y, "bias", in.bias);
}

}  // namespace detail
}  // namespace ssm
