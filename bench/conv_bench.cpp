#include <benchmark/benchmark.h>

#include <cmath>
#include <complex>
#include <numbers>
#include <string>

#include "ssm/conv/fft.hpp"
#include "ssm/conv/s4_kernel.hpp"
#include "ssm/conv/s4d_kernel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/discretize/zero_order_hold.hpp"

/// An item is one element of the kernel of one channel.
/// naive    the formula as a loop over modes and steps, a running power of std::complex
namespace {

using ssm::Index;
using ssm::Tensor;

/// S4D-Lin: λ_n = −1/2 + πn i, n < state/2.
template <class T>
struct S4d {
  Tensor<std::complex<T>, 2> lambda, B, C;
  Tensor<T, 1> delta;

  S4d(Index channels, Index state) : lambda({channels, state / 2}), delta({channels}) {
    for (Index c = 0; c < channels; ++c) {
      delta(c) = T(1e-3) * static_cast<T>(1 + c);
      for (Index n = 0; n < state / 2; ++n)
        lambda(c, n) = {T(-0.5), static_cast<T>(3.14159 * static_cast<double>(n))};
    }
    B = C = lambda;
    B.fill(1);
    for (Index i = 0; i < C.size(); ++i)
      C.data()[i] = {static_cast<T>(i % 3 - 1), static_cast<T>(i % 5 - 2)};
  }
  [[nodiscard]] ssm::DiagonalKernelInputs<T> inputs() const { return {lambda, delta, B, C}; }
};

template <class T>
void s4d_naive(benchmark::State& run) {
  const Index length = run.range(0), state = run.range(1);
  const S4d<T> model(1, state);
  Tensor<T, 1> K({length});
  for (auto _ : run) {
    K.fill(0);
    for (Index n = 0; n < state / 2; ++n) {
      const auto mode = ssm::zero_order_hold(model.lambda(0, n), model.delta(0));
      std::complex<T> power = model.C(0, n) * model.B(0, n) * mode.b_bar_factor;
      for (Index l = 0; l < length; ++l) {
        K(l) += 2 * power.real();
        power *= mode.a_bar;
      }
    }
    benchmark::DoNotOptimize(K.data());
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * length);
}

template <class T>
void s4d_fast(benchmark::State& run) {
  const Index length = run.range(0);
  const S4d<T> model(1, run.range(1));
  Tensor<T, 2> K({1, length});
  ssm::DiagonalKernelScratch<T> scratch;
  for (auto _ : run) {
    ssm::s4d_kernel(ssm::cpu(1), model.inputs(), {}, {K}, scratch);
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * length);
}

template <class T>
void s4d_backward(benchmark::State& run) {
  const Index length = run.range(0);
  const S4d<T> model(1, run.range(1));
  S4d<T> gradient = model;
  Tensor<T, 2> dK({1, length});
  dK.fill(1);
  ssm::DiagonalKernelScratch<T> scratch;
  for (auto _ : run) {
    ssm::s4d_kernel_backward(ssm::cpu(1), model.inputs(), {}, {dK},
                             {gradient.lambda, gradient.delta, gradient.B, gradient.C}, scratch);
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * length);
}

/// S4-LegS but for the values of P and B, which do not change the work.
template <class T>
struct S4 : S4d<T> {
  Tensor<std::complex<T>, 3> P;

  explicit S4(Index state) : S4d<T>(1, state), P({1, state / 2, 1}) {
    for (Index n = 0; n < state / 2; ++n) P(0, n, 0) = std::sqrt(static_cast<T>(n) + T(0.5));
  }
  [[nodiscard]] ssm::S4KernelInputs<T> s4_inputs() const {
    return {this->lambda, P, this->B, this->C, this->delta};
  }
};

/// The four Cauchy sums of rank 1 over both halves as loops of std::complex<double>.
template <class T>
void s4_naive(benchmark::State& run) {
  using Complex = std::complex<double>;
  const Index length = run.range(0), modes = run.range(1) / 2;
  const S4<T> model(run.range(1));
  Tensor<T, 1> K({length});
  Tensor<double, 1> time({length});
  Tensor<Complex, 1> spectrum({length / 2 + 1});
  ssm::RealFft<double> fft;
  for (auto _ : run) {
    for (Index j = 0; j < length / 2; ++j) {
      const double tangent =
          std::tan(std::numbers::pi * static_cast<double>(j) / static_cast<double>(length));
      const Complex z(0, 2 / static_cast<double>(model.delta(0)) * tangent);
      Complex r00 = 0, r01 = 0, r10 = 0, r11 = 0;
      for (Index i = 0; i < 2 * modes; ++i) {
        const auto half = [&](std::complex<T> x) {
          return i < modes ? Complex(x) : std::conj(Complex(x));
        };
        const Index n = i % modes;
        const Complex inverse = 1.0 / (z - half(model.lambda(0, n)));
        const Complex B = half(model.B(0, n)), C = half(model.C(0, n)), P = half(model.P(0, n, 0));
        r00 += C * B * inverse;
        r01 += C * P * inverse;
        r10 += std::conj(P) * B * inverse;
        r11 += std::conj(P) * P * inverse;
      }
      spectrum(j) = Complex(1, tangent) * (r00 - r01 * r10 / (1.0 + r11));
    }
    fft.inverse(length, spectrum.data(), time.data());
    for (Index l = 0; l < length; ++l) K(l) = static_cast<T>(time(l));
    benchmark::DoNotOptimize(K.data());
  }
  run.SetItemsProcessed(run.iterations() * length);
}

template <class T>
void s4_fast(benchmark::State& run) {
  const Index length = run.range(0);
  const S4<T> model(run.range(1));
  Tensor<T, 2> K({1, length});
  ssm::S4KernelScratch<T> scratch;
  for (auto _ : run) {
    ssm::s4_kernel(ssm::cpu(1), model.s4_inputs(), {}, {K}, scratch);
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * length);
}

template <class T>
void s4_backward(benchmark::State& run) {
  const Index length = run.range(0);
  const S4<T> model(run.range(1));
  S4<T> gradient = model;
  Tensor<T, 2> dK({1, length});
  dK.fill(1);
  ssm::S4KernelScratch<T> scratch;
  for (auto _ : run) {
    ssm::s4_kernel_backward(ssm::cpu(1), model.s4_inputs(), {}, {dK},
                            {gradient.lambda, gradient.P, gradient.B, gradient.C, gradient.delta},
                            scratch);
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * length);
}

template <class T>
void register_all(const std::string& scalar) {
  const auto add = [&](const std::string& name, auto function) {
    benchmark::RegisterBenchmark((name + "/" + scalar).c_str(), function)
        ->ArgNames({"length", "state"})
        ->ArgsProduct({{1024, 16384}, {64}});
  };
  add("s4d_kernel/naive", s4d_naive<T>);
  add("s4d_kernel/fast", s4d_fast<T>);
  add("s4d_kernel/backward", s4d_backward<T>);
  add("s4_kernel/naive", s4_naive<T>);
  add("s4_kernel/fast", s4_fast<T>);
  add("s4_kernel/backward", s4_backward<T>);
}

}  // namespace

int main(int argc, char** argv) {
  register_all<float>("float");
  register_all<double>("double");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
