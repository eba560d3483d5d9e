#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <vector>

#include "ssm/core/tensor.hpp"
#include "ssm/scan/online_projection.hpp"

/// An item is one sample of one stream.
namespace {

using ssm::Index;

/// The bilinear step of scaled LegS with prefix sums, a coefficient after the other.
template <class T>
void naive(benchmark::State& run) {
  const auto state = static_cast<std::size_t>(run.range(1));
  std::vector<T> c(state), root(state);
  for (std::size_t n = 0; n < state; ++n) root[n] = std::sqrt(static_cast<T>(2 * n + 1));
  Index samples = 0;
  for (auto _ : run) {
    for (Index i = 0; i < 1000; ++i) {
      const T h = T(0.5) / static_cast<T>(++samples), u = static_cast<T>(i % 7);
      T before = 0, after = 0;  // Σ √(2k + 1) c_k of the old c and of the new
      for (std::size_t n = 0; n < state; ++n) {
        const auto order = static_cast<T>(n + 1);
        const T right = c[n] * (1 - h * order) - h * root[n] * before + 2 * h * root[n] * u;
        before += root[n] * c[n];
        c[n] = (right - h * root[n] * after) / (1 + h * order);
        after += root[n] * c[n];
      }
    }
    benchmark::DoNotOptimize(c.data());
  }
  run.SetItemsProcessed(run.iterations() * 1000);
}

template <class T>
void fast(benchmark::State& run) {
  const Index streams = run.range(0);
  ssm::OnlineProjection<T> memory(streams, run.range(1));
  ssm::Tensor<T, 2> u({1000, streams});
  for (Index t = 0; t < 1000; ++t)
    for (Index s = 0; s < streams; ++s) u(t, s) = static_cast<T>((t + s) % 7);
  for (auto _ : run) {
    memory.project(ssm::cpu(1), u);
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * 1000 * streams);
}

template <class T>
void register_all(const std::string& scalar) {
  benchmark::RegisterBenchmark(("online_projection/naive/" + scalar).c_str(), naive<T>)
      ->ArgNames({"streams", "state"})
      ->Args({1, 64})
      ->Args({1, 256});
  benchmark::RegisterBenchmark(("online_projection/fast/" + scalar).c_str(), fast<T>)
      ->ArgNames({"streams", "state"})
      ->ArgsProduct({{1, 3, 4, 16, 64}, {64, 256}});
}

}  // namespace

int main(int argc, char** argv) {
  register_all<float>("float");
  register_all<double>("double");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
