#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"
#include "ssm/core/error.hpp"
#include "ssm/discretize/matrix_exponential.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// ∫₀¹ e^{sX} Q e^{sXᵀ} ds for a small X, from the power series of φ₁(L) Q with
/// L Q = X Q + Q Xᵀ.
template <class Matrix>
Matrix noise_of_small_step(const Matrix& X, const Matrix& Q) {
  const Index terms = (std::max<Index>)(18, 2 * X.rows());  // 1/19! is below epsilon
  Matrix term = Q, sum = Q;
  for (Index k = 1; k <= terms; ++k) {
    term = multiply(X, term);
    term *= 2 / static_cast<double>(k + 1);
    symmetrize(term);  // X Q + Q Xᵀ is twice the symmetric part of X Q
    double size = 0;
    for (Index i = 0; i < term.size(); ++i) size += std::abs(term.data()[i]);
    if (size == 0) break;
    sum += term;
  }
  return sum;
}

/// ∫₀¹ e^{sA} Q e^{sAᵀ} ds for an A and a symmetric Q.
template <int N>
Eigen::Matrix<double, N, N> noise_in_double(Eigen::Matrix<double, N, N> A,
                                            Eigen::Matrix<double, N, N> Q) {
  using Matrix = Eigen::Matrix<double, N, N>;
  using NoInput = Eigen::Matrix<double, N, 0>;
  const Eigen::Matrix<double, N, 1> scale = balance_in_own_units(A);
  for (Index j = 0; j < Q.cols(); ++j)
    for (Index i = 0; i < Q.rows(); ++i) Q(i, j) /= scale(i) * scale(j);
  const double norm = (std::max)(one_norm(A), one_norm(transposed(A)));
  if (!std::isfinite(norm))
    return Matrix::Constant(A.rows(), A.cols(), std::numeric_limits<double>::quiet_NaN());

  int halvings = 0;
  if (norm > 0.5) halvings = std::ilogb(norm) + 2;
  const double h = std::ldexp(1.0, -halvings);
  A *= h;
  Q *= h;
  Q = noise_of_small_step(A, Q);
  if (halvings > 0) {
    auto parts = exponential_of_balanced(A, NoInput(A.rows(), 0));
    for (int i = 0; i < halvings; ++i) {
      const Matrix E = parts.exponential();
      add_product_to(Q, multiply(E, Q), transposed(E));
      symmetrize(Q);
      if (i + 1 < halvings) parts.double_step();
    }
  }
  scale_both(scale, Q, scale);
  return Q;
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE Eigen::MatrixXd noise_in_double<Eigen::Dynamic>(Eigen::MatrixXd, Eigen::MatrixXd);
#endif

SSM_END_COMPILED

namespace ssm {

/// The covariance that white noise of density Q leaves in the state x' = A x + w after Δ:
///
///   Q_bar = ∫₀^Δ e^{sA} Q e^{sAᵀ} ds,
///
/// which is Van Loan's integral (1978, eq. 1.2). It is taken over Δ/2^s, where it has a short power
/// series, and doubled s times: Q ← Q + E Q Eᵀ, E ← E². Only sums of non-negative matrices occur,
/// so that stiff systems keep their digits where one exponential of [−A Q; 0 Aᵀ] loses them all.
///
/// @param A (states, states), 1/s
/// @param Q (states, states), symmetric, non-negative; unit of x squared a second
/// @param delta Δ, s, ≥ 0
/// @return (states, states), symmetric; unit of x squared
/// @throws ShapeError, and DomainError unless Δ ≥ 0 and finite, or when Q_bar overflows
/// Cost: about 30 + 4 s products of (states, states), s ≈ log₂(Δ‖A‖) + 2; computed in double; no
/// allocation for a fixed size.
template <class DA, class DQ>
[[nodiscard]] auto sampled_noise_covariance(const Eigen::MatrixBase<DA>& A,
                                            const Eigen::MatrixBase<DQ>& Q,
                                            std::type_identity_t<typename DA::Scalar> delta) {
  using T = typename DA::Scalar;
  constexpr int size = DA::RowsAtCompileTime;
  using Matrix = Eigen::Matrix<double, size, size>;
  detail::check_matrix("sampled_noise_covariance", "A", A, A.rows(), A.rows());
  detail::check_matrix("sampled_noise_covariance", "Q", Q, A.rows(), A.rows());
  detail::check_elapsed("sampled_noise_covariance", delta);
  const double h = static_cast<double>(delta);
  const Matrix noise = detail::noise_in_double<size>(Matrix(A.template cast<double>() * h),
                                                     Matrix(Q.template cast<double>() * h));
  const Eigen::Matrix<T, size, size> result = noise.template cast<T>();
  if (!detail::all_finite(result) && A.allFinite() && Q.allFinite()) {
    detail::throw_domain("sampled_noise_covariance", "Q_bar of delta = " + detail::number(h),
                         "not finite", "a delta over which the noise does not overflow");
  }
  return result;
}

}  // namespace ssm
