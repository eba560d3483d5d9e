#pragma once

#include <complex>

#include "ssm/conv/diagonal_kernel.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"

namespace ssm::detail {

/// 1/(e^{LΔλ} − 1), by which DSS of length L scales the B of S4D (Gupta, Gu & Berant 2022,
/// proposition 1).
inline std::complex<double> dss_factor(std::complex<double> lambda, double delta,
                                       Index length) noexcept {
  const std::complex<double> x = static_cast<double>(length) * delta * lambda;
  return 1.0 / (x * exp_and_phi1(x)[1]);
}

/// The modes that DSS scales.
template <class T>
struct DssModes {
  View<const std::complex<T>, 2> lambda;  ///< (width, state/2)
  View<const T, 1> delta;                 ///< (width)
  Index length;

  [[nodiscard]] std::complex<double> factor(Index c, Index n) const {
    return dss_factor(std::complex<double>(lambda(c, n)), static_cast<double>(delta(c)), length);
  }
};

/// scaled = factor · B, (width, state/2).
template <class T>
void scale_dss(const DssModes<T>& modes, const View<const std::complex<T>, 2>& B,
               const View<std::complex<T>, 2>& scaled) {
  for (Index c = 0; c < B.extent(0); ++c)
    for (Index n = 0; n < B.extent(1); ++n)
      scaled(c, n) = std::complex<T>(modes.factor(c, n) * std::complex<double>(B(c, n)));
}

/// From the gradient of the scaled B to that of B, in place; adds what the scale sends to Λ and Δ.
template <class T>
void scale_dss_backward(const DssModes<T>& modes, const View<const std::complex<T>, 2>& B,
                        const View<std::complex<T>, 2>& dB, const View<std::complex<T>, 2>& dlambda,
                        const View<T, 1>& ddelta) {
  using Complex = std::complex<double>;
  for (Index c = 0; c < dB.extent(0); ++c)
    for (Index n = 0; n < dB.extent(1); ++n) {
      // p_k stands for the conjugate of the gradient by k: the loss moves by Re(p_k dk).
      const Complex lambda(modes.lambda(c, n)), factor = modes.factor(c, n);
      const Complex p = std::conj(Complex(dB(c, n)));
      const Complex p_x = p * Complex(B(c, n)) *
                          (-static_cast<double>(modes.length) * factor * (1.0 + factor));  // x = Δλ
      dB(c, n) = std::complex<T>(std::conj(p * factor));
      dlambda(c, n) += std::complex<T>(std::conj(p_x * static_cast<double>(modes.delta(c))));
      ddelta(c) += static_cast<T>((p_x * lambda).real());
    }
}

}  // namespace ssm::detail
