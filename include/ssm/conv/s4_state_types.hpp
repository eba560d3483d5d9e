#pragma once

#include <complex>

#include "ssm/conv/s4_kernel_types.hpp"
#include "ssm/conv/s4d_state_types.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What s4_pass_state reads. S is the number of sequences: the rows of the batch, or the packed
/// sequences. Each sequence has a state of its own.
template <class T, class Space = Host>
struct S4StateInputs {
  S4KernelInputs<T, Space> model;                            ///< as given to s4_kernel
  View<const T, 3, Space> u;                                 ///< (batch, length, channels)
  View<const std::complex<T>, 3, Space> initial_state = {};  ///< (S, channels, state/2), optional:
                                                             ///< zero when absent
  Sequences<Space> sequences = {};  ///< packed sequences, and the direction of time
};

/// Which truncation the model of s4_pass_state has.
struct S4StateOptions {
  Index length = 0;  ///< the length of kernel that C̃ is truncated for, at least 1
};

/// What s4_pass_state writes.
template <class T, class Space = Host>
using S4StateOutputs = DiagonalStateOutputs<T, Space>;

/// The gradients of a scalar loss with respect to the outputs, which s4_pass_state_backward reads.
template <class T, class Space = Host>
using S4StateOutputGradients = DiagonalStateOutputGradients<T, Space>;

/// The gradients that s4_pass_state_backward writes. Absent ones are not computed.
template <class T, class Space = Host>
struct S4StateInputGradients {
  S4KernelInputGradients<T, Space> model = {};         ///< overwritten
  View<T, 3, Space> u = {};                            ///< added to
  View<std::complex<T>, 3, Space> initial_state = {};  ///< overwritten; may be the same view as the
                                                       ///< gradient of final_state
};

/// Scratch memory of s4_pass_state and s4_pass_state_backward. It grows to the largest call, and
/// nothing in it is kept from one call for another.
template <class T, class Space = Host>
struct S4StateScratch;

}  // namespace ssm
