#pragma once

#include <array>
#include <cstddef>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"

/// The direct sum of the first taps of a convolution in a stream. Each input is added, times every
/// tap, to the outputs to come, which wait in a ring; so every output is summed in the order of its
/// inputs, and its bits do not depend on how many come at once.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// 0, 1, 2, … in the lanes.
template <class T>
[[nodiscard]] Vec<T> lane_numbers() noexcept {
  std::array<T, static_cast<std::size_t>(lanes<T>)> numbers;
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<T>(i);
  return Vec<T>::load(numbers.data());
}

/// Of one channel, whose neighbouring steps are in the lanes.
template <class T>
struct HeadOfTimes {
  static constexpr Index W = lanes<T>;

  /// Memory for the taps: the last W, then all, so that they can be read around the ring.
  [[nodiscard]] static constexpr Index kernel_size(Index head) noexcept { return head + W; }

  /// Takes the steps [first, last) of a vector of steps u.
  /// @param head taps, a multiple of W
  /// @param slot where in the ring (head) the vector stands
  /// @return y, in the lanes [first, last)
  static Vec<T> step(const T* kernel, Index head, Index slot, const T* u, Index first, Index last,
                     T* ring) noexcept {
    // The slot of the vector itself: what is left of each lane's place after its output is that of
    // the output `head` steps later.
    const Vec<T> lane = lane_numbers<T>(), none(T(0));
    Vec<T> y(T(0)), here = Vec<T>::load(ring + slot);
    for (Index i = first; i < last; ++i) {
      const Vec<T> now(static_cast<T>(i));
      here = fma(Vec<T>(u[i]), Vec<T>::load(kernel + W - i), here);
      y = Vec<T>(lane.v == now.v ? here.v : y.v);
      here = Vec<T>(lane.v == now.v ? none.v : here.v);
    }
    here.store(ring + slot);
    const T* k = kernel + 2 * W;
    if (first == 0 && last == W) {
      std::array<Vec<T>, static_cast<std::size_t>(W)> inputs;
      for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i] = Vec<T>(u[i]);
      around(head, slot, ring, k, [&](const T* taps, Vec<T> sum) {
        unroll<static_cast<int>(W)>([&](auto i) {
          sum = fma(inputs[static_cast<std::size_t>(i())], Vec<T>::load(taps - i()), sum);
        });
        return sum;
      });
    } else {
      around(head, slot, ring, k, [&](const T* taps, Vec<T> sum) {
        for (Index i = first; i < last; ++i) sum = fma(Vec<T>(u[i]), Vec<T>::load(taps - i), sum);
        return sum;
      });
    }
    return y;
  }

 private:
  /// The vectors of the ring after that at `slot`.
  template <class Add>
  [[gnu::always_inline]] static void around(Index head, Index slot, T* ring, const T* k,
                                            const Add& add) noexcept {
    for (Index p = slot + W; p < head; p += W, k += W)
      add(k, Vec<T>::load(ring + p)).store(ring + p);
    for (Index p = 0; p < slot; p += W, k += W) add(k, Vec<T>::load(ring + p)).store(ring + p);
  }
};

/// Of a channel in each lane.
template <class T>
struct HeadOfLanes {
  static constexpr Index W = lanes<T>;
  static constexpr int group = 8;  ///< steps at once

  [[nodiscard]] static constexpr Index kernel_size(Index head) noexcept { return head * W; }

  /// Takes the steps [first, last) of a group of steps u (group, W), and writes y (group, W).
  /// @param head taps, a multiple of the group
  /// @param slot where in the ring (head, W) the group stands
  static void step(const T* kernel, Index head, Index slot, const T* u, Index first, Index last,
                   T* ring, T* y) noexcept {
    const auto input = [&](Index i) { return Vec<T>::load(u + i * W); };
    const auto tap = [&](Index l) { return Vec<T>::load(kernel + l * W); };
    // The group's own slots; of what has come out, the place is that of the output `head` later.
    for (Index p = 0; p < group; ++p) {
      T* const place = ring + (slot + p) * W;
      Vec<T> sum = Vec<T>::load(place);
      Index i = first;
      if (p >= first) {
        for (; i < last && i <= p; ++i) sum = fma(input(i), tap(p - i), sum);
        if (p < last) {
          sum.store(y + p * W);
          sum = Vec<T>(T(0));
        }
      }
      for (; i < last; ++i) sum = fma(input(i), tap(p + head - i), sum);
      sum.store(place);
    }
    const T* k = kernel + group * W;
    if (first == 0 && last == group) {
      std::array<Vec<T>, static_cast<std::size_t>(group)> inputs;
      for (Index i = 0; i < group; ++i) inputs[static_cast<std::size_t>(i)] = input(i);
      around(head, slot, ring, k, [&](const T* taps, Vec<T> sum) {
        unroll<group>([&](auto i) {
          sum = fma(inputs[static_cast<std::size_t>(i())], Vec<T>::load(taps - i() * W), sum);
        });
        return sum;
      });
    } else {
      around(head, slot, ring, k, [&](const T* taps, Vec<T> sum) {
        for (Index i = first; i < last; ++i) sum = fma(input(i), Vec<T>::load(taps - i * W), sum);
        return sum;
      });
    }
  }

 private:
  template <class Add>
  [[gnu::always_inline]] static void around(Index head, Index slot, T* ring, const T* k,
                                            const Add& add) noexcept {
    for (T* p = ring + (slot + group) * W; p < ring + head * W; p += W, k += W)
      add(k, Vec<T>::load(p)).store(p);
    for (T* p = ring; p < ring + slot * W; p += W, k += W) add(k, Vec<T>::load(p)).store(p);
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
