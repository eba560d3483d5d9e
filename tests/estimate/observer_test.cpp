#define EIGEN_RUNTIME_NO_MALLOC  // as in the precompiled header
#include "ssm/estimate/observer.hpp"

#include <Eigen/LU>
#include <cmath>
#include <vector>

#include "estimate/random_noisy.hpp"
#include "ssm/estimate/steady_kalman.hpp"
#include "support/catch.hpp"
#include "support/count_allocations.hpp"

using namespace ssm;
using namespace ssm::test;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

using Noisy = NoisyStateSpace<double>;
using Step = NoisyStep<double>;
using Known = Belief<double>;

}  // namespace

TEST_CASE("the steady filter is where the filter of equal steps settles, and a closed form") {
  Random random(4);
  const Noisy noisy = random_noisy(random, 4, 1, 2);
  const auto steady = steady_kalman(noisy, .3);
  const Step step = noisy_step(noisy, .3);
  Known belief = start_of(4);
  const VectorXd u = VectorXd::Zero(1), y = VectorXd::Zero(2);
  MatrixXd gain;
  for (int t = 0; t < 300; ++t) {
    kalman_predict(step, u, belief);
    if (t == 299) CHECK(distance(belief.covariance, steady.predicted) <= 1e-13);
    gain = kalman_update(noisy, u, y, belief).gain;
  }
  CHECK(distance(belief.covariance, steady.corrected) <= 1e-13);
  CHECK(distance(gain, steady.gain) <= 1e-13);

  // A random walk: P = (q + √(q² + 4 q r))/2
  for (const double q : {1e-6, .3, 50.}) {
    const double r = 2, P = (q + std::sqrt(q * q + 4 * q * r)) / 2;
    const auto walk = steady_kalman(Noisy({one(0), one(0), one(1)}, one(q), one(r)), 1.);
    CHECK(std::abs(walk.predicted(0) / P - 1) <= 1e-12);
    CHECK(std::abs(walk.gain(0) / (P / (P + r)) - 1) <= 1e-12);
  }
}

TEST_CASE("an observer's error decays by A_bar − L C, and with a Kalman gain it is the filter") {
  Random random(9);
  const Noisy noisy = random_noisy(random, 4, 2, 2);
  const auto sampled = zero_order_hold(noisy.system(), .2);
  const auto steady = steady_kalman(noisy, .2);
  const MatrixXd L = sampled.A_bar() * steady.gain;
  const Observer<double> observer(sampled, L);
  VectorXd x = normal_vector(random, 4), observed = VectorXd::Zero(4);
  Known belief{VectorXd::Zero(4), steady.predicted};
  VectorXd error = observed - x;
  for (int t = 0; t < 30; ++t) {
    const VectorXd u = normal_vector(random, 2);
    const VectorXd y = sampled.C() * x + sampled.D() * u;
    observer_step(observer, u, y, observed);
    kalman_update(noisy, u, y, belief);
    kalman_predict(noisy, .2, u, belief);
    x = sampled.A_bar() * x + sampled.B_bar() * u;
    error = (sampled.A_bar() - L * sampled.C()) * error;
    CHECK((observed - x - error).norm() <= 1e-12);
    CHECK((observed - belief.mean).norm() <= 1e-12);
  }
  const VectorXd three = VectorXd::Zero(3), two = VectorXd::Zero(2);
  const VectorXd before = observed;
  CHECK_THROWS_WITH(observer_step(observer, three, two, observed),
                    "observer_step: u is (3, 1), expected (2, 1)");
  CHECK_THROWS_AS(observer_step(observer, two, three, observed), ShapeError);
  VectorXd small = two;
  CHECK_THROWS_AS(observer_step(observer, two, two, small), ShapeError);
  CHECK(observed == before);
  CHECK_THROWS_WITH(Observer<double>(sampled, MatrixXd(3, 2)),
                    "Observer: gain is (3, 2), expected (4, 2)");
}

TEST_CASE("a step of an observer does not allocate, and takes numbers for one input and output") {
  Random random(10);
  const auto sampled = zero_order_hold(random_noisy(random, 3, 1, 1).system(), .2);
  const Observer<double> observer(sampled, MatrixXd::Constant(3, 1, .1));
  const DiscreteStateSpace<double, 3, 1, 1> small(sampled.A_bar(), sampled.B_bar(), sampled.C(),
                                                  sampled.D(), sampled.delta());
  const Observer<double, 3, 1, 1> fixed(small, Eigen::Vector3d::Constant(.1));
  VectorXd x = VectorXd::Zero(3), want = x;
  Eigen::Vector3d fixed_x(0, 0, 0);
  observer_step(observer, .4, -2., want);
  const VectorXd u = VectorXd::Constant(1, .4);
  const std::vector<double> y{-2};
  Eigen::internal::set_is_malloc_allowed(false);
  CHECK(allocations_of([&] {
          observer_step(observer, u, y, x);
          observer_step(fixed, .4, -2., fixed_x);
        }) == 0);
  Eigen::internal::set_is_malloc_allowed(true);
  CHECK(distance(x, want) <= 1e-15);
  CHECK(distance(fixed_x, want) <= 1e-15);

  const Observer<double> large(
      DiscreteStateSpace<double>(MatrixXd::Identity(300, 300) / 2, MatrixXd::Ones(300, 1),
                                 MatrixXd::Zero(1, 300), MatrixXd::Zero(1, 1), 1.),
      MatrixXd::Ones(300, 1));
  VectorXd many = VectorXd::Ones(300);
  observer_step(large, 1., 2., many);
  CHECK(many == VectorXd::Constant(300, 3.5));
}

TEST_CASE("a steady filter of meters without noise, of correlated noise and in continuous time") {
  Random random(31);
  // Position read without noise: the filter of equal steps settles on the same.
  const Step step{matrix_of(2, 2, {1, .1, 0, 1}), MatrixXd::Zero(2, 1),
                  matrix_of(2, 2, {1e-3 / 3, 5e-3, 5e-3, .1})};
  const MatrixXd C = matrix_of(1, 2, {1, 0});
  const auto perfect = steady_kalman(step, C, one(0));
  Known belief{VectorXd::Zero(2), MatrixXd::Identity(2, 2)};
  for (int t = 0; t < 100; ++t) {
    kalman_correct<double, Dynamic, Dynamic>(C, one(0), one(0), belief);
    if (t < 99) kalman_predict(step, one(0), belief);
  }
  CHECK(std::abs(perfect.corrected(0, 0)) <= 1e-18);
  CHECK(distance(belief.covariance, perfect.corrected) <= 1e-12);
  CHECK(perfect.gain(0) == Approx(1).epsilon(1e-14));
  CHECK_NOTHROW(Noisy({MatrixXd::Zero(2, 2), MatrixXd::Zero(2, 1), C}, step.Q_bar, one(0)));

  // Noise that the meters share: made independent by what the reading tells of it.
  const Index n = 3, p = 2;
  const MatrixXd joint = random_covariance(random, n + p, .1);
  const MatrixXd Q = joint.topLeftCorner(n, n), R = joint.bottomRightCorner(p, p);
  const MatrixXd N = joint.topRightCorner(n, p), seen = random_matrix(random, p, n);
  const Step shared{random_matrix(random, n, n, .5), MatrixXd::Zero(n, 1), Q};
  const MatrixXd told = N * R.inverse(), left = Q - told * N.transpose();
  const Step apart{shared.A_bar - told * seen, shared.B_bar, (left + left.transpose()) / 2};
  const auto got = steady_kalman(shared, seen, R, N), want = steady_kalman(apart, seen, R);
  CHECK(distance(got.predicted, want.predicted) <= 1e-12);
  CHECK(distance(got.gain, want.gain) <= 1e-12);
  CHECK(distance(got.predictor_gain, MatrixXd(want.predictor_gain + told)) <= 1e-12);
  CHECK(distance(want.predictor_gain, MatrixXd(apart.A_bar * want.gain)) <= 1e-12);

  // Readings that come ever faster, of a variance that makes up for it.
  const Noisy noisy = random_noisy(random, 3, 1, 2);
  const auto& system = noisy.system();
  const auto bucy = kalman_bucy(system, noisy.Q(), noisy.R());
  const double delta = 1e-5;
  const auto fast = steady_kalman(Noisy(system, noisy.Q(), MatrixXd(noisy.R() / delta)), delta);
  CHECK(distance(fast.corrected, bucy.covariance) <= 1e-3);
  CHECK(distance(MatrixXd(fast.gain / delta), bucy.gain) <= 1e-3);
  CHECK(distance(MatrixXd(kalman_bucy(system, noisy.Q(), noisy.R(), MatrixXd::Zero(3, 2)).gain),
                 bucy.gain) == 0);
}

TEST_CASE("a filter that does not settle says which mode no meter reads or no noise drives") {
  const MatrixXd C = matrix_of(1, 2, {1, 1}), R = one(1);
  // a constant bias beside what is read
  const Step bias{matrix_of(2, 2, {.5, 0, 0, 1}), MatrixXd::Zero(2, 1),
                  matrix_of(2, 2, {1, 0, 0, 0})};
  CHECK_THROWS_WITH(steady_kalman(bias, C, R),
                    "steady_kalman: the mode at 1 is not driven by Q_bar, expected noise on every "
                    "mode that neither grows nor decays, as a constant bias has none");
  const Step grows{matrix_of(2, 2, {.5, 0, 0, 2}), MatrixXd::Zero(2, 1), MatrixXd::Identity(2, 2)};
  CHECK_THROWS_WITH(steady_kalman(grows, matrix_of(1, 2, {1, 0}), R),
                    "steady_kalman: the mode at 2 is not seen by C, expected every mode that does "
                    "not decay to be read by a meter");
  const StateSpace<double> still(MatrixXd::Zero(2, 2), MatrixXd::Zero(2, 1),
                                 matrix_of(1, 2, {1, 0}));
  CHECK_THROWS_WITH(kalman_bucy(still, MatrixXd::Identity(2, 2), R),
                    "kalman_bucy: the mode at 0 is not seen by C, expected every mode that does "
                    "not decay to be read by a meter");
  CHECK_THROWS_WITH(kalman_bucy(still, MatrixXd::Identity(2, 2), one(0)),
                    "kalman_bucy: R is not positive definite, expected positive definite");
  Step broken = grows;
  broken.A_bar(0, 0) = std::nan("");
  CHECK_THROWS_WITH(steady_kalman(broken, C, R),
                    "steady_kalman: A_bar is not finite, expected finite");
  broken = grows;
  broken.Q_bar(0, 0) = -1;
  CHECK_THROWS_WITH(steady_kalman(broken, C, R),
                    "steady_kalman: Q_bar is indefinite, expected positive semidefinite");
  CHECK_THROWS_WITH(steady_kalman(grows, MatrixXd(1, 3), R),
                    "steady_kalman: C is (1, 3), expected (1, 2)");
  const Noisy noisy(still, MatrixXd::Identity(2, 2), R);
  CHECK_THROWS_WITH(steady_kalman(noisy, 0.),
                    "steady_kalman: delta is 0, expected positive and finite");
}
