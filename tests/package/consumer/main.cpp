#include <cmath>
#include <cstdio>

#include "ssm/core/elementwise.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"

int main() {
  ssm::Tensor<double, 1> y({100});
  ssm::parallel_for(ssm::cpu(2), y.size(),
                    [&](ssm::Index i) { y(i) = ssm::softplus(static_cast<double>(i - 50)); });
  const bool right = std::abs(y(50) - std::log(2.0)) < 1e-15 && y(99) == 49.0;
  std::puts(right ? "ssm works from another project" : "ssm gives wrong values");
  return right ? 0 : 1;
}
