#pragma once

#include <string>

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
/// @param a (k + 1), a(j) multiplies y^(j)
/// @param b (1 to k + 1, inputs), b(j, i) multiplies u_i^(j); derivatives left out are absent
/// @return a system of k states; k is fixed when the length of a is
/// @throws ShapeError when a is empty or b has more than k + 1 rows (not proper) or none
/// @throws DomainError when a_k = 0
/// Cost: O(k² inputs).
template <class DA, class DB>
[[nodiscard]] auto companion(const Eigen::MatrixBase<DA>& a, const Eigen::MatrixBase<DB>& b) {
  EIGEN_STATIC_ASSERT_VECTOR_ONLY(DA);
  using T = typename DA::Scalar;
  constexpr int size = DA::SizeAtCompileTime;
  using System = StateSpace<T, size == Dynamic ? Dynamic : size - 1, DB::ColsAtCompileTime, 1>;

  if (a.size() == 0) detail::throw_shape("companion", "a", "(0)", "(order + 1)");
  const Index order = a.size() - 1;
  if (b.rows() == 0 || b.rows() > order + 1)
    detail::throw_shape("companion", "b",
                        detail::to_string(std::array<Index, 2>{b.rows(), b.cols()}),
                        "1 to " + std::to_string(order + 1) + " rows");
  const T leading = a(order);
  if (leading == T(0)) detail::throw_domain("companion", "leading coefficient of a", "0", "not 0");

  typename System::StateMatrix A = System::StateMatrix::Zero(order, order);
  if (order > 1) A.topRightCorner(order - 1, order - 1).setIdentity();
  for (Index j = 0; j < order; ++j) A(order - 1, j) = -a(j) / leading;

  typename System::FeedthroughMatrix D = System::FeedthroughMatrix::Zero(1, b.cols());
  typename System::InputMatrix B = System::InputMatrix::Zero(order, b.cols());
  const auto input_coefficient = [&](Index derivative, Index input) {
    return derivative < b.rows() ? b(derivative, input) : T(0);
  };
  for (Index input = 0; input < b.cols(); ++input) {
    D(0, input) = input_coefficient(order, input) / leading;
    for (Index j = 1; j <= order; ++j) {
      T sum = input_coefficient(order - j, input) - a(order - j) * D(0, input);
      for (Index i = 1; i < j; ++i) sum -= a(order - j + i) * B(i - 1, input);
      B(j - 1, input) = sum / leading;
    }
  }

  typename System::OutputMatrix C = System::OutputMatrix::Zero(1, order);
  if (order > 0) C(0, 0) = T(1);
  return System(A, B, C, D);
}

}  // namespace ssm
