#pragma once

#include <initializer_list>
#include <utility>

#include "ssm/estimate/kalman.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace ssm::test {

inline Eigen::MatrixXd one(double value) { return Eigen::MatrixXd::Constant(1, 1, value); }

/// A matrix of numbers as they are read, row by row.
inline Eigen::MatrixXd matrix_of(Index rows, Index cols, std::initializer_list<double> values) {
  Eigen::MatrixXd matrix(rows, cols);
  auto value = values.begin();
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j) matrix(i, j) = *value++;
  return matrix;
}

inline Eigen::VectorXd normal_vector(Random& random, Index size) {
  return random_matrix(random, size, 1);
}

/// A system with modes about −2 that correlated noise drives, and correlated noise hides.
inline NoisyStateSpace<double> random_noisy(Random& random, Index states, Index inputs,
                                            Index outputs) {
  auto system = random_system(random, states, inputs, outputs);
  return {std::move(system), random_covariance(random, states, .3),
          random_covariance(random, outputs, .2)};
}

/// The belief that the filters of the tests start from.
inline Belief<double> start_of(Index states) {
  Random random(99);
  return {normal_vector(random, states), random_covariance(random, states)};
}

}  // namespace ssm::test
