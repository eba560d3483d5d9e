#pragma once

#include <cmath>
#include <concepts>

#include "ssm/core/index.hpp"

namespace ssm {

/// The logistic function σ(x) = 1/(1 + e^−x), with full relative accuracy for every x.
template <std::floating_point T>
[[nodiscard]] T sigmoid(T x) noexcept {
  if (x >= T(0)) return T(1) / (T(1) + std::exp(-x));
  const T e = std::exp(x);
  return e / (T(1) + e);
}

/// The derivative of sigmoid, dσ/dx = σ(x) σ(−x).
template <std::floating_point T>
[[nodiscard]] T sigmoid_derivative(T x) noexcept {
  return sigmoid(x) * sigmoid(-x);
}

/// log(1 + e^x), with full relative accuracy also where it is nearly e^x (x far below 0) or nearly
/// x (x far above 0).
template <std::floating_point T>
[[nodiscard]] T softplus(T x) noexcept {
  return x > T(0) ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

/// The derivative of softplus, σ(x).
template <std::floating_point T>
[[nodiscard]] T softplus_derivative(T x) noexcept {
  return sigmoid(x);
}

/// The inverse of softplus: the x with softplus(x) = y, x = y + log(1 − e^−y), for y > 0.
template <std::floating_point T>
[[nodiscard]] T inverse_softplus(T y) noexcept {
  return y + std::log(-std::expm1(-y));
}

/// silu(x) = x σ(x), also called swish.
template <std::floating_point T>
[[nodiscard]] T silu(T x) noexcept {
  const T s = sigmoid(x);
  return s > T(0) ? x * s : s;  // −∞ · 0 would be NaN
}

/// The derivative of silu, σ(x) (1 + x σ(−x)).
template <std::floating_point T>
[[nodiscard]] T silu_derivative(T x) noexcept {
  const T right = sigmoid(x), left = sigmoid(-x);
  if (right == T(0) || left == T(0)) return right;  // ∓∞ · 0 would be NaN
  return right * (T(1) + x * left);
}

}  // namespace ssm
