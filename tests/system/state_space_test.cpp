#include "ssm/system/state_space.hpp"

#include <limits>
#include <type_traits>

#include "support/catch.hpp"

using namespace ssm;
using Eigen::Matrix2d;
using Eigen::MatrixXd;
using Eigen::RowVector2d;
using Eigen::Vector2d;

TEST_CASE("a system takes its sizes from its matrices, and D is zero unless given") {
  const StateSpace system(Matrix2d(Matrix2d::Identity()), Vector2d(1, 2), RowVector2d(3, 4));
  static_assert(std::is_same_v<decltype(system), const StateSpace<double, 2, 1, 1>>);
  CHECK(system.states() == 2);
  CHECK(system.inputs() == 1);
  CHECK(system.outputs() == 1);
  CHECK(system.B()(1) == 2);
  CHECK(system.C()(1) == 4);
  CHECK(system.D()(0) == 0);

  const StateSpace dynamic(MatrixXd::Zero(3, 3), MatrixXd::Zero(3, 2), MatrixXd::Zero(4, 3),
                           MatrixXd::Ones(4, 2));
  static_assert(std::is_same_v<decltype(dynamic), const StateSpace<double>>);
  CHECK(dynamic.states() == 3);
  CHECK(dynamic.inputs() == 2);
  CHECK(dynamic.outputs() == 4);
  CHECK(dynamic.D()(3, 1) == 1);
}

TEST_CASE("a system of matrices that do not fit is refused by name") {
  const MatrixXd A = MatrixXd::Zero(2, 2), B = MatrixXd::Zero(2, 1), C = MatrixXd::Zero(1, 2);
  CHECK_THROWS_WITH(StateSpace(MatrixXd(2, 3), B, C), "StateSpace: A is (2, 3), expected (2, 2)");
  CHECK_THROWS_WITH(StateSpace(A, MatrixXd(3, 1), C), "StateSpace: B is (3, 1), expected (2, 1)");
  CHECK_THROWS_WITH(StateSpace(A, B, MatrixXd(1, 3)), "StateSpace: C is (1, 3), expected (1, 2)");
  CHECK_THROWS_WITH(StateSpace(A, B, C, MatrixXd(1, 2)),
                    "StateSpace: D is (1, 2), expected (1, 1)");
  CHECK_THROWS_WITH((StateSpace<double, 3, 1, 1>(A, B, C)),
                    "StateSpace: A is (2, 2), expected (3, 3)");
  CHECK_THROWS_WITH(DiscreteStateSpace(A, MatrixXd(3, 1), C, MatrixXd(1, 1), 0.1),
                    "DiscreteStateSpace: B is (3, 1), expected (2, 1)");
}

TEST_CASE("a sampled system has a positive, finite step") {
  const MatrixXd one = MatrixXd::Ones(1, 1);
  for (const float delta : {0.0f, -0.1f, std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity()})
    CHECK_THROWS_AS(DiscreteStateSpace<double>(one, one, one, one, delta), DomainError);
  CHECK_THROWS_WITH(DiscreteStateSpace(one, one, one, one, 0.0),
                    "DiscreteStateSpace: delta is 0, expected positive and finite");
  CHECK(DiscreteStateSpace(one, one, one, one, 1e-300).delta() == 1e-300);
}
