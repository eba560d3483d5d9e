// What a program of control takes to compile: a hold, a regulator and both steps of a Kalman filter
// in a fixed and a dynamic size. See compile_times.sh.
#include "ssm/control.hpp"

namespace {

template <int N, int M, int P>
double design(int n, int m, int p) {
  using States = Eigen::Matrix<double, N, N>;
  using State = Eigen::Matrix<double, N, 1>;
  using Outputs = Eigen::Matrix<double, P, P>;
  const States identity = States::Identity(n, n);
  const Eigen::Matrix<double, M, 1> u = Eigen::Matrix<double, M, 1>::Zero(m);
  const Eigen::Matrix<double, P, 1> y = Eigen::Matrix<double, P, 1>::Zero(p);
  const ssm::StateSpace<double, N, M, P> system(-identity, Eigen::Matrix<double, N, M>::Ones(n, m),
                                                Eigen::Matrix<double, P, N>::Ones(p, n));
  const auto sampled = ssm::zero_order_hold(system, 0.1);
  const auto regulator = ssm::lqr(system, identity, Eigen::Matrix<double, M, M>::Identity(m, m));
  const ssm::NoisyStateSpace noisy(system, identity, Outputs(Outputs::Identity(p, p)));
  ssm::Belief<double, N> belief(State::Zero(n), identity);
  ssm::kalman_predict(noisy, 0.1, u, belief);
  ssm::kalman_update(noisy, u, y, belief);
  return sampled.A_bar()(0, 0) + regulator.K(0, 0) + belief.mean(0);
}

}  // namespace

int main() { return static_cast<int>(design<6, 2, 3>(6, 2, 3) + design<-1, -1, -1>(6, 2, 3)); }
