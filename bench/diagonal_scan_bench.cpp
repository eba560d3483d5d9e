#include <benchmark/benchmark.h>

#include <complex>
#include <string>
#include <utility>

#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/s4d_kernel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/scan/diagonal_scan.hpp"

/// S4D from its parameters to its output, zero-order hold and kernels included. An item is one
/// channel at one step, with all its states: `time_per_item` is the figure to read.
/// naive        the recurrence as a C programmer writes it, one channel at a time
/// floor        what the chunked form cannot avoid: its multiply-adds on data that stays in the
///              first-level cache
/// convolution  the kernel by Vandermonde sums, then transforms
/// layer        an S4D layer, forward and backward, on short sequences in every form, which
///              S4dForm::fastest chooses from
namespace {

using ssm::Index;
using ssm::Tensor;
using ssm::View;

constexpr auto method = ssm::Discretization::zero_order_hold;

/// S4D-Lin with C and D drawn from a few values.
template <class T>
struct Problem {
  using K = std::complex<T>;
  Index length, channels, modes;
  Tensor<T, 3> u, y, dy, du;
  Tensor<K, 2> lambda, B, C, dlambda, dB, dC;
  Tensor<T, 1> D, delta, dD, ddelta;
  Tensor<T, 2> kernel;
  ssm::DiagonalScanScratch<T, K> scan;
  ssm::DiagonalKernelScratch<T> kernels;
  ssm::LongConvScratch<T> conv;

  Problem(Index length_, Index channels_, Index state)
      : length(length_),
        channels(channels_),
        modes(state / 2),
        u({1, length, channels}),
        lambda({channels, modes}),
        D({channels}),
        delta({channels}) {
    std::uint64_t seed = 1;
    for (T& value : u) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      value = static_cast<T>(static_cast<double>(seed >> 11) * 0x1p-52 - 1);
    }
    B = C = lambda;
    for (Index c = 0; c < channels; ++c) {
      delta(c) = T(1e-3) * static_cast<T>(1 + c % 100);
      for (Index n = 0; n < modes; ++n) {
        lambda(c, n) = {T(-0.5), static_cast<T>(3.14159 * static_cast<double>(n))};
        C(c, n) = {static_cast<T>(n % 3 - 1), static_cast<T>(n % 5 - 2)};
      }
    }
    B.fill(1);
    D.fill(1);
    y = du = dy = u;
    dlambda = dB = dC = lambda;
    dD = ddelta = D;
  }

  void forward(int threads) {
    ssm::diagonal_scan(ssm::cpu(threads), {u, lambda, delta, B, C, D, {}}, {method}, {y, {}}, scan);
  }
  void backward(int threads) {
    ssm::diagonal_scan_backward(ssm::cpu(threads), {u, lambda, delta, B, C, D, {}}, {method},
                                {dy, {}}, {du, dlambda, ddelta, dB, dC, dD, {}}, scan);
  }
  void convolve(int threads) {
    kernel.resize({channels, length});
    ssm::s4d_kernel(ssm::cpu(threads), {lambda, delta, B, C}, {method}, {kernel}, kernels);
    ssm::long_conv(ssm::cpu(threads), {u, kernel, D, {}}, {}, {y, {}}, conv);
  }
};

void report(benchmark::State& run, Index items) {
  const auto count = static_cast<double>(run.iterations()) * static_cast<double>(items);
  run.SetItemsProcessed(static_cast<std::int64_t>(count));
  run.counters["time_per_item"] =
      benchmark::Counter(count, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

template <class T>
void naive(benchmark::State& run, Index length, Index channels, Index state, int) {
  using K = std::complex<T>;
  Problem<T> p(length, channels, state);
  Tensor<K, 1> x({p.modes}), a({p.modes}), b({p.modes});
  for (auto _ : run) {
    for (Index c = 0; c < channels; ++c) {
      for (Index n = 0; n < p.modes; ++n) {
        const auto mode = ssm::zero_order_hold(p.lambda(c, n), p.delta(c));
        a(n) = mode.a_bar;
        b(n) = mode.b_bar_factor * p.B(c, n);
        x(n) = K(0);
      }
      for (Index t = 0; t < length; ++t) {
        const T u = p.u(0, t, c);
        T y = 0;
        for (Index n = 0; n < p.modes; ++n) {
          x(n) = a(n) * x(n) + b(n) * u;
          y += (p.C(c, n) * x(n)).real();
        }
        p.y(0, t, c) = 2 * y + p.D(c) * u;
      }
    }
    benchmark::ClobberMemory();
  }
  report(run, length * channels);
}

template <class T>
void floor(benchmark::State& run, Index length, Index channels, Index state, int) {
  using ssm::detail::fma;
  using Vec = ssm::detail::Vec<T>;
  constexpr Index W = ssm::detail::lanes<T>;
  constexpr int sums = 16;
  // Multiply-adds of an item: every real state twice, and the kernel of a chunk.
  const Index work = 2 * state + ssm::detail::product_block_cols<T>;
  alignas(64) T factors[256], rows[256];
  for (Index i = 0; i < 256; ++i) factors[i] = rows[i] = T(0.01);
  Vec sum[sums];
  for (Vec& value : sum) value = Vec(T(0));
  const Index rounds = length * channels * work / (sums * W);
  for (auto _ : run) {
    for (Index k = 0; k < rounds; ++k) {
      const Vec right[2] = {Vec::load(rows + k % 8 * W), Vec::load(rows + (k + 1) % 8 * W)};
      ssm::detail::unroll<sums>([&](auto i) __attribute__((always_inline)) {
        sum[i] = fma(Vec(factors[(k + i / 2) % 128]), right[i % 2], sum[i]);
      });
    }
    benchmark::DoNotOptimize(sum);
  }
  report(run, length * channels);
}

template <class T>
void scan(benchmark::State& run, Index length, Index channels, Index state, int threads) {
  Problem<T> p(length, channels, state);
  for (auto _ : run) p.forward(threads);
  report(run, length * channels);
}

template <class T>
void scan_backward(benchmark::State& run, Index length, Index channels, Index state, int threads) {
  Problem<T> p(length, channels, state);
  for (auto _ : run) p.backward(threads);
  report(run, length * channels);
}

template <class T>
void convolution(benchmark::State& run, Index length, Index channels, Index state, int threads) {
  Problem<T> p(length, channels, state);
  for (auto _ : run) p.convolve(threads);
  report(run, length * channels);
}

/// The layer in one form, forward or backward.
template <class T>
void layer(benchmark::State& run, Index batch, Index length, Index width, Index state,
           ssm::S4dForm form, bool backward) {
  ssm::S4d<T> model({.width = width, .state = state, .form = form}), gradients;
  model.B.fill(1);
  model.C.fill(1);
  Tensor<T, 3> u({batch, length, width}), y(u.extents());
  u.fill(1);
  ssm::S4dScratch<T> scratch;
  ssm::forward(ssm::cpu(1), model, u, {}, y, {}, scratch);
  for (auto _ : run)
    if (backward)
      ssm::backward(ssm::cpu(1), model, u, {}, u, y, gradients, {}, scratch);
    else
      ssm::forward(ssm::cpu(1), model, u, {}, y, {.keep = false}, scratch);
  report(run, batch * length * width);
}

template <class T>
void add_layers(const std::string& scalar) {
  using enum ssm::S4dForm;
  for (Index batch : {1, 32})
    for (Index length : {16, 32, 64, 128})
      for (Index state : {4, 64})
        for (const auto& [name, form] : {std::pair{"fastest", fastest},
                                         {"scan", scan},
                                         {"convolution", convolution},
                                         {"recurrence", recurrence}})
          for (bool backward : {false, true}) {
            if (backward && form == recurrence) continue;
            const std::string title =
                std::string("s4d_layer/") + name + (backward ? "_backward/" : "/") + scalar +
                "/batch:" + std::to_string(batch) + "/length:" + std::to_string(length) +
                "/channels:64/state:" + std::to_string(state);
            benchmark::RegisterBenchmark(title.c_str(), [=, form = form](benchmark::State& run) {
              layer<T>(run, batch, length, 64, state, form, backward);
            })->UseRealTime();
          }
}

using Function = void (*)(benchmark::State&, Index, Index, Index, int);

void add(const std::string& variant, const std::string& scalar, Function function, Index length,
         Index channels, Index state, int threads) {
  const std::string name = "s4d/" + variant + "/" + scalar + "/length:" + std::to_string(length) +
                           "/channels:" + std::to_string(channels) +
                           "/state:" + std::to_string(state) +
                           "/threads:" + std::to_string(threads);
  benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& run) { function(run, length, channels, state, threads); })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

template <class T>
void add_all(const std::string& scalar) {
  add("naive", scalar, naive<T>, 16384, 256, 64, 1);
  add("floor", scalar, floor<T>, 16384, 256, 64, 1);
  for (int threads : {1, 2}) {
    add("scan", scalar, scan<T>, 16384, 256, 64, threads);
    add("scan_backward", scalar, scan_backward<T>, 16384, 256, 64, threads);
    add("convolution", scalar, convolution<T>, 16384, 256, 64, threads);
  }
}

}  // namespace

int main(int argc, char** argv) {
  add_all<float>("float");
  add_all<double>("double");
  add_layers<float>("float");
  add_layers<double>("double");
  for (Index length : {64, 256, 1024, 4096, 65536})
    for (Index state : {16, 64, 256}) {
      add("scan", "float", scan<float>, length, 64, state, 1);
      add("convolution", "float", convolution<float>, length, 64, state, 1);
    }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
