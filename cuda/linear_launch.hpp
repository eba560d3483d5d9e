#pragma once

#include "arrays.hpp"
#include "cuts.hpp"
#include "launch.hpp"
#include "math.hpp"
#include "row_sequences.hpp"
#include "scratch.hpp"
#include "ssm/cuda/linear_scan.hpp"
#include "ssm/scan/detail/linear_scan_checks.hpp"

namespace ssm {
namespace kernels {

/// One direction of a linear scan over rows that are cut in time: one thread a row, piece and
/// channel, neighbouring threads on neighbouring channels. Backward runs it on time turned round.
struct LinearShape {
  Index rows, channels;
  RowSequences sequences;
  Cuts cuts;

  SSM_HOST_DEVICE Index threads() const { return rows * cuts.count * channels; }
  /// Row, piece and channel of a thread.
  SSM_DEVICE void place(Index i, Index& row, Index& piece, Index& channel) const {
    channel = i % channels;
    piece = i / channels % cuts.count;
    row = i / channels / cuts.count;
  }
  SSM_DEVICE Index begin(Index piece) const { return cuts.begin(piece); }
  SSM_DEVICE Index end(Index piece) const { return cuts.end(piece, sequences.length); }
};

/// The end of a piece scanned from zero, and the product of its decays; from the last sequence that
/// starts in the piece on, if one does, from that sequence's initial state.
template <class E>
struct LinearPieceEnds {
  LinearShape shape;
  Array<const E, 3> a, b;
  Array<const E, 2> initial;
  E *ends, *decays;  ///< (rows, pieces, channels)

  SSM_DEVICE void operator()(Index i) const {
    Index row, piece, c;
    shape.place(i, row, piece, c);
    const RowSequences& sequences = shape.sequences;
    const Index begin = shape.begin(piece), end = shape.end(piece), k = sequences.before(end);
    const bool restarts = k > 0 && sequences.start(k) >= begin;
    E x(Real<E>(0)), decay(Real<E>(restarts ? 0 : 1));
    if (restarts && initial.present) x = initial(sequences.number(row, k), c);
    for (Index t = restarts ? sequences.start(k) : begin; t < end; ++t) {
      const E at = a(row, t, c);
      x = at * x + b(row, t, c);
      decay = at * decay;
    }
    ends[i] = x;
    decays[i] = decay;
  }
};

/// Turns the ends of pieces into the states that enter them: one thread a row and channel.
template <class E>
struct LinearCarry {
  LinearShape shape;
  Array<const E, 2> initial;
  E* states;
  const E* decays;

  SSM_DEVICE void operator()(Index i) const {
    const Index row = i / shape.channels, c = i % shape.channels;
    E x = initial.present ? initial(shape.sequences.number(row, 0), c) : E(Real<E>(0));
    for (Index piece = 0; piece < shape.cuts.count; ++piece) {
      const Index at = (row * shape.cuts.count + piece) * shape.channels + c;
      const E next = states[at] + decays[at] * x;
      states[at] = x;
      x = next;
    }
  }
};

template <class E>
struct LinearForward {
  LinearShape shape;
  Array<const E, 3> a, b;
  Array<const E, 2> initial;
  Array<E, 3> x;
  Array<E, 2> final_state;
  const E* entries;

  SSM_DEVICE void operator()(Index i) const {
    Index row, piece, c;
    shape.place(i, row, piece, c);
    const RowSequences& sequences = shape.sequences;
    const Index begin = shape.begin(piece), end = shape.end(piece);
    Index k = sequences.before(begin);
    const auto first_state = [&] {
      return initial.present ? initial(sequences.number(row, k), c) : E(Real<E>(0));
    };
    E state = entries != nullptr ? entries[i] : first_state();
    const auto finish = [&] {
      if (final_state.present) final_state(sequences.number(row, k), c) = state;
    };
    const auto start = [&](Index position) {
      while (k + 1 < sequences.count && sequences.start(k + 1) <= position) {
        finish();
        ++k;
        state = first_state();
      }
    };
    for (Index t = begin; t < end; ++t) {
      start(t);
      state = a(row, t, c) * state + b(row, t, c);
      x(row, t, c) = state;
    }
    if (piece + 1 == shape.cuts.count) {
      start(sequences.length);
      finish();
    }
  }
};

/// What a piece adds to the adjoint of the state that enters it, g ← conj(a_t)(g + dx_t) walked
/// back from its end, or from the end of the sequence that runs into it.
template <class E>
struct LinearPieceAdjoints {
  LinearShape shape;
  Array<const E, 3> a, dx;
  Array<const E, 2> dfinal;
  E *adjoints, *decays;

  SSM_DEVICE void operator()(Index i) const {
    Index row, piece, c;
    shape.place(i, row, piece, c);
    const RowSequences& sequences = shape.sequences;
    const Index begin = shape.begin(piece), end = shape.end(piece), k = sequences.before(begin);
    const bool stops = k + 1 < sequences.count && sequences.start(k + 1) < end;
    E g(Real<E>(0)), decay(Real<E>(stops ? 0 : 1));
    if (stops && dfinal.present) g = dfinal(sequences.number(row, k), c);
    for (Index t = stops ? sequences.start(k + 1) : end; t-- > begin;) {
      const E at = conjugate(a(row, t, c));
      g = at * (dx.present ? g + dx(row, t, c) : g);
      decay = at * decay;
    }
    adjoints[i] = g;
    decays[i] = decay;
  }
};

/// Turns those into the adjoints of the states that leave the pieces.
template <class E>
struct LinearCarryBack {
  LinearShape shape;
  Array<const E, 2> dfinal;
  E* adjoints;
  const E* decays;

  SSM_DEVICE void operator()(Index i) const {
    const Index row = i / shape.channels, c = i % shape.channels;
    const Index last = shape.sequences.before(shape.sequences.length);
    E g = dfinal.present ? dfinal(shape.sequences.number(row, last), c) : E(Real<E>(0));
    for (Index piece = shape.cuts.count; piece-- > 0;) {
      const Index at = (row * shape.cuts.count + piece) * shape.channels + c;
      const E next = adjoints[at] + decays[at] * g;
      adjoints[at] = g;
      g = next;
    }
  }
};

template <class E>
struct LinearBackward {
  LinearShape shape;
  Array<const E, 3> a, x, dx;
  Array<const E, 2> initial, dfinal;
  Array<E, 3> da, db;
  Array<E, 2> dinitial;
  const E* exits;

  SSM_DEVICE void operator()(Index i) const {
    Index row, piece, c;
    shape.place(i, row, piece, c);
    const RowSequences& sequences = shape.sequences;
    const Index begin = shape.begin(piece), end = shape.end(piece);
    const bool last = piece + 1 == shape.cuts.count;
    Index k = last ? sequences.count - 1 : sequences.before(end);
    const auto last_gradient = [&] {
      return dfinal.present ? dfinal(sequences.number(row, k), c) : E(Real<E>(0));
    };
    E g = last ? last_gradient() : exits[i];
    const auto leave = [&] {
      if (dinitial.present) dinitial(sequences.number(row, k), c) = g;
    };
    const auto leave_until = [&](Index position) {
      while (k > 0 && sequences.start(k) >= position) {
        leave();
        --k;
        g = last_gradient();
      }
    };
    if (last) leave_until(sequences.length);
    for (Index t = end; t-- > begin;) {
      if (dx.present) g += dx(row, t, c);
      if (da.present) {
        E before(Real<E>(0));
        if (t > sequences.start(k))
          before = x(row, t - 1, c);
        else if (initial.present)
          before = initial(sequences.number(row, k), c);
        da(row, t, c) = g * conjugate(before);
      }
      if (db.present) db(row, t, c) = g;
      g = conjugate(a(row, t, c)) * g;
      leave_until(t);
    }
    if (piece == 0) leave();
  }
};

/// `Scan` is the kernel that walks the rows a second time where they are cut.
template <class Scan, class K>
LinearShape linear_shape(const char* function, const LinearScanInputs<K, Device>& in) {
  const auto [rows, length, channels] = in.b.extents();
  constexpr double ends_alone = 0.67;  // two of the three arrays that a step moves
  return {rows, channels, RowSequences(in.sequences, length),
          plan_cuts(length, rows * channels, elementwise_residency<Scan>(function), 1, ends_alone)};
}

}  // namespace kernels

template <class K>
void linear_scan(const Cuda& backend, const LinearScanInputs<K, Device>& inputs,
                 const LinearScanOptions&,
                 const std::type_identity_t<LinearScanOutputs<K, Device>>& outputs,
                 LinearScanScratch<K, Device>& scratch) {
  using namespace kernels;
  using E = Element<K>;
  const char* function = "linear_scan";
  ssm::detail::check_linear_scan_inputs(function, inputs);
  ssm::detail::check_linear_scan_outputs(function, inputs, outputs);
  scratch.call.drop();
  const auto states = ssm::detail::state_shape(inputs);
  const LinearShape shape = linear_shape<LinearForward<E>>(function, inputs);
  const bool cut = shape.cuts.count > 1;
  struct Arrays {
    E *entries, *decays;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    return Arrays{cut ? s.array<E>(shape.threads()) : nullptr,
                  cut ? s.array<E>(shape.threads()) : nullptr};
  });
  const Sequences<Device>& time = inputs.sequences;
  const Array<const E, 3> a(inputs.a, time), b(inputs.b, time);
  Array<const E, 2> initial(inputs.initial_state);
  // Backward needs the initial states, and so do other pieces when one writes the final ones.
  const bool overwritten = ssm::detail::is_same_memory(outputs.final_state, inputs.initial_state);
  resize(backend, scratch.initial, overwritten ? states : std::array<Index, 2>{});
  if (overwritten)
    initial = copy_elements(backend, function, inputs.initial_state,
                            reinterpret_cast<E*>(scratch.initial.data()));
  scratch.x = outputs.x;
  scratch.call.keep(ssm::detail::linear_scan_call(inputs),
                    ssm::detail::linear_scan_variant(inputs));
  if (states[0] == 0) return;

  if (cut) {
    launch_elementwise(backend, function, shape.threads(),
                       LinearPieceEnds<E>{shape, a, b, initial, arrays.entries, arrays.decays});
    launch_elementwise(backend, function, shape.rows * shape.channels,
                       LinearCarry<E>{shape, initial, arrays.entries, arrays.decays});
  }
  launch_elementwise(backend, function, shape.threads(),
                     LinearForward<E>{shape, a, b, initial, Array<E, 3>(outputs.x, time),
                                      Array<E, 2>(outputs.final_state), arrays.entries});
}

template <class K>
void linear_scan_backward(
    const Cuda& backend, const LinearScanInputs<K, Device>& inputs, const LinearScanOptions&,
    const std::type_identity_t<LinearScanOutputGradients<K, Device>>& output_gradients,
    const std::type_identity_t<LinearScanInputGradients<K, Device>>& input_gradients,
    LinearScanScratch<K, Device>& scratch) {
  using namespace kernels;
  using E = Element<K>;
  const char* function = "linear_scan_backward";
  ssm::detail::check_linear_scan_inputs(function, inputs);
  scratch.call.check(function, "linear_scan", ssm::detail::linear_scan_call(inputs),
                     ssm::detail::linear_scan_variant(inputs));
  ssm::detail::check_linear_scan_gradients(function, inputs, scratch.x, output_gradients,
                                           input_gradients);
  if (ssm::detail::state_shape(inputs)[0] == 0) return;

  const LinearShape shape = linear_shape<LinearBackward<E>>(function, inputs);
  const bool cut = shape.cuts.count > 1;
  // Another piece may still have to read the gradients of final states when one writes those of
  // initial ones.
  const bool overwritten = cut && ssm::detail::is_same_memory(input_gradients.initial_state,
                                                              output_gradients.final_state);
  struct Arrays {
    E *exits, *decays, *dfinal;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    return Arrays{cut ? s.array<E>(shape.threads()) : nullptr,
                  cut ? s.array<E>(shape.threads()) : nullptr,
                  overwritten ? s.array<E>(output_gradients.final_state.size()) : nullptr};
  });
  const Sequences<Device>& time = inputs.sequences;
  const Array<const E, 3> a(inputs.a, time), dx(output_gradients.x, time);
  const Array<const E, 2> initial = scratch.initial.size() > 0
                                        ? Array<const E, 2>(scratch.initial.view())
                                        : Array<const E, 2>(inputs.initial_state);
  const Array<const E, 2> dfinal =
      overwritten ? copy_elements(backend, function, output_gradients.final_state, arrays.dfinal)
                  : Array<const E, 2>(output_gradients.final_state);
  if (cut) {
    launch_elementwise(backend, function, shape.threads(),
                       LinearPieceAdjoints<E>{shape, a, dx, dfinal, arrays.exits, arrays.decays});
    launch_elementwise(backend, function, shape.rows * shape.channels,
                       LinearCarryBack<E>{shape, dfinal, arrays.exits, arrays.decays});
  }
  launch_elementwise(
      backend, function, shape.threads(),
      LinearBackward<E>{shape, a, Array<const E, 3>(scratch.x, time), dx, initial, dfinal,
                        Array<E, 3>(input_gradients.a, time), Array<E, 3>(input_gradients.b, time),
                        Array<E, 2>(input_gradients.initial_state), arrays.exits});
}

}  // namespace ssm

#define SSM_LINEAR_SCAN(K)                                                                      \
  template void ssm::linear_scan(const Cuda&, const LinearScanInputs<K, Device>&,               \
                                 const LinearScanOptions&, const LinearScanOutputs<K, Device>&, \
                                 LinearScanScratch<K, Device>&);                                \
  template void ssm::linear_scan_backward(                                                      \
      const Cuda&, const LinearScanInputs<K, Device>&, const LinearScanOptions&,                \
      const LinearScanOutputGradients<K, Device>&, const LinearScanInputGradients<K, Device>&,  \
      LinearScanScratch<K, Device>&);
