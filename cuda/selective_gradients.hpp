#pragma once

#include "selective_shape.hpp"

namespace ssm::kernels {

/// The gradients of a selective scan as kernels write them. What is summed over channels or time
/// goes to `partials` first and is added up there in a fixed order: no atomics, the same bits.
template <class T, class E>
struct SelectiveGradients {
  using R = Real<E>;

  Array<const T, 3> y;
  Array<const E, 3> final_state;
  Array<T, 3> u, delta, z;
  Array<E, 3> initial_state;

  template <class K>
  SelectiveGradients(const SelectiveScanOutputGradients<T, K, Device>& out,
                     const SelectiveScanInputGradients<T, K, Device>& in,
                     const Sequences<Device>& sequences)
      : y(out.y, sequences),
        final_state(out.final_state),
        u(in.u, sequences),
        delta(in.delta, sequences),
        z(in.z, sequences),
        initial_state(in.initial_state) {}
};

template <class E>
struct SelectivePartials {
  E* A;             ///< (rows, pieces, channels, state); null: not wanted, as for all below
  E* B_constant;    ///< the same
  E* C_constant;    ///< the same
  Real<E>* D;       ///< (rows, pieces, channels)
  Real<E>* bias;    ///< the same
  E* coefficients;  ///< (panels, {B, C}, rows, length, state), of B and C that vary
  Real<E>* slices;  ///< (slices, {C·x, u, delta}, rows, length, channels), null for a single slice
};

/// What the gradients of a step of a channel are made from beside its states.
template <class R>
struct StepSlopes {
  R delta, u;
  R dy;           ///< ∂loss/∂y behind the gate: by D u + Re C·x
  R delta_slope;  ///< of Δ by delta
  R gate_slope;   ///< of the loss by z, over D u + Re C·x
};

/// A channel's steps as a thread reads them.
template <class T, class E>
struct StepColumns {
  using R = Real<E>;

  const SelectiveArguments<T, E>& in;
  Column<const T> delta, u, z, dy;
  R bias;

  template <class Place>
  SSM_DEVICE StepColumns(Block& block, const Place& at, const SelectiveArguments<T, E>& inputs,
                         const SelectiveGradients<T, E>& gradients, Index position)
      : in(inputs),
        delta(at.column(block, in.delta, position)),
        u(at.column(block, in.u, position)),
        z(at.column(block, in.z.present ? in.z : in.u, position)),
        dy(at.column(block, gradients.y, position)),
        bias(in.bias_of(at.read_channel(block))) {}

  SSM_DEVICE void move(Index steps) {
    delta.move(steps), u.move(steps), z.move(steps), dy.move(steps);
  }
  SSM_DEVICE void move_tile(Index steps) {
    delta.move_tile(steps), u.move_tile(steps), z.move_tile(steps), dy.move_tile(steps);
  }
  SSM_DEVICE StepSlopes<R> read(bool softplus, bool gated) const {
    const R raw = R(widen(*delta)) + bias, gate_input = widen(*z), dy_now = widen(*dy);
    StepSlopes<R> now{raw, widen(*u), dy_now, 1, 0};
    if (softplus) {
      const Softplus<R, T> positive(raw);
      now.delta = positive.value;
      now.delta_slope = positive.slope;
    }
    if (gated) {
      const Silu<R> gate(gate_input);
      now.dy = dy_now * gate.value;
      now.gate_slope = dy_now * gate.slope;
    }
    return now;
  }
  SSM_DEVICE StepSlopes<R> operator*() const { return read(in.softplus, in.z.present); }

  /// Calls put(element, StepSlopes) for this thread's part of a tile (steps, channels), and
  /// clear(element) for what lies beyond the panel or beyond `count` steps.
  template <class Place, class Put, class Clear>
  SSM_DEVICE void stage(Block& block, const Place& at, int count, int steps, const Put& put,
                        const Clear& clear) const {
    const int c = at.tile_channel(block), begin = at.tile_step(block);
    StepColumns now = *this;
    if (count == steps && steps % at.lanes() == 0 && at.channels == at.width() && in.softplus &&
        in.z.present) {
      SSM_UNROLL
      for (int k = 0; k < steps; k += at.lanes(), now.move(at.lanes()))
        put((k + begin) * at.width() + c, now.read(true, true));
      return;
    }
    SSM_UNROLL_BY(1)
    for (int t = begin; t < steps; t += at.lanes(), now.move(at.lanes())) {
      if (c < at.channels && t < count)
        put(t * at.width() + c, *now);
      else
        clear(t * at.width() + c);
    }
  }
};

/// A channel's gradients as a thread writes them, once sums over states are known.
template <class T, class E>
struct GradientColumns {
  using R = Real<E>;

  const SelectiveGradients<T, E>& wanted;
  Column<T> du, ddelta, dz;
  R D;
  R dD = 0, dbias = 0;  ///< what D's and the bias's gradients gain

  template <class Place>
  SSM_DEVICE GradientColumns(Block& block, const Place& at, const SelectiveArguments<T, E>& in,
                             const SelectiveGradients<T, E>& gradients, Index position)
      : wanted(gradients),
        du(at.optional_column(block, gradients.u, position)),
        ddelta(at.optional_column(block, gradients.delta, position)),
        dz(at.optional_column(block, gradients.z, position)),
        D(in.D_of(at.read_channel(block))) {}

  SSM_DEVICE void move(Index steps) { du.move(steps), ddelta.move(steps), dz.move(steps); }
  SSM_DEVICE void move_tile(Index steps) {
    du.move_tile(steps), ddelta.move_tile(steps), dz.move_tile(steps);
  }

  /// Takes Re C·x and the states' shares of the gradients by u and Δ.
  SSM_DEVICE void write(const StepSlopes<R>& step, R y_states, R du_states, R ddelta_states) {
    ddelta_states *= step.delta_slope;
    dD += step.dy * step.u;
    dbias += ddelta_states;
    if (wanted.z.present) *dz = narrow_to<T>(step.gate_slope * (y_states + D * step.u));
    if (wanted.u.present) *du = narrow_to<T>(du_states + D * step.dy);
    if (wanted.delta.present) *ddelta = narrow_to<T>(ddelta_states);
  }
};

/// Sums what the threads of a block have for their channel, the thread's number modulo
/// block_channels, into an array (rows, pieces, channels).
template <class R, class Place>
SSM_DEVICE void write_channel_sums(Block& block, const Place& at, const Shared<R>& scratch, R sum,
                                   R* to) {
  if (to == nullptr) return;
  block.sync();
  scratch[block.thread()] = sum;
  block.sync();
  if (block.thread() >= at.channels) return;
  R total = 0;
  for (int e = block.thread(); e < at.threads(); e += at.width()) total += scratch[e];
  to[(at.row * at.shape.cuts.count + at.piece) * at.shape.channels + at.first_channel +
     block.thread()] = total;
}

/// Joins what the slices have for each step of each channel: as SelectiveBackward without states.
template <class T, class E>
struct SelectiveJoinGradients {
  using R = Real<E>;
  static constexpr int most_threads = 256;

  SelectiveArguments<T, E> in;
  SelectiveShape shape;  ///< of a single slice
  Index slices;
  SelectiveGradients<T, E> gradients;
  SelectivePartials<E> partials;

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<0> at(shape, block);
    const Shared<R> scratch = block.shared<R>(at.threads());
    const int c = at.tile_channel(block);
    const Index first = at.begin() + at.tile_step(block);
    const Index size = shape.rows * shape.length * shape.channels;
    R dD = 0, dbias = 0;
    if (c < at.channels && first < at.end()) {
      StepColumns<T, E> steps(block, at, in, gradients, first);
      GradientColumns<T, E> columns(block, at, in, gradients, first);
      for (Index i = first; i < at.end(); i += at.lanes()) {
        const Index channel = at.first_channel + c;
        R sum[3] = {};
        for (Index s = 0; s < slices; ++s)
          for (int k = 0; k < 3; ++k)
            sum[k] += partials.slices[(s * 3 + k) * size +
                                      (at.row * shape.length + i) * shape.channels + channel];
        columns.write(*steps, sum[0], sum[1], sum[2]);
        steps.move(at.lanes()), columns.move(at.lanes());
      }
      dD = columns.dD;
      dbias = columns.dbias;
    }
    write_channel_sums(block, at, scratch, dD, partials.D);
    write_channel_sums(block, at, scratch, dbias, partials.bias);
  }
};

/// Adds up what the pieces of all rows have, in order: one thread an element (channel, state) of
/// the gradients of A and of a constant B or C, or, with a state of 1, of D or the bias.
template <class E>
struct SelectiveSumPieces {
  Array<E, 2> to;
  const E* partials;  ///< (pieces, channels, state)
  Index pieces, channels, state;

  SSM_DEVICE void operator()(Index i) const {
    E sum(Real<E>(0));
    SSM_UNROLL_BY(8)
    for (Index piece = 0; piece < pieces; ++piece) sum += partials[piece * channels * state + i];
    to(i / state, i % state) = sum;
  }
};

/// Adds up what the panels of a group have, in order: one thread an element
/// (row, step, group, state) of the gradient of a B or C that varies.
template <class E, class V>
struct SelectiveSumPanels {
  Array<V, 4> to;
  const E* partials;  ///< (panels, {B, C}, rows, length, state), from B or from C on
  Index group_panels, groups, rows, length, state;

  SSM_DEVICE void operator()(Index i) const {
    const Index n = i % state, group = i / state % groups, at = i / state / groups;
    const Index each = 2 * rows * length * state;
    E sum(Real<E>(0));
    SSM_UNROLL_BY(8)
    for (Index p = 0; p < group_panels; ++p)
      sum += partials[(group * group_panels + p) * each + at * state + n];
    to(at / length, at % length, group, n) = narrow_to<V>(sum);
  }
};

}  // namespace ssm::kernels
