#include "ssm/system/balanced_truncation.hpp"

#include <algorithm>
#include <cmath>
#include <complex>

#include "ssm/system/frequency_response.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace balanced_truncation_test {

using namespace ssm;
using Eigen::Matrix2d;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

MatrixXd random_matrix(ssm::test::Random& random, Index rows, Index cols) {
  MatrixXd matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = random.normal();
  return matrix;
}

/// A random system moved until it is stable.
StateSpace<double> stable_system(ssm::test::Random& random, Index n, Index m, Index p) {
  const MatrixXd A = random_matrix(random, n, n);
  return {A - (A.norm() + 0.1) * MatrixXd::Identity(n, n), random_matrix(random, n, m),
          random_matrix(random, p, n), random_matrix(random, p, m)};
}

DiscreteStateSpace<double> stable_discrete(ssm::test::Random& random, Index n, Index m, Index p) {
  const MatrixXd A = random_matrix(random, n, n);
  return {A / (1.1 * A.norm()), random_matrix(random, n, m), random_matrix(random, p, n),
          random_matrix(random, p, m), 0.5};
}

double error(const MatrixXd& got, const MatrixXd& want) {
  return (got - want).norm() / std::max(want.norm(), 1e-300);
}

}  // namespace

TEST_CASE("gramians have their published values") {
  Matrix2d A, B, C, W_c, W_o;
  A << 1, -2, 3, -4;
  B << 5, 6, 7, 8;
  C << 4, 5, 6, 7;
  W_c << 18.5, 24.5, 24.5, 32.5;
  W_o << 257.5, -94.5, -94.5, 56.5;
  const StateSpace system(A, B, C);
  CHECK(error(controllability_gramian(system), W_c) <= 1e-14);
  CHECK(error(observability_gramian(system), W_o) <= 1e-13);
}

TEST_CASE("gramians solve their Lyapunov equations, for any sizes") {
  ssm::test::Random random(1);
  for (const Index n : {0, 1, 2, 3, 6, 12})
    for (const Index m : {0, 1, 3}) {
      CAPTURE(n, m);
      const auto system = stable_system(random, n, m, 2);
      const MatrixXd A = system.A(), B = system.B(), C = system.C();
      CHECK(error(controllability_gramian(system), lyapunov(A, B * B.transpose())) <= 1e-13);
      CHECK(error(observability_gramian(system), lyapunov(A.transpose(), C.transpose() * C)) <=
            1e-13);
      const auto discrete = stable_discrete(random, n, m, 2);
      const MatrixXd F = discrete.A_bar(), G = discrete.B_bar(), H = discrete.C();
      CHECK(error(controllability_gramian(discrete), discrete_lyapunov(F, G * G.transpose())) <=
            1e-13);
      CHECK(error(observability_gramian(discrete),
                  discrete_lyapunov(F.transpose(), H.transpose() * H)) <= 1e-13);
    }
}

TEST_CASE("Hankel singular values keep their digits where gramians would lose them") {
  // Two separate modes b c / (s − λ), of σ = b c / (−2λ).
  const auto system = StateSpace(Matrix2d(Eigen::Vector2d(-1, -2).asDiagonal()),
                                 Matrix2d(Eigen::Vector2d(2, 1e-12).asDiagonal()),
                                 Matrix2d(Eigen::Vector2d(3, 1e-12).asDiagonal()));
  const Eigen::Vector2d sigma = hankel_singular_values(system);
  CHECK(std::abs(sigma(0) / 3 - 1) <= 1e-15);
  CHECK(std::abs(sigma(1) / 2.5e-25 - 1) <= 1e-14);
}

TEST_CASE("Hankel singular values do not depend on the states, and a balanced system has them") {
  ssm::test::Random random(2);
  const auto system = stable_system(random, 5, 2, 3);
  const VectorXd sigma = hankel_singular_values(system);
  const auto balanced = balanced_truncation(system, 5);
  const MatrixXd diagonal = sigma.asDiagonal();
  CHECK(error(controllability_gramian(balanced), diagonal) <= 1e-12);
  CHECK(error(observability_gramian(balanced), diagonal) <= 1e-12);
  CHECK(error(hankel_singular_values(balanced), sigma) <= 1e-12);
}

TEST_CASE("a truncated system stays within twice the singular values it dropped, stable") {
  ssm::test::Random random(3);
  const auto check = [](const auto& system) {
    const VectorXd sigma = hankel_singular_values(system);
    const FrequencyResponse whole(system);
    for (Index order = 0; order <= system.states(); ++order) {
      CAPTURE(order);
      const auto less = balanced_truncation(system, order);
      CHECK(less.states() == order);
      const FrequencyResponse part(less);
      const double bound = 2 * sigma.tail(system.states() - order).sum() + 1e-12 * sigma(0);
      for (double omega = 1e-3; omega < 1e4; omega *= 3)
        CHECK((whole(omega) - part(omega)).norm() <= std::sqrt(2.0) * bound);
    }
  };
  check(stable_system(random, 6, 2, 2));
  check(stable_discrete(random, 6, 2, 2));
}

TEST_CASE("what carries nothing cannot be kept, and an unstable system has no gramian") {
  MatrixXd A(2, 2), B(2, 1), C(1, 2);
  A << -1, 0, 0, -2;
  B << 1, 0;
  C << 1, 1;
  const StateSpace<double> half(A, B, C);
  CHECK_NOTHROW(balanced_truncation(half, 1));
  CHECK_THROWS_WITH(balanced_truncation(half, 2),
                    "balanced_truncation: order is 2, expected 0 to 1");
  const StateSpace<double> unstable(-A, B, C);
  CHECK_THROWS_WITH(balanced_truncation(unstable, 1),
                    "balanced_truncation: the system is unstable, expected stable");
  CHECK_THROWS_AS(controllability_gramian(unstable), DomainError);
  CHECK_THROWS_AS(hankel_singular_values(StateSpace<double>(0 * A, B, C)), DomainError);
}

TEST_CASE("truncation keeps the sizes of inputs and outputs, the scalar and the step") {
  const DiscreteStateSpace<float, 3, 1, 1> system(
      Eigen::Matrix3f(Eigen::Vector3f(0.5f, 0.25f, -0.5f).asDiagonal()), Eigen::Vector3f(1, 2, 3),
      Eigen::RowVector3f(1, 1, 1), Eigen::Matrix<float, 1, 1>(0.0f), 0.5f);
  const auto less = balanced_truncation(system, 2);
  static_assert(std::is_same_v<decltype(less), const DiscreteStateSpace<float, Dynamic, 1, 1>>);
  CHECK(less.delta() == 0.5f);
}

}  // namespace balanced_truncation_test
