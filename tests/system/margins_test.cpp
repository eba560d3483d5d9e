#include "ssm/system/margins.hpp"

#include <cmath>
#include <complex>

#include "ssm/system/siso_response.hpp"
#include "ssm/system/transfer_function_arithmetic.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"

namespace margins_test {

using namespace ssm;
using ssm::test::contains;
using Complex = std::complex<double>;
using Transfer = TransferFunction<double>;

namespace {

constexpr double pi = 3.14159265358979323846;
constexpr double infinity = std::numeric_limits<double>::infinity();

int unstable(const ZerosPolesGain<double>& roots, bool discrete) {
  int count = 0;
  for (const Complex& pole : roots.poles) count += discrete ? std::abs(pole) > 1 : pole.real() > 0;
  return count;
}

}  // namespace

TEST_CASE("the response of a channel is its transfer function, with a phase that does not jump") {
  ssm::test::Random random(3);
  for (const bool discrete : {false, true})
    for (int run = 0; run < 20; ++run) {
      Eigen::VectorXd above(3), below(5);
      for (double& x : above) x = random.normal();
      for (double& x : below) x = random.normal();
      const Transfer G{above, below};
      const SisoResponse response(G, discrete ? std::optional(0.1) : std::nullopt);
      double before = response.phase(1e-6), jump = 0;
      for (int i = 0; i <= 3000; ++i) {
        const double omega = i * 0.01;
        const Complex point = discrete ? std::polar(1., omega * 0.1) : Complex(0, omega);
        if (i % 100 == 0) CHECK(std::abs(response(omega) - G(point)) <= 1e-9 * std::abs(G(point)));
        jump = std::max(jump, std::abs(response.phase(omega) - before));
        before = response.phase(omega);
      }
      CHECK(jump <= 2.5);
    }
  CHECK(SisoResponse(Transfer{{1}, {1, 0, 0, 0}}).phase(1) == Approx(-1.5 * pi));
  CHECK(SisoResponse(Transfer{{1}, {1, -1}}).phase(0) == Approx(-pi));
  CHECK(SisoResponse(Transfer{{1}, {1}}).delayed(2).phase(3) == -6);
}

TEST_CASE("the margins of textbook loops, every crossing among them") {
  // 1/(s (s + 1)²): crosses −180° at ω = 1 with |L| = 1/2
  const auto third = margins(Transfer{{1}, {1, 2, 1, 0}});
  CHECK(third.gain.factor == Approx(2).epsilon(1e-13));
  CHECK(third.gain.frequency == Approx(1).epsilon(1e-13));
  const double crossover = third.phase.frequency;
  CHECK(crossover * (1 + crossover * crossover) == Approx(1).epsilon(1e-13));
  CHECK(third.phase.degrees == Approx(90 - 2 * 180 / pi * std::atan(crossover)).epsilon(1e-12));
  CHECK(third.delay.seconds == Approx(third.phase.degrees * pi / 180 / crossover).epsilon(1e-13));
  CHECK(third.stable);
  CHECK(third.gains.size() == 1);
  // a loop that is stable between two gains: 12 (s + 1)²/(s³ (0.01 s + 1)²)
  const auto between = margins(pow(Transfer{{1, 1}, {0.01, 1}}, 2) * Transfer{{12}, {1, 0, 0, 0}});
  REQUIRE(between.gains.size() == 2);
  CHECK(between.gains[0].factor < 0.1);
  CHECK(between.gains[1].factor > 10);
  CHECK(between.gain.factor == between.gains[1].factor);
  CHECK(between.stable);
  // 2/(s − 1): may not shrink by more than a half, at rest
  const auto held = margins(Transfer{{2}, {1, -1}});
  CHECK(held.gain.factor == 0.5);
  CHECK(held.gain.frequency == 0);
  CHECK(held.stable);
  // first-order lags have no gain margin; double integrators no stability
  const auto lag = margins(Transfer{{3}, {1, 1}});
  CHECK(lag.gain.factor == infinity);
  CHECK(lag.phase.frequency == Approx(std::sqrt(8.)).epsilon(1e-13));
  CHECK(lag.stable);
  CHECK(lag.complementary.value == Approx(0.75).epsilon(1e-12));
  CHECK_FALSE(margins(Transfer{{1}, {1, 0, 0}}).stable);
  // e^{−s}/(s + 1): ω + atan ω = π
  const auto late = margins(SisoResponse(Transfer{{1}, {1, 1}}).delayed(1));
  CHECK(late.gain.frequency + std::atan(late.gain.frequency) == Approx(pi).epsilon(1e-13));
  CHECK(late.gain.factor == Approx(std::hypot(1, late.gain.frequency)).epsilon(1e-13));
  CHECK(late.stable);
  // no crossing where the phase or the magnitude stays, or jumps
  CHECK(margins(Transfer{{0.5}, {1, 0, 1}}).gains.empty());
  CHECK(margins(Transfer{{1, -1}, {1, 1}}).phases.empty());
  // −0.5: half of what the algebraic loop bears
  const auto gain = margins(Transfer{{-0.5}, {1}});
  CHECK(gain.gain.factor == 2);
  CHECK(gain.modulus == Approx(0.5).epsilon(1e-14));
  CHECK(gain.stable);
}

TEST_CASE(
    "a delay as long as the delay margin, and a gain as large as the gain margin, bring a loop "
    "to the edge") {
  ssm::test::Random random(5);
  int edges = 0;
  for (int run = 0; run < 30; ++run) {
    ZerosPolesGain<double> loop{Eigen::VectorXcd(1), Eigen::VectorXcd(4), 0};
    loop.zeros << -std::exp(random.normal());
    const Complex pole(-random.uniform(0.01, 1), std::exp(random.normal()));
    loop.poles << pole, std::conj(pole), -std::exp(random.normal()), -std::exp(random.normal());
    loop.gain = std::exp(random.normal()) * std::norm(pole);
    const Margins found = margins(loop);
    const int closed = unstable(feedback(loop, zeros_poles_gain(Transfer{{1}, {1}})), false);
    CHECK(found.stable == (closed == 0));
    CHECK(nyquist(loop).closed_loop_unstable == closed);
    for (const auto& margin : found.gains) {
      const Complex value = SisoResponse(loop)(margin.frequency);
      CHECK(std::abs(value * margin.factor + 1.0) <= 1e-9);
    }
    for (const auto& margin : found.phases)
      CHECK(std::abs(SisoResponse(loop)(margin.frequency) +
                     std::polar(1., margin.degrees * pi / 180)) <= 1e-9);
    // the peak of S is nowhere exceeded
    const SisoResponse response(loop);
    double nearest = infinity;
    for (double omega = 1e-3; omega < 1e3; omega *= 1.003)
      nearest = std::min(nearest, std::abs(1.0 + response(omega)));
    CHECK(nearest >= found.modulus * (1 - 1e-9));
    CHECK(found.sensitivity.value * found.modulus == Approx(1));
    if (!found.stable || found.phases.empty()) continue;
    ++edges;
    for (const double sign : {-1e-6, 1e-6}) {
      const auto late = margins(SisoResponse(loop).delayed(found.delay.seconds * (1 + sign)));
      CHECK(late.stable == (sign < 0));
      if (!std::isfinite(found.gain.factor)) continue;
      auto louder = loop;
      louder.gain *= std::pow(found.gain.factor, 1 + sign);
      CHECK(margins(louder).stable == (sign < 0));
    }
  }
  CHECK(edges >= 5);
}

TEST_CASE("encirclements count the unstable poles of any loop, in s and in z") {
  ssm::test::Random random(7);
  for (const bool discrete : {false, true})
    for (int run = 0; run < 60; ++run) {
      CAPTURE(discrete, run);
      const Index n = 1 + run % 4;
      Eigen::VectorXd above(n + (run % 3 == 0)), below(n + 1);
      for (double& x : above) x = 2 * random.normal();
      for (double& x : below) x = random.normal();
      below(0) = 1 + std::abs(below(0));
      if (run % 5 == 1) below(n) = discrete ? -below.head(n).sum() : 0;  // an integrator
      const Transfer L{above, below};
      const auto delta = discrete ? std::optional(0.3) : std::nullopt;
      const auto found = nyquist(SisoResponse(L, delta));
      const int closed = unstable(zeros_poles_gain(feedback(L)), discrete);
      CHECK(found.closed_loop_unstable == closed);
      CHECK(margins(SisoResponse(L, delta)).stable == (closed == 0));
    }
}

TEST_CASE("stability is that of the closed loop beside poles on the axis or circle, and improper") {
  const auto closes = [](const SisoResponse& loop, int beyond) {
    CHECK(nyquist(loop).closed_loop_unstable == beyond);
    CHECK(margins(loop).stable == (beyond == 0));
  };
  closes(Transfer{{.1}, {1, 0, 1, 0}}, 2);
  for (const double zeta : {0., 5e-13, 1e-12, 1e-9}) {
    closes(Transfer{{.1, .1}, {1, 2 * zeta, 1, 0}}, 2);
    closes(Transfer{{.01}, {1, 1 + 2 * zeta, 1 + 2 * zeta, 1}}, 2);
  }
  closes(Transfer{{.1, .05}, {1, 0, 3, 0, 1}}, 2);  // two masses, the sensor on the other
  closes(Transfer{{1, 0}, {1, 0, 1}}, 0);
  closes(Transfer{{-1, 0}, {1, 0, 1}}, 2);
  CHECK(margins(Transfer{{1, 0}, {1, 0, 1}}).gains.empty());
  closes(SisoResponse(Transfer{{.2}, {1, 0, 1}}, 1.), 2);
  closes(SisoResponse(Transfer{{1}, {1, 1}}, 1.), 1);
  closes(SisoResponse(Transfer{{.5}, {1, 1}}, 1.), 1);
  CHECK(margins(SisoResponse(Transfer{{.5}, {1, 1}}, 1.)).gain.factor == 0);
  const SisoResponse alternating(Transfer{{-.5}, {1, 1}}, 1.);
  closes(alternating, 0);
  CHECK(margins(alternating).gain.factor == Approx(4));
  closes(Transfer{{-1, -2}, {1}}, 0);
  closes(Transfer{{-1, 2}, {1}}, 1);
  closes(Transfer{{-1, -3, -1.5}, {1, 1}}, 0);
  CHECK(margins(Transfer{{.1}, {1, 0, 1, 0}}).gain.factor == 0);
  // delayed, the winding number decides: a short delay changes nothing but at the edge
  closes(SisoResponse(Transfer{{.1, .1}, {1, 0, 1, 0}}).delayed(1e-3), 2);
  closes(SisoResponse(Transfer{{1, 0}, {1, 0, 1}}).delayed(1e-3), 0);
  closes(SisoResponse(Transfer{{-1, 0}, {1, 0, 1}}).delayed(1e-3), 2);
  closes(SisoResponse(Transfer{{1}, {1, 0}}).delayed(1e-300), 0);
}

TEST_CASE("frequencies for a plot follow the corners, up to pi over the step") {
  const Transfer resonance{{1}, {1, 1e-4, 1}};
  const auto data = bode(resonance);
  double highest = -infinity;
  for (const double decibel : data.magnitude) highest = std::max(highest, decibel);
  CHECK(std::abs(highest - 80) <= 0.1);
  CHECK(data.frequency.front() <= 0.1);
  CHECK(data.frequency.back() >= 10);
  CHECK(data.phase.front() == Approx(0).margin(0.1));
  CHECK(data.phase.back() == Approx(-180).epsilon(1e-3));
  const auto sampled = bode(SisoResponse(Transfer{{1}, {1, -0.5}}, 0.1));
  CHECK(sampled.frequency.back() == pi / 0.1);
  CHECK(sampled.phase.back() == Approx(-180));
  CHECK(bode(Transfer{{2}, {1}}, {1.}).magnitude[0] == Approx(20 * std::log10(2)));
  CHECK(bode(Transfer{{2}, {1}}).frequency.size() > 10);
}

TEST_CASE("loops and frequencies that mean nothing are refused") {
  const Transfer lag{{1}, {1, 1}};
  CHECK_THROWS_WITH(margins(Transfer{{0}, {1, 1}}), "margins: the loop is 0, expected not 0");
  CHECK_THROWS_AS(margins(Transfer{{1}, {1, std::nan("")}}), DomainError);
  CHECK_THROWS_AS(SisoResponse(lag, 0.), DomainError);
  CHECK_THROWS_AS(SisoResponse(lag).delayed(-1), DomainError);
  CHECK_THROWS_AS(SisoResponse(lag).delayed(infinity), DomainError);
  CHECK_THROWS_WITH(margins(SisoResponse(Transfer{{2, 1}, {1, 1}}).delayed(1)),
                    contains("one that rolls off"));
  CHECK_THROWS_WITH(margins(SisoResponse(Transfer{{1, 2, 1}, {1, 0.5}}, 1.)), contains("improper"));
  CHECK_THROWS_WITH(nyquist(Transfer{{1}, {1, 0, 0}}), contains("runs beside -1"));
  CHECK_THROWS_WITH(margins(SisoResponse(Transfer{{1}, {1, 0}}).delayed(1e300)),
                    contains("at most 1e6 radians"));
  for (const double bad : {-1., infinity, std::nan("")})
    CHECK_THROWS_AS(bode(lag, {bad}), DomainError);
  CHECK_THROWS_AS(bode(SisoResponse(lag, 0.1), {40.}), DomainError);
  CHECK_THROWS_AS(plot_frequencies(lag, 0), DomainError);
}

}  // namespace margins_test
