#include "ssm/discretize/discretize.hpp"

#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"

using namespace ssm;
using Eigen::Matrix2d;
using Eigen::Matrix3d;
using Eigen::MatrixXd;
using Eigen::RowVector2d;
using Eigen::Vector2d;
using Eigen::Vector3d;
using ssm::test::contains;

namespace {

constexpr std::array methods{Discretization::zero_order_hold, Discretization::bilinear,
                             Discretization::forward_euler, Discretization::backward_euler};

/// The largest relative error of an element.
template <class G, class W>
double worst(const G& got, const W& want) {
  return ((got - want).array() / want.array()).abs().maxCoeff();
}

Matrix3d coupled() {
  Matrix3d A;
  A << -3, 4, 2, -1, -3, 0, 2, 5, 3;
  return A;
}

/// A, B, C of one mode.
StateSpace<double, 1, 1, 1> mode(double lambda, double b) {
  using One = Eigen::Matrix<double, 1, 1>;
  return {One(lambda), One(b), One(1.0)};
}

}  // namespace

TEST_CASE("zero-order hold gives the published and recomputed matrices") {
  Matrix2d A, A_bar;
  A << -.3, .1, .2, -.7;
  A_bar << .98513640413568245, .0048766714747950232, .0097533429495900464, .96562971823650236;
  const auto small = zero_order_hold(StateSpace(A, Vector2d(0, 1), RowVector2d(1, 0)), .05);
  CHECK(worst(small.A_bar(), A_bar) <= 1e-14);
  CHECK(worst(small.B_bar(), Vector2d(.00012293759996446113, .049135527547843615)) <= 1e-14);
  CHECK(small.delta() == .05);

  Eigen::Matrix<double, 3, 2> B, B_bar;
  B << 1, 4, -3, -3, -2, 1;
  B_bar << 0.0123620660847194068, 0.30193219791826829, -0.260952977031384054, -0.274201791021713383,
      -0.304617775734326693, 0.0751826227188529349;
  Matrix3d C_bar;
  C_bar << 0.742840837331905155, 0.342242024293711032, 0.203124211149559941, -0.0741307921438904634,
      0.724553295044645484, -0.00914377114362983574, 0.180264783290485352, 0.544385612448419196,
      1.37050101306784465;
  const auto wide = zero_order_hold(StateSpace(coupled(), B, Eigen::RowVector3d(1, 0, 0)), .1);
  CHECK(worst(wide.A_bar(), C_bar) <= 1e-13);
  CHECK(worst(wide.B_bar(), B_bar) <= 1e-13);

  const auto growing = zero_order_hold(
      StateSpace(Matrix2d(Matrix2d::Identity()), Vector2d(.5, .5), RowVector2d(1, 1)), .5);
  CHECK(worst(growing.B_bar(), Vector2d(.324360635350064073, .324360635350064073)) <= 1e-14);
}

TEST_CASE("the bilinear map gives the published input matrix and keeps C and D") {
  const StateSpace system(Matrix2d(Matrix2d::Identity()), Vector2d(.5, .5), RowVector2d(.75, 1),
                          Eigen::Matrix<double, 1, 1>(2.0));
  const auto discrete = bilinear(system, .5);
  CHECK(worst(discrete.B_bar(), Vector2d(1 / 3., 1 / 3.)) <= 1e-15);
  CHECK(discrete.C() == system.C());
  CHECK(discrete.D() == system.D());
}

TEST_CASE("zero-order hold of a double integrator is exact: it inverts nothing") {
  Matrix2d A;
  A << 0, 1, 0, 0;
  const StateSpace system(A, Vector2d(0, 1), RowVector2d(1, 0));
  for (const double h : {1e-9, 1e-3, 0.1, 1.0, 700.0}) {
    Matrix2d A_bar;
    A_bar << 1, h, 0, 1;
    const auto discrete = zero_order_hold(system, h);
    CHECK((discrete.A_bar() - A_bar).norm() <= 1e-14 * A_bar.norm());
    CHECK(worst(discrete.B_bar(), Vector2d(h * h / 2, h)) <= 1e-14);
  }
}

TEST_CASE("zero-order hold of stiff systems is right in every element") {
  Matrix2d A, A_bar;
  A << -2.5e4, -80, 350, -0.1;
  A_bar << -0.0000447517337146149856, -0.00319639740249941697, 0.0139842386359349493,
      0.998825441050600064;
  const auto motor = zero_order_hold(StateSpace(A, Vector2d(4e4, 0), RowVector2d(0, 1)), 1e-3);
  CHECK(worst(motor.A_bar(), A_bar) <= 1e-12);
  CHECK(worst(motor.B_bar(), Vector2d(1.5983522177680884, 0.537307814329683896)) <= 1e-13);

  Matrix3d S;
  S << 0, 1e-8, 0, -20066666666.666668, -3, 2e10, 66.666666666666671, 0, -66.666666666666671;
  const auto graded =
      zero_order_hold(StateSpace(S, Vector3d(0, 1e10, 0), Eigen::RowVector3d(1, 0, 0)), 1.);
  CHECK(std::abs(graded.A_bar()(0, 0) / 0.446849468283173784 - 1) <= 2e-13);
  CHECK(worst(graded.B_bar(),
              Vector3d(13.55086172370763, 1540441573.83952011, 13.3194559969282431)) <= 2e-13);
}

TEST_CASE("an input's size scales its B_bar exactly, and leaves A_bar alone") {
  const auto with_input = [](double b) {
    return zero_order_hold(
        StateSpace(coupled(), Vector3d(b, -2 * b, b), Eigen::RowVector3d(1, 0, 0)), .3);
  };
  const auto one = with_input(1);
  for (const double b : {0x1p-40, 0x1p20, 0x1p200}) {
    CHECK(worst(with_input(b).A_bar(), one.A_bar()) <= 1e-14);
    CHECK(worst(with_input(b).B_bar(), (b * one.B_bar()).eval()) <= 1e-13);
  }
}

TEST_CASE("two half steps of a zero-order hold are one whole step") {
  const StateSpace system(coupled(), Vector3d(1, -3, -2), Eigen::RowVector3d(1, 0, 0));
  const auto half = zero_order_hold(system, .15), whole = zero_order_hold(system, .3);
  CHECK(worst((half.A_bar() * half.A_bar()).eval(), whole.A_bar()) <= 1e-13);
  CHECK(worst((half.A_bar() * half.B_bar() + half.B_bar()).eval(), whole.B_bar()) <= 1e-13);
}

TEST_CASE("each discretization converges to the exact one with its own order") {
  const StateSpace system(coupled(), Vector3d(1, -3, -2), Eigen::RowVector3d(1, 0, 0));
  const auto error = [&](Discretization method, double h) {
    const auto exact = zero_order_hold(system, h), got = discretize(method, system, h);
    return (got.A_bar() - exact.A_bar()).norm() / h;
  };
  const auto order = [&](Discretization method) {
    return std::log2(error(method, 1e-3) / error(method, 5e-4));
  };
  CHECK(order(Discretization::forward_euler) == Approx(1).margin(0.01));
  CHECK(order(Discretization::backward_euler) == Approx(1).margin(0.01));
  CHECK(order(Discretization::bilinear) == Approx(2).margin(0.01));
}

TEST_CASE("a mode rests for a step of zero and a NaN step gives NaN; no system is sampled so") {
  const StateSpace<double> system(coupled(), MatrixXd(Vector3d(1, -3, -2)),
                                  MatrixXd(Eigen::RowVector3d(1, 0, 0)));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const auto method : methods) {
    CHECK(discretize(method, -2., 0.).a_bar == 1);
    CHECK(discretize(method, -2., 0.).b_bar_factor == 0);
    CHECK(std::isnan(discretize(method, -2., nan).a_bar));
    for (const double delta : {0., -0.1, nan, infinity})
      CHECK_THROWS_AS(discretize(method, system, delta), DomainError);
  }
  CHECK_THROWS_WITH(zero_order_hold(system, -0.5),
                    "zero_order_hold: delta is -0.5, expected positive and finite");
}

TEST_CASE("every method names itself when its step is not one, and a hold that overflows says so") {
  const auto growing = mode(1, 1);
  CHECK_THROWS_WITH(zero_order_hold(growing, 0.),
                    "zero_order_hold: delta is 0, expected positive and finite");
  CHECK_THROWS_WITH(first_order_hold(growing, 0.), contains("first_order_hold: delta is"));
  CHECK_THROWS_WITH(bilinear(growing, 0.), contains("bilinear: delta is"));
  CHECK_THROWS_WITH(tustin(growing, 0.), contains("tustin: delta is"));
  CHECK_THROWS_WITH(forward_euler(growing, 0.), contains("forward_euler: delta is"));
  CHECK_THROWS_WITH(backward_euler(growing, 0.), contains("backward_euler: delta is"));
  CHECK_THROWS_WITH(impulse_invariant(growing, 0.), contains("impulse_invariant: delta is"));
  CHECK_THROWS_WITH(zero_order_hold(growing, 1000.),
                    "zero_order_hold: e^(delta A) with delta = 1000 is not finite, expected a "
                    "delta over which the system does not overflow");
  CHECK_THROWS_WITH(first_order_hold(growing, 1000.), contains("is not finite, expected a delta"));
  CHECK_THROWS_WITH(impulse_invariant(growing, 1000.), contains("is not finite, expected a delta"));
  CHECK(std::isnan(zero_order_hold(mode(std::nan(""), 1), 1.).A_bar()(0)));
}

TEST_CASE("an implicit step over a pole is refused, and a stiff one is not") {
  CHECK_THROWS_WITH(backward_euler(mode(10, 1), 0.1),
                    "backward_euler: I - h A with h = 0.1 is singular, expected invertible");
  CHECK_THROWS_AS(bilinear(mode(20, 1), 0.1), DomainError);
  Matrix2d swap;
  swap << 0, 5, 5, 0;
  CHECK_THROWS_AS(backward_euler(StateSpace(swap, Vector2d(1, 1), RowVector2d(1, 1)), 0.2),
                  DomainError);
  Matrix2d stiff;
  stiff << -1e20, 0, 0, -1e-3;
  CHECK_NOTHROW(backward_euler(StateSpace(stiff, Vector2d(1, 1), RowVector2d(1, 1)), 0.2));
}

TEST_CASE("float agrees with double to float's precision") {
  const StateSpace system(coupled(), Vector3d(1, -3, -2), Eigen::RowVector3d(1, 0, 0));
  const StateSpace narrow(coupled().cast<float>(), Eigen::Vector3f(1, -3, -2),
                          Eigen::RowVector3f(1, 0, 0));
  for (const auto method : methods) {
    const auto want = discretize(method, system, 0.125);
    const auto got = discretize(method, narrow, 0.125f);
    CHECK((got.A_bar().cast<double>() - want.A_bar()).norm() <= 5e-7 * want.A_bar().norm());
    CHECK((got.B_bar().cast<double>() - want.B_bar()).norm() <= 5e-7 * want.B_bar().norm());
  }
}

TEST_CASE("a system of dynamic size is discretized as that of fixed size, without states too") {
  const StateSpace fixed(coupled(), Vector3d(1, -3, -2), Eigen::RowVector3d(1, 0, 0));
  const StateSpace<double> dynamic(fixed.A(), fixed.B(), fixed.C(), fixed.D());
  const StateSpace<double> gain(MatrixXd(0, 0), MatrixXd(0, 1), MatrixXd(1, 0),
                                MatrixXd::Ones(1, 1));
  for (const auto method : methods) {
    CHECK(worst(discretize(method, dynamic, .1).B_bar(), discretize(method, fixed, .1).B_bar()) <=
          1e-14);
    CHECK(discretize(method, gain, .1).D()(0, 0) == 1);
  }
}

TEST_CASE("a mode is discretized as the dense system of one state") {
  for (const auto method : methods)
    for (const double lambda : {-40., -1., -1e-12, 0., 1e-9, 0.7}) {
      CAPTURE(lambda);
      const auto dense = discretize(method, mode(lambda, 3), 0.25);
      const auto scalar = discretize(method, lambda, 0.25);
      CHECK(scalar.a_bar == Approx(dense.A_bar()(0)).epsilon(2e-14));
      CHECK(3 * scalar.b_bar_factor == Approx(dense.B_bar()(0)).epsilon(2e-14));
    }
}

TEST_CASE("a complex mode is discretized as its real two-by-two rotation") {
  for (const auto method : methods) {
    const std::complex<double> lambda(-0.5, 3);
    Matrix2d A;
    A << -0.5, -3, 3, -0.5;
    const auto dense = discretize(method, StateSpace(A, Vector2d(1, 0), RowVector2d(1, 0)), 0.1);
    const auto scalar = discretize(method, lambda, 0.1);
    CHECK(scalar.a_bar.real() == Approx(dense.A_bar()(0, 0)).epsilon(1e-14));
    CHECK(scalar.a_bar.imag() == Approx(dense.A_bar()(1, 0)).epsilon(1e-14));
    CHECK(scalar.b_bar_factor.real() == Approx(dense.B_bar()(0)).epsilon(1e-14));
    CHECK(std::abs(scalar.b_bar_factor.imag() - dense.B_bar()(1)) <= 1e-15);
  }
}

TEST_CASE("zero-order hold of a mode is right for small, large and vanishing steps") {
  struct Case {
    std::complex<double> lambda;
    double delta;
    std::complex<double> a_bar, factor;
  };
  const std::vector<Case> cases{// mpmath, 60 digits
                                {{-0.5, 3},
                                 0.1,
                                 {0.908744178755482834, 0.281107516110798129},
                                 {0.0961027523194219427, 0.0144014816949353982}},
                                {{-1e-9, 1e-9},
                                 1e-3,
                                 {0.999999999999, 9.99999999999000083e-13},
                                 {0.000999999999999500021, 4.99999999999666719e-16}},
                                {{-20, 100},
                                 0.25,
                                 {0.00667867201168056875, -0.000891779077394999456},
                                 {0.00190165852423335468, 0.00955288157503652338}},
                                {{-0.5, 1273.3},
                                 1e-3,
                                 {0.292980905493109399, 0.955595462970504423},
                                 {0.000750705213338284261, 0.554970346265782993e-3}},
                                {{0, 0}, 0.25, {1, 0}, {0.25, 0}},
                                {{-1e-14, 2e-15},
                                 1,
                                 {0.99999999999999, 1.99999999999998016e-15},
                                 {0.999999999999995, 9.99999999999993411e-16}}};
  for (const auto& [lambda, delta, a_bar, factor] : cases) {
    CAPTURE(lambda, delta);
    const auto got = zero_order_hold(lambda, delta);
    CHECK(std::abs(got.a_bar - a_bar) <= 1e-14 * std::abs(a_bar));
    CHECK(std::abs(got.b_bar_factor - factor) <= 1e-14 * std::abs(factor));

    const auto narrow =
        zero_order_hold(std::complex<float>(lambda), static_cast<float>(delta)).b_bar_factor;
    CHECK(std::abs(std::complex<double>(narrow) - factor) <= 1e-6 * std::abs(factor));
  }
}

TEMPLATE_TEST_CASE("diagonal systems are discretized element by element, for steps that vary", "",
                   double, std::complex<double>, float) {
  using T = Real<TestType>;
  ssm::test::Random random(1);
  const auto lambda = random.normal<TestType>(std::array<Index, 2>{3, 5}, 0.3, -1);
  Tensor<T, 2> delta({7, 3});
  for (T& d : delta) d = static_cast<T>(random.uniform(0.001, 0.5));
  for (const auto method : methods) {
    Tensor<TestType, 3> a({7, 3, 5}), b({7, 3, 5});
    discretize_diagonal(cpu(2), method, lambda, delta, a.view(), b);
    Tensor<TestType, 2> a_row({3, 5}), b_row({3, 5});
    Tensor<T, 1> delta_row({3});
    for (Index c = 0; c < 3; ++c) delta_row(c) = delta(4, c);
    discretize_diagonal(cpu, method, lambda, delta_row, a_row.view(), b_row);
    for (Index c = 0; c < 3; ++c)
      for (Index n = 0; n < 5; ++n) {
        const auto want = discretize(method, lambda(c, n), delta(4, c));
        CHECK(a(4, c, n) == want.a_bar);
        CHECK(b(4, c, n) == want.b_bar_factor);
        CHECK(a_row(c, n) == want.a_bar);
        CHECK(b_row(c, n) == want.b_bar_factor);
      }
  }
  Tensor<TestType, 3> a({7, 3, 5}), b({7, 3, 4});
  CHECK_THROWS_WITH(discretize_diagonal(cpu, Discretization::bilinear, lambda, delta, a.view(), b),
                    "discretize_diagonal: b_bar_factor is (7, 3, 4), expected (7, 3, 5)");
}
