#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <string>
#include <string_view>

#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/system/dplr.hpp"

namespace ssm {

/// Sizes of an S5 layer.
struct S5Shape {
  Index width = 0;             ///< inputs and outputs
  Index state = 64;            ///< real states that all channels share: state/2 conjugate pairs
  bool bidirectional = false;  ///< a second C, for states that run from the end to the start

  [[nodiscard]] Index modes() const noexcept { return state / 2; }
  friend bool operator==(const S5Shape&, const S5Shape&) = default;
};

/// Weights of an S5 layer, or their gradient. Λ = −exp(log_decay) + i frequency.
template <class T>
struct S5Weights {
  Tensor<T, 1> log_decay;  ///< (state/2): log(−Re λ), λ in 1/s
  Tensor<T, 1> frequency;  ///< (state/2): Im λ, 1/s
  Tensor<T, 1> log_delta;  ///< (state/2): log Δ, Δ in s
  Tensor<T, 3> B;          ///< (state/2, 2, width): real and imaginary rows
  Tensor<T, 3> C;          ///< (width, state/2, 2): real and imaginary parts
  Tensor<T, 3> C_back;     ///< as C, of the states from the end; empty with one direction
  Tensor<T, 1> D;          ///< (width)

  S5Weights() = default;
  /// All zero.
  /// @throws DomainError unless the state is even and at least 2
  explicit S5Weights(const S5Shape& s) {
    detail::check_even("S5Weights", s.state);
    for (auto* tensor : {&log_decay, &frequency, &log_delta}) tensor->resize({s.modes()});
    B.resize({s.modes(), 2, s.width});
    C.resize({s.width, s.modes(), 2});
    if (s.bidirectional) C_back.resize(C.extents());
    D.resize({s.width});
  }

  [[nodiscard]] S5Shape shape() const noexcept {
    return {D.extent(0), 2 * log_decay.extent(0), C_back.extent(1) > 0};
  }

  /// Calls f(name, tensor, decay) for every parameter in a fixed order; weight decay applies to C
  /// and C_back (Smith, Warrington & Linderman 2023).
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
    f(std::string("C"), self.C, true);
    if (self.C_back.extent(1) > 0) f(std::string("C_back"), self.C_back, true);
    f(std::string("D"), self.D, false);
  }
};

/// Draws the weights of an S5 layer (Smith, Warrington & Linderman 2023, section 3.3): Λ is that of
/// one block repeated, B and C what normal matrices of variance 1/width and 1/state are in the
/// coordinates of a unitary V, D normal, Δ log-uniform in [delta_min, delta_max].
/// @param block Λ (state/2/blocks) of HiPPO-N, as s4d_modes(S4dInit::legs, state/blocks) makes it
/// @throws DomainError unless the block divides the state, Re λ < 0 and 0 < delta_min ≤ delta_max
template <class T>
void initialize(S5Weights<T>& weights, const DiagonalModes<double>& block, std::uint64_t seed,
                double delta_min = 1e-3, double delta_max = 1e-1) {
  constexpr std::string_view function = "initialize";
  const S5Shape s = weights.shape();
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
    weights.log_decay(n) = static_cast<T>(std::log(-lambda.real()));
    weights.frequency(n) = static_cast<T>(lambda.imag());
    weights.log_delta(n) = static_cast<T>(draws.uniform(std::log(delta_min), std::log(delta_max)));
  }
  const auto normal = [&](auto& tensor, double variance) {
    for (T& x : tensor) x = static_cast<T>(std::sqrt(variance) * draws.normal());
  };
  normal(weights.B, 0.5 / static_cast<double>(std::max<Index>(s.width, 1)));
  normal(weights.C, 0.5 / static_cast<double>(s.state));
  normal(weights.C_back, 0.5 / static_cast<double>(s.state));
  normal(weights.D, 1);
}

}  // namespace ssm
