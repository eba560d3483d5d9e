#include "ssm/layers/causal_conv.hpp"

#include "ssm/core/elementwise.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

/// One convolution with all its arguments.
struct Case {
  Tensor<double, 3> x;
  Tensor<double, 2> weight;
  Tensor<double, 1> bias;
  Tensor<double, 3> initial;
  Tensor<Index, 1> offsets;
  bool reversed = false;
  CausalConvOptions options;

  Case(Random& random, Index batch, Index length, Index channels, Index width,
       std::vector<Index> packed = {})
      : x(random.normal<double, 3>({batch, length, channels})),
        weight(random.normal<double, 2>({channels, width})),
        bias(random.normal<double, 1>({channels})) {
    Index sequences = batch;
    if (!packed.empty()) {
      offsets.resize({static_cast<Index>(packed.size())});
      std::copy(packed.begin(), packed.end(), offsets.begin());
      sequences = offsets.size() - 1;
    }
    initial = random.normal<double, 3>({sequences, width - 1, channels});
  }

  [[nodiscard]] CausalConvInputs<double> inputs() const {
    return {x, weight, bias, initial, sequences()};
  }
  [[nodiscard]] Sequences<> sequences() const {
    return {offsets.size() > 0 ? offsets.view() : View<const Index, 1>(), reversed};
  }

  struct Result {
    Tensor<double, 3> y, final;
  };
  [[nodiscard]] Result run(int threads = 1) const {
    Result result{Tensor<double, 3>(x.extents()), Tensor<double, 3>(initial.extents())};
    CausalConvScratch<double> scratch;
    causal_conv(cpu(threads), inputs(), options, {result.y, result.final}, scratch);
    return result;
  }

  /// The formula, step by step.
  [[nodiscard]] Result by_hand() const {
    Result result{Tensor<double, 3>(x.extents()), Tensor<double, 3>(initial.extents())};
    const Index channels = x.extent(2), width = weight.extent(1);
    for (Index s = 0; s < initial.extent(0); ++s) {
      const Index row = offsets.size() > 0 ? 0 : s;
      const Index begin = offsets.size() > 0 ? offsets(s) : 0;
      const Index end = offsets.size() > 0 ? offsets(s + 1) : x.extent(1);
      for (Index c = 0; c < channels; ++c) {
        std::vector<double> past;
        for (Index i = 0; i < width - 1; ++i) past.push_back(initial(s, i, c));
        for (Index i = 0; i < end - begin; ++i) {
          const Index t = reversed ? end - 1 - i : begin + i;
          past.push_back(x(row, t, c));
          double sum = bias(c);
          for (Index j = 0; j < width; ++j)
            sum += weight(c, j) * past[past.size() - static_cast<std::size_t>(width - j)];
          result.y(row, t, c) = options.silu ? silu(sum) : sum;
        }
        for (Index i = 0; i < width - 1; ++i)
          result.final(s, i, c) = past[past.size() - static_cast<std::size_t>(width - 1 - i)];
      }
    }
    return result;
  }
};

/// Every combination of length, width, packing and direction that is worth a test.
template <class Check>
void for_each_case(Check&& check) {
  Random random(1);
  for (const bool silu : {false, true})
    for (const bool reversed : {false, true})
      for (const Index width : {1, 2, 4, 6}) {
        const auto test = [&](Case&& c) {
          c.reversed = reversed;
          c.options = {silu};
          check(c);
        };
        for (const Index length : {0, 1, 3, 9}) test(Case(random, 2, length, 3, width));
        test(Case(random, 2, 5, 19, width));
        test(Case(random, 2, 70, 2, width));
        test(Case(random, 1, 9, 3, width, {0, 0, 1, 3, 9, 9}));
        test(Case(random, 1, 130, 1, width, {0, 20, 66, 66, 67, 130}));
        test(Case(random, 1, 0, 2, width, {0, 0}));
      }
}

}  // namespace

TEST_CASE("a causal convolution is its formula") {
  for_each_case([](const Case& c) {
    const auto got = c.run(2), want = c.by_hand();
    CHECK(test::relative_error(got.y, want.y) < 1e-14);
    CHECK(test::relative_error(got.final, want.final) < 1e-15);
  });
}

TEST_CASE("a causal convolution has the gradients of finite differences") {
  Random random(2);
  for_each_case([&](Case& c) {
    const auto dy = random.normal<double, 3>(c.x.extents());
    const auto dfinal = random.normal<double, 3>(c.initial.extents());
    const auto loss = [&] {
      const auto result = c.run();
      return test::dot(result.y, dy) + test::dot(result.final, dfinal);
    };
    auto dx = random.normal<double, 3>(c.x.extents());
    auto dweight = random.normal<double, 2>(c.weight.extents());
    auto dbias = random.normal<double, 1>(c.bias.extents());
    auto dinitial = random.normal<double, 3>(c.initial.extents());
    CausalConvScratch<double> scratch;
    causal_conv_backward(cpu(2), c.inputs(), c.options, {dy, dfinal},
                         {dx, dweight, dbias, dinitial}, scratch);
    CHECK(test::gradient_error(loss, c.x, dx) < 1e-9);
    CHECK(test::gradient_error(loss, c.weight, dweight) < 1e-9);
    CHECK(test::gradient_error(loss, c.bias, dbias) < 1e-9);
    CHECK(test::gradient_error(loss, c.initial, dinitial) < 1e-9);
    auto dstate = dfinal;
    causal_conv_backward(cpu(2), c.inputs(), c.options, {dy, dstate}, {dx, {}, {}, dstate},
                         scratch);
    CHECK(test::same_bits(dstate, dinitial));
  });
}

TEST_CASE("a causal convolution split anywhere goes on from its state, in place") {
  Random random(3);
  for (const Index width : {1, 2, 4, 6})
    for (const Index cut : {0, 1, 2, 5, 9}) {
      const Case c(random, 2, 9, 5, width);
      const auto whole = c.run();
      auto state = c.initial;
      Tensor<double, 3> y({2, 9, 5});
      CausalConvScratch<double> scratch;
      for (const auto& [begin, count] : {std::pair<Index, Index>{0, cut}, {cut, 9 - cut}})
        causal_conv(cpu(1), {c.x.view().slice(1, begin, count), c.weight, c.bias, state}, {},
                    {y.view().slice(1, begin, count), state}, scratch);
      CHECK(test::same_bits(y, whole.y));
      CHECK(test::same_bits(state, whole.final));
    }
}

TEST_CASE("a convolution step equals the forward pass") {
  Random random(4);
  for (const Index width : {1, 2, 4, 6}) {
    Case c(random, 2, 7, 21, width);
    c.options.silu = true;
    const auto whole = c.run();
    auto state = c.initial;
    Tensor<double, 3> y(c.x.extents());
    for (Index t = 0; t < 7; ++t) {
      const View<const double, 2> x(&c.x(0, t, 0), {2, 21}, {7 * 21, 1});
      causal_conv_step(CausalConvStepInputs<double>{x, c.weight, c.bias}, c.options, state,
                       View<double, 2>(&y(0, t, 0), {2, 21}, {7 * 21, 1}));
    }
    CHECK(test::relative_error(y, whole.y) < 1e-14);
    CHECK(test::same_bits(state, whole.final));
  }
}

TEST_CASE("a causal convolution without bias or state takes them as zero") {
  Random random(5);
  Case c(random, 2, 6, 4, 4);
  c.bias.fill(0);
  c.initial.fill(0);
  const auto want = c.run();
  Tensor<double, 3> y(c.x.extents());
  CausalConvScratch<double> scratch;
  causal_conv(cpu, {c.x, c.weight}, {}, {y}, scratch);
  CHECK(test::same_bits(y, want.y));
}

TEST_CASE("a causal convolution's bits do not depend on the number of threads") {
  Random random(6);
  Case c(random, 3, 101, 20, 4);
  c.options.silu = true;
  const auto dy = random.normal<double, 3>(c.x.extents());
  const auto run = [&](int threads) {
    Tensor<double, 3> dx(c.x.extents()), dinitial(c.initial.extents());
    Tensor<double, 2> dweight(c.weight.extents());
    Tensor<double, 1> dbias(c.bias.extents());
    CausalConvScratch<double> scratch;
    causal_conv_backward(cpu(threads), c.inputs(), c.options, {dy}, {dx, dweight, dbias, dinitial},
                         scratch);
    return std::tuple(c.run(threads).y, dx, dweight, dbias, dinitial);
  };
  const auto one = run(1);
  for (const int threads : {2, 3}) {
    const auto many = run(threads);
    CHECK(test::same_bits(std::get<0>(one), std::get<0>(many)));
    CHECK(test::same_bits(std::get<1>(one), std::get<1>(many)));
    CHECK(test::same_bits(std::get<2>(one), std::get<2>(many)));
    CHECK(test::same_bits(std::get<3>(one), std::get<3>(many)));
    CHECK(test::same_bits(std::get<4>(one), std::get<4>(many)));
  }
}

TEST_CASE("a causal convolution's step in place is that into other memory") {
  Random random(7);
  Case c(random, 3, 1, 5, 4);
  auto state = c.initial, state_in_place = c.initial;
  Tensor<double, 2> x({3, 5}), y({3, 5});
  std::copy(c.x.begin(), c.x.end(), x.begin());
  causal_conv_step(CausalConvStepInputs<double>{x, c.weight, c.bias}, {}, state, y);
  causal_conv_step(CausalConvStepInputs<double>{x, c.weight, c.bias}, {}, state_in_place, x);
  CHECK(test::same_bits(x, y));
  CHECK(test::same_bits(state_in_place, state));
}

TEST_CASE("a causal convolution names the argument that it refuses") {
  Random random(8);
  Case c(random, 2, 6, 4, 4);
  Tensor<double, 3> y(c.x.extents()), dx(c.x.extents()), shorter({2, 2, 4});
  CausalConvScratch<double> scratch;
  const auto refuses = [&](const CausalConvInputs<double>& inputs,
                           const CausalConvOutputs<double>& outputs, const std::string& sentence) {
    CHECK_THROWS_WITH(causal_conv(cpu, inputs, {}, outputs, scratch), "causal_conv: " + sentence);
  };
  const Tensor<double, 1> long_bias({5});
  const Tensor<double, 2> no_tap({4, 0});
  Tensor<Index, 1> offsets({2});
  refuses({{}, c.weight}, {y}, "x is absent, expected (batch, length, channels)");
  refuses({c.x}, {y}, "weight is absent, expected (channels, width)");
  refuses({c.x, no_tap}, {y}, "weight is of width 0, expected at least one tap");
  refuses({c.x, c.weight, long_bias}, {y}, "bias is (5), expected (4)");
  refuses({c.x, c.weight, {}, shorter}, {y}, "initial_state is (2, 2, 4), expected (2, 3, 4)");
  refuses({c.x, c.weight}, {y, shorter}, "final_state is (2, 2, 4), expected (2, 3, 4)");
  refuses({c.x, c.weight, {}, {}, {offsets}}, {y},
          "offsets is given with batch 2, expected packed sequences in a batch of 1");
  refuses({c.x, c.weight}, {View<double, 3>(y.data(), {2, 6, 4}, {0, 4, 1})},
          "y is strided as (0, 4, 1), expected no stride of 0 in what is written");
  refuses({y, c.weight}, {y}, "y is in the memory of x, expected memory of its own");
  refuses({y, c.weight}, {y.view().reversed(1)},
          "y is in the memory of x, expected memory of its own");
  refuses({c.x, c.weight}, {y, View<double, 3>(y.data(), {2, 3, 4})},
          "final_state is in the memory of y, expected memory of its own");
  CHECK_THROWS_WITH(
      causal_conv_backward(cpu, {c.x, c.weight}, {}, {dx}, {dx}, scratch),
      "causal_conv_backward: the gradient of x is in the memory of the gradient of y, "
      "expected memory of its own");
  Tensor<double, 3> dstate(c.initial.extents());
  const View<double, 2> weight_there(dstate.data(), c.weight.extents());
  const View<double, 1> bias_there(dstate.data(), {4});
  const auto refuses_gradients = [&](const CausalConvInputGradients<double>& gradients,
                                     const std::string& name) {
    causal_conv(cpu, {c.x, c.weight, c.bias, c.initial}, {}, {y}, scratch);
    CHECK_THROWS_WITH(
        causal_conv_backward(cpu, {c.x, c.weight, c.bias, c.initial}, {}, {y}, gradients, scratch),
        "causal_conv_backward: the gradient of initial_state is in the memory of "
        "the gradient of " +
            name + ", expected memory of its own");
  };
  refuses_gradients({{}, weight_there, {}, dstate}, "weight");
  refuses_gradients({{}, {}, bias_there, dstate}, "bias");
}

TEST_CASE("a causal convolution's step of wrong arguments ends the program with a sentence") {
  Tensor<double, 2> x({2, 4}), weight({4, 3}), y({2, 4}), narrow({2, 3});
  Tensor<double, 1> bias({4}), long_bias({5});
  Tensor<double, 3> state({2, 2, 4}), other({1, 2, 4});
  const auto refuses = [&](const CausalConvStepInputs<double>& inputs,
                           const View<double, 3>& states, const View<double, 2>& out,
                           const std::string& sentence) {
    CHECK_THAT(test::last_words([&] { causal_conv_step(inputs, {}, states, out); }),
               test::contains("causal_conv_step: " + sentence));
  };
  refuses({x, narrow}, state, y, "weight is (2, 3), expected (4, 3)");
  refuses({x, weight, long_bias}, state, y, "bias is (5), expected (4)");
  refuses({x, weight, bias}, other, y, "state is (1, 2, 4), expected (2, 2, 4)");
  refuses({x, weight, bias}, {}, y, "state is absent, expected (2, 2, 4)");
  refuses({x, weight, bias}, state, narrow, "y is (2, 3), expected (2, 4)");
  refuses({x, weight, bias}, state, View<double, 2>(state.data(), {2, 4}),
          "state is in the memory of y, expected memory of its own");
  const View<double, 1> end_of_y(y.data() + 4, {4}), end_of_state(state.data() + 12, {4});
  refuses({x, weight, end_of_y}, state, y,
          "y is in the memory of bias, expected memory of its own");
  refuses({x, weight, end_of_state}, state, y,
          "state is in the memory of bias, expected memory of its own");
  refuses({x, View<double, 2>(state.data(), {4, 3}), bias}, state, y,
          "state is in the memory of weight, expected memory of its own");
}
