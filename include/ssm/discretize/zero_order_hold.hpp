#pragma once

#include <cmath>
#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/discretize/matrix_exponential.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// Replaces A by e^A and B by φ₁(A) B, balanced on the way: the similarity carries B along.
template <int N, int M>
void hold_in_place(Eigen::Matrix<double, N, N>& A, Eigen::Matrix<double, N, M>& B) {
  const Eigen::Matrix<double, N, 1> scale = balance_in_own_units(A);
  for (Index j = 0; j < B.cols(); ++j)
    for (Index i = 0; i < B.rows(); ++i) B(i, j) /= scale(i);
  const auto parts = exponential_of_balanced(A, B);
  A = parts.exponential();
  B = parts.N;
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < A.rows(); ++i) A(i, j) = rescaled(A(i, j), scale(i), scale(j));
  for (Index j = 0; j < B.cols(); ++j)
    for (Index i = 0; i < B.rows(); ++i) B(i, j) *= scale(i);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE void hold_in_place(Eigen::MatrixXd&, Eigen::MatrixXd&);
#endif

SSM_END_COMPILED

namespace ssm {

/// float, double, or their complex numbers.
template <class K>
concept Scalar = std::floating_point<Real<K>>;

/// One discretized mode of a diagonal system: x_t = a_bar x_{t−1} + b_bar_factor · (B u_t).
template <Scalar K>
struct DiscreteMode {
  K a_bar;         ///< what of the state is left after Δ
  K b_bar_factor;  ///< B_bar = b_bar_factor · B; unit s
};

/// Zero-order hold of one mode x' = λ x + B u whose input is constant over the step:
/// a_bar = e^{Δλ}, B_bar = (e^{Δλ} − 1)/λ · B, and Δ·B where Δλ → 0 (Gu & Dao 2023, eq. 4).
///
/// @param lambda λ, 1/s, real or complex
/// @param delta Δ, s
template <Scalar K>
[[nodiscard]] DiscreteMode<K> zero_order_hold(const K& lambda, Real<K> delta) noexcept {
  const K z = lambda * delta;
  return {std::exp(z), delta * phi1(z)};
}

namespace detail {

/// What an input held for a time does to the state.
template <class T, int N, int M>
struct HeldStep {
  Eigen::Matrix<T, N, N> A_bar;
  Eigen::Matrix<T, N, M> B_bar;
};

/// True when every element is finite.
template <class Matrix>
bool all_finite(const Matrix& matrix) {
  for (Index j = 0; j < matrix.cols(); ++j)
    for (Index i = 0; i < matrix.rows(); ++i)
      if (!std::isfinite(matrix(i, j))) return false;
  return true;
}

/// Throws DomainError when a finite system is held to matrices that are not: e^{ΔA} overflows.
template <class T, int N, int M, int P, class... Held>
void check_held(std::string_view function, const StateSpace<T, N, M, P>& system, T delta,
                const Held&... held) {
  if ((all_finite(held) && ...) || !all_finite(system.A()) || !all_finite(system.B())) return;
  throw_domain(function, "e^(delta A) with delta = " + detail::number(delta), "not finite",
               "a delta over which the system does not overflow");
}

/// e^{ΔA} and ∫₀^Δ e^{sA} ds · B of any Δ, 0 among them.
template <class T, int N, int M, int P>
HeldStep<T, N, M> held_step(std::string_view function, const StateSpace<T, N, M, P>& system,
                            T delta) {
  Eigen::Matrix<double, N, N> A = system.A().template cast<double>() * static_cast<double>(delta);
  Eigen::Matrix<double, N, M> B = system.B().template cast<double>() * static_cast<double>(delta);
  hold_in_place(A, B);
  HeldStep<T, N, M> step{A.template cast<T>(), B.template cast<T>()};
  check_held(function, system, delta, step.A_bar, step.B_bar);
  return step;
}

}  // namespace detail

/// Zero-order hold: exact when the input is constant over the step.
///
///   A_bar = e^{ΔA},  B_bar = ∫₀^Δ e^{sA} ds · B,  C and D unchanged,
///
/// read off exp(Δ [A B; 0 0]) = [A_bar B_bar; 0 I] (Van Loan 1978, theorem 1), which needs no A⁻¹:
/// singular and stiff A are as good as any.
///
/// @param delta Δ, s
/// @param system A, B, C, D
/// @throws DomainError when Δ is not positive and finite, or e^{ΔA} overflows
/// Cost: matrix_exponential of (states), with inputs columns more; no allocation for fixed sizes.
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, N, M, P> zero_order_hold(const StateSpace<T, N, M, P>& system,
                                                             std::type_identity_t<T> delta) {
  detail::check_sampling("zero_order_hold", delta);
  const auto step = detail::held_step<T>("zero_order_hold", system, delta);
  return {step.A_bar, step.B_bar, system.C(), system.D(), delta};
}

}  // namespace ssm
