#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "ssm/core/detail/dense_algebra.hpp"
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
  const auto product = detail::observability_factor(function, system).transpose() *
                       detail::controllability_factor(function, system);
  return detail::to_eigen<typename System::StateVector>(detail::singular_values(product).sigma);
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
/// @param system continuous or discrete
/// @param order states to keep, at most those that carry anything: σ above rounding
/// @return a system of `order` states, balanced, with the step of the given one
/// @throws DomainError when the system is unstable or not finite (split off its unstable part
///   first), or order is negative or too large
/// Cost: about 120 states³.
template <LinearSystem System>
[[nodiscard]] auto balanced_truncation(const System& system, Index order) {
  using detail::RealMatrix;
  using Traits = detail::SystemTraits<System>;
  using Result = typename Traits::template Resized<Dynamic, Traits::inputs, Traits::outputs>;
  constexpr std::string_view function = "balanced_truncation";
  const RealMatrix L = detail::controllability_factor(function, system);
  const RealMatrix M = detail::observability_factor(function, system);
  const detail::SingularValues svd = detail::singular_values(M.transpose() * L);
  Index most = 0;
  for (const double sigma : svd.sigma)
    if (sigma > static_cast<double>(system.states()) * detail::epsilon_of<double> * svd.sigma(0))
      ++most;
  if (order < 0 || order > most)
    detail::throw_domain(function, "order", std::to_string(order), "0 to " + std::to_string(most));

  detail::RealVector root(order), root_cubed(order);  // σ^(−1/2) and σ^(−3/2), as W = U σ
  for (Index i = 0; i < order; ++i) {
    root(i) = 1 / std::sqrt(svd.sigma(i));
    root_cubed(i) = root(i) / svd.sigma(i);
  }
  const Index states = system.states();
  const RealMatrix T = scale_columns(L * svd.V.block(0, 0, states, order), root);
  const RealMatrix T_inverse =
      scale_rows(root_cubed, svd.W.block(0, 0, states, order).transpose() * M.transpose());
  const RealMatrix A = T_inverse * RealMatrix(detail::state_matrix(system)) * T;
  const RealMatrix B = T_inverse * RealMatrix(detail::input_matrix(system));
  const RealMatrix C = RealMatrix(system.C()) * T;
  return detail::system_like<Dynamic, Traits::inputs, Traits::outputs>(
      system, detail::to_eigen<typename Result::StateMatrix>(A),
      detail::to_eigen<typename Result::InputMatrix>(B),
      detail::to_eigen<typename Result::OutputMatrix>(C), system.D());
}

}  // namespace ssm
