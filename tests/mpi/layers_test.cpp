#include <complex>
#include <string>
#include <utility>
#include <vector>

#include "mpi/over_ranks.hpp"
#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "ssm/layers/in_pieces.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/s4.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s5.hpp"
#include "ssm/layers/stack.hpp"

namespace layers_test {

using namespace ssm;
using test::world;

namespace {

const test::LayerLaws of_both{.states = false, .steps = false, .causal = false};

/// Without the states of `laws`, the layer starts from zero and nobody asks for its state.
test::LayerLaws without_state(test::LayerLaws laws) {
  laws.states = false;
  return laws;
}

template <class L>
L drawn(const typename L::Config& config, std::uint64_t seed = 7) {
  L layer(config);
  initialize(layer, seed);
  return layer;
}

template <class T>
void check_mamba() {
  const auto layer = drawn<Mamba<T>>({.width = 24, .state = 5});
  for (const bool reversed : {false, true})
    for (const Handing handing : {Handing::chain, Handing::summaries})
      for (const Index blocks : {1, 3}) {
        test::check_layer_over_ranks(layer, {}, reversed, blocks, handing);
        test::check_layer_over_ranks(layer, without_state({}), reversed, blocks, handing);
      }
}

template <class T>
void check_time_invariant() {
  for (const bool both : {false, true})
    for (const bool reversed : {false, true}) {
      const test::LayerLaws laws = both ? of_both : test::LayerLaws{.rounding = 100};
      const auto s4d = drawn<S4d<T>>({.width = 3, .state = 6, .bidirectional = both});
      const auto s4 = drawn<S4<T>>({.width = 3, .state = 6, .bidirectional = both});
      const auto s5 = drawn<S5<T>>({.width = 3, .state = 8, .bidirectional = both});
      INFO((both ? "both directions" : "one direction"));
      if (!both) test::check_layer_over_ranks(s4d, laws, reversed);
      if (!both) test::check_layer_over_ranks(s4, laws, reversed);
      test::check_layer_over_ranks(s5, {.rounding = 100}, reversed);
      test::check_layer_over_ranks(s4d, without_state(laws), reversed);
      test::check_layer_over_ranks(s4, without_state(laws), reversed);
      test::check_layer_over_ranks(s5, without_state(laws), reversed);
    }
}

}  // namespace

TEST_CASE("Mamba over ranks is Mamba on one cpu") {
  check_mamba<float>();
  check_mamba<double>();
}

TEST_CASE("S4D, S4 and S5 over ranks are those on one cpu, in one direction and in both") {
  check_time_invariant<float>();
  check_time_invariant<double>();
}

TEST_CASE("blocks of channels change no result") {
  test::check_layer_over_ranks(drawn<S4d<float>>({.width = 21, .state = 4}), {}, false, 2);
  test::check_layer_over_ranks(drawn<S4<double>>({.width = 21, .state = 4}), {.rounding = 100},
                               true, 2);
  test::check_layer_over_ranks(drawn<S5<double>>({.width = 2, .state = 74}), {}, false, 3);
}

TEST_CASE("every form of S4D and S4 runs as a scan over ranks") {
  for (const S4dForm form : {S4dForm::convolution, S4dForm::recurrence, S4dForm::scan})
    test::check_layer_over_ranks(drawn<S4d<double>>({.width = 2, .state = 4, .form = form}), {});
  test::check_layer_over_ranks(
      drawn<S4<double>>({.width = 2, .state = 4, .form = S4Form::convolution}),
      without_state({.rounding = 100}));
}

TEST_CASE("stacks of blocks over ranks are those on one cpu") {
  using Block = Residual<Mamba<double>>;
  test::check_layer_over_ranks(
      drawn<Stack<Block>>(StackConfig<Block>(3, {.mixer = {.width = 20, .state = 3}})), {}, false,
      2);
  using Slow = S4Block<S4d<double>>;
  test::check_layer_over_ranks(
      drawn<Stack<Slow>>(StackConfig<Slow>(2, {.mixer = {{.width = 4, .state = 4}}})), {});
  using Both = S4Block<S5<float>>;
  test::check_layer_over_ranks(
      drawn<Stack<Both>>(
          StackConfig<Both>(2, {.mixer = {{.width = 4, .state = 8, .bidirectional = true}}})),
      of_both);
}

TEST_CASE("a multilayer perceptron over ranks is that on one cpu") {
  test::check_layer_over_ranks(drawn<GatedMlp<double>>({.width = 4}), {});
}

TEST_CASE("what moves is one state a layer, and the inputs of the convolution, at any length") {
  using Block = Residual<Mamba<float>>;
  constexpr Index layers = 3, batch = 2;
  const MambaConfig config{.width = 40, .state = 5};
  const auto stack = drawn<Stack<Block>>(StackConfig<Block>(layers, {.mixer = config}));
  const Index state = config.channels() * (config.state + config.conv_width - 1);
  const Index bytes = layers * batch * state * static_cast<Index>(sizeof(float));
  const int rank = world().rank(), last = world().size() - 1;
  for (const Index blocks : {1, 4})
    for (const Index length : {1, 5, 300}) {
      auto backend = ranks(world(), cpu(1));
      backend.blocks = blocks;
      backend.handing = Handing::chain;  // summaries send as much in every round
      const Tensor<float, 3> u({batch, length, config.width}), dy(u);
      Tensor<float, 3> y(u.extents()), du(u.extents());
      Stack<Block> gradients;
      StackScratch<Block> scratch;
      world().reset_traffic();
      forward(backend, stack, u.view(), {}, y.view(), {}, scratch);
      const Index messages = layers * (blocks + 1);
      CHECK(world().traffic() == (rank < last ? Traffic{messages, bytes, 0} : Traffic{}));
      world().reset_traffic();
      backward(backend, stack, u.view(), {}, dy.view(), du.view(), gradients, {}, scratch);
      CHECK(world().traffic() == (rank > 0 ? Traffic{messages, bytes, 0} : Traffic{}));
    }
}

TEST_CASE("packed sequences lie over ranks as they lie on one cpu, wherever they begin and end") {
  const auto mamba = drawn<Mamba<double>>({.width = 24, .state = 5});
  const auto s4d = drawn<S4d<double>>({.width = 3, .state = 6});
  const auto s4 = drawn<S4<double>>({.width = 3, .state = 6});
  const auto s5 = drawn<S5<double>>({.width = 3, .state = 8});
  for (const bool reversed : {false, true}) {
    for (const Index blocks : {1, 3}) test::check_packed_over_ranks(mamba, {}, reversed, blocks);
    test::check_packed_over_ranks(mamba, without_state({}), reversed);
    test::check_packed_over_ranks(s4d, {}, reversed);
    test::check_packed_over_ranks(s4, {.rounding = 100}, reversed);
    test::check_packed_over_ranks(s5, {.rounding = 100}, reversed);
  }
  test::check_packed_over_ranks(drawn<Mamba<float>>({.width = 24, .state = 5}), {});
  test::check_packed_over_ranks(drawn<S4d<double>>({.width = 3, .state = 6, .bidirectional = true}),
                                of_both);
  test::check_packed_over_ranks(drawn<S5<double>>({.width = 3, .state = 8, .bidirectional = true}),
                                of_both);
}

TEST_CASE("what a rank cannot know is refused in words") {
  const auto backend = ranks(world(), cpu(1));
  const std::vector<Index> offsets{0, 2, 4};
  LayerOptions<> packed;
  packed.sequences.offsets = {offsets.data(), {3}};
  Tensor<float, 3> u({1, 4, 8}), y(u.extents());
  const auto mamba = drawn<Mamba<float>>({.width = 8, .state = 2});
  const auto dss = drawn<S4d<float>>({.width = 8, .state = 4, .dss = true});
  S4dScratch<float> room;
  const auto attention = drawn<Attention<float>>({.width = 8, .heads = 2});
  AttentionScratch<float> rows;
  CHECK_THROWS_WITH(
      forward(backend, attention, std::as_const(u).view(), {}, y.view(), packed, rows),
      "rotary: offsets is given, expected none, as over ranks it takes no packed sequences");
  const auto both = drawn<S4d<float>>({.width = 8, .state = 4, .bidirectional = true});
  auto state = make_state(both, 1);
  S4dScratch<float> both_room;
  CHECK_THROWS_WITH(
      forward(backend, both, std::as_const(u).view(), state, y.view(), {}, both_room),
      "add_readout: x is given, expected absent, as which rank has the last step of a sequence is "
      "not known");
  InPiecesScratch<Mamba<float>> pieces;
  CHECK_THROWS_WITH(forward_in_pieces(backend, mamba, std::as_const(u).view(), {}, y.view(), {},
                                      {.length = 2}, pieces),
                    "forward_in_pieces: backend is one that holds a piece of each sequence, "
                    "expected one that holds all of it");
  CHECK_THROWS_WITH(forward(backend, dss, std::as_const(u).view(), {}, y.view(), {}, room),
                    "S4d forward: dss_length is 0, the length of the sequence, expected a length, "
                    "where a rank holds a piece of it");
}

}  // namespace layers_test
