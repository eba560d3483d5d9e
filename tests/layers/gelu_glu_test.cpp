#include "ssm/layers/gelu_glu.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

TEST_CASE("gelu and glu are their formulas, in float as in double") {
  const auto x = Random(12).normal<double, 2>({7, 38}, 3);
  Tensor<float, 2> rounded(x.extents()), got_gelu(x.extents()), got_glu({7, 19});
  std::copy(x.begin(), x.end(), rounded.begin());
  GeluScratch<float> gelu_scratch;
  GluScratch<float> glu_scratch;
  gelu(cpu(2), {rounded}, {}, {got_gelu}, gelu_scratch);
  glu(cpu(2), {rounded}, {}, {got_glu}, glu_scratch);
  Tensor<double, 2> want_gelu(x.extents()), want_glu({7, 19});
  for (Index i = 0; i < 7; ++i)
    for (Index j = 0; j < 38; ++j) {
      const double v = x(i, j);
      want_gelu(i, j) =
          v / 2 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979) * (v + 0.044715 * v * v * v)));
      CHECK(std::abs(want_gelu(i, j) - v / 2 * std::erfc(-v / std::sqrt(2.0))) <= 5e-4);
      if (j < 19) want_glu(i, j) = v / (1 + std::exp(-x(i, 19 + j)));
    }
  CHECK(test::relative_error(got_gelu, want_gelu) < 1e-6);
  CHECK(test::relative_error(got_glu, want_glu) < 1e-6);

  Tensor<float, 2> step_gelu(x.extents()), step_glu({7, 19});
  gelu_step(GeluInputs<float>{rounded}, {}, step_gelu);
  glu_step(GluInputs<float>{rounded}, {}, step_glu);
  CHECK(test::same_bits(step_gelu, got_gelu));
  CHECK(test::same_bits(step_glu, got_glu));
  auto in_place = rounded;
  glu(cpu(2), {in_place}, {}, {in_place.view().slice(1, 0, 19)}, glu_scratch);
  for (Index i = 0; i < 7; ++i)
    for (Index j = 0; j < 38; ++j)
      CHECK(in_place(i, j) == (j < 19 ? got_glu(i, j) : rounded(i, j)));
  in_place = rounded;
  gelu(cpu(2), {in_place}, {}, {in_place}, gelu_scratch);
  CHECK(test::same_bits(in_place, got_gelu));
}

TEST_CASE("gelu and glu have the gradients of finite differences, in place too") {
  Random random(2);
  GeluScratch<double> gelu_scratch;
  GluScratch<double> glu_scratch;
  for (const Index rows : {0, 1, 18})
    for (const Index width : {1, 8, 11}) {
      auto x = random.normal<double, 2>({rows, width}, 2);
      auto wide = random.normal<double, 2>({rows, 2 * width}, 2);
      const auto dy = random.normal<double, 2>({rows, width});
      Tensor<double, 2> y({rows, width}), dx({rows, width}), dwide({rows, 2 * width});
      const auto gelu_loss = [&] {
        gelu(cpu(1), {x}, {}, {y}, gelu_scratch);
        return test::dot(y, dy);
      };
      const auto glu_loss = [&] {
        glu(cpu(1), {wide}, {}, {y}, glu_scratch);
        return test::dot(y, dy);
      };
      gelu_backward(cpu(2), {x}, {}, {dy}, {dx}, gelu_scratch);
      CHECK(test::gradient_error(gelu_loss, x, dx) < 1e-9);
      glu_backward(cpu(2), {wide}, {}, {dy}, {dwide}, glu_scratch);
      CHECK(test::gradient_error(glu_loss, wide, dwide) < 1e-9);
      auto over_dy = dy, over_x = x;
      gelu_backward(cpu(2), {x}, {}, {over_dy}, {over_dy}, gelu_scratch);
      CHECK(test::same_bits(over_dy, dx));
      gelu_backward(cpu(2), {over_x}, {}, {dy}, {over_x}, gelu_scratch);
      CHECK(test::same_bits(over_x, dx));
      glu_backward(cpu(2), {wide}, {}, {dy}, {wide}, glu_scratch);
      CHECK(test::same_bits(wide, dwide));
    }
}

TEST_CASE("gelu and glu name the argument that they refuse") {
  Tensor<float, 2> x({2, 4}), y({2, 4}), half({2, 2});
  GeluScratch<float> gelu_scratch;
  GluScratch<float> glu_scratch;
  CHECK_THROWS_WITH(gelu(cpu, {}, {}, {y}, gelu_scratch), test::contains("gelu: x is absent"));
  CHECK_THROWS_WITH(gelu(cpu, {x}, {}, {half}, gelu_scratch), "gelu: y is (2, 2), expected (2, 4)");
  CHECK_THROWS_WITH(gelu(cpu, {x}, {}, {View<float, 2>(y.data(), {2, 4}, {0, 1})}, gelu_scratch),
                    test::contains("gelu: y is strided as (0, 1)"));
  CHECK_THROWS_WITH(gelu_backward(cpu, {x}, {}, {half}, {y}, gelu_scratch),
                    "gelu_backward: the gradient of y is (2, 2), expected (2, 4)");
  CHECK_THROWS_WITH(gelu_backward(cpu, {x}, {}, {x.view().reversed(0)}, {x}, gelu_scratch),
                    test::contains("gelu_backward: the gradient of x is over a part of the memory"
                                   " of the gradient of y"));
  CHECK_THROWS_WITH(glu(cpu, {x}, {}, {y}, glu_scratch), "glu: x is (2, 4), expected (2, 8)");
  CHECK_THROWS_WITH(glu(cpu, {x}, {}, {x.view().slice(1, 2, 2)}, glu_scratch),
                    test::contains("glu: y is in the memory of x"));
  CHECK_THROWS_WITH(glu_backward(cpu, {x}, {}, {half}, {half}, glu_scratch),
                    "glu_backward: the gradient of x is (2, 2), expected (2, 4)");
  CHECK_THAT(test::last_words([&] { gelu_step(GeluInputs<float>{x}, {}, half); }),
             test::contains("gelu_step: y is (2, 2), expected (2, 4)"));
  CHECK_THAT(test::last_words([&] { glu_step(GluInputs<float>{x}, {}, y); }),
             test::contains("glu_step: x is (2, 4), expected (2, 8)"));
}
