#pragma once

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// A complex number in every lane; in memory first all real parts, then all imaginary ones.
template <class T>
struct ComplexVec {
  Vec<T> re, im;

  [[nodiscard]] static ComplexVec load(const T* p) noexcept {
    return {Vec<T>::load(p), Vec<T>::load(p + lanes<T>)};
  }
  void store(T* p) const noexcept {
    re.store(p);
    im.store(p + lanes<T>);
  }
  friend ComplexVec operator+(ComplexVec a, ComplexVec b) noexcept {
    return {a.re + b.re, a.im + b.im};
  }
  friend ComplexVec operator-(ComplexVec a, ComplexVec b) noexcept {
    return {a.re - b.re, a.im - b.im};
  }
  friend ComplexVec operator*(ComplexVec a, ComplexVec b) noexcept {
    return {fma(a.re, b.re, -(a.im * b.im)), fma(a.re, b.im, a.im * b.re)};
  }
  friend ComplexVec operator*(Vec<T> a, ComplexVec b) noexcept { return {a * b.re, a * b.im}; }
};

template <class T>
[[nodiscard]] ComplexVec<T> conjugate(ComplexVec<T> a) noexcept {
  return {a.re, -a.im};
}
template <class T>
[[nodiscard]] ComplexVec<T> times_i(ComplexVec<T> a) noexcept {
  return {-a.im, a.re};
}
/// a + w b.
template <class T>
[[nodiscard]] ComplexVec<T> add_times(ComplexVec<T> a, ComplexVec<T> w, ComplexVec<T> b) noexcept {
  return {fma(w.re, b.re, fma(-w.im, b.im, a.re)), fma(w.re, b.im, fma(w.im, b.re, a.im))};
}
/// 2 a − b.
template <class T>
[[nodiscard]] ComplexVec<T> twice_minus(ComplexVec<T> a, ComplexVec<T> b) noexcept {
  const Vec<T> two(T(2));
  return {fma(two, a.re, -b.re), fma(two, a.im, -b.im)};
}
/// conj(a) b.
template <class T>
[[nodiscard]] ComplexVec<T> conj_times(ComplexVec<T> a, ComplexVec<T> b) noexcept {
  return {fma(a.re, b.re, a.im * b.im), fma(a.re, b.im, -(a.im * b.re))};
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
