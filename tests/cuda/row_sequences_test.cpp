#include <random>

#include "ssm/cuda/causal_conv.hpp"
#include "ssm/cuda/linear_scan.hpp"
#include "ssm/cuda/selective_scan.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace ssm;

// What a device would read beyond its arrays shows where the address sanitizer watches the
// emulator.
TEST_CASE("offsets that are wrong stay within the arrays of a device") {
  constexpr Index length = 150, channels = 3, state = 2, sequences = 5, width = 4;
  test::Random random(1);
  std::mt19937_64 draw(2);
  const std::array<Index, 3> rows{1, length, channels};
  const auto sequence = to_device(cuda, random.normal<float>(rows));
  const auto coefficients =
      to_device(cuda, random.normal<float, 4>(std::array<Index, 4>{1, length, 1, state}));
  const auto A =
      to_device(cuda, random.normal<float, 2>(std::array<Index, 2>{channels, state}, 0.1, -1));
  const auto states =
      to_device(cuda, random.normal<float, 3>(std::array<Index, 3>{sequences, channels, state}));
  const auto ends =
      to_device(cuda, random.normal<float, 2>(std::array<Index, 2>{sequences, channels}));
  const auto past = to_device(
      cuda, random.normal<float, 3>(std::array<Index, 3>{sequences, width - 1, channels}));
  const auto weight =
      to_device(cuda, random.normal<float, 2>(std::array<Index, 2>{channels, width}));
  DeviceTensor<float, 3> y(cuda, rows), dx(cuda, rows), db(cuda, rows),
      final_state(cuda, states.extents()), final_past(cuda, past.extents());
  DeviceTensor<float, 2> final_end(cuda, ends.extents()), dweight(cuda, weight.extents());
  DeviceTensor<float, 4> dB(cuda, coefficients.extents());

  for (int trial = 0; trial < 20; ++trial) {
    Tensor<Index, 1> host({sequences + 1});
    for (Index& offset : host) {
      const Index kinds[] = {static_cast<Index>(draw()), static_cast<Index>(draw() % (2 * length)),
                             -static_cast<Index>(draw() % length), length};
      offset = kinds[draw() % 4];
    }
    const auto offsets = to_device(cuda, host);
    const Sequences<Device> time{offsets, trial % 2 == 1};

    const LinearScanInputs<float, Device> linear{sequence, sequence, ends, time};
    LinearScanScratch<float, Device> linear_scratch;
    linear_scan(cuda, linear, {}, {y, final_end}, linear_scratch);
    linear_scan_backward(cuda, linear, {}, {sequence, ends}, {dx, db, final_end}, linear_scratch);

    const CausalConvInputs<float, Device> conv{sequence, weight, {}, past, time};
    CausalConvScratch<float, Device> conv_scratch;
    causal_conv(cuda, conv, {}, {y, final_past}, conv_scratch);
    causal_conv_backward(cuda, conv, {}, {sequence, past}, {dx, dweight, {}, final_past},
                         conv_scratch);

    SelectiveScanInputs<float, float, Device> scan;
    scan.u = sequence, scan.delta = sequence, scan.z = sequence, scan.A = A;
    scan.B.varying = coefficients, scan.C.varying = coefficients;
    scan.initial_state = states, scan.sequences = time;
    const SelectiveScanOptions options{.softplus = true};
    SelectiveScanScratch<float, float, Device> scratch;
    selective_scan(cuda, scan, options, {y, final_state}, scratch);
    SelectiveScanInputGradients<float, float, Device> gradients;
    gradients.u = dx, gradients.B.varying = dB, gradients.initial_state = final_state;
    selective_scan_backward(cuda, scan, options, {sequence, states}, gradients, scratch);
  }
  synchronize(cuda);
  CHECK(to_host(cuda, y).size() == length * channels);
}
