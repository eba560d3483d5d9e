#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "estimate/random_noisy.hpp"
#include "ssm/estimate/correlated_kalman.hpp"
#include "ssm/estimate/fixed_lag_smoother.hpp"
#include "ssm/estimate/kalman_history.hpp"
#include "ssm/estimate/outlier_gate.hpp"
#include "ssm/estimate/smoother.hpp"
#include "ssm/estimate/steady_kalman.hpp"
#include "ssm/estimate/unscented_kalman.hpp"
#include "support/catch.hpp"
#include "support/count_allocations.hpp"

namespace filters_test {

using namespace ssm;
using namespace ssm::test;
using Eigen::MatrixXd;
using Eigen::Vector2d;
using Eigen::VectorXd;
using Noisy = NoisyStateSpace<double>;
using Step = NoisyStep<double>;
using Known = Belief<double>;

namespace {

/// Readings at irregular times, some of one output only.
struct Readings {
  std::vector<double> times;
  std::vector<VectorXd> u, y;
};

Readings random_readings(Random& random, const Noisy& noisy, std::size_t length) {
  Readings readings;
  double time = 3;
  for (std::size_t t = 0; t < length; ++t) {
    if (t > 0) time += t % 4 == 0 ? 0 : random.uniform(.01, .6);
    readings.times.push_back(time);
    readings.u.push_back(normal_vector(random, noisy.system().inputs()));
    readings.y.push_back(normal_vector(random, noisy.system().outputs()));
    if (t % 3 == 1) readings.y.back()(0) = std::nan("");
  }
  return readings;
}

Eigen::Array<bool, Dynamic, 1> measured_of(const VectorXd& y) { return !y.array().isNaN(); }

void check_same(const Known& got, const Known& want, double tolerance = 1e-12) {
  CHECK(distance(got.mean, want.mean) <= tolerance);
  CHECK(distance(got.covariance, want.covariance) <= tolerance);
}

/// A body in flight, seen by its distance and its angle from the origin.
constexpr auto polar = [](const auto& x) {
  return Vector2d(std::hypot(x(0), x(1)), std::atan2(x(1), x(0)));
};

}  // namespace

TEST_CASE("an unscented filter of a linear system is the Kalman filter, wherever its points lie") {
  Random random(51);
  for (const Index n : {1, 3, 5})
    for (const SigmaPoints points :
         {SigmaPoints{}, SigmaPoints{1, 0, 3 - double(n) > -double(n) ? 3 - double(n) : 0},
          SigmaPoints{.5, 2, 0}}) {
      CAPTURE(n, points.alpha);
      const Noisy noisy = random_noisy(random, n, 1, 2);
      const auto& system = noisy.system();
      const Step step = noisy_step(noisy, .2);
      Known got = start_of(n), want = got;
      for (int t = 0; t < 4; ++t) {
        const VectorXd u = normal_vector(random, 1), y = normal_vector(random, 2);
        const auto told = kalman_update(noisy, u, y, want);
        const auto found = unscented_correct(
            [&](const VectorXd& x) { return VectorXd(system.C() * x + system.D() * u); }, noisy.R(),
            y, got, points);
        CHECK(distance(found.gain, told.gain) <= 1e-12);
        CHECK(std::abs(log_likelihood(found) - log_likelihood(told)) <= 1e-11);
        kalman_predict(step, u, want);
        unscented_predict(
            [&](const VectorXd& x) { return VectorXd(step.A_bar * x + step.B_bar * u); },
            step.Q_bar, got, points);
        check_same(got, want, 1e-11);
      }
    }
}

TEST_CASE("an unscented filter knows the mean and the variance of a square") {
  // x of mean m and variance v: x² has mean m² + v, and with points at ± √3 σ variance 4 m² v + 2
  // v²
  Belief<double, 1> belief{Eigen::Matrix<double, 1, 1>(.7), Eigen::Matrix<double, 1, 1>(.3)};
  const auto square = [](const auto& x) { return Eigen::Matrix<double, 1, 1>(x(0) * x(0)); };
  unscented_predict(square, Eigen::Matrix<double, 1, 1>(.1), belief, {1, 0, 2});
  CHECK(belief.mean(0) == Approx(.49 + .3).epsilon(1e-14));
  CHECK(belief.covariance(0) == Approx(4 * .49 * .3 + 2 * .09 + .1).epsilon(1e-14));

  // What is read in polar coordinates leaves a covariance, and the filter finds the body.
  Random random(52);
  const Vector2d at(30, 40);
  const Eigen::Matrix2d R = Vector2d(.01, 1e-4).asDiagonal(),
                        Q = 1e-6 * Eigen::Matrix2d::Identity();
  Belief<double, 2> body{Vector2d(25, 45), 25 * Eigen::Matrix2d::Identity()};
  for (int t = 0; t < 40; ++t) {
    const Vector2d y = polar(at) + Vector2d(.1 * random.normal(), .01 * random.normal());
    unscented_correct(polar, R, y, body);
    REQUIRE(body.covariance == body.covariance.transpose());
    REQUIRE(body.covariance.determinant() > 0);
    unscented_predict([](const Vector2d& x) { return x; }, Q, body);
  }
  CHECK((body.mean - at).norm() <= .5);
  CHECK(allocations_of([&] {
          unscented_correct(polar, R, Vector2d(50, .9), body);
          unscented_predict([](const Vector2d& x) { return x; }, Q, body);
        }) == 0);
  CHECK_THROWS_WITH(unscented_correct(polar, R, Vector2d(50, .9), body, {0, 0, 0}),
                    "unscented_correct: alpha is 0, expected positive and finite");
  // of a function that changes nothing, wherever the points may lie
  const auto step = [](const Known& known, const SigmaPoints& points) {
    Known after = known;
    const MatrixXd none = MatrixXd::Zero(after.mean.size(), after.mean.size());
    unscented_predict([](const VectorXd& x) { return x; }, none, after, points);
    return after.mean;
  };
  const VectorXd far = VectorXd::Constant(1, 1e3), both = VectorXd::Ones(2);
  CHECK(std::abs(step({far, MatrixXd::Ones(1, 1)}, {1e-3, 2, 0})(0) - 1e3) <= 1e-6);
  for (const double alpha : {1e-8, 1e-200, 1e200})
    CHECK_THROWS_AS(step({far, MatrixXd::Ones(1, 1)}, {alpha, 2, 0}), DomainError);
  MatrixXd none(2, 2);
  none << 1, 2, 2, 1;
  CHECK_THROWS_AS(step({both, none}, {}), DomainError);
  CHECK_THROWS_AS(step({both, -MatrixXd::Identity(2, 2)}, {}), DomainError);
  CHECK_THROWS_WITH(step({VectorXd(0), MatrixXd(0, 0)}, {}),
                    "unscented_predict: belief is without states, expected one or more");
  CHECK_THROWS_AS(unscented_correct(polar, R, Vector2d(50, .9), body, {1, 0, -2}), DomainError);
  Known wrong = start_of(3);
  CHECK_THROWS_WITH(unscented_predict([](const VectorXd& x) { return VectorXd(x.head(2)); },
                                      MatrixXd(MatrixXd::Identity(3, 3)), wrong),
                    "unscented_predict: f(x) is (2, 1), expected (3, 1)");
}

TEST_CASE("noise that meters and states share is what making it independent makes of it") {
  Random random(53);
  const Index n = 3, p = 2;
  const MatrixXd joint = random_covariance(random, n + p, .1), N = joint.topRightCorner(n, p);
  const MatrixXd Q = joint.topLeftCorner(n, n), R = joint.bottomRightCorner(p, p);
  const MatrixXd C = random_matrix(random, p, n), told = N * R.inverse();
  const Step shared{random_matrix(random, n, n, .5), random_matrix(random, n, 1), Q};
  const MatrixXd left = Q - told * N.transpose();
  const Step apart{shared.A_bar - told * C, shared.B_bar, (left + left.transpose()) / 2};
  Known got = start_of(n), want = got, plain = got, independent = got;
  for (int t = 0; t < 6; ++t) {
    const VectorXd u = normal_vector(random, 1), y = normal_vector(random, p);
    const auto found = correlated_kalman_step(shared, N, C, R, u, y - C * got.mean, got);
    const auto wanted = kalman_correct<double, Dynamic, Dynamic>(C, R, y - C * want.mean, want);
    CHECK(distance(found.gain, wanted.gain) <= 1e-11);
    kalman_predict(apart, u, want);
    want.mean += told * y;
    check_same(got, want, 1e-11);
    correlated_kalman_step(shared, MatrixXd(0 * N), C, R, u, y - C * plain.mean, plain);
    kalman_correct<double, Dynamic, Dynamic>(C, R, y - C * independent.mean, independent);
    kalman_predict(shared, u, independent);
    check_same(plain, independent, 1e-12);
  }
  for (int t = 0; t < 200; ++t)
    correlated_kalman_step(shared, N, C, R, 0., VectorXd(VectorXd::Zero(p)), got);
  CHECK(distance(got.covariance, steady_kalman(shared, C, R, N).predicted) <= 1e-12);
  CHECK_THROWS_WITH(
      correlated_kalman_step(shared, MatrixXd(3, 1), C, R, 0., VectorXd(VectorXd::Zero(p)), got),
      "correlated_kalman_step: N is (3, 1), expected (3, 2)");
}

TEST_CASE("a gate takes what a right model reads and no outlier") {
  // Abramowitz & Stegun, table 26.8
  CHECK(chi_squared_quantile(.95, 1) == Approx(3.841458820694124).epsilon(1e-12));
  CHECK(chi_squared_quantile(.95, 2) == Approx(5.991464547107979).epsilon(1e-12));
  CHECK(chi_squared_quantile(.999, 10) == Approx(29.58829844).epsilon(1e-8));
  CHECK(chi_squared_quantile(.5, 100) == Approx(99.33412924).epsilon(1e-8));
  CHECK(chi_squared_quantile(0, 3) <= 1e-12);
  CHECK_THROWS_AS(chi_squared_quantile(1, 3), DomainError);
  CHECK_THROWS_AS(chi_squared_quantile(std::nan(""), 3), DomainError);
  CHECK_THROWS_WITH(chi_squared_quantile(.5, 0),
                    "chi_squared_quantile: degrees is 0, expected at least 1");
  CHECK_THROWS_AS(OutlierGate(.9, 0), DomainError);
  CHECK_THROWS_AS(OutlierGate(1.5, 1), DomainError);

  Random random(54);
  const Noisy noisy = random_noisy(random, 3, 1, 2);
  const Step step = noisy_step(noisy, .2);
  const OutlierGate gate(.99, 2);
  const MatrixXd reading = detail::semidefinite_factor(noisy.R());
  const MatrixXd process = detail::semidefinite_factor(step.Q_bar);
  VectorXd x = VectorXd::Zero(3);
  Known belief{x, MatrixXd::Identity(3, 3)};
  int taken = 0;
  Eigen::Array<bool, Dynamic, 1> measured(2);
  for (int t = 0; t < 1000; ++t) {
    const VectorXd y = noisy.system().C() * x + reading * normal_vector(random, 2);
    measured << true, t % 2 == 0;
    const Known before = belief;
    for (const double far : {1e3, std::nan("")}) {
      const VectorXd wild = y.array() + far;
      CHECK_FALSE(gated_update(gate, noisy, 0., wild, measured, belief).taken);
    }
    REQUIRE(belief.mean == before.mean);
    REQUIRE(belief.covariance == before.covariance);
    taken += gated_update(gate, noisy, 0., y, measured, belief).taken ? 1 : 0;
    x = step.A_bar * x + process * normal_vector(random, 3);
    kalman_predict(step, 0., belief);
  }
  CHECK(taken >= 975);
  CHECK(taken <= 1000);
}

TEST_CASE("smoothing at irregular times is filter and smoother, and all readings at once") {
  Random random(55);
  const Noisy noisy = random_noisy(random, 3, 1, 2);
  const Readings r = random_readings(random, noisy, 9);
  const auto result = smooth_readings(noisy, start_of(3), r.times, r.u, r.y);
  // Readings of all times as one: the states that noise makes of start, w_1, w_2, …
  const Index n = 3, p = 2, length = 9;
  MatrixXd P = MatrixXd::Zero(n * length, n * length), C = MatrixXd::Zero(p * length, n * length);
  MatrixXd R = MatrixXd::Zero(p * length, p * length);
  VectorXd mean(n * length), off(p * length);
  mean.head(n) = start_of(3).mean;
  P.topLeftCorner(n, n) = start_of(3).covariance;
  for (Index t = 0; t < length; ++t) {
    const auto at = std::size_t(t);
    if (t > 0) {
      const Step step = noisy_step(noisy, r.times[at] - r.times[at - 1]);
      mean.segment(n * t, n) = step.A_bar * mean.segment(n * (t - 1), n) + step.B_bar * r.u[at - 1];
      P.block(n * t, 0, n, n * t) = step.A_bar * P.block(n * (t - 1), 0, n, n * t);
      P.block(0, n * t, n * t, n) = P.block(n * t, 0, n, n * t).transpose();
      P.block(n * t, n * t, n, n) =
          step.A_bar * P.block(n * (t - 1), n * (t - 1), n, n) * step.A_bar.transpose() +
          step.Q_bar;
    }
    for (Index i = 0; i < p; ++i) {
      const bool read = !std::isnan(r.y[at](i));
      R(p * t + i, p * t + i) = 1;
      off(p * t + i) = 0;
      if (!read) continue;
      C.block(p * t + i, n * t, 1, n) = noisy.system().C().row(i);
      off(p * t + i) = r.y[at](i) - (noisy.system().D() * r.u[at])(i)-noisy.system().C().row(i).dot(
                                        mean.segment(n * t, n));
      for (Index j = 0; j < p; ++j)
        if (!std::isnan(r.y[at](j))) R(p * t + i, p * t + j) = noisy.R()(i, j);
    }
  }
  const MatrixXd K = P * C.transpose() * MatrixXd(C * P * C.transpose() + R).inverse();
  mean += K * off;
  P -= K * C * P;
  for (Index t = 0; t < length; ++t)
    check_same(result.smoothed[std::size_t(t)],
               {mean.segment(n * t, n), MatrixXd(P.block(n * t, n * t, n, n))}, 1e-10);
  Known belief = start_of(3);
  double likelihood = 0;
  FixedLagSmoother<double> smoother(noisy, belief, 8), brief(noisy, belief, 3);
  for (std::size_t t = 0; t < 9; ++t) {
    const auto measured = measured_of(r.y[t]);
    likelihood += log_likelihood(kalman_update(noisy, r.u[t], r.y[t], measured, belief));
    smoother.update(r.u[t], r.y[t], measured);
    brief.update(r.u[t], r.y[t], measured);
    check_same(result.filtered[t], belief);
    check_same(smoother.filtered(), belief);
    // what a lag knows is what an interval that ends here knows
    const Readings until{{r.times.begin(), r.times.begin() + long(t) + 1},
                         {r.u.begin(), r.u.begin() + long(t) + 1},
                         {r.y.begin(), r.y.begin() + long(t) + 1}};
    const auto known = smooth_readings(noisy, start_of(3), until.times, until.u, until.y);
    check_same(brief.smoothed(), known.smoothed[t - std::min<std::size_t>(t, 3)]);
    check_same(smoother.smoothed(), known.smoothed[0]);
    if (t == 8) break;
    kalman_predict(noisy, r.times[t + 1] - r.times[t], r.u[t], belief);
    smoother.predict(r.times[t + 1] - r.times[t], r.u[t]);
    brief.predict(r.times[t + 1] - r.times[t], r.u[t]);
  }
  CHECK(result.log_likelihood == Approx(likelihood).epsilon(1e-13));
  CHECK(smoother.steps_back() == 8);
  for (Index back = 0; back <= 8; ++back)
    check_same(smoother.smoothed(back), result.smoothed[std::size_t(8 - back)]);
  check_same(brief.smoothed(0), belief);
  CHECK_THROWS_WITH(brief.smoothed(4), "FixedLagSmoother: back is 4, expected from 0 to 3");
  CHECK_THROWS_WITH(brief.predict(-1., r.u[0]),
                    "FixedLagSmoother: delta is -1, expected >= 0 and finite");
  CHECK_THROWS_AS(FixedLagSmoother<double>(noisy, start_of(3), -1), DomainError);
  CHECK_THROWS_AS(FixedLagSmoother<double>(noisy, start_of(2), 1), ShapeError);
  FixedLagSmoother<double> none(noisy, start_of(3), 0);
  none.predict(.1, r.u[0]);
  check_same(none.smoothed(), none.filtered());

  Readings bad = r;
  std::swap(bad.times[3], bad.times[7]);
  CHECK_THROWS_AS(smooth_readings(noisy, start_of(3), bad.times, bad.u, bad.y), DomainError);
  bad = r;
  bad.times[2] = std::nan("");
  CHECK_THROWS_WITH(smooth_readings(noisy, start_of(3), bad.times, bad.u, bad.y),
                    "smooth_readings: times[2] is nan, expected finite");
  bad = r;
  bad.u[1](0) = std::nan("");
  CHECK_THROWS_WITH(smooth_readings(noisy, start_of(3), bad.times, bad.u, bad.y),
                    "smooth_readings: inputs[1] is not finite, expected finite");
  bad = r;
  bad.y[1](1) = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(smooth_readings(noisy, start_of(3), bad.times, bad.u, bad.y), DomainError);
  bad = r;
  bad.y.pop_back();
  CHECK_THROWS_WITH(smooth_readings(noisy, start_of(3), bad.times, bad.u, bad.y),
                    "smooth_readings: readings is (8), expected (9)");
  CHECK(smooth_readings(noisy, start_of(3), {}, {}, {}).smoothed.empty());
}

TEST_CASE("what a meter without noise read is smoothed, and a constant without noise") {
  Random random(56);
  const Step still{MatrixXd::Identity(2, 2), MatrixXd::Zero(2, 1), MatrixXd::Zero(2, 2)};
  const MatrixXd C = MatrixXd::Identity(2, 2), R = matrix_of(2, 2, {0, 0, 0, .5});
  std::vector<Step> steps(4, still);
  std::vector<Known> filtered, predicted, smoothed(5);
  Known belief{VectorXd::Zero(2), 1e3 * MatrixXd::Identity(2, 2)};
  for (int t = 0; t < 5; ++t) {
    if (t > 0) kalman_predict(still, 0., belief);
    if (t > 0) predicted.push_back(belief);
    kalman_correct<double, Dynamic, Dynamic>(C, R, Vector2d(3, t) - belief.mean, belief);
    filtered.push_back(belief);
  }
  smooth(steps, filtered, predicted, smoothed);
  for (const Known& known : smoothed) {
    CHECK(known.mean(0) == Approx(3).epsilon(1e-12));
    CHECK(known.mean(1) == Approx(20 / (10 + 1e-3)).epsilon(1e-12));
    CHECK(known.covariance(1, 1) == Approx(1 / (10 + 1e-3)).epsilon(1e-9));
    CHECK(std::abs(known.covariance(0, 0)) <= 1e-25);
  }
}

TEST_CASE("readings and inputs that come late are taken in their place") {
  Random random(57);
  const Noisy noisy = random_noisy(random, 3, 1, 2);
  struct Event {
    double time;
    VectorXd u, y;
    bool steers;
  };
  std::vector<Event> events;
  for (int t = 0; t < 12; ++t)
    events.push_back({1 + .3 * t + random.uniform(0, .1), normal_vector(random, 1),
                      normal_vector(random, 2), t % 3 == 0});
  events[4].y(1) = std::nan("");
  const auto take = [&](KalmanHistory<double>& history, const Event& event) {
    if (event.steers)
      history.steer(event.time, event.u);
    else
      history.read(event.time, event.y, measured_of(event.y));
  };
  KalmanHistory<double> ordered(noisy, start_of(3), 1, 20);
  Known want = start_of(3);
  VectorXd u = VectorXd::Zero(1);
  double now = 1;
  for (const Event& event : events) {
    kalman_predict(noisy, event.time - now, u, want);
    now = event.time;
    if (event.steers)
      u = event.u;
    else
      kalman_update(noisy, u, event.y, measured_of(event.y), want);
    take(ordered, event);
    check_same(ordered.belief(), want);
  }
  for (int trial = 0; trial < 6; ++trial) {
    std::vector<Event> shuffled = events;
    for (std::size_t i = shuffled.size() - 1; i > 0; --i)
      std::swap(shuffled[i], shuffled[std::size_t(random.integer(0, Index(i)))]);
    KalmanHistory<double> history(noisy, start_of(3), 1, 20);
    for (const Event& event : shuffled) take(history, event);
    CHECK(history.belief().mean == ordered.belief().mean);
    CHECK(history.belief().covariance == ordered.belief().covariance);
  }
  Known ahead = want;
  kalman_predict(noisy, .5, u, ahead);
  check_same(ordered.predicted(now + .5), ahead, 1e-11);

  KalmanHistory<double> small(noisy, start_of(3), 1, 4);
  for (const Event& event : events) take(small, event);
  check_same(small.belief(), want);
  CHECK(small.oldest() == events[7].time);
  const std::string late = "KalmanHistory: time is 2, expected at least " +
                           detail::number(small.oldest()) + ", the oldest that is kept";
  CHECK_THROWS_WITH(small.read(2, Vector2d(0, 0)), late);
  CHECK_THROWS_AS(small.read(std::nan(""), Vector2d(0, 0)), DomainError);
  CHECK_THROWS_AS(
      KalmanHistory<double>(noisy, start_of(noisy.system().states()), 0, Index(1) << 60),
      DomainError);
  CHECK(chi_squared_quantile(0, 1) == 0);
  CHECK_THROWS_WITH(small.read(9, Vector2d(0, std::nan(""))),
                    "KalmanHistory: y is not finite, expected finite");
  CHECK_THROWS_AS(small.steer(9, std::nan("")), DomainError);
  CHECK_THROWS_AS(small.read(9, VectorXd(3)), ShapeError);
  CHECK_THROWS_AS(small.predicted(1), DomainError);
  CHECK_THROWS_AS(KalmanHistory<double>(noisy, start_of(3), 1, 0), DomainError);
  CHECK_THROWS_AS(KalmanHistory<double>(noisy, start_of(2), 1, 2), ShapeError);
  check_same(small.belief(), want);
}

TEST_CASE("filters with a memory do not allocate once they are made, for fixed sizes") {
  const Eigen::Matrix2d A = (Eigen::Matrix2d() << 0, 1, -1, -.4).finished();
  const NoisyStateSpace<double, 2, 1, 1> noisy(
      StateSpace(A, Vector2d(0, 1), Eigen::RowVector2d(1, 0)), Eigen::Matrix2d::Identity(),
      Eigen::Matrix<double, 1, 1>(.1));
  const Belief<double, 2> start{Vector2d(0, 0), Eigen::Matrix2d::Identity()};
  FixedLagSmoother<double, 2, 1, 1> smoother(noisy, start, 3);
  KalmanHistory<double, 2, 1, 1> history(noisy, start, 0, 3);
  const OutlierGate gate(.99, 1);
  Belief<double, 2> belief = start, known = start;
  CHECK(allocations_of([&] {
          for (int t = 0; t < 6; ++t) {
            smoother.update(0., .1);
            smoother.predict(.1, .2);
            known = smoother.smoothed();
            history.read(t, .3);
            history.steer(t + .5, .1);
            history.read(t + .2, -.3);
            gated_update(gate, noisy, 0., .4, belief);
          }
        }) == 0);
  CHECK(known.mean.allFinite());
  CHECK(history.belief().mean.allFinite());
}

}  // namespace filters_test
