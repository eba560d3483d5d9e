#pragma once

#include <algorithm>
#include <complex>
#include <utility>

#include "ssm/core/error.hpp"
#include "ssm/system/descriptor_system.hpp"
#include "ssm/system/detail/invertible.hpp"
#include "ssm/system/detail/staircase.hpp"
#include "ssm/system/frequency_response.hpp"
#include "ssm/system/poles_zeros.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE DescriptorParts descriptor_parts(std::string_view function, RealMatrix E,
                                            Quadruple system, double tolerance) {
  const double error = error_of_data(function, tolerance);
  if (!E.all_finite() || !system.all_finite())
    throw_domain(function, "the system", "not finite", "finite");
  const Index n = E.rows(), m = system.B.cols(), p = system.C.rows();
  // Equations and states of E in units that even it out, which no unit of theirs changes.
  Quadruple only{RealMatrix(0, 0), RealMatrix(0, n), RealMatrix(n, 0), std::move(E)};
  const Units units = to_own_units(only);
  const RealVector equations = inverse_of(units.outputs);
  system.A = scale_columns(scale_rows(equations, system.A), units.inputs);
  system.B = scale_rows(equations, system.B);
  system.C = scale_columns(system.C, units.inputs);
  const Uncertain whole(std::move(only.D), error);
  const auto [right, rank] = row_space(whole);  // E right = [M 0]
  const Uncertain M = turn_columns(whole, right).block(0, 0, n, rank);
  const RealMatrix left = row_space(M.transpose()).V;  // leftᵀ M = [E11; 0]
  const RealMatrix E11 = (left.transpose() * M.value).block(0, 0, rank, rank);
  const Index rest = n - rank;

  const RealMatrix A = left.transpose() * system.A * right;
  const RealMatrix B = left.transpose() * system.B, C = system.C * right;
  RealMatrix drive(rank, rest + m);
  drive.set_block(0, 0, A.block(0, rank, rank, rest));
  drive.set_block(0, rest, B.block(0, 0, rank, m));
  DescriptorParts parts;
  parts.algebraic = rest;
  const DenseLu lu(E11);
  parts.system.A = lu.solve(A.block(0, 0, rank, rank));
  parts.system.B = lu.solve(std::move(drive));
  parts.system.C = RealMatrix(rest + p, rank);
  parts.system.C.set_block(0, 0, A.block(rank, 0, rest, rank));
  parts.system.C.set_block(rest, 0, C.block(0, 0, p, rank));
  parts.system.D = RealMatrix(rest + p, rest + m);
  parts.system.D.set_block(0, 0, A.block(rank, rank, rest, rest));
  parts.system.D.set_block(0, rest, B.block(rank, 0, rest, m));
  parts.system.D.set_block(rest, 0, C.block(0, rank, p, rest));
  parts.system.D.set_block(rest, rest, system.D);
  if (rest > 0 && normal_rank(constraints_of(parts), error) < rest)
    throw_domain(function, "the pencil lambda E - A", "singular",
                 "one that some lambda makes invertible, as else no state follows from the inputs");
  return parts;
}

SSM_INLINE Quadruple constraints_of(const DescriptorParts& parts) {
  const auto& [A, B, C, D] = parts.system;
  const Index k = parts.algebraic, n = A.rows();
  return {A, B.block(0, 0, n, k), C.block(0, 0, k, n), D.block(0, 0, k, k)};
}

SSM_INLINE Quadruple without_algebraic(std::string_view function, const DescriptorParts& parts) {
  const auto& [A, B, C, D] = parts.system;
  const Index k = parts.algebraic, n = A.rows(), m = B.cols() - k, p = C.rows() - k;
  RealMatrix right(k, n + m);  // D11 x2 = −C1 x1 − D12 u
  right.set_block(0, 0, C.block(0, 0, k, n));
  right.set_block(0, n, D.block(0, k, k, m));
  // sizes: errors of the turned constraints are those of all of them, not of the single element
  const RealMatrix D11 = D.block(0, 0, k, k);
  RealMatrix sizes = moduli_of(D11);
  double largest = 0;
  for (Index i = 0; i < k; ++i)
    largest = (std::max)(largest,
                         (std::max)(D.block(i, 0, 1, D.cols()).norm(), C.block(i, 0, 1, n).norm()));
  for (Index i = 0; i < sizes.size(); ++i) sizes.data()[i] += largest;
  const auto x2 = solve_invertible(D11, std::move(right), std::move(sizes));
  if (!x2)
    throw_domain(function, "the index of the descriptor system", "above 1",
                 "0 or 1, constraints that determine the states without a derivative");
  const RealMatrix x = x2->block(0, 0, k, n), u = x2->block(0, n, k, m);
  const RealMatrix B1 = B.block(0, 0, n, k), D21 = D.block(k, 0, p, k);
  return {A - B1 * x, B.block(0, k, n, m) - B1 * u, C.block(k, 0, p, n) - D21 * x,
          D.block(k, k, p, m) - D21 * u};
}

SSM_INLINE ComplexMatrix descriptor_response(const DescriptorParts& parts,
                                             std::complex<double> point) {
  const ComplexMatrix G = response_at(hessenberg_response(parts.system), point);
  const Index k = parts.algebraic, p = G.rows() - k, m = G.cols() - k;
  // (0, y) = G (x2, u), solved for y: in real and imaginary parts
  RealMatrix inner(2 * k, 2 * k), right(2 * k, m);
  ComplexMatrix result(p, m);
  for (Index j = 0; j < k; ++j)
    for (Index i = 0; i < k; ++i) {
      inner(i, j) = inner(k + i, k + j) = G(i, j).real();
      inner(k + i, j) = G(i, j).imag();
      inner(i, k + j) = -G(i, j).imag();
    }
  for (Index j = 0; j < m; ++j)
    for (Index i = 0; i < k; ++i) {
      right(i, j) = G(i, k + j).real();
      right(k + i, j) = G(i, k + j).imag();
    }
  const RealMatrix x2 = DenseLu(std::move(inner)).solve(std::move(right));
  for (Index j = 0; j < m; ++j)
    for (Index i = 0; i < p; ++i) {
      result(i, j) = G(k + i, k + j);
      for (Index l = 0; l < k; ++l)
        result(i, j) -= G(k + i, l) * std::complex<double>(x2(l, j), x2(k + l, j));
    }
  return result;
}

SSM_END_COMPILED
