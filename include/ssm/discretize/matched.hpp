#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/system/state_space.hpp"
#include "ssm/system/transfer_function.hpp"

namespace ssm {
/// Matched poles and zeros: every pole and zero s goes to z = e^{sΔ}. Of the zeros at infinity,
/// `delays` stay there, so that the answer begins that many samples after the input, and the others
/// go to z = −1, where a hold puts those of fast sampling. The gain keeps the response at rest:
/// G(0), or, with k more poles than zeros at s = 0, the limit of s^k G(s), s = (z − 1)/Δ
/// (Franklin, Powell & Workman, Digital Control of Dynamic Systems, 3rd ed., section 6.1.2, the
/// modified method for delays = 1).
///
/// @param roots zeros, poles (1/s) and gain, proper
/// @param delta Δ, s
/// @param delays zeros at infinity that stay there, as far as there are any
/// @throws ShapeError when there are more zeros than poles
/// @throws DomainError when one is not finite, a complex one lacks its conjugate, delays is
///   negative, or Δ is not positive and finite
template <std::floating_point T>
[[nodiscard]] ZerosPolesGain<T> matched(const ZerosPolesGain<T>& roots,
                                        std::type_identity_t<T> delta, Index delays = 1) {
  constexpr std::string_view function = "matched";
  using Complex = std::complex<double>;
  detail::check_sampling(function, delta);
  detail::check_finite(function, roots);
  if (delays < 0) detail::throw_domain(function, "delays", detail::number(delays), ">= 0");
  const Index excess = roots.poles.size() - roots.zeros.size();
  if (excess < 0)
    detail::throw_shape(function, "zeros",
                        detail::to_string(std::array<Index, 1>{roots.zeros.size()}),
                        "at most as many as poles, (" + detail::number(roots.poles.size()) + ")");
  const Index at_nyquist = excess - (std::min)(delays, excess);
  const double h = static_cast<double>(delta);
  using Vector = typename ZerosPolesGain<T>::Roots;
  Vector zeros(roots.zeros.size() + at_nyquist), poles(roots.poles.size());
  // (0 − s) / (1 − e^{sΔ}) = 1 / (Δ φ₁(sΔ)) root by root, also where s = 0
  double magnitude = 1;
  const auto map = [&](std::string_view name, const Vector& from, Vector& to, bool below) {
    Index at = 0;
    for (const detail::RootList& group : detail::grouped_roots<T>(function, name, from))
      for (const Complex& s : group) {
        to(at++) = std::complex<T>(std::exp(s * h));
        const Complex ratio = h * phi1(s * h);
        magnitude = below ? magnitude * std::abs(ratio) : magnitude / std::abs(ratio);
      }
  };
  map("zeros", roots.zeros, zeros, false);
  map("poles", roots.poles, poles, true);
  for (Index i = 0; i < at_nyquist; ++i) {
    zeros(roots.zeros.size() + i) = T(-1);
    magnitude /= 2;
  }
  return {zeros, poles, static_cast<T>(static_cast<double>(roots.gain) * magnitude)};
}

/// The same of a transfer function, by way of its roots.
/// @param transfer its transfer function in s, proper
/// @param delta Δ, s
/// @param delays zeros at infinity that stay there
/// @throws ShapeError, DomainError as the other, and as zeros_poles_gain does
template <std::floating_point T>
[[nodiscard]] TransferFunction<T> matched(const TransferFunction<T>& transfer,
                                          std::type_identity_t<T> delta, Index delays = 1) {
  (void)detail::proper_fraction_of("matched", transfer);
  return transfer_function(matched(zeros_poles_gain(transfer), delta, delays));
}

/// The continuous zeros and poles that `matched` samples into these: s = ln(z)/Δ, those that turn
/// by less than half a turn a step. Zeros at z = −1 go back to infinity.
///
/// @param roots zeros, poles and gain in z
/// @param delta Δ, s
/// @throws DomainError when a pole or another zero lies on the closed negative real axis, where no
///   real system is sampled to; and as matched does
template <std::floating_point T>
[[nodiscard]] ZerosPolesGain<T> inverse_matched(const ZerosPolesGain<T>& roots,
                                                std::type_identity_t<T> delta) {
  constexpr std::string_view function = "inverse_matched";
  using Complex = std::complex<double>;
  detail::check_sampling(function, delta);
  detail::check_finite(function, roots);
  const double h = static_cast<double>(delta);
  using Vector = typename ZerosPolesGain<T>::Roots;
  double magnitude = 1;
  const auto map = [&](std::string_view name, const Vector& from, bool below) {
    std::vector<std::complex<T>> found;
    for (const detail::RootList& group : detail::grouped_roots<T>(function, name, from))
      for (const Complex& z : group) {
        if (!below && std::abs(z + 1.0) <= detail::conjugate_tolerance<T>) {
          magnitude *= 2;
          continue;
        }
        if (z.imag() == 0 && z.real() <= 0)
          detail::throw_domain(function, name, "at " + detail::number(z.real()),
                               "off the closed negative real axis");
        const Complex s = std::log(z) / h, ratio = h * phi1(std::log(z));
        found.emplace_back(s);
        magnitude = below ? magnitude / std::abs(ratio) : magnitude * std::abs(ratio);
      }
    return Vector(Eigen::Map<const Vector>(found.data(), static_cast<Index>(found.size())));
  };
  const Vector zeros = map("zeros", roots.zeros, false);
  const Vector poles = map("poles", roots.poles, true);
  return {zeros, poles, static_cast<T>(static_cast<double>(roots.gain) * magnitude)};
}

/// The same of a transfer function, by way of its roots.
/// @param transfer its transfer function in z
/// @param delta Δ, s
/// @throws ShapeError, DomainError as the other, and as zeros_poles_gain does
template <std::floating_point T>
[[nodiscard]] TransferFunction<T> inverse_matched(const TransferFunction<T>& transfer,
                                                  std::type_identity_t<T> delta) {
  return transfer_function(inverse_matched(zeros_poles_gain(transfer), delta));
}

}  // namespace ssm
