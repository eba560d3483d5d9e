#pragma once

#include <algorithm>
#include <cstddef>

#include "ssm/conv/detail/lane_transform.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// A LaneTransform taken apart, for work that is spread over time: forward is `split` of every
/// level from 0 on, then `turn_forward`; back is `turn_back`, then `join` of every level down to 0.
/// Each has so many items, which may be done in any order, [begin, end) at a time. The bits are
/// those of the whole transform. For sizes that are powers of two.
template <class T>
struct LaneTransformParts {
  using Transform = LaneTransform<T>;

  /// The levels without those that turns do.
  [[nodiscard]] static Index levels(const Transform& transform) noexcept {
    return static_cast<Index>(transform.order_ == Lanes::sequences ? transform.levels_.size()
                                                                   : transform.first_of_tail_);
  }
  /// How many parts an item of a level is cut into.
  [[nodiscard]] static Index radix(const Transform& transform, Index level) noexcept {
    return transform.levels_[static_cast<std::size_t>(level)].radix;
  }
  /// points / radix items.
  static void split(const Transform& transform, T* x, Index level, Index begin,
                    Index end) noexcept {
    pass<true>(transform, x, level, begin, end);
  }
  static void join(const Transform& transform, T* x, Index level, Index begin, Index end) noexcept {
    pass<false>(transform, x, level, begin, end);
  }
  /// points / lanes items for Lanes::times, none for Lanes::sequences.
  static void turn_forward(const Transform& transform, T* x, Index begin, Index end) noexcept {
    for (Index first = begin * lanes<T>; first < end * lanes<T>; first += lanes<T>)
      transform.turn_forward(x + first * Transform::step, first);
  }
  static void turn_back(const Transform& transform, T* x, Index begin, Index end) noexcept {
    for (Index first = begin * lanes<T>; first < end * lanes<T>; first += lanes<T>)
      transform.turn_back(x + first * Transform::step, first);
  }

 private:
  template <bool Forward>
  static void pass(const Transform& transform, T* x, Index level, Index begin, Index end) noexcept {
    constexpr Index step = Transform::step;
    const auto& of = transform.levels_[static_cast<std::size_t>(level)];
    const Index part = transform.points() / (static_cast<Index>(of.twiddles.size()) * of.radix);
    while (begin < end) {
      const Index node = begin / part, first = begin - node * part;
      const Index count = (std::min)(part - first, end - begin), q = part * step;
      const Twiddle<T> w = Transform::all_lanes(of.twiddles[static_cast<std::size_t>(node)]);
      T* const from = x + (node * part * of.radix + first) * step;
      if (of.radix == 4)
        for (T* p = from; p < from + count * step; p += step)
          Forward ? split_4(p, q, w) : join_4(p, q, w);
      else
        for (T* p = from; p < from + count * step; p += step)
          Forward ? split_2(p, q, w) : join_2(p, q, w);
      begin += count;
    }
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
