#pragma once

#include <concepts>
#include <vector>

#include "ssm/core/checks.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretization.hpp"

namespace ssm {

/// Δ of diagonal systems, s: one for each channel, (channels), or one for each channel and step,
/// (batch, length, channels), for sequences that are sampled irregularly. Exactly one of the two is
/// present; a stride of 0 shares a Δ among channels or rows.
template <class T, class Space = Host>
struct SampleTimes {
  View<T, 1, Space> constant;
  View<T, 3, Space> varying;

  SampleTimes() = default;
  SampleTimes(const View<T, 1, Space>& view) : constant(view) {}
  SampleTimes(const View<T, 3, Space>& view) : varying(view) {}
  template <class Source>
  requires std::convertible_to<Source, View<T, 1, Space>> SampleTimes(Source&& source)
      : constant(source) {}
  template <class Source>
  requires std::convertible_to<Source, View<T, 3, Space>> SampleTimes(Source&& source)
      : varying(source) {}
};

/// What diagonal systems read, one with one input and one output a channel: those of diagonal_scan
/// and of the recurrence that defines it. T is float or double; K is T, or std::complex<T>: then
/// the states stand for conjugate pairs, and y = 2 Re C·x.
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
      {};  ///< (sequences, channels, state), optional: zero when absent
  Sequences<Space> sequences = {};
};

struct DiagonalScanOptions {
  Discretization method = Discretization::zero_order_hold;  ///< one that keeps C and D
};

/// What diagonal systems write. Backward reads u and the initial state as forward found them:
/// where it is to follow, outputs take no memory of theirs.
template <class T, class K = T, class Space = Host>
struct DiagonalScanOutputs {
  View<T, 3, Space> y;                 ///< (batch, length, channels), may be the memory of u
  View<K, 3, Space> final_state = {};  ///< (sequences, channels, state), optional, may be the
                                       ///< memory of the initial state
};

/// Gradients of a scalar loss that backward reads.
template <class T, class K = T, class Space = Host>
struct DiagonalScanOutputGradients {
  View<const T, 3, Space> y;  ///< (batch, length, channels)
  View<const K, 3, Space> final_state =
      {};  ///< (sequences, channels, state), optional: zero when absent
};

/// Gradients that backward overwrites, each with the shape of its input; absent ones are skipped.
/// The gradient by a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class K = T, class Space = Host>
struct DiagonalScanInputGradients {
  View<T, 3, Space> u = {};  ///< may be the memory of the gradient of y
  View<K, 2, Space> lambda = {};
  View<T, 1, Space> delta = {};
  View<K, 2, Space> B = {};
  View<K, 2, Space> C = {};
  View<T, 1, Space> D = {};
  View<K, 3, Space> initial_state = {};  ///< may be the memory of the gradient of final_state
};

/// All room that diagonal systems need. It grows to the largest call it has served; its members are
/// private to the library. Nothing in it is kept from one call for another.
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
};

}  // namespace ssm
