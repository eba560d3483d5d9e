#include <cmath>
#include <complex>

#include "ssm/discretize/discretize.hpp"
#include "ssm/discretize/inverse.hpp"
#include "ssm/system/frequency_response.hpp"
#include "support/catch.hpp"
#include "support/count_allocations.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

using namespace ssm;
using namespace ssm::test;
using Eigen::MatrixXd;

namespace {

/// A dense system of dynamic size.
StateSpace<double> system_of(const MatrixXd& A, const MatrixXd& B, const MatrixXd& C) {
  return {A, B, C};
}

MatrixXd matrix(Index rows, std::initializer_list<double> elements) {
  const auto count = static_cast<Index>(elements.size());
  return Eigen::Map<const Eigen::Matrix<double, Dynamic, Dynamic, Eigen::RowMajor>>(
      elements.begin(), rows, count / rows);
}

/// Two inputs on a growing pair of integrators: SciPy's test_c2d_ss.
StateSpace<double> growing() {
  return system_of(MatrixXd::Identity(2, 2), matrix(2, {.5, .5}), matrix(1, {.75, 1}));
}

/// x' = λ x + u, y = x.
StateSpace<double> one_state(double lambda) {
  return system_of(matrix(1, {lambda}), matrix(1, {1}), matrix(1, {1}));
}

/// A motor with a mode of −2.5e4/s and one of −1.2/s.
StateSpace<double> motor() {
  return system_of(matrix(2, {-2.5e4, -80, 350, -.1}), matrix(2, {4e4, 0}), matrix(1, {0, 1}));
}

}  // namespace

TEST_CASE("the holds and maps give the published input matrices") {
  const auto both = [](double b) { return matrix(2, {b, b}); };
  CHECK(worst_element(zero_order_hold(growing(), .5).B_bar(), both(.324360635350064)) <= 1e-14);
  CHECK(worst_element(first_order_hold(growing(), .5).B_bar(), both(.420839287058789)) <= 2e-15);
  CHECK(worst_element(impulse_invariant(growing(), .5).B_bar(), both(.412180317675032)) <= 2e-15);
  CHECK(worst_element(tustin(growing(), .5).B_bar(), both(1 / 3.)) <= 1e-15);
}

TEST_CASE("first-order hold and the bilinear map change C and D as SciPy 1.10 does") {
  const auto system = published_system();
  const auto ramp = first_order_hold(system, .1);
  CHECK(distance(ramp.B_bar(), matrix(3, {-.0669209483159605, .21929319009263065,
                                          -.22351829438729964, -.24795791045834842,
                                          -.42516152902961124, .04377262459809442})) <= 1e-14);
  CHECK(ramp.C() == system.C());
  CHECK(distance(ramp.D(), matrix(2, {-1.7907448311246286, 4.2562322225062, -.9295073075933005,
                                      .7269081372637727})) <= 1e-14);
  const auto even = tustin(system, .1);
  CHECK(distance(even.C(), matrix(2, {3.1339792849983295, 1.5970598062145007, -3.160708319411961,
                                      .9934291123733155, 4.443701971266289, 3.646285777926272})) <=
        1e-14);
  CHECK(distance(even.D(), matrix(2, {-1.7667891747410625, 4.229201470096893, -.9815124178639048,
                                      .7144448156810332})) <= 1e-14);
  const auto uneven = generalized_bilinear(system, .1, .3);
  CHECK(distance(uneven.A_bar(),
                 matrix(3, {.7258401932655003, .36454714269985095, .20170374900651647,
                            -.0841974365118945, .7147372346045913, -.00555147933045458,
                            .18782505068038005, .5264652898381096, 1.3420543989459592})) <= 1e-14);
  CHECK(distance(uneven.C(),
                 matrix(2, {3.4514472243991214, 1.7924801511482769, -3.0691353478418164,
                            .9857576797777186, 4.240867585189764, 3.3616983085567727})) <= 1e-14);
  CHECK(distance(uneven.D(), matrix(2, {-1.8736316760008624, 4.160776392889296, -.5538072507871535,
                                        .8374637881629508})) <= 1e-14);
}

TEST_CASE("the ramp step of a double integrator is exact, and that of a stiff motor is right") {
  const auto integrator = system_of(matrix(2, {0, 1, 0, 0}), matrix(2, {0, 1}), matrix(1, {1, 0}));
  for (const double h : {1e-9, 0.1, 700.0}) {
    const auto step = ramp_step(integrator, h);
    CHECK(worst_element(step.B_end, matrix(2, {h * h / 6, h / 2})) <= 1e-14);
    CHECK(worst_element(step.B_start, matrix(2, {h * h / 3, h / 2})) <= 1e-14);
  }
  // mpmath, 80 digits
  const auto step = ramp_step(motor(), 1e-3);
  CHECK(worst_element(step.B_end, matrix(2, {1.5352390139212426879, .25840542751055549463})) <=
        1e-13);
  CHECK(worst_element((step.B_start + step.B_end).eval(),
                      matrix(2, {1.5983522177680883955, .53730781432968389641})) <= 1e-13);
}

TEST_CASE("a first-order hold meets the response to a ramp at every sample") {
  // x' = −a x + u, u = t: x = (t − (1 − e^{−at})/a)/a
  const double a = 1.7, h = 0.3;
  const auto held = first_order_hold(one_state(-a), h);
  double x = 0;  // less B_end u, and u_0 = 0
  for (int t = 0; t < 40; ++t) {
    const double time = h * t, want = (time + std::expm1(-a * time) / a) / a;
    CHECK(std::abs(x + held.D()(0) * time - want) <= 1e-14 * (1 + time));
    x = held.A_bar()(0) * x + held.B_bar()(0) * time;
  }
}

TEST_CASE("the pulse response of an impulse-invariant system samples the impulse response") {
  const auto system =
      system_of(published_system().A(), published_system().B(), published_system().C());
  const double h = 0.05;
  const auto sampled = impulse_invariant(system, h);
  MatrixXd x = sampled.B_bar();
  CHECK(distance(sampled.D(), (h * system.C() * system.B()).eval()) <= 1e-15);
  for (int t = 1; t < 20; ++t) {
    const MatrixXd want = h * system.C() * matrix_exponential(t * h * system.A()) * system.B();
    CHECK(distance((sampled.C() * x).eval(), want) <= 1e-13);
    x = sampled.A_bar() * x;
  }
}

TEST_CASE(
    "Tustin's response at a frequency is the continuous one, at that frequency if prewarped") {
  const auto system = system_of(matrix(2, {0, 1, -10, -3}), matrix(2, {0, 1}), matrix(1, {1, 0}));
  const double h = 0.2;
  const FrequencyResponse continuous(system), plain(tustin(system, h));
  for (const double omega : {0., 0.3, 3., 12.}) {
    CAPTURE(omega);
    const auto want = continuous(omega);
    CHECK(distance(FrequencyResponse(tustin(system, h, omega))(omega), want) <= 1e-13);
    CHECK(distance(plain(omega), continuous(2 / h * std::tan(omega * h / 2))) <= 1e-13);
    if (omega > 1) CHECK(distance(plain(omega), want) > 0.01);
  }
  CHECK(tustin(system, h, 3).delta() == h);
}

TEST_CASE("the generalized bilinear map is s = (z − 1)/(Δ(αz + 1 − α))") {
  const auto system = published_system();
  const double h = 0.1;
  const std::complex<double> z = std::polar(1.1, 0.4);
  for (const double alpha : {0., 0.3, 0.5, 1.}) {
    const std::complex<double> s = (z - 1.) / (h * (alpha * z + (1 - alpha)));
    CHECK(distance(FrequencyResponse(generalized_bilinear(system, h, alpha)).at(z),
                   FrequencyResponse(system).at(s)) <= 1e-13);
  }
  const auto half = generalized_bilinear(system, h, .5), whole = tustin(system, h);
  CHECK(half.B_bar() == whole.B_bar());
  CHECK(half.D() == whole.D());
  CHECK(generalized_bilinear(system, h, 0).B_bar() == forward_euler(system, h).B_bar());
  CHECK(distance(generalized_bilinear(system, h, 1).A_bar(), backward_euler(system, h).A_bar()) <=
        1e-15);
}

TEST_CASE("S4's bilinear map has Tustin's A_bar and keeps C and D") {
  const auto system = published_system();
  const auto s4 = bilinear(system, .1), even = tustin(system, .1);
  CHECK(distance(s4.A_bar(), even.A_bar()) <= 1e-15);
  CHECK(s4.C() == system.C());
  CHECK(distance(even.C(), system.C()) > 0.1);
}

TEST_CASE("a continuous system survives being sampled and brought back") {
  Random random(1);
  for (const Index states : {1, 2, 5, 8})
    for (const double h : {1e-3, 0.1, 0.5}) {
      CAPTURE(states, h);
      const auto system = random_system(random, states, 2, 3);
      const auto held = inverse_zero_order_hold(zero_order_hold(system, h));
      const double bound = 2e-14 / std::min(h, 0.1);  // A_bar is I + ΔA, rounded
      CHECK(distance(held.A(), system.A()) <= bound);
      CHECK(distance(held.B(), system.B()) <= bound);
      for (const auto& back :
           {inverse_tustin(tustin(system, h)), inverse_tustin(tustin(system, h, 2.), 2.)}) {
        CHECK(distance(back.A(), system.A()) <= bound);
        CHECK(distance(back.B(), system.B()) <= bound);
        CHECK(distance(back.C(), system.C()) <= bound);
        CHECK(distance(back.D(), system.D()) <= bound);
      }
    }
}

TEST_CASE("singular, defective, turning, graded and nearly constant systems are brought back") {
  const MatrixXd chain = matrix(3, {0, 1, 0, 0, 0, 1, 0, 0, 0});
  const auto integrators = system_of(chain, matrix(3, {0, 0, 1}), matrix(1, {1, 0, 0}));
  const auto back = inverse_zero_order_hold(zero_order_hold(integrators, .25));
  CHECK(distance(back.A(), chain) <= 1e-15);
  CHECK(distance(back.B(), integrators.B()) <= 1e-15);

  const MatrixXd turning = matrix(2, {-.1, -3, 3, -.1});
  CHECK(distance(matrix_logarithm(matrix_exponential(turning)), turning) <= 1e-14);
  const MatrixXd graded = matrix(2, {-1, 1e10, 0, -2});
  CHECK(distance(matrix_logarithm(matrix_exponential(graded)), graded) <= 1e-13);
  const MatrixXd slow = matrix(3, {-3, 0, 0, 5, -1, 0, 1, 2, -1e-3});
  CHECK(distance(matrix_logarithm(matrix_exponential(slow)), slow) <= 1e-13);
  CHECK(matrix_logarithm(MatrixXd(MatrixXd::Identity(3, 3))).norm() == 0);
  CHECK(matrix_logarithm(MatrixXd(0, 0)).size() == 0);
  const MatrixXd still = matrix(2, {1, 1e-14, 0, 1 - 1e-9});
  CHECK(worst_element(matrix_logarithm(still), matrix(2, {0, 1e-14, 0, std::log1p(-1e-9)})) <=
        1e-7);  // 1 − 1e-9 has seven digits of 1e-9
}

TEST_CASE("float and fixed sizes agree with double and dynamic ones, and do not allocate") {
  const auto wide = published_system();
  const StateSpace<float, 3, 2, 2> narrow(wide.A().cast<float>(), wide.B().cast<float>(),
                                          wide.C().cast<float>(), wide.D().cast<float>());
  const auto agree = [](const auto& got, const auto& want) {
    CHECK(distance(got.A_bar().template cast<double>().eval(), want.A_bar()) <= 5e-7);
    CHECK(distance(got.B_bar().template cast<double>().eval(), want.B_bar()) <= 5e-7);
    CHECK(distance(got.C().template cast<double>().eval(), want.C()) <= 5e-7);
    CHECK(distance(got.D().template cast<double>().eval(), want.D()) <= 5e-7);
  };
  agree(first_order_hold(narrow, .125f), first_order_hold(wide, .125));
  agree(tustin(narrow, .125f, 3.f), tustin(wide, .125, 3.));
  CHECK(allocations_of([&] {
          (void)first_order_hold(narrow, .1f);
          (void)tustin(narrow, .1f, 3.f);
        }) == 0);
}

TEST_CASE("systems without states or inputs pass through") {
  const StateSpace<double> gain(MatrixXd(0, 0), MatrixXd(0, 1), MatrixXd(1, 0),
                                MatrixXd::Ones(1, 1));
  const StateSpace<double> free(-MatrixXd::Identity(2, 2), MatrixXd(2, 0), MatrixXd::Ones(1, 2));
  for (const auto method : {Discretization::first_order_hold, Discretization::tustin}) {
    CHECK(discretize(method, gain, .1).D()(0, 0) == 1);
    CHECK(discretize(method, free, .1).B_bar().cols() == 0);
  }
  CHECK(inverse_zero_order_hold(zero_order_hold(gain, .1)).D()(0, 0) == 1);
}

TEST_CASE("what has no answer is refused by name") {
  const auto system = published_system();
  CHECK_THROWS_WITH(impulse_invariant(system, .1),
                    "impulse_invariant: D is not zero, expected zero");
  CHECK_THROWS_WITH(generalized_bilinear(system, .1, 1.5),
                    "generalized_bilinear: alpha is 1.5, expected in [0, 1]");
  CHECK_THROWS_WITH(tustin(system, .1, 40.),
                    "tustin: frequency times delta is 4, expected in [0, pi): below the "
                    "Nyquist frequency");
  CHECK_THROWS_AS(tustin(system, .1, std::nan("")), DomainError);
  CHECK_THROWS_AS(tustin(one_state(20), .1), DomainError);
  const auto sampled = [](double a_bar, double delta) {
    return DiscreteStateSpace<double>(matrix(1, {a_bar}), matrix(1, {1}), matrix(1, {1}),
                                      matrix(1, {0}), delta);
  };
  CHECK_THROWS_WITH(inverse_zero_order_hold(sampled(-.5, .1)),
                    "inverse_zero_order_hold: an eigenvalue of A is -0.5, expected off the closed "
                    "negative real axis");
  CHECK_THROWS_AS(inverse_tustin(sampled(-1, .1)), DomainError);
  CHECK_THROWS_AS(matrix_logarithm(MatrixXd::Zero(2, 2)), DomainError);
  CHECK_THROWS_AS(matrix_logarithm(MatrixXd::Zero(2, 3)), ShapeError);
}
