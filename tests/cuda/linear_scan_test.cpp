#include "ssm/cuda/linear_scan.hpp"

#include <algorithm>
#include <complex>
#include <limits>
#include <vector>

#include "ssm/core/phi.hpp"
#include "ssm/scan/linear_scan.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/device_case.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;
using test::relative_error;

namespace {

/// The scan and its gradients on the device against those on the CPU.
template <class K>
double device_error(std::array<Index, 3> shape, const std::vector<Index>& packed, bool reversed) {
  Random random(3);
  const Index sequences = packed.empty() ? shape[0] : static_cast<Index>(packed.size()) - 1;
  const std::array<Index, 2> states{sequences, shape[2]};
  const auto a = random.normal<K>(shape, 0.2, 0.6), b = random.normal<K>(shape);
  const auto initial = random.normal<K>(states), dfinal = random.normal<K>(states);
  const auto dx = random.normal<K>(shape);
  Tensor<Index, 1> offsets({static_cast<Index>(packed.size())});
  std::copy(packed.begin(), packed.end(), offsets.begin());

  LinearScanInputs<K> in{a, b, initial};
  in.sequences.reversed = reversed;
  if (!packed.empty()) in.sequences.offsets = offsets;
  Tensor<K, 3> x(shape), da(shape), db(shape);
  Tensor<K, 2> final_state(states), dinitial(states);
  LinearScanScratch<K> scratch;
  linear_scan(cpu, in, {}, {x, final_state}, scratch);
  linear_scan_backward(cpu, in, {}, {dx, dfinal}, {da, db, dinitial}, scratch);

  const auto on_a = to_device(cuda, a);
  auto on_b = to_device(cuda, b);         // x takes the memory of b
  auto state = to_device(cuda, initial);  // the final state takes that of the initial one
  const auto on_offsets = to_device(cuda, offsets);
  auto on_da = to_device(cuda, da), on_db = to_device(cuda, dx);
  auto adjoint = to_device(cuda, dfinal);  // and so do the gradients
  LinearScanInputs<K, Device> on_in{on_a, on_b, state};
  on_in.sequences.reversed = reversed;
  if (!packed.empty()) on_in.sequences.offsets = on_offsets;
  LinearScanScratch<K, Device> on_scratch;
  linear_scan(cuda, on_in, {}, {on_b, state}, on_scratch);
  linear_scan_backward(cuda, on_in, {}, {on_db, adjoint}, {on_da, on_db, adjoint}, on_scratch);
  return std::max(
      {relative_error(to_host(cuda, on_b), x), relative_error(to_host(cuda, state), final_state),
       relative_error(to_host(cuda, on_da), da), relative_error(to_host(cuda, on_db), db),
       relative_error(to_host(cuda, adjoint), dinitial)});
}

}  // namespace

TEMPLATE_TEST_CASE("a linear scan on a device, in place, and its gradients are those of the CPU",
                   "", float, double, std::complex<float>, std::complex<double>) {
  const double tolerance = 40 * static_cast<double>(std::numeric_limits<Real<TestType>>::epsilon());
  for (const bool reversed : {false, true}) {
    for (const std::array<Index, 3> shape : {std::array<Index, 3>{2, 0, 3},
                                             {2, 1, 3},
                                             {1, 7, 1},
                                             {3, 33, 70},
                                             {1, 1025, 17},
                                             {2, 4200, 1},  // more than a tile of one channel
                                             {0, 5, 2},
                                             {2, 4, 0}}) {
      CAPTURE(shape[0], shape[1], shape[2], reversed);
      CHECK(device_error<TestType>(shape, {}, reversed) <= tolerance);
    }
    CHECK(device_error<TestType>({1, 9, 3}, {0, 0, 1, 3, 9, 9}, reversed) <= tolerance);
    CHECK(device_error<TestType>({1, 0, 3}, {0, 0, 0}, reversed) <= tolerance);
    CHECK(device_error<TestType>({1, 700, 5}, {0, 128, 128, 300, 411, 700}, reversed) <= tolerance);
    CHECK(device_error<TestType>({1, 4200, 1}, {0, 1, 4000, 4199, 4200}, reversed) <= tolerance);
  }
}

TEST_CASE("a number that is not finite stays in its own sequence of a linear scan on a device") {
  const Index length = 9000;  // sequences start in several tiles
  Tensor<float, 3> a({1, length, 1}), b({1, length, 1});
  a.fill(1), b.fill(1);
  b(0, 10, 0) = std::numeric_limits<float>::quiet_NaN();
  Tensor<Index, 1> offsets({4});
  offsets(0) = 0, offsets(1) = 40, offsets(2) = 5000, offsets(3) = length;
  const auto on_a = to_device(cuda, a), on_b = to_device(cuda, b);
  const auto on_offsets = to_device(cuda, offsets);
  DeviceTensor<float, 3> on_x(cuda, {1, length, 1});
  LinearScanInputs<float, Device> in{on_a, on_b};
  in.sequences.offsets = on_offsets;
  LinearScanScratch<float, Device> scratch;
  linear_scan(cuda, in, {}, {on_x}, scratch);
  const auto x = to_host(cuda, on_x);
  for (Index t = 0; t < length; ++t) {
    const Index start = t < 40 ? 0 : t < 5000 ? 40 : 5000;
    const bool is_nan = t >= 10 && t < 40;
    if (is_nan) CHECK(x(0, t, 0) != x(0, t, 0));
    if (!is_nan) REQUIRE(x(0, t, 0) == static_cast<float>(t - start + 1));
  }
}

TEST_CASE("gradients of a linear scan on a device take the scratch of that scan alone") {
  const DeviceTensor<float, 3> a(cuda, {2, 4, 3});
  DeviceTensor<float, 3> x(cuda, {2, 4, 3}), db(cuda, {2, 4, 3});
  LinearScanInputs<float, Device> in{a, a};
  LinearScanScratch<float, Device> scratch;
  CHECK_THROWS_AS(linear_scan_backward(cuda, in, {}, {}, {{}, db}, scratch), ShapeError);
  linear_scan(cuda, in, {}, {x}, scratch);
  CHECK_NOTHROW(linear_scan_backward(cuda, in, {}, {}, {{}, db}, scratch));
  in.sequences.reversed = true;
  CHECK_THROWS_AS(linear_scan_backward(cuda, in, {}, {}, {{}, db}, scratch), ShapeError);
}

TEST_CASE("complex numbers whose parts could not move at once are refused in words") {
  DeviceTensor<float, 1> memory(cuda, {100});
  using K = std::complex<float>;
  const std::array<Index, 3> shape{1, 4, 3};
  const auto at = [&](Index offset) {
    return View<K, 3, Device>(reinterpret_cast<K*>(memory.data() + offset), shape);
  };
  const auto run = [&](Index in, Index out) {
    LinearScanScratch<K, Device> scratch;
    linear_scan(cuda, LinearScanInputs<K, Device>{at(in), at(in)}, {}, {at(out)}, scratch);
  };
  CHECK_NOTHROW(run(2, 50));
  CHECK_THROWS_AS(run(1, 50), ShapeError);
  CHECK_THROWS_AS(run(2, 51), ShapeError);
  synchronize(cuda);
}
