#include "ssm/layers/rotary.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

namespace rotary_test {

using namespace ssm;
using test::Random;

TEMPLATE_TEST_CASE("rotary turns every pair by its position, from any first one", "", float,
                   double) {
  for (const bool packed : {false, true})
    for (const bool reversed : {false, true}) {
      INFO("packed " << packed << ", reversed " << reversed);
      const Index batch = packed ? 1 : 4, length = packed ? 170 : 70, pairs = 5;
      Tensor<Index, 1> offsets({5}), steps({4});
      const std::array<Index, 5> ends{0, 60, 60, 61, 170};
      const std::array<Index, 4> before{0, 3, 1000000, 63};
      std::copy(ends.begin(), ends.end(), offsets.begin());
      std::copy(before.begin(), before.end(), steps.begin());
      const auto drawn = Random(1).normal<float, 4>({batch, length, 3, 2 * pairs});
      Tensor<TestType, 4> x(drawn.extents()), y(drawn.extents()), threaded(drawn.extents());
      std::copy(drawn.begin(), drawn.end(), x.begin());
      Tensor<double, 4> want(x.extents());
      RotaryInputs<TestType> in{x, steps};
      if (packed) in.sequences.offsets = offsets;
      in.sequences.reversed = reversed;
      for (Index s = 0; s < 4; ++s) {
        const auto span = detail::span_of(in.sequences, s, length);
        for (Index i = 0; i < span.length(); ++i)
          for (Index h = 0; h < 3; ++h)
            for (Index p = 0; p < pairs; ++p) {
              const double angle =
                  static_cast<double>(steps(s) + i) *
                  std::pow(500.0, -static_cast<double>(p) / static_cast<double>(pairs));
              const Index t = span.step(i, reversed);
              const double a = x(span.row, t, h, p), b = x(span.row, t, h, pairs + p);
              want(span.row, t, h, p) = a * std::cos(angle) - b * std::sin(angle);
              want(span.row, t, h, pairs + p) = b * std::cos(angle) + a * std::sin(angle);
            }
      }
      RotaryScratch<TestType> scratch;
      rotary(cpu(1), in, {.base = 10}, {threaded}, scratch);
      rotary(cpu(1), in, {.base = 500}, {y}, scratch);
      const double bound = std::is_same_v<TestType, float> ? 1e-6 : 1e-9;
      CHECK(test::relative_error(y, want) <= bound);
      rotary(cpu(3), in, {.base = 500}, {threaded}, scratch);
      CHECK(test::same_bits(y, threaded));

      // Turned back by the gradient, in place.
      rotary_backward(cpu(2), in, {.base = 500}, {y}, {y}, scratch);
      CHECK(test::relative_error(y, x) <= bound);
      auto in_place = x;
      in.x = in_place;
      rotary(cpu(1), in, {.base = 500}, {in_place}, scratch);
      CHECK(test::same_bits(in_place, threaded));
    }
}

TEST_CASE("rotary has the gradient of finite differences, and a step is its pass") {
  auto x = Random(2).normal<double, 4>({2, 4, 2, 6});
  const auto dy = Random(3).normal<double, 4>(x.extents());
  Tensor<double, 4> y(x.extents()), dx(x.extents());
  Tensor<Index, 1> steps({2});
  steps(1) = 40;
  RotaryScratch<double> scratch;
  const RotaryInputs<double> in{x, steps};
  const auto loss = [&] {
    rotary(cpu(1), in, {}, {y}, scratch);
    return test::dot(y, dy);
  };
  rotary_backward(cpu(1), in, {}, {dy}, {dx}, scratch);
  CHECK(test::gradient_error(loss, x, dx) < 1e-9);
  loss();
  for (Index t = 0; t < 4; ++t) {
    Tensor<double, 3> now({2, 2, 6});
    for (Index b = 0; b < 2; ++b) std::copy_n(&x(b, t, 0, 0), 12, &now(b, 0, 0));
    rotary_step(RotaryStepInputs<double>{now, steps}, {}, now.view());
    for (Index b = 0; b < 2; ++b)
      for (Index i = 0; i < 12; ++i)
        CHECK(now(b, i / 6, i % 6) == Approx(y(b, t, i / 6, i % 6)).epsilon(1e-12));
    for (Index& s : steps) ++s;
  }
}

TEST_CASE("rotary names the argument that it refuses") {
  Tensor<float, 4> x({1, 2, 3, 4}), odd({1, 2, 3, 5});
  Tensor<Index, 1> steps({1}), two({2});
  RotaryScratch<float> scratch;
  CHECK_THROWS_WITH(rotary(cpu, {x}, {.base = 0}, {x}, scratch),
                    test::contains("rotary: base is 0.0"));
  CHECK_THROWS_WITH(rotary(cpu, {odd}, {}, {odd}, scratch),
                    "rotary: head_size is 5, expected even, as pairs turn");
  CHECK_THROWS_WITH(rotary(cpu, {x, two}, {}, {x}, scratch), "rotary: steps is (2), expected (1)");
  CHECK_THROWS_WITH(rotary(cpu, {x}, {}, {odd}, scratch),
                    "rotary: y is (1, 2, 3, 5), expected (1, 2, 3, 4)");
  steps(0) = -1;
  CHECK_THROWS_WITH(rotary(cpu, {x, steps}, {}, {x}, scratch),
                    "rotary: steps[0] is -1, expected from 0 to 281474976710656");
  Tensor<float, 3> now({1, 3, 4});
  CHECK_THAT(test::last_words([&] {
               rotary_step(RotaryStepInputs<float>{now, steps}, {}, now.view());
             }),
             test::contains("rotary_step: steps[0] is -1"));
}

}  // namespace rotary_test
