#include "ssm/layers/mamba.hpp"

#include <string>
#include <string_view>

#include "ssm/layers/mamba_step.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

/// Weights as large as products of unit rows want them.
template <class T>
Mamba<T> draw(const MambaConfig& config, std::uint64_t seed) {
  Random random(seed);
  Mamba<T> layer(config);
  parameters(layer, [&](const auto&, auto& tensor, const auto&, bool) {
    const double scale = 1 / std::sqrt(static_cast<double>(tensor.extents().back()));
    for (T& x : tensor) x = static_cast<T>(scale * random.normal());
  });
  return layer;
}

constexpr MambaConfig small{.width = 4, .inner = 6, .state = 3, .conv_width = 4, .dt_rank = 2};

}  // namespace

TEST_CASE("Mamba keeps the laws of layers") {
  test::check_layer_laws(draw<double>(small, 1), {.rates = false});
  test::check_layer_laws(draw<double>({.width = 5, .state = 16}, 2), {.rates = false});
  test::check_layer_laws(draw<double>({.width = 3, .state = 2, .conv_width = 1}, 3),
                         {.rates = false});
}

TEST_CASE("Mamba with biases and norms of dt, B and C keeps the laws of layers") {
  MambaConfig config = small;
  config.bias = true;
  config.conv_bias = false;
  test::check_layer_laws(draw<double>(config, 8), {.rates = false});
  config.projection_epsilon = 1e-6;
  test::check_layer_laws(draw<double>(config, 9), {.rates = false});
}

TEST_CASE("Mamba has the biases that its configuration says, and no others") {
  const auto names = [](const MambaConfig& config) {
    std::string text;
    parameters(Mamba<float>(config), [&](std::string_view name, const auto&, const auto&, bool) {
      if (name.ends_with("bias")) text += std::string(name) + " ";
    });
    return text;
  };
  CHECK(names({.width = 4}) == "conv1d.bias dt_proj.bias ");
  CHECK(names({.width = 4, .conv_bias = false}) == "dt_proj.bias ");
  CHECK(names({.width = 4, .bias = true}) ==
        "in_proj.bias conv1d.bias dt_proj.bias out_proj.bias ");
}

TEST_CASE("Mamba in float steps and splits as it does in double") {
  const auto layer = draw<float>({.width = 9, .state = 16}, 4);
  test::check_step(test::any(layer), {.rates = false});
  test::check_split(test::any(layer), {.rates = false});
  test::check_threads(test::any(draw<float>({.width = 24, .state = 16}, 5)), {.rates = false});
}

TEST_CASE("Mamba in float is Mamba in double up to rounding") {
  const auto layer = draw<float>({.width = 16, .state = 16}, 6);
  test::check_precision(layer, Mamba<double>(layer.config), {.rates = false});
}

TEST_CASE("Mamba refuses what does not fit by its name") {
  auto layer = draw<float>(small, 7);
  MambaScratch<float> scratch;
  Tensor<float, 3> wide({2, 3, 5}), x({2, 3, 4}), y({2, 3, 4});
  CHECK_THROWS_WITH(forward(cpu, layer, wide, {}, y, {}, scratch),
                    "forward of Mamba: input is (2, 3, 5), expected (2, 3, 4)");
  layer.D.resize({5});
  CHECK_THROWS_WITH(forward(cpu, layer, x, {}, y, {}, scratch),
                    "forward of Mamba: D is (5), expected (6)");
}
