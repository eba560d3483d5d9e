#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"

/// The lanes of vectors in another order.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The lanes of `a`, then those of `b`, that `Source` names by their number.
template <int... Source, class T>
[[nodiscard]] Vec<T> shuffle(Vec<T> a, Vec<T> b) noexcept {
#if __has_builtin(__builtin_shufflevector)
  return Vec<T>(__builtin_shufflevector(a.v, b.v, Source...));
#else  // g++ before 12
  return Vec<T>(__builtin_shuffle(a.v, b.v, typename Vec<T>::NativeBits{Source...}));
#endif
}

/// Adds the two halves of every run of `Run` lanes: those of `low` first, then those of `high`.
template <int Run, class T, int... Lane>
[[nodiscard]] Vec<T> fold_runs(Vec<T> low, Vec<T> high,
                               std::integer_sequence<int, Lane...>) noexcept {
  constexpr auto source = [](int lane, int half) {
    constexpr int W = static_cast<int>(lanes<T>);
    const int run = lane / (Run / 2);
    const int runs = W / Run;
    return (run < runs ? run * Run : W + (run - runs) * Run) + lane % (Run / 2) + half;
  };
  return shuffle<source(Lane, 0)...>(low, high) + shuffle<source(Lane, Run / 2)...>(low, high);
}

/// Lane i of the result is the sum of x[i], for lanes<T> vectors: a tree of interleaved halves,
/// three operations a vector instead of a horizontal sum each.
template <class T, int Count = static_cast<int>(lanes<T>)>
[[nodiscard]] Vec<T> transposed_sum(const T* x) noexcept {
  constexpr int W = static_cast<int>(lanes<T>);
  if constexpr (Count == 1) {
    return Vec<T>::load(x);
  } else {
    const Vec<T> low = transposed_sum<T, Count / 2>(x);
    const Vec<T> high = transposed_sum<T, Count / 2>(x + (Count / 2) * W);
    constexpr int run = W / (Count / 2);
    return fold_runs<run>(low, high, std::make_integer_sequence<int, W>{});
  }
}

/// One exchange of `transpose`: with Upper false the lanes of `a` and `b` whose bit `Bit` is 0,
/// else those whose bit is 1, those of `a` in the lanes without the bit.
template <int Bit, bool Upper, class T, int... Lane>
[[nodiscard]] Vec<T> exchange_lanes(Vec<T> a, Vec<T> b,
                                    std::integer_sequence<int, Lane...>) noexcept {
  constexpr int W = static_cast<int>(lanes<T>);
  constexpr int from = Upper ? Bit : 0;
  return shuffle<((Lane & Bit) == 0 ? Lane + from : W + Lane - Bit + from)...>(a, b);
}

/// Lane j of x[i] becomes lane i of x[j], for lanes<T> vectors.
template <int Bit = 1, class T>
[[gnu::always_inline]] inline void transpose(Vec<T>* x) noexcept {
  constexpr int W = static_cast<int>(lanes<T>);
  constexpr auto all = std::make_integer_sequence<int, W>{};
  if constexpr (Bit < W) {
    unroll<W>([&](auto i) __attribute__((always_inline)) {
      if constexpr ((i & Bit) == 0) {
        const Vec<T> a = x[i], b = x[i + Bit];
        x[i] = exchange_lanes<Bit, false>(a, b, all);
        x[i + Bit] = exchange_lanes<Bit, true>(a, b, all);
      }
    });
    transpose<2 * Bit>(x);
  }
}

/// As many vectors as they have lanes.
template <class T>
using Square = std::array<Vec<T>, static_cast<std::size_t>(lanes<T>)>;

/// Lane j of vector i becomes lane i of vector j.
template <class T>
[[nodiscard]] Square<T> transpose(Square<T> a) noexcept {
  transpose(a.data());
  return a;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
