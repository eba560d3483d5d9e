#pragma once

#include <cmath>
#include <concepts>
#include <limits>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"
#include "ssm/estimate/kalman.hpp"

namespace ssm {

/// A belief that keeps a factor L of its covariance P = L Lᵀ instead of P. Deviations span half the
/// decades of variances: in double it is honest where readings are 10²⁴ times as sure as what was
/// known before, and in float, which is all that it computes in for float, 10¹². Its verbs are
/// those of Belief: kalman_predict, kalman_correct, kalman_update.
template <std::floating_point T, int States = Dynamic>
struct SquareRootBelief {
  /// (states).
  using Mean = Eigen::Matrix<T, States, 1>;
  /// (states, states).
  using Factor = Eigen::Matrix<T, States, States>;

  Mean mean;      ///< (states)
  Factor factor;  ///< L (states, states), lower triangular

  /// P = L Lᵀ (states, states), in double.
  [[nodiscard]] Eigen::Matrix<double, States, States> covariance() const {
    const Eigen::Matrix<double, States, States>& L = detail::in_double(factor);
    return detail::multiply(L, detail::transposed(L));
  }
};

namespace detail {

template <class T, int N>
void check_belief(std::string_view function, std::string_view argument,
                  const SquareRootBelief<T, N>& belief, Index states) {
  check_dynamic(function, argument, belief.mean, states, 1);
  check_dynamic(function, argument, belief.factor, states, states);
}

/// A lower triangular L with L Lᵀ = P for a P that may be singular; NaN for one that is indefinite.
template <class Matrix>
Matrix semidefinite_factor(Matrix P) {
  using T = typename Matrix::Scalar;
  const Index n = P.rows();
  const T rounding = T(4) * std::numeric_limits<T>::epsilon() * static_cast<T>(n);
  for (Index j = 0; j < n; ++j) {
    const T least = rounding * P(j, j);
    T d = P(j, j);
    for (Index k = 0; k < j; ++k) d -= P(j, k) * P(j, k);
    const bool zero = d <= least && d >= -least;
    P(j, j) = zero ? T(0) : std::sqrt(d);
    for (Index i = j + 1; i < n; ++i) {
      T rest = P(i, j);
      for (Index k = 0; k < j; ++k) rest -= P(i, k) * P(j, k);
      P(i, j) = zero ? T(0) : rest / P(j, j);
    }
    for (Index k = j + 1; k < n; ++k) P(j, k) = T(0);
  }
  return P;
}

/// The length of row i from column `from` on.
template <class Matrix>
typename Matrix::Scalar rest_of_row(const Matrix& M, Index i, Index from) {
  using T = typename Matrix::Scalar;
  T largest(0);
  for (Index k = from; k < M.cols(); ++k) largest = (std::max)(largest, std::abs(M(i, k)));
  if (!(largest > T(0))) return T(0);
  T sum(0);
  for (Index k = from; k < M.cols(); ++k) sum += (M(i, k) / largest) * (M(i, k) / largest);
  return largest * std::sqrt(sum);
}

/// Turns the columns of M from `at` on, which leaves M Mᵀ as it is, so that of row i only column
/// `at` is left, and is not negative; the rows above have nothing there. Householder's reflection.
template <class Matrix>
void turn_into_column(Matrix& M, Index i, Index at) {
  using T = typename Matrix::Scalar;
  const T length = rest_of_row(M, i, at);
  if (length == T(0)) return;
  const T head = M(i, at) / length, beta = head >= T(0) ? T(-1) : T(1);
  const T factor = (beta - head) / beta;  // of I − factor v vᵀ, v(at) = 1
  const T divisor = (head - beta) * length;
  for (Index k = at + 1; k < M.cols(); ++k) M(i, k) /= divisor;
  for (Index r = i + 1; r < M.rows(); ++r) {
    T sum = M(r, at);
    for (Index k = at + 1; k < M.cols(); ++k) sum += M(i, k) * M(r, k);
    sum *= factor;
    M(r, at) -= sum;
    for (Index k = at + 1; k < M.cols(); ++k) M(r, k) -= sum * M(i, k);
    M(r, at) *= beta;
  }
  M(i, at) = length;
  for (Index k = at + 1; k < M.cols(); ++k) M(i, k) = T(0);
}

}  // namespace detail

/// A belief of this mean and covariance.
///
/// @param mean (states)
/// @param covariance (states, states), symmetric, positive semidefinite; of the same type, or
/// double
/// @throws ShapeError
/// @throws DomainError when the covariance is none
template <class DM, class DP>
[[nodiscard]] auto square_root_belief(const Eigen::MatrixBase<DM>& mean,
                                      const Eigen::MatrixBase<DP>& covariance) {
  using T = typename DM::Scalar;
  constexpr int size = DM::RowsAtCompileTime;
  detail::check_matrix("square_root_belief", "covariance", covariance, mean.size(), mean.size());
  const Eigen::Matrix<typename DP::Scalar, size, size> P = covariance;
  detail::check_covariance("square_root_belief", "covariance", P);
  return SquareRootBelief<T, size>{mean, detail::semidefinite_factor(P).template cast<T>()};
}

/// Carries a belief over a step: mean ← A_bar mean + B_bar u, and L becomes that of [A_bar L,
/// √Q_bar] turned into a triangle (Kailath, Sayed & Hassibi, Linear Estimation, section 12.3). No
/// allocation, no lock, no exception for fixed sizes.
///
/// @param step A_bar, B_bar and Q_bar
/// @param input u (inputs), constant over the step; a number for one input
/// @param belief before the step, and after it
/// @throws ShapeError for dynamic sizes
/// Cost: a product and two thirds of a QR factorisation of (2 states, states).
template <class T, int N, int M>
void kalman_predict(const NoisyStep<T, N, M>& step,
                    const std::type_identity_t<detail::VectorArgument<T, M>>& input,
                    SquareRootBelief<T, N>& belief) noexcept(N != Dynamic && M != Dynamic) {
  const auto u = input.vector();
  constexpr std::string_view name = "kalman_predict";
  const Index n = step.A_bar.rows(), inputs = step.B_bar.cols();
  detail::check_dynamic(name, "A_bar", step.A_bar, n, n);
  detail::check_dynamic(name, "B_bar", step.B_bar, n, inputs);
  detail::check_dynamic(name, "Q_bar", step.Q_bar, n, n);
  detail::check_dynamic(name, "u", u, inputs, 1);
  detail::check_belief(name, "belief", belief, n);
  Eigen::Matrix<T, N, 1> mean = detail::multiply(step.A_bar, belief.mean);
  detail::add_product_to(mean, step.B_bar, u);
  belief.mean = mean;
  const Eigen::Matrix<T, N, N> moved = detail::multiply(step.A_bar, belief.factor);
  const Eigen::Matrix<T, N, N> noise = detail::semidefinite_factor(step.Q_bar);
  Eigen::Matrix<T, N, detail::fixed_sum(N, N)> both(n, 2 * n);
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) {
      both(i, j) = moved(i, j);
      both(i, n + j) = noise(i, j);
    }
  for (Index i = 0; i < n; ++i) detail::turn_into_column(both, i, i);
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) belief.factor(i, j) = both(i, j);
}

/// Corrects a belief by a reading whose residual is known, as kalman_correct of a Belief does: the
/// triangle that
///
///   [√R, C L; 0, L] is turned into is [√S, 0; K √S, L⁺]
///
/// (Kailath, Sayed & Hassibi, section 12.3). No allocation, no lock, no exception for fixed sizes.
///
/// @param belief before and after
/// @param C (outputs, states)
/// @param R (outputs, outputs), symmetric, non-negative
/// @param residual (outputs), y less its expected value
/// @throws ShapeError for dynamic sizes
/// Cost: a product and a QR factorisation of (outputs + states, outputs + states).
template <class T, int N, int P>
Innovation<T, N, P> kalman_correct(const Eigen::Matrix<T, P, N>& C,
                                   const std::type_identity_t<Eigen::Matrix<T, P, P>>& R,
                                   const std::type_identity_t<Eigen::Matrix<T, P, 1>>& residual,
                                   SquareRootBelief<T, N>& belief) noexcept(N != Dynamic &&
                                                                            P != Dynamic) {
  constexpr std::string_view name = "kalman_correct";
  const Index n = belief.mean.size(), p = C.rows();
  detail::check_belief(name, "belief", belief, n);
  detail::check_dynamic(name, "C", C, p, n);
  detail::check_dynamic(name, "R", R, p, p);
  detail::check_dynamic(name, "residual", residual, p, 1);
  constexpr int size = detail::fixed_sum(N, P);
  Eigen::Matrix<T, size, size> M = Eigen::Matrix<T, size, size>::Zero(p + n, p + n);
  const Eigen::Matrix<T, P, P> noise = detail::semidefinite_factor(R);
  const Eigen::Matrix<T, P, N> seen = detail::multiply(C, belief.factor);
  for (Index j = 0; j < p; ++j)
    for (Index i = 0; i < p; ++i) M(i, j) = noise(i, j);
  for (Index j = 0; j < n; ++j) {
    for (Index i = 0; i < p; ++i) M(i, p + j) = seen(i, j);
    for (Index i = 0; i < n; ++i) M(p + i, p + j) = belief.factor(i, j);
  }
  // Column told(i) holds what output i adds to those before it; −1 where it adds only rounding.
  Eigen::Matrix<Index, P, 1> told(p);
  Index count = 0;
  for (Index i = 0; i < p; ++i) {
    T doubt(0);
    for (Index k = 0; k < n; ++k)
      doubt = (std::max)(doubt, std::abs(C(i, k)) * detail::rest_of_row(belief.factor, k, 0));
    doubt *= T(8) * std::numeric_limits<T>::epsilon() * static_cast<T>(n);
    const bool adds = !(detail::rest_of_row(M, i, count) <= doubt) ||
                      !(detail::rest_of_row(noise, i, 0) <= doubt);
    told(i) = adds ? count : -1;
    if (adds) detail::turn_into_column(M, i, count++);
  }
  for (Index i = 0; i < n; ++i) detail::turn_into_column(M, p + i, count + i);

  Innovation<T, N, P> innovation{residual, Eigen::Matrix<double, P, P>::Zero(p, p),
                                 Eigen::Matrix<T, N, P>::Zero(n, p)};
  for (Index i = 0; i < p; ++i) {
    for (Index j = 0; j < p; ++j)
      for (Index k = 0; told(i) >= 0 && told(j) >= 0 && k < count; ++k)
        innovation.covariance(i, j) += static_cast<double>(M(i, k)) * static_cast<double>(M(j, k));
  }
  for (Index j = p; j-- > 0;) {
    if (told(j) < 0) continue;
    for (Index i = 0; i < n; ++i) {
      T rest = M(p + i, told(j));
      for (Index k = j + 1; k < p; ++k)
        if (told(k) >= 0) rest -= innovation.gain(i, k) * M(k, told(j));
      innovation.gain(i, j) = rest / M(j, told(j));
    }
  }
  detail::settle_residual(
      innovation, C, innovation.gain,
      [&](Index i) {
        double size = 0;
        for (Index k = 0; k < n; ++k)
          size += static_cast<double>(std::abs(C(i, k) * belief.mean(k)));
        return size;
      },
      // a factor has ε of deviations: ε² of variances
      [&](Index i) {
        double sum = 0;
        for (Index k = 0; k < n; ++k)
          sum += static_cast<double>(std::abs(C(i, k)) * detail::rest_of_row(belief.factor, k, 0));
        return sum * sum * static_cast<double>(std::numeric_limits<T>::epsilon());
      });
  detail::add_product_to(belief.mean, innovation.gain, innovation.residual);
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) belief.factor(i, j) = M(p + i, count + j);
  // What a meter without noise read is known now but for the rounding of L before, which goes too.
  for (Index i = 0; i < p; ++i) {
    if (R(i, i) != T(0) || told(i) < 0) continue;
    const Eigen::Matrix<T, 1, N> left = C.row(i) * belief.factor;
    for (Index k = 0; k < n; ++k)
      for (Index r = 0; r < n; ++r) belief.factor(r, k) -= innovation.gain(r, i) * left(k);
    for (Index k = 0; k < n; ++k) detail::turn_into_column(belief.factor, k, k);
  }
  return innovation;
}

}  // namespace ssm
