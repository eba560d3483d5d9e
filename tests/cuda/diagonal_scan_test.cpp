#include "ssm/cuda/diagonal_scan.hpp"

#include <complex>
#include <limits>

#include "ssm/conv/diagonal_kernel.hpp"
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
  DiagonalRecurrenceWorkspace<K> workspace;
  DiagonalRecurrenceInputs<T, K> in{u, lambda, B, C, D, initial};
  if (reversed) in.u = u.view().reversed(1);
  recurrence<T, K>(cpu, method, in, delta,
                   {reversed ? y.view().reversed(1) : y.view(), final_state}, workspace);

  auto on_u = to_device(cuda, u);
  auto on_initial = to_device(cuda, initial);
  const auto on_lambda = to_device(cuda, lambda), on_B = to_device(cuda, B),
             on_C = to_device(cuda, C);
  const auto on_D = to_device(cuda, D), on_delta = to_device(cuda, delta);
  DeviceBuffer scratch;
  diagonal_scan<T, K>(cuda, method, {on_u, on_lambda, on_B, on_C, on_D, on_initial}, on_delta,
                      {reversed}, {on_u, on_initial}, scratch);
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
        DiagonalKernelWorkspace<TestType> workspace;
        DiagonalKernelInputs<TestType> in{lambda, delta, {}, C};
        DiagonalKernelInputs<TestType, Device> on_in{on_lambda, on_delta, {}, on_C};
        if (with_B) in.B = B, on_in.B = on_B;
        s4d_kernel(cpu, method, in, want, workspace);
        DeviceTensor<TestType, 2> got(cuda, {3, length});
        s4d_kernel(cuda, method, on_in, got);
        const double bound = 100 * static_cast<double>(std::numeric_limits<TestType>::epsilon()) *
                             (1 + static_cast<double>(length) / 100);
        CHECK(relative_error(to_host(cuda, got), want) <= bound);
      }
  }
}
