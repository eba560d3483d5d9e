#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include <cmath>
#include <limits>

#include "block.hpp"
#include "complex.hpp"
#include "ssm/core/float16.hpp"

namespace ssm::kernels {

// --- Numbers as they are kept ----------------------------------------------------------------

template <class T>
SSM_DEVICE T widen(T x) {
  return x;
}
template <class T>
SSM_DEVICE T narrow_to(T x) {
  return x;
}
#ifdef __CUDACC__
SSM_DEVICE float widen(Half x) { return __half2float(__ushort_as_half(x.bits)); }
SSM_DEVICE float widen(Bfloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
template <class T>
requires std::is_same_v<T, Half> SSM_DEVICE Half narrow_to(float x) {
  Half result;
  result.bits = __half_as_ushort(__float2half_rn(x));
  return result;
}
template <class T>
requires std::is_same_v<T, Bfloat16> SSM_DEVICE Bfloat16 narrow_to(float x) {
  Bfloat16 result;
  result.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
  return result;
}
#else
inline float widen(Half x) { return static_cast<float>(x); }
inline float widen(Bfloat16 x) { return static_cast<float>(x); }
template <class T>
requires std::is_same_v<T, Half>
inline Half narrow_to(float x) { return Half(x); }
template <class T>
requires std::is_same_v<T, Bfloat16>
inline Bfloat16 narrow_to(float x) { return Bfloat16(x); }
#endif

/// Two numbers to be kept side by side.
template <class T, class R>
SSM_DEVICE Pack<T, 2> narrow_pair(R a, R b) {
  return {narrow_to<T>(a), narrow_to<T>(b)};
}
#ifdef __CUDACC__
template <>
SSM_DEVICE Pack<Bfloat16, 2> narrow_pair<Bfloat16>(float a, float b) {
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(b), "f"(a));
  Pack<Bfloat16, 2> result;
  result[0].bits = static_cast<std::uint16_t>(both),
  result[1].bits = static_cast<std::uint16_t>(both >> 16);
  return result;
}
#endif

// --- Exponentials ----------------------------------------------------------------------------

template <class T>
inline constexpr T log2_e = T(1.4426950408889634073599246810018921L);
template <class T>
inline constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();
template <class T>
inline constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T>
inline constexpr T ln_2 = T(0.6931471805599453094172321214581766L);

/// 2^x. In float the device's own instruction: 2 ulp, and exactly 1 at 0.
SSM_DEVICE float exp2_of(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}
SSM_DEVICE double exp2_of(double x) { return ::exp2(x); }
template <class T>
SSM_DEVICE Complex<T> exp2_of(Complex<T> x) {
  const T size = exp2_of(x.re), angle = x.im * ln_2<T>;
  return {size * T(std::cos(angle)), size * T(std::sin(angle))};
}

/// e^z − 1, of full relative accuracy through z → 0.
template <class T>
SSM_DEVICE T expm1_of(T z) {
  return std::expm1(z);
}
template <class T>
SSM_DEVICE Complex<T> expm1_of(Complex<T> z) {
  const T growth = std::expm1(z.re), s = std::sin(z.im / 2), c = std::cos(z.im / 2);
  return {growth - 2 * s * s * (growth + 1), 2 * s * c * (growth + 1)};
}

/// e^z, of full relative accuracy however far z decays, where e^z − 1 has lost it.
template <class T>
SSM_DEVICE T exp_of(T z) {
  return std::exp(z);
}
template <class T>
SSM_DEVICE Complex<T> exp_of(Complex<T> z) {
  const T size = std::exp(z.re);
  return {size * T(std::cos(z.im)), size * T(std::sin(z.im))};
}

template <class T>
SSM_DEVICE T quotient(T x, T y) {
  return x / y;
}
/// Divides by the larger part first, so that squares do not overflow.
template <class T>
SSM_DEVICE Complex<T> quotient(Complex<T> x, Complex<T> y) {
  if (std::fabs(y.re) >= std::fabs(y.im)) {
    const T r = y.im / y.re, d = y.re + y.im * r;
    return {(x.re + x.im * r) / d, (x.im - x.re * r) / d};
  }
  const T r = y.re / y.im, d = y.re * r + y.im;
  return {(x.re * r + x.im) / d, (x.im * r - x.re) / d};
}

template <class T>
SSM_DEVICE T magnitude(T z) {
  return std::fabs(z);
}
template <class T>
SSM_DEVICE T magnitude(Complex<T> z) {
  return std::hypot(z.re, z.im);
}

/// (e^z − 1)/z, 1 at 0.
template <class E>
SSM_DEVICE E phi1(E z) {
  return magnitude(z) == Real<E>(0) ? E(Real<E>(1)) : quotient(expm1_of(z), z);
}

/// The derivative of phi1, by its series Σ (k + 1)/(k + 2)! z^k near 0.
template <class E>
SSM_DEVICE E phi1_derivative(E z) {
  using T = Real<E>;
  if (magnitude(z) <= T(1)) {
    constexpr int terms = sizeof(T) == 4 ? 12 : 20;
    E sum(T(0.5)), term(T(0.5));
    for (int k = 0; k < terms; ++k) {
      term = term * z * (T(k + 2) / (T(k + 1) * T(k + 3)));
      sum += term;
    }
    return sum;
  }
  return quotient((z - E(T(1))) * exp_of(z) + E(T(1)), z * z);
}

// --- Activations -----------------------------------------------------------------------------

/// 1/x. In float the device's own instruction, of 1 ulp.
SSM_DEVICE float reciprocal(float x) {
#ifdef __CUDACC__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1 / x;
#endif
}
SSM_DEVICE double reciprocal(double x) { return 1 / x; }

/// log(1 + x) for x in [0, 1], of full relative accuracy: x times a minimax polynomial, 1.2e-7.
SSM_DEVICE float log1p_of_unit(float x) {
  float p = -0.0031760570127516985f;
  p = p * x + 0.019542526453733444f;
  p = p * x - 0.056373611092567444f;
  p = p * x + 0.10543623566627502f;
  p = p * x - 0.1526966691017151f;
  p = p * x + 0.1966327428817749f;
  p = p * x - 0.24951615929603577f;
  p = p * x + 0.33329710364341736f;
  p = p * x - 0.49999892711639404f;
  return x * (p * x + 1.0f);
}
SSM_DEVICE double log1p_of_unit(double x) { return std::log1p(x); }
/// The same to 9.7e-6, for what comes from 16 bits.
SSM_DEVICE float coarse_log1p_of_unit(float x) {
  float p = -0.02473447099328041f;
  p = p * x + 0.10359247773885727f;
  p = p * x - 0.2124040722846985f;
  p = p * x + 0.32622605562210083f;
  p = p * x - 0.49953946471214294f;
  return x * (p * x + 1.0f);
}

/// log(1 + e^x), and its derivative σ(x); in float as exactly as an x that was kept as Kept
/// deserves.
template <class T, class Kept = T>
struct Softplus {
  T value, slope;

  SSM_DEVICE explicit Softplus(T x) {
    const T e = exp2_of(-std::fabs(x) * log2_e<T>), right = reciprocal(T(1) + e);
    value = x > T(0) ? x : T(0);
    if constexpr (sizeof(Kept) == 2)
      value += coarse_log1p_of_unit(e);
    else
      value += log1p_of_unit(e);
    slope = x > T(0) ? right : e * right;
  }
};

/// x σ(x), 0 at −∞.
template <class T>
SSM_DEVICE T silu(T x) {
  constexpr T largest_exponent = sizeof(T) == 4 ? 126 : 1022;
  const T exponent = -x * log2_e<T>, value = x * reciprocal(T(1) + exp2_of(exponent));
  return exponent > largest_exponent ? T(0) : value;
}

/// silu(x) = x σ(x), and its derivative σ(x) (1 + x σ(−x)).
template <class T>
struct Silu {
  T value, slope;

  SSM_DEVICE explicit Silu(T x) {
    constexpr T largest_exponent = sizeof(T) == 4 ? 126 : 1022;
    const T exponent = -x * log2_e<T>;
    const T e = exp2_of(exponent < largest_exponent ? exponent : largest_exponent);
    const T right = reciprocal(T(1) + e), left = e * right;
    value = exponent > largest_exponent ? T(0) : x * right;
    slope = exponent > largest_exponent ? T(0) : right * (T(1) + x * left);
  }
};

}  // namespace ssm::kernels
