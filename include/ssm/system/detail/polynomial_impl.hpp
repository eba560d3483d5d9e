#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/polynomial.hpp"

SSM_BEGIN_COMPILED

/// The coefficients, scaled by a power of two to sizes about 1, less the last ones that are 0: each
/// of those is a root 0.
template <class K>
std::vector<K> without_zero_roots(std::string_view function, const DenseVector<K>& p) {
  std::vector<K> scaled;
  int most = (std::numeric_limits<int>::min)(), least = (std::numeric_limits<int>::max)();
  for (Index i = 0; i < p.size(); ++i) {
    if (!std::isfinite(std::real(p(i))) || !std::isfinite(std::imag(p(i))))
      throw_domain(function, "a coefficient", "not finite", "finite");
    if (p(i) == K(0)) continue;
    const int exponent =
        std::ilogb((std::max)(std::abs(std::real(p(i))), std::abs(std::imag(p(i)))));
    most = (std::max)(most, exponent);
    least = (std::min)(least, exponent);
  }
  const int middle = most < least ? 0 : least + (most - least) / 2;
  for (Index i = 0; i < p.size(); ++i)
    if constexpr (std::is_same_v<K, double>)
      scaled.push_back(std::ldexp(p(i), -middle));
    else
      scaled.emplace_back(std::ldexp(p(i).real(), -middle), std::ldexp(p(i).imag(), -middle));
  while (!scaled.empty() && scaled.back() == K(0)) scaled.pop_back();
  return scaled;
}

/// An edge of the upper convex hull of log |coefficient| over the power: as many roots as it is
/// long have about this size (Bini 1996, section 3).
struct HullEdge {
  int from, to;       // powers
  double log_radius;  // natural
};

template <class K>
std::vector<HullEdge> hull_of(const std::vector<K>& p) {
  const auto n = static_cast<int>(p.size()) - 1;
  const auto at = [&](int power) { return std::abs(p[static_cast<std::size_t>(n - power)]); };
  const auto height = [&](int power) { return std::log(at(power)); };
  std::vector<int> hull;
  for (int k = 0; k <= n; ++k) {
    if (at(k) == 0) continue;
    while (hull.size() > 1) {
      const int a = hull[hull.size() - 2], b = hull.back();
      if ((height(b) - height(a)) * (k - a) > (height(k) - height(a)) * (b - a)) break;
      hull.pop_back();
    }
    hull.push_back(k);
  }
  std::vector<HullEdge> edges;
  for (std::size_t i = 1; i < hull.size(); ++i)
    edges.push_back(
        {hull[i - 1], hull[i], (height(hull[i - 1]) - height(hull[i])) / (hull[i] - hull[i - 1])});
  return edges;
}

/// p and p′ at z, p as a share of the rounding of its terms, by Horner's rule: in 1/z outside the
/// unit circle, where powers of z would overflow.
struct PolynomialAt {
  std::complex<double> ratio;  // p′/p
  double residual;             // |p| / Σ |terms|

  template <class K>
  PolynomialAt(const std::vector<K>& p, std::complex<double> z) {
    const bool outside = std::abs(z) > 1;
    const std::complex<double> x = outside ? 1.0 / z : z;
    std::complex<double> value = 0, slope = 0;
    double size = 0;
    for (std::size_t k = 0; k < p.size(); ++k) {
      const std::complex<double> c = outside ? p[p.size() - 1 - k] : p[k];
      slope = product_of(slope, x) + value;
      value = product_of(value, x) + c;
      size = size * std::abs(x) + std::abs(c);
    }
    residual = std::abs(value) / size;
    ratio = slope / value;
    if (outside) ratio = x * (static_cast<double>(p.size() - 1) - x * ratio);
  }
};

/// All roots of a polynomial by the simultaneous iteration of Ehrlich and Aberth; false where it
/// does not end.
template <class K>
bool iterate_roots(const std::vector<K>& p, std::vector<std::complex<double>>& z) {
  z.clear();
  double turned = 0;  // no circle begins at the angle of another
  for (const HullEdge& edge : hull_of(p)) {
    const int count = edge.to - edge.from;
    turned += 0.7;
    for (int k = 0; k < count; ++k)
      z.push_back(std::polar(std::exp(edge.log_radius), 6.283185307179586 * k / count + turned));
  }
  const double enough = 2 * static_cast<double>(z.size()) * epsilon_of<double>;
  std::vector<char> found(z.size(), 0);
  bool all = false;
  for (int sweep = 0; !all && sweep < 1000; ++sweep) {
    all = true;
    for (std::size_t i = 0; i < z.size(); ++i) {
      if (found[i]) continue;
      const PolynomialAt at(p, z[i]);
      if (at.residual <= enough) {
        found[i] = 1;
        continue;
      }
      all = false;
      std::complex<double> ratio = at.ratio;
      for (std::size_t j = 0; j < z.size(); ++j)
        if (j != i && z[j] != z[i]) ratio -= 1.0 / (z[i] - z[j]);
      const std::complex<double> step = 1.0 / ratio;
      if (!std::isfinite(std::abs(step))) {
        z[i] *= std::polar(1.01, 0.1);  // from where the iteration has no direction
        continue;
      }
      z[i] -= step;
      if (std::abs(step) <= epsilon_of<double> * std::abs(z[i])) found[i] = 1;
    }
  }
  return all;
}

/// Eigenvalues of balanced companion matrices, one for each group of roots that lies 10¹⁷ from the
/// others: they feel nothing of the others' coefficients. False where one is no root.
SSM_INLINE bool companion_roots(const std::vector<double>& p,
                                std::vector<std::complex<double>>& z) {
  constexpr double apart = 39;  // ln 10¹⁷
  z.clear();
  const std::vector<HullEdge> edges = hull_of(p);
  const std::size_t degree = p.size() - 1;
  for (std::size_t first = 0, last = 0; first < edges.size(); first = last) {
    for (last = first + 1; last < edges.size(); ++last)
      if (edges[last].log_radius - edges[last - 1].log_radius > apart) break;
    const auto low = static_cast<std::size_t>(edges[first].from);
    const Index n = edges[last - 1].to - edges[first].from;
    const double leading = p[degree - low - static_cast<std::size_t>(n)];
    RealMatrix A(n, n);
    for (Index j = 0; j < n; ++j) {
      if (j > 0) A(j - 1, j) = 1;
      A(n - 1, j) = -p[degree - low - static_cast<std::size_t>(j)] / leading;
      if (!std::isfinite(A(n - 1, j))) return false;
    }
    balance(A);
    ComplexVector found(n);
    if (!find_real_eigenvalues(std::move(A), found)) return false;
    for (Index i = 0; i < n; ++i) {
      const double enough = 200 * static_cast<double>(degree) * epsilon_of<double>;
      if (!(found(i) != 0.0 && PolynomialAt(p, found(i)).residual <= enough)) return false;
      z.push_back(found(i));
    }
  }
  return true;
}

/// Roots of a real polynomial as they were found, made real or conjugates of each other, what is
/// nearest first.
SSM_INLINE void pair_conjugates(std::vector<std::complex<double>>& z) {
  std::vector<std::tuple<double, std::size_t, std::size_t>> pairs;
  for (std::size_t i = 0; i < z.size(); ++i)
    for (std::size_t j = i; j < z.size(); ++j)
      pairs.emplace_back(std::abs(z[i] - std::conj(z[j])) / (std::abs(z[i]) + std::abs(z[j])), i,
                         j);
  std::sort(pairs.begin(), pairs.end());
  std::vector<char> used(z.size(), 0);
  std::vector<std::complex<double>> paired;
  for (const auto& [distance, i, j] : pairs) {
    if (used[i] || used[j]) continue;
    used[i] = used[j] = 1;
    if (i == j) {
      paired.emplace_back(z[i].real(), 0.0);
      continue;
    }
    const std::complex<double> middle = z[i] / 2.0 + std::conj(z[j]) / 2.0;
    paired.emplace_back(middle.real(), std::abs(middle.imag()));
    paired.push_back(std::conj(paired.back()));
  }
  z = std::move(paired);
}

template <class K>
ComplexVector roots_of_any(std::string_view function, const DenseVector<K>& coefficients) {
  ComplexVector roots((std::max<Index>)(coefficients.size() - 1, 0));
  std::vector<K> p = without_zero_roots(function, coefficients);
  // A root below what double holds is 0; one beyond it cannot be given.
  for (auto edges = hull_of(p); !edges.empty() && edges.front().log_radius < -708;) {
    p.resize(p.size() - static_cast<std::size_t>(edges.front().to - edges.front().from));
    edges = hull_of(p);
  }
  if (p.size() < 2) return roots;
  if (hull_of(p).back().log_radius > 709) throw_domain(function, "a root", "not finite", "finite");
  std::vector<std::complex<double>> z;
  bool done = false;
  if constexpr (std::is_same_v<K, double>) done = companion_roots(p, z);
  if (!done) {
    if (!iterate_roots(p, z)) throw_convergence(function, "the roots", "not found", "all of them");
    if constexpr (std::is_same_v<K, double>) pair_conjugates(z);
  }
  for (std::size_t i = 0; i < z.size(); ++i) roots(static_cast<Index>(i)) = z[i];
  return roots;
}

SSM_INLINE ComplexVector roots_of(std::string_view function, const RealVector& p) {
  return roots_of_any(function, p);
}
SSM_INLINE ComplexVector roots_of(std::string_view function, const ComplexVector& p) {
  return roots_of_any(function, p);
}

SSM_END_COMPILED
