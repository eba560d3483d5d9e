#pragma once

#include "arrays.hpp"
#include "cuts.hpp"
#include "launch.hpp"
#include "math.hpp"
#include "row_sequences.hpp"
#include "ssm/scan/detail/selective_scan_checks.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm::kernels {

/// States of a channel that one lane keeps in registers. With four, the recurrence takes about six
/// instructions an exp2 (tests/cuda/machine_code.py counts them), below the 8 issue slots that the
/// exponential unit leaves (16 results a clock for 4 schedulers), and 16 states spread over four
/// times the warps of a lane for a channel.
inline constexpr int lane_states = 4;

/// Steps between two saved states: as many as backward holds in registers at once.
template <class E>
inline constexpr int saved_steps = 64 / static_cast<int>(sizeof(E));

/// Steps of a tile of forward, but where they take too much shared memory.
inline constexpr int forward_tile_steps = 32;

/// Channels of a block, but where its threads are too many or a group has fewer.
inline constexpr int full_width = 32;

/// y = output_scale Re C·x: complex states come in pairs of which one is kept.
template <class E>
inline constexpr Real<E> output_scale = is_complex<E> ? 2 : 1;

/// How a selective scan lies over blocks. `lanes` of a warp share the states of one channel; a
/// block covers `block_channels` channels of one group (a panel), one piece of the time of one row,
/// and one slice of the states where a warp cannot hold them all.
struct SelectiveShape {
  Index rows, length, channels, state, groups;
  RowSequences sequences;
  Cuts cuts;
  int lanes = 1, block_channels = full_width;
  Index group_channels, panels, slices;

  /// Of rows that are whole.
  SelectiveShape(const ssm::detail::SelectiveSizes& sizes, const Sequences<Device>& time,
                 int most_lanes = warp, int most_threads = 256)
      : rows(sizes.batch),
        length(sizes.length),
        channels(sizes.channels),
        state(sizes.state),
        groups(sizes.groups),
        sequences(time, sizes.length),
        cuts{sizes.length, 1},
        group_channels(channels / groups) {
    while (lanes < most_lanes && lanes * lane_states < state) lanes *= 2;
    if (lanes * full_width > most_threads) block_channels = most_threads / lanes;
    while (block_channels / 2 >= group_channels && block_channels > lane_states &&
           lanes * block_channels > warp)  // no fewer threads than a slice has states
      block_channels /= 2;
    panels = groups * group_panels();
    slices = state <= slice() ? 1 : (state + slice() - 1) / slice();
  }
  /// Cuts the rows so that the device is busy.
  void cut(const Residency& device, Index granularity, double first_pass) {
    cuts = plan_cuts(length, rows * panels * slices * threads(), device, granularity, first_pass);
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

/// Elements of one channel, or of one state of B or C, in the order of time.
template <class T>
struct Column {
  T* at;
  Index step;

  SSM_DEVICE T& operator*() const { return *at; }
  SSM_DEVICE void move(Index steps) { at += steps * step; }
  /// Moves to another tile. The address becomes opaque there: else nvcc carries that of each step
  /// from tile to tile in registers of its own, which the recurrence needs.
  SSM_DEVICE void move_tile(Index steps) {
    move(steps);
#ifdef __CUDACC__
    std::size_t address = __cvta_generic_to_global(at);
    asm("" : "+l"(address));
    at = static_cast<T*>(__cvta_global_to_generic(address));
#endif
  }
};

/// Which part of a selective scan a thread works on. Lanes is the number that share a channel where
/// it is known when compiling, so that addresses are, and each row is one sequence; 0 takes it from
/// the shape.
template <int Lanes>
struct SelectivePlace {
  const SelectiveShape& shape;
  Index panel, piece, row, slice_number, group, first_channel, channel, first_state;
  int lane;      ///< among those of its channel
  int seat;      ///< of its channel in shared memory
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
    const int thread = block.thread();
    lane = Lanes == 4 ? thread / 2 % 4 : thread % lanes();
    seat = Lanes == 4 ? thread / 32 * 8 + thread / 8 % 4 * 2 + thread % 2 : thread / lanes();
    local = Lanes == 4 ? channel_of_seat(seat) : seat;
    channel = first_channel + local;
    first_state = slice_number * slice() + lane * lane_states;
    const Index states_left = s.state - first_state;
    states = local >= channels || states_left <= 0 ? 0
             : states_left < lane_states           ? static_cast<int>(states_left)
                                                   : lane_states;
  }

  /// Four lanes a channel lie in a warp such that neighbours differ in their channel and those two
  /// apart in their states: what either pair shares is then read from shared memory once. Threads
  /// bring in two adjacent channels at once, whose seats are half a block apart.
  SSM_DEVICE static int channel_of_seat(int seat) {
    return seat % (full_width / 2) * 2 + seat / (full_width / 2);
  }
  /// What differs in the number of a lane of this channel and of the one whose seat differs in this
  /// bit.
  SSM_DEVICE int seat_mask(int bit) const {
    return Lanes == 4 ? (bit == 0 ? 1 : 8) : lanes() << bit;
  }
  /// The place of this lane's share among those of all lanes, ordered by channel.
  SSM_DEVICE int share() const { return local * lanes() + lane; }
  /// Lanes of a channel, channels of a block, states of a slice, threads of a block.
  SSM_DEVICE int lanes() const { return Lanes > 0 ? Lanes : shape.lanes; }
  SSM_DEVICE int width() const { return Lanes > 0 ? full_width : shape.block_channels; }
  SSM_DEVICE int slice() const { return lanes() * lane_states; }
  SSM_DEVICE int threads() const { return lanes() * width(); }
  /// Its channel where threads lie across all channels of the block, and its first step of a tile;
  /// the next one is `lanes()` steps on.
  SSM_DEVICE int tile_channel(const Block& block) const { return block.thread() % width(); }
  SSM_DEVICE int tile_step(const Block& block) const { return block.thread() / width(); }
  /// That channel among all, the panel's last one where it is beyond: what is read there is valid.
  SSM_DEVICE Index read_channel(const Block& block) const {
    const int c = tile_channel(block);
    return first_channel + (c < channels ? c : channels - 1);
  }
  /// The elements of that channel from `position` on.
  template <class T>
  SSM_DEVICE Column<T> optional_column(const Block& block, const Array<T, 3>& array,
                                       Index position) const {
    return array.present ? column(block, array, position) : Column<T>{nullptr, 0};
  }
  template <class T>
  SSM_DEVICE Column<T> column(const Block& block, const Array<T, 3>& array, Index position) const {
    const Index offset =
        row * array.stride[0] + position * array.stride[1] + read_channel(block) * array.stride[2];
    return {array.data + (shape.length > 0 ? offset : 0), array.stride[1]};
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
      : u(in.u, in.sequences),
        delta(in.delta, in.sequences),
        z(in.z, in.sequences),
        A(in.A),
        B_constant(in.B.constant),
        C_constant(in.C.constant),
        B(in.B.varying, in.sequences),
        C(in.C.varying, in.sequences),
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
};

/// A channel's Δ and u as a thread brings them in for its block, tile after tile.
template <class T, class E>
struct InputColumns {
  using R = Real<E>;

  const SelectiveArguments<T, E>& in;
  Column<const T> delta, u;
  R bias;

  template <class Place>
  SSM_DEVICE InputColumns(Block& block, const Place& at, const SelectiveArguments<T, E>& inputs,
                          Index position)
      : in(inputs),
        delta(at.column(block, in.delta, position)),
        u(at.column(block, in.u, position)),
        bias(in.bias_of(at.read_channel(block))) {}

  SSM_DEVICE void move(Index steps) { delta.move(steps), u.move(steps); }
  SSM_DEVICE void move_tile(Index steps) { delta.move_tile(steps), u.move_tile(steps); }

  template <bool General>
  SSM_DEVICE StepInputs<R> read(bool softplus) const {
    const R raw = R(widen(*delta)) + bias, u_now = widen(*u);
    const R d = softplus ? Softplus<R, T>(raw).value : raw;
    return {d, General ? u_now : d * u_now};
  }
  /// Fills a tile (steps, channels), zero beyond the panel. Whole tiles with the usual options go
  /// without branches.
  template <bool General, class Place>
  SSM_DEVICE void stage(Block& block, const Place& at, const Shared<StepInputs<R>>& tile, int count,
                        int steps) const {
    const int c = at.tile_channel(block), begin = at.tile_step(block);
    InputColumns now = *this;
    if (count == steps && steps % at.lanes() == 0 && at.channels == at.width() && in.softplus) {
      SSM_UNROLL
      for (int k = 0; k < steps; k += at.lanes(), now.move(at.lanes()))
        tile[(k + begin) * at.width() + c] = now.template read<General>(true);
      return;
    }
    SSM_UNROLL_BY(1)
    for (int t = begin; t < count; t += at.lanes(), now.move(at.lanes()))
      tile[t * at.width() + c] =
          c < at.channels ? now.template read<General>(in.softplus) : StepInputs<R>{};
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

/// The order of a lane's states, of the four that halving sums over four channels needs: place p
/// holds state p ^ flip. Order 1 swaps halves, order 2 neighbours, order 3 both.
SSM_DEVICE int flip_of_order(int order) { return (order & 1) * 2 + order / 2; }

/// The part of B or C that a thread brings in for its block: one state, at every so many steps.
template <class V, class Place>
struct CoefficientColumn {
  const Place& at;
  Column<const V> from;
  bool present, is_state;
  int n, begin;

  SSM_DEVICE CoefficientColumn(const Block& block, const Place& place,
                               const Array<const V, 4>& array, Index position)
      : at(place),
        from{nullptr, 0},
        present(array.present && place.shape.length > 0),
        n(block.thread() % at.slice()),
        begin(block.thread() / at.slice()) {
    const Index state = at.slice_number * at.slice() + n;
    is_state = state < at.shape.state;
    if (present)
      from = {array.data + at.row * array.stride[0] + (position + begin) * array.stride[1] +
                  at.group * array.stride[2] + (is_state ? state : 0) * array.stride[3],
              array.stride[1]};
  }

  /// Fills a tile (steps, orders, slice), zero beyond the states and beyond `count` steps; place p
  /// of order f holds state p ^ flip_of_order(f) of its lane.
  template <class E>
  SSM_DEVICE void stage(const Shared<E>& tile, int count, int steps, int orders = 1) const {
    if (!present) return;
    const int steps_at_once = at.threads() / at.slice();
    Column<const V> value = from;
    SSM_UNROLL
    for (int k = 0; k < steps; k += steps_at_once, value.move(steps_at_once)) {
      const int t = k + begin;
      if (steps % steps_at_once != 0 && t >= steps) break;
      const E now = is_state && t < count ? E(widen(*value)) : E(Real<E>(0));
      SSM_UNROLL
      for (int order = 0; order < orders; ++order)
        tile[(t * orders + order) * at.slice() + (n ^ flip_of_order(order))] = now;
    }
  }
};

/// The sum over the lanes of a channel, in each of them.
template <class R>
SSM_DEVICE R sum_lanes(Block& block, R x, int lanes) {
  for (int mask = 1; mask < lanes; mask *= 2) x += block.shuffle_xor(x, mask);
  return x;
}

}  // namespace ssm::kernels
