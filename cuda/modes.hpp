#pragma once

#include "block.hpp"
#include "complex.hpp"
#include "math.hpp"
#include "ssm/discretize/discretization.hpp"

namespace ssm::kernels {

/// A mode discretized, x_t = a x_{t−1} + b (B u_t).
template <class E>
struct Mode {
  E a, b;
};

template <class E>
struct WideOf {
  using type = double;
};
template <class T>
struct WideOf<Complex<T>> {
  using type = Complex<double>;
};
template <class E>
using Wide = typename WideOf<E>::type;

SSM_DEVICE double widened(float x) { return x; }
SSM_DEVICE double widened(double x) { return x; }
template <class T>
SSM_DEVICE Complex<double> widened(Complex<T> x) {
  return {x.re, x.im};
}
template <class E>
SSM_DEVICE E narrowed(double x) {
  return E(x);
}
template <class E>
SSM_DEVICE E narrowed(Complex<double> x) {
  return {Real<E>(x.re), Real<E>(x.im)};
}

template <class W>
SSM_DEVICE Mode<W> discretized(Discretization method, W lambda, double delta) {
  const W one(1.0), z = lambda * delta;
  switch (method) {
    case Discretization::zero_order_hold:
      return {exp_of(z), phi1(z) * delta};
    case Discretization::bilinear:
      return {quotient(one + z * 0.5, one - z * 0.5), quotient(W(delta), one - z * 0.5)};
    case Discretization::forward_euler:
      return {one + z, W(delta)};
    default:
      return {quotient(one, one - z), quotient(W(delta), one - z)};  // backward Euler
  }
}

/// a^n by squaring.
template <class W>
SSM_DEVICE W power(W a, Index n) {
  W result(1.0);
  for (; n > 0; n /= 2, a = a * a)
    if (n % 2 == 1) result = result * a;
  return result;
}

}  // namespace ssm::kernels
