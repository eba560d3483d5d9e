#pragma once

#include "arrays.hpp"
#include "launch.hpp"
#include "modes.hpp"
#include "ssm/cuda/s4d_kernel.hpp"

namespace ssm {
namespace kernels {

/// Sixteen values of a channel's kernel, 2 Re Σ C B g z^l.
template <class T>
struct S4dKernel {
  static constexpr int run = 16;

  Discretization method;
  Array<const Complex<T>, 2> lambda, B, C;
  Array<const T, 1> delta;
  Array<T, 2> K;
  Index modes, length, runs;

  SSM_DEVICE void operator()(Index i) const {
    using W = Complex<double>;
    const Index c = i / runs, first = i % runs * run;
    double sum[run] = {};
    for (Index n = 0; n < modes; ++n) {
      const Mode<W> mode =
          discretized(method, widened(lambda(c, n)), static_cast<double>(delta(c)));
      W value = widened(C(c, n)) * mode.b * power(mode.a, first);
      if (B.present) value = value * widened(B(c, n));
      SSM_UNROLL
      for (int l = 0; l < run; ++l) {
        sum[l] += value.re;
        value = value * mode.a;
      }
    }
    for (int l = 0; l < run && first + l < length; ++l) K(c, first + l) = T(2 * sum[l]);
  }
};

}  // namespace kernels

template <class T>
void s4d_kernel(const Cuda& backend, const DiagonalKernelInputs<T, Device>& inputs,
                const DiagonalKernelOptions& options,
                const std::type_identity_t<DiagonalKernelOutputs<T, Device>>& outputs,
                DiagonalKernelScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "s4d_kernel";
  ssm::detail::check_kernel_output(function, inputs, outputs);
  if (options.method != Discretization::zero_order_hold &&
      options.method != Discretization::bilinear)
    ssm::detail::throw_domain(
        function, "method",
        keeps_output(options.method) ? "an Euler method" : "one that changes C and D",
        "zero_order_hold or bilinear");
  const Index channels = outputs.kernel.extent(0), length = outputs.kernel.extent(1);
  const Index runs = (length + S4dKernel<T>::run - 1) / S4dKernel<T>::run;
  launch_elementwise(
      backend, function, channels * runs,
      S4dKernel<T>{options.method, Array<const Complex<T>, 2>(inputs.lambda),
                   Array<const Complex<T>, 2>(inputs.B), Array<const Complex<T>, 2>(inputs.C),
                   Array<const T, 1>(inputs.delta), Array<T, 2>(outputs.kernel),
                   inputs.lambda.extent(1), length, runs});
}

}  // namespace ssm

#define SSM_S4D_KERNEL(T)                                                                \
  template void ssm::s4d_kernel(                                                         \
      const Cuda&, const DiagonalKernelInputs<T, Device>&, const DiagonalKernelOptions&, \
      const DiagonalKernelOutputs<T, Device>&, DiagonalKernelScratch<T, Device>&);
