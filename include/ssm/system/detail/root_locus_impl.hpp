#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/polynomial.hpp"
#include "ssm/system/root_locus.hpp"

SSM_BEGIN_COMPILED

using Points = std::vector<std::complex<double>>;

/// The roots of d + k n; those that d had and the sum has not are infinite.
SSM_INLINE Points closed_roots(const RealVector& above, const RealVector& below, double k) {
  RealVector scaled = above;
  for (Index i = 0; i < scaled.size(); ++i) scaled(i) *= k;
  const RealVector sum = trimmed(polynomial_sum(scaled, below));
  Points roots;
  if (sum.size() > 1)
    for (const auto& root : roots_of("root_locus", sum)) roots.push_back(root);
  roots.resize(static_cast<std::size_t>(below.size() - 1),
               {std::numeric_limits<double>::infinity(), 0});
  return roots;
}

/// `to` in the order in which its points are nearest those of `from`, the nearest pair first, and
/// whether no other order is nearly as good.
SSM_INLINE bool follow(const Points& from, Points& to) {
  const std::size_t n = from.size();
  std::vector<std::tuple<double, std::size_t, std::size_t>> pairs;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) pairs.emplace_back(std::abs(from[i] - to[j]), i, j);
  for (auto& [distance, i, j] : pairs)
    if (std::isnan(distance)) distance = 0;  // of two infinite points
  std::sort(pairs.begin(), pairs.end());
  Points ordered(n);
  std::vector<char> from_used(n, 0), to_used(n, 0);
  bool clear = true;
  for (const auto& [distance, i, j] : pairs) {
    if (from_used[i] || to_used[j]) continue;
    from_used[i] = to_used[j] = 1;
    ordered[i] = to[j];
    if (!std::isfinite(distance)) continue;
    for (std::size_t other = 0; other < n; ++other)
      clear = clear && (other == i || !(std::abs(from[other] - from[i]) < 3 * distance));
  }
  to = std::move(ordered);
  return clear;
}

SSM_INLINE std::vector<BreakPoint> break_points_of(const RealVector& above,
                                                   const RealVector& below) {
  RealVector minus = polynomial_product(above, polynomial_derivative(below));
  for (Index i = 0; i < minus.size(); ++i) minus(i) = -minus(i);
  const RealVector p =
      trimmed(polynomial_sum(polynomial_product(polynomial_derivative(above), below), minus));
  std::vector<BreakPoint> found;
  if (p.size() < 2) return found;
  const RealVector slope = polynomial_derivative(p);
  RealVector one(1);
  one(0) = 1;
  for (std::complex<double> s : roots_of("root_locus", p)) {
    for (int i = 0; i < 3; ++i) {
      const std::complex<double> step = ratio_at(p, slope, s);
      if (!(std::abs(step) <= 1e-3 * std::abs(s))) break;  // at a root of its own slope
      s -= step;
    }
    const std::complex<double> k = -ratio_at(below, above, s);
    double scale = 0;  // of d(s), which is rounding at a multiple pole of L
    for (Index i = 0; i < below.size(); ++i) scale = scale * std::abs(s) + std::abs(below(i));
    const std::complex<double> d = ratio_at(below, one, s);
    if (!(k.real() > 0) || std::abs(k.imag()) > 1e-6 * k.real()) continue;
    if (std::abs(d) <= 1e-12 * scale) continue;
    found.push_back({std::abs(s.imag()) <= 1e-9 * std::abs(s) ? s.real() : s, k.real()});
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.gain < b.gain; });
  return found;
}

/// From where no branch has moved by a thousandth to where all are that near their ends.
SSM_INLINE std::vector<double> locus_gains(const RealVector& above, const RealVector& below,
                                           const std::vector<BreakPoint>& breaks) {
  // k = |d/n| where L has neither pole nor zero: on circles through the corners
  double low = std::numeric_limits<double>::infinity(), high = 0;
  const auto include = [&](double k) {
    if (!(k > 0 && std::isfinite(k))) return;
    low = (std::min)(low, k);
    high = (std::max)(high, k);
  };
  for (const RealVector* polynomial : {&above, &below})
    for (const auto& root : roots_of("root_locus", *polynomial))
      for (const double angle : {0.4, 1.3, 2.2})
        include(std::abs(ratio_at(below, above, std::polar(std::abs(root), angle))));
  for (const BreakPoint& point : breaks) include(point.gain);
  if (!(high > 0)) low = high = std::abs(below(0) / above(0));
  constexpr int count = 500;
  low /= 1e3;
  high *= 1e3;
  std::vector<double> gains{0};
  for (int i = 0; i < count; ++i)
    gains.push_back(low * std::pow(high / low, static_cast<double>(i) / (count - 1)));
  for (const BreakPoint& point : breaks) gains.push_back(point.gain);
  std::sort(gains.begin(), gains.end());
  gains.erase(std::unique(gains.begin(), gains.end()), gains.end());
  return gains;
}

SSM_INLINE RootLocus locus_of(RealVector above, RealVector below, std::vector<double> gain) {
  constexpr std::string_view function = "root_locus";
  if (above.size() == 0) throw_domain(function, "the loop", "0", "not 0");
  for (std::size_t i = 0; i < gain.size(); ++i)
    if (!(gain[i] >= 0 && std::isfinite(gain[i]) && (i == 0 || gain[i] > gain[i - 1])))
      throw_domain(function, "gain " + std::to_string(i), detail::number(gain[i]),
                   "finite, >= 0 and above the one before");
  RootLocus locus;
  // Gains are counted in a unit in which the coefficients of both polynomials are about 1.
  const int unit = take_out_exponent(below) - take_out_exponent(above);
  locus.break_points = break_points_of(above, below);
  std::vector<double> counted;
  for (const double k : gain) counted.push_back(std::ldexp(k, -unit));
  locus.gain = std::move(gain);
  if (counted.empty()) {
    counted = locus_gains(above, below, locus.break_points);
    for (const double k : counted) locus.gain.push_back(std::ldexp(k, unit));
    if (!std::isfinite(locus.gain.back()) || locus.gain[1] == 0)
      throw_domain(function, "the loop", "of gains beyond what double holds",
                   "one whose poles move at gains within it");
  }
  for (std::size_t i = 0; i < counted.size(); ++i)
    if (!std::isfinite(counted[i]))
      throw_domain(function, "gain " + std::to_string(i), detail::number(locus.gain[i]),
                   "one whose product with the loop double holds");
  for (BreakPoint& point : locus.break_points) point.gain = std::ldexp(point.gain, unit);

  // Ends of intervals yet to pass, the nearest last; an interval is halved until its roots are
  // clearly matched, or it is so short that they meet within it.
  Points now = closed_roots(above, below, counted.front());
  locus.branch.resize(now.size());
  const auto record = [&] {
    for (std::size_t b = 0; b < now.size(); ++b) locus.branch[b].push_back(now[b]);
  };
  record();
  for (std::size_t i = 1; i < counted.size(); ++i) {
    double from = counted[i - 1];
    const double length = counted[i] - from;
    std::vector<double> ends{counted[i]};
    while (!ends.empty()) {
      Points next = closed_roots(above, below, ends.back());
      if (!follow(now, next) && ends.back() - from > 1e-3 * length) {
        ends.push_back(from + (ends.back() - from) / 2);
        continue;
      }
      now = std::move(next);
      from = ends.back();
      ends.pop_back();
    }
    record();
  }
  return locus;
}

SSM_END_COMPILED
