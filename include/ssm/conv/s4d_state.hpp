#pragma once

#include <array>
#include <complex>
#include <string_view>

#include "ssm/conv/detail/sequence_view.hpp"
#include "ssm/conv/s4d_kernel.hpp"
#include "ssm/conv/s4d_state_types.hpp"
#include "ssm/conv/vandermonde.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// z^n by squaring, n ≥ 0.
inline std::complex<double> power(std::complex<double> z, Index n) noexcept {
  std::complex<double> result = 1.0;
  for (; n > 0; n /= 2, z *= z)
    if (n % 2 == 1) result *= z;
  return result;
}

template <class T>
void add_row(const Tensor<T, 1>& row, const View<T, 1>& to) noexcept {
  const T* const from = row.data();
  for (Index t = 0; t < to.extent(0); ++t) to(t) += from[t];
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Adds the effect of an initial state to the output of an S4D convolution, and computes the final
/// state. A convolution with the kernel of s4d_kernel starts from a state of zero and gives no
/// state; this operation supplies both, for every sequence:
///
///   y_t += 2 Re Σ_n C_n z_n^{t+1} h_n,  final state = z^L h + Σ_l z^{L−1−l} B_bar u_l,
///
/// with z and B_bar = g B as in s4d_kernel, h the initial state and L the length of the sequence.
///
/// Cost: for each sequence, that of s4d_kernel for the output and again for the final state.
/// @throws ShapeError for shapes that do not fit and outputs in memory that DiagonalStateOutputs
///   does not allow; DomainError for a method other than zero_order_hold and bilinear, and for
///   offsets that do not cut the batch into sequences
template <class T>
void s4d_pass_state(const Cpu& backend, const DiagonalStateInputs<T>& inputs,
                    const DiagonalStateOptions& options, const DiagonalStateOutputs<T>& outputs,
                    DiagonalStateScratch<T>& scratch) {
  using Complex = std::complex<double>;
  constexpr std::string_view name = "s4d_pass_state";
  const auto& in = inputs;
  const std::array states = detail::check_diagonal_state(name, inputs);
  detail::check_state_outputs(name, inputs, states, outputs);
  const Index modes = states[2], longest = detail::longest_sequence(in.sequences, in.u.extent(1));
  detail::with_s4d_mode(name, options.method, [&](auto mode) {
    detail::for_kernel_channels(backend, in.model, scratch, [&](Index c, Complex* z, auto& w) {
      Complex *v = z + modes, *derivative = z + 2 * modes, *input = z + 3 * modes;
      for (Index n = 0; n < modes; ++n) {
        const auto at = mode(detail::wide<T>(in.model.lambda, c, n),
                             static_cast<double>(in.model.delta(c)), false);
        z[n] = at.z;
        input[n] = at.g * detail::wide<T>(in.model.B, c, n);
      }
      w.row.resize({longest});
      for (Index s = 0; s < states[0]; ++s) {
        const auto span = detail::span_of(in.sequences, s, in.u.extent(1));
        const bool reversed = in.sequences.reversed;
        const Index length = span.length();
        const detail::Vandermonde<T> sums(modes, length);
        const auto state = [&](Index n) {
          return in.initial_state ? Complex(in.initial_state(s, c, n)) : 0.0;
        };
        if (outputs.y && in.initial_state) {
          for (Index n = 0; n < modes; ++n)
            v[n] = detail::wide<T>(in.model.C, c, n) * z[n] * state(n);
          sums.expand(z, v, w.row.view().slice(0, 0, length), w);
          detail::add_row(w.row,
                          detail::channel_of(detail::steps_of(outputs.y, span, reversed), c));
        }
        if (!outputs.final_state) continue;
        const View<const T, 2> backwards = detail::steps_of(in.u, span, !reversed);
        sums.gather(z, detail::channel_of(backwards, c), v, derivative, w);
        for (Index n = 0; n < modes; ++n)
          outputs.final_state(s, c, n) =
              std::complex<T>(detail::power(z[n], length) * state(n) + input[n] * v[n]);
      }
    });
  });
}

/// The gradients of s4d_pass_state with respect to the model, the initial state and u.
/// @param inputs, options as given to s4d_pass_state
/// @param scratch any; nothing that s4d_pass_state left in it is read
/// @throws ShapeError, DomainError as s4d_pass_state
/// Cost: about twice s4d_pass_state.
template <class T>
void s4d_pass_state_backward(const Cpu& backend, const DiagonalStateInputs<T>& inputs,
                             const DiagonalStateOptions& options,
                             const DiagonalStateOutputGradients<T>& output_gradients,
                             const DiagonalStateInputGradients<T>& input_gradients,
                             DiagonalStateScratch<T>& scratch) {
  using Complex = std::complex<double>;
  constexpr std::string_view name = "s4d_pass_state_backward";
  const auto& in = inputs;
  const auto& dout = output_gradients;
  const auto& din = input_gradients;
  const std::array states = detail::check_diagonal_state(name, in);
  detail::check_state_gradients(name, in, states, dout, din);
  const Index modes = states[2], longest = detail::longest_sequence(in.sequences, in.u.extent(1));
  detail::with_s4d_mode(name, options.method, [&](auto mode) {
    detail::for_kernel_channels(backend, in.model, scratch, [&](Index c, Complex* z, auto& w) {
      Complex *sum = z + modes, *derivative = z + 2 * modes, *v = z + 3 * modes,
              *p_h = z + 4 * modes;
      const auto delta = static_cast<double>(in.model.delta(c));
      const auto mode_of = [&](Index n, bool slopes) {
        return mode(detail::wide<T>(in.model.lambda, c, n), delta, slopes);
      };
      for (Index n = 0; n < modes; ++n) z[n] = mode_of(n, false).z;
      w.row.resize({longest});
      double delta_gradient = 0;
      // p_k stands for the conjugate of the gradient by k: the loss moves by Re(p_k dk).
      const auto give = [&](Index n, Complex p_z, Complex p_g, Complex p_B, Complex p_C) {
        const auto add = [&](const View<std::complex<T>, 2>& to, Complex p) {
          if (to) to(c, n) += std::complex<T>(std::conj(p));
        };
        const auto at = mode_of(n, true);
        add(din.model.B, p_B);
        add(din.model.C, p_C);
        add(din.model.lambda, p_z * at.z_by_lambda + p_g * at.g_by_lambda);
        delta_gradient += (p_z * at.z_by_delta + p_g * at.g_by_delta).real();
      };
      for (Index s = 0; s < states[0]; ++s) {
        const auto span = detail::span_of(in.sequences, s, in.u.extent(1));
        const bool reversed = in.sequences.reversed;
        const Index length = span.length();
        const detail::Vandermonde<T> sums(modes, length);
        const auto state = [&](Index n) {
          return in.initial_state ? Complex(in.initial_state(s, c, n)) : 0.0;
        };
        for (Index n = 0; n < modes; ++n) p_h[n] = 0.0;
        if (dout.y) {
          const View<const T, 2> dy = detail::steps_of(dout.y, span, reversed);
          sums.gather(z, detail::channel_of(dy, c), sum, derivative, w);
          for (Index n = 0; n < modes; ++n) {
            const Complex C = detail::wide<T>(in.model.C, c, n), h = state(n), p_v = 2.0 * sum[n];
            give(n, p_v * C * h + 2.0 * (C * z[n] * h) * derivative[n], 0.0, 0.0, p_v * z[n] * h);
            p_h[n] += p_v * C * z[n];
          }
        }
        if (dout.final_state) {
          const View<const T, 2> backwards = detail::steps_of(in.u, span, !reversed);
          sums.gather(z, detail::channel_of(backwards, c), sum, derivative, w);
          for (Index n = 0; n < modes; ++n) {
            const Complex B = detail::wide<T>(in.model.B, c, n), g = mode_of(n, false).g;
            const Complex p = std::conj(Complex(dout.final_state(s, c, n)));
            const Complex slope =
                length > 0 ? static_cast<double>(length) * detail::power(z[n], length - 1) : 0.0;
            give(n, p * (slope * state(n) + g * B * derivative[n]), p * B * sum[n], p * g * sum[n],
                 0.0);
            p_h[n] += p * detail::power(z[n], length);
            v[n] = 0.5 * p * g * B;
          }
        }
        if (din.initial_state)
          for (Index n = 0; n < modes; ++n)
            din.initial_state(s, c, n) = std::complex<T>(std::conj(p_h[n]));
        if (!din.u || !dout.final_state) continue;
        sums.expand(z, v, w.row.view().slice(0, 0, length), w);
        detail::add_row(w.row, detail::channel_of(detail::steps_of(din.u, span, !reversed), c));
      }
      if (din.model.delta) din.model.delta(c) += static_cast<T>(delta_gradient);
    });
  });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(s4d_pass_state, DiagonalState, float)
SSM_INSTANCE_OPERATION(s4d_pass_state, DiagonalState, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
