#pragma once

#include "modes.hpp"
#include "scratch.hpp"
#include "selective_shape.hpp"
#include "ssm/cuda/diagonal_scan.hpp"
#include "ssm/scan/detail/diagonal_scan_checks.hpp"

namespace ssm {
namespace kernels {

/// The scan of a piece, and where `ends` is given only its end, from zero.
template <class T, class E>
struct DiagonalForward {
  static constexpr int most_threads = 256;

  SelectiveShape shape;
  Discretization method;
  Array<const T, 3> u;
  Array<const E, 2> lambda, B, C;
  Array<const T, 1> D, delta;
  Array<const E, 3> initial_state;
  Array<T, 3> y;
  Array<E, 3> final_state;
  E* ends;           ///< (rows, pieces, channels, state)
  const E* entries;  ///< the same, null where rows are whole
  T* partial_y;      ///< (slices, rows, length, channels), null for a single slice

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<0> at(shape, block);
    const bool inside = at.local < at.channels;
    LaneStates<E> a = no_states<E>(), b = a, x = a;
    const LaneStates<E> c = load_states(C, at), modes = load_states(lambda, at);
    const LaneStates<E> B_lane = load_states(B, at);
    SSM_UNROLL
    for (int p = 0; p < lane_states; ++p) {
      if (p >= at.states) break;
      const auto mode =
          discretized(method, widened(modes[p]), static_cast<double>(delta(at.channel)));
      a[p] = narrowed<E>(mode.a);
      b[p] = narrowed<E>(mode.b * widened(B_lane[p]));
    }
    if (ends == nullptr)
      x = entries != nullptr ? load_states(entries + at.piece_states(), 1, at.states)
                             : load_states(initial_state, at.row, at);
    const T D_now = D.present && inside ? D(at.channel) : T(0);
    walk_ahead<8>(
        at.end() - at.begin(),
        [&](Index i) { return inside ? T(u(at.row, at.begin() + i, at.channel)) : T(0); },
        [&](Index i, T u_now) {
          const Index t = at.begin() + i;
          T sum = 0;
          SSM_UNROLL
          for (int p = 0; p < lane_states; ++p) {
            x[p] = a[p] * x[p] + b[p] * u_now;
            sum += real(c[p] * x[p]);
          }
          if (ends != nullptr) return;
          sum = output_scale<E> * sum_lanes(block, sum, at.lanes());
          if (at.lane != 0 || !inside) return;
          if (partial_y != nullptr)
            partial_y[((at.slice_number * shape.rows + at.row) * shape.length + t) *
                          shape.channels +
                      at.channel] = sum;
          else
            y(at.row, t, at.channel) = sum + D_now * u_now;
        });
    if (ends != nullptr)
      store_states(ends + at.piece_states(), 1, at.states, x);
    else if (at.piece + 1 == shape.cuts.count)
      store_states(final_state, at.row, at, x);
  }
};

/// Turns the ends of pieces into the states that enter them: one thread a state of a row.
template <class T, class E>
struct DiagonalCarry {
  SelectiveShape shape;
  Discretization method;
  Array<const E, 2> lambda;
  Array<const T, 1> delta;
  Array<const E, 3> initial_state;
  E* states;

  SSM_DEVICE void operator()(Index i) const {
    const Index n = i % shape.state, c = i / shape.state % shape.channels;
    const Index row = i / shape.state / shape.channels;
    const auto a = discretized(method, widened(lambda(c, n)), static_cast<double>(delta(c))).a;
    const E decay = narrowed<E>(power(a, shape.cuts.length));
    E x = initial_state.present ? initial_state(row, c, n) : E(T(0));
    const auto at = [&](Index piece) {
      return ((row * shape.cuts.count + piece) * shape.channels + c) * shape.state + n;
    };
    walk_ahead<8>(
        shape.cuts.count, [&](Index piece) { return states[at(piece)]; },
        [&](Index piece, const E& end) {
          states[at(piece)] = x;
          x = end + decay * x;
        });
  }
};

/// Joins the slices' shares of C·x: one thread an element of y.
template <class T>
struct DiagonalJoinSlices {
  Array<const T, 3> u;
  Array<const T, 1> D;
  Array<T, 3> y;
  const T* partial_y;
  Index slices, rows, length, channels;

  SSM_DEVICE void operator()(Index i) const {
    const Index row = i / channels / length, step = i / channels % length, c = i % channels;
    T sum = D.present ? D(c) * u(row, step, c) : T(0);
    for (Index s = 0; s < slices; ++s) sum += partial_y[s * rows * length * channels + i];
    y(row, step, c) = sum;
  }
};

}  // namespace kernels

template <class T, class K>
void diagonal_scan(const Cuda& backend, const DiagonalScanInputs<T, K, Device>& inputs,
                   const DiagonalScanOptions& options,
                   const std::type_identity_t<DiagonalScanOutputs<T, K, Device>>& outputs,
                   DiagonalScanScratch<T, K, Device>& scratch) {
  using namespace kernels;
  using E = Element<K>;
  const char* function = "diagonal_scan";
  const auto [rows, length, channels] = inputs.u.extents();
  const Sequences<Device>& time = inputs.sequences;
  ssm::detail::check_diagonal_inputs(function, inputs, options);
  ssm::detail::check_constant(function, inputs.delta);
  if (time.offsets)
    ssm::detail::throw_shape(function, "offsets", "given",
                             "none: on a device each row is one sequence");
  ssm::detail::check_diagonal_outputs(function, inputs, outputs);
  if (channels == 0 || rows == 0) return;

  SelectiveShape shape({rows, length, channels, inputs.lambda.extent(1), 1, rows}, time);
  constexpr double ends_alone = 0.7;  // no C, no output: operations of a state counted
  shape.cut(residency<DiagonalForward<T, E>>(function, shape.threads(), 0), 1, ends_alone);
  const bool cut = shape.cuts.count > 1, sliced = shape.slices > 1;
  struct Arrays {
    E* entries;
    T* partial_y;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    return Arrays{cut ? s.array<E>(shape.cuts.count * shape.states()) : nullptr,
                  sliced ? s.array<T>(shape.slices * inputs.u.size()) : nullptr};
  });
  DiagonalForward<T, E> forward{shape,
                                options.method,
                                Array<const T, 3>(inputs.u, time),
                                Array<const E, 2>(inputs.lambda),
                                Array<const E, 2>(inputs.B),
                                Array<const E, 2>(inputs.C),
                                Array<const T, 1>(inputs.D),
                                Array<const T, 1>(inputs.delta.constant),
                                Array<const E, 3>(inputs.initial_state),
                                Array<T, 3>(outputs.y, time),
                                Array<E, 3>(outputs.final_state),
                                arrays.entries,
                                arrays.entries,
                                arrays.partial_y};
  if (cut) {
    launch(backend, function, shape.blocks(), shape.threads(), 0, forward);
    launch_elementwise(backend, function, shape.states(),
                       DiagonalCarry<T, E>{shape, options.method, forward.lambda, forward.delta,
                                           forward.initial_state, arrays.entries});
  }
  forward.ends = nullptr;
  launch(backend, function, shape.blocks(), shape.threads(), 0, forward);
  if (sliced)
    launch_elementwise(backend, function, inputs.u.size(),
                       DiagonalJoinSlices<T>{forward.u, forward.D, forward.y, arrays.partial_y,
                                             shape.slices, rows, length, channels});
}

}  // namespace ssm

#define SSM_DIAGONAL_SCAN(T, K)                                                         \
  template void ssm::diagonal_scan(                                                     \
      const Cuda&, const DiagonalScanInputs<T, K, Device>&, const DiagonalScanOptions&, \
      const DiagonalScanOutputs<T, K, Device>&, DiagonalScanScratch<T, K, Device>&);
