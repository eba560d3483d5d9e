#include "ssm/conv/s4d_kernel.hpp"

#include <algorithm>
#include <complex>
#include <limits>
#include <string>

#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/s4d_state.hpp"
#include "ssm/discretize/discretize.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/count_allocations.hpp"
#include "support/diagonal_kernel_case.hpp"
#include "support/finite_difference.hpp"
#include "support/precision.hpp"
#include "support/random.hpp"

namespace s4d_kernel_test {

using namespace ssm;
using namespace ssm::test::diagonal;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

TEMPLATE_TEST_CASE("a diagonal kernel is the impulse response of its recurrence", "", float,
                   double) {
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  for (const Kind kind : kinds)
    for (const Index length : {0, 1, 2, 63, 64, 65, 255, 1001, 16385})
      for (const Index modes : {1, 3, 32}) {
        CAPTURE(static_cast<int>(kind), length, modes);
        const Problem<TestType> problem(2, modes);
        const auto want = impulse_response(kind, problem, length);
        // DSS divides by 1 − z^L, which may be small.
        const double bound =
            (kind == Kind::dss ? 50 : 1) *
            (30 * epsilon + static_cast<double>(length) * std::numeric_limits<double>::epsilon());
        CHECK(relative_error(kernel(kind, problem, length), want) <= bound);
      }
}

TEST_CASE("a float kernel of small steps keeps its digits, at the end of a long sequence too") {
  for (const Kind kind : {Kind::zero_order_hold, Kind::bilinear}) {
    const Problem<float> problem(1, 32, 1e-4);
    CHECK(relative_error(kernel(kind, problem, 16384), impulse_response(kind, problem, 16384)) <=
          2e-6);
  }
}

TEST_CASE("what a float kernel avoids: e^z - 1 as it stands, and long phases in float") {
  using Float = std::complex<float>;
  const double delta = 1e-4;
  double naive = 0, phase = 0, reduced = 0;
  for (int n = 0; n < 32; ++n) {
    const std::complex<double> lambda(-0.5, std::numbers::pi * n), z = delta * lambda;
    const auto exact = ssm::expm1(z) / lambda;
    const Float rounded(z);
    naive = std::max(
        naive, std::abs(std::complex<double>((std::exp(rounded) - 1.0f) / Float(lambda)) - exact) /
                   std::abs(exact));
    for (int l = 16000; l < 16384; ++l) {
      const double angle = l * z.imag();
      const auto error = [&](float angle_used) {
        return std::abs(std::polar(1.0, static_cast<double>(angle_used)) - std::polar(1.0, angle));
      };
      phase = std::max(phase, error(static_cast<float>(l) * static_cast<float>(z.imag())));
      reduced =
          std::max(reduced, error(static_cast<float>(std::remainder(angle, 2 * std::numbers::pi))));
    }
  }
  CAPTURE(naive, phase, reduced);
  CHECK(naive == Approx(2e-4).epsilon(0.5));
  CHECK(phase == Approx(1.3e-5).epsilon(0.5));
  CHECK(reduced <= 1.3e-7);
}

TEST_CASE("a shorter kernel of S4D is the beginning of the longer one") {
  const Problem<double> problem(1, 8);
  const auto longer = kernel(Kind::zero_order_hold, problem, 1000);
  const auto shorter = kernel(Kind::zero_order_hold, problem, 333);
  Tensor<double, 2> head({1, 333});
  std::copy_n(longer.data(), 333, head.data());
  CHECK(relative_error(shorter, head) <= 1e-13);
}

TEST_CASE("the gradients of the diagonal kernels are their finite differences") {
  for (const Kind kind : kinds)
    for (const Index length : {1, 2, 77, 701}) {
      CAPTURE(static_cast<int>(kind), length);
      Problem<double> problem(2, 3, 0.1);
      const auto dK = Random(2).normal<double>(std::array{Index(2), length});
      const auto gradients = backward(kind, problem, dK);
      const auto check = [&](Tensor<Complex, 2>& at, const Tensor<Complex, 2>& gradient) {
        const auto loss = [&] { return ssm::test::dot(kernel(kind, problem, length), dK); };
        CHECK(ssm::test::gradient_error(loss, at, gradient) <= 1e-8);
      };
      check(problem.lambda, gradients.lambda);
      check(problem.B, gradients.B);
      check(problem.C, gradients.C);
      Tensor<double, 1> scale({2});  // the differences are absolute, and Δ is small
      scale.fill(1);
      const Tensor<double, 1> delta = problem.delta;
      Tensor<double, 1> by_scale({2});
      for (Index c = 0; c < 2; ++c) by_scale(c) = gradients.delta(c) * delta(c);
      const auto loss = [&] {
        for (Index c = 0; c < 2; ++c) problem.delta(c) = delta(c) * scale(c);
        return ssm::test::dot(kernel(kind, problem, length), dK);
      };
      CHECK(ssm::test::gradient_error(loss, scale, by_scale) <= 1e-7);
    }
}

TEST_CASE("a mode that the bilinear map sends to zero has its gradient") {
  Problem<double> problem(1, 1, 1);
  problem.delta(0) = 0.5;
  problem.lambda(0, 0) = -4;  // z = 0
  Tensor<double, 2> dK({1, 5});
  dK.fill(1);
  const auto gradients = backward(Kind::bilinear, problem, dK);
  const auto loss = [&] { return ssm::test::dot(kernel(Kind::bilinear, problem, 5), dK); };
  const double h = 1e-5;
  problem.lambda(0, 0) += h;
  const double high = loss();
  problem.lambda(0, 0) -= 2 * h;
  CHECK(gradients.lambda(0, 0).real() == Approx((high - loss()) / (2 * h)).epsilon(1e-6));
}

TEST_CASE("diagonal kernels have the same bits for every number of threads") {
  const Problem<double> problem(7, 5);
  for (const Kind kind : kinds) {
    const auto one = kernel(kind, problem, 500);
    const auto back = backward(kind, problem, one);
    for (const int threads : {2, 3}) {
      CHECK(same_bits(one, kernel(kind, problem, 500, threads)));
      const auto many = backward(kind, problem, one, threads);
      CHECK(same_bits(back.lambda, many.lambda));
      CHECK(same_bits(back.delta, many.delta));
    }
  }
}

TEST_CASE("kernels and convolutions allocate on their first call only") {
  const Problem<float> p(3, 5);
  const Stream<float> stream(2, 900, 3, 5);
  Problem<float> d = p;
  Stream<float> out = stream, dstream = stream;
  Tensor<float, 2> K({3, 900}), dK = K;
  DiagonalKernelScratch<float> scratch;
  LongConvScratch<float> conv;
  const DiagonalKernelInputGradients<float> model{d.lambda, d.delta, d.B, d.C};
  const auto all = [&] {
    const auto method = Discretization::bilinear;
    s4d_kernel(cpu(1), p.inputs(), {method}, {K}, scratch);
    s4d_kernel_backward(cpu(1), p.inputs(), {method}, {K}, model, scratch);
    long_conv(cpu(1), {stream.u, K}, {}, {out.u}, conv);
    long_conv_backward(cpu(1), {stream.u, K}, {}, {out.u}, {dstream.u, dK}, conv);
    s4d_pass_state(cpu(1), {p.inputs(), stream.u, stream.state}, {method}, {out.u, out.state},
                   scratch);
    s4d_pass_state_backward(cpu(1), {p.inputs(), stream.u, stream.state}, {method},
                            {out.u, out.state}, {model, dstream.u, dstream.state}, scratch);
  };
  CHECK(ssm::test::allocations_of(all) > 0);
  CHECK(ssm::test::allocations_of(all) == 0);
}

TEST_CASE("the diagonal kernels name the argument that does not fit") {
  Problem<double> problem(2, 3);
  DiagonalKernelScratch<double> scratch;
  Tensor<double, 2> K({2, 9});
  auto inputs = problem.inputs();
  const Tensor<Complex, 2> wrong({2, 4});
  inputs.C = wrong;
  CHECK_THROWS_WITH(s4d_kernel(cpu, inputs, {Discretization::bilinear}, {K}, scratch),
                    "s4d_kernel: C is (2, 4), expected (2, 3)");
  CHECK_THROWS_WITH(
      s4d_kernel(cpu, problem.inputs(), {Discretization::forward_euler}, {K}, scratch),
      "s4d_kernel: method is an Euler method, expected zero_order_hold or bilinear");
  problem.lambda(1, 2) = {0.5, 1};
  CHECK_THROWS_WITH(dss_kernel(cpu, problem.inputs(), {}, {K}, scratch),
                    "dss_kernel: Re lambda is 0.500000, expected < 0");
}

TEST_CASE("the powers of a mode keep their relative accuracy however far it decays") {
  const double epsilon = std::numeric_limits<double>::epsilon();
  double worst = 0;
  for (int i = 0; i <= 70000; ++i) {
    const double re = -0.01 * i;
    for (const double im : {0.0, 0.3, 1.5707963, -3.0, 40.0}) {
      const Complex x(re, im);
      const std::complex<long double> want = std::exp(std::complex<long double>(re, im));
      const auto got = detail::exp_and_phi1(x)[0];
      const auto error = std::abs(std::complex<long double>(got) - want) / std::abs(want);
      worst = ssm::test::worse(worst, static_cast<double>(error));
    }
  }
  CHECK(worst <= 3 * epsilon);
}

TEST_CASE("a kernel and its gradients hold where every step forgets nearly all") {
  for (const double decay : {1.0, 20.0, 38.0, 50.0, 300.0}) {
    CAPTURE(decay);
    Problem<double> problem(1, 1);
    problem.lambda(0, 0) = -decay;
    problem.delta(0) = 1;
    problem.B(0, 0) = problem.C(0, 0) = 1;
    const auto K = kernel(Kind::zero_order_hold, problem, 2);
    CHECK(K(0, 1) / K(0, 0) == Approx(std::exp(-decay)).epsilon(1e-14));
    Tensor<double, 2> dK({1, 1});
    dK.fill(1);
    // K = 2 (e^{Δλ} − 1)/λ
    CHECK(backward(Kind::zero_order_hold, problem, dK).delta(0) ==
          Approx(2 * std::exp(-decay)).epsilon(1e-14));
  }
}

TEST_CASE("a DSS kernel normalized for a length of its own is a part of the one of that length") {
  const Problem<double> problem(2, 8);
  const auto longer = kernel(Kind::dss, problem, 500);
  Tensor<double, 2> got({2, 77}), head({2, 77});
  DiagonalKernelScratch<double> scratch;
  dss_kernel(cpu, problem.inputs(), {500}, {got}, scratch);
  for (Index c = 0; c < 2; ++c)
    for (Index l = 0; l < 77; ++l) head(c, l) = longer(c, l);
  CHECK(relative_error(got, head) <= 1e-13);
  CHECK_THROWS_WITH(dss_kernel(cpu, problem.inputs(), {-1}, {got}, scratch),
                    "dss_kernel: length is -1, expected at least 0");
}

TEST_CASE("the diagonal kernels refuse memory that they would spoil") {
  Problem<double> p(2, 3);
  DiagonalKernelScratch<double> scratch;
  Tensor<double, 2> K({2, 9});
  CHECK_THROWS_WITH(s4d_kernel(cpu, {{}, p.delta, {}, p.C}, {}, {K}, scratch),
                    "s4d_kernel: lambda is absent, expected (channels, state/2)");
  CHECK_THROWS_WITH(s4d_kernel(cpu, p.inputs(), {}, {}, scratch),
                    "s4d_kernel: kernel is absent, expected (channels, length)");
  CHECK_THROWS_WITH(
      s4d_kernel(cpu, p.inputs(), {}, {View<double, 2>(K.data(), {2, 9}, {0, 1})}, scratch),
      "s4d_kernel: kernel is strided as (0, 1), expected no stride of 0 in what is written");
  CHECK_THROWS_WITH(s4d_kernel_backward(cpu, p.inputs(), {}, {K}, {p.lambda}, scratch),
                    "s4d_kernel_backward: gradient of lambda is in the memory of lambda, expected "
                    "memory of its own");
  Stream<double> stream(1, 4, 2, 3);
  CHECK_THROWS_WITH(
      s4d_pass_state(cpu, {p.inputs(), stream.u, stream.state}, {}, {stream.u}, scratch),
      "s4d_pass_state: y is in the memory of u, expected memory of its own");
  CHECK_THROWS_WITH(
      s4d_pass_state(cpu, {p.inputs(), stream.u}, {Discretization::tustin}, {}, scratch),
      "s4d_pass_state: method is one that changes C and D, expected zero_order_hold or bilinear");
}

TEST_CASE("the gradients of the diagonal kernels and of a state passed on hold in float") {
  for (const Kind kind : kinds)
    for (const Index length : {1, 77, 701}) {
      const Problem<float> narrow(2, 8, 0.05);
      const auto gradients_of = [&]<class T>(T) {
        Problem<T> p(2, 8);
        const auto same = [](const auto& from, auto& to) {
          std::copy(from.begin(), from.end(), to.begin());
        };
        same(narrow.lambda, p.lambda);
        same(narrow.B, p.B);
        same(narrow.C, p.C);
        same(narrow.delta, p.delta);
        ssm::test::Results results;
        const auto add = [&](const std::string& of, const Gradients<T>& g) {
          ssm::test::add_result(results, of + " lambda", g.lambda);
          ssm::test::add_result(results, of + " B", g.B);
          ssm::test::add_result(results, of + " C", g.C);
          ssm::test::add_result(results, of + " delta", g.delta);
        };
        add("kernel",
            backward(kind, p, ssm::test::float_normal<T>(9, std::array<Index, 2>{2, length})));
        if (kind == Kind::dss) return results;
        const std::array<Index, 3> extents{2, length, 2}, states{2, 2, 8};
        const auto u = ssm::test::float_normal<T>(10, extents),
                   dy = ssm::test::float_normal<T>(11, extents);
        const auto h = ssm::test::float_normal<std::complex<T>>(12, states),
                   dh = ssm::test::float_normal<std::complex<T>>(13, states);
        Gradients<T> g{p.lambda, p.B, p.C, p.delta};
        for (auto* tensor : {&g.lambda, &g.B, &g.C}) tensor->fill(T(0));
        g.delta.fill(T(0));
        Tensor<T, 3> du(extents);
        Tensor<std::complex<T>, 3> dinitial(states);
        DiagonalKernelScratch<T> scratch;
        s4d_pass_state_backward(cpu(1), {p.inputs(), u, h}, {method_of(kind)}, {dy, dh},
                                {{g.lambda, g.delta, g.B, g.C}, du, dinitial}, scratch);
        add("state", g);
        ssm::test::add_result(results, "u", du);
        ssm::test::add_result(results, "initial state", dinitial);
        return results;
      };
      const auto [error, where] =
          ssm::test::largest_error(gradients_of(float()), gradients_of(double()));
      CAPTURE(where, static_cast<int>(kind), length);
      CHECK(error < 8 * static_cast<double>(std::numeric_limits<float>::epsilon()));
    }
}

}  // namespace s4d_kernel_test
