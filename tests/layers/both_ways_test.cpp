#include "ssm/layers/both_ways.hpp"

#include <cmath>
#include <cstdint>

#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/residual.hpp"
#include "support/both_ways_laws.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"

namespace both_ways_test {

using namespace ssm;
using Layer = BothWays<Mamba<double>>;

namespace {

Layer draw(const MambaConfig& config, std::uint64_t seed) {
  test::Random random(seed);
  Layer layer({config});
  parameters(layer, [&](const auto&, auto& tensor, const auto&, bool) {
    const double scale = 1 / std::sqrt(static_cast<double>(tensor.extents().back()));
    for (double& x : tensor) x = scale * random.normal();
  });
  return layer;
}

constexpr MambaConfig small{.width = 4, .inner = 6, .state = 3, .conv_width = 3, .dt_rank = 2};

}  // namespace

TEST_CASE(
    "two layers over the same sequences, one from the end, keep the laws of both directions") {
  const test::LayerLaws laws{.resumes = false, .steps = false, .causal = false, .rates = false};
  const Layer layer = draw(small, 1);
  test::check_layer_laws(layer, laws);
  test::check_split_both_ways(layer, laws);
}

TEST_CASE("what runs from the end is the layer on reversed sequences") {
  const Layer layer = draw(small, 2);
  test::Random random(3);
  const auto x = random.normal<double, 3>({2, 9, 4});
  Tensor<double, 3> y(x.extents()), ahead(x.extents()), turned(x.extents()), back(x.extents());
  Layer::Scratch scratch;
  forward(cpu, layer, x, {}, y, {}, scratch);
  MambaScratch<double> one;
  forward(cpu, layer.ahead, x, {}, ahead, {}, one);
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 9; ++t)
      for (Index c = 0; c < 4; ++c) turned(b, t, c) = x(b, 8 - t, c);
  forward(cpu, layer.back, turned, {}, back, {}, one);
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 9; ++t)
      for (Index c = 0; c < 4; ++c)
        CHECK(y(b, t, c) == Approx(ahead(b, t, c) + back(b, 8 - t, c)).margin(1e-13));
}

TEST_CASE("a layer of both directions has no step, and says so") {
  const Layer layer = draw(small, 4);
  CHECK_THROWS_WITH(Layer::Stepper(layer),
                    "BothWaysStepper: layer is of two directions, expected one direction, as a "
                    "pass from the end has no step");
}

}  // namespace both_ways_test
