#include "ssm/scan/simulation.hpp"

#include <cmath>
#include <vector>

#include "support/catch.hpp"
#include "support/contains.hpp"

using namespace ssm;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using ssm::test::contains;

namespace {

/// x' = −x + u, y = x.
const StateSpace<double, 1, 1, 1> lag(Eigen::Matrix<double, 1, 1>(-1),
                                      Eigen::Matrix<double, 1, 1>(1),
                                      Eigen::Matrix<double, 1, 1>(1));

}  // namespace

TEST_CASE("a simulation in a line gives times, outputs and states, exact at irregular times") {
  const std::vector<double> times{0, .1, .35, 2, 2.5};
  const auto made = simulate(lag, times, 1.);
  REQUIRE(made.y.rows() == 5);
  REQUIRE(made.x.cols() == 1);
  for (Index i = 0; i < 5; ++i) {
    CHECK(made.t(i) == times[static_cast<std::size_t>(i)]);
    CHECK(made.y(i, 0) == Approx(1 - std::exp(-made.t(i))).margin(1e-14));
    CHECK(made.x(i, 0) == made.y(i, 0));
  }
  const auto falling = simulate(lag, times, 0., 2.);
  for (Index i = 0; i < 5; ++i)
    CHECK(falling.y(i, 0) == Approx(2 * std::exp(-falling.t(i))).epsilon(1e-14));
}

TEST_CASE("an input may be a matrix, a vector, a std::vector, a number or a function of time") {
  const VectorXd times = VectorXd::LinSpaced(21, 0, 2);
  const auto wave = [](double t) { return std::sin(t); };
  const auto made = simulate(lag, times, wave, {}, InputHold::first_order);
  const VectorXd column = times.array().sin();
  const MatrixXd matrix = column;
  const std::vector<double> list(column.begin(), column.end());
  CHECK(simulate(lag, times, column, {}, InputHold::first_order).y == made.y);
  CHECK(simulate(lag, times, matrix, {}, InputHold::first_order).y == made.y);
  CHECK(simulate(lag, times, list, {}, InputHold::first_order).y == made.y);
  for (Index i = 0; i < 21; ++i) {  // (sin t − cos t + e^{−t})/2
    const double t = times(i);
    CHECK(std::abs(made.y(i, 0) - (std::sin(t) - std::cos(t) + std::exp(-t)) / 2) <= 1e-3);
  }
  const auto stepped = simulate(lag, .1, list, {}, InputHold::first_order);
  CHECK((stepped.y - made.y).norm() <= 1e-13);
  CHECK(stepped.t(20) == Approx(2));

  const StateSpace<double> pair(-MatrixXd::Identity(2, 2), MatrixXd::Identity(2, 2),
                                MatrixXd::Ones(1, 2));
  const auto both = [](double t) { return Eigen::Vector2d(1, t); };
  MatrixXd rows(21, 2);
  for (Index i = 0; i < 21; ++i) rows.row(i) = both(times(i));
  const VectorXd start = Eigen::Vector2d(1, 2);
  CHECK(simulate(pair, times, both, start).y == simulate(pair, times, rows, start).y);
}

TEST_CASE("a sampled system is simulated as its equations say, before the step") {
  const MatrixXd A{{.5, .1}, {0, .8}}, B{{1}, {2}}, C{{1, -1}}, D{{3}};
  const DiscreteStateSpace<double> sampled(A, B, C, D, .2);
  const std::vector<double> u{1, -2, 0, 4};
  const std::vector<double> start{1, 1};
  const auto made = simulate(sampled, u, start);
  VectorXd x = Eigen::Vector2d(1, 1);
  for (Index i = 0; i < 4; ++i) {
    CHECK(made.t(i) == Approx(.2 * static_cast<double>(i)));
    CHECK((made.x.row(i).transpose() - x).norm() <= 1e-15);
    CHECK(made.y(i, 0) == Approx((C * x)(0) + 3 * u[static_cast<std::size_t>(i)]));
    x = A * x + B * u[static_cast<std::size_t>(i)];
  }
  CHECK(simulate(sampled, std::vector<double>{}).y.rows() == 0);
}

TEST_CASE("a simulation names what does not fit") {
  const std::vector<double> times{0, 1, 1}, u{1, 2}, two{0, 1};
  CHECK_THROWS_WITH(simulate(lag, times, 1.), contains("simulate: time 2 is"));
  CHECK_THROWS_WITH(simulate(lag, two, times), "simulate: u is (3, 1), expected (2, 1)");
  CHECK_THROWS_WITH(simulate(lag, two, MatrixXd(2, 3)), "simulate: u is (2, 3), expected (2, 1)");
  CHECK_THROWS_WITH(simulate(lag, 0., u), "simulate: delta is 0, expected positive and finite");
  const StateSpace<double> wide(lag.A(), lag.B(), lag.C());
  CHECK_THROWS_WITH(simulate(wide, two, u, two), "simulate: x0 is (2, 1), expected (1, 1)");
}
