#include "ssm/conv/s4d_state.hpp"

#include <algorithm>
#include <array>
#include <complex>
#include <limits>

#include "ssm/discretize/discretize.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/diagonal_kernel_case.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

namespace s4d_state_test {

using namespace ssm;
using namespace ssm::test::diagonal;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

TEMPLATE_TEST_CASE("a convolution with its state passed on is the recurrence", "", float, double) {
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  for (const Kind kind : {Kind::zero_order_hold, Kind::bilinear})
    for (const Index length : {0, 1, 2, 65, 700}) {
      CAPTURE(static_cast<int>(kind), length);
      const Problem<TestType> p(2, 5);
      const Stream<TestType> stream(3, length, 2, 5);
      Stream<double> want(3, length, 2, 5);
      want.u.fill(0);
      for (Index b = 0; b < 3; ++b)
        for (Index c = 0; c < 2; ++c)
          for (Index n = 0; n < 5; ++n) {
            const auto mode = discretize(method_of(kind), Complex(p.lambda(c, n)),
                                         static_cast<double>(p.delta(c)));
            Complex h(stream.state(b, c, n));
            for (Index t = 0; t < length; ++t) {
              h = mode.a_bar * h +
                  mode.b_bar_factor * Complex(p.B(c, n)) * static_cast<double>(stream.u(b, t, c));
              want.u(b, t, c) += 2 * (Complex(p.C(c, n)) * h).real();
            }
            want.state(b, c, n) = h;
          }
      const auto got = convolve(kind, p, stream);
      CHECK(relative_error(got.u, want.u) <= 100 * epsilon);
      CHECK(relative_error(got.state, want.state) <= 100 * epsilon);
    }
}

TEST_CASE("the gradients of a state passed on are its finite differences") {
  for (const Kind kind : {Kind::zero_order_hold, Kind::bilinear})
    for (const Index length : {0, 1, 6}) {
      CAPTURE(static_cast<int>(kind), length);
      Problem<double> p(2, 3, 0.2);
      Stream<double> stream(2, length, 2, 3);
      const Stream<double> d = [&] {
        Random random(8);
        Stream<double> result = stream;
        result.u = random.normal<double>(stream.u.extents());
        result.state = random.normal<Complex>(stream.state.extents());
        return result;
      }();
      const auto loss = [&] {
        Stream<double> out = stream;
        out.u.fill(0);
        DiagonalKernelScratch<double> scratch;
        s4d_pass_state(cpu(1), {p.inputs(), stream.u, stream.state}, {method_of(kind)},
                       {out.u, out.state}, scratch);
        double sum = ssm::test::dot(out.u, d.u);
        for (Index i = 0; i < out.state.size(); ++i)
          sum += (std::conj(d.state.data()[i]) * out.state.data()[i]).real();
        return sum;
      };
      Gradients<double> g{p.lambda, p.B, p.C, p.delta};
      for (auto* tensor : {&g.lambda, &g.B, &g.C}) tensor->fill(0.0);
      g.delta.fill(0);
      Stream<double> gradient = stream;
      gradient.u.fill(0);
      DiagonalKernelScratch<double> scratch;
      s4d_pass_state_backward(cpu(1), {p.inputs(), stream.u, stream.state}, {method_of(kind)},
                              {d.u, d.state},
                              {{g.lambda, g.delta, g.B, g.C}, gradient.u, gradient.state}, scratch);
      const auto check = [&](auto& at, const auto& slope) {
        CHECK(ssm::test::gradient_error(loss, at, slope) <= 1e-8);
      };
      check(p.lambda, g.lambda);
      check(p.B, g.B);
      check(p.C, g.C);
      check(stream.state, gradient.state);
      CHECK(ssm::test::gradient_error(loss, p.delta, g.delta) <= 1e-7);
      CHECK(ssm::test::gradient_error(loss, stream.u, gradient.u) <= 1e-8);
    }
}

TEST_CASE("the states of packed sequences, either way in time, are passed on as one by one") {
  Tensor<Index, 1> offsets({6});
  std::copy_n(std::array<Index, 6>{0, 1, 1, 400, 470, 700}.data(), 6, offsets.data());
  for (const bool reversed : {false, true}) {
    const Problem<double> p(2, 5);
    const Stream<double> stream(1, 700, 2, 5);
    Random random(9);
    const auto initial = random.normal<Complex>(std::array<Index, 3>{5, 2, 5});
    const auto dstate = random.normal<Complex>(initial.extents());
    const auto dy = random.normal<double>(stream.u.extents());
    DiagonalKernelScratch<double> scratch;
    Tensor<double, 3> y(stream.u.extents()), du(stream.u.extents());
    auto state = initial, gradient = dstate;  // in place
    const DiagonalStateInputs<double> packed{p.inputs(), stream.u, initial, {offsets, reversed}};
    auto in_place = packed;
    in_place.initial_state = state;
    s4d_pass_state(cpu, in_place, {}, {y, state}, scratch);
    const auto zeros = [&] {
      Gradients<double> g{p.lambda, p.B, p.C, p.delta};
      for (auto* tensor : {&g.lambda, &g.B, &g.C}) tensor->fill(0.0);
      g.delta.fill(0);
      return g;
    };
    Gradients<double> got = zeros(), want = zeros();
    const auto views = [](Gradients<double>& g) {
      return DiagonalKernelInputGradients<double>{g.lambda, g.delta, g.B, g.C};
    };
    s4d_pass_state_backward(cpu, packed, {}, {dy, gradient}, {views(got), du, gradient}, scratch);
    for (Index s = 0; s < 5; ++s) {
      const Index begin = offsets(s), length = offsets(s + 1) - begin;
      // The steps of one sequence in the order of time.
      const auto steps = [&](const Tensor<double, 3>& x) {
        Tensor<double, 3> result({1, length, 2});
        for (Index t = 0; t < length; ++t)
          for (Index c = 0; c < 2; ++c)
            result(0, t, c) = x(0, reversed ? begin + length - 1 - t : begin + t, c);
        return result;
      };
      const auto row = [&](const Tensor<Complex, 3>& x) {
        Tensor<Complex, 3> result({1, 2, 5});
        std::copy_n(&x(s, 0, 0), 10, result.data());
        return result;
      };
      const auto u = steps(stream.u), dy_s = steps(dy);
      const auto h = row(initial), dh = row(dstate);
      Tensor<double, 3> y_s(u.extents()), du_s(u.extents());
      Tensor<Complex, 3> h_s(h.extents()), dh_s(h.extents());
      s4d_pass_state(cpu, {p.inputs(), u, h}, {}, {y_s, h_s}, scratch);
      s4d_pass_state_backward(cpu, {p.inputs(), u, h}, {}, {dy_s, dh}, {views(want), du_s, dh_s},
                              scratch);
      CHECK(same_bits(steps(y), y_s));
      CHECK(same_bits(row(state), h_s));
      CHECK(same_bits(steps(du), du_s));
      CHECK(same_bits(row(gradient), dh_s));
    }
    CHECK(relative_error(got.lambda, want.lambda) <= 1e-14);
    CHECK(relative_error(got.B, want.B) <= 1e-14);
    CHECK(relative_error(got.C, want.C) <= 1e-14);
    CHECK(relative_error(got.delta, want.delta) <= 1e-14);
  }
}

}  // namespace s4d_state_test
