// A drone holds its height while the radio that carries its readings comes and goes: a regulator
// with an integrator, made anew for every interval, beside one of fixed gains that was made for
// the mean interval. Halfway a load is hung below, of which nobody tells.

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "job.hpp"
#include "noise.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/system/lqr.hpp"

namespace {

using Number = Eigen::Matrix<double, 1, 1>;

/// What the filter believes: the height (m) and the climb (m/s), the lift of the rotors beyond
/// hovering and the pull of whatever else (both m/s²). The input is the lift that is asked for.
enum { height, climb, lift, pull };
using Belief = ssm::Belief<double, 4>;
using Filter = ssm::NoisyStateSpace<double, 4, 1, 1>;

/// The regulator knows no pull: it has the integral of the height's error (m s) in its place.
enum { integral = 3 };

constexpr double rotor_lag = .15, drag = .2;    // s and 1/s
constexpr double reading_error = .05;           // of the height, standard deviation, m
constexpr double load = -1.5;                   // its pull, m/s²
constexpr double shortest = .05, longest = .9;  // intervals, s

/// x' = A x + B u with one more state, which pulls or integrates.
ssm::StateSpace<double, 4, 1, 1> drone(bool integrates) {
  Eigen::Matrix4d A = Eigen::Matrix4d::Zero();
  A(height, climb) = 1;
  A(climb, climb) = -drag;
  A(climb, lift) = 1;
  A(lift, lift) = -1 / rotor_lag;
  if (integrates)
    A(integral, height) = 1;
  else
    A(climb, pull) = 1;
  return {A, Eigen::Vector4d(0, 0, 1 / rotor_lag, 0), Eigen::RowVector4d(1, 0, 0, 0)};
}

/// The gains for a control that is held for `interval` seconds: the sampled system is exact, and
/// a sample costs as much as the time that it stands for.
Eigen::RowVector4d gains(double interval) {
  const Eigen::Vector4d worth(20, 10, 0, 8);
  const auto sampled = ssm::zero_order_hold(drone(true), interval);
  return ssm::discrete_lqr(sampled, interval * Eigen::Matrix4d(worth.asDiagonal()),
                           Number(interval))
      .K;
}

/// The height that is wanted at a time, m.
double wanted(double t) { return t < 2 ? 0 : t < 30 ? 2 : 1; }

struct Slot {
  double time, interval;  ///< of the slot, and to the next, which the radio tells; s
  bool heard;             ///< whether the reading came through
  double noise;
};

std::vector<Slot> radio(double seconds, double losses, Noise& noise) {
  std::vector<Slot> slots;
  for (double t = 0; t < seconds;) {
    const bool outage = noise.uniform(0, 1) < .12;
    const double interval = outage ? noise.uniform(.5, longest) : noise.uniform(shortest, .25);
    const bool heard = noise.uniform(0, 1) >= losses;
    slots.push_back({t, interval, heard, reading_error * noise.normal()});
    t += interval;
  }
  return slots;
}

struct Flight {
  plot::Series flown, control, believed;
  double squares = 0, normalized = 0;  ///< of the height's error over time; of the filter's errors
  double late = 0;                     ///< the mean error of the last 10 s
  int readings = 0;
};

/// Flies through the slots. With `interval`, filter and regulator take every one for that long.
Flight fly(const std::vector<Slot>& slots, double seconds, double loaded_at, double interval) {
  Flight flight{{"", plot::Style::line, {}, {}},
                {"", plot::Style::line, {}, {}},
                {"", plot::Style::line, {}, {}}};
  const bool fixed = interval > 0;
  const Filter filter(drone(false), Eigen::Vector4d(0, .02, 0, .05).asDiagonal().toDenseMatrix(),
                      Number(reading_error * reading_error));
  const Eigen::RowVector4d fixed_gains = gains(fixed ? interval : 1);
  Belief belief{Eigen::Vector4d::Zero(), Eigen::Vector4d(.1, .1, .1, .1).asDiagonal()};
  Eigen::Vector4d x = Eigen::Vector4d::Zero();
  double sum = 0, asked = 0;
  for (const Slot& slot : slots) {
    if (slot.heard) {
      const auto told = ssm::kalman_update(filter, asked, x(height) + slot.noise, belief);
      flight.normalized += ssm::squared_distance(told);
      ++flight.readings;
    }
    const double step = fixed ? interval : slot.interval;
    const Eigen::RowVector4d K = fixed ? fixed_gains : gains(slot.interval);
    const Eigen::Vector4d off(belief.mean(height) - wanted(slot.time), belief.mean(climb),
                              belief.mean(lift), sum);
    asked = std::clamp(-K.dot(off), -6., 6.);  // what the rotors can do
    // The integral moves with what is believed, exactly over the interval.
    const auto ahead = ssm::zero_order_hold(drone(true), step);
    const Eigen::Vector4d next = ahead.A_bar() * off + ahead.B_bar() * asked;
    if (std::abs(asked) < 6) sum = next(integral);  // it waits while the rotors cannot follow
    ssm::kalman_predict(filter, step, asked, belief);

    // The drone itself, in pieces that end where the load comes.
    constexpr double piece = .01;
    for (double t = slot.time; t < slot.time + slot.interval && t < seconds; t += piece) {
      const double h = std::min(piece, slot.time + slot.interval - t);
      x(pull) = t < loaded_at ? 0 : load;
      flight.flown.x.push_back(t);
      flight.flown.y.push_back(x(height));
      flight.control.x.push_back(t);
      flight.control.y.push_back(asked);
      flight.believed.x.push_back(t);
      flight.believed.y.push_back(belief.mean(pull));
      const double error = x(height) - wanted(t);
      flight.squares += h * error * error;
      if (t > seconds - 10) flight.late += h * error / 10;
      const auto moved = ssm::zero_order_hold(drone(false), h);
      x = moved.A_bar() * x + moved.B_bar() * asked;
    }
  }
  return flight;
}

struct Options {
  double seconds = 45, loaded_at = 16, losses = .3;
  std::uint64_t seed = 1;
  std::string svg;
};

Options parse(int argc, char* argv[]) {
  options::Command app{"A drone holds its height over a radio that comes and goes"};
  Options o;
  app.add("--seconds", o.seconds, "how long to fly, s")
      .check(options::between(40., 3600.))
      .show_default();
  app.add("--loaded-at", o.loaded_at, "the load is hung below, s")
      .check(options::not_negative)
      .show_default();
  app.add("--losses", o.losses, "the part of the readings that is lost")
      .check(options::between(0., .8))
      .show_default();
  app.add("--seed", o.seed, "of the radio and the meter").show_default();
  app.add("--svg", o.svg, "write the plot to this file");
  if (const auto ended = app.parse(argc, argv)) std::exit(*ended);
  return o;
}

int run(const Options& o) {
  Noise noise(o.seed);
  const std::vector<Slot> slots = radio(o.seconds, o.losses, noise);
  const double mean =
      (slots.back().time + slots.back().interval) / static_cast<double>(slots.size());
  Flight exact = fly(slots, o.seconds, o.loaded_at, 0);
  Flight naive = fly(slots, o.seconds, o.loaded_at, mean);
  std::printf(
      "A drone whose height is read to %g m over a radio: every %g to %g s, %.2f s in the mean,\n"
      "and %.0f%% of the readings are lost. At %g s a load is hung below, of %g m/s².\n\n"
      "gains of the regulator for   height   climb    lift   integral\n",
      reading_error, shortest, longest, mean, 100 * o.losses, o.loaded_at, load);
  for (const double interval : {shortest, mean, longest}) {
    const Eigen::RowVector4d K = gains(interval);
    std::printf("  an interval of %5.2f s   %9.2f %7.2f %7.2f %9.2f\n", interval, K(height),
                K(climb), K(lift), K(integral));
  }

  plot::Series reference{"wanted", plot::Style::dashes, {}, {}, 4};
  plot::Series truth{"true", plot::Style::dashes, {}, {}, 4};
  for (const double t : exact.flown.x) {
    reference.x.push_back(t);
    reference.y.push_back(wanted(t));
    truth.x.push_back(t);
    truth.y.push_back(t < o.loaded_at ? 0 : load);
  }
  exact.flown.name = "each interval exact";
  naive.flown.name = "fixed gains for the mean interval";
  const auto panel = [&](const char* label, std::vector<plot::Series> series) {
    for (plot::Series& s : series)
      if (s.color < 0) s.color = &s == &series.front() ? 1 : 0;
    plot::Plot plot{"A drone over a radio that comes and goes", "time t (s)", label, series};
    plot.x_range = {0, o.seconds};
    return plot;
  };
  plot::Plot heights = panel("height (m)", {naive.flown, exact.flown, reference});
  heights.notes = {{o.loaded_at, wanted(o.loaded_at), "a load is hung below"}};
  plot::show(
      plot::Figure({heights, panel("lift asked for (m/s²)", {naive.control, exact.control}),
                    panel("estimated pull (m/s²)", {naive.believed, exact.believed, truth})}),
      o.svg);

  const double off = std::sqrt(exact.squares / o.seconds);
  const double naive_off = std::sqrt(naive.squares / o.seconds);
  const double surprise = exact.normalized / exact.readings;
  const double naive_surprise = naive.normalized / naive.readings;
  std::printf(
      "root mean square of the height's error: %.2f m with each interval exact, %.2f m with fixed\n"
      "gains. Readings surprise the filter %.1f times as much as it expects, and the other %.1f\n"
      "times. The integrator has taken the load up: %.2f m off in the mean of the last 10 s.\n",
      off, naive_off, surprise, naive_surprise, exact.late);
  const bool better = off < .9 * naive_off && std::abs(exact.late) < .2;
  std::puts(better ? "It pays to know how long an interval is."
                   : "It does NOT pay to know how long an interval is.");
  return better ? 0 : 1;
}

}  // namespace

int main(int argc, char* argv[]) {
  const Options options = parse(argc, argv);
  return job::main(argv[0], [&] { return run(options); });
}
