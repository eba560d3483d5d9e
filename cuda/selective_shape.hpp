#pragma once

#include "arrays.hpp"
#include "launch.hpp"
#include "math.hpp"
#include "sequences.hpp"
#include "ssm/scan/selective_checks.hpp"
#include "ssm/scan/selective_types.hpp"

namespace ssm::kernels {

/// States of a channel that one lane keeps in registers. With four, the recurrence takes 7.5
/// instructions an exp2 (bench/cuda_instructions.py), below the 8 issue slots that the exponential
/// unit leaves (16 results a clock for 4 schedulers), and 16 states spread over four times the
/// warps of a lane for a channel.
inline constexpr int lane_states = 4;

/// Steps between two saved states: as many as backward holds in registers at once.
template <class E>
inline constexpr int saved_steps = 64 / static_cast<int>(sizeof(E));

/// Channels of a block, but where a channel takes more than 8 lanes.
inline constexpr int full_width = 32;

/// How a selective scan lies over blocks. Neighbouring lanes are the `lanes` that share the states
/// of one channel, then channels; a block covers `block_channels` channels of one group (a panel),
/// one piece of the time of one row, and one slice of the states where a warp cannot hold them all.
struct SelectiveShape {
  Index rows, length, channels, state, groups;
  Sequences sequences;
  Cuts cuts;
  int lanes = 1, block_channels = full_width;
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

/// Elements of one channel at equal distances in time.
template <class T>
struct Column {
  T* at;
  Index by;

  SSM_DEVICE T& operator*() const { return *at; }
  SSM_DEVICE void next() { at += by; }
};

/// Which part of a selective scan a thread works on. Lanes is the number that share a channel where
/// it is known when compiling, so that addresses are, and each row is one sequence; 0 takes it from
/// the shape.
template <int Lanes>
struct SelectivePlace {
  const SelectiveShape& shape;
  Index panel, piece, row, slice_number, group, first_channel, channel, first_state;
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
    slice_number = index / s.rows;
    group = panel / s.group_panels();
    const Index offset = panel % s.group_panels() * width();
    first_channel = group * s.group_channels + offset;
    const Index left = s.group_channels - offset;
    channels = left < width() ? static_cast<int>(left) : width();
    lane = block.thread() % lanes();
    local = block.thread() / lanes();
    channel = first_channel + local;
    first_state = slice_number * slice() + lane * lane_states;
    const Index states_left = s.state - first_state;
    states = local >= channels || states_left <= 0 ? 0
             : states_left < lane_states           ? static_cast<int>(states_left)
                                                   : lane_states;
  }

  /// Lanes of a channel, channels of a block, states of a slice, threads of a block.
  SSM_DEVICE int lanes() const { return Lanes > 0 ? Lanes : shape.lanes; }
  SSM_DEVICE int width() const { return Lanes > 0 ? full_width : shape.block_channels; }
  SSM_DEVICE int slice() const { return lanes() * lane_states; }
  SSM_DEVICE int threads() const { return lanes() * width(); }
  /// Its channel where threads lie across all channels of the block, and its first step of a tile;
  /// the next one is `lanes()` steps on.
  SSM_DEVICE int tile_channel(const Block& block) const { return block.thread() % width(); }
  SSM_DEVICE int tile_step(const Block& block) const { return block.thread() / width(); }
  /// The elements of that channel at every lanes-th step from `position` on, in the order of time.
  template <class T>
  SSM_DEVICE Column<T> column(const Block& block, const Array<T, 3>& array, Index position) const {
    return {&array(row, shape.sequences.step(position), first_channel + tile_channel(block)),
            (shape.sequences.reversed ? -lanes() : lanes()) * array.stride[1]};
  }
  template <class T>
  SSM_DEVICE Column<T> optional_column(const Block& block, const Array<T, 3>& array,
                                       Index position) const {
    if (!array.present) return {nullptr, 0};
    return column(block, array, position);
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

/// Reads or writes a lane's states where `states` of them exist. Place p of the lane holds state
/// p ^ flip.
template <class E>
SSM_DEVICE LaneStates<E> load_states(const E* from, Index stride, int states, int flip = 0) {
  LaneStates<E> x = no_states<E>();
  SSM_UNROLL
  for (int p = 0; p < lane_states; ++p)
    if ((p ^ flip) < states) x[p] = from[(p ^ flip) * stride];
  return x;
}
template <class E>
SSM_DEVICE void store_states(E* to, Index stride, int states, const LaneStates<E>& x,
                             int flip = 0) {
  SSM_UNROLL
  for (int p = 0; p < lane_states; ++p)
    if ((p ^ flip) < states) to[(p ^ flip) * stride] = x[p];
}
template <class E, class Place>
SSM_DEVICE LaneStates<E> load_states(const Array<const E, 3>& from, Index sequence, const Place& at,
                                     int flip = 0) {
  if (!from.present || at.states == 0) return no_states<E>();
  return load_states(&from(sequence, at.channel, at.first_state), from.stride[2], at.states, flip);
}
template <class E, class Place>
SSM_DEVICE void store_states(const Array<E, 3>& to, Index sequence, const Place& at,
                             const LaneStates<E>& x, int flip = 0) {
  if (to.present && at.states > 0)
    store_states(&to(sequence, at.channel, at.first_state), to.stride[2], at.states, x, flip);
}
template <class E, class Place>
SSM_DEVICE LaneStates<E> load_states(const Array<const E, 2>& from, const Place& at, int flip = 0) {
  if (!from.present || at.states == 0) return no_states<E>();
  return load_states(&from(at.channel, at.first_state), from.stride[1], at.states, flip);
}

/// What the recurrence reads of one step of one channel.
template <class R>
using StepInputs = Pack<R, 2>;  ///< Δ, and u, or Δu where that is all there is to it

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

  SSM_DEVICE R bias_of(Index channel) const {
    return delta_bias.present ? delta_bias(channel) : R(0);
  }
  SSM_DEVICE R D_of(Index channel) const { return D.present ? D(channel) : R(0); }
  SSM_DEVICE R step_size(R raw) const { return softplus ? kernels::softplus(raw) : raw; }

  /// Fills a tile of steps, zero beyond the panel.
  template <bool General, class Place>
  SSM_DEVICE void stage(Block& block, const Place& at, const Shared<StepInputs<R>>& tile,
                        Index first, int count) const {
    const int c = at.tile_channel(block);
    int t = at.tile_step(block);
    if (c >= at.channels) {
      for (; t < count; t += at.lanes()) tile[t * at.width() + c] = StepInputs<R>{};
      return;
    }
    const R bias = bias_of(at.first_channel + c);
    Column<const T> raw = at.column(block, delta, first + t), v = at.column(block, u, first + t);
    SSM_UNROLL_BY(8)
    for (; t < count; t += at.lanes(), raw.next(), v.next()) {
      const R d = step_size(R(widen(*raw)) + bias), u_now = widen(*v);
      tile[t * at.width() + c] = StepInputs<R>{d, General ? u_now : d * u_now};
    }
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
  /// What B is multiplied by: B_bar u = input · B.
  template <bool General, class Arguments>
  SSM_DEVICE E input(const Arguments& in, int p, const StepInputs<R>& step) const {
    if constexpr (General) return hold<true>(in, p, step[0]) * step[1];
    return E(step[1]);
  }
  /// B_bar = hold · B.
  template <bool General, class Arguments>
  SSM_DEVICE E hold(const Arguments& in, int p, R delta) const {
    if constexpr (General)
      if (in.zero_order) return delta * phi1(delta * A[p]);
    return E(delta);
  }
};

/// Whether exp2(A total) is 0 for all states of the lane.
template <class E, class Place>
SSM_DEVICE bool modes_are_spent(const Place& at, const LaneModes<E>& modes, Real<E> total) {
  constexpr Real<E> last_exponent = sizeof(Real<E>) == 4 ? -160 : -1100;
  bool spent = true;
  SSM_UNROLL
  for (int p = 0; p < lane_states; ++p)
    spent = spent && (p >= at.states || real(modes.exponent[p]) * total < last_exponent);
  return spent;
}

/// Fills a tile (steps, Flips, slice) with B or C, zero beyond the states and beyond `count` steps;
/// place p of flip f holds state p ^ f of its lane.
template <int Flips, class E, class V, class Place>
SSM_DEVICE void stage_coefficients(Block& block, const Place& at, const Shared<E>& tile,
                                   Index first, int count, int steps,
                                   const Array<const V, 4>& from) {
  if (!from.present) return;
  const int slice = at.slice(), n = block.thread() % slice, steps_at_once = at.threads() / slice;
  const auto put = [&](int t, E value) {
    SSM_UNROLL
    for (int flip = 0; flip < Flips; ++flip) tile[(t * Flips + flip) * slice + (n ^ flip)] = value;
  };
  int t = block.thread() / slice;
  const Index state = at.slice_number * slice + n;
  if (state >= at.shape.state) {
    for (; t < steps; t += steps_at_once) put(t, E(Real<E>(0)));
    return;
  }
  const Sequences& sequences = at.shape.sequences;
  Column<const V> value{&from(at.row, sequences.step(first + t), at.group, state),
                        (sequences.reversed ? -steps_at_once : steps_at_once) * from.stride[1]};
  SSM_UNROLL_BY(4)
  for (; t < count; t += steps_at_once, value.next()) put(t, E(widen(*value)));
  for (; t < steps; t += steps_at_once) put(t, E(Real<E>(0)));
}

/// The sum over the lanes of a channel, in each of them.
template <class R>
SSM_DEVICE R sum_lanes(Block& block, R x, int lanes) {
  for (int mask = 1; mask < lanes; mask *= 2) x += block.shuffle_xor(x, mask);
  return x;
}

}  // namespace ssm::kernels
