#pragma once

#include <vector>

#include "ssm/core/checks.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What the linear scan x_t = a_t x_{t−1} + b_t reads. K is float, double or std::complex of them.
/// A stride of 0 repeats an element: one row of `a` (channels) with strides {0, 0, 1} is the same
/// `a` at every step.
template <class K, class Space = Host>
struct LinearScanInputs {
  View<const K, 3, Space> a;                   ///< (batch, length, channels), channels adjacent
  View<const K, 3, Space> b;                   ///< (batch, length, channels), channels adjacent
  View<const K, 2, Space> initial_state = {};  ///< x_{−1} (sequences, channels), optional: zero
                                               ///< when absent
  Sequences<Space> sequences = {};             ///< packed sequences, and the direction of time
};

/// The linear scan has no options.
struct LinearScanOptions {};

/// What the linear scan writes.
template <class K, class Space = Host>
struct LinearScanOutputs {
  View<K, 3, Space> x;  ///< (batch, length, channels), channels adjacent; may be the memory of b;
                        ///< read again by linear_scan_backward
  View<K, 2, Space> final_state = {};  ///< (sequences, channels), optional, may be the memory of
                                       ///< the initial state
};

/// The gradients of a real loss with respect to the outputs, which linear_scan_backward reads.
/// Absent ones are zero. The gradient with respect to a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class K, class Space = Host>
struct LinearScanOutputGradients {
  View<const K, 3, Space> x = {};            ///< (batch, length, channels), optional
  View<const K, 2, Space> final_state = {};  ///< (sequences, channels), optional
};

/// The gradients that linear_scan_backward overwrites. Absent ones are not computed.
template <class K, class Space = Host>
struct LinearScanInputGradients {
  View<K, 3, Space> a = {};  ///< (batch, length, channels)
  View<K, 3, Space> b = {};  ///< (batch, length, channels), may be the memory of the gradient
                             ///< of x
  View<K, 2, Space> initial_state = {};  ///< (sequences, channels), may be the memory of the
                                         ///< gradient of final_state
};

/// Scratch memory of linear_scan and linear_scan_backward, with what the first leaves for the
/// second. It grows to the largest call. Its members are private to the library.
template <class K, class Space = Host>
struct LinearScanScratch;

template <class K>
struct LinearScanScratch<K, Host> {
  detail::KeptCall<4> call;  ///< batch, length, channels, sequences
  View<const K, 3> x;        ///< what forward wrote, in its caller's memory
  Tensor<K, 2> initial;      ///< (sequences, channels), where the call overwrote it
  Tensor<K, 3> decay;        ///< (batch, chunks, channels): the product of a over the chunk before
  Tensor<K, 3> carry;        ///< (batch, chunks, channels): the state that enters the chunk
  Tensor<K, 3> gradient;     ///< (batch, length, channels), when that of b is not asked for
  Tensor<K, 1> zero;         ///< (channels), stands for an absent gradient of x
  PassedStates<K> passed;
  std::vector<LinearScanScratch> blocks;  ///< of channels, where these run in several calls
};

}  // namespace ssm
