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
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
