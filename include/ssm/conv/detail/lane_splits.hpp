#pragma once

#include "ssm/core/detail/complex_vec.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"

/// The divisions of a remainder tree, a sequence in each lane, and their inverses.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// What splits a remainder: s, a root of the node's constant, and its powers.
template <class T>
struct Twiddle {
  ComplexVec<T> s, s2, s3;

  Twiddle(ComplexVec<T> root, ComplexVec<T> square) noexcept
      : s(root), s2(square), s3(root * square) {}
};

/// From the remainder mod X^{2m} − s² to those mod X^m − s and X^m + s; and back, doubled. q is the
/// distance of the halves in memory.
template <class T>
[[gnu::always_inline]] inline void split_2(T* x, Index q, const Twiddle<T>& w) noexcept {
  const auto a = ComplexVec<T>::load(x), b = ComplexVec<T>::load(x + q);
  const auto c = add_times(a, w.s, b);
  c.store(x);
  twice_minus(a, c).store(x + q);
}
template <class T>
[[gnu::always_inline]] inline void join_2(T* x, Index q, const Twiddle<T>& w) noexcept {
  const auto a = ComplexVec<T>::load(x), b = ComplexVec<T>::load(x + q);
  (a + b).store(x);
  conj_times(w.s, a - b).store(x + q);
}

/// From the remainder mod X^{4m} − s⁴ to those mod X^m − s, X^m + s, X^m − is, X^m + is; and back,
/// four times as large.
template <class T>
[[gnu::always_inline]] inline void split_4(T* x, Index q, const Twiddle<T>& w) noexcept {
  const auto a0 = ComplexVec<T>::load(x), a1 = ComplexVec<T>::load(x + q),
             a2 = ComplexVec<T>::load(x + 2 * q), a3 = ComplexVec<T>::load(x + 3 * q);
  const auto b0 = add_times(a0, w.s2, a2), b1 = add_times(a1, w.s2, a3);
  const auto b2 = twice_minus(a0, b0), b3 = twice_minus(a1, b1);
  const auto c0 = add_times(b0, w.s, b1), c2 = add_times(b2, times_i(w.s), b3);
  c0.store(x);
  twice_minus(b0, c0).store(x + q);
  c2.store(x + 2 * q);
  twice_minus(b2, c2).store(x + 3 * q);
}
template <class T>
[[gnu::always_inline]] inline void join_4(T* x, Index q, const Twiddle<T>& w) noexcept {
  const auto c0 = ComplexVec<T>::load(x), c1 = ComplexVec<T>::load(x + q),
             c2 = ComplexVec<T>::load(x + 2 * q), c3 = ComplexVec<T>::load(x + 3 * q);
  const auto b0 = c0 + c1, b1 = c0 - c1, b2 = c2 + c3, b3 = times_i(c2 - c3);
  (b0 + b2).store(x);
  conj_times(w.s, b1 - b3).store(x + q);
  conj_times(w.s2, b0 - b2).store(x + 2 * q);
  conj_times(w.s3, b1 + b3).store(x + 3 * q);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
