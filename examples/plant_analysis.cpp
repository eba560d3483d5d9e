#include "plant_analysis.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "job.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/delay.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/root_locus.hpp"
#include "ssm/system/transfer_function.hpp"

namespace plant {
namespace {

constexpr double pi = 3.141592653589793, degrees = 180 / pi;
constexpr double infinity = std::numeric_limits<double>::infinity();

using Vector = ssm::ZerosPolesGain<double>::Roots;

Vector vector_of(const Points& points) {
  return Eigen::Map<const Vector>(points.data(), static_cast<Eigen::Index>(points.size()));
}

/// The channel with k times its gain.
ssm::ZerosPolesGain<double> factors_of(const Channel& channel, double k = 1) {
  const auto& roots = channel.response.roots();
  return {vector_of(roots.zeros), vector_of(roots.poles), k * roots.gain};
}

bool is_stable(const Channel& channel, double k) {
  const ssm::SisoResponse loop(factors_of(channel, k), channel.plant.delta);
  return ssm::margins(loop.delayed(channel.plant.delay)).stable;
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
  constexpr int order = 6;
  if (channel.plant.delay == 0) return channel;
  const ssm::StateSpace<double> system(channel.plant.A, channel.plant.B, channel.plant.C,
                                       channel.plant.D);
  const auto fraction = ssm::pade(ssm::DelayedSystem(system, channel.plant.delay), order);
  return {{fraction.A(), fraction.B(), fraction.C(), fraction.D()},
          ssm::SisoResponse(fraction),
          true,
          2 * order / channel.plant.delay};
}

Response response_of(const Channel& channel, std::optional<double> from, std::optional<double> to) {
  std::vector<double> omega = ssm::plot_frequencies(channel.response, 200);
  const auto decade = [](double w) { return std::pow(10, w); };  // whole ones, unless it is told
  const double low = from.value_or(decade(std::floor(std::log10(omega.front()) + .05)));
  double high = std::min(to.value_or(decade(std::ceil(std::log10(omega.back()) - .05))),
                         channel.response.highest_frequency());
  if (!to && channel.plant.delay > 0) {  // a few turns of the delay, unless G is large beyond
    double enough = 13 / channel.plant.delay;
    for (const double w : omega)
      if (channel.response.magnitude(w) > .5) enough = std::max(enough, 1.5 * w);
    high = std::min(high, std::max(enough, 10 * low));
  }
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

std::pair<Step, std::optional<ssm::StepInfo<double>>> step_of(const Channel& channel,
                                                              std::optional<double> seconds) {
  const auto& delta = channel.plant.delta;
  const double delay = channel.plant.delay;
  double slowest = infinity, growth = 0;
  bool settles = true;
  for (const Complex& pole : channel.poles()) {
    const Complex rate = rate_of(pole, delta);
    if (!std::isfinite(std::abs(rate))) continue;  // over after one step
    const double edge = 1e-9 * std::abs(rate);
    if (rate.real() < -edge) {
      slowest = std::min(slowest, -rate.real());
      continue;
    }
    settles = false;
    if (rate.real() > edge) growth = std::max(growth, rate.real());
  }
  double length = growth > 0               ? 6 / growth
                  : std::isfinite(slowest) ? 7 / slowest
                  : delta                  ? 20 * *delta
                                           : 5;
  length = seconds.value_or(length + 1.2 * delay);
  constexpr int points = 2000;
  const double h = delta ? *delta : std::max(length - delay, 1e-12) / points;
  const int count = delta ? static_cast<int>(std::clamp(std::ceil(length / h), 4., 1e4)) : points;
  Step step;
  step.sampled = delta.has_value();
  if (delay > 0) {
    step.time = {0, delay * (1 - 1e-9)};
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
    std::optional<ssm::StepInfo<double>> figures;
    if (!settles) return std::pair(step, figures);
    const double end = ssm::dc_gain(system)(0, 0);
    step.final_value = end;
    double most = 0;
    for (const double y : step.output) most = std::max(most, std::abs(y));
    if (!(std::abs(end) > 1e-9 * most)) return std::pair(step, figures);

    // What jumps at t = 0 was 0 before.
    std::vector<double> time = step.time, output = step.output;
    if (output.front() != 0) {
      time.insert(time.begin(), -1e-9 * h);
      output.insert(output.begin(), 0.);
    }
    const auto size = static_cast<Eigen::Index>(time.size());
    figures = ssm::step_info(Eigen::Map<const Eigen::VectorXd>(time.data(), size),
                             Eigen::Map<const Eigen::VectorXd>(output.data(), size), end);
    const auto note = [&](double at, const std::string& words) {
      const auto sample = std::min<std::size_t>(
          static_cast<std::size_t>(std::lower_bound(time.begin(), time.end(), at - .5 * h) -
                                   time.begin()),
          time.size() - 1);
      step.notes.push_back({time[sample], output[sample], words});
    };
    if (figures->settling_time > h)
      note(figures->settling_time, job::format("within 2%% from %.3g s", figures->settling_time));
    if (figures->overshoot > .1)
      note(figures->peak_time, job::format("overshoot %.3g%% at %.3g s", figures->overshoot,
                                           std::abs(figures->peak_time)));
    if (figures->rise_time > h)
      for (std::size_t i = 0; i < time.size(); ++i)
        if (output[i] / end >= .9) {
          note(time[i], job::format("rises from 10 to 90%% in %.3g s", figures->rise_time));
          break;
        }
    return std::pair(step, figures);
  });
}

std::vector<GainRange> stable_gains(const Channel& channel, const ssm::Margins& margins) {
  std::vector<double> edges{0};
  for (const ssm::GainMargin& margin : margins.gains) edges.push_back(margin.factor);
  std::sort(edges.begin(), edges.end());
  if (channel.plant.delay == 0)
    edges.push_back(infinity);
  else if (edges.size() > 4)
    edges.resize(4);  // of crossings without end: the loop is the less stable the larger the gain
  std::vector<GainRange> ranges;
  for (std::size_t i = 1; i < edges.size(); ++i) {
    const double from = edges[i - 1], to = edges[i];
    const double between = std::isinf(to) ? (from > 0 ? 2 * from : 1)
                           : from > 0     ? std::sqrt(from) * std::sqrt(to)
                                          : to / 2;
    if (!(to > from * (1 + 1e-9)) || !is_stable(channel, between)) continue;
    if (!ranges.empty() && ranges.back().to == from)
      ranges.back().to = to;
    else
      ranges.push_back({from, to});
  }
  return ranges;
}

Locus locus_of(const Channel& channel, const ssm::Margins& margins, std::optional<double> largest) {
  Locus locus;
  const auto transfer = ssm::transfer_function(factors_of(channel));
  ssm::RootLocus found = ssm::root_locus(transfer);
  if (largest) {
    std::erase_if(found.gain, [&](double k) { return k >= *largest; });
    found.gain.push_back(*largest);
    found = ssm::root_locus(transfer, found.gain);
  }
  locus.branches = found.branch;
  for (const ssm::GainMargin& margin : margins.gains) {
    const bool right = !channel.approximated || margin.frequency < channel.right_below;
    if (margin.factor > largest.value_or(infinity) || std::isinf(margin.frequency) || !right)
      continue;
    const auto& delta = channel.plant.delta;
    const Complex at =
        delta ? std::polar(1., margin.frequency * *delta) : Complex(0, margin.frequency);
    locus.notes.push_back({at.real(), at.imag(), job::format("k = %.3g", margin.factor)});
  }
  return locus;
}

}  // namespace plant
