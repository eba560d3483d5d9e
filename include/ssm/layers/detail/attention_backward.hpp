#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/pieces.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/causal_attention_types.hpp"
#include "ssm/layers/detail/attention_keys.hpp"
#include "ssm/layers/detail/attention_product.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The gradients of a block of queries of one head: weights are computed again from the sums that
/// forward kept (Dao et al. 2022, algorithm 4, with the queries outside).
template <class T>
class AttentionBackward {
  static constexpr Index width = attention_queries<T>;

 public:
  /// Elements of memory that a block needs.
  [[nodiscard]] static Index room(Index head_size) noexcept {
    return (3 * head_size + 2 * attention_keys + 3) * width;
  }

  AttentionBackward(const AttentionSteps<T>& steps,
                    const CausalAttentionOutputGradients<T>& output_gradients,
                    const CausalAttentionInputGradients<T>& input_gradients, T* memory)
      : steps_(steps),
        dout_(output_gradients),
        din_(input_gradients),
        q_(memory),
        dy_(q_ + steps.head_size * width),
        dq_(dy_ + steps.head_size * width),
        weights_(dq_ + steps.head_size * width),
        slopes_(weights_ + attention_keys * width),
        lse_(slopes_ + attention_keys * width),
        means_(lse_ + width),
        factors_(means_ + width) {
    std::fill_n(factors_, width, steps.key_factor());
  }

  /// Queries [begin, begin + count) of a head of a sequence. What they add to the gradients of the
  /// keys, before the factor of the scores, and of the values is added to the rows of `shares`.
  /// Where the keys are earlier ones, the gradients of the queries are added to.
  void run(Index s, Index head, Index begin, Index count, const T* lse, T* shares) {
    const Index d = steps_.head_size, first = steps_.past(s) + begin;
    const Index origin = steps_.origin(s);
    const auto q = steps_.rows(steps_.in.q, s, head), dy = steps_.rows(dout_.y, s, head);
    const auto y = steps_.rows(dout_.outputs, s, head);
    const auto dq = steps_.rows(din_.q, s, head);
    gather_lanes(q.at(begin), q.step, count, d, steps_.score_factor(), q_, width);
    gather_lanes(dy.at(begin), dy.step, count, d, T(1), dy_, width);
    std::fill_n(lse_, 2 * width, T(0));
    for (Index i = 0; i < count; ++i) {
      lse_[i] = lse[i];
      Vec<T> mean(T(0));
      for_each_vector<T>(d, [&](Index c, Index n) {
        mean =
            fma(Vec<T>::load(y.at(begin + i) + c, n), Vec<T>::load(dy.at(begin + i) + c, n), mean);
      });
      means_[i] = sum(mean);
    }
    bool met = false;
    if (steps_.earlier) {
      gather_lanes<T>(dq.at(begin), dq.step, count, d, T(1) / steps_.key_factor(), dq_, width);
      met = true;
    }
    const auto runs = steps_.runs(s, head / steps_.shared);
    steps_.for_key_blocks(runs, first, first + count,
                          [&](const KeyRun<T>& keys, bool partly, Index skip) {
                            const Index queries = count - skip, at = begin + skip;
                            const Index columns = (queries + lanes<T> - 1) / lanes<T> * lanes<T>;
                            T *weights = weights_ + skip, *slopes = slopes_ + skip;
                            block_product<T>({keys.k.data, keys.k.step, 1}, {q_ + skip, width},
                                             keys.count, d, columns, {weights, width}, false);
                            block_product<T>({keys.v.data, keys.v.step, 1}, {dy_ + skip, width},
                                             keys.count, d, columns, {slopes, width}, false);
                            if (partly)
                              weigh<true>(keys, first, skip, columns);
                            else
                              weigh<false>(keys, first, skip, columns);
                            block_product<T>({keys.k.data, 1, keys.k.step}, {slopes, width}, d,
                                             keys.count, columns, {dq_ + skip, width}, met);
                            T* share = shares + (keys.first - origin) * 2 * d;
                            block_product<T>({slopes, width, 1}, {q.at(at), q.step}, keys.count,
                                             queries, d, {share, 2 * d}, true);
                            block_product<T>({weights, width, 1}, {dy.at(at), dy.step}, keys.count,
                                             queries, d, {share + d, 2 * d}, true);
                            met = true;
                          });
    scatter_lanes(dq_, width, count, d, factors_, dq.at(begin), dq.step);
  }

 private:
  /// Scores become weights, and the gradients of the weights those of the scores.
  template <bool Partly>
  void weigh(const KeyRun<T>& keys, Index first, Index skip, Index columns) noexcept {
    for (Index j = 0; j < keys.count; ++j) {
      [[maybe_unused]] std::array<T, 2> seen{};
      if constexpr (Partly) seen = steps_.seen_by(keys.first + j, first);
      for (Index c = skip; c < skip + columns; c += lanes<T>) {
        T *weights = weights_ + j * width + c, *slopes = slopes_ + j * width + c;
        auto weight = exp2(Vec<T>::load(weights) - Vec<T>::load(lse_ + c));
        if constexpr (Partly)
          weight =
              where_seen(query_lanes<T>() + Vec<T>(static_cast<T>(c)), seen, weight, Vec<T>(T(0)));
        weight.store(weights);
        (weight * (Vec<T>::load(slopes) - Vec<T>::load(means_ + c))).store(slopes);
      }
    }
  }

  const AttentionSteps<T>& steps_;
  const CausalAttentionOutputGradients<T>& dout_;
  const CausalAttentionInputGradients<T>& din_;
  T *q_, *dy_, *dq_;            // (head_size, width)
  T *weights_, *slopes_;        // (keys, width)
  T *lse_, *means_, *factors_;  // (width)
};

/// The sums of what pieces of the queries add to the gradients of the keys and values of one group
/// of one sequence.
template <class T>
struct KeyShares {
  const T* data;        // of the first piece, (keys, 2, head_size)
  Index pieces, apart;  // from one piece to the next
  Index head_size;
  T factor;

  /// dk and dv ← the sums of key i, and what later steps ask of them, if anything.
  void write(Index i, const T* more_k, const T* more_v, T* dk, T* dv) const noexcept {
    const T* share = data + i * 2 * head_size;
    for_each_vector<T>(head_size, [&](Index c, Index n) {
      Vec<T> k(T(0)), v(T(0));
      for (Index p = 0; p < pieces; ++p) {
        k = k + Vec<T>::load(share + p * apart + c, n);
        v = v + Vec<T>::load(share + p * apart + head_size + c, n);
      }
      k = k * Vec<T>(factor);
      if (more_k) k = k + Vec<T>::load(more_k + c, n);
      if (more_v) v = v + Vec<T>::load(more_v + c, n);
      k.store(dk + c, n);
      v.store(dv + c, n);
    });
  }
};

/// Row `slot` of a cache.
template <class U>
[[nodiscard]] U* slot_row(const View<U, 4>& view, Index s, Index slot, Index group) noexcept {
  return view ? view.data() + s * view.stride(0) + slot * view.stride(1) + group * view.stride(2)
              : nullptr;
}

/// The gradients by the keys and values of the steps, then those by the cache before them: a slot
/// that a step has overwritten hands its gradient to that step.
template <class T>
void write_key_gradients(const Cpu& backend, const AttentionSteps<T>& steps,
                         const CausalAttentionOutputGradients<T>& dout,
                         const CausalAttentionInputGradients<T>& din, Index pieces,
                         const T* partials) {
  const Index d = steps.head_size, keys = steps.keys_before(steps.sequences);
  const Index slots = dout.cache ? dout.cache.k.extent(1) : din.cache ? din.cache.k.extent(1) : 0;
  const auto shares = [&](Index s, Index group) {
    return KeyShares<T>{partials + (group * keys + steps.keys_before(s)) * 2 * d, pieces,
                        steps.groups * keys * 2 * d, d, steps.key_factor()};
  };
  constexpr Index cuts = 8;
  const Cpu threads = for_elements(backend, 2 * pieces * steps.groups * keys * d);
  parallel_for(threads, steps.sequences * steps.groups * cuts, [&](Index task) {
    const Index s = task / cuts / steps.groups, group = task / cuts % steps.groups;
    const Index length = steps.span(s).length(), past = steps.past(s), cut = task % cuts;
    const auto share = shares(s, group);
    const auto dk = steps.rows(din.k, s, group), dv = steps.rows(din.v, s, group);
    for (Index i = length * cut / cuts; i < length * (cut + 1) / cuts; ++i) {
      const bool last = i + slots >= length;  // to write into its slot
      const Index slot = last && slots > 0 ? (past + i) % slots : 0;
      const bool kept = dout.cache && slots > 0 && last;
      share.write(steps.cached(s) + i, kept ? slot_row(dout.cache.k, s, slot, group) : nullptr,
                  kept ? slot_row(dout.cache.v, s, slot, group) : nullptr, dk.at(i), dv.at(i));
    }
  });
  if (!din.cache) return;
  parallel_for(threads, steps.sequences * steps.groups, [&](Index task) {
    const Index s = task / steps.groups, group = task % steps.groups;
    const Index past = steps.past(s), old = steps.cached(s), length = steps.span(s).length();
    auto share = shares(s, group);
    for (Index slot = 0; slot < slots; ++slot) {
      // The position of the step that the slot held, the first at past − old.
      const Index ahead = (slot - past % slots + slots) % slots;  // steps from here until written
      const bool overwritten = ahead < length, held = ahead >= slots - old;
      const bool passed = dout.cache && !overwritten;
      T *dk = slot_row(din.cache.k, s, slot, group), *dv = slot_row(din.cache.v, s, slot, group);
      share.pieces = held ? pieces : 0;
      share.write(held ? ahead - (slots - old) : 0,
                  passed ? slot_row(dout.cache.k, s, slot, group) : nullptr,
                  passed ? slot_row(dout.cache.v, s, slot, group) : nullptr, dk, dv);
    }
  });
}

/// dk and dv += the gradients by earlier keys and values, in arrays as theirs.
template <class T>
void add_earlier_gradients(const Cpu& backend, const AttentionSteps<T>& steps, Index pieces,
                           const T* partials, const View<T, 4>& dk, const View<T, 4>& dv) {
  const Index d = steps.head_size, keys = steps.keys_before(steps.sequences);
  constexpr Index cuts = 8;
  const Cpu threads = for_elements(backend, 2 * pieces * steps.groups * keys * d);
  parallel_for(threads, steps.sequences * steps.groups * cuts, [&](Index task) {
    const Index s = task / cuts / steps.groups, group = task / cuts % steps.groups;
    const Index held = steps.keys(s), first = steps.origin(s), cut = task % cuts;
    const KeyShares<T> share{partials + (group * keys + steps.keys_before(s)) * 2 * d, pieces,
                             steps.groups * keys * 2 * d, d, steps.key_factor()};
    for (Index i = held * cut / cuts; i < held * (cut + 1) / cuts; ++i) {
      T *k = slot_row(dk, s, first + i, group), *v = slot_row(dv, s, first + i, group);
      share.write(i, k, v, k, v);
    }
  });
}

/// The gradients of the queries, and in scratch.partials those of the keys and values that they
/// meet, as KeyShares reads them. It returns how many pieces of the queries there are.
template <class T>
Index share_gradients(const Cpu& backend, const AttentionSteps<T>& steps,
                      const CausalAttentionOutputGradients<T>& dout,
                      const CausalAttentionInputGradients<T>& din,
                      CausalAttentionScratch<T>& scratch) {
  const Index d = steps.head_size, keys = steps.keys_before(steps.sequences);
  // Queries are cut where sequences and groups alone would leave threads without work.
  const Index owners = (std::max<Index>)(steps.sequences * steps.groups, 1);
  const Pieces pieces(steps.blocks_before(steps.sequences) * steps.shared / owners + 1, 4,
                      (std::max<Index>)(16 / owners, 1));
  const Index apart = steps.groups * keys * 2 * d;
  const Cpu threads = for_work(backend, steps.nanoseconds(5));
  const Index room = AttentionBackward<T>::room(d);
  const auto grow = [](auto& tensor, Index size) {
    if (tensor.size() < size) tensor.resize({size});
  };
  grow(scratch.tiles, threads.thread_count() * room);
  // As if the caches were full, which they will be.
  const Index most = steps.earlier ? steps.sequences * steps.earlier.steps()
                                   : steps.batch * steps.length + steps.sequences * steps.slots;
  grow(scratch.partials, pieces.pieces * steps.groups * most * 2 * d);
  const Index count = pieces.pieces;
  parallel_runs(
      threads, steps.sequences * steps.groups * count, [&](Index begin, Index end, Index run) {
        AttentionBackward<T> backward(steps, dout, din, scratch.tiles.data() + run * room);
        for (Index task = begin; task < end; ++task) {
          const Index piece = task % count, owner = task / count;
          const Index s = owner / steps.groups, group = owner % steps.groups;
          const Index own = steps.keys_before(s + 1) - steps.keys_before(s);
          T* shares = scratch.partials.data() + piece * apart +
                      (group * keys + steps.keys_before(s)) * 2 * d;
          std::fill_n(shares, own * 2 * d, T(0));
          const Index blocks = steps.blocks(s), all = blocks * steps.shared;
          for (Index round = 0; round * count < all; ++round) {
            // There and back, so that pieces have about the same work.
            const Index item = round * count + (round % 2 == 0 ? piece : count - 1 - piece);
            if (item >= all) continue;
            const Index head = group * steps.shared + item / blocks;
            const Index first = item % blocks * attention_queries<T>;
            backward.run(s, head, first,
                         (std::min)(attention_queries<T>, steps.span(s).length() - first),
                         &scratch.lse(head, steps.first_row(s) + first), shares);
          }
        }
      });
  return count;
}

template <class T>
void attend_backward(const Cpu& backend, const AttentionSteps<T>& steps,
                     const CausalAttentionOutputGradients<T>& dout,
                     const CausalAttentionInputGradients<T>& din,
                     CausalAttentionScratch<T>& scratch) {
  const Index pieces = share_gradients(backend, steps, dout, din, scratch);
  write_key_gradients(backend, steps, dout, din, pieces, scratch.partials.data());
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
