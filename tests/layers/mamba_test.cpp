#include "ssm/layers/mamba.hpp"

#include <limits>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

constexpr MambaShape small{.width = 4, .inner = 6, .state = 3, .conv_width = 4, .dt_rank = 2};

/// Calls f(member...) on the members of the same name of each block.
template <class F, class... Weights>
void for_each_weight(F&& f, Weights&... w) {
  f(w.in_proj...);
  f(w.conv_weight...);
  f(w.conv_bias...);
  f(w.x_proj...);
  f(w.dt_proj...);
  f(w.dt_bias...);
  f(w.A_log...);
  f(w.D...);
  f(w.out_proj...);
}

template <class T>
MambaWeights<T> draw_weights(Random& random, const MambaShape& shape) {
  MambaWeights<T> weights(shape);
  for_each_weight(
      [&](auto& tensor) {
        const double scale = 1 / std::sqrt(static_cast<double>(tensor.extents().back()));
        for (T& x : tensor) x = static_cast<T>(scale * random.normal());
      },
      weights);
  return weights;
}

template <class T>
MambaState<T> draw_state(Random& random, const MambaShape& shape, Index sequences) {
  MambaState<T> state(shape, sequences);
  for (T& x : state.conv) x = static_cast<T>(random.normal());
  for (T& x : state.scan) x = static_cast<T>(random.normal());
  return state;
}

template <class T>
struct Result {
  Tensor<T, 3> y;
  MambaState<T> final;
};

template <class T>
Result<T> forward(const MambaWeights<T>& weights, const View<const T, 3>& x,
                  const MambaState<T>* initial, int threads = 1, MambaOptions options = {}) {
  Result<T> result{Tensor<T, 3>(x.extents()), {}};
  MambaSaved<T> saved;
  MambaWorkspace<T> workspace;
  mamba_forward<T>(cpu(threads), weights, x, initial, result.y, &result.final, options, saved,
                   workspace);
  return result;
}

}  // namespace

TEST_CASE("a Mamba block has the gradients of finite differences") {
  Random random(1);
  Tensor<Index, 1> offsets({4});
  offsets(1) = 2;
  offsets(2) = 2;
  offsets(3) = 7;
  for (const bool packed : {false, true})
    for (const bool reversed : {false, true})
      for (const Index length : {0, 1, 7}) {
        if (packed && length != 7) continue;
        const Index batch = packed ? 1 : 2, sequences = packed ? 3 : 2;
        MambaOptions options;
        options.reversed = reversed;
        if (packed) options.offsets = offsets;
        auto weights = draw_weights<double>(random, small);
        auto x = random.normal<double, 3>({batch, length, small.width});
        auto initial = draw_state<double>(random, small, sequences);
        const auto dy = random.normal<double, 3>(x.extents());
        const auto dfinal = draw_state<double>(random, small, sequences);
        const auto loss = [&] {
          const auto result = forward<double>(weights, x, &initial, 1, options);
          return test::dot(result.y, dy) + test::dot(result.final.conv, dfinal.conv) +
                 test::dot(result.final.scan, dfinal.scan);
        };
        Tensor<double, 3> y(x.extents()), dx(x.extents());
        MambaSaved<double> saved;
        MambaWorkspace<double> workspace;
        MambaWeights<double> gradients;
        MambaState<double> dinitial;
        mamba_forward<double>(cpu(2), weights, x, &initial, y, nullptr, options, saved, workspace);
        mamba_backward<double>(cpu(2), weights, x, &initial, options, saved, dy, &dfinal, gradients,
                               dx, &dinitial, workspace);
        for_each_weight(
            [&](auto& tensor, auto& gradient) {
              CHECK(test::gradient_error(loss, tensor, gradient) < 1e-8);
            },
            weights, gradients);
        CHECK(test::gradient_error(loss, x, dx) < 1e-8);
        CHECK(test::gradient_error(loss, initial.conv, dinitial.conv) < 1e-8);
        CHECK(test::gradient_error(loss, initial.scan, dinitial.scan) < 1e-8);
      }
}

TEMPLATE_TEST_CASE("a Mamba block split anywhere goes on from its state", "", float, double) {
  Random random(2);
  const MambaShape shape{.width = 5, .inner = 20, .state = 16, .conv_width = 4, .dt_rank = 1};
  const auto weights = draw_weights<TestType>(random, shape);
  const auto x = random.normal<TestType, 3>({2, 40, 5});
  const auto initial = draw_state<TestType>(random, shape, 2);
  const auto whole = forward<TestType>(weights, x, &initial);
  const double bound = 1000 * std::numeric_limits<TestType>::epsilon();
  for (const std::vector<Index>& cuts :
       {std::vector<Index>{0, 40}, {20, 20}, {1, 39}, {39, 1}, {2, 3, 0, 30, 5}}) {
    auto state = initial;
    Tensor<TestType, 3> y(x.extents());
    Index begin = 0;
    for (const Index count : cuts) {
      Tensor<TestType, 3> piece({2, count, 5});
      for (Index b = 0; b < 2; ++b)
        for (Index t = 0; t < count; ++t)
          for (Index c = 0; c < 5; ++c) piece(b, t, c) = x(b, begin + t, c);
      const auto result = forward<TestType>(weights, piece, &state);
      for (Index b = 0; b < 2; ++b)
        for (Index t = 0; t < count; ++t)
          for (Index c = 0; c < 5; ++c) y(b, begin + t, c) = result.y(b, t, c);
      state = result.final;
      begin += count;
    }
    CHECK(test::relative_error(y, whole.y) < bound);
    CHECK(test::relative_error(state.scan, whole.final.scan) < bound);
    CHECK(test::relative_error(state.conv, whole.final.conv) < bound);
  }
}

TEMPLATE_TEST_CASE("a Mamba step equals the forward pass and allocates nothing", "", float,
                   double) {
  Random random(3);
  const MambaShape shape{.width = 9, .inner = 18, .state = 16, .conv_width = 4, .dt_rank = 1};
  const auto weights = draw_weights<TestType>(random, shape);
  const auto x = random.normal<TestType, 3>({3, 25, 9});
  const auto initial = draw_state<TestType>(random, shape, 3);
  const auto whole = forward<TestType>(weights, x, &initial);
  auto state = initial;
  MambaSaved<TestType> scratch;
  scratch.resize(shape, 3);
  Tensor<TestType, 3> y(x.extents());
  for (Index t = 0; t < 25; ++t) {
    const View<const TestType, 2> now(&x(0, t, 0), {3, 9}, {25 * 9, 1});
    const View<TestType, 2> out(&y(0, t, 0), {3, 9}, {25 * 9, 1});
    CHECK(test::allocations_of([&] { mamba_step<TestType>(weights, now, state, out, scratch); }) ==
          0);
  }
  const double bound = 1000 * std::numeric_limits<TestType>::epsilon();
  CHECK(test::relative_error(y, whole.y) < bound);
  CHECK(test::relative_error(state.scan, whole.final.scan) < bound);
  CHECK(test::relative_error(state.conv, whole.final.conv) < bound);
}

TEST_CASE("a Mamba step makes its own room, and ends the program for a state of another batch") {
  Random random(10);
  const auto weights = draw_weights<double>(random, small);
  const auto x = random.normal<double, 2>({2, 4});
  MambaState<double> state(small, 2);
  MambaSaved<double> scratch;
  Tensor<double, 2> y(x.extents());
  mamba_step<double>(weights, x, state, y, scratch);
  const auto whole = forward<double>(weights, View<const double, 3>(x.data(), {2, 1, 4}), nullptr);
  for (Index i = 0; i < y.size(); ++i) CHECK(y.data()[i] == Approx(whole.y.data()[i]));
  CHECK_THAT(test::last_words([&] {
               MambaState<double> other(small, 1);
               mamba_step<double>(weights, x, other, y, scratch);
             }),
             test::contains("mamba_step: state.conv is (1, 3, 6), expected (2, 3, 6)"));
}

TEST_CASE("a Mamba block adds to its output when asked, and starts from zero without a state") {
  Random random(4);
  const auto weights = draw_weights<double>(random, small);
  const auto x = random.normal<double, 3>({2, 5, 4});
  const MambaState<double> zero(small, 2);
  const auto want = forward<double>(weights, x, &zero);
  CHECK(test::same_bits(forward<double>(weights, x, nullptr).y, want.y));
  auto y = x;
  MambaSaved<double> saved;
  MambaWorkspace<double> workspace;
  mamba_forward<double>(cpu(1), weights, x, nullptr, y, nullptr,
                        {.offsets = {}, .reversed = false, .write_y = Write::accumulate}, saved,
                        workspace);
  for (Index i = 0; i < y.size(); ++i) CHECK(y.data()[i] == Approx(x.data()[i] + want.y.data()[i]));
}

TEST_CASE("a reversed Mamba block is the block of the reversed input") {
  Random random(5);
  const auto weights = draw_weights<double>(random, small);
  const auto x = random.normal<double, 3>({2, 8, 4});
  Tensor<double, 3> backward({2, 8, 4}), again({2, 8, 4});
  const auto reverse = [](const Tensor<double, 3>& from, Tensor<double, 3>& to) {
    for (Index b = 0; b < 2; ++b)
      for (Index t = 0; t < 8; ++t)
        for (Index c = 0; c < 4; ++c) to(b, t, c) = from(b, 7 - t, c);
  };
  reverse(x, backward);
  MambaOptions options;
  options.reversed = true;
  const auto want = forward<double>(weights, backward, nullptr);
  const auto got = forward<double>(weights, x, nullptr, 1, options);
  reverse(got.y, again);
  CHECK(test::relative_error(again, want.y) < 1e-13);
  CHECK(test::relative_error(got.final.scan, want.final.scan) < 1e-13);
}

TEST_CASE("a Mamba block is causal") {
  Random random(6);
  const auto weights = draw_weights<double>(random, small);
  auto x = random.normal<double, 3>({1, 12, 4});
  const auto before = forward<double>(weights, x, nullptr);
  for (Index c = 0; c < 4; ++c) x(0, 7, c) += 1;
  const auto after = forward<double>(weights, x, nullptr);
  for (Index t = 0; t < 7; ++t)
    for (Index c = 0; c < 4; ++c) CHECK(before.y(0, t, c) == after.y(0, t, c));
  CHECK(before.y(0, 7, 0) != after.y(0, 7, 0));
}

TEST_CASE("a Mamba block's bits do not depend on the number of threads") {
  Random random(7);
  const MambaShape shape{.width = 24, .inner = 48, .state = 16, .conv_width = 4, .dt_rank = 2};
  const auto weights = draw_weights<float>(random, shape);
  const auto x = random.normal<float, 3>({3, 400, 24});
  const auto dy = random.normal<float, 3>(x.extents());
  const auto run = [&](int threads) {
    Tensor<float, 3> y(x.extents()), dx(x.extents());
    MambaSaved<float> saved;
    MambaWorkspace<float> workspace;
    MambaWeights<float> gradients;
    MambaState<float> final;
    mamba_forward<float>(cpu(threads), weights, x, nullptr, y, &final, {}, saved, workspace);
    mamba_backward<float>(cpu(threads), weights, x, nullptr, {}, saved, dy, nullptr, gradients, dx,
                          nullptr, workspace);
    return std::tuple(y, dx, final.scan, gradients);
  };
  const auto one = run(1);
  for (const int threads : {2, 3}) {
    const auto many = run(threads);
    CHECK(test::same_bits(std::get<0>(one), std::get<0>(many)));
    CHECK(test::same_bits(std::get<1>(one), std::get<1>(many)));
    CHECK(test::same_bits(std::get<2>(one), std::get<2>(many)));
    for_each_weight([](const auto& a, const auto& b) { CHECK(test::same_bits(a, b)); },
                    std::get<3>(one), std::get<3>(many));
  }
}

TEST_CASE("a Mamba block of float32 is that of float64 up to rounding") {
  Random random(8);
  const MambaShape shape{.width = 16, .inner = 32, .state = 16, .conv_width = 4, .dt_rank = 1};
  const auto weights = draw_weights<double>(random, shape);
  const auto x = random.normal<double, 3>({2, 300, 16});
  MambaWeights<float> rounded(shape);
  for_each_weight(
      [](const auto& from, auto& to) { std::copy(from.begin(), from.end(), to.begin()); }, weights,
      rounded);
  Tensor<float, 3> rounded_x(x.extents());
  std::copy(x.begin(), x.end(), rounded_x.begin());
  CHECK(test::relative_error(forward<float>(rounded, rounded_x, nullptr).y,
                             forward<double>(weights, x, nullptr).y) < 5e-6);
}

TEST_CASE("a Mamba block refuses wrong shapes") {
  Random random(9);
  auto weights = draw_weights<float>(random, small);
  const auto x = random.normal<float, 3>({2, 3, 5});
  CHECK_THROWS_WITH(forward<float>(weights, x, nullptr),
                    "mamba_forward: input is (2, 3, 5), expected (2, 3, 4)");
  weights.D.resize({5});
  CHECK_THROWS_WITH(forward<float>(weights, random.normal<float, 3>({2, 3, 4}), nullptr),
                    "mamba_forward: D is (5), expected (6)");
}
