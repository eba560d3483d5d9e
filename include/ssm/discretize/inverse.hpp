#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/discretize/bilinear_euler.hpp"
#include "ssm/discretize/detail/unit_lu.hpp"
#include "ssm/discretize/discretization.hpp"
#include "ssm/discretize/first_order_hold.hpp"
#include "ssm/discretize/matrix_logarithm.hpp"
#include "ssm/discretize/tustin.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// The inverse of map_bilinearly: with G = αA_bar + (1 − α)I, whose inverse is I − αhA.
template <class T, int N, int M, int P>
StateSpace<T, N, M, P> unmap_bilinearly(std::string_view function,
                                        const DiscreteStateSpace<T, N, M, P>& system, T h,
                                        T alpha) {
  const auto name = [&] {
    return "(1 - alpha) I + alpha A_bar with alpha = " + detail::number(alpha);
  };
  const auto lu = factor_shifted(function, name, system.A_bar(), T(1) - alpha, alpha);
  Eigen::Matrix<T, N, N> difference = system.A_bar();
  for (Index k = 0; k < system.states(); ++k) difference(k, k) -= T(1);
  difference /= h;
  const Eigen::Matrix<T, N, M> input = system.B_bar() / h;
  const Eigen::Matrix<T, P, N> C = transposed(lu.solve_transposed(transposed(system.C())));
  Eigen::Matrix<T, P, M> D = multiply(C, system.B_bar());
  D = (system.D() - alpha * D).eval();
  return {lu.solve(difference), lu.solve(input), C, D};
}

/// log(A_bar) in double, and what a hold needs of it.
template <int N>
struct SampledLogarithm {
  using Matrix = Eigen::Matrix<double, N, N>;
  Matrix logarithm, mean;  // ΔA and φ₁(ΔA), which is regular, as every |Im λ| Δ < π

  template <class Derived>
  SampledLogarithm(std::string_view function, const Eigen::MatrixBase<Derived>& A_bar)
      : mean(Matrix::Identity(A_bar.rows(), A_bar.cols())) {
    const RealMatrix wide(A_bar);
    if (!wide.all_finite()) throw_domain(function, "A_bar", "not finite", "finite");
    logarithm =
        to_eigen<Matrix>(principal_logarithm(function, wide, epsilon_of<typename Derived::Scalar>));
    Matrix again = logarithm;
    hold_in_place(again, mean);
  }
};

}  // namespace detail

/// The continuous system that zero-order hold samples into this one:
///
///   A = log(A_bar)/Δ,  B = (∫₀^Δ e^{sA} ds)⁻¹ B_bar,  C and D unchanged.
///
/// Of the many A with that e^{ΔA} it is the one whose modes turn by less than half a turn a step:
/// the system that was sampled above twice its fastest oscillation. The rate of a mode is known as
/// well as its z is: of one that decays below the rounding of A_bar within a step nothing is left,
/// and it is refused.
///
/// @param system A_bar, B_bar, C, D and Δ
/// @throws DomainError when A_bar has an eigenvalue on the closed negative real axis: no real
///   system is sampled so, or it is a mode at the Nyquist frequency; when it has one that is zero
///   to working precision, as of matrix_logarithm; or when it is not finite
/// Cost: matrix_logarithm and a zero-order hold; allocates.
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_zero_order_hold(
    const DiscreteStateSpace<T, N, M, P>& system) {
  const detail::SampledLogarithm<N> log("inverse_zero_order_hold", system.A_bar());
  const double delta = static_cast<double>(system.delta());
  const Eigen::Matrix<double, N, M> B_bar = system.B_bar().template cast<double>() / delta;
  const Eigen::Matrix<double, N, M> B =
      detail::UnitLu<Eigen::Matrix<double, N, N>>(log.mean).solve(B_bar);
  return {(log.logarithm / delta).template cast<T>(), B.template cast<T>(), system.C(), system.D()};
}

/// The continuous system that first-order hold samples into this one:
///
///   A = log(A_bar)/Δ,  B = φ₁(ΔA)⁻² B_bar/Δ,  C unchanged,  D = D_bar − C Δ φ₂(ΔA) B,
///
/// as B_bar = Δ φ₁² B. The choice of A is that of inverse_zero_order_hold.
/// @param system A_bar, B_bar, C, D and Δ
/// @throws DomainError as inverse_zero_order_hold does
/// Cost: that of inverse_zero_order_hold and of ramp_step; allocates.
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_first_order_hold(
    const DiscreteStateSpace<T, N, M, P>& system) {
  const detail::SampledLogarithm<N> log("inverse_first_order_hold", system.A_bar());
  const double delta = static_cast<double>(system.delta());
  const Eigen::Matrix<double, N, M> B_bar = system.B_bar().template cast<double>() / delta;
  const detail::UnitLu<Eigen::Matrix<double, N, N>> mean(log.mean);
  const Eigen::Matrix<double, N, M> B = mean.solve(mean.solve(B_bar));
  const Eigen::Matrix<double, P, N> C = system.C().template cast<double>();
  const StateSpace<double, N, M, P> strictly_proper(log.logarithm / delta, B, C);
  const Eigen::Matrix<double, P, M> ahead =
      detail::multiply(C, ramp_step(strictly_proper, delta).B_end);
  return {strictly_proper.A().template cast<T>(), B.template cast<T>(), system.C(),
          system.D() - ahead.template cast<T>()};
}

/// The continuous system that impulse invariance samples into this one:
///
///   A = log(A_bar)/Δ,  B = A_bar⁻¹ B_bar/Δ,  C unchanged,  D = 0.
///
/// @param system A_bar, B_bar, C, D and Δ
/// @throws DomainError as inverse_zero_order_hold does, and when D_bar is not Δ C B, to the square
///   root of epsilon: no system without feedthrough is sampled so
/// Cost: that of inverse_zero_order_hold; allocates.
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_impulse_invariant(
    const DiscreteStateSpace<T, N, M, P>& system) {
  constexpr std::string_view function = "inverse_impulse_invariant";
  const detail::SampledLogarithm<N> log(function, system.A_bar());
  const double delta = static_cast<double>(system.delta());
  const Eigen::Matrix<double, N, N> A_bar = system.A_bar().template cast<double>();
  const Eigen::Matrix<double, N, M> B_bar = system.B_bar().template cast<double>();
  const Eigen::Matrix<double, N, M> pulse =
      detail::UnitLu<Eigen::Matrix<double, N, N>>(A_bar).solve(B_bar);
  const Eigen::Matrix<double, P, N> C = system.C().template cast<double>();
  const double tolerance = std::sqrt(detail::epsilon_of<T>);
  for (Index i = 0; i < system.outputs(); ++i)
    for (Index j = 0; j < system.inputs(); ++j) {
      double sum = 0, size = 0;
      for (Index k = 0; k < system.states(); ++k) {
        sum += C(i, k) * pulse(k, j);
        size += std::abs(C(i, k) * pulse(k, j));
      }
      const double given = static_cast<double>(system.D()(i, j));
      if (!(std::abs(given - sum) <= tolerance * (std::abs(given) + size)))
        detail::throw_domain(
            function, "D", detail::number(given),
            detail::number(sum) + " = C A_bar^-1 B_bar, as impulse_invariant has it");
    }
  return {(log.logarithm / delta).template cast<T>(), (pulse / delta).template cast<T>(),
          system.C()};
}

/// The continuous system that Tustin's method samples into this one, s = (2/Δ) (z − 1)/(z + 1):
/// inverse_generalized_bilinear with α = 1/2.
///
/// @param system A_bar, B_bar, C, D and Δ
/// @throws DomainError when A_bar has an eigenvalue −1
/// Cost: one LU of (states) and states + inputs + outputs solves.
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_tustin(const DiscreteStateSpace<T, N, M, P>& system) {
  return detail::unmap_bilinearly("inverse_tustin", system, system.delta(), T(0.5));
}

/// The same for Tustin's method prewarped at ω: Δ' = 2 tan(ωΔ/2)/ω takes the place of Δ.
/// @param system A_bar, B_bar, C, D and Δ
/// @param frequency ω, rad/s, with 0 ≤ ωΔ < π
/// @throws DomainError when ωΔ is outside [0, π) or A_bar has an eigenvalue −1
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_tustin(const DiscreteStateSpace<T, N, M, P>& system,
                                                    std::type_identity_t<T> frequency) {
  const T h = detail::prewarped_step<T>("inverse_tustin", system.delta(), frequency);
  return detail::unmap_bilinearly("inverse_tustin", system, h, T(0.5));
}

/// The continuous system that generalized_bilinear samples into this one,
/// s = (z − 1)/(Δ (α z + 1 − α)): with G = α A_bar + (1 − α) I,
///
///   A = G⁻¹ (A_bar − I)/Δ,  B = G⁻¹ B_bar/Δ,  C = C_bar G⁻¹,  D = D_bar − α C B_bar.
///
/// @param system A_bar, B_bar, C, D and Δ
/// @param alpha α, in [0, 1]
/// @throws DomainError when α is outside [0, 1] or G is singular
/// Cost: one LU of (states) and states + inputs + outputs solves.
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_generalized_bilinear(
    const DiscreteStateSpace<T, N, M, P>& system, std::type_identity_t<T> alpha) {
  if (!(alpha >= T(0) && alpha <= T(1)))
    detail::throw_domain("inverse_generalized_bilinear", "alpha", detail::number(alpha),
                         "in [0, 1]");
  return detail::unmap_bilinearly("inverse_generalized_bilinear", system, system.delta(), alpha);
}

/// The continuous system that S4's bilinear map samples into this one:
///
///   A = 2/Δ G⁻¹ (A_bar − I),  B = 2/Δ G⁻¹ B_bar,  G = I + A_bar,  C and D unchanged.
///
/// @param system A_bar, B_bar, C, D and Δ
/// @throws DomainError when A_bar has an eigenvalue −1
/// Cost: that of inverse_tustin.
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_bilinear(
    const DiscreteStateSpace<T, N, M, P>& system) {
  const auto mapped = detail::unmap_bilinearly("inverse_bilinear", system, system.delta(), T(0.5));
  return {mapped.A(), mapped.B(), system.C(), system.D()};
}

/// The continuous system that forward Euler samples into this one: A = (A_bar − I)/Δ,
/// B = B_bar/Δ, C and D unchanged.
/// @param system A_bar, B_bar, C, D and Δ
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_forward_euler(
    const DiscreteStateSpace<T, N, M, P>& system) {
  Eigen::Matrix<T, N, N> A = system.A_bar();
  for (Index k = 0; k < system.states(); ++k) A(k, k) -= T(1);
  return {A / system.delta(), system.B_bar() / system.delta(), system.C(), system.D()};
}

/// The continuous system that backward Euler samples into this one: A = A_bar⁻¹ (A_bar − I)/Δ,
/// B = A_bar⁻¹ B_bar/Δ, C and D unchanged.
/// @param system A_bar, B_bar, C, D and Δ
/// @throws DomainError when A_bar is singular
/// Cost: that of inverse_tustin.
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_backward_euler(
    const DiscreteStateSpace<T, N, M, P>& system) {
  const auto mapped =
      detail::unmap_bilinearly("inverse_backward_euler", system, system.delta(), T(1));
  return {mapped.A(), mapped.B(), system.C(), system.D()};
}

/// The continuous system that `discretize(method, …)` samples into this one, with the errors of the
/// inverse of that name.
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, N, M, P> inverse_discretize(
    Discretization method, const DiscreteStateSpace<T, N, M, P>& system) {
  switch (method) {
    case Discretization::first_order_hold:
      return inverse_first_order_hold(system);
    case Discretization::impulse_invariant:
      return inverse_impulse_invariant(system);
    case Discretization::tustin:
      return inverse_tustin(system);
    case Discretization::bilinear:
      return inverse_bilinear(system);
    case Discretization::forward_euler:
      return inverse_forward_euler(system);
    case Discretization::backward_euler:
      return inverse_backward_euler(system);
    default:
      return inverse_zero_order_hold(system);
  }
}

}  // namespace ssm
