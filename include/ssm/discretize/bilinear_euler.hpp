#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/discretize/detail/unit_lu.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// Factors shift I + factor A, and throws DomainError when it is singular to working precision:
/// when a pivot is no larger than the rounding of the sums that it came from. `name()` is what the
/// error calls it.
template <class Matrix, class Name>
UnitLu<Matrix> factor_shifted(std::string_view function, const Name& name, const Matrix& A,
                              typename Matrix::Scalar shift, typename Matrix::Scalar factor) {
  using T = typename Matrix::Scalar;
  const Index n = A.rows();
  Matrix sum = factor * A, size = (factor * A).cwiseAbs();
  for (Index k = 0; k < n; ++k) {
    sum(k, k) += shift;
    size(k, k) += std::abs(shift);
  }
  const UnitLu<Matrix> lu(std::move(sum));
  size = lu.scaled(std::move(size));
  lu.inner().permute(size);
  const Matrix& factors = lu.inner().factors();
  for (Index k = 0; k < n; ++k) {
    T scale = size(k, k);
    for (Index j = 0; j < k; ++j) scale += std::abs(factors(k, j) * factors(j, k));
    if (std::abs(factors(k, k)) <= T(n) * std::numeric_limits<T>::epsilon() * scale)
      throw_domain(function, name(), "singular", "invertible");
  }
  return lu;
}

/// The same of I − hA.
template <class Matrix>
UnitLu<Matrix> factor_implicit(std::string_view function, const Matrix& A,
                               typename Matrix::Scalar h) {
  const auto name = [&] { return "I - h A with h = " + detail::number(h); };
  return factor_shifted(function, name, A, typename Matrix::Scalar(1), -h);
}

/// I + h A.
template <class Matrix>
Matrix explicit_step(const Matrix& A, typename Matrix::Scalar h) {
  Matrix result = h * A;
  for (Index k = 0; k < A.rows(); ++k) result(k, k) += typename Matrix::Scalar(1);
  return result;
}

}  // namespace detail

/// The bilinear map of one mode, a_bar = (1 + Δλ/2)/(1 − Δλ/2), B_bar = Δ/(1 − Δλ/2) · B
/// (Gu, Goel & Ré 2022, eq. 3). Infinite at Δλ = 2.
template <Scalar K>
[[nodiscard]] DiscreteMode<K> bilinear(const K& lambda, Real<K> delta) noexcept {
  const K half = lambda * (delta / Real<K>(2));
  const K inverse = K(1) / (K(1) - half);
  return {(K(1) + half) * inverse, delta * inverse};
}

/// The forward Euler map of one mode, a_bar = 1 + Δλ, B_bar = Δ B.
template <Scalar K>
[[nodiscard]] DiscreteMode<K> forward_euler(const K& lambda, Real<K> delta) noexcept {
  return {K(1) + lambda * delta, K(delta)};
}

/// The backward Euler map of one mode, a_bar = 1/(1 − Δλ), B_bar = Δ/(1 − Δλ) · B. Infinite at
/// Δλ = 1.
template <Scalar K>
[[nodiscard]] DiscreteMode<K> backward_euler(const K& lambda, Real<K> delta) noexcept {
  const K inverse = K(1) / (K(1) - lambda * delta);
  return {inverse, delta * inverse};
}

/// The bilinear map of S4 (Gu, Goel & Ré 2022, eq. 3), second order in Δ, stable when A is:
///
///   A_bar = (I − Δ/2 A)⁻¹ (I + Δ/2 A),  B_bar = (I − Δ/2 A)⁻¹ Δ B,  C and D unchanged.
///
/// This is not Tustin's method, which has the same A_bar but other B, C and D.
///
/// @param system A, B, C, D
/// @param delta Δ, s
/// @throws DomainError when I − Δ/2 A is singular, or Δ not positive and finite
/// Cost: one LU of (states) and states + inputs solves.
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, N, M, P> bilinear(const StateSpace<T, N, M, P>& system,
                                                      std::type_identity_t<T> delta) {
  detail::check_sampling("bilinear", delta);
  const auto lu = detail::factor_implicit("bilinear", system.A(), delta / T(2));
  const Eigen::Matrix<T, N, M> input = delta * system.B();
  return {lu.solve(detail::explicit_step(system.A(), delta / T(2))), lu.solve(input), system.C(),
          system.D(), delta};
}

/// Forward Euler, first order in Δ: A_bar = I + ΔA, B_bar = ΔB, C and D unchanged. Stable only
/// when every |1 + Δλ| ≤ 1.
/// @param system A, B, C, D
/// @param delta Δ, s
/// @throws DomainError when Δ is not positive and finite
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, N, M, P> forward_euler(const StateSpace<T, N, M, P>& system,
                                                           std::type_identity_t<T> delta) {
  detail::check_sampling("forward_euler", delta);
  return {detail::explicit_step(system.A(), delta), delta * system.B(), system.C(), system.D(),
          delta};
}

/// Backward Euler, first order in Δ: A_bar = (I − ΔA)⁻¹, B_bar = (I − ΔA)⁻¹ ΔB, C and D
/// unchanged. Stable, and damps fast modes fully, when A is stable.
/// @param system A, B, C, D
/// @param delta Δ, s
/// @throws DomainError when I − ΔA is singular, or Δ not positive and finite
/// Cost: one LU of (states) and states + inputs solves.
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, N, M, P> backward_euler(const StateSpace<T, N, M, P>& system,
                                                            std::type_identity_t<T> delta) {
  using Matrix = Eigen::Matrix<T, N, N>;
  detail::check_sampling("backward_euler", delta);
  const auto lu = detail::factor_implicit("backward_euler", system.A(), delta);
  const Matrix identity = Matrix::Identity(system.states(), system.states());
  const Eigen::Matrix<T, N, M> input = delta * system.B();
  return {lu.solve(identity), lu.solve(input), system.C(), system.D(), delta};
}

}  // namespace ssm
