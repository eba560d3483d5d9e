#pragma once

#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/system/dplr.hpp"

namespace ssm {

/// Sizes of an S4D layer.
struct S4dShape {
  Index width = 0;             ///< channels, each a system of its own
  Index state = 64;            ///< real states of each channel: state/2 conjugate pairs
  bool bidirectional = false;  ///< a second C, for a pass from the end to the start

  [[nodiscard]] Index modes() const noexcept { return state / 2; }
  [[nodiscard]] Index directions() const noexcept { return bidirectional ? 2 : 1; }
  friend bool operator==(const S4dShape&, const S4dShape&) = default;
};

/// Weights of an S4D layer, or their gradient. Λ = −exp(log_decay) + i frequency, so that every
/// mode decays.
template <class T>
struct S4dWeights {
  Tensor<T, 2> log_decay;  ///< (width, state/2): log(−Re λ), λ in 1/s
  Tensor<T, 2> frequency;  ///< (width, state/2): Im λ, 1/s
  Tensor<T, 1> log_delta;  ///< (width): log Δ, Δ in s
  Tensor<T, 3> B;          ///< (width, state/2, 2): real and imaginary parts
  Tensor<T, 4> C;          ///< (directions, width, state/2, 2): real and imaginary parts
  Tensor<T, 1> D;          ///< (width)

  S4dWeights() = default;
  /// All zero.
  /// @throws DomainError unless the state is even and at least 2
  explicit S4dWeights(const S4dShape& s) {
    detail::check_even("S4dWeights", s.state);
    log_decay.resize({s.width, s.modes()});
    frequency.resize({s.width, s.modes()});
    log_delta.resize({s.width});
    B.resize({s.width, s.modes(), 2});
    C.resize({s.directions(), s.width, s.modes(), 2});
    D.resize({s.width});
  }

  [[nodiscard]] S4dShape shape() const noexcept {
    return {log_decay.extent(0), 2 * log_decay.extent(1), C.extent(0) == 2};
  }

  /// Calls f(name, tensor, decay) for every parameter in a fixed order; no weight decay applies
  /// (Gu, Gupta, Goel & Ré 2022).
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
    f(std::string("B"), self.B, false);
    f(std::string("C"), self.C, false);
    f(std::string("D"), self.D, false);
  }
};

/// Draws the weights of an S4D layer (Gu, Gupta, Goel & Ré 2022, section 4): Λ and B as given, C
/// complex normal of variance 1, D normal, Δ log-uniform in [delta_min, delta_max]. The same seed
/// gives the same weights everywhere.
/// @param modes Λ and B (state/2), as s4d_modes makes them
/// @throws ShapeError, and DomainError unless 0 < delta_min ≤ delta_max and Re λ < 0
template <class T>
void initialize(S4dWeights<T>& weights, const DiagonalModes<double>& modes, std::uint64_t seed,
                double delta_min = 1e-3, double delta_max = 1e-1) {
  constexpr std::string_view function = "initialize";
  const S4dShape s = weights.shape();
  detail::check_matrix(function, "lambda", modes.lambda, s.modes(), 1);
  detail::check_matrix(function, "B", modes.B, s.modes(), 1);
  if (!(0 < delta_min && delta_min <= delta_max))
    detail::throw_domain(function, "delta_min", std::to_string(delta_min), "in (0, delta_max]");
  detail::InitialDraws draws(seed);
  for (Index c = 0; c < s.width; ++c) {
    for (Index n = 0; n < s.modes(); ++n) {
      if (!(modes.lambda(n).real() < 0))
        detail::throw_domain(function, "Re lambda", std::to_string(modes.lambda(n).real()), "< 0");
      weights.log_decay(c, n) = static_cast<T>(std::log(-modes.lambda(n).real()));
      weights.frequency(c, n) = static_cast<T>(modes.lambda(n).imag());
      weights.B(c, n, 0) = static_cast<T>(modes.B(n).real());
      weights.B(c, n, 1) = static_cast<T>(modes.B(n).imag());
    }
    weights.log_delta(c) = static_cast<T>(draws.uniform(std::log(delta_min), std::log(delta_max)));
    weights.D(c) = static_cast<T>(draws.normal());
  }
  for (T& x : weights.C) x = static_cast<T>(std::sqrt(0.5) * draws.normal());
}

namespace detail {

/// (…, 2) without gaps as complex numbers.
template <class T, std::size_t Rank>
[[nodiscard]] auto as_complex(const View<T, Rank>& view) noexcept {
  using K = std::complex<std::remove_const_t<T>>;
  using Complex = std::conditional_t<std::is_const_v<T>, const K, K>;
  std::array<Index, Rank - 1> extents;
  for (std::size_t i = 0; i + 1 < Rank; ++i) extents[i] = view.extent(i);
  return View<Complex, Rank - 1>(reinterpret_cast<Complex*>(view.data()), extents);
}

template <class T>
S4dShape check_s4d(std::string_view function, const S4dWeights<T>& w) {
  const S4dShape s = w.shape();
  const std::array<Index, 2> modes{s.width, s.modes()};
  check_shape(function, "frequency", w.frequency, modes);
  check_shape(function, "log_delta", w.log_delta, std::array<Index, 1>{s.width});
  check_shape(function, "B", w.B, std::array<Index, 3>{s.width, s.modes(), 2});
  check_shape(function, "C", w.C,
              std::array<Index, 4>{s.directions(), s.width, s.modes(), Index(2)});
  check_shape(function, "D", w.D, std::array<Index, 1>{s.width});
  return s;
}

}  // namespace detail
}  // namespace ssm
