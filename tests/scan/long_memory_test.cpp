#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "ssm/core/tensor.hpp"
#include "ssm/scan/selective_scan.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

/// The rounding of 200,000 steps whose decays differ, next to 1. A float loop with std::exp errs by
/// a third of the bounds.

using namespace ssm;

namespace {

constexpr Index steps = 200000, channels = 16;

struct LongMemory {
  Tensor<float, 3> u{{1, steps, channels}}, delta{u.extents()};
  Tensor<float, 2> A{{channels, 1}};
  Tensor<float, 4> B{{1, steps, 1, 1}}, C{B.extents()};
  std::array<double, channels> exact{};  ///< the last state

  explicit LongMemory(double rate) {
    test::Random random(7);
    u.fill(0.7f);
    B.fill(0.6f);
    C.fill(1.0f);
    for (float& a : A) a = static_cast<float>(-rate * random.uniform(0.9, 1.1));
    for (float& d : delta) d = static_cast<float>(random.uniform(-1, 1));
    for (Index t = 0; t < steps; ++t)
      for (Index c = 0; c < channels; ++c) {
        const double d = std::log1p(std::exp(static_cast<double>(delta(0, t, c))));
        double& x = exact[static_cast<std::size_t>(c)];
        x = x * std::exp(d * static_cast<double>(A(c, 0))) +
            d * static_cast<double>(0.6f) * static_cast<double>(0.7f);
      }
  }
  double error(const float* x) const {
    double worst = 0;
    for (std::size_t c = 0; c < exact.size(); ++c)
      worst = ssm::test::worse(worst, std::abs(static_cast<double>(x[c]) / exact[c] - 1));
    return worst;
  }
};

}  // namespace

TEST_CASE("a long memory keeps its digits through a selective scan and through its steps") {
  for (const auto& [rate, bound] :
       {std::pair(1e-3, 8e-6), std::pair(1e-4, 3e-5), std::pair(1e-5, 1.2e-4)}) {
    CAPTURE(rate);
    const LongMemory p(rate);
    const SelectiveScanOptions options{.softplus = true};
    SelectiveScanInputs<float> in;
    in.u = p.u;
    in.delta = p.delta;
    in.A = p.A;
    in.B = Selective<const float>(p.B.view());
    in.C = Selective<const float>(p.C.view());
    Tensor<float, 3> y(p.u.extents()), x({1, channels, 1});
    SelectiveScanScratch<float> scratch;
    selective_scan(cpu(1), in, options, {y, x}, scratch);
    CHECK(p.error(x.data()) <= bound);

    x.fill(0);
    Tensor<float, 2> now({1, channels});
    for (Index t = 0; t < steps; ++t) {
      SelectiveScanStepInputs<float> step;
      step.u = p.u.view().slice(1, t, 1)[0];
      step.delta = p.delta.view().slice(1, t, 1)[0];
      step.A = p.A;
      step.B = View<const float, 3>(p.B.data() + t, {1, 1, 1});
      step.C = View<const float, 3>(p.C.data() + t, {1, 1, 1});
      selective_scan_step(step, {.softplus = true}, x, now);
    }
    CHECK(p.error(x.data()) <= bound);
  }
}
