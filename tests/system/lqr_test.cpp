#include "ssm/system/lqr.hpp"

#include <Eigen/Dense>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "ssm/system/riccati.hpp"
#include "support/catch.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace lqr_test {

using namespace ssm;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

using ssm::test::distance;
using ssm::test::Random;

MatrixXd draw_covariance(Random& random, Index size) {
  const MatrixXd root = draw_matrix(random, size, size);
  const MatrixXd square = root * root.transpose() + .1 * MatrixXd::Identity(size, size);
  return (square + square.transpose()) / 2;
}

using System = StateSpace<double>;
using Sampled = DiscreteStateSpace<double>;

struct Plant {
  MatrixXd A, B, Q, R, N;
  [[nodiscard]] Index states() const { return A.rows(); }
  [[nodiscard]] Index inputs() const { return B.cols(); }
  [[nodiscard]] System continuous() const { return {A, B, MatrixXd::Zero(1, states())}; }
  [[nodiscard]] Sampled discrete() const {
    return {A, B, MatrixXd::Zero(1, states()), MatrixXd::Zero(1, inputs()), 1.};
  }
};

/// A plant with a cost of both x and u, not negative.
Plant random_plant(Random& random, Index states, Index inputs) {
  const MatrixXd cost = draw_covariance(random, states + inputs);
  return {draw_matrix(random, states, states) / std::sqrt(double(states)),
          draw_matrix(random, states, inputs), cost.topLeftCorner(states, states),
          cost.bottomRightCorner(inputs, inputs), cost.topRightCorner(states, inputs)};
}

MatrixXd matrix(Index rows, Index cols, std::initializer_list<double> values) {
  MatrixXd result(rows, cols);
  auto value = values.begin();
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j) result(i, j) = *value++;
  return result;
}

MatrixXd zero(Index size) { return MatrixXd::Zero(size, size); }
MatrixXd identity(Index size) { return MatrixXd::Identity(size, size); }

LinearQuadraticRegulator<double> best(const Plant& plant, bool discrete) {
  return discrete ? discrete_lqr(plant.discrete(), plant.Q, plant.R, plant.N)
                  : lqr(plant.continuous(), plant.Q, plant.R, plant.N);
}

VectorXd random_units(Random& random, Index size) {
  VectorXd units(size);
  for (double& unit : units) unit = std::ldexp(1., int(random.integer(-60, 60)));
  return units;
}

}  // namespace

TEST_CASE("units of states and inputs scale gain and cost exactly") {
  Random random(21);
  for (const bool discrete : {false, true})
    for (const Index n : {1, 2, 5, 9}) {
      CAPTURE(discrete, n);
      Plant plant = random_plant(random, n, 1 + n / 3);
      if (n == 5) plant.N.setZero();
      if (n == 9) plant.Q.setZero();  // the least control that stops what is unstable
      if (n == 9) plant.N.setZero();
      if (n == 5 && discrete) plant.R.row(0).setZero();  // an input that costs nothing
      if (n == 5 && discrete) plant.R.col(0).setZero();
      const auto want = best(plant, discrete);
      for (int trial = 0; trial < 3; ++trial) {
        const VectorXd s = random_units(random, n), u = random_units(random, plant.inputs());
        const auto S = s.asDiagonal(), U = u.asDiagonal();
        const MatrixXd back = s.cwiseInverse().asDiagonal();
        const Plant scaled{back * plant.A * S, back * plant.B * U, S * plant.Q * S, U * plant.R * U,
                           S * plant.N * U};
        const auto got = best(scaled, discrete);
        CHECK(got.P == S * want.P * S);
        CHECK(MatrixXd(U * got.K) == want.K * S);
      }
    }
}

TEST_CASE("the order of states and inputs changes nothing but the order of the result") {
  Random random(22);
  for (const bool discrete : {false, true}) {
    const Index n = 7;
    Plant plant = random_plant(random, n, 2);
    // a chain of lags from fast to slow among them
    plant.A.setZero();
    for (Index i = 0; i < n; ++i) {
      const double rate = std::pow(10., discrete ? -double(i) : 3 - 2. * double(i));
      plant.A(i, i) = discrete ? 1 - rate / 2 : -rate;
      if (i > 0) plant.A(i, i - 1) = rate;
    }
    const auto want = best(plant, discrete);
    std::vector<int> order(std::size_t{7});
    for (int trial = 0; trial < 5; ++trial) {
      std::iota(order.begin(), order.end(), 0);
      for (Index i = n - 1; i > 0; --i)
        std::swap(order[std::size_t(i)], order[std::size_t(random.integer(0, i))]);
      const Plant shuffled{plant.A(order, order), plant.B(order, Eigen::all), plant.Q(order, order),
                           plant.R, plant.N(order, Eigen::all)};
      const auto got = best(shuffled, discrete);
      const MatrixXd P = want.P(order, order), K = want.K(Eigen::all, order);
      const VectorXd unit = P.diagonal().cwiseSqrt().cwiseInverse();
      CHECK((unit.asDiagonal() * (got.P - P) * unit.asDiagonal()).cwiseAbs().maxCoeff() <= 1e-13);
      CHECK((got.K - K).norm() <= 1e-12 * K.norm());
    }
  }
}

TEST_CASE("a cross term is what completing the square makes of it") {
  Random random(23);
  for (const Index n : {1, 3, 6})
    for (const Index m : {1, 2}) {
      CAPTURE(n, m);
      const Plant plant = random_plant(random, n, m);
      const MatrixXd inner = plant.R.llt().solve(plant.N.transpose());
      const MatrixXd reduced = plant.Q - plant.N * inner;
      const Plant square{plant.A - plant.B * inner, plant.B, (reduced + reduced.transpose()) / 2,
                         plant.R, MatrixXd::Zero(n, m)};
      for (const bool discrete : {false, true}) {
        const auto got = best(plant, discrete), want = best(square, discrete);
        CHECK(distance(got.P, want.P) <= 1e-12);
        CHECK(distance(got.K, MatrixXd(want.K + inner)) <= 1e-12);
        const MatrixXd P = discrete ? discrete_riccati(plant.A, plant.B, plant.Q, plant.R, plant.N)
                                    : riccati(plant.A, plant.B, plant.Q, plant.R, plant.N);
        CHECK(P == got.P);
      }
    }
}

TEST_CASE("a cost that was reduced to nothing by hand is nothing, and one below zero is refused") {
  const MatrixXd A = matrix(2, 2, {.5, .1, 0, .8}), B = matrix(2, 1, {0, 1}), R = identity(1);
  const double rest = -5e-17;
  for (const MatrixXd& Q :
       {matrix(2, 2, {0, rest, rest, 0}), matrix(2, 2, {rest, 0, 0, 0}),
        matrix(2, 2, {1e-17, rest, rest, 2e-17}), matrix(2, 2, {1, 0, 0, rest})}) {
    CAPTURE(Q);
    for (const bool unstable : {false, true}) {
      const MatrixXd plant = unstable ? MatrixXd(3 * A) : A;
      const MatrixXd clean = Q(0, 0) == 1 ? matrix(2, 2, {1, 0, 0, 0}) : zero(2);
      const Plant noisy{plant, B, Q, R, MatrixXd::Zero(2, 1)}, exact{plant, B, clean, R, noisy.N};
      const auto got = best(noisy, true), want = best(exact, true);
      CHECK((got.K - want.K).norm() <= 1e-14 * (1 + want.K.norm()));
    }
    const Plant stable{A - identity(2), B, Q, R, MatrixXd::Zero(2, 1)};
    CHECK(lqr(stable.continuous(), Q, R).K.norm() <= 1);
  }
  for (const Index n : {2, 5, 12}) {  // most states cost nothing
    CAPTURE(n);
    Random random(27);
    MatrixXd Q = zero(n), stable = draw_matrix(random, n, n, .1) - identity(n);
    stable.topRightCorner(1, n - 1).setZero();
    stable.bottomLeftCorner(n - 1, 1).setZero();
    Q(0, 0) = 1;
    const Plant plant{stable, draw_matrix(random, n, 2), Q, identity(2), MatrixXd::Zero(n, 2)};
    const MatrixXd P = best(plant, false).P;
    CHECK(MatrixXd(P.bottomRightCorner(n - 1, n - 1)).norm() <= 1e-14 * P(0, 0));
    CHECK(lqr(plant.continuous(), zero(n), identity(2)).P.norm() == 0);
  }
  // The same by a cross term: Q − N R⁻¹ Nᵀ is zero but for rounding, as where outputs cost.
  Random random(24);
  for (int trial = 0; trial < 20; ++trial) {
    const MatrixXd C = draw_matrix(random, 2, 4), D = draw_matrix(random, 2, 2);
    const MatrixXd plant = draw_matrix(random, 4, 4), drive = draw_matrix(random, 4, 2);
    const Plant read{plant, drive, C.transpose() * C, D.transpose() * D, C.transpose() * D};
    const Plant least{plant - drive * D.inverse() * C, drive, zero(4), read.R,
                      MatrixXd::Zero(4, 2)};
    const auto got = best(read, false), want = best(least, false);
    const double doubt = 1e-12 * (D.inverse().norm() * D.norm() + want.P.norm());
    CHECK(distance(got.K, MatrixXd(want.K + D.inverse() * C)) <= doubt);
  }

  const Plant plant{A, B, matrix(2, 2, {0, -1e-9, -1e-9, 0}), R, MatrixXd::Zero(2, 1)};
  CHECK_THROWS_WITH(discrete_lqr(plant.discrete(), plant.Q, R),
                    "discrete_lqr: Q is indefinite, expected positive semidefinite");
  CHECK_THROWS_WITH(discrete_lqr(plant.discrete(), identity(2), R, matrix(2, 1, {2, 0})),
                    "discrete_lqr: the matrix of Q, N and R is indefinite, expected positive "
                    "semidefinite");
}

TEST_CASE("an input that costs nothing is used without limit, where Q sees what it moves") {
  Random random(25);
  // As many free inputs as states end all in a step: K = B⁻¹ A, P = Q.
  const Plant free{draw_matrix(random, 3, 3), draw_matrix(random, 3, 3), draw_covariance(random, 3),
                   zero(3), zero(3)};
  const auto ended = best(free, true);
  CHECK(distance(ended.P, free.Q) <= 1e-13);
  CHECK(distance(ended.K, MatrixXd(free.B.lu().solve(free.A))) <= 1e-13);

  // The limit of a small cost.
  for (const Index n : {1, 2, 4, 6}) {
    CAPTURE(n);
    Plant plant = random_plant(random, n, 2);
    plant.N.setZero();
    plant.R = matrix(2, 2, {1, 1, 1, 1});
    if (n == 1) plant.R = matrix(2, 2, {0, 0, 0, 1});
    const auto got = best(plant, true);
    plant.R += 1e-10 * identity(2);
    const auto near = best(plant, true);
    CHECK(distance(got.P, near.P) <= 1e-7);
    CHECK(distance(got.K, near.K) <= 1e-6);
  }
  // Two steps from the input to what costs.
  const Plant chain{matrix(2, 2, {1, 1, 0, 1}), matrix(2, 1, {0, 1}), matrix(2, 2, {1, 0, 0, 0}),
                    zero(1), MatrixXd::Zero(2, 1)};
  const auto two = best(chain, true);
  CHECK(distance(two.K, matrix(1, 2, {1, 2})) <= 1e-13);
  CHECK(distance(two.P, matrix(2, 2, {2, 1, 1, 1})) <= 1e-13);

  const MatrixXd Q = matrix(2, 2, {1, 0, 0, 0});
  const Plant unseen{matrix(2, 2, {.5, 0, 0, .5}), identity(2), Q, zero(2), zero(2)};
  CHECK_THROWS_WITH(
      best(unseen, true),
      "discrete_lqr: R is singular, expected a cost of each input or of what it moves");
  CHECK_THROWS_WITH(lqr(chain.continuous(), Q, zero(1)),
                    "lqr: R is not positive definite, expected positive definite");
  CHECK_THROWS_WITH(discrete_lqr(chain.discrete(), Q, MatrixXd(-identity(1))),
                    "discrete_lqr: R is indefinite, expected positive semidefinite");
}

TEST_CASE("a mode that the cost does not see, or the input does not reach, is named") {
  const MatrixXd R = identity(1);
  const Plant rest{matrix(2, 2, {0, 1, 0, 0}), matrix(2, 1, {0, 1}), matrix(2, 2, {0, 0, 0, 1}), R,
                   MatrixXd::Zero(2, 1)};
  const std::string want = "a cost of every mode that neither grows nor decays";
  CHECK_THROWS_WITH(lqr(rest.continuous(), rest.Q, R),
                    "lqr: the mode at 0 is not seen by Q, expected " + want);
  const Plant swing{matrix(2, 2, {0, 2, -2, 0}), rest.B, zero(2), R, rest.N};
  CHECK_THROWS_WITH(lqr(swing.continuous(), swing.Q, R),
                    "lqr: the mode at 0 +- 2i is not seen by Q, expected " + want);
  const Plant sampled{matrix(2, 2, {1, 1, 0, 1}), rest.B, rest.Q, R, rest.N};
  CHECK_THROWS_WITH(discrete_lqr(sampled.discrete(), sampled.Q, R),
                    "discrete_lqr: the mode at 1 is not seen by Q, expected " + want);
  const Plant lost{matrix(2, 2, {3, 0, 0, -1}), rest.B, identity(2), R, rest.N};
  const std::string reach =
      "the mode at 3 is not reached by B, expected every mode that does not decay to be reached by "
      "an input";
  CHECK_THROWS_WITH(lqr(lost.continuous(), lost.Q, R), "lqr: " + reach);
  CHECK_THROWS_WITH(discrete_lqr(lost.discrete(), lost.Q, R), "discrete_lqr: " + reach);

  // In other coordinates, of whole numbers, and units, and hidden among others.
  const MatrixXd V = matrix(3, 3, {1, 0, 0, 2, 1, 0, -1, 3, 1});
  const MatrixXd back = matrix(3, 3, {1, 0, 0, -2, 1, 0, 7, -3, 1});
  const MatrixXd poles = Eigen::Vector3d(-1, 0, 2).asDiagonal(), eye = matrix(1, 3, {1, 0, 2});
  Random random(26);
  for (int trial = 0; trial < 4; ++trial) {
    const VectorXd unit = random_units(random, 3), inverse = unit.cwiseInverse();
    const MatrixXd to = unit.asDiagonal(), from = inverse.asDiagonal(), C = eye * back * from;
    const Plant hidden{to * V * poles * back * from, to * V * matrix(3, 1, {1, 2, -1}),
                       C.transpose() * C, R, MatrixXd::Zero(3, 1)};
    CHECK_THROWS_WITH(lqr(hidden.continuous(), hidden.Q, R),
                      "lqr: the mode at 0 is not seen by Q, expected " + want);
  }
}

TEST_CASE("regulators refuse what is not finite or does not fit, by name") {
  const double nan = std::nan(""), infinite = std::numeric_limits<double>::infinity();
  const Plant good{matrix(2, 2, {0, 1, 0, 0}), matrix(2, 1, {0, 1}), identity(2), identity(1),
                   MatrixXd::Zero(2, 1)};
  for (const double bad : {nan, infinite}) {
    Plant plant = good;
    plant.A(0, 0) = bad;
    CHECK_THROWS_WITH(best(plant, false), "lqr: A is not finite, expected finite");
    plant = good;
    plant.B(0) = bad;
    CHECK_THROWS_WITH(best(plant, true), "discrete_lqr: B is not finite, expected finite");
    plant = good;
    plant.Q(1, 0) = bad;
    CHECK_THROWS_WITH(best(plant, false), "lqr: Q is not finite, expected finite");
    plant = good;
    plant.R(0) = bad;
    CHECK_THROWS_WITH(best(plant, false), "lqr: R is not finite, expected finite");
    plant = good;
    plant.N(1) = bad;
    CHECK_THROWS_WITH(best(plant, true), "discrete_lqr: N is not finite, expected finite");
  }
  CHECK_THROWS_WITH(lqr(good.continuous(), good.Q, good.R, zero(2)),
                    "lqr: N is (2, 2), expected (2, 1)");
}

}  // namespace lqr_test
