#pragma once

#include <algorithm>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/scan/detail/selective_scan_blocks.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// What a selective scan does to a state over a whole piece of time, without its outputs.
///
/// Forward, a piece takes the state before it to x_end = e^{A ΣΔ} x_before + x, where x is the last
/// state from zero; backward, a gradient to g_before = conj(e^{A ΣΔ}) g_end + g. A summary is the
/// pair of ΣΔ, one number a channel, and x or g. Two pieces one after the other have a summary as
/// well,
///
///   (ΣΔ₂, x₂) ∘ (ΣΔ₁, x₁) = (ΣΔ₂ + ΣΔ₁, e^{A ΣΔ₂} x₁ + x₂),
///
/// so that those of many pieces can be taken in any grouping, but in the order of time alone.
/// log₂(ranks) rounds of messages give every rank that of all ranks before it, with the same bits
/// in every run. A summary lies in memory as (sequence, vector of channels, {states…, ΣΔ}).
template <class K>
class SelectiveSummaries : SelectiveBlocks<K> {
  using Base = SelectiveBlocks<K>;
  using Base::W, Base::parts, Base::in_, Base::options_, Base::sizes_, Base::blocks_,
      Base::block_states_;
  using typename Base::T;
  static constexpr int most_states = 4;  // in registers

 public:
  /// @param room for all that these summaries need
  SelectiveSummaries(const SelectiveScanInputs<T, K>& in, const SelectiveScanOptions& options,
                     const SelectiveSizes& sizes, Tensor<T, 1>& room)
      : Base(in, options, sizes) {
    const Index each = Base::block_rates() + 2 * block_states_;
    room.resize({blocks_ * each + 3 * size()});
    rates_ = room.data();
    own_ = rates_ + blocks_ * each;
    for (Index b = 0; b < blocks_; ++b) {
      const ChannelBlock at = Base::block(b);
      Base::pack_rates(at, rates_ + b * each);
      const auto pack = [&](const View<const K, 2>& constant, T* to) {
        if (constant)
          Base::load_states(constant.data() + at.first * constant.stride(0), constant.stride(0),
                            constant.stride(1), at.count, to);
      };
      pack(in_.B.constant, rates_ + b * each + Base::block_rates());
      pack(in_.C.constant, rates_ + b * each + Base::block_rates() + block_states_);
    }
  }

  /// Writes the states before the steps of these ranks; on the first there are none before.
  /// @param chain the order of time
  void pass_forward(const Cpu& backend, const Chain& chain, const View<const K, 3>& initial_state,
                    const View<K, 3>& before) const {
    const View<const K, 3> from = chain.is_first() ? initial_state : View<const K, 3>();
    if (!chain.is_last())
      Base::is_exact() ? sum_up<true, true>(backend, {}, from)
                       : sum_up<true, false>(backend, {}, from);
    pass<true>(backend, chain, before);
  }
  /// Writes the gradients by the states after the steps of these ranks.
  /// @param chain the order in which gradients pass, which is against time
  void pass_backward(const Cpu& backend, const Chain& chain, const View<const T, 3>& dy,
                     const View<const K, 3>& dfinal, const View<K, 3>& after) const {
    if (!chain.is_last())
      sum_up<false, false>(backend, dy, chain.is_first() ? dfinal : View<const K, 3>());
    pass<false>(backend, chain, after);
  }

 private:
  /// How many numbers a summary has.
  [[nodiscard]] Index size() const noexcept {
    return sizes_.sequences * blocks_ * (block_states_ + W);
  }

  /// The states that the summaries of all ranks before this one give together. In round k a rank
  /// sends what it knows of itself and the 2^k − 1 ranks before it to the rank 2^k after it.
  template <bool Forward>
  void pass(const Cpu& backend, const Chain& chain, const View<K, 3>& states) const {
    T *const before = own_ + size(), *const message = before + size();
    bool known = false;  // whether `before` holds a summary
    for (int places = 1; places < chain.size(); places *= 2) {
      if (chain.has_after(places)) {
        if (known) join<Forward>(backend, own_, before, message);
        chain.send_to_after(View<T, 1>(known ? message : own_, {size()}), places);
      }
      if (!chain.has_before(places)) continue;
      chain.receive_from_before(View<T, 1>(known ? message : before, {size()}), places);
      if (known) join<Forward>(backend, before, message, before);
      known = true;
    }
    for (Index i = 0; known && i < sizes_.sequences * blocks_; ++i)
      Base::store_states(states, i / blocks_, Base::block(i % blocks_),
                         before + i * (block_states_ + W));
  }

  /// to ← second ∘ first, of gradients where not Forward; `to` may be either.
  template <bool Forward>
  void join(const Cpu& backend, const T* second, const T* first, T* to) const {
    constexpr double nanoseconds = 1.5;
    const Index units = sizes_.sequences * blocks_;
    const Cpu worth = for_work(backend, nanoseconds * static_cast<double>(units * sizes_.state));
    parallel_for(worth, units, [&](Index i) {
      const T* const A = rates_of(i % blocks_);
      const Index at = i * (block_states_ + W), sums = at + block_states_;
      const Vec<T> delta = Vec<T>::load(second + sums);
      const StepSize<K, false> step(delta);
      for (Index n = 0; n < block_states_; n += parts * W) {
        const StateVec<K> decay = step.at(A + n, nullptr).decay;
        store_state(add_product(load_state<K>(first + at + n), Forward ? decay : conjugate(decay),
                                load_state<K>(second + at + n)),
                    to + at + n);
      }
      (delta + Vec<T>::load(first + sums)).store(to + sums);
    });
  }

  /// A few steps of a sequence, and where in memory they are.
  struct Tile {
    Index sequence, steps;
    Index times[tile_steps];
  };

  [[nodiscard]] const T* rates_of(Index b) const noexcept {
    return rates_ + b * (Base::block_rates() + 2 * block_states_);
  }

  /// The summary of this rank: takes states through all its steps, in the order of time or against
  /// it, tile by tile, as selective_scan does.
  template <bool Forward, bool Exact>
  void sum_up(const Cpu& all_threads, const View<const T, 3>& dy,
              const View<const K, 3>& from) const {
    const auto run = [&](Index sequence, Index first_block, Index last_block) {
      const auto of = [&](Index b) {
        return own_ + (sequence * blocks_ + b) * (block_states_ + W);
      };
      for (Index b = first_block; b < last_block; ++b) {
        Base::load_states(from, sequence, Base::block(b), of(b));
        Vec<T>(T(0)).store(of(b) + block_states_);
      }
      for (Index begin = 0; begin < sizes_.length; begin += tile_steps) {
        Tile tile{sequence, (std::min)(tile_steps, sizes_.length - begin), {}};
        for (Index s = 0; s < tile.steps; ++s)
          tile.times[s] =
              Forward != in_.sequences.reversed ? begin + s : sizes_.length - 1 - begin - s;
        for (Index b = first_block; b < last_block; ++b)
          scan_tile<Forward, Exact>(tile, b, dy, of(b));
      }
    };
    const Index units = sizes_.sequences * blocks_;
    parallel_ranges(Base::threads_worth(all_threads, 1), units, [&](Index begin, Index end) {
      while (begin < end) {
        const Index sequence = begin / blocks_;
        const Index stop = (std::min)(end, (sequence + 1) * blocks_);
        run(sequence, begin - sequence * blocks_, stop - sequence * blocks_);
        begin = stop;
      }
    });
  }

  /// The channels of a block from evenly spaced elements.
  [[nodiscard]] static Vec<T> row(const T* data, Index stride, const ChannelBlock& at) noexcept {
    if (stride == 1) return Vec<T>::load(data + at.first, at.count);
    alignas(64) T channels[W] = {};
    for (Index lane = 0; lane < at.count; ++lane) channels[lane] = data[(at.first + lane) * stride];
    return Vec<T>::load(channels);
  }

  /// Takes the states of a block at `x` through a tile, and adds to ΣΔ behind them.
  template <bool Forward, bool Exact>
  void scan_tile(const Tile& tile, Index b, const View<const T, 3>& dy, T* x) const noexcept {
    const ChannelBlock at = Base::block(b);
    const Vec<T> bias =
        in_.delta_bias ? row(in_.delta_bias.data(), in_.delta_bias.stride(0), at) : Vec<T>(T(0));
    alignas(64) T deltas[tile_steps * W], inputs[tile_steps * W];
    Vec<T> sum(T(0));
    for (Index s = 0; s < tile.steps; ++s) {
      const auto now = [&](const View<const T, 3>& view) {
        return row(view.data() + tile.sequence * view.stride(0) + tile.times[s] * view.stride(1),
                   view.stride(2), at);
      };
      const Vec<T> raw = now(in_.delta) + bias;
      const Vec<T> delta = options_.softplus ? softplus(raw) : raw;
      delta.store(deltas + s * W);
      sum = sum + delta;
      Vec<T> input = now(Forward ? in_.u : dy);
      if constexpr (Forward) {
        if (!Exact) input = input * delta;
      } else {
        if (in_.z) {
          const Vec<T> z = now(in_.z);
          input = input * z * sigmoid(z);
        }
        input = input * Vec<T>(output_scale<K>);
      }
      input.store(inputs + s * W);
    }
    (Vec<T>::load(x + block_states_) + sum).store(x + block_states_);
    for_state_chunks<most_states, 4>(0, sizes_.state, [&](auto states, Index first) {
      const auto scan = [&](auto varies) {
        scan_chunk<Forward, Exact, states, varies>(tile, b, deltas, inputs, first, x);
      };
      (Forward ? in_.B : in_.C).varying ? scan(std::true_type{}) : scan(std::false_type{});
    });
  }

  /// The states [first, first + States) of a block through a tile, in registers.
  template <bool Forward, bool Exact, int States, bool Varies>
  void scan_chunk(const Tile& tile, Index b, const T* deltas, const T* inputs, Index first,
                  T* x) const noexcept {
    constexpr Index each = parts * W;
    const auto& varying = (Forward ? in_.B : in_.C).varying;
    const T* const A = rates_of(b) + first * each;
    [[maybe_unused]] const T* const inverse = Exact ? A + block_states_ : A;
    [[maybe_unused]] const T* const constant =
        A + Base::block_rates() + (Forward ? 0 : block_states_);
    StateVec<K> h[States];
    unroll<States>([&](auto n) { h[n] = load_state<K>(x + (first + n) * each); });
    for (Index s = 0; s < tile.steps; ++s) {
      const StepSize<K, Exact> step(Vec<T>::load(deltas + s * W));
      const Vec<T> input = Vec<T>::load(inputs + s * W);
      const K* at = nullptr;
      if constexpr (Varies)
        at = varying.data() + tile.sequence * varying.stride(0) +
             tile.times[s] * varying.stride(1) + Base::block(b).group * varying.stride(2) +
             first * varying.stride(3);
      unroll<States>([&](auto n) __attribute__((always_inline)) {
        StateVec<K> coefficient;
        if constexpr (Varies)
          coefficient = broadcast(at[n * varying.stride(3)]);
        else
          coefficient = load_state<K>(constant + n * each);
        const HeldDecay<K> held = step.at(A + n * each, inverse + n * each);
        if constexpr (!Forward)
          h[n] = product_conj(add_product(input, conjugate(coefficient), h[n]), held.decay);
        else if constexpr (Exact)
          h[n] = add_product(held.hold, product(input, coefficient), product(h[n], held.decay));
        else
          h[n] = add_product(input, coefficient, product(h[n], held.decay));
      });
    }
    unroll<States>([&](auto n) { store_state(h[n], x + (first + n) * each); });
  }

  T* rates_;  ///< of each block: those of pack_rates, then a constant B and C, as states lie
  T* own_;    ///< the summary of this rank, that of all before it, and a message
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
