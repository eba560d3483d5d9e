#pragma once

#include <array>
#include <complex>
#include <string_view>

#include "ssm/conv/s4d_kernel_types.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretization.hpp"

namespace ssm {

/// What s4d_pass_state reads. S is the number of sequences: the rows of the batch, or the packed
/// sequences. Each sequence has a state of its own.
template <class T, class Space = Host>
struct DiagonalStateInputs {
  DiagonalKernelInputs<T, Space> model;                      ///< as given to s4d_kernel
  View<const T, 3, Space> u;                                 ///< (batch, length, channels)
  View<const std::complex<T>, 3, Space> initial_state = {};  ///< h_{−1} (S, channels, state/2),
                                                             ///< optional: zero when absent
  Sequences<Space> sequences = {};  ///< packed sequences, and the direction of time
};

/// How s4d_pass_state samples the model.
struct DiagonalStateOptions {
  Discretization method = Discretization::zero_order_hold;  ///< or bilinear
};

/// What s4d_pass_state writes. Outputs share no memory with each other or with
/// inputs, except as said below.
template <class T, class Space = Host>
struct DiagonalStateOutputs {
  View<T, 3, Space> y = {};  ///< (batch, length, channels), optional, added to
  View<std::complex<T>, 3, Space> final_state = {};  ///< (S, channels, state/2), optional; may be
                                                     ///< the same view as initial_state
};

/// The gradients of a scalar loss with respect to the outputs, which backward reads.
template <class T, class Space = Host>
struct DiagonalStateOutputGradients {
  View<const T, 3, Space> y = {};  ///< (batch, length, channels), optional: zero when absent
  View<const std::complex<T>, 3, Space> final_state =
      {};  ///< (S, channels, state/2), optional: zero when absent
};

/// The gradients that s4d_pass_state_backward writes. Absent ones are not computed.
template <class T, class Space = Host>
struct DiagonalStateInputGradients {
  DiagonalKernelInputGradients<T, Space> model = {};   ///< added to
  View<T, 3, Space> u = {};                            ///< added to
  View<std::complex<T>, 3, Space> initial_state = {};  ///< overwritten; may be the same view as the
                                                       ///< gradient of final_state
};

/// Scratch memory of s4d_pass_state and s4d_pass_state_backward.
template <class T, class Space = Host>
using DiagonalStateScratch = DiagonalKernelScratch<T, Space>;

namespace detail {

// The checks that every operation on such states makes, whatever the model.

/// Throws unless u, the sequences and the initial state fit together and `lambda`, a checked one.
/// Returns the extents of the states.
template <class Inputs>
std::array<Index, 3> check_state_inputs(std::string_view name, const Inputs& in) {
  const Index channels = in.model.lambda.extent(0), modes = in.model.lambda.extent(1);
  check_given(name, "u", in.u, "(batch, length, channels)");
  const Index batch = in.u.extent(0), length = in.u.extent(1);
  check_shape(name, "u", in.u, std::array{batch, length, channels});
  check_sequences(name, in.sequences, batch, length);
  const std::array states{in.sequences.count(batch), channels, modes};
  check_optional_shape(name, "initial_state", in.initial_state, states);
  return states;
}

template <class Inputs, class Outputs>
void check_state_outputs(std::string_view name, const Inputs& in,
                         const std::array<Index, 3>& states, const Outputs& out) {
  check_optional_output_shape(name, "y", out.y, in.u.extents());
  check_optional_output_shape(name, "final_state", out.final_state, states);
  OverlapChecks<9> memory(name);
  add_inputs(memory, in.model);
  memory.input("u", in.u);
  memory.input("initial_state", in.initial_state);
  memory.output("y", out.y);
  memory.output("final_state", out.final_state, "initial_state");
}

template <class Inputs, class OutputGradients, class InputGradients>
void check_state_gradients(std::string_view name, const Inputs& in,
                           const std::array<Index, 3>& states, const OutputGradients& dout,
                           const InputGradients& din) {
  check_optional_shape(name, "gradient of y", dout.y, in.u.extents());
  check_optional_shape(name, "gradient of final_state", dout.final_state, states);
  check_optional_output_shape(name, "gradient of u", din.u, in.u.extents());
  check_optional_output_shape(name, "gradient of initial_state", din.initial_state, states);
  OverlapChecks<16> memory(name);
  add_inputs(memory, in.model);
  memory.input("u", in.u);
  memory.input("initial_state", in.initial_state);
  memory.input("the gradient of y", dout.y);
  memory.input("the gradient of final_state", dout.final_state);
  memory.output("gradient of u", din.u);
  memory.output("gradient of initial_state", din.initial_state, "the gradient of final_state");
  check_model_gradients(name, memory, in.model, din.model);
}

template <class T, class Space>
std::array<Index, 3> check_diagonal_state(std::string_view name,
                                          const DiagonalStateInputs<T, Space>& in) {
  check_diagonal_model(name, in.model);
  return check_state_inputs(name, in);
}

}  // namespace detail
}  // namespace ssm
