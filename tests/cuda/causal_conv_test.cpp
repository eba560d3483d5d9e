#include "ssm/cuda/causal_conv.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "ssm/layers/causal_conv.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/device_case.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;
using test::relative_error;
using test::rounded_upload;
using test::widened_download;

namespace {

/// The convolution and its gradients on the device against those on the CPU, in place where the
/// final states may be the initial ones, and so for their gradients.
template <class T>
double device_error(Index batch, Index length, Index channels, Index width,
                    const std::vector<Index>& packed, CausalConvOptions options, bool reversed) {
  using R = Arithmetic<T>;
  Random random(7);
  const Index sequences = packed.empty() ? batch : static_cast<Index>(packed.size()) - 1;
  const std::array<Index, 3> rows{batch, length, channels}, states{sequences, width - 1, channels};
  auto x = random.normal<R>(rows), dy = random.normal<R>(rows);
  auto initial = random.normal<R>(states), dfinal = random.normal<R>(states);
  auto weight = random.normal<R, 2>({channels, width});
  auto bias = random.normal<R, 1>({channels});
  Tensor<Index, 1> offsets({static_cast<Index>(packed.size())});
  std::copy(packed.begin(), packed.end(), offsets.begin());

  const auto on_x = rounded_upload<T>(x), on_dy = rounded_upload<T>(dy);
  const auto on_initial = rounded_upload<T>(initial);
  auto on_adjoint = rounded_upload<T>(dfinal);
  auto state = rounded_upload<T>(initial);
  const auto on_weight = to_device(cuda, weight);
  const auto on_bias = to_device(cuda, bias);
  const auto on_offsets = to_device(cuda, offsets);

  CausalConvInputs<R> in{x, weight, bias, initial};
  in.sequences.reversed = reversed;
  if (!packed.empty()) in.sequences.offsets = offsets;
  Tensor<R, 3> y(rows), final_state(states), dx(rows), dinitial(states);
  Tensor<R, 2> dweight(weight.extents());
  Tensor<R, 1> dbias({channels});
  CausalConvScratch<R> scratch;
  causal_conv(cpu, in, options, {y, final_state}, scratch);
  causal_conv_backward(cpu, in, options, {dy, dfinal}, {dx, dweight, dbias, dinitial}, scratch);

  CausalConvInputs<T, Device> on_in{on_x, on_weight, on_bias, state};
  on_in.sequences.reversed = reversed;
  if (!packed.empty()) on_in.sequences.offsets = on_offsets;
  DeviceTensor<T, 3> on_y(cuda, rows), on_dx(cuda, rows);
  DeviceTensor<R, 2> on_dweight(cuda, weight.extents());
  DeviceTensor<R, 1> on_dbias(cuda, {channels});
  CausalConvScratch<T, Device> on_scratch;
  causal_conv(cuda, on_in, options, {on_y, state}, on_scratch);
  on_in.initial_state = on_initial;
  causal_conv_backward(cuda, on_in, options, {on_dy, on_adjoint},
                       {on_dx, on_dweight, on_dbias, on_adjoint}, on_scratch);
  auto got_y = y, got_final = final_state, got_dx = dx, got_dinitial = dinitial;
  widened_download(got_y, on_y), widened_download(got_final, state);
  widened_download(got_dx, on_dx), widened_download(got_dinitial, on_adjoint);
  return std::max({relative_error(got_y, y), relative_error(got_final, final_state),
                   relative_error(got_dx, dx), relative_error(got_dinitial, dinitial),
                   relative_error(to_host(cuda, on_dweight), dweight),
                   relative_error(to_host(cuda, on_dbias), dbias)});
}

template <class T>
constexpr double tolerance =
    sizeof(T) == 2 ? 0x1p-7
                   : 100 * static_cast<double>(std::numeric_limits<Arithmetic<T>>::epsilon());

}  // namespace

TEMPLATE_TEST_CASE("a convolution on a device and its gradients are those of the CPU", "", float,
                   double, Half, Bfloat16) {
  for (const bool silu : {false, true})
    for (const bool reversed : {false, true})
      for (const Index width : {1, 2, 3, 4, 6}) {
        CAPTURE(silu, reversed, width);
        const auto error = [&](Index batch, Index length, Index channels,
                               const std::vector<Index>& packed = {}) {
          return device_error<TestType>(batch, length, channels, width, packed, {silu}, reversed);
        };
        for (const Index length : {0, 1, 3, 9}) CHECK(error(2, length, 3) <= tolerance<TestType>);
        CHECK(error(1, 300, 2) <= tolerance<TestType>);
        CHECK(error(2, 45, 4) <= tolerance<TestType>);
        CHECK(error(1, 9, 3, {0, 0, 1, 3, 9, 9}) <= tolerance<TestType>);
        CHECK(error(1, 270, 1, {0, 20, 66, 66, 67, 270}) <= tolerance<TestType>);
        CHECK(error(1, 0, 2, {0, 0}) <= tolerance<TestType>);
      }
}

TEMPLATE_TEST_CASE("a step of the convolution on a device is that of the CPU, in its slot", "",
                   float, Bfloat16) {
  using R = Arithmetic<TestType>;
  Random random(2);
  for (const Index width : {1, 4}) {
    auto x = random.normal<R, 2>({3, 5}), weight = random.normal<R, 2>({5, width});
    auto bias = random.normal<R, 1>({5});
    auto states = random.normal<R, 3>({6, width - 1, 5});
    Tensor<Index, 1> slots({3});
    slots(0) = 4, slots(1) = -1, slots(2) = 1;
    Tensor<R, 2> y({3, 5}), want({3, 5});
    const auto on_x = rounded_upload<TestType>(x);
    const auto on_weight = to_device(cuda, weight);
    const auto on_bias = to_device(cuda, bias);
    const auto on_slots = to_device(cuda, slots);
    auto on_states = rounded_upload<TestType>(states);
    auto on_y = rounded_upload<TestType>(y);
    const CausalConvStepInputs<TestType, Device> on_in{on_x, on_weight, on_bias};
    causal_conv_step(cuda, on_in, {.silu = true}, on_states, on_y, on_slots);
    for (const Index b : {0, 2}) {
      const CausalConvStepInputs<R> in{x.view().slice(0, b, 1), weight, bias};
      causal_conv_step(in, {.silu = true}, states.view().slice(0, slots(b), 1),
                       want.view().slice(0, b, 1));
    }
    auto got = states;
    widened_download(y, on_y), widened_download(got, on_states);
    CHECK(relative_error(y, want) <= tolerance<TestType>);
    CHECK(relative_error(got, states) <= tolerance<TestType>);
  }
}
