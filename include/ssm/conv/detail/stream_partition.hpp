#pragma once

#include <algorithm>
#include <vector>

#include "ssm/conv/detail/lane_transform.hpp"
#include "ssm/conv/detail/stream_conv_costs.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Partitions of one size: `parts` pieces of `steps` taps each, from tap 2 · steps on. So what a
/// block of inputs gives is wanted a whole block after it has come in: that is the time for its
/// transforms.
struct StreamPartition {
  Index steps, parts;
  friend bool operator==(const StreamPartition&, const StreamPartition&) = default;
};

/// How a kernel is cut: a direct sum of the first `head` taps, then partitions that grow.
struct StreamPlan {
  Index head = 0;
  std::vector<StreamPartition> partitions;
};

/// What is done for one block of inputs of a partition, in this order.
enum class StreamTask { load, split, turn_forward, multiply, turn_back, join };

/// A task, in `count` equal items.
struct StreamWork {
  StreamTask task;
  Index level, count, cost;
  Index begin, end;  ///< what all items before the first one cost, and with the last one
};

inline constexpr Index stream_tile = 4;  ///< points that are multiplied at once

/// The work for a block of inputs.
template <class T>
[[nodiscard]] std::vector<StreamWork> stream_work(const StreamPartition& partition, Lanes order) {
  using Costs = StreamCosts;
  constexpr Index W = lanes<T>;
  const bool times = order == Lanes::times;
  const Index points = times ? partition.steps / W : partition.steps;
  std::vector<Index> radices;
  const auto add = [&](Index rest) {
    Index fours = rest;
    while (fours % 4 == 0) fours /= 4;
    if (fours == 2) radices.push_back(2);
    for (Index left = rest / fours; left > 1; left /= 4) radices.push_back(4);
  };
  add(partition.steps / W);
  if (!times) add(W);
  std::vector<StreamWork> work;
  Index cost = 0;
  const auto push = [&](StreamTask task, Index level, Index count, Index each) {
    work.push_back({task, level, count, each, cost, cost + count * each});
    cost = work.back().end;
  };
  const auto level = [&](StreamTask task, Index l) {
    const Index radix = radices[static_cast<std::size_t>(l)];
    push(task, l, points / radix, radix == 4 ? Costs::split_4 : Costs::split_2);
  };
  const auto levels = static_cast<Index>(radices.size());
  push(StreamTask::load, 0, points, Costs::load);
  for (Index l = 0; l < levels; ++l) level(StreamTask::split, l);
  if (times) push(StreamTask::turn_forward, 0, points / W, W * Costs::turn_a_lane);
  const Index point = 2 * W * static_cast<Index>(sizeof(T));
  const Index multiply = Costs::multiply(2 * partition.parts * points * point);
  push(StreamTask::multiply, 0, points / stream_tile,
       stream_tile * (partition.parts * multiply + Costs::multiply_once));
  if (times) push(StreamTask::turn_back, 0, points / W, W * Costs::turn_a_lane);
  for (Index l = levels; l-- > 0;) level(StreamTask::join, l);
  return work;
}

/// The shortest partition that there is.
template <class T>
[[nodiscard]] constexpr Index shortest_partition(Lanes order) noexcept {
  return order == Lanes::times ? (std::max<Index>)(lanes<T> * lanes<T>, 64)
                               : (std::max<Index>)(lanes<T>, 32);
}

/// The steps that the direct sum takes at once: the head is a multiple of them.
template <class T>
[[nodiscard]] constexpr Index head_steps(Lanes order) noexcept {
  return order == Lanes::times ? lanes<T> : 8;
}

/// The cheapest plan with partitions of `shortest` steps to `longest`, by powers of two, as far as
/// the kernel asks for them (Garcia 2002: the best plan from each size on is made of the best ones
/// from the larger sizes on).
/// @param from_shortest whether the shortest is given, not only the least to choose from
template <class T>
[[nodiscard]] StreamPlan plan_stream_conv(Index taps, Lanes order, Index shortest, Index longest,
                                          bool from_shortest) {
  using Costs = StreamCosts;
  std::vector<Index> sizes;
  for (Index n = shortest; n < taps - n && n <= longest; n *= 2) sizes.push_back(n);
  // All costs are those of one point's time.
  const auto cost = [&](Index steps, Index parts) {
    const Index points = order == Lanes::times ? steps / lanes<T> : steps;
    return stream_work<T>({steps, parts}, order).back().end / points + Costs::level;
  };
  struct Best {
    Index cost, next;
    StreamPartition partition;
  };
  std::vector<Best> best(sizes.size());
  const auto at = [](Index i) { return static_cast<std::size_t>(i); };
  const auto count = static_cast<Index>(sizes.size());
  for (Index i = count; i-- > 0;) {
    const Index n = sizes[at(i)], rest = (taps - 2 * n + n - 1) / n;
    best[at(i)] = {cost(n, rest), count, {n, rest}};
    for (Index j = i + 1; j < count; ++j) {
      const Index parts = 2 * sizes[at(j)] / n - 2, all = cost(n, parts) + best[at(j)].cost;
      if (all < best[at(i)].cost) best[at(i)] = {all, j, {n, parts}};
    }
  }
  const Index group = head_steps<T>(order), whole = (taps + group - 1) / group * group;
  const Index tap = order == Lanes::times ? Costs::head_in_times : Costs::head_in_lanes;
  StreamPlan plan{whole, {}};
  Index first = count, least = whole * tap;
  if (from_shortest && count > 0) first = 0;
  for (Index i = 0; i < count && !from_shortest; ++i) {
    const Index all = 2 * sizes[at(i)] * tap + best[at(i)].cost;
    if (all < least) {
      least = all;
      first = i;
    }
  }
  if (first < count) plan.head = 2 * sizes[at(first)];
  for (Index i = first; i < count; i = best[at(i)].next)
    plan.partitions.push_back(best[at(i)].partition);
  return plan;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
