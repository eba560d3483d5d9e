#include "ssm/layers/step_sizes.hpp"

#include <cmath>
#include <limits>

#include "ssm/core/elementwise.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

namespace step_sizes_test {

using namespace ssm;
using test::Random;

template <class T>
Mamba<T> draw(std::uint64_t seed) {
  Random random(seed);
  Mamba<T> layer({.width = 3, .inner = 5, .state = 2, .conv_width = 3, .dt_rank = 2});
  parameters(layer, [&](const auto&, auto& tensor, const auto&, bool) {
    for (T& x : tensor) x = static_cast<T>(random.normal());
  });
  return layer;
}

/// Δ by its formula, sum by sum, of a sequence that starts from zero.
template <class T>
double delta_at(const Mamba<T>& m, const Tensor<T, 3>& input, Index b, Index t, Index channel) {
  const MambaConfig& c = m.config;
  const auto x = [&](Index time, Index i) {
    double sum = 0;
    for (Index k = 0; time >= 0 && k < c.width; ++k) sum += m.in_proj(i, k) * input(b, time, k);
    return sum;
  };
  const auto u = [&](Index i) {
    double sum = m.conv_bias(i);
    for (Index tap = 0; tap < c.conv_width; ++tap)
      sum += m.conv_weight(i, tap) * x(t - (c.conv_width - 1) + tap, i);
    return silu(sum);
  };
  double delta = m.dt_bias(channel);
  for (Index r = 0; r < c.rank(); ++r)
    for (Index i = 0; i < c.channels(); ++i) delta += m.dt_proj(channel, r) * m.x_proj(r, i) * u(i);
  return softplus(delta);
}

TEST_CASE("step sizes of Mamba are softplus(dt_proj dt + dt_bias), for any length") {
  for (const Index length : {0, 1, 2, 7}) {
    CAPTURE(length);
    const auto layer = draw<double>(1);
    const auto input = Random(2).normal<double, 3>({2, length, 3});
    Tensor<double, 3> output(input.extents()), delta({2, length, 5}), want(delta.extents());
    for (Index b = 0; b < 2; ++b)
      for (Index t = 0; t < length; ++t)
        for (Index c = 0; c < 5; ++c) want(b, t, c) = delta_at(layer, input, b, t, c);
    MambaScratch<double> scratch;
    forward(cpu(1), layer, input, {}, output, {.keep = false}, scratch);
    step_sizes(layer, scratch, delta);
    CHECK(test::relative_error(delta, want) < 1e-13);
  }
}

TEST_CASE("step sizes in a residual block are those of its Mamba at the normed input") {
  Residual<Mamba<float>> block({.mixer = draw<float>(3).config});
  block.mixer = draw<float>(3);
  block.norm.fill(2.0f);
  const auto input = Random(4).normal<float, 3>({1, 6, 3});
  Tensor<float, 3> normed(input.extents()), output(input.extents());
  for (Index t = 0; t < 6; ++t) {
    double squares = block.config.epsilon * 3;
    for (Index i = 0; i < 3; ++i) squares += std::pow(static_cast<double>(input(0, t, i)), 2);
    for (Index i = 0; i < 3; ++i)
      normed(0, t, i) = static_cast<float>(2 * input(0, t, i) / std::sqrt(squares / 3));
  }
  MambaScratch<float> own;
  ResidualScratch<Mamba<float>> scratch;
  Tensor<float, 3> want({1, 6, 5}), got({1, 6, 5});
  forward(cpu(1), block.mixer, normed, {}, output, {}, own);
  step_sizes(block.mixer, own, want);
  forward(cpu(1), block, input, {}, output, {}, scratch);
  step_sizes(block, scratch, got);
  CHECK(test::relative_error(got, want) < 1e-5);
}

TEST_CASE("step sizes keep a NaN in its own sequence and refuse another call's shape") {
  const auto layer = draw<double>(5);
  auto input = Random(6).normal<double, 3>({2, 4, 3});
  input(0, 2, 1) = std::numeric_limits<double>::quiet_NaN();
  Tensor<double, 3> output(input.extents()), delta({2, 4, 5}), longer({2, 5, 5}), wide({2, 4, 6});
  MambaScratch<double> scratch;
  forward(cpu(1), layer, input, {}, output, {}, scratch);
  step_sizes(layer, scratch, delta);
  for (Index c = 0; c < 5; ++c) {
    CHECK(std::isnan(delta(0, 3, c)));
    CHECK(std::isfinite(delta(0, 1, c)));
    CHECK(std::isfinite(delta(1, 3, c)));
  }
  CHECK_THROWS_WITH(step_sizes(layer, scratch, longer),
                    "step_sizes: scratch is (8, 5), expected (10, 5)");
  CHECK_THROWS_WITH(step_sizes(layer, scratch, wide),
                    "step_sizes: delta is (2, 4, 6), expected (2, 4, 5)");
}

}  // namespace step_sizes_test
