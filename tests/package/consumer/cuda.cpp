#include "ssm/cuda.hpp"

#include <cstdio>

int main() {
  if (ssm::device_count() > 0) {
    const ssm::Stream stream;
    ssm::Tensor<float, 3> ones({1, 10, 2});
    ones.fill(1);
    const auto a = to_device(stream, ones);
    ssm::DeviceTensor<float, 3> x(stream, a.extents());
    ssm::LinearScanScratch<float, ssm::Device> scratch;
    linear_scan(stream, ssm::LinearScanInputs<float, ssm::Device>{a, a}, {}, {x}, scratch);
    if (to_host(stream, x)(0, 9, 1) != 10) {
      std::puts("ssm::cuda gives wrong values");
      return 1;
    }
  }
  std::puts("ssm::cuda works from another project");
  return 0;
}
