#pragma once

#include <array>
#include <concepts>
#include <vector>

#include "ssm/core/checks.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretization.hpp"

namespace ssm {

/// The sample time Δ of diagonal systems, in seconds: constant, one number for each channel, or
/// varying, one number for each channel and step, for sequences that are sampled irregularly.
/// Exactly one of the two views is present. A stride of 0 gives several channels or rows the same
/// Δ.
template <class T, class Space = Host>
struct SampleTimes {
  View<T, 1, Space> constant;  ///< (channels)
  View<T, 3, Space> varying;   ///< (batch, length, channels)

  SampleTimes() = default;
  ///@{
  /// The constant form from a view of rank 1, the varying form from one of rank 3.
  SampleTimes(const View<T, 1, Space>& view) : constant(view) {}
  SampleTimes(const View<T, 3, Space>& view) : varying(view) {}
  template <class Source>
  requires std::convertible_to<Source, View<T, 1, Space>> SampleTimes(Source&& source)
      : constant(source) {}
  template <class Source>
  requires std::convertible_to<Source, View<T, 3, Space>> SampleTimes(Source&& source)
      : varying(source) {}
  ///@}
};

/// What diagonal_scan, and `recurrence` of the same systems, read: a diagonal system with one input
/// and one output for each channel. T is float or double. K is T or std::complex<T>; a complex
/// state stands for itself and its conjugate, and y = 2 Re C·x.
template <class T, class K = T, class Space = Host>
struct DiagonalScanInputs {
  View<const T, 3, Space> u;          ///< (batch, length, channels)
  View<const K, 2, Space> lambda;     ///< λ (channels, state), 1/s, Re λ < 0 for a stable system
  SampleTimes<const T, Space> delta;  ///< Δ, s: (channels), positive and finite; the recurrence
                                      ///< also takes (batch, length, channels)
  View<const K, 2, Space> B;          ///< (channels, state)
  View<const K, 2, Space> C;          ///< (channels, state)
  View<const T, 1, Space> D = {};     ///< (channels), optional: y += D u
  View<const K, 3, Space> initial_state =
      {};                           ///< (sequences, channels, state), optional: zero when absent
  Sequences<Space> sequences = {};  ///< packed sequences, and the direction of time
};

/// How diagonal systems are sampled.
struct DiagonalScanOptions {
  Discretization method = Discretization::zero_order_hold;  ///< one that keeps C and D
};

/// What diagonal_scan and `recurrence` write. Outputs may overwrite u and the initial state as said
/// below, unless diagonal_scan_backward is to follow, which reads both.
template <class T, class K = T, class Space = Host>
struct DiagonalScanOutputs {
  View<T, 3, Space> y;                 ///< (batch, length, channels), may be the memory of u
  View<K, 3, Space> final_state = {};  ///< (sequences, channels, state), optional, may be the
                                       ///< memory of the initial state
};

/// The gradients of a scalar loss with respect to the outputs, which diagonal_scan_backward reads.
template <class T, class K = T, class Space = Host>
struct DiagonalScanOutputGradients {
  View<const T, 3, Space> y;  ///< (batch, length, channels)
  View<const K, 3, Space> final_state =
      {};  ///< (sequences, channels, state), optional: zero when absent
};

/// The gradients that diagonal_scan_backward overwrites. Absent ones are not computed. The gradient
/// with respect to a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class K = T, class Space = Host>
struct DiagonalScanInputGradients {
  ///@{
  /// Of the input of this name, with its shape.
  View<T, 3, Space> u = {};  ///< May be the memory of the gradient of y.
  View<K, 2, Space> lambda = {};
  View<T, 1, Space> delta = {};
  View<K, 2, Space> B = {};
  View<K, 2, Space> C = {};
  View<T, 1, Space> D = {};
  ///@}
  View<K, 3, Space> initial_state = {};  ///< (sequences, channels, state); may be the memory of the
                                         ///< gradient of final_state
};

/// Scratch memory of diagonal_scan, its backward pass and `recurrence`. It grows to the largest
/// call, and with one cpu nothing in it is kept from one call for another. Its members are private
/// to the library.
template <class T, class K = T, class Space = Host>
struct DiagonalScanScratch;

template <class T, class K>
struct DiagonalScanScratch<T, K, Host> {
  struct Thread {
    Tensor<T, 1> narrow;
    Tensor<double, 1> wide;
  };
  std::vector<Thread> threads;
  Tensor<K, 2> state;         ///< (sequences · channels, state), of the recurrence
  Tensor<K, 2> a_bar, b_bar;  ///< (channels, state), of the recurrence with a constant Δ
  std::array<PassedStates<K>, 2> passed;  ///< by sequences.reversed: a layer may run both
};

}  // namespace ssm
