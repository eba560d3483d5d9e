#pragma once

#include <algorithm>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/scan/detail/selective_scan_checks.hpp"
#include "ssm/scan/detail/selective_scan_kernel.hpp"
#include "ssm/scan/selective_scan_reference.hpp"
#include "ssm/scan/selective_scan_types.hpp"

/// The selective scan for real A, varying B and C, the simplified hold and contiguous channels.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

template <class T>
[[nodiscard]] bool is_fast_case(const SelectiveScanInputs<T, T>& in,
                                const SelectiveScanOptions& options) noexcept {
  return options.hold == Hold::simplified && in.B.varying && in.C.varying &&
         is_contiguous_in_channels(in.u) && is_contiguous_in_channels(in.delta) &&
         is_contiguous_in_channels(in.z) && is_contiguous_in_channels(in.B.varying) &&
         is_contiguous_in_channels(in.C.varying) && is_contiguous_in_channels(in.D) &&
         is_contiguous_in_channels(in.delta_bias);
}

/// lanes<T> neighbouring channels of one group, fewer at the group's end.
struct ChannelBlock {
  Index first, count, group;
};

/// A selective scan cut into blocks of channels, with its time made to run forward.
template <class T>
class SelectiveFast {
  static constexpr Index W = lanes<T>;
  // States that stay in registers beside what exp2 needs, which in double is a table as well.
  static constexpr int largest_forward = vector_registers == 32 && sizeof(T) == 4 ? 16 : 8;
  static constexpr int largest_backward = vector_registers == 32 ? 8 : 4;

 public:
  SelectiveFast(const SelectiveScanInputs<T, T>& in, const SelectiveScanOptions& options,
                const SelectiveSizes& sizes)
      : in_(in),
        options_(options),
        sizes_(sizes),
        blocks_per_group_((sizes.channels / sizes.groups + W - 1) / W),
        blocks_(blocks_per_group_ * sizes.groups) {}

  void forward(const Cpu& backend, const SelectiveScanOutputs<T, T>& out,
               SelectiveScanScratch<T, T>& scratch) const {
    prepare(scratch);
    const Index block_states = sizes_.state * W;
    scratch.states.resize({sizes_.sequences * blocks_ * block_states});
    if (options_.keep) scratch.kept.resize({kept_tiles() * blocks_ * block_states});
    T* kept = options_.keep ? scratch.kept.data() : nullptr;
    parallel_ranges(backend, sizes_.sequences * blocks_, [&](Index begin, Index end) {
      while (begin < end) {
        const Index sequence = begin / blocks_;
        const Index stop = (std::min)(end, (sequence + 1) * blocks_);
        forward_blocks(sequence, begin % blocks_, begin % blocks_ + stop - begin, out, scratch,
                       kept);
        begin = stop;
      }
    });
  }

  void backward(const Cpu& backend, const SelectiveScanOutputGradients<T, T>& dout,
                const SelectiveScanInputGradients<T, T>& din,
                SelectiveScanScratch<T, T>& scratch) const {
    prepare(scratch);
    // Enough tasks for many cores, and at least four blocks to share the sums over lanes.
    const Index wanted =
        (std::min)((std::max<Index>)(1, 64 / (std::max<Index>)(1, sizes_.sequences)),
                   (std::max<Index>)(1, blocks_ / 4));
    const ChannelPanels panels(sizes_, W, wanted);
    const Index tasks = sizes_.sequences * panels.count(sizes_);
    const Index panel_blocks = (blocks_per_group_ + panels.per_group - 1) / panels.per_group + 1;
    const Index lane_sums = tile_steps * sizes_.state * W;
    const Index thread_scratch = 2 * lane_sums + 2 * panel_blocks * (sizes_.state + 1) * W;
    const Index runs = (std::min<Index>)(backend.thread_count(), tasks);
    const Index steps = sizes_.batch * sizes_.length;
    scratch.states.resize({runs * thread_scratch});
    scratch.partials.resize({2 * panels.count(sizes_) * steps * sizes_.state +
                             sizes_.sequences * sizes_.channels * (sizes_.state + 2)});
    T* channel_sums = scratch.partials.data() + 2 * panels.count(sizes_) * steps * sizes_.state;

    parallel_for(backend, runs, [&](Index run) {
      for (Index task = tasks * run / runs; task < tasks * (run + 1) / runs; ++task) {
        const Index panel = task / sizes_.sequences;
        backward_panel(task % sizes_.sequences, panel, panels, scratch.kept.data(), dout, din,
                       scratch.tiles.data(), scratch.states.data() + run * thread_scratch,
                       panel_blocks, scratch.partials.data(), channel_sums);
      }
    });
    sum_panels(backend, scratch.partials.data(), panels, sizes_, din);
    sum_sequences(backend, channel_sums, din);
  }

 private:
  [[nodiscard]] ChannelBlock block(Index b) const noexcept {
    const Index group = b / blocks_per_group_;
    const Index group_channels = sizes_.channels / sizes_.groups;
    const Index within = b % blocks_per_group_ * W;
    return {group * group_channels + within, (std::min)(W, group_channels - within), group};
  }

  /// A, one (state, lanes) matrix a block, zero in the lanes past a group's end.
  void prepare(SelectiveScanScratch<T, T>& scratch) const {
    scratch.tiles.resize({blocks_ * sizes_.state * W});
    T* A = scratch.tiles.data();
    for (Index b = 0; b < blocks_; ++b) {
      const auto [first, count, group] = block(b);
      for (Index n = 0; n < sizes_.state; ++n)
        for (Index lane = 0; lane < W; ++lane) *A++ = lane < count ? in_.A(first + lane, n) : T(0);
    }
  }

  /// Tiles before those of `sequence`; a packed sequence may start anywhere, so it gets its own.
  [[nodiscard]] Index first_tile(Index sequence) const noexcept {
    if (in_.sequences.offsets) return in_.sequences.offsets(sequence) / tile_steps + sequence;
    return sequence * ((sizes_.length + tile_steps - 1) / tile_steps);
  }
  [[nodiscard]] Index kept_tiles() const noexcept {
    if (in_.sequences.offsets) return sizes_.length / tile_steps + sizes_.sequences;
    return first_tile(sizes_.sequences);
  }

  template <class U>
  [[nodiscard]] Rows<U> rows(const View<U, 3>& view, const SequenceSpan& span,
                             Index first_channel) const noexcept {
    if (!view || span.length() == 0) return {};
    const Index start = in_.sequences.reversed ? span.end - 1 : span.begin;
    const Index sign = in_.sequences.reversed ? -1 : 1;
    return {view.data() + span.row * view.stride(0) + start * view.stride(1) + first_channel,
            sign * view.stride(1)};
  }
  [[nodiscard]] Rows<const T> rows(const View<const T, 4>& view, const SequenceSpan& span,
                                   Index group) const noexcept {
    if (span.length() == 0) return {};
    const Index start = in_.sequences.reversed ? span.end - 1 : span.begin;
    const Index sign = in_.sequences.reversed ? -1 : 1;
    return {
        view.data() + span.row * view.stride(0) + start * view.stride(1) + group * view.stride(2),
        sign * view.stride(1)};
  }

  /// A block's rows of everything that has (batch, length, channels), and its coefficients.
  struct BlockInputs {
    Index count;
    Rows<const T> u, delta, z, B, C;
    Vec<T> bias, D;
  };
  [[nodiscard]] BlockInputs block_inputs(const ChannelBlock& at, const SequenceSpan& span,
                                         Index begin) const {
    const auto vector = [&](const View<const T, 1>& view) {
      return view ? Vec<T>::load(view.data() + at.first, at.count) : Vec<T>(T(0));
    };
    return {at.count,
            rows(in_.u, span, at.first).from(begin),
            rows(in_.delta, span, at.first).from(begin),
            rows(in_.z, span, at.first).from(begin),
            rows(in_.B.varying, span, at.group).from(begin),
            rows(in_.C.varying, span, at.group).from(begin),
            vector(in_.delta_bias),
            vector(in_.D)};
  }

  template <class Count>
  [[nodiscard]] Vec<T> step_size(const BlockInputs& in, Index s, Count count) const noexcept {
    const Vec<T> raw = Vec<T>::load(in.delta.at(s), count) + in.bias;
    return options_.softplus ? softplus(raw) : raw;
  }

  void load_states(const View<const T, 3>& states, Index sequence, const ChannelBlock& at,
                   T* x) const noexcept {
    for (Index n = 0; n < sizes_.state; ++n)
      for (Index lane = 0; lane < W; ++lane)
        *x++ = states && lane < at.count ? states(sequence, at.first + lane, n) : T(0);
  }
  void store_states(const View<T, 3>& states, Index sequence, const ChannelBlock& at,
                    const T* x) const noexcept {
    if (!states) return;
    for (Index n = 0; n < sizes_.state; ++n)
      for (Index lane = 0; lane < at.count; ++lane)
        states(sequence, at.first + lane, n) = x[n * W + lane];
  }

  /// One block over one tile. `count` is the block's channels: as a constant it costs nothing.
  template <class Count>
  void forward_tile(Count count, const BlockInputs& in, const T* A, T* x, Rows<T> y, Index steps,
                    ScanTile<T>& tile) const noexcept {
    constexpr bool full = !std::is_same_v<Count, Index>;
    for (Index s = 0; s < steps; ++s) {
      prefetch(in.delta.at(s), 4 * W);
      prefetch(in.u.at(s), 4 * W);
      step_size(in, s, count).store(tile.delta + s * W);
    }
    if constexpr (!full)
      for (Index s = 0; s < steps; ++s) Vec<T>::load(in.u.at(s), count).store(tile.u + s * W);
    const Rows<const T> u = full ? in.u : Rows<const T>{tile.u, W};
    const Rows<T> sums = full && !in.z ? y : Rows<T>{tile.y, W};
    bool first = true;
    for_state_chunks<largest_forward>(sizes_.state, [&](auto chunk, Index n) {
      const auto run = [&](auto is_first) {
        scan_states<chunk, is_first>(steps, tile.delta, u, sums, in.D, A + n * W, x + n * W,
                                     in.B.shifted(n), in.C.shifted(n));
      };
      first ? run(std::true_type{}) : run(std::false_type{});
      first = false;
    });
    if (full && !in.z && !first) return;
    for (Index s = 0; s < steps; ++s) {
      Vec<T> value = first ? in.D * Vec<T>::load(u.at(s)) : Vec<T>::load(sums.at(s));
      if (in.z) {
        const Vec<T> z = Vec<T>::load(in.z.at(s), count);
        value = value * z * sigmoid(z);
      }
      value.store(y.at(s), count);
    }
  }

  void forward_blocks(Index sequence, Index first_block, Index last_block,
                      const SelectiveScanOutputs<T, T>& out, SelectiveScanScratch<T, T>& scratch,
                      T* kept) const noexcept {
    const SequenceSpan span = span_of(in_.sequences, sequence, sizes_.length);
    const Index block_states = sizes_.state * W;
    T* states = scratch.states.data() + sequence * blocks_ * block_states;
    for (Index b = first_block; b < last_block; ++b)
      load_states(in_.initial_state, sequence, block(b), states + b * block_states);

    ScanTile<T> tile;
    for (Index begin = 0; begin < span.length(); begin += tile_steps) {
      const Index steps = (std::min)(tile_steps, span.length() - begin);
      for (Index b = first_block; b < last_block; ++b) {
        const ChannelBlock at = block(b);
        T* x = states + b * block_states;
        if (kept)
          std::copy_n(
              x, block_states,
              kept + ((first_tile(sequence) + begin / tile_steps) * blocks_ + b) * block_states);
        const BlockInputs inputs = block_inputs(at, span, begin);
        const Rows<T> y = rows(out.y, span, at.first).from(begin);
        const T* A = scratch.tiles.data() + b * block_states;
        if (at.count == W)
          forward_tile(std::integral_constant<Index, W>{}, inputs, A, x, y, steps, tile);
        else
          forward_tile(at.count, inputs, A, x, y, steps, tile);
      }
    }
    for (Index b = first_block; b < last_block; ++b)
      store_states(out.final_state, sequence, block(b), states + b * block_states);
  }

  /// Everything that one sequence sends back through one panel of channels.
  void backward_panel(Index sequence, Index panel, const ChannelPanels& panels, const T* kept,
                      const SelectiveScanOutputGradients<T, T>& dout,
                      const SelectiveScanInputGradients<T, T>& din, const T* A_blocks, T* scratch,
                      Index panel_blocks, T* partials, T* channel_sums) const noexcept {
    const SequenceSpan span = span_of(in_.sequences, sequence, sizes_.length);
    const Index N = sizes_.state;
    const Index block_states = N * W;
    const Index first_block =
        panels.group(panel) * blocks_per_group_ +
        (panels.begin(panel) - panels.group(panel) * panels.group_channels) / W;
    const Index blocks = (panels.end(panel) - panels.begin(panel) + W - 1) / W;
    T* dB = scratch;  // (step, state, lanes)
    T* dC = dB + tile_steps * block_states;
    T* g = dC + tile_steps * block_states;  // (block, state, lanes)
    T* dA = g + panel_blocks * block_states;
    T* dD = dA + panel_blocks * block_states;  // (block, lanes)
    T* dbias = dD + panel_blocks * W;
    std::fill(dA, dbias + panel_blocks * W, T(0));
    for (Index b = 0; b < blocks; ++b)
      load_states(dout.final_state, sequence, block(first_block + b), g + b * block_states);

    ScanTile<T> tile;
    const Index tiles = (span.length() + tile_steps - 1) / tile_steps;
    for (Index k = tiles - 1; k >= 0; --k) {
      const Index begin = k * tile_steps;
      const Index steps = (std::min)(tile_steps, span.length() - begin);
      std::fill(dB, g, T(0));
      for (Index b = 0; b < blocks; ++b) {
        const ChannelBlock at = block(first_block + b);
        const BlockGradients gradients{rows(dout.y, span, at.first).from(begin),
                                       rows(din.u, span, at.first).from(begin),
                                       rows(din.delta, span, at.first).from(begin),
                                       rows(din.z, span, at.first).from(begin),
                                       dB,
                                       dC,
                                       g + b * block_states,
                                       dA + b * block_states,
                                       dD + b * W,
                                       dbias + b * W};
        const BlockInputs inputs = block_inputs(at, span, begin);
        const T* A = A_blocks + (first_block + b) * block_states;
        const T* x = kept + ((first_tile(sequence) + k) * blocks_ + first_block + b) * block_states;
        if (at.count == W)
          backward_tile(std::integral_constant<Index, W>{}, inputs, gradients, A, x, steps, tile);
        else
          backward_tile(at.count, inputs, gradients, A, x, steps, tile);
      }
      store_lane_sums(dB, dC, panel, span, begin, steps, partials);
    }

    for (Index b = 0; b < blocks; ++b) {
      const ChannelBlock at = block(first_block + b);
      store_states(din.initial_state, sequence, at, g + b * block_states);
      for (Index lane = 0; lane < at.count; ++lane) {
        T* sums = channel_sums + (sequence * sizes_.channels + at.first + lane) * (N + 2);
        for (Index n = 0; n < N; ++n) sums[n] = dA[b * block_states + n * W + lane];
        sums[N] = dD[b * W + lane];
        sums[N + 1] = dbias[b * W + lane];
      }
    }
  }

  /// Where a block's gradients of one tile come from and go to; dB to dbias accumulate.
  struct BlockGradients {
    Rows<const T> y;
    Rows<T> u, delta, z;
    T *dB, *dC, *g, *dA, *dD, *dbias;
  };

  template <class Count>
  void backward_tile(Count count, const BlockInputs& in, const BlockGradients& gradients,
                     const T* A, const T* x, Index steps, ScanTile<T>& tile) const noexcept {
    const Vec<T> zero(T(0));
    for (Index s = 0; s < steps; ++s) {
      // The tile that comes next, one tile back in time.
      prefetch(in.delta.at(s), -tile_steps * in.delta.stride);
      prefetch(in.u.at(s), -tile_steps * in.u.stride);
      prefetch(gradients.y.at(s), -tile_steps * gradients.y.stride);
      const Vec<T> delta = step_size(in, s, count);
      const Vec<T> u = Vec<T>::load(in.u.at(s), count);
      Vec<T> dy = Vec<T>::load(gradients.y.at(s), count);
      if (in.z) {
        const Vec<T> z = Vec<T>::load(in.z.at(s), count);
        dy = dy * z * sigmoid(z);
      }
      delta.store(tile.delta + s * W);
      (delta * u).store(tile.input + s * W);
      (in.D * u).store(tile.y + s * W);
      dy.store(tile.dy + s * W);
      zero.store(tile.dinput + s * W);
      zero.store(tile.ddelta + s * W);
    }
    for_state_chunks<largest_backward>(sizes_.state, [&](auto chunk, Index n) {
      const auto run = [&](auto gated) {
        scan_states_backward<chunk, gated>(steps, tile, A + n * W, x + n * W, gradients.g + n * W,
                                           gradients.dA + n * W, gradients.dB + n * W,
                                           gradients.dC + n * W, sizes_.state * W, in.B.shifted(n),
                                           in.C.shifted(n));
      };
      in.z ? run(std::true_type{}) : run(std::false_type{});
    });
    store_tile_gradients(count, in, gradients, steps, tile);
  }

  /// Turns a tile's sums over states into the gradients of u, delta, z, D and delta_bias.
  template <class Count>
  void store_tile_gradients(Count count, const BlockInputs& in, const BlockGradients& gradients,
                            Index steps, const ScanTile<T>& tile) const noexcept {
    Vec<T> D_sum = Vec<T>::load(gradients.dD);
    Vec<T> bias_sum = Vec<T>::load(gradients.dbias);
    for (Index s = 0; s < steps; ++s) {
      const Vec<T> u = Vec<T>::load(in.u.at(s), count);
      const Vec<T> dy = Vec<T>::load(tile.dy + s * W);
      const Vec<T> dinput = Vec<T>::load(tile.dinput + s * W);
      Vec<T> ddelta = fma(dinput, u, Vec<T>::load(tile.ddelta + s * W));
      if (options_.softplus)
        ddelta = ddelta * sigmoid(Vec<T>::load(in.delta.at(s), count) + in.bias);
      if (gradients.delta) ddelta.store(gradients.delta.at(s), count);
      if (gradients.u)
        fma(dinput, Vec<T>::load(tile.delta + s * W), in.D * dy).store(gradients.u.at(s), count);
      if (gradients.z) {
        const Vec<T> z = Vec<T>::load(in.z.at(s), count);
        const Vec<T> slope = sigmoid(z) * fma(z, sigmoid(-z), Vec<T>(T(1)));
        const Vec<T> dy_gated = Vec<T>::load(gradients.y.at(s), count);
        (dy_gated * Vec<T>::load(tile.y + s * W) * slope).store(gradients.z.at(s), count);
      }
      D_sum = fma(dy, u, D_sum);
      bias_sum = bias_sum + ddelta;
    }
    D_sum.store(gradients.dD);
    bias_sum.store(gradients.dbias);
  }

  /// Sums a tile's shares of the gradients of B and C over lanes, into the panel's rows.
  void store_lane_sums(const T* dB, const T* dC, Index panel, const SequenceSpan& span, Index begin,
                       Index steps, T* partials) const noexcept {
    const Index N = sizes_.state;
    const Index total = sizes_.batch * sizes_.length;
    const auto store = [&](const T* lanes_of, Index which) {
      for (Index s = 0; s < steps; ++s) {
        const Index t = span.step(begin + s, in_.sequences.reversed);
        T* row = partials + ((2 * panel + which) * total + span.row * sizes_.length + t) * N;
        const T* x = lanes_of + s * N * W;
        Index n = 0;
        for (; n + W <= N; n += W) transposed_sum<T>(x + n * W).store(row + n);
        for (; n < N; ++n) row[n] = sum(Vec<T>::load(x + n * W));
      }
    };
    store(dB, 0);
    store(dC, 1);
  }

  /// Sums what each sequence sent to A, D and delta_bias: (sequence, channel, {A…, D, bias}).
  void sum_sequences(const Cpu& backend, const T* channel_sums,
                     const SelectiveScanInputGradients<T, T>& din) const {
    const Index N = sizes_.state;
    parallel_for(backend, sizes_.channels, [&](Index c) {
      const auto total = [&](Index i) {
        T sum = 0;
        for (Index s = 0; s < sizes_.sequences; ++s)
          sum += channel_sums[(s * sizes_.channels + c) * (N + 2) + i];
        return sum;
      };
      if (din.A)
        for (Index n = 0; n < N; ++n) din.A(c, n) = total(n);
      if (din.D) din.D(c) = total(N);
      if (din.delta_bias) din.delta_bias(c) = total(N + 1);
    });
  }

  const SelectiveScanInputs<T, T>& in_;
  const SelectiveScanOptions& options_;
  SelectiveSizes sizes_;
  Index blocks_per_group_;
  Index blocks_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
