#include <benchmark/benchmark.h>

#include <Eigen/LU>
#include <cmath>
#include <complex>
#include <string>
#include <unsupported/Eigen/MatrixFunctions>

#include "ssm/core/tensor.hpp"
#include "ssm/discretize/discretize.hpp"

namespace {

using ssm::Index;
using Matrix = Eigen::MatrixXd;

/// A chain of masses on springs: stiff, stable, and as dense after balancing as before.
ssm::StateSpace<double> chain(Index states) {
  Matrix A = -2.5 * Matrix::Identity(states, states);
  A.diagonal(1).setConstant(1.0);
  A.diagonal(-1).setConstant(-100.0);
  return {A, Matrix::Ones(states, 1), Matrix::Ones(1, states)};
}

/// The same, its sizes known to the compiler.
template <class T, int N>
ssm::StateSpace<T, N, 1, 1> fixed_chain() {
  const auto system = chain(N);
  return {system.A().cast<T>(), system.B().cast<T>(), system.C().cast<T>(), system.D().cast<T>()};
}

/// B_bar = A⁻¹ (e^{ΔA} − I) B as the formula stands, with Eigen's exponential: A must be regular.
void dense_naive(benchmark::State& run) {
  const auto system = chain(run.range(0));
  const Matrix identity = Matrix::Identity(system.states(), system.states());
  for (auto _ : run) {
    const Matrix A_bar = (0.01 * system.A()).exp();
    const Matrix B_bar = system.A().partialPivLu().solve((A_bar - identity) * system.B());
    benchmark::DoNotOptimize(B_bar.data());
  }
}

void dense(benchmark::State& run, ssm::Discretization method) {
  const auto system = chain(run.range(0));
  for (auto _ : run) {
    const auto sampled = ssm::discretize(method, system, 0.01);
    benchmark::DoNotOptimize(sampled.B_bar().data());
  }
}

/// The step is 2^-exponent s.
template <class T, int N>
void fixed(benchmark::State& run, ssm::Discretization method) {
  auto system = fixed_chain<T, N>();
  const T delta = std::ldexp(T(1), -static_cast<int>(run.range(1)));
  for (auto _ : run) {
    benchmark::DoNotOptimize(system);
    auto sampled = ssm::discretize(method, system, delta);
    benchmark::DoNotOptimize(sampled);
  }
}

/// exp([A B; 0 0] Δ) with Eigen's exponential, of fixed size.
template <int N>
void fixed_naive(benchmark::State& run) {
  auto system = fixed_chain<double, N>();
  const double delta = std::ldexp(1.0, -static_cast<int>(run.range(1)));
  for (auto _ : run) {
    benchmark::DoNotOptimize(system);
    Eigen::Matrix<double, N + 1, N + 1> block = Eigen::Matrix<double, N + 1, N + 1>::Zero();
    block.template topRows<N>() << system.A() * delta, system.B() * delta;
    Eigen::Matrix<double, N + 1, N + 1> sampled = block.exp();
    benchmark::DoNotOptimize(sampled);
  }
}

/// The modes of S4D-Lin, λ_n = −1/2 + πn i, or their real parts' ladder −(n + 1).
template <class K>
struct Modes {
  Modes(Index length, Index channels, Index state)
      : lambda({channels, state}),
        delta({length, channels}),
        a_bar({length, channels, state}),
        b_bar_factor({length, channels, state}) {
    for (Index c = 0; c < channels; ++c)
      for (Index n = 0; n < state; ++n) {
        if constexpr (std::is_floating_point_v<K>)
          lambda(c, n) = -static_cast<K>(n + 1);
        else
          lambda(c, n) = {-0.5, 3.14159 * static_cast<double>(n)};
      }
    for (Index t = 0; t < length; ++t)
      for (Index c = 0; c < channels; ++c)
        delta(t, c) = 1e-3 * static_cast<double>(1 + (7 * t + c) % 100);
  }

  ssm::Tensor<K, 2> lambda;
  ssm::Tensor<double, 2> delta;
  ssm::Tensor<K, 3> a_bar, b_bar_factor;
};

/// (e^z − 1)/λ as the formula stands: it loses every digit as z → 0.
template <class K>
void diagonal_naive(benchmark::State& run) {
  Modes<K> modes(run.range(0), run.range(1), run.range(2));
  for (auto _ : run) {
    for (Index t = 0; t < run.range(0); ++t)
      for (Index c = 0; c < run.range(1); ++c)
        for (Index n = 0; n < run.range(2); ++n) {
          const K a_bar = std::exp(modes.delta(t, c) * modes.lambda(c, n));
          modes.a_bar(t, c, n) = a_bar;
          modes.b_bar_factor(t, c, n) = (a_bar - 1.0) / modes.lambda(c, n);
        }
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * modes.a_bar.size());
}

template <class K>
void diagonal(benchmark::State& run, ssm::Discretization method) {
  Modes<K> modes(run.range(0), run.range(1), run.range(2));
  const ssm::Cpu backend = ssm::cpu(static_cast<int>(run.range(3)));
  for (auto _ : run) {
    ssm::discretize_diagonal<K>(backend, method, modes.lambda, modes.delta, modes.a_bar,
                                modes.b_bar_factor);
    benchmark::ClobberMemory();
  }
  run.SetItemsProcessed(run.iterations() * modes.a_bar.size());
}

constexpr std::pair<const char*, ssm::Discretization> methods[]{
    {"zero_order_hold", ssm::Discretization::zero_order_hold},
    {"bilinear", ssm::Discretization::bilinear},
    {"forward_euler", ssm::Discretization::forward_euler},
    {"backward_euler", ssm::Discretization::backward_euler},
};

/// Methods that change C or D: for dense systems.
constexpr std::pair<const char*, ssm::Discretization> dense_methods[]{
    {"first_order_hold", ssm::Discretization::first_order_hold},
    {"impulse_invariant", ssm::Discretization::impulse_invariant},
    {"tustin", ssm::Discretization::tustin},
};

template <class K>
void register_diagonal(const std::string& scalar) {
  benchmark::RegisterBenchmark(("discretize_diagonal/naive/" + scalar).c_str(), diagonal_naive<K>)
      ->ArgNames({"length", "channels", "state"})
      ->Args({256, 64, 16})
      ->UseRealTime();
  for (const auto& [name, method] : methods)
    benchmark::RegisterBenchmark(("discretize_diagonal/" + (name + ("/" + scalar))).c_str(),
                                 diagonal<K>, method)
        ->ArgNames({"length", "channels", "state", "threads"})
        ->ArgsProduct({{256}, {64}, {16}, {1, 2}})
        ->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("discretize/naive/double", dense_naive)
      ->ArgName("states")
      ->RangeMultiplier(4)
      ->Range(2, 128);
  benchmark::RegisterBenchmark("discretize_fixed/naive/double", fixed_naive<6>)
      ->ArgNames({"states", "exponent"})
      ->ArgsProduct({{6}, {3, 5, 7, 10}});
  const auto register_dense = [](const std::string& name, ssm::Discretization method) {
    benchmark::RegisterBenchmark(("discretize/" + name + "/double").c_str(), dense, method)
        ->ArgName("states")
        ->RangeMultiplier(4)
        ->Range(2, 128);
    benchmark::RegisterBenchmark(("discretize_fixed/" + name + "/double").c_str(), fixed<double, 6>,
                                 method)
        ->ArgNames({"states", "exponent"})
        ->ArgsProduct({{6}, {3, 5, 7, 10}});
  };
  for (const auto& [name, method] : methods) register_dense(name, method);
  for (const auto& [name, method] : dense_methods) register_dense(name, method);
  register_diagonal<double>("double");
  register_diagonal<std::complex<double>>("complex");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
