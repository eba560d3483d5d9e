#pragma once

#include "arrays.hpp"
#include "launch.hpp"
#include "math.hpp"
#include "sequences.hpp"
#include "ssm/scan/selective_checks.hpp"
#include "ssm/scan/selective_types.hpp"

namespace ssm::kernels {

/// States of a channel that one lane keeps in registers. With four, a step of a warp takes
/// about 6.5 instructions an exp2, below the 8 issue slots that the exponential unit leaves (16
/// results a clock for 4 schedulers), and 16 states spread over four times the warps of a lane for
/// a channel.
inline constexpr int lane_states = 4;

/// Steps between two saved states: as many as backward holds in registers at once.
template <class E>
inline constexpr int saved_steps = 64 / static_cast<int>(sizeof(E));

/// How a selective scan lies over blocks. Neighbouring lanes are the `lanes` that share the states
/// of one channel, then channels; a block covers `block_channels` channels of one group (a panel),
/// one piece of the time of one row, and one slice of the states where a warp cannot hold them all.
struct SelectiveShape {
  Index rows, length, channels, state, groups;
  Sequences sequences;
  Cuts cuts;
  int lanes = 1, block_channels = 32;
  Index group_channels, panels, slices;

  SelectiveShape(const ssm::detail::SelectiveSizes& sizes,
                 const View<const Index, 1, Device>& offsets, bool reversed, Index granularity)
      : rows(sizes.batch),
        length(sizes.length),
        channels(sizes.channels),
        state(sizes.state),
        groups(sizes.groups),
        sequences{offsets.data(), offsets ? offsets.stride(0) : 1, offsets ? sizes.sequences : 1,
                  sizes.length, reversed},
        group_channels(channels / groups) {
    while (lanes < warp && lanes * lane_states < state) lanes *= 2;
    if (lanes > 8) block_channels = lanes == warp ? 4 : 16;  // for the shared memory of backward
    panels = groups * group_panels();
    slices = state <= slice() ? 1 : (state + slice() - 1) / slice();
    cuts = plan_cuts(length, rows * panels * slices * threads() / warp, granularity);
  }

  /// States of a slice.
  SSM_HOST_DEVICE int slice() const { return lanes * lane_states; }
  SSM_HOST_DEVICE int threads() const { return lanes * block_channels; }
  /// Panels of a group.
  SSM_HOST_DEVICE Index group_panels() const {
    return (group_channels + block_channels - 1) / block_channels;
  }
  Index blocks() const { return slices * rows * cuts.count * panels; }
  Index states() const { return rows * channels * state; }
};

/// Which part of a selective scan a thread works on.
struct SelectivePlace {
  const SelectiveShape& shape;
  Index panel, piece, row, slice, group, first_channel, channel, first_state;
  int lane;      ///< among those of its channel
  int local;     ///< its channel in the block
  int channels;  ///< of the block
  int states;    ///< of the lane, 0 where its channel is beyond the panel

  SSM_DEVICE SelectivePlace(const SelectiveShape& s, const Block& block) : shape(s) {
    Index index = block.index();
    panel = index % s.panels;
    index /= s.panels;
    piece = index % s.cuts.count;
    index /= s.cuts.count;
    row = index % s.rows;
    slice = index / s.rows;
    group = panel / s.group_panels();
    const Index offset = panel % s.group_panels() * s.block_channels;
    first_channel = group * s.group_channels + offset;
    const Index left = s.group_channels - offset;
    channels = left < s.block_channels ? static_cast<int>(left) : s.block_channels;
    lane = block.thread() % s.lanes;
    local = block.thread() / s.lanes;
    channel = first_channel + local;
    first_state = slice * s.slice() + lane * lane_states;
    const Index states_left = s.state - first_state;
    states = local >= channels || states_left <= 0 ? 0
             : states_left < lane_states           ? static_cast<int>(states_left)
                                                   : lane_states;
  }

  SSM_DEVICE Index begin() const { return shape.cuts.begin(piece); }
  SSM_DEVICE Index end() const { return shape.cuts.end(piece, shape.length); }
  /// Of this lane's states in an array (…, channels, state) whose leading index is `at`.
  SSM_DEVICE Index states_at(Index at) const {
    return (at * shape.channels + channel) * shape.state + first_state;
  }
  /// Of this lane's states in an array of the pieces' states.
  SSM_DEVICE Index piece_states() const { return states_at(row * shape.cuts.count + piece); }
};

/// The states of one lane.
template <class E>
using LaneStates = Pack<E, lane_states>;

template <class E>
SSM_DEVICE LaneStates<E> no_states() {
  LaneStates<E> x;
  SSM_UNROLL
  for (int p = 0; p < lane_states; ++p) x[p] = E(Real<E>(0));
  return x;
}

/// Reads or writes a lane's states where `states` of them exist.
template <class E>
SSM_DEVICE LaneStates<E> load_states(const E* from, Index stride, int states) {
  LaneStates<E> x = no_states<E>();
  SSM_UNROLL
  for (int p = 0; p < lane_states; ++p)
    if (p < states) x[p] = from[p * stride];
  return x;
}
template <class E>
SSM_DEVICE void store_states(E* to, Index stride, int states, const LaneStates<E>& x) {
  SSM_UNROLL
  for (int p = 0; p < lane_states; ++p)
    if (p < states) to[p * stride] = x[p];
}
template <class E>
SSM_DEVICE LaneStates<E> load_states(const Array<const E, 3>& from, Index sequence,
                                     const SelectivePlace& at) {
  if (!from.present || at.states == 0) return no_states<E>();
  return load_states(&from(sequence, at.channel, at.first_state), from.stride[2], at.states);
}
template <class E>
SSM_DEVICE void store_states(const Array<E, 3>& to, Index sequence, const SelectivePlace& at,
                             const LaneStates<E>& x) {
  if (to.present && at.states > 0)
    store_states(&to(sequence, at.channel, at.first_state), to.stride[2], at.states, x);
}
template <class E>
SSM_DEVICE LaneStates<E> load_states(const Array<const E, 2>& from, const SelectivePlace& at) {
  if (!from.present || at.states == 0) return no_states<E>();
  return load_states(&from(at.channel, at.first_state), from.stride[1], at.states);
}

/// The inputs of a selective scan as kernels read them. T is how sequences are kept, E the element
/// of A and of states.
template <class T, class E>
struct SelectiveArguments {
  using R = Real<E>;
  using V = std::conditional_t<is_complex<E>, E, T>;

  Array<const T, 3> u, delta, z;
  Array<const E, 2> A, B_constant, C_constant;
  Array<const V, 4> B, C;
  Array<const R, 1> D, delta_bias;
  Array<const E, 3> initial_state;
  bool softplus, zero_order;

  template <class K>
  SelectiveArguments(const SelectiveScanInputs<T, K, Device>& in,
                     const SelectiveScanOptions& options)
      : u(in.u),
        delta(in.delta),
        z(in.z),
        A(in.A),
        B_constant(in.B.constant),
        C_constant(in.C.constant),
        B(in.B.varying),
        C(in.C.varying),
        D(in.D),
        delta_bias(in.delta_bias),
        initial_state(in.initial_state),
        softplus(options.softplus),
        zero_order(options.hold == Hold::zero_order) {}

  /// Whether it takes the kernels with all options: they hold more in registers.
  bool is_general() const { return zero_order || B_constant.present || C_constant.present; }

  SSM_DEVICE R step_size(Index row, Index step, Index channel) const {
    const R raw =
        widen(delta(row, step, channel)) + (delta_bias.present ? delta_bias(channel) : R(0));
    return softplus ? kernels::softplus(raw) : raw;
  }
};

/// A lane's discretization of one step of Δ: x ← a x + input · B.
template <class E>
struct LaneModes {
  using R = Real<E>;
  LaneStates<E> A, exponent;  ///< exponent = A log2 e

  SSM_DEVICE explicit LaneModes(const LaneStates<E>& a) : A(a) {
    SSM_UNROLL
    for (int p = 0; p < lane_states; ++p) exponent[p] = A[p] * log2_e<R>;
  }
  /// e^{ΔA}, the decay over a time of Δ, however many steps that is.
  SSM_DEVICE E decay(int p, R delta) const { return exp2_of(exponent[p] * delta); }
};

/// Fills a tile (count, block_channels) with value(step, channel), zero beyond the panel.
template <class R, class Value>
SSM_DEVICE void fill_tile(Block& block, const SelectivePlace& at, const Shared<R>& tile,
                          Index first, int count, const Value& value) {
  const int width = at.shape.block_channels;
  for (int e = block.thread(); e < count * width; e += block.threads()) {
    const int c = e % width;
    tile[e] = c < at.channels
                  ? value(at.shape.sequences.step(first + e / width), at.first_channel + c, e)
                  : R(0);
  }
}

/// Fills a tile (count, slice) with B or C, zero beyond the states.
template <class E, class V>
SSM_DEVICE void fill_coefficients(Block& block, const SelectivePlace& at, const Shared<E>& tile,
                                  Index first, int count, const Array<const V, 4>& from) {
  if (!from.present) return;
  const int width = at.shape.slice();
  for (int e = block.thread(); e < count * width; e += block.threads()) {
    const Index n = at.slice * width + e % width;
    tile[e] = n < at.shape.state
                  ? E(widen(from(at.row, at.shape.sequences.step(first + e / width), at.group, n)))
                  : E(Real<E>(0));
  }
}

/// The sum over the lanes of a channel, in each of them.
template <class R>
SSM_DEVICE R sum_lanes(Block& block, R x, int lanes) {
  for (int mask = 1; mask < lanes; mask *= 2) x += block.shuffle_xor(x, mask);
  return x;
}

}  // namespace ssm::kernels
