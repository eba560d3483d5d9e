#include "ssm/system/riccati.hpp"

#include <Eigen/Eigenvalues>
#include <cmath>
#include <complex>
#include <limits>

#include "ssm/system/lqr.hpp"
#include "ssm/system/lyapunov.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/count_allocations.hpp"
#include "support/random.hpp"

namespace riccati_test {

using namespace ssm;
using Eigen::Matrix2d;
using Eigen::MatrixXd;
using Eigen::RowVector2d;
using Eigen::Vector2d;
using Eigen::VectorXd;
using ssm::test::contains;

namespace {

MatrixXd random_matrix(ssm::test::Random& random, Index rows, Index cols) {
  MatrixXd matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = random.normal();
  return matrix;
}

MatrixXd random_definite(ssm::test::Random& random, Index size) {
  const MatrixXd root = random_matrix(random, size, size);
  const MatrixXd square = root * root.transpose() + 0.1 * MatrixXd::Identity(size, size);
  return 0.5 * (square + square.transpose());  // a product may round its two halves differently
}

template <class G, class W>
double relative_error(const G& got, const W& want) {
  return (got - want).norm() / want.norm();
}

/// How far P is from solving its Riccati equation, relative to the sizes of the factors of its
/// terms.
double continuous_residual(const MatrixXd& A, const MatrixXd& B, const MatrixXd& Q,
                           const MatrixXd& R, const MatrixXd& P) {
  const MatrixXd K = R.llt().solve(B.transpose() * P), quadratic = P * B * K;
  return (A.transpose() * P + P * A - quadratic + Q).norm() /
         (2 * A.norm() * P.norm() + P.norm() * B.norm() * K.norm() + Q.norm());
}

double discrete_residual(const MatrixXd& A, const MatrixXd& B, const MatrixXd& Q, const MatrixXd& R,
                         const MatrixXd& P) {
  const MatrixXd cross = B.transpose() * P * A;
  const MatrixXd S = R + B.transpose() * P * B;
  const MatrixXd quadratic = cross.transpose() * S.llt().solve(cross);
  return (A.transpose() * P * A - P - quadratic + Q).norm() /
         (A.squaredNorm() * P.norm() + P.norm() + quadratic.norm() + Q.norm());
}

/// The largest error of an element, relative to the diagonal elements of its row and its column.
double worst_error(const MatrixXd& got, const MatrixXd& want) {
  const VectorXd unit = want.diagonal().cwiseSqrt().cwiseInverse();
  return (unit.asDiagonal() * (got - want) * unit.asDiagonal()).cwiseAbs().maxCoeff();
}

Matrix2d double_integrator() {
  Matrix2d A;
  A << 0, 1, 0, 0;
  return A;
}

}  // namespace

TEST_CASE("Lyapunov solutions leave no residual, for any A and Q, and are symmetric when Q is") {
  ssm::test::Random random(1);
  for (const Index n : {0, 1, 2, 3, 5, 8, 20})
    for (const bool symmetric : {true, false}) {
      CAPTURE(n, symmetric);
      const MatrixXd A = random_matrix(random, n, n);
      const MatrixXd Q = symmetric ? random_definite(random, n) : random_matrix(random, n, n);
      const MatrixXd X = lyapunov(A, Q);
      CHECK((A * X + X * A.transpose() + Q).norm() <= 1e-14 * (2 * A.norm() * X.norm() + Q.norm()));
      const MatrixXd Y = discrete_lyapunov(A, Q);
      CHECK((A * Y * A.transpose() - Y + Q).norm() <=
            1e-14 * (A.squaredNorm() * Y.norm() + Y.norm() + Q.norm()));
      if (symmetric) CHECK((X == X.transpose() && Y == Y.transpose()));
    }
}

TEST_CASE("well-conditioned equations of a fixed size are solved without allocation") {
  ssm::test::Random random(11);
  using Matrix6 = Eigen::Matrix<double, 6, 6>;
  using Input6 = Eigen::Matrix<double, 6, 2>;
  const Matrix6 A = 0.5 * random_matrix(random, 6, 6) - 2 * Matrix6::Identity();
  const Matrix6 F = Matrix6::Identity() + 0.1 * A, Q = random_definite(random, 6);
  const Input6 B = random_matrix(random, 6, 2), N = 0.05 * random_matrix(random, 6, 2);
  const Matrix2d R = Matrix2d::Identity();
  const StateSpace<double, 6, 2, 1> system(A, B, Eigen::Matrix<double, 1, 6>::Ones());
  Matrix6 X, Y, P, S, L;
  const long count = ssm::test::allocations_of([&] {
    X = lyapunov(A, Q);
    Y = discrete_lyapunov(F, Q);
    P = riccati(A, B, Q, R, N);
    S = discrete_riccati(F, B, Q, R, N);
    L = lqr(system, Q, R).P;
  });
  CHECK(count == 0);
  // as the long way finds them
  using detail::RealMatrix, detail::Time;
  const auto from_schur_form = [&](Time time, const RealMatrix& M) {
    return detail::to_eigen<Matrix6>(detail::solve_lyapunov("test", time, M, RealMatrix(Q)));
  };
  CHECK(worst_error(X, from_schur_form(Time::continuous, RealMatrix(A))) <= 1e-14);
  CHECK(worst_error(Y, from_schur_form(Time::discrete, RealMatrix(F))) <= 1e-14);
  const auto long_way = [&](Time time, const RealMatrix& M, const RealMatrix& cross) {
    const detail::RiccatiCaller caller{"test", std::numeric_limits<double>::epsilon()};
    return detail::to_eigen<Matrix6>(
        detail::solve_riccati(caller, {time, M, RealMatrix(B), RealMatrix(Q), RealMatrix(R), cross})
            .P);
  };
  CHECK(worst_error(P, long_way(Time::continuous, RealMatrix(A), RealMatrix(N))) <= 1e-15);
  CHECK(worst_error(S, long_way(Time::discrete, RealMatrix(F), RealMatrix(N))) <= 1e-15);
  CHECK(worst_error(L, long_way(Time::continuous, RealMatrix(A), {})) <= 1e-15);
}

TEST_CASE("Lyapunov equations have their published and closed-form solutions") {
  Matrix2d A, B, W;
  A << 1, -2, 3, -4;
  B << 5, 6, 7, 8;
  W << 18.5, 24.5, 24.5, 32.5;
  CHECK(relative_error(lyapunov(A, B * B.transpose()), W) <= 1e-14);

  // Stiff by twenty decades, and as diagonal systems go exact in each element.
  const Eigen::Vector3d lambda(-1e-10, -1, -1e10);
  const Eigen::Matrix3d ones = Eigen::Matrix3d::Ones();
  const Eigen::Matrix3d X = lyapunov(Eigen::Matrix3d(lambda.asDiagonal()), ones);
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) CHECK(std::abs(X(i, j) * -(lambda(i) + lambda(j)) - 1) <= 1e-14);

  const auto one = [](double x) { return Eigen::Matrix<double, 1, 1>(x); };
  CHECK(discrete_lyapunov(one(0.5), one(3))(0) == Approx(4).epsilon(1e-15));
  CHECK(lyapunov(one(-0.5), one(3))(0) == Approx(3).epsilon(1e-15));
  static_assert(
      std::is_same_v<decltype(lyapunov(Eigen::Matrix3f(), Eigen::Matrix3f())), Eigen::Matrix3f>);
}

TEST_CASE("Lyapunov equations without a unique solution are refused") {
  const Matrix2d I = Matrix2d::Identity();
  CHECK_THROWS_WITH(lyapunov(double_integrator(), I), contains("eigenvalue of A is the negative"));
  Matrix2d swing, singular;
  swing << 0, 1, -1, 0;
  singular << -1, -1, -1, -1;
  CHECK_THROWS_AS(lyapunov(swing, I), DomainError);
  CHECK_THROWS_AS(lyapunov(singular, I), DomainError);
  CHECK_THROWS_AS(discrete_lyapunov(swing, I), DomainError);
  ssm::test::Random random(2);
  const MatrixXd V = random_matrix(random, 4, 4);
  const MatrixXd A = V * Eigen::Vector4d(-1, -2, 0, -3).asDiagonal() * V.inverse();
  CHECK_THROWS_AS(lyapunov(A, MatrixXd::Identity(4, 4)), DomainError);
  CHECK_THROWS_AS(lyapunov(Matrix2d::Constant(std::nan("")), I), DomainError);
  CHECK_THROWS_WITH(lyapunov(1e-200 * swing + 1e-200 * MatrixXd(-I), 1e200 * I),
                    "lyapunov: X is beyond the largest number, expected A and Q whose X can be "
                    "held");
  CHECK_THROWS_WITH(lyapunov(MatrixXd(2, 3), I), "lyapunov: A is (2, 3), expected (2, 2)");
  CHECK_THROWS_WITH(discrete_lyapunov(swing, MatrixXd(3, 3)),
                    "discrete_lyapunov: Q is (3, 3), expected (2, 2)");
}

TEST_CASE("the double integrator has its closed-form Riccati solutions") {
  const Vector2d B(0, 1);
  const Eigen::Matrix<double, 1, 1> R(1.0);
  Matrix2d want;
  want << std::sqrt(3.), 1, 1, std::sqrt(3.);
  CHECK(relative_error(riccati(double_integrator(), B, Matrix2d::Identity(), R), want) <= 1e-14);
  want << 2, 1, 1, 2;
  const Matrix2d Q = Vector2d(1, 2).asDiagonal();
  CHECK(relative_error(riccati(double_integrator(), B, Q, R), want) <= 1e-14);
}

TEST_CASE("a scalar Riccati equation is a quadratic, whatever the sizes in it") {
  const auto one = [](double x) { return Eigen::Matrix<double, 1, 1>(x); };
  for (const double a : {-1e6, -1.0, -1e-6, 0.0, 1e-6, 1.0, 1e6})
    for (const double q : {1e-9, 1.0, 1e9})
      for (const double r : {1e-9, 1.0, 1e9}) {
        CAPTURE(a, q, r);
        const double root = std::sqrt(a * a + q / r);
        const double p = a > 0 ? r * (a + root) : q / (root - a);
        CHECK(std::abs(riccati(one(a), one(1), one(q), one(r))(0) / p - 1) <= 1e-13);

        // p² + (r (1 − a²) − q) p − q r = 0
        const double half = (q - r * (1 - a * a)) / 2;
        const double discrete_root = std::sqrt(half * half + q * r);
        const double discrete = half > 0 ? half + discrete_root : q * r / (discrete_root - half);
        const double margin = 1 - std::abs(a * r / (r + discrete));  // of the closed-loop pole
        CHECK(std::abs(discrete_riccati(one(a), one(1), one(q), one(r))(0) / discrete - 1) <=
              1e-14 + 1e-15 / margin);
      }
}

TEST_CASE("Riccati solutions leave no residual, are symmetric and stabilize, for any sizes") {
  ssm::test::Random random(3);
  for (const Index n : {1, 2, 3, 5, 9, 16})
    for (const Index m : {1, 2, 4}) {
      CAPTURE(n, m);
      const MatrixXd A = random_matrix(random, n, n) / std::sqrt(double(n));
      const MatrixXd B = random_matrix(random, n, m);
      const MatrixXd Q = random_definite(random, n), R = random_definite(random, m);
      const MatrixXd P = riccati(A, B, Q, R);
      CHECK(P == P.transpose());
      CHECK(continuous_residual(A, B, Q, R, P) <= 1e-14);
      const StateSpace system(A, B, MatrixXd(MatrixXd::Identity(n, n)));
      const MatrixXd closed = A - B * lqr(system, Q, R).K;
      CHECK(closed.eigenvalues().real().maxCoeff() < 0);

      const MatrixXd S = discrete_riccati(A, B, Q, R);
      CHECK(S == S.transpose());
      CHECK(discrete_residual(A, B, Q, R, S) <= 1e-14);
      const DiscreteStateSpace sampled(A, B, MatrixXd(MatrixXd::Identity(n, n)),
                                       MatrixXd(MatrixXd::Zero(n, m)), 0.1);
      const MatrixXd closed_bar = A - B * discrete_lqr(sampled, Q, R).K;
      CHECK(closed_bar.eigenvalues().cwiseAbs().maxCoeff() < 1);
    }
}

TEST_CASE("the regulator's cost is what its closed loop spends") {
  ssm::test::Random random(4);
  const MatrixXd A = random_matrix(random, 4, 4), B = random_matrix(random, 4, 2);
  const MatrixXd Q = random_definite(random, 4), R = random_definite(random, 2);
  const auto best = lqr(StateSpace(A, B, MatrixXd(MatrixXd::Identity(4, 4))), Q, R);
  const MatrixXd closed = A - B * best.K;
  const MatrixXd spent = lyapunov(closed.transpose(), Q + best.K.transpose() * R * best.K);
  CHECK(relative_error(spent, best.P) <= 1e-13);

  // Any other gain costs more.
  for (int trial = 0; trial < 5; ++trial) {
    const MatrixXd K = best.K + 1e-3 * random_matrix(random, 2, 4);
    const MatrixXd other = lyapunov((A - B * K).transpose(), Q + K.transpose() * R * K) - best.P;
    CHECK(other.eigenvalues().real().minCoeff() >= -1e-12 * best.P.norm());
  }
}

TEST_CASE("a regulator whose cost could be negative is refused, one that sees little is not") {
  const MatrixXd A = -MatrixXd::Identity(2, 2), B = MatrixXd::Ones(2, 1), R = MatrixXd::Ones(1, 1);
  const StateSpace<double> system(A, B, MatrixXd(MatrixXd::Identity(2, 2)));
  const DiscreteStateSpace<double> sampled(A / 2, B, system.C(), system.D(), 1);
  MatrixXd saddle(2, 2);
  saddle << 1, 2, 2, 1;
  for (const MatrixXd& Q : {MatrixXd(-1e-9 * MatrixXd::Identity(2, 2)), saddle}) {
    CHECK_THROWS_WITH(lqr(system, Q, R), "lqr: Q is indefinite, expected positive semidefinite");
    CHECK_THROWS_AS(discrete_lqr(sampled, Q, R), DomainError);
  }
  CHECK_THROWS_WITH(lqr(system, MatrixXd(3, 3), R), "lqr: Q is (3, 3), expected (2, 2)");
  CHECK_THROWS_AS(lqr(system, MatrixXd(saddle * std::nan("")), R), DomainError);
  CHECK(lqr(system, MatrixXd::Zero(2, 2), R).K.norm() <= 1e-15);
  ssm::test::Random random(13);
  const MatrixXd row = random_matrix(random, 1, 2);  // rowᵀ row is singular but for rounding
  CHECK_NOTHROW(lqr(system, row.transpose() * row, R));
  CHECK_NOTHROW(discrete_lqr(sampled, row.transpose() * row, R));
}

TEST_CASE("stiff, singular and unseen modes do not keep Riccati from the stabilizing solution") {
  const Eigen::Matrix<double, 1, 1> R(1.0);
  // A motor whose current settles ten thousand times as fast as its speed.
  Matrix2d motor;
  motor << -2.5e4, -80, 350, -0.1;
  const Vector2d B(4e4, 0);
  const Matrix2d Q = Vector2d(0, 1).asDiagonal();
  CHECK(continuous_residual(motor, B, Q, R, riccati(motor, B, Q, R)) <= 1e-15);

  // Metres and nanometres: the solution follows the units.
  const Matrix2d units = Vector2d(1, 0x1p30).asDiagonal();
  const Matrix2d inverse = Vector2d(1, 0x1p-30).asDiagonal();
  const Matrix2d A = units * double_integrator() * inverse;
  const Vector2d scaled_B = units * Vector2d(0, 1);
  const Matrix2d scaled_Q = inverse * inverse;
  Matrix2d want;
  want << std::sqrt(3.), 1, 1, std::sqrt(3.);
  CHECK(relative_error((units * riccati(A, scaled_B, scaled_Q, R) * units).eval(), want) <= 1e-13);

  // Q = 0 mirrors the unstable poles: the least control that stops an unstable plant.
  const Matrix2d none = Matrix2d::Zero();
  Matrix2d unstable;
  unstable << 2, 1, 0, -3;
  const auto mirrored = riccati(unstable, Vector2d(1, 1), none, R);
  const Matrix2d loop = unstable - Vector2d(1, 1) * Vector2d(1, 1).transpose() * mirrored;
  CHECK(std::abs(loop.trace() + 5) <= 1e-13);
  CHECK(std::abs(loop.determinant() - 6) <= 1e-13);
  const DiscreteStateSpace sampled(unstable, Vector2d(1, 1), RowVector2d(1, 0),
                                   Eigen::Matrix<double, 1, 1>(0.0), 1.0);
  const auto stopped = discrete_lqr(sampled, none, R);
  const Matrix2d loop_bar = unstable - Vector2d(1, 1) * stopped.K;
  CHECK(std::abs(loop_bar.trace() - (1. / 2 - 1. / 3)) <= 1e-13);
  CHECK(std::abs(loop_bar.determinant() + 1. / 6) <= 1e-13);

  // A pure delay is singular, and costs what passes through it.
  Matrix2d delay;
  delay << 0, 0, 1, 0;
  const Matrix2d I = Matrix2d::Identity();
  Matrix2d delayed;
  delayed << 2, 0, 0, 1;
  CHECK(relative_error(discrete_riccati(delay, Vector2d(1, 0), I, R), delayed) <= 1e-15);
}

TEST_CASE("Riccati solutions are right to rounding, however ill-conditioned") {
  // With Q = 0, B all ones and poles λ outside the region of stability, P is the inverse of the
  // Cauchy matrix 1/(λᵢ + λⱼ) or 1/(λᵢ λⱼ − 1). For λ = ½, 1½, 2½, … that is the Hilbert matrix.
  const auto least_effort = [](const VectorXd& lambda, auto sum) {
    const Index n = lambda.size();
    VectorXd c(n);
    for (Index i = 0; i < n; ++i) {
      c(i) = sum(lambda(i), lambda(i));
      for (Index k = 0; k < n; ++k)
        if (k != i) c(i) *= sum(lambda(i), lambda(k)) / (lambda(i) - lambda(k));
    }
    MatrixXd P(n, n);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) P(i, j) = c(i) * c(j) / sum(lambda(i), lambda(j));
    return P;
  };
  const double epsilon = std::numeric_limits<double>::epsilon();
  const Eigen::Matrix<double, 1, 1> R(1.0);
  for (const Index n : {2, 4, 8, 12}) {
    CAPTURE(n);
    const double rounding = 8 * epsilon * double(n);  // of the closed form
    const MatrixXd none = MatrixXd::Zero(n, n);
    const VectorXd ones = VectorXd::Ones(n);
    const VectorXd slow = VectorXd::LinSpaced(n, 0.5, double(n) - 0.5), fast = slow + ones;
    const MatrixXd P = least_effort(slow, [](double a, double b) { return a + b; });
    CHECK(worst_error(riccati(MatrixXd(slow.asDiagonal()), ones, none, R), P) <= rounding);
    if (n > 8) continue;  // poles up to 8½ a step reach the end of twice the precision
    const MatrixXd S = least_effort(fast, [](double a, double b) { return a * b - 1; });
    CHECK(worst_error(discrete_riccati(MatrixXd(fast.asDiagonal()), ones, none, R), S) <= rounding);
  }

  // Random integer plants with one input and half of their poles unstable, Q = I and R = 1; the
  // discrete ones with A / 16. The values are from the same equations in 600 bits.
  struct Plant {
    Index n;
    double trace, first, corner, discrete_trace, discrete_first, discrete_corner;
  };
  const Plant plants[] = {
      {16, 43021.139649314416671, 7201.9763306307347365, -1480.7283587084862076,
       5023.6491341496534367, 61.428206557939377111, -2.2175628567734483365},
      {24, 545108360.28515869300, 20332334.718208229735, 6225298.7328323254407,
       2314862.3837868215782, 58828.523043400085322, -34247.215545794231061},
      {32, 72385949100908.799847, 891463815080.85028149, 1510640823006.3068738,
       7753565142.9022403351, 332478763.04664446146, 234500906.67263844963},
  };
  ssm::test::Random random(5), decades(7);
  for (const Plant& want : plants) {
    const Index n = want.n;
    CAPTURE(n);
    MatrixXd A(n, n), B(n, 1);
    for (double& a : A.reshaped()) a = double(random.integer(-9, 9));
    for (double& b : B.reshaped()) b = double(random.integer(-9, 9));
    const MatrixXd I = MatrixXd::Identity(n, n);
    const auto check = [&](const MatrixXd& P, double trace, double first, double corner) {
      CHECK(std::abs(P.trace() / trace - 1) <= 4 * epsilon);
      CHECK(std::abs(P(0, 0) / first - 1) <= 4 * epsilon);
      CHECK(std::abs(P(0, n - 1) - corner) <= 4 * epsilon * std::sqrt(P(0, 0) * P(n - 1, n - 1)));
    };
    check(riccati(A, B, I, R), want.trace, want.first, want.corner);
    check(discrete_riccati(A / 16, B, I, R), want.discrete_trace, want.discrete_first,
          want.discrete_corner);

    // The solution follows the units of the states, over eight decades.
    VectorXd units(n);
    for (double& unit : units) unit = std::exp2(std::round(decades.uniform(-13, 13)));
    const auto T = units.asDiagonal();
    const MatrixXd back = units.cwiseInverse().asDiagonal();
    const MatrixXd scaled = riccati(T * A * back, T * B, back * back, R);
    check(T * scaled * T, want.trace, want.first, want.corner);
  }
}

TEST_CASE("gains are right to rounding where P cancels in them") {
  // Two poles for which one input is nearly the same: P reaches 1e17, and all but 1e9 of it cancels
  // in BᵀP.
  Matrix2d A;
  A << 1, 0, 0, 1 + 0x1p-26;
  const auto best = lqr(StateSpace(A, Vector2d(1, 1), RowVector2d(1, 0)), Matrix2d::Zero().eval(),
                        Eigen::Matrix<double, 1, 1>(1.0));
  // mirrored poles: s² + (a + b) s + a b, from the sums K₁ + K₂ and a K₂ + b K₁
  const double a = A(0, 0), b = A(1, 1);
  CHECK(best.P(0, 0) > 1e16);
  CHECK(std::abs(best.K(0) + best.K(1) - 2 * (a + b)) <= 1e-7);
  CHECK(std::abs(best.K(0) * (a - b) - 2 * a * (a + b)) <= 1e-7);
}

TEST_CASE("a random plant with a hidden unstable mode that no input reaches is refused") {
  ssm::test::Random random(6);
  for (const Index n : {3, 8, 16}) {
    CAPTURE(n);
    const MatrixXd V = random_matrix(random, n, n), inverse = V.inverse();
    const VectorXd poles = VectorXd::LinSpaced(n, 2, 0.5);  // the first is hidden
    MatrixXd B = random_matrix(random, n, 1);
    B(0) = 0;
    const MatrixXd A = V * poles.asDiagonal() * inverse, I = MatrixXd::Identity(n, n);
    const Eigen::Matrix<double, 1, 1> R(1.0);
    CHECK_THROWS_AS(riccati(A, V * B, I, R), ConvergenceError);
    CHECK_THROWS_AS(discrete_riccati(A, V * B, I, R), ConvergenceError);
  }
}

TEST_CASE("float comes out rounded from double") {
  const Eigen::Matrix2f A = double_integrator().cast<float>();
  const StateSpace system(A, Eigen::Vector2f(0, 1), Eigen::RowVector2f(1, 0));
  const auto best =
      lqr(system, Eigen::Matrix2f(Eigen::Matrix2f::Identity()), Eigen::Matrix<float, 1, 1>(1.0f));
  static_assert(std::is_same_v<decltype(best), const LinearQuadraticRegulator<float, 2, 1>>);
  CHECK(std::abs(best.K(0) - 1) <= 1e-6f);
  CHECK(std::abs(best.K(1) - std::sqrt(3.0f)) <= 1e-6f);
}

TEST_CASE("Riccati equations without a stabilizing solution are refused") {
  const Matrix2d I = Matrix2d::Identity(), O = Matrix2d::Zero();
  const Eigen::Matrix<double, 1, 1> R(1.0);
  Matrix2d unstable, swing;
  unstable << 1, 0, 0, -1;
  swing << 0, 1, -1, 0;
  // an unstable mode that the input does not reach
  CHECK_THROWS_AS(riccati(unstable, Vector2d(0, 1), I, R), ConvergenceError);
  CHECK_THROWS_AS(discrete_riccati((2 * unstable).eval(), Vector2d(0, 1), I, R), ConvergenceError);
  // nothing asks an undamped swing to stop
  CHECK_THROWS_AS(riccati(swing, Vector2d(0, 1), O, R), ConvergenceError);
  CHECK_THROWS_AS(discrete_riccati(swing, Vector2d(0, 1), O, R), ConvergenceError);
  CHECK_THROWS_AS(riccati(double_integrator(), Vector2d(0, 1), O, R), ConvergenceError);

  CHECK_THROWS_WITH(riccati(I, Vector2d(0, 1), swing, R),
                    "riccati: Q is not symmetric, expected symmetric");
  CHECK_THROWS_WITH(riccati(I, Vector2d(0, 1), I, (-R).eval()),
                    "riccati: R is not positive definite, expected positive definite");
  CHECK_THROWS_WITH(discrete_riccati(I, MatrixXd(3, 1), I, R),
                    "discrete_riccati: B is (3, 1), expected (2, 1)");
  CHECK_THROWS_AS(riccati(Matrix2d::Constant(std::nan("")), Vector2d(0, 1), I, R), DomainError);
  CHECK_THROWS_AS(riccati(I, Vector2d(0, 1), Matrix2d::Constant(std::nan("")), R), DomainError);
}

}  // namespace riccati_test
