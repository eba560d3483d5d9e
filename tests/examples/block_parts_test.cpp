#include <cmath>
#include <string_view>

#include "../../examples/mamba_around.hpp"
#include "../../examples/s6.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"

namespace block_parts_test {

using namespace ssm;
using test::Random;
template <class T>
using Around = mamba_around::MambaAround<s6::S6<T>>;

static_assert(SequenceLayer<s6::S6<float>> && SequenceLayer<Around<float>>);

template <class Layer>
Layer draw(const typename Layer::Config& config, std::uint64_t seed) {
  Random random(seed);
  Layer layer(config);
  parameters(layer, [&](const auto&, auto& tensor, const auto&, bool) {
    const double scale = 1 / std::sqrt(static_cast<double>(tensor.extents().back()));
    for (auto& x : tensor) x = static_cast<typename Layer::value_type>(scale * random.normal());
  });
  return layer;
}

const test::LayerLaws laws{.packs = false, .reverses = false, .rates = false};

TEST_CASE("S6 alone keeps the laws of layers") {
  test::check_layer_laws(draw<s6::S6<double>>({.width = 3, .state = 4}, 1), laws);
  test::check_precision(draw<s6::S6<float>>({.width = 3, .state = 4}, 2),
                        s6::S6<double>({.width = 3, .state = 4}), laws);
}

TEST_CASE("Mamba's block around a layer keeps the laws of layers") {
  test::check_layer_laws(
      draw<Around<double>>({.width = 2, .conv_width = 3, .inner = {.width = 4, .state = 2}}, 3),
      laws);
}

TEST_CASE("Mamba's block around S6 is Mamba") {
  const Mamba<double> mamba = draw<Mamba<double>>({.width = 8, .state = 4}, 4);
  Around<double> around({.width = 8, .inner = {.width = 16, .state = 4}});
  parameters(around, [&](std::string_view name, auto& to, const auto&, bool) {
    parameters(mamba, [&](std::string_view its, const auto& from, const auto&, bool) {
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(from)>,
                                   std::remove_reference_t<decltype(to)>>)
        if (name == its) to = from;
    });
  });
  const auto u = Random(5).normal<double, 3>({2, 9, 8});
  const auto dy = Random(6).normal<double, 3>(u.extents());
  Tensor<double, 3> y(u.extents()), want(u.extents()), du(u.extents()), dwant(u.extents());
  MambaScratch<double> mamba_scratch;
  mamba_around::Scratch<s6::S6<double>> scratch;
  Mamba<double> mamba_gradients;
  Around<double> gradients;
  forward(cpu(1), mamba, u, {}, want, {}, mamba_scratch);
  backward(cpu(1), mamba, u, {}, dy, dwant, mamba_gradients, {}, mamba_scratch);
  forward(cpu(1), around, u, {}, y, {}, scratch);
  backward(cpu(1), around, u, {}, dy, du, gradients, {}, scratch);
  CHECK(test::relative_error(y, want) < 1e-14);
  CHECK(test::relative_error(du, dwant) < 1e-13);
  CHECK(test::relative_error(gradients.inner.maps, mamba_gradients.x_proj) < 1e-13);
  CHECK(test::relative_error(gradients.inner.dt_bias, mamba_gradients.dt_bias) < 1e-13);
}

}  // namespace block_parts_test
