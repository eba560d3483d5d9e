#include "ssm/cuda/diagonal_scan.hpp"

#include <algorithm>
#include <array>
#include <complex>
#include <initializer_list>
#include <limits>
#include <vector>

#include "ssm/core/phi.hpp"
#include "ssm/scan/diagonal_recurrence.hpp"
#include "ssm/scan/diagonal_scan.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/device_case.hpp"
#include "support/random.hpp"

namespace cuda_diagonal_scan_test {

using namespace ssm;
using test::Random;
using test::relative_error;

namespace {

constexpr Discretization methods[] = {Discretization::zero_order_hold, Discretization::bilinear,
                                      Discretization::forward_euler,
                                      Discretization::backward_euler};

/// Diagonal systems, their inputs, and the gradients of their outputs, in the type K.
template <class K>
struct Case {
  using T = Real<K>;
  Tensor<T, 3> u, dy;
  Tensor<K, 2> lambda, B, C;
  Tensor<T, 1> D, delta;
  Tensor<K, 3> initial, dfinal;
  Tensor<Index, 1> offsets;

  Case(std::array<Index, 3> rows, Index state, const std::vector<Index>& packed) {
    Random random(5);
    const Index sequences = packed.empty() ? rows[0] : static_cast<Index>(packed.size()) - 1;
    const std::array<Index, 2> modes{rows[2], state};
    u = random.normal<T>(rows), dy = random.normal<T>(rows);
    lambda = random.normal<K, 2>(modes, 0.2, -1);
    B = random.normal<K, 2>(modes), C = random.normal<K, 2>(modes);
    D = random.normal<T, 1>({rows[2]}), delta = random.normal<T, 1>({rows[2]}, 0.01, 0.2);
    initial = random.normal<K, 3>({sequences, rows[2], state});
    dfinal = random.normal<K, 3>(initial.extents());
    offsets.resize({static_cast<Index>(packed.size())});
    std::copy(packed.begin(), packed.end(), offsets.begin());
  }
  /// The same numbers as another type.
  template <class To, class From, std::size_t Rank>
  static Tensor<To, Rank> as(const Tensor<From, Rank>& from) {
    Tensor<To, Rank> to(from.extents());
    std::transform(from.begin(), from.end(), to.begin(), [](const From& x) { return To(x); });
    return to;
  }
};

template <class K>
struct WideOf {
  using type = double;
};
template <class T>
struct WideOf<std::complex<T>> {
  using type = std::complex<double>;
};

/// The larger errors of the outputs and of the gradients, over their own sizes.
struct Errors {
  double forward, backward;
};

/// The scan on the device and its gradients, all in place where they may be, against the formulas
/// of the CPU in double.
template <class K>
Errors device_errors(Discretization method, std::array<Index, 3> rows, Index state, bool reversed,
                     const std::vector<Index>& packed = {}) {
  using T = Real<K>;
  using W = typename WideOf<K>::type;
  const Case<K> given(rows, state, packed);
  const auto u = Case<K>::template as<double>(given.u), dy = Case<K>::template as<double>(given.dy);
  const auto lambda = Case<K>::template as<W>(given.lambda), B = Case<K>::template as<W>(given.B),
             C = Case<K>::template as<W>(given.C);
  const auto D = Case<K>::template as<double>(given.D),
             delta = Case<K>::template as<double>(given.delta);
  const auto initial = Case<K>::template as<W>(given.initial),
             dfinal = Case<K>::template as<W>(given.dfinal);
  DiagonalScanInputs<double, W> in{u, lambda, delta, B, C, D, initial};
  in.sequences.reversed = reversed;
  if (!packed.empty()) in.sequences.offsets = given.offsets;
  Tensor<double, 3> y(rows), du(rows);
  Tensor<W, 3> final_state(initial.extents()), dinitial(initial.extents());
  Tensor<W, 2> dlambda(lambda.extents()), dB(dlambda), dC(dlambda);
  Tensor<double, 1> dD(D), ddelta(D);
  DiagonalScanScratch<double, W> scratch;
  recurrence(cpu, in, {method}, {y, final_state}, scratch);
  diagonal_scan_backward(cpu, in, {method}, {dy, dfinal},
                         {du, dlambda, ddelta, dB, dC, dD, dinitial}, scratch);

  auto on_u = to_device(cuda, given.u), on_y = to_device(cuda, given.u);
  auto on_dy = to_device(cuda, given.dy);  // where the gradient of u goes
  auto on_initial = to_device(cuda, given.initial), state_now = to_device(cuda, given.initial),
       slope = to_device(cuda, given.dfinal);
  const auto on_lambda = to_device(cuda, given.lambda), on_B = to_device(cuda, given.B),
             on_C = to_device(cuda, given.C);
  const auto on_D = to_device(cuda, given.D), on_delta = to_device(cuda, given.delta);
  const auto offsets = to_device(cuda, given.offsets);
  DeviceTensor<K, 2> on_dlambda(cuda, on_B.extents()), on_dB(cuda, on_B.extents()),
      on_dC(cuda, on_B.extents());
  DeviceTensor<T, 1> on_dD(cuda, on_D.extents()), on_ddelta(cuda, on_D.extents());
  DiagonalScanInputs<T, K, Device> on_in{on_y, on_lambda, on_delta, on_B, on_C, on_D, state_now};
  on_in.sequences.reversed = reversed;
  if (!packed.empty()) on_in.sequences.offsets = offsets;
  DiagonalScanScratch<T, K, Device> on_scratch;
  diagonal_scan(cuda, on_in, {method}, {on_y, state_now}, on_scratch);
  on_in.u = on_u, on_in.initial_state = on_initial;
  diagonal_scan_backward(cuda, on_in, {method}, {on_dy, slope},
                         {on_dy, on_dlambda, on_ddelta, on_dB, on_dC, on_dD, slope}, on_scratch);

  const auto worst = [](std::initializer_list<double> errors) {
    double most = 0;
    for (const double error : errors) most = test::worse(most, error);
    return most;
  };
  return {worst({relative_error(to_host(cuda, on_y), y),
                 relative_error(to_host(cuda, state_now), final_state)}),
          worst({relative_error(to_host(cuda, on_dy), du),
                 relative_error(to_host(cuda, on_dlambda), dlambda),
                 relative_error(to_host(cuda, on_ddelta), ddelta),
                 relative_error(to_host(cuda, on_dB), dB), relative_error(to_host(cuda, on_dC), dC),
                 relative_error(to_host(cuda, on_dD), dD),
                 relative_error(to_host(cuda, slope), dinitial)})};
}

}  // namespace

TEMPLATE_TEST_CASE(
    "the diagonal scan on a device, in place, and its gradients are the formulas of "
    "the CPU in double",
    "", float, double, std::complex<float>, std::complex<double>) {
  const double epsilon = std::numeric_limits<Real<TestType>>::epsilon();
  for (const Discretization method : methods)
    for (const bool reversed : {false, true}) {
      CAPTURE(static_cast<int>(method), reversed);
      const auto check = [&](Index batch, Index length, Index channels, Index state,
                             const std::vector<Index>& packed = {}) {
        CAPTURE(batch, length, channels, state, packed.size());
        const Errors errors =
            device_errors<TestType>(method, {batch, length, channels}, state, reversed, packed);
        const double most = static_cast<double>(8 + length + state) * epsilon;
        CHECK(errors.forward <= 4 * most);
        CHECK(errors.backward <= 4 * most);
      };
      check(2, 0, 3, 2);
      check(2, 1, 3, 2);
      check(2, 33, 5, 18);
      check(1, 300, 3, 4);   // cut into pieces
      check(1, 40, 2, 150);  // sliced
      check(2, 3, 0, 2);
      check(0, 3, 2, 2);
      check(2, 3, 2, 0);
      check(1, 9, 3, 2, {0, 0, 1, 3, 9, 9});
      check(1, 0, 2, 3, {0, 0, 0});
      check(1, 0, 2, 3, {0});
      check(1, 17, 2, 150, {0, 16, 16, 17});
      if (method == Discretization::zero_order_hold) {
        check(1, 400, 3, 4, {0, 1, 128, 128, 130, 255, 257, 384, 400});
        check(1, 384, 2, 3, {0, 0, 200, 384, 384});
      }
    }
}

TEST_CASE("gradients of the diagonal scan on a device that are not wanted change no other") {
  using K = std::complex<float>;
  const Case<K> given({2, 35, 3}, 6, {});
  const auto u = to_device(cuda, given.u), dy = to_device(cuda, given.dy);
  const auto lambda = to_device(cuda, given.lambda), B = to_device(cuda, given.B);
  const auto delta = to_device(cuda, given.delta);
  DiagonalScanInputs<float, K, Device> in{u, lambda, delta, B, B};
  DiagonalScanScratch<float, K, Device> scratch;
  using Gradients = DiagonalScanInputGradients<float, K, Device>;
  DeviceTensor<float, 3> du(cuda, u.extents()), du_alone(cuda, u.extents());
  DeviceTensor<K, 2> dlambda(cuda, B.extents()), dlambda_alone(cuda, B.extents()),
      dB(cuda, B.extents()), dB_alone(cuda, B.extents()), dC(cuda, B.extents()),
      dC_alone(cuda, B.extents());
  DeviceTensor<float, 1> ddelta(cuda, {3}), ddelta_alone(cuda, {3});
  const auto run = [&](const Gradients& gradients) {
    diagonal_scan_backward(cuda, in, {}, {dy}, gradients, scratch);
  };
  run({.u = du, .lambda = dlambda, .delta = ddelta, .B = dB, .C = dC});
  run({.u = du_alone}), run({.lambda = dlambda_alone}), run({.delta = ddelta_alone});
  run({.B = dB_alone}), run({.C = dC_alone});
  const auto same = [](const auto& a, const auto& b) {
    return test::same_bits(to_host(cuda, a), to_host(cuda, b));
  };
  CHECK(same(du, du_alone));
  CHECK(same(dlambda, dlambda_alone));
  CHECK(same(ddelta, ddelta_alone));
  CHECK(same(dB, dB_alone));
  CHECK(same(dC, dC_alone));
}

TEST_CASE("a number that is not finite stays in its own sequence of a diagonal scan on a device") {
  const Index length = 400;  // cut into pieces, and sequences start in several
  Tensor<float, 3> u({1, length, 2});
  Tensor<float, 2> mode({2, 1});
  Tensor<float, 1> delta({2});
  u.fill(1), mode.fill(-1), delta.fill(0.5F);
  u(0, 140, 0) = std::numeric_limits<float>::quiet_NaN();
  Tensor<Index, 1> offsets({4});
  offsets(0) = 0, offsets(1) = 130, offsets(2) = 150, offsets(3) = length;
  const auto on_u = to_device(cuda, u);
  const auto on_mode = to_device(cuda, mode);
  const auto on_delta = to_device(cuda, delta);
  const auto on_offsets = to_device(cuda, offsets);
  DeviceTensor<float, 3> y(cuda, u.extents()), du(cuda, u.extents());
  DiagonalScanInputs<float, float, Device> in{on_u, on_mode, on_delta, on_mode, on_mode};
  in.sequences.offsets = on_offsets;
  DiagonalScanScratch<float, float, Device> scratch;
  diagonal_scan(cuda, in, {}, {y}, scratch);
  diagonal_scan_backward(cuda, in, {}, {on_u}, {.u = du}, scratch);
  const auto got = to_host(cuda, y), slope = to_host(cuda, du);
  for (Index t = 0; t < length; ++t) {
    CHECK((got(0, t, 0) != got(0, t, 0)) == (t >= 140 && t < 150));
    CHECK((slope(0, t, 0) != slope(0, t, 0)) == (t >= 130 && t <= 140));
    CHECK(got(0, t, 1) == got(0, t, 1));
    CHECK(slope(0, t, 1) == slope(0, t, 1));
  }
}

TEST_CASE("the diagonal scan on a device refuses a step size that varies") {
  const DeviceTensor<float, 3> u(cuda, {1, 4, 3});
  const DeviceTensor<float, 2> mode(cuda, {3, 2});
  const DeviceTensor<float, 1> delta(cuda, {3});
  DeviceTensor<float, 3> y(cuda, {1, 4, 3});
  DiagonalScanScratch<float, float, Device> scratch;
  DiagonalScanInputs<float, float, Device> in{u, mode, delta, mode, mode};
  CHECK_NOTHROW(diagonal_scan(cuda, in, {}, {y}, scratch));
  in.delta = u;
  CHECK_THROWS_AS(diagonal_scan(cuda, in, {}, {y}, scratch), ShapeError);
  CHECK_THROWS_AS(diagonal_scan_backward(cuda, in, {}, {u}, {.u = y}, scratch), ShapeError);
}

}  // namespace cuda_diagonal_scan_test
