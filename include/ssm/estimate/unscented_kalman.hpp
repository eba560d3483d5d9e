#pragma once

#include <cmath>
#include <concepts>
#include <cstdio>
#include <limits>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/estimate/square_root_kalman.hpp"

namespace ssm {

/// Where the points lie by which an unscented filter knows a distribution of n variables: at the
/// mean and at ± α √(n + κ) deviations along each column of a factor of its covariance. The weights
/// are those of Wan & van der Merwe (2000), eq. 15:
///
///   λ = α² (n + κ) − n;  W₀ = λ/(n + λ) of the mean, W₀ + 1 − α² + β of the covariance,
///   Wᵢ = 1/(2 (n + λ)).
///
/// The default has no weight at the mean and none that is negative: the cubature filter of
/// Arasaratnam & Haykin (2009). α = 1 with κ = 3 − n matches the fourth moment of a normal
/// distribution for n ≤ 3; β = 2 adds what it has of squares.
///
/// The mean is the image of the mean and what the points differ from it, divided by α² (n + κ), so
/// that points closer than the cube root of ε would leave rounding alone: they are refused.
struct SigmaPoints {
  double alpha = 1;  ///< α, > 0
  double beta = 0;   ///< β
  double kappa = 0;  ///< κ, > −n
};

namespace detail {

/// What a function makes of a distribution: its mean, the matrix Z of half its differences in
/// deviations, and the rest of its covariance, which is Z Zᵀ + rest.
template <int N, int P>
struct Transformed {
  Eigen::Matrix<double, N, N> L;  ///< the factor of the covariance before
  Eigen::Matrix<double, P, 1> mean;
  Eigen::Matrix<double, P, N> Z;
  Eigen::Matrix<double, P, P> rest;
};

template <class T>
void check_sigma_points(std::string_view function, const SigmaPoints& points, Index states) {
  if (states < 1) throw_shape(function, "belief", "without states", "one or more");
  const double n = static_cast<double>(states);
  if (!(points.alpha > 0 && std::isfinite(points.alpha)))
    throw_domain(function, "alpha", detail::number(points.alpha), "positive and finite");
  if (!(points.kappa > -n && std::isfinite(points.kappa)))
    throw_domain(function, "kappa", detail::number(points.kappa), "more than -states and finite");
  if (!std::isfinite(points.beta))
    throw_domain(function, "beta", detail::number(points.beta), "finite");
  const double least = std::cbrt(static_cast<double>(std::numeric_limits<T>::epsilon()));
  const double reach = points.alpha * std::sqrt(n + points.kappa);
  if (!(reach >= least && reach <= 1 / least)) {
    char got[32], want[64];
    std::snprintf(got, sizeof got, "%g", reach);
    std::snprintf(want, sizeof want, "from %.2g to %.2g deviations", least, 1 / least);
    throw_domain(function, "alpha sqrt(n + kappa)", got, want);
  }
}

template <int P, class F, class T, int N>
Transformed<N, P> transform(std::string_view function, const F& f, const Belief<T, N>& belief,
                            const SigmaPoints& points) {
  using Vector = Eigen::Matrix<double, P, 1>;
  const Index n = belief.mean.size();
  const double spread = points.alpha * points.alpha * (static_cast<double>(n) + points.kappa);
  const double reach = std::sqrt(spread), at_mean = 1 - static_cast<double>(n) / spread;
  const double of_covariance = at_mean + 1 - points.alpha * points.alpha + points.beta;
  const auto value = [&](const Eigen::Matrix<T, N, 1>& x) {
    return Vector(f(x).template cast<double>());
  };
  const Vector middle = value(belief.mean);
  const Index p = middle.size();
  Transformed<N, P> result{semidefinite_factor(belief.covariance), middle,
                           Eigen::Matrix<double, P, N>(p, n),
                           Eigen::Matrix<double, P, P>::Zero(p, p)};
  if (!all_finite(result.L))
    throw_domain(function, "the covariance of the belief",
                 all_finite(belief.covariance) ? "indefinite" : "not finite",
                 "finite and positive semidefinite");
  Eigen::Matrix<double, P, N> centers(p, n);
  for (Index k = 0; k < n; ++k) {
    const Eigen::Matrix<T, N, 1> along = (reach * result.L.col(k)).template cast<T>();
    const Vector up = value(belief.mean + along), down = value(belief.mean - along);
    result.Z.col(k) = (up - down) / (2 * reach);
    centers.col(k) = (up + down) / 2;
    result.mean += ((up - middle) + (down - middle)) / (2 * spread);
  }
  const auto add_square = [&](double weight, const Vector& off) {
    for (Index j = 0; j < p; ++j)
      for (Index i = 0; i < p; ++i) result.rest(i, j) += weight * off(i) * off(j);
  };
  for (Index k = 0; k < n; ++k) add_square(1 / spread, centers.col(k) - result.mean);
  add_square(of_covariance, middle - result.mean);
  return result;
}

}  // namespace detail

/// Carries a belief over a step of x_{t+1} = f(x_t) + w_t by the images of points: no derivative of
/// f, and the mean right to second order where the extended filter's is to first. Exact for a
/// linear f (Julier & Uhlmann 1997). No allocation for fixed sizes.
///
/// @param f x ↦ x a step later (states); for x' = g(x, u), an integrator over the step
/// @param Q_bar (states, states), covariance of w_t
/// @param belief before the step, and after it
/// @param points where the points lie
/// @throws ShapeError for dynamic sizes
/// @throws DomainError for α, β, κ that place no points, and a covariance that is none
/// Cost: 2 states + 1 evaluations of f, a factorisation and a product of (states, states).
template <class F, class T, int N>
void unscented_predict(const F& f, const std::type_identity_t<Eigen::Matrix<T, N, N>>& Q_bar,
                       Belief<T, N>& belief, const SigmaPoints& points = {}) {
  constexpr std::string_view name = "unscented_predict";
  const Index states = belief.mean.size();
  detail::check_sigma_points<T>(name, points, states);
  detail::check_belief(name, "belief", belief, states);
  detail::check_dynamic(name, "Q_bar", Q_bar, states, states);
  const auto moved = detail::transform<N>(name, f, belief, points);
  detail::check_dynamic(name, "f(x)", moved.mean, states, 1);
  belief.mean = moved.mean.template cast<T>();
  belief.covariance = moved.rest + detail::in_double(Q_bar);
  detail::add_product_to(belief.covariance, moved.Z, detail::transposed(moved.Z));
  detail::symmetrize(belief.covariance);
}

/// Corrects a belief by a reading y = h(x) + v by the images of points. Where the differences of h
/// are Z in the deviations L of the belief, P = L Lᵀ, the gain is L Zᵀ S⁻¹ with
/// S = Z Zᵀ + R + what h is curved, and P keeps the form of Joseph. Exact for a linear h. No
/// allocation for fixed sizes.
///
/// @param h x ↦ (outputs)
/// @param R (outputs, outputs), covariance of v, symmetric, non-negative
/// @param y (outputs)
/// @param belief before and after
/// @param points where the points lie
/// @throws ShapeError for dynamic sizes
/// @throws DomainError for α, β, κ that place no points, and a covariance that is none
/// Cost: 2 states + 1 evaluations of h, a factorisation and four products of (states, states).
template <class H, class T, int N, int P>
Innovation<T, N, P> unscented_correct(const H& h, const Eigen::Matrix<T, P, P>& R,
                                      const std::type_identity_t<Eigen::Matrix<T, P, 1>>& y,
                                      Belief<T, N>& belief, const SigmaPoints& points = {}) {
  using Square = Eigen::Matrix<double, N, N>;
  constexpr std::string_view name = "unscented_correct";
  const Index states = belief.mean.size(), outputs = R.rows();
  detail::check_sigma_points<T>(name, points, states);
  detail::check_belief(name, "belief", belief, states);
  detail::check_dynamic(name, "R", R, outputs, outputs);
  detail::check_dynamic(name, "y", y, outputs, 1);
  const auto seen = detail::transform<P>(name, h, belief, points);
  detail::check_dynamic(name, "h(x)", seen.mean, outputs, 1);
  const Eigen::Matrix<double, P, P> noise = seen.rest + detail::in_double(R);
  Innovation<T, N, P> innovation;
  const Eigen::Matrix<double, N, P> K =
      detail::weigh<N, P>(seen.Z, Square::Identity(states, states), noise, innovation.covariance);
  innovation.residual = (y.template cast<double>() - seen.mean).template cast<T>();
  detail::settle_residual(
      innovation, seen.Z, K, [&](Index i) { return std::abs(seen.mean(i)); },
      [&](Index i) { return seen.Z.row(i).squaredNorm(); });
  innovation.gain = detail::multiply(seen.L, K).template cast<T>();
  detail::add_product_to(belief.mean, innovation.gain, innovation.residual);
  const Square left = detail::multiply(seen.L, detail::kept<N, P>(K, seen.Z));
  const Eigen::Matrix<double, N, P> LK = detail::multiply(seen.L, K);
  belief.covariance = detail::multiply(left, detail::transposed(left));
  detail::add_product_to(belief.covariance,
                         Eigen::Matrix<double, N, P>(detail::multiply(LK, noise)),
                         detail::transposed(LK));
  detail::symmetrize(belief.covariance);
  return innovation;
}

}  // namespace ssm
