#pragma once

#include <array>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/conv/diagonal_kernel.hpp"
#include "ssm/conv/vandermonde.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretize.hpp"

namespace ssm {

/// The state of a diagonal model that enters and leaves a convolution. A convolution with
/// s4d_kernel starts from rest; this adds what the initial state does, and gives the final state.
template <class T>
struct DiagonalStateInputs {
  View<const T, 3> u;                            ///< (batch, length, channels)
  View<const std::complex<T>, 3> initial_state;  ///< h_{−1} (batch, channels, state/2), optional:
                                                 ///< zero when absent
};

template <class T>
struct DiagonalStateOutputs {
  View<T, 3> y;                          ///< (batch, length, channels), optional, added to
  View<std::complex<T>, 3> final_state;  ///< (batch, channels, state/2), optional; may be the
                                         ///< memory of the initial state
};

template <class T>
struct DiagonalStateOutputGradients {
  View<const T, 3> y;                          ///< optional: zero when absent
  View<const std::complex<T>, 3> final_state;  ///< optional: zero when absent
};

/// Gradients that backward writes; absent ones are skipped.
template <class T>
struct DiagonalStateInputGradients {
  View<T, 3> u;                            ///< added to
  View<std::complex<T>, 3> initial_state;  ///< overwritten
  DiagonalKernelGradients<T> model;        ///< added to
};

namespace detail {

template <class T>
void check_diagonal_state(std::string_view name, const DiagonalKernelInputs<T>& model,
                          const DiagonalStateInputs<T>& in) {
  const Index channels = model.lambda.extent(0), modes = model.lambda.extent(1);
  const Index batch = in.u.extent(0), length = in.u.extent(1);
  check_shape(name, "delta", model.delta, std::array{channels});
  check_optional_shape(name, "B", model.B, std::array{channels, modes});
  check_shape(name, "C", model.C, std::array{channels, modes});
  check_shape(name, "u", in.u, std::array{batch, length, channels});
  check_optional_shape(name, "initial_state", in.initial_state, std::array{batch, channels, modes});
}

/// z^n by squaring, n ≥ 0.
inline std::complex<double> power(std::complex<double> z, Index n) noexcept {
  std::complex<double> result = 1.0;
  for (; n > 0; n /= 2, z *= z)
    if (n % 2 == 1) result *= z;
  return result;
}

/// One channel of one sequence, along time.
template <class U>
View<U, 1> column(const View<U, 3>& view, Index b, Index c) {
  const Index first = view.size() == 0 ? 0 : b * view.stride(0) + c * view.stride(2);
  return {view.data() + first, {view.extent(1)}, {view.stride(1)}};
}

}  // namespace detail

/// Takes the state through a sequence in the convolutional form:
///
///   y_t += 2 Re Σ_n C_n z_n^{t+1} h_n,  h ← z^L h + Σ_l z^{L−1−l} B_bar u_l,
///
/// with z and B_bar = g B of s4d_kernel, h the initial state and L the length.
///
/// @throws ShapeError, and DomainError as s4d_kernel
/// Cost: as s4d_kernel, for each sequence and each of the two.
template <class T>
void s4d_pass_state(const Cpu& backend, Discretization method, const DiagonalKernelInputs<T>& model,
                    const DiagonalStateInputs<T>& in, const DiagonalStateOutputs<T>& out,
                    DiagonalKernelWorkspace<T>& workspace) {
  using Complex = std::complex<double>;
  constexpr std::string_view name = "s4d_pass_state";
  detail::check_diagonal_state(name, model, in);
  const Index batch = in.u.extent(0), length = in.u.extent(1), channels = in.u.extent(2);
  const Index modes = model.lambda.extent(1);
  detail::check_optional_shape(name, "y", out.y, in.u.extents());
  detail::check_optional_shape(name, "final_state", out.final_state,
                               std::array{batch, channels, modes});
  const detail::Vandermonde<T> sums(modes, length);
  detail::with_s4d_mode(name, method, [&](auto mode) {
    detail::for_kernel_channels(backend, model, workspace, [&](Index c, Complex* z, auto& scratch) {
      Complex *v = z + modes, *derivative = z + 2 * modes, *input = z + 3 * modes;
      for (Index n = 0; n < modes; ++n) {
        const auto at = mode(detail::wide<T>(model.lambda, c, n),
                             static_cast<double>(model.delta(c)), length, false);
        z[n] = at.z;
        input[n] = at.g * detail::wide<T>(model.B, c, n);
      }
      scratch.row.resize({length});
      for (Index b = 0; b < batch; ++b) {
        if (out.y && in.initial_state) {
          for (Index n = 0; n < modes; ++n)
            v[n] = detail::wide<T>(model.C, c, n) * z[n] * Complex(in.initial_state(b, c, n));
          sums.expand(z, v, scratch.row, scratch);
          for (Index t = 0; t < length; ++t) out.y(b, t, c) += scratch.row(t);
        }
        if (!out.final_state) continue;
        sums.gather(z, detail::column(in.u, b, c).reversed(0), v, derivative, scratch);
        for (Index n = 0; n < modes; ++n) {
          const Complex h = in.initial_state ? Complex(in.initial_state(b, c, n)) : 0.0;
          const Complex power = detail::power(z[n], length);
          out.final_state(b, c, n) = std::complex<T>(power * h + input[n] * v[n]);
        }
      }
    });
  });
}

/// The gradients of s4d_pass_state, by z, g, B, C, h and u through the two formulas.
/// @param model, in as given to s4d_pass_state
/// @throws as s4d_pass_state
/// Cost: about twice s4d_pass_state.
template <class T>
void s4d_pass_state_backward(const Cpu& backend, Discretization method,
                             const DiagonalKernelInputs<T>& model, const DiagonalStateInputs<T>& in,
                             const DiagonalStateOutputGradients<T>& dout,
                             const DiagonalStateInputGradients<T>& din,
                             DiagonalKernelWorkspace<T>& workspace) {
  using Complex = std::complex<double>;
  constexpr std::string_view name = "s4d_pass_state_backward";
  detail::check_diagonal_state(name, model, in);
  const Index batch = in.u.extent(0), length = in.u.extent(1), channels = in.u.extent(2);
  const Index modes = model.lambda.extent(1);
  const std::array state_shape{batch, channels, modes};
  const std::array shape{channels, modes};
  detail::check_optional_shape(name, "gradient of y", dout.y, in.u.extents());
  detail::check_optional_shape(name, "gradient of final_state", dout.final_state, state_shape);
  detail::check_optional_shape(name, "gradient of u", din.u, in.u.extents());
  detail::check_optional_shape(name, "gradient of initial_state", din.initial_state, state_shape);
  detail::check_optional_shape(name, "gradient of lambda", din.model.lambda, shape);
  detail::check_optional_shape(name, "gradient of delta", din.model.delta, std::array{channels});
  detail::check_optional_shape(name, "gradient of B", din.model.B, shape);
  detail::check_optional_shape(name, "gradient of C", din.model.C, shape);
  const detail::Vandermonde<T> sums(modes, length);
  detail::with_s4d_mode(name, method, [&](auto mode) {
    detail::for_kernel_channels(backend, model, workspace, [&](Index c, Complex* z, auto& scratch) {
      Complex *sum = z + modes, *derivative = z + 2 * modes, *v = z + 3 * modes;
      const auto delta = static_cast<double>(model.delta(c));
      const auto mode_of = [&](Index n, bool slopes) {
        return mode(detail::wide<T>(model.lambda, c, n), delta, length, slopes);
      };
      for (Index n = 0; n < modes; ++n) z[n] = mode_of(n, false).z;
      scratch.row.resize({length});
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
      for (Index b = 0; b < batch; ++b) {
        const auto state = [&](Index n) {
          return in.initial_state ? Complex(in.initial_state(b, c, n)) : 0.0;
        };
        if (din.initial_state)
          for (Index n = 0; n < modes; ++n) din.initial_state(b, c, n) = T(0);
        const auto give_state = [&](Index n, Complex p) {
          if (din.initial_state) din.initial_state(b, c, n) += std::complex<T>(std::conj(p));
        };
        if (dout.y) {
          sums.gather(z, detail::column(dout.y, b, c), sum, derivative, scratch);
          for (Index n = 0; n < modes; ++n) {
            const Complex C = detail::wide<T>(model.C, c, n), h = state(n), p_v = 2.0 * sum[n];
            give(n, p_v * C * h + 2.0 * (C * z[n] * h) * derivative[n], 0.0, 0.0, p_v * z[n] * h);
            give_state(n, p_v * C * z[n]);
          }
        }
        if (!dout.final_state) continue;
        sums.gather(z, detail::column(in.u, b, c).reversed(0), sum, derivative, scratch);
        for (Index n = 0; n < modes; ++n) {
          const Complex B = detail::wide<T>(model.B, c, n), g = mode_of(n, false).g;
          const Complex p = std::conj(Complex(dout.final_state(b, c, n)));
          const Complex slope =
              length > 0 ? static_cast<double>(length) * detail::power(z[n], length - 1) : 0.0;
          give(n, p * (slope * state(n) + g * B * derivative[n]), p * B * sum[n], p * g * sum[n],
               0.0);
          give_state(n, p * detail::power(z[n], length));
          v[n] = 0.5 * p * g * B;
        }
        if (!din.u) continue;
        sums.expand(z, v, scratch.row, scratch);
        for (Index t = 0; t < length; ++t) din.u(b, length - 1 - t, c) += scratch.row(t);
      }
      if (din.model.delta) din.model.delta(c) += static_cast<T>(delta_gradient);
    });
  });
}

}  // namespace ssm
