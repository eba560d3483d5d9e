#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ssm/core/detail/simd.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/causal_attention.hpp"
#include "ssm/layers/matmul.hpp"

/// Causal attention of 4 heads of 64 elements. An item is one multiply-add of the products of pairs
/// that see each other, 2 · 64 for each pair and head forward and 5 · 64 backward: `time_per_item`
/// is the figure to read, and its ratio to `peak` the share of the machine that is used.
/// peak      multiply-adds on data in registers
/// gemm      the library's product at sizes that suit it: (256, 64) · (64, 256), then
///           (256, 256) · (256, 64)
/// products  the products of the same blocks, without their softmax
/// naive     the formula, one query after the other
namespace {

using ssm::Index;
using ssm::Tensor;
namespace detail = ssm::detail;

constexpr Index heads = 4, head_size = 64;

/// Numbers between −1 and 1.
template <class AnyTensor>
void fill(AnyTensor& tensor, std::uint64_t seed) {
  for (auto& x : tensor) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    x = static_cast<typename AnyTensor::value_type>(static_cast<double>(seed >> 11) * 0x1p-52 - 1);
  }
}

template <class T>
struct Problem {
  Tensor<T, 4> q, k, v, y, dy, dq, dk, dv;
  ssm::CausalAttentionOptions options;
  ssm::CausalAttentionScratch<T> scratch;

  Problem(Index length, Index groups, Index window)
      : q({1, length, heads, head_size}), k({1, length, groups, head_size}) {
    fill(q, 1);
    fill(k, 2);
    v = dk = dv = k;
    y = dy = dq = q;
    options = {.window = window, .keep = true};
  }
  [[nodiscard]] ssm::CausalAttentionInputs<T> inputs() const { return {q, k, v}; }
  void forward(int threads) {
    ssm::causal_attention(ssm::cpu(threads), inputs(), options, {y}, scratch);
  }
};

/// Pairs of steps that see each other.
double pairs(Index length, Index window) {
  const auto n = static_cast<double>(length);
  if (window == 0 || window >= length) return n * (n + 1) / 2;
  const auto w = static_cast<double>(window);
  return n * w - w * (w - 1) / 2;
}

void report(benchmark::State& run, double items) {
  run.counters["time_per_item"] =
      benchmark::Counter(static_cast<double>(run.iterations()) * items,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

template <class T>
void peak(benchmark::State& run, Index, Index, Index, int) {
  using V = detail::Vec<T>;
  constexpr std::size_t sums = 12;
  constexpr Index rounds = 100000;
  std::array<V, sums> sum;
  sum.fill(V(T(0)));
  T factor = 1;
  for (auto _ : run) {
    benchmark::DoNotOptimize(factor);
    const V a(factor), b(-factor);
    for (Index i = 0; i < rounds; ++i)
      for (V& s : sum) s = fma(s, a, b);
    for (V& s : sum) benchmark::DoNotOptimize(s);
  }
  report(run, static_cast<double>(rounds * Index{sums} * detail::lanes<T>));
}

template <class T>
void gemm(benchmark::State& run, Index, Index, Index, int) {
  constexpr Index n = 256;
  Tensor<T, 2> q({n, head_size}), k(q.extents()), v(q.extents()), y(q.extents()), weights({n, n});
  fill(q, 1);
  fill(k, 2);
  fill(v, 3);
  Tensor<T, 1> room;
  for (auto _ : run) {
    detail::multiply<T>(ssm::cpu(1), q, detail::transposed(k.view()), weights,
                        ssm::Write::overwrite, room);
    detail::multiply<T>(ssm::cpu(1), weights, v, y, ssm::Write::accumulate, room);
    benchmark::ClobberMemory();
  }
  report(run, 2.0 * n * n * head_size);
}

template <class T>
void products(benchmark::State& run, Index length, Index groups, Index window, int) {
  Problem<T> p(length, groups, window);
  const auto in = p.inputs();
  const detail::AttentionSteps<T> steps(in, p.options, p.scratch);
  constexpr Index width = detail::attention_queries<T>;
  Tensor<T, 2> q({head_size, width}), y(q.extents()), weights({detail::attention_keys, width});
  for (auto _ : run)
    for (Index h = 0; h < heads; ++h) {
      const auto runs = steps.runs(0, h / steps.shared);
      for (Index begin = 0; begin < length; begin += width)
        steps.for_key_blocks(
            runs, begin, (std::min)(begin + width, length),
            [&](const detail::KeyRun<T>& keys, bool, Index skip) {
              detail::block_product<T>({keys.k.data, keys.k.step, 1}, {q.data(), width}, keys.count,
                                       head_size, width - skip, {weights.data(), width}, false);
              detail::block_product<T>({keys.v.data, 1, keys.v.step}, {weights.data(), width},
                                       head_size, keys.count, width - skip, {y.data(), width},
                                       true);
            });
      benchmark::ClobberMemory();
    }
  report(run, 2.0 * heads * head_size * pairs(length, window));
}

template <class T>
void naive(benchmark::State& run, Index length, Index groups, Index window, int) {
  Problem<T> p(length, groups, window);
  std::vector<T> weights(static_cast<std::size_t>(length));
  const T scale = T(1) / std::sqrt(static_cast<T>(head_size));
  for (auto _ : run)
    for (Index h = 0; h < heads; ++h) {
      const Index g = h / (heads / groups);
      for (Index t = 0; t < length; ++t) {
        const Index first = window > 0 ? (std::max<Index>)(t - window + 1, 0) : 0;
        T* w = weights.data();
        T largest = T(-1e30), sum = 0;
        for (Index j = first; j <= t; ++j) {
          w[j] = 0;
          for (Index e = 0; e < head_size; ++e) w[j] += p.q(0, t, h, e) * p.k(0, j, g, e);
          w[j] *= scale;
          largest = (std::max)(largest, w[j]);
        }
        for (Index j = first; j <= t; ++j) sum += w[j] = std::exp(w[j] - largest);
        for (Index e = 0; e < head_size; ++e) p.y(0, t, h, e) = 0;
        for (Index j = first; j <= t; ++j)
          for (Index e = 0; e < head_size; ++e) p.y(0, t, h, e) += w[j] / sum * p.v(0, j, g, e);
      }
      benchmark::ClobberMemory();
    }
  report(run, 2.0 * heads * head_size * pairs(length, window));
}

template <class T>
void forward(benchmark::State& run, Index length, Index groups, Index window, int threads) {
  Problem<T> p(length, groups, window);
  for (auto _ : run) p.forward(threads);
  report(run, 2.0 * heads * head_size * pairs(length, window));
}

template <class T>
void backward(benchmark::State& run, Index length, Index groups, Index window, int threads) {
  Problem<T> p(length, groups, window);
  p.forward(threads);
  for (auto _ : run)
    ssm::causal_attention_backward(ssm::cpu(threads), p.inputs(), p.options, {p.dy, p.y},
                                   {p.dq, p.dk, p.dv}, p.scratch);
  report(run, 5.0 * heads * head_size * pairs(length, window));
}

/// A step that sees `length` steps.
template <class T>
void step(benchmark::State& run, Index length, Index groups, Index, int) {
  Tensor<T, 4> k({1, length, groups, head_size}), v(k.extents());
  Tensor<T, 3> q({1, heads, head_size}), now({1, groups, head_size}), y(q.extents());
  Tensor<Index, 1> steps({1});
  fill(k, 1);
  fill(v, 2);
  fill(q, 3);
  fill(now, 4);
  steps(0) = length;
  for (auto _ : run)
    ssm::causal_attention_step(ssm::CausalAttentionStepInputs<T>{q, now, now}, {.window = length},
                               {k, v, steps}, y.view());
  report(run, 2.0 * heads * head_size * static_cast<double>(length));
}

using Function = void (*)(benchmark::State&, Index, Index, Index, int);

void add(const std::string& variant, const std::string& scalar, Function function, Index length,
         Index groups = heads, Index window = 0, int threads = 1) {
  const std::string name =
      "attention/" + variant + "/" + scalar + "/length:" + std::to_string(length) +
      "/groups:" + std::to_string(groups) + "/window:" + std::to_string(window) +
      "/threads:" + std::to_string(threads);
  auto* row = benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& run) { function(run, length, groups, window, threads); });
  if (threads > 1) row->UseRealTime();  // one thread: processor time, as the machine may be shared
}

template <class T>
void add_all(const std::string& scalar) {
  add("peak", scalar, peak<T>, 0);
  add("gemm", scalar, gemm<T>, 256);
  for (const Index length : {256, 1024, 4096, 16384}) {
    if (length <= 1024) add("naive", scalar, naive<T>, length);
    add("products", scalar, products<T>, length);
    for (const int threads : {1, 2}) {
      add("forward", scalar, forward<T>, length, heads, 0, threads);
      add("backward", scalar, backward<T>, length, heads, 0, threads);
    }
    add("step", scalar, step<T>, length);
  }
  add("forward", scalar, forward<T>, 4096, 1);
  add("backward", scalar, backward<T>, 4096, 1);
  add("forward", scalar, forward<T>, 16384, heads, 512);
  add("backward", scalar, backward<T>, 16384, heads, 512);
}

}  // namespace

int main(int argc, char** argv) {
  add_all<float>("float");
  add_all<double>("double");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
