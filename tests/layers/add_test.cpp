#include "ssm/layers/add.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

TEMPLATE_TEST_CASE("add is the sum of each element, in either's memory, of strided rows", "", float,
                   double) {
  Random random(1);
  AddScratch<TestType> scratch;
  for (const Index rows : {0, 1, 37})
    for (const Index width : {1, 8, 21}) {
      const auto a = random.normal<TestType, 2>({rows, width});
      const auto wide = random.normal<TestType, 2>({rows, width + 5});
      const auto b = wide.view().slice(1, 2, width);
      Tensor<TestType, 2> want({rows, width}), y({rows, width}), step({rows, width});
      for (Index i = 0; i < rows; ++i)
        for (Index c = 0; c < width; ++c) want(i, c) = a(i, c) + b(i, c);
      add(cpu(2), {a, b}, {}, {y}, scratch);
      CHECK(test::same_bits(y, want));
      add_step(AddInputs<TestType>{a, b}, {}, step);
      CHECK(test::same_bits(step, want));
      auto over_a = a;
      add(cpu(2), {over_a, b}, {}, {over_a}, scratch);
      CHECK(test::same_bits(over_a, want));
      auto over_b = a;
      add(cpu(2), {b, over_b}, {}, {over_b}, scratch);
      CHECK(test::same_bits(over_b, want));
    }
}

TEST_CASE("add names the argument that it refuses") {
  Tensor<float, 2> a({2, 3}), b({2, 3}), other({3, 2});
  AddScratch<float> scratch;
  const auto refuses = [&](const AddInputs<float>& inputs, const View<float, 2>& y,
                           const std::string& sentence) {
    CHECK_THROWS_WITH(add(cpu, inputs, {}, {y}, scratch), "add: " + sentence);
    CHECK_THAT(test::last_words([&] { add_step(inputs, {}, y); }),
               test::contains("add_step: " + sentence));
  };
  refuses({a}, b, "b is absent, expected (2, 3)");
  refuses({a, other}, b, "b is (3, 2), expected (2, 3)");
  refuses({a, b}, other, "y is (3, 2), expected (2, 3)");
  refuses({a, View<const float, 2>(b.data(), {2, 3}, {1, 2})}, a,
          "b is strided as (1, 2), expected adjacent elements in the last extent");
  refuses({a, b}, View<float, 2>(other.data(), {2, 3}, {0, 1}),
          "y is strided as (0, 1), expected no stride of 0 in what is written");
  refuses({a, b}, View<float, 2>(a.data(), {2, 3}).reversed(0),
          "y is over a part of the memory of a, expected all of it or memory of its own");
}
