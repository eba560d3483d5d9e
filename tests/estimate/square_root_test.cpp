#include <Eigen/LU>
#include <cmath>
#include <limits>

#include "estimate/random_noisy.hpp"
#include "ssm/estimate/square_root_kalman.hpp"
#include "support/catch.hpp"
#include "support/count_allocations.hpp"

namespace square_root_test {

using namespace ssm;
using namespace ssm::test;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using Noisy = NoisyStateSpace<double>;
using Step = NoisyStep<double>;

namespace {

/// The deviation of the velocity after the third reading of position of a body that drifts: the
/// slope of a line through three readings when Q is small.
template <class Known>
double velocity_deviation(double prior, double reading) {
  using T = typename Known::Mean::Scalar;
  constexpr int n = Known::Mean::RowsAtCompileTime;
  NoisyStep<T, n, 1> step;
  step.A_bar = Eigen::Matrix<T, 2, 2>::Identity();
  step.A_bar(0, 1) = T(1);
  step.B_bar = Eigen::Matrix<T, 2, 1>::Zero();
  step.Q_bar = T(1e-2 * reading) * Eigen::Matrix<T, 2, 2>::Identity();
  Eigen::Matrix<T, 1, n> C(T(1), T(0));
  Known belief;
  belief.mean.setZero();
  const double deviation = std::sqrt(prior);
  if constexpr (requires { belief.factor; })
    belief.factor = T(deviation) * Eigen::Matrix<T, 2, 2>::Identity();
  else
    belief.covariance = prior * Eigen::Matrix2d::Identity();
  const Eigen::Matrix<T, 1, 1> R{T(reading)}, u{T(0)}, residual{T(0)};
  for (int t = 0; t < 3; ++t) {
    if (t > 0) kalman_predict(step, u, belief);
    kalman_correct<T, n, 1>(C, R, residual, belief);
  }
  if constexpr (requires { belief.factor; })
    return std::sqrt(belief.covariance()(1, 1));
  else
    return std::sqrt(belief.covariance(1, 1));
}

}  // namespace

TEST_CASE(
    "a filter in float is as sure as it may be, for readings 10^12 times as sure as the prior") {
  CHECK(velocity_deviation<Belief<float, 2>>(1e4, 1e-4) == Approx(.00719372).epsilon(1e-5));
  CHECK(velocity_deviation<SquareRootBelief<float, 2>>(1e4, 1e-4) ==
        Approx(.00719372).epsilon(1e-3));
  for (const double ratio : {1e4, 1e8, 1e10, 1e12}) {
    CAPTURE(ratio);
    const double want = .719372 * std::sqrt(1e-4);  // of readings of 1e-4
    const double prior = 1e-4 * ratio;
    CHECK(velocity_deviation<Belief<double, 2>>(prior, 1e-4) == Approx(want).epsilon(1e-3));
    CHECK(velocity_deviation<Belief<float, 2>>(prior, 1e-4) == Approx(want).epsilon(1e-3));
    CHECK(velocity_deviation<SquareRootBelief<float, 2>>(prior, 1e-4) == Approx(want).epsilon(.2));
    CHECK(velocity_deviation<SquareRootBelief<double, 2>>(prior, 1e-4) ==
          Approx(want).epsilon(1e-3));
  }
  CHECK(velocity_deviation<SquareRootBelief<double, 2>>(1e16, 1e-8) ==
        Approx(.719372e-4).epsilon(1e-3));
}

TEST_CASE("the square-root filter is the filter") {
  Random random(41);
  for (const Index n : {1, 3, 6})
    for (const Index p : {1, 3}) {
      CAPTURE(n, p);
      const Noisy noisy = random_noisy(random, n, 2, p);
      Belief<double> want = start_of(n);
      SquareRootBelief<double> got = square_root_belief(want.mean, want.covariance);
      CHECK(distance(got.covariance(), want.covariance) <= 1e-14);
      Eigen::Array<bool, Dynamic, 1> measured = Eigen::Array<bool, Dynamic, 1>::Constant(p, true);
      for (int t = 0; t < 8; ++t) {
        const VectorXd u = normal_vector(random, 2), y = normal_vector(random, p);
        measured(p - 1) = t % 3 != 2;
        const auto told = kalman_update(noisy, u, y, measured, want);
        const auto found = kalman_update(noisy, u, y, measured, got);
        CHECK(distance(found.gain, told.gain) <= 1e-12);
        CHECK(distance(found.covariance, told.covariance) <= 1e-12);
        CHECK(std::abs(log_likelihood(found) - log_likelihood(told)) <= 1e-12);
        const double delta = random.uniform(0, .5);
        kalman_predict(noisy, delta, u, want);
        kalman_predict(noisy, delta, u, got);
        CHECK(distance(got.mean, want.mean) <= 1e-12);
        CHECK(distance(got.covariance(), want.covariance) <= 1e-12);
        for (Index j = 1; j < n; ++j) CHECK(got.factor.col(j).head(j).isZero(0));
      }
    }
}

TEST_CASE("meters without noise, and noise that some states have not, are taken as they are") {
  Random random(42);
  auto system = random_system(random, 4, 1, 2);
  MatrixXd Q = MatrixXd::Zero(4, 4), R = MatrixXd::Zero(2, 2);
  Q(0, 0) = .3;
  R(1, 1) = .2;
  const Noisy noisy(system, Q, R);
  Belief<double> want = start_of(4);
  SquareRootBelief<double> got = square_root_belief(want.mean, want.covariance);
  for (int t = 0; t < 20; ++t) {
    const VectorXd y = normal_vector(random, 2);
    for (int again = 0; again < 2; ++again) {  // what is known is not learned again
      const auto told = kalman_update(noisy, 0., y, want);
      const auto found = kalman_update(noisy, 0., y, got);
      CHECK(told.covariance(0, 0) * (again == 0 ? 0 : 1) == 0);
      CHECK(found.covariance(0, 0) * (again == 0 ? 0 : 1) == 0);
      CHECK(std::abs(log_likelihood(found) - log_likelihood(told)) <= 1e-8);
    }
    CHECK((system.C().row(0) * want.mean - y.head(1)).norm() <= 1e-9);
    kalman_predict(noisy, .3, 0., want);
    kalman_predict(noisy, .3, 0., got);
    CHECK(distance(got.covariance(), want.covariance) <= 1e-7);
    CHECK(distance(got.mean, want.mean) <= 1e-7);
  }
}

TEST_CASE("what is missing adds nothing to the likelihood of what was read") {
  const MatrixXd A = matrix_of(2, 2, {0, 1, -1, -.4}), Q = matrix_of(2, 2, {0, 0, 0, .3});
  const MatrixXd R = matrix_of(2, 2, {.5, 0, 0, .4}), C = MatrixXd::Identity(2, 2);
  const Noisy both({A, MatrixXd::Zero(2, 1), C}, Q, R);
  const Noisy first({A, MatrixXd::Zero(2, 1), MatrixXd(C.topRows(1))}, Q,
                    MatrixXd(R.block(0, 0, 1, 1)));
  Belief<double> got = start_of(2), want = start_of(2);
  Eigen::Array<bool, Dynamic, 1> measured(2);
  for (int t = 0; t < 5; ++t) {
    measured << (t % 2 == 0), false;
    const auto told = kalman_update(both, 0., Eigen::Vector2d(.3, std::nan("")), measured, got);
    CHECK(outputs_read(told) == (t % 2 == 0 ? 1 : 0));
    if (t % 2 == 0) {
      const auto alone = kalman_update(first, 0., .3, want);
      CHECK(log_likelihood(told) == Approx(log_likelihood(alone)).epsilon(1e-14));
      CHECK(squared_distance(told) == Approx(squared_distance(alone)).epsilon(1e-14));
    } else {
      CHECK(log_likelihood(told) == 0);
      CHECK(squared_distance(told) == 0);
    }
    kalman_predict(both, .2, 0., got);
    kalman_predict(first, .2, 0., want);
  }
  CHECK(distance(got.covariance, want.covariance) <= 1e-14);
}

TEST_CASE("a fixed square-root filter does not allocate, and refuses what is no covariance") {
  NoisyStep<float, 3, 1> step{Eigen::Matrix3f::Identity(), Eigen::Vector3f::Ones(),
                              .1f * Eigen::Matrix3f::Identity()};
  SquareRootBelief<float, 3> belief{Eigen::Vector3f::Zero(), Eigen::Matrix3f::Identity()};
  const Eigen::Matrix<float, 2, 3> C = Eigen::Matrix<float, 2, 3>::Ones();
  const Eigen::Matrix2f R = Eigen::Matrix2f::Identity();
  const Eigen::Vector2f residual(1, 2);
  static_assert(noexcept(kalman_predict(step, 1.f, belief)));
  static_assert(noexcept(kalman_correct(C, R, residual, belief)));
  CHECK(allocations_of([&] {
          kalman_predict(step, 1.f, belief);
          kalman_correct(C, R, residual, belief);
        }) == 0);
  CHECK_THROWS_WITH(square_root_belief(Eigen::Vector2d(0, 0), matrix_of(2, 2, {1, 2, 2, 1})),
                    "square_root_belief: covariance is indefinite, expected positive semidefinite");
  CHECK_THROWS_WITH(square_root_belief(VectorXd(3), MatrixXd(2, 2)),
                    "square_root_belief: covariance is (2, 2), expected (3, 3)");
  SquareRootBelief<double> wrong{VectorXd::Zero(2), MatrixXd::Zero(3, 3)};
  CHECK_THROWS_WITH(kalman_correct<double>(MatrixXd(1, 2), one(1), one(0), wrong),
                    "kalman_correct: belief is (3, 3), expected (2, 2)");
}

}  // namespace square_root_test
