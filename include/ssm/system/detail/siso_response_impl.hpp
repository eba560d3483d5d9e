#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/system/detail/root_groups.hpp"
#include "ssm/system/siso_response.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE double RootsResponse::highest() const {
  constexpr double pi = 3.14159265358979323846;
  return delta > 0 ? pi / delta : std::numeric_limits<double>::infinity();
}

/// e^{iωΔ} − root, in parts that do not cancel for slow modes.
SSM_INLINE std::complex<double> sampled_factor(double angle, std::complex<double> root) {
  const double half = std::sin(angle / 2);
  return {(1 - root.real()) - 2 * half * half, std::sin(angle) - root.imag()};
}

SSM_INLINE double RootsResponse::log_magnitude(double omega) const {
  double sum = std::log(std::abs(gain));
  const auto factor = [&](std::complex<double> root) {
    const std::complex<double> value =
        delta > 0 ? sampled_factor(omega * delta, root)
                  : std::complex<double>(-root.real(), omega - root.imag());
    return std::log(std::abs(value));
  };
  for (const auto& zero : zeros) sum += factor(zero);
  for (const auto& pole : poles) sum -= factor(pole);
  return sum;
}

SSM_INLINE double RootsResponse::phase(double omega) const {
  constexpr double pi = 3.14159265358979323846;
  double sum = (turned ? -pi : 0) - omega * delay;
  const auto angle = [&](std::complex<double> root) {
    if (delta > 0) {
      const double turn = omega * delta;
      const std::complex<double> point = std::polar(1.0, turn);
      if (std::abs(root) > 1) return std::arg(1.0 - point / root);
      if (root == 0.0) return turn;
      const std::complex<double> rest = sampled_factor(turn, root) * std::conj(point);
      return turn + std::atan2(rest.imag(), (std::max)(rest.real(), 0.0) + 0.0);
    }
    if (root == 0.0) return pi / 2;
    const double rise = omega - root.imag();
    const double turn = std::atan2(rise, std::abs(root.real()));  // 0 at a root on the axis
    return root.real() > 0 ? -turn : turn;
  };
  for (const auto& zero : zeros) sum += angle(zero);
  for (const auto& pole : poles) sum -= angle(pole);
  return sum;
}

SSM_INLINE RootsResponse roots_response(std::string_view function,
                                        const std::vector<std::complex<double>>& zeros,
                                        const std::vector<std::complex<double>>& poles, double gain,
                                        double tolerance, std::optional<double> delta) {
  RootsResponse response;
  if (delta) {
    check_sampling(function, *delta);
    response.delta = *delta;
  }
  response.gain = gain;
  bool negative = gain < 0;
  const auto add = [&](std::string_view argument, const auto& from, auto& to) {
    for (const RootList& group : group_roots(function, argument, from, tolerance))
      for (const std::complex<double>& root : group) {
        to.push_back(root);
        const bool unstable_real = root.imag() == 0 && root.real() > (delta ? 1 : 0);
        negative = negative != unstable_real;
      }
  };
  add("zeros", zeros, response.zeros);
  add("poles", poles, response.poles);
  response.turned = negative;
  return response;
}

SSM_INLINE std::vector<double> frequencies_for(const RootsResponse& response,
                                               const std::vector<std::complex<double>>& more,
                                               double decades_beyond, int per_decade) {
  std::vector<std::complex<double>> corners = more;
  for (const auto* roots : {&response.zeros, &response.poles})
    for (const std::complex<double>& root : *roots) {
      if (response.delta == 0) {
        corners.push_back(root);
      } else if (root != 0.0) {
        const std::complex<double> corner = std::log(root) / response.delta;
        // what decays within a step has no corner of its own
        if (-corner.real() * response.delta < 40) corners.push_back(corner);
      }
    }
  double slowest = std::numeric_limits<double>::infinity(), fastest = 0;
  std::vector<double> marks;  // where straight lines of the Bode diagram may end
  const auto include = [&](double omega) {
    if (!(omega > 0 && std::isfinite(omega))) return;
    slowest = (std::min)(slowest, omega);
    fastest = (std::max)(fastest, omega);
    marks.push_back(std::log10(omega));
  };
  for (const auto& corner : corners) include(std::abs(corner));
  if (response.delay > 0) include(1 / response.delay);
  // where straight lines of the Bode diagram meet 1
  double excess =
      static_cast<double>(response.poles.size()) - static_cast<double>(response.zeros.size());
  if (response.delta == 0 && excess != 0 && response.gain != 0)
    include(std::exp(std::log(std::abs(response.gain)) / excess));
  if (!(fastest > 0)) slowest = fastest = response.delta > 0 ? 0.1 / response.delta : 1;
  const double still = response.delta > 0 ? 1 : 0;
  double rest = std::log(std::abs(response.gain));
  excess = 0;
  const auto at_rest = [&](const auto& roots, double sign) {
    for (const auto& root : roots)
      if (root == still)
        excess -= sign;
      else
        rest += sign * std::log(std::abs(root - still));
  };
  at_rest(response.zeros, 1);
  at_rest(response.poles, -1);
  if (excess != 0 && response.gain != 0)
    include(std::exp(rest / excess) / (response.delta > 0 ? response.delta : 1.0));

  const double beyond = std::pow(10.0, decades_beyond), top = response.highest();
  double low = slowest / beyond, high = fastest * beyond;
  if (high > top) high = top;
  if (low > high / 10) low = high / 10;
  std::vector<double> frequencies;
  const double decades = std::log10(high / low);
  const int points = (std::max)(2, static_cast<int>(std::ceil(decades * per_decade)) + 1);
  if (marks.empty()) marks.push_back(std::log10(slowest));
  std::sort(marks.begin(), marks.end());
  for (int i = 0; i < points; ++i) {
    const double exponent = decades * i / (points - 1), here = std::log10(low) + exponent;
    const auto next = std::lower_bound(marks.begin(), marks.end(), here);
    const bool near_mark = (next != marks.end() && *next - here <= decades_beyond + 1) ||
                           (next != marks.begin() && here - *(next - 1) <= decades_beyond + 1);
    // On the straight lines between far marks a point a decade is enough.
    if (near_mark || i % per_decade == 0 || i + 1 == points)
      frequencies.push_back(low * std::pow(10.0, exponent));
  }
  frequencies.back() = high;
  for (const auto& corner : corners) {
    const double size = std::abs(corner.imag()), width = std::abs(corner.real());
    if (size == 0 || !(width < size)) continue;
    const auto put = [&](double omega) {
      if (omega > low && omega < high) frequencies.push_back(omega);
    };
    put(size);
    double away = (std::max)(width, 1e-9 * size) / 8;
    for (; away < size; away *= 1.5) {
      put(size - away);
      put(size + away);
    }
  }
  std::sort(frequencies.begin(), frequencies.end());
  frequencies.erase(std::unique(frequencies.begin(), frequencies.end()), frequencies.end());
  return frequencies;
}

SSM_END_COMPILED
