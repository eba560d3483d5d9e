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
#include "support/finite_difference.hpp"
#include "support/precision.hpp"
#include "support/random.hpp"

using namespace ssm;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

namespace {

using Complex = std::complex<double>;

template <class T>
struct Problem {
  Tensor<std::complex<T>, 2> lambda, B, C;
  Tensor<T, 1> delta;

  Problem(Index channels, Index modes, double step = 0.02, std::uint64_t seed = 1) {
    Random random(seed);
    const std::array shape{channels, modes};
    lambda = random.normal<std::complex<T>>(shape);
    for (Index c = 0; c < channels; ++c)
      for (Index n = 0; n < modes; ++n)
        lambda(c, n) = {static_cast<T>(-random.uniform(0.05, 1)),
                        static_cast<T>(3.14 * static_cast<double>(n))};
    B = random.normal<std::complex<T>>(shape);
    C = random.normal<std::complex<T>>(shape);
    delta.resize({channels});
    for (T& d : delta) d = static_cast<T>(step * random.uniform(0.5, 2));
  }
  [[nodiscard]] DiagonalKernelInputs<T> inputs() const { return {lambda, delta, B, C}; }
};

/// Which kernel: S4D by a method, or DSS.
enum class Kind { zero_order_hold, bilinear, dss };
constexpr Kind kinds[]{Kind::zero_order_hold, Kind::bilinear, Kind::dss};

Discretization method_of(Kind kind) {
  return kind == Kind::bilinear ? Discretization::bilinear : Discretization::zero_order_hold;
}

template <class T>
Tensor<T, 2> kernel(Kind kind, const Problem<T>& problem, Index length, int threads = 1) {
  Tensor<T, 2> K({problem.lambda.extent(0), length});
  DiagonalKernelScratch<T> scratch;
  if (kind == Kind::dss)
    dss_kernel(cpu(threads), problem.inputs(), {}, {K}, scratch);
  else
    s4d_kernel(cpu(threads), problem.inputs(), {method_of(kind)}, {K}, scratch);
  return K;
}

/// The impulse response of h_l = A_bar h_{l−1} + B_bar u_l, y = 2 Re(C h), step by step; for DSS
/// divided by the sum of the powers.
template <class T>
Tensor<double, 2> impulse_response(Kind kind, const Problem<T>& p, Index length) {
  const Index channels = p.lambda.extent(0), modes = p.lambda.extent(1);
  Tensor<double, 2> K({channels, length});
  for (Index c = 0; c < channels; ++c)
    for (Index n = 0; n < modes; ++n) {
      const Complex lambda(p.lambda(c, n)), B(p.B(c, n)), C(p.C(c, n));
      const auto mode = discretize(method_of(kind), lambda, static_cast<double>(p.delta(c)));
      Complex h = mode.b_bar_factor * B, sum = 0;
      for (Index l = 0; l < length; ++l)
        sum += std::exp(static_cast<double>(l) * static_cast<double>(p.delta(c)) * lambda);
      if (kind == Kind::dss) h = B / lambda / sum;
      for (Index l = 0; l < length; ++l, h *= mode.a_bar) K(c, l) += 2 * (C * h).real();
    }
  return K;
}

template <class T>
struct Gradients {
  Tensor<std::complex<T>, 2> lambda, B, C;
  Tensor<T, 1> delta;
};

template <class T>
Gradients<T> backward(Kind kind, const Problem<T>& p, const Tensor<T, 2>& dK, int threads = 1) {
  Gradients<T> out{p.lambda, p.B, p.C, p.delta};
  DiagonalKernelScratch<T> scratch;
  const DiagonalKernelInputGradients<T> gradients{out.lambda, out.delta, out.B, out.C};
  if (kind == Kind::dss)
    dss_kernel_backward(cpu(threads), p.inputs(), {}, {dK}, gradients, scratch);
  else
    s4d_kernel_backward(cpu(threads), p.inputs(), {method_of(kind)}, {dK}, gradients, scratch);
  return out;
}

}  // namespace

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

namespace {

/// Sequences, and the state that they start from.
template <class T>
struct Stream {
  Tensor<T, 3> u;
  Tensor<std::complex<T>, 3> state;

  Stream(Index batch, Index length, Index channels, Index modes) {
    Random random(7);
    u = random.normal<T>(std::array{batch, length, channels});
    state = random.normal<std::complex<T>>(std::array{batch, channels, modes});
  }
};

/// y and the final state of a stream in the convolutional form.
template <class T>
Stream<T> convolve(Kind kind, const Problem<T>& p, const Stream<T>& in) {
  const Index length = in.u.extent(1);
  Stream<T> out = in;
  const auto K = length > 0 ? kernel(kind, p, length) : Tensor<T, 2>({p.lambda.extent(0), 1});
  LongConvScratch<T> conv;
  long_conv(cpu, {in.u, K}, {}, {out.u}, conv);
  DiagonalKernelScratch<T> scratch;
  s4d_pass_state(cpu, {p.inputs(), in.u, in.state}, {method_of(kind)}, {out.u, out.state}, scratch);
  return out;
}

}  // namespace

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
      worst = std::max(worst, static_cast<double>(error));
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
