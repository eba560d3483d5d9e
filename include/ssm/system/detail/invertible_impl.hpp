#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "ssm/system/detail/invertible.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE RealMatrix moduli_of(RealMatrix M) {
  for (Index i = 0; i < M.size(); ++i) M.data()[i] = std::abs(M.data()[i]);
  return M;
}

SSM_INLINE std::optional<RealMatrix> solve_invertible(RealMatrix A, RealMatrix B,
                                                      RealMatrix sizes) {
  const Index n = A.rows();
  if (!A.all_finite() || !B.all_finite()) return std::nullopt;
  if (n == 0) return B;
  Quadruple system{RealMatrix(0, 0), RealMatrix(0, n), RealMatrix(n, 0), std::move(A)};
  const Units units = to_own_units(system);
  const RealVector rows = inverse_of(units.outputs);
  const DenseLu lu(std::move(system.D));
  const RealMatrix inverse = lu.solve(RealMatrix::Identity(n, n));
  if (!inverse.all_finite()) return std::nullopt;
  const RealMatrix growth =
      moduli_of(inverse) * scale_columns(scale_rows(rows, std::move(sizes)), units.inputs);
  RealMatrix x(n, 1);
  for (Index i = 0; i < n; ++i) x(i, 0) = 1;
  double radius = std::numeric_limits<double>::infinity();
  for (int step = 0; step < 30; ++step) {  // Collatz' bound, which falls to ρ
    RealMatrix y = growth * x + 1e-3 * x;
    double bound = 0;
    for (Index i = 0; i < n; ++i) bound = (std::max)(bound, y(i, 0) / x(i, 0));
    radius = (std::min)(radius, bound - 1e-3);
    const double size = y.norm();
    if (!(size > 0) || !std::isfinite(size)) break;
    for (Index i = 0; i < n; ++i) y(i, 0) = (std::max)(y(i, 0) / size, 1e-280);
    x = std::move(y);
  }
  const double rounding = 2 * static_cast<double>(n) * epsilon_of<double>;
  if (!(radius * rounding < 1)) return std::nullopt;
  return scale_rows(units.inputs, lu.solve(scale_rows(rows, std::move(B))));
}

SSM_END_COMPILED
