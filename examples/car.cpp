// A car of six states, of which meters see two: steering and pedals go in, a speedometer and a GPS
// that comes when it likes come out. An extended Kalman filter tells where the car is, where it
// points and how it slides.

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "job.hpp"
#include "noise.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "ssm/estimate/extended_kalman.hpp"

namespace {

using State = Eigen::Matrix<double, 6, 1>;
using Controls = Eigen::Vector2d;
using Belief = ssm::Belief<double, 6>;

/// Where each state stands: position (m), heading (rad, from east), forward and sideways speed
/// (m/s), and turning rate (rad/s).
enum { east, north, heading, forward, sideways, turning };
/// The angle of the front wheels (rad), and what the pedals ask for (m/s²).
enum { steering, pedals };

/// x' = f(x, u): a car with one wheel in front and one behind, whose tyres push sideways in
/// proportion to the angle at which they slip (Rajamani, Vehicle Dynamics and Control, section
/// 2.3). It rolls forward, at more than walking speed.
template <class Vector>
auto motion(const Vector& x, const Controls& u) {
  using std::cos, std::sin;
  using T = typename Vector::Scalar;
  constexpr double mass = 1500, inertia = 2500, to_front = 1.2, to_rear = 1.5;  // kg, kg m², m
  constexpr double front_grip = 8e4, rear_grip = 9e4;                           // N/rad
  constexpr double drag = 4e-4;                                                 // 1/m
  const T c = cos(x(heading)), s = sin(x(heading));
  const T front = front_grip * (u(steering) - (x(sideways) + to_front * x(turning)) / x(forward));
  const T rear = -rear_grip * (x(sideways) - to_rear * x(turning)) / x(forward);
  Eigen::Matrix<T, 6, 1> slope;
  slope << x(forward) * c - x(sideways) * s, x(forward) * s + x(sideways) * c, x(turning),
      u(pedals) - drag * x(forward) * x(forward) + x(sideways) * x(turning),
      (front + rear) / mass - x(forward) * x(turning),
      (to_front * front - to_rear * rear) / inertia;
  return slope;
}

/// What the driver does at a time (s) and a speed (m/s): swings from bend to bend and keeps to
/// 10 m/s, a little restless with the pedals.
Controls driver(double t, double speed) {
  return {.09 * std::sin(.21 * t) + .05 * std::sin(.47 * t + 1),
          .4 * (10 - speed) + .6 * std::sin(.5 * t)};
}

/// Bumps and gusts: the density of the noise on x', in x' squared seconds.
State road_noise() { return (State() << 0, 0, 0, .04, .1, .01).finished(); }

// Standard deviations: m/s, m and rad.
constexpr double speed_error = .5, gps_error = 5, compass_error = .3;

struct Options {
  double seconds = 60, tunnel_from = 24, tunnel_to = 32;
  std::uint64_t seed = 2;
  std::string svg;
};

Options parse(int argc, char* argv[]) {
  options::Command app{"A car's hidden state from a noisy speedometer and an irregular GPS"};
  Options o;
  app.add("--seconds", o.seconds, "how long to drive, s")
      .check(options::between(5., 3600.))
      .show_default();
  app.add("--tunnel-from", o.tunnel_from, "the GPS is lost from here, s").show_default();
  app.add("--tunnel-to", o.tunnel_to, "the GPS is back, s").show_default();
  app.add("--seed", o.seed, "of the road and the meters").show_default();
  app.add("--svg", o.svg, "write the plot to this file");
  if (const auto ended = app.parse(argc, argv)) std::exit(*ended);
  return o;
}

/// The car itself: fine steps of Runge and Kutta, the road's noise after each.
void drive(State& x, const Controls& u, double seconds, Noise& road) {
  const int steps = std::max(1, static_cast<int>(std::ceil(seconds / 2e-3)));
  const double h = seconds / steps;
  for (int i = 0; i < steps; ++i) {
    const State k1 = motion(x, u), k2 = motion(State(x + h / 2 * k1), u);
    const State k3 = motion(State(x + h / 2 * k2), u), k4 = motion(State(x + h * k3), u);
    x += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
    x += (h * road_noise()).cwiseSqrt().cwiseProduct(road.normal<6>());
  }
}

/// The first belief: at the first fix, as fast as the first reading says, and roughly that way.
Belief first_belief(const Eigen::Vector2d& fix, double speed, double compass) {
  const State doubt =
      (State() << gps_error, gps_error, compass_error, speed_error, .5, .1).finished();
  Belief belief;
  belief.mean << fix, compass, speed, 0, 0;
  belief.covariance = doubt.cwiseAbs2().asDiagonal();
  return belief;
}

/// Twice the square of a normal distribution's radius in the plane that 95% lie within.
constexpr double within_95 = 5.991464547107979;

/// Adds the ellipse that the position lies in with 95%: fix by fix of L (cos a, sin a), where
/// L Lᵀ is the covariance.
void add_ellipse(const Belief& belief, plot::Series& ellipses) {
  const Eigen::Matrix2d P = belief.covariance.topLeftCorner<2, 2>();
  Eigen::Matrix2d L = Eigen::Matrix2d::Zero();
  L(0, 0) = std::sqrt(P(0, 0));
  L(1, 0) = P(1, 0) / L(0, 0);
  L(1, 1) = std::sqrt(std::max(0., P(1, 1) - L(1, 0) * L(1, 0)));
  for (int i = 0; i <= 40; ++i) {
    const double angle = 6.283185307179586 * i / 40;
    const Eigen::Vector2d around(std::cos(angle), std::sin(angle));
    const Eigen::Vector2d p = belief.mean.head<2>() + std::sqrt(within_95) * (L * around);
    ellipses.x.push_back(p(0));
    ellipses.y.push_back(p(1));
  }
  ellipses.x.push_back(std::numeric_limits<double>::quiet_NaN());  // the pen is lifted
  ellipses.y.push_back(std::numeric_limits<double>::quiet_NaN());
}

/// Root mean squares of what was off, gathered over the drive.
struct Errors {
  State estimate = State::Zero();
  double position = 0, gps = 0, normalized = 0;
  int samples = 0, fixes = 0, inside = 0;
};

int run(const Options& o) {
  Noise road(o.seed), meters(o.seed + 1000);
  State truth = (State() << 0, 0, -1.3, 10, 0, 0).finished();
  std::optional<Belief> belief;  // from the first fix on
  const double compass = truth(heading) + compass_error * meters.normal();
  double speed = truth(forward) + speed_error * meters.normal();
  const Eigen::Matrix<double, 6, 6> Q = road_noise().asDiagonal();

  plot::Series fixes{"GPS", plot::Style::dots, {}, {}};
  plot::Series path{"car", plot::Style::line, {}, {}};
  plot::Series estimated{"estimate", plot::Style::line, {}, {}};
  std::vector<plot::Note> notes;
  plot::Series ellipses{"where it is with 95%", plot::Style::line, {}, {}, 4};
  Errors errors;
  std::printf(
      "A car with a speedometer (20 readings a second, off by %g m/s) and a GPS (a fix every\n"
      "0.3 to 2 s, off by %g m each way, none in the tunnel from %g to %g s).\n\n"
      "          position, m    speed, m/s    heading, deg   sideways, m/s   turning, deg/s\n"
      "  t, s       off by    true estimate  true estimate  true estimate   true estimate\n",
      speed_error, gps_error, o.tunnel_from, o.tunnel_to);

  constexpr double tick = .05, degrees = 57.29577951308232;
  double now = 0, next_fix = .7;
  bool tunnel = false;
  Controls u = driver(now, truth(forward));
  const Eigen::Matrix<double, 1, 1> speed_noise(speed_error * speed_error);
  const Eigen::Matrix2d gps_noise = gps_error * gps_error * Eigen::Matrix2d::Identity();
  const auto advance = [&](double to) {
    drive(truth, u, to - now, road);
    if (belief)
      ssm::extended_predict([&](const auto& x) { return motion(x, u); }, Q, to - now, *belief);
    now = to;
  };
  const int ticks = static_cast<int>(std::floor(o.seconds / tick + 1e-9));
  for (int k = 1; k <= ticks; ++k) {
    for (; next_fix < k * tick; next_fix += meters.uniform(.3, 2)) {
      if (next_fix >= o.tunnel_from && next_fix < o.tunnel_to) continue;
      advance(next_fix);
      const Eigen::Vector2d fix = truth.head<2>() + gps_error * meters.normal<2>();
      if (belief)
        ssm::extended_correct([](const auto& x) { return x.template head<2>().eval(); }, gps_noise,
                              fix, *belief);
      else
        belief = first_belief(fix, speed, compass);
      fixes.x.push_back(fix(0));
      fixes.y.push_back(fix(1));
      errors.gps += (fix - truth.head<2>()).squaredNorm();
      ++errors.fixes;
    }
    advance(k * tick);
    u = driver(now, truth(forward));
    speed = truth(forward) + speed_error * meters.normal();
    path.x.push_back(truth(east));
    path.y.push_back(truth(north));
    if (!belief) continue;
    ssm::extended_correct([](const auto& x) { return x.template segment<1>(forward).eval(); },
                          speed_noise, Eigen::Matrix<double, 1, 1>(speed), *belief);

    const auto& [mean, covariance] = *belief;
    estimated.x.push_back(mean(east));
    estimated.y.push_back(mean(north));
    const bool was_in_tunnel = tunnel;
    tunnel = now >= o.tunnel_from && now < o.tunnel_to;
    if (tunnel != was_in_tunnel)
      notes.push_back({truth(east), truth(north), tunnel ? "into the tunnel" : "out of it"});
    if (estimated.x.size() % (tunnel ? 40 : 120) == 1) add_ellipse(*belief, ellipses);
    const State off = mean - truth;
    if (now > 5) {  // the first seconds find out which way the car goes
      errors.estimate += off.cwiseAbs2();
      errors.position += off.head<2>().squaredNorm();
      errors.normalized +=
          ssm::squared_distance(ssm::Innovation<double, 6, 6>{off, covariance, {}});
      errors.inside += ssm::squared_distance(ssm::Innovation<double, 6, 2>{
                           off.head<2>(), covariance.topLeftCorner<2, 2>(), {}}) < within_95;
      ++errors.samples;
    }
    if (k % (ticks / 12 > 0 ? ticks / 12 : 1) == 0)
      std::printf("%6.1f %12.2f %7.2f %8.2f %7.1f %8.1f %6.2f %8.2f %7.1f %8.1f%s\n", now,
                  off.head<2>().norm(), truth(forward), mean(forward), degrees * truth(heading),
                  degrees * mean(heading), truth(sideways), mean(sideways),
                  degrees * truth(turning), degrees * mean(turning), tunnel ? "  tunnel" : "");
  }

  plot::Plot picture{"A car, its GPS, and where the filter believes it is",
                     "east (m)",
                     "north (m)",
                     {fixes, path, estimated, ellipses}};
  picture.equal = true;
  picture.notes = notes;
  plot::show(picture, o.svg);

  const double count = std::max(1, errors.samples), gps = std::max(1, errors.fixes);
  const State rms = (errors.estimate / count).cwiseSqrt();
  const double position = std::sqrt(errors.position / count), fix = std::sqrt(errors.gps / gps);
  const double normalized = errors.normalized / count / 6;
  std::printf(
      "root mean square errors after 5 s: position %.2f m (a GPS fix: %.2f m), speed %.2f m/s\n"
      "(a speedometer reading: %.2f m/s), heading %.1f deg, sideways %.2f m/s, turning %.1f "
      "deg/s,\n"
      "the last three of which no meter reads. Squared errors are %.2f of what the filter "
      "expects,\nand the car is within its ellipse of 95%% for %.0f%% of the time.\n",
      position, fix, rms(forward), speed_error, degrees * rms(heading), rms(sideways),
      degrees * rms(turning), normalized, 100 * errors.inside / count);
  const bool right = position < .75 * fix && rms(forward) < .75 * speed_error && normalized < 2;
  std::puts(right ? "The filter knows more than its meters."
                  : "The filter does NOT know more than its meters.");
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char* argv[]) {
  const Options options = parse(argc, argv);
  return job::main(argv[0], [&] { return run(options); });
}
