#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/checks.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/hold.hpp"

namespace ssm {

/// A coefficient of S6, B or C, or its gradient: either the same at every step, or dependent on the
/// input and so different at every step. Exactly one of the two views is present.
///
/// In the varying form channels share coefficients in groups: channel c uses group
/// c · groups / channels. For a single step there is no dimension of time, and Rank is 3 instead
/// of 4. K is the type of the constant form and V that of the varying form, const for inputs.
template <class K, std::size_t Rank = 4, class V = K, class Space = Host>
struct Selective {
  View<K, 2, Space> constant;    ///< (channels, state)
  View<V, Rank, Space> varying;  ///< (batch, length, groups, state); of a step without length

  Selective() = default;
  ///@{
  /// The constant form from a view of rank 2, the varying form from one of rank Rank.
  Selective(const View<K, 2, Space>& view) : constant(view) {}
  Selective(const View<V, Rank, Space>& view) : varying(view) {}
  template <class Source>
  requires std::convertible_to<Source, View<K, 2, Space>> Selective(Source&& source)
      : constant(source) {}
  template <class Source>
  requires std::convertible_to<Source, View<V, Rank, Space>> Selective(Source&& source)
      : varying(source) {}
  ///@}
};

namespace detail {

/// How B and C that depend on the input are kept: as u is, or as A is where that is complex.
template <class T, class K>
using Varying = std::conditional_t<std::is_same_v<K, Real<K>>, T, K>;

}  // namespace detail

/// What the selective scan reads. T is the type of sequences: float or double, and on a GPU also
/// Half or Bfloat16. K is the type of states and of A: Arithmetic<T>, or std::complex of it for a
/// complex A (then y = 2 Re C·x). An absent view leaves its term out.
template <class T, class K = Arithmetic<T>, class Space = Host>
struct SelectiveScanInputs {
  using Varying = detail::Varying<T, K>;  ///< type of B and C that depend on the input

  View<const T, 3, Space> u;      ///< (batch, length, channels)
  View<const T, 3, Space> delta;  ///< (batch, length, channels), before bias and softplus
  View<const K, 2, Space> A;      ///< (channels, state), Re A < 0 for a stable system
  Selective<const K, 4, const Varying, Space> B;  ///< (channels, state) or
                                                  ///< (batch, length, groups, state)
  Selective<const K, 4, const Varying, Space> C;  ///< (channels, state) or
                                                  ///< (batch, length, groups, state)
  View<const Real<K>, 1, Space> D = {};           ///< (channels), optional: y += D u
  View<const Real<K>, 1, Space> delta_bias = {};  ///< (channels), optional: Δ = delta + delta_bias
  View<const T, 3, Space> z = {};  ///< (batch, length, channels), optional: y ← y · silu(z)
  View<const K, 3, Space> initial_state =
      {};                           ///< (sequences, channels, state), optional: zero when absent
  Sequences<Space> sequences = {};  ///< packed sequences, and the direction of time
};

/// How the selective scan, and a step of it, is to run.
struct SelectiveScanOptions {
  bool softplus = false;         ///< Δ ← softplus(Δ)
  Hold hold = Hold::simplified;  ///< or zero_order
  bool keep = true;  ///< whether backward will follow and the scratch keeps what it needs; of no
                     ///< effect on a step
};

/// What the selective scan writes. Outputs share no memory with inputs, except as said below.
template <class T, class K = Arithmetic<T>, class Space = Host>
struct SelectiveScanOutputs {
  View<T, 3, Space> y;                 ///< (batch, length, channels)
  View<K, 3, Space> final_state = {};  ///< (sequences, channels, state), optional, may be the
                                       ///< memory of the initial state
};

/// The gradients of a scalar loss with respect to the outputs, which selective_scan_backward reads.
template <class T, class K = Arithmetic<T>, class Space = Host>
struct SelectiveScanOutputGradients {
  View<const T, 3, Space> y;  ///< (batch, length, channels)
  View<const K, 3, Space> final_state =
      {};  ///< (sequences, channels, state), optional: zero when absent
};

/// The gradients that selective_scan_backward overwrites. They share no memory with other
/// arguments, except as said below; absent ones are not computed. The gradient with respect to a
/// complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class K = Arithmetic<T>, class Space = Host>
struct SelectiveScanInputGradients {
  using Varying = detail::Varying<T, K>;  ///< type of B and C that depend on the input

  ///@{
  /// Of the input of this name, with its shape.
  View<T, 3, Space> u = {};
  View<T, 3, Space> delta = {};
  View<K, 2, Space> A = {};
  Selective<K, 4, Varying, Space> B = {};
  Selective<K, 4, Varying, Space> C = {};
  View<Real<K>, 1, Space> D = {};
  View<Real<K>, 1, Space> delta_bias = {};
  View<T, 3, Space> z = {};
  ///@}
  View<K, 3, Space> initial_state = {};  ///< (sequences, channels, state); may be the memory of the
                                         ///< gradient of final_state
};

/// What one step of the selective scan reads: the inputs of the scan without time. T and K are
/// those of SelectiveScanInputs.
template <class T, class K = Arithmetic<T>, class Space = Host>
struct SelectiveScanStepInputs {
  using Varying = detail::Varying<T, K>;  ///< type of B and C that depend on the input

  View<const T, 2, Space> u;                      ///< (batch, channels)
  View<const T, 2, Space> delta;                  ///< (batch, channels), before bias and softplus
  View<const K, 2, Space> A;                      ///< (channels, state)
  Selective<const K, 3, const Varying, Space> B;  ///< (channels, state) or (batch, groups, state)
  Selective<const K, 3, const Varying, Space> C;  ///< (channels, state) or (batch, groups, state)
  View<const Real<K>, 1, Space> D = {};           ///< (channels), optional: y += D u
  View<const Real<K>, 1, Space> delta_bias = {};  ///< (channels), optional
  View<const T, 2, Space> z = {};  ///< (batch, channels), optional: y ← y · silu(z)
};

/// Scratch memory of selective_scan and selective_scan_backward, with what the first leaves for the
/// second. It grows to the largest call. Its members are private to the library.
template <class T, class K = Arithmetic<T>, class Space = Host>
struct SelectiveScanScratch;

template <class T, class K>
struct SelectiveScanScratch<T, K, Host> {
  detail::KeptCall<6> call;  ///< batch, length, channels, state, groups, sequences
  Tensor<K, 1> kept;         ///< the states that backward starts from, one set a tile of time
  Tensor<K, 1> initial;      ///< (sequences, channels, state), where the call overwrote it
  Tensor<K, 1> states;
  Tensor<K, 1> partials;
  Tensor<T, 1> tiles;
  PassedStates<K> passed;
  std::vector<SelectiveScanScratch> blocks;  ///< of channels, where these run in several calls
  Tensor<K, 1> shares;                       ///< of a block in the gradients of B and C
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class T, class K>
void hand_over_room(SelectiveScanScratch<T, K, Host>& from, SelectiveScanScratch<T, K, Host>& to) {
  std::swap(from.states, to.states);
  std::swap(from.partials, to.partials);
  std::swap(from.tiles, to.tiles);
  std::swap(from.passed.leaving, to.passed.leaving);
  std::swap(from.shares, to.shares);
}

namespace detail {

/// True for an absent view and for one whose last extent has stride 1.
template <class AnyView>
[[nodiscard]] bool is_contiguous_in_channels(const AnyView& view) noexcept {
  return !view || view.extent(view.rank - 1) <= 1 || view.stride(view.rank - 1) == 1;
}

/// Half of a complex state's conjugate pairs is stored, so the output counts each twice.
template <class K>
inline constexpr Real<K> output_scale = std::is_same_v<K, Real<K>> ? 1 : 2;

}  // namespace detail

}  // namespace ssm
