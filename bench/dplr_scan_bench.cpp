#include <benchmark/benchmark.h>

#include <array>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/s4_kernel.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/discretize/dplr_step.hpp"
#include "ssm/layers/s4.hpp"
#include "ssm/scan/dplr_scan.hpp"

/// S4 from its parameters to its output, sampling and kernels included, rank 1. An item is one
/// channel of one sequence, with all its steps and states: `time_per_item` is the figure to read.
/// naive    the steps of each channel, one mode after the other
/// floor    what the scan cannot avoid: its multiply-adds on data that stays in the first-level
///          cache
/// cauchy   the kernel as the authors of S4 compute it (s4_kernel), then transforms
/// layer    an S4 layer in both forms, which S4Form::fastest chooses from
namespace {

using ssm::Index;
using ssm::Tensor;

/// Numbers between −1 and 1.
template <class AnyTensor>
void fill(AnyTensor& tensor, std::uint64_t seed) {
  using T = typename AnyTensor::value_type;
  const auto draw = [&] {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(seed >> 11) * 0x1p-52 - 1;
  };
  for (auto& x : tensor)
    if constexpr (std::is_floating_point_v<T>) {
      x = static_cast<T>(draw());
    } else {
      const double re = draw();
      x = T(std::complex<double>(re, draw()));
    }
}

template <class T>
struct Problem {
  using K = std::complex<T>;
  Tensor<T, 3> u, y;
  Tensor<K, 2> lambda, B, C, dlambda, dB, dC;
  Tensor<K, 3> P, dP;
  Tensor<T, 1> D, delta, dD, ddelta;
  Tensor<T, 2> kernel;
  ssm::DplrScanScratch<T> scan;
  ssm::S4KernelScratch<T> cauchy;
  ssm::LongConvScratch<T> conv;

  Problem(Index length, Index channels, Index state) : u({1, length, channels}) {
    fill(u, 1);
    y = u;
    lambda.resize({channels, state / 2});
    B = C = dlambda = dB = dC = lambda;
    P.resize({channels, state / 2, 1});
    fill(B, 2);
    fill(C, 3);
    fill(P, 4);
    dP = P;
    D.resize({channels});
    D.fill(1);
    delta = dD = ddelta = D;
    kernel.resize({channels, length});
    for (Index c = 0; c < channels; ++c) {
      delta(c) = T(1e-3) * static_cast<T>(1 + c % 100);
      for (Index n = 0; n < state / 2; ++n)
        lambda(c, n) = {T(-0.5), static_cast<T>(3.14159 * static_cast<double>(n))};
    }
  }
  [[nodiscard]] ssm::DplrScanInputs<T> inputs() const { return {u, lambda, P, delta, B, C, D}; }
};

void report(benchmark::State& run, Index items) {
  run.counters["time_per_item"] =
      benchmark::Counter(static_cast<double>(run.iterations()) * static_cast<double>(items),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

template <class T>
void naive(benchmark::State& run, Index length, Index channels, Index state, int) {
  using Step = ssm::DplrStep<T>;
  Problem<T> p(length, channels, state);
  const Index modes = state / 2;
  typename Step::Vector lambda(modes), B(modes), h(modes);
  typename Step::Matrix P(modes, 1);
  for (auto _ : run)
    for (Index c = 0; c < channels; ++c) {
      for (Index n = 0; n < modes; ++n) {
        lambda(n) = p.lambda(c, n);
        B(n) = p.B(c, n);
        P(n, 0) = p.P(c, n, 0);
      }
      const Step step(lambda, P, B, p.delta(c));
      h.setZero();
      for (Index t = 0; t < length; ++t) {
        const T u = p.u(0, t, c);
        step(u, h.data());
        T y = 0;
        for (Index n = 0; n < modes; ++n) y += (p.C(c, n) * h(n)).real();
        p.y(0, t, c) = 2 * y + p.D(c) * u;
      }
      benchmark::ClobberMemory();
    }
  report(run, channels);
}

template <class T>
void floor(benchmark::State& run, Index length, Index channels, Index state, int) {
  using V = ssm::detail::Vec<T>;
  constexpr Index lanes = ssm::detail::lanes<T>;
  constexpr std::size_t multiply_adds = 12;  // of a mode at a step
  std::array<V, multiply_adds> sum;
  sum.fill(V(T(0)));
  T factor = 1;
  const Index rounds = length * (state / 2) * ((channels + lanes - 1) / lanes);
  for (auto _ : run) {
    benchmark::DoNotOptimize(factor);
    const V a(factor), b(-factor);
    for (Index i = 0; i < rounds; ++i)
      for (V& s : sum) s = fma(s, a, b);
    for (V& s : sum) benchmark::DoNotOptimize(s);
  }
  report(run, channels);
}

template <class T>
void scan(benchmark::State& run, Index length, Index channels, Index state, int threads) {
  Problem<T> p(length, channels, state);
  for (auto _ : run)
    ssm::dplr_scan(ssm::cpu(threads), p.inputs(), {.keep = false}, {p.y, {}}, p.scan);
  report(run, channels);
}

template <class T>
void scan_backward(benchmark::State& run, Index length, Index channels, Index state, int threads) {
  Problem<T> p(length, channels, state);
  ssm::dplr_scan(ssm::cpu(threads), p.inputs(), {}, {p.y, {}}, p.scan);
  for (auto _ : run)
    ssm::dplr_scan_backward(ssm::cpu(threads), p.inputs(), {}, {p.u, {}},
                            {p.y, p.dlambda, p.dP, p.ddelta, p.dB, p.dC, p.dD}, p.scan);
  report(run, channels);
}

template <class T>
void cauchy(benchmark::State& run, Index length, Index channels, Index state, int threads) {
  Problem<T> p(length, channels, state);
  for (auto _ : run) {
    ssm::s4_kernel(ssm::cpu(threads), {p.lambda, p.P, p.B, p.C, p.delta}, {}, {p.kernel}, p.cauchy);
    ssm::long_conv(ssm::cpu(threads), {p.u, p.kernel, p.D}, {}, {p.y, {}}, p.conv);
  }
  report(run, channels);
}

template <class T>
void cauchy_backward(benchmark::State& run, Index length, Index channels, Index state,
                     int threads) {
  Problem<T> p(length, channels, state);
  Tensor<T, 2> dkernel = p.kernel;
  for (auto _ : run) {
    ssm::long_conv_backward(ssm::cpu(threads), {p.u, p.kernel, p.D}, {}, {p.u, {}},
                            {p.y, dkernel, p.dD}, p.conv);
    ssm::s4_kernel_backward(ssm::cpu(threads), {p.lambda, p.P, p.B, p.C, p.delta}, {}, {dkernel},
                            {p.dlambda, p.dP, p.dB, p.dC, p.ddelta}, p.cauchy);
  }
  report(run, channels);
}

/// Forward, or forward and backward.
void layer(benchmark::State& run, Index batch, Index length, ssm::S4Form form, bool train) {
  constexpr Index width = 64;
  ssm::S4<float> model({.width = width, .state = 64, .form = form}), gradients;
  ssm::initialize(model, 1);
  Tensor<float, 3> u({batch, length, width}), y(u.extents());
  fill(u, 5);
  ssm::S4Scratch<float> scratch;
  for (auto _ : run) {
    ssm::forward(ssm::cpu(1), model, u, {}, y, {.keep = train}, scratch);
    if (train) ssm::backward(ssm::cpu(1), model, u, {}, u, y, gradients, {}, scratch);
  }
  report(run, batch * width);
}

using Function = void (*)(benchmark::State&, Index, Index, Index, int);

void add(const std::string& variant, const std::string& scalar, Function function, Index length,
         Index state, int threads) {
  constexpr Index channels = 64;
  const std::string name = "s4/" + variant + "/" + scalar + "/length:" + std::to_string(length) +
                           "/channels:64/state:" + std::to_string(state) +
                           "/threads:" + std::to_string(threads);
  benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& run) { function(run, length, channels, state, threads); })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

template <class T>
void add_all(const std::string& scalar) {
  for (Index length : {1024, 16384}) {
    add("naive", scalar, naive<T>, length, 64, 1);
    add("floor", scalar, floor<T>, length, 64, 1);
    for (int threads : {1, 2}) {
      add("scan", scalar, scan<T>, length, 64, threads);
      add("scan_backward", scalar, scan_backward<T>, length, 64, threads);
      add("cauchy", scalar, cauchy<T>, length, 64, threads);
      add("cauchy_backward", scalar, cauchy_backward<T>, length, 64, threads);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  add_all<float>("float");
  add_all<double>("double");
  for (Index length : {1, 64, 1024, 16384, 131072})
    for (Index state : {4, 16, 256}) add("scan", "float", scan<float>, length, state, 1);
  for (Index length : {64, 1024, 16384})
    for (Index batch : {1, 2, 3, 4, 8, 16, 32})
      for (const auto& [name, form] :
           {std::pair{"scan", ssm::S4Form::scan}, {"convolution", ssm::S4Form::convolution}})
        for (bool train : {false, true}) {
          if (batch * length > 65536) continue;
          const std::string title = std::string("s4_layer/") + name + (train ? "_train" : "") +
                                    "/float/batch:" + std::to_string(batch) +
                                    "/length:" + std::to_string(length) + "/channels:64/state:64";
          benchmark::RegisterBenchmark(
              title.c_str(),
              [=, form = form](benchmark::State& run) { layer(run, batch, length, form, train); })
              ->UseRealTime()
              ->Unit(benchmark::kMicrosecond);
        }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
