#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/causal_attention_types.hpp"
#include "ssm/layers/detail/attention_keys.hpp"
#include "ssm/layers/detail/attention_product.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Below every score of less than half the largest number: a weight of 0. Not −∞, whose distance
/// from itself is no number.
template <class T>
inline constexpr T unseen_score = std::numeric_limits<T>::lowest() / 2;

/// A block of queries of one head, each in a lane, that meets one block of keys after the other:
/// the softmax of the scores so far is kept relative to their largest (Milakov & Gimelshein 2018,
/// algorithm 3; Dao et al. 2022, algorithm 1).
template <class T>
class AttentionForward {
  static constexpr Index width = attention_queries<T>;

 public:
  /// Elements of memory that a block needs.
  [[nodiscard]] static Index room(Index head_size) noexcept {
    return (2 * head_size + attention_keys + 2) * width;
  }

  AttentionForward(const AttentionSteps<T>& steps, T* memory)
      : steps_(steps),
        q_(memory),
        y_(q_ + steps.head_size * width),
        weights_(y_ + steps.head_size * width),
        largest_(weights_ + attention_keys * width),
        sums_(largest_ + width) {}

  /// Queries [begin, begin + count) of a head of a sequence. Where the keys are earlier ones, y and
  /// lse hold what the queries found among others, and go on from there.
  void run(Index s, Index head, Index begin, Index count, const StepRows<T>& y, T* lse) {
    const Index d = steps_.head_size, first = steps_.past(s) + begin;
    const auto q = steps_.rows(steps_.in.q, s, head);
    gather_lanes(q.at(begin), q.step, count, d, steps_.score_factor(), q_, width);
    std::fill_n(largest_, width, unseen_score<T>);
    std::fill_n(sums_, width, T(0));
    bool met = false;
    if (steps_.earlier) {
      gather_lanes<T>(y.at(begin), y.step, count, d, T(1), y_, width);
      std::copy_n(lse, count, largest_);
      std::fill_n(sums_, width, T(1));
      met = true;
    }
    const auto runs = steps_.runs(s, head / steps_.shared);
    steps_.for_key_blocks(
        runs, first, first + count, [&](const KeyRun<T>& keys, bool partly, Index skip) {
          const Index columns = (count - skip + lanes<T> - 1) / lanes<T> * lanes<T>;
          block_product<T>({keys.k.data, keys.k.step, 1}, {q_ + skip, width}, keys.count, d,
                           columns, {weights_ + skip, width}, false);
          unroll<block_vectors>([&](auto c) {
            if (columns != (c + 1) * lanes<T>) return;
            if (partly)
              soften<c + 1, true>(keys, first, skip, met);
            else
              soften<c + 1, false>(keys, first, skip, met);
          });
          block_product<T>({keys.v.data, 1, keys.v.step}, {weights_ + skip, width}, d, keys.count,
                           columns, {y_ + skip, width}, met);
          met = true;
        });
    for (Index i = 0; i < count; ++i) {
      if (lse) lse[i] = largest_[i] + std::log2(sums_[i]);
      sums_[i] = T(1) / sums_[i];
    }
    scatter_lanes(y_, width, count, d, sums_, y.at(begin), y.step);
  }

 private:
  /// Scores become weights relative to the largest so far, and what was summed before is scaled
  /// accordingly, for C vectors of queries from number `skip` on.
  template <int C, bool Partly>
  void soften(const KeyRun<T>& keys, Index first, Index skip, bool met) noexcept {
    T *all_largest = largest_ + skip, *all_sums = sums_ + skip;
    Vec<T> largest[C], sum[C], number[C];
    unroll<C>([&](auto c) {
      largest[c] = Vec<T>::load(all_largest + c * lanes<T>);
      sum[c] = Vec<T>(T(0));
      if constexpr (Partly)
        number[c] = query_lanes<T>() + Vec<T>(static_cast<T>(skip + c * lanes<T>));
    });
    for (Index j = 0; j < keys.count; ++j) {
      T* row = weights_ + j * width + skip;
      [[maybe_unused]] std::array<T, 2> seen{};
      if constexpr (Partly) seen = steps_.seen_by(keys.first + j, first);
      unroll<C>([&](auto c) {
        auto score = Vec<T>::load(row + c * lanes<T>);
        if constexpr (Partly) {
          score = where_seen(number[c], seen, score, Vec<T>(unseen_score<T>));
          score.store(row + c * lanes<T>);
        }
        largest[c] = at_least(largest[c], score);
      });
    }
    for (Index j = 0; j < keys.count; ++j) {
      T* row = weights_ + j * width + skip;
      [[maybe_unused]] std::array<T, 2> seen{};
      if constexpr (Partly) seen = steps_.seen_by(keys.first + j, first);
      unroll<C>([&](auto c) {
        auto weight = exp2(Vec<T>::load(row + c * lanes<T>) - largest[c]);
        if constexpr (Partly) weight = where_seen(number[c], seen, weight, Vec<T>(T(0)));
        weight.store(row + c * lanes<T>);
        sum[c] = sum[c] + weight;
      });
    }
    Vec<T> shrink[C];
    unroll<C>([&](auto c) {
      shrink[c] = exp2(Vec<T>::load(all_largest + c * lanes<T>) - largest[c]);
      largest[c].store(all_largest + c * lanes<T>);
      fma(Vec<T>::load(all_sums + c * lanes<T>), shrink[c], sum[c]).store(all_sums + c * lanes<T>);
    });
    for (Index i = 0; met && i < steps_.head_size; ++i)
      unroll<C>([&](auto c) {
        T* y = y_ + i * width + skip + c * lanes<T>;
        (Vec<T>::load(y) * shrink[c]).store(y);
      });
  }

  const AttentionSteps<T>& steps_;
  T *q_, *y_, *weights_;  // (head_size, width), (head_size, width), (keys, width)
  T *largest_, *sums_;    // (width)
};

template <class T>
void attend(const Cpu& backend, const AttentionSteps<T>& steps, const View<T, 4>& y, bool keep,
            CausalAttentionScratch<T>& scratch) {
  const Index blocks = steps.blocks_before(steps.sequences), rows = steps.batch * steps.length;
  const Cpu threads = for_work(backend, steps.nanoseconds(2));
  const Index room = AttentionForward<T>::room(steps.head_size);
  const Index wanted = threads.thread_count() * room;
  if (scratch.tiles.size() < wanted) scratch.tiles.resize({wanted});
  if (keep) scratch.lse.resize({steps.heads, rows});
  parallel_runs(threads, blocks * steps.heads, [&](Index begin, Index end, Index run) {
    AttentionForward<T> forward(steps, scratch.tiles.data() + run * room);
    for (Index task = begin; task < end; ++task) {
      // All blocks of a sequence's head, then those of its next head.
      const Index s = steps.sequence_of(task / steps.heads), count = steps.blocks(s);
      const Index at = task - steps.blocks_before(s) * steps.heads, head = at / count;
      const Index first = folded(at % count, count) * attention_queries<T>;
      forward.run(s, head, first, (std::min)(attention_queries<T>, steps.span(s).length() - first),
                  steps.rows(y, s, head),
                  keep ? &scratch.lse(head, steps.first_row(s) + first) : nullptr);
    }
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
