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
                     const SelectiveScanInputGradients<T, K, Device>& in)
      : y(out.y),
        final_state(out.final_state),
        u(in.u),
        delta(in.delta),
        z(in.z),
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
  Real<E>* slices;  ///< (slices, {u, delta, y}, rows, length, channels), null for a single slice
};

/// A channel's gradients at the steps that a thread writes, once sums over states are known.
template <class T, class E>
struct GradientColumns {
  using R = Real<E>;

  const SelectiveArguments<T, E>& in;
  Column<const T> delta, z, dy;
  Column<T> du, ddelta, dz;
  R D, bias;
  R dD = 0, dbias = 0;  ///< what D's and the bias's gradients gain

  template <class Place>
  SSM_DEVICE GradientColumns(Block& block, const Place& at, const SelectiveArguments<T, E>& inputs,
                             const SelectiveGradients<T, E>& gradients, Index position)
      : in(inputs),
        delta(at.column(block, in.delta, position)),
        z(at.optional_column(block, in.z, position)),
        dy(at.column(block, gradients.y, position)),
        du(at.optional_column(block, gradients.u, position)),
        ddelta(at.optional_column(block, gradients.delta, position)),
        dz(at.optional_column(block, gradients.z, position)),
        D(in.D_of(at.first_channel + at.tile_channel(block))),
        bias(in.bias_of(at.first_channel + at.tile_channel(block))) {}

  /// Takes the states' shares of the gradients by u and Δ, and C·x.
  SSM_DEVICE void write(R u, R du_states, R ddelta_states, R y_states) {
    R dy_now = widen(*dy);
    if (z.at != nullptr) {
      const Silu<R> gate(widen(*z));
      if (dz.at != nullptr) *dz = narrow_to<T>(dy_now * (y_states + D * u) * gate.slope);
      dy_now *= gate.value;
    }
    if (in.softplus) ddelta_states *= sigmoid(R(widen(*delta)) + bias);
    dD += dy_now * u;
    dbias += ddelta_states;
    if (du.at != nullptr) *du = narrow_to<T>(du_states + D * dy_now);
    if (ddelta.at != nullptr) *ddelta = narrow_to<T>(ddelta_states);
  }
  SSM_DEVICE void next() {
    delta.next(), z.next(), dy.next();
    du.next(), ddelta.next(), dz.next();
  }
};

/// Fills a tile with make(Δ, u, ∂loss/∂(C·x)) of each step, zero beyond the panel and beyond
/// `count` steps.
template <class V, class T, class E, class Place, class Make>
SSM_DEVICE void stage_gradients(Block& block, const Place& at, const SelectiveArguments<T, E>& in,
                                const SelectiveGradients<T, E>& gradients, const Shared<V>& tile,
                                Index first, int count, int steps, const Make& make) {
  using R = Real<E>;
  constexpr R output_scale = is_complex<E> ? 2 : 1;
  const int c = at.tile_channel(block);
  int t = at.tile_step(block);
  if (c >= at.channels) {
    for (; t < steps; t += at.lanes()) tile[t * at.width() + c] = V{};
    return;
  }
  const R bias = in.bias_of(at.first_channel + c);
  Column<const T> raw = at.column(block, in.delta, first + t);
  Column<const T> u = at.column(block, in.u, first + t),
                  z = at.optional_column(block, in.z, first + t);
  Column<const T> dy = at.column(block, gradients.y, first + t);
  SSM_UNROLL_BY(4)
  for (; t < count; t += at.lanes(), raw.next(), u.next(), z.next(), dy.next()) {
    R dy_now = output_scale * R(widen(*dy));
    if (in.z.present) dy_now *= Silu<R>(widen(*z)).value;
    tile[t * at.width() + c] = make(in.step_size(R(widen(*raw)) + bias), R(widen(*u)), dy_now);
  }
  for (; t < steps; t += at.lanes()) tile[t * at.width() + c] = V{};
}

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
      GradientColumns<T, E> columns(block, at, in, gradients, first);
      for (Index i = first; i < at.end(); i += at.lanes(), columns.next()) {
        const Index step = shape.sequences.step(i), channel = at.first_channel + c;
        R sum[3] = {};
        for (Index s = 0; s < slices; ++s)
          for (int k = 0; k < 3; ++k)
            sum[k] += partials.slices[(s * 3 + k) * size +
                                      (at.row * shape.length + step) * shape.channels + channel];
        columns.write(widen(in.u(at.row, step, channel)), sum[0], sum[1], sum[2]);
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
    for (Index p = 0; p < group_panels; ++p)
      sum += partials[(group * group_panels + p) * each + at * state + n];
    to(at / length, at % length, group, n) = narrow_to<V>(sum);
  }
};

}  // namespace ssm::kernels
