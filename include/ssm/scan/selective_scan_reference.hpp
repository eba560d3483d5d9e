#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/elementwise.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/scan/detail/selective_scan_checks.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class T>
[[nodiscard]] T conjugate(T x) noexcept {
  return x;
}
template <class T>
[[nodiscard]] std::complex<T> conjugate(std::complex<T> x) noexcept {
  return std::conj(x);
}

template <class K>
[[nodiscard]] K& coefficient(const Selective<K>& c, Index row, Index t, Index channel, Index group,
                             Index n) noexcept {
  return c.constant ? c.constant(channel, n) : c.varying(row, t, group, n);
}

/// Runs of channels that one task sums B's and C's gradients over. No run crosses a group, and
/// their number depends on the sizes alone, so neither does the order of any sum. Panels start at
/// multiples of `granularity` channels within their group.
struct ChannelPanels {
  Index per_group, group_channels, granularity;

  ChannelPanels(const SelectiveSizes& sizes, Index granularity_, Index wanted)
      : group_channels(sizes.channels / sizes.groups), granularity(granularity_) {
    const Index wanted_per_group = (std::max<Index>)(1, wanted / sizes.groups);
    const Index pieces_each =
        (std::max<Index>)(1, (pieces() + wanted_per_group - 1) / wanted_per_group);
    per_group = (pieces() + pieces_each - 1) / pieces_each;
  }
  [[nodiscard]] Index pieces() const { return (group_channels + granularity - 1) / granularity; }
  [[nodiscard]] Index count(const SelectiveSizes& sizes) const { return per_group * sizes.groups; }
  [[nodiscard]] Index group(Index panel) const { return panel / per_group; }
  /// First channel of the panel; end(panel) is one past its last.
  [[nodiscard]] Index begin(Index panel) const { return edge(group(panel), panel % per_group); }
  [[nodiscard]] Index end(Index panel) const { return edge(group(panel), panel % per_group + 1); }

 private:
  [[nodiscard]] Index edge(Index group, Index i) const {
    return group * group_channels +
           (std::min)(group_channels, pieces() * i / per_group * granularity);
  }
};

/// Sums the panels' shares (panel, {B, C}, batch · length, state) into the varying gradients.
template <class T, class K>
void sum_panels(const Cpu& backend, const K* partials, const ChannelPanels& panels,
                const SelectiveSizes& sizes, const SelectiveScanInputGradients<T, K>& din) {
  const Index steps = sizes.batch * sizes.length;
  const auto sum = [&](const View<K, 4>& gradient, Index which) {
    if (!gradient) return;
    const Cpu worth = for_elements(backend, steps * panels.count(sizes) * sizes.state);
    parallel_for(worth, steps, [&](Index at) {
      constexpr Index run = 16;  // states that are summed side by side, as vectors
      for (Index group = 0; group < sizes.groups; ++group) {
        const Index first = group * panels.per_group, last = first + panels.per_group;
        const auto share = [&](Index p) {
          return partials + ((2 * p + which) * steps + at) * sizes.state;
        };
        const auto store = [&](Index n, const K& total) {
          gradient(at / sizes.length, at % sizes.length, group, n) = total;
        };
        Index n = 0;
        for (; n + run <= sizes.state; n += run) {
          std::array<K, run> totals{};
          for (Index p = first; p < last; ++p)
            for (std::size_t i = 0; i < run; ++i) totals[i] += share(p)[n + static_cast<Index>(i)];
          for (std::size_t i = 0; i < run; ++i) store(n + static_cast<Index>(i), totals[i]);
        }
        for (; n < sizes.state; ++n) {
          K total(0);
          for (Index p = first; p < last; ++p) total += share(p)[n];
          store(n, total);
        }
      }
    });
  };
  sum(din.B.varying, 0);
  sum(din.C.varying, 1);
}

/// Before a forward pass writes: its scratch is of no call, and keeps the initial state where that
/// is about to be overwritten.
template <class T, class K>
void begin_selective_call(const SelectiveScanInputs<T, K>& in, const SelectiveScanOptions& options,
                          const SelectiveScanOutputs<T, K>& out, const SelectiveSizes& sizes,
                          SelectiveScanScratch<T, K>& scratch) {
  scratch.call.drop();
  const bool overwritten = options.keep && is_same_memory(out.final_state, in.initial_state);
  scratch.initial.resize({overwritten ? in.initial_state.size() : 0});
  if (!overwritten) return;
  const View<K, 3> initial(scratch.initial.data(), sizes.states());
  for (Index s = 0; s < sizes.sequences; ++s)
    for (Index c = 0; c < sizes.channels; ++c)
      for (Index n = 0; n < sizes.state; ++n) initial(s, c, n) = in.initial_state(s, c, n);
}

/// After a forward pass: its scratch is of this call.
template <class T, class K>
void end_selective_call(const SelectiveScanInputs<T, K>& in, const SelectiveScanOptions& options,
                        const SelectiveSizes& sizes, SelectiveScanScratch<T, K>& scratch) {
  if (options.keep) scratch.call.keep(sizes.call(), selective_variant(in, options));
}

/// The inputs as forward found them.
template <class T, class K>
[[nodiscard]] SelectiveScanInputs<T, K> kept_inputs(const SelectiveScanInputs<T, K>& in,
                                                    const SelectiveSizes& sizes,
                                                    const SelectiveScanScratch<T, K>& scratch) {
  SelectiveScanInputs<T, K> kept = in;
  if (scratch.initial.size() > 0) kept.initial_state = {scratch.initial.data(), sizes.states()};
  return kept;
}

/// Checks of a backward pass.
template <class T, class K>
SelectiveSizes check_selective_backward(const SelectiveScanInputs<T, K>& in,
                                        const SelectiveScanOptions& options,
                                        const SelectiveScanOutputGradients<T, K>& dout,
                                        const SelectiveScanInputGradients<T, K>& din,
                                        const SelectiveScanScratch<T, K>& scratch) {
  constexpr std::string_view function = "selective_scan_backward";
  const auto sizes = check_selective_inputs(function, in, options);
  check_selective_gradients(function, dout, din, in, sizes);
  scratch.call.check(function, "selective_scan with options.keep", sizes.call(),
                     selective_variant(in, options));
  return sizes;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The selective scan S6 (Gu & Dao 2023, algorithm 2), one channel at a time:
///
///   Δ_t = delta_t + delta_bias, then softplus(Δ_t) if options.softplus
///   x_t = e^{Δ_t A} x_{t−1} + B_bar_t u_t        per channel, B_bar by options.hold
///   y_t = [2 Re] C_t · x_t + D u_t               2 Re for a complex A
///   y_t ← y_t silu(z_t)                          if z is given
///
/// It takes every option, scalar type, stride and size. selective_scan is tested against it, and
/// uses it for the calls that have no vector code. Cost: batch · length · channels · state
/// exponentials.
/// @throws ShapeError, DomainError as selective_scan
template <class T, class K>
void selective_scan_reference(const Cpu& backend, const SelectiveScanInputs<T, K>& in,
                              const SelectiveScanOptions& options,
                              const std::type_identity_t<SelectiveScanOutputs<T, K>>& out,
                              SelectiveScanScratch<T, K>& scratch) {
  constexpr std::string_view function = "selective_scan";
  const auto sizes = detail::check_selective_inputs(function, in, options);
  detail::check_selective_outputs(function, out, in, sizes);
  detail::begin_selective_call(in, options, out, sizes, scratch);
  const Index N = sizes.state;
  scratch.kept.resize({0});
  scratch.states.resize({sizes.sequences * sizes.channels * N});

  parallel_for(backend, sizes.sequences * sizes.channels, [&](Index task) {
    const Index sequence = task / sizes.channels;
    const Index c = task % sizes.channels;
    const Index group = sizes.group_of(c);
    const auto span = detail::span_of(in.sequences, sequence, sizes.length);
    K* x = scratch.states.data() + task * N;
    for (Index n = 0; n < N; ++n) x[n] = in.initial_state ? in.initial_state(sequence, c, n) : K(0);

    for (Index i = 0; i < span.length(); ++i) {
      const Index t = span.step(i, in.sequences.reversed);
      const T u = in.u(span.row, t, c);
      T delta = in.delta(span.row, t, c) + (in.delta_bias ? in.delta_bias(c) : T(0));
      if (options.softplus) delta = softplus(delta);
      T y = 0;
      for (Index n = 0; n < N; ++n) {
        const K z = delta * in.A(c, n);
        const K b_bar = options.hold == Hold::simplified ? K(delta) : delta * phi1(z);
        x[n] = std::exp(z) * x[n] + b_bar * detail::coefficient(in.B, span.row, t, c, group, n) * u;
        y += std::real(detail::coefficient(in.C, span.row, t, c, group, n) * x[n]);
      }
      y = detail::output_scale<K> * y + (in.D ? in.D(c) * u : T(0));
      if (in.z) y *= silu(in.z(span.row, t, c));
      out.y(span.row, t, c) = y;
    }
    if (out.final_state)
      for (Index n = 0; n < N; ++n) out.final_state(sequence, c, n) = x[n];
  });
  detail::end_selective_call(in, options, sizes, scratch);
}

/// The gradients of selective_scan_reference or selective_scan, whichever filled the scratch with
/// these inputs and options. States are computed again from the initial one, and the gradient with
/// respect to them, g_t = ∂loss/∂x_t, runs back in time:
///
///   g_t = conj(e^{Δ_{t+1} A}) g_{t+1} + [2] conj(C_t) ∂loss/∂y_t.
///
/// Cost: about three forward passes. The channels are worked on in at most 16 · groups panels; for
/// each the scratch holds the states of one channel over the longest sequence, and the panel's
/// share of the gradients of B and C.
/// @throws ShapeError, DomainError as selective_scan_backward
template <class T, class K>
void selective_scan_reference_backward(
    const Cpu& backend, const SelectiveScanInputs<T, K>& inputs,
    const SelectiveScanOptions& options,
    const std::type_identity_t<SelectiveScanOutputGradients<T, K>>& dout,
    const std::type_identity_t<SelectiveScanInputGradients<T, K>>& din,
    SelectiveScanScratch<T, K>& scratch) {
  using detail::conjugate;
  const auto sizes = detail::check_selective_backward(inputs, options, dout, din, scratch);
  const auto in = detail::kept_inputs(inputs, sizes, scratch);
  const Index N = sizes.state;
  const Index steps = sizes.batch * sizes.length;
  const detail::ChannelPanels panels(sizes, 1, 16);
  const Index panel_count = panels.count(sizes);
  const Index states_each = (sizes.length + 2) * N;
  scratch.states.resize({panel_count * states_each});
  scratch.partials.resize({2 * panel_count * steps * N});
  scratch.partials.fill(K(0));
  const auto zero_rows = [&](const View<K, 2>& gradient) {
    if (!gradient) return;
    for (Index c = 0; c < sizes.channels; ++c)
      for (Index n = 0; n < N; ++n) gradient(c, n) = K(0);
  };
  zero_rows(din.A);
  zero_rows(din.B.constant);
  zero_rows(din.C.constant);

  parallel_for(backend, panel_count, [&](Index panel) {
    K* x = scratch.states.data() + panel * states_each;  // (length + 1, state)
    K* g = x + (sizes.length + 1) * N;
    K* dB = scratch.partials.data() + panel * 2 * steps * N;  // (batch, length, state)
    K* dC = dB + steps * N;
    const Index group = panels.group(panel);
    for (Index c = panels.begin(panel); c < panels.end(panel); ++c) {
      T dD = 0;
      T dbias = 0;
      for (Index sequence = 0; sequence < sizes.sequences; ++sequence) {
        const auto span = detail::span_of(in.sequences, sequence, sizes.length);
        const auto step_size = [&](Index t) {
          const T raw = in.delta(span.row, t, c) + (in.delta_bias ? in.delta_bias(c) : T(0));
          return options.softplus ? softplus(raw) : raw;
        };
        const auto hold = [&](T delta, K z) {
          return options.hold == Hold::simplified ? K(delta) : delta * phi1(z);
        };
        for (Index n = 0; n < N; ++n) {
          x[n] = in.initial_state ? in.initial_state(sequence, c, n) : K(0);
          g[n] = dout.final_state ? dout.final_state(sequence, c, n) : K(0);
        }
        for (Index i = 0; i < span.length(); ++i) {
          const Index t = span.step(i, in.sequences.reversed);
          const T delta = step_size(t);
          for (Index n = 0; n < N; ++n) {
            const K z = delta * in.A(c, n);
            x[(i + 1) * N + n] = std::exp(z) * x[i * N + n] +
                                 hold(delta, z) *
                                     detail::coefficient(in.B, span.row, t, c, group, n) *
                                     in.u(span.row, t, c);
          }
        }
        for (Index i = span.length() - 1; i >= 0; --i) {
          const Index t = span.step(i, in.sequences.reversed);
          const K* x_now = x + (i + 1) * N;
          const K* x_before = x + i * N;
          const T delta = step_size(t);
          const T u = in.u(span.row, t, c);
          T dy = dout.y(span.row, t, c);
          if (in.z) {
            T y = 0;
            for (Index n = 0; n < N; ++n)
              y += std::real(detail::coefficient(in.C, span.row, t, c, group, n) * x_now[n]);
            y = detail::output_scale<K> * y + (in.D ? in.D(c) * u : T(0));
            const T gate = in.z(span.row, t, c);
            if (din.z) din.z(span.row, t, c) = dy * y * silu_derivative(gate);
            dy *= silu(gate);
          }
          T du = in.D ? dy * in.D(c) : T(0);
          T ddelta = 0;
          dD += dy * u;
          const T dy_scaled = detail::output_scale<K> * dy;
          const Index at = (span.row * sizes.length + t) * N;
          for (Index n = 0; n < N; ++n) {
            const K A = in.A(c, n);
            const K B = detail::coefficient(in.B, span.row, t, c, group, n);
            const K C = detail::coefficient(in.C, span.row, t, c, group, n);
            const K z = delta * A;
            const K a = std::exp(z);
            const K b_bar = hold(delta, z);
            const K dx = g[n] + dy_scaled * conjugate(C);
            const K da = dx * conjugate(x_before[n]);
            const K db_bar = dx * conjugate(B) * u;
            const bool simplified = options.hold == Hold::simplified;
            const K b_bar_by_delta = simplified ? K(1) : a;
            const K b_bar_by_A = simplified ? K(0) : delta * delta * phi1_derivative(z);
            du += std::real(dx * conjugate(b_bar * B));
            ddelta += std::real(da * conjugate(a * A) + db_bar * conjugate(b_bar_by_delta));
            if (din.A) din.A(c, n) += da * conjugate(delta * a) + db_bar * conjugate(b_bar_by_A);
            const K dB_now = dx * conjugate(b_bar) * u;
            const K dC_now = dy_scaled * conjugate(x_now[n]);
            if (din.B.constant) din.B.constant(c, n) += dB_now;
            if (din.C.constant) din.C.constant(c, n) += dC_now;
            dB[at + n] += dB_now;
            dC[at + n] += dC_now;
            g[n] = dx * conjugate(a);
          }
          if (options.softplus)
            ddelta *= softplus_derivative(in.delta(span.row, t, c) +
                                          (in.delta_bias ? in.delta_bias(c) : T(0)));
          dbias += ddelta;
          if (din.u) din.u(span.row, t, c) = du;
          if (din.delta) din.delta(span.row, t, c) = ddelta;
        }
        if (din.initial_state)
          for (Index n = 0; n < N; ++n) din.initial_state(sequence, c, n) = g[n];
      }
      if (din.D) din.D(c) = dD;
      if (din.delta_bias) din.delta_bias(c) = dbias;
    }
  });
  detail::sum_panels(backend, scratch.partials.data(), panels, sizes, din);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(selective_scan_reference, SelectiveScan, float, float)
SSM_INSTANCE_OPERATION(selective_scan_reference, SelectiveScan, double, double)
SSM_INSTANCE_OPERATION(selective_scan_reference, SelectiveScan, float, std::complex<float>)
SSM_INSTANCE_OPERATION(selective_scan_reference, SelectiveScan, double, std::complex<double>)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
