#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/complex_vec.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_group.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/phi.hpp"

/// What the fast selective scan computes with, for a real and for a complex A alike: one state of
/// lanes<T> neighbouring channels, e^{ΔA} and what either hold makes of Δ and A.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Vectors that a state takes, one for a real K.
template <class K>
inline constexpr Index state_parts = std::is_same_v<K, Real<K>> ? 1 : 2;

template <class K>
using StateVec = std::conditional_t<state_parts<K> == 1, Vec<Real<K>>, ComplexVec<Real<K>>>;

template <class K>
[[nodiscard]] StateVec<K> load_state(const Real<K>* p) noexcept {
  using V = Vec<Real<K>>;
  if constexpr (state_parts<K> == 1)
    return V::load(p);
  else
    return {V::load(p), V::load(p + lanes<Real<K>>)};
}
template <class T>
void store_state(Vec<T> x, T* p) noexcept {
  x.store(p);
}
template <class T>
void store_state(ComplexVec<T> x, T* p) noexcept {
  x.re.store(p);
  x.im.store(p + lanes<T>);
}

/// One coefficient for all lanes.
template <class T>
[[nodiscard]] Vec<T> broadcast(T x) noexcept {
  return Vec<T>(x);
}
template <class T>
[[nodiscard]] ComplexVec<T> broadcast(const std::complex<T>& x) noexcept {
  return {Vec<T>(x.real()), Vec<T>(x.imag())};
}

// Arithmetic of Vec and ComplexVec. `r` is real.

template <class T>
[[nodiscard]] Vec<T> product(Vec<T> a, Vec<T> b) noexcept {
  return a * b;
}
template <class T>
[[nodiscard]] ComplexVec<T> product(ComplexVec<T> a, ComplexVec<T> b) noexcept {
  return {fma(-a.im, b.im, a.re * b.re), fma(a.im, b.re, a.re * b.im)};
}
template <class T>
[[nodiscard]] ComplexVec<T> product(Vec<T> r, ComplexVec<T> b) noexcept {
  return {r * b.re, r * b.im};
}
/// a b + c.
template <class T>
[[nodiscard]] Vec<T> add_product(Vec<T> a, Vec<T> b, Vec<T> c) noexcept {
  return fma(a, b, c);
}
template <class T>
[[nodiscard]] ComplexVec<T> add_product(ComplexVec<T> a, ComplexVec<T> b,
                                        ComplexVec<T> c) noexcept {
  return {fma(-a.im, b.im, fma(a.re, b.re, c.re)), fma(a.im, b.re, fma(a.re, b.im, c.im))};
}
template <class T>
[[nodiscard]] ComplexVec<T> add_product(Vec<T> r, ComplexVec<T> b, ComplexVec<T> c) noexcept {
  return {fma(r, b.re, c.re), fma(r, b.im, c.im)};
}
/// a conj(b).
template <class T>
[[nodiscard]] Vec<T> product_conj(Vec<T> a, Vec<T> b) noexcept {
  return a * b;
}
template <class T>
[[nodiscard]] ComplexVec<T> product_conj(ComplexVec<T> a, ComplexVec<T> b) noexcept {
  return {fma(a.im, b.im, a.re * b.re), fma(-a.re, b.im, a.im * b.re)};
}
template <class T>
[[nodiscard]] Vec<T> conjugate(Vec<T> a) noexcept {
  return a;
}
/// Re(a conj(b)) + c.
template <class T>
[[nodiscard]] Vec<T> add_real_product(Vec<T> a, Vec<T> b, Vec<T> c) noexcept {
  return fma(a, b, c);
}
template <class T>
[[nodiscard]] Vec<T> add_real_product(ComplexVec<T> a, ComplexVec<T> b, Vec<T> c) noexcept {
  return fma(a.im, b.im, fma(a.re, b.re, c));
}

/// Σ [2] Re(C x) over states, in two sums, so that neither waits for the other.
template <class K>
struct OutputSum {
  using T = Real<K>;
  Vec<T> first, second;

  explicit OutputSum(Vec<T> start) noexcept
      : first(state_parts<K> == 1 ? start : Vec<T>(T(0))), second(T(0)), start_(start) {}
  /// A real state goes to either sum; of a complex one the product of the imaginary parts, which
  /// counts negative, goes to the second.
  void add(Vec<T> c, Vec<T> x, bool to_second) noexcept {
    Vec<T>& sum = to_second ? second : first;
    sum = fma(x, c, sum);
  }
  void add(ComplexVec<T> c, ComplexVec<T> x, bool) noexcept {
    first = fma(x.re, c.re, first);
    second = fma(x.im, c.im, second);
  }
  /// Without the second sum where only a real state's products went to the first.
  template <bool Both>
  [[nodiscard]] Vec<T> total() const noexcept {
    if constexpr (state_parts<K> == 1)
      return Both ? first + second : first;
    else
      return fma(Vec<T>(T(2)), first - second, start_);
  }

 private:
  Vec<T> start_;  // of a complex sum, which is doubled without it
};

template <class T, std::size_t Count>
[[nodiscard]] constexpr std::array<T, Count - 1> without_first(const std::array<T, Count>& c) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::array<T, Count - 1>{c[I + 1]...};
  }
  (std::make_index_sequence<Count - 1>{});
}

template <class T>
struct HalfTurn;
/// sin(πf)/f, relative, and cos(πf), absolute, on |f| ≤ 1/2, as polynomials in f²: 5.3e-9, 5.3e-8.
template <>
struct HalfTurn<float> {
  static constexpr std::array<float, 5> sine{3.141592637f, -5.167709685f, 2.550069726f,
                                             -0.5982421268f, 0.07756038773f};
  static constexpr std::array<float, 5> cosine{1.0f, -4.934795518f, 4.058451342f, -1.332093866f,
                                               0.2200806549f};
};
/// The same to 1.4e-16 and 4e-18.
template <>
struct HalfTurn<double> {
  static constexpr std::array<double, 8> sine{
      3.1415926535897927,  -5.167712780049753,     2.5501640398597765,    -0.5992645287757098,
      0.08214587825655341, -0.0073703610716849555, 0.0004659776170186174, -2.1122952964745312e-05};
  static constexpr std::array<double, 9> cosine{1.0,
                                                -4.934802200544677,
                                                4.058712126416545,
                                                -1.3352627688446643,
                                                0.2353306301459869,
                                                -0.025806888862680146,
                                                0.0019295568179041767,
                                                -0.00010456780739892006,
                                                4.150750229674916e-06};
};

/// a where n, an integer of at most 22 bits in float and 51 in double, is even, and −a where it is
/// odd.
template <class T>
[[nodiscard]] Vec<T> times_sign(Vec<T> a, Vec<T> n) noexcept {
  using Bits = typename Vec<T>::NativeBits;
  constexpr bool single = std::is_same_v<T, float>;
  const Vec<T> lowest_bit = n + Vec<T>(single ? T(0x1.8p23) : T(0x1.8p52));
  const Bits sign = reinterpret_cast<Bits>(lowest_bit.v) << (single ? 31 : 63);
  return Vec<T>(reinterpret_cast<typename Vec<T>::Native>(reinterpret_cast<Bits>(a.v) ^ sign));
}

/// An angle of x half turns, as n half turns and a rest of at most half of one:
/// sin πx = (−1)ⁿ sine and cos πx = (−1)ⁿ (1 + cosine_less_one), whose digits stay as x → 0.
template <class T>
struct Angle {
  Vec<T> n, sine, cosine_less_one, cosine;

  explicit Angle(Vec<T> x) noexcept : n(nearest(x)) {
    const Vec<T> f = x - n;
    const Vec<T> square = f * f;
    sine = f * polynomial(square, HalfTurn<T>::sine);
    cosine_less_one = square * polynomial(square, without_first(HalfTurn<T>::cosine));
    cosine = polynomial(square, HalfTurn<T>::cosine);
  }
};

/// 2^x and 2^x − 1, the latter with full relative accuracy also as x → 0.
template <class T>
struct PowerAndGrowth {
  Vec<T> power, growth;

  explicit PowerAndGrowth(Vec<T> x) noexcept {
    using Constants = Exp2<T>;
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    const Vec<T> n = nearest(x);
    const Vec<T> two_to_n = scale(Vec<T>(T(1)), n);
#else
    x = at_most(at_least(x, Vec<T>(Constants::lowest)), Vec<T>(Constants::highest));
    const Vec<T> n = nearest(x);
    const Vec<T> two_to_n = power_of_two(n);
#endif
    const Vec<T> r = x - n;
    constexpr auto slopes = without_first(Constants::centred);  // the first is 1
    const Vec<T> fraction = r * polynomial(r, slopes);
    power = fma(two_to_n, fraction, two_to_n);
    growth = fma(two_to_n, fraction, two_to_n - Vec<T>(T(1)));
  }
};

/// e^{ΔA} and, for the exact hold, Δ φ₁(ΔA) = (e^{ΔA} − 1)/A.
template <class K>
struct HeldDecay {
  StateVec<K> decay, hold;
};

/// A step of all channels in the lanes: what Δ gives for every state.
template <class K, bool Exact>
class StepSize {
  using T = Real<K>;

 public:
  explicit StepSize(Vec<T> delta) noexcept : exponent_(delta * Vec<T>(log2_e<T>)) {
    constexpr T half_turn = T(0.3183098861837907);  // 1/π
    if constexpr (state_parts<K> == 2) half_turns_ = delta * Vec<T>(half_turn);
  }

  /// e^{ΔA} of Count states that go in step, for a real A.
  template <int Count>
  [[nodiscard]] VecGroup<T, Count> decays(const T* A_at) const noexcept {
    return exp2(VecGroup<T, Count>(exponent_) * VecGroup<T, Count>::load(A_at));
  }

  /// From A and, for the exact hold alone, 1/A.
  [[nodiscard]] HeldDecay<K> at(const T* A_at,
                                [[maybe_unused]] const T* inverse_at) const noexcept {
    const StateVec<K> A = load_state<K>(A_at);
    HeldDecay<K> result;
    if constexpr (state_parts<K> == 1 && !Exact) {
      result.decay = exp2(exponent_ * A);
    } else if constexpr (state_parts<K> == 1) {
      const PowerAndGrowth<T> p(exponent_ * A);
      result.decay = p.power;
      result.hold = p.growth * load_state<K>(inverse_at);
    } else if constexpr (!Exact) {
      const Angle<T> angle(half_turns_ * A.im);
      const Vec<T> size = times_sign(exp2(exponent_ * A.re), angle.n);
      result.decay = {size * angle.cosine, size * angle.sine};
    } else {
      // e^{x+iy} − 1 = (e^x − 1) cos y + cos y − 1 + i e^x sin y.
      const Angle<T> angle(half_turns_ * A.im);
      const PowerAndGrowth<T> p(exponent_ * A.re);
      const Vec<T> one(T(1)), sign = times_sign(one, angle.n), size = p.power * sign;
      const Vec<T> cosine_less_one = fma(sign, angle.cosine_less_one, sign - one);
      result.decay = {size * angle.cosine, size * angle.sine};
      const Vec<T> cosine = sign * angle.cosine;
      result.hold = product(ComplexVec<T>{fma(p.growth, cosine, cosine_less_one), result.decay.im},
                            load_state<K>(inverse_at));
    }
    return result;
  }

 private:
  Vec<T> exponent_;  // of two
  Vec<T> half_turns_;
};

/// The smallest |A| of the exact hold, which divides by A: with a smaller one e^{ΔA} and Δ φ₁(ΔA)
/// are 1 and Δ in every digit, for every Δ below 2^36 in float and 2^340 in double.
template <class T>
inline constexpr T smallest_held_rate = std::is_same_v<T, float> ? T(0x1p-62) : T(0x1p-400);

/// (k + 1)/(k + 2)!, the series of φ₁′.
template <class T>
inline constexpr auto phi1_slope_series = [] {
  constexpr std::size_t terms = std::is_same_v<T, float> ? 8 : 14;  // to ε for |z| ≤ 1/2
  std::array<T, terms> c{};
  double factorial = 2;
  for (std::size_t k = 0; k < terms; ++k) {
    c[k] = static_cast<T>(static_cast<double>(k + 1) / factorial);
    factorial *= static_cast<double>(k + 3);
  }
  return c;
}();

template <std::size_t K = 0, class T, std::size_t Count>
[[nodiscard]] ComplexVec<T> polynomial(ComplexVec<T> z, const std::array<T, Count>& c) noexcept {
  ComplexVec<T> sum{Vec<T>(c[Count - 1]), Vec<T>(T(0))};
  for (std::size_t k = Count - 1; k-- > 0;)
    sum = add_product(sum, z, ComplexVec<T>{Vec<T>(c[k]), Vec<T>(T(0))});
  return sum;
}

/// ∂/∂A of Δ φ₁(ΔA), which is Δ² φ₁′(ΔA) = (Δ e^{ΔA} − Δ φ₁(ΔA))/A: a series where that cancels.
template <class K>
[[nodiscard]] StateVec<K> hold_slope(Vec<Real<K>> delta, StateVec<K> A, StateVec<K> inverse,
                                     const HeldDecay<K>& at) noexcept {
  using T = Real<K>;
  const StateVec<K> z = product(delta, A);
  const StateVec<K> by_series = product(delta * delta, polynomial(z, phi1_slope_series<T>));
  const Vec<T> size = add_real_product(z, z, Vec<T>(T(0)));
  const auto choose = [&](Vec<T> if_small, Vec<T> other) {
    return Vec<T>(size.v < T(0.25) ? if_small.v : other.v);
  };
  if constexpr (state_parts<K> == 1) {
    return choose(by_series, (delta * at.decay - at.hold) * inverse);
  } else {
    const ComplexVec<T> by_quotient = product(
        ComplexVec<T>{fma(delta, at.decay.re, -at.hold.re), fma(delta, at.decay.im, -at.hold.im)},
        inverse);
    return {choose(by_series.re, by_quotient.re), choose(by_series.im, by_quotient.im)};
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
