#pragma once

#include <cmath>
#include <concepts>
#include <limits>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"
#include "ssm/estimate/innovation.hpp"
#include "ssm/estimate/noisy_system.hpp"
#include "ssm/system/detail/vector_argument.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// What is known of a state: a normal distribution. A plain value, to copy, keep and return to.
///
/// The covariance is double for float as well: where a reading is 10⁶ times as sure as what was
/// known before, eight digits of a covariance hold nothing of what is left. A filter that may only
/// compute in float keeps a SquareRootBelief.
template <std::floating_point T, int States = Dynamic>
struct Belief {
  /// (states).
  using Mean = Eigen::Matrix<T, States, 1>;
  /// (states, states).
  using Covariance = Eigen::Matrix<double, States, States>;

  Mean mean;              ///< (states)
  Covariance covariance;  ///< (states, states), symmetric

  /// Not known yet: the elements are to be written.
  Belief() = default;
  /// A mean (states) and a covariance (states, states).
  Belief(const Mean& m, const Covariance& P) : mean(m), covariance(P) {}
  /// The same of matrices of other precision, a covariance in float among them.
  template <class DM, class DP>
  requires(!std::is_same_v<typename DM::Scalar, T> || !std::is_same_v<typename DP::Scalar, double>)
      Belief(const DM& m, const DP& P)
      : mean(m.template cast<T>()), covariance(P.template cast<double>()) {}
};

/// What a filter keeps of a state of T and so many states: a Belief or a SquareRootBelief.
template <class Known, class T, int States>
concept AnyBelief = std::is_same_v<typename Known::Mean, Eigen::Matrix<T, States, 1>>;

namespace detail {

/// The elements as double, without a copy where they are.
template <class Matrix>
decltype(auto) in_double(const Matrix& matrix) {
  if constexpr (std::is_same_v<typename Matrix::Scalar, double>)
    return (matrix);
  else
    return Eigen::Matrix<double, Matrix::RowsAtCompileTime, Matrix::ColsAtCompileTime>(
        matrix.template cast<double>());
}

template <class T, int N>
void check_belief(std::string_view function, std::string_view argument, const Belief<T, N>& belief,
                  Index states) {
  check_dynamic(function, argument, belief.mean, states, 1);
  check_dynamic(function, argument, belief.covariance, states, states);
}

template <class Known>
bool is_finite(const Known& belief) {
  if constexpr (requires { belief.factor; })
    return all_finite(belief.mean) && all_finite(belief.factor);
  else
    return all_finite(belief.mean) && all_finite(belief.covariance);
}

/// P ← F P Fᵀ + Q for a symmetric Q, exactly symmetric.
template <class Matrix>
void carry_covariance(const Matrix& F, const Matrix& Q, Matrix& P) {
  const Matrix half = multiply(F, P);
  P = Q;
  add_product_to(P, half, transposed(F));
  symmetrize(P);
}

/// What rounding leaves of a variance that so many states add up to.
inline double rounding_of(Index states) {
  return 16 * std::numeric_limits<double>::epsilon() * static_cast<double>(states);
}

/// I − K C.
template <int N, int P>
Eigen::Matrix<double, N, N> kept(const Eigen::Matrix<double, N, P>& K,
                                 const Eigen::Matrix<double, P, N>& C) {
  Eigen::Matrix<double, N, N> keep = multiply(K, C);
  for (Index j = 0; j < keep.cols(); ++j)
    for (Index i = 0; i < keep.rows(); ++i) keep(i, j) = (i == j ? 1 : 0) - keep(i, j);
  return keep;
}

/// settle_residual of a reading C x.
template <class T, int N, int P, class Gain>
void settle_residual(Innovation<T, N, P>& innovation, const Eigen::Matrix<double, P, N>& C,
                     const Gain& K, const Belief<T, N>& belief) {
  settle_residual(
      innovation, C, K,
      [&](Index i) {
        double size = 0;
        for (Index k = 0; k < C.cols(); ++k)
          size += std::abs(C(i, k) * static_cast<double>(belief.mean(k)));
        return size;
      },
      [&](Index i) {
        double sum = 0;
        for (Index k = 0; k < C.cols(); ++k) sum += C(i, k) * C(i, k) * belief.covariance(k, k);
        return sum;
      });
}

/// K = P Cᵀ S⁻¹ and S = C P Cᵀ + R, without the outputs that tell nothing; NaN when S is
/// indefinite.
template <int N, int P>
Eigen::Matrix<double, N, P> weigh(const Eigen::Matrix<double, P, N>& C,
                                  const Eigen::Matrix<double, N, N>& covariance,
                                  const Eigen::Matrix<double, P, P>& R,
                                  Eigen::Matrix<double, P, P>& S) {
  const Index outputs = C.rows();
  Eigen::Matrix<double, P, N> CP = multiply(C, covariance);
  S = R;
  add_product_to(S, CP, transposed(C));
  // What rounding of P leaves in an output: where the variance is within it, and the noise is too,
  // belief and meter are both as good as exact.
  const double rounding = rounding_of(C.cols());
  Eigen::Matrix<double, P, 1> doubt(outputs);
  for (Index i = 0; i < outputs; ++i) {
    double size = 0;
    for (Index k = 0; k < C.cols(); ++k) size += C(i, k) * C(i, k) * covariance(k, k);
    doubt(i) = size * rounding;
    if (!(R(i, i) <= doubt(i)) || !std::isfinite(size)) doubt(i) = 0;  // NaN of what overflowed
  }
  const InnovationFactor<P> factor(S, doubt);
  if (!factor.definite())
    return Eigen::Matrix<double, N, P>::Constant(C.cols(), outputs,
                                                 std::numeric_limits<double>::quiet_NaN());
  factor.divide(CP);
  factor.divide_transposed(CP);
  return transposed(CP);
}

}  // namespace detail

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
  detail::carry_covariance<Eigen::Matrix<double, N, N>>(
      detail::in_double(step.A_bar), detail::in_double(step.Q_bar), belief.covariance);
}

/// The same over any Δ ≥ 0, from the continuous system: irregular steps need no table of steps.
/// No allocation and no lock for fixed sizes.
///
/// @param noisy the system
/// @param delta Δ, s
/// @param input u (inputs), constant over the step; a number for one input
/// @param belief before the step, and after it; as it was when an error is thrown
/// @throws DomainError when Δ < 0, as of a time stamp out of order, or is not finite, or e^{ΔA},
///   Q_bar, the mean or the covariance overflows, for fixed and dynamic sizes alike
/// @throws ShapeError for dynamic sizes
/// Cost: noisy_step, and that of the step.
template <class T, int N, int M, int P, AnyBelief<T, N> Known>
void kalman_predict(const NoisyStateSpace<T, N, M, P>& noisy, std::type_identity_t<T> delta,
                    const std::type_identity_t<detail::VectorArgument<T, M>>& input,
                    Known& belief) {
  detail::check_elapsed("kalman_predict", delta);
  Known after = belief;
  kalman_predict(noisy_step(noisy, delta), input, after);
  if (!detail::is_finite(after) && detail::is_finite(belief))
    detail::throw_domain("kalman_predict", "the belief after delta", "not finite",
                         "a delta over which mean and covariance do not overflow");
  belief = after;
}

/// Corrects a belief by a reading whose residual is known: K = P Cᵀ S⁻¹, S = C P Cᵀ + R, and
///
///   mean ← mean + K residual,  P ← (I − K C) P (I − K C)ᵀ + K R Kᵀ,
///
/// the form of Joseph, which is symmetric and non-negative for any K, in double as long as the
/// variances of prior and reading lie within some twelve orders of magnitude (Bar-Shalom, Li &
/// Kirubarajan, Estimation with Applications, eq. 5.2.3-18). K is the filter gain: it corrects the
/// state at the time of the reading. The predictor's gain is A_bar K. For a reading that is not
/// linear in x, C is its derivative at the mean.
///
/// R may be singular: meters without noise. An output that belief and meters know to the last digit
/// tells nothing and has no effect, and where it contradicts them its squared distance is infinite.
/// NaN when S is indefinite or a covariance has overflowed. No allocation, no lock, no exception
/// for fixed sizes.
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
  const Eigen::Matrix<double, P, N>& seen = detail::in_double(C);
  const Eigen::Matrix<double, P, P>& noise = detail::in_double(R);
  Innovation<T, N, P> innovation{residual, {}, {}};
  const Eigen::Matrix<double, N, P> K =
      detail::weigh<N, P>(seen, belief.covariance, noise, innovation.covariance);
  innovation.gain = K.template cast<T>();
  detail::settle_residual(innovation, seen, K, belief);

  detail::add_product_to(belief.mean, innovation.gain, innovation.residual);
  const Eigen::Matrix<double, N, N> keep = detail::kept<N, P>(K, seen);
  const Eigen::Matrix<double, N, N> half = detail::multiply(keep, belief.covariance);
  const Eigen::Matrix<double, N, P> KR = detail::multiply(K, noise);
  belief.covariance = detail::multiply(half, detail::transposed(keep));
  detail::add_product_to(belief.covariance, KR, detail::transposed(K));
  detail::symmetrize(belief.covariance);
  // What a meter without noise read is known now but for the rounding of P before, which goes too.
  for (Index i = 0; i < outputs; ++i)
    if (noise(i, i) == 0 && innovation.covariance(i, i) != 0)
      detail::carry_covariance<Eigen::Matrix<double, N, N>>(
          detail::kept<N, 1>(K.col(i), seen.row(i)),
          Eigen::Matrix<double, N, N>::Zero(states, states), belief.covariance);
  return innovation;
}

namespace detail {

/// y − C mean − D u, after a look at the sizes; of a meter without noise 0 where it is rounding.
template <class T, int N, int M, int P, AnyBelief<T, N> Known>
Eigen::Matrix<T, P, 1> checked_residual(const NoisyStateSpace<T, N, M, P>& noisy,
                                        const VectorArgument<T, M>& input,
                                        const VectorArgument<T, P>& reading, const Known& belief) {
  constexpr std::string_view name = "kalman_update";
  const auto& system = noisy.system();
  const auto u = input.vector();
  const auto y = reading.vector();
  check_dynamic(name, "u", u, system.inputs(), 1);
  check_dynamic(name, "y", y, system.outputs(), 1);
  check_dynamic(name, "belief", belief.mean, system.states(), 1);
  Eigen::Matrix<T, P, 1> expected = multiply(system.C(), belief.mean);
  add_product_to(expected, system.D(), u);
  Eigen::Matrix<T, P, 1> residual = y - expected;
  for (Index i = 0; i < y.size(); ++i) {
    if (noisy.R()(i, i) != T(0)) continue;
    T size = std::abs(y(i));
    for (Index k = 0; k < u.size(); ++k) size += std::abs(system.D()(i, k) * u(k));
    const T rounding = std::numeric_limits<T>::epsilon() * static_cast<T>(1 + u.size());
    if (std::abs(residual(i)) <= rounding * size) residual(i) = T(0);
  }
  return residual;
}

}  // namespace detail

/// Corrects a belief by a reading y of all outputs. No allocation, no lock, no exception for fixed
/// sizes. A reading that is NaN makes mean, squared distance and log likelihood NaN, and stays so:
/// say by `measured` which outputs were read where one may be missing.
///
/// @param noisy the system
/// @param u (inputs) at the time of the reading: what D passes on; a number for one input
/// @param y (outputs); a number for one output
/// @param belief before the reading, and after it
/// @return what the reading told
/// @throws ShapeError for dynamic sizes
template <class T, int N, int M, int P, AnyBelief<T, N> Known>
Innovation<T, N, P> kalman_update(
    const NoisyStateSpace<T, N, M, P>& noisy,
    const std::type_identity_t<detail::VectorArgument<T, M>>& u,
    const std::type_identity_t<detail::VectorArgument<T, P>>& y,
    Known& belief) noexcept(NoisyStateSpace<T, N, M, P>::System::fixed_size) {
  const Eigen::Matrix<T, P, 1> residual = detail::checked_residual(noisy, u, y, belief);
  return kalman_correct<T, N, P>(noisy.system().C(), noisy.R(), residual, belief);
}

/// Corrects a belief by those outputs of y that were measured: the others have no effect, NaN
/// included. No allocation, no lock, no exception for fixed sizes.
///
/// The rows and columns of an output that is missing are zero in K and S, and so is its residual:
/// it adds nothing to the squared distance nor to the log likelihood.
///
/// @param noisy, u, y, belief as for a reading of all outputs
/// @param measured (outputs), true where y is a reading
/// @return what the reading told
/// @throws ShapeError for dynamic sizes
template <class T, int N, int M, int P, AnyBelief<T, N> Known>
Innovation<T, N, P> kalman_update(
    const NoisyStateSpace<T, N, M, P>& noisy,
    const std::type_identity_t<detail::VectorArgument<T, M>>& u,
    const std::type_identity_t<detail::VectorArgument<T, P>>& y,
    const std::type_identity_t<Eigen::Array<bool, P, 1>>& measured,
    Known& belief) noexcept(NoisyStateSpace<T, N, M, P>::System::fixed_size) {
  Eigen::Matrix<T, P, N> C = noisy.system().C();
  Eigen::Matrix<T, P, P> R = noisy.R();
  Eigen::Matrix<T, P, 1> residual = detail::checked_residual(noisy, u, y, belief);
  detail::check_dynamic("kalman_update", "measured", measured.matrix(), C.rows(), 1);
  for (Index i = 0; i < measured.size(); ++i) {
    if (measured(i)) continue;
    C.row(i).setZero();
    R.row(i).setZero();
    R.col(i).setZero();
    residual(i) = T(0);
  }
  return kalman_correct<T, N, P>(C, R, residual, belief);
}

}  // namespace ssm
