#pragma once

#include <algorithm>
#include <array>
#include <cassert>

#include "ssm/core/detail/simd.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/selective_types.hpp"

namespace ssm {

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

/// One step of the selective scan with real A and the simplified hold, in place on `state`
/// (batch, channels, state):
///   x ← e^{ΔA} x + Δ B u,   y = (C·x + D u) [silu(z)],   Δ = [softplus](delta + delta_bias).
///
/// The last extent of every view is contiguous. Does not allocate, lock, throw or start a thread;
/// shapes are asserted. Cost: batch · channels · state exponentials.
template <class T>
void selective_scan_step(const SelectiveScanStepInputs<T>& in, const SelectiveScanOptions& options,
                         const View<T, 3>& state, const View<T, 2>& y) noexcept {
  using detail::Vec;
  assert(options.hold == Hold::simplified && !options.reversed);
  assert(detail::is_valid_step(in, state, y));
  constexpr Index W = detail::lanes<T>;
  const Index channels = in.u.extent(1), N = in.A.extent(1);
  alignas(64) T exponents[W], inputs[W], products[W * W];
  // Channels are the lanes for what they share, states are the lanes within a channel: the state
  // is read and written as it lies, and one transposed sum serves W channels.
  for (Index b = 0; b < in.u.extent(0); ++b) {
    for (Index first = 0; first < channels; first += W) {
      const Index count = std::min(W, channels - first);
      const auto load = [&](const View<const T, 2>& view) {
        return Vec<T>::load(view.data() + b * view.stride(0) + first, count);
      };
      const Vec<T> zero(T(0));
      const Vec<T> bias = in.delta_bias ? Vec<T>::load(in.delta_bias.data() + first, count) : zero;
      const Vec<T> raw = load(in.delta) + bias;
      const Vec<T> delta = options.softplus ? detail::softplus(raw) : raw;
      const Vec<T> u = load(in.u);
      (delta * Vec<T>(detail::log2_e<T>)).store(exponents);
      (delta * u).store(inputs);
      for (Index lane = 0; lane < count; ++lane) {
        const Index c = first + lane;
        const Index group = c * in.B.extent(1) / channels;
        const T* A = in.A.data() + c * in.A.stride(0);
        const T* B = in.B.data() + b * in.B.stride(0) + group * in.B.stride(1);
        const T* C = in.C.data() + b * in.C.stride(0) + group * in.C.stride(1);
        T* x = state.data() + b * state.stride(0) + c * state.stride(1);
        Vec<T> product = zero;
        for (Index n = 0; n < N; n += W) {
          const Index left = N - n;
          const Vec<T> decay = detail::exp2(Vec<T>(exponents[lane]) * Vec<T>::load(A + n, left));
          const Vec<T> now = fma(Vec<T>::load(x + n, left), decay,
                                 Vec<T>(inputs[lane]) * Vec<T>::load(B + n, left));
          now.store(x + n, left);
          product = fma(now, Vec<T>::load(C + n, left), product);
        }
        product.store(products + lane * W);
      }
      for (Index lane = count; lane < W; ++lane) zero.store(products + lane * W);
      Vec<T> sum = detail::transposed_sum<T>(products);
      if (in.D) sum = fma(Vec<T>::load(in.D.data() + first, count), u, sum);
      if (in.z) {
        const Vec<T> z = load(in.z);
        sum = sum * z * detail::sigmoid(z);
      }
      sum.store(y.data() + b * y.stride(0) + first, count);
    }
  }
}

}  // namespace ssm
