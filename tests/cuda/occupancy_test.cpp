// What devices hold of the kernels, by what nvcc says of them (tests/golden/cuda_registers.csv).
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "../../cuda/cuts.hpp"
#include "ssm/cuda.hpp"
#include "support/catch.hpp"
#include "support/emulated_cuda.hpp"

using namespace ssm;
using test::device_models;
using test::emulator;
using test::Multiprocessors;

namespace {

/// Registers of a thread and spilled bytes, of each kernel for each of device_models.
struct CompilerReport {
  struct Use {
    int registers, spilled;
  };
  std::map<std::string, std::vector<Use>> of;

  CompilerReport() {
    std::ifstream file(SSM_SOURCE_DIR "/tests/golden/cuda_registers.csv");
    for (std::string line; std::getline(file, line);) {
      if (line.rfind("ssm::", 0) != 0) continue;
      std::istringstream fields(line);
      std::string kernel, field;
      std::getline(fields, kernel, ';');
      for (; std::getline(fields, field, ';');) {
        const std::size_t plus = field.find('+');
        of[squeezed(kernel)].push_back(
            {std::stoi(field), plus == std::string::npos ? 0 : std::stoi(field.substr(plus))});
      }
    }
    REQUIRE_FALSE(of.empty());
  }
  /// Names without blanks, which demanglers set in their own ways.
  static std::string squeezed(std::string name) {
    name.erase(std::remove(name.begin(), name.end(), ' '), name.end());
    return name;
  }
  [[nodiscard]] Use find(const std::string& kernel, const Multiprocessors& model) const {
    const auto uses = of.find(squeezed(kernel));
    if (uses == of.end())
      FAIL(kernel << " is not in cuda_registers.csv: run tests/golden/make_cuda_registers.py");
    return uses->second.at(static_cast<std::size_t>(&model - device_models.data()));
  }
};

/// Launches are written down while it lives, and no kernel runs.
struct DryRun {
  DryRun() {
    emulator().restart(1);
    emulator().runs_kernels = false;
    emulator().writes_down = true;
  }
  ~DryRun() { emulator().restart(1); }
};

/// How a launch lies over a device.
struct Placed {
  std::string kernel;
  test::Launch launch;
  int registers, resident, spilled;
  double waves, efficiency;  ///< and how full the waves are, the last one included
};

/// Calls `operations` on a device as it is described, where no kernel runs, and places what it
/// launched.
template <class Operations>
std::vector<Placed> place(const CompilerReport& report, const Multiprocessors& model,
                          const Operations& operations) {
  const DryRun dry_run;
  emulator().model = model;
  emulator().registers = [&](const std::string& name) {
    return report.find(name, model).registers;
  };
  operations();
  const auto launches = emulator().launches;
  std::vector<Placed> all;
  for (const test::Launch& launch : launches) {
    const auto use = report.find(launch.kernel, model);
    const int resident = model.resident_blocks(use.registers, launch.shared_bytes, launch.threads);
    const double waves = static_cast<double>(launch.blocks) / std::max(1, resident * model.count);
    std::string name = launch.kernel;
    for (const std::string part : {"ssm::kernels::", "ssm::"})
      for (std::size_t at; (at = name.find(part)) != std::string::npos;)
        name.erase(at, part.size());
    all.push_back(
        {name, launch, use.registers, resident, use.spilled, waves, waves / std::ceil(waves)});
  }
  return all;
}

/// What bench/cuda_bench measures: forward and backward of a selective scan with softplus, D and a
/// gate, and a step.
void benchmarked(Index batch, Index length) {
  constexpr Index channels = 1536, state = 16;
  const std::array<Index, 3> rows{batch, length, channels};
  DeviceTensor<Bfloat16, 3> u(cuda, rows), y(cuda, rows), ddelta(cuda, rows), dz(cuda, rows);
  DeviceTensor<Bfloat16, 4> B(cuda, {batch, length, 1, state}), dB(cuda, B.extents()),
      dC(cuda, B.extents());
  DeviceTensor<float, 2> A(cuda, {channels, state}), dA(cuda, A.extents());
  DeviceTensor<float, 1> D(cuda, {channels}), dD(cuda, {channels}), dbias(cuda, {channels});
  SelectiveScanScratch<Bfloat16, float, Device> scratch;
  SelectiveScanInputs<Bfloat16, float, Device> in;
  in.u = u, in.delta = u, in.A = A, in.B.varying = B, in.C.varying = B;
  in.D = D, in.delta_bias = D, in.z = u;
  selective_scan(cuda, in, {.softplus = true}, {y}, scratch);
  SelectiveScanInputGradients<Bfloat16, float, Device> gradients;
  gradients.u = y, gradients.delta = ddelta, gradients.z = dz, gradients.A = dA;
  gradients.B.varying = dB, gradients.C.varying = dC, gradients.D = dD;
  gradients.delta_bias = dbias;
  selective_scan_backward(cuda, in, {.softplus = true}, {u}, gradients, scratch);

  DeviceTensor<float, 3> states(cuda, {batch, channels, state});
  DeviceTensor<Bfloat16, 2> now(cuda, {batch, channels}), out(cuda, now.extents());
  DeviceTensor<Bfloat16, 3> B_now(cuda, {batch, 1, state});
  SelectiveScanStepInputs<Bfloat16, float, Device> step;
  step.u = now, step.delta = now, step.A = A, step.B.varying = B_now, step.C.varying = B_now;
  selective_scan_step(cuda, step, {.softplus = true}, states, out);
}

/// Around it: the convolution of its block, a long narrow linear scan, and S4D's scan.
void beside(Index batch, Index length) {
  constexpr Index channels = 1536;
  const std::array<Index, 3> rows{batch, length, channels};
  DeviceTensor<Bfloat16, 3> x(cuda, rows), y(cuda, rows);
  DeviceTensor<float, 2> weight(cuda, {channels, 4}), dweight(cuda, weight.extents());
  CausalConvScratch<Bfloat16, Device> conv;
  const CausalConvInputs<Bfloat16, Device> in{x, weight};
  causal_conv(cuda, in, {.silu = true}, {y}, conv);
  causal_conv_backward(cuda, in, {.silu = true}, {x}, {y, dweight}, conv);

  DeviceTensor<float, 3> a(cuda, {1, 1 << 20, 1}), x_linear(cuda, a.extents()),
      da(cuda, a.extents()), db(cuda, a.extents());
  LinearScanScratch<float, Device> linear;
  linear_scan(cuda, LinearScanInputs<float, Device>{a, a}, {}, {x_linear}, linear);
  linear_scan_backward(cuda, LinearScanInputs<float, Device>{a, a}, {}, {a}, {da, db}, linear);

  DeviceTensor<float, 3> u(cuda, rows);
  const DeviceTensor<float, 2> modes(cuda, {channels, 64});
  const DeviceTensor<float, 1> delta(cuda, {channels});
  DiagonalScanScratch<float, float, Device> diagonal;
  diagonal_scan(cuda, DiagonalScanInputs<float, float, Device>{u, modes, delta, modes, modes}, {},
                {u}, diagonal);
}

bool is_of(const Placed& placed, const char* kernel) { return placed.kernel.rfind(kernel, 0) == 0; }

}  // namespace

TEST_CASE("every architecture holds what the operations launch, and the scans spill little") {
  const CompilerReport report;
  for (const Multiprocessors& model : device_models)
    for (const Placed& placed : place(report, model, [] {
           benchmarked(8, 2048), benchmarked(1, 131072), beside(8, 2048);
         })) {
      INFO("sm_" << model.architecture << " " << placed.kernel << " of " << placed.launch.threads
                 << " threads, " << placed.launch.shared_bytes << " bytes, " << placed.registers
                 << " registers");
      CHECK(placed.resident >= 1);
      if (is_of(placed, "SelectiveForward")) CHECK(placed.spilled == 0);
      if (is_of(placed, "SelectiveBackward")) CHECK(placed.spilled <= 160);  // outside its loops
    }
}

TEST_CASE("the measured scans take the kernels made for them, cut to fill each device") {
  const CompilerReport report;
  for (const Multiprocessors& model : device_models)
    for (const Index batch : {1, 8}) {
      INFO("sm_" << model.architecture << " batch " << batch);
      int passes = 0;
      for (const Placed& placed : place(report, model, [&] { benchmarked(batch, 2048); })) {
        CHECK(placed.kernel.find("float, false, 0>") == std::string::npos);  // of any lanes
        if (!is_of(placed, "SelectiveForward") && !is_of(placed, "SelectiveBackward")) continue;
        ++passes;
        INFO(placed.kernel << ": " << placed.launch.blocks << " blocks, " << placed.resident
                           << " resident, " << placed.waves << " waves");
        CHECK(placed.launch.threads == 128);
        // As many warps as a scheduler needs, or as many as fit; and few idle ones in the last
        // wave.
        CHECK(placed.efficiency >= 0.5);
      }
      CHECK(passes == 2);
    }
}

TEMPLATE_TEST_CASE("no scan asks for more shared memory than the smallest device gives a block", "",
                   (std::pair<float, float>), (std::pair<double, double>),
                   (std::pair<Half, std::complex<float>>),
                   (std::pair<double, std::complex<double>>)) {
  using T = typename TestType::first_type;
  using K = typename TestType::second_type;
  using V = detail::Varying<T, K>;
  const DryRun dry_run;
  emulator().model = test::device_model(89);
  emulator().registers = [](const std::string&) { return 255; };
  for (const Index state : {1, 5, 16, 33, 64, 130, 300})
    for (const bool constant : {false, true}) {
      CAPTURE(state, constant);
      const DeviceTensor<T, 3> u(cuda, {2, 300, 70});
      const DeviceTensor<K, 2> A(cuda, {70, state});
      const DeviceTensor<V, 4> B(cuda, {2, 300, 1, state});
      DeviceTensor<T, 3> y(cuda, u.extents());
      DeviceTensor<K, 2> dA(cuda, A.extents());
      SelectiveScanScratch<T, K, Device> scratch;
      SelectiveScanInputs<T, K, Device> in;
      in.u = u, in.delta = u, in.A = A, in.C.varying = B;
      if (constant)
        in.B.constant = A;
      else
        in.B.varying = B;
      CHECK_NOTHROW(selective_scan(cuda, in, {.softplus = true}, {y}, scratch));
      SelectiveScanInputGradients<T, K, Device> gradients;
      gradients.u = y, gradients.A = dA;
      CHECK_NOTHROW(selective_scan_backward(cuda, in, {.softplus = true}, {u}, gradients, scratch));
    }
}

TEST_CASE("rows are cut into whole pieces where that is faster on a device, and only there") {
  for (const Multiprocessors& model : device_models)
    for (const Index resident : {0, 1, 2, 6, 16})
      for (const Index block : {32, 128, 256})
        for (const Index threads : {0, 1, 100, 49152, 1000000})
          for (const Index length : {0, 1, 200, 256, 2048, 131072, 1048576})
            for (const Index granularity : {1, 32}) {
              const kernels::Residency device{model.count, resident, block};
              const auto cuts = kernels::plan_cuts(length, threads, device, granularity, 0.6);
              CAPTURE(model.architecture, resident, block, threads, length, granularity);
              REQUIRE(cuts.count >= 1);
              REQUIRE((cuts.count - 1) * cuts.length <= length);
              REQUIRE(cuts.count * cuts.length >= length);
              if (cuts.count == 1) continue;
              REQUIRE(cuts.length % granularity == 0);
              REQUIRE((cuts.count - 1) * cuts.length < length);
              REQUIRE(cuts.length >= 128);
              REQUIRE(kernels::scan_time(threads, cuts.count, cuts.length, device, 0.6) <
                      kernels::scan_time(threads, 1, length, device, 0.6));
            }
  const kernels::Residency h100{132, 6, 128};
  const auto pieces = [&](Index length, Index threads) {
    return kernels::plan_cuts(length, threads, h100, 32, 0.6).count;
  };
  CHECK(pieces(2048, 8 * 1536 * 4) == 2);          // 2.9 blocks a multiprocessor, of 6
  CHECK(pieces(2048, Index{64} * 1536 * 4) == 1);  // enough as it is
  CHECK(pieces(1 << 20, 1) > 500);                 // one channel, and none that walks for longer
  CHECK(pieces(1 << 20, 1) < 4000);
}

// Prints what the others check: ssm_test_cuda_plain '[occupancy_table]'.
TEST_CASE("how the operations lie over each device", "[.][occupancy_table]") {
  const CompilerReport report;
  for (const Multiprocessors& model : device_models)
    for (const Placed& placed : place(report, model, [] { benchmarked(8, 2048), beside(8, 2048); }))
      std::printf(
          "sm_%-4d %-60s %4d registers %6lld shared %4d threads %8lld blocks, %2d resident, "
          "%7.2f waves, %3.0f%% full\n",
          model.architecture, placed.kernel.c_str(), placed.registers,
          static_cast<long long>(placed.launch.shared_bytes), placed.launch.threads,
          static_cast<long long>(placed.launch.blocks), placed.resident, placed.waves,
          100 * placed.efficiency);
}
