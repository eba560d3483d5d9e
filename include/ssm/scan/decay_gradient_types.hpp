#pragma once

#include <complex>

#include "ssm/core/passed_states.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What decay_gradient reads: the states of a linear scan whose coefficient a is the same at every
/// step, and the gradient of its b that linear_scan_backward gave.
template <class T, class Space = Host>
struct DecayGradientInputs {
  View<const std::complex<T>, 3, Space> g;  ///< ∂b (batch, length, channels), contiguous
  View<const std::complex<T>, 3, Space> x;  ///< the states (batch, length, channels), contiguous
  View<const std::complex<T>, 2, Space> initial_state;  ///< (sequences, channels), optional,
                                                        ///< contiguous
  Sequences<Space> sequences = {};  ///< packed sequences, and the direction of time
};

/// There is nothing to choose.
struct DecayGradientOptions {};

/// What decay_gradient writes.
template <class T, class Space = Host>
struct DecayGradientOutputs {
  View<std::complex<T>, 1, Space> a;  ///< ∂a (channels), overwritten
};

/// Scratch memory of decay_gradient. It grows to the largest call.
template <class T, class Space = Host>
struct DecayGradientScratch;

template <class T>
struct DecayGradientScratch<T, Host> {
  Tensor<std::complex<T>, 2> partials;  ///< (pieces, channels)
  PassedStates<std::complex<T>> passed;
};

}  // namespace ssm
