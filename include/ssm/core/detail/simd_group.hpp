#pragma once

#include <array>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Count vectors that go through the elementary functions in step. A function of one vector is a
/// chain in which every operation waits for the last; here the operations of several alternate, and
/// none waits.
template <class T, int Count>
struct VecGroup {
  using Element = T;

  Vec<T> v[Count];

  VecGroup() = default;
  VecGroup(Vec<T> each) noexcept {
    unroll<Count>([&](auto i) { v[i] = each; });
  }
  VecGroup(T scalar) noexcept : VecGroup(Vec<T>(scalar)) {}

  /// Count vectors that follow each other in memory.
  [[nodiscard]] static VecGroup load(const T* p) noexcept {
    VecGroup r;
    unroll<Count>([&](auto i) { r.v[i] = Vec<T>::load(p + i * lanes<T>); });
    return r;
  }
  void store(T* p) const noexcept {
    unroll<Count>([&](auto i) { v[i].store(p + i * lanes<T>); });
  }

  friend VecGroup operator+(VecGroup a, VecGroup b) noexcept {
    return in_step([](auto x, auto y) { return x + y; }, a, b);
  }
  friend VecGroup operator-(VecGroup a, VecGroup b) noexcept {
    return in_step([](auto x, auto y) { return x - y; }, a, b);
  }
  friend VecGroup operator*(VecGroup a, VecGroup b) noexcept {
    return in_step([](auto x, auto y) { return x * y; }, a, b);
  }
  friend VecGroup operator/(VecGroup a, VecGroup b) noexcept {
    return in_step([](auto x, auto y) { return x / y; }, a, b);
  }
  friend VecGroup operator-(VecGroup a) noexcept {
    return in_step([](auto x) { return -x; }, a);
  }

  friend VecGroup fma(VecGroup a, VecGroup b, VecGroup c) noexcept {
    return in_step([](auto x, auto y, auto z) { return fma(x, y, z); }, a, b, c);
  }
  friend VecGroup at_least(VecGroup a, VecGroup limit) noexcept {
    return in_step([](auto x, auto y) { return at_least(x, y); }, a, limit);
  }
  friend VecGroup at_most(VecGroup a, VecGroup limit) noexcept {
    return in_step([](auto x, auto y) { return at_most(x, y); }, a, limit);
  }
  friend VecGroup absolute(VecGroup a) noexcept {
    return in_step([](auto x) { return absolute(x); }, a);
  }
  friend VecGroup if_negative(VecGroup x, VecGroup then, VecGroup otherwise) noexcept {
    return in_step([](auto a, auto b, auto c) { return if_negative(a, b, c); }, x, then, otherwise);
  }
  friend VecGroup nearest(VecGroup a) noexcept {
    return in_step([](auto x) { return nearest(x); }, a);
  }
  friend VecGroup power_of_two(VecGroup a) noexcept {
    return in_step([](auto x) { return power_of_two(x); }, a);
  }
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  friend VecGroup nearest_sixteenth(VecGroup a) noexcept {
    return in_step([](auto x) { return nearest_sixteenth(x); }, a);
  }
  friend VecGroup root_of_sixteenth(VecGroup a) noexcept {
    return in_step([](auto x) { return root_of_sixteenth(x); }, a);
  }
  friend VecGroup select_sixteenth(const std::array<double, 16>& table, VecGroup index) noexcept {
    return in_step([&](auto i) { return select_sixteenth(table, i); }, index);
  }
  friend VecGroup scale(VecGroup a, VecGroup n) noexcept {
    return in_step([](auto x, auto y) { return scale(x, y); }, a, n);
  }
#endif

 private:
  template <class Function, class... Groups>
  [[gnu::always_inline]] static VecGroup in_step(Function f, const Groups&... groups) noexcept {
    VecGroup r;
    unroll<Count>([&](auto i) __attribute__((always_inline)) { r.v[i] = f(groups.v[i]...); });
    return r;
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
