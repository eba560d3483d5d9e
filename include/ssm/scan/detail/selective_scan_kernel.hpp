#pragma once

#include <cstdint>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"

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

/// Per step and lane, a tile's values that every state shares.
template <class T>
struct alignas(64) ScanTile {
  static constexpr Index size = tile_steps * lanes<T>;
  T delta[size];   ///< Δ
  T input[size];   ///< Δ u
  T u[size];       ///< where the block has fewer channels than lanes, with zeros in the rest
  T y[size];       ///< C·x + D u
  T dy[size];      ///< ∂loss/∂(C·x + D u)
  T dinput[size];  ///< ∂loss/∂(Δ u)
  T ddelta[size];  ///< ∂loss/∂Δ through the decay e^{ΔA} alone
};

/// x_t = e^{Δ_t A} x_{t−1} + B_t (Δ_t u_t) and y_t ← C_t·x_t for `States` states over one tile; y
/// starts from D u_t with First, else from what it holds. delta is (step, lanes); A and x are
/// (States, lanes), x is updated; B and C point at the first of the states.
template <int States, bool First, class T>
void scan_states(Index steps, const T* delta, Rows<const T> u, Rows<T> y, Vec<T> D, const T* A,
                 T* x, Rows<const T> B, Rows<const T> C) noexcept {
  constexpr Index W = lanes<T>;
  Vec<T> h[States];
  unroll<States>([&](auto n) { h[n] = Vec<T>::load(x + n * W); });
  for (Index s = 0; s < steps; ++s) {
    const Vec<T> step_size = Vec<T>::load(delta + s * W);
    const Vec<T> u_now = Vec<T>::load(u.at(s));
    const Vec<T> exponent = step_size * Vec<T>(log2_e<T>);
    const Vec<T> input = step_size * u_now;
    const T* b = B.at(s);
    const T* c = C.at(s);
    // Two sums, so that neither waits for the other.
    Vec<T> sums[2] = {First ? D * u_now : Vec<T>::load(y.at(s)), Vec<T>(T(0))};
    unroll<States>([&](auto n) __attribute__((always_inline)) {
      const Vec<T> decay = exp2(exponent * Vec<T>::load(A + n * W));
      h[n] = fma(input, Vec<T>(b[n]), h[n] * decay);
      sums[n % 2] = fma(h[n], Vec<T>(c[n]), sums[n % 2]);
    });
    (sums[0] + sums[1]).store(y.at(s));
  }
  unroll<States>([&](auto n) { h[n].store(x + n * W); });
}

/// The same tile backward. x is the state before the tile; g, the gradient of the state after it,
/// becomes that of the state before it. dA accumulates; dB and dC (step, state, lanes) too, lane by
/// lane, `stride` elements a step. With Gated, y is computed as well.
template <int States, bool Gated, class T>
void scan_states_backward(Index steps, ScanTile<T>& tile, const T* A, const T* x, T* g, T* dA,
                          T* dB, T* dC, Index stride, Rows<const T> B, Rows<const T> C) noexcept {
  constexpr Index W = lanes<T>;
  alignas(64) T decays[tile_steps * States * W];
  alignas(64) T states[(tile_steps + 1) * States * W];
  {
    Vec<T> h[States];
    unroll<States>([&](auto n) { h[n] = Vec<T>::load(x + n * W); });
    for (Index s = 0; s < steps; ++s) {
      const Vec<T> exponent = Vec<T>::load(tile.delta + s * W) * Vec<T>(log2_e<T>);
      const Vec<T> input = Vec<T>::load(tile.input + s * W);
      const T* b = B.at(s);
      T* decay_now = decays + s * States * W;
      T* state_now = states + s * States * W;
      [[maybe_unused]] const T* c = C.at(s);
      [[maybe_unused]] Vec<T> y = Vec<T>::load(tile.y + s * W);
      unroll<States>([&](auto n) __attribute__((always_inline)) {
        const Vec<T> decay = exp2(exponent * Vec<T>::load(A + n * W));
        decay.store(decay_now + n * W);
        h[n].store(state_now + n * W);
        h[n] = fma(input, Vec<T>(b[n]), h[n] * decay);
        if constexpr (Gated) y = fma(h[n], Vec<T>(c[n]), y);
      });
      if constexpr (Gated) y.store(tile.y + s * W);
    }
    unroll<States>([&](auto n) { h[n].store(states + (steps * States + n) * W); });
  }

  Vec<T> gradient[States];
  Vec<T> A_gradient[States];
  unroll<States>([&](auto n) {
    gradient[n] = Vec<T>::load(g + n * W);
    A_gradient[n] = Vec<T>::load(dA + n * W);
  });
  for (Index s = steps - 1; s >= 0; --s) {
    const Vec<T> delta = Vec<T>::load(tile.delta + s * W);
    const Vec<T> input = Vec<T>::load(tile.input + s * W);
    const Vec<T> dy = Vec<T>::load(tile.dy + s * W);
    Vec<T> dinput = Vec<T>::load(tile.dinput + s * W);
    Vec<T> ddelta = Vec<T>::load(tile.ddelta + s * W);
    const T* b = B.at(s);
    const T* c = C.at(s);
    T* db = dB + s * stride;
    T* dc = dC + s * stride;
    const T* decay_now = decays + s * States * W;
    const T* before = states + s * States * W;
    const T* after = before + States * W;
    unroll<States>([&](auto n) __attribute__((always_inline)) {
      const Vec<T> dx = fma(dy, Vec<T>(c[n]), gradient[n]);
      fma(dy, Vec<T>::load(after + n * W), Vec<T>::load(dc + n * W)).store(dc + n * W);
      fma(dx, input, Vec<T>::load(db + n * W)).store(db + n * W);
      dinput = fma(dx, Vec<T>(b[n]), dinput);
      gradient[n] = dx * Vec<T>::load(decay_now + n * W);
      const Vec<T> dexponent = gradient[n] * Vec<T>::load(before + n * W);
      ddelta = fma(dexponent, Vec<T>::load(A + n * W), ddelta);
      A_gradient[n] = fma(dexponent, delta, A_gradient[n]);
    });
    dinput.store(tile.dinput + s * W);
    ddelta.store(tile.ddelta + s * W);
  }
  unroll<States>([&](auto n) {
    gradient[n].store(g + n * W);
    A_gradient[n].store(dA + n * W);
  });
}

/// Calls body(constant k, first) over [0, count) in pieces of Largest, then of smaller powers of
/// two.
template <int Largest, class Body>
void for_state_chunks(Index count, Body&& body, Index first = 0) {
  for (; count - first >= Largest; first += Largest)
    body(std::integral_constant<int, Largest>{}, first);
  if constexpr (Largest > 1) for_state_chunks<Largest / 2>(count, body, first);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
