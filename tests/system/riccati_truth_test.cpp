#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "ssm/core/detail/dense.hpp"
#include "ssm/estimate/steady_kalman.hpp"
#include "ssm/system/riccati.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace riccati_truth_test {

using namespace ssm;
using ssm::detail::RealMatrix;

namespace {

/// Whole numbers from −9 to 9, as make_riccati_truth.py draws them.
class Whole {
 public:
  explicit Whole(std::uint64_t seed) : state_(seed) {}
  double operator()() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>((state_ >> 33) % 19) - 9;
  }
  RealMatrix matrix(Index rows, Index cols) {
    RealMatrix result(rows, cols);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j) result(i, j) = (*this)();
    return result;
  }

 private:
  std::uint64_t state_;
};

/// The plants of make_riccati_truth.py.
detail::RiccatiEquation plant(bool discrete, const std::string& kind, Index n, Index m,
                              std::uint64_t seed) {
  Whole whole(seed);
  RealMatrix A = whole.matrix(n, n), B = whole.matrix(n, m);
  const RealMatrix C = whole.matrix(2, n);
  A *= 1. / 16;
  RealMatrix Q = C.transpose() * C + RealMatrix::Identity(n, n), R = RealMatrix::Identity(m, m);
  if (kind == "stiff") {
    for (Index i = 0; i < n; ++i) {
      const auto decades = static_cast<int>(40 * i / (n > 1 ? n - 1 : 1));
      const double rate = std::ldexp(1., (discrete ? 0 : 20) - decades);
      for (Index j = 0; j < n; ++j)
        A(i, j) = rate * (A(i, j) / 4 - (i == j ? 1 : 0)) + (discrete && i == j ? 1 : 0);
      for (Index j = 0; j < m; ++j) B(i, j) *= rate;
    }
  } else if (kind == "weak") {
    const Index half = n / 2;
    for (Index i = half; i < n; ++i) {
      for (Index j = 0; j < m; ++j) B(i, j) = 0;
      for (Index j = 0; j < half; ++j) {
        A(i, j) *= 0x1p-20;
        A(j, i) = 0;
      }
    }
    for (Index i = 0; i < half; ++i)
      for (Index j = half; j < n; ++j) A(i, j) = 0;
  } else if (kind == "nonnormal") {
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j <= i; ++j) {
        A(i, j) = 0;
        if (j == i)
          A(i, i) = static_cast<double>(i + 1) / (discrete ? 64 : -8);
        else
          A(j, i) *= 8;
      }
  } else if (kind == "cheap") {
    for (Index i = 0; i < m; ++i) R(i, i) = 0x1p-40;
  }
  return {discrete ? detail::Time::discrete : detail::Time::continuous, A, B, Q, R, {}};
}

}  // namespace

TEST_CASE("Riccati solutions and gains are those of 100-digit arithmetic") {
  std::ifstream file(std::string(SSM_SOURCE_DIR) + "/tests/golden/riccati_truth.txt");
  REQUIRE(file);
  int count = 0;
  for (std::string line; std::getline(file, line); ++count) {
    CAPTURE(line.substr(0, line.find('|')));
    std::istringstream words(line);
    std::string problem, kind, bar;
    Index n = 0, m = 0;
    std::uint64_t seed = 0;
    words >> problem >> kind >> n >> m >> seed >> bar;
    const auto numbers = [&](Index size) {
      std::vector<double> result(static_cast<std::size_t>(size));
      for (double& x : result) words >> x;
      words >> bar;
      return result;
    };
    const std::vector<double> diagonal = numbers(n), row = numbers(n), gain = numbers(n * m);
    REQUIRE(!words.bad());
    const auto equation = plant(problem != "care", kind, n, m, seed);
    const detail::RiccatiCaller caller{"test", std::numeric_limits<double>::epsilon(),
                                       detail::RiccatiOf::regulator, true};
    const auto check = [&](const RealMatrix& P, const Eigen::MatrixXd& K) {
      double worst = 0, off = 0, size = 0;
      const auto take = [&](double error) { worst = test::worse(worst, error); };
      for (Index i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        take(std::abs(P(i, i) / diagonal[at] - 1));
        take(std::abs(P(0, i) - row[at]) / std::sqrt(diagonal[0] * diagonal[at]));
      }
      CHECK(worst <= 1e-14);
      for (Index i = 0; i < K.rows(); ++i)
        for (Index j = 0; j < K.cols(); ++j) {
          // in the units of states in which each costs 1
          const double want = gain[static_cast<std::size_t>(i * K.cols() + j)];
          const double unit =
              1 / std::sqrt(diagonal[static_cast<std::size_t>(problem == "kalman" ? i : j)]);
          off += std::pow((K(i, j) - want) * unit, 2);
          size += std::pow(want * unit, 2);
        }
      CHECK(std::sqrt(off) <= 1e-14 * std::sqrt(size));
    };
    const auto dense = [](const RealMatrix& matrix) {
      return detail::to_eigen<Eigen::MatrixXd>(matrix);
    };
    const Eigen::MatrixXd A = dense(equation.A), B = dense(equation.B), Q = dense(equation.Q),
                          R = dense(equation.R);
    const auto longest = detail::solve_riccati(caller, equation);
    const auto got = detail::checked_riccati(caller, equation.time, A, B, Q, R);
    if (problem == "kalman") {
      const NoisyStep<double> step{A.transpose(), Eigen::MatrixXd::Zero(n, 1), Q};
      const auto steady = steady_kalman(step, B.transpose().eval(), R);
      check(longest.P, steady.gain);
      check(RealMatrix(got.P), steady.gain);
    } else {
      check(longest.P, dense(longest.K));
      check(RealMatrix(got.P), got.K);
    }
  }
  CHECK(count == 60);
}

}  // namespace riccati_truth_test
