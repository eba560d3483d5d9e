#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <vector>

#include "ssm/system/controllability.hpp"
#include "ssm/system/linearize.hpp"
#include "ssm/system/pole_placement.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"

namespace design_test {

using namespace ssm;
using Eigen::Matrix2d;
using Eigen::MatrixXd;
using Eigen::Vector2d;
using Eigen::Vector3d;
using Eigen::VectorXcd;
using Eigen::VectorXd;
using ssm::test::contains;
using Complex = std::complex<double>;

namespace {

MatrixXd random_matrix(ssm::test::Random& random, Index rows, Index cols) {
  MatrixXd matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = random.normal();
  return matrix;
}

/// The largest distance of a wanted pole from the eigenvalue of A nearest to it, each used once.
double distance(const MatrixXd& A, const VectorXcd& poles) {
  const VectorXcd values = A.eigenvalues();
  std::vector<Complex> left(values.begin(), values.end());
  double worst = 0;
  for (const Complex& pole : poles) {
    const auto nearest = std::min_element(left.begin(), left.end(), [&](auto a, auto b) {
      return std::abs(a - pole) < std::abs(b - pole);
    });
    worst = ssm::test::worse(worst, std::abs(*nearest - pole));
    left.erase(nearest);
  }
  return worst;
}

VectorXcd random_poles(ssm::test::Random& random, Index n) {
  VectorXcd poles(n);
  for (Index i = 0; i < n; ++i) {
    poles(i) = -random.uniform(0.5, 3);
    if (i % 3 == 2) {
      poles(i) += Complex(0, random.uniform(0.5, 3));
      poles(i - 1) = std::conj(poles(i));
    }
  }
  return poles;
}

/// A pendulum of length l on a cart: x = (angle, rate), u = (acceleration of the cart).
template <class X, class U>
auto pendulum(const X& x, const U& u) {
  using std::cos, std::sin;
  using T = typename X::Scalar;
  return Eigen::Matrix<T, 2, 1>(x(1), T(9.81) * sin(x(0)) - u(0) * cos(x(0)));
}

}  // namespace

TEST_CASE("placed poles are the closed loop's, for any number of inputs") {
  ssm::test::Random random(1);
  for (const Index n : {1, 2, 3, 4, 5, 6, 8})
    for (const Index m : {1, 2, 3, 8})
      for (int trial = 0; trial < 3; ++trial) {
        CAPTURE(n, m, trial);
        const MatrixXd A = random_matrix(random, n, n), B = random_matrix(random, n, m);
        const VectorXcd poles = random_poles(random, n);
        const MatrixXd K = place_poles(A, B, poles);
        CHECK(distance(A - B * K, poles) <= (m == 1 ? 1e-6 : 1e-9));
      }
}

TEST_CASE("the double integrator has its closed-form gains, repeated poles included") {
  Matrix2d A;
  A << 0, 1, 0, 0;
  const Vector2d B(0, 1);
  const auto K = place_poles(A, B, Vector2d(-2, -3));
  static_assert(std::is_same_v<decltype(K), const Eigen::Matrix<double, 1, 2>>);
  CHECK((K - Eigen::RowVector2d(6, 5)).norm() <= 1e-14);
  CHECK((place_poles(A, B, Vector2d(-1, -1)) - Eigen::RowVector2d(1, 2)).norm() <= 1e-14);
  const Eigen::Vector2cd swing(Complex(-1, 2), Complex(-1, -2));
  CHECK((place_poles(A, B, swing) - Eigen::RowVector2d(5, 2)).norm() <= 1e-14);
}

TEST_CASE("a system in one piece is placed and regulated as its matrices are") {
  Eigen::MatrixXd A(2, 2), B(2, 1);
  A << 0, 1, 0, 0;
  B << 0, 1;
  const StateSpace<double, Dynamic, 1, 1> system(A, B, Eigen::MatrixXd::Identity(1, 2), 0);
  const Eigen::Vector2d wanted(-1, -2);
  CHECK(place_poles(system, wanted) == place_poles(A, B, wanted));
}

TEST_CASE("a repeated pole is placed as often as there are inputs, and stiff plants are") {
  ssm::test::Random random(2);
  const MatrixXd A = random_matrix(random, 5, 5), B = random_matrix(random, 5, 2);
  VectorXd poles(5);
  poles << -1, -1, -2, -2, -3;
  CHECK(distance(A - B * place_poles(A, B, poles), poles.cast<Complex>()) <= 1e-7);

  MatrixXd motor(2, 2), drive(2, 1);
  motor << -2.5e4, -80, 350, -0.1;
  drive << 4e4, 0;
  const VectorXd wanted = Vector2d(-3e4, -10);
  CHECK(distance(motor - drive * place_poles(motor, drive, wanted), wanted.cast<Complex>()) <=
        1e-8);
}

TEST_CASE("a pole may be wanted more often than there are inputs, and modes out of reach stay") {
  ssm::test::Random random(3);
  for (const Index n : {3, 4, 6}) {
    CAPTURE(n);
    const MatrixXd A = random_matrix(random, n, n), B = random_matrix(random, n, 2);
    const VectorXd poles = VectorXd::Constant(n, -1);
    const MatrixXd closed = A - B * place_poles(A, B, poles);
    // of a pole n times the eigenvalues keep few digits; its polynomial keeps more
    MatrixXd power = MatrixXd::Identity(n, n);
    for (Index i = 0; i < n; ++i) power = power * (closed + MatrixXd::Identity(n, n));
    CHECK(power.norm() <= 1e-10 * std::pow(1 + closed.norm(), double(n)));
  }
  VectorXcd pairs(6);
  pairs << Complex(-1, 2), Complex(-1, -2), Complex(-1, 2), Complex(-1, -2), Complex(-1, 2),
      Complex(-1, -2);
  const MatrixXd A = random_matrix(random, 6, 6), B = random_matrix(random, 6, 2);
  CHECK(distance(A - B * place_poles(A, B, pairs), pairs) <= 1e-3);

  MatrixXd hidden = random_matrix(random, 5, 5), drive = random_matrix(random, 5, 2);
  hidden.bottomLeftCorner(2, 3).setZero();
  hidden.bottomRightCorner(2, 2) << -4, 1, -1, -4;
  drive.bottomRows(2).setZero();
  const MatrixXd mixed = random_matrix(random, 5, 5);
  const MatrixXd Q = mixed.householderQr().householderQ();
  VectorXcd wanted(5);
  wanted << -1, Complex(-4, 1), -2, Complex(-4, -1), -3;
  const MatrixXd F = Q * hidden * Q.transpose(), G = Q * drive;
  CHECK(distance(F - G * place_poles(F, G, wanted), wanted) <= 1e-10);
  wanted(1) = wanted(3) = -5;
  CHECK_THROWS_WITH(place_poles(F, G, wanted), contains("without -4 ± 1i"));
}

TEST_CASE("units do not decide whether poles can be placed, nor rounding what is a pair") {
  Matrix2d A, B;
  A << 1, 0, 0, 2;
  B << 1e8, 0, 0, 1e-8;
  const Matrix2d K = place_poles(A, B, Vector2d(-1, -3));
  CHECK(distance(A - B * K, Vector2d(-1, -3).cast<Complex>()) <= 1e-14);
  const Eigen::Vector2cd rounded(Complex(-1, 1e-17), Complex(-3, 0));
  CHECK(distance(A - B * place_poles(A, B, rounded), Vector2d(-1, -3).cast<Complex>()) <= 1e-14);
  const Matrix2d S = Vector2d(0x1p40, 0x1p-30).asDiagonal(), u = Vector2d(0x1p9, 8).asDiagonal();
  A(0, 1) = 1;
  const Matrix2d scaled = place_poles(S.inverse() * A * S, S.inverse() * B * u, Vector2d(-1, -3));
  CHECK(scaled == u.inverse() * place_poles(A, B, Vector2d(-1, -3)) * S);
}

TEST_CASE("no unit of time decides whether poles can be placed") {
  MatrixXd A = -MatrixXd::Identity(6, 6), B = MatrixXd::Zero(6, 2);
  for (Index i = 1; i < 6; ++i) A(i, i - 1) = 1;
  B(0, 0) = B(5, 1) = 1;
  VectorXcd poles(6);
  for (Index i = 0; i < 6; ++i) poles(i) = -1 - .7 * double(i);
  for (const double rate : {1., 1e-10, 1e-11, 1e-150, 1e150}) {
    CAPTURE(rate);
    const MatrixXd K = place_poles(rate * A, rate * B, VectorXcd(rate * poles));
    CHECK(distance(A - B * K, poles) <= 1e-9);
  }
}

TEST_CASE("poles stand where they are wanted however far apart the rates are, or it is said") {
  for (const double s : {1., 1e4, 1e8, 1e12, 1e16}) {
    CAPTURE(s);
    Matrix2d A;
    A << -s, 0, 0, 1;
    const Eigen::RowVector2d K = place_poles(A, Vector2d(1, 1), Vector2d(-1, -2));
    CHECK(K(0) == Approx((1 - s) * (2 - s) / (-1 - s)).epsilon(1e-14));
    CHECK(K(1) == Approx(6 / (1 + s)).epsilon(1e-14));
  }
  for (const double s : {1., 1e4, 1e8}) {
    CAPTURE(s);
    const Eigen::Matrix3d A = Vector3d(-s, 1, -s / 2).asDiagonal();
    Eigen::Matrix<double, 3, 2> B;
    B << 1, 1, 1, 0, 2, 1;
    const Vector3d poles(-1, -2, -3);
    CHECK(distance(A - B * place_poles(A, B, poles), poles.cast<Complex>()) <= 1e-15 * s + 1e-13);
  }
  // where every state is to be 0 after a step, the closed loop is 0 itself
  const MatrixXd one = MatrixXd::Ones(1, 1), none = MatrixXd::Zero(2, 2);
  CHECK(place_poles(one, one, VectorXd(VectorXd::Zero(1)))(0) == 1);
  CHECK(place_poles(none, MatrixXd(MatrixXd::Identity(2, 2)), Vector2d(0, 0)).norm() == 0);
  // a lag chain so long that rounding of its 24 gains moves poles by more than they are apart
  MatrixXd chain = MatrixXd::Zero(24, 24);
  for (Index i = 0; i < 24; ++i) {
    chain(i, i) = -1;
    if (i > 0) chain(i, i - 1) = 1;
  }
  VectorXd wanted(24);
  for (Index i = 0; i < 24; ++i) wanted(i) = -1 - double(i);
  CHECK_THROWS_AS(place_poles(chain, VectorXd::Unit(24, 0), wanted), ConvergenceError);
}

TEST_CASE("poles that cannot be placed are refused") {
  Matrix2d A;
  A << 1, 0, 0, 2;
  const Vector2d reaches_one(1, 0);
  CHECK_THROWS_WITH(place_poles(A, reaches_one, Vector2d(-1, -2)),
                    "place_poles: poles is without 2, expected the modes that no input moves "
                    "among them");
  const Vector2d B(1, 1);
  CHECK_THROWS_WITH(place_poles(A, B, Eigen::Vector2cd(Complex(-1, 1), Complex(-1, 1))),
                    contains("conjugate"));
  CHECK_THROWS_WITH(place_poles(A, B, Vector3d(-1, -2, -3)),
                    "place_poles: poles is (3, 1), expected (2, 1)");
  CHECK_THROWS_AS(place_poles(A, B, Vector2d(-1, std::nan(""))), DomainError);
}

TEST_CASE("reach and sight are counted by the staircase, where powers of A mislead") {
  ssm::test::Random random(4);
  for (const Index n : {1, 2, 5, 9})
    for (Index reached = 0; reached <= n; ++reached) {
      CAPTURE(n, reached);
      // In other coordinates the last states are out of reach.
      MatrixXd A = random_matrix(random, n, n);
      A.bottomLeftCorner(n - reached, reached).setZero();
      MatrixXd B = MatrixXd::Zero(n, 2);
      B.topRows(reached) = random_matrix(random, reached, 2);
      const MatrixXd mixed = random_matrix(random, n, n);
      const MatrixXd Q = mixed.householderQr().householderQ();
      CHECK(controllable_states(Q * A * Q.transpose(), Q * B) == reached);
      CHECK(observable_states(Q * A.transpose() * Q.transpose(), B.transpose() * Q.transpose()) ==
            reached);
    }

  // Twelve well-separated modes, all in reach; [B AB A²B …] has condition 1e20.
  const VectorXd lambda = VectorXd::LinSpaced(12, -100, -1);
  const MatrixXd diagonal = lambda.asDiagonal();
  CHECK(controllable_states(diagonal, VectorXd::Ones(12)) == 12);

  const StateSpace system(diagonal, MatrixXd(MatrixXd::Ones(12, 1)),
                          MatrixXd(MatrixXd::Zero(1, 12)));
  CHECK(is_controllable(system));
  CHECK_FALSE(is_observable(system));
  CHECK_THROWS_AS(controllable_states(diagonal, VectorXd::Constant(12, std::nan(""))), DomainError);
}

TEST_CASE("duals differentiate every function of theirs") {
  const auto slope = [](auto f, double x) {
    const double h = 1e-4;
    const double exact = f(Dual<double>(x, 1)).derivative;
    const auto at = [&](double y) { return f(Dual<double>(y)).value; };
    const double near = (8 * (at(x + h) - at(x - h)) - (at(x + 2 * h) - at(x - 2 * h))) / (12 * h);
    return std::abs(exact - near);
  };
  using D = Dual<double>;
  const double x = 0.37;
  CHECK(slope([](D a) { return sqrt(a) + cbrt(a) * 2 - 1 / a; }, x) <= 1e-10);
  CHECK(slope([](D a) { return exp(a) * expm1(a) - log(a) + log1p(a); }, x) <= 1e-10);
  CHECK(slope([](D a) { return sin(a) * cos(a) / tan(a); }, x) <= 1e-10);
  CHECK(slope([](D a) { return asin(a) * acos(a) + atan(3 * a); }, x) <= 1e-10);
  CHECK(slope([](D a) { return sinh(a) * cosh(a) + tanh(a); }, x) <= 1e-10);
  CHECK(slope([](D a) { return abs(-a) + atan2(a, 2 - a) + hypot(a, 3 * a - 2); }, x) <= 1e-10);
  CHECK(slope([](D a) { return pow(a, 3) + pow(a, a) + pow(2, a) + pow(-a, 2); }, x) <= 1e-10);
  D y(2, 1);
  y *= y;
  y -= 1;
  y /= D(2);
  y += -y + +y;
  CHECK(y.value == 1.5);
  CHECK(y.derivative == 2);
  CHECK((D(1, 5) < D(2) && D(3) >= 3 && D(1, 2) == D(1, 7)));
  CHECK(pow(D(0, 1), 2).derivative == 0);
  CHECK(abs(D(0, 1)).derivative == 0);
}

TEST_CASE("a linearized system is the Jacobian in closed form") {
  const auto f = [](const auto& x, const auto& u) { return pendulum(x, u); };
  const double angle = 0.3, push = 0.7;
  const auto near = linearize(f, Vector2d(angle, -1), Eigen::Matrix<double, 1, 1>(push));
  static_assert(std::is_same_v<decltype(near), const StateSpace<double, 2, 1, 2>>);
  Matrix2d A;
  A << 0, 1, 9.81 * std::cos(angle) + push * std::sin(angle), 0;
  CHECK((near.A() - A).norm() <= 1e-15);
  CHECK((near.B() - Vector2d(0, -std::cos(angle))).norm() <= 1e-15);
  CHECK(near.C() == Matrix2d::Identity());
  CHECK(near.D().isZero(0));

  const auto height = [](const auto& x, const auto& u) {
    using std::cos;
    using T = typename std::decay_t<decltype(x)>::Scalar;
    return Eigen::Matrix<T, 1, 1>(cos(x(0)) * u(0));
  };
  const auto seen =
      linearize(f, height, VectorXd(Vector2d(angle, -1)), VectorXd::Constant(1, push));
  static_assert(std::is_same_v<decltype(seen), const StateSpace<double, Dynamic, Dynamic, 1>>);
  CHECK(std::abs(seen.C()(0, 0) + std::sin(angle) * push) <= 1e-15);
  CHECK(std::abs(seen.D()(0, 0) - std::cos(angle)) <= 1e-15);

  const auto single = linearize(f, Eigen::Vector2f(0, 0), Eigen::Matrix<float, 1, 1>(0.0f));
  CHECK(single.A()(1, 0) == 9.81f);
}

TEST_CASE("a linear system is its own linearization, whatever its shape") {
  ssm::test::Random random(5);
  for (const Index n : {1, 3, 6})
    for (const Index m : {0, 1, 4}) {
      const MatrixXd A = random_matrix(random, n, n), B = random_matrix(random, n, m);
      const auto f = [&](const auto& x, const auto& u) { return (A * x + B * u).eval(); };
      const auto system = linearize(f, VectorXd(random_matrix(random, n, 1)),
                                    VectorXd(random_matrix(random, m, 1)));
      CHECK((system.A() - A).norm() <= 1e-15 * A.norm());
      CHECK((system.B() - B).norm() <= 1e-15 * B.norm());
    }
  const auto wrong = [](const auto& x, const auto&) { return x.head(1).eval(); };
  CHECK_THROWS_WITH(linearize(wrong, VectorXd(2), VectorXd(1)),
                    "linearize: the Jacobian of f is (1, 2), expected (2, 2)");
}

}  // namespace design_test
