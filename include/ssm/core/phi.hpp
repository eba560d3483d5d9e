#pragma once

#include <cmath>
#include <complex>
#include <type_traits>

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

/// The real type under a real or complex scalar.
template <class K>
using Real = typename detail::RealOf<K>::type;

/// φ₁(z) = (e^z − 1)/z with φ₁(0) = 1: the mean of e^{zs} over s in [0, 1]. Real or complex z, full
/// relative accuracy through z → 0. Zero-order hold is B_bar = Δ φ₁(ΔA) B.
template <class K>
[[nodiscard]] K phi1(K z) noexcept {
  using T = Real<K>;
  if (std::abs(z) <= T(1)) {
    return detail::power_series(z, T(1), [](T k) { return T(1) / (k + T(2)); });
  }
  return (std::exp(z) - K(1)) / z;
}

/// φ₁′(z) = (z e^z − e^z + 1)/z², with φ₁′(0) = 1/2.
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
