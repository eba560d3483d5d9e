#pragma once

#include <cassert>
#include <cmath>
#include <cstdlib>

#include "ssm/core/phi.hpp"
#include "ssm/discretize/discretize.hpp"

namespace ssm {

/// How a discretized mode moves with its λ and its Δ: the derivatives of DiscreteMode.
template <Scalar K>
struct DiscreteModeSlopes {
  K a_by_lambda;  ///< of a_bar by λ, s
  K a_by_delta;   ///< of a_bar by Δ, 1/s
  K b_by_lambda;  ///< of b_bar_factor by λ, s²
  K b_by_delta;   ///< of b_bar_factor by Δ
};

/// The derivatives of `discretize(method, λ, Δ)` of one mode, by a method that keeps C and D. With
/// z = Δλ, a_bar = f(z) and b_bar_factor = Δ h(z) they are Δ f′, λ f′, Δ² h′ and h + z h′.
///
/// @param method how the system is sampled
/// @param lambda λ, 1/s, real or complex
/// @param delta Δ, s
template <Scalar K>
[[nodiscard]] DiscreteModeSlopes<K> discretize_slopes(Discretization method, const K& lambda,
                                                      Real<K> delta) noexcept {
  assert(keeps_output(method));
  const K z = lambda * delta;
  const auto slopes = [&](K f_slope, K h_slope, K b_by_delta) {
    return DiscreteModeSlopes<K>{delta * f_slope, lambda * f_slope, delta * delta * h_slope,
                                 b_by_delta};
  };
  switch (method) {
    case Discretization::zero_order_hold: {
      const K growth = std::exp(z);
      return slopes(growth, phi1_derivative(z), growth);
    }
    case Discretization::bilinear: {
      const K inverse = K(1) / (K(1) - z / Real<K>(2)), square = inverse * inverse;
      return slopes(square, square / Real<K>(2), square);
    }
    case Discretization::forward_euler:
      return slopes(K(1), K(0), K(1));
    case Discretization::backward_euler: {
      const K inverse = K(1) / (K(1) - z), square = inverse * inverse;
      return slopes(square, square, square);
    }
    default:
      std::abort();
  }
}

}  // namespace ssm
