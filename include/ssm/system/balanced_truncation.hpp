#pragma once

#include <Eigen/Core>
#include <Eigen/SVD>
#include <limits>
#include <string>

#include "ssm/core/error.hpp"
#include "ssm/system/gramian.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// The Hankel singular values σ_1 ≥ σ_2 ≥ … of a stable system: the roots of the eigenvalues of its
/// two gramians' product. σ_i tells how much the i-th balanced state carries from input to output.
///
/// @return (states), the singular values of the product of the gramians' factors
/// @throws DomainError when the system is unstable or not finite
/// Cost: about 120 states³.
template <LinearSystem System>
[[nodiscard]] auto hankel_singular_values(const System& system) {
  constexpr std::string_view function = "hankel_singular_values";
  if (system.states() == 0) return typename System::StateVector(system.states());
  const Eigen::MatrixXd product = detail::observability_factor(function, system).transpose() *
                                  detail::controllability_factor(function, system);
  const Eigen::VectorXd values = Eigen::JacobiSVD<Eigen::MatrixXd>(product).singularValues();
  return typename System::StateVector(values.template cast<typename System::Scalar>());
}

/// The stable system of fewer states that balanced truncation leaves: in coordinates where both
/// gramians are diag(σ), the first `order` states. The frequency response G changes by no more than
///
///   |G(iω) − G_r(iω)| ≤ 2 (σ_{order+1} + … + σ_states)   at every ω
///
/// (Glover 1984, theorem 9.6), and the same on the unit circle in discrete time, whether the output
/// is read before the step or after. The square-root method of Tombs & Postlethwaite (1987).
/// Computed in double for float as well.
///
/// @param order states to keep, at most those that carry anything: σ above rounding
/// @return a system of `order` states, balanced, with the step of the given one
/// @throws DomainError when the system is unstable or not finite (split off its unstable part
///   first), or order is negative or too large
/// Cost: about 120 states³.
template <LinearSystem System>
[[nodiscard]] auto balanced_truncation(const System& system, Index order) {
  using Matrix = Eigen::MatrixXd;
  using Traits = detail::SystemTraits<System>;
  constexpr std::string_view function = "balanced_truncation";
  if (system.states() == 0 && order == 0)
    return detail::system_like<Dynamic, Traits::inputs, Traits::outputs>(
        system, detail::state_matrix(system), detail::input_matrix(system), system.C(), system.D());
  const Matrix L = detail::controllability_factor(function, system);
  const Matrix M = detail::observability_factor(function, system);
  const Eigen::JacobiSVD<Matrix> svd(M.transpose() * L, Eigen::ComputeFullU | Eigen::ComputeFullV);
  const Eigen::VectorXd& sigma = svd.singularValues();
  const double rounding = static_cast<double>(system.states()) *
                          std::numeric_limits<double>::epsilon() *
                          (sigma.size() > 0 ? sigma(0) : 0.0);
  const Index most = (sigma.array() > rounding).count();
  if (order < 0 || order > most)
    detail::throw_domain(function, "order", std::to_string(order), "0 to " + std::to_string(most));

  const Eigen::VectorXd root = sigma.head(order).cwiseSqrt().cwiseInverse();
  const Matrix T = L * svd.matrixV().leftCols(order) * root.asDiagonal();
  const Matrix T_inverse =
      root.asDiagonal() * svd.matrixU().leftCols(order).transpose() * M.transpose();
  const Matrix A = T_inverse * detail::state_matrix(system).template cast<double>() * T;
  const Matrix B = T_inverse * detail::input_matrix(system).template cast<double>();
  const Matrix C = system.C().template cast<double>() * T;
  return detail::system_like<Dynamic, Traits::inputs, Traits::outputs>(system, A, B, C, system.D());
}

}  // namespace ssm
