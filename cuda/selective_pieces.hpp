#pragma once

#include "selective_tiles.hpp"

namespace ssm::kernels {

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
  R* totals;  ///< (rows, pieces, channels): ΣΔ, up to the start of a sequence if there is one, or
              ///< up to where nothing of a state is left
  bool packed;  ///< as for SelectiveForward

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<Lanes> at(shape, block);
    const int width = at.width();
    const Shared<StepInputs<R>> inputs = block.shared<StepInputs<R>>(tile_steps * width);
    const Shared<E> B = block.shared<E>(tile_steps * at.slice());
    const LaneModes<E> modes(load_states(in.A, at));
    const LaneStates<E> B_constant = load_states(in.B_constant, at);
    const RowSequences& sequences = shape.sequences;
    const Index sequence = sequences.before(at.end());
    const bool restarts = sequence > 0 && sequences.start(sequence) >= at.begin();
    const Index begin = restarts ? sequences.start(sequence) : at.begin();

    LaneStates<E> x = no_states<E>();
    R total = 0;
    Index end = at.end();
    if constexpr (Lanes == 4 && !General)
      if (packed && at.channels == width) {
        scan_whole_tiles(block, at, modes, x, total, inputs.template as<TwoSteps<R>>(), B);
        end = begin + (end - begin) % tile_steps;
      }
    for (; end > begin; end -= tile_steps) {
      const Index first = end - tile_steps > begin ? end - tile_steps : begin;
      const int count = static_cast<int>(end - first);
      const bool spent = block.all(modes_are_spent(at, modes, total));
      InputColumns<T, E>(block, at, in, first + at.tile_step(block))
          .template stage<General>(block, at, inputs, count, count);
      CoefficientColumn(block, at, in.B, first).stage(B, count, count);
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

 private:
  /// Goes through the whole tiles that end with the piece, the last one first. Where nothing of a
  /// state is left they are only looked at.
  template <class Place>
  SSM_DEVICE void scan_whole_tiles(Block& block, const Place& at, const LaneModes<E>& modes,
                                   LaneStates<E>& x, R& total, const Shared<TwoSteps<R>>& inputs,
                                   const Shared<E>& B) const {
    constexpr int steps = forward_tile_steps;
    const PairPlace pair(block, at, 4);
    const Index tiles = (at.end() - at.begin()) / steps, last = at.end() - steps;
    Column<const T> delta = pair.column(in.delta, last), u = pair.column(in.u, last);
    auto B_column = quad_of_states(at, in.B, last, block.thread());
    const R bias[2] = {in.bias_of(pair.channel), in.bias_of(pair.channel + 1)};

    PairSteps<T, 4> next_delta, next_u;
    Words<T, 4> next_B;
    const auto load = [&] {
      next_delta = load_pairs<4>(delta), next_u = load_pairs<4>(u),
      next_B = load_words<4>(B_column.at);
      delta.move_tile(-steps), u.move_tile(-steps), B_column.move_tile(-steps);
    };
    if (tiles > 0) load();
    for (Index left = tiles; left > 0; --left) {
      const bool spent = block.all(modes_are_spent(at, modes, total));
      if (spent && block.all(are_finite(next_delta, next_u, next_B))) {
        if (left > 1) load();
        continue;
      }
      stage_pairs(inputs, pair, next_delta, next_u, bias);
      stage_states(block, B, next_B);
      block.sync();
      if (left > 1) load();
      SSM_UNROLL_BY(8)
      for (int t = steps - 2; t >= 0; t -= 2) {
        const TwoSteps<R> two = inputs[place_of_two(t, at.seat)];
        SSM_UNROLL
        for (int k = 1; k >= 0; --k) {
          const LaneStates<E> b =
              B.template load<lane_states>((t + k) * at.slice() + at.lane * lane_states);
          SSM_UNROLL
          for (int p = 0; p < lane_states; ++p)
            x[p] += modes.decay(p, total) * (two[2 * k + 1] * b[p]);  // 0 where spent
          total += two[2 * k];
        }
      }
    }
  }
  SSM_DEVICE static bool are_finite(const PairSteps<T, 4>& delta, const PairSteps<T, 4>& u,
                                    const Words<T, 4>& b) {
    R zero = 0;
    SSM_UNROLL
    for (int k = 0; k < 4; ++k) {
      zero += R(0) * widen(b[k]);
      SSM_UNROLL
      for (int i = 0; i < 2; ++i) zero += R(0) * widen(delta[k][i]) + R(0) * widen(u[k][i]);
    }
    return zero == R(0);
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
    const auto at = [&](Index piece) {
      return (row * shape.cuts.count + piece) * shape.channels + channel;
    };
    struct Run {
      E end;
      Real<E> total;
    };
    walk_ahead<8>(
        shape.cuts.count,
        [&](Index piece) {
          return Run{states[at(piece) * shape.state + n], totals[at(piece)]};
        },
        [&](Index piece, const Run& run) {
          E next = run.end;
          if (!shape.sequences.starts_in(shape.cuts.begin(piece),
                                         shape.cuts.end(piece, shape.length)))
            next += exp2_of(exponent * run.total) * x;
          states[at(piece) * shape.state + n] = x;
          x = next;
        });
  }
};

}  // namespace ssm::kernels
