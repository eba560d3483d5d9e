#include "ssm/cuda/selective_scan_step.hpp"

#include <complex>
#include <limits>
#include <string>

#include "ssm/scan/selective_scan_step.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/device_case.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;
using test::rounded_upload;

namespace {

/// A step of `batch` sequences whose states are slots of a larger pool, on the device, against the
/// CPU's step of one row after the other.
template <class T, class K>
double step_error(Index batch, Index channels, Index state, Index groups, bool constant,
                  SelectiveScanOptions options, std::uint64_t seed) {
  using R = Real<K>;
  using V = detail::Varying<T, K>;
  Random random(seed);
  auto u = random.normal<R, 2>({batch, channels});
  auto delta = random.normal<R, 2>({batch, channels}, 0.2, options.softplus ? -1 : 2);
  auto z = random.normal<R, 2>({batch, channels});
  auto A = random.normal<K, 2>({channels, state}, 0.1, -1);
  auto D = random.normal<R, 1>({channels}), bias = random.normal<R, 1>({channels}, 0.1);
  auto B_constant = random.normal<K, 2>({channels, state}), C_constant = B_constant;
  auto B = random.normal<K, 3>({batch, groups, state}), C = B;
  auto states = random.normal<K, 3>({batch + 3, channels, state});
  Tensor<Index, 1> slots({batch});
  for (Index b = 0; b < batch; ++b) slots(b) = (b * 2 + 1) % (batch + 3);  // apart for odd sizes
  if (batch > 2) slots(1) = -1, slots(2) = batch + 3;
  Tensor<R, 2> y({batch, channels}), want({batch, channels});
  y.fill(7);
  want.fill(7);

  const auto du = rounded_upload<T>(u), ddelta = rounded_upload<T>(delta),
             dz = rounded_upload<T>(z);
  const auto dA = to_device(cuda, A), dB_constant = to_device(cuda, B_constant);
  const auto dB = rounded_upload<V>(B), dC = rounded_upload<V>(C);
  const auto dD = to_device(cuda, D), dbias = to_device(cuda, bias);
  auto dstates = to_device(cuda, states);
  auto dy = rounded_upload<T>(y);
  const auto dslots = to_device(cuda, slots);
  SelectiveScanStepInputs<T, K, Device> in;
  in.u = du, in.delta = ddelta, in.A = dA, in.D = dD, in.delta_bias = dbias, in.z = dz;
  if (constant)
    in.B.constant = dB_constant, in.C.constant = dB_constant;
  else
    in.B.varying = dB, in.C.varying = dC;
  selective_scan_step(cuda, in, options, dstates, dy, dslots);
  test::widened_download(y, dy);
  const auto got = to_host(cuda, dstates);

  for (Index b = 0; b < batch; ++b) {
    const Index slot = slots(b);
    if (slot < 0 || slot >= batch + 3) continue;
    SelectiveScanStepInputs<R, K> one;
    one.u = u.view().slice(0, b, 1), one.delta = delta.view().slice(0, b, 1);
    one.A = A, one.D = D, one.delta_bias = bias, one.z = z.view().slice(0, b, 1);
    if (constant)
      one.B.constant = B_constant, one.C.constant = C_constant;
    else
      one.B.varying = B.view().slice(0, b, 1), one.C.varying = C.view().slice(0, b, 1);
    selective_scan_step(one, options, states.view().slice(0, slot, 1), want.view().slice(0, b, 1));
  }
  return std::max(test::relative_error(y, want), test::relative_error(got, states));
}

}  // namespace

TEMPLATE_TEST_CASE("a step on a device is the step of the CPU, for each sequence in its slot", "",
                   float, double, Half, Bfloat16) {
  using K = Arithmetic<TestType>;
  const double tolerance =
      sizeof(TestType) == 2 ? 0x1p-7 : 200 * static_cast<double>(std::numeric_limits<K>::epsilon());
  std::uint64_t seed = 1;
  for (const Index state : {0, 1, 5, 16, 33, 200})
    for (const bool softplus : {false, true}) {
      CAPTURE(state, softplus);
      CHECK(step_error<TestType, K>(4, 6, state, 3, false, {softplus}, ++seed) <= tolerance);
      CHECK(step_error<TestType, K>(2, 7, state, 1, true, {softplus, Hold::zero_order}, ++seed) <=
            tolerance);
    }
  CHECK(step_error<TestType, K>(0, 3, 4, 1, false, {}, 1) <= tolerance);
}

TEMPLATE_TEST_CASE("a step on a device takes complex modes", "", float, double) {
  const double tolerance = 200 * static_cast<double>(std::numeric_limits<TestType>::epsilon());
  for (const Hold hold : {Hold::simplified, Hold::zero_order})
    CHECK(step_error<TestType, std::complex<TestType>>(4, 6, 9, 2, false, {true, hold}, 3) <=
          tolerance);
}

TEST_CASE("a step on a device says which argument is wrong") {
  const DeviceTensor<float, 2> u(cuda, {2, 4}), A(cuda, {4, 3});
  const DeviceTensor<float, 3> B(cuda, {2, 1, 3}), three(cuda, {2, 3, 3});
  DeviceTensor<float, 3> states(cuda, {5, 4, 3});
  DeviceTensor<float, 2> y(cuda, {2, 4});
  const DeviceTensor<Index, 1> slots(cuda, {2});
  const auto message = [&](auto&& change, bool with_slots) {
    SelectiveScanStepInputs<float, float, Device> in;
    in.u = u, in.delta = u, in.A = A, in.B.varying = B, in.C.varying = B;
    change(in);
    try {
      selective_scan_step(cuda, in, {}, states, y,
                          with_slots ? slots.view() : View<const Index, 1, Device>());
    } catch (const ShapeError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(message([](auto&) {}, false) ==
        "selective_scan_step: states is (5, 4, 3), expected (2, 4, 3)");
  CHECK(message([&](auto& in) { in.C.varying = three; }, true) ==
        "selective_scan_step: C is 3 groups, expected a number that divides 4 channels");
  CHECK(message([](auto& in) { in.B.varying = {}; }, true) ==
        "selective_scan_step: B is absent, expected either (channels, state) or (batch, groups, "
        "state)");
}
