#pragma once

#include "selective_gradients.hpp"

namespace ssm::kernels {

/// What a piece of a row adds to the adjoint that it hands back: SelectivePieceEnds, walked from
/// the piece's begin.
template <class T, class E, bool General, int Lanes>
struct SelectivePieceAdjoints {
  using R = Real<E>;
  static constexpr int most_threads = 256;

  SelectiveArguments<T, E> in;
  SelectiveShape shape;
  SelectiveGradients<T, E> gradients;
  int tile_steps;
  E* adjoints;  ///< (rows, pieces, channels, state)
  R* totals;    ///< (rows, pieces, channels): ΣΔ, up to the start of a sequence if there is one

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<Lanes> at(shape, block);
    const int width = at.width();
    const Shared<StepInputs<R>> steps = block.shared<StepInputs<R>>(tile_steps * width);
    const Shared<E> C = block.shared<E>(tile_steps * at.slice());
    const LaneModes<E> modes(load_states(in.A, at));
    const LaneStates<E> C_constant = load_states(in.C_constant, at);
    const RowSequences& sequences = shape.sequences;
    const Index sequence = sequences.before(at.begin());
    const bool stops = sequence + 1 < sequences.count && sequences.start(sequence + 1) < at.end();
    Index end = stops ? sequences.start(sequence + 1) : at.end();

    LaneStates<E> g = no_states<E>();
    R total = 0;
    for (Index first = at.begin(); first < end; first += tile_steps) {
      const int count = end - first < tile_steps ? static_cast<int>(end - first) : tile_steps;
      const bool spent = block.all(modes_are_spent(at, modes, total));
      const Index position = first + at.tile_step(block);
      StepColumns<T, E>(block, at, in, gradients, position)
          .stage(
              block, at, count, count,
              [&](int e, const StepSlopes<R>& now) {
                steps[e] = StepInputs<R>{now.delta, output_scale<E> * now.dy};
              },
              [&](int e) { steps[e] = StepInputs<R>{}; });
      CoefficientColumn(block, at, in.C, first).stage(C, count, count);
      block.sync();
      SSM_UNROLL_BY(4)
      for (int t = 0; t < count; ++t) {
        const StepInputs<R> step = steps[t * width + at.local];
        total += step[0];
        const LaneStates<E> c =
            General && in.C_constant.present
                ? C_constant
                : C.template load<lane_states>(t * at.slice() + at.lane * lane_states);
        SSM_UNROLL
        for (int p = 0; p < lane_states; ++p)
          g[p] += conjugate((spent ? E(R(0)) : modes.decay(p, total)) * c[p]) * step[1];
      }
    }
    if (stops) {
      const LaneStates<E> final =
          load_states(gradients.final_state, sequences.number(at.row, sequence), at);
      SSM_UNROLL
      for (int p = 0; p < lane_states; ++p) g[p] += conjugate(modes.decay(p, total)) * final[p];
    }
    store_states(adjoints + at.piece_states(), 1, at.states, g);
    if (at.lane == 0 && at.slice_number == 0 && at.local < at.channels)
      totals[(at.row * shape.cuts.count + at.piece) * shape.channels + at.channel] = total;
  }
};

/// Carries adjoints from piece to piece, back in time: `adjoints` holds what each piece adds, and
/// then the adjoint of the state that leaves it. One thread a state of a row.
template <class T, class E>
struct SelectiveCarryBack {
  SelectiveArguments<T, E> in;
  SelectiveShape shape;
  SelectiveGradients<T, E> gradients;
  E* adjoints;
  const Real<E>* totals;

  SSM_DEVICE void operator()(Index i) const {
    const Index n = i % shape.state, channel = i / shape.state % shape.channels;
    const Index row = i / shape.state / shape.channels;
    const E exponent = in.A(channel, n) * log2_e<Real<E>>;
    const RowSequences& sequences = shape.sequences;
    E g = gradients.final_state.present
              ? gradients.final_state(sequences.number(row, sequences.before(shape.length)),
                                      channel, n)
              : E(Real<E>(0));
    const auto at = [&](Index back) {
      return (row * shape.cuts.count + shape.cuts.count - 1 - back) * shape.channels + channel;
    };
    struct Run {
      E begin;
      Real<E> total;
    };
    walk_ahead<8>(
        shape.cuts.count,
        [&](Index back) {
          return Run{adjoints[at(back) * shape.state + n], totals[at(back)]};
        },
        [&](Index back, const Run& run) {
          const Index piece = shape.cuts.count - 1 - back;
          E next = run.begin;
          if (!sequences.starts_in(shape.cuts.begin(piece), shape.cuts.end(piece, shape.length)))
            next += conjugate(exp2_of(exponent * run.total)) * g;
          adjoints[at(back) * shape.state + n] = g;
          g = next;
        });
  }
};

}  // namespace ssm::kernels
