#pragma once

#include "selective_forward.hpp"

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

  /// ∂loss/∂(y before its gate).
  SSM_DEVICE R before_gate(const SelectiveArguments<T, E>& in, Index row, Index step,
                           Index channel) const {
    const R dy = widen(y(row, step, channel));
    return in.z.present ? dy * silu(widen(in.z(row, step, channel))) : dy;
  }
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

/// One step of one channel once sums over its states are known: `du`, `ddelta` and `y` are the
/// states' shares. Adds what D's and the bias's gradients gain.
template <class T, class E>
SSM_DEVICE void write_gradients(const SelectiveArguments<T, E>& in,
                                const SelectiveGradients<T, E>& gradients, Index row, Index step,
                                Index channel, Real<E> du, Real<E> ddelta, Real<E> y, Real<E>& dD,
                                Real<E>& dbias) {
  using R = Real<E>;
  const R u = widen(in.u(row, step, channel));
  const R dy = gradients.before_gate(in, row, step, channel);
  const R D = in.D.present ? in.D(channel) : R(0);
  if (in.softplus)
    ddelta *= -std::expm1(-in.step_size(row, step, channel));  // sigmoid, from softplus
  dD += dy * u;
  dbias += ddelta;
  if (gradients.u.present) gradients.u(row, step, channel) = narrow_to<T>(du + D * dy);
  if (gradients.delta.present) gradients.delta(row, step, channel) = narrow_to<T>(ddelta);
  if (gradients.z.present)
    gradients.z(row, step, channel) =
        narrow_to<T>(R(widen(gradients.y(row, step, channel))) * (y + D * u) *
                     silu_derivative(R(widen(in.z(row, step, channel)))));
}

/// Sums what the threads of a block have for their channel, the thread's number modulo
/// block_channels, into an array (rows, pieces, channels).
template <class R>
SSM_DEVICE void write_channel_sums(Block& block, const SelectivePlace& at, const Shared<R>& scratch,
                                   R sum, R* to) {
  if (to == nullptr) return;
  block.sync();
  scratch[block.thread()] = sum;
  block.sync();
  if (block.thread() >= at.channels) return;
  R total = 0;
  for (int e = block.thread(); e < block.threads(); e += at.shape.block_channels)
    total += scratch[e];
  to[(at.row * at.shape.cuts.count + at.piece) * at.shape.channels + at.first_channel +
     block.thread()] = total;
}

/// B's and C's gradients at one step, summed over the channels of a warp: eight values a lane, four
/// states of each, halved while they travel, so that a value costs less than one shuffle. The sums
/// of value v end in the lanes whose `first` ≤ v < first + count.
template <class E>
struct CoefficientSums {
  E value[2 * lane_states];
  int first = 0, count = 2 * lane_states;

  template <int Half>
  SSM_DEVICE void halve(Block& block, int mask) {
    const bool upper = (block.thread() & mask) != 0;
    SSM_UNROLL
    for (int i = 0; i < Half; ++i) {
      const E sent = upper ? value[i] : value[i + Half];
      const E kept = upper ? value[i + Half] : value[i];
      value[i] = kept + shuffle_xor(block, sent, mask);
    }
    count = Half;
    if (upper) first += Half;
  }
  /// Sums over the lanes that differ in the bits from `lanes` upward.
  SSM_DEVICE void sum(Block& block, int lanes) {
    if (lanes < warp) halve<4>(block, lanes);
    if (2 * lanes < warp) halve<2>(block, 2 * lanes);
    if (4 * lanes < warp) halve<1>(block, 4 * lanes);
    for (int mask = 8 * lanes; mask < warp; mask *= 2)
      value[0] += shuffle_xor(block, value[0], mask);
  }
};

/// The gradients of one piece, walked from its end tile by tile: the states of a tile are computed
/// again from the saved one that enters it, decays and decayed states stay in registers, and the
/// adjoint g runs back over them.
///
/// About 25 instructions an exponential: 4 to recompute, 9 for the adjoint and its products, 7 to
/// sum B's and C's gradients over the channels of a warp, 3 for sums over states, 2 for shared
/// memory. At batch 8, 1536 channels, length 2048, 16 states that is 0.33 ms of issue slots of an
/// H100, its floor; memory takes 0.16 ms beside it.
template <class T, class E, bool General>
struct SelectiveBackward {
  using R = Real<E>;
  static constexpr int most_threads = 256;
  static constexpr int tile_steps = saved_steps<E>;
  static constexpr R output_scale = is_complex<E> ? 2 : 1;

  SelectiveArguments<T, E> in;
  SelectiveShape shape;
  SelectiveGradients<T, E> gradients;
  SelectivePartials<E> partials;
  const E* exits;  ///< (rows, pieces, channels, state), null where rows are whole
  const E* saved;  ///< as forward wrote it

  static Index shared_bytes(const SelectiveShape& s) {
    return 6 * shared_size<R>(tile_steps * s.block_channels) + shared_size<R>(s.threads()) +
           2 * shared_size<E>(tile_steps * s.slice()) +
           shared_size<E>(s.threads() / warp * 2 * tile_steps * s.slice());
  }

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace at(shape, block);
    const int width = shape.block_channels, slice = shape.slice();
    const Shared<R> delta = block.shared<R>(tile_steps * width);
    const Shared<R> u = block.shared<R>(tile_steps * width);
    const Shared<R> dy = block.shared<R>(tile_steps * width);
    const Shared<R> du = block.shared<R>(tile_steps * width);
    const Shared<R> ddelta = block.shared<R>(tile_steps * width);
    const Shared<R> y = block.shared<R>(tile_steps * width);
    const Shared<R> scratch = block.shared<R>(block.threads());
    const Shared<E> B = block.shared<E>(tile_steps * slice);
    const Shared<E> C = block.shared<E>(tile_steps * slice);
    const Shared<E> sums = block.shared<E>(block.threads() / warp * 2 * tile_steps * slice);

    const LaneModes<E> modes(load_states(in.A, at));
    const LaneStates<E> B_constant = load_states(in.B_constant, at);
    const LaneStates<E> C_constant = load_states(in.C_constant, at);
    const Sequences& sequences = shape.sequences;
    const Index begin = at.begin(), end = at.end();
    const bool last = at.piece + 1 == shape.cuts.count;
    LaneStates<E> dA = no_states<E>(), dB_sum = no_states<E>(), dC_sum = no_states<E>();
    R dD = 0, dbias = 0;

    Index sequence = last ? sequences.count - 1 : sequences.before(end);
    LaneStates<E> g =
        last ? load_states(gradients.final_state, sequences.number(at.row, sequence), at)
             : load_states(exits + at.piece_states(), 1, at.states);
    const auto leave_sequence = [&] {
      store_states(gradients.initial_state, sequences.number(at.row, sequence), at, g);
    };
    const auto leave_sequences = [&](Index position) {
      while (sequence > 0 && sequences.start(sequence) >= position) {
        leave_sequence();
        --sequence;
        g = load_states(gradients.final_state, sequences.number(at.row, sequence), at);
      }
    };
    if (last) leave_sequences(shape.length);

    const Index tiles = (end - begin + tile_steps - 1) / tile_steps;
    for (Index tile = tiles; tile-- > 0;) {
      const Index first = begin + tile * tile_steps;
      const int count = end - first < tile_steps ? static_cast<int>(end - first) : tile_steps;
      block.sync();  // the tile before has been written out
      fill_tile(block, at, delta, first, count, [&](Index step, Index channel, int e) {
        u[e] = widen(in.u(at.row, step, channel));
        dy[e] = gradients.before_gate(in, at.row, step, channel);
        return in.step_size(at.row, step, channel);
      });
      fill_coefficients(block, at, B, first, count, in.B);
      fill_coefficients(block, at, C, first, count, in.C);
      block.sync();

      // Runs of steps of one sequence, the last first; most tiles are one run.
      for (int stop = count; stop > 0;) {
        const Index start = sequences.start(sequence) - first;
        const int from = start > 0 ? static_cast<int>(start) : 0;
        LaneStates<E> x;
        if (sequence > 0 && start >= 0) {
          x = load_states(in.initial_state, sequences.number(at.row, sequence), at);
        } else {
          const Index all_tiles = (shape.length + tile_steps - 1) / tile_steps;
          x = load_states(saved + at.states_at(at.row * all_tiles + first / tile_steps), 1,
                          at.states);
        }
        LaneStates<E> decay[tile_steps], decayed[tile_steps];
        SSM_UNROLL
        for (int t = 0; t < tile_steps; ++t) {
          if (t < from || t >= stop) continue;
          const int e = t * width + at.local;
          R sum = 0;
          if (at.local < at.channels) {
            const R d = delta[e], v = u[e];
            const LaneStates<E> b = coefficient(in.B_constant, B_constant, B, t, at);
            const LaneStates<E> c = coefficient(in.C_constant, C_constant, C, t, at);
            SSM_UNROLL
            for (int p = 0; p < lane_states; ++p) {
              decay[t][p] = modes.decay(p, d);
              decayed[t][p] = decay[t][p] * x[p];
              x[p] = decayed[t][p] + (hold(modes, p, d) * v) * b[p];
              sum += real(c[p] * x[p]);
            }
          }
          if (gradients.z.present) {
            sum = sum_lanes(block, sum, shape.lanes);
            if (at.lane == 0) y[e] = output_scale * sum;
          }
        }
        SSM_UNROLL
        for (int t = tile_steps - 1; t >= 0; --t) {
          if (t < from || t >= stop) continue;
          const int e = t * width + at.local;
          R du_sum = 0, ddelta_sum = 0, input_sum = 0;
          CoefficientSums<E> coefficients;
          SSM_UNROLL
          for (int i = 0; i < 2 * lane_states; ++i) coefficients.value[i] = E(R(0));
          if (at.local < at.channels) {
            const R d = delta[e], v = u[e], dy_scaled = output_scale * dy[e];
            const LaneStates<E> b = coefficient(in.B_constant, B_constant, B, t, at);
            const LaneStates<E> c = coefficient(in.C_constant, C_constant, C, t, at);
            SSM_UNROLL
            for (int p = 0; p < lane_states; ++p) {
              const E b_bar = hold(modes, p, d);
              const E x_now = decayed[t][p] + (b_bar * v) * b[p];
              const E dx = g[p] + dy_scaled * conjugate(c[p]);
              const E by_exponent = dx * conjugate(decayed[t][p]);  // ∂loss/∂(ΔA), by the decay
              const E dB = dx * (conjugate(b_bar) * v), dC = dy_scaled * conjugate(x_now);
              ddelta_sum += real_product(by_exponent, modes.A[p]);
              dA[p] += by_exponent * d;
              if constexpr (General) {
                du_sum += real_product(dx, b_bar * b[p]);
                const E db_bar = dx * conjugate(b[p]) * v;
                ddelta_sum += in.zero_order ? real_product(db_bar, decay[t][p]) : real(db_bar);
                if (in.zero_order)
                  dA[p] += db_bar * conjugate(phi1_derivative(d * modes.A[p])) * (d * d);
                if (in.B_constant.present) dB_sum[p] += dB;
                if (in.C_constant.present) dC_sum[p] += dC;
              } else {
                input_sum += real_product(dx, b[p]);
              }
              coefficients.value[p] = dB;
              coefficients.value[lane_states + p] = dC;
              g[p] = dx * conjugate(decay[t][p]);
            }
            if constexpr (!General) {
              du_sum = d * input_sum;
              ddelta_sum += v * input_sum;
            }
          }
          du_sum = sum_lanes(block, du_sum, shape.lanes);
          ddelta_sum = sum_lanes(block, ddelta_sum, shape.lanes);
          if (at.lane == 0) {
            du[e] = du_sum;
            ddelta[e] = ddelta_sum;
          }
          if (partials.coefficients != nullptr) {
            coefficients.sum(block, shape.lanes);
            put(block, at, coefficients, sums, t);
          }
        }
        stop = from;
        leave_sequences(first + from);
      }

      block.sync();
      write_tile(block, at, first, count, du, ddelta, y, dD, dbias);
      if (partials.coefficients != nullptr) write_coefficients(block, at, first, count, sums);
    }

    if (at.piece == 0) leave_sequence();
    if (at.states > 0) {
      const Index states = at.piece_states();
      if (partials.A != nullptr) store_states(partials.A + states, 1, at.states, dA);
      if (partials.B_constant != nullptr)
        store_states(partials.B_constant + states, 1, at.states, dB_sum);
      if (partials.C_constant != nullptr)
        store_states(partials.C_constant + states, 1, at.states, dC_sum);
    }
    if (partials.slices != nullptr) return;
    write_channel_sums(block, at, scratch, dD, partials.D);
    write_channel_sums(block, at, scratch, dbias, partials.bias);
  }

 private:
  SSM_DEVICE E hold(const LaneModes<E>& modes, int p, R d) const {
    if constexpr (General)
      if (in.zero_order) return d * phi1(d * modes.A[p]);
    return E(d);
  }
  SSM_DEVICE LaneStates<E> coefficient(const Array<const E, 2>& constant,
                                       const LaneStates<E>& of_channel, const Shared<E>& tile,
                                       int t, const SelectivePlace& at) const {
    if constexpr (General)
      if (constant.present) return of_channel;
    return tile.template load<lane_states>(t * shape.slice() + at.lane * lane_states);
  }

  /// Puts a warp's sums at step t where the block adds them up: (warps, {B, C}, steps, slice).
  SSM_DEVICE void put(Block& block, const SelectivePlace& at, const CoefficientSums<E>& of_warp,
                      const Shared<E>& sums, int t) const {
    if (block.thread() % warp >= 8 * shape.lanes) return;  // others hold the same
    SSM_UNROLL
    for (int i = 0; i < 2 * lane_states; ++i) {
      if (i >= of_warp.count) break;
      const int which = (of_warp.first + i) / lane_states;
      const int n = at.lane * lane_states + (of_warp.first + i) % lane_states;
      sums[((block.thread() / warp * 2 + which) * tile_steps + t) * shape.slice() + n] =
          of_warp.value[i];
    }
  }
  SSM_DEVICE void write_coefficients(Block& block, const SelectivePlace& at, Index first, int count,
                                     const Shared<E>& sums) const {
    const int slice = shape.slice();
    for (int e = block.thread(); e < 2 * count * slice; e += block.threads()) {
      const int which = e / (count * slice), t = e / slice % count;
      const Index n = at.slice * slice + e % slice;
      if (n >= shape.state) continue;
      E total(R(0));
      for (int w = 0; w < block.threads() / warp; ++w)
        total += sums[((w * 2 + which) * tile_steps + t) * slice + e % slice];
      partials.coefficients[(((at.panel * 2 + which) * shape.rows + at.row) * shape.length +
                             shape.sequences.step(first + t)) *
                                shape.state +
                            n] = total;
    }
  }
  SSM_DEVICE void write_tile(Block& block, const SelectivePlace& at, Index first, int count,
                             const Shared<R>& du, const Shared<R>& ddelta, const Shared<R>& y,
                             R& dD, R& dbias) const {
    const int width = shape.block_channels;
    for (int e = block.thread(); e < count * width; e += block.threads()) {
      if (e % width >= at.channels) continue;
      const Index step = shape.sequences.step(first + e / width);
      const Index channel = at.first_channel + e % width;
      const R y_now = gradients.z.present ? R(y[e]) : R(0);
      if (partials.slices == nullptr) {
        write_gradients(in, gradients, at.row, step, channel, R(du[e]), R(ddelta[e]), y_now, dD,
                        dbias);
      } else {
        const Index size = shape.rows * shape.length * shape.channels;
        R* to = partials.slices + at.slice * 3 * size +
                (at.row * shape.length + step) * shape.channels + channel;
        to[0] = du[e];
        to[size] = ddelta[e];
        to[2 * size] = y_now;
      }
    }
  }
};

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
    const SelectivePlace at(shape, block);
    const Shared<R> scratch = block.shared<R>(block.threads());
    const int width = shape.block_channels;
    const Index size = shape.rows * shape.length * shape.channels;
    const int c = block.thread() % width;
    R dD = 0, dbias = 0;
    if (c < at.channels) {
      for (Index i = at.begin() + block.thread() / width; i < at.end();
           i += block.threads() / width) {
        const Index step = shape.sequences.step(i), channel = at.first_channel + c;
        R sum[3] = {};
        for (Index s = 0; s < slices; ++s)
          for (int k = 0; k < 3; ++k)
            sum[k] += partials.slices[(s * 3 + k) * size +
                                      (at.row * shape.length + step) * shape.channels + channel];
        write_gradients(in, gradients, at.row, step, channel, sum[0], sum[1], sum[2], dD, dbias);
      }
    }
    write_channel_sums(block, at, scratch, dD, partials.D);
    write_channel_sums(block, at, scratch, dbias, partials.bias);
  }
};

/// What a piece of a row adds to the adjoint that it hands back: SelectivePieceEnds, walked from
/// the piece's begin.
template <class T, class E, bool General>
struct SelectivePieceAdjoints {
  using R = Real<E>;
  static constexpr int most_threads = 256;
  static constexpr R output_scale = is_complex<E> ? 2 : 1;

  SelectiveArguments<T, E> in;
  SelectiveShape shape;
  SelectiveGradients<T, E> gradients;
  int tile_steps;
  E* adjoints;  ///< (rows, pieces, channels, state)
  R* totals;    ///< (rows, pieces, channels): ΣΔ, up to the start of a sequence if there is one

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace at(shape, block);
    const int width = shape.block_channels;
    const Shared<R> delta = block.shared<R>(tile_steps * width);
    const Shared<R> dy = block.shared<R>(tile_steps * width);
    const Shared<E> C = block.shared<E>(tile_steps * shape.slice());
    const LaneModes<E> modes(load_states(in.A, at));
    const LaneStates<E> C_constant = load_states(in.C_constant, at);
    const Sequences& sequences = shape.sequences;
    const Index sequence = sequences.before(at.begin());
    const bool stops = sequence + 1 < sequences.count && sequences.start(sequence + 1) < at.end();
    Index end = stops ? sequences.start(sequence + 1) : at.end();

    LaneStates<E> g = no_states<E>();
    R total = 0;
    for (Index first = at.begin(); first < end; first += tile_steps) {
      const int count = end - first < tile_steps ? static_cast<int>(end - first) : tile_steps;
      const bool spent = block.all(modes_are_spent(at, modes, total));
      fill_tile(block, at, delta, first, count, [&](Index step, Index channel, int e) {
        dy[e] = gradients.before_gate(in, at.row, step, channel);
        return in.step_size(at.row, step, channel);
      });
      fill_coefficients(block, at, C, first, count, in.C);
      block.sync();
      if (at.local >= at.channels) continue;
      SSM_UNROLL_BY(4)
      for (int t = 0; t < count; ++t) {
        const int e = t * width + at.local;
        total += delta[e];
        const R scaled = output_scale * dy[e];
        const LaneStates<E> c =
            General && in.C_constant.present
                ? C_constant
                : C.template load<lane_states>(t * shape.slice() + at.lane * lane_states);
        SSM_UNROLL
        for (int p = 0; p < lane_states; ++p)
          g[p] += conjugate((spent ? E(R(0)) : modes.decay(p, total)) * c[p]) * scaled;
      }
    }
    if (stops) {
      const LaneStates<E> final =
          load_states(gradients.final_state, sequences.number(at.row, sequence), at);
      SSM_UNROLL
      for (int p = 0; p < lane_states; ++p) g[p] += conjugate(modes.decay(p, total)) * final[p];
    }
    store_states(adjoints + at.piece_states(), 1, at.states, g);
    if (at.lane == 0 && at.slice == 0 && at.local < at.channels)
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
    const Sequences& sequences = shape.sequences;
    E g = gradients.final_state.present
              ? gradients.final_state(sequences.number(row, sequences.before(shape.length)),
                                      channel, n)
              : E(Real<E>(0));
    for (Index piece = shape.cuts.count; piece-- > 0;) {
      const Index at = (row * shape.cuts.count + piece) * shape.channels + channel;
      E& adjoint = adjoints[at * shape.state + n];
      E next = adjoint;
      if (!sequences.starts_in(shape.cuts.begin(piece), shape.cuts.end(piece, shape.length)))
        next += conjugate(exp2_of(exponent * totals[at])) * g;
      adjoint = g;
      g = next;
    }
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
