#include "ssm/control.hpp"

#include <cstdio>

#if !defined(SSM_COMPILED) || !SSM_DECLARE_ONLY
#error "ssm::compiled says that bodies are in its library"
#endif

int main() {
  const Eigen::Matrix2d A{{0, 1}, {0, 0}};
  const ssm::StateSpace system(A, Eigen::Vector2d(0, 1), Eigen::RowVector2d(1, 0));
  const auto regulator =
      ssm::lqr(system, Eigen::Matrix2d::Identity(), Eigen::Matrix<double, 1, 1>(1.));
  const bool right = std::abs(regulator.K(0) - 1) < 1e-12 && ssm::zeros(system).size() == 0;
  std::puts(right ? "ssm::compiled works from another project" : "ssm::compiled is wrong");
  return right ? 0 : 1;
}
