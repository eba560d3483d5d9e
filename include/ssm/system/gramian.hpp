#pragma once

#include <Eigen/Core>
#include <Eigen/QR>
#include <cmath>
#include <complex>
#include <string_view>

#include "ssm/core/error.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// The upper triangular U for which X = U U* solves T X + X T* + B B* = 0 or T X T* − X + B B* = 0,
/// T upper triangular and stable, last column first, without ever forming B B*: Hammarling (1982),
/// in the form of Sorensen & Zhou (2003), section 4.
template <class Complex>
Complex hammarling(Time time, const Complex& T, Complex B) {
  using Vector = Eigen::VectorXcd;
  Complex U = Complex::Zero(T.rows(), T.rows());
  for (Index j = T.rows() - 1; j >= 0; --j) {
    const double size = B.row(j).norm();
    if (!(size > 0)) continue;
    const std::complex<double> lambda = T(j, j);
    const double modulus = std::abs(lambda);
    const double decay = time == Time::continuous ? std::sqrt(-2 * lambda.real())
                                                  : std::sqrt((1 - modulus) * (1 + modulus));
    const double tau = size / decay;
    U(j, j) = tau;
    if (j == 0) break;
    const Eigen::RowVectorXcd b = B.row(j) / size;
    const Vector along = B.topRows(j) * b.adjoint();
    const Vector above = T.col(j).head(j) * tau;
    Complex triangle = T.topLeftCorner(j, j);
    Vector u, change;  // of the rows above, in the direction of b
    if (time == Time::continuous) {
      triangle.diagonal().array() += std::conj(lambda);
      u = triangle.template triangularView<Eigen::Upper>().solve(-above - along * decay);
      change = -decay * u;
    } else {
      triangle *= -std::conj(lambda);
      triangle.diagonal().array() += 1.0;
      u = triangle.template triangularView<Eigen::Upper>().solve(above * std::conj(lambda) +
                                                                 along * decay);
      change = decay * (T.topLeftCorner(j, j) * u + above) - (lambda + 1.0) * along;
    }
    U.col(j).head(j) = u;
    B.topRows(j) += change * b;
  }
  return U;
}

/// A real L with L Lᵀ = X, A X + X Aᵀ + B Bᵀ = 0 or A X Aᵀ − X + B Bᵀ = 0.
template <class Matrix>
Matrix gramian_factor(std::string_view function, Time time, const Matrix& A, const Matrix& B) {
  const Index n = A.rows();
  if (n == 0) return A;
  const SchurForm<Matrix> schur(function, A);
  if (!schur.stable(time)) throw_domain(function, "the system", "unstable", "stable");
  const Matrix scaled = schur.scale().cwiseInverse().asDiagonal() * B;
  const Eigen::MatrixXcd turned =
      schur.U().adjoint() * scaled.template cast<std::complex<double>>();
  const Eigen::MatrixXcd W = schur.U() * hammarling(time, schur.T(), turned);
  Matrix stacked(2 * n, n);  // X = Re W Re Wᵀ + Im W Im Wᵀ, as it is real
  stacked << W.real().transpose(), W.imag().transpose();
  const Matrix R = Eigen::HouseholderQR<Matrix>(stacked).matrixQR().topRows(n);
  Matrix L = R.template triangularView<Eigen::Upper>().transpose();
  return schur.scale().asDiagonal() * L;
}

template <LinearSystem System>
Eigen::MatrixXd controllability_factor(std::string_view function, const System& system) {
  return gramian_factor<Eigen::MatrixXd>(function, SystemTraits<System>::time,
                                         state_matrix(system).template cast<double>(),
                                         input_matrix(system).template cast<double>());
}

template <LinearSystem System>
Eigen::MatrixXd observability_factor(std::string_view function, const System& system) {
  return gramian_factor<Eigen::MatrixXd>(function, SystemTraits<System>::time,
                                         state_matrix(system).template cast<double>().transpose(),
                                         system.C().template cast<double>().transpose());
}

}  // namespace detail

/// The controllability gramian of a stable system,
///
///   W = ∫₀^∞ e^{tA} B Bᵀ e^{tAᵀ} dt,  or in discrete time  W = Σ_k A_bar^k B_bar B_barᵀ
///   (A_barᵀ)^k:
///
/// xᵀ W⁻¹ x is the least energy ∫ uᵀu of an input that takes the state from rest to x. By
/// Hammarling's method, so that W is positive semidefinite whatever the rounding. Computed in
/// double for float as well.
///
/// @throws DomainError when the system is unstable or not finite
/// Cost: about 50 states³.
template <LinearSystem System>
[[nodiscard]] typename System::StateMatrix controllability_gramian(const System& system) {
  const Eigen::MatrixXd L = detail::controllability_factor("controllability_gramian", system);
  return (L * L.transpose()).template cast<typename System::Scalar>();
}

/// The observability gramian of a stable system,
///
///   W = ∫₀^∞ e^{tAᵀ} Cᵀ C e^{tA} dt,  or in discrete time  W = Σ_k (A_barᵀ)^k Cᵀ C A_bar^k:
///
/// xᵀ W x is the energy ∫ yᵀy of the output that follows from x when the input rests. Computed as
/// controllability_gramian is.
///
/// @throws DomainError when the system is unstable or not finite
/// Cost: about 50 states³.
template <LinearSystem System>
[[nodiscard]] typename System::StateMatrix observability_gramian(const System& system) {
  const Eigen::MatrixXd L = detail::observability_factor("observability_gramian", system);
  return (L * L.transpose()).template cast<typename System::Scalar>();
}

}  // namespace ssm
