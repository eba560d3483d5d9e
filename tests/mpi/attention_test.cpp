#include "ssm/layers/attention.hpp"

#include <string>
#include <utility>

#include "mpi/over_ranks.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/causal_attention.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/stack.hpp"

namespace attention_test {

using namespace ssm;
using test::Random;
using test::world;

namespace {

template <class T>
Attention<T> drawn(const AttentionConfig& config) {
  Attention<T> layer(config);
  initialize(layer, 7);
  return layer;
}

/// A state is drawn by steps, as its count belongs to its keys.
const test::LayerLaws with_state{.any_state = false};
const test::LayerLaws without_state{.states = false};

template <class T>
void check(const AttentionConfig& config) {
  INFO("window " << config.window << ", groups " << config.groups);
  const auto layer = drawn<T>(config);
  for (const bool reversed : {false, true}) {
    test::check_layer_over_ranks(layer, with_state, reversed);
    test::check_layer_over_ranks(layer, without_state, reversed);
  }
}

}  // namespace

TEST_CASE("attention over ranks is that on one cpu: every step sees all before it") {
  check<float>({.width = 8, .heads = 2, .capacity = 60});
  check<double>({.width = 12, .heads = 6, .groups = 2, .head_size = 4, .capacity = 52});
  check<double>({.width = 3, .heads = 1, .capacity = 64, .rotary = 0});
}

TEST_CASE("attention with a window over ranks is that on one cpu, however far the window reaches") {
  for (const Index window : {1, 2, 5, 12, 40, 1000})
    check<double>({.width = 8, .heads = 4, .groups = 2, .window = window});
  check<float>({.width = 8, .heads = 2, .window = 17});
}

}  // namespace attention_test
