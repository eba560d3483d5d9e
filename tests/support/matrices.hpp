#pragma once

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <limits>

#include "ssm/system/state_space.hpp"
#include "support/random.hpp"

namespace ssm::test {

/// ‖got − want‖ / ‖want‖ in the Frobenius norm; infinite for a NaN or shapes that differ.
template <class G, class W>
double distance(const G& got, const W& want) {
  if (got.rows() != want.rows() || got.cols() != want.cols())
    return std::numeric_limits<double>::infinity();
  const double error = static_cast<double>((got - want).norm());
  const double size = static_cast<double>(want.norm());
  const double relative = size > 0 ? error / size : error;
  return relative <= std::numeric_limits<double>::max() ? relative
                                                        : std::numeric_limits<double>::infinity();
}

/// The largest relative error of an element; infinite for a NaN. Zeros must be met exactly.
template <class G, class W>
double worst_element(const G& got, const W& want) {
  double worst = 0;
  for (Index j = 0; j < want.cols(); ++j)
    for (Index i = 0; i < want.rows(); ++i) {
      const double error = static_cast<double>(std::abs(got(i, j) - want(i, j)));
      const double relative = error == 0 ? 0 : error / std::abs(static_cast<double>(want(i, j)));
      if (!(relative <= std::numeric_limits<double>::max()))
        return std::numeric_limits<double>::infinity();
      worst = relative > worst ? relative : worst;
    }
  return worst;
}

inline Eigen::MatrixXd random_matrix(Random& random, Index rows, Index cols, double scale = 1) {
  Eigen::MatrixXd matrix(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j) matrix(i, j) = scale * random.normal();
  return matrix;
}

/// The same, drawn column after column.
inline Eigen::MatrixXd draw_matrix(Random& random, Index rows, Index cols, double scale = 1) {
  Eigen::MatrixXd matrix(rows, cols);
  for (double& x : matrix.reshaped()) x = scale * random.normal();
  return matrix;
}

/// An orthogonal matrix: a product of reflections.
inline Eigen::MatrixXd random_turn(Random& random, Index n) {
  Eigen::MatrixXd Q = Eigen::MatrixXd::Identity(n, n);
  for (Index k = 0; k < n; ++k) {
    const Eigen::VectorXd v = draw_matrix(random, n, 1).col(0).normalized();
    Q -= 2 * v * (v.transpose() * Q);
  }
  return Q;
}

/// A symmetric positive definite matrix.
inline Eigen::MatrixXd random_covariance(Random& random, Index size, double scale = 1) {
  const Eigen::MatrixXd root = random_matrix(random, size, size);
  return scale * (root * root.transpose() + 0.1 * Eigen::MatrixXd::Identity(size, size));
}

/// A system of random matrices, with its modes about −2.
inline StateSpace<double> random_system(Random& random, Index states, Index inputs, Index outputs) {
  const Eigen::MatrixXd A =
      random_matrix(random, states, states, 0.5) - 2 * Eigen::MatrixXd::Identity(states, states);
  return {A, random_matrix(random, states, inputs), random_matrix(random, outputs, states),
          random_matrix(random, outputs, inputs)};
}

/// The system of the check values of SciPy, SLICOT and python-control: 3 states, 2 inputs, 2
/// outputs, one unstable mode.
inline StateSpace<double> published_system() {
  Eigen::MatrixXd A(3, 3), B(3, 2), C(2, 3), D(2, 2);
  A << -3, 4, 2, -1, -3, 0, 2, 5, 3;
  B << 1, 4, -3, -3, -2, 1;
  C << 4, 2, -3, 1, 4, 3;
  D << -2, 4, 0, 1;
  return {A, B, C, D};
}

}  // namespace ssm::test
