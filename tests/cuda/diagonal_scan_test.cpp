#include "ssm/cuda/diagonal_scan.hpp"

#include <algorithm>
#include <complex>
#include <limits>

#include "ssm/core/phi.hpp"
#include "ssm/scan/diagonal_recurrence.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/device_case.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;
using test::relative_error;

namespace {

constexpr Discretization methods[] = {Discretization::zero_order_hold, Discretization::bilinear,
                                      Discretization::forward_euler,
                                      Discretization::backward_euler};

/// The scan on the device, in place, against the recurrence of the CPU.
template <class K>
double device_error(Discretization method, std::array<Index, 3> rows, Index state, bool reversed) {
  using T = Real<K>;
  Random random(5);
  const std::array<Index, 3> states{rows[0], rows[2], state};
  const auto u = random.normal<T>(rows);
  const auto lambda = random.normal<K, 2>({rows[2], state}, 0.2, -1);
  const auto B = random.normal<K, 2>({rows[2], state}), C = random.normal<K, 2>({rows[2], state});
  const auto D = random.normal<T, 1>({rows[2]});
  const auto delta = random.normal<T, 1>({rows[2]}, 0.01, 0.2);
  const auto initial = random.normal<K>(states);
  Tensor<T, 3> y(rows);
  Tensor<K, 3> final_state(states);
  DiagonalScanInputs<T, K> in{u, lambda, delta, B, C, D, initial};
  in.sequences.reversed = reversed;
  DiagonalScanScratch<T, K> scratch;
  recurrence(cpu, in, {method}, {y, final_state}, scratch);

  auto on_u = to_device(cuda, u);
  auto on_initial = to_device(cuda, initial);
  const auto on_lambda = to_device(cuda, lambda), on_B = to_device(cuda, B),
             on_C = to_device(cuda, C);
  const auto on_D = to_device(cuda, D), on_delta = to_device(cuda, delta);
  DiagonalScanInputs<T, K, Device> on_in{on_u, on_lambda, on_delta, on_B, on_C, on_D, on_initial};
  on_in.sequences.reversed = reversed;
  DiagonalScanScratch<T, K, Device> on_scratch;
  diagonal_scan(cuda, on_in, {method}, {on_u, on_initial}, on_scratch);
  return std::max(relative_error(to_host(cuda, on_u), y),
                  relative_error(to_host(cuda, on_initial), final_state));
}

}  // namespace

TEMPLATE_TEST_CASE("the diagonal scan on a device, in place, is the recurrence of the CPU", "",
                   float, double, std::complex<float>, std::complex<double>) {
  const double epsilon = std::numeric_limits<Real<TestType>>::epsilon();
  for (const Discretization method : methods)
    for (const bool reversed : {false, true}) {
      CAPTURE(static_cast<int>(method), reversed);
      const auto error = [&](Index batch, Index length, Index channels, Index state) {
        return device_error<TestType>(method, {batch, length, channels}, state, reversed) /
               (static_cast<double>(8 + length + state) * epsilon);
      };
      CHECK(error(2, 0, 3, 2) <= 4);
      CHECK(error(2, 1, 3, 2) <= 4);
      CHECK(error(2, 33, 5, 18) <= 4);
      CHECK(error(1, 300, 3, 4) <= 4);   // cut into pieces
      CHECK(error(1, 40, 2, 150) <= 4);  // sliced
      CHECK(error(2, 3, 0, 2) <= 4);
    }
}

TEST_CASE("the diagonal scan on a device refuses packed sequences and a step size that varies") {
  const DeviceTensor<float, 3> u(cuda, {1, 4, 3});
  const DeviceTensor<float, 2> mode(cuda, {3, 2});
  const DeviceTensor<float, 1> delta(cuda, {3});
  const DeviceTensor<Index, 1> offsets(cuda, {2});
  DeviceTensor<float, 3> y(cuda, {1, 4, 3});
  DiagonalScanScratch<float, float, Device> scratch;
  DiagonalScanInputs<float, float, Device> in{u, mode, delta, mode, mode};
  CHECK_NOTHROW(diagonal_scan(cuda, in, {}, {y}, scratch));
  in.sequences.offsets = offsets;
  CHECK_THROWS_AS(diagonal_scan(cuda, in, {}, {y}, scratch), ShapeError);
  in.sequences.offsets = {}, in.delta = u;
  CHECK_THROWS_AS(diagonal_scan(cuda, in, {}, {y}, scratch), ShapeError);
}
