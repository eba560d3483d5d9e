#include "plant_analysis.hpp"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>

#include "job.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/delay.hpp"
#include "ssm/system/poles_zeros.hpp"

namespace plant {
namespace {

constexpr double pi = 3.141592653589793, degrees = 180 / pi;
constexpr double infinity = std::numeric_limits<double>::infinity();

/// How far a root is from decaying: below 0 if it does.
double growth(const Complex& root, const std::optional<double>& delta) {
  return delta ? std::abs(root) - 1 : root.real();
}

/// The poles of the loop k G / (1 + k G).
Points closed_poles(const Plant& plant, double k) {
  if (plant.A.rows() == 0) return {};
  const Eigen::MatrixXd A = plant.A - plant.B * (k / (1 + k * plant.D(0, 0))) * plant.C;
  const Eigen::VectorXcd values = Eigen::EigenSolver<Eigen::MatrixXd>(A, false).eigenvalues();
  return Points(values.begin(), values.end());
}

long growing(const Points& poles, const std::optional<double>& delta) {
  return std::count_if(poles.begin(), poles.end(),
                       [&](const Complex& pole) { return !(growth(pole, delta) < 0); });
}

/// Where a function that changes its sign between two positive numbers does so.
template <class F>
double crossing(double low, double high, const F& function) {
  const bool below = function(low) < 0;
  for (int i = 0; i < 80; ++i) {
    const double middle = std::sqrt(low * high);
    ((function(middle) < 0) == below ? low : high) = middle;
  }
  return std::sqrt(low * high);
}

}  // namespace

Complex rate_of(const Complex& root, const std::optional<double>& delta) {
  return delta ? std::log(root) / *delta : root;
}

Channel channel_of(const Plant& plant) {
  return {plant, with_system(plant, [&](const auto& system) {
            return ssm::SisoResponse(system).delayed(plant.delay);
          })};
}

Channel rational(const Channel& channel) {
  if (channel.plant.delay == 0) return channel;
  const ssm::StateSpace<double> system(channel.plant.A, channel.plant.B, channel.plant.C,
                                       channel.plant.D);
  const auto fraction = ssm::pade(ssm::DelayedSystem(system, channel.plant.delay), 6);
  return {
      {fraction.A(), fraction.B(), fraction.C(), fraction.D()}, ssm::SisoResponse(fraction), true};
}

Response response_of(const Channel& channel, std::optional<double> from, std::optional<double> to) {
  std::vector<double> omega = ssm::plot_frequencies(channel.response, 200);
  const auto decade = [](double w) { return std::pow(10, w); };  // whole ones, unless it is told
  const double low = from.value_or(decade(std::floor(std::log10(omega.front()) + .05)));
  const double high = std::min(to.value_or(decade(std::ceil(std::log10(omega.back()) - .05))),
                               channel.response.highest_frequency());
  std::erase_if(omega, [&](double w) { return !(w >= low && w <= high); });
  for (int i = 0; low < high && i <= 400; ++i)
    omega.push_back(std::clamp(low * std::pow(high / low, i / 400.), low, high));
  std::sort(omega.begin(), omega.end());
  if (omega.empty()) omega = {low / 2, low};
  const ssm::BodeData data = ssm::bode(channel.response, omega);
  Response result{omega, {}, data.phase};
  for (const double w : omega) result.value.push_back(channel.response(w));
  return result;
}

Crossings crossings_of(const Channel& channel, const ssm::Margins& margins, Frequencies unit) {
  Crossings crossings;
  const auto where = [&](double w) {
    return std::isinf(w) ? "high frequencies" : job::format("%.3g %s", unit(w), unit.unit());
  };
  for (const ssm::PhaseMargin& margin : margins.phases)
    crossings.phase.push_back(
        {margin.frequency, 1, degrees * channel.response.phase(margin.frequency),
         job::format("phase margin %.3g°", margin.degrees), where(margin.frequency)});
  double up = infinity, down = 0;
  for (const ssm::GainMargin& margin : margins.gains)
    if (margin.factor >= 1)
      up = std::min(up, margin.factor);
    else
      down = std::max(down, margin.factor);
  for (const ssm::GainMargin& margin : margins.gains) {
    if (margin.factor != up && margin.factor != down) continue;
    const double w = margin.frequency;
    crossings.gain.push_back(
        {w, 1 / margin.factor, std::isinf(w) || w == 0 ? -180 : degrees * channel.response.phase(w),
         job::format("gain margin %.3g dB", 20 * std::log10(margin.factor)), where(w)});
  }
  return crossings;
}

std::pair<Step, std::optional<StepFigures>> step_of(const Channel& channel,
                                                    std::optional<double> seconds) {
  const auto& delta = channel.plant.delta;
  const double delay = channel.plant.delay;
  double slowest = infinity, fastest_growth = 0;
  bool integrates = false;
  for (const Complex& pole : channel.poles()) {
    const double rate = -rate_of(pole, delta).real();
    if (std::isfinite(rate) && rate > 1e-9 * std::abs(rate_of(pole, delta)))
      slowest = std::min(slowest, rate);
    else if (rate < -1e-9 * std::abs(rate_of(pole, delta)))
      fastest_growth = std::max(fastest_growth, -rate);
    else
      integrates = integrates || std::isfinite(rate);
  }
  double length = std::isfinite(slowest) ? 6 / slowest : delta ? 20 * *delta : 5;
  if (fastest_growth > 0) length = 6 / fastest_growth;
  length = seconds.value_or(length + 1.2 * delay);
  const double h = delta ? *delta : std::max(length - delay, 1e-12) / 2000;
  const int count = delta ? static_cast<int>(std::clamp(std::ceil(length / h), 4., 1e4)) : 2000;
  Step step;
  step.sampled = delta.has_value();
  if (delay > 0) {
    step.time = {0, delay};
    step.output = {0, 0};
  }
  return with_system(channel.plant, [&](const auto& system) {
    const auto held = [&] {
      if constexpr (requires { system.A_bar(); })
        return system;
      else
        return ssm::zero_order_hold(system, h);
    }();
    Eigen::VectorXd x = Eigen::VectorXd::Zero(channel.plant.A.rows());
    for (int i = 0; i <= count; ++i) {
      step.time.push_back(delay + i * h);
      step.output.push_back((held.C() * x)(0) + held.D()(0, 0));
      x = (held.A_bar() * x + held.B_bar()).eval();
    }
    if (integrates || fastest_growth > 0) return std::pair(step, std::optional<StepFigures>());
    const double end = ssm::dc_gain(system)(0, 0);
    step.final_value = end;
    const auto largest =
        std::max_element(step.output.begin(), step.output.end(),
                         [](double a, double b) { return std::abs(a) < std::abs(b); });
    if (!(std::abs(end) > 1e-9 * std::abs(*largest)))
      return std::pair(step, std::optional<StepFigures>());
    StepFigures figures;
    double low = -1, high = -1;
    std::size_t settled = 0;
    const auto reached = [&](std::size_t i, double part) {  // between two samples
      if (i == 0 || delta) return step.time[i];
      const double a = step.output[i - 1] / end, b = step.output[i] / end;
      return step.time[i - 1] + (part - a) / (b - a) * (step.time[i] - step.time[i - 1]);
    };
    for (std::size_t i = 0; i < step.time.size(); ++i) {
      const double part = step.output[i] / end;
      if (part > figures.peak) {
        figures.peak = part;
        figures.peak_time = step.time[i];
      }
      figures.undershoot = std::max(figures.undershoot, -part);
      if (low < 0 && part >= .1) low = reached(i, .1);
      if (high < 0 && part >= .9) high = reached(i, .9);
      if (std::abs(part - 1) > .02) settled = i + 1;
    }
    figures.overshoot = std::max(0., figures.peak - 1);
    figures.rise = high - low;
    if (settled < step.time.size()) {
      const double edge = step.output[settled] / end > 1 ? 1.02 : .98;
      const bool jump = settled == 0 || std::abs(step.output[settled] / end - 1) < 1e-9;
      figures.settling = jump ? step.time[settled] : reached(settled, edge);
      if (settled > 0 && settled > (delay > 0 ? 2u : 0u))
        step.notes.push_back({figures.settling, jump ? end : edge * end,
                              job::format("within 2%% from %.3g s", figures.settling)});
    } else {
      figures.settling = infinity;
    }
    if (figures.overshoot > 1e-3)
      step.notes.push_back(
          {figures.peak_time, figures.peak * end,
           job::format("overshoot %.3g%% at %.3g s", 100 * figures.overshoot, figures.peak_time)});
    if (figures.rise > 0)
      step.notes.push_back(
          {high, delta ? step.output[static_cast<std::size_t>(std::lround(high / h))] : .9 * end,
           job::format("rises from 10 to 90%% in %.3g s", figures.rise)});
    return std::pair(step, std::optional(figures));
  });
}

std::pair<Locus, std::vector<GainRange>> locus_of(const Channel& channel,
                                                  std::optional<double> largest) {
  Locus locus;
  std::vector<GainRange> ranges;
  const std::size_t n = channel.poles().size();
  const auto& delta = channel.plant.delta;
  double scale = delta ? 1 : 0;
  for (const auto* roots : {&channel.poles(), &channel.zeros()})
    for (const Complex& root : *roots) scale = std::max(scale, std::abs(root));
  if (scale == 0) scale = 1;
  const double most = largest.value_or(infinity), far = 8 * scale;
  Points now = channel.poles();
  locus.branches.resize(n);
  for (std::size_t b = 0; b < n; ++b) locus.branches[b] = {now[b]};
  double k = 0, step = 0;
  // The gain at which a pole has gone about a thousandth of the picture: k |G| = 1 there.
  for (int i = 0; i < 64 && step == 0; ++i) {
    Complex value = channel.response.roots().gain;
    const Complex at = now.empty() ? 0 : now[0] + std::polar(1e-3 * scale, .7);
    for (const Complex& zero : channel.zeros()) value *= at - zero;
    for (const Complex& pole : channel.poles()) value /= at - pole;
    step = std::abs(value) > 0 ? .1 / std::abs(value) : 1;
  }
  long unstable = growing(now, delta);
  double stable_from = unstable == 0 ? 0 : -1;
  for (int i = 0; i < 6000 && n > 0 && k < most; ++i) {
    const double next_k = std::min(k + step, most);
    const Points poles = closed_poles(channel.plant, next_k);
    Points left = poles, next;
    double moved = 0;
    for (const Complex& pole : now) {
      const auto nearest = std::min_element(left.begin(), left.end(), [&](auto p, auto q) {
        return std::abs(p - pole) < std::abs(q - pole);
      });
      moved = std::max(moved, std::abs(*nearest - pole) / std::max(1., std::abs(pole) / scale));
      next.push_back(*nearest);
      left.erase(nearest);
    }
    if (moved > .02 * scale && step > 1e-6 * (k + 1e-12 * step)) {
      step /= 2;
      continue;
    }
    const long after = growing(poles, delta);
    if (after != unstable) {
      const double edge = crossing(std::max(k, 1e-9 * next_k), next_k, [&](double gain) {
        return growing(closed_poles(channel.plant, gain), delta) == unstable ? -1. : 1.;
      });
      for (const Complex& pole : closed_poles(channel.plant, edge))
        if (std::abs(growth(pole, delta)) < 1e-4 * scale && pole.imag() >= 0 && k > 0)
          locus.notes.push_back({pole.real(), pole.imag(), job::format("k = %.3g", edge)});
      if (after == 0) stable_from = k > 0 ? edge : 0;
      if (unstable == 0) ranges.push_back({stable_from, edge});
      unstable = after;
    }
    now = next;
    for (std::size_t b = 0; b < n; ++b) locus.branches[b].push_back(now[b]);
    k = next_k;
    if (moved < .008 * scale) step *= 1.5;
    const bool seen = std::any_of(now.begin(), now.end(), [&](const Complex& pole) {
      return std::abs(pole) < far &&
             std::none_of(channel.zeros().begin(), channel.zeros().end(),
                          [&](Complex zero) { return std::abs(pole - zero) < 1e-3 * scale; });
    });
    if (!seen || step > 1e12 * k) break;
  }
  if (unstable == 0 && n > 0) ranges.push_back({stable_from, k < most ? infinity : most});
  return {locus, ranges};
}

}  // namespace plant
