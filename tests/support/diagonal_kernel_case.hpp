#pragma once

#include <array>
#include <complex>

#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/s4d_kernel.hpp"
#include "ssm/conv/s4d_state.hpp"
#include "ssm/discretize/discretize.hpp"
#include "support/random.hpp"

namespace ssm::test::diagonal {

using Complex = std::complex<double>;

template <class T>
struct Problem {
  Tensor<std::complex<T>, 2> lambda, B, C;
  Tensor<T, 1> delta;

  Problem(Index channels, Index modes, double step = 0.02, std::uint64_t seed = 1) {
    Random random(seed);
    const std::array shape{channels, modes};
    lambda = random.normal<std::complex<T>>(shape);
    for (Index c = 0; c < channels; ++c)
      for (Index n = 0; n < modes; ++n)
        lambda(c, n) = {static_cast<T>(-random.uniform(0.05, 1)),
                        static_cast<T>(3.14 * static_cast<double>(n))};
    B = random.normal<std::complex<T>>(shape);
    C = random.normal<std::complex<T>>(shape);
    delta.resize({channels});
    for (T& d : delta) d = static_cast<T>(step * random.uniform(0.5, 2));
  }
  [[nodiscard]] DiagonalKernelInputs<T> inputs() const { return {lambda, delta, B, C}; }
};

/// Which kernel: S4D by a method, or DSS.
enum class Kind { zero_order_hold, bilinear, dss };
inline constexpr Kind kinds[]{Kind::zero_order_hold, Kind::bilinear, Kind::dss};

inline Discretization method_of(Kind kind) {
  return kind == Kind::bilinear ? Discretization::bilinear : Discretization::zero_order_hold;
}

template <class T>
Tensor<T, 2> kernel(Kind kind, const Problem<T>& problem, Index length, int threads = 1) {
  Tensor<T, 2> K({problem.lambda.extent(0), length});
  DiagonalKernelScratch<T> scratch;
  if (kind == Kind::dss)
    dss_kernel(cpu(threads), problem.inputs(), {}, {K}, scratch);
  else
    s4d_kernel(cpu(threads), problem.inputs(), {method_of(kind)}, {K}, scratch);
  return K;
}

/// The impulse response of h_l = A_bar h_{l−1} + B_bar u_l, y = 2 Re(C h), step by step; for DSS
/// divided by the sum of the powers.
template <class T>
Tensor<double, 2> impulse_response(Kind kind, const Problem<T>& p, Index length) {
  const Index channels = p.lambda.extent(0), modes = p.lambda.extent(1);
  Tensor<double, 2> K({channels, length});
  for (Index c = 0; c < channels; ++c)
    for (Index n = 0; n < modes; ++n) {
      const Complex lambda(p.lambda(c, n)), B(p.B(c, n)), C(p.C(c, n));
      const auto mode = discretize(method_of(kind), lambda, static_cast<double>(p.delta(c)));
      Complex h = mode.b_bar_factor * B, sum = 0;
      for (Index l = 0; l < length; ++l)
        sum += std::exp(static_cast<double>(l) * static_cast<double>(p.delta(c)) * lambda);
      if (kind == Kind::dss) h = B / lambda / sum;
      for (Index l = 0; l < length; ++l, h *= mode.a_bar) K(c, l) += 2 * (C * h).real();
    }
  return K;
}

template <class T>
struct Gradients {
  Tensor<std::complex<T>, 2> lambda, B, C;
  Tensor<T, 1> delta;
};

template <class T>
Gradients<T> backward(Kind kind, const Problem<T>& p, const Tensor<T, 2>& dK, int threads = 1) {
  Gradients<T> out{p.lambda, p.B, p.C, p.delta};
  DiagonalKernelScratch<T> scratch;
  const DiagonalKernelInputGradients<T> gradients{out.lambda, out.delta, out.B, out.C};
  if (kind == Kind::dss)
    dss_kernel_backward(cpu(threads), p.inputs(), {}, {dK}, gradients, scratch);
  else
    s4d_kernel_backward(cpu(threads), p.inputs(), {method_of(kind)}, {dK}, gradients, scratch);
  return out;
}

/// Sequences, and the state that they start from.
template <class T>
struct Stream {
  Tensor<T, 3> u;
  Tensor<std::complex<T>, 3> state;

  Stream(Index batch, Index length, Index channels, Index modes) {
    Random random(7);
    u = random.normal<T>(std::array{batch, length, channels});
    state = random.normal<std::complex<T>>(std::array{batch, channels, modes});
  }
};

/// y and the final state of a stream in the convolutional form.
template <class T>
Stream<T> convolve(Kind kind, const Problem<T>& p, const Stream<T>& in) {
  const Index length = in.u.extent(1);
  Stream<T> out = in;
  const auto K = length > 0 ? kernel(kind, p, length) : Tensor<T, 2>({p.lambda.extent(0), 1});
  LongConvScratch<T> conv;
  long_conv(cpu, {in.u, K}, {}, {out.u}, conv);
  DiagonalKernelScratch<T> scratch;
  s4d_pass_state(cpu, {p.inputs(), in.u, in.state}, {method_of(kind)}, {out.u, out.state}, scratch);
  return out;
}

}  // namespace ssm::test::diagonal
