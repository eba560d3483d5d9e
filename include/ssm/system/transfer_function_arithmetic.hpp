#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/polynomial.hpp"
#include "ssm/system/transfer_function.hpp"

// Arithmetic on transfer functions and on zeros, poles and gains. Numerators and denominators are
// multiplied and added as they are: nothing cancels unless `minimal` is asked for. Operands are all
// in s or all in z of one step.

namespace ssm {
namespace detail {

template <class K>
Fraction<K> product(const Fraction<K>& a, const Fraction<K>& b) {
  return {polynomial_product(a.above, b.above), polynomial_product(a.below, b.below)};
}

/// a + sign b over one denominator where both have the same.
template <class K>
Fraction<K> sum(const Fraction<K>& a, const Fraction<K>& b, double sign) {
  DenseVector<K> other = b.above;
  for (Index i = 0; i < other.size(); ++i) other(i) *= sign;
  bool same = a.below.size() == b.below.size();
  for (Index i = 0; same && i < a.below.size(); ++i) same = a.below(i) == b.below(i);
  if (same) return {polynomial_sum(a.above, other), a.below};
  return {polynomial_sum(polynomial_product(a.above, b.below), polynomial_product(other, a.below)),
          polynomial_product(a.below, b.below)};
}

template <class K>
Fraction<K> inverted(std::string_view function, Fraction<K> a) {
  if (a.above.size() == 0) throw_domain(function, "the divisor", "0", "not 0");
  std::swap(a.above, a.below);
  return a;
}

/// The fraction of zeros, poles and gain.
template <class K>
Fraction<DoubleOf<K>> fraction_of(std::string_view function, const ZerosPolesGain<K>& roots) {
  check_finite(function, roots);
  Fraction<DoubleOf<K>> fraction{
      polynomial(function, "zeros", roots.zeros, static_cast<DoubleOf<K>>(roots.gain)),
      polynomial(function, "poles", roots.poles, DoubleOf<K>(1))};
  if (roots.gain == K(0)) fraction.above = {};
  return fraction;
}

template <class Vector>
Vector joined(const Vector& a, const Vector& b) {
  Vector both(a.size() + b.size());
  for (Index i = 0; i < a.size(); ++i) both(i) = a(i);
  for (Index i = 0; i < b.size(); ++i) both(a.size() + i) = b(i);
  return both;
}

/// A numerator as roots and its leading coefficient, over poles that are known.
template <class K>
ZerosPolesGain<K> over_poles(std::string_view function, const DenseVector<DoubleOf<K>>& above,
                             const typename ZerosPolesGain<K>::Roots& poles) {
  using Roots = typename ZerosPolesGain<K>::Roots;
  const DenseVector<DoubleOf<K>> trim = trimmed(above);
  if (trim.size() == 0) return {Roots(0), poles, K(0)};
  return {to_eigen<Roots>(roots_of(function, trim)), poles, static_cast<K>(trim(0))};
}

}  // namespace detail

/// G H, one after the other.
/// @throws ShapeError, DomainError when a denominator is absent or 0, or a coefficient not finite,
///   as do all that follow
template <class K>
[[nodiscard]] TransferFunction<K> operator*(const TransferFunction<K>& G,
                                            const TransferFunction<K>& H) {
  return detail::to_transfer_function<K>(
      detail::product(detail::fraction_of("operator*", G), detail::fraction_of("operator*", H)));
}

/// G / H.
/// @throws DomainError when H is 0
template <class K>
[[nodiscard]] TransferFunction<K> operator/(const TransferFunction<K>& G,
                                            const TransferFunction<K>& H) {
  return detail::to_transfer_function<K>(
      detail::product(detail::fraction_of("operator/", G),
                      detail::inverted("operator/", detail::fraction_of("operator/", H))));
}

/// G + H, side by side; equal denominators are shared.
template <class K>
[[nodiscard]] TransferFunction<K> operator+(const TransferFunction<K>& G,
                                            const TransferFunction<K>& H) {
  return detail::to_transfer_function<K>(
      detail::sum(detail::fraction_of("operator+", G), detail::fraction_of("operator+", H), 1));
}

/// G − H; equal denominators are shared.
template <class K>
[[nodiscard]] TransferFunction<K> operator-(const TransferFunction<K>& G,
                                            const TransferFunction<K>& H) {
  return detail::to_transfer_function<K>(
      detail::sum(detail::fraction_of("operator-", G), detail::fraction_of("operator-", H), -1));
}

/// −G.
template <class K>
[[nodiscard]] TransferFunction<K> operator-(TransferFunction<K> G) {
  G.numerator = -G.numerator;
  return G;
}

/// A number as a transfer function without poles.
template <class K>
[[nodiscard]] TransferFunction<K> constant(const K& gain) {
  return {{gain}, {K(1)}};
}

/// k G.
template <class K>
[[nodiscard]] TransferFunction<K> operator*(const std::type_identity_t<K>& k,
                                            const TransferFunction<K>& G) {
  return constant<K>(k) * G;
}
/// G k.
template <class K>
[[nodiscard]] TransferFunction<K> operator*(const TransferFunction<K>& G,
                                            const std::type_identity_t<K>& k) {
  return G * constant<K>(k);
}
/// k / G.
template <class K>
[[nodiscard]] TransferFunction<K> operator/(const std::type_identity_t<K>& k,
                                            const TransferFunction<K>& G) {
  return constant<K>(k) / G;
}
/// G / k.
template <class K>
[[nodiscard]] TransferFunction<K> operator/(const TransferFunction<K>& G,
                                            const std::type_identity_t<K>& k) {
  return G / constant<K>(k);
}
/// k + G.
template <class K>
[[nodiscard]] TransferFunction<K> operator+(const std::type_identity_t<K>& k,
                                            const TransferFunction<K>& G) {
  return constant<K>(k) + G;
}
/// G + k.
template <class K>
[[nodiscard]] TransferFunction<K> operator+(const TransferFunction<K>& G,
                                            const std::type_identity_t<K>& k) {
  return G + constant<K>(k);
}
/// k − G.
template <class K>
[[nodiscard]] TransferFunction<K> operator-(const std::type_identity_t<K>& k,
                                            const TransferFunction<K>& G) {
  return constant<K>(k) - G;
}
/// G − k.
template <class K>
[[nodiscard]] TransferFunction<K> operator-(const TransferFunction<K>& G,
                                            const std::type_identity_t<K>& k) {
  return G - constant<K>(k);
}

/// Gⁿ, with 1 for n = 0 and powers of 1/G for n < 0.
/// @throws DomainError when G is 0 and n < 0
template <class K>
[[nodiscard]] TransferFunction<K> pow(const TransferFunction<K>& G, int n) {
  auto factor = detail::fraction_of("pow", G);
  if (n < 0) factor = detail::inverted("pow", std::move(factor));
  auto power = detail::fraction_of("pow", constant(K(1)));
  for (int i = 0; i < std::abs(n); ++i) power = detail::product(power, factor);
  return detail::to_transfer_function<K>(power);
}

/// The closed loop G/(1 + G H) of negative feedback through H, n_G d_H / (d_G d_H + n_G n_H); for
/// positive feedback give −H.
/// @throws DomainError when 1 + G H is 0: the loop has no answer
template <class K>
[[nodiscard]] TransferFunction<K> feedback(const TransferFunction<K>& G,
                                           const TransferFunction<K>& H) {
  using namespace detail;
  const auto g = fraction_of("feedback", G), h = fraction_of("feedback", H);
  const auto below = trimmed(
      polynomial_sum(polynomial_product(g.below, h.below), polynomial_product(g.above, h.above)));
  if (below.size() == 0) throw_domain("feedback", "1 + G H", "0", "a loop with an answer");
  return to_transfer_function<K>(
      Fraction<DoubleOf<K>>{polynomial_product(g.above, h.below), below});
}

/// The same with H = k.
template <class K>
[[nodiscard]] TransferFunction<K> feedback(const TransferFunction<K>& G,
                                           const std::type_identity_t<K>& k = K(1)) {
  return feedback(G, constant<K>(k));
}

/// G H: zeros and poles side by side, gains multiplied. No root changes a digit.
/// @throws DomainError when a root or a gain is not finite, as do all that follow
template <class K>
[[nodiscard]] ZerosPolesGain<K> operator*(const ZerosPolesGain<K>& G, const ZerosPolesGain<K>& H) {
  detail::check_finite("operator*", G);
  detail::check_finite("operator*", H);
  return {detail::joined(G.zeros, H.zeros), detail::joined(G.poles, H.poles), G.gain * H.gain};
}

/// G / H: the zeros of H become poles, its poles zeros.
/// @throws DomainError when H is 0
template <class K>
[[nodiscard]] ZerosPolesGain<K> operator/(const ZerosPolesGain<K>& G, const ZerosPolesGain<K>& H) {
  if (H.gain == K(0)) detail::throw_domain("operator/", "the divisor", "0", "not 0");
  return G * ZerosPolesGain<K>{H.poles, H.zeros, K(1) / H.gain};
}

/// k G.
template <class K>
[[nodiscard]] ZerosPolesGain<K> operator*(const std::type_identity_t<K>& k, ZerosPolesGain<K> G) {
  G.gain *= k;
  return G;
}
/// −G.
template <class K>
[[nodiscard]] ZerosPolesGain<K> operator-(ZerosPolesGain<K> G) {
  G.gain = -G.gain;
  return G;
}

/// G + H: its poles are those of both, its zeros the roots of n_G d_H + n_H d_G.
template <class K>
[[nodiscard]] ZerosPolesGain<K> operator+(const ZerosPolesGain<K>& G, const ZerosPolesGain<K>& H) {
  using namespace detail;
  const auto g = fraction_of("operator+", G), h = fraction_of("operator+", H);
  return over_poles<K>(
      "operator+",
      polynomial_sum(polynomial_product(g.above, h.below), polynomial_product(h.above, g.below)),
      joined(G.poles, H.poles));
}
/// G − H.
template <class K>
[[nodiscard]] ZerosPolesGain<K> operator-(const ZerosPolesGain<K>& G, const ZerosPolesGain<K>& H) {
  return G + (-H);
}

/// Gⁿ, with 1 for n = 0 and powers of 1/G for n < 0.
/// @throws DomainError when G is 0 and n < 0
template <class K>
[[nodiscard]] ZerosPolesGain<K> pow(const ZerosPolesGain<K>& G, int n) {
  using Roots = typename ZerosPolesGain<K>::Roots;
  ZerosPolesGain<K> power{Roots(0), Roots(0), K(1)};
  for (int i = 0; i < std::abs(n); ++i) power = n < 0 ? power / G : power * G;
  return power;
}

/// The closed loop G/(1 + G H) of negative feedback through H: its zeros are those of G and the
/// poles of H, its poles the roots of d_G d_H + n_G n_H.
/// @throws DomainError when 1 + G H is 0
template <class K>
[[nodiscard]] ZerosPolesGain<K> feedback(const ZerosPolesGain<K>& G, const ZerosPolesGain<K>& H) {
  using namespace detail;
  const auto g = fraction_of("feedback", G), h = fraction_of("feedback", H);
  const auto below = trimmed(
      polynomial_sum(polynomial_product(g.below, h.below), polynomial_product(g.above, h.above)));
  if (below.size() == 0) throw_domain("feedback", "1 + G H", "0", "a loop with an answer");
  using Roots = typename ZerosPolesGain<K>::Roots;
  return {joined(G.zeros, H.poles), to_eigen<Roots>(roots_of("feedback", below)),
          static_cast<K>(static_cast<DoubleOf<K>>(G.gain) / below(0))};
}

/// The same without the zeros and poles that cancel: those no further apart than `tolerance`
/// relative to their size, or than rounding relative to the largest; the nearest first, and of a
/// conjugate pair both.
/// @param roots zeros, poles and gain
/// @param tolerance relative, ≥ 0; the square root of epsilon when it is not given
/// @throws DomainError when tolerance is negative or not finite, or a root is not finite
/// Cost: zeros · poles · (zeros + poles).
template <class K>
[[nodiscard]] ZerosPolesGain<K> minimal(
    const ZerosPolesGain<K>& roots,
    Real<K> tolerance = std::sqrt(std::numeric_limits<Real<K>>::epsilon())) {
  using T = Real<K>;
  constexpr bool in_pairs = std::is_same_v<K, T>;
  detail::check_finite("minimal", roots);
  if (!(tolerance >= T(0) && std::isfinite(tolerance)))
    detail::throw_domain("minimal", "tolerance", detail::number(tolerance), ">= 0 and finite");
  std::vector<std::complex<T>> zeros(roots.zeros.begin(), roots.zeros.end());
  std::vector<std::complex<T>> poles(roots.poles.begin(), roots.poles.end());
  T largest = 0;
  for (const auto* all : {&zeros, &poles})
    for (const auto& root : *all) largest = (std::max)(largest, std::abs(root));
  const T rounding = 4 * std::numeric_limits<T>::epsilon() * largest;
  for (;;) {
    std::size_t zero = zeros.size(), pole = poles.size();
    T nearest = 1;  // of what is allowed
    for (std::size_t i = 0; i < zeros.size(); ++i)
      for (std::size_t j = 0; j < poles.size(); ++j) {
        const T apart = std::abs(zeros[i] - poles[j]);
        const T allowed =
            (std::max)(tolerance * (std::max)(std::abs(zeros[i]), std::abs(poles[j])), rounding);
        const bool kinds = !in_pairs || (zeros[i].imag() != 0) == (poles[j].imag() != 0);
        if (!kinds || apart > allowed) continue;
        const T share = apart == T(0) ? T(0) : apart / allowed;
        if (zero < zeros.size() && share >= nearest) continue;
        zero = i;
        pole = j;
        nearest = share;
      }
    if (zero == zeros.size()) break;
    const auto drop = [](std::vector<std::complex<T>>& from, std::size_t at) {
      const std::complex<T> partner = std::conj(from[at]);
      from.erase(from.begin() + static_cast<std::ptrdiff_t>(at));
      if (!in_pairs || partner.imag() == 0) return;
      const auto other =
          std::min_element(from.begin(), from.end(), [&](const auto& a, const auto& b) {
            return std::abs(a - partner) < std::abs(b - partner);
          });
      if (other != from.end()) from.erase(other);
    };
    drop(zeros, zero);
    drop(poles, pole);
  }
  using Roots = typename ZerosPolesGain<K>::Roots;
  return {Eigen::Map<const Roots>(zeros.data(), static_cast<Index>(zeros.size())),
          Eigen::Map<const Roots>(poles.data(), static_cast<Index>(poles.size())), roots.gain};
}

/// The same of a transfer function, by way of its roots; one in which nothing cancels comes back as
/// it was, less leading zeros.
/// @param transfer its transfer function
/// @param tolerance as of the other
/// @throws ShapeError, DomainError as the other, and as zeros_poles_gain does
template <class K>
[[nodiscard]] TransferFunction<K> minimal(
    const TransferFunction<K>& transfer,
    Real<K> tolerance = std::sqrt(std::numeric_limits<Real<K>>::epsilon())) {
  const ZerosPolesGain<K> roots = zeros_poles_gain(transfer);
  const ZerosPolesGain<K> rest = minimal(roots, tolerance);
  if (rest.poles.size() == roots.poles.size())
    return detail::to_transfer_function<K>(detail::fraction_of("minimal", transfer));
  return transfer_function(rest);
}

}  // namespace ssm
