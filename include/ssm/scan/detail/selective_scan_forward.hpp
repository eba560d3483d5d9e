#pragma once

#include <algorithm>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/scan/detail/selective_scan_blocks.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Per step and lane, what forward has of a tile that every state shares.
template <class T>
struct alignas(64) ForwardTile {
  static constexpr Index size = tile_steps * lanes<T>;
  T delta[size];  ///< Δ
  T u[size];      ///< where the block has fewer channels than lanes, with zeros in the rest
  T y[size];      ///< C·x + D u, of the first half of the states
  T rest[size];   ///< C·x of the second half
};

/// The selective scan as vector code.
///
/// C·x is summed over two halves of the states, each in a fixed order, which are then added. So the
/// halves can be the work of two threads where there are fewer blocks of channels than that, and
/// the bits are the same.
template <class K>
class SelectiveForward : SelectiveBlocks<K> {
  using Base = SelectiveBlocks<K>;
  using Base::W, Base::parts, Base::in_, Base::options_, Base::sizes_, Base::blocks_,
      Base::block_states_;
  using typename Base::BlockInputs;
  using typename Base::T;
  // States that go through a tile at once: with 32 registers they stay in them beside what exp2
  // needs, which in double is a table as well.
  static constexpr int largest = sizeof(T) == 4 ? 16 : 8;

 public:
  SelectiveForward(const SelectiveScanInputs<T, K>& in, const SelectiveScanOptions& options,
                   const SelectiveSizes& sizes)
      : Base(in, options, sizes) {}

  void run(const Cpu& all_threads, const SelectiveScanOutputs<T, K>& out,
           SelectiveScanScratch<T, K>& scratch) const {
    const Index units = sizes_.sequences * blocks_;
    const Cpu backend = Base::threads_worth(all_threads, 1);
    if (options_.keep) scratch.kept.resize({Base::kept_tiles() * blocks_ * block_states_ / parts});
    if (sizes_.length <= tile_steps && !in_.sequences.offsets)
      return run_tiles(backend, out, scratch);
    Base::pack_rates(scratch);
    scratch.states.resize({units * block_states_ / parts});
    if (halves_balance(units, backend)) return run_halves(backend, out, scratch);
    parallel_ranges(backend, units, [&](Index begin, Index end) {
      while (begin < end) {
        const Index sequence = begin / blocks_;
        const Index stop = (std::min)(end, (sequence + 1) * blocks_);
        forward_blocks(sequence, begin % blocks_, begin % blocks_ + stop - begin, out, scratch);
        begin = stop;
      }
    });
  }

 private:
  /// Where the second half of the states begins.
  [[nodiscard]] Index middle() const noexcept {
    return (std::min)(sizes_.state, ((sizes_.state + 1) / 2 + 7) / 8 * 8);
  }

  /// Whether threads would idle with whole blocks, and halves, which take 0.65 of a block each, are
  /// done sooner.
  [[nodiscard]] bool halves_balance(Index units, const Cpu& backend) const noexcept {
    const Index threads = backend.thread_count();
    const auto rounds = [&](Index count) { return (count + threads - 1) / threads; };
    return threads > 1 && middle() < sizes_.state && 100 * rounds(units) > 65 * rounds(2 * units) &&
           !is_in_parallel();
  }

  [[nodiscard]] T* states_of(Index sequence, Index b,
                             SelectiveScanScratch<T, K>& scratch) const noexcept {
    return parts_of(scratch.states.data()) + (sequence * blocks_ + b) * block_states_;
  }
  /// Copies states [first, last) to where backward will look for those before a tile.
  void keep(const T* x, Index sequence, Index b, Index step, Index first, Index last,
            SelectiveScanScratch<T, K>& scratch) const noexcept {
    if (!options_.keep) return;
    T* const kept =
        parts_of(scratch.kept.data()) +
        ((Base::first_tile(sequence) + step / tile_steps) * blocks_ + b) * block_states_;
    std::copy(x + first * parts * W, x + last * parts * W, kept + first * parts * W);
    for (Index n = first * parts; n < last * parts; ++n)
      prefetch_to_write(kept + n * W, block_states_);  // the next block's
  }

  /// States [first, last) of a block over a tile: x goes on, and sums become C·x, with D u where
  /// `from_D`.
  template <bool Exact>
  void scan_range(Index first, Index last, bool from_D, const BlockInputs& in, Index steps,
                  const T* delta, Rows<const T> u, Rows<T> sums, T* x) const noexcept {
    constexpr bool plain = parts == 1 && !Exact;
    bool set = plain && from_D && first < last;
    if (!set)
      for (Index s = 0; s < steps; ++s)
        (from_D ? in.D * Vec<T>::load(u.at(s)) : Vec<T>(T(0))).store(sums.at(s));
    // Fewer sizes of chunk for the rarer kinds, which take long to compile and gain less.
    constexpr int chunk_states = plain ? largest : 4;
    constexpr int divisor = plain ? 2 : 4;
    for_state_chunks<chunk_states, divisor>(first, last, [&](auto chunk, Index n) {
      const auto scan = [&](auto is_first) {
        scan_states<K, Exact, chunk, is_first>(steps, delta, u, sums, in.D, in.chunk(n),
                                               x + n * parts * W);
      };
      if constexpr (plain)
        set ? scan(std::true_type{}) : scan(std::false_type{});
      else
        scan(std::false_type{});
      set = false;
    });
  }
  void scan_range(Index first, Index last, bool from_D, const BlockInputs& in, Index steps,
                  const T* delta, Rows<const T> u, Rows<T> sums, T* x) const noexcept {
    Base::is_exact() ? scan_range<true>(first, last, from_D, in, steps, delta, u, sums, x)
                     : scan_range<false>(first, last, from_D, in, steps, delta, u, sums, x);
  }

  /// Step sizes of a tile, and u: a copy where the block has fewer channels than lanes.
  template <class Count>
  [[nodiscard]] Rows<const T> begin_tile(Count count, const BlockInputs& in, Index steps,
                                         ForwardTile<T>& tile) const noexcept {
    for (Index s = 0; s < steps; ++s) {
      prefetch(in.delta.at(s), 4 * W);
      prefetch(in.u.at(s), 4 * W);
      (Vec<T>::load(in.delta.at(s), count) + in.bias).store(tile.delta + s * W);
    }
    if (options_.softplus) softplus_tile(steps, tile.delta);
    if constexpr (!std::is_same_v<Count, Index>) return in.u;
    for (Index s = 0; s < steps; ++s) Vec<T>::load(in.u.at(s), count).store(tile.u + s * W);
    return {tile.u, W};
  }

  template <class Count>
  void store_output(Count count, const BlockInputs& in, Index s, Vec<T> value,
                    Rows<T> y) const noexcept {
    if (in.z) {
      const Vec<T> z = Vec<T>::load(in.z.at(s), count);
      value = value * z * sigmoid(z);
    }
    value.store(y.at(s), count);
  }

  /// One block over one tile. `count` is the block's channels: as a constant it costs nothing.
  template <class Count>
  void forward_tile(Count count, const BlockInputs& in, T* x, Rows<T> y, Index steps,
                    ForwardTile<T>& tile) const noexcept {
    constexpr bool full = !std::is_same_v<Count, Index>;
    for (Index s = 0; s < steps; ++s) prefetch_to_write(y.at(s), 4 * W);
    const Rows<const T> u = begin_tile(count, in, steps, tile);
    // A chunk of sixteen sums its halves apart as well.
    const bool whole = middle() == sizes_.state ||
                       (parts == 1 && !Base::is_exact() && largest == 16 && sizes_.state == 16);
    const bool direct = full && !in.z && whole;
    const Rows<T> sums = direct ? y : Rows<T>{tile.y, W};
    scan_range(0, whole ? sizes_.state : middle(), true, in, steps, tile.delta, u, sums, x);
    if (!whole)
      scan_range(middle(), sizes_.state, false, in, steps, tile.delta, u, Rows<T>{tile.rest, W}, x);
    if (direct) return;
    for (Index s = 0; s < steps; ++s) {
      const Vec<T> sum = Vec<T>::load(sums.at(s));
      store_output(count, in, s, whole ? sum : sum + Vec<T>::load(tile.rest + s * W), y);
    }
  }

  /// Calls body(count) with a block's channels, as a constant where they fill the lanes.
  template <class Body>
  void with_count(const ChannelBlock& at, Body&& body) const noexcept {
    at.count == W ? body(std::integral_constant<Index, W>{}) : body(at.count);
  }

  void forward_tile(const ChannelBlock& at, const BlockInputs& in, T* x, Rows<T> y, Index steps,
                    ForwardTile<T>& tile) const noexcept {
    with_count(at, [&](auto count) { forward_tile(count, in, x, y, steps, tile); });
  }

  void forward_blocks(Index sequence, Index first_block, Index last_block,
                      const SelectiveScanOutputs<T, K>& out,
                      SelectiveScanScratch<T, K>& scratch) const noexcept {
    const SequenceSpan span = span_of(in_.sequences, sequence, sizes_.length);
    for (Index b = first_block; b < last_block; ++b)
      Base::load_states(in_.initial_state, sequence, Base::block(b),
                        states_of(sequence, b, scratch));
    ForwardTile<T> tile;
    for (Index begin = 0; begin < span.length(); begin += tile_steps) {
      const Index steps = (std::min)(tile_steps, span.length() - begin);
      for (Index b = first_block; b < last_block; ++b) {
        T* const x = states_of(sequence, b, scratch);
        keep(x, sequence, b, begin, 0, sizes_.state, scratch);
        const ChannelBlock at = Base::block(b);
        forward_tile(at, Base::block_inputs(at, span, begin, Base::rates_of(b, scratch)), x,
                     Base::rows(out.y, span, at.first).from(begin), steps, tile);
      }
    }
    for (Index b = first_block; b < last_block; ++b)
      Base::store_states(out.final_state, sequence, Base::block(b),
                         states_of(sequence, b, scratch));
  }

  /// The same for sequences of one tile, block by block: A and the states go through memory that
  /// stays in the first-level cache.
  void run_tiles(const Cpu& backend, const SelectiveScanOutputs<T, K>& out,
                 SelectiveScanScratch<T, K>& scratch) const {
    const Index units = sizes_.sequences * blocks_;
    const Index runs = (std::min)(units, static_cast<Index>(backend.thread_count()));
    scratch.tiles.resize({runs * Base::block_rates()});
    scratch.states.resize({runs * block_states_ / parts});
    parallel_for(backend, runs, [&](Index run) {
      T* const rates = scratch.tiles.data() + run * Base::block_rates();
      T* const x = parts_of(scratch.states.data()) + run * block_states_;
      ForwardTile<T> tile;
      for (Index unit = units * run / runs; unit < units * (run + 1) / runs; ++unit) {
        const Index sequence = unit / blocks_, b = unit - sequence * blocks_;
        const SequenceSpan span = span_of(in_.sequences, sequence, sizes_.length);
        const ChannelBlock at = Base::block(b);
        Base::pack_rates(at, rates);
        Base::load_states(in_.initial_state, sequence, at, x);
        if (span.length() > 0) {
          keep(x, sequence, b, 0, 0, sizes_.state, scratch);
          forward_tile(at, Base::block_inputs(at, span, 0, rates), x,
                       Base::rows(out.y, span, at.first), span.length(), tile);
        }
        Base::store_states(out.final_state, sequence, at, x);
      }
    });
  }

  /// The same with halves of the states as units of work: their sums first, then y.
  void run_halves(const Cpu& backend, const SelectiveScanOutputs<T, K>& out,
                  SelectiveScanScratch<T, K>& scratch) const {
    const Index units = sizes_.sequences * blocks_, total = sizes_.batch * sizes_.length;
    scratch.partials.resize({(2 * blocks_ * total * W + parts - 1) / parts});
    const auto sums_of = [&](Index b, Index half, const SequenceSpan& span) {
      return Rows<T>{parts_of(scratch.partials.data()) +
                         ((2 * b + half) * total + span.row * sizes_.length + span.begin) * W,
                     W};
    };
    for (Index unit = 0; unit < units; ++unit)
      Base::load_states(in_.initial_state, unit / blocks_, Base::block(unit % blocks_),
                        states_of(unit / blocks_, unit % blocks_, scratch));
    parallel_for(backend, 2 * units, [&](Index task) {
      const Index sequence = task / 2 / blocks_, b = task / 2 % blocks_, half = task % 2;
      const Index first = half == 0 ? 0 : middle(), last = half == 0 ? middle() : sizes_.state;
      const SequenceSpan span = span_of(in_.sequences, sequence, sizes_.length);
      T* const x = states_of(sequence, b, scratch);
      ForwardTile<T> tile;
      for (Index begin = 0; begin < span.length(); begin += tile_steps) {
        const Index steps = (std::min)(tile_steps, span.length() - begin);
        keep(x, sequence, b, begin, first, last, scratch);
        const ChannelBlock at = Base::block(b);
        const BlockInputs inputs = Base::block_inputs(at, span, begin, Base::rates_of(b, scratch));
        with_count(at, [&](auto count) {
          const Rows<const T> u = begin_tile(count, inputs, steps, tile);
          scan_range(first, last, half == 0, inputs, steps, tile.delta, u,
                     sums_of(b, half, span).from(begin), x);
        });
      }
    });
    constexpr Index pieces = 16;  // of time
    const Cpu worth = for_elements(backend, total * blocks_, in_.z ? 6.0 : 1.5);
    parallel_for(worth, units * pieces, [&](Index task) {
      const Index sequence = task / pieces / blocks_, b = task / pieces % blocks_;
      const Index piece = task % pieces;
      const SequenceSpan span = span_of(in_.sequences, sequence, sizes_.length);
      const ChannelBlock at = Base::block(b);
      const BlockInputs inputs = Base::block_inputs(at, span, 0, Base::rates_of(b, scratch));
      const Rows<T> y = Base::rows(out.y, span, at.first);
      const Rows<T> sums = sums_of(b, 0, span), rest = sums_of(b, 1, span);
      with_count(at, [&](auto count) {
        const Index end = span.length() * (piece + 1) / pieces;
        for (Index s = span.length() * piece / pieces; s < end; ++s)
          store_output(count, inputs, s, Vec<T>::load(sums.at(s)) + Vec<T>::load(rest.at(s)), y);
      });
      if (piece == 0)
        Base::store_states(out.final_state, sequence, Base::block(b),
                           states_of(sequence, b, scratch));
    });
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
