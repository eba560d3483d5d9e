#pragma once

#include "selective_gradients.hpp"

namespace ssm::kernels {

/// B's and C's gradients at one step, summed over the channels of a warp. The lanes of a channel
/// hold their four states in an order of their own, place p holding state p ^ flip, with flip from
/// the channel's number: what a lane keeps and what it sends then lie in the same places in every
/// lane, and halving the values on the way takes a shuffle and an addition for each, no selection.
template <class E>
struct CoefficientSums {
  LaneStates<E> dB, dC;

  template <int Half>
  SSM_DEVICE static void halve(Block& block, LaneStates<E>& x, int mask) {
    SSM_UNROLL
    for (int i = 0; i < Half; ++i) x[i] = x[i] + shuffle_xor(block, x[i + Half], mask);
  }
  /// Sums over the lanes that differ in the bits from `lanes` upward: the flips of the first two
  /// bits leave one state in a lane, further bits join the like.
  SSM_DEVICE void sum(Block& block, int lanes) {
    if (lanes < warp) halve<2>(block, dB, lanes), halve<2>(block, dC, lanes);
    if (2 * lanes < warp) halve<1>(block, dB, 2 * lanes), halve<1>(block, dC, 2 * lanes);
    for (int mask = 4 * lanes; mask < warp; mask *= 2) {
      dB[0] += shuffle_xor(block, dB[0], mask);
      dC[0] += shuffle_xor(block, dC[0], mask);
    }
  }
  /// Places of dB and dC that hold sums.
  SSM_DEVICE static int held(int lanes) { return 2 * lanes < warp ? 1 : lanes < warp ? 2 : 4; }
  /// The order of the lane's states: its channel's lowest bit flips halves, the next one
  /// neighbours.
  SSM_DEVICE static int flip_of(int lane_of_warp, int lanes) {
    const int channel = lane_of_warp / lanes;
    return (lanes < warp && (channel & 1) != 0 ? 2 : 0) |
           (2 * lanes < warp && (channel & 2) != 0 ? 1 : 0);
  }
};

/// The gradients of one piece, walked from its end tile by tile: the states of a tile are computed
/// again from the saved one that enters it, decays and decayed states stay in registers, and the
/// adjoint g runs back over them.
///
/// As nvcc 13 compiles it for sm_90, an exponential takes 31 instructions where the adjoint runs
/// (14 that the formula has, 7 for the sums over the channels of a warp, 3 for those over states)
/// and 8 more where tiles come and go. At batch 8, 1536 channels, length 2048 and 16 states that is
/// 0.54 ms of issue slots of an H100; memory takes 0.16 ms beside it.
template <class T, class E, bool General, int Lanes>
struct SelectiveBackward {
  using R = Real<E>;
  static constexpr int most_threads = 256;
  static constexpr int tile_steps = saved_steps<E>;
  static constexpr R output_scale = is_complex<E> ? 2 : 1;
  static constexpr int flips = lane_states;
  using StepGradients = Pack<R, 4>;  ///< Δ, u, ∂loss/∂(C·x)

  SelectiveArguments<T, E> in;
  SelectiveShape shape;
  SelectiveGradients<T, E> gradients;
  SelectivePartials<E> partials;
  const E* exits;  ///< (rows, pieces, channels, state), null where rows are whole
  const E* saved;  ///< as forward wrote it

  static Index shared_bytes(const SelectiveShape& s) {
    return 7 * shared_size<R>(tile_steps * s.block_channels) + shared_size<R>(s.threads()) +
           2 * shared_size<E>(tile_steps * flips * s.slice()) +
           shared_size<E>(s.threads() / warp * 2 * tile_steps * s.slice());
  }

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<Lanes> at(shape, block);
    const int width = at.width(), slice = at.slice();
    const Shared<StepGradients> steps = block.shared<StepGradients>(tile_steps * width);
    const Shared<R> du = block.shared<R>(tile_steps * width);
    const Shared<R> ddelta = block.shared<R>(tile_steps * width);
    const Shared<R> y = block.shared<R>(tile_steps * width);
    const Shared<R> scratch = block.shared<R>(at.threads());
    const Shared<E> B = block.shared<E>(tile_steps * flips * slice);
    const Shared<E> C = block.shared<E>(tile_steps * flips * slice);
    const Shared<E> sums = block.shared<E>(at.threads() / warp * 2 * tile_steps * slice);

    const int flip = CoefficientSums<E>::flip_of(block.thread() % warp, at.lanes());
    const LaneModes<E> modes(load_states(in.A, at, flip));
    const LaneStates<E> B_constant = load_states(in.B_constant, at, flip);
    const LaneStates<E> C_constant = load_states(in.C_constant, at, flip);
    const Sequences& sequences = shape.sequences;
    const Index begin = at.begin(), end = at.end();
    const bool last = at.piece + 1 == shape.cuts.count;
    LaneStates<E> dA = no_states<E>(), dB_sum = no_states<E>(), dC_sum = no_states<E>();
    R dD = 0, dbias = 0;

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
    for (Index tile = tiles; tile-- > 0;) {
      const Index first = begin + tile * tile_steps;
      const int count = end - first < tile_steps ? static_cast<int>(end - first) : tile_steps;
      block.sync();  // the tile before has been written out
      stage_gradients(block, at, in, gradients, steps, first, count, tile_steps,
                      [](R d, R v, R dy_now) {
                        return StepGradients{d, v, dy_now};
                      });
      stage_coefficients<flips>(block, at, B, first, count, tile_steps, in.B);
      stage_coefficients<flips>(block, at, C, first, count, tile_steps, in.C);
      block.sync();

      // Runs of steps of one sequence, the last first. Where each row is one sequence, a tile is
      // one run, and steps beyond its end are zero and change nothing.
      for (int stop = count; stop > 0;) {
        const Index start = sequences.start(sequence) - first;
        const int from = start > 0 ? static_cast<int>(start) : 0;
        LaneStates<E> x;
        if (sequence > 0 && start >= 0) {
          x = load_states(in.initial_state, sequences.number(at.row, sequence), at, flip);
        } else {
          const Index all_tiles = (shape.length + tile_steps - 1) / tile_steps;
          x = load_states(saved + at.states_at(at.row * all_tiles + first / tile_steps), 1,
                          at.states, flip);
        }
        LaneStates<E> decay[tile_steps], decayed[tile_steps];
        SSM_UNROLL
        for (int t = 0; t < tile_steps; ++t) {
          if (Lanes == 0 && (t < from || t >= stop)) continue;
          const int e = t * width + at.local;
          const StepGradients step = steps[e];
          const R d = step[0], v = step[1];
          const LaneStates<E> b = coefficient(in.B_constant, B_constant, B, t, at, flip);
          SSM_UNROLL
          for (int p = 0; p < lane_states; ++p) {
            decay[t][p] = modes.decay(p, d);
            decayed[t][p] = decay[t][p] * x[p];
            x[p] = decayed[t][p] + (modes.template hold<General>(in, p, d) * v) * b[p];
          }
          if (gradients.z.present) {
            const LaneStates<E> c = coefficient(in.C_constant, C_constant, C, t, at, flip);
            R sum = 0;
            SSM_UNROLL
            for (int p = 0; p < lane_states; ++p) sum += real(c[p] * x[p]);
            sum = sum_lanes(block, sum, at.lanes());
            if (at.lane == 0) y[e] = output_scale * sum;
          }
        }
        SSM_UNROLL
        for (int t = tile_steps - 1; t >= 0; --t) {
          if (Lanes == 0 && (t < from || t >= stop)) continue;
          const int e = t * width + at.local;
          R du_sum = 0, ddelta_sum = 0, input_sum = 0;
          CoefficientSums<E> coefficients;
          const StepGradients step = steps[e];
          const R d = step[0], v = step[1], dy = step[2];
          const LaneStates<E> b = coefficient(in.B_constant, B_constant, B, t, at, flip);
          const LaneStates<E> c = coefficient(in.C_constant, C_constant, C, t, at, flip);
          SSM_UNROLL
          for (int p = 0; p < lane_states; ++p) {
            const E b_bar = modes.template hold<General>(in, p, d);
            const E x_now = decayed[t][p] + (b_bar * v) * b[p];
            const E dx = g[p] + dy * conjugate(c[p]);
            const E by_exponent = dx * conjugate(decayed[t][p]);  // ∂loss/∂(ΔA), by the decay
            const E dB = dx * (conjugate(b_bar) * v), dC = dy * conjugate(x_now);
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
            coefficients.dB[p] = dB;
            coefficients.dC[p] = dC;
            g[p] = dx * conjugate(decay[t][p]);
          }
          if constexpr (!General) {
            du_sum = d * input_sum;
            ddelta_sum += v * input_sum;
          }
          du_sum = sum_lanes(block, du_sum, at.lanes());
          ddelta_sum = sum_lanes(block, ddelta_sum, at.lanes());
          if (at.lane == 0) {
            du[e] = du_sum;
            ddelta[e] = ddelta_sum;
          }
          if (partials.coefficients != nullptr) {
            coefficients.sum(block, at.lanes());
            put(block, at, coefficients, sums, t, flip);
          }
        }
        stop = from;
        leave_sequences(first + from);
      }

      block.sync();
      write_tile(block, at, first, count, steps, du, ddelta, y, dD, dbias);
      if (partials.coefficients != nullptr) write_coefficients(block, at, first, count, sums);
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
    write_channel_sums(block, at, scratch, dD, partials.D);
    write_channel_sums(block, at, scratch, dbias, partials.bias);
  }

 private:
  template <class Place>
  SSM_DEVICE LaneStates<E> coefficient(const Array<const E, 2>& constant,
                                       const LaneStates<E>& of_channel, const Shared<E>& tile,
                                       int t, const Place& at, int flip) const {
    if constexpr (General)
      if (constant.present) return of_channel;
    return tile.template load<lane_states>((t * flips + flip) * at.slice() + at.lane * lane_states);
  }

  /// Puts a warp's sums at step t where the block adds them up: (warps, {B, C}, steps, slice).
  template <class Place>
  SSM_DEVICE void put(Block& block, const Place& at, const CoefficientSums<E>& of_warp,
                      const Shared<E>& sums, int t, int flip) const {
    if (block.thread() % warp >= 4 * at.lanes()) return;  // others hold the same
    SSM_UNROLL
    for (int p = 0; p < lane_states; ++p) {
      if (p >= CoefficientSums<E>::held(at.lanes())) break;
      const int n = at.lane * lane_states + (p ^ flip);
      const int warp_number = block.thread() / warp;
      sums[((warp_number * 2) * tile_steps + t) * at.slice() + n] = of_warp.dB[p];
      sums[((warp_number * 2 + 1) * tile_steps + t) * at.slice() + n] = of_warp.dC[p];
    }
  }
  template <class Place>
  SSM_DEVICE void write_coefficients(Block& block, const Place& at, Index first, int count,
                                     const Shared<E>& sums) const {
    const int slice = at.slice();
    for (int e = block.thread(); e < 2 * count * slice; e += at.threads()) {
      const int which = e / (count * slice), t = e / slice % count;
      const Index n = at.slice_number * slice + e % slice;
      if (n >= shape.state) continue;
      E total(R(0));
      for (int w = 0; w < at.threads() / warp; ++w)
        total += sums[((w * 2 + which) * tile_steps + t) * slice + e % slice];
      partials.coefficients[(((at.panel * 2 + which) * shape.rows + at.row) * shape.length +
                             shape.sequences.step(first + t)) *
                                shape.state +
                            n] = total;
    }
  }
  template <class Place>
  SSM_DEVICE void write_tile(Block& block, const Place& at, Index first, int count,
                             const Shared<StepGradients>& steps, const Shared<R>& du,
                             const Shared<R>& ddelta, const Shared<R>& y, R& dD, R& dbias) const {
    const int c = at.tile_channel(block);
    int t = at.tile_step(block);
    if (c >= at.channels) return;
    if (partials.slices != nullptr) {
      const Index size = shape.rows * shape.length * shape.channels;
      for (; t < count; t += at.lanes()) {
        const int e = t * at.width() + c;
        R* to = partials.slices + at.slice_number * 3 * size +
                (at.row * shape.length + shape.sequences.step(first + t)) * shape.channels +
                at.first_channel + c;
        to[0] = du[e];
        to[size] = ddelta[e];
        to[2 * size] = gradients.z.present ? R(y[e]) : R(0);
      }
      return;
    }
    GradientColumns<T, E> columns(block, at, in, gradients, first + t);
    SSM_UNROLL_BY(4)
    for (; t < count; t += at.lanes(), columns.next()) {
      const int e = t * at.width() + c;
      const StepGradients step = steps[e];
      columns.write(step[1], du[e], ddelta[e], gradients.z.present ? R(y[e]) : R(0));
    }
    dD += columns.dD;
    dbias += columns.dbias;
  }
};

}  // namespace ssm::kernels
