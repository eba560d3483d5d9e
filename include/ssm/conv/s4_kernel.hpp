#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <numbers>
#include <string_view>
#include <vector>

#include "ssm/conv/detail/s4_channel.hpp"
#include "ssm/conv/fft.hpp"
#include "ssm/conv/s4_kernel_types.hpp"
#include "ssm/conv/s4_truncate.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

template <class T>
struct S4KernelScratch<T, Host> {
  std::vector<detail::S4ChannelScratch> threads;
  Tensor<double, 1> tangents;  ///< (nodes): tan(πj/L)
  Index length = -1;           ///< L of the tangents
};

namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class T, class Kernel>
S4KernelShape check_s4_kernel(std::string_view name, const S4KernelInputs<T>& in,
                              std::string_view argument, const Kernel& kernel) {
  check_s4_model(name, in);
  check_given(name, argument, kernel, "(channels, L)");
  const Index channels = in.lambda.extent(0), length = kernel.extent(1);
  check_shape(name, argument, kernel, std::array{channels, length});
  check_fft_length(name, "the length of the kernel", length);
  return s4_kernel_shape(channels, in.lambda.extent(1), s4_rank(in), length);
}

/// Calls body(channel, kernel, scratch) for every channel.
template <class T, class Body>
void for_s4_channels(const Cpu& backend, const S4KernelShape& shape, const S4KernelInputs<T>& in,
                     S4KernelScratch<T>& all_scratch, const Body& body) {
  if (all_scratch.length != shape.length) {
    all_scratch.tangents.resize({shape.padded});
    all_scratch.tangents.fill(0.0);
    for (Index j = 0; j < shape.nodes; ++j)
      all_scratch.tangents(j) =
          std::tan(std::numbers::pi * static_cast<double>(j) / static_cast<double>(shape.length));
    all_scratch.length = shape.length;
  }
  const Index runs = (std::min<Index>)(shape.channels, backend.thread_count());
  if (static_cast<Index>(all_scratch.threads.size()) < runs)
    all_scratch.threads.resize(static_cast<std::size_t>(runs));
  parallel_for(backend, runs, [&](Index run) {
    auto& scratch = all_scratch.threads[static_cast<std::size_t>(run)];
    S4Channel kernel(shape, all_scratch.tangents.data(), scratch);
    for (Index c = shape.channels * run / runs; c < shape.channels * (run + 1) / runs; ++c) {
      kernel.load(in, c);
      body(c, kernel, scratch);
    }
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The convolution kernel of S4, K_l = C A_bar^l B_bar for l = 0 … L − 1, with A_bar and B_bar of
/// the bilinear step. It is computed from its Fourier transform at ω_j = e^{−2πij/L} (Gu, Goel & Ré
/// 2022, algorithm 1 and appendix C.3), with z_j = (2/Δ) i tan(πj/L):
///
///   K̂(ω) = 2/(1 + ω) · [r(C̃, B) − r(C̃, P) (I + r(P*, P))⁻¹ r(P*, B)],
///   r(X, Y) = Σ_n X_n Y_n/(z − Λ_n) over every mode and its conjugate,  K̂(−1) = (Δ/2) Σ_n C̃_n B_n.
///
/// Everything is computed in double, whatever T is. The response of dplr_scan to an impulse is the
/// same kernel from C itself, at less cost and for any L.
///
/// Cost: for each channel about (10 + 16 (1 + rank)²) · state · L/4 flops and a transform of length
/// L. The bits are the same for every number of threads. Allocates while the scratch grows.
/// @throws ShapeError for shapes that do not fit and a kernel in the memory of an input;
///   DomainError for an L above longest_fft, and for one with a prime factor above 50 (see
///   good_fft_size)
template <class T>
void s4_kernel(const Cpu& backend, const S4KernelInputs<T>& inputs, const S4KernelOptions&,
               const S4KernelOutputs<T>& outputs, S4KernelScratch<T>& scratch) {
  constexpr std::string_view name = "s4_kernel";
  const auto shape = detail::check_s4_kernel(name, inputs, "kernel", outputs.kernel);
  detail::check_output(name, "kernel", outputs.kernel);
  detail::OverlapChecks<6> memory(name);
  detail::add_inputs(memory, inputs);
  memory.output("kernel", outputs.kernel);
  if (shape.length == 0) return;
  detail::for_s4_channels(
      backend, shape, inputs, scratch,
      [&](Index c, detail::S4Channel& kernel, const auto&) { kernel.forward(outputs.kernel[c]); });
}

/// The gradients of s4_kernel. That of C is with respect to the truncated C̃ which the inputs hold.
/// @param inputs as given to s4_kernel
/// @param scratch any; nothing that s4_kernel left in it is read
/// @throws ShapeError, DomainError as s4_kernel
/// Cost: about three times s4_kernel.
template <class T>
void s4_kernel_backward(const Cpu& backend, const S4KernelInputs<T>& inputs, const S4KernelOptions&,
                        const S4KernelOutputGradients<T>& output_gradients,
                        const S4KernelInputGradients<T>& input_gradients,
                        S4KernelScratch<T>& scratch) {
  constexpr std::string_view name = "s4_kernel_backward";
  const auto& to = input_gradients;
  const View<const T, 2>& dkernel = output_gradients.kernel;
  const auto shape = detail::check_s4_kernel(name, inputs, "gradient of kernel", dkernel);
  detail::OverlapChecks<11> memory(name);
  detail::add_inputs(memory, inputs);
  memory.input("the gradient of kernel", dkernel);
  detail::check_model_gradients(name, memory, inputs, to);
  detail::for_s4_channels(
      backend, shape, inputs, scratch, [&](Index c, detail::S4Channel& kernel, auto& w) {
        const double delta = kernel.backward(dkernel[c]);
        const auto narrow = [](std::complex<double> p) { return std::complex<T>(std::conj(p)); };
        for (Index n = 0; n < shape.modes; ++n) {
          if (to.lambda) to.lambda(c, n) = narrow(w.dlambda(n));
          if (to.B) to.B(c, n) = narrow(w.dright(0, n));
          if (to.C) to.C(c, n) = narrow(w.dleft(0, n));
          for (Index a = 0; to.P && a < shape.rank; ++a)
            to.P(c, n, a) = narrow(w.dright(a + 1, n) + std::conj(w.dleft(a + 1, n)));
        }
        if (to.delta) to.delta(c) = static_cast<T>(delta);
      });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(s4_kernel, S4Kernel, float)
SSM_INSTANCE_OPERATION(s4_kernel, S4Kernel, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
