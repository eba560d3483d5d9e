// One model, four ways to compute it: an equation of motion, a recurrence, a convolution and a
// scan. A memory of a few numbers listens to a signal and says what it heard a while ago.

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <numbers>
#include <string>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "ssm/conv/long_conv.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/scan/diagonal_scan.hpp"
#include "ssm/scan/recurrence.hpp"
#include "ssm/system/hippo.hpp"

namespace {

using ssm::Index;
using ssm::Tensor;
using System = ssm::StateSpace<double, ssm::Dynamic, 1, 1>;

struct Options {
  Index state = 12;
  double window = 2, ago = 1.5, dt = 0.02, seconds = 8;
  std::string svg;
};

/// A slow swing, and a burst of a faster one in the middle.
double signal(double t) {
  constexpr double turn = 2 * std::numbers::pi;
  const double burst = std::exp(-8 * (t - 3) * (t - 3));
  return std::sin(turn * 0.3 * t) + burst * std::sin(turn * 2 * t);
}

/// x' = A x + B u, where x are the coefficients of the last `window` seconds of u in Legendre
/// polynomials, and y = C x is what they say of the time `ago`.
System memory(const Options& o) {
  const auto legendre = ssm::hippo(ssm::Hippo::legt, o.state, o.window);
  const auto recall = ssm::hippo_basis(ssm::Hippo::legt, o.state, o.window, o.ago);
  return System(legendre.A(), legendre.B(), recall.transpose(), Eigen::Matrix<double, 1, 1>(0));
}

using Samples = std::vector<double>;

/// In continuous time: the equation itself, in small steps of Runge and Kutta.
Samples continuous(const System& system, const Options& o, const Tensor<double, 2>& u, int steps) {
  const double h = o.dt / steps;
  Eigen::VectorXd x = Eigen::VectorXd::Zero(o.state);
  Samples y;
  for (Index t = 0; t < u.extent(0); ++t)
    for (int i = 0; i < steps; ++i) {
      const auto slope = [&](const Eigen::VectorXd& at) -> Eigen::VectorXd {
        return system.A() * at + system.B() * u(t, 0);
      };
      const Eigen::VectorXd a = slope(x), b = slope(x + h / 2 * a), c = slope(x + h / 2 * b),
                            d = slope(x + h * c);
      x += h / 6 * (a + 2 * b + 2 * c + d);
      y.push_back((system.C() * x)(0));
    }
  return y;
}

/// As a recurrence: x_t = Ā x_{t−1} + B̄ u_t, exact while u is constant from sample to sample.
Tensor<double, 2> recurrent(const System& system, const Options& o, const Tensor<double, 2>& u) {
  Tensor<double, 2> y(u.extents());
  ssm::RecurrenceScratch<double> scratch;
  ssm::recurrence(ssm::cpu, ssm::zero_order_hold(system, o.dt), {u}, {ssm::Readout::after}, {y},
                  scratch);
  return y;
}

/// As a convolution: y = K * u with the kernel K_k = C Ā^k B̄, the answer to an impulse.
Tensor<double, 2> convolved(const System& system, const Options& o, const Tensor<double, 2>& u) {
  const Index length = u.extent(0);
  Tensor<double, 2> impulse(u.extents()), y(u.extents());
  impulse(0, 0) = 1;
  const Tensor<double, 2> kernel = recurrent(system, o, impulse);
  ssm::LongConvScratch<double> scratch;
  ssm::long_conv(ssm::cpu,
                 {ssm::View<const double, 3>(u.data(), {1, length, 1}),
                  ssm::View<const double, 2>(kernel.data(), {1, length})},
                 {}, {ssm::View<double, 3>(y.data(), {1, length, 1})}, scratch);
  return y;
}

/// As a scan: in the coordinates of its eigenvectors the system is so many equations of one number,
/// x_t = ā x_{t−1} + b̄ u_t, and such steps may be joined in any grouping. (Eigenvectors of a long
/// memory are too nearly parallel for that. S4 writes A as diagonal plus low rank instead.)
Tensor<double, 2> scanned(const System& system, const Options& o, const Tensor<double, 2>& u) {
  const Eigen::EigenSolver<Eigen::MatrixXd> modes{Eigen::MatrixXd(system.A())};
  const Eigen::MatrixXcd V = modes.eigenvectors();
  const Eigen::VectorXcd B = V.fullPivLu().solve(system.B().cast<std::complex<double>>()),
                         C = (system.C() * V).transpose(), eigenvalues = modes.eigenvalues();
  std::vector<Index> kept;  // one of each conjugate pair, which stands for both
  for (Index i = 0; i < o.state; ++i)
    if (eigenvalues(i).imag() >= 0) kept.push_back(i);
  const std::array<Index, 2> shape{1, static_cast<Index>(kept.size())};
  Tensor<std::complex<double>, 2> lambda(shape), b(shape), c(shape);
  for (Index i = 0; i < shape[1]; ++i) {
    const Index mode = kept[static_cast<std::size_t>(i)];
    lambda(0, i) = eigenvalues(mode);
    b(0, i) = B(mode);
    c(0, i) = eigenvalues(mode).imag() > 0 ? C(mode) : C(mode) / 2.;  // a real one stands alone
  }
  Tensor<double, 1> delta({1});
  delta(0) = o.dt;
  Tensor<double, 2> y(u.extents());
  ssm::DiagonalScanScratch<double, std::complex<double>> scratch;
  ssm::diagonal_scan(ssm::cpu,
                     {.u = ssm::View<const double, 3>(u.data(), {1, u.extent(0), 1}),
                      .lambda = lambda,
                      .delta = delta,
                      .B = b,
                      .C = c},
                     {}, {ssm::View<double, 3>(y.data(), {1, u.extent(0), 1})}, scratch);
  return y;
}

Options parse(int argc, char* argv[]) {
  options::Command app{"Four views of one state-space model, on top of each other"};
  Options o;
  app.add("--state", o.state,
          "numbers in the memory; of more, the eigenvectors are too nearly parallel")
      .check(options::between(2, 13))
      .show_default();
  app.add("--ago", o.ago, "how long ago it is asked for, of 2 s, s")
      .check(options::between(0, 2))
      .show_default();
  app.add("--svg", o.svg, "write the plot to this file");
  if (const auto ended = app.parse(argc, argv)) std::exit(*ended);
  return o;
}

int compare(const Options& o) {
  const auto length = static_cast<Index>(std::lround(o.seconds / o.dt));
  Tensor<double, 2> u({length, 1});
  for (Index t = 0; t < length; ++t) u(t, 0) = signal(o.dt * (static_cast<double>(t) + 0.5));
  const System system = memory(o);
  constexpr int fine = 64;
  const Samples smooth = continuous(system, o, u, fine);
  const struct {
    const char* name;
    const char* cost;
    Tensor<double, 2> y;
  } views[] = {{"recurrence", "states² a step, nothing is kept", recurrent(system, o, u)},
               {"convolution", "log(length) a step, all steps at once", convolved(system, o, u)},
               {"scan", "states a step, all steps in parallel", scanned(system, o, u)}};

  std::printf("%lld numbers remember the last %g s of a signal; y is what they say of %g s ago.\n",
              static_cast<long long>(o.state), o.window, o.ago);
  plot::Plot picture{
      "One model as equation, recurrence, convolution and scan", "time (s)", "signal", {}};
  plot::Series heard{"u, the input", plot::Style::line, {}, {}},
      line{"x' = A x + B u,  y = C x", plot::Style::line, {}, {}};
  for (std::size_t i = 0; i < smooth.size(); i += fine / 8) {
    const double time = o.dt * static_cast<double>(i + 1) / fine;
    heard.x.push_back(time);
    heard.y.push_back(signal(time));
    line.x.push_back(time);
    line.y.push_back(smooth[i]);
  }
  picture.series = {heard, line};
  bool same = true;
  for (Index v = 0; v < 3; ++v) {
    const auto& view = views[v];
    plot::Series dots{view.name, plot::Style::dots, {}, {}};
    double worst = 0;
    for (Index t = 0; t < length; ++t) {
      const double want = smooth[static_cast<std::size_t>((t + 1) * fine - 1)];
      const double error = std::abs(view.y(t, 0) - want);
      if (!(error <= worst)) worst = error;
      if (t % 9 != 3 * v) continue;  // in turn, so that none hides another
      dots.x.push_back(o.dt * static_cast<double>(t + 1));
      dots.y.push_back(view.y(t, 0));
    }
    picture.series.push_back(dots);
    std::printf("  %-12s %-40s off the equation by %.1e at most\n", view.name, view.cost, worst);
    same = same && worst < 1e-6;
  }
  plot::show(picture, o.svg);
  std::printf("All four are the same: %s\n", same ? "yes" : "NO");
  return same ? 0 : 1;
}

}  // namespace

int main(int argc, char* argv[]) {
  const Options options = parse(argc, argv);
  return job::main(argv[0], [&] { return compare(options); });
}
