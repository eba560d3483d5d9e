#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <functional>
#include <limits>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/system/detail/root_groups.hpp"
#include "ssm/system/margins.hpp"
#include "ssm/system/polynomial.hpp"

SSM_BEGIN_COMPILED

using RealFunction = std::function<double(double)>;

/// Where a function that changes its sign between a and b, or is 0 at one of them, does so, to the
/// last digit.
SSM_INLINE double sign_change(const RealFunction& f, double a, double b) {
  const bool rises = f(a) < 0 || f(b) > 0;
  for (int i = 0; i < 200; ++i) {
    const double middle = a > 0 && b > 4 * a ? std::sqrt(a) * std::sqrt(b) : a + (b - a) / 2;
    if (!(middle > a && middle < b)) break;
    ((f(middle) > 0) == rises ? b : a) = middle;
  }
  return a + (b - a) / 2;
}

/// Where a function with one minimum between a and b has it: golden section.
SSM_INLINE double minimum(const RealFunction& f, double a, double b) {
  constexpr double golden = 0.6180339887498949;
  double x = b - golden * (b - a), y = a + golden * (b - a), at_x = f(x), at_y = f(y);
  for (int i = 0; i < 80 && b - a > 1e-14 * b; ++i) {
    if (at_x < at_y) {
      b = y;
      y = x;
      at_y = at_x;
      x = b - golden * (b - a);
      at_x = f(x);
    } else {
      a = x;
      x = y;
      at_x = at_y;
      y = a + golden * (b - a);
      at_y = f(y);
    }
  }
  return at_x < at_y ? x : y;
}

/// The zeros of a function among the points of a grid, also two of them between neighbours where it
/// turns back; not where it jumps.
SSM_INLINE std::vector<double> zeros_on(const RealFunction& f, const std::vector<double>& grid) {
  std::vector<double> values, found;
  for (const double x : grid) values.push_back(f(x));
  const auto add = [&](double a, double b) {
    const double x = sign_change(f, a, b);
    if (std::abs(f(x)) <= 1e-6) found.push_back(x);
  };
  for (std::size_t i = 0; i + 1 < grid.size(); ++i) {
    if (values[i] == 0) {
      found.push_back(grid[i]);
      continue;
    }
    if ((values[i] > 0) != (values[i + 1] > 0) && values[i + 1] != 0) {
      add(grid[i], grid[i + 1]);
      continue;
    }
    if (i == 0 || (values[i - 1] > 0) != (values[i] > 0)) continue;
    const double size = std::abs(values[i]);
    if (!(size <= std::abs(values[i - 1]) && size <= std::abs(values[i + 1]))) continue;
    const double sign = values[i] > 0 ? 1 : -1;
    const double turn = minimum([&](double x) { return sign * f(x); }, grid[i - 1], grid[i + 1]);
    if (sign * f(turn) > 0) continue;
    add(grid[i - 1], turn);
    add(turn, grid[i + 1]);
  }
  if (!grid.empty() && values.back() == 0) found.push_back(grid.back());
  std::sort(found.begin(), found.end());
  return found;
}

/// How much a function rises about a point, within 10⁻⁸ of it on either side.
SSM_INLINE double rise_at(const RealFunction& f, double x) {
  return f(x * (1 + 1e-8)) - f(x * (1 - 1e-8));
}

/// The closed poles, roots of gain Π (s − zeros) + Π (s − poles), from near ones: the simultaneous
/// iteration of Ehrlich and Aberth on that form, which does not cancel as coefficients do.
SSM_INLINE void refine_closed_poles(const RootsResponse& loop,
                                    std::vector<std::complex<double>>& closed) {
  using Complex = std::complex<double>;
  const std::size_t parts = (std::max)(loop.zeros.size(), loop.poles.size());
  const double enough = 8 * static_cast<double>(parts + 1) * std::numeric_limits<double>::epsilon();
  for (int sweep = 0; sweep < 60; ++sweep) {
    bool all = true;
    for (std::size_t i = 0; i < closed.size(); ++i) {
      const Complex s = closed[i];
      Complex L = loop.gain, of_zeros = 0, of_poles = 0;  // Σ 1/(s − root)
      for (std::size_t k = 0; k < parts; ++k) {
        if (k < loop.zeros.size()) {
          L *= s - loop.zeros[k];
          of_zeros += 1.0 / (s - loop.zeros[k]);
        }
        if (k < loop.poles.size()) {
          L /= s - loop.poles[k];
          of_poles += 1.0 / (s - loop.poles[k]);
        }
      }
      const double size = std::abs(L);
      // Where a zero and a pole of L are one it stays; beyond what double holds nothing is refined.
      if (!std::isfinite(size) || std::abs(1.0 + L) <= enough * (std::max)(1.0, size)) continue;
      Complex ratio = (L * of_zeros + of_poles) / (1.0 + L);
      for (std::size_t j = 0; j < closed.size(); ++j)
        if (j != i && closed[j] != s) ratio -= 1.0 / (s - closed[j]);
      const Complex step = 1.0 / ratio;
      if (!std::isfinite(std::abs(step))) continue;
      closed[i] -= step;
      all = all && std::abs(step) <= std::numeric_limits<double>::epsilon() * std::abs(s);
    }
    if (all) return;
  }
}

/// A loop, where to look at it, and where it crosses the negative real axis.
struct LoopCrossings {
  struct Crossing {
    double frequency, magnitude;
    int direction;  // of the phase, +1 where it rises
  };

  const RootsResponse& loop;
  std::vector<double> grid;
  std::vector<std::complex<double>> closed_poles;  // without delay
  bool closed_known = false;                       // all closed poles are in closed_poles
  std::vector<Crossing> crossings;                 // of 0 < ω < highest
  std::vector<double> unit;                        // where |L| = 1
  double start = 0, end = 0;  // real L at ω = 0 and at the highest frequency; 0 where it is none

  LoopCrossings(std::string_view function, const SisoResponse& response) : loop(response.roots()) {
    if (loop.gain == 0) throw_domain(function, "the loop", "0", "not 0");
    const auto excess = loop.zeros.size() > loop.poles.size();
    if (loop.delta > 0 && excess)
      throw_domain(function, "the loop", "improper", "no more zeros than poles in z");
    find_closed_poles(function);
    std::vector<std::complex<double>> corners;
    for (const auto& pole : closed_poles)
      if (loop.delta == 0)
        corners.push_back(pole);
      else if (pole != 0.0)
        corners.push_back(std::log(pole) / loop.delta);
    grid = frequencies_for(loop, corners, 4, 40);
    if (loop.delay > 0) refine_for_delay(function);
    find_real();
    if (loop.zeros.size() + loop.poles.size() > 0 || loop.delay > 0)
      unit = zeros_on([&](double omega) { return loop.log_magnitude(omega); }, grid);
    std::erase_if(unit, [&](double omega) {
      return std::abs(rise_at([&](double w) { return loop.log_magnitude(w); }, omega)) <= 1e-13;
    });
  }

  [[nodiscard]] std::complex<double> operator()(double omega) const {
    return std::polar(std::exp(loop.log_magnitude(omega)), loop.phase(omega));
  }

 private:
  void find_closed_poles(std::string_view function) {
    const auto expanded = [](const std::vector<std::complex<double>>& roots, double leading) {
      RealVector result(1);
      result(0) = leading;
      for (std::size_t i = 0; i < roots.size(); ++i) {
        const bool pair = roots[i].imag() != 0;
        RealVector factor(pair ? 3 : 2);
        factor(0) = 1;
        factor(1) = pair ? -2 * roots[i].real() : -roots[i].real();
        if (pair) factor(2) = std::norm(roots[i]), ++i;  // its conjugate follows
        result = polynomial_product(result, factor);
      }
      return result;
    };
    // in units of the mean size of the roots, lest coefficients overflow
    double exponent = 0;
    int sized = 0;
    for (const auto* roots : {&loop.zeros, &loop.poles})
      for (const auto& root : *roots)
        if (root != 0.0) exponent += std::log2(std::abs(root)), ++sized;
    const int scale = loop.delta > 0 || sized == 0 ? 0 : static_cast<int>(exponent / sized);
    const auto in_units = [&](std::vector<std::complex<double>> roots) {
      for (auto& root : roots)
        root = {std::ldexp(root.real(), -scale), std::ldexp(root.imag(), -scale)};
      return roots;
    };
    const int excess = static_cast<int>(loop.zeros.size()) - static_cast<int>(loop.poles.size());
    RootsResponse scaled;
    scaled.zeros = in_units(loop.zeros);
    scaled.poles = in_units(loop.poles);
    scaled.gain = std::ldexp(loop.gain, scale * excess);
    const RealVector sum =
        trimmed(polynomial_sum(expanded(scaled.zeros, scaled.gain), expanded(scaled.poles, 1)));
    for (Index i = 0; i < sum.size(); ++i)
      if (!std::isfinite(sum(i))) return;  // the grid follows the open loop alone
    if (sum.size() == 0 || scaled.gain == 0) return;
    for (const auto& pole : roots_of(function, sum)) closed_poles.push_back(pole);
    refine_closed_poles(scaled, closed_poles);
    for (auto& pole : closed_poles)
      pole = {std::ldexp(pole.real(), scale), std::ldexp(pole.imag(), scale)};
    closed_known = loop.delay == 0;
  }

 public:
  /// Closed poles beyond the axis or the circle, or beyond it or on it.
  [[nodiscard]] int unstable_closed_poles(bool or_on) const {
    int count = 0;
    for (const auto& pole : closed_poles) {
      const double beyond = loop.delta > 0 ? std::abs(pole) - 1 : pole.real();
      count += or_on ? beyond >= 0 : beyond > 0;
    }
    return count;
  }

 private:
  /// Points so close that the delay turns by little from one to the next.
  void refine_for_delay(std::string_view function) {
    constexpr double turn = 0.3;
    const double top =
        (std::min)(loop.highest(), (std::max)(grid.back(), 20 * 6.283185307179586 / loop.delay));
    if (loop.delta == 0 && loop.zeros.size() >= loop.poles.size() &&
        !(loop.zeros.size() == loop.poles.size() && std::abs(loop.gain) < 1))
      throw_domain(function, "the loop", "not below 1 at high frequencies",
                   "one that rolls off, where it has a delay");
    // Beyond the last crossing of 1 by far no turn of the phase matters.
    double last = 20 * 6.283185307179586 / loop.delay;
    for (const double omega : grid)
      if (loop.log_magnitude(omega) > -7) last = (std::max)(last, omega);
    last = (std::min)(last, top);
    if (!(last * loop.delay <= 1e6))
      throw_domain(function, "the delay", "too long",
                   "at most 1e6 radians at the last frequency where |L| matters");
    std::vector<double> fine;
    for (std::size_t i = 0; i < grid.size() && grid[i] <= last; ++i) {
      fine.push_back(grid[i]);
      const double next = i + 1 < grid.size() ? (std::min)(grid[i + 1], last) : last;
      const double parts = std::ceil((next - grid[i]) * loop.delay / turn);
      for (double k = 1; k < parts; ++k) fine.push_back(grid[i] + (next - grid[i]) * k / parts);
    }
    if (fine.back() < last) fine.push_back(last);
    grid = std::move(fine);
  }

  /// Whether one of these roots is on the axis or circle at ω, to rounding.
  [[nodiscard]] bool any_at(const std::vector<std::complex<double>>& roots, double omega) const {
    return std::any_of(roots.begin(), roots.end(), [&](std::complex<double> root) {
      const std::complex<double> point =
          loop.delta > 0 ? std::polar(1.0, omega * loop.delta) : std::complex<double>(0, omega);
      return std::abs(root - point) <= 4e-16 * (std::abs(point) + std::abs(root));
    });
  }
  [[nodiscard]] bool on_boundary(double omega) const { return any_at(loop.poles, omega); }
  [[nodiscard]] bool jumps_to_zero(double omega) const { return any_at(loop.zeros, omega); }

  void find_real() {
    constexpr double pi = 3.14159265358979323846;
    const double top = loop.highest();
    const auto add = [&](double a, double b, double target) {
      const auto past = [&](double w) { return loop.phase(w) - target; };
      const double omega = sign_change(past, a, b);
      if (omega >= top * (1 - 1e-9)) return;  // π/Δ has a place of its own
      const double before = past(omega * (1 - 1e-8)), after = past(omega * (1 + 1e-8));
      const double rise = after - before;
      if (std::abs(rise) <= 1e-13) return;  // rounding in a constant
      double magnitude = std::exp(loop.log_magnitude(omega));
      if (std::abs(rise) >= 1) {  // a root at or very near the axis
        if ((std::min)(std::abs(before), std::abs(after)) <= 1e-9 || before * after > 0) return;
        if (jumps_to_zero(omega)) return;
        if (on_boundary(omega)) magnitude = std::numeric_limits<double>::infinity();
      }
      crossings.push_back({omega, magnitude, rise > 0 ? 1 : -1});
    };
    // Odd multiples of π between the phases at neighbours, and beyond where it turns back.
    double before = 0, here = loop.phase(grid.front());
    for (std::size_t i = 0; i + 1 < grid.size(); ++i) {
      const double next = loop.phase(grid[i + 1]);
      const double low = (std::min)(here, next), high = (std::max)(here, next);
      for (double k = std::ceil((low / pi - 1) / 2); (2 * k + 1) * pi <= high; ++k)
        if ((2 * k + 1) * pi > low) add(grid[i], grid[i + 1], (2 * k + 1) * pi);
      if (i > 0 && (here - before) * (next - here) < 0) {
        const double side = here > before ? 1 : -1;  // a maximum or a minimum near here
        const double level =
            side > 0 ? std::floor((here / pi - 1) / 2) + 1 : std::ceil((here / pi - 1) / 2) - 1;
        const double target = (2 * level + 1) * pi;
        const double turn =
            minimum([&](double w) { return -side * loop.phase(w); }, grid[i - 1], grid[i + 1]);
        if (side * (loop.phase(turn) - target) > 0) {
          add(grid[i - 1], turn, target);
          add(turn, grid[i + 1], target);
        }
      }
      before = here;
      here = next;
    }
    std::sort(crossings.begin(), crossings.end(),
              [](const auto& a, const auto& b) { return a.frequency < b.frequency; });
    // A root at the point itself is passed on the unstable side: beyond 1, and beyond −1.
    const auto real_at = [&](double point) {
      bool negative = loop.gain < 0;
      double size = std::log(std::abs(loop.gain)), sign = 1;
      for (const auto* roots : {&loop.zeros, &loop.poles}) {
        for (const auto& root : *roots) {
          const bool right = point < 0 ? root.real() >= point : root.real() > point;
          negative = negative != (root.imag() == 0 && right);
          size += sign * std::log(std::abs(point - root));
        }
        sign = -1;
      }
      return (negative ? -1 : 1) * std::exp(size);
    };
    start = real_at(loop.delta > 0 ? 1 : 0);
    if (loop.delay > 0) return;
    if (loop.delta > 0)
      end = real_at(-1);
    else if (loop.zeros.size() == loop.poles.size())
      end = loop.gain;
  }
};

SSM_INLINE Nyquist encirclements_in(std::string_view function, const LoopCrossings& L) {
  constexpr double pi = 3.14159265358979323846;
  const RootsResponse& loop = L.loop;
  Nyquist result;
  for (const auto& pole : loop.poles)
    result.open_loop_unstable += loop.delta > 0 ? std::abs(pole) > 1 : pole.real() > 0;
  int turns = 0;                             // counterclockwise
  const auto check = [&](double distance) {  // from −1
    if (std::abs(distance) <= 1e-10)
      throw_domain(function, "the loop", "-1 at some frequency", "a loop that runs beside -1");
  };
  const auto count = [&](double magnitude, int direction, int weight) {
    check(magnitude - 1);
    if (magnitude > 1) turns += direction * weight;
  };
  for (const double omega : L.unit) check(std::remainder(loop.phase(omega) + pi, 2 * pi));
  for (const auto& crossing : L.crossings) count(crossing.magnitude, crossing.direction, 2);
  // Through ω = 0 the phase runs from base − odd to base + odd.
  const double base = loop.turned ? -pi : 0, odd = loop.phase(L.grid.front()) - base;
  const auto passed = [&](double from, double to) {  // odd multiples of π
    return static_cast<int>(std::floor((to / pi + 1) / 2) - std::floor((from / pi + 1) / 2));
  };
  const double near_start = std::exp(loop.log_magnitude(L.grid.front()));
  const int at_start = passed(base - odd, base + odd);
  if (at_start != 0) {
    const double size = std::isfinite(L.start) ? std::abs(L.start) : near_start;
    count(size, at_start > 0 ? 1 : -1, std::abs(at_start));
  } else if (std::isfinite(L.start) && L.start < 0 && odd == 0) {
    count(-L.start, 0, 1);  // a real loop
  }
  // Through the highest frequency it runs from what it is there to its mirror image.
  if (L.end < 0) {
    const double phase = loop.phase(L.grid.back() * (loop.delta > 0 ? 1 - 1e-7 : 1));
    const double level = pi * (2 * std::floor(phase / (2 * pi)) + 1);  // the nearest odd multiple
    const double above = phase - level;
    count(-L.end, above == 0 ? 0 : above > 0 ? -1 : 1, 1);
  }
  // Without a delay the closed poles themselves are known.
  result.closed_loop_unstable =
      L.closed_known ? L.unstable_closed_poles(false) : result.open_loop_unstable - turns;
  if (result.closed_loop_unstable < 0)
    throw_domain(function, "the loop", "too near -1 to be counted", "one that keeps away from it");
  result.clockwise_encirclements = result.closed_loop_unstable - result.open_loop_unstable;
  return result;
}

SSM_INLINE Nyquist encirclements_of(const SisoResponse& loop) {
  return encirclements_in("nyquist", LoopCrossings("nyquist", loop));
}

SSM_INLINE Margins margins_of(const SisoResponse& response) {
  const LoopCrossings L("margins", response);
  const RootsResponse& loop = L.loop;
  constexpr double infinity = std::numeric_limits<double>::infinity(), pi = 3.14159265358979323846;
  Margins result;

  if (std::isfinite(L.start) && L.start < 0) result.gains.push_back({-1 / L.start, 0});
  for (const auto& crossing : L.crossings)
    result.gains.push_back({1 / crossing.magnitude, crossing.frequency});
  if (L.end < 0 && !(loop.zeros.empty() && loop.poles.empty()))
    result.gains.push_back({-1 / L.end, loop.highest()});
  for (const GainMargin& margin : result.gains)
    if (std::isnan(result.gain.frequency) ||
        std::abs(std::log(margin.factor)) < std::abs(std::log(result.gain.factor)))
      result.gain = margin;

  for (const double omega : L.unit) {
    double ahead = std::remainder(loop.phase(omega) + pi, 2 * pi);
    if (ahead <= -pi) ahead = pi;
    const PhaseMargin phase{ahead * 180 / pi, omega};
    const DelayMargin delay{(ahead >= 0 ? ahead : ahead + 2 * pi) / omega, omega};
    result.phases.push_back(phase);
    result.delays.push_back(delay);
    if (std::isnan(result.phase.frequency) ||
        std::abs(phase.degrees) < std::abs(result.phase.degrees))
      result.phase = phase;
    if (std::isnan(result.delay.frequency) || delay.seconds < result.delay.seconds)
      result.delay = delay;
  }

  // S = 1/(1 + L), and T = 1/(1 + 1/L) where L may be infinite.
  const auto log_S = [&](double omega) {
    const double size = loop.log_magnitude(omega);
    const std::complex<double> turn = std::polar(1.0, loop.phase(omega));
    return size > 0 ? -size - std::log(std::abs(turn + std::exp(-size)))
                    : -std::log(std::abs(1.0 + std::exp(size) * turn));
  };
  const auto log_T = [&](double omega) { return log_S(omega) + loop.log_magnitude(omega); };
  const auto peak_of = [&](const RealFunction& f, auto&& at_end) {
    double best = -infinity, where = 0;
    const auto offer = [&](double value, double omega) {
      if (value > best || (std::isnan(best) && !std::isnan(value))) {
        best = value;
        where = omega;
      }
    };
    if (std::isfinite(L.start)) offer(at_end(L.start), 0);
    std::vector<double> values;
    for (const double omega : L.grid) values.push_back(f(omega));
    for (std::size_t i = 0; i < values.size(); ++i) {
      offer(values[i], L.grid[i]);
      if (i == 0 || i + 1 == values.size() || values[i] < values[i - 1] ||
          values[i] < values[i + 1])
        continue;
      const double omega = minimum([&](double w) { return -f(w); }, L.grid[i - 1], L.grid[i + 1]);
      offer(f(omega), omega);
    }
    if (loop.delta == 0 && loop.delay == 0)
      offer(loop.zeros.size() > loop.poles.size() ? at_end(infinity) : at_end(L.end), infinity);
    return Peak{std::exp(best), where};
  };
  result.sensitivity = peak_of(log_S, [](double l) { return -std::log(std::abs(1 + l)); });
  result.complementary =
      peak_of(log_T, [](double l) { return std::isinf(l) ? 0 : std::log(std::abs(l / (1 + l))); });
  result.modulus = 1 / result.sensitivity.value;

  bool through = std::isinf(result.sensitivity.value) || result.modulus <= 1e-10;
  result.stable =
      !through && (L.closed_known ? L.unstable_closed_poles(true)
                                  : encirclements_in("margins", L).closed_loop_unstable) == 0;
  return result;
}

SSM_END_COMPILED
