#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/conv/s4d_kernel_types.hpp"
#include "ssm/conv/vandermonde.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretization.hpp"

namespace ssm {

template <class T>
struct DiagonalKernelScratch<T, Host> {
  std::vector<VandermondeScratch<T>> threads;
  Tensor<std::complex<double>, 3> modes;  ///< (runs, 5, state/2)
};

namespace detail {
inline namespace SSM_DETAIL_ISA {

/// A mode's share 2 Re(C B g z^l) in the kernel: z and g, and if asked for their slopes.
struct KernelMode {
  std::complex<double> z, g, z_by_lambda{}, z_by_delta{}, g_by_lambda{}, g_by_delta{};
};

/// e^x and (e^x − 1)/x, both to full relative accuracy: with x = a + ib,
/// e^x − 1 = (e^a − 1) cos b − 2 sin²(b/2) + i e^a sin b. (e^a as 1 + (e^a − 1) loses digits where
/// it is small.)
inline std::array<std::complex<double>, 2> exp_and_phi1(std::complex<double> x) {
  if (x == 0.0) return {1.0, 1.0};
  const double growth = std::expm1(x.real());
  const double decay = growth > -0.5 ? 1 + growth : std::exp(x.real());
  const double s = std::sin(x.imag() / 2), c = std::cos(x.imag() / 2);
  const double cosine = 1 - 2 * s * s, sine = 2 * s * c;
  const double real = growth * cosine - 2 * s * s, imag = decay * sine;
  const double square = std::norm(x);
  if (!(square > 1e-280)) return {1.0 + x, 1.0 + x / 2.0};
  return {std::complex<double>(decay * cosine, imag),
          std::complex<double>((real * x.real() + imag * x.imag()) / square,
                               (imag * x.real() - real * x.imag()) / square)};
}

inline KernelMode zero_order_hold_mode(std::complex<double> lambda, double delta, bool slopes) {
  const std::complex<double> x = lambda * delta;
  const auto [z, phi] = exp_and_phi1(x);
  if (!slopes) return {z, delta * phi};
  return {z, delta * phi, delta * z, lambda * z, delta * delta * phi1_derivative(x), z};
}

inline KernelMode bilinear_mode(std::complex<double> lambda, double delta, bool) {
  const std::complex<double> r = 1.0 / (1.0 - lambda * (delta / 2)), square = r * r;
  return {(1.0 + lambda * (delta / 2)) * r, delta * r, delta * square, lambda * square,
          delta * delta / 2 * square,       square};
}

/// (e^x − 1)/((e^{Lx} − 1) λ) = φ₁(x)/(L λ φ₁(Lx)) with x = Δλ, for Re λ < 0.
inline KernelMode dss_mode(std::complex<double> lambda, double delta, double L, bool slopes) {
  const std::complex<double> x = lambda * delta;
  const auto [z, nearby] = exp_and_phi1(x);
  const std::complex<double> distant = exp_and_phi1(L * x)[1], g = nearby / (L * lambda * distant);
  if (!slopes) return {z, g};
  const std::complex<double> slope =
      phi1_derivative(x) / nearby - L * phi1_derivative(L * x) / distant;  // of log(φ₁(x)/φ₁(Lx))
  return {z, g, delta * z, lambda * z, g * (delta * slope - 1.0 / lambda), g * lambda * slope};
}

/// Calls body(channel, modes, scratch) for every channel, with room for 5 · state/2 numbers.
template <class T, class Body>
void for_kernel_channels(const Cpu& backend, const DiagonalKernelInputs<T>& inputs,
                         DiagonalKernelScratch<T>& scratch, const Body& body) {
  const Index channels = inputs.lambda.extent(0), modes = inputs.lambda.extent(1);
  const Index runs = (std::min<Index>)(channels, backend.thread_count());
  if (static_cast<Index>(scratch.threads.size()) < runs)
    scratch.threads.resize(static_cast<std::size_t>(runs));
  scratch.modes.resize({runs, 5, modes});
  parallel_for(backend, runs, [&](Index run) {
    for (Index c = channels * run / runs; c < channels * (run + 1) / runs; ++c)
      body(c, scratch.modes.data() + run * 5 * modes,
           scratch.threads[static_cast<std::size_t>(run)]);
  });
}

template <class T>
std::complex<double> wide(const View<const std::complex<T>, 2>& view, Index channel, Index n) {
  return view ? std::complex<double>(view(channel, n)) : 1.0;
}

template <class T, class Mode>
void diagonal_kernel(const Cpu& backend, const DiagonalKernelInputs<T>& in,
                     const View<T, 2>& kernel, DiagonalKernelScratch<T>& all_scratch,
                     const Mode& mode) {
  const Index modes = in.lambda.extent(1);
  const Vandermonde<T> sums(modes, kernel.extent(1));
  for_kernel_channels(
      backend, in, all_scratch, [&](Index c, std::complex<double>* z, auto& scratch) {
        std::complex<double>* v = z + modes;
        for (Index n = 0; n < modes; ++n) {
          const KernelMode at =
              mode(wide<T>(in.lambda, c, n), static_cast<double>(in.delta(c)), false);
          z[n] = at.z;
          v[n] = wide<T>(in.C, c, n) * wide<T>(in.B, c, n) * at.g;
        }
        sums.expand(z, v, kernel[c], scratch);
      });
}

template <class T, class Mode>
void diagonal_kernel_backward(const Cpu& backend, const DiagonalKernelInputs<T>& in,
                              const View<const T, 2>& dkernel,
                              const DiagonalKernelInputGradients<T>& out,
                              DiagonalKernelScratch<T>& all_scratch, const Mode& mode) {
  const Index modes = in.lambda.extent(1);
  const Vandermonde<T> sums(modes, dkernel.extent(1));
  for_kernel_channels(
      backend, in, all_scratch, [&](Index c, std::complex<double>* z, auto& scratch) {
        std::complex<double>*sum = z + modes, *derivative = z + 2 * modes;
        const auto delta = static_cast<double>(in.delta(c));
        for (Index n = 0; n < modes; ++n) z[n] = mode(wide<T>(in.lambda, c, n), delta, false).z;
        sums.gather(z, dkernel[c], sum, derivative, scratch);
        double delta_gradient = 0;
        for (Index n = 0; n < modes; ++n) {
          // p_k stands for the conjugate of the gradient by k: the loss moves by Re(p_k dk).
          const KernelMode at = mode(wide<T>(in.lambda, c, n), delta, true);
          const std::complex<double> B = wide<T>(in.B, c, n), C = wide<T>(in.C, c, n);
          const std::complex<double> p_v = 2.0 * sum[n], p_g = p_v * (C * B);
          const std::complex<double> p_z = 2.0 * (C * B * at.g) * derivative[n];
          const auto give = [&](const View<std::complex<T>, 2>& to, std::complex<double> p) {
            if (to) to(c, n) = std::complex<T>(std::conj(p));
          };
          give(out.C, p_v * (B * at.g));
          give(out.B, p_v * (C * at.g));
          give(out.lambda, p_z * at.z_by_lambda + p_g * at.g_by_lambda);
          delta_gradient += (p_z * at.z_by_delta + p_g * at.g_by_delta).real();
        }
        if (out.delta) out.delta(c) = static_cast<T>(delta_gradient);
      });
}

/// Calls body with the function that discretizes a mode by the method.
template <class Body>
void with_s4d_mode(std::string_view name, Discretization method, const Body& body) {
  if (method == Discretization::zero_order_hold) return body(zero_order_hold_mode);
  if (method == Discretization::bilinear) return body(bilinear_mode);
  throw_domain(name, "method",
               keeps_output(method) ? "an Euler method" : "one that changes C and D",
               "zero_order_hold or bilinear");
}

/// Calls body with the function that discretizes a mode of DSS, which divides by e^{LΔλ} − 1: this
/// vanishes on the imaginary axis and overflows to its right.
template <class T, class Body>
void with_dss_mode(std::string_view name, const DiagonalKernelInputs<T>& in,
                   const DssKernelOptions& options, Index length, const Body& body) {
  if (options.length < 0)
    throw_domain(name, "length", std::to_string(options.length), "at least 0");
  for (Index c = 0; c < in.lambda.extent(0); ++c)
    for (Index n = 0; n < in.lambda.extent(1); ++n)
      if (in.lambda(c, n).real() >= T(0))
        throw_domain(name, "Re lambda", std::to_string(in.lambda(c, n).real()), "< 0");
  const Index normalized = options.length > 0 ? options.length : (std::max<Index>)(length, 1);
  const auto L = static_cast<double>(normalized);
  body([L](std::complex<double> lambda, double delta, bool slopes) {
    return dss_mode(lambda, delta, L, slopes);
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The convolution kernel of S4D (Gu, Gupta, Goel & Ré 2022, section 3),
///
///   K_l = C A_bar^l B_bar = 2 Re Σ_n C_n B_n g_n z_n^l,  l = 0 … length − 1,
///   zero_order_hold  z = e^{Δλ}, g = (e^{Δλ} − 1)/λ;
///   bilinear         z = (1 + Δλ/2)/(1 − Δλ/2), g = Δ/(1 − Δλ/2).
///
/// Powers are computed in double, whatever T is. The error of the kernel is at most about
/// 4 ε Σ|C B g| in float, at any length, and length · ε Σ|C B g| in double.
///
/// Cost: 2 · state flops for each element of the kernel. The bits are the same for every number of
/// threads. Allocates while the scratch grows.
/// @throws ShapeError for shapes that do not fit and a kernel in the memory of an input;
///   DomainError for a method other than zero_order_hold and bilinear
template <class T>
void s4d_kernel(const Cpu& backend, const DiagonalKernelInputs<T>& inputs,
                const DiagonalKernelOptions& options, const DiagonalKernelOutputs<T>& outputs,
                DiagonalKernelScratch<T>& scratch) {
  constexpr std::string_view name = "s4d_kernel";
  detail::check_kernel_output(name, inputs, outputs);
  detail::with_s4d_mode(name, options.method, [&](auto mode) {
    detail::diagonal_kernel(backend, inputs, outputs.kernel, scratch, mode);
  });
}

/// The gradients of s4d_kernel.
/// @param inputs, options as given to s4d_kernel
/// @param scratch any; nothing that s4d_kernel left in it is read
/// @throws ShapeError, DomainError as s4d_kernel
/// Cost: twice s4d_kernel.
template <class T>
void s4d_kernel_backward(const Cpu& backend, const DiagonalKernelInputs<T>& inputs,
                         const DiagonalKernelOptions& options,
                         const DiagonalKernelOutputGradients<T>& output_gradients,
                         const DiagonalKernelInputGradients<T>& input_gradients,
                         DiagonalKernelScratch<T>& scratch) {
  constexpr std::string_view name = "s4d_kernel_backward";
  detail::check_kernel_gradients(name, inputs, output_gradients, input_gradients);
  detail::with_s4d_mode(name, options.method, [&](auto mode) {
    detail::diagonal_kernel_backward(backend, inputs, output_gradients.kernel, input_gradients,
                                     scratch, mode);
  });
}

/// The convolution kernel of DSS in its softmax form (Gupta, Gu & Berant 2022, proposition 1),
///
///   K_l = 2 Re Σ_n (C_n B_n/λ_n) z_n^l / Σ_{k<L} z_n^k
///       = 2 Re Σ_n C_n B_n (e^{Δλ_n} − 1)/((e^{LΔλ_n} − 1) λ_n) e^{lΔλ_n},  z_n = e^{Δλ_n}.
///
/// The powers of every mode are divided by their sum over L = options.length steps, or, when that
/// is 0, over the length of the kernel.
///
/// Cost: as s4d_kernel.
/// @throws ShapeError for shapes that do not fit and a kernel in the memory of an input;
///   DomainError unless Re λ < 0
template <class T>
void dss_kernel(const Cpu& backend, const DiagonalKernelInputs<T>& inputs,
                const DssKernelOptions& options, const DiagonalKernelOutputs<T>& outputs,
                DiagonalKernelScratch<T>& scratch) {
  constexpr std::string_view name = "dss_kernel";
  detail::check_kernel_output(name, inputs, outputs);
  detail::with_dss_mode(name, inputs, options, outputs.kernel.extent(1), [&](auto mode) {
    detail::diagonal_kernel(backend, inputs, outputs.kernel, scratch, mode);
  });
}

/// The gradients of dss_kernel.
/// @param inputs, options as given to dss_kernel
/// @param scratch any; nothing that dss_kernel left in it is read
/// @throws ShapeError, DomainError as dss_kernel
/// Cost: twice dss_kernel.
template <class T>
void dss_kernel_backward(const Cpu& backend, const DiagonalKernelInputs<T>& inputs,
                         const DssKernelOptions& options,
                         const DiagonalKernelOutputGradients<T>& output_gradients,
                         const DiagonalKernelInputGradients<T>& input_gradients,
                         DiagonalKernelScratch<T>& scratch) {
  constexpr std::string_view name = "dss_kernel_backward";
  detail::check_kernel_gradients(name, inputs, output_gradients, input_gradients);
  detail::with_dss_mode(name, inputs, options, output_gradients.kernel.extent(1), [&](auto mode) {
    detail::diagonal_kernel_backward(backend, inputs, output_gradients.kernel, input_gradients,
                                     scratch, mode);
  });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(s4d_kernel, DiagonalKernel, float)
SSM_INSTANCE_OPERATION(s4d_kernel, DiagonalKernel, double)
SSM_INSTANCE void dss_kernel(const Cpu&, const DiagonalKernelInputs<float>&,
                             const DssKernelOptions&, const DiagonalKernelOutputs<float>&,
                             DiagonalKernelScratch<float>&);
SSM_INSTANCE void dss_kernel_backward(const Cpu&, const DiagonalKernelInputs<float>&,
                                      const DssKernelOptions&,
                                      const DiagonalKernelOutputGradients<float>&,
                                      const DiagonalKernelInputGradients<float>&,
                                      DiagonalKernelScratch<float>&);
SSM_INSTANCE void dss_kernel(const Cpu&, const DiagonalKernelInputs<double>&,
                             const DssKernelOptions&, const DiagonalKernelOutputs<double>&,
                             DiagonalKernelScratch<double>&);
SSM_INSTANCE void dss_kernel_backward(const Cpu&, const DiagonalKernelInputs<double>&,
                                      const DssKernelOptions&,
                                      const DiagonalKernelOutputGradients<double>&,
                                      const DiagonalKernelInputGradients<double>&,
                                      DiagonalKernelScratch<double>&);
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
