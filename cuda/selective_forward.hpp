#pragma once

#include "selective_tiles.hpp"

namespace ssm::kernels {

/// The scan of one piece: states in registers, one step after the other; Δ, Δu, B and C of a tile
/// of steps in shared memory, where softplus is taken once a channel and B and C are read once for
/// all channels of the block.
///
/// Floors at batch 8, 1536 channels, length 2048, 16 states, 16-bit storage, on an H100: 75 µs of
/// memory traffic, 129 µs of exponentials with those of softplus and of the gate. As nvcc 13
/// compiles whole tiles for sm_90, 131 µs of issue slots and 119 µs of shared memory.
template <class T, class E, bool General, int Lanes>
struct SelectiveForward {
  using R = Real<E>;
  static constexpr int most_threads = Lanes == 4 ? 512 : 256;  ///< 512: 128 registers a thread

  SelectiveArguments<T, E> in;
  SelectiveShape shape;
  int tile_steps;  ///< steps of a tile, forward_tile_steps where lanes are known
  Array<T, 3> y;
  Array<E, 3> final_state;
  const E* entries;  ///< (rows, pieces, channels, state), null where rows are whole
  E* saved;          ///< (rows, ⌈length / saved_steps⌉, channels, state), null: not wanted
  R* partial_y;      ///< (slices, rows, length, channels), null for a single slice
  bool packed;       ///< whether whole tiles may be moved in packs

  static Index step_bytes(const SelectiveShape& s) {
    return shared_size<StepInputs<R>>(s.block_channels) + shared_size<R>(s.threads()) +
           2 * shared_size<E>(s.slice());
  }

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<Lanes> at(shape, block);
    const int width = at.width(), steps = Lanes > 0 ? forward_tile_steps : tile_steps;
    const Shared<StepInputs<R>> inputs = block.shared<StepInputs<R>>(steps * width);
    const Shared<R> shares = block.shared<R>(steps * at.threads());
    const Shared<E> B = block.shared<E>(steps * at.slice());
    const Shared<E> C = block.shared<E>(steps * at.slice());

    const LaneModes<E> modes(load_states(in.A, at));
    const LaneStates<E> B_constant = load_states(in.B_constant, at);
    const LaneStates<E> C_constant = load_states(in.C_constant, at);
    const RowSequences& sequences = shape.sequences;
    const Index begin = at.begin(), end = at.end();
    Index sequence = sequences.before(begin);
    LaneStates<E> x = entries != nullptr
                          ? load_states(entries + at.piece_states(), 1, at.states)
                          : load_states(in.initial_state, sequences.number(at.row, sequence), at);
    const auto finish_sequence = [&] {
      store_states(final_state, sequences.number(at.row, sequence), at, x);
    };
    const auto start_sequences = [&](Index position) {
      while (Lanes == 0 && sequence + 1 < sequences.count &&
             sequences.start(sequence + 1) <= position) {
        finish_sequence();
        ++sequence;
        x = load_states(in.initial_state, sequences.number(at.row, sequence), at);
      }
    };

    Index first = begin;
    if constexpr (Lanes == 4 && !General)
      if (packed && at.channels == width)
        first = scan_whole_tiles(block, at, modes, x, inputs.template as<TwoSteps<R>>(),
                                 shares.template as<FourSteps<R>>(), B, C);
    InputColumns<T, E> input_columns(block, at, in, first + at.tile_step(block));
    CoefficientColumn B_column(block, at, in.B, first), C_column(block, at, in.C, first);
    Outputs out(block, at, *this, first + at.tile_step(block));
    for (; first < end; first += steps) {
      const int count = end - first < steps ? static_cast<int>(end - first) : steps;
      block.sync();  // the tile before has been written out
      input_columns.template stage<General>(block, at, inputs, count, steps);
      B_column.stage(B, count, steps);
      C_column.stage(C, count, steps);
      block.sync();

      for (int t = 0; t < count;) {
        if (saved != nullptr && t % saved_steps<E> == 0)
          store_states(saved + saved_place(at, first + t), 1, at.states, x);
        start_sequences(first + t);
        int stop = t - t % saved_steps<E> + saved_steps<E>;
        if (stop > count) stop = count;
        if (Lanes == 0 && sequence + 1 < sequences.count &&
            sequences.start(sequence + 1) - first < stop)
          stop = static_cast<int>(sequences.start(sequence + 1) - first);
        SSM_UNROLL_BY(4)
        for (; t < stop; ++t) {
          const StepInputs<R> step = inputs[t * width + at.local];
          const int k = t * at.slice() + at.lane * lane_states;
          const LaneStates<E> b =
              General && in.B_constant.present ? B_constant : B.template load<lane_states>(k);
          const LaneStates<E> c =
              General && in.C_constant.present ? C_constant : C.template load<lane_states>(k);
          R sum = 0;
          SSM_UNROLL
          for (int p = 0; p < lane_states; ++p) {
            x[p] =
                modes.decay(p, step[0]) * x[p] + modes.template input<General>(in, p, step) * b[p];
            sum += real(c[p] * x[p]);
          }
          shares[t * at.threads() + at.share()] = sum;
        }
      }
      block.sync();
      write_tile(block, at, first, count, steps, shares, out);
      input_columns.move_tile(steps), out.move_tile(steps);
      B_column.from.move_tile(steps), C_column.from.move_tile(steps);
    }
    if (at.piece + 1 == shape.cuts.count) {
      start_sequences(shape.length);
      finish_sequence();
    }
  }

 private:
  template <class Place>
  SSM_DEVICE Index saved_place(const Place& at, Index position) const {
    const Index tiles = (shape.length + saved_steps<E> - 1) / saved_steps<E>;
    return at.states_at(at.row * tiles + position / saved_steps<E>);
  }

  /// Scans the whole tiles of the piece and returns where they end. While a tile is scanned the
  /// next one is on its way, and u and z stay in registers until y is written: no load waits for a
  /// store.
  template <class Place>
  SSM_DEVICE Index scan_whole_tiles(Block& block, const Place& at, const LaneModes<E>& modes,
                                    LaneStates<E>& x, const Shared<TwoSteps<R>>& inputs,
                                    const Shared<FourSteps<R>>& shares, const Shared<E>& B,
                                    const Shared<E>& C) const {
    constexpr int steps = forward_tile_steps;
    const PairPlace pair(block, at, 4);
    const Index begin = at.begin(), tiles = (at.end() - begin) / steps;
    Column<const T> delta = pair.column(in.delta, begin), u = pair.column(in.u, begin),
                    z = pair.column(in.z, begin);
    Column<T> to = pair.column(y, begin);
    auto B_column = quad_of_states(at, in.B, begin, block.thread()),
         C_column = quad_of_states(at, in.C, begin, block.thread());
    const R bias[2] = {in.bias_of(pair.channel), in.bias_of(pair.channel + 1)};
    const R D[2] = {in.D_of(pair.channel), in.D_of(pair.channel + 1)};
    E* saved_at = saved == nullptr ? nullptr : saved + saved_place(at, begin);

    PairSteps<T, 4> next_delta, next_u, next_z;
    Words<T, 4> next_B, next_C;
    const auto load = [&] {
      next_delta = load_pairs<4>(delta), next_u = load_pairs<4>(u), next_z = load_pairs<4>(z);
      next_B = load_words<4>(B_column.at), next_C = load_words<4>(C_column.at);
      delta.move_tile(steps), u.move_tile(steps), z.move_tile(steps);
      B_column.move_tile(steps), C_column.move_tile(steps);
    };
    if (tiles > 0) load();
    for (Index left = tiles; left > 0; --left, to.move_tile(steps)) {
      const PairSteps<T, 4> u_now = next_u, z_now = next_z;
      stage_pairs(inputs, pair, next_delta, u_now, bias);
      stage_states(block, B, next_B), stage_states(block, C, next_C);
      block.sync();
      if (left > 1) load();
      SSM_UNROLL_BY(1)
      for (int t = 0; t < steps; t += saved_steps<E>) {
        if (saved_at != nullptr) {
          store_pack(saved_at, x);
          saved_at += shape.channels * shape.state;
        }
        FourSteps<R> sums;
        SSM_UNROLL
        for (int s = t; s < t + saved_steps<E>; s += 4) {
          const LaneQuad<E> now(at, inputs, B, C, s);  // before the store of the steps before it
          if (s > t) shares[place_of_share(s - 4, at.lane, at.seat)] = sums;
          sums = now.scan(modes, x);
        }
        shares[place_of_share(t + saved_steps<E> - 4, at.lane, at.seat)] = sums;
      }
      block.sync();
      const FourSteps<R> sum[2] = {sum_of_shares<R>(shares, pair.first_step, pair.seat(0)),
                                   sum_of_shares<R>(shares, pair.first_step, pair.seat(1))};
      SSM_UNROLL
      for (int k = 0; k < 4; ++k) {
        R out[2];
        SSM_UNROLL
        for (int i = 0; i < 2; ++i)
          out[i] = (sum[i][k] + D[i] * R(widen(u_now[k][i]))) * silu(R(widen(z_now[k][i])));
        store_pack(to.at + k * to.step, narrow_pair<T>(out[0], out[1]));
      }
    }
    return begin + tiles * steps;
  }

  /// What a thread reads and writes of y, tile after tile.
  struct Outputs {
    Column<T> y;
    Column<const T> u, z;
    R D;

    template <class Place>
    SSM_DEVICE Outputs(Block& block, const Place& at, const SelectiveForward& kernel,
                       Index position)
        : y(at.column(block, kernel.y, position)),
          u(at.column(block, kernel.in.u, position)),
          z(at.column(block, kernel.in.z.present ? kernel.in.z : kernel.in.u, position)),
          D(kernel.in.D_of(at.read_channel(block))) {}

    SSM_DEVICE void move(Index steps) { y.move(steps), u.move(steps), z.move(steps); }
    SSM_DEVICE void move_tile(Index steps) {
      y.move_tile(steps), u.move_tile(steps), z.move_tile(steps);
    }
    SSM_DEVICE void write(R sum, bool gated) const {
      sum += D * R(widen(*u));
      if (gated) sum *= Silu<R>(widen(*z)).value;
      *y = narrow_to<T>(sum);
    }
  };

  template <class Place>
  SSM_DEVICE void write_tile(Block& block, const Place& at, Index first, int count, int steps,
                             const Shared<R>& shares, Outputs now) const {
    const int c = at.tile_channel(block), begin = at.tile_step(block);
    if (c >= at.channels) return;
    const auto sum_lanes = [&](int t) {
      const int e = (t * at.width() + c) * at.lanes();
      R sum = shares[e];
      SSM_UNROLL
      for (int lane = 1; lane < at.lanes(); ++lane) sum += shares[e + lane];
      return output_scale<E> * sum;
    };
    if (Lanes == 0 && partial_y != nullptr) {
      for (int t = begin; t < count; t += at.lanes())
        partial_y[((at.slice_number * shape.rows + at.row) * shape.length + first + t) *
                      shape.channels +
                  at.first_channel + c] = sum_lanes(t);
      return;
    }
    if (count == steps && steps % at.lanes() == 0 && in.z.present) {
      SSM_UNROLL
      for (int k = 0; k < steps; k += at.lanes(), now.move(at.lanes()))
        now.write(sum_lanes(k + begin), true);
      return;
    }
    SSM_UNROLL_BY(1)
    for (int t = begin; t < count; t += at.lanes(), now.move(at.lanes()))
      now.write(sum_lanes(t), in.z.present);
  }
};

/// Joins the slices' shares of C·x: one thread an element of y.
template <class T, class E>
struct SelectiveJoinSlices {
  using R = Real<E>;

  SelectiveArguments<T, E> in;
  Array<T, 3> y;
  const R* partial_y;
  Index slices, rows, length, channels;

  SSM_DEVICE void operator()(Index i) const {
    R sum = 0;
    for (Index s = 0; s < slices; ++s) sum += partial_y[s * rows * length * channels + i];
    const Index row = i / channels / length, step = i / channels % length, channel = i % channels;
    sum += in.D_of(channel) * R(widen(in.u(row, step, channel)));
    if (in.z.present) sum *= Silu<R>(widen(in.z(row, step, channel))).value;
    y(row, step, channel) = narrow_to<T>(sum);
  }
};

}  // namespace ssm::kernels
