#pragma once

#include <algorithm>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd_lanes.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/scan/detail/selective_scan_blocks.hpp"
#include "ssm/scan/selective_scan_reference.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The gradients of the selective scan as vector code, from the states that forward kept.
template <class K>
class SelectiveBackward : SelectiveBlocks<K> {
  using Base = SelectiveBlocks<K>;
  using Base::W, Base::parts, Base::in_, Base::options_, Base::sizes_, Base::blocks_,
      Base::blocks_per_group_, Base::block_states_;
  using typename Base::BlockInputs;
  using typename Base::T;
  static constexpr int largest = 4;  // states in registers, beside their gradients and those of A
  // States whose gradients of B and C, a lane for each channel, stay in the first-level cache.
  static constexpr Index most_in_range = 16 / parts;
  using OutputGradients = SelectiveScanOutputGradients<T, K>;
  using InputGradients = SelectiveScanInputGradients<T, K>;

 public:
  SelectiveBackward(const SelectiveScanInputs<T, K>& in, const SelectiveScanOptions& options,
                    const SelectiveSizes& sizes)
      : Base(in, options, sizes) {}

  void run(const Cpu& all_threads, const OutputGradients& dout, const InputGradients& din,
           SelectiveScanScratch<T, K>& scratch) const {
    Base::pack_rates(scratch);
    // At least eight blocks share the sums over lanes, fewer where there would be too few tasks,
    // which depend on the shape alone.
    const Index enough = (std::max<Index>)(1, 64 / (std::max<Index>)(1, sizes_.sequences));
    const Index wanted =
        (std::min)(enough, (std::max)({blocks_ / 8, (std::min<Index>)(blocks_ / 4, 4),
                                       (std::min<Index>)(blocks_, 2)}));
    const ChannelPanels panels(sizes_, W, wanted);
    const Index tasks = sizes_.sequences * panels.count(sizes_);
    const Index panel_blocks = (blocks_per_group_ + panels.per_group - 1) / panels.per_group + 1;
    const Index thread_scratch = 2 * tile_steps * range_states() +
                                 panel_blocks * (BackwardTile<T>::size + 2 * (block_states_ + W));
    const Cpu backend = Base::threads_worth(all_threads, 3);
    const Index runs = (std::min<Index>)(backend.thread_count(), tasks);
    const Index lane_sums = 2 * panels.count(sizes_) * sizes_.batch * sizes_.length * sizes_.state;
    const Index sums_each = sizes_.state * parts + 2;
    scratch.states.resize({(runs * thread_scratch + parts - 1) / parts});
    scratch.partials.resize(
        {lane_sums + (sizes_.sequences * sizes_.channels * sums_each + parts - 1) / parts});
    T* const channel_sums = parts_of(scratch.partials.data() + lane_sums);

    parallel_for(backend, runs, [&](Index run) {
      for (Index task = tasks * run / runs; task < tasks * (run + 1) / runs; ++task) {
        const Index panel = task / sizes_.sequences;
        backward_panel(task % sizes_.sequences, panel, panels, dout, din, scratch,
                       parts_of(scratch.states.data()) + run * thread_scratch, panel_blocks,
                       channel_sums);
      }
    });
    sum_panels(backend, scratch.partials.data(), panels, sizes_, din);
    sum_sequences(backend, channel_sums, sums_each, din);
  }

 private:
  /// Elements of a range of states of a block.
  [[nodiscard]] Index range_states() const noexcept {
    return (std::min)(sizes_.state, most_in_range) * parts * W;
  }

  /// Everything that one sequence sends back through one panel of channels.
  void backward_panel(Index sequence, Index panel, const ChannelPanels& panels,
                      const OutputGradients& dout, const InputGradients& din,
                      SelectiveScanScratch<T, K>& scratch, T* room, Index panel_blocks,
                      T* channel_sums) const noexcept {
    const SequenceSpan span = span_of(in_.sequences, sequence, sizes_.length);
    const Index first_block =
        panels.group(panel) * blocks_per_group_ +
        (panels.begin(panel) - panels.group(panel) * panels.group_channels) / W;
    const Index blocks = (panels.end(panel) - panels.begin(panel) + W - 1) / W;
    T* dB = room;  // (step, state of a range, parts, lanes)
    T* dC = dB + tile_steps * range_states();
    T* tiles = dC + tile_steps * range_states();
    T* g = tiles + panel_blocks * BackwardTile<T>::size;  // (block, state, parts, lanes)
    T* dA = g + panel_blocks * block_states_;
    T* dD = dA + panel_blocks * block_states_;  // (block, lanes)
    T* dbias = dD + panel_blocks * W;
    std::fill(dA, dbias + panel_blocks * W, T(0));
    for (Index b = 0; b < blocks; ++b)
      Base::load_states(dout.final_state, sequence, Base::block(first_block + b),
                        g + b * block_states_);

    const bool one_range = range_states() == block_states_;
    const Index last_tile = (span.length() + tile_steps - 1) / tile_steps - 1;
    for (Index k = last_tile; k >= 0; --k) {
      const Index begin = k * tile_steps;
      const Index steps = (std::min)(tile_steps, span.length() - begin);
      const auto with_block = [&](Index b, auto&& body) {
        const ChannelBlock at = Base::block(first_block + b);
        const TileOfBlock tile{
            Base::block_inputs(at, span, begin, Base::rates_of(first_block + b, scratch)),
            Base::rows(dout.y, span, at.first).from(begin),
            Base::rows(din.u, span, at.first).from(begin),
            Base::rows(din.delta, span, at.first).from(begin),
            Base::rows(din.z, span, at.first).from(begin),
            parts_of(scratch.kept.data()) +
                ((Base::first_tile(sequence) + k) * blocks_ + first_block + b) * block_states_,
            {g + b * block_states_, dA + b * block_states_, dB, dC, range_states()},
            dD + b * W,
            dbias + b * W,
            steps,
            {tiles + (one_range ? 0 : b * BackwardTile<T>::size)}};
        if (at.count == W)
          body(tile, std::integral_constant<Index, W>{});
        else
          body(tile, at.count);
      };
      if (!one_range)
        for (Index b = 0; b < blocks; ++b)
          with_block(b, [&](const TileOfBlock& tile, auto count) { begin_tile(count, tile); });
      for (Index first = 0; first < sizes_.state; first += most_in_range) {
        const Index last = (std::min)(sizes_.state, first + most_in_range);
        std::fill(dB, tiles, T(0));
        for (Index b = 0; b < blocks; ++b)
          with_block(b, [&](const TileOfBlock& tile, auto count) {
            if (one_range) begin_tile(count, tile);
            Base::is_exact() ? backward_states<true>(first, last, tile)
                             : backward_states<false>(first, last, tile);
            if (one_range) store_tile_gradients(count, tile);
          });
        store_lane_sums(dB, dC, first, last, panel, span, begin, steps,
                        parts_of(scratch.partials.data()));
      }
      if (!one_range)
        for (Index b = 0; b < blocks; ++b)
          with_block(
              b, [&](const TileOfBlock& tile, auto count) { store_tile_gradients(count, tile); });
    }

    const Index rows = sizes_.state * parts;
    for (Index b = 0; b < blocks; ++b) {
      const ChannelBlock at = Base::block(first_block + b);
      Base::store_states(din.initial_state, sequence, at, g + b * block_states_);
      for (Index lane = 0; lane < at.count; ++lane) {
        T* sums = channel_sums + (sequence * sizes_.channels + at.first + lane) * (rows + 2);
        for (Index n = 0; n < rows; ++n) sums[n] = dA[b * block_states_ + n * W + lane];
        sums[rows] = dD[b * W + lane];
        sums[rows + 1] = dbias[b * W + lane];
      }
    }
  }

  /// A block over one tile: its inputs, where its gradients come from and go to (those of states,
  /// dD and dbias accumulate), and room.
  struct TileOfBlock {
    BlockInputs in;
    Rows<const T> dy;
    Rows<T> du, ddelta, dz;
    const T* x;  ///< the states before it
    SelectiveChunkGradients<T> to;
    T *dD, *dbias;
    Index steps;
    BackwardTile<T> room;
  };

  template <class Count>
  void begin_tile(Count count, const TileOfBlock& tile) const noexcept {
    const auto& [in, dy_rows, du, ddelta, dz, x, to, dD, dbias, steps, room] = tile;
    const Vec<T> zero(T(0));
    for (Index n = 0; n < block_states_; n += W) prefetch(x + n, -blocks_ * block_states_);
    for (Index s = 0; s < steps; ++s) {
      // The tile that comes next, one tile back in time.
      prefetch(in.delta.at(s), -tile_steps * in.delta.stride);
      prefetch(in.u.at(s), -tile_steps * in.u.stride);
      prefetch(dy_rows.at(s), -tile_steps * dy_rows.stride);
      // Lines that are about to be written.
      if (du) prefetch_to_write(du.at(s), 0);
      if (ddelta) prefetch_to_write(ddelta.at(s), 0);
      Vec<T> delta = Vec<T>::load(in.delta.at(s), count) + in.bias;
      if (options_.softplus) {
        const SoftplusAndSlope both(delta);
        delta = both.value;
        both.slope.store(room.slope() + s * W);
      }
      const Vec<T> u = Vec<T>::load(in.u.at(s), count);
      Vec<T> dy = Vec<T>::load(dy_rows.at(s), count);
      if (in.z) {
        const Vec<T> z = Vec<T>::load(in.z.at(s), count);
        dy = dy * z * sigmoid(z);
      }
      delta.store(room.delta() + s * W);
      (Base::is_exact() ? u : delta * u).store(room.input() + s * W);
      (in.D * u).store(room.y() + s * W);
      dy.store(room.dy() + s * W);
      zero.store(room.dinput() + s * W);
      zero.store(room.ddelta() + s * W);
    }
  }

  /// States [first, last), whose gradients of B and C start where those of the range do.
  template <bool Exact>
  void backward_states(Index first, Index last, const TileOfBlock& tile) const noexcept {
    constexpr bool plain = parts == 1 && !Exact;
    constexpr int chunk_states = plain ? largest : 4;
    for_state_chunks<chunk_states, plain ? 2 : 4>(first, last, [&](auto chunk, Index n) {
      const Index at = n * parts * W, in_range = (n - first) * parts * W;
      const SelectiveChunkGradients<T> to{tile.to.g + at, tile.to.dA + at, tile.to.dB + in_range,
                                          tile.to.dC + in_range, tile.to.stride};
      const auto scan = [&](auto gated) {
        scan_states_backward<K, Exact, chunk, gated>(tile.steps, tile.room, tile.in.chunk(n),
                                                     tile.x + at, to);
      };
      if constexpr (plain)
        tile.in.z ? scan(std::true_type{}) : scan(std::false_type{});
      else
        scan(std::true_type{});  // y costs little beside the rest
    });
  }

  /// Turns a tile's sums over states into the gradients of u, delta, z, D and delta_bias.
  template <class Count>
  void store_tile_gradients(Count count, const TileOfBlock& tile) const noexcept {
    const BlockInputs& in = tile.in;
    const BackwardTile<T> room = tile.room;
    Vec<T> D_sum = Vec<T>::load(tile.dD);
    Vec<T> bias_sum = Vec<T>::load(tile.dbias);
    for (Index s = 0; s < tile.steps; ++s) {
      const Vec<T> u = Vec<T>::load(in.u.at(s), count);
      const Vec<T> dy = Vec<T>::load(room.dy() + s * W);
      const Vec<T> dinput = Vec<T>::load(room.dinput() + s * W);
      Vec<T> ddelta = Vec<T>::load(room.ddelta() + s * W);
      Vec<T> du = dinput;
      if (!Base::is_exact()) {  // input is Δ u
        ddelta = fma(dinput, u, ddelta);
        du = dinput * Vec<T>::load(room.delta() + s * W);
      }
      if (options_.softplus) ddelta = ddelta * Vec<T>::load(room.slope() + s * W);
      if (tile.ddelta) ddelta.store(tile.ddelta.at(s), count);
      if (tile.du) fma(in.D, dy, du).store(tile.du.at(s), count);
      if (tile.dz) {
        const Vec<T> z = Vec<T>::load(in.z.at(s), count);
        const Vec<T> slope = sigmoid(z) * fma(z, sigmoid(-z), Vec<T>(T(1)));
        const Vec<T> dy_gated = Vec<T>::load(tile.dy.at(s), count);
        (dy_gated * Vec<T>::load(room.y() + s * W) * slope).store(tile.dz.at(s), count);
      }
      D_sum = fma(dy, u, D_sum);
      bias_sum = bias_sum + ddelta;
    }
    D_sum.store(tile.dD);
    bias_sum.store(tile.dbias);
  }

  /// Sums a tile's shares of the gradients of B and C by states [first, last) over lanes, into the
  /// panel's rows.
  void store_lane_sums(const T* dB, const T* dC, Index first, Index last, Index panel,
                       const SequenceSpan& span, Index begin, Index steps,
                       T* partials) const noexcept {
    const Index rows = sizes_.state * parts, end = (last - first) * parts;
    const Index total = sizes_.batch * sizes_.length;
    const auto store = [&](const T* lanes_of, Index which) {
      for (Index s = 0; s < steps; ++s) {
        const Index t = span.step(begin + s, in_.sequences.reversed);
        T* row = partials + ((2 * panel + which) * total + span.row * sizes_.length + t) * rows +
                 first * parts;
        const T* x = lanes_of + s * range_states();
        Index n = 0;
        for (; n + W <= end; n += W) transposed_sum<T>(x + n * W).store(row + n);
        for (; n < end; ++n) row[n] = sum(Vec<T>::load(x + n * W));
      }
    };
    store(dB, 0);
    store(dC, 1);
  }

  /// Sums what each sequence sent to A, D and delta_bias: (sequence, channel, {A…, D, bias}).
  void sum_sequences(const Cpu& backend, const T* channel_sums, Index sums_each,
                     const InputGradients& din) const {
    const Cpu worth = for_elements(backend, sizes_.sequences * sizes_.channels * sums_each, 1.0);
    parallel_for(worth, sizes_.channels, [&](Index c) {
      const auto total = [&](Index i) {
        T sum = 0;
        for (Index s = 0; s < sizes_.sequences; ++s)
          sum += channel_sums[(s * sizes_.channels + c) * sums_each + i];
        return sum;
      };
      const Index rows = sizes_.state * parts;
      if (din.A)
        for (Index i = 0; i < rows; ++i) parts_of(&din.A(c, i / parts))[i % parts] = total(i);
      if (din.D) din.D(c) = total(rows);
      if (din.delta_bias) din.delta_bias(c) = total(rows + 1);
    });
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
