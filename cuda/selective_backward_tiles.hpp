#pragma once

#include "selective_gradients.hpp"
#include "selective_tiles.hpp"

namespace ssm::kernels {

/// SelectiveBackward where tiles move in packs: 16 float states of a whole panel, each row one
/// sequence. The states of a tile are computed again and stay in registers; their decays are not
/// kept but computed a second time, so that three blocks share a multiprocessor.
///
/// What the lanes of a channel add to its sums, and what pairs of channels add to those of B and C,
/// lies in shared memory until the tile is written. A lane of every other channel holds its states
/// in halves the other way round: halving the sums over two channels then takes no selection.
template <class T>
struct SelectiveBackwardTiles {
  using R = float;
  static constexpr int most_threads = 384;  // 168 registers a thread
  static constexpr int threads = 128;
  static constexpr int tile_steps = saved_steps<R>;
  static constexpr int thread_steps = tile_steps * PairPlace::pairs / threads;
  static constexpr int states = 16;
  static constexpr int order_size = tile_steps * states + states;  ///< in other banks than the next
  static constexpr int pair_groups = full_width / 2, state_pairs = 8;
  using Slopes = Pack<R, 4>;        ///< of Δ by delta and of the loss by z, at two steps
  using StateShares = Pack<R, 2>;   ///< Σ dx B, and Σ g x A / ln 2 of the step before
  using Coefficients = Pack<R, 4>;  ///< two states of the gradients of B, and of C

  SelectiveArguments<T, R> in;
  SelectiveShape shape;
  SelectiveGradients<T, R> gradients;
  SelectivePartials<R> partials;
  const R* exits;
  const R* saved;

  static constexpr Index shared_bytes() {
    return shared_size<TwoSteps<R>>(tile_steps / 2 * full_width) +
           shared_size<Pack<R, 2>>(tile_steps / 2 * full_width) +
           shared_size<Slopes>(tile_steps / 2 * full_width) + shared_size<R>(tile_steps * threads) +
           shared_size<StateShares>(tile_steps * threads) + 2 * shared_size<R>(2 * order_size) +
           shared_size<Coefficients>(tile_steps * pair_groups * state_pairs);
  }

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<4> at(shape, block);
    Tile tile(block);
    const PairPlace pair(block, at, thread_steps);
    const int order = at.seat / 2 % 2, flip = 2 * order;
    const LaneModes<R> modes(load_states(in.A, at, flip));
    const Index begin = at.begin(), end = at.end();
    const bool last = at.piece + 1 == shape.cuts.count;
    LaneStates<R> dA = no_states<R>();
    LaneStates<R> g = last ? load_states(gradients.final_state, at.row, at, flip)
                           : load_states(exits + at.piece_states(), 1, at.states, flip);

    const Index tiles = (end - begin + tile_steps - 1) / tile_steps;
    const Index first = begin + (tiles > 0 ? tiles - 1 : 0) * tile_steps;
    Feed feed(block, at, *this, pair, first, flip);
    Results results(at, *this, pair, first, block.thread());
    int count = static_cast<int>(end - first);
    if (tiles > 0) feed.load(count);
    for (Index left = tiles; left > 0; --left, count = tile_steps) {
      const Steps<T> u_now = feed.u;
      stage(tile, pair, feed, results, count);
      feed.stage_coefficients(block, tile);
      LaneStates<R> x{feed.state[0][0], feed.state[0][1], feed.state[1][0], feed.state[1][1]};
      block.sync();
      if (left > 1) feed.load(tile_steps);
      walk_tile(block, at, tile, modes, order, x, g, dA);
      block.sync();
      write(tile, pair, u_now, results, count);
      write_coefficients(block, tile, results, count);
      results.move();
    }
    if (at.piece == 0) store_states(gradients.initial_state, at.row, at, g, flip);
    if (partials.A != nullptr) store_states(partials.A + at.piece_states(), 1, at.states, dA, flip);
    sum_channels(block, at, tile.y, results.dD, partials.D);
    sum_channels(block, at, tile.y, results.dbias, partials.bias);
  }

 private:
  template <class U>
  using Steps = PairSteps<U, thread_steps>;

  struct Tile {
    Shared<TwoSteps<R>> inputs;
    Shared<Pack<R, 2>> dy;  ///< behind the gate, at two steps
    Shared<Slopes> slopes;
    Shared<R> y;
    Shared<StateShares> shares;
    Shared<R> B, C;
    Shared<Coefficients> sums;

    SSM_DEVICE explicit Tile(Block& block)
        : inputs(block.shared<TwoSteps<R>>(tile_steps / 2 * full_width)),
          dy(block.shared<Pack<R, 2>>(tile_steps / 2 * full_width)),
          slopes(block.shared<Slopes>(tile_steps / 2 * full_width)),
          y(block.shared<R>(tile_steps * threads)),
          shares(block.shared<StateShares>(tile_steps * threads)),
          B(block.shared<R>(2 * order_size)),
          C(block.shared<R>(2 * order_size)),
          sums(block.shared<Coefficients>(tile_steps * pair_groups * state_pairs)) {}
  };

  SSM_DEVICE static int place_of_shares(int t, int lane, int seat) {
    return ((t * 2 + lane / 2) * full_width + (seat ^ (lane / 2 * 4))) * 2 + lane % 2;
  }
  SSM_DEVICE static int place_of_sums(int t, int group, int state_pair) {
    return (t * pair_groups + group) * state_pairs + (state_pair ^ (group & 1));
  }

  /// What a thread reads of a tile, one tile ahead: a pair's inputs, four states of a step of B or
  /// of C, and the states that enter.
  struct Feed {
    Column<const T> delta_at, u_at, z_at, dy_at, coefficients_at;
    const R* state_at;
    int flip, coefficient_step, begin;
    Index state_step;
    Steps<T> delta, u, z, dy;
    Words<T, 4> coefficients;
    Words<R, 2> state[2];

    SSM_DEVICE Feed(const Block& block, const SelectivePlace<4>& at,
                    const SelectiveBackwardTiles& kernel, const PairPlace& pair, Index first,
                    int order_flip)
        : delta_at(pair.column(kernel.in.delta, first)),
          u_at(pair.column(kernel.in.u, first)),
          z_at(pair.column(kernel.in.z.present ? kernel.in.z : kernel.in.u, first)),
          dy_at(pair.column(kernel.gradients.y, first)),
          coefficients_at(coefficients_of(block, at, kernel, first)),
          flip(order_flip),
          coefficient_step(block.thread() % (threads / 2) / 4),
          begin(pair.first_step),
          state_step(kernel.shape.channels * kernel.shape.state) {
      const Index all_tiles = (kernel.shape.length + tile_steps - 1) / tile_steps;
      state_at = kernel.saved + at.states_at(at.row * all_tiles + first / tile_steps);
    }
    SSM_DEVICE static Column<const T> coefficients_of(const Block& block,
                                                      const SelectivePlace<4>& at,
                                                      const SelectiveBackwardTiles& kernel,
                                                      Index first) {
      const int quad = block.thread() % (threads / 2);
      return block.thread() < threads / 2 ? quad_of_states(at, kernel.in.B, first, quad)
                                          : quad_of_states(at, kernel.in.C, first, quad);
    }
    SSM_DEVICE void load(int count) {
      delta = load_pairs<thread_steps>(delta_at, count - begin);
      u = load_pairs<thread_steps>(u_at, count - begin);
      z = load_pairs<thread_steps>(z_at, count - begin);
      dy = load_pairs<thread_steps>(dy_at, count - begin);
      coefficients = coefficient_step < count ? load_words<4>(coefficients_at.at) : Words<T, 4>{};
      state[0] = load_words<2>(state_at + flip), state[1] = load_words<2>(state_at + (flip ^ 2));
      delta_at.move_tile(-tile_steps), u_at.move_tile(-tile_steps);
      z_at.move_tile(-tile_steps), dy_at.move_tile(-tile_steps);
      coefficients_at.move_tile(-tile_steps);
      state_at -= state_step;
    }
    /// (orders, steps, states), of B by the first half of the threads and of C by the other.
    SSM_DEVICE void stage_coefficients(const Block& block, const Tile& tile) const {
      const Shared<R> to = block.thread() < threads / 2 ? tile.B : tile.C;
      Pack<R, 4> wide;
      SSM_UNROLL
      for (int n = 0; n < 4; ++n) wide[n] = widen(coefficients[n]);
      const int quad = block.thread() % (threads / 2);
      to.template store<4>(4 * quad, wide);
      to.template store<4>(order_size + 4 * quad, Pack<R, 4>{wide[2], wide[3], wide[0], wide[1]});
    }
  };

  /// Where a thread writes what it sums, and what it adds up for its channels.
  struct Results {
    Column<T> du, ddelta, dz;
    Column<R> coefficients;
    R bias[2], D[2], dD[2] = {0, 0}, dbias[2] = {0, 0};

    SSM_DEVICE Results(const SelectivePlace<4>& at, const SelectiveBackwardTiles& kernel,
                       const PairPlace& pair, Index first, int thread)
        : du(column(pair, kernel.gradients.u, first)),
          ddelta(column(pair, kernel.gradients.delta, first)),
          dz(column(pair, kernel.gradients.z, first)),
          coefficients{nullptr, 0} {
      SSM_UNROLL
      for (int i = 0; i < 2; ++i) {
        bias[i] = kernel.in.bias_of(pair.channel + i);
        D[i] = kernel.in.D_of(pair.channel + i);
      }
      const SelectiveShape& s = kernel.shape;
      if (kernel.partials.coefficients != nullptr)
        coefficients = {
            kernel.partials.coefficients +
                ((2 * at.panel * s.rows + at.row) * s.length + first + thread / state_pairs) *
                    s.state +
                thread % state_pairs * 2,
            s.state};
    }
    SSM_DEVICE static Column<T> column(const PairPlace& pair, const Array<T, 3>& array,
                                       Index first) {
      return array.present ? pair.column(array, first) : Column<T>{nullptr, 0};
    }
    SSM_DEVICE void move() {
      du.move_tile(-tile_steps), ddelta.move_tile(-tile_steps), dz.move_tile(-tile_steps);
      coefficients.move_tile(-tile_steps);
    }
  };

  /// Steps beyond `count` get a Δ, an input and a gradient of zero, which change nothing.
  SSM_DEVICE void stage(const Tile& tile, const PairPlace& pair, const Feed& feed,
                        const Results& results, int count) const {
    SSM_UNROLL
    for (int i = 0; i < 2; ++i) {
      TwoSteps<R> two;
      Pack<R, 2> dy;
      Slopes slopes;
      SSM_UNROLL
      for (int k = 0; k < 2; ++k) {
        const R raw = R(widen(feed.delta[k][i])) + results.bias[i];
        R d = raw;
        slopes[2 * k] = 1, slopes[2 * k + 1] = 0;
        dy[k] = widen(feed.dy[k][i]);
        if (in.softplus) {
          const Softplus<R, T> positive(raw);
          d = positive.value;
          slopes[2 * k] = positive.slope;
        }
        if (in.z.present) {
          const Silu<R> gate(widen(feed.z[k][i]));
          slopes[2 * k + 1] = dy[k] * gate.slope;
          dy[k] *= gate.value;
        }
        two[2 * k] = pair.first_step + k < count ? d : R(0);
        two[2 * k + 1] = two[2 * k] * R(widen(feed.u[k][i]));
      }
      const int place = place_of_two(pair.first_step, pair.seat(i));
      tile.inputs[place] = two;
      tile.dy[place] = dy;
      tile.slopes[place] = slopes;
    }
  }

  SSM_DEVICE void walk_tile(Block& block, const SelectivePlace<4>& at, const Tile& tile,
                            const LaneModes<R>& modes, int order, LaneStates<R>& x,
                            LaneStates<R>& g, LaneStates<R>& dA) const {
    const int of_lane = order * order_size + at.lane * lane_states;
    LaneStates<R> before[tile_steps];
    SSM_UNROLL
    for (int t = 0; t < tile_steps; t += 2) {
      const TwoSteps<R> two = tile.inputs[place_of_two(t, at.seat)];
      SSM_UNROLL
      for (int k = 0; k < 2; ++k) {
        const LaneStates<R> b = tile.B.template load<lane_states>((t + k) * states + of_lane);
        before[t + k] = x;
        SSM_UNROLL
        for (int p = 0; p < lane_states; ++p)
          x[p] = modes.decay(p, two[2 * k]) * x[p] + two[2 * k + 1] * b[p];
      }
    }
    const int group = at.seat / 4 * 2 + at.seat % 2, state_pair = at.lane * 2 + order;
    SSM_UNROLL
    for (int t = tile_steps - 2; t >= 0; t -= 2) {
      const TwoSteps<R> two = tile.inputs[place_of_two(t, at.seat)];
      const Pack<R, 2> dys = tile.dy[place_of_two(t, at.seat)];
      SSM_UNROLL
      for (int k = 1; k >= 0; --k) {
        const int n = (t + k) * states + of_lane;
        const LaneStates<R> b = tile.B.template load<lane_states>(n);
        const LaneStates<R> c = tile.C.template load<lane_states>(n);
        const R d = two[2 * k], input = two[2 * k + 1], dy = dys[k];
        R y = 0, of_input = 0, of_exponent = 0;
        LaneStates<R> dB, dC;
        SSM_UNROLL
        for (int p = 0; p < lane_states; ++p) {
          const R dx = g[p] + dy * c[p];
          dB[p] = dx * input;
          dC[p] = dy * x[p];
          y += c[p] * x[p];
          of_input += dx * b[p];
          g[p] = dx * modes.decay(p, d);
          x[p] = before[t + k][p];
          const R by_exponent = g[p] * x[p];  // ∂loss/∂(ΔA), by the decay
          of_exponent += by_exponent * modes.exponent[p];
          dA[p] += by_exponent * d;
        }
        tile.y[((t + k) * full_width + at.seat) * 4 + at.lane] = y;
        tile.shares[place_of_shares(t + k, at.lane, at.seat)] = StateShares{of_input, of_exponent};
        SSM_UNROLL
        for (int p = 0; p < 2; ++p) {
          dB[p] += block.shuffle_xor(dB[p + 2], at.seat_mask(1));
          dC[p] += block.shuffle_xor(dC[p + 2], at.seat_mask(1));
        }
        tile.sums[place_of_sums(t + k, group, state_pair)] =
            Coefficients{dB[0], dB[1], dC[0], dC[1]};
      }
    }
  }

  SSM_DEVICE void write(const Tile& tile, const PairPlace& pair, const Steps<T>& u_now,
                        Results& results, int count) const {
    SSM_UNROLL
    for (int k = 0; k < 2; ++k) {
      const int t = pair.first_step + k;
      if (t >= count) break;
      Pack<R, 2> du, ddelta, dz;
      SSM_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int seat = pair.seat(i), place = place_of_two(pair.first_step, seat);
        const TwoSteps<R> two = tile.inputs[place];
        const Slopes slopes = tile.slopes[place];
        const Pack<R, 2> dys = tile.dy[place];
        const R dy = dys[k], u = widen(u_now[k][i]);
        const Pack<R, 4> y = tile.y.template load<4>((t * full_width + seat) * 4);
        const Pack<R, 4> early = load_shares(tile, t, 0, seat),
                         late = load_shares(tile, t, 2, seat);
        const R of_input = early[0] + early[2] + (late[0] + late[2]);
        const R of_exponent = early[1] + early[3] + (late[1] + late[3]);
        du[i] = two[2 * k] * of_input + results.D[i] * dy;
        ddelta[i] = (of_exponent * ln_2<R> + u * of_input) * slopes[2 * k];
        dz[i] = slopes[2 * k + 1] * (y[0] + y[1] + (y[2] + y[3]) + results.D[i] * u);
        results.dD[i] += dy * u;
        results.dbias[i] += ddelta[i];
      }
      const auto put = [&](const Column<T>& to, const Pack<R, 2>& value) {
        if (to.at != nullptr) store_pack(to.at + k * to.step, narrow_pair<T>(value[0], value[1]));
      };
      put(results.du, du), put(results.ddelta, ddelta), put(results.dz, dz);
    }
  }
  SSM_DEVICE static Pack<R, 4> load_shares(const Tile& tile, int t, int lane, int seat) {
    return tile.shares.template as<Pack<R, 4>>()[place_of_shares(t, lane, seat) / 2];
  }

  /// Adds up what the pairs of channels have: a thread two states of a step.
  SSM_DEVICE void write_coefficients(const Block& block, const Tile& tile, const Results& results,
                                     int count) const {
    const int t = block.thread() / state_pairs, state_pair = block.thread() % state_pairs;
    if (results.coefficients.at == nullptr || t >= count) return;
    Coefficients sum = tile.sums[place_of_sums(t, 0, state_pair)];
    SSM_UNROLL
    for (int group = 1; group < pair_groups; ++group) {
      const Coefficients next = tile.sums[place_of_sums(t, group, state_pair)];
      SSM_UNROLL
      for (int n = 0; n < 4; ++n) sum[n] += next[n];
    }
    const Index of_C = shape.rows * shape.length * shape.state;
    store_pack(results.coefficients.at, Pack<R, 2>{sum[0], sum[1]});
    store_pack(results.coefficients.at + of_C, Pack<R, 2>{sum[2], sum[3]});
  }

  /// Sums what the threads of a pair have for its channels, into (rows, pieces, channels).
  SSM_DEVICE void sum_channels(Block& block, const SelectivePlace<4>& at, const Shared<R>& scratch,
                               const R (&sums)[2], R* to) const {
    if (to == nullptr) return;
    block.sync();
    scratch[2 * block.thread()] = sums[0], scratch[2 * block.thread() + 1] = sums[1];
    block.sync();
    if (block.thread() >= full_width) return;
    R total = 0;
    for (int e = block.thread(); e < 2 * threads; e += full_width) total += scratch[e];
    to[(at.row * shape.cuts.count + at.piece) * shape.channels + at.first_channel +
       block.thread()] = total;
  }
};

/// Whether SelectiveBackwardTiles may run, beside has_packs.
template <class T, class E>
bool have_packs(const SelectiveGradients<T, E>& gradients, const SelectiveArguments<T, E>& in,
                const SelectiveShape& shape) {
  return shape.group_channels % full_width == 0 && has_pairs(in.z) && has_pairs(gradients.y) &&
         has_pairs(gradients.u) && has_pairs(gradients.delta) && has_pairs(gradients.z);
}

}  // namespace ssm::kernels
