#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <string>
#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/system/dplr.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The configuration of an S5 layer.
struct S5Config {
  Index width = 0;             ///< the number of inputs and of outputs
  Index state = 64;            ///< real states that all channels share: state/2 conjugate pairs
  bool bidirectional = false;  ///< with a second C for states that run from the end to the start
  Discretization method = Discretization::zero_order_hold;  ///< how Δ turns Λ and B into Λ̄ and B̄

  /// The number of conjugate pairs of states.
  [[nodiscard]] Index modes() const noexcept { return state / 2; }
  friend bool operator==(const S5Config&, const S5Config&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Visit>
void fields(S5Config& c, Visit&& visit) {
  visit("width", c.width);
  visit("state", c.state);
  visit("bidirectional", c.bidirectional, Field::optional);
  visit("method", c.method, Field::optional);
}

/// What an S5 layer carries from step to step. It is a plain value.
///
/// A bidirectional layer takes a sequence in two pieces in three runs: of the first piece, for the
/// x that it leaves; of the second from that x, for its outputs and the x_back that it leaves; and
/// of the first again, now with that x_back, for its outputs.
template <class T, class Space = Host>
struct S5State {
  TensorIn<std::complex<T>, 2, Space> x;  ///< (sequences, state/2)
  TensorIn<std::complex<T>, 2, Space> x_back =
      {};  ///< the same of the pass against time, from the end; empty if there is none
};

template <class T, class Space = Host>
struct S5Scratch;
template <class T>
class S5Stepper;

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

inline void check_s5_config(std::string_view function, const S5Config& c) {
  check_even(function, c.state);
  check_keeps_output(function, c.method);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The S5 layer (Smith, Warrington & Linderman 2023, section 3). It holds its weights, or the
/// gradient of a loss with respect to them. It is one diagonal system with `width` inputs and
/// outputs,
///
///   x_t = Λ̄ x_{t−1} + B̄ u_t,  y_t = 2 Re(C x_t) + D u_t,  Λ = −exp(log_decay) + i frequency,
///
/// where Λ̄ and B̄ are Λ and B sampled by config.method, with a Δ = rate · exp(log_delta) for every
/// state. A bidirectional layer adds 2 Re(C_back x′_t), with states x′_t = Λ̄ x′_{t+1} + B̄ u_t that
/// run from the end to the start.
template <class T, class Space = Host>
struct S5 {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = T;
  using space = Space;
  using Config = S5Config;
  using State = S5State<T, Space>;
  using Scratch = S5Scratch<T, Space>;
  using Stepper = S5Stepper<T>;
  ///@}

  S5Config config;                  ///< sizes and fixed choices
  TensorIn<T, 1, Space> log_decay;  ///< (state/2): log(−Re λ), λ in 1/s
  TensorIn<T, 1, Space> frequency;  ///< (state/2): Im λ, 1/s
  TensorIn<T, 1, Space> log_delta;  ///< (state/2): log Δ, Δ in s
  TensorIn<T, 3, Space> B;          ///< (state/2, 2, width): real and imaginary rows
  TensorIn<T, 3, Space> C;          ///< (width, state/2, 2): real and imaginary parts
  TensorIn<T, 3, Space>
      C_back;  ///< (width, state/2, 2): C of the states that run backward; empty if there are none
  TensorIn<T, 1, Space> D;  ///< (width)

  S5() = default;
  /// A layer of this configuration, its parameters zero.
  /// @throws DomainError unless the state is even and at least 2, and for a method that changes C
  ///   or D
  explicit S5(const S5Config& c) : config(c) {
    detail::check_s5_config("S5", c);
    resize_parameters(*this);
  }
};

/// Calls visit(name, tensor, extents, decay) for every parameter; see ssm/core/parameters.hpp.
/// Weight decay applies to C and C_back (Smith, Warrington & Linderman 2023).
template <class T, class Space, class Visit>
void parameters(S5<T, Space>& layer, Visit&& visit) {
  const S5Config& c = layer.config;
  visit("log_decay", layer.log_decay, shape(c.modes()), false);
  visit("frequency", layer.frequency, shape(c.modes()), false);
  visit("log_delta", layer.log_delta, shape(c.modes()), false);
  visit("B", layer.B, shape(c.modes(), 2, c.width), false);
  visit("C", layer.C, shape(c.width, c.modes(), 2), true);
  if (c.bidirectional) visit("C_back", layer.C_back, shape(c.width, c.modes(), 2), true);
  visit("D", layer.D, shape(c.width), false);
}

/// The state of so many sequences before their first step, all zero.
template <class T>
[[nodiscard]] S5State<T> make_state(const S5<T>& layer, Index sequences) {
  S5State<T> state{Tensor<std::complex<T>, 2>({sequences, layer.config.modes()})};
  if (layer.config.bidirectional) state.x_back.resize(state.x.extents());
  return state;
}
/// Calls visit(name, tensor) for every tensor of a state.
template <class T, class Space, class Visit>
void tensors(S5State<T, Space>& state, Visit&& visit) {
  visit("x", state.x);
  if (state.x_back.extent(1) > 0) visit("x_back", state.x_back);
}

/// Draws the weights of an S5 layer (Smith, Warrington & Linderman 2023, section 3.3): Λ is that of
/// `block`, repeated; B and C are normal matrices of variance 1/width and 1/state, transformed by a
/// unitary V; D is normal, Δ log-uniform in [delta_min, delta_max]. The same seed gives the same
/// weights on every machine.
/// @param block Λ (state/2/blocks) of HiPPO-N, as s4d_modes(S4dInit::legs, state/blocks) makes it
/// @throws ShapeError, and DomainError unless the size of the block divides that of the state, Re λ
///   < 0 and 0 < delta_min ≤ delta_max
template <class T>
void initialize(S5<T>& layer, const DiagonalModes<double>& block, std::uint64_t seed,
                double delta_min = 1e-3, double delta_max = 1e-1) {
  constexpr std::string_view function = "initialize";
  const S5Config& s = layer.config;
  detail::check_parameters(function, layer);
  const Index size = block.lambda.size();
  if (size < 1 || s.modes() % size != 0)
    detail::throw_domain(function, "block", std::to_string(size) + " modes",
                         "a divisor of " + std::to_string(s.modes()));
  if (!(0 < delta_min && delta_min <= delta_max))
    detail::throw_domain(function, "delta_min", std::to_string(delta_min), "in (0, delta_max]");
  detail::InitialDraws draws(seed);
  for (Index n = 0; n < s.modes(); ++n) {
    const std::complex<double> lambda = block.lambda(n % size);
    if (!(lambda.real() < 0))
      detail::throw_domain(function, "Re lambda", std::to_string(lambda.real()), "< 0");
    layer.log_decay(n) = static_cast<T>(std::log(-lambda.real()));
    layer.frequency(n) = static_cast<T>(lambda.imag());
    layer.log_delta(n) = static_cast<T>(draws.uniform(std::log(delta_min), std::log(delta_max)));
  }
  const auto normal = [&](auto& tensor, double variance) {
    for (T& x : tensor) x = static_cast<T>(std::sqrt(variance) * draws.normal());
  };
  normal(layer.B, 0.5 / static_cast<double>((std::max<Index>)(s.width, 1)));
  normal(layer.C, 0.5 / static_cast<double>(s.state));
  normal(layer.C_back, 0.5 / static_cast<double>(s.state));
  normal(layer.D, 1);
}

/// Draws the weights of an S5 layer with one block, the diagonal of HiPPO-LegS, and the default
/// range of Δ (Smith, Warrington & Linderman 2023, section 3.3). The same seed gives the same
/// weights on every machine.
template <class T>
void initialize(S5<T>& layer, std::uint64_t seed, Index = 1) {
  initialize(layer, s4d_modes<double>(S4dInit::legs, layer.config.state), seed);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE S5<float>::S5(const S5Config&);
SSM_INSTANCE void initialize(S5<float>&, std::uint64_t, Index);
SSM_INSTANCE S5<double>::S5(const S5Config&);
SSM_INSTANCE void initialize(S5<double>&, std::uint64_t, Index);
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
