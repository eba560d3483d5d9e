#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/LU>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/doubled.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// The data of a Riccati equation in double.
template <class Matrix>
struct RiccatiEquation {
  Time time;
  Matrix A, B, Q, R;

  /// An equation that is easier the larger `shift` is: each mode decays faster by it and, as a mode
  /// that Q does not see may keep a solution from stabilizing, each state costs more.
  [[nodiscard]] RiccatiEquation eased(double shift) const {
    RiccatiEquation result = *this;
    if (shift == 0) return result;
    if (time == Time::continuous)
      result.A.diagonal().array() -= shift;
    else
      result.A /= 1 + shift;
    const double size = Q.isZero(0) ? 1 : Q.norm();
    for (double& q : result.Q.diagonal())
      q += (std::min)(1.0, shift / A.norm()) * (q > 0 ? q : size);
    return result;
  }
};

/// The cost-to-go xᵀ P x and the gain K of u = −K x that reaches it.
template <class Matrix>
struct RiccatiSolution {
  Matrix P, K;
};

template <class Matrix>
Matrix symmetric_part(const Matrix& A) {
  return 0.5 * (A + A.transpose());
}

/// The stabilizing solution of AᵀP + PA − PGP + Q = 0 from the matrix sign function Z of its
/// Hamiltonian [A −G; −Q −Aᵀ], by Newton's iteration Z ← (cZ + (cZ)⁻¹)/2 with c = (‖Z⁻¹‖/‖Z‖)^½:
/// Roberts (1980), scaled as in Higham, Functions of Matrices (2008), eq. 5.35. P is the
/// least-squares solution of (Z + I) [I; P] = 0, eq. 2.14 there. Nothing when the iteration meets a
/// singular matrix or does not settle.
template <class Matrix>
std::optional<Matrix> riccati_by_sign(const Matrix& A, const Matrix& G, const Matrix& Q) {
  constexpr int most = 100;
  const Index n = A.rows();
  Matrix Z(2 * n, 2 * n);
  Z << A, -G, -Q, -A.transpose();
  Eigen::VectorXd scale = balance(Z);
  // The unit of cost that brings P near 1, as rounding leaves errors of epsilon beside [I; P].
  const double a = Z.topLeftCorner(n, n).norm(), g = Z.topRightCorner(n, n).norm();
  const double q = Z.bottomLeftCorner(n, n).norm();
  const double unit = q > 0 ? (std::min)(std::sqrt(q / g), q / a) : 1;
  Z.topRightCorner(n, n) *= unit;
  Z.bottomLeftCorner(n, n) /= unit;
  scale.tail(n) *= unit;
  double last = std::numeric_limits<double>::infinity();
  for (int i = 0; i < most; ++i) {
    const Matrix inverse = Z.partialPivLu().inverse();
    const double c = last < 1e-2 ? 1 : std::sqrt(inverse.norm() / Z.norm());
    if (!std::isfinite(c) || !(c > 0)) return std::nullopt;
    const Matrix next = 0.5 * (c * Z + inverse / c);
    const double change = (next - Z).norm() / next.norm();
    Z = next;
    if (change <= 1e-10 || (change < 1e-2 && change > last / 2)) {
      Matrix left(2 * n, n), right(2 * n, n);
      left << Z.topRightCorner(n, n), Z.bottomRightCorner(n, n) + Matrix::Identity(n, n);
      right << Z.topLeftCorner(n, n) + Matrix::Identity(n, n), Z.bottomLeftCorner(n, n);
      const Matrix P = -left.householderQr().solve(right);
      return symmetric_part<Matrix>(scale.tail(n).asDiagonal() * P *
                                    scale.head(n).cwiseInverse().asDiagonal());
    }
    last = change;
  }
  return std::nullopt;
}

/// A solution of AᵀPA − P − AᵀPG(I + PG)⁻¹PA + Q = 0 by structured doubling: Chu, Fan, Lin & Wang
/// (2004), algorithm SDA. Nothing when it does not settle.
template <class Matrix>
std::optional<Matrix> riccati_by_doubling(Matrix A, Matrix G, Matrix Q) {
  constexpr int most = 60;
  const Matrix identity = Matrix::Identity(A.rows(), A.rows());
  for (int i = 0; i < most; ++i) {
    const Eigen::PartialPivLU<Matrix> lu(identity + G * Q);
    const Matrix A_step = lu.solve(A);                  // (I + GQ)⁻¹ A
    const Matrix G_step = lu.solve(G * A.transpose());  // (I + GQ)⁻¹ G Aᵀ
    const Matrix change = symmetric_part<Matrix>(A.transpose() * Q * A_step);
    G = symmetric_part<Matrix>(G + A * G_step);
    A = (A * A_step).eval();
    Q += change;
    if (!Q.allFinite() || !G.allFinite()) return std::nullopt;
    if (change.norm() <= 1e-14 * Q.norm()) return Q;
  }
  return std::nullopt;
}

/// What a P makes of its equation, to twice the precision of double: the terms of the equation
/// cancel in as many digits as P has between its largest and its least eigenvalue.
template <class Matrix>
struct RiccatiLoop {
  Doubled<Matrix> K, closed, residual;  ///< closed is A − B K
  Eigen::LLT<Matrix> S;                 ///< R or R + BᵀPB: K is S⁻¹BᵀP or S⁻¹BᵀPA

  static RiccatiLoop of(const RiccatiEquation<Matrix>& equation, const Doubled<Matrix>& P) {
    using Wide = Doubled<Matrix>;
    const bool continuous = equation.time == Time::continuous;
    const Wide A(equation.A), B(equation.B), Q(equation.Q), R(equation.R), PA = P * A;
    const Wide S = continuous ? R : R + B.transpose() * (P * B);
    const Wide wanted = B.transpose() * (continuous ? P : PA);
    const Wide linear = continuous ? PA + PA.transpose() : A.transpose() * PA - P;
    const Eigen::LLT<Matrix> llt(S.high);
    Wide K(llt.solve(wanted.high));
    K = K + Wide(llt.solve((wanted - S * K).high));
    return {K, A - B * K, linear - wanted.transpose() * K + Q, llt};
  }
};

/// A lower triangular L with L Lᵀ = P but for rounding, where a P that is singular is taken for one
/// that is not. Nothing when P is indefinite.
template <class Matrix>
std::optional<Matrix> cost_factor(const Matrix& P) {
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  const double most = P.diagonal().maxCoeff();
  if (P.isZero(0)) return Matrix::Identity(P.rows(), P.cols());
  const double doubt = 16 * epsilon * static_cast<double>(P.rows());
  Matrix definite = symmetric_part(P);
  definite.diagonal() = (definite.diagonal() * (1 + doubt)).cwiseMax(most * doubt * doubt);
  const Eigen::LLT<Matrix> llt(definite);
  if (llt.info() != Eigen::Success) return std::nullopt;
  return llt.matrixL();
}

/// The coordinates z = Lᵀx, in which P = L Lᵀ costs |z|²: however ill-conditioned P is, its closed
/// loop is well scaled there.
template <class Matrix>
class CostCoordinates {
 public:
  explicit CostCoordinates(const Matrix& L) : L_(L), lower_(L), upper_(lower_.transpose()) {}

  /// Lᵀ M L⁻ᵀ for an M of the dynamics z' = M z.
  [[nodiscard]] Matrix dynamics(const Doubled<Matrix>& M) const { return divided(upper_ * M).high; }
  /// Lᵀ B.
  [[nodiscard]] Matrix inputs(const Matrix& B) const { return (upper_ * Doubled<Matrix>(B)).high; }
  /// L⁻¹ Q L⁻ᵀ for a cost Q.
  [[nodiscard]] Matrix cost(const Doubled<Matrix>& Q) const {
    return symmetric_part(divided(divided(Q).transpose()).high);
  }
  /// L Q Lᵀ, a cost of x.
  [[nodiscard]] Doubled<Matrix> cost_of_state(const Matrix& Q) const {
    return lower_ * Doubled<Matrix>(Q) * upper_;
  }

 private:
  /// M L⁻ᵀ, with one step of refinement.
  [[nodiscard]] Doubled<Matrix> divided(const Doubled<Matrix>& M) const {
    const Doubled<Matrix> X = rounded(M.high);
    return X + rounded((M - X * upper_).high);
  }
  [[nodiscard]] Doubled<Matrix> rounded(const Matrix& M) const {
    return Doubled<Matrix>(
        L_.template triangularView<Eigen::Lower>().solve(M.transpose()).transpose());
  }

  Matrix L_;
  Doubled<Matrix> lower_, upper_;
};

/// Corrects P until rounding is left, or what passes for `goal`. The error of P solves a Riccati
/// equation of its own, of the closed loop, with the residual for Q: Mehrmann & Tan (1988). It is
/// solved in P's own coordinates, where it is relative to P in each direction. Nothing when P comes
/// out indefinite or the corrections do not shrink.
template <class Matrix>
std::optional<Doubled<Matrix>> refine_riccati(const RiccatiEquation<Matrix>& equation,
                                              Doubled<Matrix> P, double goal) {
  constexpr int most = 20;
  constexpr double enough = 0x1p-26;
  double last = std::numeric_limits<double>::infinity();
  for (int i = 0; i < most; ++i) {
    const auto loop = RiccatiLoop<Matrix>::of(equation, P);
    const std::optional<Matrix> L = cost_factor(P.high);
    if (!L) return std::nullopt;
    const CostCoordinates<Matrix> in(*L);
    const Matrix A = in.dynamics(loop.closed), B = in.inputs(equation.B);
    const Matrix G = symmetric_part<Matrix>(B * loop.S.solve(B.transpose()));
    const Matrix Q = in.cost(loop.residual);
    if (!A.allFinite() || !Q.allFinite() || !G.allFinite()) return std::nullopt;
    const std::optional<Matrix> correction =
        equation.time == Time::continuous ? riccati_by_sign(A, G, Q) : riccati_by_doubling(A, G, Q);
    if (!correction || !correction->allFinite()) return std::nullopt;
    P = P + in.cost_of_state(*correction);
    const double change = correction->norm() / std::sqrt(static_cast<double>(A.rows()));
    if (i > 0 && change <= goal) return P;
    if (P.high.isZero(0)) return P;
    if (i > 0 && !(change <= last / 2)) return change <= enough ? std::optional(P) : std::nullopt;
    last = i > 0 ? change : (std::max)(change, 1.0);
  }
  return std::nullopt;
}

/// The P that is reached from 0 or, where that is too far, by way of ever less eased equations. The
/// gain is rounded before its closed loop is judged, in P's own coordinates as in those of x the
/// poles of an ill-conditioned one are not known.
template <class Matrix>
RiccatiSolution<Matrix> solve_riccati(std::string_view function,
                                      const RiccatiEquation<Matrix>& equation) {
  constexpr int most = 40;
  const Index n = equation.A.rows();
  Doubled<Matrix> start(Matrix::Zero(n, n));
  double shift = 0, reached = std::numeric_limits<double>::infinity();
  for (int i = 0; i < most && shift < 0.999 * reached; ++i) {
    const double goal = shift == 0 ? std::numeric_limits<double>::epsilon() : 0x1p-26;
    const auto P = refine_riccati(equation.eased(shift), start, goal);
    if (P && shift == 0) {
      const Matrix K = RiccatiLoop<Matrix>::of(equation, *P).K.high;
      const Doubled<Matrix> closed =
          Doubled<Matrix>(equation.A) - Doubled<Matrix>(equation.B) * Doubled<Matrix>(K);
      const std::optional<Matrix> L = cost_factor(P->high);
      if (L && SchurForm<Matrix>(function, CostCoordinates<Matrix>(*L).dynamics(closed))
                   .stable(equation.time))
        return {symmetric_part(P->high), K};
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
  throw_convergence(function, "no stabilizing solution", "found",
                    "(A, B) stabilizable and Q positive semidefinite");
}

/// Throws unless `matrix` is symmetric to the rounding of its own type.
template <class Derived>
void check_symmetric(std::string_view function, std::string_view argument,
                     const Eigen::MatrixBase<Derived>& matrix) {
  using T = typename Derived::Scalar;
  const T bound = T(100) * std::numeric_limits<T>::epsilon() * matrix.norm();
  if (!((matrix - matrix.transpose()).norm() <= bound))
    throw_domain(function, argument, "not symmetric", "symmetric and finite");
}

template <class DA, class DB, class DQ, class DR>
RiccatiSolution<Eigen::MatrixXd> checked_riccati(std::string_view function, Time time,
                                                 const Eigen::MatrixBase<DA>& A,
                                                 const Eigen::MatrixBase<DB>& B,
                                                 const Eigen::MatrixBase<DQ>& Q,
                                                 const Eigen::MatrixBase<DR>& R) {
  using Matrix = Eigen::MatrixXd;
  check_matrix(function, "A", A, A.rows(), A.rows());
  check_matrix(function, "B", B, A.rows(), B.cols());
  check_matrix(function, "Q", Q, A.rows(), A.rows());
  check_matrix(function, "R", R, B.cols(), B.cols());
  check_symmetric(function, "Q", Q);
  check_symmetric(function, "R", R);
  if (!A.allFinite()) throw_domain(function, "A", "not finite", "finite");
  if (!B.allFinite()) throw_domain(function, "B", "not finite", "finite");
  if (A.rows() == 0) return {Matrix(A.rows(), A.rows()), Matrix(B.cols(), A.rows())};

  // The states in units that balance A: x = S z, so the cost-to-go of z is Sᵀ P S.
  RiccatiEquation<Matrix> equation{time, A.template cast<double>(), B.template cast<double>(),
                                   symmetric_part<Matrix>(Q.template cast<double>()),
                                   symmetric_part<Matrix>(R.template cast<double>())};
  if (equation.R.llt().info() != Eigen::Success)
    throw_domain(function, "R", "not positive definite", "positive definite");
  const Eigen::VectorXd scale = balance(equation.A);
  const auto S = scale.asDiagonal();
  const Eigen::VectorXd inverse = scale.cwiseInverse();
  equation.B = inverse.asDiagonal() * equation.B;
  equation.Q = S * equation.Q * S;

  const RiccatiSolution<Matrix> solution = solve_riccati(function, equation);
  return {inverse.asDiagonal() * solution.P * inverse.asDiagonal(),
          solution.K * inverse.asDiagonal()};
}

/// The P of a solution, in the type of the A that it belongs to.
template <class DA>
auto cost_to_go(const RiccatiSolution<Eigen::MatrixXd>& solution) {
  constexpr int size = DA::RowsAtCompileTime;
  return Eigen::Matrix<typename DA::Scalar, size, size>(
      solution.P.template cast<typename DA::Scalar>());
}

}  // namespace detail

/// The stabilizing solution P of the continuous algebraic Riccati equation
///
///   Aᵀ P + P A − P B R⁻¹ Bᵀ P + Q = 0:
///
/// xᵀ P x is the least cost ∫ xᵀQx + uᵀRu dt from x on of a control that leads to rest, and
/// u = −R⁻¹Bᵀ P x reaches it. The matrix sign function of the Hamiltonian, then corrections from a
/// residual in twice the precision of double: an element Pᵢⱼ is right to a few epsilon of
/// √(Pᵢᵢ Pⱼⱼ), however ill-conditioned P is, up to a condition of about 1e16, and to 1e-8 or it
/// throws beyond that. Computed in double for float as well. P is exactly symmetric.
///
/// Where P is that ill-conditioned, the rounding of P may cost the gain all its digits; lqr's K is
/// rounded from that of the P in twice the precision, and stabilizes.
///
/// @param A (states, states), 1/s
/// @param B (states, inputs)
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive definite
/// @throws ShapeError
/// @throws DomainError when Q or R is not symmetric, R not positive definite, A or B not finite
/// @throws ConvergenceError when there is no stabilizing solution that double can tell from none:
///   (A, B) is not stabilizable, or Q leaves a mode on the imaginary axis unseen
/// Cost: about ten inverses of (2 states)² for each of two or three corrections, ten times as much
/// for the worst conditioned.
template <class DA, class DB, class DQ, class DR>
[[nodiscard]] auto riccati(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                           const Eigen::MatrixBase<DQ>& Q, const Eigen::MatrixBase<DR>& R) {
  return detail::cost_to_go<DA>(
      detail::checked_riccati("riccati", detail::Time::continuous, A, B, Q, R));
}

/// The stabilizing solution P of the discrete algebraic Riccati equation
///
///   Aᵀ P A − P − Aᵀ P B (R + Bᵀ P B)⁻¹ Bᵀ P A + Q = 0:
///
/// xᵀ P x is the least cost Σ xᵀQx + uᵀRu from x on of a control that leads to rest, and
/// u = −(R + BᵀPB)⁻¹ BᵀPA x reaches it. Structured doubling, then corrections as riccati makes
/// them, and as accurate; a singular A is as good as any. Computed in double for float as well. P
/// is exactly symmetric.
///
/// A Kalman filter's predicted covariance is discrete_riccati(Aᵀ, Cᵀ, Q, R).
///
/// @param A (states, states)
/// @param B (states, inputs)
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive definite
/// @throws ShapeError
/// @throws DomainError when Q or R is not symmetric, R not positive definite, A or B not finite
/// @throws ConvergenceError when there is no stabilizing solution that double can tell from none:
///   (A, B) is not stabilizable, or Q leaves a mode on the unit circle unseen
/// Cost: about ten doublings of 10 states³ for each of two or three corrections, ten times as much
/// for the worst conditioned.
template <class DA, class DB, class DQ, class DR>
[[nodiscard]] auto discrete_riccati(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                                    const Eigen::MatrixBase<DQ>& Q,
                                    const Eigen::MatrixBase<DR>& R) {
  return detail::cost_to_go<DA>(
      detail::checked_riccati("discrete_riccati", detail::Time::discrete, A, B, Q, R));
}

}  // namespace ssm
