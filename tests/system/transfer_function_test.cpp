#include "ssm/system/transfer_function.hpp"

#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <complex>

#include "ssm/discretize/tustin.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/interconnection.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace transfer_function_test {

using namespace ssm;
using Complex = std::complex<double>;
using Eigen::MatrixXcd;
using Eigen::MatrixXd;
using Eigen::VectorXcd;
using Eigen::VectorXd;
using ssm::test::contains;

namespace {

StateSpace<double> draw_system(ssm::test::Random& random, Index n, Index m, Index p) {
  return {draw_matrix(random, n, n), draw_matrix(random, n, m), draw_matrix(random, p, n),
          draw_matrix(random, p, m)};
}

DiscreteStateSpace<double> sampled(const StateSpace<double>& system) {
  return {system.A(), system.B(), system.C(), system.D(), 0.1};
}

/// G at a point, straight from its definition.
MatrixXcd transfer(const StateSpace<double>& system, Complex s) {
  const Index n = system.states();
  const MatrixXcd resolvent = s * MatrixXcd::Identity(n, n) - system.A().cast<Complex>();
  const MatrixXcd B = system.B().cast<Complex>();
  return system.C().cast<Complex>() * resolvent.partialPivLu().solve(B) +
         system.D().cast<Complex>();
}

MatrixXcd transfer(const DiscreteStateSpace<double>& system, Complex z) {
  return transfer(StateSpace<double>(system.A_bar(), system.B_bar(), system.C(), system.D()), z);
}

StateSpace<double> dynamic(const StateSpace<double, Dynamic, 1, 1>& system) {
  return {system.A(), system.B(), system.C(), system.D()};
}

DiscreteStateSpace<double> dynamic(const DiscreteStateSpace<double, Dynamic, 1, 1>& system) {
  return {system.A_bar(), system.B_bar(), system.C(), system.D(), system.delta()};
}

double error(const MatrixXcd& got, const MatrixXcd& want) {
  if (got.rows() != want.rows() || got.cols() != want.cols()) return 1e300;
  return (got - want).norm() / want.norm();
}

VectorXd vector(std::initializer_list<double> values) {
  VectorXd result(static_cast<Index>(values.size()));
  std::copy(values.begin(), values.end(), result.begin());
  return result;
}

const Complex somewhere(0.3, 1.7);

}  // namespace

TEST_CASE("a system, its transfer function and its zeros and poles answer alike, there and back") {
  ssm::test::Random random(1);
  for (const Index n : {0, 1, 2, 3, 5, 8})
    for (const bool direct : {true, false}) {
      CAPTURE(n, direct);
      const auto drawn = draw_system(random, n, 2, 2);
      const StateSpace<double> system(
          drawn.A(), drawn.B(), drawn.C(),
          direct ? drawn.D() : MatrixXd(MatrixXd::Ones(2, 2) * (n == 0)));
      const Complex want = transfer(system, somewhere)(1, 0);
      const auto roots = zeros_poles_gain(system, 1, 0);
      CHECK(roots.poles.size() == n);
      CHECK(roots.zeros.size() == (direct || n == 0 ? n : n - 1));
      CHECK(std::abs(roots(somewhere) / want - 1.0) <= 1e-11);
      const auto ratio = transfer_function(system, 1, 0);
      CHECK(ratio.denominator.size() == n + 1);
      CHECK(std::abs(ratio(somewhere) / want - 1.0) <= 1e-11);

      const auto again = state_space(ratio);
      CHECK(std::abs(transfer(dynamic(again), somewhere)(0, 0) / want - 1.0) <= 1e-11);
      const auto ratio_again = transfer_function(again);
      CHECK(error(ratio_again.denominator.cast<Complex>(), ratio.denominator.cast<Complex>()) <=
            1e-11);
      CHECK(error(ratio_again.numerator.cast<Complex>(), ratio.numerator.cast<Complex>()) <= 1e-10);
      CHECK(std::abs(zeros_poles_gain(ratio)(somewhere) / want - 1.0) <= 1e-11);

      const auto cascade = state_space(roots);
      CHECK(cascade.states() == n);
      CHECK(std::abs(transfer(dynamic(cascade), somewhere)(0, 0) / want - 1.0) <= 1e-11);
      for (const auto& companion_form :
           {controllable_companion(ratio), observable_companion(ratio)})
        CHECK(std::abs(transfer(dynamic(companion_form), somewhere)(0, 0) / want - 1.0) <= 1e-11);
    }
}

TEST_CASE("a textbook transfer function has its textbook forms") {
  // (s + 3) / (s² + 3 s + 2) = 2 / (s + 1) − 1 / (s + 2); Ogata, 5th ed., example 9-1.
  const TransferFunction<double> ogata{{1, 3}, {1, 3, 2}};
  const auto form = controllable_companion(ogata);
  CHECK(form.A() == (MatrixXd(2, 2) << 0, 1, -2, -3).finished());
  CHECK(form.B() == vector({0, 1}));
  CHECK(form.C() == vector({3, 1}).transpose());
  CHECK(form.D()(0) == 0);
  CHECK(observable_companion(ogata).A() == form.A().transpose());
  const auto roots = zeros_poles_gain(ogata);
  CHECK(std::abs(roots.zeros(0) + 3.0) <= 1e-15);
  CHECK(std::abs(roots.poles.prod() - 2.0) <= 1e-15);
  CHECK(roots.gain == 1);
  const auto doubled =
      transfer_function(state_space(TransferFunction<double>{{0, 2, 6}, {2, 6, 4}}));
  CHECK(error(doubled.numerator.cast<Complex>(), ogata.numerator.cast<Complex>()) <= 1e-14);
}

TEST_CASE(
    "a discrete transfer function is SciPy's, and has the factor z when read after the step") {
  ssm::test::Random random(2);
  const auto system = sampled(draw_system(random, 4, 1, 1));
  const Complex z = std::polar(1.0, 0.7), want = transfer(system, z)(0, 0), D = system.D()(0, 0);
  CHECK(std::abs(transfer_function(system)(z) / want - 1.0) <= 1e-12);
  const auto after = transfer_function(system, 0, 0, Readout::after);
  CHECK(std::abs(after(z) / (z * (want - D) + D) - 1.0) <= 1e-12);

  // cont2discrete(([1], [1, 1]), 0.5, 'zoh') and 'bilinear'
  const auto lag = dynamic(state_space(TransferFunction<double>{{1}, {1, 1}}));
  const auto held = zero_order_hold(lag, 0.5);
  const auto ratio = transfer_function(held);
  REQUIRE(ratio.numerator.size() == 1);
  CHECK(std::abs(ratio.numerator(0) - 0.3934693402873666) <= 1e-15);
  CHECK(std::abs(ratio.denominator(1) + 0.6065306597126334) <= 1e-15);
  const auto even = transfer_function(tustin(lag, 0.5));
  CHECK(error(even.numerator.cast<Complex>(), vector({0.2, 0.2}).cast<Complex>()) <= 1e-15);
  CHECK(error(even.denominator.cast<Complex>(), vector({1, -0.6}).cast<Complex>()) <= 1e-15);

  const auto seen = zeros_poles_gain(held, 0, 0, Readout::after);  // 0.39 z / (z − 0.61)
  CHECK(seen.gain == Approx(0.3934693402873666).epsilon(1e-14));
  REQUIRE(seen.zeros.size() == 1);
  CHECK(std::abs(seen.zeros(0)) <= 1e-15);
}

TEST_CASE("a sampled system survives its transfer function and its zeros and poles, step and all") {
  ssm::test::Random random(5);
  for (const Index n : {0, 1, 2, 3, 6})
    for (const bool direct : {true, false}) {
      CAPTURE(n, direct);
      const auto drawn = draw_system(random, n, 1, 1);
      const DiscreteStateSpace<double> system(
          drawn.A() / (1 + drawn.A().norm()), drawn.B(), drawn.C(),
          direct ? drawn.D() : MatrixXd(MatrixXd::Ones(1, 1) * (n == 0)), 0.25);
      const Complex z = std::polar(1.0, 0.7), want = transfer(system, z)(0, 0);
      const auto ratio = transfer_function(system);
      const auto roots = zeros_poles_gain(system);
      for (const auto& again :
           {discrete_state_space(ratio, 0.25), discrete_state_space(roots, 0.25)}) {
        CHECK(again.delta() == system.delta());
        CHECK(again.states() == n);
        CHECK(std::abs(transfer(dynamic(again), z)(0, 0) / want - 1.0) <= 1e-11);
        const auto ratio_again = transfer_function(again);
        CHECK(error(ratio_again.denominator.cast<Complex>(), ratio.denominator.cast<Complex>()) <=
              1e-11);
        CHECK(error(ratio_again.numerator.cast<Complex>(), ratio.numerator.cast<Complex>()) <=
              1e-10);
      }
    }
  const TransferFunction<double> delay{{1}, {1, 0}};
  CHECK(discrete_state_space(delay, 1).A_bar()(0) == 0);
  CHECK_THROWS_AS(discrete_state_space(delay, 0), DomainError);
  CHECK_THROWS_WITH(discrete_state_space(TransferFunction<double>{{3, 2, 1}, {1}}, 1),
                    contains("discrete_state_space: numerator is of degree 2"));
}

TEST_CASE("poles come back to the last digit, stiff by twenty decades") {
  ZerosPolesGain<double> stiff{VectorXcd(2), VectorXcd(5), 7};
  stiff.zeros << Complex(-3, 4), Complex(-3, -4);
  stiff.poles << -1e-10, -1e10, -1, Complex(-2, 1e4), Complex(-2, -1e4);
  const auto system = state_space(stiff);
  const auto again = poles(system);
  for (const Complex& pole : stiff.poles) {
    double nearest = 1e300;
    for (const Complex& other : again) nearest = std::min(nearest, std::abs(other - pole));
    CHECK(nearest <= 1e-13 * std::abs(pole));
  }
  // zeros at 5 beside poles at 1e4: what is left of a difference of 1e8
  CHECK(std::abs(transfer(dynamic(system), somewhere)(0, 0) / stiff(somewhere) - 1.0) <= 1e-8);
}

TEST_CASE("zero highest powers are trimmed, and lists of either order say the same") {
  const TransferFunction<double> plain{{1, 3}, {1, 3, 2}}, padded{{0, 0, 0, 1, 3}, {0, 1, 3, 2}};
  for (const auto& same :
       {padded, TransferFunction<double>::ascending({3, 1}, {2, 3, 1}),
        TransferFunction<double>::ascending(vector({3, 1, 0}), vector({2, 3, 1, 0, 0}))}) {
    CHECK(state_space(same).A() == state_space(plain).A());
    CHECK(controllable_companion(same).C() == controllable_companion(plain).C());
    CHECK(zeros_poles_gain(same).poles == zeros_poles_gain(plain).poles);
    CHECK(zeros_poles_gain(same).gain == 1);
    CHECK(same(somewhere) == plain(somewhere));
  }
  CHECK(std::abs(plain(1e200) - 1e-200) <= 1e-215);
  CHECK(plain(0) == 1.5);
  CHECK(state_space(TransferFunction<double>{{0}, {1, 2}}).C()(0) == 0);
}

TEST_CASE("roots that rounding has moved off their conjugates are those of a real polynomial") {
  const auto with_poles = [](std::initializer_list<Complex> poles) {
    ZerosPolesGain<double> roots{VectorXcd(0), VectorXcd(static_cast<Index>(poles.size())), 1};
    std::copy(poles.begin(), poles.end(), roots.poles.begin());
    return roots;
  };
  for (const double unit : {1., 0x1p-70, 0x1p90}) {
    const auto lone = with_poles({unit * Complex(-1, 1e-17), unit * Complex(-2, -3e-16)});
    CHECK(state_space(lone).A()(1, 1) == -unit * 2);
    CHECK(transfer_function(lone).denominator(2) == 2 * unit * unit);
    // an integrator beside a faster pole, twice with the same sign, and a pair that is not quite
    // one
    const auto pair = with_poles({unit * Complex(-1, 2), unit * Complex(-1 - 1e-15, -2 + 4e-16),
                                  unit * Complex(0, 1e-17), unit * Complex(-3, 1e-18),
                                  unit * Complex(-3, 1e-18)});
    const auto found = poles(state_space(pair));
    CHECK(found.size() == 5);
    CHECK((found.real().array() == 0).count() == 1);
    CHECK((found.imag().array() != 0).count() == 2);
    CHECK_THROWS_WITH(state_space(with_poles({unit * Complex(-1, 1e-9)})), contains("conjugate"));
    CHECK_THROWS_AS(state_space(with_poles({unit * Complex(-1, 2), unit * Complex(-1, -2 - 1e-9)})),
                    DomainError);
  }
  const ZerosPolesGain<float> single{
      Eigen::VectorXcf(0), Eigen::VectorXcf::Constant(1, std::complex<float>(-1, 1e-7f)), 1};
  CHECK(state_space(single).A()(0) == -1);
}

TEST_CASE("a transfer function of complex coefficients evaluates and has roots, there and back") {
  ssm::test::Random random(6);
  for (const Index n : {0, 1, 2, 5, 12}) {
    CAPTURE(n);
    ZerosPolesGain<Complex> roots{VectorXcd(n / 2), VectorXcd(n), Complex(2, -1)};
    for (Complex& root : roots.zeros) root = {random.normal(), random.normal()};
    for (Complex& root : roots.poles)
      root = std::polar(std::exp(3 * random.normal()), 7 * random.uniform(0, 1));
    const auto ratio = transfer_function(roots);
    CHECK(std::abs(ratio(somewhere) / roots(somewhere) - 1.0) <= 1e-11);
    const auto again = zeros_poles_gain(ratio);
    CHECK(std::abs(again(somewhere) / roots(somewhere) - 1.0) <= 1e-10);
    CHECK(again.gain == roots.gain);
  }
  // (s − i)(s + 2 i) s = s³ + i s² + 2 s
  const VectorXcd found = polynomial_roots(
      (VectorXcd(5) << 0., Complex(0, 2), Complex(-2, 0), Complex(0, 4), 0.).finished());
  REQUIRE(found.size() == 3);
  CHECK(std::abs(found.sum() + Complex(0, 1)) <= 1e-15);
  CHECK(found.cwiseAbs().minCoeff() == 0);
  CHECK_THROWS_AS(polynomial_roots(VectorXcd::Constant(2, Complex(0, HUGE_VAL))), DomainError);
  CHECK_THROWS_AS(polynomial_roots(VectorXd::Constant(3, std::nan(""))), DomainError);
  CHECK(polynomial_roots(vector({0, 0})).size() == 0);
}

TEST_CASE("roots of a polynomial are found whatever their sizes and multiplicities") {
  const auto farthest = [](const VectorXcd& found, const std::vector<Complex>& expected) {
    double worst = found.size() == Index(expected.size()) ? 0 : HUGE_VAL;
    for (const Complex& root : expected)
      worst = std::max(worst, ((found.array() - root).abs().minCoeff()) / std::abs(root));
    return worst;
  };
  CHECK(farthest(polynomial_roots(vector({1, 1e16, 1e16})), {-1e16, -1}) <= 1e-15);
  CHECK(farthest(polynomial_roots(vector({1e-30, 1, 1})), {-1e30, -1}) <= 1e-15);
  CHECK(farthest(polynomial_roots(vector({1, 1e30, 1e30})), {-1e30, -1}) <= 1e-15);
  CHECK(farthest(polynomial_roots(vector({1e-200, 0, 1e200})), {{0, 1e200}, {0, -1e200}}) <= 1e-14);
  CHECK(farthest(polynomial_roots(vector({1, 1e20, 1e35, 1e45, 1e50, 1e50, 1e45})),
                 {-1e20, -1e15, -1e10, -1e5, -1, -1e-5}) <= 2e-5);
  CHECK(farthest(polynomial_roots(vector({1, 0, -2, 0, 1})), {1, 1, -1, -1}) <= 1e-7);
  CHECK(farthest(polynomial_roots(vector({1, 0, -2, 0, 1 + 1e-12})),
                 {{1, 5e-7}, {1, -5e-7}, {-1, 5e-7}, {-1, -5e-7}}) <= 1e-8);
  const double half = std::sqrt(.5);
  CHECK(farthest(polynomial_roots(vector({-4, 0, 4, 0, -1})), {half, half, -half, -half}) <= 1e-7);
  CHECK_THROWS_WITH(polynomial_roots(vector({1e-200, 1e200})), contains("a root is not finite"));
}

TEST_CASE("interconnected systems answer as their transfer functions compose") {
  ssm::test::Random random(3);
  const auto check = [&](const auto& first, const auto& second, const auto& back,
                         const auto& beside) {
    const MatrixXcd G = transfer(first, somewhere), H = transfer(second, somewhere);
    const MatrixXcd K = transfer(back, somewhere), S = transfer(beside, somewhere);
    const MatrixXcd I = MatrixXcd::Identity(G.rows(), G.rows());
    CHECK(error(transfer(series(first, second), somewhere), H * G) <= 1e-12);
    CHECK(error(transfer(parallel(first, beside), somewhere), G + S) <= 1e-12);
    const MatrixXcd closed = (I + G * K).inverse() * G;
    CHECK(error(transfer(feedback(first, back), somewhere), closed) <= 1e-11);
    MatrixXcd both = MatrixXcd::Zero(G.rows() + H.rows(), G.cols() + H.cols());
    both.topLeftCorner(G.rows(), G.cols()) = G;
    both.bottomRightCorner(H.rows(), H.cols()) = H;
    CHECK(error(transfer(append(first, second), somewhere), both) <= 1e-13);
    CHECK(series(first, second).states() == first.states() + second.states());
  };
  for (const Index n : {0, 1, 3})
    for (const Index k : {0, 2, 4}) {
      CAPTURE(n, k);
      const auto first = draw_system(random, n, 2, 3), second = draw_system(random, k, 3, 1);
      const auto back = draw_system(random, k, 3, 2), beside = draw_system(random, k, 2, 3);
      check(first, second, back, beside);
      check(sampled(first), sampled(second), sampled(back), sampled(beside));
    }
}

TEST_CASE("an integrator under unit feedback is a lag, and sizes stay fixed") {
  const auto one = [](double x) { return Eigen::Matrix<double, 1, 1>(x); };
  const StateSpace integrator(one(0), one(1), one(1));
  const StateSpace<double, 0, 1, 1> wire(MatrixXd(0, 0), MatrixXd(0, 1), MatrixXd(1, 0), one(1));
  const auto lag = feedback(integrator, wire);
  static_assert(std::is_same_v<decltype(lag), const StateSpace<double, 1, 1, 1>>);
  CHECK(lag.A()(0) == -1);
  static_assert(std::is_same_v<decltype(series(integrator, lag)), StateSpace<double, 2, 1, 1>>);
  static_assert(std::is_same_v<decltype(append(integrator, lag)), StateSpace<double, 2, 2, 2>>);
}

TEST_CASE(
    "a sampled integrator in a loop has the pole 1 − gain, and overshoots until it diverges") {
  const StateSpace<double> integrator(MatrixXd::Zero(1, 1), MatrixXd::Ones(1, 1),
                                      MatrixXd::Ones(1, 1));
  const auto plant = zero_order_hold(integrator, 1);
  const auto gain = [](double x) {
    return DiscreteStateSpace<double>(MatrixXd(0, 0), MatrixXd(0, 1), MatrixXd(1, 0),
                                      MatrixXd::Constant(1, 1, x), 1);
  };
  const auto slow = feedback(series(gain(0.5), plant), gain(1));
  CHECK(std::abs(poles(slow)(0) - 0.5) <= 1e-15);
  CHECK(is_stable(slow));
  const auto fast = feedback(plant, gain(3));
  CHECK(std::abs(poles(fast)(0) + 2.0) <= 1e-15);
  CHECK_FALSE(is_stable(fast));
}

TEST_CASE("balanced states are the same system in better units") {
  const TransferFunction<double> slow{{1}, {1, 3e-8, 3e-16, 1e-24}};
  const auto raw = controllable_companion(slow);
  const auto even = balance_states(raw);
  CHECK(even.A().cwiseAbs().maxCoeff() <= 1e-6);
  const Complex s(0, 2e-8);
  CHECK(std::abs(transfer(dynamic(even), s)(0, 0) / slow(s) - 1.0) <= 1e-13);
}

TEST_CASE("systems that do not fit, loops without an answer and improper ratios are refused") {
  ssm::test::Random random(4);
  const auto tall = draw_system(random, 2, 1, 2), wide = draw_system(random, 3, 3, 1);
  CHECK_THROWS_WITH(series(tall, wide),
                    "series: D of the second system is (1, 3), expected (1, 2)");
  CHECK_THROWS_AS(parallel(tall, wide), ShapeError);
  CHECK_THROWS_AS(feedback(tall, wide), ShapeError);
  const auto gain = [](double x) {
    return StateSpace<double>(MatrixXd(0, 0), MatrixXd(0, 1), MatrixXd(1, 0),
                              MatrixXd::Constant(1, 1, x));
  };
  CHECK_THROWS_WITH(feedback(gain(2), gain(-0.5)),
                    "feedback: the algebraic loop is singular, expected solvable");
  const DiscreteStateSpace<double> slower(tall.A(), tall.B(), tall.C(), tall.D(), 0.2);
  CHECK_THROWS_WITH(append(sampled(tall), slower), contains("delta of the second system"));
  CHECK_THROWS_AS(similarity_transform(tall, MatrixXd::Zero(2, 2)), DomainError);
  CHECK_THROWS_WITH(zeros_poles_gain(tall, 2, 0),
                    "zeros_poles_gain: the channel is (2, 0), expected below (2, 1)");
  CHECK_THROWS_WITH(state_space(TransferFunction<double>{{3, 2, 1}, {2, 1}}),
                    "state_space: numerator is of degree 2, expected at most the degree of the "
                    "denominator, 1: a proper transfer function");
  CHECK_THROWS_WITH(zeros_poles_gain(TransferFunction<double>{{1}, {0, 0}}),
                    "zeros_poles_gain: denominator is 0, expected not 0");
  CHECK_THROWS_AS(state_space(TransferFunction<double>{{1}, {0}}), DomainError);
  CHECK_THROWS_WITH(state_space(TransferFunction<double>{}),
                    "state_space: denominator is (0), expected one coefficient or more");
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    const TransferFunction<double> above{{bad, 1}, {1, 1}};
    const TransferFunction<double> below{{1}, {1, bad}};
    CHECK_THROWS_WITH(state_space(above), "state_space: numerator is not finite, expected finite");
    CHECK_THROWS_AS(observable_companion(below), DomainError);
    CHECK_THROWS_AS(zeros_poles_gain(below), DomainError);
    const VectorXcd root = VectorXcd::Constant(1, bad), none(0);
    for (const ZerosPolesGain<double>& roots :
         {ZerosPolesGain<double>{none, root, 1}, ZerosPolesGain<double>{root, root, 1},
          ZerosPolesGain<double>{none, none, bad}}) {
      CHECK_THROWS_AS(state_space(roots), DomainError);
      CHECK_THROWS_AS(discrete_state_space(roots, 1), DomainError);
      CHECK_THROWS_AS(transfer_function(roots), DomainError);
    }
  }
  ZerosPolesGain<double> lone{VectorXcd(0), VectorXcd::Constant(1, Complex(0, 1)), 1};
  CHECK_THROWS_WITH(state_space(lone), contains("conjugate"));
  CHECK_THROWS_AS(state_space(ZerosPolesGain<double>{VectorXcd::Zero(1), VectorXcd(0), 1}),
                  ShapeError);
}

TEST_CASE("a feedthrough of rounding's size changes no response amid the poles") {
  for (const Index n : {2, 3})
    for (const double D : {1e-20, 1e-17, 1e-15, 1e-10, 1e-6}) {
      CAPTURE(n, D);
      MatrixXd A = -MatrixXd::Identity(n, n);
      A.diagonal(-1).setOnes();
      const StateSpace<double> lags(A, MatrixXd::Identity(n, 1),
                                    MatrixXd::Identity(n, n).bottomRows(1),
                                    MatrixXd::Constant(1, 1, D));
      const auto roots = zeros_poles_gain(lags);
      CHECK(roots.zeros.allFinite());
      const Complex s(0, 1), want = std::pow(1.0 + s, -static_cast<double>(n)) + D;
      CHECK(std::abs(roots(s) - want) <= 1e-12);
      CHECK(std::abs(transfer_function(lags)(s) - want) <= 1e-12);
    }
}

TEST_CASE("systems add, multiply and close loops by operators, numbers for gains of one channel") {
  ssm::test::Random random(12);
  const auto G = draw_system(random, 3, 2, 2), H = draw_system(random, 2, 2, 2);
  const MatrixXcd g = transfer(G, somewhere), h = transfer(H, somewhere);
  CHECK(error(transfer(G * H, somewhere), g * h) <= 1e-13);
  CHECK(error(transfer(G + H, somewhere), g + h) <= 1e-13);
  CHECK(error(transfer(G - H, somewhere), g - h) <= 1e-13);
  CHECK(error(transfer(2 * G, somewhere), 2 * g) <= 1e-13);
  CHECK(error(transfer(-(G * 0.5), somewhere), -0.5 * g) <= 1e-13);
  const MatrixXcd loop = MatrixXcd::Identity(2, 2) + 3 * g;
  CHECK(error(transfer(feedback(G, 3), somewhere), loop.inverse() * g) <= 1e-12);
  CHECK(error(transfer(sampled(G) * sampled(H), somewhere), g * h) <= 1e-13);
  CHECK_THROWS_AS(feedback(draw_system(random, 2, 1, 2)), ShapeError);
  CHECK_THROWS_AS(G * draw_system(random, 2, 2, 1), ShapeError);
  const MatrixXd one = MatrixXd::Ones(1, 1);
  const StateSpace lag(MatrixXd(-one), one, one, 0.5);
  CHECK(lag.D()(0) == 0.5);
  CHECK(DiscreteStateSpace(MatrixXd(one / 2), one, one, 2, 0.1).D()(0) == 2);
  CHECK_THROWS_AS(StateSpace<double>(G.A(), G.B(), G.C(), 0.5), ShapeError);
}

TEST_CASE("poles, zeros and the gain at rest of a transfer function need no system") {
  const TransferFunction<double> G{{0, 2, 6}, {1, 3, 2}};
  CHECK(poles(G).size() == 2);
  CHECK((zeros(G) - VectorXcd::Constant(1, -3.)).norm() <= 1e-15);
  CHECK(dc_gain(G) == 3);
  CHECK(dc_gain(TransferFunction<double>{{-1, 0}, {1, 4, 0}}) == -0.25);
  CHECK(dc_gain(TransferFunction<double>{{1, 0}, {1, 4}}) == 0);
  CHECK(dc_gain(TransferFunction<double>{{0}, {1, 0}}) == 0);
  CHECK(dc_gain(TransferFunction<double>{{-3}, {1, 0}}) == -HUGE_VAL);
  CHECK_THROWS_AS(dc_gain(TransferFunction<double>{{1}, {0}}), DomainError);
  CHECK_THROWS_AS(poles(TransferFunction<double>{{1}, {std::nan("")}}), DomainError);
}

}  // namespace transfer_function_test
