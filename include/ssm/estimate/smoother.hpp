#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"
#include "ssm/core/error.hpp"
#include "ssm/estimate/kalman.hpp"

namespace ssm {

/// One step back of the smoother: what all readings say of the state at t, given what they say of
/// it at t + 1. With G = P A_barᵀ P⁻⁻¹ for the filtered P and the predicted P⁻ (Rauch, Tung &
/// Striebel 1965, eqs. 3.28 to 3.31),
///
///   mean ← mean + G (mean_{t+1} − mean⁻),
///   P ← (I − G A_bar) P (I − G A_bar)ᵀ + G (P_{t+1} + Q_bar) Gᵀ,
///
/// the form of Joseph of P + G (P_{t+1} − P⁻) Gᵀ: symmetric and non-negative. No allocation, no
/// lock, no exception for fixed sizes.
///
/// @param step from t to t + 1
/// @param filtered the belief at t, its reading included
/// @param predicted the belief at t + 1, its reading not included
/// @param next the smoothed belief at t + 1
/// @throws ShapeError for dynamic sizes
template <class T, int N, int M>
[[nodiscard]] Belief<T, N> smooth_step(
    const NoisyStep<T, N, M>& step, const std::type_identity_t<Belief<T, N>>& filtered,
    const std::type_identity_t<Belief<T, N>>& predicted,
    const std::type_identity_t<Belief<T, N>>& next) noexcept(N != Dynamic && M != Dynamic) {
  using Matrix = Eigen::Matrix<double, N, N>;
  constexpr std::string_view name = "smooth_step";
  const Index states = step.A_bar.rows();
  detail::check_dynamic(name, "A_bar", step.A_bar, states, states);
  detail::check_dynamic(name, "Q_bar", step.Q_bar, states, states);
  detail::check_belief(name, "filtered", filtered, states);
  detail::check_belief(name, "predicted", predicted, states);
  detail::check_belief(name, "next", next, states);
  const Matrix& A = detail::in_double(step.A_bar);
  const Matrix& Q = detail::in_double(step.Q_bar);
  // A combination of states that is known to the last digit has nothing to learn from later.
  Matrix ahead = predicted.covariance;
  const Eigen::Matrix<double, N, 1> doubt = ahead.diagonal() * detail::rounding_of(states);
  const detail::InnovationFactor<N> factor(ahead, doubt);
  Matrix G = detail::multiply(A, filtered.covariance);
  factor.divide(G);
  factor.divide_transposed(G);
  G = detail::transposed(G);
  const Matrix keep = detail::kept<N, N>(G, A);
  const Matrix half = detail::multiply(keep, filtered.covariance);
  const Matrix later = detail::multiply(G, Matrix(next.covariance + Q));
  Belief<T, N> smoothed{filtered.mean, detail::multiply(half, detail::transposed(keep))};
  detail::add_product_to(smoothed.mean, G.template cast<T>().eval(),
                         Eigen::Matrix<T, N, 1>(next.mean - predicted.mean));
  detail::add_product_to(smoothed.covariance, later, detail::transposed(G));
  detail::symmetrize(smoothed.covariance);
  return smoothed;
}

namespace detail {

/// Throws ShapeError unless a list has so many elements.
inline void check_length(std::string_view function, std::string_view argument, std::size_t got,
                         std::size_t want) {
  if (got != want)
    throw_shape(function, argument, "(" + detail::number(got) + ")",
                "(" + detail::number(want) + ")");
}

/// The belief that goes with a NoisyStep.
template <class Step>
using BeliefOf =
    Belief<typename decltype(Step::A_bar)::Scalar, decltype(Step::A_bar)::RowsAtCompileTime>;

}  // namespace detail

/// The Rauch–Tung–Striebel smoother: turns the beliefs of a filter, each from the readings up to
/// its time, into those from all readings.
///
/// @param steps (length − 1), a vector, array or span of NoisyStep: step t leads from time t to
/// t + 1
/// @param filtered (length): the belief at time t, its reading included
/// @param predicted (length − 1): what step t made of filtered t, before reading t + 1
/// @param smoothed (length), written; may be the memory of filtered
/// @throws ShapeError
/// Cost: length factorisations of (states, states) and eight products.
template <class Steps, class Known = detail::BeliefOf<typename Steps::value_type>>
void smooth(const Steps& steps, std::type_identity_t<std::span<const Known>> filtered,
            std::type_identity_t<std::span<const Known>> predicted,
            std::type_identity_t<std::span<Known>> smoothed) {
  constexpr std::string_view name = "smooth";
  const std::size_t length = filtered.size(), moves = length == 0 ? 0 : length - 1;
  detail::check_length(name, "steps", steps.size(), moves);
  detail::check_length(name, "predicted", predicted.size(), moves);
  detail::check_length(name, "smoothed", smoothed.size(), length);
  if (length == 0) return;
  smoothed[length - 1] = filtered[length - 1];
  for (std::size_t t = length - 1; t-- > 0;)
    smoothed[t] = smooth_step(steps[t], filtered[t], predicted[t], smoothed[t + 1]);
}

/// What all readings of an interval say of the state at each of their times.
template <std::floating_point T, int States = Dynamic>
struct SmoothedReadings {
  std::vector<Belief<T, States>> smoothed;  ///< (length), from all readings
  std::vector<Belief<T, States>> filtered;  ///< (length), from those up to its time
  double log_likelihood = 0;                ///< of what was read
};

/// Filters and smooths readings at any times that do not go back, each step exact for an input that
/// is constant over it. NaN stands for an output that was not read.
///
/// @param noisy the system
/// @param start the belief at the first time, its reading not included
/// @param times (length), s, each at least the one before
/// @param inputs (length) vectors of (inputs): u at each time, and until the next
/// @param readings (length) vectors of (outputs)
/// @throws ShapeError
/// @throws DomainError when a time is not finite or before the one before it, an input is not
/// finite
///   or a reading infinite
/// Cost: that of filter and smoother, and a noisy_step for each Δ that differs from the last.
template <class T, int N, int M, int P>
[[nodiscard]] SmoothedReadings<T, N> smooth_readings(
    const NoisyStateSpace<T, N, M, P>& noisy, const std::type_identity_t<Belief<T, N>>& start,
    std::type_identity_t<std::span<const T>> times,
    std::type_identity_t<std::span<const Eigen::Matrix<T, M, 1>>> inputs,
    std::type_identity_t<std::span<const Eigen::Matrix<T, P, 1>>> readings) {
  constexpr std::string_view name = "smooth_readings";
  const std::size_t length = times.size();
  detail::check_length(name, "inputs", inputs.size(), length);
  detail::check_length(name, "readings", readings.size(), length);
  detail::check_belief(name, "start", start, noisy.system().states());
  for (std::size_t t = 0; t < length; ++t) {
    const auto at = [&](std::string_view what) {
      return std::string(what) + "[" + detail::number(t) + "]";
    };
    detail::check_dynamic(name, at("inputs"), inputs[t], noisy.system().inputs(), 1);
    detail::check_dynamic(name, at("readings"), readings[t], noisy.system().outputs(), 1);
    if (!std::isfinite(times[t]))
      detail::throw_domain(name, at("times"), detail::number(times[t]), "finite");
    if (t > 0 && times[t] < times[t - 1])
      detail::throw_domain(name, at("times"), detail::number(times[t]),
                           "at least " + detail::number(times[t - 1]) + ", the one before it");
    if (!inputs[t].allFinite()) detail::throw_domain(name, at("inputs"), "not finite", "finite");
    for (Index i = 0; i < readings[t].size(); ++i)
      if (std::isinf(readings[t](i)))
        detail::throw_domain(name, at("readings"), "infinite", "finite, or NaN where not read");
  }
  SmoothedReadings<T, N> result;
  std::vector<NoisyStep<T, N, M>> steps;
  std::vector<Belief<T, N>> predicted;
  Belief<T, N> belief = start;
  for (std::size_t t = 0; t < length; ++t) {
    if (t > 0) {
      const T delta = times[t] - times[t - 1];
      const bool same = t > 1 && delta == times[t - 1] - times[t - 2];
      steps.push_back(same ? steps.back() : noisy_step(noisy, delta));
      kalman_predict(steps.back(), inputs[t - 1], belief);
      predicted.push_back(belief);
    }
    Eigen::Array<bool, P, 1> measured(readings[t].size());
    for (Index i = 0; i < measured.size(); ++i) measured(i) = !std::isnan(readings[t](i));
    const auto told = kalman_update(noisy, inputs[t], readings[t], measured, belief);
    result.log_likelihood += static_cast<double>(log_likelihood(told));
    result.filtered.push_back(belief);
  }
  result.smoothed = result.filtered;
  smooth(steps, result.filtered, predicted, result.smoothed);
  return result;
}

}  // namespace ssm
