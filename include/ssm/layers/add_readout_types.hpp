#pragma once

#include <complex>

#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What add_readout reads.
template <class T, class Space = Host>
struct AddReadoutInputs {
  View<const std::complex<T>, 2, Space> C;  ///< (channels, state/2)
  View<const std::complex<T>, 3, Space>
      x;                            ///< (sequences, channels, state/2), optional: zero when absent
  Sequences<Space> sequences = {};  ///< packed sequences, and the direction of time
};

/// There is nothing to choose.
struct AddReadoutOptions {};

/// What add_readout writes.
template <class T, class Space = Host>
struct AddReadoutOutputs {
  View<T, 3, Space> y;  ///< (batch, length, channels): the last step of every sequence is added to
};

/// The gradient of a scalar loss with respect to the output, which add_readout_backward reads.
template <class T, class Space = Host>
struct AddReadoutOutputGradients {
  View<const T, 3, Space> y;  ///< (batch, length, channels)
};

/// The gradients that add_readout_backward adds to. Absent ones are not computed. The gradient with
/// respect to a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class Space = Host>
struct AddReadoutInputGradients {
  View<std::complex<T>, 2, Space> C = {};  ///< (channels, state/2)
  View<std::complex<T>, 3, Space> x = {};  ///< (sequences, channels, state/2)
};

/// Empty: add_readout needs no scratch memory.
template <class T, class Space = Host>
struct AddReadoutScratch {};

}  // namespace ssm
