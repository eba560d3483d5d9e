#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <array>
#include <string>
#include <type_traits>

#include "ssm/core/detail/simd.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/store_matrix.hpp"

/// Linear maps of the shapes of mamba-130m and of the shipped model; an item is a multiply-add, and
/// its rate over that of `peak` the share of the machine that is used.
/// peak      multiply-adds on data in registers
/// naive     the formula as loops
/// eigen     Eigen's product
/// linear    y = x Wᵀ
/// backward  the gradients of x and W
/// stored    linear, of a stored matrix
namespace {

using ssm::Index;
using ssm::Tensor;
using ssm::View;

template <class T>
void fill(Tensor<T, 2>& tensor) {
  Index i = 0;
  for (T& value : tensor) value = static_cast<T>(i++ * 7919 % 1000 - 500) / T(500);
}

template <class T>
struct Problem {
  Tensor<T, 2> x, weight, y, dx, dweight;
  ssm::LinearScratch<T> scratch;

  Problem(Index rows, Index in, Index out)
      : x({rows, in}), weight({out, in}), y({rows, out}), dx({rows, in}), dweight({out, in}) {
    fill(x);
    fill(weight);
    fill(y);
  }
  void report(benchmark::State& run, Index products = 1) const {
    run.SetItemsProcessed(run.iterations() * products * x.size() * weight.extent(0));
  }
};

template <class T>
void peak(benchmark::State& run) {
  using V = ssm::detail::Vec<T>;
  constexpr int sums = 12;
  constexpr Index rounds = 100000;
  V sum[sums];
  for (V& s : sum) s = V(T(0));
  T factor = 1;
  for (auto _ : run) {
    benchmark::DoNotOptimize(factor);
    const V a(factor), b(-factor);
    for (Index i = 0; i < rounds; ++i)
      ssm::detail::unroll<sums>([&](auto k)
                                    __attribute__((always_inline)) { sum[k] = fma(sum[k], a, b); });
    for (V& s : sum) benchmark::DoNotOptimize(s);
  }
  run.SetItemsProcessed(run.iterations() * rounds * Index{sums} * ssm::detail::lanes<T>);
}

template <class T>
void naive(benchmark::State& run, Index rows, Index in, Index out, int) {
  Problem<T> p(rows, in, out);
  for (auto _ : run) {
    for (Index i = 0; i < rows; ++i)
      for (Index o = 0; o < out; ++o) {
        T sum = 0;
        for (Index k = 0; k < in; ++k) sum += p.x(i, k) * p.weight(o, k);
        p.y(i, o) = sum;
      }
    benchmark::ClobberMemory();
  }
  p.report(run);
}

template <class T>
void eigen(benchmark::State& run, Index rows, Index in, Index out, int) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Problem<T> p(rows, in, out);
  const Eigen::Map<const Matrix> x(p.x.data(), rows, in), weight(p.weight.data(), out, in);
  Eigen::Map<Matrix> y(p.y.data(), rows, out);
  for (auto _ : run) {
    y.noalias() = x * weight.transpose();
    benchmark::ClobberMemory();
  }
  p.report(run);
}

template <class T>
void linear(benchmark::State& run, Index rows, Index in, Index out, int threads) {
  Problem<T> p(rows, in, out);
  for (auto _ : run) {
    linear(ssm::cpu(threads), {p.x, p.weight}, {}, {p.y}, p.scratch);
    benchmark::ClobberMemory();
  }
  p.report(run);
}

template <class T>
void backward(benchmark::State& run, Index rows, Index in, Index out, int threads) {
  Problem<T> p(rows, in, out);
  for (auto _ : run) {
    linear_backward(ssm::cpu(threads), {p.x, p.weight}, {}, {p.y}, {p.dx, p.dweight}, p.scratch);
    benchmark::ClobberMemory();
  }
  p.report(run, 2);
}

void stored(benchmark::State& run, ssm::MatrixFormat format, Index rows, Index in, Index out,
            int threads) {
  Problem<float> p(rows, in, out);
  const ssm::StoredMatrix matrix = ssm::store_matrix(ssm::cpu, p.weight, format);
  const ssm::LinearInputs<float, ssm::Host, ssm::StoredMatrixView> inputs{p.x, matrix.view()};
  for (auto _ : run) {
    linear(ssm::cpu(threads), inputs, {}, {p.y}, p.scratch);
    benchmark::ClobberMemory();
  }
  p.report(run);
}

template <class Run>
void add(const std::string& name, const Run& run) {
  benchmark::RegisterBenchmark(("linear/" + name).c_str(), run)
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

template <class T>
void add_all(const std::string& scalar) {
  using Run = void (*)(benchmark::State&, Index, Index, Index, int);
  add("peak/" + scalar, peak<T>);
  const auto of_size = [&](const std::string& name, Run run, Index rows, Index in, Index out,
                           int threads) {
    add(name + "/" + scalar + "/rows:" + std::to_string(rows) + "/in:" + std::to_string(in) +
            "/out:" + std::to_string(out) + "/threads:" + std::to_string(threads),
        [=](benchmark::State& state) { run(state, rows, in, out, threads); });
  };
  constexpr std::array<std::array<Index, 2>, 7> shapes{
      {{768, 3072}, {1536, 768}, {1536, 80}, {48, 1536}, {768, 50280}, {128, 512}, {256, 128}}};
  of_size("naive", naive<T>, 32, 768, 3072, 1);
  for (const auto& [in, out] : shapes)
    for (const Index rows : {32, 512, 4096}) {
      if (in * out * rows > Index{768} * 50280 * 32) continue;
      of_size("eigen", eigen<T>, rows, in, out, 1);
      for (const int threads : {1, 2}) {
        of_size("linear", linear<T>, rows, in, out, threads);
        of_size("backward", backward<T>, rows, in, out, threads);
        if constexpr (std::is_same_v<T, float>)
          for (const ssm::MatrixFormat format :
               {ssm::MatrixFormat::bf16, ssm::MatrixFormat::q8, ssm::MatrixFormat::q4})
            add("stored/" + std::string(name_of(format)) + "/rows:" + std::to_string(rows) +
                    "/in:" + std::to_string(in) + "/out:" + std::to_string(out) +
                    "/threads:" + std::to_string(threads),
                [=, in = in, out = out](benchmark::State& state) {
                  stored(state, format, rows, in, out, threads);
                });
      }
    }
}

}  // namespace

int main(int argc, char** argv) {
  add_all<float>("float");
  add_all<double>("double");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
