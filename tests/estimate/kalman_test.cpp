#include "ssm/estimate/kalman.hpp"

#include <Eigen/Cholesky>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "estimate/random_noisy.hpp"
#include "ssm/estimate/extended_kalman.hpp"
#include "ssm/estimate/smoother.hpp"
#include "support/catch.hpp"
#include "support/count_allocations.hpp"

using namespace ssm;
using namespace ssm::test;
using Eigen::Matrix2d;
using Eigen::MatrixXd;
using Eigen::Vector2d;
using Eigen::VectorXd;

namespace {

using Noisy = NoisyStateSpace<double>;
using Step = NoisyStep<double>;
using Known = Belief<double>;

/// A run at irregular steps, and what the filter made of it.
struct Run {
  std::vector<VectorXd> u, y;
  std::vector<Step> steps;
  std::vector<Known> filtered, predicted;
  double log_likelihood = 0;
};

Run random_run(Random& random, const Noisy& noisy, const Known& start, Index length) {
  Run run;
  Known belief = start;
  for (Index t = 0; t < length; ++t) {
    run.u.push_back(normal_vector(random, noisy.system().inputs()));
    run.y.push_back(normal_vector(random, noisy.system().outputs()));
    run.log_likelihood += log_likelihood(kalman_update(noisy, run.u.back(), run.y.back(), belief));
    run.filtered.push_back(belief);
    if (t + 1 == length) break;
    run.steps.push_back(noisy_step(noisy, random.uniform(.01, .8)));
    kalman_predict(run.steps.back(), run.u.back(), belief);
    run.predicted.push_back(belief);
  }
  return run;
}

/// All states of a run as one vector, conditioned on all readings at once, and the density of the
/// readings.
struct Batch {
  Known states;
  double log_likelihood;
};

Batch solve_at_once(const Noisy& noisy, const Known& start, const Run& run) {
  const auto& system = noisy.system();
  const auto length = static_cast<Index>(run.y.size());
  const Index n = system.states(), p = system.outputs();
  VectorXd mean(n * length), expected(p * length), readings(p * length);
  MatrixXd P = MatrixXd::Zero(n * length, n * length), C = MatrixXd::Zero(p * length, n * length);
  MatrixXd R = MatrixXd::Zero(p * length, p * length);
  mean.head(n) = start.mean;
  P.topLeftCorner(n, n) = start.covariance;
  for (Index t = 0; t < length; ++t) {
    const auto at = static_cast<std::size_t>(t);
    if (t > 0) {
      const Step& step = run.steps[at - 1];
      mean.segment(n * t, n) =
          step.A_bar * mean.segment(n * (t - 1), n) + step.B_bar * run.u[at - 1];
      P.block(n * t, 0, n, n * t) = step.A_bar * P.block(n * (t - 1), 0, n, n * t);
      P.block(0, n * t, n * t, n) = P.block(n * t, 0, n, n * t).transpose();
      P.block(n * t, n * t, n, n) =
          step.A_bar * P.block(n * (t - 1), n * (t - 1), n, n) * step.A_bar.transpose() +
          step.Q_bar;
    }
    C.block(p * t, n * t, p, n) = system.C();
    R.block(p * t, p * t, p, p) = noisy.R();
    expected.segment(p * t, p) = system.C() * mean.segment(n * t, n) + system.D() * run.u[at];
    readings.segment(p * t, p) = run.y[at];
  }
  const MatrixXd S = C * P * C.transpose() + R;
  const Eigen::LLT<MatrixXd> factor(S);
  const MatrixXd K = factor.solve(C * P).transpose();
  const VectorXd off = readings - expected;
  const double log_determinant = 2 * MatrixXd(factor.matrixL()).diagonal().array().log().sum();
  return {{mean + K * off, P - K * C * P},
          -.5 * (off.dot(factor.solve(off)) + log_determinant +
                 static_cast<double>(off.size()) * std::log(2 * 3.14159265358979323846))};
}

/// θ'' = −9 sin θ − 0.2 θ'.
constexpr auto pendulum = [](const auto& x) {
  using std::sin;
  using T = typename std::decay_t<decltype(x)>::Scalar;
  return Eigen::Matrix<T, 2, 1>(x(1), -9 * sin(x(0)) - .2 * x(1));
};

Belief<double, 2> swinging() {
  return {Vector2d(1.2, -.5), Matrix2d(Vector2d(.1, .3).asDiagonal())};
}

}  // namespace

TEST_CASE("filter and smoother are the least squares over all readings at once") {
  Random random(1);
  for (const Index states : {1, 2, 4}) {
    CAPTURE(states);
    const Noisy noisy = random_noisy(random, states, 2, 2);
    const Known start = start_of(states);
    Run run = random_run(random, noisy, start, 7);
    const Batch batch = solve_at_once(noisy, start, run);
    CHECK(std::abs(run.log_likelihood - batch.log_likelihood) <=
          1e-12 * std::abs(batch.log_likelihood));
    CHECK(distance(run.filtered.back().mean, batch.states.mean.tail(states).eval()) <= 1e-12);
    CHECK(distance(run.filtered.back().covariance,
                   batch.states.covariance.bottomRightCorner(states, states).eval()) <= 1e-12);

    std::vector<Known> smoothed = run.filtered;
    smooth(run.steps, smoothed, run.predicted, smoothed);
    for (Index t = 0; t < 7; ++t) {
      const Known& known = smoothed[static_cast<std::size_t>(t)];
      CHECK(distance(known.mean, batch.states.mean.segment(states * t, states).eval()) <= 1e-11);
      CHECK(
          distance(known.covariance,
                   batch.states.covariance.block(states * t, states * t, states, states).eval()) <=
          1e-11);
      CHECK(known.covariance == known.covariance.transpose());
    }
  }
}

TEST_CASE("a step split anywhere is the whole step") {
  Random random(2);
  const Noisy noisy = random_noisy(random, 4, 2, 1);
  const VectorXd u = normal_vector(random, 2);
  for (const double first : {1e-6, .2, .7}) {
    Known whole = start_of(4), parts = start_of(4), still = start_of(4);
    kalman_predict(noisy, .9, u, whole);
    kalman_predict(noisy, first, u, parts);
    kalman_predict(noisy, .9 - first, u, parts);
    CHECK(distance(parts.mean, whole.mean) <= 1e-14);
    CHECK(distance(parts.covariance, whole.covariance) <= 1e-14);
    kalman_predict(noisy, 0., u, still);
    CHECK(distance(still.covariance, start_of(4).covariance) <= 1e-15);
  }
}

TEST_CASE("an output that is not measured has no effect, whatever stands in its place") {
  Random random(3);
  const Noisy noisy = random_noisy(random, 4, 1, 3);
  const VectorXd u = normal_vector(random, 1);
  VectorXd y = normal_vector(random, 3);
  const auto& system = noisy.system();
  const Eigen::ArrayXi kept = Eigen::Array2i(0, 2);
  const Noisy fewer({system.A(), system.B(), MatrixXd(system.C()(kept, Eigen::all)),
                     MatrixXd(system.D()(kept, Eigen::all))},
                    noisy.Q(), MatrixXd(noisy.R()(kept, kept)));
  Known want = start_of(4), got = start_of(4), none = start_of(4), all = start_of(4);
  kalman_update(fewer, u, VectorXd(y(kept)), want);
  Eigen::Array<bool, Dynamic, 1> measured(3);
  measured << true, true, true;
  const auto full = kalman_update(noisy, u, y, measured, all);
  Known plain = start_of(4);
  CHECK(distance(full.gain, kalman_update(noisy, u, y, plain).gain) <= 1e-15);
  CHECK(distance(all.covariance, plain.covariance) <= 1e-15);

  y(1) = std::numeric_limits<double>::quiet_NaN();
  measured(1) = false;
  const auto part = kalman_update(noisy, u, y, measured, got);
  CHECK(distance(got.mean, want.mean) <= 1e-14);
  CHECK(distance(got.covariance, want.covariance) <= 1e-14);
  CHECK(part.gain.col(1).norm() == 0);
  CHECK(part.residual(1) == 0);

  y.setConstant(std::numeric_limits<double>::quiet_NaN());
  measured.setConstant(false);
  kalman_update(noisy, u, y, measured, none);
  CHECK(none.mean == start_of(4).mean);
  CHECK(distance(none.covariance, start_of(4).covariance) <= 1e-15);
}

TEST_CASE("a fixed filter does not allocate or throw, and in float follows the one in double") {
  Random random(5);
  const Noisy wide = random_noisy(random, 6, 2, 3);
  const auto& system = wide.system();
  const NoisyStateSpace<float, 6, 2, 3> noisy({system.A().cast<float>(), system.B().cast<float>(),
                                               system.C().cast<float>(), system.D().cast<float>()},
                                              wide.Q().cast<float>(), wide.R().cast<float>());
  const Eigen::Vector2f u(.3f, -1);
  const Eigen::Vector3f y(1, 2, -1);
  const Eigen::Array<bool, 3, 1> measured(true, false, true);
  const Known start = start_of(6);
  Belief<float, 6> belief{start.mean.cast<float>(), start.covariance.cast<float>()};
  const auto step = noisy_step(noisy, .2f);
  static_assert(noexcept(kalman_predict(step, u, belief)));
  static_assert(noexcept(kalman_update(noisy, u, y, belief)));
  static_assert(noexcept(kalman_update(noisy, u, y, measured, belief)));
  static_assert(noexcept(smooth_step(step, belief, belief, belief)));
  Belief<float, 6> earlier, predicted, smoothed;
  CHECK(allocations_of([&] {
          kalman_predict(step, u, belief);
          kalman_update(noisy, u, y, belief);
          earlier = belief;
          kalman_predict(noisy, .7f, u, belief);
          predicted = belief;
          kalman_update(noisy, u, y, measured, belief);
          smoothed = smooth_step(noisy_step(noisy, .7f), earlier, predicted, belief);
        }) == 0);

  Known want = start;
  const VectorXd wide_u = u.cast<double>(), wide_y = y.cast<double>();
  kalman_predict(wide, .2, wide_u, want);
  kalman_update(wide, wide_u, wide_y, want);
  const Known before = want;
  kalman_predict(wide, .7, wide_u, want);
  const Known ahead = want;
  kalman_update(wide, wide_u, wide_y, measured, want);
  const Known back = smooth_step(noisy_step(wide, .7), before, ahead, want);
  CHECK(distance(belief.mean.cast<double>().eval(), want.mean) <= 2e-5);
  CHECK(distance(belief.covariance.cast<double>().eval(), want.covariance) <= 2e-5);
  CHECK(distance(smoothed.mean.cast<double>().eval(), back.mean) <= 2e-5);
  CHECK(distance(smoothed.covariance.cast<double>().eval(), back.covariance) <= 2e-5);
}

TEST_CASE("a time stamp out of order is refused alike for fixed and dynamic sizes") {
  Random random(17);
  const Noisy noisy = random_noisy(random, 2, 1, 1);
  const NoisyStateSpace<double, 2, 1, 1> fixed(
      {noisy.system().A(), noisy.system().B(), noisy.system().C(), noisy.system().D()}, noisy.Q(),
      noisy.R());
  const Known start = start_of(2);
  Known belief = start;
  Belief<double, 2> fixed_belief{start.mean, start.covariance};
  const std::string sentence = "kalman_predict: delta is -0.1, expected >= 0 and finite";
  CHECK_THROWS_WITH(kalman_predict(noisy, -.1, 0., belief), sentence);
  CHECK_THROWS_WITH(kalman_predict(fixed, -.1, 0., fixed_belief), sentence);
  CHECK_THROWS_AS(kalman_predict(fixed, std::nan(""), 0., fixed_belief), DomainError);
  CHECK(belief.mean == start.mean);
  CHECK(fixed_belief.mean == start.mean);
  CHECK(fixed_belief.covariance == start.covariance);
  const auto still = [](const auto& x) { return (0 * x).eval(); };
  CHECK_THROWS_WITH(extended_predict(still, noisy.Q(), -.1, belief),
                    "extended_predict: delta is -0.1, expected >= 0 and finite");
  CHECK_THROWS_AS(extended_predict(still, fixed.Q(), -.1, fixed_belief), DomainError);
}

TEST_CASE("one input and one output are numbers, and vectors may be std::vector") {
  Random random(18);
  const Noisy noisy = random_noisy(random, 2, 1, 1);
  const NoisyStateSpace<double, 2, 1, 1> fixed(
      {noisy.system().A(), noisy.system().B(), noisy.system().C(), noisy.system().D()}, noisy.Q(),
      noisy.R());
  const Known start = start_of(2);
  Known want = start, number = start, range = start;
  Belief<double, 2> belief{start.mean, start.covariance};
  kalman_predict(noisy, .3, one(.7), want);
  kalman_update(noisy, one(.7), one(-.2), want);
  kalman_predict(noisy, .3, .7, number);
  kalman_update(noisy, .7, -.2, number);
  const std::vector<double> u{.7}, y{-.2};
  kalman_predict(noisy, .3, u, range);
  kalman_update(noisy, u, y, range);
  kalman_predict(fixed, .3, .7, belief);
  kalman_update(fixed, u, -.2, belief);
  CHECK(number.mean == want.mean);
  CHECK(range.mean == want.mean);
  CHECK(distance(belief.mean, want.mean) <= 1e-14);
  const std::vector<double> two{1, 2};
  CHECK_THROWS_WITH(kalman_predict(noisy, .3, two, range),
                    "kalman_predict: u is (2, 1), expected (1, 1)");
  CHECK_THROWS_WITH(kalman_predict(fixed, .3, two, belief),
                    "a vector: its size is (2), expected (1)");
}

TEST_CASE("the covariance stays symmetric and positive through readings of high precision") {
  Random random(7);
  auto system = random_system(random, 5, 1, 2);
  const Noisy noisy(std::move(system), 1e-6 * random_covariance(random, 5),
                    1e-8 * MatrixXd::Identity(2, 2));
  Known belief{VectorXd::Zero(5), 1e4 * MatrixXd::Identity(5, 5)};
  for (int t = 0; t < 200; ++t) {
    kalman_update(noisy, VectorXd::Zero(1), normal_vector(random, 2), belief);
    REQUIRE(belief.covariance == belief.covariance.transpose());
    REQUIRE(Eigen::LLT<MatrixXd>(belief.covariance).info() == Eigen::Success);
    kalman_predict(noisy, random.uniform(.001, .1), VectorXd::Zero(1), belief);
  }
}

TEST_CASE("while the model is right, readings are as far off as they are expected to be") {
  Random random(8);
  const Noisy noisy = random_noisy(random, 3, 1, 2);
  const Step step = noisy_step(noisy, .2);
  const MatrixXd process = step.Q_bar.llt().matrixL(), reading = noisy.R().llt().matrixL();
  VectorXd x = VectorXd::Zero(3);
  Known belief{VectorXd::Zero(3), MatrixXd::Identity(3, 3)};
  double sum = 0;
  constexpr int length = 4000;
  for (int t = 0; t < length; ++t) {
    const VectorXd u = normal_vector(random, 1);
    const VectorXd y =
        noisy.system().C() * x + noisy.system().D() * u + reading * normal_vector(random, 2);
    sum += squared_distance(kalman_update(noisy, u, y, belief));
    x = step.A_bar * x + step.B_bar * u + process * normal_vector(random, 3);
    kalman_predict(step, u, belief);
  }
  CHECK(std::abs(sum / length - 2) <= .1);  // three standard deviations: 3 √(4/4000)
}

TEST_CASE("a smoother knows a constant from all its readings alike") {
  const Step still{one(1), one(0), one(0)};
  std::vector<Step> steps(4, still);
  std::vector<Known> filtered, predicted, smoothed(5);
  Known belief{one(0), one(1e6)};
  double sum = 0;
  for (int t = 0; t < 5; ++t) {
    if (t > 0) predicted.push_back(belief);
    kalman_correct(one(1), one(1), one(t) - belief.mean, belief);
    filtered.push_back(belief);
    sum += t;
  }
  smooth(steps, filtered, predicted, smoothed);
  for (const Known& known : smoothed) {
    CHECK(known.mean(0) == Approx(sum / (5 + 1e-6)).epsilon(1e-12));
    CHECK(known.covariance(0) == Approx(1 / (5 + 1e-6)).epsilon(1e-9));
  }
  CHECK_THROWS_WITH(smooth(steps, filtered, filtered, smoothed),
                    "smooth: predicted is (5), expected (4)");
}

TEST_CASE("what is known to the last digit is not learned again, and indefinite noise gives NaN") {
  Known sure{one(0), one(0)};
  const auto never = kalman_correct(one(1), one(0), one(1), sure);
  CHECK(squared_distance(never) == HUGE_VAL);
  CHECK(log_likelihood(never) == -HUGE_VAL);
  const auto nothing = kalman_correct(one(1), one(0), one(0), sure);
  CHECK(sure.mean(0) == 0);
  CHECK(nothing.gain(0) == 0);
  CHECK(log_likelihood(nothing) == 0);
  Known wrong{one(0), one(1)};
  CHECK(std::isnan(log_likelihood(kalman_correct(one(1), one(-2), one(1), wrong))));
  CHECK(std::isnan(wrong.mean(0)));
  Random random(10);
  const auto system = random_system(random, 3, 1, 2);
  CHECK_THROWS_WITH(Noisy(system, MatrixXd(2, 2), MatrixXd(2, 2)),
                    "NoisyStateSpace: Q is (2, 2), expected (3, 3)");
  CHECK_THROWS_AS(noisy_step(random_noisy(random, 2, 1, 1), -1.), DomainError);

  // what overflows: e^400 is a number, and its square is none
  const Noisy grows({one(1), one(1), one(1)}, one(1), one(1));
  Known belief{one(0), one(1)};
  CHECK_THROWS_WITH(kalman_predict(grows, 400., 0., belief),
                    "sampled_noise_covariance: Q_bar of delta = 400 is not finite, expected a "
                    "delta over which the noise does not overflow");
  CHECK_THROWS_AS(kalman_predict(Noisy({one(1), one(1), one(1)}, one(0), one(1)), 400., 0., belief),
                  DomainError);
  CHECK(belief.covariance(0) == 1);
  Known lost{one(0), one(HUGE_VAL)};
  kalman_correct(one(1), one(1), one(1), lost);
  CHECK(std::isnan(lost.mean(0)));
}

TEST_CASE("dynamic sizes that do not fit are refused by name, and the belief stays") {
  Random random(11);
  const Noisy noisy = random_noisy(random, 3, 2, 2);
  const Step step = noisy_step(noisy, .1);
  const VectorXd one_long(1), two = VectorXd::Ones(2), none(0);
  const Known start = start_of(3), small = start_of(2);
  Known belief = start, wrong = small;
  CHECK_THROWS_WITH(kalman_predict(step, none, belief),
                    "kalman_predict: u is (0, 1), expected (2, 1)");
  CHECK_THROWS_WITH(kalman_predict(noisy, .1, two, wrong),
                    "kalman_predict: belief is (2, 1), expected (3, 1)");
  CHECK_THROWS_AS(kalman_predict(noisy, -.1, two, belief), DomainError);
  const Step torn{step.A_bar, step.B_bar, MatrixXd::Identity(2, 2)};
  CHECK_THROWS_WITH(kalman_predict(torn, two, belief),
                    "kalman_predict: Q_bar is (2, 2), expected (3, 3)");
  CHECK_THROWS_WITH(kalman_update(noisy, one_long, two, belief),
                    "kalman_update: u is (1, 1), expected (2, 1)");
  CHECK_THROWS_WITH(kalman_update(noisy, two, none, belief),
                    "kalman_update: y is (0, 1), expected (2, 1)");
  CHECK_THROWS_AS(kalman_update(noisy, two, two, wrong), ShapeError);
  const Eigen::Array<bool, Dynamic, 1> measured = Eigen::Array<bool, Dynamic, 1>::Constant(3, true);
  CHECK_THROWS_WITH(kalman_update(noisy, two, two, measured, belief),
                    "kalman_update: measured is (3, 1), expected (2, 1)");
  CHECK_THROWS_WITH(kalman_correct(noisy.system().C(), one(1), two, belief),
                    "kalman_correct: R is (1, 1), expected (2, 2)");
  CHECK_THROWS_AS(kalman_correct(noisy.system().C(), noisy.R(), one_long, belief), ShapeError);
  CHECK_THROWS_AS(kalman_correct(noisy.system().C(), noisy.R(), two, wrong), ShapeError);
  CHECK_THROWS_WITH(smooth_step(step, belief, wrong, belief),
                    "smooth_step: predicted is (2, 1), expected (3, 1)");

  const VectorXd slope = VectorXd::Ones(3);
  const MatrixXd A = -MatrixXd::Identity(3, 3);
  CHECK_THROWS_WITH(extended_predict(two, A, A, .1, belief),
                    "extended_predict: slope is (2, 1), expected (3, 1)");
  CHECK_THROWS_WITH(extended_predict(slope, A, one(1), .1, belief),
                    "extended_predict: Q is (1, 1), expected (3, 3)");
  CHECK_THROWS_AS(extended_predict(slope, A, noisy.Q(), -.1, belief), DomainError);
  const auto identity = [](const auto& x) { return x.eval(); };
  CHECK_THROWS_WITH(extended_correct(identity, noisy.Q(), two, belief),
                    "extended_correct: y is (2, 1), expected (3, 1)");
  CHECK_THROWS_AS(extended_correct(identity, noisy.R(), slope, belief), ShapeError);
  CHECK(belief.mean == start.mean);
  CHECK(belief.covariance == start.covariance);
}

TEST_CASE("noise that no distribution has is refused") {
  Random random(12);
  const auto system = random_system(random, 2, 1, 2);
  const MatrixXd good = random_covariance(random, 2);
  MatrixXd skew = good, indefinite = good;
  skew(0, 1) += 1e-12 * good.norm();
  indefinite(0, 1) = indefinite(1, 0) = 1.01 * std::sqrt(good(0, 0) * good(1, 1));
  MatrixXd negative = good;
  negative(1, 1) = -1e-300;
  for (const MatrixXd& bad : {skew, negative, MatrixXd(good * std::nan("")), MatrixXd(good / 0.)}) {
    CHECK_THROWS_AS(Noisy(system, bad, good), DomainError);
    CHECK_THROWS_AS(Noisy(system, good, bad), DomainError);
  }
  CHECK_THROWS_WITH(Noisy(system, skew, good),
                    "NoisyStateSpace: Q is not symmetric, expected symmetric");
  CHECK_THROWS_WITH(Noisy(system, good, indefinite),
                    "NoisyStateSpace: R is indefinite, expected positive semidefinite");
  CHECK_THROWS_WITH(Noisy(system, indefinite, good),
                    "NoisyStateSpace: Q is indefinite, expected positive semidefinite");
  MatrixXd unseen = MatrixXd::Zero(2, 2);
  unseen(0, 1) = unseen(1, 0) = 1e-300;
  CHECK_THROWS_AS(Noisy(system, unseen, good), DomainError);
  CHECK_NOTHROW(Noisy(system, good, MatrixXd::Zero(2, 2)));
  CHECK_NOTHROW(Noisy(system, MatrixXd::Zero(2, 2), good));
  skew = good;
  skew(0, 1) *= 1 + 4 * std::numeric_limits<double>::epsilon();
  CHECK_NOTHROW(Noisy(system, skew, skew));
}

TEST_CASE("an extended filter of a linear system is the Kalman filter") {
  Matrix2d A, Q;
  A << -1, 2, .5, -3;
  Q << .4, .1, .1, .2;
  const Vector2d B(1, -.5);
  const Eigen::RowVector2d C(.3, 1);
  using One = Eigen::Matrix<double, 1, 1>;
  const NoisyStateSpace noisy(StateSpace(A, B, C), Q, One(1));
  const One u(.7), y(2);
  Belief<double, 2> want = swinging(), got = swinging();
  for (const double delta : {.1, 3., .02}) {
    kalman_predict(noisy, delta, u, want);
    extended_predict(
        [&](const auto& x) {
          using T = typename std::decay_t<decltype(x)>::Scalar;
          const Eigen::Matrix<T, 2, 1> push = (B * u).template cast<T>();
          return (A.cast<T>() * x + push).eval();
        },
        Q, delta, got);
    CHECK(distance(got.mean, want.mean) <= 1e-14);
    CHECK(distance(got.covariance, want.covariance) <= 1e-14);
    kalman_update(noisy, u, y, want);
    extended_correct(
        [&](const auto& x) {
          using T = typename std::decay_t<decltype(x)>::Scalar;
          return (C.cast<T>() * x).eval();
        },
        One(1), y, got);
    CHECK(distance(got.mean, want.mean) <= 1e-14);
    CHECK(distance(got.covariance, want.covariance) <= 1e-14);
  }
}

TEST_CASE("the mean and the covariance of a pendulum converge with order two") {
  const auto swing = [](int steps) {
    Belief<double, 2> belief = swinging();
    for (int t = 0; t < steps; ++t)
      extended_predict(pendulum, Matrix2d(.1 * Matrix2d::Identity()), 1. / steps, belief);
    return belief;
  };
  const Belief<double, 2> exact = swing(4096), coarse = swing(32), fine = swing(64);
  CHECK(std::log2((coarse.mean - exact.mean).norm() / (fine.mean - exact.mean).norm()) ==
        Approx(2).margin(.1));
  CHECK((fine.mean - exact.mean).norm() <= 1e-3);
  CHECK((fine.covariance - exact.covariance).norm() <
        .6 * (coarse.covariance - exact.covariance).norm());
}

TEST_CASE("a curved reading is weighed by its slope, and a fixed extended step does not allocate") {
  const auto range = [](const auto& x) {  // the distance from the origin
    using std::sqrt;
    using T = typename std::decay_t<decltype(x)>::Scalar;
    return Eigen::Matrix<T, 1, 1>(sqrt(x(0) * x(0) + x(1) * x(1)));
  };
  Belief<double, 2> belief{Vector2d(3, 4), Matrix2d::Identity()};
  const Eigen::Matrix<double, 1, 1> y(5.5), R(1);
  extended_correct(range, R, y, belief);  // along (3, 4)/5 the variance 1 halves, across it stays
  CHECK(distance(belief.mean, Vector2d(3.15, 4.2)) <= 1e-15);
  Matrix2d want;
  want << 1 - .18, -.24, -.24, 1 - .32;
  CHECK(distance(belief.covariance, want) <= 1e-15);

  const Matrix2d Q = Matrix2d::Identity(), A = jacobian(pendulum, belief.mean);
  const Vector2d slope = pendulum(belief.mean);
  CHECK(allocations_of([&] {
          extended_predict(slope, A, Q, .1, belief);
          extended_predict(pendulum, Q, .1, belief);
          extended_correct(range, R, y, belief);
        }) == 0);
}
