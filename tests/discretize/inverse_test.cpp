#include "ssm/discretize/inverse.hpp"

#include <Eigen/QR>
#include <cmath>
#include <complex>

#include "ssm/discretize/discretize.hpp"
#include "ssm/discretize/matched.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace inverse_test {

using namespace ssm;
using namespace ssm::test;
using Complex = std::complex<double>;
using Eigen::MatrixXd;
using Eigen::VectorXcd;

namespace {

/// A stable system without feedthrough if that is asked for.
StateSpace<double> plant(Random& random, Index states, bool direct) {
  MatrixXd A = random_matrix(random, states, states);
  A -= (A.norm() + 0.1) * MatrixXd::Identity(states, states);
  return {A, random_matrix(random, states, 2), random_matrix(random, 3, states),
          direct ? random_matrix(random, 3, 2) : MatrixXd(MatrixXd::Zero(3, 2))};
}

/// A mode of −1 and one of −800, mixed by an angle that no order of states undoes.
StateSpace<double> mixed_modes() {
  const double c = std::cos(0.6), s = std::sin(0.6);
  const MatrixXd Q = (MatrixXd(2, 2) << c, -s, s, c).finished();
  const MatrixXd A = Q * Eigen::Vector2d(-1, -800).asDiagonal() * Q.transpose();
  return {A, MatrixXd::Ones(2, 1), MatrixXd::Ones(1, 2)};
}

ZerosPolesGain<double> roots_of(std::initializer_list<Complex> zeros,
                                std::initializer_list<Complex> poles, double gain) {
  ZerosPolesGain<double> roots{VectorXcd(Index(zeros.size())), VectorXcd(Index(poles.size())),
                               gain};
  std::copy(zeros.begin(), zeros.end(), roots.zeros.begin());
  std::copy(poles.begin(), poles.end(), roots.poles.begin());
  return roots;
}

}  // namespace

TEST_CASE("every method of sampling has an inverse that brings the system back") {
  Random random(7);
  for (const auto& [method, name] : names(Discretization{}))
    for (const Index states : {0, 1, 4}) {
      CAPTURE(name, states);
      const auto system = plant(random, states, method != Discretization::impulse_invariant);
      const double h = method == Discretization::forward_euler ? 0.01 : 0.2 / (1 + double(states));
      const auto back = inverse_discretize(method, discretize(method, system, h));
      CHECK(distance(back.A(), system.A()) <= 3e-12);
      CHECK(distance(back.B(), system.B()) <= 3e-12);
      CHECK(distance(back.C(), system.C()) <= 3e-12);
      CHECK((back.D() - system.D()).norm() <= 3e-12 * (1 + system.D().norm()));
    }
  const auto system = plant(random, 3, true);
  for (const double alpha : {0., 0.3, 0.5, 1.}) {
    const auto back =
        inverse_generalized_bilinear(generalized_bilinear(system, 0.05, alpha), alpha);
    CHECK(distance(back.A(), system.A()) <= 1e-13);
    CHECK(distance(back.D(), system.D()) <= 1e-13);
  }
}

TEST_CASE("a mode that has decayed below rounding is refused, and one that stands apart is not") {
  const auto gone = zero_order_hold(mixed_modes(), 0.1);  // e^-80 beside e^-0.1
  CHECK_THROWS_WITH(inverse_zero_order_hold(gone),
                    contains("inverse_zero_order_hold: an eigenvalue of A is") &&
                        contains("a mode that decays so far in a step is not known"));
  CHECK_THROWS_AS(inverse_first_order_hold(first_order_hold(mixed_modes(), 0.1)), DomainError);
  CHECK_THROWS_AS(inverse_impulse_invariant(impulse_invariant(mixed_modes(), 0.1)), DomainError);
  CHECK_THROWS_AS(matrix_logarithm(gone.A_bar()), DomainError);
  // e^-16 is known to 2e-9 of itself in double, and not at all in float
  const auto near = zero_order_hold(mixed_modes(), 0.02);
  CHECK(distance(inverse_zero_order_hold(near).A(), mixed_modes().A()) <= 1e-9);
  const StateSpace<float> narrow(mixed_modes().A().cast<float>(), Eigen::MatrixXf::Ones(2, 1),
                                 Eigen::MatrixXf::Ones(1, 2));
  CHECK_THROWS_AS(inverse_zero_order_hold(zero_order_hold(narrow, 0.02f)), DomainError);

  // Triangular in any order of states, also in blocks: each mode keeps its digits.
  const Eigen::PermutationMatrix<Dynamic> turned(Eigen::Vector4i(2, 0, 3, 1));
  MatrixXd A(4, 4);
  A << -1, 5, 3, 1, 0, -800, 2, -4, 0, 0, -2, 6, 0, 0, -6, -2;
  for (const MatrixXd& modes :
       {A, MatrixXd(A.transpose()), MatrixXd(turned * A * turned.transpose())}) {
    const auto back = inverse_zero_order_hold(zero_order_hold(
        StateSpace<double>(modes, MatrixXd::Ones(4, 1), MatrixXd::Ones(1, 4)), 0.1));
    CHECK(distance(back.A(), modes) <= 1e-12);
  }
}

TEST_CASE("matched poles go to e^{sΔ}, and the gain at rest stays, integrators or none") {
  const auto plant = roots_of({-3}, {-1, Complex(-2, 5), Complex(-2, -5)}, 4);
  const auto sampled = matched(plant, 0.1);
  REQUIRE(sampled.zeros.size() == 2);
  CHECK(std::abs(sampled(1) - plant(0)) <= 1e-13 * std::abs(plant(0)));
  CHECK((sampled.zeros.array() == Complex(-1)).count() == 1);
  CHECK(matched(plant, 0.1, 2).zeros.size() == 1);
  CHECK(matched(plant, 0.1, 0).zeros.size() == 3);
  for (const Index delays : {0, 1, 2, 5}) {
    const auto back = inverse_matched(matched(plant, 0.1, delays), 0.1);
    CHECK(std::abs(back(Complex(0, 2)) / plant(Complex(0, 2)) - 1.0) <= 1e-13);
  }
  // two integrators: G ≈ 5/s² at rest
  const auto integrators = roots_of({-2}, {0, 0, -2}, 5);
  const auto held = matched(integrators, 0.5);
  const Complex z = 1 + 1e-6;
  CHECK(std::abs(held(z) * (z - 1.0) * (z - 1.0) / 0.25 - 5.0) <= 1e-4);
  CHECK(std::abs(inverse_matched(held, 0.5).gain - 5) <= 1e-13);
  const auto ratio = matched(TransferFunction<double>{{1}, {1, 1}}, 0.5);
  CHECK(std::abs(ratio.numerator(0) - (1 - std::exp(-0.5))) <= 1e-15);
  CHECK(std::abs(inverse_matched(ratio, 0.5).numerator(0) - 1) <= 1e-14);

  CHECK_THROWS_WITH(matched(roots_of({1, 2}, {3}, 1), 0.1),
                    "matched: zeros is (2), expected at most as many as poles, (1)");
  CHECK_THROWS_AS(matched(plant, 0), DomainError);
  CHECK_THROWS_AS(matched(plant, std::nan("")), DomainError);
  CHECK_THROWS_AS(matched(plant, 0.1, -1), DomainError);
  CHECK_THROWS_AS(matched(roots_of({}, {Complex(0, HUGE_VAL)}, 1), 0.1), DomainError);
  CHECK_THROWS_AS(matched(roots_of({}, {Complex(-1, 1)}, 1), 0.1), DomainError);
  CHECK_THROWS_AS(matched(TransferFunction<double>{{1, 2, 3}, {1, 1}}, 0.1), ShapeError);
  CHECK_THROWS_WITH(inverse_matched(roots_of({}, {-0.5}, 1), 0.1), contains("poles is at -0.5"));
}

TEST_CASE("what no method can have made, or is not finite, is refused by name") {
  const auto sampled = [](double a_bar, double d) {
    const auto one = [](double x) { return MatrixXd::Constant(1, 1, x); };
    return DiscreteStateSpace<double>(one(a_bar), one(1), one(1), one(d), 0.1);
  };
  CHECK_THROWS_WITH(inverse_impulse_invariant(sampled(0.5, 0)),
                    "inverse_impulse_invariant: D is 0, expected 2 = C A_bar^-1 "
                    "B_bar, as impulse_invariant has it");
  CHECK_THROWS_WITH(inverse_backward_euler(sampled(0, 0)),
                    "inverse_backward_euler: (1 - alpha) I + alpha A_bar with alpha = 1 is "
                    "singular, expected invertible");
  CHECK_THROWS_AS(inverse_bilinear(sampled(-1, 0)), DomainError);
  CHECK_THROWS_AS(inverse_generalized_bilinear(sampled(0.5, 0), 2), DomainError);
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    CHECK_THROWS_WITH(inverse_zero_order_hold(sampled(bad, 0)),
                      "inverse_zero_order_hold: A_bar is not finite, expected finite");
    CHECK_THROWS_AS(inverse_first_order_hold(sampled(bad, 0)), DomainError);
  }
}

}  // namespace inverse_test
