#include "ssm/layers/streamer.hpp"

#include <span>

#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s4d_step.hpp"
#include "ssm/layers/s5.hpp"
#include "ssm/layers/s5_step.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

namespace {

using ssm::Index;
using ssm::Tensor;
using ssm::test::Random;

template <class Layer>
Layer trained(const typename Layer::Config& config) {
  Layer layer(config);
  initialize(layer, 1);
  return layer;
}

/// A block into other memory, and over its own input.
template <class Layer>
void check_in_place(const typename Layer::Config& config, Index width) {
  ssm::Streamer<Layer> apart(trained<Layer>(config)), over(trained<Layer>(config));
  auto x = Random(2).normal<float>(std::array<Index, 2>{20, width});
  Tensor<float, 2> y(x.extents());
  apart(x, y);
  over(x, x);
  CHECK(ssm::test::same_bits(x, y));
}

}  // namespace

TEST_CASE("a streamer gives the same bits over the memory of its input, for every layer") {
  check_in_place<ssm::S4d<float>>({.width = 3, .state = 4}, 3);
  check_in_place<ssm::S5<float>>({.width = 3, .state = 4}, 3);
  check_in_place<ssm::Mamba<float>>({.width = 4}, 4);
}

TEST_CASE(
    "a streamer refuses memory that its input lies in part in, extents below 0, and no layer") {
  const auto refused = [](auto&& use) {
    return ssm::test::last_words([&] {
      ssm::Streamer<ssm::S4d<float>> amp(trained<ssm::S4d<float>>({.width = 1, .state = 4}));
      use(amp);
    });
  };
  Tensor<float, 1> x({9});
  const std::span<float> samples(x.data(), 9);
  const ssm::View<float, 2> negative(x.data() + 4, {-2, 1});
  using ssm::test::contains;
  CHECK(refused([&](auto& amp) { amp(samples, samples); }).empty());
  CHECK_THAT(refused([&](auto& amp) { amp(samples.first(8), samples.last(8)); }),
             contains("Streamer: output is over a part of the memory of input"));
  CHECK_THAT(refused([&](auto& amp) { amp(negative, negative); }),
             contains("Streamer: input is (-2, 1), expected no negative extent"));
  CHECK_THAT(refused([&](auto& amp) {
               const auto other = std::move(amp);
               const Tensor<float, 2> u({1, 1});
               Tensor<float, 2> y({1, 1});
               amp(u, y);
             }),
             contains("Streamer: layer is moved away, expected a layer"));
}
