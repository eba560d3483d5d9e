#include "ssm/system/companion.hpp"

#include <Eigen/LU>
#include <cmath>
#include <complex>

#include "ssm/system/mass_spring_damper.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace ssm;
using Complex = std::complex<double>;
using Eigen::MatrixXcd;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

/// C (sI − A)⁻¹ B + D.
template <class System>
MatrixXcd transfer(const System& system, Complex s) {
  const Index n = system.states();
  const MatrixXcd resolvent = s * MatrixXcd::Identity(n, n) - system.A().template cast<Complex>();
  const MatrixXcd B = system.B().template cast<Complex>();
  return system.C().template cast<Complex>() * resolvent.partialPivLu().solve(B) +
         system.D().template cast<Complex>();
}

}  // namespace

TEST_CASE("a companion form has the transfer function of its differential equation") {
  ssm::test::Random random(1);
  for (const Index order : {1, 2, 3, 5})
    for (const Index inputs : {1, 3})
      for (Index derivatives = 0; derivatives <= order; ++derivatives) {
        CAPTURE(order, inputs, derivatives);
        VectorXd a(order + 1);
        for (double& x : a) x = random.uniform(0.5, 2);
        MatrixXd b(derivatives + 1, inputs);
        for (Index i = 0; i < b.size(); ++i) b.data()[i] = random.normal();
        const auto system = companion(a, b);
        CHECK(system.states() == order);
        CHECK(system.outputs() == 1);
        const Complex s(0.3, 1.7);
        Complex denominator = 0;
        for (Index j = 0; j <= order; ++j) denominator += a(order - j) * std::pow(s, double(j));
        for (Index i = 0; i < inputs; ++i) {
          Complex numerator = 0;
          for (Index j = 0; j <= derivatives; ++j)
            numerator += b(derivatives - j, i) * std::pow(s, double(j));
          CHECK(std::abs(transfer(system, s)(0, i) - numerator / denominator) <= 1e-13);
        }
      }
}

TEST_CASE("without input derivatives the states are y and its derivatives") {
  const auto system = companion(Eigen::Vector4d(0.5, 4, 3, 2), Eigen::Matrix<double, 1, 2>(1, 6));
  static_assert(std::is_same_v<decltype(system), const StateSpace<double, 3, 2, 1>>);
  Eigen::Matrix3d A;
  A << 0, 1, 0, 0, 0, 1, -4, -6, -8;
  CHECK(system.A() == A);
  CHECK(system.B().topRows(2).isZero(0));
  CHECK(system.B()(2, 0) == 2);
  CHECK(system.B()(2, 1) == 12);
  CHECK(system.C() == Eigen::RowVector3d(1, 0, 0));
}

TEST_CASE("an equation of order zero is a gain") {
  const auto gain = companion(VectorXd::Constant(1, 4), MatrixXd::Constant(1, 1, 2));
  CHECK(gain.states() == 0);
  CHECK(gain.D()(0, 0) == 0.5);
}

TEST_CASE("equations that are not proper or have no leading term are refused") {
  CHECK_THROWS_WITH(companion(VectorXd(0), MatrixXd(1, 1)),
                    "companion: a is (0), expected (order + 1)");
  CHECK_THROWS_WITH(companion(VectorXd::Ones(2), MatrixXd::Ones(3, 1)),
                    "companion: b is (3, 1), expected 1 to 2 rows");
  CHECK_THROWS_WITH(companion(Eigen::Vector2d(0, 1), MatrixXd::Ones(1, 1)),
                    "companion: leading coefficient of a is 0, expected not 0");
}

TEST_CASE("zero highest powers are trimmed, and the other order has a name of its own") {
  const VectorXd a = Eigen::Vector3d(2, 6, 4), padded = Eigen::Vector4d(0, 2, 6, 4);
  const MatrixXd b = Eigen::Vector2d(3, 1), padded_b = Eigen::Matrix<double, 5, 1>(0, 0, 0, 3, 1);
  const auto system = companion(a, b);
  for (const auto& same :
       {companion(padded, padded_b), companion_ascending(Eigen::VectorXd(a.reverse()),
                                                         Eigen::MatrixXd(Eigen::Vector2d(1, 3)))}) {
    CHECK(same.A() == system.A());
    CHECK(same.B() == system.B());
    CHECK(same.D() == system.D());
  }
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    CHECK_THROWS_WITH(companion(Eigen::Vector2d(1, bad), MatrixXd::Ones(1, 1)),
                      "companion: a is not finite, expected finite");
    CHECK_THROWS_WITH(companion(Eigen::Vector2d(1, 1), MatrixXd::Constant(1, 1, bad)),
                      "companion: b is not finite, expected finite");
  }
}

TEST_CASE("a mass on a spring is Newton's law in first-order form") {
  const MassSpringDamper<double> model{2, 3, 8};
  CHECK(model.natural_frequency() == 2);
  CHECK(model.damping_ratio() == Approx(3. / 8));
  const auto system = state_space(model);
  static_assert(decltype(system)::fixed_size);
  Eigen::Matrix2d A;
  A << 0, 1, -4, -1.5;
  CHECK(system.A() == A);
  CHECK(system.B() == Eigen::Vector2d(0, 0.5));
  CHECK(system.C() == Eigen::RowVector2d(1, 0));
  CHECK(system.D()(0) == 0);
  CHECK_THROWS_WITH(state_space(MassSpringDamper<float>{0, 1, 1}),
                    "state_space: mass is 0, expected > 0");
}
