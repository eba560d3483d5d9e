#pragma once

#include "selective_shape.hpp"

namespace ssm::kernels {

// Whole tiles of whole panels, as the 16 float states of Mamba have them: 32 channels by four
// lanes. What a tile needs is read in packs while the tile before is worked on.

/// Four steps of one channel, and two channels at some steps, as a thread reads or writes them.
template <class R>
using FourSteps = Pack<R, 4>;
template <class T, int Steps>
struct PairSteps {
  Words<T, 2> step[Steps];

  SSM_DEVICE const Words<T, 2>& operator[](int i) const { return step[i]; }
};

/// Δ and Δu of a channel at two steps.
template <class R>
using TwoSteps = Pack<R, 4>;

/// Which two adjacent channels, and which steps of a tile, a thread brings in for its block.
struct PairPlace {
  static constexpr int pairs = full_width / 2;
  int pair;        ///< of channels
  int first_step;  ///< of the thread
  Index channel;   ///< the first, among all
  Index row;

  template <class Place>
  SSM_DEVICE PairPlace(const Block& block, const Place& at, int steps)
      : pair(block.thread() % pairs),
        first_step(block.thread() / pairs * steps),
        channel(at.first_channel + 2 * pair),
        row(at.row) {}

  /// The seat of its channel i.
  SSM_DEVICE int seat(int i) const { return pair + pairs * i; }
  /// From `position` on.
  template <class T>
  SSM_DEVICE Column<T> column(const Array<T, 3>& array, Index position) const {
    return {
        array.data + row * array.stride[0] + (position + first_step) * array.stride[1] + channel,
        array.stride[1]};
  }
};

/// Whether pairs of channels of (rows, steps, channels) lie side by side, each at a whole address,
/// or the array is absent.
template <class T>
bool has_pairs(const Array<T, 3>& array) {
  return !array.present ||
         (array.stride[2] == 1 && array.stride[0] % 2 == 0 && array.stride[1] % 2 == 0 &&
          reinterpret_cast<std::uintptr_t>(array.data) % (2 * sizeof(T)) == 0);
}
/// The same of four states of (rows, steps, groups, state).
template <class V>
bool has_quads(const Array<V, 4>& array) {
  return array.stride[3] == 1 && array.stride[0] % 4 == 0 && array.stride[1] % 4 == 0 &&
         array.stride[2] % 4 == 0 &&
         reinterpret_cast<std::uintptr_t>(array.data) % (4 * sizeof(V)) == 0;
}
/// Whether whole tiles may move in packs, as far as what every kernel reads says.
template <class T, class E>
bool has_packs(const SelectiveArguments<T, E>& in, const SelectiveShape& shape) {
  return std::is_same_v<E, float> && shape.lanes == 4 && shape.state == 16 &&
         shape.sequences.offsets == nullptr && !in.is_general() && shape.group_channels % 2 == 0 &&
         has_pairs(in.u) && has_pairs(in.delta) && has_quads(in.B) && has_quads(in.C);
}

/// Steps from `count` on are not read.
template <int Steps, class T>
SSM_DEVICE PairSteps<T, Steps> load_pairs(const Column<const T>& from, int count = Steps) {
  PairSteps<T, Steps> steps{};
  SSM_UNROLL
  for (int k = 0; k < Steps; ++k)
    if (k < count) steps.step[k] = load_words<2>(from.at + k * from.step);
  return steps;
}

/// Where a thread reads the `quad`-th four adjacent states of a tile of B or C.
template <class V, class Place>
SSM_DEVICE Column<const V> quad_of_states(const Place& at, const Array<const V, 4>& array,
                                          Index position, int quad) {
  const int quads = at.slice() / 4, t = quad / quads, n = quad % quads * 4;
  return {array.data + at.row * array.stride[0] + (position + t) * array.stride[1] +
              at.group * array.stride[2] + n,
          array.stride[1]};
}

/// Places in shared memory: of two steps of a seat, and of four steps of what a lane adds to its
/// channel's sum. Neither the threads that work on a seat nor those that bring a pair in or carry
/// it out meet in a bank.
SSM_DEVICE int place_of_two(int step, int seat) { return step / 2 * full_width + seat; }
SSM_DEVICE int place_of_share(int step, int lane, int seat) {
  return (step / 4 * 4 + lane) * full_width + (seat ^ (2 * lane));
}

/// What the recurrence of a lane reads of four steps.
template <class E>
struct LaneQuad {
  TwoSteps<E> two[2];
  LaneStates<E> b[4], c[4];

  template <class Place>
  SSM_DEVICE LaneQuad(const Place& at, const Shared<TwoSteps<E>>& inputs, const Shared<E>& B,
                      const Shared<E>& C, int first) {
    SSM_UNROLL
    for (int k = 0; k < 4; ++k) {
      const int n = (first + k) * at.slice() + at.lane * lane_states;
      if (k % 2 == 0) two[k / 2] = inputs[place_of_two(first + k, at.seat)];
      b[k] = B.template load<lane_states>(n), c[k] = C.template load<lane_states>(n);
    }
  }
  /// Takes x over the steps and returns C·x of the lane's states at each.
  SSM_DEVICE FourSteps<E> scan(const LaneModes<E>& modes, LaneStates<E>& x) const {
    FourSteps<E> sums;
    SSM_UNROLL
    for (int k = 0; k < 4; ++k) {
      const E delta = two[k / 2][k % 2 * 2], input = two[k / 2][k % 2 * 2 + 1];
      E sum = 0;
      SSM_UNROLL
      for (int p = 0; p < lane_states; ++p) {
        x[p] = modes.decay(p, delta) * x[p] + input * b[k][p];
        sum += c[k][p] * x[p];
      }
      sums[k] = sum;
    }
    return sums;
  }
};

/// The sums over the four lanes of a channel, at four steps.
template <class R>
SSM_DEVICE FourSteps<R> sum_of_shares(const Shared<FourSteps<R>>& shares, int step, int seat) {
  FourSteps<R> sum = shares[place_of_share(step, 0, seat)];
  SSM_UNROLL
  for (int lane = 1; lane < 4; ++lane) {
    const FourSteps<R> share = shares[place_of_share(step, lane, seat)];
    SSM_UNROLL
    for (int k = 0; k < 4; ++k) sum[k] += share[k];
  }
  return sum;
}

/// Puts Δ and Δu of a pair's four steps where the recurrence reads them.
template <class R, class T>
SSM_DEVICE void stage_pairs(const Shared<TwoSteps<R>>& inputs, const PairPlace& at,
                            const PairSteps<T, 4>& delta, const PairSteps<T, 4>& u,
                            const R (&bias)[2]) {
  SSM_UNROLL
  for (int i = 0; i < 2; ++i) {
    SSM_UNROLL
    for (int k = 0; k < 4; k += 2) {
      TwoSteps<R> two;
      SSM_UNROLL
      for (int j = 0; j < 2; ++j) {
        const R d = Softplus<R, T>(R(widen(delta[k + j][i])) + bias[i]).value;
        two[2 * j] = d;
        two[2 * j + 1] = d * R(widen(u[k + j][i]));
      }
      inputs[place_of_two(at.first_step + k, at.seat(i))] = two;
    }
  }
}

/// Puts four states of a step of B or C where the recurrence reads them.
template <class E, class V>
SSM_DEVICE void stage_states(Block& block, const Shared<E>& tile, const Words<V, 4>& value) {
  Pack<E, 4> wide;
  SSM_UNROLL
  for (int n = 0; n < 4; ++n) wide[n] = E(widen(value[n]));
  tile.template store<4>(4 * block.thread(), wide);
}

}  // namespace ssm::kernels
