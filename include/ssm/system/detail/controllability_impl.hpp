#pragma once

#include <utility>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/system/controllability.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE Index reachable_dimension(RealMatrix A, RealMatrix B) {
  B = scale_rows(inverse_of(balance(A)), std::move(B));
  for (Index j = 0; j < B.cols(); ++j) {
    const double size = B.block(0, j, B.rows(), 1).norm();
    if (size > 0)
      for (Index i = 0; i < B.rows(); ++i) B(i, j) /= size;
  }
  const double rounding = 10 * static_cast<double>(A.rows()) * epsilon_of<double>;
  double tolerance = rounding;
  const double tolerance_of_A = rounding * A.norm();
  Index reached = 0;
  while (A.rows() > 0 && B.cols() > 0) {
    const SingularValues svd = singular_values(B.transpose());  // V spans what B reaches, then not
    Index rank = 0;
    for (const double sigma : svd.sigma)
      if (sigma > tolerance) ++rank;
    if (rank == 0) break;
    reached += rank;
    const Index left = A.rows() - rank;
    const RealMatrix turned = svd.V.transpose() * A * svd.V;
    B = turned.block(rank, 0, left, rank);
    A = turned.block(rank, rank, left, left);
    tolerance = tolerance_of_A;
  }
  return reached;
}

SSM_END_COMPILED
