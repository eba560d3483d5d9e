#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/intrinsics.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"

/// Vectors as wide as the compiler's flags allow, on the vector types that GCC and Clang share.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The compiler's own vector types. (An attribute on a dependent type is lost by g++ 12.)
template <class T>
struct NativeVector;
template <>
struct NativeVector<float> {
  typedef float Type __attribute__((vector_size(vector_bytes)));
  typedef std::int32_t Bits __attribute__((vector_size(vector_bytes)));
};
template <>
struct NativeVector<double> {
  typedef double Type __attribute__((vector_size(vector_bytes)));
  typedef std::int64_t Bits __attribute__((vector_size(vector_bytes)));
};

template <class T>
struct Vec {
  using Element = T;
  using Native = typename NativeVector<T>::Type;
  using NativeBits = typename NativeVector<T>::Bits;

  Native v;

  Vec() = default;
  Vec(Native native) noexcept : v(native) {}
  Vec(T scalar) noexcept : v(scalar - Native{}) {}

  [[nodiscard]] static Vec load(const T* p) noexcept {
    Vec r;
    std::memcpy(&r.v, p, vector_bytes);
    return r;
  }
  /// The first `count` lanes from memory, zero in the rest.
  [[nodiscard]] static Vec load(const T* p, Index count) noexcept {
    if (count >= lanes<T>) return load(p);
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    if constexpr (std::is_same_v<T, float>)
      return Vec(_mm512_maskz_loadu_ps(first_lanes(count), p));
    else
      return Vec(_mm512_maskz_loadu_pd(static_cast<__mmask8>(first_lanes(count)), p));
#else
    Vec r(T(0));
    std::memcpy(&r.v, p, static_cast<std::size_t>(count) * sizeof(T));
    return r;
#endif
  }
  void store(T* p) const noexcept { std::memcpy(p, &v, vector_bytes); }
  void store(T* p, Index count) const noexcept {
    if (count >= lanes<T>) return store(p);
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    if constexpr (std::is_same_v<T, float>)
      _mm512_mask_storeu_ps(p, first_lanes(count), v);
    else
      _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first_lanes(count)), v);
#else
    std::memcpy(p, &v, static_cast<std::size_t>(count) * sizeof(T));
#endif
  }

  friend Vec operator+(Vec a, Vec b) noexcept { return a.v + b.v; }
  friend Vec operator-(Vec a, Vec b) noexcept { return a.v - b.v; }
  friend Vec operator*(Vec a, Vec b) noexcept { return a.v * b.v; }
  friend Vec operator/(Vec a, Vec b) noexcept { return a.v / b.v; }
  friend Vec operator-(Vec a) noexcept { return -a.v; }

#if defined(__AVX512F__) && defined(__AVX512DQ__)
 private:
  [[nodiscard]] static __mmask16 first_lanes(Index count) noexcept {
    return static_cast<__mmask16>((1u << count) - 1u);
  }
#endif
};

/// Vec<T>, or several of them that go in step (VecGroup). Elementary functions are written for
/// both.
template <class V>
concept Lanewise = requires {
  typename V::Element;
};

/// a b + c, in one rounding where the machine has it.
template <class T>
[[nodiscard]] Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) noexcept {
  [[maybe_unused]] constexpr bool single = std::is_same_v<T, float>;
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if constexpr (single)
    return Vec<T>(_mm512_fmadd_ps(a.v, b.v, c.v));
  else
    return Vec<T>(_mm512_fmadd_pd(a.v, b.v, c.v));
#elif defined(__FMA__)
  if constexpr (single)
    return Vec<T>(_mm256_fmadd_ps(a.v, b.v, c.v));
  else
    return Vec<T>(_mm256_fmadd_pd(a.v, b.v, c.v));
#elif defined(__aarch64__)
  if constexpr (single)
    return Vec<T>(vfmaq_f32(c.v, a.v, b.v));
  else
    return Vec<T>(vfmaq_f64(c.v, a.v, b.v));
#else
  return a * b + c;
#endif
}

/// Keeps a vector in a register: a compiler would load it again for each of its uses, and a product
/// would wait for loads.
template <class T>
[[gnu::always_inline]] inline void in_register(Vec<T>& a) noexcept {
#if defined(__AVX512F__)
  asm("" : "+v"(a.v));
#elif defined(__SSE2__)
  asm("" : "+x"(a.v));
#else
  static_cast<void>(a);
#endif
}

/// The lane of `a` where it exceeds the limit, else the limit; a NaN stays.
template <class T>
[[nodiscard]] Vec<T> at_least(Vec<T> a, Vec<T> limit) noexcept {
  [[maybe_unused]] constexpr bool single = std::is_same_v<T, float>;
  // The machine's maximum of a NaN is its second operand, which g++ does not see in a choice.
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return a.v < limit.v ? limit.v : a.v;
#elif defined(__AVX__)
  if constexpr (single)
    return Vec<T>(_mm256_max_ps(limit.v, a.v));
  else
    return Vec<T>(_mm256_max_pd(limit.v, a.v));
#elif defined(__SSE2__)
  if constexpr (single)
    return Vec<T>(_mm_max_ps(limit.v, a.v));
  else
    return Vec<T>(_mm_max_pd(limit.v, a.v));
#else
  return a.v < limit.v ? limit.v : a.v;
#endif
}
template <class T>
[[nodiscard]] Vec<T> at_most(Vec<T> a, Vec<T> limit) noexcept {
  [[maybe_unused]] constexpr bool single = std::is_same_v<T, float>;
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return a.v > limit.v ? limit.v : a.v;
#elif defined(__AVX__)
  if constexpr (single)
    return Vec<T>(_mm256_min_ps(limit.v, a.v));
  else
    return Vec<T>(_mm256_min_pd(limit.v, a.v));
#elif defined(__SSE2__)
  if constexpr (single)
    return Vec<T>(_mm_min_ps(limit.v, a.v));
  else
    return Vec<T>(_mm_min_pd(limit.v, a.v));
#else
  return a.v > limit.v ? limit.v : a.v;
#endif
}
template <class T>
[[nodiscard]] Vec<T> absolute(Vec<T> a) noexcept {
  using Bits = typename Vec<T>::NativeBits;
  const Bits magnitude = ~reinterpret_cast<Bits>(Vec<T>(T(-0.0)).v);
  return Vec<T>(reinterpret_cast<typename Vec<T>::Native>(reinterpret_cast<Bits>(a.v) & magnitude));
}

/// `then` in the lanes where x < 0, `otherwise` in the rest.
template <class T>
[[nodiscard]] Vec<T> if_negative(Vec<T> x, Vec<T> then, Vec<T> otherwise) noexcept {
  return Vec<T>(x.v < 0 ? then.v : otherwise.v);
}

/// The sum of the lanes, pairwise: each with that half a vector further on.
template <class T>
[[nodiscard]] T sum(Vec<T> a) noexcept {
#if defined(__AVX__)
  if constexpr (std::is_same_v<T, float>) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
#else
    const __m256 eight = a.v;
#endif
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
#endif
  std::array<T, vector_bytes / sizeof(T)> x;
  std::memcpy(x.data(), &a.v, vector_bytes);
  for (std::size_t half = x.size() / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) x[i] += x[i + half];
  return x[0];
}

/// Σ_k c_k x^k by Horner's rule, coefficients from k = 0 upward.
template <std::size_t K = 0, Lanewise V, std::size_t Count>
[[nodiscard]] V polynomial(V x, const std::array<typename V::Element, Count>& c) noexcept {
  if constexpr (K + 1 == Count)
    return V(c[K]);
  else
    return fma(polynomial<K + 1>(x, c), x, V(c[K]));
}

template <class T>
struct Exp2;

/// 2^r on [−1/2, 1/2], degree 5, of the right value and slope at 0, so that decays next to 1 have
/// no bias; 1.05e-7 relative.
template <>
struct Exp2<float> {
  static constexpr std::array<float, 6> centred{1.0f,         0.69314718f,   0.24022283f,
                                                0.055505585f, 0.0096696913f, 0.0013300607f};
  static constexpr float to_exponent = 0x1.8p23f + 127.0f;
  static constexpr float lowest = -127.0f;
  static constexpr float highest = 128.0f;
  static constexpr int mantissa_bits = 23;
};

/// 2^r on [−1/2, 1/2], degree 11, 8e-18 relative.
template <>
struct Exp2<double> {
  static constexpr std::array<double, 12> centred{1.0,
                                                  0.6931471805599453,
                                                  0.24022650695910097,
                                                  0.0555041086648216,
                                                  0.009618129107606888,
                                                  0.0013333558146416936,
                                                  0.0001540353044173605,
                                                  1.525273382983612e-05,
                                                  1.321544258792169e-06,
                                                  1.0178062445845774e-07,
                                                  7.072585949269223e-09,
                                                  4.4549605981865186e-10};
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  /// 2^r on [−1/32, 1/32], degree 6, 1.5e-17 relative, and 2^{j/16} for the rest of the fraction.
  static constexpr std::array<double, 7> sixteenth{1.0,
                                                   0.6931471805599457,
                                                   0.24022650695910075,
                                                   0.0555041086566393,
                                                   0.009618129106919537,
                                                   0.0013333781576784268,
                                                   0.00015403723980749256};
  alignas(64) static constexpr std::array<double, 16> roots{1.0,
                                                            1.0442737824274138,
                                                            1.0905077326652577,
                                                            1.1387886347566916,
                                                            1.189207115002721,
                                                            1.241857812073484,
                                                            1.2968395546510096,
                                                            1.3542555469368927,
                                                            1.4142135623730951,
                                                            1.4768261459394993,
                                                            1.5422108254079407,
                                                            1.6104903319492543,
                                                            1.681792830507429,
                                                            1.7562521603732995,
                                                            1.8340080864093424,
                                                            1.9152065613971474};
#endif
  static constexpr double to_exponent = 0x1.8p52 + 1023.0;
  static constexpr double lowest = -1023.0;
  static constexpr double highest = 1024.0;
  static constexpr int mantissa_bits = 52;
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"  // of macros among the intrinsics
#endif

/// The nearest integer, for |x| < 2^22 in float and 2^51 in double, whatever the rounding mode
/// where the machine has an instruction for it. No compiler may fold it into x.
template <class T>
[[nodiscard]] Vec<T> nearest(Vec<T> x) noexcept {
  [[maybe_unused]] constexpr bool single = std::is_same_v<T, float>;
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  // The full masks, here and below, are for g++ 12, which warns of the undefined register in the
  // unmasked forms.
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  if constexpr (single)
    return Vec<T>(_mm512_maskz_roundscale_ps(0xffff, x.v, mode));
  else
    return Vec<T>(_mm512_maskz_roundscale_pd(0xff, x.v, mode));
#elif defined(__AVX__)
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  if constexpr (single)
    return Vec<T>(_mm256_round_ps(x.v, mode));
  else
    return Vec<T>(_mm256_round_pd(x.v, mode));
#elif defined(__aarch64__)
  if constexpr (single)
    return Vec<T>(vrndnq_f32(x.v));
  else
    return Vec<T>(vrndnq_f64(x.v));
#else
  // Adding 1.5·2^m leaves no place for a fraction.
  constexpr T no_fraction = single ? T(0x1.8p23) : T(0x1.8p52);
  Vec<T> rounded = x + Vec<T>(no_fraction);
#if defined(__SSE2__)
  asm("" : "+x"(rounded.v));
#endif
  return rounded - Vec<T>(no_fraction);
#endif
}

/// 2^n of an integer n in [Exp2<T>::lowest, Exp2<T>::highest], 0 for the lowest, infinity for the
/// highest.
template <class T>
[[nodiscard]] Vec<T> power_of_two(Vec<T> n) noexcept {
  using Bits = typename Vec<T>::NativeBits;
  const Vec<T> biased = n + Vec<T>(Exp2<T>::to_exponent);  // in the lowest bits
  const Bits exponent = reinterpret_cast<Bits>(biased.v) << Exp2<T>::mantissa_bits;
  return Vec<T>(reinterpret_cast<typename Vec<T>::Native>(exponent));
}

#if defined(__AVX512F__) && defined(__AVX512DQ__)
/// The nearest multiple of 1/16.
[[nodiscard]] inline Vec<double> nearest_sixteenth(Vec<double> x) noexcept {
  constexpr int fraction_bits = 4;
  constexpr int mode = fraction_bits << 4 | _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return Vec<double>(_mm512_maskz_roundscale_pd(0xff, x.v, mode));
}

/// The entry of a table of sixteen that the low four bits of `index` select.
[[nodiscard]] inline Vec<double> select_sixteenth(const std::array<double, 16>& table,
                                                  Vec<double> index) noexcept {
  return Vec<double>(_mm512_permutex2var_pd(_mm512_load_pd(table.data()),
                                            _mm512_castpd_si512(index.v),
                                            _mm512_load_pd(table.data() + 8)));
}

/// 2^n for a multiple n of 1/16 below 2^47, without its integer part: 2^{n − ⌊n⌋}.
[[nodiscard]] inline Vec<double> root_of_sixteenth(Vec<double> n) noexcept {
  return select_sixteenth(Exp2<double>::roots, n + Vec<double>(0x1.8p48));
}

/// a 2^⌊n⌋.
template <class T>
[[nodiscard]] Vec<T> scale(Vec<T> a, Vec<T> n) noexcept {
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm512_maskz_scalef_ps(0xffff, a.v, n.v));
  else
    return Vec<T>(_mm512_maskz_scalef_pd(0xff, a.v, n.v));
}
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

/// 2^x. Underflow gives 0 (without AVX-512 already below the normal numbers), overflow infinity.
template <Lanewise V>
[[nodiscard]] V exp2(V x) noexcept {
  using Constants = Exp2<typename V::Element>;
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if constexpr (std::is_same_v<typename V::Element, float>) {
    // x − n is exact; the fraction above the integer below x would lose the digits of a tiny
    // negative x, and decays next to 1 would be low on average.
    const V n = nearest(x);
    return scale(polynomial(x - n, Constants::centred), n);
  } else {
    const V n = nearest_sixteenth(x);
    return scale(root_of_sixteenth(n) * polynomial(x - n, Constants::sixteenth), n);
  }
#else
  x = at_most(at_least(x, V(Constants::lowest)), V(Constants::highest));
  const V n = nearest(x);
  return polynomial(x - n, Constants::centred) * power_of_two(n);
#endif
}

template <class T>
inline constexpr T log2_e = T(1.4426950408889634);

#if defined(__AVX512F__) && defined(__AVX512DQ__)
/// e^r on |r| ≤ ln 2/32, degree 6, 1.4e-17 relative.
inline constexpr std::array<double, 7> exp_sixteenth{1.0,
                                                     1.0000000000000007,
                                                     0.5000000000000001,
                                                     0.16666666664208724,
                                                     0.04166666666359425,
                                                     0.008333473002881155,
                                                     0.001388906347556763};

/// c_j near 1/(1 + j/15), of eight bits, so that c_j − 1 is exact; and −log c_j.
alignas(64) inline constexpr std::array<double, 16> log1p_centres{
    1.0,        0.9375, 0.8828125, 0.83203125, 0.7890625, 0.75,       0.71484375, 0.68359375,
    0.65234375, 0.625,  0.6015625, 0.578125,   0.5546875, 0.53515625, 0.515625,   0.5};
alignas(64) inline constexpr std::array<double, 16> log1p_offsets{0.0,
                                                                  0.06453852113757118,
                                                                  0.1246424452072766,
                                                                  0.18388527877013736,
                                                                  0.2369097470783577,
                                                                  0.2876820724517809,
                                                                  0.33569129163814154,
                                                                  0.38039147055604844,
                                                                  0.42718363206280735,
                                                                  0.4700036292457356,
                                                                  0.5082248420659333,
                                                                  0.5479651707154474,
                                                                  0.5893503868783018,
                                                                  0.6251965186514375,
                                                                  0.6623755218931916,
                                                                  0.6931471805599453};
/// log(1 + r)/r on |r| ≤ 0.0353, degree 8, 6.8e-17 relative.
inline constexpr std::array<double, 9> log1p_fifteenth{1.0,
                                                       -0.4999999999999981,
                                                       0.33333333333333165,
                                                       -0.2500000000483589,
                                                       0.20000000004396398,
                                                       -0.1666664725093306,
                                                       0.14285696634539916,
                                                       -0.1252493825676176,
                                                       0.11133782751619839};
#endif

/// ln 2 in two pieces: small integers times the upper one are exact.
template <class T>
inline constexpr T ln2_upper = std::is_same_v<T, float> ? T(0x1.62e4p-1) : T(0x1.62e42feep-1);
template <class T>
inline constexpr T ln2_lower = std::is_same_v<T, float> ? T(0x1.7f7d1cp-20)
                                                        : T(0x1.a39ef35793c76p-33);

/// e^x for x < ∞: x = n ln 2 + r, with r as exact as x, or far from zero the error would grow to
/// ε|x|.
template <Lanewise V>
[[nodiscard]] V exp(V x) noexcept {
  using T = typename V::Element;
  [[maybe_unused]] const auto remainder = [&](V n) {
    return fma(n, V(-ln2_lower<T>), fma(n, V(-ln2_upper<T>), x));
  };
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  constexpr T lowest = std::is_same_v<T, float> ? T(-110) : T(-760);  // e^x is 0 below
  x = at_least(x, V(lowest));
  if constexpr (std::is_same_v<T, float>) {
    const V n = nearest(x * V(log2_e<T>));
    constexpr float lost = 1.9259629911e-8f;  // log₂e − log2_e<float>
    const V r = fma(x, V(lost), fma(x, V(log2_e<T>), -n));
    return scale(polynomial(r, Exp2<T>::centred), n);
  } else {
    const V n = nearest_sixteenth(x * V(log2_e<T>));
    return scale(root_of_sixteenth(n) * polynomial(remainder(n), exp_sixteenth), n);
  }
#else
  using Constants = Exp2<T>;
  // Within the ends, so that no rounding mode leads beyond them.
  constexpr T ln2 = T(0.6931471805599453), margin = T(0.015625);
  x = at_most(at_least(x, V((Constants::lowest + margin) * ln2)),
              V((Constants::highest - margin) * ln2));
  const V n = nearest(x * V(log2_e<T>));
  return polynomial(remainder(n) * V(log2_e<T>), Constants::centred) * power_of_two(n);
#endif
}

/// start + log(1 + t) for t in [0, 1], the logarithm with full relative accuracy.
template <Lanewise V>
[[nodiscard]] V log1p_unit(V t, V start = V(0)) noexcept {
  using T = typename V::Element;
  if constexpr (std::is_same_v<T, float>) {
    // log(1 + t)/t, degree 9, 3.1e-8 relative.
    constexpr std::array<float, 10> c{1.0f,         -0.49999997f,  0.33332843f, -0.24986526f,
                                      0.19854106f,  -0.15847565f,  0.11561845f, -0.066757724f,
                                      0.025224054f, -0.0044662114f};
    return fma(t, polynomial(t, c), start);
  } else {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    // 1 + t = (1 + r)/c with r = t c + (c − 1), and c the nearest of sixteen.
    const V index = nearest(t * V(15.0)) + V(0x1.8p52);
    const V c = select_sixteenth(log1p_centres, index);
    const V r = fma(t, c, c - V(1.0));
    return start + fma(r, polynomial(r, log1p_fifteenth), select_sixteenth(log1p_offsets, index));
#else
    // 2 atanh(s) with s = t/(2 + t), as s times a polynomial in s² ≤ 1/9, 3.6e-21 relative.
    const V s = t / (t + V(T(2)));
    constexpr std::array<double, 13> c{1.0,
                                       0.3333333333333333,
                                       0.20000000000000007,
                                       0.1428571428571097,
                                       0.11111111111665993,
                                       0.09090909043002827,
                                       0.07692310126902081,
                                       0.06666588474569089,
                                       0.05883998883620518,
                                       0.05240199617182637,
                                       0.04971012448277368,
                                       0.03167055425885123,
                                       0.07615631309714492};
    return fma(s + s, polynomial(s * s, c), start);
#endif
  }
}

/// log(1 + e^x) = max(x, 0) + log(1 + e^{−|x|}).
template <Lanewise V>
[[nodiscard]] V softplus(V x) noexcept {
  return log1p_unit(exp(-absolute(x)), at_least(x, V(0)));
}

/// 1/(1 + e^{−x}) from x and e = e^{−|x|}.
template <Lanewise V>
[[nodiscard]] V sigmoid_from(V x, V e) noexcept {
  return if_negative(x, e, V(1)) / (V(1) + e);
}

/// 1/(1 + e^{−x}), with full relative accuracy at both ends.
template <Lanewise V>
[[nodiscard]] V sigmoid(V x) noexcept {
  return sigmoid_from(x, exp(-absolute(x)));
}

/// softplus(x) and its derivative, sigmoid(x), from one exponential, with the bits of either alone.
template <Lanewise V>
struct SoftplusAndSlope {
  V value, slope;

  explicit SoftplusAndSlope(V x) noexcept {
    const V e = exp(-absolute(x));
    value = log1p_unit(e, at_least(x, V(0)));
    slope = sigmoid_from(x, e);
  }
};

/// Calls body(k) for k = 0 … Count − 1 as compile-time constants, always unrolled and inlined.
template <int Count, class Body>
[[gnu::always_inline]] inline void unroll(Body&& body) {
  [&]<int... K>(std::integer_sequence<int, K...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, K>{}), ...);
  }
  (std::make_integer_sequence<int, Count>{});
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
