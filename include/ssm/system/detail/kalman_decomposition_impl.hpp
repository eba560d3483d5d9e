#pragma once

#include <utility>

#include "ssm/core/error.hpp"
#include "ssm/system/detail/staircase.hpp"
#include "ssm/system/kalman_decomposition.hpp"

SSM_BEGIN_COMPILED

/// A system in units of its own, reached states first, and among these those that outputs show.
struct OrderedStates {
  Units units;
  RealMatrix Q;  ///< orthogonal, in these units
  Uncertain A, B, C;
  Index reached = 0, both = 0;
};
SSM_INLINE OrderedStates ordered_states(std::string_view function, Quadruple system,
                                        double tolerance) {
  const double error = error_of_data(function, tolerance);
  if (!system.all_finite()) throw_domain(function, "the system", "not finite", "finite");
  OrderedStates result;
  result.units = to_own_units(system);
  Staircase reach =
      staircase(Uncertain(std::move(system.A), error), Uncertain(std::move(system.B), error));
  const Index n = reach.A.rows(), r = result.reached = reach.reached;
  result.A = std::move(reach.A);
  result.B = std::move(reach.B);
  result.C = turn_columns(Uncertain(std::move(system.C), error), reach.Q);
  result.Q = std::move(reach.Q);

  const Index p = result.C.rows(), m = result.B.cols();
  const Staircase sight =
      staircase(result.A.block(0, 0, r, r).transpose(), result.C.block(0, 0, p, r).transpose());
  result.both = sight.reached;
  const RealMatrix& V = sight.Q;
  result.A.set_block(0, r, turn_rows(V, result.A.block(0, r, r, n - r)));
  result.A.set_block(0, 0, sight.A.transpose());
  result.B.set_block(0, 0, turn_rows(V, result.B.block(0, 0, r, m)));
  result.C.set_block(0, 0, sight.B.transpose());
  result.Q.set_block(0, 0, result.Q.block(0, 0, n, r) * V);
  return result;
}

SSM_INLINE Quadruple minimal_part(std::string_view function, Quadruple system, double tolerance) {
  const OrderedStates ordered = ordered_states(function, system, tolerance);
  const Index k = ordered.both;
  if (k == system.A.rows()) return system;
  const RealMatrix &A = ordered.A.value, &B = ordered.B.value, &C = ordered.C.value;
  return {A.block(0, 0, k, k),
          scale_columns(B.block(0, 0, k, B.cols()), inverse_of(ordered.units.inputs)),
          scale_rows(ordered.units.outputs, C.block(0, 0, C.rows(), k)), std::move(system.D)};
}

SSM_INLINE KalmanParts kalman_parts(std::string_view function, Quadruple system, double tolerance) {
  const OrderedStates ordered = ordered_states(function, system, tolerance);
  const Index n = system.A.rows(), r = ordered.reached, k = ordered.both, out = n - r;
  const Index p = system.C.rows(), m = system.B.cols(), hidden = r - k;

  // Of the states without part 2, those that the outputs do not show: [P1; PU], PU of full rank.
  const auto without = [&](const Uncertain& M, Index rows) {
    Uncertain part{RealMatrix(rows, k + out), RealMatrix(rows, k + out)};
    part.set_block(0, 0, M.block(0, 0, rows, k));
    part.set_block(0, k, M.block(0, r, rows, out));
    return part;
  };
  Uncertain A(RealMatrix(k + out, k + out), RealMatrix(k + out, k + out));
  A.set_block(0, 0, without(ordered.A.block(0, 0, k, n), k));
  A.set_block(k, 0, without(ordered.A.block(r, 0, out, n), out));
  const Staircase sight = staircase(A.transpose(), without(ordered.C, p).transpose());
  const Index neither = out > 0 ? k + out - sight.reached : 0, shown = out - neither;
  const RealMatrix unseen = sight.Q.block(0, k + out - neither, k + out, neither);
  const RealMatrix inside = unseen.block(0, 0, k, neither);
  const RealMatrix outside = unseen.block(k, 0, out, neither);
  const RealMatrix basis = singular_values(outside.transpose()).V;  // first those that PU spans
  RealMatrix change = RealMatrix::Identity(n, n);
  change.set_block(r, r, basis.block(0, neither, out, shown));
  change.set_block(r, r + shown, basis.block(0, 0, out, neither));
  if (neither > 0)  // where the states beside Z, one for each column, lie in part 1
    change.set_block(0, r + shown,
                     inside * DenseLu(basis.block(0, 0, out, neither).transpose() * outside)
                                  .solve(RealMatrix::Identity(neither, neither)));

  const DenseLu lu(change);
  Quadruple result{lu.solve(ordered.A.value * change), lu.solve(ordered.B.value),
                   ordered.C.value * change, system.D};
  const auto clear = [](RealMatrix& M, Index i, Index j, Index rows, Index cols) {
    M.set_block(i, j, RealMatrix(rows, cols));
  };
  clear(result.A, r, 0, out, r);
  clear(result.A, 0, k, k, hidden);
  clear(result.A, 0, r + shown, k, neither);
  clear(result.A, r, r + shown, shown, neither);
  clear(result.B, r, 0, out, m);
  clear(result.C, 0, k, p, hidden);
  clear(result.C, 0, r + shown, p, neither);
  result.B = scale_columns(result.B, inverse_of(ordered.units.inputs));
  result.C = scale_rows(ordered.units.outputs, result.C);
  return {std::move(result),
          scale_rows(ordered.units.states, ordered.Q * change),
          k,
          hidden,
          shown,
          neither};
}

SSM_END_COMPILED
