#include "ssm/layers/gated_mlp.hpp"

#include <cmath>

#include "ssm/core/elementwise.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"

namespace gated_mlp_test {

using namespace ssm;
using test::Random;

namespace {

template <class T>
GatedMlp<T> draw(const GatedMlpConfig& config, std::uint64_t seed) {
  Random random(seed);
  GatedMlp<T> layer(config);
  parameters(layer, [&](const auto&, auto& tensor, const auto&, bool) {
    const double scale = 1 / std::sqrt(static_cast<double>(tensor.extents().back()));
    for (T& x : tensor) x = static_cast<T>(scale * random.normal());
  });
  return layer;
}

}  // namespace

TEST_CASE("a gated multilayer perceptron keeps the laws of layers") {
  test::check_layer_laws(draw<double>({.width = 4}, 1), {.rates = false});
  test::check_layer_laws(draw<double>({.width = 3, .inner = 5}, 2), {.rates = false});
  const auto layer = draw<float>({.width = 9, .inner = 20}, 3);
  test::check_step(test::any(layer), {.rates = false});
  test::check_precision(layer, GatedMlp<double>(layer.config), {.rates = false});
}

TEST_CASE("a gated multilayer perceptron has 8/3 of its width within, a multiple of 8") {
  CHECK(GatedMlpConfig{.width = 12}.channels() == 32);
  CHECK(GatedMlpConfig{.width = 13}.channels() == 40);
  CHECK(GatedMlpConfig{.width = 12, .inner = 7}.channels() == 7);
}

TEST_CASE(
    "swiglu is its formula, in float as in double, with the gradients of finite differences") {
  Random random(4);
  for (const Index rows : {0, 1, 18})
    for (const Index width : {1, 8, 19}) {
      auto gate = random.normal<double, 2>({rows, width}, 3);
      auto up = random.normal<double, 2>({rows, width});
      const auto dy = random.normal<double, 2>({rows, width});
      Tensor<double, 2> y(gate.extents()), dgate(gate.extents()), dup(gate.extents());
      Tensor<float, 2> g(gate.extents()), u(gate.extents()), z(gate.extents());
      std::copy(gate.begin(), gate.end(), g.begin());
      std::copy(up.begin(), up.end(), u.begin());
      SwigluScratch<double> scratch;
      SwigluScratch<float> narrow;
      const auto loss = [&] {
        swiglu(cpu(1), {gate, up}, {}, {y}, scratch);
        return test::dot(y, dy);
      };
      loss();
      for (Index i = 0; i < y.size(); ++i)
        CHECK(y.data()[i] == Approx(silu(gate.data()[i]) * up.data()[i]).epsilon(1e-13));
      swiglu(cpu(2), {g, u}, {}, {z}, narrow);
      CHECK(test::relative_error(z, y, 1) < 1e-6);
      swiglu_step(SwigluInputs<float>{g, u}, {}, g.view());
      CHECK(test::same_bits(g, z));
      swiglu_backward(cpu(2), {gate, up}, {}, {dy}, {dgate, dup}, scratch);
      CHECK(test::gradient_error(loss, gate, dgate) < 1e-9);
      CHECK(test::gradient_error(loss, up, dup) < 1e-9);
      swiglu_backward(cpu(2), {gate, up}, {}, {dy}, {gate, up}, scratch);
      CHECK(test::same_bits(gate, dgate));
      CHECK(test::same_bits(up, dup));
    }
}

TEST_CASE("swiglu names the argument that it refuses") {
  Tensor<float, 2> x({2, 4}), u({2, 4}), y({2, 4}), half({2, 2});
  SwigluScratch<float> scratch;
  CHECK_THROWS_WITH(swiglu(cpu, {x, half}, {}, {y}, scratch),
                    "swiglu: up is (2, 2), expected (2, 4)");
  CHECK_THROWS_WITH(swiglu(cpu, {x, u}, {}, {half}, scratch),
                    "swiglu: y is (2, 2), expected (2, 4)");
  CHECK_THROWS_WITH(swiglu_backward(cpu, {x, u}, {}, {y}, {x, x}, scratch),
                    test::contains("swiglu_backward: the gradient of"));
  CHECK_THAT(test::last_words([&] {
               swiglu_step(SwigluInputs<float>{x, u}, {}, half.view());
             }),
             test::contains("swiglu_step: y is (2, 2), expected (2, 4)"));
}

}  // namespace gated_mlp_test
