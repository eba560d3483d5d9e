#pragma once

#include "selective_gradients.hpp"

namespace ssm::kernels {

/// B's and C's gradients at one step, summed over the two or four neighbouring channels of a group.
/// The lanes of each channel hold their states in an order of its own: what a lane keeps and what
/// it sends then lie in the same places in every lane, and halving the values on the way takes a
/// shuffle and an addition for each, no selection. The lanes of four channels end with one state
/// each.
template <class E>
struct CoefficientSums {
  static constexpr int most_lanes = 16;
  LaneStates<E> dB, dC;

  SSM_HOST_DEVICE static int group_channels(int lanes) { return lanes < most_lanes ? 4 : 2; }

  /// After it, the first lane_states / group_channels(lanes) places hold sums.
  template <class Place>
  SSM_DEVICE void sum(Block& block, const Place& at) {
    halve<2>(block, at.seat_mask(0));
    if (group_channels(at.lanes()) == 4) halve<1>(block, at.seat_mask(1));
  }

 private:
  template <int Half>
  SSM_DEVICE void halve(Block& block, int mask) {
    SSM_UNROLL
    for (int i = 0; i < Half; ++i) {
      dB[i] = dB[i] + shuffle_xor(block, dB[i + Half], mask);
      dC[i] = dC[i] + shuffle_xor(block, dC[i + Half], mask);
    }
  }
};

/// The gradients of one piece, walked from its end tile by tile: the states of a tile are computed
/// again from the saved one that enters it, stay in registers with their decays, and the adjoint g
/// runs back over them. What lanes add to sums over the states of a channel lies in shared memory
/// until a tile is written: adding it up there takes a quarter of the instructions of shuffles.
template <class T, class E, bool General>
struct SelectiveBackward {
  using R = Real<E>;
  static constexpr int most_threads = 256;
  static constexpr int tile_steps = saved_steps<E>;
  using Step = Pack<R, 4>;          ///< Δ, u, ∂loss/∂y behind the gate, Δ's slope by delta
  using StateShares = Pack<R, 2>;   ///< of the gradients by u and Δ
  using Coefficients = Pack<E, 2>;  ///< of the gradients of B and C

  SelectiveArguments<T, E> in;
  SelectiveShape shape;
  SelectiveGradients<T, E> gradients;
  SelectivePartials<E> partials;
  const E* exits;  ///< (rows, pieces, channels, state), null where rows are whole
  const E* saved;  ///< as forward wrote it

  static Index shared_bytes(const SelectiveShape& s) {
    const int group_channels = CoefficientSums<E>::group_channels(s.lanes);
    return shared_size<Step>(tile_steps * s.block_channels) +
           shared_size<R>(tile_steps * s.block_channels) +
           shared_size<StateShares>(tile_steps * s.threads()) +
           shared_size<R>(tile_steps * s.threads()) + shared_size<R>(s.threads()) +
           2 * shared_size<E>(tile_steps * group_channels * s.slice()) +
           shared_size<Coefficients>(tile_steps * s.block_channels / group_channels * s.slice());
  }

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<0> at(shape, block);
    const int width = at.width(), slice = at.slice();
    const int group_channels = CoefficientSums<E>::group_channels(at.lanes());
    const Shared<Step> steps = block.shared<Step>(tile_steps * width);
    const Shared<R> gate_slopes = block.shared<R>(tile_steps * width);
    const Shared<StateShares> shares = block.shared<StateShares>(tile_steps * at.threads());
    const Shared<R> y = block.shared<R>(tile_steps * at.threads());
    const Shared<R> scratch = block.shared<R>(at.threads());
    const Shared<E> B = block.shared<E>(tile_steps * group_channels * slice);
    const Shared<E> C = block.shared<E>(tile_steps * group_channels * slice);
    const Shared<Coefficients> sums =
        block.shared<Coefficients>(tile_steps * width / group_channels * slice);

    const int order = at.seat % group_channels, flip = flip_of_order(order);
    const LaneModes<E> modes(load_states(in.A, at, flip));
    const LaneStates<E> B_constant = load_states(in.B_constant, at, flip);
    const LaneStates<E> C_constant = load_states(in.C_constant, at, flip);
    const RowSequences& sequences = shape.sequences;
    const Index begin = at.begin(), end = at.end();
    const bool last = at.piece + 1 == shape.cuts.count;
    LaneStates<E> dA = no_states<E>(), dB_sum = no_states<E>(), dC_sum = no_states<E>();

    Index sequence = last ? sequences.count - 1 : sequences.before(end);
    LaneStates<E> g =
        last ? load_states(gradients.final_state, sequences.number(at.row, sequence), at, flip)
             : load_states(exits + at.piece_states(), 1, at.states, flip);
    const auto leave_sequence = [&] {
      store_states(gradients.initial_state, sequences.number(at.row, sequence), at, g, flip);
    };
    const auto leave_sequences = [&](Index position) {
      while (sequence > 0 && sequences.start(sequence) >= position) {
        leave_sequence();
        --sequence;
        g = load_states(gradients.final_state, sequences.number(at.row, sequence), at, flip);
      }
    };
    if (last) leave_sequences(shape.length);

    const Index tiles = (end - begin + tile_steps - 1) / tile_steps;
    Index first = begin + (tiles > 0 ? tiles - 1 : 0) * tile_steps;
    StepColumns<T, E> inputs(block, at, in, gradients, first + at.tile_step(block));
    GradientColumns<T, E> columns(block, at, in, gradients, first + at.tile_step(block));
    CoefficientColumn B_column(block, at, in.B, first), C_column(block, at, in.C, first);
    Column<E> coefficients{nullptr, 0};
    if (tiles > 0 && partials.coefficients != nullptr && B_column.is_state)
      coefficients = {
          partials.coefficients +
              ((2 * at.panel * shape.rows + at.row) * shape.length + first + B_column.begin) *
                  shape.state +
              at.slice_number * slice + B_column.n,
          shape.state};
    const Index all_tiles = (shape.length + tile_steps - 1) / tile_steps;
    const E* entering = saved;
    if (tiles > 0) entering += at.states_at(at.row * all_tiles + first / tile_steps);
    for (Index left = tiles; left > 0; --left, first -= tile_steps) {
      const int count = end - first < tile_steps ? static_cast<int>(end - first) : tile_steps;
      block.sync();  // the tile before has been written out
      inputs.stage(
          block, at, count, tile_steps,
          [&](int e, const StepSlopes<R>& now) {
            steps[e] = Step{now.delta, now.u, output_scale<E> * now.dy, now.delta_slope};
            gate_slopes[e] = now.gate_slope;
          },
          [&](int e) { steps[e] = Step{}; });
      B_column.stage(B, count, tile_steps, group_channels);
      C_column.stage(C, count, tile_steps, group_channels);
      block.sync();

      // Runs of steps of one sequence, the last first.
      for (int stop = count; stop > 0;) {
        const Index start = sequences.start(sequence) - first;
        const int from = start > 0 ? static_cast<int>(start) : 0;
        LaneStates<E> x =
            sequence > 0 && start >= 0
                ? load_states(in.initial_state, sequences.number(at.row, sequence), at, flip)
                : load_states(entering, 1, at.states, flip);
        LaneStates<E> decay[tile_steps], before[tile_steps];
        SSM_UNROLL
        for (int t = 0; t < tile_steps; ++t) {
          if ((t < from || t >= stop)) continue;
          const Step step = steps[t * width + at.local];
          const R d = step[0], v = step[1];
          const LaneStates<E> b = coefficient(in.B_constant, B_constant, B, t, at, order);
          const LaneStates<E> c = coefficient(in.C_constant, C_constant, C, t, at, order);
          R sum = 0;
          SSM_UNROLL
          for (int p = 0; p < lane_states; ++p) {
            decay[t][p] = modes.decay(p, d);
            before[t][p] = x[p];
            x[p] = decay[t][p] * x[p] + (modes.template hold<General>(in, p, d) * v) * b[p];
            sum += real(c[p] * x[p]);
          }
          y[t * at.threads() + at.share()] = output_scale<E> * sum;
        }
        SSM_UNROLL
        for (int t = tile_steps - 1; t >= 0; --t) {
          if ((t < from || t >= stop)) continue;
          R du = 0, ddelta = 0, input_sum = 0;
          CoefficientSums<E> of_step;
          const Step step = steps[t * width + at.local];
          const R d = step[0], v = step[1], dy = step[2];
          const LaneStates<E> b = coefficient(in.B_constant, B_constant, B, t, at, order);
          const LaneStates<E> c = coefficient(in.C_constant, C_constant, C, t, at, order);
          SSM_UNROLL
          for (int p = 0; p < lane_states; ++p) {
            const E b_bar = modes.template hold<General>(in, p, d);
            const E dx = g[p] + dy * conjugate(c[p]);
            const E dB = dx * (conjugate(b_bar) * v), dC = dy * conjugate(x[p]);
            g[p] = dx * conjugate(decay[t][p]);
            const E by_exponent = g[p] * conjugate(before[t][p]);  // ∂loss/∂(ΔA), by the decay
            ddelta += real_product(by_exponent, modes.A[p]);
            dA[p] += by_exponent * d;
            if constexpr (General) {
              du += real_product(dx, b_bar * b[p]);
              const E db_bar = dx * conjugate(b[p]) * v;
              ddelta += in.zero_order ? real_product(db_bar, decay[t][p]) : real(db_bar);
              if (in.zero_order)
                dA[p] += db_bar * conjugate(phi1_derivative(d * modes.A[p])) * (d * d);
              if (in.B_constant.present) dB_sum[p] += dB;
              if (in.C_constant.present) dC_sum[p] += dC;
            } else {
              input_sum += real_product(dx, b[p]);
            }
            of_step.dB[p] = dB;
            of_step.dC[p] = dC;
            x[p] = before[t][p];
          }
          if constexpr (!General) {
            du = d * input_sum;
            ddelta += v * input_sum;
          }
          shares[t * at.threads() + at.share()] = StateShares{du, ddelta};
          of_step.sum(block, at);
          put(at, of_step, sums, t, flip);
        }
        stop = from;
        leave_sequences(first + from);
      }

      block.sync();
      write_tile(block, at, first, count, Tile{steps, gate_slopes, y, shares}, columns);
      if (coefficients.at != nullptr) write_coefficients(block, at, count, sums, coefficients);
      entering -= shape.channels * shape.state;
      inputs.move_tile(-tile_steps), columns.move_tile(-tile_steps);
      B_column.from.move_tile(-tile_steps), C_column.from.move_tile(-tile_steps);
      coefficients.move_tile(-tile_steps);
    }

    if (at.piece == 0) leave_sequence();
    if (at.states > 0) {
      const Index states = at.piece_states();
      if (partials.A != nullptr) store_states(partials.A + states, 1, at.states, dA, flip);
      if (partials.B_constant != nullptr)
        store_states(partials.B_constant + states, 1, at.states, dB_sum, flip);
      if (partials.C_constant != nullptr)
        store_states(partials.C_constant + states, 1, at.states, dC_sum, flip);
    }
    if (partials.slices != nullptr) return;
    write_channel_sums(block, at, scratch, columns.dD, partials.D);
    write_channel_sums(block, at, scratch, columns.dbias, partials.bias);
  }

 private:
  struct StateSums {
    R y, du, ddelta;
  };
  struct Tile {
    Shared<Step> steps;
    Shared<R> gate_slopes;
    Shared<R> y;
    Shared<StateShares> shares;
  };

  template <class Place>
  SSM_DEVICE LaneStates<E> coefficient(const Array<const E, 2>& constant,
                                       const LaneStates<E>& of_channel, const Shared<E>& tile,
                                       int t, const Place& at, int order) const {
    if constexpr (General)
      if (constant.present) return of_channel;
    const int orders = CoefficientSums<E>::group_channels(at.lanes());
    return tile.template load<lane_states>((t * orders + order) * at.slice() +
                                           at.lane * lane_states);
  }

  /// Puts a group's sums at step t where the block adds them up: (steps, groups, slice).
  template <class Place>
  SSM_DEVICE void put(const Place& at, const CoefficientSums<E>& of_group,
                      const Shared<Coefficients>& sums, int t, int flip) const {
    const int channels = CoefficientSums<E>::group_channels(at.lanes());
    const int group = at.seat / channels, groups = at.width() / channels;
    SSM_UNROLL
    for (int p = 0; p < lane_states; ++p) {
      if (p >= lane_states / channels) break;
      sums[(t * groups + group) * at.slice() + at.lane * lane_states + (p ^ flip)] =
          Coefficients{of_group.dB[p], of_group.dC[p]};
    }
  }
  /// Adds up a tile's sums, B's into `to` on.
  template <class Place>
  SSM_DEVICE void write_coefficients(Block& block, const Place& at, int count,
                                     const Shared<Coefficients>& sums, Column<E> to) const {
    const int slice = at.slice(),
              groups = at.width() / CoefficientSums<E>::group_channels(at.lanes());
    const int steps_at_once = at.threads() / slice, begin = block.thread() / slice;
    const int n = block.thread() % slice;
    const Index of_C = shape.rows * shape.length * shape.state;
    SSM_UNROLL
    for (int k = 0; k < tile_steps; k += steps_at_once, to.move(steps_at_once)) {
      const int t = k + begin;
      if (t >= count) break;
      Coefficients sum = sums[t * groups * slice + n];
      SSM_UNROLL
      for (int group = 1; group < groups; ++group) {
        const Coefficients next = sums[(t * groups + group) * slice + n];
        sum[0] += next[0];
        sum[1] += next[1];
      }
      to.at[0] = sum[0];
      to.at[of_C] = sum[1];
    }
  }
  template <class Place>
  SSM_DEVICE void write_tile(Block& block, const Place& at, Index first, int count,
                             const Tile& tile, GradientColumns<T, E>& columns) const {
    const int c = at.tile_channel(block), begin = at.tile_step(block);
    if (c >= at.channels) return;
    const auto sum_lanes = [&](int e) {
      const StateShares first_share = tile.shares[e * at.lanes()];
      StateSums sum{tile.y[e * at.lanes()], first_share[0], first_share[1]};
      SSM_UNROLL
      for (int lane = 1; lane < at.lanes(); ++lane) {
        const StateShares share = tile.shares[e * at.lanes() + lane];
        sum.y += tile.y[e * at.lanes() + lane];
        sum.du += share[0];
        sum.ddelta += share[1];
      }
      return sum;
    };
    if (partials.slices != nullptr) {
      const Index size = shape.rows * shape.length * shape.channels;
      for (int t = begin; t < count; t += at.lanes()) {
        const StateSums sum = sum_lanes(t * at.width() + c);
        R* to = partials.slices + at.slice_number * 3 * size +
                (at.row * shape.length + first + t) * shape.channels + at.first_channel + c;
        to[0] = sum.y;
        to[size] = sum.du;
        to[2 * size] = sum.ddelta;
      }
      return;
    }
    GradientColumns<T, E> now = columns;
    SSM_UNROLL
    for (int k = 0; k < tile_steps; k += at.lanes(), now.move(at.lanes())) {
      if (k + begin >= count) break;
      const int e = (k + begin) * at.width() + c;
      const Step step = tile.steps[e];
      const StateSums sum = sum_lanes(e);
      now.write({step[0], step[1], step[2] / output_scale<E>, step[3], R(tile.gate_slopes[e])},
                sum.y, sum.du, sum.ddelta);
    }
    columns.dD = now.dD;
    columns.dbias = now.dbias;
  }
};

}  // namespace ssm::kernels
