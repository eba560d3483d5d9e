#include "ssm/layers/attention.hpp"

#include <cmath>

#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/states.hpp"
#include "ssm/layers/streamer.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/last_words.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"

namespace attention_test {

using namespace ssm;
using test::Random;

namespace {

/// Weights as large as products of unit rows want them.
template <class T>
Attention<T> draw(const AttentionConfig& config, std::uint64_t seed) {
  Random random(seed);
  Attention<T> layer(config);
  parameters(layer, [&](const auto&, auto& tensor, const auto&, bool) {
    const double scale = 1 / std::sqrt(static_cast<double>(tensor.extents().back()));
    for (T& x : tensor) x = static_cast<T>(scale * random.normal());
  });
  return layer;
}

/// A state is drawn by steps, as its count belongs to its keys. Lengths are those of few slots.
const test::LayerLaws laws{.rates = false,
                           .any_state = false,
                           .length = 12,
                           .fd_length = 6,
                           .long_length = 40,
                           .precision_lengths = {1, 40, 150}};

}  // namespace

TEST_CASE("attention keeps the laws of layers, with a window and without") {
  test::check_layer_laws(draw<double>({.width = 4, .heads = 2, .capacity = 46}, 1), laws);
  test::check_layer_laws(
      draw<double>({.width = 5, .heads = 4, .groups = 2, .head_size = 2, .window = 4}, 2), laws);
  test::check_layer_laws(
      draw<double>({.width = 3, .heads = 3, .groups = 1, .window = 46, .rotary = 0}, 3), laws);
}

TEST_CASE("attention in float steps and splits as it does in double") {
  const auto layer = draw<float>({.width = 12, .heads = 3, .groups = 1, .window = 9}, 4);
  test::check_step(test::any(layer), laws);
  test::check_split(test::any(layer), laws);
  test::check_threads(draw<float>({.width = 32, .heads = 4, .groups = 2}, 5), laws);
}

TEST_CASE("attention in float is attention in double up to rounding") {
  const auto layer = draw<float>({.width = 32, .heads = 4, .groups = 2, .window = 60}, 6);
  test::check_precision(layer, Attention<double>(layer.config), laws);
}

TEST_CASE("a window lets a stream of attention run on, and a capacity ends it with a sentence") {
  Streamer endless(draw<float>({.width = 2, .window = 3}, 7));
  Tensor<float, 2> x({1000, 2}), y({1000, 2});
  x.fill(1);
  endless(x, y);
  CHECK(endless.state().steps(0) == 1000);
  endless.reset();
  CHECK(endless.state().steps(0) == 0);

  const auto layer = draw<float>({.width = 2, .capacity = 5}, 8);
  CHECK_THAT(test::last_words([&] {
               Streamer bounded(layer);
               bounded(x, y);
             }),
             test::contains("cache is of 5 steps, expected room for 6, or a window"));
  auto state = make_state(layer, 2);
  AttentionScratch<float> scratch;
  const Tensor<float, 3> u({2, 6, 2});
  Tensor<float, 3> out(u.extents());
  CHECK_THROWS_WITH(forward(cpu, layer, u, state, out, {}, scratch),
                    "causal_attention: cache is of 5 steps, expected room for 6, or a window that "
                    "fits into it");
  CHECK(state.steps(0) == 0);
  CHECK_NOTHROW(forward(cpu, layer, u, {}, out, {}, scratch));
}

TEST_CASE("rotary positions let attention see distances alone") {
  const auto layer = draw<double>({.width = 8, .heads = 2, .window = 10}, 9);
  const auto u = Random(10).normal<double, 3>({1, 12, 8});
  Tensor<double, 3> early(u.extents()), late(u.extents());
  AttentionScratch<double> scratch;
  auto state = make_state(layer, 1);
  forward(cpu, layer, u, state, early, {}, scratch);
  state = make_state(layer, 1);
  state.steps(0) = 0;
  auto far = make_state(layer, 1);
  far.steps(0) = 100000;
  // Of the first steps the one far on sees empty slots too: only the last sees the same.
  forward(cpu, layer, u, far, late, {}, scratch);
  for (Index c = 0; c < 8; ++c)
    for (Index t = 9; t < 12; ++t) CHECK(late(0, t, c) == Approx(early(0, t, c)).epsilon(1e-8));
}

TEST_CASE("attention refuses what does not fit by its name") {
  using A = Attention<float>;
  CHECK_THROWS_WITH(A({.width = 8, .heads = 3}),
                    "Attention: heads is 3, expected a divisor of the width, 8");
  CHECK_THROWS_WITH(A({.width = 8, .heads = 4, .groups = 3}),
                    "Attention: heads is 4, expected a multiple of 3 groups");
  CHECK_THROWS_WITH(A({.width = 6, .heads = 2}),
                    "Attention: head_size is 3, expected even, as pairs turn");
  CHECK_THROWS_WITH(A({.width = 8, .window = -1}), "Attention: window is -1, expected 0 or more");
  CHECK_THROWS_WITH(A({.width = 8, .rotary = -1}), test::contains("Attention: rotary is -1.0"));
  auto layer = draw<float>({.width = 4, .heads = 2}, 11);
  AttentionScratch<float> scratch;
  Tensor<float, 3> wide({2, 3, 5}), x({2, 3, 4}), y({2, 3, 4});
  CHECK_THROWS_WITH(forward(cpu, layer, wide, {}, y, {}, scratch),
                    "forward of Attention: input is (2, 3, 5), expected (2, 3, 4)");
  layer.k_proj.resize({5, 4});
  CHECK_THROWS_WITH(forward(cpu, layer, x, {}, y, {}, scratch),
                    "forward of Attention: k_proj.weight is (5, 4), expected (4, 4)");
}

}  // namespace attention_test
