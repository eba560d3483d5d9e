#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "ssm/conv/s4_kernel.hpp"
#include "ssm/layers/s4d_weights.hpp"

namespace ssm {

/// Sizes of an S4 layer.
struct S4Shape {
  Index width = 0;             ///< channels, each a system of its own
  Index state = 64;            ///< real states of each channel: state/2 conjugate pairs
  Index rank = 1;              ///< of the low-rank part of A
  Index length = 1024;         ///< of the kernel that is trained: the longest sequence of training
  bool bidirectional = false;  ///< a second C, for a pass from the end to the start

  [[nodiscard]] Index modes() const noexcept { return state / 2; }
  [[nodiscard]] Index directions() const noexcept { return bidirectional ? 2 : 1; }
  friend bool operator==(const S4Shape&, const S4Shape&) = default;
};

/// Weights of an S4 layer, or their gradient: A = Λ − P P*, Λ = −exp(log_decay) + i frequency. What
/// is trained in the place of C is the output truncated for kernels of `length`,
/// C̃ = C (I − A_bar^length) (Gu, Goel & Ré 2022, section 3.2): its gradient needs no power of
/// A_bar. C̃ belongs to its Δ and to its length: to change one of these alone is to make another
/// model, which s4_change_rate and s4_double_length do not.
template <class T>
struct S4Weights {
  Index length = 0;        ///< steps that C is truncated for
  Tensor<T, 2> log_decay;  ///< (width, state/2): log(−Re Λ), Λ in 1/s
  Tensor<T, 2> frequency;  ///< (width, state/2): Im Λ, 1/s
  Tensor<T, 1> log_delta;  ///< (width): log Δ, Δ in s; moved with C by s4_change_rate
  Tensor<T, 4> P;          ///< (width, state/2, rank, 2): real and imaginary parts
  Tensor<T, 3> B;          ///< (width, state/2, 2)
  Tensor<T, 4> C;          ///< C̃ (directions, width, state/2, 2)
  Tensor<T, 1> D;          ///< (width)

  S4Weights() = default;
  /// All zero.
  /// @throws DomainError unless the state is even and at least 2, the rank from 0 to 16 and the
  ///   length at least 1
  explicit S4Weights(const S4Shape& s) : length(s.length) {
    detail::check_even("S4Weights", s.state);
    if (s.rank < 0 || s.rank > DplrStep<T>::highest_rank)
      detail::throw_domain("S4Weights", "rank", std::to_string(s.rank), "in [0, 16]");
    if (s.length < 1)
      detail::throw_domain("S4Weights", "length", std::to_string(s.length), "at least 1");
    log_decay.resize({s.width, s.modes()});
    frequency.resize({s.width, s.modes()});
    log_delta.resize({s.width});
    P.resize({s.width, s.modes(), s.rank, 2});
    B.resize({s.width, s.modes(), 2});
    C.resize({s.directions(), s.width, s.modes(), 2});
    D.resize({s.width});
  }

  [[nodiscard]] S4Shape shape() const noexcept {
    return {log_decay.extent(0), 2 * log_decay.extent(1), P.extent(2), length, C.extent(0) == 2};
  }

  /// Calls f(name, tensor, decay) for every parameter in a fixed order; no weight decay applies.
  template <class F>
  void visit(F&& f) {
    visit_parameters(*this, f);
  }
  template <class F>
  void visit(F&& f) const {
    visit_parameters(*this, f);
  }

 private:
  template <class Self, class F>
  static void visit_parameters(Self& self, F& f) {
    f(std::string("log_decay"), self.log_decay, false);
    f(std::string("frequency"), self.frequency, false);
    f(std::string("log_delta"), self.log_delta, false);
    f(std::string("P"), self.P, false);
    f(std::string("B"), self.B, false);
    f(std::string("C"), self.C, false);
    f(std::string("D"), self.D, false);
  }
};

namespace detail {

template <class T>
S4Shape check_s4_weights(std::string_view function, const S4Weights<T>& w) {
  const S4Shape s = w.shape();
  const std::array<Index, 2> modes{s.width, s.modes()};
  check_shape(function, "frequency", w.frequency, modes);
  check_shape(function, "log_delta", w.log_delta, std::array<Index, 1>{s.width});
  check_shape(function, "P", w.P, std::array<Index, 4>{s.width, s.modes(), s.rank, Index(2)});
  check_shape(function, "B", w.B, std::array<Index, 3>{s.width, s.modes(), 2});
  check_shape(function, "C", w.C,
              std::array<Index, 4>{s.directions(), s.width, s.modes(), Index(2)});
  check_shape(function, "D", w.D, std::array<Index, 1>{s.width});
  if (s.length < 1) throw_domain(function, "length", std::to_string(s.length), "at least 1");
  return s;
}

/// Λ, P and B of one channel, in double.
struct S4ChannelModel {
  DplrStep<double>::Vector lambda, B;
  DplrStep<double>::Matrix P;

  S4ChannelModel() = default;
  S4ChannelModel(Index modes, Index rank) : lambda(modes), B(modes), P(modes, rank) {}

  /// From weights of these sizes: nothing is allocated.
  template <class T>
  void load(const S4Weights<T>& w, Index channel) noexcept {
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
DplrStep<double> s4_channel_step(const S4Weights<T>& w, Index channel, double rate) {
  S4ChannelModel model(w.log_decay.extent(1), w.P.extent(2));
  model.load(w, channel);
  return {model.lambda, model.P, model.B,
          rate * std::exp(static_cast<double>(w.log_delta(channel)))};
}

template <class T>
DplrStep<double>::Vector s4_output(const S4Weights<T>& w, Index direction, Index channel) {
  DplrStep<double>::Vector C(w.log_decay.extent(1));
  for (Index n = 0; n < C.size(); ++n)
    C(n) = {static_cast<double>(w.C(direction, channel, n, 0)),
            static_cast<double>(w.C(direction, channel, n, 1))};
  return C;
}

template <class T>
void set_s4_output(S4Weights<T>& w, Index direction, Index channel,
                   const DplrStep<double>::Vector& C) {
  for (Index n = 0; n < C.size(); ++n) {
    w.C(direction, channel, n, 0) = static_cast<T>(C(n).real());
    w.C(direction, channel, n, 1) = static_cast<T>(C(n).imag());
  }
}

}  // namespace detail

/// Draws the weights of an S4 layer (Gu, Goel & Ré 2022): Λ, P and B as given, C complex normal of
/// variance 1, D normal, Δ log-uniform in [delta_min, delta_max]. Decays below 1e-4, such as the
/// zeros of LegT and Fourier, become 1e-4. The same seed gives the same weights everywhere.
/// @param form Λ, P and B of these sizes, as hippo_dplr makes them
/// @throws ShapeError, and DomainError unless 0 < delta_min ≤ delta_max and Re Λ ≤ 0
template <class T>
void initialize(S4Weights<T>& weights, const Dplr<double>& form, std::uint64_t seed,
                double delta_min = 1e-3, double delta_max = 1e-1) {
  constexpr std::string_view function = "initialize";
  const S4Shape s = weights.shape();
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
      weights.log_decay(c, n) = static_cast<T>(std::log(std::max(decay, slowest)));
      weights.frequency(c, n) = static_cast<T>(form.lambda(n).imag());
      weights.B(c, n, 0) = static_cast<T>(form.B(n).real());
      weights.B(c, n, 1) = static_cast<T>(form.B(n).imag());
      for (Index a = 0; a < s.rank; ++a) {
        weights.P(c, n, a, 0) = static_cast<T>(form.P(n, a).real());
        weights.P(c, n, a, 1) = static_cast<T>(form.P(n, a).imag());
      }
    }
    weights.log_delta(c) = static_cast<T>(draws.uniform(std::log(delta_min), std::log(delta_max)));
    weights.D(c) = static_cast<T>(draws.normal());
    const auto step = detail::s4_channel_step(weights, c, 1);
    for (Index d = 0; d < s.directions(); ++d) {
      for (auto& x : C) {
        const double re = std::sqrt(0.5) * draws.normal();
        x = {re, std::sqrt(0.5) * draws.normal()};
      }
      detail::set_s4_output(weights, d, c, s4_truncate(step, C, s.length));
    }
  }
}

/// Makes the weights those of kernels twice as long, which compute the same:
/// C̃_2L = C̃_L (I + A_bar^L).
/// @throws ShapeError
/// Cost: O(state³ log length) a channel.
template <class T>
void s4_double_length(S4Weights<T>& weights) {
  const S4Shape s = detail::check_s4_weights("s4_double_length", weights);
  for (Index c = 0; c < s.width; ++c) {
    const auto step = detail::s4_channel_step(weights, c, 1);
    for (Index d = 0; d < s.directions(); ++d)
      detail::set_s4_output(weights, d, c,
                            s4_truncate(step, detail::s4_output(weights, d, c), s.length, 1.0));
  }
  weights.length *= 2;
}

/// Makes the weights those of the same continuous system at another sample rate: Δ ← rate · Δ and
/// C̃ ← C (I − A_bar′^length), with C from C̃ at the Δ of before.
/// @param rate 2 for sequences sampled half as often
/// @throws ShapeError, DomainError unless 0 < rate < ∞
/// Cost: O(state³ log length) a channel, in double.
template <class T>
void s4_change_rate(S4Weights<T>& weights, double rate) {
  constexpr std::string_view function = "s4_change_rate";
  const S4Shape s = detail::check_s4_weights(function, weights);
  if (!(rate > 0 && rate < std::numeric_limits<double>::infinity()))
    detail::throw_domain(function, "rate", std::to_string(rate), "above 0 and finite");
  for (Index c = 0; c < s.width; ++c) {
    const auto trained = detail::s4_channel_step(weights, c, 1);
    weights.log_delta(c) += static_cast<T>(std::log(rate));
    const auto changed = detail::s4_channel_step(weights, c, 1);
    for (Index d = 0; d < s.directions(); ++d) {
      const auto C = s4_untruncate(trained, detail::s4_output(weights, d, c), s.length);
      detail::set_s4_output(weights, d, c, s4_truncate(changed, C, s.length));
    }
  }
}

}  // namespace ssm
