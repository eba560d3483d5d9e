#include "ssm/scan/step_info.hpp"

#include <cmath>

#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/delay.hpp"
#include "ssm/system/transfer_function.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"

namespace step_info_test {

using namespace ssm;
using Eigen::VectorXd;
using ssm::test::contains;

namespace {

StateSpace<double> system_of(const TransferFunction<double>& transfer) {
  const auto form = state_space(transfer);
  return {form.A(), form.B(), form.C(), form.D()};
}

}  // namespace

TEST_CASE("first- and second-order systems have their textbook rise, overshoot and settling") {
  const auto lag = step_info(system_of({{3}, {1, 1}}));
  CHECK(lag.steady_state == Approx(3));
  CHECK(lag.rise_time == Approx(std::log(9)).epsilon(1e-4));
  CHECK(lag.settling_time == Approx(std::log(50)).epsilon(1e-4));
  CHECK(lag.overshoot == 0);
  const double zeta = 0.3, omega = 2;
  const auto wave = step_info(system_of({{-omega * omega}, {1, 2 * zeta * omega, omega * omega}}));
  CHECK(wave.steady_state == Approx(-1));
  CHECK(wave.overshoot ==
        Approx(100 * std::exp(-zeta * 3.14159265 / std::sqrt(1 - zeta * zeta))).epsilon(1e-4));
  CHECK(wave.peak_time == Approx(3.14159265 / (omega * std::sqrt(1 - zeta * zeta))).epsilon(1e-2));
  CHECK(wave.peak == Approx(-1 - wave.overshoot / 100));
  // (1 − s)/(1 + s)²: begins the wrong way
  CHECK(step_info(system_of({{-1, 1}, {1, 2, 1}})).undershoot > 10);
  // (2 s + 1)/(s + 1): begins at 2
  CHECK(step_info(system_of({{2, 1}, {1, 1}})).overshoot == Approx(100));
  const auto gain = step_info(system_of({{5}, {1}}));
  CHECK(gain.rise_time == 0);
  CHECK(gain.settling_time == 0);
}

TEST_CASE("fast modes are seen beside slow ones, and every turn of a light one") {
  Eigen::MatrixXd A(3, 3);
  A << 0, 1, 0, -1e8, -20, 0, 0, 0, -.01;
  const StateSpace<double> beside(A, (VectorXd(3) << 0, 1e8, 1e-4).finished(),
                                  (Eigen::MatrixXd(1, 3) << 1, 0, 1).finished());
  CHECK(step_info(beside).peak == Approx(1.997).epsilon(1e-3));
  const auto light = step_info(system_of({{1e6}, {1, 1, 1e6}}));
  CHECK(light.rise_time == Approx(1.02e-3).epsilon(1e-2));
  CHECK(light.overshoot == Approx(100 * std::exp(-3.14159265 * 5e-4)).epsilon(3e-4));
  CHECK(light.settling_time == Approx(std::log(50) / .5).epsilon(1e-3));
  const StateSpace<double> stiff((VectorXd(2) << -1e6, -1).finished().asDiagonal().toDenseMatrix(),
                                 Eigen::MatrixXd::Ones(2, 1),
                                 (Eigen::MatrixXd(1, 2) << 1e6, -.5).finished());
  // y = 1 − e^(−10⁶ t) − (1 − e^(−t))/2, of which the fast part alone rises
  CHECK(step_info(stiff).rise_time == Approx(std::log(.95 / .55) * 1e-6).epsilon(1e-3));
}

TEST_CASE("a sampled response is read between its samples") {
  const VectorXd t = VectorXd::LinSpaced(5, 10, 14);
  const VectorXd y = (VectorXd(5) << 0, 4, 12, 10.1, 10).finished();
  const auto info = step_info(t, y);
  CHECK(info.steady_state == 10);
  CHECK(info.rise_time == Approx(1 + 5. / 8 - 0.25));
  CHECK(info.overshoot == Approx(20));
  CHECK(info.settling_time == Approx(2 + 1.8 / 1.9));
  CHECK(info.peak_time == 2);
  CHECK(std::isnan(step_info(t, y, 20).rise_time));
  CHECK(std::isnan(step_info(t, y, 20).settling_time));
  CHECK(step_info(t, VectorXd::Zero(5)).settling_time == 0);
  CHECK(step_info(t, y, {}, {.band = 0.5}).settling_time < info.settling_time);
}

TEST_CASE("responses and systems without an answer are refused") {
  const VectorXd t = VectorXd::LinSpaced(5, 0, 4), y = VectorXd::Ones(5);
  CHECK_THROWS_AS(step_info(t, VectorXd(VectorXd::Ones(4))), ShapeError);
  CHECK_THROWS_AS(step_info(VectorXd(0), VectorXd(0)), ShapeError);
  CHECK_THROWS_WITH(step_info(VectorXd(t.reverse()), y), contains("expected later"));
  CHECK_THROWS_AS(step_info(t, VectorXd(y * std::nan(""))), DomainError);
  CHECK_THROWS_AS(step_info(t, y, HUGE_VAL), DomainError);
  CHECK_THROWS_AS(step_info(t, y, {}, {.band = 0}), DomainError);
  CHECK_THROWS_AS(step_info(t, y, {}, {.rise_from = 0.9, .rise_to = 0.1}), DomainError);
  CHECK_THROWS_WITH(step_info(system_of({{1}, {1, -1}})),
                    "step_info: the system is not stable, expected stable");
  CHECK_THROWS_AS(step_info(system_of({{1}, {1, 0}})), DomainError);
  auto broken = system_of({{1}, {1, 1}});
  broken = StateSpace<double>(broken.A() * HUGE_VAL, broken.B(), broken.C(), broken.D());
  CHECK_THROWS_WITH(step_info(broken), "step_info: the system is not finite, expected finite");
  CHECK_THROWS_AS(step_info(system_of({{1}, {1, 1}}), 1, 0), ShapeError);
}

TEST_CASE("a sampled system answers a step as the continuous one, late by its delays") {
  const double zeta = 0.3, omega = 2, delta = 0.01;
  const auto wave = system_of({{omega * omega}, {1, 2 * zeta * omega, omega * omega}});
  const auto held = zero_order_hold(wave, delta);
  const auto want = step_info(wave), got = step_info(held);
  CHECK(got.steady_state == Approx(1));
  CHECK(got.rise_time == Approx(want.rise_time).epsilon(1e-3));
  CHECK(got.settling_time == Approx(want.settling_time).epsilon(1e-3));
  CHECK(got.overshoot == Approx(want.overshoot).epsilon(1e-3));
  const auto late = delayed(held, 50);
  CHECK(late.states() == 52);
  CHECK(step_info(late).peak_time == Approx(got.peak_time + 0.5));
  CHECK(step_info(late).overshoot == Approx(got.overshoot));
  CHECK(delayed(held, 0).A_bar() == held.A_bar());
  CHECK_THROWS_AS(delayed(held, -1), DomainError);
  for (const Index many : {Index(10'001), Index(1) << 62})
    CHECK_THROWS_WITH(delayed(held, many), contains("at most 10^4"));
  // one of a million samples, and one that is there at once
  const auto slow = step_info(zero_order_hold(system_of({{1}, {1, 1}}), 1e-6));
  CHECK(slow.settling_time == Approx(std::log(50)).epsilon(1e-4));
  CHECK(step_info(delayed(DiscreteStateSpace<double>(Eigen::MatrixXd(0, 0), Eigen::MatrixXd(0, 1),
                                                     Eigen::MatrixXd(1, 0), 3, 0.5),
                          2))
            .peak_time == Approx(1));
  const Eigen::MatrixXd one = Eigen::MatrixXd::Ones(1, 1);
  CHECK_THROWS_AS(step_info(DiscreteStateSpace<double>(one, one, one, 0, 0.5)), DomainError);
  CHECK_THROWS_AS(step_info(held, 1), ShapeError);
}

}  // namespace step_info_test
