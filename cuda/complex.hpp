#pragma once

#include <complex>
#include <type_traits>

#include "block.hpp"

namespace ssm::kernels {

/// std::complex as kernels may use it, of the same layout.
template <class T>
struct alignas(2 * sizeof(T)) Complex {
  T re, im;

  Complex() = default;
  SSM_DEVICE constexpr Complex(T real, T imaginary = T(0)) : re(real), im(imaginary) {}

  SSM_DEVICE Complex& operator+=(Complex b) { return *this = *this + b; }
  friend SSM_DEVICE Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
  friend SSM_DEVICE Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
  friend SSM_DEVICE Complex operator*(Complex a, Complex b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  }
  friend SSM_DEVICE Complex operator*(T a, Complex b) { return {a * b.re, a * b.im}; }
  friend SSM_DEVICE Complex operator*(Complex a, T b) { return {a.re * b, a.im * b}; }
};

template <class E>
inline constexpr bool is_complex = false;
template <class T>
inline constexpr bool is_complex<Complex<T>> = true;

template <class E>
struct RealOf {
  using type = E;
};
template <class T>
struct RealOf<Complex<T>> {
  using type = T;
};
/// The real type under a real or complex element.
template <class E>
using Real = typename RealOf<E>::type;

template <class K>
struct ElementOf {
  using type = K;
};
template <class T>
struct ElementOf<std::complex<T>> {
  using type = Complex<T>;
};
/// What a kernel takes a scalar of the interface for.
template <class K>
using Element = typename ElementOf<K>::type;

template <class T>
SSM_DEVICE T real(T x) {
  return x;
}
template <class T>
SSM_DEVICE T real(Complex<T> x) {
  return x.re;
}
template <class T>
SSM_DEVICE T conjugate(T x) {
  return x;
}
template <class T>
SSM_DEVICE Complex<T> conjugate(Complex<T> x) {
  return {x.re, -x.im};
}
/// Re(x conj(y)).
template <class T>
SSM_DEVICE T real_product(T x, T y) {
  return x * y;
}
template <class T>
SSM_DEVICE T real_product(Complex<T> x, Complex<T> y) {
  return x.re * y.re + x.im * y.im;
}

/// Block::shuffle_xor for either.
template <class T>
SSM_DEVICE T shuffle_xor(Block& block, T x, int mask) {
  return block.shuffle_xor(x, mask);
}
template <class T>
SSM_DEVICE Complex<T> shuffle_xor(Block& block, Complex<T> x, int mask) {
  return {block.shuffle_xor(x.re, mask), block.shuffle_xor(x.im, mask)};
}

}  // namespace ssm::kernels
