#pragma once

#include <cmath>
#include <concepts>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"
#include "ssm/discretize/noise_covariance.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// True when no direction has a variance below zero by more than rounding. Each variable in units
/// of its own deviation: units change no verdict.
template <class Matrix>
bool is_semidefinite(Matrix matrix) {
  using T = typename Matrix::Scalar;
  const Index n = matrix.rows();
  const T rounding = T(100) * std::numeric_limits<T>::epsilon() * static_cast<T>(n);
  Eigen::Matrix<T, Matrix::RowsAtCompileTime, 1> deviation(n);
  for (Index i = 0; i < n; ++i) deviation(i) = std::sqrt(matrix(i, i));
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) {
      if (i == j) {
        matrix(i, i) = T(1) + rounding;
      } else if (matrix(i, j) != T(0)) {
        if (deviation(i) == T(0) || deviation(j) == T(0)) return false;
        matrix(i, j) = matrix(i, j) / deviation(i) / deviation(j);
      }
    }
  return SmallCholesky<Matrix>(std::move(matrix)).definite();
}

/// Throws DomainError unless `matrix` is the covariance of something.
template <class Matrix>
void check_covariance(std::string_view function, std::string_view argument, const Matrix& matrix) {
  using T = typename Matrix::Scalar;
  if (!matrix.allFinite()) throw_domain(function, argument, "not finite", "finite");
  const T rounding = T(100) * std::numeric_limits<T>::epsilon();
  for (Index j = 0; j < matrix.cols(); ++j)
    for (Index i = 0; i < j; ++i) {
      const T size = std::sqrt(std::abs(matrix(i, i))) * std::sqrt(std::abs(matrix(j, j)));
      if (!(std::abs(matrix(i, j) - matrix(j, i)) <= rounding * size))
        throw_domain(function, argument, "not symmetric", "symmetric");
    }
  if ((matrix.diagonal().array() < T(0)).any())
    throw_domain(function, argument, "negative on its diagonal", "a covariance");
  if (!is_semidefinite(matrix))
    throw_domain(function, argument, "indefinite", "positive semidefinite");
}

}  // namespace detail

/// A continuous system that noise drives and whose outputs are read with noise:
///
///   x' = A x + B u + w,  y = C x + D u + v,
///
/// where w is white with density Q, and each reading has its own v of covariance R. A meter without
/// noise has a row and a column of zeros in R. Immutable.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic, int Outputs = Dynamic>
class NoisyStateSpace {
 public:
  /// A, B, C, D.
  using System = StateSpace<T, States, Inputs, Outputs>;
  /// (states, states).
  using StateMatrix = typename System::StateMatrix;
  /// (outputs, outputs).
  using OutputCovariance = Eigen::Matrix<T, Outputs, Outputs>;

  /// @param system A, B, C, D
  /// @param Q (states, states), symmetric, non-negative: noise density, unit of x squared a second
  /// @param R (outputs, outputs), symmetric, non-negative: covariance of one reading, unit of y
  ///   squared
  /// @throws ShapeError
  /// @throws DomainError when Q or R is not finite, not symmetric or not positive semidefinite
  template <class DQ, class DR>
  NoisyStateSpace(System system, const Eigen::MatrixBase<DQ>& Q, const Eigen::MatrixBase<DR>& R)
      : system_(std::move(system)) {
    detail::check_matrix("NoisyStateSpace", "Q", Q, system_.states(), system_.states());
    detail::check_matrix("NoisyStateSpace", "R", R, system_.outputs(), system_.outputs());
    Q_ = Q;
    R_ = R;
    detail::check_covariance("NoisyStateSpace", "Q", Q_);
    detail::check_covariance("NoisyStateSpace", "R", R_);
  }

  /// The same with a number as the R of one output.
  template <class DQ>
  NoisyStateSpace(System system, const Eigen::MatrixBase<DQ>& Q, std::type_identity_t<T> R)
      : NoisyStateSpace(std::move(system), Q, Eigen::Matrix<T, 1, 1>(R)) {}

  /// A, B, C, D.
  [[nodiscard]] const System& system() const noexcept { return system_; }
  /// The density of w (states, states).
  [[nodiscard]] const StateMatrix& Q() const noexcept { return Q_; }
  /// The covariance of v (outputs, outputs).
  [[nodiscard]] const OutputCovariance& R() const noexcept { return R_; }

 private:
  System system_;
  StateMatrix Q_;
  OutputCovariance R_;
};

/// One step of a noisy system: x_{t+1} = A_bar x_t + B_bar u_t + w_t, w_t of covariance Q_bar.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic>
struct NoisyStep {
  Eigen::Matrix<T, States, States> A_bar;  ///< (states, states)
  Eigen::Matrix<T, States, Inputs> B_bar;  ///< (states, inputs)
  Eigen::Matrix<T, States, States> Q_bar;  ///< (states, states), covariance of w_t
};

/// The step of any Δ, 0 among them, exact for an input that is constant over it: the matrices of
/// zero_order_hold and sampled_noise_covariance.
///
/// @param noisy the system
/// @param delta Δ, s, ≥ 0
/// @throws DomainError when Δ is negative or not finite, or e^{ΔA} or Q_bar overflows
/// Cost: two matrix exponentials of (states); no allocation for fixed sizes.
template <class T, int N, int M, int P>
[[nodiscard]] NoisyStep<T, N, M> noisy_step(const NoisyStateSpace<T, N, M, P>& noisy,
                                            std::type_identity_t<T> delta) {
  detail::check_elapsed("noisy_step", delta);
  const auto held = detail::held_step<T>("noisy_step", noisy.system(), delta);
  return {held.A_bar, held.B_bar, sampled_noise_covariance(noisy.system().A(), noisy.Q(), delta)};
}

}  // namespace ssm
