#pragma once

#include <utility>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/detail/riccati_impl.hpp"
#include "ssm/system/finite_horizon_lqr.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE void check_cost_of_step(const RiccatiCaller& caller, RiccatiEquation step) {
  check_data(caller, step);
  into_own_units(step);
  check_cost(caller, step);
}

SSM_INLINE RiccatiSolution step_back(const RiccatiCaller& caller, const RiccatiEquation& step,
                                     const RealMatrix& P) {
  const auto& [time, A, B, Q, R, N, singular] = step;
  const RealMatrix PB = P * B;
  const DenseCholesky S(symmetric_part(R + B.transpose() * PB));
  bool regular = S.definite();
  for (Index j = 0; j < R.rows(); ++j) {
    // The part of the diagonal that the inputs before leave: rounding where they do the same.
    double whole = R(j, j);
    for (Index i = 0; i < B.rows(); ++i) whole += B(i, j) * PB(i, j);
    const double left = S.L()(j, j) * S.L()(j, j);
    regular = regular && left > 4 * epsilon_of<double> * static_cast<double>(A.rows()) * whole;
  }
  if (!regular)
    throw_domain(caller.function, "R + B' P B", "singular",
                 "a cost of each input or of what it moves");
  const RealMatrix K = S.solve(PB.transpose() * A + N.transpose());
  const RealMatrix closed = A - B * K, shared = N * K;
  return {symmetric_part(Q - shared - shared.transpose() + K.transpose() * R * K +
                         closed.transpose() * P * closed),
          K};
}

SSM_END_COMPILED
