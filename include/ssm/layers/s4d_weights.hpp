#pragma once

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
#include "ssm/layers/detail/complex_views.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/system/dplr.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How an S4D layer is computed. All forms give the same result up to rounding. Where time lies
/// across ranks, and on a device, each stands for the scan.
enum class S4dForm {
  fastest,      ///< the form that measurements found fastest for the shape of the call
  scan,         ///< diagonal_scan
  convolution,  ///< s4d_kernel and long_conv: zero-order hold or bilinear
  recurrence    ///< `recurrence`, step by step; its gradients are those of the scan
};

/// The names that the forms have in files.
constexpr std::array<Named<S4dForm>, 4> names(S4dForm) noexcept {
  return {{{S4dForm::fastest, "fastest"},
           {S4dForm::scan, "scan"},
           {S4dForm::convolution, "convolution"},
           {S4dForm::recurrence, "recurrence"}}};
}

/// The configuration of an S4D layer.
struct S4dConfig {
  Index width = 0;             ///< channels, each with a system of its own
  Index state = 64;            ///< real states of each channel: state/2 conjugate pairs
  bool bidirectional = false;  ///< with a second C for a pass from the end to the start
  Discretization method = Discretization::zero_order_hold;  ///< how Δ turns Λ and B into Λ̄ and B̄
  S4dForm form = S4dForm::fastest;                          ///< how it is computed
  /// DSS in its softmax form (Gupta, Gu & Berant 2022, proposition 1), by zero-order hold only:
  /// B ← B/(e^{LΔλ} − 1), which divides every mode of the kernel by its sum over L steps.
  bool dss = false;
  /// L of DSS. 0 stands for the length of each input; the layer is then another model at every
  /// length, has no state and no step, and runs packed sequences one by one.
  Index dss_length = 0;

  /// The number of conjugate pairs of states.
  [[nodiscard]] Index modes() const noexcept { return state / 2; }
  /// The number of directions in which it runs: 2 for a bidirectional layer, otherwise 1.
  [[nodiscard]] Index directions() const noexcept { return bidirectional ? 2 : 1; }
  friend bool operator==(const S4dConfig&, const S4dConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Visit>
void fields(S4dConfig& c, Visit&& visit) {
  visit("width", c.width);
  visit("state", c.state);
  visit("bidirectional", c.bidirectional, Field::optional);
  visit("method", c.method, Field::optional);
  visit("form", c.form, Field::optional);
  visit("dss", c.dss, Field::optional);
  visit("dss_length", c.dss_length, Field::optional);
}

/// What an S4D layer carries from step to step. It is a plain value.
///
/// A bidirectional layer takes a sequence in two pieces in three runs: of the first piece, for the
/// x that it leaves; of the second from that x, for its outputs and the x_back that it leaves; and
/// of the first again, now with that x_back, for its outputs.
template <class T, class Space = Host>
struct S4dState {
  TensorIn<std::complex<T>, 3, Space> x;  ///< (sequences, width, state/2)
  TensorIn<std::complex<T>, 3, Space> x_back =
      {};  ///< the same of the pass against time, from the end; empty if there is none
};

template <class T, class Space = Host>
struct S4dScratch;
template <class T>
class S4dStepper;

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

inline void check_s4d_config(std::string_view function, const S4dConfig& c) {
  check_even(function, c.state);
  check_keeps_output(function, c.method);
  const bool has_kernel =
      c.method == Discretization::zero_order_hold || c.method == Discretization::bilinear;
  if (c.form == S4dForm::convolution && !has_kernel)
    throw_domain(function, "method", "an Euler method",
                 "zero_order_hold or bilinear for a convolution");
  if (!c.dss) return;
  if (c.method != Discretization::zero_order_hold)
    throw_domain(function, "method", "another", "zero_order_hold for dss");
  if (c.dss_length < 0)
    throw_domain(function, "dss_length", std::to_string(c.dss_length), "at least 0");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The S4D layer (Gu, Gupta, Goel & Ré 2022). It holds its weights, or the gradient of a loss with
/// respect to them. Every channel is a diagonal system of its own,
///
///   x′ = Λ x + B u,  y = 2 Re(C x) + D u,  Λ = −exp(log_decay) + i frequency,
///
/// sampled with Δ = rate · exp(log_delta); every mode decays. A bidirectional layer adds to y_t
/// what the later inputs u_{t+1}, u_{t+2}, … give through the second C, with time running backward.
template <class T, class Space = Host>
struct S4d {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = T;
  using space = Space;
  using Config = S4dConfig;
  using State = S4dState<T, Space>;
  using Scratch = S4dScratch<T, Space>;
  using Stepper = S4dStepper<T>;
  ///@}

  S4dConfig config;                 ///< sizes and fixed choices
  TensorIn<T, 2, Space> log_decay;  ///< (width, state/2): log(−Re λ), λ in 1/s
  TensorIn<T, 2, Space> frequency;  ///< (width, state/2): Im λ, 1/s
  TensorIn<T, 1, Space> log_delta;  ///< (width): log Δ, Δ in s
  TensorIn<T, 3, Space> B;          ///< (width, state/2, 2): real and imaginary parts
  TensorIn<T, 4, Space> C;          ///< (directions, width, state/2, 2): real and imaginary parts
  TensorIn<T, 1, Space> D;          ///< (width)

  S4d() = default;
  /// A layer of this configuration, its parameters zero.
  /// @throws DomainError unless the state is even and at least 2; for a method that changes C or D;
  ///   for the form convolution with a method that has no kernel; and for dss with a method other
  ///   than zero_order_hold
  explicit S4d(const S4dConfig& c) : config(c) {
    detail::check_s4d_config("S4d", c);
    resize_parameters(*this);
  }
};

/// Calls visit(name, tensor, extents, decay) for every parameter; see ssm/core/parameters.hpp.
/// Weight decay applies to none (Gu, Gupta, Goel & Ré 2022).
template <class T, class Space, class Visit>
void parameters(S4d<T, Space>& layer, Visit&& visit) {
  const S4dConfig& c = layer.config;
  visit("log_decay", layer.log_decay, shape(c.width, c.modes()), false);
  visit("frequency", layer.frequency, shape(c.width, c.modes()), false);
  visit("log_delta", layer.log_delta, shape(c.width), false);
  visit("B", layer.B, shape(c.width, c.modes(), 2), false);
  visit("C", layer.C, shape(c.directions(), c.width, c.modes(), 2), false);
  visit("D", layer.D, shape(c.width), false);
}

/// The state of so many sequences before their first step, all zero.
template <class T>
[[nodiscard]] S4dState<T> make_state(const S4d<T>& layer, Index sequences) {
  S4dState<T> state{
      Tensor<std::complex<T>, 3>({sequences, layer.config.width, layer.config.modes()})};
  if (layer.config.bidirectional) state.x_back.resize(state.x.extents());
  return state;
}
/// Calls visit(name, tensor) for every tensor of a state.
template <class T, class Space, class Visit>
void tensors(S4dState<T, Space>& state, Visit&& visit) {
  visit("x", state.x);
  if (state.x_back.extent(2) > 0) visit("x_back", state.x_back);
}

/// Draws the weights of an S4D layer (Gu, Gupta, Goel & Ré 2022, section 4): Λ and B from `modes`,
/// C complex normal of variance 1, D normal, Δ log-uniform in [delta_min, delta_max]. The same seed
/// gives the same weights on every machine.
/// @param modes Λ and B (state/2), as s4d_modes makes them
/// @throws ShapeError, and DomainError unless 0 < delta_min ≤ delta_max and Re λ < 0
template <class T>
void initialize(S4d<T>& layer, const DiagonalModes<double>& modes, std::uint64_t seed,
                double delta_min = 1e-3, double delta_max = 1e-1) {
  constexpr std::string_view function = "initialize";
  const S4dConfig& config = layer.config;
  detail::check_parameters(function, layer);
  detail::check_matrix(function, "lambda", modes.lambda, config.modes(), 1);
  detail::check_matrix(function, "B", modes.B, config.modes(), 1);
  if (!(0 < delta_min && delta_min <= delta_max))
    detail::throw_domain(function, "delta_min", std::to_string(delta_min), "in (0, delta_max]");
  detail::InitialDraws draws(seed);
  for (Index c = 0; c < config.width; ++c) {
    for (Index n = 0; n < config.modes(); ++n) {
      if (!(modes.lambda(n).real() < 0))
        detail::throw_domain(function, "Re lambda", std::to_string(modes.lambda(n).real()), "< 0");
      layer.log_decay(c, n) = static_cast<T>(std::log(-modes.lambda(n).real()));
      layer.frequency(c, n) = static_cast<T>(modes.lambda(n).imag());
      layer.B(c, n, 0) = static_cast<T>(modes.B(n).real());
      layer.B(c, n, 1) = static_cast<T>(modes.B(n).imag());
    }
    layer.log_delta(c) = static_cast<T>(draws.uniform(std::log(delta_min), std::log(delta_max)));
    layer.D(c) = static_cast<T>(draws.normal());
  }
  for (T& x : layer.C) x = static_cast<T>(std::sqrt(0.5) * draws.normal());
}

/// Draws the weights of an S4D layer with Λ and B of the diagonal of HiPPO-LegS, as its authors do
/// (Gu, Gupta, Goel & Ré 2022): C complex normal of variance 1, D normal, and the default range of
/// Δ. The same seed gives the same weights on every machine.
template <class T>
void initialize(S4d<T>& layer, std::uint64_t seed, Index = 1) {
  initialize(layer, s4d_modes<double>(S4dInit::legs, layer.config.state), seed);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE S4d<float>::S4d(const S4dConfig&);
SSM_INSTANCE void initialize(S4d<float>&, std::uint64_t, Index);
SSM_INSTANCE S4d<double>::S4d(const S4dConfig&);
SSM_INSTANCE void initialize(S4d<double>&, std::uint64_t, Index);
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
