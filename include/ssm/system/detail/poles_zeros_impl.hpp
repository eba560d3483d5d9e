#pragma once

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <complex>
#include <utility>

#include "ssm/core/balance.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/poles_zeros.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE ComplexVector eigenvalues_of(std::string_view function, RealMatrix A) {
  if (!A.all_finite()) throw_domain(function, "A", "not finite", "finite");
  balance(A);
  return real_eigenvalues(function, std::move(A));
}

/// Drops outputs and states until D has full row rank, keeping the finite zeros: Emami-Naeini &
/// Van Dooren (1982), algorithm REDUCE.
SSM_INLINE void reduce_to_full_row_rank(Quadruple& q, double tolerance) {
  const auto rank_of = [&](const SingularValues& svd) {
    return static_cast<Index>(std::count_if(svd.sigma.begin(), svd.sigma.end(),
                                            [&](double sigma) { return sigma > tolerance; }));
  };
  while (q.D.rows() > 0) {
    const Index p = q.D.rows(), m = q.D.cols(), n = q.A.rows();
    const SingularValues rows = singular_values(q.D.transpose());  // Vᵀ D has its last rows 0
    const Index rank = rank_of(rows);
    if (rank == p) return;
    q.D = rows.V.transpose() * q.D;
    q.C = rows.V.transpose() * q.C;
    const RealMatrix unfed = q.C.block(rank, 0, p - rank, n);  // outputs that no input reaches
    q.C = q.C.block(0, 0, rank, n);
    q.D = q.D.block(0, 0, rank, m);
    if (n == 0) return;
    const SingularValues columns = singular_values(unfed);
    const Index seen = rank_of(columns);
    if (seen == 0) return;
    const RealMatrix& V = columns.V;  // the first `seen` of its states are what they show
    const RealMatrix A = V.transpose() * q.A * V, B = V.transpose() * q.B, C = q.C * V;
    const Index rest = n - seen;
    q.A = A.block(seen, seen, rest, rest);
    q.B = B.block(seen, 0, rest, m);
    RealMatrix C_next(rank + seen, rest), D_next(rank + seen, m);
    C_next.set_block(0, 0, C.block(0, seen, rank, rest));
    C_next.set_block(rank, 0, A.block(0, seen, seen, rest));
    D_next.set_block(0, 0, q.D);
    D_next.set_block(rank, 0, B.block(0, 0, seen, m));
    q.C = std::move(C_next);
    q.D = std::move(D_next);
  }
}

template <class Matrix>
ComplexVector zeros_of(std::string_view function, Quadruple q) {
  if (!q.A.all_finite() || !q.B.all_finite() || !q.C.all_finite() || !q.D.all_finite())
    throw_domain(function, "the system", "not finite", "finite");
  // Neither units of states nor of inputs and outputs move a zero.
  const RealVector scale = balance(q.A);
  q.B = scale_rows(inverse_of(scale), q.B);
  q.C = scale_columns(q.C, scale);
  const double size = q.A.norm() > 0 ? q.A.norm() : 1;
  const auto unit_columns = [&](RealMatrix& one, RealMatrix& other) {
    for (Index j = 0; j < one.cols(); ++j) {
      const double norm = std::hypot(one.block(0, j, one.rows(), 1).norm(),
                                     other.block(0, j, other.rows(), 1).norm()) /
                          size;
      if (!(norm > 0)) continue;
      for (Index i = 0; i < one.rows(); ++i) one(i, j) /= norm;
      for (Index i = 0; i < other.rows(); ++i) other(i, j) /= norm;
    }
  };
  const auto transpose = [&] {
    q.A = q.A.transpose();
    q.D = q.D.transpose();
    q.B = q.B.transpose();
    q.C = q.C.transpose();
    std::swap(q.B, q.C);
  };
  unit_columns(q.B, q.D);
  transpose();
  unit_columns(q.B, q.D);
  transpose();
  const double tolerance = 10 * static_cast<double>(q.A.rows() + 1) * epsilon_of<double> * size;
  reduce_to_full_row_rank(q, tolerance);
  transpose();
  reduce_to_full_row_rank(q, tolerance);
  const Index n = q.A.rows(), m = q.D.rows();
  if (n == 0) return {};
  if (m == 0) return eigenvalues_of(function, q.A);

  // [C D] W = [0 R] leaves the pencil A_f − λ B_f, in which no D is inverted.
  RealMatrix outputs(m, n + m), states(n, n + m);
  outputs.set_block(0, 0, q.C);
  outputs.set_block(0, n, q.D);
  states.set_block(0, 0, q.A);
  states.set_block(0, n, q.B);
  const RealMatrix W = singular_values(outputs).V.block(0, m, n + m, n);
  const Eigen::GeneralizedEigenSolver<Matrix> pencil(to_eigen<Matrix>(states * W),
                                                     to_eigen<Matrix>(W.block(0, 0, n, n)), false);
  if (pencil.info() != Eigen::Success)
    throw_convergence(function, "the Schur form of the pencil", "not found", "one");
  ComplexVector zeros(n);
  for (Index i = 0; i < n; ++i) zeros(i) = pencil.eigenvalues()(i);
  return zeros;
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE ComplexVector zeros_of<Eigen::MatrixXd>(std::string_view, Quadruple);
#endif

SSM_INLINE RealMatrix gain_at_rest(const Quadruple& system, Time time) {
  const auto& [A, B, C, D] = system;
  const Index n = A.rows();
  if (n == 0) return D;
  const SchurForm schur("dc_gain", A);
  const double still = time == Time::discrete ? 1 : 0;
  for (Index i = 0; i < n; ++i)
    if (!(std::abs(still - schur.T()(i, i)) > schur.error()))
      throw_domain("dc_gain", "a pole", "at rest", "no integrator");
  return C * DenseLu(still * RealMatrix::Identity(n, n) - A).solve(B) + D;
}

SSM_END_COMPILED
