#include <Eigen/LU>
#include <cmath>

#include "ssm/discretize/discretize.hpp"
#include "ssm/discretize/inverse.hpp"
#include "ssm/discretize/matrix_exponential.hpp"
#include "ssm/discretize/matrix_logarithm.hpp"
#include "ssm/discretize/noise_covariance.hpp"
#include "support/catch.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace units_test {

using namespace ssm;
using namespace ssm::test;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

VectorXd powers_of_two(Random& random, Index size) {
  VectorXd powers(size);
  for (double& x : powers) x = std::ldexp(1.0, static_cast<int>(random.uniform(-60, 60)));
  return powers;
}

/// Dense, sparse, triangular and companion matrices, well and badly scaled.
MatrixXd dynamics(Random& random, Index n, int kind) {
  MatrixXd A = random_matrix(random, n, n);
  if (kind == 1)
    A = A.cwiseProduct((random_matrix(random, n, n).array() > 0.5).cast<double>().matrix());
  if (kind == 2) A = A.triangularView<Eigen::Upper>();
  if (kind == 3) {
    A.topRows(n - 1).setZero();
    A.topRightCorner(n - 1, n - 1).setIdentity();
    for (Index j = 0; j < n; ++j) A(n - 1, j) *= std::pow(3., double(n - j));
  }
  if (kind == 4) A *= 30;
  if (kind == 5) A *= 0.01;
  return A;
}

}  // namespace

TEST_CASE(
    "powers of two in the units of states, inputs and outputs change no digit of a sampled "
    "system, nor of the continuous one that it came from") {
  Random random(11);
  for (int kind = 0; kind < 6; ++kind)
    for (const Index n : {1, 3, 6}) {
      const MatrixXd A = dynamics(random, n, kind);
      const StateSpace<double> plain(A, random_matrix(random, n, 2), random_matrix(random, 2, n),
                                     MatrixXd::Zero(2, 2));
      const VectorXd S = powers_of_two(random, n), U = powers_of_two(random, 2),
                     Y = powers_of_two(random, 2);
      const VectorXd inverse_S = S.cwiseInverse(), inverse_U = U.cwiseInverse();
      const auto in_units = [&](const auto& A_any, const auto& B, const auto& C, const auto& D) {
        return StateSpace<double>(S.asDiagonal() * A_any * inverse_S.asDiagonal(),
                                  S.asDiagonal() * B * inverse_U.asDiagonal(),
                                  Y.asDiagonal() * C * inverse_S.asDiagonal(),
                                  Y.asDiagonal() * D * inverse_U.asDiagonal());
      };
      const auto scaled = in_units(plain.A(), plain.B(), plain.C(), plain.D());
      for (const auto& [method, name] : names(Discretization{})) {
        CAPTURE(kind, n, name);
        const auto sampled = discretize(method, plain, 0.05);
        const auto other = discretize(method, scaled, 0.05);
        const auto want = in_units(sampled.A_bar(), sampled.B_bar(), sampled.C(), sampled.D());
        CHECK(other.A_bar() == want.A());
        CHECK(other.B_bar() == want.B());
        CHECK(other.C() == want.C());
        CHECK(other.D() == want.D());
        if (kind == 4) continue;  // modes beyond Nyquist or below rounding
        const auto back = inverse_discretize(method, sampled);
        const auto other_back = inverse_discretize(method, other);
        const auto want_back = in_units(back.A(), back.B(), back.C(), back.D());
        CHECK(other_back.A() == want_back.A());
        CHECK(other_back.B() == want_back.B());
        CHECK(other_back.C() == want_back.C());
        CHECK(other_back.D() == want_back.D());
      }
      CHECK(matrix_exponential(scaled.A()) ==
            MatrixXd(S.asDiagonal() * matrix_exponential(plain.A()) * inverse_S.asDiagonal()));
      const MatrixXd noise = plain.B() * plain.B().transpose();
      CHECK(sampled_noise_covariance(scaled.A(), MatrixXd(S.asDiagonal() * noise * S.asDiagonal()),
                                     0.05) ==
            MatrixXd(S.asDiagonal() * sampled_noise_covariance(plain.A(), noise, 0.05) *
                     S.asDiagonal()));
    }
}

}  // namespace units_test
