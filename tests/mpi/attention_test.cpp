#include "ssm/layers/attention.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "mpi/over_ranks.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/causal_attention.hpp"
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
  for (const Index window : {1, 5, 12, 40})
    check<double>({.width = 8, .heads = 4, .groups = 2, .window = window});
  check<float>({.width = 8, .heads = 2, .window = 17});
}

TEST_CASE(
    "attention over ranks begins from caches of any fill, and with more slots than a window") {
  constexpr Index batch = 2, slots = 60, heads = 4, groups = 2, size = 4;
  Random random(31);
  const auto draw = [&](Index length, Index rows) {
    return random.normal<double, 4>({batch, length, rows, size});
  };
  for (const Index window : {0, 7, 30})
    for (const test::Lengths& lengths : test::ways_to_cut(world().size())) {
      INFO(test::describe(lengths) << ", window " << window << ", rank " << world().rank());
      const Index length = test::sum(lengths);
      const auto q = draw(length, heads), k = draw(length, groups), v = draw(length, groups);
      const auto dy = draw(length, heads);
      auto old_k = draw(slots, groups), old_v = draw(slots, groups);
      const auto dcache_k = draw(slots, groups), dcache_v = draw(slots, groups);
      Tensor<Index, 1> steps({batch});
      steps(0) = 3;
      steps(1) = window == 0 ? 0 : 200;  // none, or more than there are slots
      for (Index s = 0; s < batch; ++s)
        for (Index slot = steps(s); slot < slots; ++slot)
          for (auto* old : {&old_k, &old_v})
            std::fill_n(&(*old)(s, slot, 0, 0), groups * size, 0.0);
      const auto run = [&](const auto& backend, const Share& own) {
        const auto part = [&](const Tensor<double, 4>& x) {
          return test::detail::cut(x, 1, own.begin, own.count);
        };
        const auto its_q = part(q), its_k = part(k), its_v = part(v), its_dy = part(dy);
        Tensor<double, 4> y(its_q.extents()), after_k = old_k, after_v = old_v;
        Tensor<double, 4> dq(its_q.extents()), dk(its_k.extents()), dv(its_k.extents());
        Tensor<double, 4> dold_k(old_k.extents()), dold_v(old_k.extents());
        Tensor<Index, 1> steps_after = steps;
        CausalAttentionInputs<double> in{its_q, its_k, its_v, {old_k, old_v, steps}, {}};
        CausalAttentionScratch<double> scratch;
        const CausalAttentionOptions options{.window = window, .keep = true};
        causal_attention(backend, in, options, {y, {after_k, after_v, steps_after}}, scratch);
        causal_attention_backward(backend, in, options, {its_dy, y, {dcache_k, dcache_v, {}}},
                                  {dq, dk, dv, {dold_k, dold_v, {}}}, scratch);
        return std::vector<Tensor<double, 4>>{y, dq, dk, dv, after_k, after_v, dold_k, dold_v};
      };
      auto whole = run(cpu(1), {0, length});
      const Share own = test::piece_at(lengths, world().rank());
      const auto pieces = run(ranks(world(), cpu(1)), own);
      for (std::size_t i = 0; i < 4; ++i)
        whole[i] = test::detail::cut(whole[i], 1, own.begin, own.count);
      for (std::size_t i = 0; i < pieces.size(); ++i) {
        if ((i == 4 || i == 5) && world().rank() != world().size() - 1) continue;
        if (i >= 6 && world().rank() != 0) continue;
        INFO("result " << i);
        CHECK(test::relative_error(pieces[i], whole[i], 1e-3) < 1e-13);
      }
    }
}

TEST_CASE("attention over ranks has the same bits for any number of threads, and again") {
  const auto layer = drawn<float>({.width = 32, .heads = 4, .groups = 2});
  const auto length = [](int rank) { return Index{150} + 40 * rank; };
  const auto u = Random(32 + static_cast<std::uint64_t>(world().rank()))
                     .normal<float, 3>({2, length(world().rank()), 32});
  const auto run = [&](int threads) {
    Tensor<float, 3> y(u.extents()), du(u.extents());
    Attention<float> gradients;
    AttentionScratch<float> scratch;
    const auto backend = ranks(world(), cpu(threads));
    forward(backend, layer, u.view(), {}, y.view(), {}, scratch);
    backward(backend, layer, u.view(), {}, u.view(), du.view(), gradients, {}, scratch);
    Tensor<float, 3> dk({1, 16, 32});
    std::copy_n(gradients.k_proj.data(), dk.size(), dk.data());
    return std::vector{y, du, dk};
  };
  const auto one = run(1);
  for (const int threads : {1, 3}) {
    const auto again = run(threads);
    for (std::size_t i = 0; i < one.size(); ++i) CHECK(test::same_bits(again[i], one[i]));
  }
}

TEST_CASE("what moves of attention are the keys and values that other ranks see, and gradients") {
  constexpr Index batch = 2, piece = 20;
  const int rank = world().rank(), last = world().size() - 1;
  for (const Index window : {0, 6}) {
    const AttentionConfig config{
        .width = 8, .heads = 4, .groups = 2, .window = window, .rotary = 0};
    const auto layer = drawn<float>(config);
    const Tensor<float, 3> u({batch, piece, config.width}), dy(u);
    Tensor<float, 3> y(u.extents()), du(u.extents());
    Attention<float> gradients;
    AttentionScratch<float> scratch;
    const Index of_step =
        2 * batch * config.key_heads() * config.size() * static_cast<Index>(sizeof(float));
    const auto seen = [&](int r) {  // steps that come to a rank
      return window > 0 && r > 0 ? window - 1 : r * piece;
    };
    const Index onwards = rank < last ? of_step * seen(rank + 1) : 0;
    world().reset_traffic();
    forward(ranks(world(), cpu(1)), layer, u.view(), {}, y.view(), {}, scratch);
    CHECK(world().traffic().bytes == onwards);
    world().reset_traffic();
    backward(ranks(world(), cpu(1)), layer, u.view(), {}, dy.view(), du.view(), gradients, {},
             scratch);
    CHECK(world().traffic().bytes == onwards + of_step * seen(rank));
  }
}

TEST_CASE("a stack of attention over ranks is that on one cpu") {
  using Block = Residual<Attention<double>>;
  Stack<Block> stack(StackConfig<Block>(2, {.mixer = {.width = 8, .heads = 2}}));
  initialize(stack, 8);
  test::check_layer_over_ranks(stack, without_state);
}

TEST_CASE("any rank steps on from the cache of the whole") {
  for (const Index window : {0, 9}) {
    const auto layer = drawn<double>({.width = 8, .heads = 2, .window = window, .capacity = 50});
    const auto backend = ranks(world(), cpu(1));
    const auto u = Random(33).normal<double, 3>({1, 31, 8});
    const auto own = test::steps_of(u, piece_of(backend, 30));
    auto state = make_state(layer, 1);
    Tensor<double, 3> y(own.extents()), all(u.extents());
    AttentionScratch<double> scratch;
    forward(backend, layer, own.view(), state, y.view(), {.keep = false}, scratch);
    pass_on(backend, state);
    AttentionStepper stepper(layer);
    const auto input = test::steps_of(u, {30, 1});
    Tensor<double, 2> output({1, 8});
    step(stepper, input.view()[0], state, output.view());
    forward(cpu(1), layer, u.view(), {}, all.view(), {.keep = false}, scratch);
    for (Index c = 0; c < 8; ++c) CHECK(output(0, c) == Approx(all(0, 30, c)).epsilon(1e-12));
  }
}

TEST_CASE("a cache without room for the steps of all ranks is refused on all") {
  const auto layer = drawn<float>({.width = 4, .heads = 2, .capacity = 5});
  auto state = make_state(layer, 2);
  const Tensor<float, 3> u({2, 3, 4});
  Tensor<float, 3> y(u.extents());
  AttentionScratch<float> scratch;
  CHECK_THROWS_WITH(forward(ranks(world(), cpu(1)), layer, u, state, y, {}, scratch),
                    "causal_attention: cache is of 5 steps, expected room for " +
                        std::to_string(3 * world().size()) + ", or a window that fits into it");
}

}  // namespace attention_test
