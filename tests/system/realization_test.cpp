#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>

#include "ssm/system/descriptor_system.hpp"
#include "ssm/system/frequency_response.hpp"
#include "ssm/system/kalman_decomposition.hpp"
#include "ssm/system/norms.hpp"
#include "ssm/system/stable_split.hpp"
#include "ssm/system/sylvester.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace realization_test {

using namespace ssm;
using Complex = std::complex<double>;
using Eigen::MatrixXcd;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using ssm::test::contains;
using System = StateSpace<double>;
using Discrete = DiscreteStateSpace<double>;

namespace {

/// A random system moved until it is stable.
System stable_system(ssm::test::Random& random, Index n, Index m, Index p) {
  const MatrixXd A = draw_matrix(random, n, n);
  return {A - (A.norm() + 0.1) * MatrixXd::Identity(n, n), draw_matrix(random, n, m),
          draw_matrix(random, p, n), draw_matrix(random, p, m)};
}

Discrete stable_discrete(ssm::test::Random& random, Index n, Index m, Index p) {
  const MatrixXd A = draw_matrix(random, n, n);
  return {A / (1.1 * A.norm()), draw_matrix(random, n, m), draw_matrix(random, p, n),
          draw_matrix(random, p, m), 0.5};
}

double error(const MatrixXcd& got, const MatrixXcd& want) {
  return (got - want).norm() / std::max(want.norm(), 1e-300);
}

template <class One, class Other>
double largest_difference(const One& one, const Other& other) {
  const FrequencyResponse G(one), H(other);
  double worst = 0;
  for (double omega = 1e-3; omega < 1e4; omega *= 4)
    worst = ssm::test::worse(worst, (G(omega) - H(omega)).norm() / (1 + G(omega).norm()));
  return worst;
}

/// M⁻¹ R and the determinant of M, by elimination.
struct Solved {
  MatrixXcd X;
  Complex determinant = 1;
};
Solved solve(MatrixXcd M, MatrixXcd R) {
  Solved result;
  for (Index k = 0; k < M.rows(); ++k) {
    Index pivot = k;
    for (Index i = k; i < M.rows(); ++i)
      if (std::abs(M(i, k)) > std::abs(M(pivot, k))) pivot = i;
    if (pivot != k) {
      M.row(k).swap(M.row(pivot));
      R.row(k).swap(R.row(pivot));
      result.determinant = -result.determinant;
    }
    result.determinant *= M(k, k);
    for (Index i = 0; i < M.rows(); ++i) {
      if (i == k) continue;
      const Complex weight = M(i, k) / M(k, k);
      M.row(i) -= weight * M.row(k);
      R.row(i) -= weight * R.row(k);
    }
  }
  for (Index k = 0; k < M.rows(); ++k) R.row(k) /= M(k, k);
  result.X = R;
  return result;
}

MatrixXd one(double x) { return MatrixXd::Constant(1, 1, x); }

}  // namespace

TEST_CASE("Kalman's parts have the sizes that the system was made of, and its answers") {
  ssm::test::Random random(1);
  for (const Index co : {0, 1, 3})
    for (const Index cu : {0, 2})
      for (const Index uo : {0, 1, 2})
        for (const Index uu : {0, 2}) {
          CAPTURE(co, cu, uo, uu);
          const Index n = co + cu + uo + uu;
          MatrixXd A = draw_matrix(random, n, n), B = draw_matrix(random, n, 2);
          MatrixXd C = draw_matrix(random, 2, n);
          A.block(0, co, co, cu).setZero();
          A.bottomLeftCorner(uo + uu, co + cu).setZero();
          A.topRightCorner(co, uu).setZero();
          A.block(co + cu, co + cu + uo, uo, uu).setZero();
          B.bottomRows(uo + uu).setZero();
          C.middleCols(co, cu).setZero();
          C.rightCols(uu).setZero();
          const MatrixXd T = random_turn(random, n);
          const System system(T * A * T.transpose(), T * B, C * T.transpose(),
                              draw_matrix(random, 2, 2));
          const auto parts = kalman_decomposition(system);
          CHECK(parts.controllable_observable == co);
          CHECK(parts.controllable_unobservable == cu);
          CHECK(parts.uncontrollable_observable == uo);
          CHECK(parts.uncontrollable_unobservable == uu);
          const MatrixXd &F = parts.system.A(), &S = parts.T;
          CHECK((system.A() * S - S * F).norm() <= 1e-11 * (1 + A.norm()) * S.norm());
          CHECK((system.B() - S * parts.system.B()).norm() <= 1e-12 * (1 + B.norm()) * S.norm());
          CHECK((system.C() * S - parts.system.C()).norm() <= 1e-12 * (1 + C.norm()) * S.norm());
          CHECK(F.block(0, co, co, cu).isZero(0));
          CHECK(F.bottomLeftCorner(uo + uu, co + cu).isZero(0));
          CHECK(F.topRightCorner(co, uu).isZero(0));
          CHECK(F.block(co + cu, co + cu + uo, uo, uu).isZero(0));
          const auto minimal = minimal_realization(system);
          CHECK(minimal.states() == co);
          CHECK(largest_difference(system, minimal) <= 1e-9);
        }
  const auto whole = stable_system(random, 4, 1, 1);
  CHECK(minimal_realization(whole).A() == whole.A());
  CHECK(minimal_realization(whole, 0.5).states() < 4);
  CHECK_THROWS_AS(minimal_realization(System(whole.A() * std::nan(""), whole.B(), whole.C())),
                  DomainError);
}

TEST_CASE("the stable and the unstable part add up to the system, and the stable one is reduced") {
  ssm::test::Random random(2);
  for (const Index n : {1, 2, 5, 8}) {
    CAPTURE(n);
    const System system(draw_matrix(random, n, n), draw_matrix(random, n, 2),
                        draw_matrix(random, 2, n), draw_matrix(random, 2, 2));
    const auto [stable, unstable] = stable_split(system);
    CHECK(stable.states() + unstable.states() == n);
    CHECK(is_stable(stable));
    CHECK((poles(unstable).real().array() >= 0).all());
    CHECK(largest_difference(system, parallel(stable, unstable)) <= 1e-11);
    const Discrete sampled(system.A() / 2, system.B(), system.C(), system.D(), 0.1);
    const auto split = stable_split(sampled);
    CHECK(is_stable(split.stable));
    CHECK((poles(split.unstable).cwiseAbs().array() >= 1).all());
    CHECK(largest_difference(sampled, parallel(split.stable, split.unstable)) <= 1e-11);
    const auto sigma = hankel_singular_values(stable);
    const Index order = stable.states() / 2;
    const auto less = truncate_stable_part(system, order);
    CHECK(less.states() == order + unstable.states());
    const double bound = 2 * sigma.tail(stable.states() - order).sum() + 1e-9;
    const FrequencyResponse G(system), H(less);
    for (double omega = 1e-3; omega < 1e3; omega *= 4)
      CHECK((G(omega) - H(omega)).norm() <= 1.5 * bound);
  }
  const System integrator(one(0), one(1), one(1));
  CHECK(stable_split(integrator).unstable.states() == 1);
  CHECK_THROWS_AS(stable_split(System(one(std::nan("")), one(1), one(1))), DomainError);
}

TEST_CASE("reductions keep what is above a threshold, and residualization the dc gain") {
  ssm::test::Random random(3);
  const auto check = [](const auto& system) {
    const VectorXd sigma = hankel_singular_values(system);
    for (Index order = 0; order <= 6; ++order) {
      CAPTURE(order);
      const auto less = balanced_residualization(system, order);
      CHECK(less.states() == order);
      CHECK(error(dc_gain(less), dc_gain(system)) <= 1e-12);
      const FrequencyResponse G(system), H(less);
      const double bound = 2 * sigma.tail(6 - order).sum() + 1e-12;
      for (double omega = 1e-3; omega < 1e4; omega *= 4)
        CHECK((G(omega) - H(omega)).norm() <= 1.5 * bound);
    }
    const SigmaAbove above{0.5 * (sigma(2) + sigma(3))};
    CHECK(balanced_truncation(system, above).states() == 3);
    CHECK(balanced_residualization(system, above).states() == 3);
    CHECK(balanced_truncation(system, SigmaAbove{2 * sigma(0)}).states() == 0);
  };
  const auto system = stable_system(random, 6, 2, 2);
  check(system);
  check(stable_discrete(random, 6, 2, 2));
  CHECK_THROWS_WITH(balanced_truncation(system, SigmaAbove{-1}),
                    contains("sigma is -1, expected at least 0"));
  CHECK_THROWS_WITH(balanced_residualization(System(one(1), one(1), one(1)), 1),
                    "balanced_residualization: the system is unstable, expected stable");
}

TEST_CASE("a Sylvester equation is solved, or refused where it has no one solution") {
  ssm::test::Random random(4);
  for (const Index n : {1, 2, 5})
    for (const Index m : {1, 3, 6}) {
      CAPTURE(n, m);
      const MatrixXd A = draw_matrix(random, n, n), B = draw_matrix(random, m, m);
      const MatrixXd X = draw_matrix(random, n, m);
      CHECK(error(sylvester(A, B, A * X + X * B), X) <= 1e-11);
      CHECK(error(discrete_sylvester(A, B, A * X * B - X), X) <= 1e-11);
    }
  Eigen::Matrix2d A;
  A << 1, 5, 0, 2;
  CHECK_THROWS_WITH(sylvester(A, one(-2), MatrixXd::Ones(2, 1)),
                    "sylvester: an eigenvalue of A is the negative of one of B, expected none that "
                    "add up to 0");
  CHECK_THROWS_AS(discrete_sylvester(A, one(0.5), MatrixXd::Ones(2, 1)), DomainError);
  CHECK_THROWS_WITH(sylvester(A, one(1), MatrixXd::Ones(1, 2)),
                    "sylvester: C is (1, 2), expected (2, 1)");
  CHECK_THROWS_AS(sylvester(A, one(std::nan("")), MatrixXd::Ones(2, 1)), DomainError);
}

TEST_CASE("the H2 norm is the energy of the impulse response") {
  const System lag(one(-2), one(3), one(5));  // 15 e^(−2t)
  CHECK(h2_norm(lag) == Approx(7.5).epsilon(1e-14));
  CHECK(std::isinf(h2_norm(System(one(-2), one(3), one(5), one(1)))));
  CHECK(h2_norm(Discrete(one(0.6), one(3), one(5), one(8), 1)) ==
        Approx(std::sqrt(64 + 225 / (1 - 0.36))).epsilon(1e-14));
  const System far(one(-1), one(1e160), one(1e-160));  // units whose squares overflow
  CHECK(h2_norm(far) == Approx(std::sqrt(.5)).epsilon(1e-14));
  CHECK(hankel_singular_values(far)(0) == Approx(.5).epsilon(1e-14));
  CHECK_THROWS_WITH(h2_norm(System(one(1), one(1), one(1))),
                    "h2_norm: the system is unstable, expected stable");
}

TEST_CASE("the H-infinity norm is the highest peak of the gain, with its frequency") {
  const auto resonance = [](double omega, double zeta) {
    MatrixXd A(2, 2), B(2, 1), C(1, 2);
    A << 0, 1, -omega * omega, -2 * zeta * omega;
    B << 0, omega * omega;
    C << 1, 0;
    return System(A, B, C);
  };
  for (const double zeta : {1e-8, 1e-3, 0.1, 0.5}) {
    CAPTURE(zeta);
    const auto peak = hinf_norm(resonance(7, zeta));
    CHECK(peak.gain == Approx(1 / (2 * zeta * std::sqrt(1 - zeta * zeta))).epsilon(1e-9));
    CHECK(peak.frequency == Approx(7 * std::sqrt(1 - 2 * zeta * zeta)).epsilon(1e-6));
  }
  CHECK(hinf_norm(resonance(7, 0.9)).gain == Approx(1));
  CHECK(hinf_norm(resonance(7, 0.9)).frequency == 0);
  const auto lead = hinf_norm(System(one(-1), one(1), one(-3), one(4)));  // (4 s + 1)/(s + 1)
  CHECK(lead.gain == Approx(4));
  CHECK(std::isinf(lead.frequency));
  // the narrow one of two peaks, a thousand times apart
  CHECK(hinf_norm(parallel(resonance(1, 0.01), resonance(1e3, 1e-5))).gain ==
        Approx(5e4).epsilon(1e-4));
  ssm::test::Random random(5);
  const auto check = [](const auto& system, double last) {
    const auto peak = hinf_norm(system);
    const FrequencyResponse G(system);
    double most = 0;
    for (int i = 0; i <= 2000; ++i) {
      const MatrixXcd H = G(last * i / 2000);
      const MatrixXcd square =
          H.rows() == 2 ? MatrixXcd(H * H.adjoint()) : MatrixXcd(H.adjoint() * H);
      const double trace = square.trace().real(), cross = std::norm(square(0, 1));
      const double gap = (square(0, 0) - square(1, 1)).real();
      most = std::max(most, std::sqrt(trace / 2 + std::sqrt(gap * gap / 4 + cross)));
    }
    CHECK(peak.gain >= most * (1 - 1e-12));
    CHECK(peak.gain <= most * (1 + 1e-2));
  };
  for (int trial = 0; trial < 5; ++trial) {
    check(stable_system(random, 6, 2, 3), 60.0);
    check(stable_discrete(random, 5, 3, 2), std::numbers::pi / 0.5);
  }
  CHECK_THROWS_WITH(hinf_norm(System(one(1), one(1), one(1))),
                    "hinf_norm: the system is unstable, expected stable");
  CHECK_THROWS_AS(hinf_norm(System(one(-1), one(1), one(1)), 0.0), DomainError);
}

TEST_CASE("a descriptor system answers as its equations say, constraints among them") {
  ssm::test::Random random(6);
  for (const Index rank : {0, 1, 3, 5}) {
    CAPTURE(rank);
    const Index n = 5;
    MatrixXd E = MatrixXd::Zero(n, n);
    E.topLeftCorner(rank, rank) = draw_matrix(random, rank, rank);
    E = random_turn(random, n) * E * random_turn(random, n);
    const MatrixXd A = draw_matrix(random, n, n), B = draw_matrix(random, n, 2);
    const MatrixXd C = draw_matrix(random, 2, n), D = draw_matrix(random, 2, 2);
    const DescriptorSystem system(E, A, B, C, D);
    const Complex s(0.3, 1.7);
    const auto resolvent = [&](Complex at) -> MatrixXcd { return at * E - A; };
    const MatrixXcd want = C * solve(resolvent(s), B.cast<Complex>()).X + D;
    CHECK(error(frequency_response(system, s), want) <= 1e-11);
    const auto ordinary = state_space(system);
    CHECK(ordinary.states() == rank);
    CHECK(error(FrequencyResponse(ordinary).at(s), want) <= 1e-11);
    const auto found = poles(system);
    CHECK(found.size() == rank);
    for (const Complex& pole : found)
      CHECK(std::abs(solve(resolvent(pole), MatrixXcd(MatrixXcd::Zero(n, 1))).determinant) <=
            1e-9 * std::pow(1 + std::abs(pole) + A.norm(), double(n)));
    const auto blocking = zeros(system);
    CHECK(blocking.size() == rank);  // D is regular
    for (const Complex& zero : blocking) {
      MatrixXcd pencil(n + 2, n + 2);
      pencil << -resolvent(zero), B.cast<Complex>(), C.cast<Complex>(), D.cast<Complex>();
      CHECK(std::abs(solve(pencil, MatrixXcd(MatrixXcd::Zero(n + 2, 1))).determinant) <=
            1e-8 * std::pow(1 + std::abs(zero) + A.norm(), 7.0));
    }
    CHECK(discrete_state_space(system, 0.1).A_bar() == ordinary.A());
  }
  // y = x2 = u', of index 2: x1 = u, x1' = x2
  MatrixXd E = MatrixXd::Zero(2, 2), A = MatrixXd::Zero(2, 2), B(2, 1), C(1, 2);
  E(0, 0) = 1;
  A(0, 1) = A(1, 0) = 1;
  B << 0, -1;
  C << 0, 1;
  const DescriptorSystem differentiator(E, A, B, C, one(0));
  CHECK(poles(differentiator).size() == 0);
  CHECK(zeros(differentiator).size() == 1);
  CHECK(std::abs(frequency_response(differentiator, Complex(0, 3))(0) - Complex(0, 3)) <= 1e-14);
  CHECK_THROWS_WITH(state_space(differentiator),
                    contains("the transfer function is improper: output 0 holds the derivative of "
                             "input 0"));
  CHECK(bode(differentiator, {10.}).magnitude[0] == Approx(20));
  // det(λE − A) ≡ 0
  E(0, 0) = 1;
  A << -1, 0, 0, 0;
  for (const DescriptorSystem<double>& singular :
       {DescriptorSystem<double>(E, A, B, C, one(0)),
        DescriptorSystem<double>(one(0), one(0), one(1), one(1), one(0))}) {
    const auto says = contains("the pencil lambda E - A is singular");
    CHECK_THROWS_WITH(poles(singular), says);
    CHECK_THROWS_WITH(zeros(singular), says);
    CHECK_THROWS_WITH(frequency_response(singular, Complex(0, 1)), says);
    CHECK_THROWS_WITH(state_space(singular), says);
  }
  CHECK_THROWS_WITH(DescriptorSystem(MatrixXd(1, 2), A, B, C, one(0)),
                    "DescriptorSystem: E is (1, 2), expected (2, 2)");
  CHECK_THROWS_AS(poles(DescriptorSystem(MatrixXd(std::nan("") * E), A, B, C, one(0))),
                  DomainError);
}

TEST_CASE("circuits with loops of capacitors have the state space of their transfer function") {
  const double R = 2, C1 = 0.5, C2 = 1.5;
  const auto agree = [](const DescriptorSystem<double>& circuit, Index states) {
    const auto ordinary = state_space(circuit);
    CHECK(ordinary.states() == states);
    const FrequencyResponse G(ordinary);
    const SisoResponse roots(circuit);
    const std::vector<double> omega{0.01, 0.3, 1., 20.};
    const auto responses = frequency_response(circuit, omega);
    for (std::size_t i = 0; i < omega.size(); ++i) {
      const Complex want = frequency_response(circuit, Complex(0, omega[i]))(0);
      CHECK(responses[i](0) == want);
      CHECK(std::abs(G(omega[i])(0) - want) <= 1e-14);
      CHECK(std::abs(roots(omega[i]) - want) <= 1e-14);
    }
  };
  // v1, v2, i1, i2: two capacitors side by side behind a resistor
  MatrixXd E = MatrixXd::Zero(4, 4), A = MatrixXd::Zero(4, 4), B(4, 1), C(1, 4);
  E(0, 0) = C1;
  E(1, 1) = C2;
  A << 0, 0, 1, 0, 0, 0, 0, 1, 1, -1, 0, 0, -1 / R, 0, -1, -1;
  B << 0, 0, 0, 1 / R;
  C << 1, 0, 0, 0;
  agree(DescriptorSystem(E, A, B, C, one(0)), 1);
  C << 0, 0, 1, 0;  // the current of one
  agree(DescriptorSystem(E, A, B, C, one(0)), 1);
  C << 0, 0, 0, 3;
  agree(DescriptorSystem(MatrixXd(1e-9 * E), A, B, C, one(2)), 1);
  // v1, v2, i: both in a loop with the source, a resistor beside the second
  E = MatrixXd::Zero(3, 3);
  A = MatrixXd::Zero(3, 3);
  E(0, 0) = C1;
  E(1, 1) = C2;
  A << 0, 0, 1, 0, -1 / R, 1, 1, 1, 0;
  B = MatrixXd::Zero(3, 1);
  B(2) = -1;
  C = MatrixXd::Zero(1, 3);
  C(1) = 1;
  const DescriptorSystem divider(E, A, B, C, one(0));
  agree(divider, 1);
  CHECK(state_space(divider).D()(0) == Approx(C1 / (C1 + C2)).epsilon(1e-15));
  C << 0, 0, 1;  // what the source gives holds u'
  const DescriptorSystem improper(E, A, B, C, one(0));
  CHECK_THROWS_WITH(state_space(improper), contains("the transfer function is improper"));
  CHECK(zeros_poles_gain(improper).zeros.size() == 2);
  CHECK_THROWS_AS(zeros_poles_gain(improper, 1), ShapeError);
}

TEST_CASE("a residualized chain of lags keeps its dc gain to the last digits") {
  MatrixXd A = MatrixXd::Zero(6, 6), B = Eigen::VectorXd::Unit(6, 2), C(1, 6);
  for (int i = 0; i < 6; ++i) {
    A(i, i) = -(C(i) = std::pow(10, 2 - 2 * i));
    if (i < 5) A(i + 1, i) = C(i);
  }
  const System chain(A, B, C);
  for (const Index order : {1, 2, 3, 4})
    CHECK(std::abs(dc_gain(balanced_residualization(chain, order))(0) - 4) <= 1e-13);
  CHECK(balanced_residualization(chain, 4).D()(0) == 0);
}

TEST_CASE("no unit of inputs and outputs is too large or too small for the H-infinity norm") {
  MatrixXd A(2, 2), B(2, 1), C(1, 2);
  A << 0, 1, -1, -1;
  B << 0, 1;
  C << 1, 0;
  const auto plain = hinf_norm(System(A, B, C));
  for (const int exponent : {-540, -300, 300, 480}) {
    const double unit = std::ldexp(1., exponent);
    for (const auto& other :
         {hinf_norm(System(A, unit * B, C)), hinf_norm(System(A, B, unit * C))}) {
      CHECK(other.gain == plain.gain * unit);
      CHECK(other.frequency == plain.frequency);
    }
  }
  CHECK(hinf_norm(System(A, 1e160 * B, 1e140 * C)).gain == Approx(1e300 * plain.gain));
}

}  // namespace realization_test
