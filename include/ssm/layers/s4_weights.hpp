#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "ssm/conv/s4_truncate.hpp"
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

/// The configuration of an S4 layer.
struct S4Config {
  Index width = 0;             ///< channels, each with a system of its own
  Index state = 64;            ///< real states of each channel: state/2 conjugate pairs
  Index rank = 1;              ///< of the low-rank part of A
  Index length = 1024;         ///< of the kernel that is trained and C is truncated for: the
                               ///< longest sequence of training
  bool bidirectional = false;  ///< with a second C for a pass from the end to the start

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
  visit("length", c.length);
  visit("bidirectional", c.bidirectional, Field::optional);
}

/// What an S4 layer carries from step to step. It is a plain value.
template <class T>
struct S4State {
  Tensor<std::complex<T>, 3> x;  ///< (sequences, width, state/2)
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
  if (c.rank < 0 || c.rank > DplrStep<double>::highest_rank)
    throw_domain(function, "rank", std::to_string(c.rank), "in [0, 16]");
  if (c.length < 1) throw_domain(function, "length", std::to_string(c.length), "at least 1");
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
/// In the place of C it trains the output truncated for kernels of config.length,
/// C̃ = C (I − A_bar^length) (Gu, Goel & Ré 2022, section 3.2), whose gradient needs no power of
/// A_bar. C̃ belongs to one Δ and one length. Changing only log_delta or only the length gives
/// another system; s4_change_rate and s4_double_length change them together with C̃, and keep the
/// system.
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
  Tensor<T, 1> log_delta;  ///< (width): log Δ, Δ in s; to change it, see s4_change_rate
  Tensor<T, 4> P;          ///< (width, state/2, rank, 2): real and imaginary parts
  Tensor<T, 3> B;          ///< (width, state/2, 2)
  Tensor<T, 4> C;          ///< C̃ (directions, width, state/2, 2)
  Tensor<T, 1> D;          ///< (width)

  S4() = default;
  /// A layer of this configuration, its parameters zero.
  /// @throws DomainError unless the state is even and at least 2, the rank from 0 to 16 and the
  ///   length at least 1
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
  return {Tensor<std::complex<T>, 3>({sequences, layer.config.width, layer.config.modes()})};
}
/// Calls visit(name, tensor) for every tensor of a state.
template <class T, class Visit>
void tensors(S4State<T>& state, Visit&& visit) {
  visit("x", state.x);
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class T>
void check_s4(std::string_view function, const S4<T>& layer) {
  check_s4_config(function, layer.config);
  check_parameters(function, layer);
}

/// Λ, P and B of one channel, in double.
struct S4ChannelModel {
  DplrStep<double>::Vector lambda, B;
  DplrStep<double>::Matrix P;

  S4ChannelModel() = default;
  S4ChannelModel(Index modes, Index rank) : lambda(modes), B(modes), P(modes, rank) {}

  /// From a layer of these sizes: nothing is allocated.
  template <class T>
  void load(const S4<T>& w, Index channel) noexcept {
    for (Index n = 0; n < lambda.size(); ++n) {
      lambda(n) = {-std::exp(static_cast<double>(w.log_decay(channel, n))),
                   static_cast<double>(w.frequency(channel, n))};
      B(n) = {static_cast<double>(w.B(channel, n, 0)), static_cast<double>(w.B(channel, n, 1))};
      for (Index a = 0; a < P.cols(); ++a)
        P(n, a) = {static_cast<double>(w.P(channel, n, a, 0)),
                   static_cast<double>(w.P(channel, n, a, 1))};
    }
  }
};

/// The bilinear step of one channel, in double.
template <class T>
DplrStep<double> s4_channel_step(const S4<T>& w, Index channel, double rate) {
  S4ChannelModel model(w.log_decay.extent(1), w.P.extent(2));
  model.load(w, channel);
  return {model.lambda, model.P, model.B,
          rate * std::exp(static_cast<double>(w.log_delta(channel)))};
}

template <class T>
DplrStep<double>::Vector s4_output(const S4<T>& w, Index direction, Index channel) {
  DplrStep<double>::Vector C(w.log_decay.extent(1));
  for (Index n = 0; n < C.size(); ++n)
    C(n) = {static_cast<double>(w.C(direction, channel, n, 0)),
            static_cast<double>(w.C(direction, channel, n, 1))};
  return C;
}

template <class T>
void set_s4_output(S4<T>& w, Index direction, Index channel, const DplrStep<double>::Vector& C) {
  for (Index n = 0; n < C.size(); ++n) {
    w.C(direction, channel, n, 0) = static_cast<T>(C(n).real());
    w.C(direction, channel, n, 1) = static_cast<T>(C(n).imag());
  }
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
  DplrStep<double>::Vector C(s.modes());
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
    const auto step = detail::s4_channel_step(layer, c, 1);
    for (Index d = 0; d < s.directions(); ++d) {
      for (auto& x : C) {
        const double re = std::sqrt(0.5) * draws.normal();
        x = {re, std::sqrt(0.5) * draws.normal()};
      }
      detail::set_s4_output(layer, d, c, s4_truncate(step, C, s.length));
    }
  }
}

/// Draws the weights of an S4 layer with Λ, P and B of HiPPO-LegS, which has rank 1 (Gu, Goel & Ré
/// 2022): C complex normal of variance 1, D normal, and the default range of Δ. The same seed gives
/// the same weights on every machine.
/// @throws ShapeError for a layer of another rank
template <class T>
void initialize(S4<T>& layer, std::uint64_t seed, Index = 1) {
  initialize(layer, hippo_dplr<double>(Hippo::legs, layer.config.state), seed);
}

/// Turns the weights into those of kernels twice as long, for the same system:
/// C̃_2L = C̃_L (I + A_bar^L). config.length doubles.
/// @throws ShapeError for weights that do not fit the configuration
/// Cost: O(state³ log length) for each channel.
template <class T>
void s4_double_length(S4<T>& layer) {
  const S4Config& s = layer.config;
  detail::check_s4("s4_double_length", layer);
  for (Index c = 0; c < s.width; ++c) {
    const auto step = detail::s4_channel_step(layer, c, 1);
    for (Index d = 0; d < s.directions(); ++d)
      detail::set_s4_output(layer, d, c,
                            s4_truncate(step, detail::s4_output(layer, d, c), s.length, 1.0));
  }
  layer.config.length *= 2;
}

/// Turns the weights into those of the same continuous system at another sample rate: Δ becomes
/// rate · Δ, and C̃ becomes C (I − A_bar^length) with the A_bar of the new Δ and the C that the old
/// Δ and C̃ stand for.
/// @param rate 2 for sequences sampled half as often
/// @throws ShapeError for weights that do not fit the configuration, DomainError unless 0 < rate <
/// ∞ Cost: O(state³ log length) for each channel, in double.
template <class T>
void s4_change_rate(S4<T>& layer, double rate) {
  constexpr std::string_view function = "s4_change_rate";
  const S4Config& s = layer.config;
  detail::check_s4(function, layer);
  if (!(rate > 0 && rate < std::numeric_limits<double>::infinity()))
    detail::throw_domain(function, "rate", std::to_string(rate), "above 0 and finite");
  for (Index c = 0; c < s.width; ++c) {
    const auto trained = detail::s4_channel_step(layer, c, 1);
    layer.log_delta(c) += static_cast<T>(std::log(rate));
    const auto changed = detail::s4_channel_step(layer, c, 1);
    for (Index d = 0; d < s.directions(); ++d) {
      const auto C = s4_untruncate(trained, detail::s4_output(layer, d, c), s.length);
      detail::set_s4_output(layer, d, c, s4_truncate(changed, C, s.length));
    }
  }
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE S4<float>::S4(const S4Config&);
SSM_INSTANCE void initialize(S4<float>&, std::uint64_t, Index);
SSM_INSTANCE S4<double>::S4(const S4Config&);
SSM_INSTANCE void initialize(S4<double>&, std::uint64_t, Index);
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
