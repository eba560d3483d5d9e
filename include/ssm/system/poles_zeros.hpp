#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <Eigen/QR>
#include <cmath>
#include <complex>
#include <limits>
#include <string_view>
#include <vector>

#include "ssm/core/balance.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

template <class Matrix>
Eigen::VectorXcd eigenvalues_of(std::string_view function, Matrix A) {
  if (!A.allFinite()) throw_domain(function, "A", "not finite", "finite");
  if (A.rows() == 0) return {};
  balance(A);
  const Eigen::EigenSolver<Matrix> solver(A, false);
  if (solver.info() != Eigen::Success)
    throw_convergence(function, "the Schur form of A", "not found", "one");
  return solver.eigenvalues();
}

/// The matrices of C (λI − A)⁻¹ B + D in double. A discrete system read after its step answers
/// z C (zI − A_bar)⁻¹ B_bar + D, which is C A_bar (zI − A_bar)⁻¹ B_bar + C B_bar + D.
template <class Matrix>
struct Quadruple {
  Matrix A, B, C, D;

  Quadruple() = default;
  template <LinearSystem System>
  Quadruple(const System& system, Readout readout)
      : A(state_matrix(system).template cast<double>()),
        B(input_matrix(system).template cast<double>()),
        C(system.C().template cast<double>()),
        D(system.D().template cast<double>()) {
    if (is_discrete<System> && readout == Readout::after) {
      D += C * B;
      C = (C * A).eval();
    }
  }
};

/// Drops outputs and states until D has full row rank, keeping the finite zeros: Emami-Naeini &
/// Van Dooren (1982), algorithm REDUCE.
template <class Matrix>
void reduce_to_full_row_rank(Quadruple<Matrix>& q, double tolerance) {
  const auto rank_of = [&](const Eigen::ColPivHouseholderQR<Matrix>& qr) {
    return (qr.matrixQR().diagonal().array().abs() > tolerance).count();
  };
  while (q.D.rows() > 0) {
    const Index p = q.D.rows(), n = q.A.rows();
    Index rank = 0;
    if (q.D.cols() > 0) {
      const Eigen::ColPivHouseholderQR<Matrix> rows(q.D);
      rank = rank_of(rows);
      q.D = (rows.householderQ().transpose() * q.D).eval();
      q.C = (rows.householderQ().transpose() * q.C).eval();
    }
    if (rank == p) return;
    const Matrix unfed = q.C.bottomRows(p - rank);  // outputs that no input reaches at once
    q.C = q.C.topRows(rank).eval();
    q.D = q.D.topRows(rank).eval();
    if (n == 0) return;
    const Eigen::ColPivHouseholderQR<Matrix> columns(unfed.transpose());
    const Index seen = rank_of(columns);
    if (seen == 0) return;
    const Matrix V = columns.householderQ();  // the first `seen` of its states are what they show
    const Matrix A = V.transpose() * q.A * V, B = V.transpose() * q.B, C = q.C * V;
    const Index rest = n - seen;
    q.A = A.bottomRightCorner(rest, rest);
    q.B = B.bottomRows(rest);
    Matrix C_next(rank + seen, rest), D_next(rank + seen, q.D.cols());
    C_next << C.rightCols(rest), A.topRightCorner(seen, rest);
    D_next << q.D, B.topRows(seen);
    q.C = C_next;
    q.D = D_next;
  }
}

template <class Matrix>
Quadruple<Matrix> transposed(const Quadruple<Matrix>& q) {
  Quadruple<Matrix> result;
  result.A = q.A.transpose();
  result.B = q.C.transpose();
  result.C = q.B.transpose();
  result.D = q.D.transpose();
  return result;
}

/// The finite λ at which [A − λI, B; C, D] loses rank.
template <class Matrix>
Eigen::VectorXcd zeros_of(std::string_view function, Quadruple<Matrix> q) {
  if (!q.A.allFinite() || !q.B.allFinite() || !q.C.allFinite() || !q.D.allFinite())
    throw_domain(function, "the system", "not finite", "finite");
  // Neither units of states nor of inputs and outputs move a zero.
  const Eigen::VectorXd scale = balance(q.A);
  q.B = scale.cwiseInverse().asDiagonal() * q.B;
  q.C = q.C * scale.asDiagonal();
  const double size = q.A.norm() > 0 ? q.A.norm() : 1;
  for (Index j = 0; j < q.B.cols(); ++j) {
    const double norm = std::hypot(q.B.col(j).norm(), q.D.col(j).norm()) / size;
    if (!(norm > 0)) continue;
    q.B.col(j) /= norm;
    q.D.col(j) /= norm;
  }
  for (Index i = 0; i < q.C.rows(); ++i) {
    const double norm = std::hypot(q.C.row(i).norm(), q.D.row(i).norm()) / size;
    if (!(norm > 0)) continue;
    q.C.row(i) /= norm;
    q.D.row(i) /= norm;
  }
  const double tolerance =
      10 * static_cast<double>(q.A.rows() + 1) * std::numeric_limits<double>::epsilon() * size;
  reduce_to_full_row_rank(q, tolerance);
  q = transposed(q);
  reduce_to_full_row_rank(q, tolerance);
  const Index n = q.A.rows(), m = q.D.rows();
  if (n == 0) return {};
  if (m == 0) return eigenvalues_of(function, q.A);

  // [C D] W = [0 R] leaves the pencil A_f − λ B_f, in which no D is inverted.
  Matrix outputs(n + m, m);
  outputs << q.C.transpose(), q.D.transpose();
  const Matrix W = Eigen::HouseholderQR<Matrix>(outputs).householderQ();
  Matrix states(n, n + m);
  states << q.A, q.B;
  const Matrix A_f = states * W.rightCols(n), B_f = W.topRightCorner(n, n);
  const Eigen::GeneralizedEigenSolver<Matrix> pencil(A_f, B_f, false);
  if (pencil.info() != Eigen::Success)
    throw_convergence(function, "the Schur form of the pencil", "not found", "one");
  return pencil.eigenvalues();
}

}  // namespace detail

/// One pole of a system and what it means in time.
template <std::floating_point T>
struct Mode {
  std::complex<T> pole;  ///< λ, 1/s, or in discrete time its z
  T natural_frequency;   ///< ω_n = |λ|, rad/s
  T damping_ratio;       ///< ζ = −Re λ / |λ|; 1 for λ = 0
  T time_constant;       ///< τ = −1 / Re λ, s: negative for a mode that grows, else infinite
};

/// The poles of a system: the eigenvalues of A or A_bar, complex ones as neighbours of their exact
/// conjugates.
///
/// @return (states), 1/s for a continuous system
/// @throws DomainError when A is not finite
/// Cost: about 10 states³. Computed in double for float as well.
template <LinearSystem System>
[[nodiscard]] auto poles(const System& system) {
  using T = typename System::Scalar;
  const Eigen::MatrixXd A = detail::state_matrix(system).template cast<double>();
  return Eigen::Matrix<std::complex<T>, detail::SystemTraits<System>::states, 1>(
      detail::eigenvalues_of("poles", A).template cast<std::complex<T>>());
}

/// The finite invariant zeros of a system of any number of inputs and outputs: where
///
///   [A − λI, B; C, D]
///
/// has less than its usual rank: the transmission zeros and, where there are as many inputs as
/// outputs, the modes that inputs do not reach or outputs do not show. Read by Readout::after, C
/// and D are C A_bar and D + C B_bar, whose zeros at 0 belong to the factor z.
///
/// Reduced to a pencil of full rank without infinite zeros (Emami-Naeini & Van Dooren 1982), then a
/// generalized eigenvalue problem; no polynomial is formed. Computed in double for float as well.
///
/// @param readout of a discrete system; a continuous one has none
/// @return as many as there are, at most states of them
/// @throws DomainError when the system is not finite
/// Cost: about 50 states³.
template <LinearSystem System>
[[nodiscard]] auto zeros(const System& system, Readout readout = Readout::before) {
  using T = typename System::Scalar;
  const detail::Quadruple<Eigen::MatrixXd> quadruple(system, readout);
  return Eigen::Matrix<std::complex<T>, Eigen::Dynamic, 1>(
      detail::zeros_of("zeros", quadruple).template cast<std::complex<T>>());
}

/// True when every pole decays by more than rounding: Re λ < 0, or |z| < 1 in discrete time.
/// @throws DomainError when A is not finite
template <LinearSystem System>
[[nodiscard]] bool is_stable(const System& system) {
  const Eigen::MatrixXd A = detail::state_matrix(system).template cast<double>();
  return detail::SchurForm<Eigen::MatrixXd>("is_stable", A)
      .stable(detail::SystemTraits<System>::time);
}

/// What a constant input becomes in the end: D − C A⁻¹ B, or C (I − A_bar)⁻¹ B_bar + D, whether the
/// output is read before the step or after.
///
/// @return (outputs, inputs)
/// @throws DomainError when a pole lies at λ = 0 or z = 1 to working precision: the system
///   integrates
template <LinearSystem System>
[[nodiscard]] typename System::FeedthroughMatrix dc_gain(const System& system) {
  using Matrix = Eigen::MatrixXd;
  const Matrix A = detail::state_matrix(system).template cast<double>();
  const Matrix B = detail::input_matrix(system).template cast<double>();
  if (system.states() == 0) return system.D();
  const detail::SchurForm<Matrix> schur("dc_gain", A);
  const double still = detail::is_discrete<System> ? 1 : 0;
  for (const std::complex<double>& lambda : schur.T().diagonal())
    if (!(std::abs(still - lambda) > schur.error()))
      detail::throw_domain("dc_gain", "a pole", "at rest", "no integrator");
  const Eigen::PartialPivLU<Matrix> lu(still * Matrix::Identity(A.rows(), A.rows()) - A);
  const Matrix gain =
      system.C().template cast<double>() * lu.solve(B) + system.D().template cast<double>();
  return gain.template cast<typename System::Scalar>();
}

/// Natural frequency, damping ratio and time constant of every pole, in the order of poles. A
/// discrete pole z counts as λ = ln z / Δ.
/// @throws DomainError when A is not finite
template <LinearSystem System>
[[nodiscard]] std::vector<Mode<typename System::Scalar>> damping(const System& system) {
  using T = typename System::Scalar;
  std::vector<Mode<T>> modes;
  for (const std::complex<T>& pole : poles(system)) {
    std::complex<T> lambda = pole;
    if constexpr (detail::is_discrete<System>) lambda = std::log(pole) / system.delta();
    const T frequency = std::abs(lambda);
    const T ratio = std::isinf(frequency) || frequency == T(0) ? T(1) : -lambda.real() / frequency;
    const T rate = lambda.real() == T(0) ? T(0) : -lambda.real();
    modes.push_back({pole, frequency, ratio, T(1) / rate});
  }
  return modes;
}

}  // namespace ssm
