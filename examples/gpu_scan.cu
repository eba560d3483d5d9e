#include <cmath>
#include <cstdio>

#include "ssm/cuda.hpp"

/// The selective scan S6 on a GPU: 8 channels of 16 states, 1000 steps of a sine. Link ssm::cuda.
int main() {
  using namespace ssm;
  constexpr Index length = 1000, channels = 8, state = 16;
  Tensor<float, 3> u({1, length, channels}), delta(u.extents());
  Tensor<float, 2> A({channels, state});
  Tensor<float, 4> B({1, length, 1, state});
  for (Index i = 0; i < u.size(); ++i)
    u.data()[i] = std::sin(0.01f * static_cast<float>(i / channels));
  for (Index i = 0; i < A.size(); ++i) A.data()[i] = -1.0f - static_cast<float>(i % state);
  delta.fill(0.01f), B.fill(0.25f);

  const auto on_u = to_device(cuda, u), on_delta = to_device(cuda, delta);
  const auto on_A = to_device(cuda, A);
  const auto on_B = to_device(cuda, B);
  DeviceTensor<float, 3> y(cuda, u.extents());
  SelectiveScanScratch<float, float, Device> scratch;
  selective_scan(cuda, {on_u, on_delta, on_A, on_B, on_B}, {.keep = false}, {y}, scratch);

  const Tensor<float, 3> result = to_host(cuda, y);
  for (Index t = 0; t < length; t += 100)
    std::printf("%4d  %.5f\n", static_cast<int>(t), static_cast<double>(result(0, t, 0)));
}
