// A mass on a spring: a differential equation becomes a state-space model, the model becomes a
// recurrence, and the recurrence meets the closed-form solution at every sample.

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "job.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/scan/recurrence.hpp"
#include "ssm/system/mass_spring_damper.hpp"

namespace {

struct Options {
  ssm::MassSpringDamper<double> model{1, 0.6, 10};
  double force = 5, start = 0, dt = 0.1, seconds = 12;
  std::string svg;
};

/// Position (m) at time t (s) of a mass that starts at rest at y0 under a constant force, from the
/// roots −α ± √(α² − k/m) of m s² + c s + k with α = c/2m: swinging, critical or creeping.
double closed_form(const Options& o, double t) {
  const auto& [m, c, k] = o.model;
  const double rest = o.force / k, alpha = c / (2 * m);
  const double square = alpha * alpha - k / m;
  const double beta = std::sqrt(std::abs(square));
  double cosine, sine;  // e^{−αt} cos βt and e^{−αt} sin(βt)/β, or cosh and sinh
  if (square < 0) {
    cosine = std::exp(-alpha * t) * std::cos(beta * t);
    sine = std::exp(-alpha * t) * std::sin(beta * t) / beta;
  } else if (beta == 0) {
    cosine = std::exp(-alpha * t);
    sine = t * cosine;
  } else {
    const double slow = k / m / (alpha + beta);  // α − β without cancellation
    cosine = (std::exp(-slow * t) + std::exp(-(alpha + beta) * t)) / 2;
    sine = -std::exp(-slow * t) * std::expm1(-2 * beta * t) / (2 * beta);
  }
  return rest + (o.start - rest) * (cosine + alpha * sine);
}

template <class Matrix>
void print(const char* name, const Matrix& matrix) {
  for (Eigen::Index i = 0; i < matrix.rows(); ++i) {
    std::printf("  %-5s %s", i == 0 ? name : "", i == 0 ? "= [" : "  [");
    for (Eigen::Index j = 0; j < matrix.cols(); ++j) std::printf(" %11.6f", matrix(i, j));
    std::puts(" ]");
  }
}

Options parse(int argc, char* argv[]) {
  options::Command app{"A mass on a spring, simulated exactly: m y'' + c y' + k y = F"};
  Options o;
  app.add("--mass", o.model.mass, "m, kg").check(options::positive).show_default();
  app.add("--damping", o.model.damping, "c, N s/m").check(options::not_negative).show_default();
  app.add("--stiffness", o.model.stiffness, "k, N/m").check(options::positive).show_default();
  app.add("--force", o.force, "F, N, constant from t = 0; 0 leaves the free response")
      .show_default();
  app.add("--start", o.start, "y at t = 0, m, at rest").show_default();
  app.add("--dt", o.dt, "time between samples, s").check(options::positive).show_default();
  app.add("--seconds", o.seconds, "how long to simulate, s")
      .check(options::positive)
      .show_default();
  app.add("--svg", o.svg, "write the plot to this file");
  auto ended = app.parse(argc, argv);
  if (!ended && !(o.seconds / o.dt <= 1e7))
    ended = app.refuse("--seconds", "at most ten million samples of --dt");
  if (ended) std::exit(*ended);
  return o;
}

int simulate(const Options& o) {
  const auto system = ssm::state_space(o.model);
  const auto discrete = ssm::zero_order_hold(system, o.dt);

  std::printf(
      "A mass of %g kg on a spring of %g N/m with a damper of %g N s/m:\n"
      "  m y'' + c y' + k y = F,  F = %g N,  y(0) = %g m,  y'(0) = 0\n"
      "It has a natural frequency of %.4g rad/s and a damping ratio of %.4g.\n\n",
      o.model.mass, o.model.stiffness, o.model.damping, o.force, o.start,
      o.model.natural_frequency(), o.model.damping_ratio());
  std::puts("With the state x = [y, y'] the second-order equation is first order: x' = A x + B F");
  print("A", system.A());
  print("B", system.B());
  std::printf("\nWhile F is constant over %g s a step is exact: x(t + dt) = A_bar x(t) + B_bar F\n",
              o.dt);
  print("A_bar", discrete.A_bar());
  print("B_bar", discrete.B_bar());

  const auto length = static_cast<ssm::Index>(std::floor(o.seconds / o.dt + 1e-9)) + 1;
  ssm::Tensor<double, 2> force({length, 1}), position({length, 1});
  ssm::Tensor<double, 1> start({2});
  force.fill(o.force);
  start(0) = o.start;
  ssm::RecurrenceScratch<double> scratch;
  ssm::recurrence(ssm::cpu, discrete, {force, start}, {}, {position}, scratch);

  plot::Series closed{"closed form", plot::Style::line, {}, {}};
  plot::Series sampled{"state-space recurrence", plot::Style::dots, {}, {}};
  double worst = 0, scale = 0;
  for (ssm::Index t = 0; t < length; ++t) {
    const double time = o.dt * static_cast<double>(t), want = closed_form(o, time);
    const double error = std::abs(position(t, 0) - want);
    if (!(error <= worst)) worst = error;
    scale = std::max(scale, std::abs(want));
  }
  std::puts("\n     t, s    recurrence, m   closed form, m        error");
  const ssm::Index every = std::max<ssm::Index>(1, (length - 1) / 12);
  for (ssm::Index t = 0; t < length; t += every) {
    const double time = o.dt * static_cast<double>(t), want = closed_form(o, time);
    std::printf("%9.3f %16.12f %16.12f %12.2e\n", time, position(t, 0), want,
                position(t, 0) - want);
  }

  constexpr int curve_points = 600, dots = 45;
  for (int i = 0; i <= curve_points; ++i) {
    closed.x.push_back(o.seconds * i / curve_points);
    closed.y.push_back(closed_form(o, closed.x.back()));
  }
  for (ssm::Index t = 0; t < length; t += 1 + length / dots) {
    sampled.x.push_back(o.dt * static_cast<double>(t));
    sampled.y.push_back(position(t, 0));
  }
  const plot::Plot picture{"Mass on a spring", "time t (s)", "position y (m)", {closed, sampled}};
  plot::show(picture, o.svg);

  // Every step rounds once, and an undamped mass forgets none of it.
  const double bound = 1e-15 * (100 + static_cast<double>(length)) * scale;
  const bool right = worst <= bound;
  std::printf("largest error over %lld samples: %.2e m, %s the bound of %.2e m\n",
              static_cast<long long>(length), worst, right ? "within" : "OUTSIDE", bound);
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char* argv[]) {
  const Options options = parse(argc, argv);
  return job::main(argv[0], [&] { return simulate(options); });
}
