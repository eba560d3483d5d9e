#include <array>

#include "../../cuda/block.hpp"
#include "ssm/cuda/selective_scan.hpp"
#include "support/catch.hpp"
#include "support/device_case.hpp"
#include "support/random.hpp"

using namespace ssm;

// Without a device alone: the emulator counts what shared memory would take.

namespace {

template <class Body>
kernels::SharedTraffic traffic_of(const Body& body) {
  kernels::SharedTraffic traffic;
  kernels::SharedTraffic::counted = &traffic;
  body();
  synchronize(cuda);  // the emulator runs late
  kernels::SharedTraffic::counted = nullptr;
  return traffic;
}

}  // namespace

TEST_CASE("whole tiles of a selective scan on a device have no bank conflict") {
  constexpr Index length = 128, channels = 32, state = 16;
  test::Random random(1);
  const auto rows = [&] {
    auto drawn = random.normal<float, 3>({1, length, channels});
    return test::rounded_upload<Bfloat16>(drawn);
  };
  const auto coefficients = [&] {
    auto drawn = random.normal<float, 4>({1, length, 1, state});
    return test::rounded_upload<Bfloat16>(drawn);
  };
  auto drawn_A = random.normal<float, 2>({channels, state}, 0.1, -1);
  const auto A = test::rounded_upload<float>(drawn_A);
  const auto u = rows(), delta = rows(), z = rows(), dy = rows();
  const auto B = coefficients(), C = coefficients();
  auto y = rows(), du = rows(), ddelta = rows(), dz = rows();
  SelectiveScanInputs<Bfloat16, float, Device> in;
  in.u = u, in.delta = delta, in.z = z, in.A = A, in.B.varying = B, in.C.varying = C;
  SelectiveScanInputGradients<Bfloat16, float, Device> gradients;
  gradients.u = du, gradients.delta = ddelta, gradients.z = dz;
  SelectiveScanScratch<Bfloat16, float, Device> scratch;
  const SelectiveScanOptions options{.softplus = true, .keep = true};

  constexpr double work = double(length * channels * state) / kernels::warp;
  const auto forward = traffic_of([&] { selective_scan(cuda, in, options, {y}, scratch); });
  CHECK(forward.wavefronts <= 2.0 * work);
  CHECK(forward.conflicts == 0);
  const auto backward =
      traffic_of([&] { selective_scan_backward(cuda, in, options, {dy}, gradients, scratch); });
  CHECK(backward.wavefronts <= 6.0 * work);
  CHECK(backward.conflicts == 0);
}
