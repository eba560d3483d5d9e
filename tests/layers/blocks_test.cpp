#include <vector>

#include "ssm/layers/gated.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/projected.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s4d_step.hpp"
#include "ssm/layers/stack.hpp"
#include "ssm/layers/states.hpp"
#include "support/both_ways_laws.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"

namespace blocks_test {

using namespace ssm;
using test::Random;

namespace {

template <class Layer>
Layer draw(const typename Layer::Config& config, std::uint64_t seed) {
  Random random(seed);
  Layer layer(config);
  initialize(layer, seed);
  parameters(layer, [&](const auto&, auto& tensor, const auto&, bool) {
    for (auto& x : tensor) x += static_cast<typename Layer::value_type>(0.2 * random.normal());
  });
  return layer;
}

constexpr MambaConfig tiny{.width = 4, .inner = 6, .state = 3, .conv_width = 3, .dt_rank = 2};
const test::LayerLaws laws{.rates = false};

template <class T>
using Mixed = OneOf<Mamba<T>, Gated<Mamba<T>>>;
using Mixes = Mixed<double>;

}  // namespace

TEST_CASE("a residual block keeps the laws of layers") {
  test::check_layer_laws(draw<Residual<Mamba<double>>>({tiny, 1e-5}, 1), laws);
  const auto narrow = draw<Residual<Mamba<float>>>({tiny, 1e-5}, 2);
  test::check_precision(narrow,
                        Residual<Mamba<double>>(Residual<Mamba<double>>::Config{tiny, 1e-5}), laws);
}

TEST_CASE("a gated layer keeps the laws of layers") {
  test::check_layer_laws(draw<Gated<Mamba<double>>>({tiny}, 3), laws);
}

TEST_CASE("the block of S4 keeps the laws of layers, in float as in double") {
  const S4dConfig config{.width = 4, .state = 8};
  test::check_layer_laws(draw<S4Block<S4d<double>>>({{config}, 1e-5}, 13), {});
  const auto narrow = draw<S4Block<S4d<float>>>({{config}, 1e-5}, 14);
  test::check_precision(narrow, S4Block<S4d<double>>(S4Block<S4d<double>>::Config{{config}, 1e-5}),
                        {});
}

TEST_CASE("a stack of blocks keeps the laws of layers, and so does an empty one") {
  using Block = Residual<Mamba<double>>;
  test::check_layer_laws(draw<Stack<Block>>({3, {tiny, 1e-5}}, 4), laws);
  StackConfig<Block> none(0, {tiny, 1e-5});
  Stack<Block> empty(none);
  Tensor<double, 3> u = Random(5).normal<double, 3>({2, 5, 4}), y(u.extents());
  StackScratch<Block> scratch;
  forward(cpu, empty, u, {}, y, {}, scratch);
  CHECK(test::same_bits(u, y));
}

TEST_CASE("blocks and stacks pass on the states of two directions") {
  const test::LayerLaws of_both{.resumes = false, .steps = false, .causal = false};
  const S4dConfig both{.width = 3, .state = 4, .bidirectional = true};
  const auto block = draw<S4Block<S4d<double>>>({{both}, 1e-5}, 15);
  test::check_layer_laws(block, of_both);
  test::check_split_both_ways(block, of_both);
  using Mixed = OneOf<S4d<double>, Gated<S4d<double>>>;
  StackConfig<Residual<Mixed>> config(2, {{both}, 1e-5});
  config.layers[1].mixer.kind = GatedConfig<S4d<double>>{both};
  const auto stack = draw<Stack<Residual<Mixed>>>(config, 16);
  test::check_layer_laws(stack, of_both);
  auto state = make_state(stack, 2);
  for (auto& x : std::get<0>(state.layers[0].kind).x_back) x = 1;
  reset_sequence(state, 1);
  const auto& back = std::get<0>(state.layers[0].kind).x_back;
  CHECK(back(0, 2, 1) == 1.0);
  CHECK(back(1, 0, 0) == 0.0);
  CHECK(std::get<0>(gather_sequences(state, {1, 0, 0}).layers[0].kind).x_back(2, 0, 0) == 1.0);
}

TEST_CASE("layers of several kinds in one stack keep the laws of layers") {
  using Block = Residual<Mixes>;
  StackConfig<Block> config(3, {{tiny}, 1e-5});
  config.layers[1].mixer.kind = GatedConfig<Mamba<double>>{tiny};
  test::check_layer_laws(draw<Stack<Block>>(config, 6), laws);
}

TEST_CASE("a layer of one kind refuses the state of another") {
  const Mixes one({tiny});
  const Mixes other({GatedConfig<Mamba<double>>{tiny}});
  auto state = make_state(other, 1);
  Tensor<double, 3> u({1, 2, 4}), y(u.extents());
  Mixes::Scratch scratch;
  CHECK_THROWS_AS(forward(cpu, one, u, state, y, {}, scratch), ShapeError);
  Mixes::Stepper stepper(one);
  CHECK_THROWS_AS(stepper.update(other), ShapeError);
}

TEST_CASE("a projected stack keeps the laws of layers") {
  using Model = Projected<Stack<Residual<Mamba<double>>>>;
  Model::Config config{.width = 2, .inner = {2, {tiny, 1e-5}}};
  test::check_layer_laws(draw<Model>(config, 7), laws);
}

TEST_CASE("a stack refuses layers of different widths") {
  using Block = Residual<Mamba<double>>;
  StackConfig<Block> config(2, {tiny, 1e-5});
  config.layers[1].mixer.width = 5;
  CHECK_THROWS_WITH(Stack<Block>(config), "Stack: layer 1 is 5 wide, expected 4");
}

TEST_CASE("a layer of one of several kinds refuses another than its configuration names") {
  using Mixed = OneOf<Mamba<double>, Gated<Mamba<double>>>;
  auto layer = draw<Mixed>({tiny}, 9);
  layer.kind = Gated<Mamba<double>>({tiny});
  Tensor<double, 3> u({1, 2, 4}), y(u.extents()), du(u.extents());
  typename Mixed::Scratch scratch;
  const auto sentence = "OneOf: layer is of kind 1, expected 0 as in its configuration";
  CHECK_THROWS_WITH(forward(cpu, layer, u, {}, y, {}, scratch), test::contains(sentence));
  Mixed gradients;
  CHECK_THROWS_WITH(backward(cpu, layer, u, {}, y, du, gradients, {}, scratch),
                    test::contains(sentence));
}

TEST_CASE("a layer made without a configuration says so when it is run") {
  const Stack<Residual<Mamba<double>>> layer;
  Tensor<double, 3> u({1, 2, 4}), y(u.extents());
  StackScratch<Residual<Mamba<double>>> scratch;
  CHECK_THROWS_WITH(
      forward(cpu, layer, u, {}, y, {}, scratch),
      "forward of Stack: layer is made without a configuration, 0 wide, expected one as "
      "wide as the input, 4");
}

TEST_CASE("blocks with dropout have the gradients of finite differences") {
  using Block = S4Block<Mamba<double>>;
  auto layer = draw<Stack<Block>>({2, {{tiny}, 1e-5}}, 8);
  auto u = Random(9).normal<double, 3>({2, 5, 4});
  const auto dy = Random(10).normal<double, 3>(u.extents());
  LayerOptions<> options;
  options.dropout = {0.3, 11};
  StackScratch<Block> scratch;
  const auto loss = [&] {
    Tensor<double, 3> y(u.extents());
    forward(cpu, layer, u, {}, y, options, scratch);
    return test::dot(y, dy);
  };
  loss();
  Stack<Block> gradients;
  Tensor<double, 3> du(u.extents());
  backward(cpu, layer, u, {}, dy, du, gradients, options, scratch);
  CHECK(test::gradient_error(loss, u, du) < 1e-8);
  CHECK(test::gradient_error(loss, layer.layers[0].mixer.weight, gradients.layers[0].mixer.weight) <
        1e-8);
  CHECK(test::gradient_error(loss, layer.layers[1].norm, gradients.layers[1].norm) < 1e-8);
}

TEST_CASE("a sequence is reset, and chosen ones are gathered, by themselves") {
  using Block = Residual<Mamba<double>>;
  const auto layer = draw<Stack<Block>>({2, {tiny, 1e-5}}, 12);
  auto state = make_state(layer, 3);
  double next = 0;
  tensors(state, [&](const auto&, auto& tensor) {
    for (double& x : tensor) x = ++next;
  });
  const auto before = state;
  const auto gathered = gather_sequences(state, {2, 0, 2, 1});
  const auto& from = before.layers[1].scan;
  const auto& to = gathered.layers[1].scan;
  REQUIRE(to.extent(0) == 4);
  for (Index c = 0; c < from.extent(1); ++c)
    for (Index n = 0; n < from.extent(2); ++n) {
      CHECK(to(0, c, n) == from(2, c, n));
      CHECK(to(1, c, n) == from(0, c, n));
      CHECK(to(2, c, n) == from(2, c, n));
      CHECK(to(3, c, n) == from(1, c, n));
    }
  reset_sequence(state, 1);
  CHECK(state.layers[0].conv(1, 0, 0) == 0);
  CHECK(state.layers[0].conv(0, 0, 0) == before.layers[0].conv(0, 0, 0));
  CHECK(state.layers[0].conv(2, 1, 5) == before.layers[0].conv(2, 1, 5));
  CHECK_THROWS_AS(reset_sequence(state, 3), DomainError);
  CHECK_THROWS_AS(gather_sequences(state, {-1}), DomainError);

  auto other = make_state(layer, 2);
  auto kept = before;
  copy_sequences(kept, 1, other, 0, 2);
  CHECK(other.layers[1].scan(0, 3, 1) == from(1, 3, 1));
  CHECK(other.layers[0].conv(1, 0, 2) == before.layers[0].conv(2, 0, 2));
  copy_sequences(other, 1, state, 0, 1);
  CHECK(state.layers[0].conv(0, 1, 2) == before.layers[0].conv(2, 1, 2));
  CHECK(state.layers[0].conv(2, 1, 2) == before.layers[0].conv(2, 1, 2));
  copy_sequences(other, 2, state, 3, 0);  // none
  CHECK_THROWS_AS(copy_sequences(other, 1, state, 0, 2), DomainError);
  CHECK_THROWS_AS(copy_sequences(state, 0, other, -1, 1), DomainError);
  auto shorter = make_state(draw<Stack<Block>>({1, {tiny, 1e-5}}, 12), 2);
  CHECK_THROWS_AS(copy_sequences(other, 0, shorter, 0, 1), ShapeError);
}

}  // namespace blocks_test
