#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <type_traits>

#include "ssm/core/detail/simd.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/selective_types.hpp"

namespace ssm {

struct SelectiveScanStepOptions {
  bool softplus = false;  ///< Δ ← softplus(Δ)
};

/// What one step of the selective scan reads: the inputs of the scan without time.
template <class T>
struct SelectiveScanStepInputs {
  View<const T, 2> u;           ///< (batch, channels)
  View<const T, 2> delta;       ///< (batch, channels), before bias and softplus
  View<const T, 2> A;           ///< (channels, state)
  View<const T, 3> B;           ///< (batch, groups, state)
  View<const T, 3> C;           ///< (batch, groups, state)
  View<const T, 1> D;           ///< (channels), optional: y += D u
  View<const T, 1> delta_bias;  ///< (channels), optional
  View<const T, 2> z;           ///< (batch, channels), optional: y ← y · silu(z)
};

namespace detail {

template <class T>
[[nodiscard]] bool is_valid_step(const SelectiveScanStepInputs<T>& in, const View<T, 3>& state,
                                 const View<T, 2>& y) noexcept {
  const Index batch = in.u.extent(0), channels = in.u.extent(1), N = in.A.extent(1);
  const Index groups = in.B.extent(1);
  const auto contiguous = [](const auto& view) {
    return !view || view.extent(view.rank - 1) <= 1 || view.stride(view.rank - 1) == 1;
  };
  return in.delta.extents() == in.u.extents() && y.extents() == in.u.extents() &&
         (!in.z || in.z.extents() == in.u.extents()) && in.A.extent(0) == channels &&
         (channels == 0 || (groups > 0 && channels % groups == 0)) &&
         in.B.extents() == std::array<Index, 3>{batch, groups, N} &&
         in.C.extents() == in.B.extents() &&
         state.extents() == std::array<Index, 3>{batch, channels, N} && contiguous(in.u) &&
         contiguous(in.delta) && contiguous(in.z) && contiguous(in.A) && contiguous(in.B) &&
         contiguous(in.C) && contiguous(in.D) && contiguous(in.delta_bias) && contiguous(state) &&
         contiguous(y);
}

}  // namespace detail

namespace detail {

/// Vectors of channels that a step takes at once, so that their softplus and their sums over states
/// overlap.
inline constexpr Index step_vectors = 8;

/// The step for `count` ≤ step_vectors · lanes<T> channels of one group from `first` on, in row b.
template <class T>
void step_channels(const SelectiveScanStepInputs<T>& in, bool use_softplus, Index b, Index group,
                   Index first, Index count, const View<T, 3>& state,
                   const View<T, 2>& y) noexcept {
  constexpr Index W = lanes<T>;
  const Index N = in.A.extent(1);
  const Vec<T> zero(T(0));
  const auto row = [&](const View<const T, 2>& view, Index c) {
    return Vec<T>::load(view.data() + b * view.stride(0) + first + c, count - c);
  };
  const auto vector = [&](const View<const T, 1>& view, Index c) {
    return view ? Vec<T>::load(view.data() + first + c, count - c) : zero;
  };
  alignas(64) T exponents[step_vectors * W], inputs[step_vectors * W];
  for (Index c = 0; c < count; c += W) {
    const Vec<T> raw = row(in.delta, c) + vector(in.delta_bias, c);
    const Vec<T> delta = use_softplus ? softplus(raw) : raw;
    (delta * Vec<T>(log2_e<T>)).store(exponents + c);
    (delta * row(in.u, c)).store(inputs + c);
  }

  // Channels are the lanes for what their states share, states are the lanes within a channel: the
  // state is read and written as it lies, and one transposed sum serves W channels.
  alignas(64) T products[W * W];
  const T* B = in.B.data() + b * in.B.stride(0) + group * in.B.stride(1);
  const T* C = in.C.data() + b * in.C.stride(0) + group * in.C.stride(1);
  const auto advance_channel = [&](Index c, T* out) {
    const T* A = in.A.data() + (first + c) * in.A.stride(0);
    T* x = state.data() + b * state.stride(0) + (first + c) * state.stride(1);
    const Vec<T> exponent(exponents[c]), input(inputs[c]);
    Vec<T> product = zero;
    const auto advance = [&](Index n, auto width) {
      const Vec<T> decay = exp2(exponent * Vec<T>::load(A + n, width));
      const Vec<T> now = fma(Vec<T>::load(x + n, width), decay, input * Vec<T>::load(B + n, width));
      now.store(x + n, width);
      product = fma(now, Vec<T>::load(C + n, width), product);
    };
    Index n = 0;
    for (; n + W <= N; n += W) advance(n, std::integral_constant<Index, W>{});
    if (n < N) advance(n, N - n);
    product.store(out);
  };
  for (Index c = 0; c < count; c += W) {
    const Index lanes_used = std::min(W, count - c);
    for (Index lane = 0; lane < lanes_used; ++lane) advance_channel(c + lane, products + lane * W);
    for (Index lane = lanes_used; lane < W; ++lane) zero.store(products + lane * W);
    Vec<T> sum = fma(vector(in.D, c), row(in.u, c), transposed_sum<T>(products));
    if (in.z) {
      const Vec<T> z = row(in.z, c);
      sum = sum * z * sigmoid(z);
    }
    sum.store(y.data() + b * y.stride(0) + first + c, lanes_used);
  }
}

}  // namespace detail

/// One step of the selective scan with real A and the simplified hold, in place on `state`
/// (batch, channels, state):
///   x ← e^{ΔA} x + Δ B u,   y = (C·x + D u) [silu(z)],   Δ = [softplus](delta + delta_bias).
///
/// The last extent of every view is contiguous. Does not allocate, lock, throw or start a thread;
/// shapes are asserted. Cost: batch · channels · state exponentials.
template <class T>
void selective_scan_step(const SelectiveScanStepInputs<T>& in,
                         const SelectiveScanStepOptions& options, const View<T, 3>& state,
                         const View<T, 2>& y) noexcept {
  assert(detail::is_valid_step(in, state, y));
  constexpr Index most = detail::step_vectors * detail::lanes<T>;
  const Index groups = in.B.extent(1);
  const Index channels = groups == 0 ? 0 : in.u.extent(1) / groups;
  for (Index b = 0; b < in.u.extent(0); ++b)
    for (Index group = 0; group < groups; ++group)
      for (Index c = 0; c < channels; c += most)
        detail::step_channels(in, options.softplus, b, group, group * channels + c,
                              std::min(most, channels - c), state, y);
}

}  // namespace ssm
