#pragma once

#include <cmath>
#include <complex>
#include <concepts>
#include <type_traits>

#include "ssm/core/index.hpp"

namespace ssm {
namespace detail {

template <class K>
struct RealOf {
  using type = K;
};
template <class T>
struct RealOf<std::complex<T>> {
  using type = T;
};

/// Σ_k c_k z^k with c_0 = first and c_{k+1}/c_k given by `ratio(k)`, for |z| ≤ 1.
template <class K, class Ratio>
[[nodiscard]] K power_series(K z, typename RealOf<K>::type first, Ratio ratio) noexcept {
  using T = typename RealOf<K>::type;
  constexpr int terms = sizeof(T) == 4 ? 12 : 20;  // 1/terms! is below epsilon
  K sum(first);
  K term(first);
  for (int k = 0; k < terms; ++k) {
    term *= z * ratio(static_cast<T>(k));
    sum += term;
  }
  return sum;
}

}  // namespace detail

/// The real type of a scalar: T for T and for std::complex<T>.
template <class K>
using Real = typename detail::RealOf<K>::type;

/// e^z − 1, with full relative accuracy also as z → 0.
template <std::floating_point T>
[[nodiscard]] T expm1(T z) noexcept {
  return std::expm1(z);
}
/// e^z − 1 of a complex z, with an error relative to |z| also as z → 0. With z = x + iy it is
/// (e^x − 1) cos y − 2 sin²(y/2) + i e^x sin y.
template <std::floating_point T>
[[nodiscard]] std::complex<T> expm1(const std::complex<T>& z) noexcept {
  const T growth = std::expm1(z.real());
  const T e = growth > T(-0.5) ? growth + T(1) : std::exp(z.real());  // growth + 1 cancels
  const T s = std::sin(z.imag() / 2), c = std::cos(z.imag() / 2);
  return {growth - 2 * s * s * e, 2 * s * c * e};
}

/// φ₁(z) = (e^z − 1)/z with φ₁(0) = 1, the mean of e^{zs} over s in [0, 1], for real or complex z
/// and with full relative accuracy also as z → 0. Zero-order hold is B_bar = Δ φ₁(ΔA) B.
template <class K>
[[nodiscard]] K phi1(K z) noexcept {
  return z == K(0) ? K(1) : expm1(z) / z;
}

/// The derivative of phi1, φ₁′(z) = (z e^z − e^z + 1)/z² with φ₁′(0) = 1/2.
template <class K>
[[nodiscard]] K phi1_derivative(K z) noexcept {
  using T = Real<K>;
  if (std::abs(z) <= T(1)) {
    return detail::power_series(z, T(0.5),
                                [](T k) { return (k + T(2)) / ((k + T(1)) * (k + T(3))); });
  }
  return ((z - K(1)) * std::exp(z) + K(1)) / (z * z);
}

}  // namespace ssm
