#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/layers/causal_attention_types.hpp"
#include "ssm/layers/detail/attention_product.hpp"
#include "ssm/layers/detail/positions.hpp"

/// Which keys a block of queries sees, and where they lie.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Queries of a block: one to a lane, as many vectors as a product has in registers.
template <class T>
inline constexpr Index attention_queries = block_vectors* lanes<T>;
/// Keys of a block: scores of queries and keys, and keys and values, stay in the nearest caches.
inline constexpr Index attention_keys = 64;

/// Rows of adjacent elements, one for each step in the order of time.
template <class T>
struct StepRows {
  T* data;
  Index step;

  [[nodiscard]] T* at(Index i) const noexcept { return data + i * step; }
};

/// Keys and values whose positions follow each other.
template <class T>
struct KeyRun {
  Index first, count;  // positions
  StepRows<const T> k, v;
};

/// Keys and values of earlier steps that lie apart from the queries, (batch, steps, groups,
/// head_size) in the order of time. What the queries found before they meet them is kept.
template <class T>
struct EarlierKeys {
  View<const T, 4> k = {}, v = {};
  Index gap = 0;                   // steps between the last of them and the first query
  View<const Index, 1> most = {};  // (batch), optional: a sequence has only so many, the last

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(k); }
  [[nodiscard]] Index steps() const noexcept { return k.extent(1); }
  /// How many of them sequence s has.
  [[nodiscard]] Index held(Index s) const { return most ? (std::min)(most(s), steps()) : steps(); }
};

/// The sequences of an attention, and the rows of its arrays by time. With `earlier` keys the
/// queries meet these alone, and positions count from the first of them.
template <class T>
class AttentionSteps {
 public:
  AttentionSteps(const CausalAttentionInputs<T>& inputs, const CausalAttentionOptions& options,
                 CausalAttentionScratch<T>& scratch, const EarlierKeys<T>& earlier_keys = {})
      : in(inputs),
        earlier(earlier_keys),
        batch(inputs.q.extent(0)),
        length(inputs.q.extent(1)),
        heads(inputs.q.extent(2)),
        groups(inputs.k.extent(2)),
        head_size(inputs.q.extent(3)),
        shared(heads / groups),
        sequences(inputs.sequences.count(batch)),
        window((std::min)(options.window, 2 * most_positions)),
        slots(inputs.cache ? inputs.cache.k.extent(1) : 0),
        plan_(scratch.plan) {
    constexpr Index block = attention_queries<T>;
    scratch.plan.resize({sequences + 1, 2});
    plan_ = scratch.plan;
    for (Index s = 0; s < sequences; ++s) {
      plan_(s + 1, 0) = plan_(s, 0) + (span(s).length() + block - 1) / block;
      plan_(s + 1, 1) = plan_(s, 1) + keys(s);
    }
  }

  [[nodiscard]] SequenceSpan span(Index s) const { return span_of(in.sequences, s, length); }
  /// The position of the first query of a sequence.
  [[nodiscard]] Index past(Index s) const {
    if (earlier) return earlier.steps() + earlier.gap;
    return in.cache ? in.cache.steps(s) : 0;
  }
  /// How many steps before it the cache holds.
  [[nodiscard]] Index cached(Index s) const { return (std::min)(past(s), slots); }
  /// How many keys the queries of a sequence meet, and the position of the first of them.
  [[nodiscard]] Index keys(Index s) const {
    return earlier ? earlier.held(s) : cached(s) + span(s).length();
  }
  [[nodiscard]] Index origin(Index s) const {
    return earlier ? earlier.steps() - earlier.held(s) : past(s) - cached(s);
  }

  /// Blocks of queries of the sequences before s, and their keys.
  [[nodiscard]] Index blocks_before(Index s) const { return plan_(s, 0); }
  [[nodiscard]] Index keys_before(Index s) const { return plan_(s, 1); }
  [[nodiscard]] Index blocks(Index s) const { return plan_(s + 1, 0) - plan_(s, 0); }
  /// The sequence with block `block` of all.
  [[nodiscard]] Index sequence_of(Index block) const {
    Index low = 0;
    for (Index high = sequences; high - low > 1;) {
      const Index middle = (low + high) / 2;
      (plan_(middle, 0) <= block ? low : high) = middle;
    }
    return low;
  }

  /// The rows of a sequence in an array (batch, length, heads or groups, head_size).
  template <class U>
  [[nodiscard]] StepRows<U> rows(const View<U, 4>& view, Index s, Index head) const {
    const SequenceSpan at = span(s);
    const bool reversed = in.sequences.reversed;
    U* first = view.data();
    if (at.length() > 0)
      first +=
          at.row * view.stride(0) + at.step(0, reversed) * view.stride(1) + head * view.stride(2);
    return {first, reversed ? -view.stride(1) : view.stride(1)};
  }
  /// Where (heads, batch · length) has the first step of a sequence.
  [[nodiscard]] Index first_row(Index s) const { return span(s).row * length + span(s).begin; }

  /// The keys of a sequence, from the earliest position on.
  [[nodiscard]] std::array<KeyRun<T>, 3> runs(Index s, Index group) const {
    std::array<KeyRun<T>, 3> runs{};
    if (earlier) {
      const Index first = origin(s);
      const auto from = [&](const View<const T, 4>& x) {
        return StepRows<const T>{
            x.data() + s * x.stride(0) + first * x.stride(1) + group * x.stride(2), x.stride(1)};
      };
      runs[0] = {first, earlier.held(s), from(earlier.k), from(earlier.v)};
      return runs;
    }
    const Index old = cached(s), first = past(s) - old;
    if (old > 0) {
      const Index slot = first % slots, before_end = (std::min)(old, slots - slot);
      const auto from = [&](Index position, Index at, Index count) {
        const auto &k = in.cache.k, &v = in.cache.v;
        return KeyRun<T>{
            position,
            count,
            {k.data() + s * k.stride(0) + at * k.stride(1) + group * k.stride(2), k.stride(1)},
            {v.data() + s * v.stride(0) + at * v.stride(1) + group * v.stride(2), v.stride(1)}};
      };
      runs[0] = from(first, slot, before_end);
      runs[1] = from(first + before_end, 0, old - before_end);
    }
    runs[2] = {past(s), span(s).length(), rows(in.k, s, group), rows(in.v, s, group)};
    return runs;
  }

  /// Calls body(keys, partly, skip) for every block of the keys that queries at positions
  /// [begin, end) see: `partly` says that some do not see all of it, and the first `skip` queries,
  /// whole vectors, see none of it. Each query sees one of the first block or a later one, unless
  /// the keys are earlier ones.
  template <class Body>
  void for_key_blocks(const std::array<KeyRun<T>, 3>& all, Index begin, Index end,
                      const Body& body) const {
    const Index lowest = window > 0 ? begin - window + 1 : 0;
    for (const KeyRun<T>& run : all) {
      const Index last = (std::min)(run.first + run.count, end);
      Index count = 0;
      for (Index at = (std::max)(run.first, lowest); at < last; at += count) {
        // As many keys as a vector has lanes where they meet their own queries.
        count = at < begin ? (std::min)({attention_keys, begin - at, last - at})
                           : (std::min)(lanes<T>, last - at);
        const bool partly = at + count - 1 > begin || (window > 0 && at < end - window);
        const Index skip = at < begin ? 0 : (at - begin) / lanes<T> * lanes<T>, i = at - run.first;
        body(KeyRun<T>{at, count, {run.k.at(i), run.k.step}, {run.v.at(i), run.v.step}}, partly,
             skip);
      }
    }
  }

  /// The lanes [first, second) of a block of queries, the first at position `begin`, that see the
  /// key at a position.
  [[nodiscard]] std::array<T, 2> seen_by(Index key, Index begin) const {
    const Index all = attention_queries<T>;
    const Index low = key - begin, high = window > 0 ? low + window : all;
    return {static_cast<T>(std::clamp<Index>(low, 0, all)),
            static_cast<T>(std::clamp<Index>(high, 0, all))};
  }

  /// Nanoseconds that one thread takes for so many products with every pair that sees each other.
  [[nodiscard]] double nanoseconds(double products) const {
    double pairs = 0;
    for (Index s = 0; s < sequences; ++s) {
      const auto steps = static_cast<double>(span(s).length());
      double seen = earlier ? static_cast<double>(earlier.held(s))
                            : static_cast<double>(cached(s)) + steps / 2;
      if (window > 0) seen = (std::min)(seen, static_cast<double>(window));
      pairs += steps * seen;
    }
    return 0.03 * products * pairs * static_cast<double>(heads * head_size);
  }

  /// log₂ e / √head_size: scores are exponents of two.
  [[nodiscard]] T score_factor() const {
    return static_cast<T>(1.4426950408889634 / std::sqrt(static_cast<double>(head_size)));
  }

  /// 1/√head_size
  [[nodiscard]] T key_factor() const {
    return static_cast<T>(1 / std::sqrt(static_cast<double>(head_size)));
  }

  const CausalAttentionInputs<T>& in;
  const EarlierKeys<T> earlier;
  const Index batch, length, heads, groups, head_size, shared, sequences, window, slots;

 private:
  View<Index, 2> plan_;
};

/// Numbers of the lanes of a vector: 0, 1, …
template <class T>
[[nodiscard]] Vec<T> query_lanes() noexcept {
  alignas(vector_bytes) T numbers[lanes<T>];
  for (Index i = 0; i < lanes<T>; ++i) numbers[i] = static_cast<T>(i);
  return Vec<T>::load(numbers);
}

/// `a` in the lanes whose numbers are in [seen[0], seen[1]), else `other`.
template <class T>
[[nodiscard]] Vec<T> where_seen(Vec<T> number, const std::array<T, 2>& seen, Vec<T> a,
                                Vec<T> other) noexcept {
  const Vec<T> below(number.v < Vec<T>(seen[1]).v ? a.v : other.v);
  return number.v < Vec<T>(seen[0]).v ? other.v : below.v;
}

/// The i-th of `count` items whose work grows with their number, so that runs of neighbours have
/// about the same work: the first, the last, the second, …
[[nodiscard]] constexpr Index folded(Index i, Index count) noexcept {
  return i % 2 == 0 ? i / 2 : count - 1 - i / 2;
}

/// Calls body(begin, end, run) for contiguous ranges that together cover [0, count), as
/// parallel_ranges does, with the number of each range, for memory of its own.
template <class Body>
void parallel_runs(const Cpu& backend, Index count, const Body& body) {
  const Index runs = (std::min)(count, static_cast<Index>(backend.thread_count()));
  parallel_for(backend, runs,
               [&](Index run) { body(count * run / runs, count * (run + 1) / runs, run); });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
