#include <Eigen/LU>
#include <cmath>
#include <limits>
#include <vector>

#include "ssm/discretize/continuous_horizon_lqr.hpp"
#include "ssm/discretize/sampled_lqr.hpp"
#include "ssm/system/finite_horizon_lqr.hpp"
#include "ssm/system/lqi.hpp"
#include "ssm/system/lqr.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace regulators_test {

using namespace ssm;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using ssm::test::contains;
using System = StateSpace<double>;
using Sampled = DiscreteStateSpace<double>;
using Step = RegulatedStep<double>;

namespace {

using ssm::test::distance;
using ssm::test::Random;

MatrixXd draw_covariance(Random& random, Index size) {
  const MatrixXd root = draw_matrix(random, size, size);
  const MatrixXd square = root * root.transpose() + .1 * MatrixXd::Identity(size, size);
  return (square + square.transpose()) / 2;
}

MatrixXd identity(Index size) { return MatrixXd::Identity(size, size); }

Step random_step(Random& random, Index n, Index m) {
  const MatrixXd cost = draw_covariance(random, n + m);
  return {draw_matrix(random, n, n) / std::sqrt(double(n)), draw_matrix(random, n, m),
          cost.topLeftCorner(n, n), cost.bottomRightCorner(m, m), cost.topRightCorner(n, m)};
}

Sampled sampled(const Step& step) {
  const Index n = step.A.rows(), m = step.B.cols();
  return {step.A, step.B, identity(n), MatrixXd::Zero(n, m), .1};
}

/// The inputs that cost least from x on, as one least-squares problem, and what they cost.
double least_cost(const std::vector<Step>& steps, const MatrixXd& end, const VectorXd& x,
                  VectorXd& first) {
  const Index n = x.size(), m = steps[0].B.cols(), all = m * Index(steps.size());
  // x_t = F x + G u, of all inputs as one vector
  MatrixXd F = identity(n), G = MatrixXd::Zero(n, all), H = MatrixXd::Zero(all, all);
  VectorXd g = VectorXd::Zero(all);
  double constant = 0;
  for (std::size_t t = 0; t < steps.size(); ++t) {
    const Step& s = steps[t];
    MatrixXd U = MatrixXd::Zero(m, all);
    U.middleCols(m * Index(t), m) = identity(m);
    const VectorXd at = F * x;
    H += G.transpose() * s.Q * G + G.transpose() * s.N * U + U.transpose() * s.N.transpose() * G +
         U.transpose() * s.R * U;
    g += G.transpose() * s.Q * at + U.transpose() * s.N.transpose() * at;
    constant += at.dot(s.Q * at);
    F = s.A * F;
    G = s.A * G + s.B * U;
  }
  const VectorXd at = F * x;
  H += G.transpose() * end * G;
  g += G.transpose() * end * at;
  constant += at.dot(end * at);
  const VectorXd u = -H.lu().solve(g);
  first = u.head(m);
  return constant + g.dot(u);
}

}  // namespace

TEST_CASE("a regulator of some steps is the least squares over all inputs at once") {
  Random random(61);
  for (const Index n : {1, 3})
    for (const std::size_t length : {std::size_t(1), std::size_t(5)}) {
      CAPTURE(n, length);
      std::vector<Step> steps;
      for (std::size_t t = 0; t < length; ++t) steps.push_back(random_step(random, n, 2));
      const MatrixXd end = draw_covariance(random, n);
      const VectorXd x = draw_matrix(random, n, 1);
      const auto got = finite_horizon_lqr(steps, end);
      VectorXd first;
      const double cost = least_cost(steps, end, x, first);
      CHECK(got.K.size() == length);
      CHECK(got.P.size() == length + 1);
      CHECK(distance(got.P[length], end) <= 1e-15);
      CHECK(x.dot(got.P[0] * x) == Approx(cost).epsilon(1e-11));
      CHECK((got.K[0] * x + first).norm() <= 1e-11 * (1 + first.norm()));
      for (const MatrixXd& P : got.P) CHECK(P == P.transpose());

      const std::vector<Step> same(length, steps[0]);
      const auto listed = finite_horizon_lqr(same, end);
      const auto equal = finite_horizon_lqr(sampled(steps[0]), steps[0].Q, steps[0].R, end,
                                            Index(length), steps[0].N);
      CHECK(equal.P[0] == listed.P[0]);
      CHECK(equal.K[0] == listed.K[0]);
    }
}

TEST_CASE("with many steps the first gain is that of no end, and no steps cost the end") {
  Random random(62);
  const Step step = random_step(random, 4, 2);
  const MatrixXd none = MatrixXd::Zero(4, 4);
  const auto want = discrete_lqr(sampled(step), step.Q, step.R, step.N);
  const auto got = finite_horizon_lqr(sampled(step), step.Q, step.R, none, 300, step.N);
  CHECK(distance(got.P[0], want.P) <= 1e-12);
  CHECK(distance(got.K[0], want.K) <= 1e-12);
  const auto rest = finite_horizon_lqr(sampled(step), step.Q, step.R, step.Q, 0);
  CHECK(rest.K.empty());
  CHECK(distance(rest.P[0], step.Q) <= 1e-15);
  CHECK(distance(finite_horizon_lqr(std::vector<Step>{}, step.Q).P[0], step.Q) <= 1e-15);
  // Inputs that cost nothing: all is spent in the last step but one that the end sees.
  const Step free = random_step(random, 2, 2);
  const auto deadbeat =
      finite_horizon_lqr(sampled(free), MatrixXd::Zero(2, 2), MatrixXd::Zero(2, 2), identity(2), 1);
  CHECK(distance(MatrixXd(free.B * deadbeat.K[0]), free.A) <= 1e-12);
}

TEST_CASE("regulators of some steps refuse what is wrong and name the step") {
  Random random(63);
  std::vector<Step> steps(3, random_step(random, 2, 1));
  const MatrixXd end = identity(2);
  steps[1].Q = -identity(2);
  CHECK_THROWS_WITH(
      finite_horizon_lqr(steps, end),
      "finite_horizon_lqr at step 1: Q is indefinite, expected positive semidefinite");
  steps[1] = steps[0];
  steps[2].A(0) = std::nan("");
  CHECK_THROWS_WITH(finite_horizon_lqr(steps, end),
                    "finite_horizon_lqr at step 2: A is not finite, expected finite");
  steps[2] = steps[0];
  steps[0].R = MatrixXd(2, 2);
  CHECK_THROWS_WITH(finite_horizon_lqr(steps, end),
                    "finite_horizon_lqr at step 0: R is (2, 2), expected (1, 1)");
  steps[0] = steps[1];
  steps[2].R.setZero();
  steps[2].N.setZero();
  CHECK_THROWS_WITH(finite_horizon_lqr(steps, MatrixXd(MatrixXd::Zero(2, 2))),
                    "finite_horizon_lqr at step 2: R + B' P B is singular, expected a cost of each "
                    "input or of what it moves");
  CHECK_THROWS_WITH(
      finite_horizon_lqr(steps, MatrixXd(-end)),
      "finite_horizon_lqr at the end: Q is indefinite, expected positive semidefinite");
  CHECK_THROWS_WITH(finite_horizon_lqr(steps, MatrixXd(2, 3)),
                    "finite_horizon_lqr: Q_end is (2, 3), expected (2, 2)");
  const Step& good = steps[0];
  CHECK_THROWS_WITH(finite_horizon_lqr(sampled(good), good.Q, good.R, end, -1),
                    "finite_horizon_lqr: steps is -1, expected 0 to 2^31");
  CHECK_THROWS_AS(finite_horizon_lqr(sampled(good), good.Q, MatrixXd(-good.R), end, 1),
                  DomainError);
}

TEST_CASE("a regulator of a time in continuous time follows its Riccati equation, stiff or long") {
  const MatrixXd one = MatrixXd::Ones(1, 1), none = MatrixXd::Zero(1, 1);
  // x' = u, Q = R = 1: P = tanh(t_e − t)
  const StateSpace<double> integrator(none, one, one);
  const std::vector<double> times{-3, 0.25, 0.5, 0.999999, 1};
  const auto plain = finite_horizon_lqr(integrator, one, one, none, times);
  for (std::size_t i = 0; i < times.size(); ++i) {
    CHECK(std::abs(plain.P[i](0) - std::tanh(1 - times[i])) <= 1e-15);
    CHECK(plain.K[i] == plain.P[i]);
  }
  // P' by differences, cross term and end among what it holds, and what it becomes: that of lqr
  ssm::test::Random random(21);
  const Index n = 4, m = 2;
  const MatrixXd A = draw_matrix(random, n, n), B = draw_matrix(random, n, m);
  const MatrixXd half = draw_matrix(random, n + m, n + m), whole = half * half.transpose();
  const MatrixXd Q = whole.topLeftCorner(n, n), R = whole.bottomRightCorner(m, m);
  const MatrixXd cross = whole.topRightCorner(n, m), end = MatrixXd::Identity(n, n) * 3;
  const StateSpace<double> system(A, B, MatrixXd::Identity(1, n));
  const double h = 1e-4;
  const auto regulator =
      finite_horizon_lqr(system, Q, R, end, std::vector<double>{-1e3, 0, h, 2 * h, 0.1}, cross);
  const MatrixXd slope = (regulator.P[3] - regulator.P[1]) / (2 * h), &value = regulator.P[2];
  const MatrixXd driven = value * B + cross;
  const MatrixXd want =
      -(A.transpose() * value + value * A - driven * R.inverse() * driven.transpose() + Q);
  CHECK((slope - want).norm() <= 1e-6 * want.norm());
  CHECK((regulator.K[2] - R.inverse() * driven.transpose()).norm() <= 1e-12 * want.norm());
  CHECK(regulator.P.back() == end);
  const auto steady = lqr(system, Q, R, cross);
  CHECK((regulator.P[0] - steady.P).norm() <= 1e-9 * steady.P.norm());
  // closed-loop rates of 1 and 1e6, over 1e12 time constants of the faster
  const MatrixXd rates = Eigen::Vector2d(-1e-4, -1e6).asDiagonal();
  const StateSpace<double> stiff(rates, MatrixXd::Ones(2, 1), MatrixXd::Ones(1, 2));
  const MatrixXd I = MatrixXd::Identity(2, 2);
  const auto far_back = finite_horizon_lqr(stiff, I, one, I, std::vector<double>{-1e6, 0});
  CHECK((far_back.P[0] - lqr(stiff, I, one).P).norm() <= 4e-9);
  CHECK(lqr(stiff, I, 1).K == lqr(stiff, I, one).K);
  // refusals
  CHECK_THROWS_WITH(finite_horizon_lqr(integrator, one, one, none, std::vector<double>{1, 1}),
                    contains("times at 1 is 1, expected finite and above the one before"));
  CHECK_THROWS_AS(finite_horizon_lqr(integrator, one, one, none, std::vector<double>{}),
                  ShapeError);
  CHECK_THROWS_AS(finite_horizon_lqr(integrator, one, none, none, times), DomainError);
  CHECK_THROWS_AS(finite_horizon_lqr(integrator, -one, one, none, times), DomainError);
}

TEST_CASE("a sampled regulator counts what happens between samples") {
  Random random(64);
  for (const Index n : {1, 3}) {
    CAPTURE(n);
    Step step = random_step(random, n, 2);
    const System plant(step.A, step.B, identity(n));
    // The cost of a step is that of ever shorter ones, with the same u, to second order.
    const double delta = .8;
    const auto cost = sampled_cost(plant, step.Q, step.R, delta, step.N);
    const auto parts = [&](int count) {
      const auto held = zero_order_hold(plant, delta / count);
      MatrixXd F = MatrixXd::Zero(n + 2, n + 2), W = F, state = identity(n + 2), sum = F;
      F << held.A_bar(), held.B_bar(), MatrixXd::Zero(2, n), identity(2);
      W << step.Q, step.N, step.N.transpose(), step.R;
      for (int k = 0; k < count; ++k) {
        const MatrixXd next = F * state;
        sum += delta / count / 2 *
               (state.transpose() * W * state + next.transpose() * W * next);  // trapezoids
        state = next;
      }
      return sum;
    };
    const MatrixXd sum = (4 * parts(256) - parts(128)) / 3;
    CHECK(distance(cost.Q, MatrixXd(sum.topLeftCorner(n, n))) <= 1e-9);
    CHECK(distance(cost.N, MatrixXd(sum.topRightCorner(n, 2))) <= 1e-9);
    CHECK(distance(cost.R, MatrixXd(sum.bottomRightCorner(2, 2))) <= 1e-9);

    const auto got = sampled_lqr(plant, step.Q, step.R, delta, step.N);
    const auto want = discrete_lqr(zero_order_hold(plant, delta), cost.Q, cost.R, cost.N);
    CHECK(distance(got.P, want.P) <= 1e-13);
    CHECK(distance(got.K, want.K) <= 1e-13);
    const auto fast = sampled_lqr(plant, step.Q, step.R, 1e-6, step.N);
    const auto always = lqr(plant, step.Q, step.R, step.N);
    CHECK(distance(fast.P, always.P) <= 1e-4);
    CHECK(distance(fast.K, always.K) <= 1e-4);
    CHECK(got.P.trace() >= always.P.trace());
  }
  // Seen only by the middle of a step: a swing of which each sample is at rest.
  const double pi = 3.14159265358979323846;
  MatrixXd swing(2, 2);
  swing << 0, 2 * pi, -2 * pi, 0;
  const System plant(swing, identity(2), identity(2));
  CHECK_NOTHROW(sampled_lqr(plant, identity(2), identity(2), .3));
  CHECK_THROWS_WITH(sampled_lqr(plant, identity(2), identity(2), 0.),
                    "sampled_lqr: delta is 0, expected positive and finite");
  CHECK_THROWS_AS(sampled_lqr(plant, identity(2), identity(2), 1.), ConvergenceError);
  MatrixXd skew = identity(2);
  skew(0, 1) = .1;
  CHECK_THROWS_WITH(sampled_lqr(plant, skew, identity(2), .3),
                    "sampled_lqr: Q is not symmetric, expected symmetric");
  CHECK_THROWS_WITH(sampled_cost(plant, identity(3), identity(2), .3),
                    "sampled_cost: Q is (3, 3), expected (2, 2)");
  CHECK_THROWS_WITH(sampled_lqr(plant, MatrixXd(-identity(2)), identity(2), .3),
                    contains("indefinite"));
}

TEST_CASE("a sampled regulator in fixed sizes and in float is that in double") {
  const StateSpace plant((Eigen::Matrix2f() << 0, 1, 2, -1).finished(), Eigen::Vector2f(0, 1),
                         Eigen::RowVector2f(1, 0));
  const Eigen::Matrix2f Q = Eigen::Matrix2f::Identity();
  const Eigen::Matrix<float, 1, 1> R(.1f);
  const auto got = sampled_lqr(plant, Q, R, .1f);
  static_assert(std::is_same_v<decltype(got), const LinearQuadraticRegulator<float, 2, 1>>);
  const System wide(plant.A().cast<double>(), plant.B().cast<double>(), plant.C().cast<double>());
  const auto want = sampled_lqr(wide, Q.cast<double>(), R.cast<double>(), double(.1f));
  CHECK(distance(got.K.cast<double>(), want.K) <= 1e-6);
}

TEST_CASE("integral action brings the outputs to their references, whatever the plant really is") {
  Random random(65);
  const Index n = 3, p = 2;
  const MatrixXd A = draw_matrix(random, n, n), B = draw_matrix(random, n, p);
  const MatrixXd C = draw_matrix(random, p, n), D = .1 * draw_matrix(random, p, p);
  const System plant(A, B, C, D);
  const MatrixXd Q = identity(n + p), R = .1 * identity(p);
  const auto best = lqi(plant, Q, R);
  const auto steady_output = [&](const System& real, const IntegralRegulator<double>& gains,
                                 const VectorXd& r, const VectorXd& push) {
    // at rest: 0 = A x + B u + push, 0 = r − C x − D u, u = −K x − K_integral z
    MatrixXd M = MatrixXd::Zero(n + p, n + p);
    M << real.A() - real.B() * gains.K, -real.B() * gains.K_integral,
        -real.C() + real.D() * gains.K, real.D() * gains.K_integral;
    VectorXd known(n + p);
    known << -push, -r;
    const VectorXd rest = M.lu().solve(known);
    const VectorXd u = -gains.K * rest.head(n) - gains.K_integral * rest.tail(p);
    return VectorXd(real.C() * rest.head(n) + real.D() * u);
  };
  const VectorXd r = draw_matrix(random, p, 1), push = draw_matrix(random, n, 1);
  CHECK((steady_output(plant, best, r, push) - r).norm() <= 1e-12);
  const System other(A + draw_matrix(random, n, n, .02), 1.05 * B, C, D);
  CHECK((steady_output(other, best, r, push) - r).norm() <= 1e-12);

  // Sampled ever faster it is that in continuous time.
  const double delta = 1e-6;
  const Sampled fast = zero_order_hold(plant, delta);
  const auto stepped = discrete_lqi(fast, MatrixXd(delta * Q), MatrixXd(delta * R));
  CHECK(distance(stepped.K, best.K) <= 1e-4);
  CHECK(distance(stepped.K_integral, best.K_integral) <= 1e-4);

  // An output that no constant input moves: a zero at 0.
  const MatrixXd still = (MatrixXd(2, 2) << 0, 1, -1, -1).finished();
  const System blocked(still, MatrixXd(Eigen::Vector2d(0, 1)), MatrixXd(Eigen::RowVector2d(0, 1)));
  CHECK_THROWS_WITH(lqi(blocked, identity(3), identity(1)),
                    contains("the mode at 0 is not reached by B"));
  CHECK_THROWS_WITH(lqi(plant, identity(3), R), "lqi: Q is (3, 3), expected (5, 5)");
}

}  // namespace regulators_test
