#include "ssm/estimate/extended_kalman.hpp"

#include <cmath>

#include "support/catch.hpp"
#include "support/count_allocations.hpp"
#include "support/matrices.hpp"

using namespace ssm;
using namespace ssm::test;
using Eigen::Matrix2d;
using Eigen::Vector2d;

namespace {

using Known = Belief<double, 2>;

/// θ'' = −9 sin θ − 0.2 θ'.
constexpr auto pendulum = [](const auto& x) {
  using std::sin;
  using T = typename std::decay_t<decltype(x)>::Scalar;
  return Eigen::Matrix<T, 2, 1>(x(1), -9 * sin(x(0)) - .2 * x(1));
};

Known swinging() { return {Vector2d(1.2, -.5), Matrix2d(Vector2d(.1, .3).asDiagonal())}; }

}  // namespace

TEST_CASE("an extended filter of a linear system is the Kalman filter") {
  Matrix2d A, Q;
  A << -1, 2, .5, -3;
  Q << .4, .1, .1, .2;
  const Vector2d B(1, -.5);
  const Eigen::RowVector2d C(.3, 1);
  using One = Eigen::Matrix<double, 1, 1>;
  const NoisyStateSpace noisy(StateSpace(A, B, C), Q, One(1));
  const One u(.7), y(2);
  Known want = swinging(), got = swinging();
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
    Known belief = swinging();
    for (int t = 0; t < steps; ++t)
      extended_predict(pendulum, Matrix2d(.1 * Matrix2d::Identity()), 1. / steps, belief);
    return belief;
  };
  const Known exact = swing(4096), coarse = swing(32), fine = swing(64);
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
  Known belief{Vector2d(3, 4), Matrix2d::Identity()};
  const Eigen::Matrix<double, 1, 1> y(5.5), R(1);
  extended_correct(range, R, y, belief);  // along (3, 4)/5 the variance 1 halves, across it stays
  CHECK(distance(belief.mean, Vector2d(3.15, 4.2)) <= 1e-15);
  Matrix2d want;
  want << 1 - .18, -.24, -.24, 1 - .32;
  CHECK(distance(belief.covariance, want) <= 1e-15);

  const Matrix2d Q = Matrix2d::Identity(), A = jacobian(pendulum, belief.mean);
  const Vector2d slope = pendulum(belief.mean);
  static_assert(noexcept(extended_predict(slope, A, Q, .1, belief)));
  CHECK(allocations_of([&] {
          extended_predict(slope, A, Q, .1, belief);
          extended_predict(pendulum, Q, .1, belief);
          extended_correct(range, R, y, belief);
        }) == 0);
}
