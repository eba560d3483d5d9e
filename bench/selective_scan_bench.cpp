#include <benchmark/benchmark.h>

#include <cmath>
#include <complex>
#include <string>
#include <type_traits>

#include "ssm/core/detail/simd.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/scan/selective_scan.hpp"

/// An item is one channel at one step, with all its states: `time_per_item` is the figure to read.
/// naive    the formula as a C programmer writes it, one channel at a time, std::exp
/// floor    what no order of the work can avoid: per item and state one exponential, three
///          multiply-adds and their loads, on data that stays in the first-level cache
namespace {

using ssm::Index;
using ssm::Tensor;
using ssm::View;

template <class T, class K = T>
struct Problem {
  Index length, channels, state;
  Tensor<T, 3> u, delta, y, dy, du, ddelta;
  Tensor<K, 2> A, dA;
  Tensor<K, 4> B, C, dB, dC;
  Tensor<T, 1> D, dD;
  Tensor<K, 3> x;
  ssm::Hold hold;
  ssm::SelectiveScanScratch<T, K> scratch;

  Problem(Index length_, Index channels_, Index state_, ssm::Hold hold_ = ssm::Hold::simplified,
          bool gradients = false)
      : length(length_),
        channels(channels_),
        state(state_),
        u({1, length, channels}),
        delta(u.extents()),
        y(u.extents()),
        A({channels, state}),
        B({1, length, 1, state}),
        C(B.extents()),
        D({channels}),
        x({1, channels, state}),
        hold(hold_) {
    std::uint64_t seed = 1;
    const auto fill = [&](auto& tensor, double low, double high) {
      for (auto& value : tensor) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        value = static_cast<T>(low + (high - low) * static_cast<double>(seed >> 11) * 0x1p-53);
      }
    };
    fill(u, -1, 1);
    fill(delta, -5, -1);
    fill(B, -1, 1);
    fill(C, -1, 1);
    D.fill(1);
    for (Index c = 0; c < channels; ++c)
      for (Index n = 0; n < state; ++n) A(c, n) = rate(n);
    if (!gradients) return;
    dy = u;
    du = ddelta = y;
    dA = A;
    dB = dC = B;
    dD = D;
  }

  /// −1 − n of a real A, as Mamba starts; −1/2 + iπn of a complex one, as S4D does.
  static K rate(Index n) {
    if constexpr (std::is_same_v<T, K>)
      return static_cast<T>(-1 - n);
    else
      return {T(-0.5), static_cast<T>(3.14159265 * static_cast<double>(n))};
  }

  [[nodiscard]] ssm::SelectiveScanInputs<T, K> inputs() const {
    ssm::SelectiveScanInputs<T, K> in;
    in.u = u;
    in.delta = delta;
    in.A = A;
    in.B = B;
    in.C = C;
    in.D = D;
    return in;
  }
  void forward(int threads, bool keep = false) {
    ssm::selective_scan(ssm::cpu(threads), inputs(), {.softplus = true, .hold = hold, .keep = keep},
                        {y, {}}, scratch);
  }
  void backward(int threads) {
    ssm::SelectiveScanInputGradients<T, K> gradients;
    gradients.u = du;
    gradients.delta = ddelta;
    gradients.A = dA;
    gradients.B = dB;
    gradients.C = dC;
    gradients.D = dD;
    ssm::selective_scan_backward(ssm::cpu(threads), inputs(), {.softplus = true, .hold = hold},
                                 {dy, {}}, gradients, scratch);
  }
};

void report(benchmark::State& run, Index items, Index bytes) {
  const auto count = static_cast<double>(run.iterations()) * static_cast<double>(items);
  run.SetItemsProcessed(static_cast<std::int64_t>(count));
  run.SetBytesProcessed(static_cast<std::int64_t>(run.iterations()) * bytes);
  run.counters["time_per_item"] =
      benchmark::Counter(count, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

template <class T, class K>
Index row_bytes(const Problem<T, K>& p, Index arrays) {
  const auto size = static_cast<Index>(sizeof(T)), coefficient = static_cast<Index>(sizeof(K));
  return p.length * (size * arrays * p.channels + 2 * coefficient * p.state);
}

template <class T>
void naive(benchmark::State& run, Index length, Index channels, Index state, int) {
  Problem<T> p(length, channels, state);
  for (auto _ : run) {
    for (Index c = 0; c < channels; ++c) {
      T* x = &p.x(0, c, 0);
      for (Index n = 0; n < state; ++n) x[n] = 0;
      for (Index t = 0; t < length; ++t) {
        T delta = p.delta(0, t, c);
        if (delta <= T(20)) delta = std::log1p(std::exp(delta));
        const T u = p.u(0, t, c);
        T y = p.D(c) * u;
        for (Index n = 0; n < state; ++n) {
          x[n] = std::exp(delta * p.A(c, n)) * x[n] + delta * u * p.B(0, t, 0, n);
          y += p.C(0, t, 0, n) * x[n];
        }
        p.y(0, t, c) = y;
      }
    }
    benchmark::ClobberMemory();
  }
  report(run, length * channels, row_bytes(p, 3));
}

template <class T>
void floor(benchmark::State& run, Index length, Index channels, Index, int) {
  using ssm::detail::fma;
  using Vec = ssm::detail::Vec<T>;
  constexpr Index W = ssm::detail::lanes<T>;
  constexpr int states = 16;
  constexpr Index tile = 16;
  alignas(64) T delta[tile * W], u[tile * W], y[tile * W], A[states * W], B[tile * states],
      C[tile * states];
  for (Index i = 0; i < tile * W; ++i) delta[i] = T(0.01), u[i] = T(0.1);
  for (Index i = 0; i < states * W; ++i) A[i] = static_cast<T>(-1 - i / W);
  for (Index i = 0; i < tile * states; ++i) B[i] = T(0.1), C[i] = T(0.2);
  const Index tiles = length * channels / (tile * W);
  Vec h[states];
  for (Vec& value : h) value = Vec(T(0));
  for (auto _ : run) {
    for (Index k = 0; k < tiles; ++k) {
      for (Index s = 0; s < tile; ++s) {
        const Vec step = Vec::load(delta + s * W), input = step * Vec::load(u + s * W);
        Vec sums[2] = {Vec(T(0)), Vec(T(0))};
        ssm::detail::unroll<states>([&](auto n) __attribute__((always_inline)) {
          h[n] = fma(h[n], ssm::detail::exp2(step * Vec::load(A + n * W)),
                     input * Vec(B[s * states + n]));
          sums[n % 2] = fma(h[n], Vec(C[s * states + n]), sums[n % 2]);
        });
        (sums[0] + sums[1]).store(y + s * W);
      }
      benchmark::DoNotOptimize(y);
      benchmark::ClobberMemory();
    }
  }
  report(run, tiles * tile * W, 0);
}

constexpr auto simplified = ssm::Hold::simplified, exact = ssm::Hold::zero_order;

template <class T, class K = T, ssm::Hold hold = simplified>
void forward(benchmark::State& run, Index length, Index channels, Index state, int threads) {
  Problem<T, K> p(length, channels, state, hold);
  for (auto _ : run) p.forward(threads);
  report(run, length * channels, row_bytes(p, 3));
}

template <class T, class K = T, ssm::Hold hold = simplified>
void backward(benchmark::State& run, Index length, Index channels, Index state, int threads) {
  Problem<T, K> p(length, channels, state, hold, true);
  p.forward(threads, true);
  for (auto _ : run) p.backward(threads);
  report(run, length * channels, row_bytes(p, 5));
}

/// What training pays: forward that keeps its states, then backward.
template <class T>
void both(benchmark::State& run, Index length, Index channels, Index state, int threads) {
  Problem<T> p(length, channels, state, simplified, true);
  for (auto _ : run) {
    p.forward(threads, true);
    p.backward(threads);
  }
  report(run, length * channels, row_bytes(p, 8));
}

/// The loop of selective_scan_reference.
template <class T, class K, ssm::Hold hold>
void reference(benchmark::State& run, Index length, Index channels, Index state, int threads) {
  Problem<T, K> p(length, channels, state, hold);
  for (auto _ : run)
    ssm::selective_scan_reference(ssm::cpu(threads), p.inputs(),
                                  {.softplus = true, .hold = hold, .keep = false}, {p.y, {}},
                                  p.scratch);
  report(run, length * channels, row_bytes(p, 3));
}

template <class T>
void step(benchmark::State& run, Index, Index channels, Index state, int) {
  Problem<T> p(1, channels, state);
  const std::array<Index, 2> row{1, channels};
  const std::array<Index, 3> coefficient{1, 1, state};
  const ssm::SelectiveScanStepInputs<T> in{.u = {p.u.data(), row},
                                           .delta = {p.delta.data(), row},
                                           .A = p.A,
                                           .B = View<const T, 3>(p.B.data(), coefficient),
                                           .C = View<const T, 3>(p.C.data(), coefficient),
                                           .D = p.D,
                                           .delta_bias = {},
                                           .z = {}};
  for (auto _ : run)
    ssm::selective_scan_step(in, {.softplus = true}, p.x, View<T, 2>(p.y.data(), row));
  report(run, channels, static_cast<Index>(sizeof(T)) * channels * (3 * state + 3));
}

using Function = void (*)(benchmark::State&, Index, Index, Index, int);

void add(const std::string& variant, const std::string& scalar, Function function, Index length,
         Index channels, Index state, int threads) {
  const std::string name =
      "selective_scan/" + variant + "/" + scalar + "/length:" + std::to_string(length) +
      "/channels:" + std::to_string(channels) + "/state:" + std::to_string(state) +
      "/threads:" + std::to_string(threads);
  benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& run) { function(run, length, channels, state, threads); })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

template <class T>
void add_kinds(const std::string& scalar) {
  using Complex = std::complex<T>;
  constexpr Index length = 1024, channels = 256, state = 16;
  const auto at = [&](const std::string& variant, Function function) {
    add(variant, scalar, function, length, channels, state, 1);
  };
  at("forward_kinds/real_simplified", forward<T>);
  at("forward_kinds/real_exact", forward<T, T, exact>);
  at("forward_kinds/complex_simplified", forward<T, Complex>);
  at("forward_kinds/complex_exact", forward<T, Complex, exact>);
  at("backward_kinds/real_simplified", backward<T>);
  at("backward_kinds/real_exact", backward<T, T, exact>);
  at("backward_kinds/complex_simplified", backward<T, Complex>);
  at("backward_kinds/complex_exact", backward<T, Complex, exact>);
  at("reference/real_exact", reference<T, T, exact>);
  at("reference/complex_simplified", reference<T, Complex, simplified>);
}

}  // namespace

int main(int argc, char** argv) {
  // The size of the smallest published Mamba's scan, then sweeps around it.
  add("naive", "float", naive<float>, 2048, 1536, 16, 1);
  add("floor", "float", floor<float>, 2048, 1536, 16, 1);
  add("floor", "double", floor<double>, 2048, 1536, 16, 1);
  for (int threads : {1, 2}) {
    add("forward", "float", forward<float>, 2048, 1536, 16, threads);
    add("backward", "float", backward<float>, 2048, 1536, 16, threads);
    add("forward_backward", "float", both<float>, 2048, 1536, 16, threads);
    add("forward", "double", forward<double>, 2048, 1536, 16, threads);
    add("backward", "double", backward<double>, 2048, 1536, 16, threads);
  }
  // The other kinds, beside the real A with the simplified hold at the same size.
  add_kinds<float>("float");
  add_kinds<double>("double");
  for (Index length : {1000, 10000, 100000, 1000000})
    add("forward", "float", forward<float>, length, 64, 16, 1);
  for (int threads : {1, 2})
    for (Index channels : {1, 16, 48, 64, 256, 1024})
      add("forward", "float", forward<float>, 2048, channels, 16, threads);
  for (Index state : {1, 4, 8, 16, 32, 64, 128, 256}) {
    add("forward", "float", forward<float>, 1024, 256, state, 1);
    add("backward", "float", backward<float>, 1024, 256, state, 1);
  }
  for (int threads : {1, 2}) {
    add("forward", "float", forward<float>, 1, 1536, 16, threads);
    add("forward", "float", forward<float>, 1, 16, 16, threads);
  }
  for (Index channels : {16, 64, 1536}) add("step", "float", step<float>, 1, channels, 16, 1);
  add("step", "double", step<double>, 1, 1536, 16, 1);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
