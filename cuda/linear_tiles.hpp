#pragma once

#include "arrays.hpp"
#include "complex.hpp"
#include "launch.hpp"
#include "row_sequences.hpp"

namespace ssm::kernels {

// Linear scans over rows, of all channels at once where they are enough to fill a device. Else rows
// are cut into tiles, a block to each, whose threads lie over channels and, where these are few,
// over time.

/// x ← decay x + add, for a run of steps; `fresh` where a sequence starts in it, so that nothing of
/// x is left, be it finite or not.
template <class E>
struct Affine {
  E decay{Real<E>(1)}, add{Real<E>(0)};
  int fresh = 0;

  SSM_DEVICE E operator()(E x) const { return fresh != 0 ? add : decay * x + add; }
  /// This run and then the next one.
  SSM_DEVICE Affine then(const Affine& next) const {
    if (next.fresh != 0) return next;
    return {next.decay * decay, next.decay * add + next.add, fresh};
  }
};

/// Walks over the sequences of a row, step by step.
struct Starts {
  const RowSequences& sequences;
  Index k;     ///< the sequence of the last step
  Index next;  ///< where the one after it starts

  /// Before the step at `position`.
  SSM_DEVICE Starts(const RowSequences& s, Index position)
      : sequences(s), k(position > 0 ? s.before(position) : -1), next(position > 0 ? end() : 0) {}
  /// Moves on to this step, and whether a sequence starts with it.
  SSM_DEVICE bool at(Index t) {
    if (t != next) return false;
    k = sequences.before(t + 1);
    next = end();
    return true;
  }

 private:
  SSM_DEVICE Index end() const {
    return k + 1 < sequences.count ? sequences.start(k + 1) : sequences.length;
  }
};

/// How a scan lies over tiles.
template <class E>
struct LinearTileShape {
  static constexpr int threads = 256;
  static constexpr int thread_steps = 64 / static_cast<int>(sizeof(E));

  Index rows, channels;
  RowSequences sequences;
  int width;  ///< channels of a block, a power of two up to a warp
  Index panels, tiles;

  LinearTileShape(Index row_count, Index channel_count, const RowSequences& row_sequences)
      : rows(row_count), channels(channel_count), sequences(row_sequences), width(1) {
    while (width < warp && width < channels) width *= 2;
    panels = (channels + width - 1) / width;
    tiles = (sequences.length + steps() - 1) / steps();
  }
  /// Whether tiles take less time than one thread a row and channel, which reads everything once:
  /// by the shape alone, so that the bits do not depend on the device.
  bool is_cut() const {
    constexpr Index enough_threads = 132 * 512;
    return sequences.length >= 256 && rows * channels < enough_threads;
  }
  SSM_HOST_DEVICE Index steps() const { return threads * thread_steps / width; }
  Index states() const { return rows * tiles * channels; }
  /// Whether a tile leaves nothing of the state that enters it.
  SSM_DEVICE bool starts_in(Index tile) const {
    return tile == 0 || sequences.starts_in(tile * steps(), (tile + 1) * steps());
  }
};

/// Which channel a thread of a block has, and its place among the threads of that channel.
struct LinearPlace {
  int local, order, width;

  SSM_DEVICE LinearPlace(const Block& block, int block_width)
      : local(block.thread() % block_width),
        order(block.thread() / block_width),
        width(block_width) {}
};

/// What all runs before a thread's own do to a state: `mine` is that of each thread's run. Takes
/// two barriers for every doubling of the threads of a channel.
template <class E>
SSM_DEVICE Affine<E> runs_before(Block& block, const LinearPlace& at, const Affine<E>& mine) {
  const Shared<E> decays = block.shared<E>(block.threads()),
                  adds = block.shared<E>(block.threads());
  const Shared<int> fresh = block.shared<int>(block.threads());
  const int i = block.thread(), orders = block.threads() / at.width;
  const auto put = [&](const Affine<E>& run) {
    decays[i] = run.decay, adds[i] = run.add, fresh[i] = run.fresh;
  };
  const auto get = [&](int back) {
    const int j = i - back * at.width;
    return Affine<E>{E(decays[j]), E(adds[j]), int(fresh[j])};
  };
  Affine<E> sum = mine;
  put(sum);
  block.sync();
  for (int back = 1; back < orders; back *= 2) {
    if (at.order >= back) sum = get(back).then(sum);
    block.sync();
    put(sum);
    block.sync();
  }
  return at.order > 0 ? get(1) : Affine<E>();
}

/// The steps x_t = a_t x_{t−1} + b_t, and what is written of them.
template <class E>
struct LinearSteps {
  Array<const E, 3> a, b;
  Array<const E, 2> initial;
  Array<E, 3> x;
  Array<E, 2> final_state;

  SSM_DEVICE Affine<E> load(Index row, Index t, Index c) const {
    return {a(row, t, c), b(row, t, c)};
  }
  /// The state after the first step of a sequence.
  SSM_DEVICE E start(const Affine<E>& step, Index number, Index c) const {
    return initial.present ? step(initial(number, c)) : step.add;
  }
  SSM_DEVICE void write(const RowSequences&, Index row, Index t, Index c, E state) const {
    x(row, t, c) = state;
  }
  SSM_DEVICE void finish(Index, Index number, Index, Index c, E state) const {
    if (final_state.present) final_state(number, c) = state;
  }
  SSM_DEVICE void skip(Index number, Index c) const {
    if (final_state.present)
      final_state(number, c) = initial.present ? initial(number, c) : E(Real<E>(0));
  }
};

/// The adjoints G_t = dx_t + conj(a_{t+1}) G_{t+1} of the states, all arrays in the order of time
/// turned round, where they are such a scan again; and the gradients made from them.
template <class E>
struct LinearAdjointSteps {
  Array<const E, 3> a, x, dx;
  Array<const E, 2> initial, dfinal;
  Array<E, 3> da, db;
  Array<E, 2> dinitial;

  SSM_DEVICE Affine<E> load(Index row, Index t, Index c) const {
    return {t > 0 ? conjugate(a(row, t - 1, c)) : E(Real<E>(0)),
            dx.present ? dx(row, t, c) : E(Real<E>(0))};
  }
  SSM_DEVICE E start(const Affine<E>& step, Index number, Index c) const {
    return dfinal.present ? step.add + dfinal(number, c) : step.add;
  }
  SSM_DEVICE void write(const RowSequences& sequences, Index row, Index t, Index c, E g) const {
    if (db.present) db(row, t, c) = g;
    if (!da.present) return;
    const Index k = sequences.before(t + 1);
    E before(Real<E>(0));
    if (t + 1 < (k + 1 < sequences.count ? sequences.start(k + 1) : sequences.length))
      before = x(row, t + 1, c);
    else if (initial.present)
      before = initial(sequences.number(row, k), c);
    da(row, t, c) = g * conjugate(before);
  }
  SSM_DEVICE void finish(Index row, Index number, Index t, Index c, E g) const {
    if (dinitial.present) dinitial(number, c) = conjugate(a(row, t, c)) * g;
  }
  SSM_DEVICE void skip(Index number, Index c) const {
    if (dinitial.present) dinitial(number, c) = dfinal.present ? dfinal(number, c) : E(Real<E>(0));
  }
};

/// Scans a tile: writes its steps, or, where `decays` are given, only what all of it does to a
/// state.
template <class E, class Steps>
struct LinearTiles {
  static constexpr int most_threads = LinearTileShape<E>::threads;
  static constexpr int thread_steps = LinearTileShape<E>::thread_steps;

  LinearTileShape<E> shape;
  Steps of;
  E *decays, *adds;  ///< (rows, tiles, channels) of the tiles' runs, null: to scan
  const E* entries;  ///< the same, of the states that enter tiles; null: there is one tile

  static Index shared_bytes() {
    return 2 * shared_size<E>(place(most_threads * thread_steps)) +
           2 * shared_size<E>(most_threads) + shared_size<int>(most_threads);
  }

  SSM_DEVICE void operator()(Block& block) const {
    const LinearPlace at(block, shape.width);
    const Index panel = block.index() % shape.panels, over = block.index() / shape.panels;
    const Index tile = over % shape.tiles, row = over / shape.tiles;
    const Index channel = panel * shape.width + at.local, steps = shape.steps();
    const Index first = tile * steps, length = shape.sequences.length;
    const bool inside = channel < shape.channels;
    const Shared<E> a = block.shared<E>(place(most_threads * thread_steps));
    const Shared<E> b = block.shared<E>(place(most_threads * thread_steps));
    const int orders = most_threads / shape.width;

    // Neighbouring threads bring in neighbouring channels and steps.
    SSM_UNROLL
    for (int s = 0; s < thread_steps; ++s) {
      const int t = s * orders + at.order;
      Affine<E> step;
      if (inside && first + t < length) step = of.load(row, first + t, channel);
      a[place(t * shape.width + at.local)] = step.decay;
      b[place(t * shape.width + at.local)] = step.add;
    }
    block.sync();

    const int begin = at.order * thread_steps;
    const Index end = inside ? length - first : 0;
    Affine<E> run;
    Starts starts(shape.sequences, first + begin);
    for (int t = begin; t < begin + thread_steps; ++t) {
      if (t >= end) break;
      const int e = place(t * shape.width + at.local);
      Affine<E> step{E(a[e]), E(b[e])};
      if (starts.at(first + t))
        step = {E(Real<E>(0)), of.start(step, shape.sequences.number(row, starts.k), channel), 1};
      run = run.then(step);
    }
    const Affine<E> before = runs_before(block, at, run);
    const Index state = (row * shape.tiles + tile) * shape.channels + channel;
    if (decays != nullptr) {
      const Affine<E> all = before.then(run);
      if (inside && at.order + 1 == orders) decays[state] = all.decay, adds[state] = all.add;
      return;
    }

    E x = before(entries != nullptr && inside ? entries[state] : E(Real<E>(0)));
    Starts again(shape.sequences, first + begin);
    for (int t = begin; t < begin + thread_steps; ++t) {
      if (t >= end) break;
      const int e = place(t * shape.width + at.local);
      const Affine<E> step{E(a[e]), E(b[e])};
      const bool starting = again.at(first + t);
      const Index number = shape.sequences.number(row, again.k);
      x = starting ? of.start(step, number, channel) : step(x);
      b[e] = x;
      if (first + t + 1 == again.next) of.finish(row, number, first + t, channel, x);
    }
    block.sync();
    SSM_UNROLL
    for (int s = 0; s < thread_steps; ++s) {
      const int t = s * orders + at.order;
      if (t < end)
        of.write(shape.sequences, row, first + t, channel, b[place(t * shape.width + at.local)]);
    }
  }

 private:
  /// Of an element in shared memory: threads of one channel that lie over time read as many banks.
  SSM_HOST_DEVICE static constexpr int place(int e) { return e + e / warp; }
};

/// Turns what tiles do to a state into the states that enter them, in place of `adds`: a block a
/// row and panel.
template <class E>
struct LinearTileCarry {
  static constexpr int most_threads = LinearTileShape<E>::threads;

  LinearTileShape<E> shape;
  const E* decays;
  E* adds;

  static Index shared_bytes() {
    return 2 * shared_size<E>(most_threads) + shared_size<int>(most_threads);
  }

  SSM_DEVICE void operator()(Block& block) const {
    const LinearPlace at(block, shape.width);
    const Index row = block.index() / shape.panels;
    const Index channel = block.index() % shape.panels * shape.width + at.local;
    const int orders = most_threads / shape.width;
    const Index each = (shape.tiles + orders - 1) / orders, begin = at.order * each;
    Index end = begin + each < shape.tiles ? begin + each : shape.tiles;
    if (channel >= shape.channels) end = 0;
    const auto run_of = [&](Index tile) {
      const Index i = (row * shape.tiles + tile) * shape.channels + channel;
      return Affine<E>{decays[i], adds[i], shape.starts_in(tile) ? 1 : 0};
    };
    Affine<E> run;
    SSM_UNROLL_BY(4)
    for (Index tile = begin; tile < end; ++tile) run = run.then(run_of(tile));
    E x = runs_before(block, at, run)(E(Real<E>(0)));
    walk_ahead<4>(
        end - begin, [&](Index i) { return run_of(begin + i); },
        [&](Index i, const Affine<E>& now) {
          adds[(row * shape.tiles + begin + i) * shape.channels + channel] = x;
          x = now(x);
        });
  }
};

/// One thread a row and channel. The next steps are loaded before these are written.
template <class E, class Steps>
struct LinearRows {
  static constexpr int ahead = 64 / static_cast<int>(sizeof(E));

  LinearTileShape<E> shape;
  Steps of;

  SSM_DEVICE void operator()(Index i) const {
    const Index row = i / shape.channels, c = i % shape.channels, length = shape.sequences.length;
    Starts starts(shape.sequences, 0);
    E x(Real<E>(0));
    walk_ahead<ahead>(
        length, [&](Index t) { return of.load(row, t, c); },
        [&](Index t, const Affine<E>& step) {
          const bool starting = starts.at(t);
          const Index number = shape.sequences.number(row, starts.k);
          x = starting ? of.start(step, number, c) : step(x);
          of.write(shape.sequences, row, t, c, x);
          if (t + 1 == starts.next) of.finish(row, number, t, c, x);
        });
  }
};

/// What empty sequences hand on: one thread a sequence and channel.
template <class E, class Steps>
struct LinearEmptySequences {
  LinearTileShape<E> shape;
  Steps of;

  SSM_DEVICE void operator()(Index i) const {
    const Index k = i / shape.channels, c = i % shape.channels;
    const RowSequences& s = shape.sequences;
    const bool packed = s.offsets != nullptr;
    if (!packed || s.start(k) == (k + 1 < s.count ? s.start(k + 1) : s.length))
      of.skip(s.number(packed ? 0 : k, packed ? k : 0), c);
  }
};

/// Scans rows, by tiles where they are cut, with memory for two states of each then.
template <class E, class Steps>
void scan_rows(const Cuda& backend, const char* function, const LinearTileShape<E>& shape,
               const Steps& steps, E* decays, E* adds) {
  using Tiles = LinearTiles<E, Steps>;
  const Index blocks = shape.rows * shape.panels * shape.tiles;
  const bool many = shape.tiles > 1;
  if (!shape.is_cut()) {
    launch_elementwise(backend, function, shape.rows * shape.channels,
                       LinearRows<E, Steps>{shape, steps});
  } else {
    if (many) {
      launch(backend, function, blocks, Tiles::most_threads, Tiles::shared_bytes(),
             Tiles{shape, steps, decays, adds, nullptr});
      launch(backend, function, shape.rows * shape.panels, Tiles::most_threads,
             LinearTileCarry<E>::shared_bytes(), LinearTileCarry<E>{shape, decays, adds});
    }
    launch(backend, function, blocks, Tiles::most_threads, Tiles::shared_bytes(),
           Tiles{shape, steps, nullptr, nullptr, many ? adds : nullptr});
  }
  const bool packed = shape.sequences.offsets != nullptr;
  if (packed || shape.sequences.length == 0)
    launch_elementwise(backend, function,
                       (packed ? shape.sequences.count : shape.rows) * shape.channels,
                       LinearEmptySequences<E, Steps>{shape, steps});
}

}  // namespace ssm::kernels
