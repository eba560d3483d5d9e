#pragma once

#include <complex>

#include "ssm/conv/s4_kernel_types.hpp"
#include "ssm/conv/s4d_state_types.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"

/// What the state of an S4 model reads and writes as it enters and leaves a convolution,
/// s4_pass_state.
namespace ssm {

/// Of S sequences, every row of the batch or every packed one, each has a state of its own.
template <class T, class Space = Host>
struct S4StateInputs {
  S4KernelInputs<T, Space> model;                            ///< as given to s4_kernel
  View<const T, 3, Space> u;                                 ///< (batch, length, channels)
  View<const std::complex<T>, 3, Space> initial_state = {};  ///< (S, channels, state/2), optional:
                                                             ///< zero when absent
  Sequences<Space> sequences = {};                           ///< what time means
};

struct S4StateOptions {
  Index length = 0;  ///< the steps that C̃ of the model is truncated for, at least 1
};

template <class T, class Space = Host>
using S4StateOutputs = DiagonalStateOutputs<T, Space>;

template <class T, class Space = Host>
using S4StateOutputGradients = DiagonalStateOutputGradients<T, Space>;

/// Gradients that backward writes; absent ones are skipped.
template <class T, class Space = Host>
struct S4StateInputGradients {
  S4KernelInputGradients<T, Space> model = {};         ///< overwritten
  View<T, 3, Space> u = {};                            ///< added to
  View<std::complex<T>, 3, Space> initial_state = {};  ///< overwritten; may be the view that the
                                                       ///< gradient of the final state is
};

/// Scratch of s4_pass_state. It grows to the largest call it has served, and keeps nothing from one
/// call to the next. Defined with the operation of each space.
template <class T, class Space = Host>
struct S4StateScratch;

}  // namespace ssm
