#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/LU>
#include <Eigen/QR>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "ssm/core/balance.hpp"
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

  /// The gain K of u = −K x for the cost-to-go xᵀ P x.
  [[nodiscard]] Matrix gain(const Matrix& P) const {
    if (time == Time::continuous) return R.llt().solve(B.transpose() * P);
    return (R + B.transpose() * P * B).llt().solve(B.transpose() * P * A);
  }

  /// What P leaves of the equation, relative to the sizes of the factors of its terms: rounding
  /// leaves a few epsilon. A P much larger than its K is known no better than that.
  [[nodiscard]] double residual(const Matrix& P) const {
    const Matrix K = gain(P), PB = P * B;
    const double size = P.norm(), feedback = size * B.norm() * K.norm();
    if (time == Time::continuous) {
      const Matrix linear = A.transpose() * P;
      return (linear + linear.transpose() - PB * K + Q).norm() /
             (2 * A.norm() * size + feedback + Q.norm());
    }
    return (A.transpose() * (P * A - PB * K) - P + Q).norm() /
           (A.norm() * (A.norm() * size + feedback) + size + Q.norm());
  }
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
  for (int i = 0; i < most; ++i) {
    const Matrix inverse = Z.partialPivLu().inverse();
    const double c = std::sqrt(inverse.norm() / Z.norm());
    if (!std::isfinite(c) || !(c > 0)) return std::nullopt;
    const Matrix next = 0.5 * (c * Z + inverse / c);
    const double change = (next - Z).norm();
    const bool settled = change <= 1e-10 * next.norm();
    Z = next;
    if (settled) {
      Matrix left(2 * n, n), right(2 * n, n);
      left << Z.topRightCorner(n, n), Z.bottomRightCorner(n, n) + Matrix::Identity(n, n);
      right << Z.topLeftCorner(n, n) + Matrix::Identity(n, n), Z.bottomLeftCorner(n, n);
      return symmetric_part<Matrix>(-left.householderQr().solve(right));
    }
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

/// A P whose gain stabilizes, near the solution: of the equation itself or, where modes that Q does
/// not see keep its start from stabilizing, of one whose Q sees them all.
template <class Matrix>
Matrix stabilizing_start(std::string_view function, const RiccatiEquation<Matrix>& equation) {
  const auto& [time, A, B, Q, R] = equation;
  const Matrix G = symmetric_part<Matrix>(B * R.llt().solve(B.transpose()));
  const double unit = Q.norm() > 0 ? Q.norm() : 1;
  for (const double extra : {0.0, unit}) {
    const Matrix seen = Q + extra * Matrix::Identity(Q.rows(), Q.rows());
    const std::optional<Matrix> P =
        time == Time::continuous ? riccati_by_sign(A, G, seen) : riccati_by_doubling(A, G, seen);
    if (!P || !P->allFinite()) continue;
    const Matrix closed = A - B * equation.gain(*P);
    if (closed.allFinite() && SchurForm<Matrix>(function, closed).stable(time)) return *P;
  }
  throw_convergence(function, "no stabilizing solution", "found",
                    "(A, B) stabilizable and Q positive semidefinite");
}

/// Newton's iteration until the residual is rounding and shrinks no more: P solves the Lyapunov
/// equation of the last gain's closed loop. Kleinman (1968) for continuous time, Hewer (1971) for
/// discrete time. A P that keeps changing belongs to a closed loop that tends to the boundary of
/// stability.
template <class Matrix>
Matrix refine_riccati(std::string_view function, const RiccatiEquation<Matrix>& equation,
                      Matrix P) {
  constexpr int most = 50;
  const auto& [time, A, B, Q, R] = equation;
  Matrix best = P;
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < most; ++i) {
    const Matrix K = equation.gain(P);
    const Matrix closed = A - B * K;
    if (!closed.allFinite()) break;
    const SchurForm<Matrix> schur(function, closed.transpose());
    if (!schur.stable(time)) break;
    const Matrix next =
        solve_lyapunov(time, schur, symmetric_part<Matrix>(Q + K.transpose() * R * K));
    const bool settled = (next - P).norm() <= 1e-5 * next.norm();
    P = next;
    if (P.isZero(0)) return P;
    const double residual = equation.residual(P);
    if (settled && least <= 1e-12 && !(residual < least / 2)) return residual < least ? P : best;
    if (residual < least) {
      least = residual;
      best = P;
    }
  }
  throw_convergence(function, "the solution", "not reached by Newton's iteration",
                    "no closed-loop pole on the boundary of stability");
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
auto checked_riccati(std::string_view function, Time time, const Eigen::MatrixBase<DA>& A,
                     const Eigen::MatrixBase<DB>& B, const Eigen::MatrixBase<DQ>& Q,
                     const Eigen::MatrixBase<DR>& R) {
  using T = typename DA::Scalar;
  using Matrix = Eigen::MatrixXd;
  constexpr int size = DA::RowsAtCompileTime;
  check_matrix(function, "A", A, A.rows(), A.rows());
  check_matrix(function, "B", B, A.rows(), B.cols());
  check_matrix(function, "Q", Q, A.rows(), A.rows());
  check_matrix(function, "R", R, B.cols(), B.cols());
  check_symmetric(function, "Q", Q);
  check_symmetric(function, "R", R);
  if (!A.allFinite()) throw_domain(function, "A", "not finite", "finite");
  if (!B.allFinite()) throw_domain(function, "B", "not finite", "finite");
  if (A.rows() == 0) return Eigen::Matrix<T, size, size>(A);

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

  Matrix P = refine_riccati(function, equation, stabilizing_start(function, equation));
  P = inverse.asDiagonal() * P * inverse.asDiagonal();
  return Eigen::Matrix<T, size, size>(P.template cast<T>());
}

}  // namespace detail

/// The stabilizing solution P of the continuous algebraic Riccati equation
///
///   Aᵀ P + P A − P B R⁻¹ Bᵀ P + Q = 0:
///
/// xᵀ P x is the least cost ∫ xᵀQx + uᵀRu dt from x on of a control that leads to rest, and
/// u = −R⁻¹Bᵀ P x reaches it. The matrix sign function of the Hamiltonian, then Newton's iteration
/// to rounding. Computed in double for float as well. P is exactly symmetric.
///
/// @param A (states, states), 1/s
/// @param B (states, inputs)
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive definite
/// @throws ShapeError
/// @throws DomainError when Q or R is not symmetric, R not positive definite, A or B not finite
/// @throws ConvergenceError when there is no stabilizing solution: (A, B) is not stabilizable, or Q
///   leaves a mode on the imaginary axis unseen
/// Cost: about ten inverses of (2 states)², then some 100 states³ for each of two or three Newton
/// steps.
template <class DA, class DB, class DQ, class DR>
[[nodiscard]] auto riccati(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                           const Eigen::MatrixBase<DQ>& Q, const Eigen::MatrixBase<DR>& R) {
  return detail::checked_riccati("riccati", detail::Time::continuous, A, B, Q, R);
}

/// The stabilizing solution P of the discrete algebraic Riccati equation
///
///   Aᵀ P A − P − Aᵀ P B (R + Bᵀ P B)⁻¹ Bᵀ P A + Q = 0:
///
/// xᵀ P x is the least cost Σ xᵀQx + uᵀRu from x on of a control that leads to rest, and
/// u = −(R + BᵀPB)⁻¹ BᵀPA x reaches it. Structured doubling, then Newton's iteration to rounding; a
/// singular A is as good as any. Computed in double for float as well. P is exactly symmetric.
///
/// A Kalman filter's predicted covariance is discrete_riccati(Aᵀ, Cᵀ, Q, R).
///
/// @param A (states, states)
/// @param B (states, inputs)
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive definite
/// @throws ShapeError
/// @throws DomainError when Q or R is not symmetric, R not positive definite, A or B not finite
/// @throws ConvergenceError when there is no stabilizing solution: (A, B) is not stabilizable, or Q
///   leaves a mode on the unit circle unseen
/// Cost: about ten doublings of 10 states³, then some 100 states³ for each of two or three Newton
/// steps.
template <class DA, class DB, class DQ, class DR>
[[nodiscard]] auto discrete_riccati(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                                    const Eigen::MatrixBase<DQ>& Q,
                                    const Eigen::MatrixBase<DR>& R) {
  return detail::checked_riccati("discrete_riccati", detail::Time::discrete, A, B, Q, R);
}

}  // namespace ssm
