// Solves the Riccati equations that riccati_accuracy.py writes to it:
//
//   care|dare|kalman n m, then A, B, Q, R row by row
//
// and answers each with P and the gain row by row, or with the error, in a line.

#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "ssm/estimate/steady_kalman.hpp"
#include "ssm/system/lqr.hpp"

namespace {

using Eigen::MatrixXd;

MatrixXd read(ssm::Index rows, ssm::Index cols) {
  MatrixXd matrix(rows, cols);
  for (ssm::Index i = 0; i < rows; ++i)
    for (ssm::Index j = 0; j < cols; ++j) std::cin >> matrix(i, j);
  return matrix;
}

void write(const MatrixXd& matrix) {
  for (ssm::Index i = 0; i < matrix.rows(); ++i)
    for (ssm::Index j = 0; j < matrix.cols(); ++j) std::printf("%.17g ", matrix(i, j));
}

}  // namespace

int main() {
  std::string problem;
  ssm::Index n = 0, m = 0;
  while (std::cin >> problem >> n >> m) {
    const MatrixXd A = read(n, n), B = read(n, m), Q = read(n, n), R = read(m, m);
    try {
      if (problem == "kalman") {
        const ssm::NoisyStep<double> step{A.transpose(), MatrixXd::Zero(n, 1), Q};
        const auto steady = ssm::steady_kalman(step, B.transpose().eval(), R);
        write(steady.predicted);
        write(steady.gain);
      } else {
        const MatrixXd C = MatrixXd::Zero(1, n), D = MatrixXd::Zero(1, m);
        const auto best =
            problem == "care"
                ? ssm::lqr(ssm::StateSpace<double>(A, B, C, D), Q, R)
                : ssm::discrete_lqr(ssm::DiscreteStateSpace<double>(A, B, C, D, 1.), Q, R);
        write(best.P);
        write(best.K);
      }
      std::printf("\n");
    } catch (const std::exception& error) {
      std::printf("error %s\n", error.what());
    }
  }
}
