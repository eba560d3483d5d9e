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
#include "ssm/system/detail/vector_argument.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// What is known of a state: a normal distribution. A plain value, to copy, keep and return to.
template <std::floating_point T, int States = Dynamic>
struct Belief {
  Eigen::Matrix<T, States, 1> mean;             ///< (states)
  Eigen::Matrix<T, States, States> covariance;  ///< (states, states), symmetric
};

namespace detail {

template <class T, int N>
void check_belief(std::string_view function, std::string_view argument, const Belief<T, N>& belief,
                  Index states) {
  check_dynamic(function, argument, belief.mean, states, 1);
  check_dynamic(function, argument, belief.covariance, states, states);
}

template <class Matrix>
void check_covariance(std::string_view function, std::string_view argument, const Matrix& matrix) {
  using T = typename Matrix::Scalar;
  if (!matrix.allFinite()) throw_domain(function, argument, "not finite", "finite");
  const T rounding = T(100) * std::numeric_limits<T>::epsilon() * matrix.norm();
  if (!((matrix - matrix.transpose()).norm() <= rounding))
    throw_domain(function, argument, "not symmetric", "symmetric");
  if ((matrix.diagonal().array() < T(0)).any())
    throw_domain(function, argument, "negative on its diagonal", "a covariance");
}

}  // namespace detail

/// A continuous system that noise drives and whose outputs are read with noise:
///
///   x' = A x + B u + w,  y = C x + D u + v,
///
/// where w is white with density Q, and each reading has its own v of covariance R. Immutable.
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
  /// @param R (outputs, outputs), symmetric, positive: covariance of one reading, unit of y squared
  /// @throws ShapeError
  /// @throws DomainError when Q or R is not finite, not symmetric or has a negative diagonal, or R
  ///   is not positive definite
  template <class DQ, class DR>
  NoisyStateSpace(System system, const Eigen::MatrixBase<DQ>& Q, const Eigen::MatrixBase<DR>& R)
      : system_(std::move(system)) {
    detail::check_matrix("NoisyStateSpace", "Q", Q, system_.states(), system_.states());
    detail::check_matrix("NoisyStateSpace", "R", R, system_.outputs(), system_.outputs());
    Q_ = Q;
    R_ = R;
    detail::check_covariance("NoisyStateSpace", "Q", Q_);
    detail::check_covariance("NoisyStateSpace", "R", R_);
    if (!detail::SmallCholesky<OutputCovariance>(R_).definite())
      detail::throw_domain("NoisyStateSpace", "R", "not positive definite", "positive definite");
  }

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
/// @throws DomainError when Δ is negative or not finite, or e^{ΔA} overflows
/// Cost: two matrix exponentials of (states); no allocation for fixed sizes.
template <class T, int N, int M, int P>
[[nodiscard]] NoisyStep<T, N, M> noisy_step(const NoisyStateSpace<T, N, M, P>& noisy,
                                            std::type_identity_t<T> delta) {
  detail::check_elapsed("noisy_step", delta);
  const auto held = detail::held_step<T>("noisy_step", noisy.system(), delta);
  return {held.A_bar, held.B_bar, sampled_noise_covariance(noisy.system().A(), noisy.Q(), delta)};
}

/// Carries a belief over a step: mean ← A_bar mean + B_bar u, P ← A_bar P A_barᵀ + Q_bar, kept
/// symmetric (Kalman 1960). No allocation, no lock, no exception for fixed sizes.
///
/// @param step A_bar, B_bar and Q_bar
/// @param input u (inputs), constant over the step; a number for one input
/// @param belief before the step, and after it
/// @throws ShapeError for dynamic sizes
/// Cost: two products of (states, states).
template <class T, int N, int M>
void kalman_predict(const NoisyStep<T, N, M>& step,
                    const std::type_identity_t<detail::VectorArgument<T, M>>& input,
                    Belief<T, N>& belief) noexcept(N != Dynamic && M != Dynamic) {
  const auto u = input.vector();
  constexpr std::string_view name = "kalman_predict";
  const Index states = step.A_bar.rows(), inputs = step.B_bar.cols();
  detail::check_dynamic(name, "A_bar", step.A_bar, states, states);
  detail::check_dynamic(name, "B_bar", step.B_bar, states, inputs);
  detail::check_dynamic(name, "Q_bar", step.Q_bar, states, states);
  detail::check_dynamic(name, "u", u, inputs, 1);
  detail::check_belief(name, "belief", belief, states);
  Eigen::Matrix<T, N, 1> mean = detail::multiply(step.A_bar, belief.mean);
  detail::add_product_to(mean, step.B_bar, u);
  belief.mean = mean;
  const Eigen::Matrix<T, N, N> half = detail::multiply(step.A_bar, belief.covariance);
  belief.covariance = step.Q_bar;
  detail::add_product_to(belief.covariance, half, detail::transposed(step.A_bar));
  detail::symmetrize(belief.covariance);
}

/// The same over any Δ ≥ 0, from the continuous system: irregular steps need no table of steps.
/// No allocation and no lock for fixed sizes.
///
/// @param noisy the system
/// @param delta Δ, s
/// @param input u (inputs), constant over the step; a number for one input
/// @param belief before the step, and after it; as it was when an error is thrown
/// @throws DomainError when Δ < 0, as of a time stamp out of order, or is not finite, or e^{ΔA}
///   overflows, for fixed and dynamic sizes alike
/// @throws ShapeError for dynamic sizes
/// Cost: noisy_step, and that of the step.
template <class T, int N, int M, int P>
void kalman_predict(const NoisyStateSpace<T, N, M, P>& noisy, std::type_identity_t<T> delta,
                    const std::type_identity_t<detail::VectorArgument<T, M>>& input,
                    Belief<T, N>& belief) {
  detail::check_elapsed("kalman_predict", delta);
  kalman_predict(noisy_step(noisy, delta), input, belief);
}

/// What a reading told: y less what was expected, how far off it could be expected to be, and how
/// much of it was believed.
template <std::floating_point T, int States = Dynamic, int Outputs = Dynamic>
struct Innovation {
  Eigen::Matrix<T, Outputs, 1> residual;          ///< y − C mean − D u
  Eigen::Matrix<T, Outputs, Outputs> covariance;  ///< S = C P Cᵀ + R
  Eigen::Matrix<T, States, Outputs> gain;         ///< the filter gain K = P Cᵀ S⁻¹
};

/// Corrects a belief by a reading whose residual is known: K = P Cᵀ S⁻¹, S = C P Cᵀ + R, and
///
///   mean ← mean + K residual,  P ← (I − K C) P (I − K C)ᵀ + K R Kᵀ,
///
/// the form of Joseph, which is symmetric and non-negative for any K, in double as long as the
/// variances of prior and reading lie within some twelve orders of magnitude (Bar-Shalom, Li &
/// Kirubarajan, Estimation with Applications, eq. 5.2.3-18). K is the filter gain: it corrects the
/// state at the time of the reading. The predictor's gain is A_bar K. For a reading that is not
/// linear in x, C is its derivative at the mean. NaN when S is not positive definite. No
/// allocation, no lock, no exception for fixed sizes.
///
/// @param belief before and after
/// @param C (outputs, states)
/// @param R (outputs, outputs), symmetric, non-negative
/// @param residual (outputs), y less its expected value
/// @throws ShapeError for dynamic sizes
/// Cost: a Cholesky factorisation of (outputs), four products with (states, states).
template <class T, int N, int P>
Innovation<T, N, P> kalman_correct(const Eigen::Matrix<T, P, N>& C,
                                   const std::type_identity_t<Eigen::Matrix<T, P, P>>& R,
                                   const std::type_identity_t<Eigen::Matrix<T, P, 1>>& residual,
                                   Belief<T, N>& belief) noexcept(N != Dynamic && P != Dynamic) {
  constexpr std::string_view name = "kalman_correct";
  const Index states = belief.mean.size(), outputs = C.rows();
  detail::check_belief(name, "belief", belief, states);
  detail::check_dynamic(name, "C", C, outputs, states);
  detail::check_dynamic(name, "R", R, outputs, outputs);
  detail::check_dynamic(name, "residual", residual, outputs, 1);
  const Eigen::Matrix<T, P, N> CP = detail::multiply(C, belief.covariance);
  Innovation<T, N, P> innovation{residual, R, {}};
  detail::add_product_to(innovation.covariance, CP, detail::transposed(C));
  const detail::SmallCholesky<Eigen::Matrix<T, P, P>> factor(innovation.covariance);
  if (factor.definite())
    innovation.gain = detail::transposed(factor.solve(CP));
  else
    innovation.gain.setConstant(states, outputs, std::numeric_limits<T>::quiet_NaN());

  detail::add_product_to(belief.mean, innovation.gain, residual);
  Eigen::Matrix<T, N, N> keep = detail::multiply(innovation.gain, C);
  for (Index j = 0; j < states; ++j)
    for (Index i = 0; i < states; ++i) keep(i, j) = T(i == j ? 1 : 0) - keep(i, j);
  const Eigen::Matrix<T, N, N> half = detail::multiply(keep, belief.covariance);
  const Eigen::Matrix<T, N, P> KR = detail::multiply(innovation.gain, R);
  belief.covariance = detail::multiply(half, detail::transposed(keep));
  detail::add_product_to(belief.covariance, KR, detail::transposed(innovation.gain));
  detail::symmetrize(belief.covariance);
  return innovation;
}

namespace detail {

/// y − C mean − D u, after a look at the sizes.
template <class T, int N, int M, int P>
Eigen::Matrix<T, P, 1> checked_residual(const StateSpace<T, N, M, P>& system,
                                        const VectorArgument<T, M>& input,
                                        const VectorArgument<T, P>& reading,
                                        const Belief<T, N>& belief) {
  constexpr std::string_view name = "kalman_update";
  const auto u = input.vector();
  const auto y = reading.vector();
  check_dynamic(name, "u", u, system.inputs(), 1);
  check_dynamic(name, "y", y, system.outputs(), 1);
  check_belief(name, "belief", belief, system.states());
  Eigen::Matrix<T, P, 1> expected = multiply(system.C(), belief.mean);
  add_product_to(expected, system.D(), u);
  return y - expected;
}

}  // namespace detail

/// Corrects a belief by a reading y of all outputs. No allocation, no lock, no exception for fixed
/// sizes.
///
/// @param noisy the system
/// @param u (inputs) at the time of the reading: what D passes on; a number for one input
/// @param y (outputs); a number for one output
/// @param belief before the reading, and after it
/// @return what the reading told
/// @throws ShapeError for dynamic sizes
template <class T, int N, int M, int P>
Innovation<T, N, P> kalman_update(
    const NoisyStateSpace<T, N, M, P>& noisy,
    const std::type_identity_t<detail::VectorArgument<T, M>>& u,
    const std::type_identity_t<detail::VectorArgument<T, P>>& y,
    Belief<T, N>& belief) noexcept(NoisyStateSpace<T, N, M, P>::System::fixed_size) {
  const Eigen::Matrix<T, P, 1> residual = detail::checked_residual(noisy.system(), u, y, belief);
  return kalman_correct<T, N, P>(noisy.system().C(), noisy.R(), residual, belief);
}

/// Corrects a belief by those outputs of y that were measured: the others have no effect, NaN
/// included. No allocation, no lock, no exception for fixed sizes.
///
/// An output that is missing gets a C of zero and a noise of its own, which leaves the rest of K
/// and S as if it were not there; its column of K and its residual are zero.
///
/// @param noisy, u, y, belief as for a reading of all outputs
/// @param measured (outputs), true where y is a reading
/// @return what the reading told
/// @throws ShapeError for dynamic sizes
template <class T, int N, int M, int P>
Innovation<T, N, P> kalman_update(
    const NoisyStateSpace<T, N, M, P>& noisy,
    const std::type_identity_t<detail::VectorArgument<T, M>>& u,
    const std::type_identity_t<detail::VectorArgument<T, P>>& y,
    const std::type_identity_t<Eigen::Array<bool, P, 1>>& measured,
    Belief<T, N>& belief) noexcept(NoisyStateSpace<T, N, M, P>::System::fixed_size) {
  Eigen::Matrix<T, P, N> C = noisy.system().C();
  Eigen::Matrix<T, P, P> R = noisy.R();
  Eigen::Matrix<T, P, 1> residual = detail::checked_residual(noisy.system(), u, y, belief);
  detail::check_dynamic("kalman_update", "measured", measured.matrix(), C.rows(), 1);
  for (Index i = 0; i < measured.size(); ++i) {
    if (measured(i)) continue;
    C.row(i).setZero();
    R.row(i).setZero();
    R.col(i).setZero();
    R(i, i) = T(1);
    residual(i) = T(0);
  }
  return kalman_correct<T, N, P>(C, R, residual, belief);
}

/// rᵀ S⁻¹ r of an innovation: of expectation (outputs) while the model is right. Readings far above
/// the χ² quantile of so many outputs are outliers.
template <class T, int N, int P>
[[nodiscard]] T squared_distance(const Innovation<T, N, P>& innovation) {
  const detail::SmallCholesky<Eigen::Matrix<T, P, P>> factor(innovation.covariance);
  return innovation.residual.dot(factor.solve(innovation.residual));
}

/// log p(y) of the reading given all before it: −(rᵀ S⁻¹ r + log det S + outputs · log 2π)/2. Their
/// sum is the log-likelihood of the model.
template <class T, int N, int P>
[[nodiscard]] T log_likelihood(const Innovation<T, N, P>& innovation) {
  const detail::SmallCholesky<Eigen::Matrix<T, P, P>> factor(innovation.covariance);
  const T distance = innovation.residual.dot(factor.solve(innovation.residual));
  T log_determinant(0);
  for (Index i = 0; i < innovation.residual.size(); ++i)
    log_determinant += T(2) * std::log(factor.L()(i, i));
  constexpr T log_two_pi = T(1.8378770664093454836);
  return -(distance + log_determinant + static_cast<T>(innovation.residual.size()) * log_two_pi) /
         T(2);
}

}  // namespace ssm
