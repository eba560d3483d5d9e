#pragma once

#include "modes.hpp"
#include "selective_shape.hpp"
#include "ssm/scan/diagonal_scan_types.hpp"

namespace ssm::kernels {

/// What a diagonal scan reads, as kernels do.
template <class T, class E>
struct DiagonalArguments {
  SelectiveShape shape;
  Discretization method;
  Array<const T, 3> u;
  Array<const E, 2> lambda, B, C;
  Array<const T, 1> D, delta;
  Array<const E, 3> initial_state;

  SSM_DEVICE Mode<Wide<E>> mode(Index channel, Index n) const {
    return discretized(method, widened(lambda(channel, n)), static_cast<double>(delta(channel)));
  }
  /// ā to the power of the steps of a piece.
  SSM_DEVICE E decay(Index channel, Index n) const {
    return narrowed<E>(power(mode(channel, n).a, shape.cuts.length));
  }
};

/// The modes of a lane, sampled: x_t = a x_{t−1} + b u_t, y = output_scale Re c·x.
template <class E>
struct LaneSystem {
  LaneStates<E> a = no_states<E>(), b = a, c;

  template <class T, class Place>
  SSM_DEVICE LaneSystem(const DiagonalArguments<T, E>& in, const Place& at)
      : c(load_states(in.C, at)) {
    const LaneStates<E> B = load_states(in.B, at);
    SSM_UNROLL
    for (int p = 0; p < lane_states; ++p) {
      if (p >= at.states) break;
      const auto mode = in.mode(at.channel, at.first_state + p);
      a[p] = narrowed<E>(mode.a);
      b[p] = narrowed<E>(mode.b * widened(B[p]));
    }
  }
};

/// The scan of a piece from the state that enters it. It writes y where that is there, and the
/// state before every so many steps where `saved` is; or, where `ends` is given, only the end of
/// the piece from zero.
template <class T, class E>
struct DiagonalForward {
  static constexpr int most_threads = 256;

  DiagonalArguments<T, E> in;
  Array<T, 3> y;
  Array<E, 3> final_state;
  E* ends;           ///< (rows, pieces, channels, state)
  const E* entries;  ///< the same, null where rows are whole
  E* saved;          ///< (rows, ⌈length / saved_steps⌉, channels, state), null: not wanted
  T* partial_y;      ///< (slices, rows, length, channels), null for a single slice

  SSM_DEVICE void operator()(Block& block) const {
    const SelectiveShape& shape = in.shape;
    const SelectivePlace<0> at(shape, block);
    const RowSequences& sequences = shape.sequences;
    const bool inside = at.local < at.channels;
    const LaneSystem<E> system(in, at);
    const Index begin = at.begin(), end = at.end();
    Index sequence = sequences.before(begin);
    const auto initial = [&] {
      return load_states(in.initial_state, sequences.number(at.row, sequence), at);
    };
    LaneStates<E> x = entries != nullptr ? load_states(entries + at.piece_states(), 1, at.states)
                      : ends != nullptr  ? no_states<E>()
                                         : initial();
    const auto finish_sequence = [&] {
      if (ends == nullptr) store_states(final_state, sequences.number(at.row, sequence), at, x);
    };
    const auto start_sequences = [&](Index position) {
      while (sequence + 1 < sequences.count && sequences.start(sequence + 1) <= position) {
        finish_sequence();
        ++sequence;
        x = initial();
      }
    };
    const T D_now = in.D.present && inside ? in.D(at.channel) : T(0);
    const bool reads_out = y.present;
    for (Index first = begin; first < end;) {
      start_sequences(first);
      Index stop = end;
      if (sequence + 1 < sequences.count && sequences.start(sequence + 1) < stop)
        stop = sequences.start(sequence + 1);
      if (saved != nullptr) {
        if (first % saved_steps<E> == 0)
          store_states(saved + saved_place(shape, at, first), 1, at.states, x);
        const Index next = first - first % saved_steps<E> + saved_steps<E>;
        stop = next < stop ? next : stop;
      }
      walk_ahead<8>(
          stop - first,
          [&](Index i) { return inside ? T(in.u(at.row, first + i, at.channel)) : T(0); },
          [&](Index i, T u_now) {
            const Index t = first + i;
            T sum = 0;
            SSM_UNROLL
            for (int p = 0; p < lane_states; ++p) {
              x[p] = system.a[p] * x[p] + system.b[p] * u_now;
              sum += real(system.c[p] * x[p]);
            }
            if (!reads_out) return;
            sum = output_scale<E> * sum_lanes(block, sum, at.lanes());
            if (at.lane != 0 || !inside) return;
            if (partial_y != nullptr)
              partial_y[((at.slice_number * shape.rows + at.row) * shape.length + t) *
                            shape.channels +
                        at.channel] = sum;
            else
              y(at.row, t, at.channel) = sum + D_now * u_now;
          });
      first = stop;
    }
    if (ends != nullptr) {
      store_states(ends + at.piece_states(), 1, at.states, x);
    } else if (at.piece + 1 == shape.cuts.count) {
      start_sequences(shape.length);
      finish_sequence();
    }
  }

  /// Of a lane's states among those saved before step `first`.
  template <class Place>
  SSM_DEVICE static Index saved_place(const SelectiveShape& shape, const Place& at, Index first) {
    const Index tiles = (shape.length + saved_steps<E> - 1) / saved_steps<E>;
    return at.states_at(at.row * tiles + first / saved_steps<E>);
  }
};

/// Turns the ends of pieces into the states that enter them: one thread a state of a row.
template <class T, class E>
struct DiagonalCarry {
  DiagonalArguments<T, E> in;
  E* states;

  SSM_DEVICE void operator()(Index i) const {
    const SelectiveShape& shape = in.shape;
    const Index n = i % shape.state, c = i / shape.state % shape.channels;
    const Index row = i / shape.state / shape.channels;
    const E decay = in.decay(c, n);
    E x = in.initial_state.present ? in.initial_state(shape.sequences.number(row, 0), c, n)
                                   : E(Real<E>(0));
    const auto at = [&](Index piece) {
      return ((row * shape.cuts.count + piece) * shape.channels + c) * shape.state + n;
    };
    walk_ahead<8>(
        shape.cuts.count, [&](Index piece) { return states[at(piece)]; },
        [&](Index piece, const E& end) {
          states[at(piece)] = x;
          const bool goes_on = !shape.sequences.starts_in(shape.cuts.begin(piece),
                                                          shape.cuts.end(piece, shape.length));
          x = goes_on ? end + decay * x : end;
        });
  }
};

/// Joins the slices' shares of C·x, or of the gradient of u: one thread an element.
template <class T>
struct DiagonalJoinSlices {
  Array<const T, 3> u;  ///< or the gradient of y
  Array<const T, 1> D;
  Array<T, 3> y;  ///< or the gradient of u
  const T* partial_y;
  Index slices, rows, length, channels;

  SSM_DEVICE void operator()(Index i) const {
    const Index row = i / channels / length, step = i / channels % length, c = i % channels;
    T sum = D.present ? D(c) * u(row, step, c) : T(0);
    for (Index s = 0; s < slices; ++s) sum += partial_y[s * rows * length * channels + i];
    y(row, step, c) = sum;
  }
};

}  // namespace ssm::kernels
