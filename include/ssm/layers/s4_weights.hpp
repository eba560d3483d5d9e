#pragma once

#include <algorithm>
#include <array>
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
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/system/dplr.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How an S4 layer is computed. All forms give the same result up to rounding. Where time lies
/// across ranks, each stands for the scan.
enum class S4Form {
  fastest,     ///< the form that measurements found fastest for the shape of the call
  scan,        ///< dplr_scan
  convolution  ///< long_conv with the kernel that dplr_scan gives for an impulse
};

/// The names that the forms have in files.
constexpr std::array<Named<S4Form>, 3> names(S4Form) noexcept {
  return {
      {{S4Form::fastest, "fastest"}, {S4Form::scan, "scan"}, {S4Form::convolution, "convolution"}}};
}

/// The configuration of an S4 layer.
struct S4Config {
  Index width = 0;                ///< channels, each with a system of its own
  Index state = 64;               ///< real states of each channel: state/2 conjugate pairs
  Index rank = 1;                 ///< of the low-rank part of A, 0 or more
  bool bidirectional = false;     ///< with a second C for a pass from the end to the start
  S4Form form = S4Form::fastest;  ///< how it is computed

  /// The number of conjugate pairs of states.
  [[nodiscard]] Index modes() const noexcept { return state / 2; }
  /// The number of directions in which it runs: 2 for a bidirectional layer, otherwise 1.
  [[nodiscard]] Index directions() const noexcept { return bidirectional ? 2 : 1; }
  friend bool operator==(const S4Config&, const S4Config&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Visit>
void fields(S4Config& c, Visit&& visit) {
  visit("width", c.width);
  visit("state", c.state);
  visit("rank", c.rank);
  visit("bidirectional", c.bidirectional, Field::optional);
  visit("form", c.form, Field::optional);
}

/// What an S4 layer carries from step to step. It is a plain value.
///
/// A bidirectional layer takes a sequence in two pieces in three runs: of the first piece, for the
/// x that it leaves; of the second from that x, for its outputs and the x_back that it leaves; and
/// of the first again, now with that x_back, for its outputs.
template <class T>
struct S4State {
  Tensor<std::complex<T>, 3> x;  ///< (sequences, width, state/2)
  Tensor<std::complex<T>, 3> x_back =
      {};  ///< the same of the pass against time, from the end; empty if there is none
};

template <class T>
struct S4Scratch;
template <class T>
class S4Stepper;

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

inline void check_s4_config(std::string_view function, const S4Config& c) {
  check_even(function, c.state);
  if (c.rank < 0) throw_domain(function, "rank", std::to_string(c.rank), "at least 0");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The S4 layer (Gu, Goel & Ré 2022). It holds its weights, or the gradient of a loss with respect
/// to them. Every channel is a system of its own,
///
///   x′ = (Λ − P P*) x + B u,  y = C x + D u,  Λ = −exp(log_decay) + i frequency,
///
/// sampled by the bilinear map with Δ = rate · exp(log_delta). A bidirectional layer adds to y_t
/// what the later inputs u_{t+1}, u_{t+2}, … give through the second C, with time running backward.
///
/// It holds C itself. Its authors train C̃ = C (I − A_bar^L) instead, the output truncated for
/// kernels of one length L (section 3.2), which s4_untruncate turns into C.
template <class T>
struct S4 {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = T;
  using space = Host;
  using Config = S4Config;
  using State = S4State<T>;
  using Scratch = S4Scratch<T>;
  using Stepper = S4Stepper<T>;
  ///@}

  S4Config config;         ///< sizes and fixed choices
  Tensor<T, 2> log_decay;  ///< (width, state/2): log(−Re Λ), Λ in 1/s
  Tensor<T, 2> frequency;  ///< (width, state/2): Im Λ, 1/s
  Tensor<T, 1> log_delta;  ///< (width): log Δ, Δ in s
  Tensor<T, 4> P;          ///< (width, state/2, rank, 2): real and imaginary parts
  Tensor<T, 3> B;          ///< (width, state/2, 2)
  Tensor<T, 4> C;          ///< (directions, width, state/2, 2)
  Tensor<T, 1> D;          ///< (width)

  S4() = default;
  /// A layer of this configuration, its parameters zero.
  /// @throws DomainError unless the state is even and at least 2 and the rank at least 0
  explicit S4(const S4Config& c) : config(c) {
    detail::check_s4_config("S4", c);
    resize_parameters(*this);
  }
};

/// Calls visit(name, tensor, extents, decay) for every parameter; see ssm/core/parameters.hpp.
/// Weight decay applies to none.
template <class T, class Visit>
void parameters(S4<T>& layer, Visit&& visit) {
  const S4Config& c = layer.config;
  visit("log_decay", layer.log_decay, shape(c.width, c.modes()), false);
  visit("frequency", layer.frequency, shape(c.width, c.modes()), false);
  visit("log_delta", layer.log_delta, shape(c.width), false);
  visit("P", layer.P, shape(c.width, c.modes(), c.rank, 2), false);
  visit("B", layer.B, shape(c.width, c.modes(), 2), false);
  visit("C", layer.C, shape(c.directions(), c.width, c.modes(), 2), false);
  visit("D", layer.D, shape(c.width), false);
}

/// The state of so many sequences before their first step, all zero.
template <class T>
[[nodiscard]] S4State<T> make_state(const S4<T>& layer, Index sequences) {
  S4State<T> state{
      Tensor<std::complex<T>, 3>({sequences, layer.config.width, layer.config.modes()})};
  if (layer.config.bidirectional) state.x_back.resize(state.x.extents());
  return state;
}
/// Calls visit(name, tensor) for every tensor of a state.
template <class T, class Visit>
void tensors(S4State<T>& state, Visit&& visit) {
  visit("x", state.x);
  if (state.x_back.extent(2) > 0) visit("x_back", state.x_back);
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class T>
void check_s4(std::string_view function, const S4<T>& layer) {
  check_s4_config(function, layer.config);
  check_parameters(function, layer);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Draws the weights of an S4 layer (Gu, Goel & Ré 2022): Λ, P and B from `form`, C complex normal
/// of variance 1, D normal, Δ log-uniform in [delta_min, delta_max]. Decays below 1e-4, such as
/// those of LegT and Fourier that are zero, become 1e-4. The same seed gives the same weights on
/// every machine.
/// @param form Λ, P and B of the sizes of the layer, as hippo_dplr makes them
/// @throws ShapeError, and DomainError unless 0 < delta_min ≤ delta_max and Re Λ ≤ 0
template <class T>
void initialize(S4<T>& layer, const Dplr<double>& form, std::uint64_t seed, double delta_min = 1e-3,
                double delta_max = 1e-1) {
  constexpr std::string_view function = "initialize";
  const S4Config& s = layer.config;
  detail::check_s4(function, layer);
  detail::check_matrix(function, "lambda", form.lambda, s.modes(), 1);
  detail::check_matrix(function, "P", form.P, s.modes(), s.rank);
  detail::check_matrix(function, "B", form.B, s.modes(), 1);
  if (!(0 < delta_min && delta_min <= delta_max))
    detail::throw_domain(function, "delta_min", std::to_string(delta_min), "in (0, delta_max]");
  constexpr double slowest = 1e-4;
  detail::InitialDraws draws(seed);
  for (Index c = 0; c < s.width; ++c) {
    for (Index n = 0; n < s.modes(); ++n) {
      const double decay = -form.lambda(n).real();
      if (!(decay > -1e-6))
        detail::throw_domain(function, "Re lambda", std::to_string(-decay), "at most 0");
      layer.log_decay(c, n) = static_cast<T>(std::log((std::max)(decay, slowest)));
      layer.frequency(c, n) = static_cast<T>(form.lambda(n).imag());
      layer.B(c, n, 0) = static_cast<T>(form.B(n).real());
      layer.B(c, n, 1) = static_cast<T>(form.B(n).imag());
      for (Index a = 0; a < s.rank; ++a) {
        layer.P(c, n, a, 0) = static_cast<T>(form.P(n, a).real());
        layer.P(c, n, a, 1) = static_cast<T>(form.P(n, a).imag());
      }
    }
    layer.log_delta(c) = static_cast<T>(draws.uniform(std::log(delta_min), std::log(delta_max)));
    layer.D(c) = static_cast<T>(draws.normal());
  }
  for (T& x : layer.C) x = static_cast<T>(std::sqrt(0.5) * draws.normal());
}

/// Draws the weights of an S4 layer with Λ, P and B of HiPPO-LegS, which has rank 1 (Gu, Goel & Ré
/// 2022): C complex normal of variance 1, D normal, and the default range of Δ. The same seed gives
/// the same weights on every machine.
/// @throws ShapeError for a layer of another rank
template <class T>
void initialize(S4<T>& layer, std::uint64_t seed, Index = 1) {
  initialize(layer, hippo_dplr<double>(Hippo::legs, layer.config.state), seed);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE S4<float>::S4(const S4Config&);
SSM_INSTANCE void initialize(S4<float>&, std::uint64_t, Index);
SSM_INSTANCE S4<double>::S4(const S4Config&);
SSM_INSTANCE void initialize(S4<double>&, std::uint64_t, Index);
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
