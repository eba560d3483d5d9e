#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "ssm/system/balanced_truncation.hpp"
#include "ssm/system/controllability.hpp"
#include "ssm/system/frequency_response.hpp"
#include "ssm/system/interconnection.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace units_test {

using namespace ssm;
using Complex = std::complex<double>;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using ssm::test::contains;
using System = StateSpace<double>;
using Discrete = DiscreteStateSpace<double>;

namespace {

MatrixXd powers_of_two(ssm::test::Random& random, Index n) {
  VectorXd scale(n);
  for (Index i = 0; i < n; ++i)
    scale(i) = std::ldexp(1.0, static_cast<int>(random.uniform(-40, 40)));
  return scale.asDiagonal();
}

MatrixXd inverse_diagonal(const MatrixXd& D) { return D.diagonal().cwiseInverse().asDiagonal(); }

MatrixXd random_order(ssm::test::Random& random, Index n) {
  std::vector<Index> order;
  for (Index i = 0; i < n; ++i) order.push_back(i);
  for (Index i = n; i-- > 1;)
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(random.uniform(0, static_cast<double>(i + 1)))]);
  MatrixXd P = MatrixXd::Zero(n, n);
  for (Index i = 0; i < n; ++i) P(order[static_cast<std::size_t>(i)], i) = 1;
  return P;
}

System gain(double k) {
  return {MatrixXd(0, 0), MatrixXd(0, 1), MatrixXd(1, 0), MatrixXd::Constant(1, 1, k)};
}

/// n lags from 1e4 to 1e-8 one after the other.
System chain_of_lags(Index n, double fastest, double slowest, Index input) {
  MatrixXd A = MatrixXd::Zero(n, n), B = MatrixXd::Zero(n, 1), C(1, n);
  B(input) = 1;
  for (Index i = 0; i < n; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(n - 1);
    const double lambda = std::pow(10, std::log10(fastest) + std::log10(slowest / fastest) * share);
    A(i, i) = -lambda;
    if (i + 1 < n) A(i + 1, i) = lambda;
    C(i) = lambda;
  }
  return {A, B, C};
}

System in_order(const System& system, const MatrixXd& P) {
  return {P * system.A() * P.transpose(), P * system.B(), system.C() * P.transpose(), system.D()};
}

/// A random stable system with hidden and weak parts and zeros in its pattern.
System some_system(ssm::test::Random& random, Index n, Index m, Index p) {
  MatrixXd A = draw_matrix(random, n, n), B = draw_matrix(random, n, m);
  MatrixXd C = draw_matrix(random, p, n);
  for (Index i = 0; i < A.size(); ++i)
    if (random.uniform(0, 1) < 0.4) A.data()[i] = 0;
  for (Index i = 0; i < n; ++i) A(i, i) = -A.row(i).cwiseAbs().sum() - 0.1;
  if (n > 2) {
    A.bottomLeftCorner(1, n - 1).setZero();  // the last state is out of reach
    B.bottomRows(1).setZero();
  }
  return {A, B, C, MatrixXd::Zero(p, m)};
}

Discrete sampled(const System& system) {
  const double size = 1.1 * system.A().cwiseAbs().rowwise().sum().maxCoeff();
  return {system.A() / size, system.B(), system.C(), system.D(), 1};
}

template <class S>
S rescaled(const S& system, const MatrixXd& x, const MatrixXd& u, const MatrixXd& y) {
  const MatrixXd A = x * detail::state_matrix(system) * inverse_diagonal(x);
  const MatrixXd B = x * detail::input_matrix(system) * inverse_diagonal(u);
  const MatrixXd C = y * system.C() * inverse_diagonal(x);
  const MatrixXd D = y * system.D() * inverse_diagonal(u);
  if constexpr (detail::is_discrete<S>)
    return S(A, B, C, D, system.delta());
  else
    return S(A, B, C, D);
}

template <class S>
void check_units(const S& system, ssm::test::Random& random) {
  const Index n = system.states();
  const MatrixXd x = powers_of_two(random, n), u = powers_of_two(random, system.inputs()),
                 y = powers_of_two(random, system.outputs());
  const auto other = rescaled(system, x, u, y);
  const auto& A = detail::state_matrix(system);
  const auto& B = detail::input_matrix(system);
  const auto& F = detail::state_matrix(other);
  CHECK(controllable_states(F, detail::input_matrix(other)) == controllable_states(A, B));
  CHECK(observable_states(F, other.C()) == observable_states(A, system.C()));
  CHECK(is_stable(other) == is_stable(system));
  CHECK(poles(other) == poles(system));
  CHECK(zeros(other) == zeros(system));
  CHECK(dc_gain(other) == y * dc_gain(system) * inverse_diagonal(u));
  if (is_stable(system)) {
    const auto only_states = rescaled(system, x, MatrixXd(MatrixXd::Identity(u.rows(), u.rows())),
                                      MatrixXd(MatrixXd::Identity(y.rows(), y.rows())));
    CHECK(controllability_gramian(only_states) == x * controllability_gramian(system) * x);
    CHECK(observability_gramian(only_states) ==
          inverse_diagonal(x) * observability_gramian(system) * inverse_diagonal(x));
    CHECK(hankel_singular_values(only_states) == hankel_singular_values(system));
    // one factor for all inputs and one for all outputs scale σ, exactly
    const double a = 0x1p33, b = 0x1p-21;
    const auto louder = rescaled(system, MatrixXd(MatrixXd::Identity(n, n)),
                                 MatrixXd(MatrixXd::Identity(u.rows(), u.rows()) / a),
                                 MatrixXd(MatrixXd::Identity(y.rows(), y.rows()) * b));
    const VectorXd sigma = hankel_singular_values(system);
    CHECK((hankel_singular_values(louder) / (a * b) - sigma).norm() <= 1e-14 * sigma.norm());
  }
}

}  // namespace

TEST_CASE("no units of states, inputs or outputs change a count, a verdict or a digit") {
  ssm::test::Random random(1);
  for (const Index n : {1, 2, 3, 5, 8})
    for (const Index m : {1, 2}) {
      CAPTURE(n, m);
      const auto system = some_system(random, n, m, m);
      check_units(system, random);
      check_units(sampled(system), random);
      check_units(System(system.A() - 2 * system.A(), system.B(), system.C()), random);
      const MatrixXd Q = random_turn(random, n);
      check_units(System(Q * system.A() * Q.transpose(), Q * system.B(), system.C() * Q.transpose(),
                         draw_matrix(random, m, m)),
                  random);
    }
}

TEST_CASE("a Lyapunov equation is solved alike in any units and any order of states") {
  ssm::test::Random random(2);
  for (const Index n : {2, 5, 8}) {
    const auto system = some_system(random, n, 2, 2);
    const MatrixXd A = system.A(), B = system.B(), Q = B * B.transpose();
    const MatrixXd S = powers_of_two(random, n), R = inverse_diagonal(S),
                   P = random_order(random, n);
    CHECK(lyapunov(S * A * R, S * Q * S) == S * lyapunov(A, Q) * S);
    const MatrixXd X = lyapunov(A, Q);
    for (const double time : {0x1p-900, 0x1p-470, 0x1p470, 0x1p900})
      for (const MatrixXd& matrix : {A, MatrixXd(MatrixXd(A.triangularView<Eigen::Upper>()) -
                                                 2 * MatrixXd::Identity(n, n))}) {
        const MatrixXd once = lyapunov(matrix, Q);
        CHECK((lyapunov(time * matrix, Q) * time - once).norm() <= 1e-13 * once.norm());
      }
    CHECK((P.transpose() * lyapunov(P * A * P.transpose(), P * Q * P.transpose()) * P - X).norm() <=
          1e-14 * X.norm());
    const MatrixXd F = sampled(system).A_bar();
    CHECK(discrete_lyapunov(S * F * R, S * Q * S) == S * discrete_lyapunov(F, Q) * S);
  }
}

TEST_CASE("a chain of lags over twelve decades is the same whatever the order of its states") {
  // from 60 digits
  const double sigma[] = {0.79047056963545352, 0.71795619639216665, 0.62003978905239196,
                          0.51789567030432563, 0.42655814812763529, 0.35373380092354808,
                          0.30198463443998012, 0.27136119112449874};
  const Eigen::Map<const VectorXd> want(sigma, 8);
  const auto chain = chain_of_lags(8, 1e4, 1e-8, 0);
  ssm::test::Random random(3);
  const MatrixXd W_c = controllability_gramian(chain), W_o = observability_gramian(chain);
  for (int trial = 0; trial < 6; ++trial) {
    const MatrixXd P = trial == 0   ? MatrixXd(MatrixXd::Identity(8, 8))
                       : trial == 1 ? MatrixXd(MatrixXd::Identity(8, 8).rowwise().reverse())
                                    : random_order(random, 8);
    const auto other = in_order(chain, P);
    CHECK((VectorXd(hankel_singular_values(other)) - want).norm() <= 1e-14);
    const MatrixXd back = P.transpose() * controllability_gramian(other) * P;
    CHECK((back - W_c).norm() <= 1e-14 * W_c.norm());
    CHECK((P.transpose() * observability_gramian(other) * P - W_o).norm() <= 1e-14 * W_o.norm());
    const MatrixXd X = lyapunov(other.A(), other.B() * other.B().transpose());
    CHECK((P.transpose() * X * P - W_c).norm() <= 1e-14 * W_c.norm());
    const auto less = balanced_truncation(other, 3);
    const FrequencyResponse whole(chain), part(less);
    for (double omega = 1e-9; omega < 1e6; omega *= 10)
      CHECK(std::abs(whole(omega)(0) - part(omega)(0)) <= 2 * want.tail(5).sum());
  }
}

TEST_CASE("states out of reach are not kept, and those kept have the same dc gain") {
  const auto chain = chain_of_lags(6, 1e2, 1e-8, 2);
  ssm::test::Random random(4);
  for (int trial = 0; trial < 4; ++trial) {
    const auto other = in_order(chain, random_order(random, 6));
    const auto less = balanced_truncation(other, 4);
    CHECK(std::abs(dc_gain(less)(0) - 4) <= 1e-9);  // its dense A, rounded, has no more
    CHECK(std::abs(dc_gain(other)(0) - 4) <= 1e-14);
    VectorXd kept = poles(less).real();
    std::sort(kept.begin(), kept.end());
    const double want[] = {-1e-2, -1e-4, -1e-6, -1e-8};
    for (Index i = 0; i < 4; ++i) CHECK(std::abs(kept(i) / want[i] - 1) <= 1e-9);
    CHECK_THROWS_WITH(balanced_truncation(other, 5),
                      "balanced_truncation: order is 5, expected 0 to 4");
  }
}

TEST_CASE("a gain of any size stands in series and in a loop, where a loop in truth is refused") {
  const System lag(MatrixXd::Constant(1, 1, -2.0), MatrixXd::Ones(1, 1),
                   MatrixXd::Constant(1, 1, 3.0));
  const double k = 4.75e7;
  const auto chain = series(gain(k), lag);
  CHECK(chain.B()(0) == k);
  CHECK(chain.C()(0) == 3);
  CHECK(series(lag, gain(k)).C()(0) == 3 * k);
  const auto loop = feedback(gain(5e7), lag);
  CHECK(loop.A()(0) == -2 - 1.5e8);
  CHECK(loop.D()(0) == 5e7);
  CHECK(feedback(gain(1e200), gain(1e-300)).D()(0) == Approx(1e200));
  CHECK_THROWS_WITH(feedback(gain(k), gain(-1 / k)),
                    "feedback: the algebraic loop is singular, expected solvable");
  ssm::test::Random random(5);
  const MatrixXd D = draw_matrix(random, 3, 3), K = draw_matrix(random, 3, 3);
  const MatrixXd u = powers_of_two(random, 3), y = powers_of_two(random, 3);
  const auto static_gain = [](const MatrixXd& matrix) {
    return System(MatrixXd(0, 0), MatrixXd(0, matrix.cols()), MatrixXd(matrix.rows(), 0), matrix);
  };
  const MatrixXd plain = feedback(static_gain(D), static_gain(K)).D();
  const MatrixXd units =
      feedback(static_gain(y * D * inverse_diagonal(u)), static_gain(u * K * inverse_diagonal(y)))
          .D();
  CHECK((inverse_diagonal(y) * units * u - plain).norm() <= 1e-13 * plain.norm());
  const auto of_scale = [&](double a, double b) {
    MatrixXd T = MatrixXd::Zero(2, 2);
    T.diagonal() << a, b;
    return T;
  };
  MatrixXd A(2, 2);
  A << -1, 2, 3, -4;
  const System two(A, MatrixXd::Ones(2, 1), MatrixXd::Ones(1, 2));
  const auto scaled = similarity_transform(two, of_scale(1e8, 1e-8));
  CHECK(scaled.B()(0) == Approx(1e-8));
  CHECK(scaled.A()(0, 1) == Approx(2e-16));
  MatrixXd singular(2, 2);
  singular << 0.1, 0.2, 0.3, 0.6;
  CHECK_THROWS_WITH(similarity_transform(two, singular), contains("T is singular"));
  CHECK_THROWS_AS(similarity_transform(two, singular * of_scale(1e150, 1e-150)), DomainError);
}

TEST_CASE("what symmetry keeps out of reach is counted out, what stiffness only slows is not") {
  MatrixXd A(6, 6);
  A << -6.5, 0, 0, 0, -1e-8, 0, 0, -6.5, 0, 0, 0, -1e-8, 2e8, 2e8, -.006, -1.55e8, .0024, .0024, 0,
      0, 5e-9, -.45, 0, 0, -2.8e8, 2e8, -.006, -1.55e8, -.73, .0024, 2e8, -2.8e8, -.006, -1.55e8,
      .0024, -.73;
  VectorXd B = VectorXd::Zero(6);
  B(0) = B(1) = 1;
  ssm::test::Random random(6);
  for (int trial = 0; trial < 5; ++trial) {
    const MatrixXd P = random_order(random, 6), S = powers_of_two(random, 6);
    CHECK(controllable_states(S * P * A * P.transpose() * inverse_diagonal(S), S * P * B) == 4);
  }
  MatrixXd stiff = MatrixXd::Zero(3, 3);
  stiff.diagonal() << -1e16, -1, -0.5;
  CHECK(controllable_states(stiff, VectorXd::Ones(3)) == 3);

  // three states out of reach in other coordinates, for one input and many states
  for (const Index n : {6, 12, 20})
    for (int trial = 0; trial < 5; ++trial) {
      CAPTURE(n, trial);
      MatrixXd F = draw_matrix(random, n, n), G = draw_matrix(random, n, 1);
      F.bottomLeftCorner(3, n - 3).setZero();
      G.bottomRows(3).setZero();
      const MatrixXd Q = random_turn(random, n);
      CHECK(controllable_states(Q * F * Q.transpose(), Q * G) == n - 3);
      G.bottomRows(3).setConstant(1e-9);
      CHECK(controllable_states(Q * F * Q.transpose(), Q * G) == n);
      CHECK(controllable_states(Q * F * Q.transpose(), Q * G, 1e-6) == n - 3);
    }
  CHECK_THROWS_WITH(controllable_states(stiff, VectorXd::Ones(3), -1.0),
                    "controllable_states: tolerance is -1, expected at least 0 and below 1");
}

TEST_CASE("a chain of integrators has no zeros, in any coordinates") {
  ssm::test::Random random(7);
  for (const Index n : {4, 8, 12})
    for (const bool lags : {false, true})
      for (int trial = 0; trial < 10; ++trial) {
        CAPTURE(n, lags, trial);
        MatrixXd A = MatrixXd::Zero(n, n);
        for (Index i = 0; i + 1 < n; ++i) A(i, i + 1) = 1;
        if (lags) A.row(n - 1) = draw_matrix(random, 1, n);
        const MatrixXd Q = random_turn(random, n);
        const VectorXd B = Q.col(n - 1), C = Q.col(0);
        CHECK(zeros(System(Q * A * Q.transpose(), B, C.transpose())).size() == 0);
      }
}

TEST_CASE("a ladder of resistors and capacitors is stable, its poles fifteen decades apart") {
  for (const bool rising : {false, true})
    for (const Index n : {2, 3, 8}) {
      CAPTURE(rising, n);
      MatrixXd A = MatrixXd::Zero(n, n);
      for (Index i = 0; i < n; ++i) {
        const double share = static_cast<double>(i) / static_cast<double>(n - 1);
        const double rate = std::pow(10, 15 * (rising ? 1 - share : share));
        A(i, i) = -rate;
        if (i > 0) A(i, i - 1) = rate;
        if (i + 1 < n) {
          A(i, i) -= rate;
          A(i, i + 1) = rate;
        }
      }
      VectorXd B = VectorXd::Zero(n), C = VectorXd::Zero(n);
      B(0) = -A(0, 0) - (n > 1 ? A(0, 1) : 0);
      C(n - 1) = 1;
      const System ladder(A, B, C.transpose());
      CHECK(is_stable(ladder));
      CHECK(std::abs(dc_gain(ladder)(0) - 1) <= 1e-12);
      CHECK_NOTHROW(hankel_singular_values(ladder));
    }
}

TEST_CASE("the dc gain is infinite where an integrator leads, and only there") {
  MatrixXd A = MatrixXd::Zero(2, 2);
  A(0, 0) = -1;
  const double infinity = std::numeric_limits<double>::infinity();
  const System two(A, MatrixXd::Ones(2, 1), MatrixXd::Identity(2, 2));
  CHECK(dc_gain(two)(0) == 1);
  CHECK(dc_gain(two)(1) == infinity);
  A(0, 0) = 0.5;
  A(1, 1) = 1;
  const auto discrete = dc_gain(
      Discrete(A, MatrixXd::Ones(2, 1), -MatrixXd::Identity(2, 2), MatrixXd::Zero(2, 1), 1));
  CHECK(discrete(0) == -2);
  CHECK(discrete(1) == -infinity);

  ssm::test::Random random(8);
  for (const Index order : {1, 2, 3}) {
    CAPTURE(order);
    const Index n = order + 4;
    MatrixXd F = MatrixXd::Zero(n, n), G = MatrixXd::Zero(n, 2), H = MatrixXd::Zero(2, n);
    for (Index i = 0; i + 1 < order; ++i) F(i, i + 1) = 1;
    G(order - 1, 0) = -1;
    H(0, 0) = 1;
    const auto rest = some_system(random, 4, 2, 2);
    F.bottomRightCorner(4, 4) = rest.A();
    G.bottomRows(4) = rest.B();
    H.rightCols(4) = rest.C();
    const MatrixXd Q = random_turn(random, n), want = dc_gain(rest);
    const MatrixXd got = dc_gain(System(Q * F * Q.transpose(), Q * G, H * Q.transpose()));
    CHECK(got(0, 0) == -infinity);
    for (const auto& [i, j] : {std::pair(0, 1), std::pair(1, 0), std::pair(1, 1)})
      CHECK(std::abs(got(i, j) - want(i, j)) <= 1e-12 * want.norm());
  }
}

TEST_CASE("systems that are not finite are refused in a sentence") {
  const MatrixXd A = -MatrixXd::Identity(2, 2), B = MatrixXd::Ones(2, 1), C = MatrixXd::Ones(1, 2);
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(dc_gain(System(A, bad * B, C)), DomainError);
    CHECK_THROWS_AS(zeros(System(A, B, bad * C)), DomainError);
    CHECK_THROWS_AS(poles(System(bad * A, B, C)), DomainError);
    CHECK_THROWS_AS(lyapunov(A, bad * A), DomainError);
    CHECK_THROWS_AS(controllability_gramian(System(A, bad * B, C)), DomainError);
    CHECK_THROWS_AS(hankel_singular_values(System(A, B, bad * C)), DomainError);
    CHECK_THROWS_AS(balanced_truncation(System(A, bad * B, C), 1), DomainError);
    CHECK_THROWS_AS(observable_states(A, bad * C), DomainError);
    CHECK_THROWS_AS(similarity_transform(System(A, B, C), bad * A), DomainError);
  }
  CHECK_THROWS_WITH(controllable_states(A, MatrixXd(3, 1)),
                    "controllable_states: B is (3, 1), expected (2, 1)");
}

}  // namespace units_test
