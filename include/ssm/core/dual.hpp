#pragma once

#include <cmath>
#include <concepts>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/index.hpp"

namespace ssm {

/// A number and its derivative in one direction: value + derivative ε with ε² = 0.
///
/// Arithmetic and the elementary functions below apply the chain rule, f(a + bε) =
/// f(a) + f′(a) b ε, so that a program run with Dual numbers gives derivatives that are exact up to
/// rounding. Comparisons look at the value alone: where the program branches, the derivative is
/// that of the branch taken. Dual is a scalar type of Eigen's matrices and mixes with plain numbers
/// there.
template <std::floating_point T>
struct Dual {
  T value{};       ///< the number
  T derivative{};  ///< its derivative in the chosen direction

  constexpr Dual() = default;
  /// The number `value_` with this derivative.
  constexpr Dual(T value_, T derivative_) : value(value_), derivative(derivative_) {}
  /// A constant: any plain number, rounded to T.
  template <class Number>
  requires(std::is_arithmetic_v<Number>) constexpr Dual(Number number)
      : value(static_cast<T>(number)) {}

  ///@{
  /// Arithmetic, with the derivative by the rules of sums, products and quotients.
  friend constexpr Dual operator+(const Dual& a) { return a; }
  friend constexpr Dual operator-(const Dual& a) { return {-a.value, -a.derivative}; }
  friend constexpr Dual operator+(const Dual& a, const Dual& b) {
    return {a.value + b.value, a.derivative + b.derivative};
  }
  friend constexpr Dual operator-(const Dual& a, const Dual& b) {
    return {a.value - b.value, a.derivative - b.derivative};
  }
  friend constexpr Dual operator*(const Dual& a, const Dual& b) {
    return {a.value * b.value, a.derivative * b.value + a.value * b.derivative};
  }
  friend constexpr Dual operator/(const Dual& a, const Dual& b) {
    const T quotient = a.value / b.value;
    return {quotient, (a.derivative - quotient * b.derivative) / b.value};
  }
  constexpr Dual& operator+=(const Dual& b) { return *this = *this + b; }
  constexpr Dual& operator-=(const Dual& b) { return *this = *this - b; }
  constexpr Dual& operator*=(const Dual& b) { return *this = *this * b; }
  constexpr Dual& operator/=(const Dual& b) { return *this = *this / b; }
  ///@}

  friend constexpr bool operator==(const Dual& a, const Dual& b) { return a.value == b.value; }
  /// Compares the values; derivatives do not count.
  friend constexpr auto operator<=>(const Dual& a, const Dual& b) { return a.value <=> b.value; }

  ///@{
  /// The function of the standard library of this name, with its derivative by the chain rule.
  friend Dual sqrt(const Dual& a) {
    const T root = std::sqrt(a.value);
    return chain(a, root, T(0.5) / root);
  }
  friend Dual cbrt(const Dual& a) {
    const T root = std::cbrt(a.value);
    return chain(a, root, T(1) / (T(3) * root * root));
  }
  friend Dual exp(const Dual& a) { return chain(a, std::exp(a.value), std::exp(a.value)); }
  friend Dual expm1(const Dual& a) { return chain(a, std::expm1(a.value), std::exp(a.value)); }
  friend Dual log(const Dual& a) { return chain(a, std::log(a.value), T(1) / a.value); }
  friend Dual log1p(const Dual& a) {
    return chain(a, std::log1p(a.value), T(1) / (T(1) + a.value));
  }
  friend Dual sin(const Dual& a) { return chain(a, std::sin(a.value), std::cos(a.value)); }
  friend Dual cos(const Dual& a) { return chain(a, std::cos(a.value), -std::sin(a.value)); }
  friend Dual tan(const Dual& a) {
    const T tangent = std::tan(a.value);
    return chain(a, tangent, T(1) + tangent * tangent);
  }
  friend Dual asin(const Dual& a) {
    return chain(a, std::asin(a.value), T(1) / std::sqrt((T(1) - a.value) * (T(1) + a.value)));
  }
  friend Dual acos(const Dual& a) {
    return chain(a, std::acos(a.value), T(-1) / std::sqrt((T(1) - a.value) * (T(1) + a.value)));
  }
  friend Dual atan(const Dual& a) {
    return chain(a, std::atan(a.value), T(1) / (T(1) + a.value * a.value));
  }
  friend Dual sinh(const Dual& a) { return chain(a, std::sinh(a.value), std::cosh(a.value)); }
  friend Dual cosh(const Dual& a) { return chain(a, std::cosh(a.value), std::sinh(a.value)); }
  friend Dual tanh(const Dual& a) {
    const T tangent = std::tanh(a.value);
    return chain(a, tangent, (T(1) - tangent) * (T(1) + tangent));
  }
  ///@}
  /// |a|, with derivative 0 at 0.
  friend Dual abs(const Dual& a) {
    const T sign = a.value > T(0) ? T(1) : a.value < T(0) ? T(-1) : T(0);
    return chain(a, std::abs(a.value), sign);
  }
  /// The angle of the point (x, y), with its derivative. It is not defined at the origin.
  friend Dual atan2(const Dual& y, const Dual& x) {
    const T square = x.value * x.value + y.value * y.value;
    return {std::atan2(y.value, x.value),
            (x.value * y.derivative - y.value * x.derivative) / square};
  }
  /// √(x² + y²), with its derivative. It is not defined at the origin.
  friend Dual hypot(const Dual& x, const Dual& y) {
    const T length = std::hypot(x.value, y.value);
    return {length, (x.value * x.derivative + y.value * y.derivative) / length};
  }
  /// a^b, with its derivative. Where b is a constant, a may be negative for a whole b.
  friend Dual pow(const Dual& a, const Dual& b) {
    const T power = std::pow(a.value, b.value);
    T slope = T(0);
    if (a.derivative != T(0)) slope += b.value * std::pow(a.value, b.value - T(1)) * a.derivative;
    if (b.derivative != T(0)) slope += power * std::log(a.value) * b.derivative;
    return {power, slope};
  }
  /// True when the value and the derivative are both finite.
  friend bool isfinite(const Dual& a) {
    return std::isfinite(a.value) && std::isfinite(a.derivative);
  }

 private:
  static constexpr Dual chain(const Dual& a, T value, T slope) {
    return {value, slope * a.derivative};
  }
};

}  // namespace ssm

/// @cond internal
template <class T>
struct Eigen::NumTraits<ssm::Dual<T>> : Eigen::NumTraits<T> {
  using Real = ssm::Dual<T>;
  using NonInteger = ssm::Dual<T>;
  using Nested = ssm::Dual<T>;
  enum { RequireInitialization = 1, ReadCost = 2, AddCost = 2, MulCost = 5 };
};

template <class T, class Operation>
struct Eigen::ScalarBinaryOpTraits<ssm::Dual<T>, T, Operation> {
  using ReturnType = ssm::Dual<T>;
};
template <class T, class Operation>
struct Eigen::ScalarBinaryOpTraits<T, ssm::Dual<T>, Operation> {
  using ReturnType = ssm::Dual<T>;
};
/// @endcond
