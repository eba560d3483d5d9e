#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_group.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/detail/selective_scan_lanes.hpp"
#include "ssm/scan/selective_scan_types.hpp"

/// The inner loops of the fast selective scan.
///
/// A vector holds one state of lanes<T> neighbouring channels, so B_t and C_t are broadcast, the
/// sum over states needs no shuffle, and u, Δ, y are read as they lie in memory. A block of
/// channels is taken through a tile of a few steps with its states in registers; then the next
/// block goes through the same tile, so that every row of u, Δ and y is walked once from left to
/// right.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Steps in a tile, and between the states that forward saves for backward.
inline constexpr Index tile_steps = 16;

/// Asks for the line `elements` past `p`, which may lie outside of any array: the rows of a tile
/// are too many streams for the hardware to foresee.
template <class T>
void prefetch(const T* p, Index elements) noexcept {
  const auto bytes = static_cast<std::uintptr_t>(elements) * sizeof(T);
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(p) + bytes));
}

/// The same for a line that is about to be written.
template <class T>
void prefetch_to_write(T* p, Index elements) noexcept {
  const auto bytes = static_cast<std::uintptr_t>(elements) * sizeof(T);
  __builtin_prefetch(reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(p) + bytes), 1);
}

/// The rows of a sequence in the order of time, from a channel or a group on.
template <class T>
struct Rows {
  T* data = nullptr;
  Index stride = 0;

  [[nodiscard]] T* at(Index step) const noexcept { return data + step * stride; }
  [[nodiscard]] Rows shifted(Index elements) const noexcept { return {data + elements, stride}; }
  [[nodiscard]] Rows from(Index step) const noexcept { return {data + step * stride, stride}; }
  explicit operator bool() const noexcept { return data != nullptr; }
};

/// Δ ← softplus(Δ) of a tile (step, lanes), with room for tile_steps: a step has the same bits
/// wherever in a tile it stands.
template <class T>
[[gnu::flatten]] void softplus_tile(Index steps, T* delta) noexcept {
  std::fill_n(delta + steps * lanes<T>, (tile_steps - steps) * lanes<T>, T(0));
  for (T* p = delta; p < delta + steps * lanes<T>; p += 4 * lanes<T>)
    softplus(VecGroup<T, 4>::load(p)).store(p);
}

/// Per step and lane, what backward has of a tile that every state shares, in memory that it is
/// given.
template <class T>
struct BackwardTile {
  static constexpr Index each = tile_steps * lanes<T>;
  static constexpr Index size = 7 * each;
  T* room;

  [[nodiscard]] T* delta() const noexcept { return room; }              ///< Δ
  [[nodiscard]] T* input() const noexcept { return room + each; }       ///< Δ u; u: the exact hold
  [[nodiscard]] T* slope() const noexcept { return room + 2 * each; }   ///< softplus′
  [[nodiscard]] T* y() const noexcept { return room + 3 * each; }       ///< C·x + D u
  [[nodiscard]] T* dy() const noexcept { return room + 4 * each; }      ///< ∂loss/∂(C·x + D u)
  [[nodiscard]] T* dinput() const noexcept { return room + 5 * each; }  ///< ∂loss/∂input
  /// ∂loss/∂Δ by all other ways.
  [[nodiscard]] T* ddelta() const noexcept { return room + 6 * each; }
};

/// What a chunk of states reads at every step, and their decay rates. A and inverse (1/A, of the
/// exact hold alone) are (states, parts, lanes); B and C point at the first of the states.
template <class K>
struct ScanChunk {
  const Real<K>* A;
  const Real<K>* inverse;
  Rows<const K> B, C;
};

/// States whose exponentials go in step, as many as the registers hold beside the states.
template <int States>
inline constexpr int states_in_step = States < 4               ? States
                                      : vector_registers == 32 ? 2
                                                               : 4;

/// x_t = e^{Δ_t A} x_{t−1} + B_bar u_t and y_t ← [2 Re] C_t·x_t for `States` states over one tile;
/// y starts from D u_t with First, else from what it holds. delta is (step, lanes); x is (States,
/// parts, lanes) and updated. The first eight states are summed apart from those after them.
template <class K, bool Exact, int States, bool First, class T = Real<K>>
[[gnu::flatten]] void scan_states(Index steps, const T* delta, Rows<const T> u, Rows<T> y, Vec<T> D,
                                  const ScanChunk<K>& chunk, T* x) noexcept {
  constexpr Index W = state_parts<K> * lanes<T>;
  StateVec<K> h[States];
  unroll<States>([&](auto n) { h[n] = load_state<K>(x + n * W); });
  for (Index s = 0; s < steps; ++s) {
    const Vec<T> delta_now = Vec<T>::load(delta + s * lanes<T>);
    const Vec<T> u_now = Vec<T>::load(u.at(s));
    const StepSize<K, Exact> step(delta_now);
    const Vec<T> input = Exact ? u_now : delta_now * u_now;
    const K* b = chunk.B.at(s);
    const K* c = chunk.C.at(s);
    OutputSum<K> sum(First ? D * u_now : Vec<T>::load(y.at(s)));
    if constexpr (state_parts<K> == 1 && !Exact) {
      constexpr int group = states_in_step<States>;
      unroll<States / group>([&](auto g) __attribute__((always_inline)) {
        const auto decays = step.template decays<group>(chunk.A + g * group * W);
        unroll<group>([&](auto i) __attribute__((always_inline)) {
          constexpr int n = g * group + i;
          h[n] = add_product(input, broadcast(b[n]), h[n] * decays.v[i]);
          sum.add(broadcast(c[n]), h[n], n >= 8);
        });
      });
    } else {
      unroll<States>([&](auto n) __attribute__((always_inline)) {
        const HeldDecay<K> held = step.at(chunk.A + n * W, chunk.inverse + n * W);
        if constexpr (Exact)
          h[n] = add_product(held.hold, product(input, broadcast(b[n])), product(h[n], held.decay));
        else
          h[n] = add_product(input, broadcast(b[n]), product(h[n], held.decay));
        sum.add(broadcast(c[n]), h[n], n >= 8);
      });
    }
    sum.template total<(States > 8)>().store(y.at(s));
  }
  unroll<States>([&](auto n) { store_state(h[n], x + n * W); });
}

/// Where a chunk's gradients accumulate: g, the gradient of the state after a tile, becomes that of
/// the state before it; dA (states, parts, lanes); dB and dC (step, states, parts, lanes), lane by
/// lane, `stride` elements a step.
template <class T>
struct SelectiveChunkGradients {
  T *g, *dA, *dB, *dC;
  Index stride;
};

/// The same tile backward. x is the state before the tile. With Gated, y is computed as well.
template <class K, bool Exact, int States, bool Gated, class T = Real<K>>
void scan_states_backward(Index steps, BackwardTile<T> tile, ScanChunk<K> chunk, const T* x,
                          SelectiveChunkGradients<T> to) noexcept {
  constexpr Index W = state_parts<K> * lanes<T>;
  using State = StateVec<K>;
  // In variables of their own: stores of vectors might else change them, as far as compilers know.
  const T* const A_at = chunk.A;
  [[maybe_unused]] const T* const inverse_at = chunk.inverse;
  const Rows<const K> B = chunk.B, C = chunk.C;
  T *const dB = to.dB, *const dC = to.dC;
  const Index stride = to.stride;
  alignas(64) T decays[tile_steps * States * W];
  alignas(64) T states[(tile_steps + 1) * States * W];
  [[maybe_unused]] alignas(64) T holds[Exact ? tile_steps * States * W : 1];
  {
    State h[States];
    unroll<States>([&](auto n) { h[n] = load_state<K>(x + n * W); });
    for (Index s = 0; s < steps; ++s) {
      const StepSize<K, Exact> step(Vec<T>::load(tile.delta() + s * lanes<T>));
      const Vec<T> input = Vec<T>::load(tile.input() + s * lanes<T>);
      const K* b = B.at(s);
      T* decay_now = decays + s * States * W;
      T* state_now = states + s * States * W;
      [[maybe_unused]] const K* c = C.at(s);
      [[maybe_unused]] OutputSum<K> y(Vec<T>::load(tile.y() + s * lanes<T>));
      constexpr bool plain = state_parts<K> == 1 && !Exact;
      constexpr int group = plain ? states_in_step<States> : 1;
      unroll<States / group>([&](auto g) __attribute__((always_inline)) {
        [[maybe_unused]] VecGroup<T, group> decays;
        if constexpr (plain) decays = step.template decays<group>(A_at + g * group * W);
        unroll<group>([&](auto i) __attribute__((always_inline)) {
          constexpr int n = g * group + i;
          HeldDecay<K> held;
          if constexpr (plain)
            held.decay = decays.v[i];
          else
            held = step.at(A_at + n * W, inverse_at + n * W);
          store_state(held.decay, decay_now + n * W);
          store_state(h[n], state_now + n * W);
          if constexpr (Exact) {
            store_state(held.hold, holds + (s * States + n) * W);
            h[n] =
                add_product(held.hold, product(input, broadcast(b[n])), product(h[n], held.decay));
          } else {
            h[n] = add_product(input, broadcast(b[n]), product(h[n], held.decay));
          }
          if constexpr (Gated) y.add(broadcast(c[n]), h[n], false);
        });
      });
      if constexpr (Gated) y.template total<false>().store(tile.y() + s * lanes<T>);
    }
    unroll<States>([&](auto n) { store_state(h[n], states + (steps * States + n) * W); });
  }

  State gradient[States];
  State A_gradient[States];
  unroll<States>([&](auto n) {
    gradient[n] = load_state<K>(to.g + n * W);
    A_gradient[n] = load_state<K>(to.dA + n * W);
  });
  for (Index s = steps - 1; s >= 0; --s) {
    const Vec<T> delta = Vec<T>::load(tile.delta() + s * lanes<T>);
    const Vec<T> input = Vec<T>::load(tile.input() + s * lanes<T>);
    const Vec<T> dy = Vec<T>(output_scale<K>) * Vec<T>::load(tile.dy() + s * lanes<T>);
    Vec<T> dinput = Vec<T>::load(tile.dinput() + s * lanes<T>);
    Vec<T> ddelta = Vec<T>::load(tile.ddelta() + s * lanes<T>);
    const K* b = B.at(s);
    const K* c = C.at(s);
    T* db = dB + s * stride;
    T* dc = dC + s * stride;
    const T* decay_now = decays + s * States * W;
    const T* before = states + s * States * W;
    const T* after = before + States * W;
    unroll<States>([&](auto n) __attribute__((always_inline)) {
      const State decay = load_state<K>(decay_now + n * W);
      const State dx = add_product(dy, conjugate(broadcast(c[n])), gradient[n]);
      store_state(
          add_product(dy, conjugate(load_state<K>(after + n * W)), load_state<K>(dc + n * W)),
          dc + n * W);
      if constexpr (Exact) {
        const State hold = load_state<K>(holds + (s * States + n) * W);
        const State held = product_conj(dx, hold);
        store_state(add_product(input, held, load_state<K>(db + n * W)), db + n * W);
        dinput = add_real_product(held, broadcast(b[n]), dinput);
        const State dhold = product(input, product_conj(dx, broadcast(b[n])));
        ddelta = add_real_product(dhold, decay, ddelta);
        const State slope = hold_slope<K>(delta, load_state<K>(A_at + n * W),
                                          load_state<K>(inverse_at + n * W), {decay, hold});
        A_gradient[n] = add_product(dhold, conjugate(slope), A_gradient[n]);
      } else {
        store_state(add_product(input, dx, load_state<K>(db + n * W)), db + n * W);
        dinput = add_real_product(dx, broadcast(b[n]), dinput);
      }
      gradient[n] = product_conj(dx, decay);
      const State dexponent = product_conj(gradient[n], load_state<K>(before + n * W));
      ddelta = add_real_product(dexponent, load_state<K>(A_at + n * W), ddelta);
      A_gradient[n] = add_product(delta, dexponent, A_gradient[n]);
    });
    dinput.store(tile.dinput() + s * lanes<T>);
    ddelta.store(tile.ddelta() + s * lanes<T>);
  }
  unroll<States>([&](auto n) {
    store_state(gradient[n], to.g + n * W);
    store_state(A_gradient[n], to.dA + n * W);
  });
}

/// Calls body(constant k, first) over [first, last) in pieces of Largest, then of Largest / Divisor
/// and so on to one.
template <int Largest, int Divisor, class Body>
void for_state_chunks(Index first, Index last, Body&& body) {
  for (; last - first >= Largest; first += Largest)
    body(std::integral_constant<int, Largest>{}, first);
  if constexpr (Largest > 1) for_state_chunks<Largest / Divisor, Divisor>(first, last, body);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
