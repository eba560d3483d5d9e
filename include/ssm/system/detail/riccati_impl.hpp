#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/detail/doubled.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/detail/riccati_modes_impl.hpp"
#include "ssm/system/detail/riccati_units_impl.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/riccati.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE RealMatrix hamiltonian(const RealMatrix& A, const RealMatrix& G, const RealMatrix& Q) {
  const Index n = A.rows();
  RealMatrix H(2 * n, 2 * n);
  H.set_block(0, 0, A);
  H.set_block(0, n, -G);
  H.set_block(n, 0, -Q);
  H.set_block(n, n, -A.transpose());
  return H;
}

using Wide = Doubled<RealMatrix>;

/// An equation that is easier the larger `shift` is: each mode decays faster by it and, as a mode
/// that Q does not see may keep a solution from stabilizing, each state costs more, as does an
/// input that costs nothing.
SSM_INLINE RiccatiEquation eased(RiccatiEquation equation, double shift) {
  if (shift == 0) return equation;
  const Index n = equation.A.rows();
  const double more = (std::min)(1.0, shift / equation.A.norm());
  const double size = equation.Q.is_zero() ? 1 : equation.Q.norm();
  if (equation.time == Time::continuous)
    for (Index i = 0; i < n; ++i) equation.A(i, i) -= shift;
  else
    equation.A *= 1 / (1 + shift);
  for (Index i = 0; i < n; ++i) {
    double& q = equation.Q(i, i);
    q += more * (q > 0 ? q : size);
  }
  for (Index j = 0; j < equation.R.rows() && equation.singular; ++j)
    equation.R(j, j) += more * (equation.R(j, j) > 0 ? equation.R(j, j) : size);
  return equation;
}

/// The stabilizing solution of AᵀP + PA − PGP + Q = 0 from the matrix sign function Z of its
/// Hamiltonian [A −G; −Q −Aᵀ], by Newton's iteration Z ← (cZ + (cZ)⁻¹)/2 with c = (‖Z⁻¹‖/‖Z‖)^½:
/// Roberts (1980), scaled as in Higham, Functions of Matrices (2008), eq. 5.35. P is the
/// least-squares solution of (Z + I) [I; P] = 0, eq. 2.14 there. Nothing when the iteration meets a
/// singular matrix or does not settle.
SSM_INLINE std::optional<RealMatrix> riccati_by_sign(const RealMatrix& A, const RealMatrix& G,
                                                     const RealMatrix& Q) {
  constexpr int most = 100;
  const Index n = A.rows();
  RealMatrix Z = hamiltonian(A, G, Q);
  RealVector scale = balance(Z);
  // The unit of cost that brings P near 1, as rounding leaves errors of epsilon beside [I; P].
  const double a = Z.block(0, 0, n, n).norm(), g = Z.block(0, n, n, n).norm();
  const double q = Z.block(n, 0, n, n).norm();
  const double unit = q > 0 ? (std::min)(std::sqrt(q / g), q / a) : 1;
  Z.set_block(0, n, unit * Z.block(0, n, n, n));
  for (Index j = 0; j < n; ++j)
    for (Index i = n; i < 2 * n; ++i) Z(i, j) /= unit;
  for (Index i = n; i < 2 * n; ++i) scale(i) *= unit;

  const RealMatrix identity = RealMatrix::Identity(2 * n, 2 * n);
  double last = std::numeric_limits<double>::infinity();
  for (int turn = 0; turn < most; ++turn) {
    const RealMatrix inverse = DenseLu(Z).solve(identity);
    const double c = last < 1e-2 ? 1 : std::sqrt(inverse.norm() / Z.norm());
    if (!std::isfinite(c) || !(c > 0)) return std::nullopt;
    RealMatrix next = (0.5 * c) * Z + (0.5 / c) * inverse;
    const double change = (next - Z).norm() / next.norm();
    Z = std::move(next);
    if (change <= 1e-10 || (change < 1e-2 && change > last / 2)) {
      Z += identity;
      RealMatrix P = -least_squares(Z.block(0, n, 2 * n, n), Z.block(0, 0, 2 * n, n));
      for (Index j = 0; j < n; ++j)
        for (Index i = 0; i < n; ++i) P(i, j) *= scale(n + i) / scale(j);
      return symmetric_part(P);
    }
    last = change;
  }
  return std::nullopt;
}

/// A solution of AᵀPA − P − AᵀPG(I + PG)⁻¹PA + Q = 0 by structured doubling: Chu, Fan, Lin & Wang
/// (2004), algorithm SDA. Nothing when it does not settle.
SSM_INLINE std::optional<RealMatrix> riccati_by_doubling(RealMatrix A, RealMatrix G, RealMatrix Q) {
  constexpr int most = 60;
  const RealMatrix identity = RealMatrix::Identity(A.rows(), A.rows());
  for (int turn = 0; turn < most; ++turn) {
    const DenseLu lu(identity + G * Q);
    const RealMatrix A_step = lu.solve(A);                  // (I + GQ)⁻¹ A
    const RealMatrix G_step = lu.solve(G * A.transpose());  // (I + GQ)⁻¹ G Aᵀ
    const RealMatrix change = symmetric_part(A.transpose() * Q * A_step);
    G = symmetric_part(G + A * G_step);
    A = A * A_step;
    Q += change;
    if (!Q.all_finite() || !G.all_finite()) return std::nullopt;
    if (change.norm() <= 1e-14 * Q.norm()) return Q;
  }
  return std::nullopt;
}

/// What a P makes of its equation, to twice the precision of double: the terms of the equation
/// cancel in as many digits as P has between its largest and its least eigenvalue.
struct RiccatiLoop {
  Wide K, closed, residual;  ///< closed is A − B K
  DenseCholesky S;  ///< R or R + BᵀPB: K is S⁻¹(BᵀP + Nᵀ) or S⁻¹(BᵀPA + Nᵀ)
};

SSM_INLINE RiccatiLoop riccati_loop(const RiccatiEquation& equation, const Wide& P) {
  const bool continuous = equation.time == Time::continuous;
  const Wide A(equation.A), B(equation.B), Q(equation.Q), R(equation.R), PA = P * A;
  const Wide S = continuous ? R : R + B.transpose() * (P * B);
  const Wide wanted = B.transpose() * (continuous ? P : PA) + Wide(equation.N.transpose());
  const Wide linear = continuous ? PA + PA.transpose() : A.transpose() * PA - P;
  const DenseCholesky factor(S.high);
  Wide K(factor.solve(wanted.high));
  K = K + Wide(factor.solve((wanted - S * K).high));
  return {K, A - B * K, linear - wanted.transpose() * K + Q, factor};
}

/// A lower triangular L with L Lᵀ = P but for rounding, where a P that is singular is taken for one
/// that is not. Nothing when P is indefinite.
SSM_INLINE std::optional<RealMatrix> cost_factor(const RealMatrix& P) {
  const Index n = P.rows();
  if (P.is_zero()) return RealMatrix::Identity(n, n);
  double most = P(0, 0);
  for (Index i = 1; i < n; ++i) most = (std::max)(most, P(i, i));
  const double doubt = 16 * epsilon_of<double> * static_cast<double>(n);
  for (const double least : {most * doubt * doubt, most * doubt}) {
    RealMatrix definite = symmetric_part(P);
    for (Index i = 0; i < n; ++i) definite(i, i) = (std::max)(definite(i, i) * (1 + doubt), least);
    const DenseCholesky factor(std::move(definite));
    if (factor.definite()) return factor.L();
  }
  return std::nullopt;
}

/// The coordinates z = Lᵀx, in which P = L Lᵀ costs |z|²: however ill-conditioned P is, its closed
/// loop is well scaled there.
class CostCoordinates {
 public:
  explicit CostCoordinates(const RealMatrix& L) : L_(L), lower_(L), upper_(lower_.transpose()) {}

  /// Lᵀ M L⁻ᵀ for an M of the dynamics z' = M z.
  [[nodiscard]] RealMatrix dynamics(const Wide& M) const { return divided(upper_ * M).high; }
  /// Lᵀ B.
  [[nodiscard]] RealMatrix inputs(const RealMatrix& B) const { return (upper_ * Wide(B)).high; }
  /// L⁻¹ Q L⁻ᵀ for a cost Q.
  [[nodiscard]] RealMatrix cost(const Wide& Q) const {
    return symmetric_part(divided(divided(Q).transpose()).high);
  }
  /// L Q Lᵀ, a cost of x.
  [[nodiscard]] Wide cost_of_state(const RealMatrix& Q) const { return lower_ * Wide(Q) * upper_; }

 private:
  /// M L⁻ᵀ, with one step of refinement.
  [[nodiscard]] Wide divided(const Wide& M) const {
    const Wide X = rounded(M.high);
    return X + rounded((M - X * upper_).high);
  }
  [[nodiscard]] Wide rounded(const RealMatrix& M) const {
    return Wide(solve_lower(L_, M.transpose()).transpose());
  }

  RealMatrix L_;
  Wide lower_, upper_;
};

/// True when every mode of A decays by more than what rounding moves it.
SSM_INLINE bool decays(std::string_view function, Time time, RealMatrix A) {
  const double margin = 16 * epsilon_of<double> * static_cast<double>(A.rows());
  if (time == Time::discrete) {
    A *= 1 + margin;
  } else {
    const double shift = margin * A.norm();
    for (Index i = 0; i < A.rows(); ++i) A(i, i) += shift;
  }
  return SchurForm(function, std::move(A)).stable(time);
}

/// Corrects P until rounding is left, or what passes for `goal`. The error of P solves a Riccati
/// equation of its own, of the closed loop, with the residual for Q: Mehrmann & Tan (1988). It is
/// solved in P's own coordinates, where it is relative to P in each direction. Nothing when P comes
/// out indefinite or the corrections do not shrink.
SSM_INLINE std::optional<Wide> refine_riccati(std::string_view function,
                                              const RiccatiEquation& equation, Wide P,
                                              double goal) {
  constexpr int most = 20;
  constexpr double enough = 0x1p-26;
  double last = std::numeric_limits<double>::infinity();
  for (int i = 0; i < most; ++i) {
    const RiccatiLoop loop = riccati_loop(equation, P);
    const std::optional<RealMatrix> L = cost_factor(P.high);
    if (!L || !loop.S.definite()) return std::nullopt;
    if (loop.residual.high.is_zero() && loop.residual.low.is_zero() &&
        decays(function, equation.time, loop.closed.high))
      return P;
    const CostCoordinates in(*L);
    const RealMatrix A = in.dynamics(loop.closed), B = in.inputs(equation.B);
    const RealMatrix G = symmetric_part(B * loop.S.solve(B.transpose()));
    const RealMatrix Q = in.cost(loop.residual);
    if (!A.all_finite() || !Q.all_finite() || !G.all_finite()) return std::nullopt;
    const std::optional<RealMatrix> correction =
        equation.time == Time::continuous ? riccati_by_sign(A, G, Q) : riccati_by_doubling(A, G, Q);
    if (!correction || !correction->all_finite()) return std::nullopt;
    P = P + in.cost_of_state(*correction);
    const double change = correction->norm() / std::sqrt(static_cast<double>(A.rows()));
    if (i > 0 && change <= goal) return P;
    if (P.high.is_zero()) return P;
    if (i > 0 && !(change <= last / 2)) return change <= enough ? std::optional(P) : std::nullopt;
    last = i > 0 ? change : (std::max)(change, 1.0);
  }
  return std::nullopt;
}

/// Where a discrete equation is corrected from: 0, or where an input costs next to nothing beside
/// what it moves, the P of an equation in which it costs as much. From 0 doubling would begin with
/// R⁻¹; of that P it needs R + BᵀPB only.
SSM_INLINE Wide start_of_riccati(std::string_view function, RiccatiEquation equation) {
  constexpr double cheap = 1e-6;
  const Index n = equation.A.rows(), m = equation.B.cols();
  bool any = false;
  const RealMatrix moved = equation.B.transpose() * (equation.Q * equation.B);
  for (Index j = 0; j < m && equation.time == Time::discrete; ++j)
    if (equation.R(j, j) < cheap * moved(j, j)) {
      equation.R(j, j) += moved(j, j);
      any = true;
    }
  const Wide zero(RealMatrix(n, n));
  if (!any) return zero;
  const std::optional<Wide> P = refine_riccati(function, equation, zero, 0x1p-26);
  return P ? *P : zero;
}

/// True when |z|² falls along z' = M z, or z_{t+1} = M z_t, from every z, by more than the rounding
/// of M: of its elements, so that slow modes are told beside fast ones.
SSM_INLINE bool surely_contracts(Time time, const RealMatrix& M) {
  const bool continuous = time == Time::continuous;
  const Index n = M.rows();
  RealMatrix size = M;
  for (Index i = 0; i < M.size(); ++i) size.data()[i] = std::abs(M.data()[i]);
  const RealMatrix fall =
      continuous ? -(M + M.transpose())
                 : (Wide(RealMatrix::Identity(n, n)) - Wide(M.transpose()) * Wide(M)).high;
  RealMatrix doubt = continuous ? size + size.transpose() : size.transpose() * size;
  doubt *= 4 * epsilon_of<double> * static_cast<double>(continuous ? 1 : n);
  RealVector unit(n);
  for (Index i = 0; i < n; ++i) {
    if (!(fall(i, i) > 0)) return false;
    unit(i) = 1 / std::sqrt(fall(i, i));
  }
  RealMatrix relative = scale_columns(scale_rows(unit, symmetric_part(fall)), unit);
  doubt = scale_columns(scale_rows(unit, std::move(doubt)), unit);
  for (Index i = 0; i < n; ++i) {
    relative(i, i) -= 4 * epsilon_of<double> * static_cast<double>(n);
    for (Index j = 0; j < n; ++j) relative(i, i) -= doubt(i, j);
  }
  return DenseCholesky(std::move(relative)).definite();
}

/// The P that is reached from 0 or, where that is too far, by way of ever less eased equations. The
/// gain is rounded before its closed loop is judged, in P's own coordinates as in those of x the
/// poles of an ill-conditioned one are not known.
SSM_INLINE RiccatiSolution approach_riccati(const RiccatiCaller& caller,
                                            const RiccatiEquation& equation) {
  constexpr int most = 40;
  Wide start = start_of_riccati(caller.function, equation);
  double shift = 0, reached = std::numeric_limits<double>::infinity();
  for (int i = 0; i < most && shift < 0.999 * reached; ++i) {
    const double goal = shift == 0 ? epsilon_of<double> : 0x1p-26;
    const std::optional<Wide> P =
        refine_riccati(caller.function, eased(equation, shift), start, goal);
    if (P && shift == 0) {
      const RiccatiLoop loop = riccati_loop(equation, *P);
      const RealMatrix K = loop.K.high;
      const Wide closed = Wide(equation.A) - Wide(equation.B) * Wide(K);
      const std::optional<RealMatrix> L = cost_factor(P->high);
      if (L) {
        const CostCoordinates in(*L);
        const RealMatrix M = in.dynamics(closed);
        const RealMatrix fall = equation.time == Time::continuous
                                    ? M + M.transpose()
                                    : M.transpose() * M - RealMatrix::Identity(M.rows(), M.cols());
        // An equation without a solution may have a P that shrinks for ever, never solving it.
        const bool solved = in.cost(loop.residual).norm() <= 0x1p-20 * fall.norm();
        if (solved && (surely_contracts(equation.time, M) ||
                       SchurForm(caller.function, M).stable(equation.time)))
          return {symmetric_part(P->high), K};
      }
    }
    if (P && shift > 0) {
      start = *P;
      reached = std::exchange(shift, 0);
    } else if (std::isfinite(reached)) {
      shift = (shift + reached) / 2;
    } else {
      shift = shift == 0 ? equation.A.norm() : 2 * shift;
    }
  }
  throw_unsolvable(caller, equation);
  return {};
}

/// Throws unless `matrix` is symmetric to the rounding of its own type, in whatever units.
SSM_INLINE void check_symmetric(std::string_view function, std::string_view argument,
                                const RealMatrix& matrix, double epsilon) {
  for (Index j = 0; j < matrix.cols(); ++j)
    for (Index i = 0; i < j; ++i) {
      const double size =
          (std::max)(std::sqrt(std::abs(matrix(i, i))) * std::sqrt(std::abs(matrix(j, j))),
                     (std::max)(std::abs(matrix(i, j)), std::abs(matrix(j, i))));
      if (!(std::abs(matrix(i, j) - matrix(j, i)) <= 100 * epsilon * size))
        throw_domain(function, argument, "not symmetric", "symmetric");
    }
}

/// True when no eigenvalue of a symmetric matrix is below zero by more than `doubt`.
SSM_INLINE bool is_semidefinite(RealMatrix matrix, double doubt) {
  for (Index i = 0; i < matrix.rows(); ++i)
    matrix(i, i) += doubt + (std::numeric_limits<double>::min)();
  return DenseCholesky(std::move(matrix)).definite();
}

/// The nearest cost that is not negative anywhere.
SSM_INLINE RealMatrix without_negative_part(const RealMatrix& Q) {
  const Index n = Q.rows();
  const RealMatrix V = singular_values(Q).V, QV = Q * V;
  RealMatrix scaled = V;
  for (Index j = 0; j < n; ++j) {
    double value = 0;
    for (Index i = 0; i < n; ++i) value += V(i, j) * QV(i, j);
    for (Index i = 0; i < n; ++i) scaled(i, j) *= (std::max)(value, 0.0);
  }
  return symmetric_part(scaled * V.transpose());
}

/// The costs that count as rounding in an equation in its own units: of its costs, or of the cost
/// of the control that moves a state. So a Q that was reduced to zero by hand is zero.
SSM_INLINE double rounding_of_cost(const RiccatiCaller& caller, const RiccatiEquation& equation) {
  const double rate = equation.time == Time::continuous ? (std::min)(equation.A.norm(), 1.0) : 1;
  const double size =
      (std::max)({equation.Q.norm(), equation.N.norm(), equation.R.is_zero() ? 0 : rate * rate});
  return 100 * caller.epsilon * static_cast<double>(equation.A.rows() + equation.B.cols()) * size;
}

/// Throws when the cost of an equation in its own units could be negative by more than rounding.
SSM_INLINE void check_cost(const RiccatiCaller& caller, const RiccatiEquation& equation) {
  const RealMatrix &Q = equation.Q, &R = equation.R, &N = equation.N;
  const Index n = Q.rows(), m = R.rows();
  const RiccatiNames names(caller, equation.time);
  const double rounding = rounding_of_cost(caller, equation);
  if (!is_semidefinite(R, 100 * caller.epsilon * static_cast<double>(m) * R.norm()))
    throw_domain(caller.function, "R", "indefinite", "positive semidefinite");
  if (!is_semidefinite(Q, rounding))
    throw_domain(caller.function, names.Q, "indefinite", "positive semidefinite");
  if (N.is_zero()) return;
  RealMatrix all(n + m, n + m);
  all.set_block(0, 0, Q);
  all.set_block(0, n, N);
  all.set_block(n, 0, N.transpose());
  all.set_block(n, n, R);
  if (!is_semidefinite(std::move(all), rounding))
    throw_domain(caller.function, "the matrix of " + names.Q + ", N and R", "indefinite",
                 "positive semidefinite");
}

/// Makes a cost that is negative by no more than rounding one that is not.
///
/// @return the part R⁻¹Nᵀ of the gain, where the equation was replaced by that of v = u + R⁻¹Nᵀ x
///   for that; 0 else
SSM_INLINE RealMatrix settle_cost(const RiccatiCaller& caller, RiccatiEquation& equation) {
  auto& [time, A, B, Q, R, N, singular] = equation;
  const Index n = A.rows(), m = B.cols();
  const bool cross = !N.is_zero();
  const double rounding = rounding_of_cost(caller, equation);
  RealMatrix inner(m, n);
  if (singular) return inner;
  RealMatrix reduced = Q, dynamics = A;
  if (cross) {
    const DenseCholesky factor(R);
    const RealMatrix first = factor.solve(N.transpose());
    const RealMatrix rest = (Wide(N.transpose()) - Wide(R) * Wide(first)).high;
    const Wide divided = Wide(first) + Wide(factor.solve(rest));
    reduced = symmetric_part((Wide(Q) - Wide(N) * divided).high);
    dynamics = (Wide(A) - Wide(B) * divided).high;
    inner = divided.high;
  }
  const double least = 4 * epsilon_of<double> * (cross ? Q.norm() : reduced.norm());
  if (!is_semidefinite(reduced, cross ? -least : least) && is_semidefinite(reduced, rounding)) {
    Q = without_negative_part(reduced);
    A = dynamics;
    N = RealMatrix(n, m);
    return inner;
  }
  return RealMatrix(m, n);
}

SSM_INLINE void check_data(const RiccatiCaller& caller, RiccatiEquation& equation) {
  auto& [time, A, B, Q, R, N, singular] = equation;
  const RiccatiNames names(caller, time);
  const auto check_finite = [&](std::string_view argument, const RealMatrix& matrix) {
    if (!matrix.all_finite()) throw_domain(caller.function, argument, "not finite", "finite");
  };
  check_finite(names.A, A);
  check_finite(names.B, B);
  check_finite(names.Q, Q);
  check_finite("R", R);
  check_finite("N", N);
  check_symmetric(caller.function, names.Q, Q, caller.epsilon);
  check_symmetric(caller.function, "R", R, caller.epsilon);
  if (N.size() == 0) N = RealMatrix(A.rows(), B.cols());
  Q = symmetric_part(Q);
  R = symmetric_part(R);
}

SSM_INLINE RiccatiSolution solve_riccati(const RiccatiCaller& caller, RiccatiEquation equation) {
  auto& [time, A, B, Q, R, N, singular] = equation;
  check_data(caller, equation);
  if (A.rows() == 0) return {A, RealMatrix(B.cols(), 0)};
  const RiccatiUnits units = into_own_units(equation);
  RealMatrix less = R;
  for (Index j = 0; j < R.rows() && time == Time::discrete; ++j)
    less(j, j) *= 1 - 4 * epsilon_of<double> * static_cast<double>(R.rows());
  singular = !DenseCholesky(std::move(less)).definite();
  if (singular && time == Time::continuous)
    throw_domain(caller.function, "R", "not positive definite", "positive definite");
  const double rounding = 100 * caller.epsilon * static_cast<double>(R.rows()) * R.norm();
  if (singular && !is_semidefinite(R, rounding))
    throw_domain(caller.function, "R", "indefinite", "positive semidefinite");
  if (caller.definite) check_cost(caller, equation);
  const RealMatrix inner = settle_cost(caller, equation);
  RiccatiSolution solution = approach_riccati(caller, equation);
  solution.K += inner;
  const RealVector inverse = inverse_of(units.states);
  return {scale_columns(scale_rows(inverse, solution.P), inverse),
          scale_columns(scale_rows(units.inputs, solution.K), inverse)};
}

SSM_INLINE RealMatrix gain_of_filter(const RealMatrix& P, const RealMatrix& C,
                                     const RealMatrix& R) {
  const Wide seen(C), CP = seen * Wide(P), S = Wide(symmetric_part(R)) + CP * seen.transpose();
  const DenseCholesky factor(symmetric_part(S.high));
  const Wide K(factor.solve(CP.high));
  return (K + Wide(factor.solve((CP - S * K).high))).high.transpose();
}

SSM_END_COMPILED
