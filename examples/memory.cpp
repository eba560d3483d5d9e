// Three memories of one signal, each of a few numbers: LegS keeps all of the past, ever more
// coarsely; LegT and Fourier keep a window, and know nothing of what lies behind its edge.

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <string>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "ssm/core/eigen.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/scan/recurrence.hpp"
#include "ssm/system/hippo.hpp"

namespace {

struct Options {
  ssm::Index state = 48;
  double window = 8, dt = 0.005, seconds = 60, shown = 24;
  std::string svg;
};

/// A slow swing with a faster one on it.
double signal(double t) {
  constexpr double turn = 2 * std::numbers::pi;
  return std::sin(turn * 0.11 * t) + 0.4 * std::sin(turn * 0.83 * t + 1) +
         0.25 * std::sin(turn * 0.47 * t + 2);
}

struct Memory {
  const char* name;
  ssm::Hippo measure;
  bool ends;  // at the edge of its window
  Eigen::VectorXd c;

  /// Listens to u, sampled every dt.
  void listen(const Options& o, const ssm::Tensor<double, 2>& u) {
    const auto system = ssm::hippo(measure, o.state, o.window);
    ssm::Tensor<double, 2> y({u.extent(0), o.state});
    ssm::Tensor<double, 1> state({o.state});
    ssm::RecurrenceScratch<double> scratch;
    ssm::recurrence(ssm::cpu, ssm::zero_order_hold(system, o.dt), {u}, {ssm::Readout::after},
                    {y, state}, scratch);
    c = ssm::as_eigen(state.view());
  }

  [[nodiscard]] bool knows(const Options& o, double s) const { return !ends || s <= o.window; }

  /// What it says of the time s ago.
  [[nodiscard]] double recall(const Options& o, double s) const {
    return ssm::hippo_basis(measure, o.state, o.window, s).dot(c);
  }
};

Options parse(int argc, char* argv[]) {
  options::Command app{"What a state of few numbers still knows of a long signal"};
  Options o;
  app.add("--state", o.state, "numbers in each memory")
      .check(options::between(2, 256))
      .show_default();
  app.add("--window", o.window, "of LegT and Fourier, and the time scale of LegS, s")
      .check(options::positive)
      .show_default();
  app.add("--svg", o.svg, "write the plot to this file");
  if (const auto ended = app.parse(argc, argv)) std::exit(*ended);
  return o;
}

int remember(const Options& o) {
  const auto length = static_cast<ssm::Index>(std::lround(o.seconds / o.dt));
  ssm::Tensor<double, 2> u({length, 1});
  // A sample holds over the step after it: what it stands for is the middle of that step.
  for (ssm::Index t = 0; t < length; ++t) u(t, 0) = signal(o.dt * (static_cast<double>(t) + 0.5));

  std::array<Memory, 3> memories{{{"LegS", ssm::Hippo::legs, false, {}},
                                  {"LegT", ssm::Hippo::legt, true, {}},
                                  {"Fourier", ssm::Hippo::fourier, true, {}}}};
  for (Memory& memory : memories) memory.listen(o, u);

  std::printf(
      "Three memories of %lld numbers listened to %g s of a signal, %lld samples.\n"
      "LegT and Fourier keep the last %g s, LegS all of it under a weight of e^(-s/%g s).\n\n"
      "  error of what is recalled, root mean square (the signal itself: 0.78)\n"
      "      s ago",
      static_cast<long long>(o.state), o.seconds, static_cast<long long>(length), o.window,
      o.window);
  for (const Memory& memory : memories) std::printf("%12s", memory.name);
  std::puts("");

  constexpr int points = 100;
  const std::vector<double> edges{0,        o.window / 8, o.window / 2, o.window * 7 / 8,
                                  o.window, o.window * 2, o.shown};
  std::vector<std::array<double, 3>> errors;
  for (std::size_t band = 0; band + 1 < edges.size(); ++band) {
    const double from = edges[band], to = edges[band + 1];
    if (!(to > from)) continue;
    std::printf("%5.4g … %-5.4g", from, to);
    std::array<double, 3> rms{};
    for (std::size_t m = 0; m < memories.size(); ++m) {
      if (!memories[m].knows(o, to)) {
        std::printf("%12s", "nothing");
        continue;
      }
      double sum = 0;
      for (int i = 0; i < points; ++i) {
        const double s = from + (to - from) * (i + 0.5) / points;
        const double error = memories[m].recall(o, s) - signal(o.seconds - s);
        sum += error * error;
      }
      rms[m] = std::sqrt(sum / points);
      std::printf("%12.5f", rms[m]);
    }
    errors.push_back(rms);
    std::puts("");
  }

  constexpr int curve_points = 900;
  plot::Plot picture{"What " + std::to_string(o.state) +
                         " numbers know: LegS of all the past, LegT and Fourier of " +
                         plot::number(o.window) + " s",
                     "time before now (s)",
                     "signal",
                     {}};
  const auto curve = [&](const std::string& name, const auto& value, double oldest) {
    plot::Series series{name, plot::Style::line, {}, {}};
    for (int i = 0; i <= curve_points; ++i) {
      const double s = o.shown * (1 - static_cast<double>(i) / curve_points);
      if (s > oldest) continue;
      series.x.push_back(-s);
      series.y.push_back(value(s));
    }
    picture.series.push_back(series);
  };
  curve(
      "the signal", [&](double s) { return signal(o.seconds - s); }, o.shown);
  for (const Memory& memory : memories)
    curve(
        memory.name, [&](double s) { return memory.recall(o, s); },
        memory.ends ? o.window : o.shown);
  plot::show(picture, o.svg);

  const bool sharp_then_smooth = errors.front()[0] < errors.back()[0];
  const bool window_kept = errors[1][1] < errors.back()[0];
  std::printf("LegS is sharper on the near past than on the far one: %s\n",
              sharp_then_smooth ? "yes" : "NO");
  std::printf("LegT knows its window better than LegS the far past: %s\n",
              window_kept ? "yes" : "NO");
  return sharp_then_smooth && window_kept ? 0 : 1;
}

}  // namespace

int main(int argc, char* argv[]) {
  const Options options = parse(argc, argv);
  return job::main(argv[0], [&] { return remember(options); });
}
