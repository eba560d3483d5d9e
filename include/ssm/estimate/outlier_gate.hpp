#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <string>
#include <type_traits>

#include "ssm/core/error.hpp"
#include "ssm/estimate/kalman.hpp"

namespace ssm {
namespace detail {

/// P(a, x), the regularized lower incomplete gamma function: its series below a + 1, Lentz's
/// continued fraction above (Abramowitz & Stegun, 6.5.29 and 6.5.31).
inline double incomplete_gamma(double a, double x) {
  constexpr int most = 10000;
  if (!(x > 0)) return 0;
  const double front = std::exp(a * std::log(x) - x - std::lgamma(a));
  if (x < a + 1) {
    double term = 1 / a, sum = term;
    for (int k = 1; k < most && term > 1e-17 * sum; ++k) sum += term *= x / (a + k);
    return front * sum;
  }
  double b = x + 1 - a, c = 1e300, d = 1 / b, product = d;
  for (int k = 1; k < most; ++k) {
    const double weight = -k * (k - a);
    b += 2;
    d = 1 / (weight * d + b);
    c = b + weight / c;
    product *= c * d;
    if (std::abs(c * d - 1) <= 1e-16) break;
  }
  return 1 - front * product;
}

/// The x that a χ² of so many degrees stays below with this probability, by bisection.
inline double quantile_of_chi_squared(double probability, Index degrees) {
  if (probability == 0) return 0;
  const double a = static_cast<double>(degrees) / 2;
  double low = 0, high = 2 * a + 10;
  while (incomplete_gamma(a, high / 2) < probability && high < 1e300) high *= 2;
  for (int k = 0; k < 200 && high - low > 1e-15 * high; ++k) {
    const double middle = (low + high) / 2;
    (incomplete_gamma(a, middle / 2) < probability ? low : high) = middle;
  }
  return high;
}

}  // namespace detail

/// The value that a χ² variable of so many degrees of freedom stays below with a probability, such
/// as 5.991 for .95 and two degrees: the limit of squared_distance for readings of so many outputs.
///
/// @param probability at least 0 and less than 1
/// @param degrees at least 1
/// @throws DomainError
[[nodiscard]] inline double chi_squared_quantile(double probability, Index degrees) {
  if (!(probability >= 0 && probability < 1))
    detail::throw_domain("chi_squared_quantile", "probability", detail::number(probability),
                         "at least 0 and less than 1");
  if (degrees < 1)
    detail::throw_domain("chi_squared_quantile", "degrees", detail::number(degrees), "at least 1");
  return detail::quantile_of_chi_squared(probability, degrees);
}

/// Which readings a filter takes: those whose squared distance, rᵀ S⁻¹ r, stays below what a right
/// model's does with a given probability, for as many outputs as were read. A plain value.
class OutlierGate {
 public:
  /// @param probability of a reading of a right model to be taken, as .999
  /// @param outputs of the system: as many as may be read at once
  /// @throws DomainError when the probability is not at least 0 and less than 1, or there are less
  ///   than one or more than 64 outputs
  OutlierGate(double probability, Index outputs) {
    if (outputs < 1 || outputs >= static_cast<Index>(limits_.size()))
      detail::throw_domain("OutlierGate", "outputs", detail::number(outputs), "from 1 to 64");
    limits_.fill(0);
    for (Index k = 1; k <= outputs; ++k)
      limits_[static_cast<std::size_t>(k)] = chi_squared_quantile(probability, k);
  }

  /// The largest squared distance that is taken of so many outputs; 0 of none, and of more than the
  /// gate was made for.
  [[nodiscard]] double limit(Index outputs) const noexcept {
    const auto at = static_cast<std::size_t>(outputs);
    return at < limits_.size() ? limits_[at] : 0;
  }
  /// Whether what a reading told is taken. NaN is not.
  template <class T, int N, int P>
  [[nodiscard]] bool takes(const Innovation<T, N, P>& innovation) const noexcept {
    return static_cast<double>(squared_distance(innovation)) <= limit(outputs_read(innovation));
  }

 private:
  std::array<double, 65> limits_;
};

/// What a reading told, and whether the belief took it.
template <std::floating_point T, int States = Dynamic, int Outputs = Dynamic>
struct GatedInnovation {
  Innovation<T, States, Outputs> innovation;  ///< as of kalman_update
  bool taken;                                 ///< false for an outlier
};

/// kalman_update by a reading of all outputs, if a gate takes it: by an outlier the belief stays as
/// it was. No allocation, no lock, no exception for fixed sizes.
///
/// @param gate which readings are taken
/// @param noisy, u, y, belief as for kalman_update
/// @throws ShapeError for dynamic sizes
template <class T, int N, int M, int P, AnyBelief<T, N> Known>
GatedInnovation<T, N, P> gated_update(
    const OutlierGate& gate, const NoisyStateSpace<T, N, M, P>& noisy,
    const std::type_identity_t<detail::VectorArgument<T, M>>& u,
    const std::type_identity_t<detail::VectorArgument<T, P>>& y,
    Known& belief) noexcept(NoisyStateSpace<T, N, M, P>::System::fixed_size) {
  Known after = belief;
  const auto told = kalman_update(noisy, u, y, after);
  const bool taken = gate.takes(told);
  if (taken) belief = after;
  return {told, taken};
}

/// The same by those outputs of y that were measured.
/// @param measured (outputs), true where y is a reading
template <class T, int N, int M, int P, AnyBelief<T, N> Known>
GatedInnovation<T, N, P> gated_update(
    const OutlierGate& gate, const NoisyStateSpace<T, N, M, P>& noisy,
    const std::type_identity_t<detail::VectorArgument<T, M>>& u,
    const std::type_identity_t<detail::VectorArgument<T, P>>& y,
    const std::type_identity_t<Eigen::Array<bool, P, 1>>& measured,
    Known& belief) noexcept(NoisyStateSpace<T, N, M, P>::System::fixed_size) {
  Known after = belief;
  const auto told = kalman_update(noisy, u, y, measured, after);
  const bool taken = gate.takes(told);
  if (taken) belief = after;
  return {told, taken};
}

}  // namespace ssm
