#pragma once

#include <cstdint>

#include "diagonal_forward.hpp"

namespace ssm::kernels {

/// The slopes of a sampled mode, by λ and by Δ.
template <class W>
struct ModeSlopes {
  W a_by_lambda, a_by_delta, b_by_lambda, b_by_delta;
};

/// The derivatives of `discretized`; see ssm/discretize/mode_slopes.hpp.
template <class W>
SSM_DEVICE ModeSlopes<W> mode_slopes(Discretization method, W lambda, double delta) {
  const W one(1.0), z = lambda * delta;
  const auto slopes = [&](W f_slope, W h_slope, W b_by_delta) {
    return ModeSlopes<W>{f_slope * delta, lambda * f_slope, h_slope * (delta * delta), b_by_delta};
  };
  switch (method) {
    case Discretization::zero_order_hold: {
      const W growth = exp_of(z);
      return slopes(growth, phi1_derivative(z), growth);
    }
    case Discretization::bilinear: {
      const W inverse = quotient(one, one - z * 0.5), square = inverse * inverse;
      return slopes(square, square * 0.5, square);
    }
    case Discretization::forward_euler:
      return slopes(one, W(0.0), one);
    default: {  // backward Euler
      const W inverse = quotient(one, one - z), square = inverse * inverse;
      return slopes(square, square, square);
    }
  }
}

/// What gradients by the sampled modes are made of, of each piece: (rows, pieces, channels, state)
/// and (rows, pieces, channels); null where not wanted.
template <class T, class E>
struct DiagonalPartials {
  E *a, *b;  ///< of ā, and of B̄
  E* C;
  T* D;
};

/// The adjoint of the state, g_t = output_scale C* ∂y_t + ā* g_{t+1}, from the end of a piece to
/// its start, where the sequence that goes on beyond the piece gives nothing: ā* g of its first
/// step, for the piece before. One sequence after the other, the last one first.
template <class T, class E>
struct DiagonalAdjoint {
  static constexpr int most_threads = 256;

  DiagonalArguments<T, E> in;
  Array<const T, 3> dy;
  Array<const E, 3> dfinal;
  E* starts;  ///< (rows, pieces, channels, state)

  SSM_DEVICE void operator()(Block& block) const {
    const SelectiveShape& shape = in.shape;
    const SelectivePlace<0> at(shape, block);
    const RowSequences& sequences = shape.sequences;
    const bool inside = at.local < at.channels;
    const LaneSystem<E> system(in, at);
    const Index begin = at.begin();
    Index position = at.end(), sequence = sequences.before(position);
    LaneStates<E> g = no_states<E>();
    const auto leave = [&] { g = load_states(dfinal, sequences.number(at.row, sequence), at); };
    if (sequences.ends_at(sequence, position)) leave();
    while (position > begin) {
      const Index start = sequences.start(sequence), stop = start > begin ? start : begin;
      walk_ahead<8>(
          position - stop,
          [&](Index i) { return inside ? T(dy(at.row, position - 1 - i, at.channel)) : T(0); },
          [&](Index, T dy_now) {
            SSM_UNROLL
            for (int p = 0; p < lane_states; ++p)
              g[p] = conjugate(system.a[p]) *
                     (g[p] + conjugate(system.c[p]) * (output_scale<E> * dy_now));
          });
      position = stop;
      if (position == begin) break;
      sequence = sequences.before(position);
      leave();
    }
    store_states(starts + at.piece_states(), 1, at.states, g);
  }
};

/// Turns what DiagonalAdjoint gives for each piece into the adjoint that enters it from behind: one
/// thread a state of a row.
template <class T, class E>
struct DiagonalCarryBack {
  DiagonalArguments<T, E> in;
  E* states;

  SSM_DEVICE void operator()(Index i) const {
    const SelectiveShape& shape = in.shape;
    const Index n = i % shape.state, c = i / shape.state % shape.channels;
    const Index row = i / shape.state / shape.channels, pieces = shape.cuts.count;
    const E decay = conjugate(in.decay(c, n));
    E g(Real<E>(0));
    const auto at = [&](Index piece) {
      return ((row * pieces + piece) * shape.channels + c) * shape.state + n;
    };
    walk_ahead<8>(
        pieces, [&](Index i_back) { return states[at(pieces - 1 - i_back)]; },
        [&](Index i_back, const E& start) {
          const Index piece = pieces - 1 - i_back;
          states[at(piece)] = g;
          const Index end = shape.cuts.end(piece, shape.length);
          const bool goes_on = end < shape.length &&
                               !shape.sequences.starts_in(shape.cuts.begin(piece) + 1, end + 1);
          g = goes_on ? start + decay * g : start;
        });
  }
};

/// The gradients of a piece: states again from those that were saved, a few steps at a time in
/// registers, the adjoint from the end, and sums over time of what the modes gain.
template <class T, class E>
struct DiagonalBackward {
  static constexpr int most_threads = 256, steps = saved_steps<E>;

  DiagonalArguments<T, E> in;
  Array<const T, 3> dy;
  Array<const E, 3> dfinal;
  Array<T, 3> du;
  Array<E, 3> dinitial;
  const E* exits;  ///< (rows, pieces, channels, state): the adjoint from behind; null: rows whole
  const E* saved;  ///< as DiagonalForward wrote it; null: no gradient needs the states
  DiagonalPartials<T, E> partials;
  T* partial_u;  ///< (slices, rows, length, channels), null for a single slice

  SSM_DEVICE void operator()(Block& block) const {
    const SelectiveShape& shape = in.shape;
    const SelectivePlace<0> at(shape, block);
    const RowSequences& sequences = shape.sequences;
    const bool inside = at.local < at.channels;
    const LaneSystem<E> system(in, at);
    const Index begin = at.begin(), end = at.end();
    const T D_now = in.D.present && inside ? in.D(at.channel) : T(0);
    LaneStates<E> da = no_states<E>(), db = da, dC = da;
    T dD = 0;

    Index sequence = sequences.before(end);
    LaneStates<E> g =
        exits != nullptr ? load_states(exits + at.piece_states(), 1, at.states) : no_states<E>();
    // What is empty hands its gradient on.
    const auto hand_on = [&](Index k) {
      store_states(dinitial, sequences.number(at.row, k), at,
                   load_states(dfinal, sequences.number(at.row, k), at));
    };
    if (at.piece + 1 == shape.cuts.count)
      for (Index k = sequences.count; --k > sequence || (k == sequence && shape.length == 0);)
        hand_on(k);

    for (Index stop = end; stop > begin;) {
      const Index first = stop - 1 - (stop - 1) % steps;
      const int count = static_cast<int>(stop - first);
      // Bit i: a sequence starts at step first + i, or the row ends there.
      std::uint32_t starts = stop == shape.length ? 1u << count : 0u;
      for (Index k = sequences.before(stop + 1); k >= 0 && sequences.start(k) >= first; --k)
        if (sequences.start(k) <= stop)
          starts |= 1u << static_cast<int>(sequences.start(k) - first);
      T u_now[steps], dy_now[steps];
      SSM_UNROLL
      for (int i = 0; i < steps; ++i) {
        const bool there = inside && i < count;
        u_now[i] = there ? T(in.u(at.row, first + i, at.channel)) : T(0);
        dy_now[i] = there ? T(dy(at.row, first + i, at.channel)) : T(0);
      }
      LaneStates<E> before[steps];  // the state before each step
      LaneStates<E> x =
          saved != nullptr
              ? load_states(saved + DiagonalForward<T, E>::saved_place(shape, at, first), 1,
                            at.states)
              : no_states<E>();
      SSM_UNROLL
      for (int i = 0; i < steps; ++i) {
        if (i > 0 && i < count && (starts >> i & 1) != 0 && saved != nullptr)
          x = load_states(in.initial_state,
                          sequences.number(at.row, sequences.before(first + i + 1)), at);
        before[i] = x;
        SSM_UNROLL
        for (int p = 0; p < lane_states; ++p) x[p] = system.a[p] * x[p] + system.b[p] * u_now[i];
      }
      SSM_UNROLL
      for (int i = steps; i-- > 0;) {
        if (i >= count) continue;
        if ((starts >> (i + 1) & 1) != 0) {  // the last step of its sequence
          sequence = sequences.before(first + i + 1);
          g = load_states(dfinal, sequences.number(at.row, sequence), at);
        }
        T sum = 0;
        SSM_UNROLL
        for (int p = 0; p < lane_states; ++p) {
          const E now = system.a[p] * before[i][p] + system.b[p] * u_now[i];
          const T slope = output_scale<E> * dy_now[i];
          g[p] += conjugate(system.c[p]) * slope;
          dC[p] += conjugate(now) * slope;
          da[p] += g[p] * conjugate(before[i][p]);
          db[p] += g[p] * u_now[i];
          sum += real_product(g[p], system.b[p]);
          g[p] = conjugate(system.a[p]) * g[p];
        }
        dD += dy_now[i] * u_now[i];
        if (du.present) {
          sum = sum_lanes(block, sum, at.lanes());
          if (at.lane == 0 && inside) {
            if (partial_u != nullptr)
              partial_u[((at.slice_number * shape.rows + at.row) * shape.length + first + i) *
                            shape.channels +
                        at.channel] = sum;
            else
              du(at.row, first + i, at.channel) = sum + D_now * dy_now[i];
          }
        }
        if ((starts >> i & 1) != 0) {  // the first step of its sequence
          const Index k = sequences.before(first + i + 1);
          store_states(dinitial, sequences.number(at.row, k), at, g);
          for (Index empty = k; empty-- > 0 && sequences.start(empty) == first + i;) hand_on(empty);
        }
      }
      stop = first;
    }
    const auto keep = [&](E* to, const LaneStates<E>& sum) {
      if (to != nullptr) store_states(to + at.piece_states(), 1, at.states, sum);
    };
    keep(partials.a, da);
    keep(partials.b, db);
    keep(partials.C, dC);
    if (partials.D != nullptr && at.lane == 0 && inside && at.slice_number == 0)
      partials.D[(at.row * shape.cuts.count + at.piece) * shape.channels + at.channel] = dD;
  }
};

/// The gradients by λ, B and C, and a mode's share of that by Δ, from the sums of all pieces: one
/// thread a mode.
template <class T, class E>
struct DiagonalModeGradients {
  using W = Wide<E>;

  DiagonalArguments<T, E> in;
  DiagonalPartials<T, E> partials;
  Array<E, 2> dlambda, dB, dC;
  double* ddelta;  ///< (channels, state), null: not wanted
  Index pieces;    ///< of all rows

  SSM_DEVICE W total(const E* of, Index i) const {
    const Index each = in.shape.channels * in.shape.state;
    W sum(0.0);
    SSM_UNROLL_BY(8)
    for (Index piece = 0; piece < pieces; ++piece) sum += widened(of[piece * each + i]);
    return sum;
  }
  SSM_DEVICE void operator()(Index i) const {
    const Index n = i % in.shape.state, c = i / in.shape.state;
    if (dC.present) dC(c, n) = narrowed<E>(total(partials.C, i));
    if (partials.b == nullptr) return;
    const W db = total(partials.b, i);
    if (dB.present) dB(c, n) = narrowed<E>(conjugate(in.mode(c, n).b) * db);
    if (partials.a == nullptr) return;
    const W da = total(partials.a, i), dfactor = conjugate(widened(in.B(c, n))) * db;
    const auto slopes =
        mode_slopes(in.method, widened(in.lambda(c, n)), static_cast<double>(in.delta(c)));
    if (dlambda.present)
      dlambda(c, n) =
          narrowed<E>(conjugate(slopes.a_by_lambda) * da + conjugate(slopes.b_by_lambda) * dfactor);
    if (ddelta != nullptr)
      ddelta[i] = real_product(slopes.a_by_delta, da) + real_product(slopes.b_by_delta, dfactor);
  }
};

/// The gradients by Δ and D: one thread a channel.
template <class T>
struct DiagonalChannelGradients {
  Array<T, 1> ddelta, dD;
  const double* by_mode;  ///< (channels, state)
  const T* partial_D;     ///< (pieces, channels)
  Index channels, state, pieces;

  SSM_DEVICE void operator()(Index c) const {
    double sum = 0;
    for (Index n = 0; ddelta.present && n < state; ++n) sum += by_mode[c * state + n];
    if (ddelta.present) ddelta(c) = T(sum);
    double D = 0;
    for (Index p = 0; dD.present && p < pieces; ++p)
      D += static_cast<double>(partial_D[p * channels + c]);
    if (dD.present) dD(c) = T(D);
  }
};

}  // namespace ssm::kernels
