#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/stream_conv.hpp"
#include "ssm/core/tensor.hpp"

/// Long convolutions of a stream, a block at a time. An item is a sample of a channel; the time is
/// that of a block.
/// naive    the sum as a loop over the taps
/// blocks   long_conv of each block, with the kernels' spectra known: one transform over all
/// uniform  partitions of one size, after a direct sum of two of them: of 256 steps, the shortest
///          for one channel in float with 512 bits a vector
/// ours     partitions that grow
/// Counters: mean and worst of the blocks of a round, 65536 steps (uniform: 4096), of each block
/// the median of nine rounds.
namespace {

using ssm::Index;
using ssm::Tensor;

template <class T, std::size_t Rank>
Tensor<T, Rank> numbers(const std::array<Index, Rank>& extents) {
  Tensor<T, Rank> x(extents);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(i * 7919 % 2001 - 1000) / 1000;
  return x;
}

/// Times `block()`, then each of a round of blocks by itself.
template <class Block>
void measure(benchmark::State& run, Index blocks, const Block& block) {
  for (auto _ : run) {
    block();
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * run.range(1) * run.range(2));
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t rounds = 9;
  std::vector<std::array<double, rounds>> times(static_cast<std::size_t>(blocks));
  for (std::size_t round = 0; round < rounds; ++round)
    for (auto& time : times) {
      const auto start = Clock::now();
      block();
      time[round] = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
    }
  double sum = 0, worst = 0;
  for (auto& time : times) {
    std::nth_element(time.begin(), time.begin() + rounds / 2, time.end());
    sum += time[rounds / 2];
    worst = std::max(worst, time[rounds / 2]);
  }
  run.counters["mean_us"] = sum / static_cast<double>(blocks);
  run.counters["worst_us"] = worst;
}

void naive(benchmark::State& run) {
  const Index taps = run.range(0), block = run.range(2);
  const auto kernel = numbers<float, 1>({taps}), u = numbers<float, 1>({taps + block});
  Tensor<float, 1> y({block});
  for (auto _ : run) {
    for (Index t = 0; t < block; ++t) {
      float sum = 0;
      for (Index l = 0; l < taps; ++l) sum += kernel(l) * u(taps + t - l);
      y(t) = sum;
    }
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * block);
}

void blocks(benchmark::State& run) {
  const Index taps = run.range(0), channels = run.range(1), block = run.range(2);
  const auto kernel = numbers<float, 2>({channels, taps});
  const auto u = numbers<float, 3>({1, block, channels});
  Tensor<float, 3> y(u.extents()), past({1, taps - 1, channels});
  const ssm::Cpu one = ssm::cpu(1);
  ssm::LongConvScratch<float> scratch;
  ssm::LongConvSpectra<float> spectra;
  ssm::LongConvSpectraScratch<float> spectra_scratch;
  ssm::long_conv_spectra(one, {kernel}, {block}, {spectra}, spectra_scratch);
  measure(run, 8, [&] {
    ssm::long_conv(one, {u, kernel, {}, past, {}, &spectra}, {}, {y, past}, scratch);
  });
}

template <class T>
void stream(benchmark::State& run, const ssm::StreamConvOptions& options) {
  const Index taps = run.range(0), channels = run.range(1), block = run.range(2);
  const auto kernel = numbers<T, 2>({channels, taps});
  const auto u = numbers<T, 2>({block, channels});
  Tensor<T, 2> y(u.extents());
  const ssm::StreamConv<T> conv({kernel}, options);
  auto state = make_state(conv);
  const Index round = options.longest > 0 ? 4096 : 65536;  // multiples of the longest partition
  measure(run, round / block, [&] { step(conv, u, state, y); });
}

}  // namespace

int main(int argc, char** argv) {
  for (const Index taps : {48000, 480000})
    for (const Index channels : {1, 2, 16})
      for (const Index block : {1, 64, 512}) {
        const auto add = [&](const std::string& name, auto function, auto... options) {
          benchmark::RegisterBenchmark(("stream_conv/" + name).c_str(), function, options...)
              ->ArgNames({"taps", "channels", "block"})
              ->Args({taps, channels, block})
              ->Unit(benchmark::kMicrosecond);
        };
        if (channels == 1 && block == 64) add("naive/float", naive);
        if (channels == 1 && block == 64) add("blocks/float", blocks);
        using Options = ssm::StreamConvOptions;
        add("ours/float", stream<float>, Options{});
        if (block == 1) continue;
        add("uniform/float", stream<float>, Options{.shortest = 256, .longest = 256});
        add("ours/double", stream<double>, Options{});
      }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
