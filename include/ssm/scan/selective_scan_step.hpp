#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_lanes.hpp"
#include "ssm/core/elementwise.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/detail/selective_scan_checks.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Apart from check_step, which is called before every step.
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_coefficient(std::string_view argument,
                                                                     bool given) {
  throw_shape("selective_scan_step", argument, given ? "given twice" : "absent",
              "either (channels, state) or (batch, groups, state)");
}
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_groups(std::string_view argument,
                                                                Index groups, Index channels) {
  throw_shape("selective_scan_step", argument, std::to_string(groups) + " groups",
              "a number that divides " + std::to_string(channels) + " channels");
}

template <class T, class K>
[[gnu::cold, gnu::noinline]] void check_step_memory_in_turn(std::string_view function,
                                                            const SelectiveScanStepInputs<T, K>& in,
                                                            const View<K, 3>& state,
                                                            const View<T, 2>& y) {
  const auto apart = [&](std::string_view name, const auto& view) {
    check_no_overlap(function, "state", state, name, view);
    check_no_overlap(function, "y", y, name, view);
  };
  const auto same_or_apart = [&](std::string_view name, const auto& view) {
    check_no_overlap(function, "state", state, name, view);
    check_same_or_apart(function, "y", y, name, view);
  };
  same_or_apart("u", in.u);
  same_or_apart("delta", in.delta);
  same_or_apart("z", in.z);
  apart("A", in.A);
  apart("B", in.B.constant);
  apart("B", in.B.varying);
  apart("C", in.C.constant);
  apart("C", in.C.varying);
  apart("D", in.D);
  apart("delta_bias", in.delta_bias);
  check_no_overlap(function, "y", y, "state", state);
}

/// Throws ShapeError where a step would write over what it has yet to read.
template <class T, class K>
void check_step_memory(std::string_view function, const SelectiveScanStepInputs<T, K>& in,
                       const View<K, 3>& state, const View<T, 2>& y) {
  // One branch for arrays apart, and for a y that is u, delta or z.
  const ByteRange states(state), outputs(y);
  const auto meet = [](const ByteRange& a, const ByteRange& b) {
    return static_cast<int>(a.begin < b.end) & static_cast<int>(b.begin < a.end);
  };
  int met = meet(states, outputs);
  const auto apart = [&](const auto& view) {
    const ByteRange range(view);
    met = met | meet(states, range) | meet(outputs, range);
  };
  const auto same_or_apart = [&](const View<const T, 2>& view) {
    const ByteRange range(view);
    const int other = static_cast<int>(view.data() != y.data()) |
                      static_cast<int>(view.stride(0) != y.stride(0)) |
                      static_cast<int>(view.stride(1) != y.stride(1));
    met = met | meet(states, range) | (meet(outputs, range) & other);
  };
  same_or_apart(in.u);
  same_or_apart(in.delta);
  same_or_apart(in.z);
  apart(in.A);
  apart(in.B.constant);
  apart(in.B.varying);
  apart(in.C.constant);
  apart(in.C.varying);
  apart(in.D);
  apart(in.delta_bias);
  if (met != 0) check_step_memory_in_turn(function, in, state, y);
}

/// A few integers of each argument: a wrong call never reads or writes out of bounds.
template <class T, class K>
void check_step(const SelectiveScanStepInputs<T, K>& in, const SelectiveScanOptions& options,
                const View<K, 3>& state, const View<T, 2>& y) {
  constexpr std::string_view function = "selective_scan_step";
  check_hold(function, options.hold);
  check_given(function, "u", in.u, "(batch, channels)");
  check_given(function, "A", in.A, "(channels, state)");
  const Index batch = in.u.extent(0), channels = in.u.extent(1), N = in.A.extent(1);
  const auto check_coefficient = [&](std::string_view argument, const auto& coefficient) {
    if (static_cast<bool>(coefficient.constant) == static_cast<bool>(coefficient.varying))
      throw_coefficient(argument, static_cast<bool>(coefficient.constant));
    if (coefficient.constant)
      return check_shape(function, argument, coefficient.constant, std::array{channels, N});
    const Index groups = coefficient.varying.extent(1);
    check_shape(function, argument, coefficient.varying, std::array{batch, groups, N});
    // One group for all channels, or one for each, needs no division.
    if (groups < 1 || (groups != 1 && groups != channels && channels % groups != 0))
      throw_groups(argument, groups, channels);
  };
  check_shape(function, "delta", in.delta, in.u.extents());
  check_shape(function, "A", in.A, std::array{channels, N});
  check_coefficient("B", in.B);
  check_coefficient("C", in.C);
  check_optional_shape(function, "D", in.D, std::array{channels});
  check_optional_shape(function, "delta_bias", in.delta_bias, std::array{channels});
  check_optional_shape(function, "z", in.z, in.u.extents());
  check_output_shape(function, "state", state, std::array{batch, channels, N});
  check_output_shape(function, "y", y, in.u.extents());
  check_step_memory(function, in, state, y);
}

template <class T>
[[nodiscard]] bool is_fast_step(const SelectiveScanStepInputs<T>& in,
                                const SelectiveScanOptions& options, const View<T, 3>& state,
                                const View<T, 2>& y) noexcept {
  return options.hold == Hold::simplified && in.B.varying && in.C.varying &&
         in.B.varying.extents() == in.C.varying.extents() && is_contiguous_in_channels(in.u) &&
         is_contiguous_in_channels(in.delta) && is_contiguous_in_channels(in.z) &&
         is_contiguous_in_channels(in.A) && is_contiguous_in_channels(in.B.varying) &&
         is_contiguous_in_channels(in.C.varying) && is_contiguous_in_channels(in.D) &&
         is_contiguous_in_channels(in.delta_bias) && is_contiguous_in_channels(state) &&
         is_contiguous_in_channels(y);
}

/// One channel's step as the formula says it, with any option and stride.
template <class T, class K>
void step_channel(const SelectiveScanStepInputs<T, K>& in, const SelectiveScanOptions& options,
                  Index b, Index c, const View<K, 3>& state, const View<T, 2>& y) noexcept {
  const Index channels = in.u.extent(1);
  const auto coefficient = [&](const Selective<const K, 3>& k, Index n) {
    return k.constant ? k.constant(c, n) : k.varying(b, c * k.varying.extent(1) / channels, n);
  };
  T delta = in.delta(b, c) + (in.delta_bias ? in.delta_bias(c) : T(0));
  if (options.softplus) delta = ssm::softplus(delta);
  T sum = 0;
  for (Index n = 0; n < in.A.extent(1); ++n) {
    const K z = delta * in.A(c, n);
    const K b_bar = options.hold == Hold::simplified ? K(delta) : delta * phi1(z);
    K& x = state(b, c, n);
    x = std::exp(z) * x + b_bar * coefficient(in.B, n) * in.u(b, c);
    sum += std::real(coefficient(in.C, n) * x);
  }
  sum = output_scale<K> * sum + (in.D ? in.D(c) * in.u(b, c) : T(0));
  y(b, c) = in.z ? sum * silu(in.z(b, c)) : sum;
}

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
  const auto of_group = [&](const View<const T, 3>& view) {
    return view.data() + b * view.stride(0) + group * view.stride(1);
  };
  const T* B = of_group(in.B.varying);
  const T* C = of_group(in.C.varying);
  const auto advance_channel = [&](Index c, T* out) {
    const T* A = in.A.data() + (first + c) * in.A.stride(0);
    T* x = state.data() + b * state.stride(0) + (first + c) * state.stride(1);
    const Vec<T> exponent(exponents[c]), input(inputs[c]);
    Vec<T> product = zero;
    const auto advance = [&](Index n, auto width) {
      const Vec<T> decay = exp2(exponent * Vec<T>::load(A + n, width));
      const Vec<T> now = fma(input, Vec<T>::load(B + n, width), Vec<T>::load(x + n, width) * decay);
      now.store(x + n, width);
      product = fma(now, Vec<T>::load(C + n, width), product);
    };
    Index n = 0;
    for (; n + W <= N; n += W) advance(n, std::integral_constant<Index, W>{});
    if (n < N) advance(n, N - n);
    product.store(out);
  };
  for (Index c = 0; c < count; c += W) {
    const Index lanes_used = (std::min)(W, count - c);
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

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// One step of the selective scan, in place on `state` (batch, channels, state):
///   x ← e^{ΔA} x + B_bar u,   y = ([2 Re] C·x + D u) [silu(z)],   Δ = [softplus](delta + bias).
///
/// It equals selective_scan over a length of 1, with the same options (`keep` has no effect). It
/// does not allocate, lock, throw or start a thread. Where selective_scan would throw, it ends the
/// program with the sentence of that exception. Calls with a real A, varying B and C, the
/// simplified hold and views whose last extent is contiguous run as vector code. Cost: batch ·
/// channels · state exponentials.
/// @param state (batch, channels, state), updated, in memory of its own
/// @param y (batch, channels), written; may be the memory of u, delta or z, element by element, and
///   of nothing else
template <class T, class K>
void selective_scan_step(const SelectiveScanStepInputs<T, K>& in,
                         const SelectiveScanOptions& options,
                         const std::type_identity_t<View<K, 3>>& state,
                         const std::type_identity_t<View<T, 2>>& y) noexcept {
  detail::check_or_terminate([&] { detail::check_step(in, options, state, y); });
  const Index batch = in.u.extent(0), channels = in.u.extent(1);
  if constexpr (std::is_same_v<T, K>) {
    if (detail::is_fast_step(in, options, state, y)) {
      constexpr Index most = detail::step_vectors * detail::lanes<T>;
      const Index groups = in.B.varying.extent(1);
      const Index each = groups == 0 ? 0 : channels / groups;
      for (Index b = 0; b < batch; ++b)
        for (Index group = 0; group < groups; ++group)
          for (Index c = 0; c < each; c += most)
            detail::step_channels(in, options.softplus, b, group, group * each + c,
                                  (std::min)(most, each - c), state, y);
      return;
    }
  }
  for (Index b = 0; b < batch; ++b)
    for (Index c = 0; c < channels; ++c) detail::step_channel(in, options, b, c, state, y);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE void selective_scan_step(const SelectiveScanStepInputs<float>&,
                                      const SelectiveScanOptions&, const View<float, 3>&,
                                      const View<float, 2>&) noexcept;
SSM_INSTANCE void selective_scan_step(const SelectiveScanStepInputs<double>&,
                                      const SelectiveScanOptions&, const View<double, 3>&,
                                      const View<double, 2>&) noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
