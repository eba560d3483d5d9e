#pragma once

#include "selective_shape.hpp"

namespace ssm::kernels {

/// The scan of one piece: states in registers, one step after the other; Δ, Δu, B and C of a tile
/// of steps in shared memory, where softplus is taken once a channel and B and C are read once for
/// all channels of the block.
///
/// Floors at batch 8, 1536 channels, length 2048, 16 states, 16-bit storage, on an H100: 75 µs of
/// memory traffic, 129 µs of exponentials, 153 µs with those of softplus and of the gate. As nvcc
/// 13 compiles it for sm_90, an exponential takes 7.5 instructions in the recurrence, below the 8
/// slots that it leaves, and 4.5 more where tiles come and go: 163 µs of issue slots.
template <class T, class E, bool General, int Lanes>
struct SelectiveForward {
  using R = Real<E>;
  static constexpr int most_threads = 256;

  SelectiveArguments<T, E> in;
  SelectiveShape shape;
  int tile_steps;
  Array<T, 3> y;
  Array<E, 3> final_state;
  const E* entries;  ///< (rows, pieces, channels, state), null where rows are whole
  E* saved;          ///< (rows, ⌈length / saved_steps⌉, channels, state), null: not wanted
  R* partial_y;      ///< (slices, rows, length, channels), null for a single slice

  static constexpr R output_scale = is_complex<E> ? 2 : 1;

  static Index step_bytes(const SelectiveShape& s) {
    return 3 * shared_size<R>(s.block_channels) + 2 * shared_size<E>(s.slice());
  }

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<Lanes> at(shape, block);
    const int width = at.width();
    const Shared<StepInputs<R>> inputs = block.shared<StepInputs<R>>(tile_steps * width);
    const Shared<R> sums = block.shared<R>(tile_steps * width);
    const Shared<E> B = block.shared<E>(tile_steps * at.slice());
    const Shared<E> C = block.shared<E>(tile_steps * at.slice());

    const LaneModes<E> modes(load_states(in.A, at));
    const LaneStates<E> B_constant = load_states(in.B_constant, at);
    const LaneStates<E> C_constant = load_states(in.C_constant, at);
    const Sequences& sequences = shape.sequences;
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

    for (Index first = begin; first < end; first += tile_steps) {
      const int count = end - first < tile_steps ? static_cast<int>(end - first) : tile_steps;
      block.sync();  // the tile before has been written out
      in.template stage<General>(block, at, inputs, first, count);
      stage_coefficients<1>(block, at, B, first, count, count, in.B);
      stage_coefficients<1>(block, at, C, first, count, count, in.C);
      block.sync();

      for (int t = 0; t < count;) {
        if (saved != nullptr && t % saved_steps<E> == 0) save(at, first + t, x);
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
          sum = sum_lanes(block, sum, at.lanes());
          if (at.lane == 0) sums[t * width + at.local] = output_scale * sum;
        }
      }
      block.sync();
      write_tile(block, at, first, count, sums);
    }
    if (at.piece + 1 == shape.cuts.count) {
      start_sequences(shape.length);
      finish_sequence();
    }
  }

 private:
  template <class Place>
  SSM_DEVICE void save(const Place& at, Index position, const LaneStates<E>& x) const {
    const Index tiles = (shape.length + saved_steps<E> - 1) / saved_steps<E>;
    store_states(saved + at.states_at(at.row * tiles + position / saved_steps<E>), 1, at.states, x);
  }

  template <class Place>
  SSM_DEVICE void write_tile(Block& block, const Place& at, Index first, int count,
                             const Shared<R>& sums) const {
    const int c = at.tile_channel(block);
    int t = at.tile_step(block);
    if (c >= at.channels) return;
    if (partial_y != nullptr) {
      for (; t < count; t += at.lanes())
        partial_y[((at.slice_number * shape.rows + at.row) * shape.length +
                   shape.sequences.step(first + t)) *
                      shape.channels +
                  at.first_channel + c] = sums[t * at.width() + c];
      return;
    }
    const R D = in.D_of(at.first_channel + c);
    Column<T> out = at.column(block, y, first + t);
    Column<const T> u = at.column(block, in.u, first + t),
                    z = at.optional_column(block, in.z, first + t);
    SSM_UNROLL_BY(8)
    for (; t < count; t += at.lanes(), out.next(), u.next(), z.next()) {
      R sum = R(sums[t * at.width() + c]) + D * R(widen(*u));
      if (in.z.present) sum *= Silu<R>(widen(*z)).value;
      *out = narrow_to<T>(sum);
    }
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

/// What a piece of a row adds to the state that it hands on, walked from its end: the sum of its
/// inputs, each decayed by exp2(A ΣΔ) over the time that remains, so that no product of decays is
/// kept. Once every lane's decay has underflowed to 0, exponentials stop; inputs are still looked
/// at, as one that is not finite must show.
template <class T, class E, bool General, int Lanes>
struct SelectivePieceEnds {
  using R = Real<E>;
  static constexpr int most_threads = 256;

  SelectiveArguments<T, E> in;
  SelectiveShape shape;
  int tile_steps;
  E* ends;    ///< (rows, pieces, channels, state)
  R* totals;  ///< (rows, pieces, channels): ΣΔ, up to the start of a sequence if there is one

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<Lanes> at(shape, block);
    const int width = at.width();
    const Shared<StepInputs<R>> inputs = block.shared<StepInputs<R>>(tile_steps * width);
    const Shared<E> B = block.shared<E>(tile_steps * at.slice());
    const LaneModes<E> modes(load_states(in.A, at));
    const LaneStates<E> B_constant = load_states(in.B_constant, at);
    const Sequences& sequences = shape.sequences;
    const Index sequence = sequences.before(at.end());
    const bool restarts = sequence > 0 && sequences.start(sequence) >= at.begin();
    const Index begin = restarts ? sequences.start(sequence) : at.begin();

    LaneStates<E> x = no_states<E>();
    R total = 0;
    for (Index end = at.end(); end > begin; end -= tile_steps) {
      const Index first = end - tile_steps > begin ? end - tile_steps : begin;
      const int count = static_cast<int>(end - first);
      const bool spent = block.all(modes_are_spent(at, modes, total));
      in.template stage<General>(block, at, inputs, first, count);
      stage_coefficients<1>(block, at, B, first, count, count, in.B);
      block.sync();
      SSM_UNROLL_BY(4)
      for (int t = count - 1; t >= 0; --t) {
        const StepInputs<R> step = inputs[t * width + at.local];
        const LaneStates<E> b =
            General && in.B_constant.present
                ? B_constant
                : B.template load<lane_states>(t * at.slice() + at.lane * lane_states);
        SSM_UNROLL
        for (int p = 0; p < lane_states; ++p)
          x[p] += (spent ? E(R(0)) : modes.decay(p, total)) *
                  (modes.template input<General>(in, p, step) * b[p]);
        total += step[0];
      }
    }
    if (restarts) {
      const LaneStates<E> initial =
          load_states(in.initial_state, sequences.number(at.row, sequence), at);
      SSM_UNROLL
      for (int p = 0; p < lane_states; ++p) x[p] += modes.decay(p, total) * initial[p];
    }
    store_states(ends + at.piece_states(), 1, at.states, x);
    if (at.lane == 0 && at.slice_number == 0 && at.local < at.channels)
      totals[(at.row * shape.cuts.count + at.piece) * shape.channels + at.channel] = total;
  }
};

/// Carries states from piece to piece: `states` holds what each piece adds, and then the state that
/// enters it. One thread a state of a row.
template <class T, class E>
struct SelectiveCarry {
  SelectiveArguments<T, E> in;
  SelectiveShape shape;
  E* states;
  const Real<E>* totals;

  SSM_DEVICE void operator()(Index i) const {
    const Index n = i % shape.state, channel = i / shape.state % shape.channels;
    const Index row = i / shape.state / shape.channels;
    const E exponent = in.A(channel, n) * log2_e<Real<E>>;
    E x = in.initial_state.present ? in.initial_state(shape.sequences.number(row, 0), channel, n)
                                   : E(Real<E>(0));
    for (Index piece = 0; piece < shape.cuts.count; ++piece) {
      const Index at = (row * shape.cuts.count + piece) * shape.channels + channel;
      E& state = states[at * shape.state + n];
      E next = state;
      if (!shape.sequences.starts_in(shape.cuts.begin(piece), shape.cuts.end(piece, shape.length)))
        next += exp2_of(exponent * totals[at]) * x;
      state = x;
      x = next;
    }
  }
};

}  // namespace ssm::kernels
