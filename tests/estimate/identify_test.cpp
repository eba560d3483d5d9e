#include <algorithm>
#include <cmath>
#include <complex>

#include "ssm/estimate/identify_arx.hpp"
#include "ssm/estimate/identify_subspace.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace identify_test {

using namespace ssm;
using ssm::test::contains;
using ssm::test::distance;
using ssm::test::random_matrix;
using Complex = std::complex<double>;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

/// A stable system, or one with a pole of `radius`.
DiscreteStateSpace<double> plant(ssm::test::Random& random, Index n, Index m, Index p,
                                 double radius = 0.9) {
  MatrixXd A = random_matrix(random, n, n);
  double size = n > 0 ? 0 : 1;
  for (const Complex& pole : detail::real_eigenvalues("plant", detail::RealMatrix(A)))
    size = std::max(size, std::abs(pole));
  return {A * (radius / size), random_matrix(random, n, m), random_matrix(random, p, n),
          random_matrix(random, p, m), 0.1};
}

MatrixXd simulated(const DiscreteStateSpace<double>& system, const MatrixXd& u, VectorXd x,
                   ssm::test::Random* random = nullptr, double noise = 0) {
  MatrixXd y(u.rows(), system.outputs());
  for (Index t = 0; t < u.rows(); ++t) {
    // products with nothing are left out: Eigen would point beside no memory
    y.row(t).setZero();
    if (x.size() > 0) y.row(t) += (system.C() * x).transpose();
    if (u.cols() > 0) y.row(t) += (system.D() * u.row(t).transpose()).transpose();
    if (random != nullptr) y.row(t) += noise * random_matrix(*random, 1, system.outputs());
    if (x.size() > 0) x = (system.A_bar() * x).eval();
    if (x.size() > 0 && u.cols() > 0) x += system.B_bar() * u.row(t).transpose();
    if (random != nullptr) x += noise * random_matrix(*random, x.size(), 1);
  }
  return y;
}

MatrixXd response(const DiscreteStateSpace<double>& system) {
  // the first Markov parameters, row by row: D, CB, CAB, …
  const Index count = 20;
  MatrixXd all(count * system.outputs(), system.inputs());
  MatrixXd x = system.B_bar();
  all.topRows(system.outputs()) = system.D();
  for (Index k = 1; k < count; ++k) {
    all.middleRows(k * system.outputs(), system.outputs()) = system.C() * x;
    x = system.A_bar() * x;
  }
  return all;
}

}  // namespace

TEST_CASE("a subspace model of data without noise is the system, its order and its initial state") {
  ssm::test::Random random(1);
  for (const Index n : {0, 1, 2, 5})
    for (const Index m : {1, 2})
      for (const Index p : {1, 3})
        for (const double radius : {0.9, 1.02}) {
          CAPTURE(n, m, p, radius);
          const auto system = plant(random, n, m, p, radius);
          const MatrixXd u = random_matrix(random, 220, m);
          const MatrixXd y = simulated(system, u, random_matrix(random, n, 1));
          const auto found = moesp(u, y, 0.1);
          REQUIRE(found.system.states() == n);
          CHECK(found.system.delta() == 0.1);
          CHECK(distance(response(found.system), response(system)) <= 1e-9);
          CHECK(distance(simulated(found.system, u, found.initial_state), y) <= 1e-8);
          CHECK(found.residual_covariance.norm() <= 1e-16 * (y.squaredNorm() + 1));
          const auto asked = moesp(u, y, 0.1, {.order = n, .horizon = 8});
          CHECK(distance(response(asked.system), response(system)) <= 1e-8);
        }
  // without an input: the output alone
  const auto free = plant(random, 3, 0, 2);
  const MatrixXd none(80, 0), y = simulated(free, none, random_matrix(random, 3, 1));
  const auto found = moesp(none, y, 0.1, {.order = 3});
  CHECK(distance(simulated(found.system, none, found.initial_state), y) <= 1e-9);
}

TEST_CASE("with noise on states and outputs the subspace model comes nearer with more samples") {
  ssm::test::Random random(2);
  const auto system = plant(random, 2, 1, 1, 0.8);
  double errors[2];
  for (const int k : {0, 1}) {
    const Index length = k == 0 ? 400 : 12800;
    double sum = 0;
    for (int run = 0; run < 4; ++run) {
      const MatrixXd u = random_matrix(random, length, 1);
      const MatrixXd y = simulated(system, u, VectorXd::Zero(2), &random, 0.1);
      const auto found = moesp(u, y, 0.1, {.order = 2, .horizon = 6});
      sum += distance(response(found.system), response(system));
    }
    errors[k] = sum / 4;
  }
  CHECK(errors[0] <= 0.3);
  CHECK(errors[1] <= errors[0] / 3);  // √32 is 5.7
}

TEST_CASE(
    "an ARX model of data without noise is the difference equation, as a ratio and as states") {
  ssm::test::Random random(3);
  const MatrixXd u = random_matrix(random, 60, 2);
  VectorXd y = VectorXd::Zero(60);
  for (Index t = 0; t < 60; ++t) {
    const auto past = [&](const auto& of, Index late) { return t >= late ? of(t - late) : 0.; };
    y(t) = 1.2 * past(y, 1) - 0.5 * past(y, 2) + 0.3 * past(u.col(0), 2) - past(u.col(0), 3) +
           2 * past(u.col(1), 2) + 0.7 * past(u.col(1), 3);
  }
  const auto model = arx(u, y, 0.5, {.order = 2, .input_order = 2, .delay = 2});
  CHECK((model.a - Eigen::Vector3d(1, -1.2, 0.5)).norm() <= 1e-13);
  CHECK((model.b - (MatrixXd(2, 2) << 0.3, 2, -1, 0.7).finished()).norm() <= 1e-13);
  CHECK(model.variance <= 1e-26);
  CHECK(model.delta == 0.5);
  const Complex z = std::polar(1., 0.9);
  const Complex want = (0.3 / (z * z) - 1. / (z * z * z)) / (1. - 1.2 / z + 0.5 / (z * z));
  CHECK(std::abs(model.transfer_function(0)(z) - want) <= 1e-12);
  const auto system = model.state_space();
  CHECK(system.states() == 3);
  const DiscreteStateSpace<double> dynamic(system.A_bar(), system.B_bar(), system.C(), system.D(),
                                           0.5);
  CHECK(distance(simulated(dynamic, u, VectorXd::Zero(3)), MatrixXd(y)) <= 1e-12);
  CHECK_THROWS_AS(model.transfer_function(2), ShapeError);
  // an input that acts at once, and white noise of a known size
  VectorXd noisy = VectorXd::Zero(4000);
  const MatrixXd v = random_matrix(random, 4000, 1);
  for (Index t = 1; t < 4000; ++t) noisy(t) = 0.7 * noisy(t - 1) + 2 * v(t) + 0.1 * random.normal();
  const auto direct = arx(v, noisy, 1, {.order = 1, .input_order = 1, .delay = 0});
  CHECK(direct.b(0, 0) == Approx(2).epsilon(0.005));
  CHECK(direct.a(1) == Approx(-0.7).epsilon(0.005));
  CHECK(direct.variance == Approx(0.01).epsilon(0.1));
  // u and y with variances 1 and (4 + 0.01)/(1 − 0.7²), independent of each other
  CHECK(direct.b_error(0, 0) == Approx(0.1 / std::sqrt(4000.)).epsilon(0.05));
  CHECK(direct.a_error(1) == Approx(0.1 / std::sqrt(4000 * 4.01 / 0.51)).epsilon(0.1));
  CHECK(direct.a_error(0) == 0);
  CHECK(std::abs(direct.a(1) + 0.7) <= 4 * direct.a_error(1));
  CHECK(arx(v, MatrixXd(noisy), 1, {.order = 1, .input_order = 1, .delay = 0}).b == direct.b);
  CHECK_THROWS_WITH(arx(v, MatrixXd(MatrixXd::Ones(4000, 2)), 1), contains("y is of 2 columns"));
}

TEST_CASE("powers of two in the units of inputs and outputs change no digit of a model") {
  ssm::test::Random random(4);
  const auto system = plant(random, 2, 1, 1);
  const MatrixXd u = random_matrix(random, 100, 1);
  const MatrixXd y = simulated(system, u, VectorXd::Zero(2), &random, 0.01);
  const double unit_u = 0x1p70, unit_y = 0x1p-90;
  const auto plain = moesp(u, y, 1, {.order = 2}),
             other = moesp(u * unit_u, y * unit_y, 1, {.order = 2});
  CHECK(other.system.A_bar() == plain.system.A_bar());
  CHECK(other.system.B_bar() == plain.system.B_bar() / unit_u);
  CHECK(other.system.C() == plain.system.C() * unit_y);
  CHECK(other.system.D() == plain.system.D() * unit_y / unit_u);
  const auto a = arx(u, VectorXd(y), 1), b = arx(u * unit_u, VectorXd(y * unit_y), 1);
  CHECK(b.a == a.a);
  CHECK(b.b == a.b * unit_y / unit_u);
  CHECK(b.variance == a.variance * unit_y * unit_y);
  CHECK(b.a_error == a.a_error);
  CHECK(b.b_error == a.b_error * unit_y / unit_u);
}

TEST_CASE("data that cannot tell, too short or not finite are refused by name") {
  ssm::test::Random random(5);
  const auto system = plant(random, 2, 1, 1);
  const MatrixXd u = random_matrix(random, 100, 1), constant = MatrixXd::Ones(100, 1);
  const MatrixXd y = simulated(system, u, VectorXd::Zero(2));
  const VectorXd column = y;
  CHECK_THROWS_WITH(moesp(constant, simulated(system, constant, VectorXd::Zero(2)), 1),
                    contains("moesp: u is not persistently exciting"));
  CHECK_THROWS_WITH(arx(u, column, 1, {.order = 5, .input_order = 5}),
                    contains("arx: the data is not persistently exciting"));
  CHECK_THROWS_AS(arx(constant, VectorXd(VectorXd::Ones(100)), 1), DomainError);
  const Index vast = Index(1) << 62;
  CHECK_THROWS_AS(arx(u, column, 1, {.order = vast}), ShapeError);
  CHECK_THROWS_AS(arx(u, column, 1, {.input_order = vast}), ShapeError);
  CHECK_THROWS_AS(moesp(u, column, 1, {.order = vast}), ShapeError);
  CHECK_THROWS_AS(moesp(u, column, 1, {.horizon = vast}), ShapeError);
  CHECK_THROWS_WITH(arx(u, VectorXd(column.head(50)), 1),
                    "arx: y is 50 samples long, expected 100 as u is");
  CHECK_THROWS_WITH(arx(u.topRows(5), VectorXd(column.head(5)), 1, {.order = 3, .input_order = 2}),
                    contains("arx: u is 5 samples long, expected at least"));
  CHECK_THROWS_WITH(moesp(u.topRows(10), y.topRows(10), 1), contains("expected at least"));
  CHECK_THROWS_WITH(moesp(u, y, 1, {.order = 5, .horizon = 3}), contains("horizon is 3"));
  CHECK_THROWS_AS(moesp(u, y, 1, {.horizon = 60}), ShapeError);
  CHECK_THROWS_AS(moesp(u, y, 1, {.order = -1}), DomainError);
  CHECK_THROWS_AS(moesp(u, y, 0), DomainError);
  CHECK_THROWS_AS(arx(u, column, -1), DomainError);
  CHECK_THROWS_AS(arx(u, column, 1, {.order = -1}), DomainError);
  CHECK_THROWS_AS(arx(u, column, 1, {.input_order = 0}), DomainError);
  CHECK_THROWS_AS(arx(u, column, 1, {.delay = -1}), DomainError);
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    MatrixXd hurt = u;
    hurt(7, 0) = bad;
    CHECK_THROWS_WITH(moesp(hurt, y, 1), "moesp: u is not finite, expected finite");
    CHECK_THROWS_WITH(moesp(u, hurt, 1), "moesp: y is not finite, expected finite");
    CHECK_THROWS_AS(arx(hurt, column, 1), DomainError);
  }
}

}  // namespace identify_test
