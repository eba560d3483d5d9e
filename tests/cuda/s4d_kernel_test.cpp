#include "ssm/cuda/s4d_kernel.hpp"

#include <cmath>
#include <complex>
#include <limits>

#include "ssm/conv/s4d_kernel.hpp"
#include "ssm/cuda/memory.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;
using test::relative_error;

TEMPLATE_TEST_CASE("the kernel of S4D on a device is that of the CPU", "", float, double) {
  Random random(6);
  using K = std::complex<TestType>;
  for (const Index length : {0, 1, 15, 16, 100, 1000}) {
    CAPTURE(length);
    const auto lambda = random.normal<K, 2>({3, 9}, 0.3, -0.5);
    const auto B = random.normal<K, 2>({3, 9}), C = random.normal<K, 2>({3, 9});
    const auto delta = random.normal<TestType, 1>({3}, 0.002, 0.02);
    const auto on_lambda = to_device(cuda, lambda), on_B = to_device(cuda, B),
               on_C = to_device(cuda, C);
    const auto on_delta = to_device(cuda, delta);
    for (const Discretization method : {Discretization::zero_order_hold, Discretization::bilinear})
      for (const bool with_B : {false, true}) {
        Tensor<TestType, 2> want({3, length});
        DiagonalKernelScratch<TestType> scratch;
        DiagonalKernelScratch<TestType, Device> on_scratch;
        DiagonalKernelInputs<TestType> in{lambda, delta, {}, C};
        DiagonalKernelInputs<TestType, Device> on_in{on_lambda, on_delta, {}, on_C};
        if (with_B) in.B = B, on_in.B = on_B;
        s4d_kernel(cpu, in, {method}, {want}, scratch);
        DeviceTensor<TestType, 2> got(cuda, {3, length});
        s4d_kernel(cuda, on_in, {method}, {got}, on_scratch);
        const double bound = 100 * static_cast<double>(std::numeric_limits<TestType>::epsilon()) *
                             (1 + static_cast<double>(length) / 100);
        CHECK(relative_error(to_host(cuda, got), want) <= bound);
      }
  }
}

TEST_CASE("a mode that decays far within a step keeps its digits on a device") {
  Tensor<std::complex<double>, 2> lambda({1, 1}), C({1, 1});
  Tensor<double, 1> delta({1});
  delta(0) = 1;
  C(0, 0) = 1;
  for (const double decay : {1.0, 20.0, 38.0, 50.0, 300.0}) {
    CAPTURE(decay);
    lambda(0, 0) = -decay;
    const auto on_lambda = to_device(cuda, lambda), on_C = to_device(cuda, C);
    const auto on_delta = to_device(cuda, delta);
    DeviceTensor<double, 2> got(cuda, {1, 2});
    DiagonalKernelScratch<double, Device> scratch;
    s4d_kernel(cuda, DiagonalKernelInputs<double, Device>{on_lambda, on_delta, {}, on_C},
               {Discretization::zero_order_hold}, {got}, scratch);
    const auto kernel = to_host(cuda, got);
    const double want = kernel(0, 0) * std::exp(-decay);
    CHECK(std::abs(kernel(0, 1) - want) <= 1e-14 * want);
  }
}
