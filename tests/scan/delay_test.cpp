#include "ssm/system/delay.hpp"

#include <cmath>
#include <complex>
#include <vector>

#include "ssm/discretize/delayed_hold.hpp"
#include "ssm/scan/simulate_delayed.hpp"
#include "ssm/system/margins.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace delay_test {

using namespace ssm;
using ssm::test::contains;
using ssm::test::distance;
using ssm::test::random_matrix;
using Complex = std::complex<double>;
using Eigen::MatrixXd;
using Eigen::Vector2d;
using Eigen::VectorXd;

namespace {

StateSpace<double> plant(ssm::test::Random& random, Index n) {
  MatrixXd A = random_matrix(random, n, n);
  A -= (1 + A.norm()) * MatrixXd::Identity(n, n);
  return {A, random_matrix(random, n, 2), random_matrix(random, 2, n), random_matrix(random, 2, 2)};
}

VectorXd grid(Index length, double delta) {
  VectorXd t(length);
  for (Index k = 0; k < length; ++k) t(k) = static_cast<double>(k) * delta;
  return t;
}

/// An input that is 0 from `end` on.
MatrixXd pulse(ssm::test::Random& random, Index length) { return random_matrix(random, length, 2); }

}  // namespace

TEST_CASE("the hold of a delayed system gives its exact samples, whole steps or not") {
  ssm::test::Random random(1);
  for (const Index n : {0, 1, 4})
    for (const Vector2d& in :
         {Vector2d(0, 0), Vector2d(0.2, 0.1), Vector2d(0.13, 0.37), Vector2d(0.05, 0.3)})
      for (const Vector2d& out :
           {Vector2d(0, 0), Vector2d(0.1, 0.3), Vector2d(0.07, 0.05), Vector2d(0.25, 0.17)}) {
        CAPTURE(n, in.transpose(), out.transpose());
        const DelayedSystem<double> delayed(plant(random, n), VectorXd(in), VectorXd(out));
        const auto sampled = zero_order_hold(delayed, 0.1);
        const MatrixXd u = pulse(random, 40);
        const auto exact = simulate(delayed, grid(40, 0.1), u);
        const auto got = simulate(sampled, u);
        CHECK(distance(got.y, exact.y) <= 1e-13);
        CHECK((got.x.leftCols(n) - exact.x).norm() <= 1e-13 * (1 + exact.x.norm()));
      }
}

TEST_CASE("a delayed simulation is the shifted one of the system without delays") {
  ssm::test::Random random(2);
  const auto system = plant(random, 3);
  // fine samples, so that a shift by 7 of them is a delay that no coarse sample meets
  const Index length = 200, shift = 7;
  const double delta = 0.01;
  const MatrixXd u = pulse(random, length);
  for (const InputHold hold : {InputHold::zero_order, InputHold::first_order}) {
    const auto plain = simulate(system, grid(length, delta), u, {}, hold);
    for (const bool late_input : {true, false}) {
      const VectorXd delay = VectorXd::Constant(2, delta * double(shift)), none = VectorXd::Zero(2);
      const DelayedSystem<double> delayed(system, late_input ? delay : none,
                                          late_input ? none : delay);
      const auto late = simulate(delayed, grid(length, delta), u, {}, hold);
      CHECK(distance(late.y.bottomRows(length - shift), plain.y.topRows(length - shift)) <= 1e-13);
      CHECK(late.y.topRows(shift).isZero(0));
    }
  }
  // 1/(s + 1) to a step that comes 0.25 s late, at irregular times
  const StateSpace<double> lag(Eigen::Matrix<double, 1, 1>(-1.), Eigen::Matrix<double, 1, 1>(1.),
                               Eigen::Matrix<double, 1, 1>(1.));
  const std::vector<double> times{0, 0.1, 0.3, 0.35, 1.1, 2};
  const auto step = simulate(DelayedSystem(lag, 0.25), times, 1);
  for (Index k = 0; k < 6; ++k) {
    const double since = times[static_cast<std::size_t>(k)] - 0.25;
    CHECK(step.y(k, 0) == Approx(since > 0 ? 1 - std::exp(-since) : 0).margin(1e-15));
  }
  // and a ramp, which is no jump
  const auto ramp = simulate(
      DelayedSystem(lag, 0.25), times, [](double t) { return t; }, {}, InputHold::first_order);
  const double since = 2 - 0.25;
  CHECK(ramp.y(5, 0) == Approx(since - 1 + std::exp(-since)).epsilon(1e-13));
}

TEST_CASE("the frequency response of delays is exact, and Padé's is near it at low frequencies") {
  ssm::test::Random random(3);
  const auto system = plant(random, 3);
  const DelayedSystem<double> delayed(system, VectorXd(Vector2d(0.3, 0)),
                                      VectorXd(Vector2d(0, 0.5)));
  const DelayedFrequencyResponse exact(delayed);
  const FrequencyResponse plain(system);
  const double omega = 2.3;
  const auto turned = [&](double tau) { return std::polar(1., -omega * tau); };
  CHECK(std::abs(exact(omega)(1, 0) / plain(omega)(1, 0) - turned(0.8)) <= 1e-14);
  CHECK(std::abs(exact(omega)(0, 1) / plain(omega)(0, 1) - 1.0) <= 1e-14);
  CHECK(bode(SisoResponse(delayed, 1, 0), {omega}).magnitude ==
        bode(siso_response(delayed, 1, 0), {omega}).magnitude);
  CHECK(std::abs(siso_response(delayed, 1, 0)(omega) / exact(omega)(1, 0) - 1.0) <= 1e-10);
  double before = 1;
  for (const int order : {1, 2, 4, 8}) {
    const auto near = pade(delayed, order);
    CHECK(near.states() == 3 + 2 * order);
    const double error = distance(FrequencyResponse(near)(omega), exact(omega));
    CHECK(error < before);
    before = error;
  }
  CHECK(before <= 1e-12);
  // (1 − s/2 + s²/12)/(1 + s/2 + s²/12)
  const auto second = pade_delay(1., 2);
  CHECK((second.denominator - Eigen::Vector3d(1, 6, 12)).norm() <= 1e-14);
  CHECK((second.numerator - Eigen::Vector3d(1, -6, 12)).norm() <= 1e-14);
  CHECK(pade_delay(0., 3).denominator.size() == 1);
  CHECK(pade_delay(1., 20).denominator.allFinite());
}

TEST_CASE("a sampled delay is z to its power, and fractions split a step in two") {
  const StateSpace<double> lag(Eigen::Matrix<double, 1, 1>(-1.), Eigen::Matrix<double, 1, 1>(1.),
                               Eigen::Matrix<double, 1, 1>(1.));
  const double h = 0.5, a = std::exp(-h);
  const auto whole = zero_order_hold(DelayedSystem(lag, 2 * h), h);
  CHECK(whole.states() == 3);
  const Complex z = std::polar(1., 0.7);
  const FrequencyResponse response(whole);
  CHECK(std::abs(response.at(z)(0, 0) - (1 - a) / (z - a) / (z * z)) <= 1e-15);
  // Åström & Wittenmark, example 3.6: x⁺ = a x + (a^{1−f} … ) with f of a step
  const double f = 0.3;
  const auto part = zero_order_hold(DelayedSystem(lag, f * h), h);
  CHECK(part.A_bar()(0, 1) == Approx(std::exp(-h * (1 - f)) * (1 - std::exp(-h * f))));
  CHECK(part.B_bar()(0, 0) == Approx(1 - std::exp(-h * (1 - f))));
  // 0.3 is three steps of 0.1, though not to the last digit
  CHECK(zero_order_hold(DelayedSystem(lag, 0.3), 0.1).states() == 4);
}

TEST_CASE("delays, orders and times that mean nothing are refused by name") {
  const StateSpace<double> lag(Eigen::Matrix<double, 1, 1>(-1.), Eigen::Matrix<double, 1, 1>(1.),
                               Eigen::Matrix<double, 1, 1>(1.));
  for (const double bad : {-1., std::nan(""), HUGE_VAL})
    CHECK_THROWS_WITH(DelayedSystem(lag, bad), contains("expected >= 0 and finite"));
  ssm::test::Random random(4);
  CHECK_THROWS_AS(DelayedSystem<double>(plant(random, 1), VectorXd(VectorXd::Ones(3))), ShapeError);
  const DelayedSystem delayed(lag, 0.1);
  CHECK_THROWS_WITH(zero_order_hold(delayed, 0), contains("delta"));
  CHECK_THROWS_WITH(zero_order_hold(DelayedSystem(lag, 1e8), 1.), contains("at most 10^4"));
  CHECK_THROWS_AS(pade(delayed, -1), DomainError);
  CHECK_THROWS_AS(pade(delayed, 21), DomainError);
  CHECK_THROWS_AS(pade_delay(-1., 2), DomainError);
  CHECK_THROWS_WITH(simulate(delayed, std::vector<double>{0, 1, 1}, 1),
                    "simulate: time 2 is 1 after 1, expected later");
  CHECK_THROWS_WITH(simulate(delayed, std::vector<double>{0, 1, HUGE_VAL}, 1),
                    "simulate: time 2 is inf, expected finite");
  CHECK_THROWS_AS(simulate(lag, std::vector<double>{std::nan("")}, 1), DomainError);
  CHECK_THROWS_AS(simulate(delayed, std::vector<double>{0, 1}, std::vector<double>{1}), ShapeError);
  CHECK(simulate(delayed, std::vector<double>{}, 1).y.rows() == 0);
}

}  // namespace delay_test
