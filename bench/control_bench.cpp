#include <benchmark/benchmark.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <string>

#include "ssm/discretize/matrix_exponential.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/estimate/steady_kalman.hpp"
#include "ssm/scan/simulation.hpp"
#include "ssm/system/frequency_response.hpp"
#include "ssm/system/lqr.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/riccati.hpp"

// What a control engineer calls, over plants of 2 to 40 states; control_peers.py asks SciPy and
// python-control with slycot the same. "allocations" are those of one call.

#ifdef __GLIBC__
static std::atomic<long> allocations{0};
extern "C" {
void* __libc_malloc(std::size_t size);
void* malloc(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}
}
#endif

namespace {

using ssm::Dynamic, ssm::Index;

/// Of a plant with so many states.
constexpr int inputs_of(int states) { return states < 6 ? 1 : states < 40 ? 2 : 4; }
constexpr int outputs_of(int states) { return states < 6 ? 1 : states < 40 ? 3 : 8; }

constexpr double step = 0.1;  // s

/// Elements are sin(k²), k = 1, 2, …, through A, B and C row by row; A is that over √states less
/// 1.2 on its diagonal, and stable. control_peers.py makes the same.
template <int States, bool Fixed>
struct Plant {
  static constexpr int n = Fixed ? States : Dynamic;
  static constexpr int m = Fixed ? inputs_of(States) : Dynamic;
  static constexpr int p = Fixed ? outputs_of(States) : Dynamic;
  Eigen::Matrix<double, n, n> A, identity = Eigen::Matrix<double, n, n>::Identity(States, States);
  Eigen::Matrix<double, n, m> B;
  Eigen::Matrix<double, p, n> C;
  Eigen::Matrix<double, m, m> R =
      Eigen::Matrix<double, m, m>::Identity(inputs_of(States), inputs_of(States));
  Eigen::Matrix<double, p, p> noise =
      0.5 * Eigen::Matrix<double, p, p>::Identity(outputs_of(States), outputs_of(States));

  Plant() {
    A.resize(States, States);
    B.resize(States, inputs_of(States));
    C.resize(outputs_of(States), States);
    double k = 0;
    const auto fill = [&](auto& matrix) {
      for (Index i = 0; i < matrix.rows(); ++i)
        for (Index j = 0; j < matrix.cols(); ++j) {
          ++k;
          matrix(i, j) = std::sin(k * k);
        }
    };
    fill(A);
    fill(B);
    fill(C);
    A /= std::sqrt(double(States));
    A.diagonal().array() -= 1.2;
  }
  [[nodiscard]] ssm::StateSpace<double, n, m, p> system() const { return {A, B, C}; }
  [[nodiscard]] ssm::NoisyStateSpace<double, n, m, p> noisy() const {
    return {system(), 0.1 * identity, noise};
  }
};

/// Times `call` of the plant and counts what it allocates.
template <class P, class Call>
void measure(benchmark::State& run, P& plant, Call&& call) {
  {
    auto result = call();
    benchmark::DoNotOptimize(result);
  }
#ifdef __GLIBC__
  const long before = allocations;
  {
    auto result = call();
    benchmark::DoNotOptimize(result);
  }
  run.counters["allocations"] = double(allocations - before);
#endif
  for (auto _ : run) {
    benchmark::DoNotOptimize(plant);
    auto result = call();
    benchmark::DoNotOptimize(result);
  }
}

template <int States, bool Fixed>
void register_all() {
  using P = Plant<States, Fixed>;
  const auto add = [](const char* name, auto body) {
    benchmark::RegisterBenchmark((std::string(name) + (Fixed ? "/fixed" : "/dynamic") +
                                  "/double/states:" + std::to_string(States))
                                     .c_str(),
                                 [body](benchmark::State& run) {
                                   P plant;
                                   body(run, plant);
                                 });
  };
  add("expm",
      [](auto& run, auto& p) { measure(run, p, [&] { return ssm::matrix_exponential(p.A); }); });
  add("zero_order_hold", [](auto& run, auto& p) {
    auto system = p.system();
    measure(run, system, [&] { return ssm::zero_order_hold(system, step); });
  });
  add("lyapunov",
      [](auto& run, auto& p) { measure(run, p, [&] { return ssm::lyapunov(p.A, p.identity); }); });
  add("riccati", [](auto& run, auto& p) {
    measure(run, p, [&] { return ssm::riccati(p.A, p.B, p.identity, p.R); });
  });
  add("lqr", [](auto& run, auto& p) {
    auto system = p.system();
    measure(run, system, [&] { return ssm::lqr(system, p.identity, p.R); });
  });
  add("kalman_step", [](auto& run, auto& p) {
    const auto noisy = p.noisy();
    const auto held = ssm::noisy_step(noisy, step);
    ssm::Belief<double, P::n> belief{Eigen::Matrix<double, P::n, 1>::Zero(States), p.identity};
    Eigen::Matrix<double, P::m, 1> u =
        Eigen::Matrix<double, P::m, 1>::Constant(inputs_of(States), 0.5);
    Eigen::Matrix<double, P::p, 1> y =
        Eigen::Matrix<double, P::p, 1>::Constant(outputs_of(States), 0.3);
    measure(run, y, [&] {
      ssm::kalman_predict(held, u, belief);
      return ssm::log_likelihood(ssm::kalman_update(noisy, u, y, belief));
    });
  });
  add("steady_kalman", [](auto& run, auto& p) {
    const auto noisy = p.noisy();
    auto held = ssm::noisy_step(noisy, step);
    measure(run, held, [&] { return ssm::steady_kalman(held, p.C, p.noise); });
  });
  add("simulation_1e5", [](auto& run, auto& p) {
    constexpr Index length = 100000;
    auto sampled = ssm::zero_order_hold(p.system(), step);
    Eigen::MatrixXd u(length, inputs_of(States));
    for (Index t = 0; t < length; ++t) u.row(t).setConstant(std::sin(double(t)));
    measure(run, u, [&] { return ssm::simulate(sampled, u).y(length - 1, 0); });
  });
  add("frequency_response_1000", [](auto& run, auto& p) {
    auto system = p.system();
    Eigen::VectorXd omega(1000);
    for (Index i = 0; i < 1000; ++i) omega(i) = std::pow(10.0, -2 + 0.004 * double(i));
    measure(run, system, [&] { return ssm::FrequencyResponse(system)(omega); });
  });
  add("frequency_response_one", [](auto& run, auto& p) {
    const ssm::FrequencyResponse response(p.system());
    double omega = 0.7;
    measure(run, omega, [&] { return response(omega); });
  });
}

}  // namespace

int main(int argc, char** argv) {
  register_all<2, true>();
  register_all<2, false>();
  register_all<6, true>();
  register_all<6, false>();
  register_all<12, true>();
  register_all<12, false>();
  register_all<40, true>();
  register_all<40, false>();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
