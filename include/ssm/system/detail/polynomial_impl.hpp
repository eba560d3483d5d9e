#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/polynomial.hpp"

SSM_BEGIN_COMPILED

/// The coefficients over the first, less the last ones that are 0: each of those is a root 0.
template <class K>
std::vector<K> monic_without_zero_roots(std::string_view function, const DenseVector<K>& p) {
  std::vector<K> monic;
  for (Index i = 0; i < p.size(); ++i) {
    const K ratio = p(i) / p(0);
    if (!std::isfinite(std::real(ratio)) || !std::isfinite(std::imag(ratio)))
      throw_domain(function, "a coefficient over the first", "not finite", "finite");
    monic.push_back(ratio);
  }
  while (!monic.empty() && monic.back() == K(0)) monic.pop_back();
  return monic;
}

SSM_INLINE ComplexVector roots_of(std::string_view function, const RealVector& p) {
  ComplexVector roots((std::max<Index>)(p.size() - 1, 0));
  const std::vector<double> monic = monic_without_zero_roots(function, p);
  const auto n = static_cast<Index>(monic.size()) - 1;
  if (n < 1) return roots;
  RealMatrix A(n, n);
  for (Index j = 0; j < n; ++j) {
    if (j > 0) A(j - 1, j) = 1;
    A(n - 1, j) = -monic[static_cast<std::size_t>(n - j)];
  }
  balance(A);
  const ComplexVector found = real_eigenvalues(function, std::move(A));
  for (Index i = 0; i < n; ++i) roots(i) = found(i);
  return roots;
}

/// As many points as the polynomial has roots, on circles whose radii are those of the upper convex
/// hull of log |coefficient| over the power (Bini 1996, section 3).
SSM_INLINE std::vector<std::complex<double>> points_near_roots(
    const std::vector<std::complex<double>>& p) {
  const auto n = static_cast<int>(p.size()) - 1;
  const auto height = [&](int power) {
    return std::log(std::abs(p[static_cast<std::size_t>(n - power)]));
  };
  std::vector<int> hull;
  for (int k = 0; k <= n; ++k) {
    if (p[static_cast<std::size_t>(n - k)] == 0.0) continue;
    while (hull.size() > 1) {
      const int a = hull[hull.size() - 2], b = hull.back();
      if ((height(b) - height(a)) * (k - a) > (height(k) - height(a)) * (b - a)) break;
      hull.pop_back();
    }
    hull.push_back(k);
  }
  std::vector<std::complex<double>> points;
  for (std::size_t i = 1; i < hull.size(); ++i) {
    const int count = hull[i] - hull[i - 1];
    const double radius = std::exp((height(hull[i - 1]) - height(hull[i])) / count);
    for (int k = 0; k < count; ++k)  // no circle begins at the angle of another
      points.push_back(std::polar(radius, 6.283185307179586 * k / count + 0.7 * double(i)));
  }
  return points;
}

SSM_INLINE ComplexVector roots_of(std::string_view function, const ComplexVector& coefficients) {
  using Complex = std::complex<double>;
  ComplexVector roots((std::max<Index>)(coefficients.size() - 1, 0));
  const std::vector<Complex> p = monic_without_zero_roots(function, coefficients);
  if (p.size() < 2) return roots;
  std::vector<Complex> z = points_near_roots(p);
  const auto n = static_cast<double>(z.size());
  std::vector<char> found(z.size(), 0);
  bool all = false;
  for (int sweep = 0; !all && sweep < 200; ++sweep) {
    all = true;
    for (std::size_t i = 0; i < z.size(); ++i) {
      if (found[i]) continue;
      // p′/p by Horner's rule, in 1/z outside the unit circle, where powers of z would overflow
      const bool outside = std::abs(z[i]) > 1;
      const Complex x = outside ? 1.0 / z[i] : z[i];
      Complex value = 0, slope = 0;
      double size = 0;
      for (std::size_t k = 0; k < p.size(); ++k) {
        const Complex c = outside ? p[p.size() - 1 - k] : p[k];
        slope = product_of(slope, x) + value;
        value = product_of(value, x) + c;
        size = size * std::abs(x) + std::abs(c);
      }
      if (std::abs(value) <= 2 * n * epsilon_of<double> * size) {
        found[i] = 1;
        continue;
      }
      all = false;
      Complex ratio = slope / value;
      if (outside) ratio = x * (n - x * ratio);
      for (std::size_t j = 0; j < z.size(); ++j)
        if (j != i && z[j] != z[i]) ratio -= 1.0 / (z[i] - z[j]);
      const Complex step = 1.0 / ratio;
      z[i] -= step;
      if (std::abs(step) <= epsilon_of<double> * std::abs(z[i])) found[i] = 1;
    }
  }
  if (!all) throw_convergence(function, "the roots", "not found", "in 200 sweeps");
  for (std::size_t i = 0; i < z.size(); ++i) roots(static_cast<Index>(i)) = z[i];
  return roots;
}

SSM_END_COMPILED
