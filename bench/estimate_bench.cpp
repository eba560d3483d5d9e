#include <benchmark/benchmark.h>

#include <Eigen/LU>
#include <unsupported/Eigen/MatrixFunctions>

#include "ssm/estimate/kalman.hpp"
#include "ssm/estimate/observer.hpp"
#include "ssm/estimate/smoother.hpp"
#include "ssm/estimate/square_root_kalman.hpp"
#include "ssm/estimate/steady_kalman.hpp"
#include "ssm/estimate/unscented_kalman.hpp"

namespace {

constexpr int states = 6, inputs = 2, outputs = 3;

/// Three coupled oscillators, pushed at two of them and read at all.
template <class T>
ssm::NoisyStateSpace<T, states, inputs, outputs> oscillators() {
  using System = ssm::StateSpace<T, states, inputs, outputs>;
  typename System::StateMatrix A = System::StateMatrix::Zero();
  typename System::InputMatrix B = System::InputMatrix::Zero();
  typename System::OutputMatrix C = System::OutputMatrix::Zero();
  for (int i = 0; i < outputs; ++i) {
    A(2 * i, 2 * i + 1) = T(1);
    A(2 * i + 1, 2 * i) = T(-4);
    A(2 * i + 1, 2 * i + 1) = T(-0.3);
    A(2 * i + 1, (2 * i + 2) % states) = T(1);
    C(i, 2 * i) = T(1);
  }
  B(1, 0) = B(3, 1) = T(1);
  const typename System::StateMatrix Q = T(0.1) * System::StateMatrix::Identity();
  const auto R = T(0.5) * Eigen::Matrix<T, outputs, outputs>::Identity();
  return {System(A, B, C), Q, R};
}

template <class T>
struct Filter {
  ssm::NoisyStateSpace<T, states, inputs, outputs> noisy = oscillators<T>();
  ssm::NoisyStep<T, states, inputs> step = ssm::noisy_step(noisy, T(0.05));
  ssm::Belief<T, states> belief{Eigen::Matrix<T, states, 1>::Zero(),
                                Eigen::Matrix<T, states, states>::Identity()};
  Eigen::Matrix<T, inputs, 1> u{T(1), T(-1)};
  Eigen::Matrix<T, outputs, 1> y{T(0.3), T(0.1), T(-0.2)};
};

/// The textbook's formulas on matrices of dynamic size: P ← (I − K C) P, K by an inverse.
void naive_step(benchmark::State& run) {
  const Filter<double> f;
  const Eigen::MatrixXd A = f.step.A_bar, B = f.step.B_bar, Q = f.step.Q_bar;
  const Eigen::MatrixXd C = f.noisy.system().C(), R = f.noisy.R();
  const Eigen::MatrixXd identity = Eigen::MatrixXd::Identity(states, states);
  Eigen::VectorXd x = f.belief.mean, u = f.u, y = f.y;
  Eigen::MatrixXd P = f.belief.covariance;
  for (auto _ : run) {
    x = A * x + B * u;
    P = A * P * A.transpose() + Q;
    const Eigen::MatrixXd K = P * C.transpose() * (C * P * C.transpose() + R).inverse();
    x += K * (y - C * x);
    P = (identity - K * C) * P;
    benchmark::DoNotOptimize(x.data());
    benchmark::DoNotOptimize(P.data());
  }
}

/// A step of a known length: predict and update with all outputs.
template <class T>
void step(benchmark::State& run) {
  Filter<T> f;
  for (auto _ : run) {
    benchmark::DoNotOptimize(f.y);
    ssm::kalman_predict(f.step, f.u, f.belief);
    auto innovation = ssm::kalman_update(f.noisy, f.u, f.y, f.belief);
    benchmark::DoNotOptimize(innovation);
    benchmark::DoNotOptimize(f.belief);
  }
}

/// The same of a filter that keeps a factor of its covariance.
template <class T>
void square_root_step(benchmark::State& run) {
  Filter<T> f;
  auto belief = ssm::square_root_belief(f.belief.mean, f.belief.covariance);
  for (auto _ : run) {
    benchmark::DoNotOptimize(f.y);
    ssm::kalman_predict(f.step, f.u, belief);
    auto innovation = ssm::kalman_update(f.noisy, f.u, f.y, belief);
    benchmark::DoNotOptimize(innovation);
    benchmark::DoNotOptimize(belief);
  }
}

/// The same by images of points, of functions that are products with A_bar and C.
template <class T>
void unscented_step(benchmark::State& run) {
  Filter<T> f;
  using X = Eigen::Matrix<T, states, 1>;
  for (auto _ : run) {
    benchmark::DoNotOptimize(f.y);
    ssm::unscented_predict([&](const X& x) { return X(f.step.A_bar * x + f.step.B_bar * f.u); },
                           f.step.Q_bar, f.belief);
    auto innovation = ssm::unscented_correct(
        [&](const X& x) { return Eigen::Matrix<T, outputs, 1>(f.noisy.system().C() * x); },
        f.noisy.R(), f.y, f.belief);
    benchmark::DoNotOptimize(innovation);
    benchmark::DoNotOptimize(f.belief);
  }
}

/// The steady filter of a sampled system.
template <class T>
void steady(benchmark::State& run) {
  Filter<T> f;
  for (auto _ : run) {
    auto gain = ssm::steady_kalman(f.step, f.noisy.system().C(), f.noisy.R());
    benchmark::DoNotOptimize(gain);
  }
}

template <class T>
void update_subset(benchmark::State& run) {
  Filter<T> f;
  Eigen::Array<bool, outputs, 1> measured(true, false, true);
  for (auto _ : run) {
    benchmark::DoNotOptimize(measured);
    ssm::kalman_predict(f.step, f.u, f.belief);
    auto innovation = ssm::kalman_update(f.noisy, f.u, f.y, measured, f.belief);
    benchmark::DoNotOptimize(innovation);
    benchmark::DoNotOptimize(f.belief);
  }
}

/// A step of a length never met before, by Van Loan's exponential of twice the size and another for
/// the input, as the formulas stand.
void naive_irregular(benchmark::State& run) {
  const Filter<double> f;
  const Eigen::MatrixXd A = f.noisy.system().A(), B = f.noisy.system().B(), Q = f.noisy.Q();
  const Eigen::MatrixXd C = f.noisy.system().C(), R = f.noisy.R();
  const Eigen::MatrixXd identity = Eigen::MatrixXd::Identity(states, states);
  Eigen::VectorXd x = f.belief.mean, u = f.u, y = f.y;
  Eigen::MatrixXd P = f.belief.covariance;
  double delta = 0.05;
  for (auto _ : run) {
    benchmark::DoNotOptimize(delta);
    Eigen::MatrixXd noise = Eigen::MatrixXd::Zero(2 * states, 2 * states);
    noise << -A * delta, Q * delta, 0 * identity, A.transpose() * delta;
    noise = noise.exp().eval();
    const Eigen::MatrixXd A_bar = noise.bottomRightCorner(states, states).transpose();
    const Eigen::MatrixXd Q_bar = A_bar * noise.topRightCorner(states, states);
    Eigen::MatrixXd held = Eigen::MatrixXd::Zero(states + inputs, states + inputs);
    held.topRows(states) << A * delta, B * delta;
    held = held.exp().eval();
    x = A_bar * x + held.topRightCorner(states, inputs) * u;
    P = A_bar * P * A_bar.transpose() + Q_bar;
    const Eigen::MatrixXd K = P * C.transpose() * (C * P * C.transpose() + R).inverse();
    x += K * (y - C * x);
    P = (identity - K * C) * P;
    benchmark::DoNotOptimize(x.data());
    benchmark::DoNotOptimize(P.data());
  }
}

template <class T>
void irregular(benchmark::State& run) {
  Filter<T> f;
  auto delta = T(0.05);
  for (auto _ : run) {
    benchmark::DoNotOptimize(delta);
    ssm::kalman_predict(f.noisy, delta, f.u, f.belief);
    auto innovation = ssm::kalman_update(f.noisy, f.u, f.y, f.belief);
    benchmark::DoNotOptimize(innovation);
    benchmark::DoNotOptimize(f.belief);
  }
}

template <class T>
void smoother_step(benchmark::State& run) {
  Filter<T> f;
  auto filtered = f.belief, predicted = filtered;
  ssm::kalman_predict(f.step, f.u, predicted);
  auto next = predicted;
  for (auto _ : run) {
    benchmark::DoNotOptimize(next);
    auto smoothed = ssm::smooth_step(f.step, filtered, predicted, next);
    benchmark::DoNotOptimize(smoothed);
  }
}

template <class T>
void observer(benchmark::State& run) {
  Filter<T> f;
  const ssm::Observer<T, states, inputs, outputs> observer(
      ssm::zero_order_hold(f.noisy.system(), T(0.05)),
      T(0.1) * Eigen::Matrix<T, states, outputs>::Ones());
  Eigen::Matrix<T, states, 1> x = f.belief.mean;
  for (auto _ : run) {
    benchmark::DoNotOptimize(f.y);
    ssm::observer_step(observer, f.u, f.y, x);
    benchmark::DoNotOptimize(x);
  }
}

void sized(const char* name, void (*function)(benchmark::State&)) {
  benchmark::RegisterBenchmark(name, function)
      ->ArgNames({"states", "outputs"})
      ->Args({states, outputs});
}

}  // namespace

int main(int argc, char** argv) {
  sized("kalman/naive_step/double", naive_step);
  sized("kalman/step/double", step<double>);
  sized("kalman/step/float", step<float>);
  sized("kalman/square_root/double", square_root_step<double>);
  sized("kalman/square_root/float", square_root_step<float>);
  sized("kalman/unscented/double", unscented_step<double>);
  sized("kalman/steady/double", steady<double>);
  sized("kalman/subset/double", update_subset<double>);
  sized("kalman/naive_irregular/double", naive_irregular);
  sized("kalman/irregular/double", irregular<double>);
  sized("kalman/irregular/float", irregular<float>);
  sized("smoother/step/double", smoother_step<double>);
  sized("observer/step/double", observer<double>);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
