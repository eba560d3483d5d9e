#include "ssm/discretize/noise_covariance.hpp"

#include <Eigen/Eigenvalues>
#include <cmath>

#include "support/catch.hpp"
#include "support/count_allocations.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

using namespace ssm;
using namespace ssm::test;
using Eigen::Matrix2d;
using Eigen::MatrixXd;

TEST_CASE("the sampled noise of stiff systems is right in every element, for steps of any length") {
  MatrixXd A(2, 2), Q(2, 2), want(2, 2);
  A << -2.5e4, -80, 350, -.1;
  Q << 2, .5, .5, 3;
  // mpmath, 60 digits: W − E W Eᵀ with A W + W Aᵀ = −Q
  want << 3.9963188407617573137e-5, 1.1311135626853027637e-5, 1.1311135626853027637e-5,
      3.0103934263588377872e-3;
  CHECK(worst_element(sampled_noise_covariance(A, Q, 1e-3), want) <= 1e-13);  // λΔ = 25
  want << 4.3258492115654171054e-5, -1.018421017501772661e-3, -1.018421017501772661e-3,
      .32478598716023361152;
  CHECK(worst_element(sampled_noise_covariance(A, Q, .125), want) <= 1e-13);  // λΔ = 3125
  want << 5.2584720808657748918e-5, -3.9327252527055465369e-3, -3.9327252527055465369e-3,
      1.2354616155305870524;
  CHECK(worst_element(sampled_noise_covariance(A, Q, 40.), want) <= 1e-13);  // λΔ = 1e6

  MatrixXd graded(3, 3), noise = MatrixXd::Zero(3, 3), sampled(3, 3);
  graded << 0, 1e-8, 0, -20066666666.666668, -3, 2e10, 66.666666666666671, 0, -66.666666666666671;
  noise(1, 1) = 1e6;
  sampled << 1.9685226585004002293e-12, 1.1864801212065888751e-4, 1.9489091496054491754e-12,
      1.1864801212065888751e-4, 85590.648362855854714, 1.068879420040040568e-4,
      1.9489091496054491754e-12, 1.068879420040040568e-4, 1.9310596128100171011e-12;
  CHECK(worst_element(sampled_noise_covariance(graded, noise, 1.), sampled) <= 1e-11);
}

TEST_CASE("one mode has its closed form, decaying, constant, growing and at any rate") {
  for (const double lambda : {-1e9, -80., -40., -1., -1e-12, 0., 1e-9, 2.}) {
    CAPTURE(lambda);
    const MatrixXd A = MatrixXd::Constant(1, 1, lambda), Q = MatrixXd::Constant(1, 1, 3);
    const double want = lambda == 0 ? 3 * .5 : 3 * std::expm1(2 * lambda * .5) / (2 * lambda);
    CHECK(std::abs(sampled_noise_covariance(A, Q, .5)(0) / want - 1) <= 1e-14);
  }
}

TEST_CASE("a chain of integrators has the moments of integrated white noise, to the smallest") {
  // Q_bar(i, j) = q h^(a+b+1) / (a! b! (a+b+1)), where a and b integrations lie before i and j
  constexpr int n = 5;
  MatrixXd A = MatrixXd::Zero(n, n), Q = MatrixXd::Zero(n, n), want(n, n);
  A.diagonal(1).setOnes();
  Q(n - 1, n - 1) = 2;
  for (const double h : {1e-6, .3, 20.}) {
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) {
        const int a = n - 1 - i, b = n - 1 - j;
        want(i, j) =
            2 * std::pow(h, a + b + 1) / (std::tgamma(a + 1) * std::tgamma(b + 1)) / (a + b + 1);
      }
    CHECK(worst_element(sampled_noise_covariance(A, Q, h), want) <= 2e-14);
  }
}

TEST_CASE("two steps are one of their sum, whatever the split, and the result is a covariance") {
  Random random(1);
  for (const Index states : {1, 3, 6}) {
    const MatrixXd A = random_system(random, states, 1, 1).A();
    const MatrixXd Q = random_covariance(random, states);
    for (const double first : {1e-4, .3, 2.}) {
      const double second = 1.1;
      const MatrixXd E = matrix_exponential(second * A);
      const MatrixXd split = E * sampled_noise_covariance(A, Q, first) * E.transpose() +
                             sampled_noise_covariance(A, Q, second);
      const MatrixXd whole = sampled_noise_covariance(A, Q, first + second);
      CHECK(distance(split, whole) <= 1e-14);
      CHECK(whole == whole.transpose());
      CHECK(Eigen::SelfAdjointEigenSolver<MatrixXd>(whole).eigenvalues().minCoeff() > 0);
    }
  }
}

TEST_CASE("no step leaves no noise, NaN gives NaN, and what does not fit is refused") {
  Matrix2d A;
  A << -1, 2, 0, -3;
  const Matrix2d Q = Matrix2d::Identity();
  CHECK(sampled_noise_covariance(A, Q, 0.) == Matrix2d(Matrix2d::Zero()));
  for (const double bad : {std::nan(""), HUGE_VAL})
    CHECK_THROWS_AS(sampled_noise_covariance(A, Q, bad), DomainError);
  CHECK(allocations_of([&] { (void)sampled_noise_covariance(A, Q, 40.); }) == 0);
  const Eigen::Matrix2f narrow =
      sampled_noise_covariance(A.cast<float>().eval(), Q.cast<float>().eval(), .5f);
  CHECK(narrow == sampled_noise_covariance(A, Q, .5).cast<float>());
  CHECK_THROWS_WITH(sampled_noise_covariance(A, Q, -.1),
                    "sampled_noise_covariance: delta is -0.1, expected >= 0 and finite");
  CHECK_THROWS_WITH(sampled_noise_covariance(A, MatrixXd(2, 3), .1),
                    "sampled_noise_covariance: Q is (2, 3), expected (2, 2)");
}
