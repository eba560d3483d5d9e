#pragma once

#include "ssm/core/passed_states.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What add_next reads.
template <class T, class Space = Host>
struct AddNextInputs {
  View<const T, 3, Space> x;        ///< (batch, length, channels); backward reads only its extents
  Sequences<Space> sequences = {};  ///< packed sequences, and the direction of time
};

/// There is nothing to choose.
struct AddNextOptions {};

/// What add_next writes.
template <class T, class Space = Host>
struct AddNextOutputs {
  View<T, 3, Space> y;  ///< (batch, length, channels), added to; shares no memory with x
};

/// The gradient of a scalar loss with respect to the output, which add_next_backward reads.
template <class T, class Space = Host>
struct AddNextOutputGradients {
  View<const T, 3, Space> y;  ///< (batch, length, channels)
};

/// The gradients that add_next_backward writes.
template <class T, class Space = Host>
struct AddNextInputGradients {
  View<T, 3, Space>
      x;  ///< (batch, length, channels), overwritten; shares no memory with the gradient of y
};

/// Scratch memory of add_next; empty with one cpu.
template <class T, class Space = Host>
struct AddNextScratch {};

template <class T>
struct AddNextScratch<T, Host> {
  PassedStates<T> passed;
};

}  // namespace ssm
