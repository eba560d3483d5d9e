// An aircraft of twelve states: its equations of motion are trimmed, linearized, and flown back to
// a line in the sky through turbulence by a linear-quadratic regulator that sees no state, only
// what a Kalman filter makes of noisy meters.

#include <Eigen/Core>
#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "job.hpp"
#include "noise.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/system/linearize.hpp"
#include "ssm/system/lqr.hpp"
#include "ssm/system/poles_zeros.hpp"

namespace {

/// Place against a point that flies north along the line (m), roll, pitch and yaw (rad), speed
/// forward, right and down along the body's axes (m/s), and turning about them (rad/s).
enum { north, east, height, roll, pitch, yaw, forward, right, down, rolling, pitching, yawing };
/// Control surfaces (rad) and thrust (N).
enum { elevator, aileron, rudder, thrust };
/// What meters read: 50 times a second but for the GPS, which comes when it likes.
enum { airspeed, barometer, gyro_roll, gyro_pitch, gyro_yaw, gps_north, gps_east };

using State = Eigen::Matrix<double, 12, 1>;
using Controls = Eigen::Vector4d;
using Readings = Eigen::Matrix<double, 7, 1>;
using Measured = Eigen::Array<bool, 7, 1>;

constexpr double cruise = 25, degrees = 57.29577951308232;  // m/s

/// x' = f(x, u) of the Aerosonde, a drone of 13.5 kg and 2.9 m span (Beard & McLain, Small Unmanned
/// Aircraft, 2012, eqs. 5.1 to 5.12 and table E.2; lift linear in the angle of attack).
template <class X, class U>
auto motion(const X& x, const U& u) {
  using std::sin, std::cos, std::tan, std::sqrt, std::atan2, std::asin;
  using T = decltype(x(0) + u(0));
  constexpr double mass = 13.5, gravity = 9.81, density = 1.2682, area = .55, span = 2.8956,
                   chord = .18994;
  constexpr double Jx = .8244, Jy = 1.135, Jz = 1.759, Jxz = .1204;  // kg m²
  constexpr double lift_to_drag = area / (3.14159265358979 * .9 * span * span);

  const T p = x(rolling), q = x(pitching), r = x(yawing);
  const T speed = sqrt(x(forward) * x(forward) + x(right) * x(right) + x(down) * x(down));
  const T attack = atan2(x(down), x(forward)), slip = asin(x(right) / speed);
  const T push = density * area / 2 * speed * speed;
  const T half_span = span / 2 / speed, half_chord = chord / 2 / speed;
  const T lift_factor = .28 + 3.45 * attack - .36 * u(elevator);
  const T lift = push * lift_factor,
          drag = push * (.0437 + lift_to_drag * lift_factor * lift_factor);
  const T side = push * (-.98 * slip - .17 * u(rudder));
  const T roll_moment =
      push * span *
      (-.12 * slip + half_span * (-.26 * p + .14 * r) + .08 * u(aileron) + .105 * u(rudder));
  const T pitch_moment =
      push * chord * (-.02338 - .38 * attack - 3.6 * half_chord * q - .5 * u(elevator));
  const T yaw_moment =
      push * span *
      (.25 * slip + half_span * (.022 * p - .35 * r) + .06 * u(aileron) - .032 * u(rudder));

  const T sr = sin(x(roll)), cr = cos(x(roll)), sp = sin(x(pitch)), cp = cos(x(pitch));
  const T sy = sin(x(yaw)), cy = cos(x(yaw));
  const T across = sr * x(right) + cr * x(down), sideways = cr * x(right) - sr * x(down);
  const T level = cp * x(forward) + sp * across;
  const T L = roll_moment + Jxz * p * q + (Jy - Jz) * q * r;
  const T N = yaw_moment - Jxz * q * r + (Jx - Jy) * p * q;
  constexpr double determinant = Jx * Jz - Jxz * Jxz;

  Eigen::Matrix<T, 12, 1> slope;
  slope(north) = cy * level - sy * sideways - cruise;
  slope(east) = sy * level + cy * sideways;
  slope(height) = sp * x(forward) - cp * across;
  slope(roll) = p + (q * sr + r * cr) * tan(x(pitch));
  slope(pitch) = q * cr - r * sr;
  slope(yaw) = (q * sr + r * cr) / cp;
  slope(forward) = r * x(right) - q * x(down) - gravity * sp +
                   (u(thrust) + lift * sin(attack) - drag * cos(attack)) / mass;
  slope(right) = p * x(down) - r * x(forward) + gravity * sr * cp + side / mass;
  slope(down) = q * x(forward) - p * x(right) + gravity * cr * cp -
                (lift * cos(attack) + drag * sin(attack)) / mass;
  slope(rolling) = (Jz * L + Jxz * N) / determinant;
  slope(pitching) = (pitch_moment + (Jz - Jx) * p * r - Jxz * (p * p - r * r)) / Jy;
  slope(yawing) = (Jxz * L + Jx * N) / determinant;
  return slope;
}

template <class X>
auto meters(const X& x) {
  using std::sqrt;
  using T = typename X::Scalar;
  Eigen::Matrix<T, 7, 1> y;
  y << sqrt(x(forward) * x(forward) + x(right) * x(right) + x(down) * x(down)), x(height),
      x(rolling), x(pitching), x(yawing), x(north), x(east);
  return y;
}

/// Standard deviations of the readings: m/s, m, rad/s, m.
Readings reading_errors() { return (Readings() << .8, 2.5, .02, .02, .02, 3, 3).finished(); }

/// Turbulence: the density of the noise on x', in x' squared seconds.
State turbulence() { return (State() << 0, 0, 0, 0, 0, 0, .3, .5, .5, .02, .02, .02).finished(); }

struct Trim {
  State x;
  Controls u;
};

/// Level flight north at cruise speed: Newton's method on the angle of attack, the elevator and the
/// thrust, until nothing accelerates.
Trim level_flight() {
  const auto settings = [](const auto& unknown) {
    using std::cos, std::sin;
    using T = typename std::decay_t<decltype(unknown)>::Scalar;
    Eigen::Matrix<T, 12, 1> x = Eigen::Matrix<T, 12, 1>::Constant(T(0));
    Eigen::Matrix<T, 4, 1> u = Eigen::Matrix<T, 4, 1>::Constant(T(0));
    x(pitch) = unknown(0);
    x(forward) = cruise * cos(unknown(0));
    x(down) = cruise * sin(unknown(0));
    u(elevator) = unknown(1);
    u(thrust) = unknown(2);
    return std::pair(x, u);
  };
  const auto accelerations = [&](const auto& unknown) {
    using T = typename std::decay_t<decltype(unknown)>::Scalar;
    const auto [x, u] = settings(unknown);
    const auto slope = motion(x, u);
    return Eigen::Matrix<T, 3, 1>(slope(forward), slope(down), slope(pitching));
  };
  Eigen::Vector3d unknown(.05, 0, 10);
  for (int i = 0; i < 20; ++i)
    unknown -= ssm::jacobian(accelerations, unknown).inverse() * accelerations(unknown);
  if (!(accelerations(unknown).norm() < 1e-9))
    throw std::runtime_error("no level flight at this speed");
  const auto [x, u] = settings(unknown);
  return {x, u};
}

/// The aircraft itself: fine steps of Runge and Kutta, the air's noise after each.
void fly(State& x, const Controls& u, double seconds, Noise& air) {
  const int steps = std::max(1, static_cast<int>(std::ceil(seconds / 4e-3)));
  const double h = seconds / steps;
  for (int i = 0; i < steps; ++i) {
    const State k1 = motion(x, u), k2 = motion(State(x + h / 2 * k1), u);
    const State k3 = motion(State(x + h / 2 * k2), u), k4 = motion(State(x + h * k3), u);
    x += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
    x += (h * turbulence()).cwiseSqrt().cwiseProduct(air.normal<12>());
  }
}

/// The modes of a system, each pair of poles once.
template <class System>
void print_modes(const char* name, const System& system) {
  const auto found = ssm::poles(system);
  std::vector<std::complex<double>> poles(found.begin(), found.end());
  std::sort(poles.begin(), poles.end(), [](auto a, auto b) {
    return std::pair(a.real(), a.imag()) < std::pair(b.real(), b.imag());
  });
  std::printf("%s\n", name);
  for (const auto pole : poles) {
    if (pole.imag() < 0) continue;
    std::string motion = "stays";
    char text[64];
    if (std::abs(pole.real()) > 1e-6) {
      std::snprintf(text, sizeof text, "%s in %.2f s", pole.real() < 0 ? "halves" : "doubles",
                    .6931471805599453 / std::abs(pole.real()));
      motion = text;
    }
    if (pole.imag() > 0) {
      std::snprintf(text, sizeof text, ", swings once in %.2f s", 6.283185307179586 / pole.imag());
      motion += text;
    }
    std::printf("  %8.3f %s %-9.3f  %s\n", pole.real(), pole.imag() > 0 ? "+-i" : "   ",
                pole.imag(), motion.c_str());
  }
}

struct Options {
  double seconds = 40;
  std::uint64_t seed = 1;
  std::string svg;
};

Options parse(int argc, char* argv[]) {
  options::Command app{"An aircraft brought back to its line by a linear-quadratic regulator"};
  Options o;
  app.add("--seconds", o.seconds, "how long to fly, s")
      .check(options::between(20., 3600.))
      .show_default();
  app.add("--seed", o.seed, "of the air and the meters").show_default();
  app.add("--svg", o.svg, "write the plot to this file");
  if (const auto ended = app.parse(argc, argv)) std::exit(*ended);
  return o;
}

int run(const Options& o) {
  const Trim trim = level_flight();
  std::printf("Level at %g m/s: nose %.2f deg up, elevator %.2f deg, thrust %.2f N.\n\n", cruise,
              degrees * trim.x(pitch), degrees * trim.u(elevator), trim.u(thrust));
  const auto f = [](const auto& x, const auto& u) { return motion(x, u); };
  const auto h = [](const auto& x, const auto&) { return meters(x); };
  const auto linear = ssm::linearize(f, h, trim.x, trim.u);

  // Bryson's rule: what is worth as much as what, m, rad, m/s, rad/s; rad and N
  const State worth = (State() << 15, 6, 3, .4, .3, .4, 3, 3, 3, 1, 1, 1).finished();
  const Controls effort(.15, .15, .15, 6);
  const auto regulator =
      ssm::lqr(linear, Eigen::MatrixXd(worth.cwiseAbs2().cwiseInverse().asDiagonal()),
               Eigen::MatrixXd(effort.cwiseAbs2().cwiseInverse().asDiagonal()));
  print_modes("Left alone:", linear);
  print_modes("Regulated:",
              ssm::StateSpace(linear.A() - linear.B() * regulator.K, linear.B(), linear.C()));

  const Readings reading = reading_errors();
  const ssm::NoisyStateSpace noisy(linear, Eigen::Matrix<double, 12, 12>(turbulence().asDiagonal()),
                                   Eigen::Matrix<double, 7, 7>(reading.cwiseAbs2().asDiagonal()));
  const Readings trimmed_readings = meters(trim.x);

  Noise air(o.seed), dials(o.seed + 1000);
  State truth = trim.x;  // low, off to the right, banked and nose down
  truth.head<6>() += (State() << 10, 25, -20, .3, -.1, .2, 0, 0, 0, 0, 0, 0).finished().head<6>();
  const State doubt = (State() << 20, 20, 20, .2, .2, .2, 2, 2, 2, .1, .1, .1).finished();
  ssm::Belief<double, 12> belief{State::Zero(), doubt.cwiseAbs2().asDiagonal()};

  plot::Series heights{"barometer", plot::Style::dots, {}, {}};
  plot::Series flown{"aircraft", plot::Style::line, {}, {}};
  plot::Series estimated{"estimate", plot::Style::line, {}, {}};
  State squares = State::Zero();
  double normalized = 0;
  int samples = 0;
  std::puts(
      "\n          height, m      right of line, m   bank, deg\n"
      "  t, s   true estimate   true estimate   true estimate   elevator, deg   aileron, deg");

  constexpr double tick = .02;
  double now = 0, next_fix = .2;
  Controls control = Controls::Zero();  // less its trim
  const auto advance = [&](double to) {
    fly(truth, trim.u + control, to - now, air);
    ssm::kalman_predict(noisy, to - now, control, belief);
    now = to;
  };
  const auto read = [&](const Measured& measured) {
    const Readings y = meters(truth) + reading.cwiseProduct(dials.normal<7>());
    ssm::kalman_update(noisy, control, y - trimmed_readings, measured, belief);
    return y;
  };
  Measured fix = Measured::Constant(false), others = Measured::Constant(true);
  fix(gps_north) = fix(gps_east) = true;
  others(gps_north) = others(gps_east) = false;
  const int ticks = static_cast<int>(std::floor(o.seconds / tick + 1e-9));
  for (int k = 1; k <= ticks; ++k) {
    for (; next_fix < k * tick; next_fix += dials.uniform(.1, .6)) {
      advance(next_fix);
      read(fix);
    }
    advance(k * tick);
    const Readings y = read(others);
    const Controls wanted = trim.u - regulator.K * belief.mean;
    control =
        wanted.cwiseMax(Controls(-.4, -.4, -.4, 0)).cwiseMin(Controls(.4, .4, .4, 40)) - trim.u;

    const State off = belief.mean + trim.x - truth;
    if (now > 2) {
      squares += off.cwiseAbs2();
      normalized +=
          ssm::squared_distance(ssm::Innovation<double, 12, 12>{off, belief.covariance, {}}) / 12;
      ++samples;
    }
    if (k % 5 == 0) {
      flown.x.push_back(now);
      flown.y.push_back(truth(height));
      estimated.x.push_back(now);
      estimated.y.push_back(belief.mean(height));
    }
    if (k % 20 == 0) {
      heights.x.push_back(now);
      heights.y.push_back(y(barometer));
    }
    if (k % (ticks / 16) == 0)
      std::printf("%6.1f %6.1f %8.1f %7.1f %8.1f %7.1f %8.1f %12.1f %14.1f\n", now, truth(height),
                  belief.mean(height), truth(east), belief.mean(east), degrees * truth(roll),
                  degrees * belief.mean(roll), degrees * (trim.u + control)(elevator),
                  degrees * (trim.u + control)(aileron));
  }

  const plot::Plot picture{"An aircraft flown back to its line",
                           "time t (s)",
                           "height above the line (m)",
                           {heights, flown, estimated}};
  plot::show(picture, o.svg);

  const State rms = (squares / samples).cwiseSqrt();
  std::printf(
      "root mean square errors of the estimate after 2 s: height %.2f m (a barometer reading: %.2f "
      "m),\nacross the line %.2f m (a GPS fix: %.2f m), bank %.1f deg, nose %.1f deg, heading %.1f "
      "deg: no meter\nreads the last three. Squared errors are %.2f of what the filter expects, "
      "which believes that the\naircraft is linear. It ends %.1f m above and %.1f m right of its "
      "line.\n",
      rms(height), reading(barometer), rms(east), reading(gps_east), degrees * rms(roll),
      degrees * rms(pitch), degrees * rms(yaw), normalized / samples, truth(height), truth(east));
  const bool good = rms(height) < .6 * reading(barometer) && rms(east) < .6 * reading(gps_east) &&
                    std::abs(truth(height)) < 5 && std::abs(truth(east)) < 5;
  std::puts(good ? "It is back on its line." : "It is NOT back on its line.");
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char* argv[]) {
  const Options options = parse(argc, argv);
  return job::main(argv[0], [&] { return run(options); });
}
