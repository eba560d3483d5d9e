#pragma once

#include <array>
#include <string>
#include <string_view>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// The state-space form of a linear ordinary differential equation of order k,
///
///   a_k y^(k) + … + a_1 y' + a_0 y = Σ_i Σ_{j ≤ k} b_{ji} u_i^(j),
///
/// with one output y and any number of inputs u_i. With β_0 = b_k / a_k and
/// β_j = (b_{k−j} − Σ_{i<j} a_{k−j+i} β_i) / a_k, the states are x_1 = y − β_0 u and
/// x_{j+1} = x_j' − β_j u, hence
///
///   A = [0 1 0 …; 0 0 1 …; …; −a_0/a_k … −a_{k−1}/a_k],  B = [β_1; …; β_k],
///   C = [1 0 … 0],  D = β_0   (Ogata, Modern Control Engineering, 5th ed., eqs. 2-33 to 2-36).
///
/// When no input is differentiated the states are y, y', …, y^(k−1). High orders are
/// ill-conditioned in this form.
///
/// @param a (k + 1), highest derivative first, as in every other tool: a(0) multiplies y^(k). Zeros
///   before the first that is not 0 are trimmed where the length is not fixed.
/// @param b (1 to k + 1, inputs), highest derivative first: the last row multiplies u, the one
///   above it u'; rows left out are absent, rows of zeros at the top are trimmed
/// @return a system of k states; k is fixed when the length of a is
/// @throws ShapeError when a is empty or b has no row or more than k + 1 (not proper)
/// @throws DomainError when a_k = 0, or a coefficient is not finite
/// Cost: O(k² inputs).
template <class DA, class DB>
[[nodiscard]] auto companion(const Eigen::MatrixBase<DA>& a, const Eigen::MatrixBase<DB>& b) {
  EIGEN_STATIC_ASSERT_VECTOR_ONLY(DA);
  using T = typename DA::Scalar;
  constexpr int size = DA::SizeAtCompileTime;
  using System = StateSpace<T, size == Dynamic ? Dynamic : size - 1, DB::ColsAtCompileTime, 1>;
  constexpr std::string_view function = "companion";

  if (a.size() == 0) detail::throw_shape(function, "a", "(0)", "(order + 1)");
  if (!a.allFinite()) detail::throw_domain(function, "a", "not finite", "finite");
  if (!b.allFinite()) detail::throw_domain(function, "b", "not finite", "finite");
  Index first = 0;
  if constexpr (size == Dynamic)
    while (first + 1 < a.size() && a(first) == T(0)) ++first;
  const Index order = a.size() - 1 - first;
  const auto y_coefficient = [&](Index derivative) { return a(a.size() - 1 - derivative); };
  Index rows = b.rows();
  while (rows > order + 1 && (b.row(b.rows() - rows).array() == T(0)).all()) --rows;
  if (rows == 0 || rows > order + 1)
    detail::throw_shape(function, "b", detail::to_string(std::array<Index, 2>{b.rows(), b.cols()}),
                        "1 to " + std::to_string(order + 1) + " rows");
  const T leading = y_coefficient(order);
  if (leading == T(0)) detail::throw_domain(function, "leading coefficient of a", "0", "not 0");

  typename System::StateMatrix A = System::StateMatrix::Zero(order, order);
  if (order > 1) A.topRightCorner(order - 1, order - 1).setIdentity();
  for (Index j = 0; j < order; ++j) A(order - 1, j) = -y_coefficient(j) / leading;

  typename System::FeedthroughMatrix D = System::FeedthroughMatrix::Zero(1, b.cols());
  typename System::InputMatrix B = System::InputMatrix::Zero(order, b.cols());
  const auto u_coefficient = [&](Index derivative, Index input) {
    return derivative < b.rows() ? b(b.rows() - 1 - derivative, input) : T(0);
  };
  for (Index input = 0; input < b.cols(); ++input) {
    D(0, input) = u_coefficient(order, input) / leading;
    for (Index j = 1; j <= order; ++j) {
      T sum = u_coefficient(order - j, input) - y_coefficient(order - j) * D(0, input);
      for (Index i = 1; i < j; ++i) sum -= y_coefficient(order - j + i) * B(i - 1, input);
      B(j - 1, input) = sum / leading;
    }
  }

  typename System::OutputMatrix C = System::OutputMatrix::Zero(1, order);
  if (order > 0) C(0, 0) = T(1);
  return System(A, B, C, D);
}

/// companion of coefficients with the lowest derivative first: a(j) multiplies y^(j), b(j, i)
/// multiplies u_i^(j).
/// @param a (k + 1), lowest derivative first
/// @param b (1 to k + 1, inputs), lowest derivative first
/// @throws ShapeError, DomainError as companion does
template <class DA, class DB>
[[nodiscard]] auto companion_ascending(const Eigen::MatrixBase<DA>& a,
                                       const Eigen::MatrixBase<DB>& b) {
  return companion(a.reverse(), b.colwise().reverse());
}

}  // namespace ssm
