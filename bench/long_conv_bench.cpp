#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include "ssm/conv/long_conv.hpp"
#include "ssm/core/tensor.hpp"
#if defined(SSM_BENCH_FFTW)
#include <fftw3.h>
#endif

/// Causal convolutions of many channels. An item is an element of y.
/// naive   the sum as a loop over taps and steps, of one channel in adjacent memory
/// fftw    real transforms of twice the length by a measured plan, of channels in adjacent memory,
///         with the kernels' spectra known
/// known   ours with the kernels' spectra known; forward and backward transform them in every call
namespace {

using ssm::Index;
using ssm::Tensor;

template <class T, std::size_t Rank>
Tensor<T, Rank> numbers(const std::array<Index, Rank>& extents) {
  Tensor<T, Rank> x(extents);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(i * 7919 % 2001 - 1000) / 1000;
  return x;
}

void naive(benchmark::State& run) {
  const Index length = run.range(0), taps = run.range(1);
  const auto u = numbers<float, 1>({length}), kernel = numbers<float, 1>({taps});
  Tensor<float, 1> y({length});
  for (auto _ : run) {
    for (Index t = 0; t < length; ++t) {
      float sum = 0;
      for (Index l = 0; l < taps && l <= t; ++l) sum += kernel(l) * u(t - l);
      y(t) = sum;
    }
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * length);
}

template <class T>
void forward(benchmark::State& run, ssm::ConvMethod method, bool known) {
  const Index length = run.range(0), taps = run.range(1), channels = run.range(2);
  const auto u = numbers<T, 3>({1, length, channels});
  const auto kernel = numbers<T, 2>({channels, taps});
  Tensor<T, 3> y(u.extents());
  ssm::LongConvScratch<T> scratch;
  const ssm::Cpu backend = ssm::cpu(static_cast<int>(run.range(3)));
  ssm::LongConvInputs<T> inputs{u, kernel};
  ssm::LongConvSpectra<T> spectra;
  ssm::LongConvSpectraScratch<T> spectra_scratch;
  if (known) {
    ssm::long_conv_spectra(backend, {kernel}, {length, method}, {spectra}, spectra_scratch);
    inputs.spectra = &spectra;
  }
  for (auto _ : run) {
    ssm::long_conv(backend, inputs, {method}, {y}, scratch);
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * length * channels);
}

template <class T>
void backward(benchmark::State& run, ssm::ConvMethod method) {
  const Index length = run.range(0), taps = run.range(1), channels = run.range(2);
  const auto u = numbers<T, 3>({1, length, channels});
  const auto kernel = numbers<T, 2>({channels, taps});
  Tensor<T, 3> du(u.extents());
  Tensor<T, 2> dkernel(kernel.extents());
  ssm::LongConvScratch<T> scratch;
  const ssm::Cpu backend = ssm::cpu(static_cast<int>(run.range(3)));
  for (auto _ : run) {
    ssm::long_conv_backward(backend, {u, kernel}, {method}, {u}, {du, dkernel}, scratch);
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * length * channels);
}

#if defined(SSM_BENCH_FFTW)
void fftw(benchmark::State& run) {
  const Index length = run.range(0), channels = run.range(2), values = length + 1;
  const auto u = numbers<float, 2>({channels, length}),
             spectra = numbers<float, 2>({channels, 2 * values});
  Tensor<float, 2> y(u.extents());
  float* const time = fftwf_alloc_real(static_cast<std::size_t>(2 * length));
  fftwf_complex* const spectrum = fftwf_alloc_complex(static_cast<std::size_t>(values));
  const int size = static_cast<int>(2 * length);
  const fftwf_plan there = fftwf_plan_dft_r2c_1d(size, time, spectrum, FFTW_MEASURE);
  const fftwf_plan back = fftwf_plan_dft_c2r_1d(size, spectrum, time, FFTW_MEASURE);
  for (auto _ : run) {
    for (Index c = 0; c < channels; ++c) {
      std::copy_n(&u(c, 0), length, time);
      std::fill_n(time + length, length, 0.0f);
      fftwf_execute(there);
      const float* const k = &spectra(c, 0);
      for (Index j = 0; j < values; ++j) {
        const float re = spectrum[j][0], im = spectrum[j][1];
        spectrum[j][0] = re * k[2 * j] - im * k[2 * j + 1];
        spectrum[j][1] = re * k[2 * j + 1] + im * k[2 * j];
      }
      fftwf_execute(back);
      std::copy_n(time, length, &y(c, 0));
    }
    benchmark::ClobberMemory();
  }
  fftwf_destroy_plan(there);
  fftwf_destroy_plan(back);
  fftwf_free(time);
  fftwf_free(spectrum);
  run.SetItemsProcessed(run.iterations() * length * channels);
}
#endif

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("long_conv/naive/float", naive)
      ->ArgNames({"length", "taps"})
      ->ArgsProduct({{1024, 16384}, {64, 1024}});
  for (const Index threads : {1, 2})
    for (const auto& size : {std::pair<Index, Index>{100, 100},
                             {512, 512},
                             {1024, 1024},
                             {16384, 64},
                             {16384, 1024},
                             {16384, 16384}})
      for (const Index channels : {1, 256}) {
        if (threads > 1 && channels == 1) continue;
        const auto sized = [&](const std::string& name, auto function, auto... method) {
          benchmark::RegisterBenchmark(("long_conv/" + name).c_str(), function, method...)
              ->ArgNames({"length", "taps", "channels", "threads"})
              ->Args({size.first, size.second, channels, threads})
              ->Unit(benchmark::kMicrosecond)
              ->UseRealTime();
        };
        sized("forward/float", forward<float>, ssm::ConvMethod::automatic, false);
        sized("known/float", forward<float>, ssm::ConvMethod::automatic, true);
        sized("backward/float", backward<float>, ssm::ConvMethod::automatic);
        sized("forward/double", forward<double>, ssm::ConvMethod::automatic, false);
        if (size.second <= 512)
          sized("direct/float", forward<float>, ssm::ConvMethod::direct, false);
#if defined(SSM_BENCH_FFTW)
        if (size.second == size.first && threads == 1) sized("fftw/float", fftw);
#endif
      }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
