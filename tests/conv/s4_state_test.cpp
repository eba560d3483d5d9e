#include "ssm/conv/s4_state.hpp"

#include <algorithm>
#include <array>
#include <complex>
#include <limits>

#include "ssm/conv/s4_truncate.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

namespace s4_state_test {

using namespace ssm;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

namespace {

using Complex = std::complex<double>;
using Vector = Eigen::VectorXcd;
constexpr Index channels = 2, modes = 3, truncated = 40;

/// Two channels, a stream through them, and what comes out of it or is the gradient of it.
struct Case {
  Tensor<Complex, 2> lambda, B, C;
  Tensor<Complex, 3> P;
  Tensor<double, 1> delta;
  Tensor<double, 3> u;
  Tensor<Complex, 3> state;

  Case(Index rank, Index batch, Index length, Index states, std::uint64_t seed = 1) {
    Random random(seed);
    const std::array<Index, 2> shape{channels, modes};
    lambda = B = C = random.normal<Complex>(shape);
    for (Index c = 0; c < channels; ++c)
      for (Index n = 0; n < modes; ++n)
        lambda(c, n) = {-random.uniform(0.1, 1), 3.0 * static_cast<double>(n)};
    B = random.normal<Complex>(shape);
    C = random.normal<Complex>(shape);
    P = random.normal<Complex>(std::array<Index, 3>{channels, modes, rank});
    delta.resize({channels});
    for (double& d : delta) d = random.uniform(0.2, 0.4);
    u = random.normal<double>(std::array<Index, 3>{batch, length, channels});
    state = random.normal<Complex>(std::array<Index, 3>{states, channels, modes});
  }
  [[nodiscard]] S4KernelInputs<double> model() const { return {lambda, P, B, C, delta}; }
  [[nodiscard]] S4KernelInputGradients<double> gradients() { return {lambda, P, B, C, delta}; }
};

/// One case's sequence in the order of time, with its state.
Case sequence_of(const Case& from, const View<const Index, 1>& offsets, Index s, bool reversed) {
  Case result = from;
  const Index begin = offsets(s), length = offsets(s + 1) - begin;
  result.u.resize({1, length, channels});
  result.state.resize({1, channels, modes});
  for (Index t = 0; t < length; ++t)
    for (Index c = 0; c < channels; ++c)
      result.u(0, t, c) = from.u(0, reversed ? begin + length - 1 - t : begin + t, c);
  for (Index i = 0; i < channels * modes; ++i)
    result.state.data()[i] = from.state.data()[s * channels * modes + i];
  return result;
}

/// y, which begins at zero, and the final state.
Case pass(const Case& in, const Sequences<>& sequences = {}, int threads = 1) {
  Case out = in;
  out.u.fill(0);
  S4StateScratch<double> scratch;
  s4_pass_state(cpu(threads), {in.model(), in.u, in.state, sequences}, {truncated},
                {out.u, out.state}, scratch);
  return out;
}

/// Every gradient, from those of u and the state of `d`.
Case backward(const Case& in, const Case& d, const Sequences<>& sequences = {}, int threads = 1) {
  Case out = in;
  out.u.fill(0);
  S4StateScratch<double> scratch;
  s4_pass_state_backward(cpu(threads), {in.model(), in.u, in.state, sequences}, {truncated},
                         {d.u, d.state}, {out.gradients(), out.u, out.state}, scratch);
  return out;
}

}  // namespace

TEST_CASE("what an S4 state does to y, and its end, are those of the recurrence") {
  for (const Index rank : {0, 1, 2})
    for (const Index length : {0, 1, 2, 63, 200}) {
      CAPTURE(rank, length);
      const Case in(rank, 3, length, 3);
      Case want = in;
      for (Index c = 0; c < channels; ++c) {
        Vector lambda(modes), B(modes), C(modes);
        Eigen::MatrixXcd P(modes, rank);
        for (Index n = 0; n < modes; ++n) {
          lambda(n) = in.lambda(c, n);
          B(n) = in.B(c, n);
          C(n) = in.C(c, n);
          for (Index a = 0; a < rank; ++a) P(n, a) = in.P(c, n, a);
        }
        const DplrStep<double> step(lambda, P, B, in.delta(c));
        C = s4_untruncate(step, C, truncated);
        for (Index b = 0; b < 3; ++b) {
          Vector free(modes), driven(modes);
          for (Index n = 0; n < modes; ++n) driven(n) = free(n) = in.state(b, c, n);
          for (Index t = 0; t < length; ++t) {
            step(0, free.data());
            step(in.u(b, t, c), driven.data());
            want.u(b, t, c) = 2 * (C.array() * free.array()).sum().real();
          }
          for (Index n = 0; n < modes; ++n) want.state(b, c, n) = driven(n);
        }
      }
      const Case got = pass(in);
      CHECK(relative_error(got.u, want.u) <= 1e-12);
      CHECK(relative_error(got.state, want.state) <= 1e-12);
    }
}

TEST_CASE("the gradients of an S4 state passed on are its finite differences, packed ones too") {
  Tensor<Index, 1> offsets({5});
  std::copy_n(std::array<Index, 5>{0, 2, 2, 3, 9}.data(), 5, offsets.data());
  for (const Index rank : {0, 2})
    for (const bool packed : {false, true}) {
      CAPTURE(rank, packed);
      Case in(rank, packed ? 1 : 2, packed ? 9 : 6, packed ? 4 : 2);
      const Case d(rank, packed ? 1 : 2, packed ? 9 : 6, packed ? 4 : 2, 7);
      Sequences<> sequences{{}, packed};
      if (packed) sequences.offsets = offsets;
      const Case gradient = backward(in, d, sequences);
      const auto loss = [&] {
        const Case out = pass(in, sequences);
        double sum = ssm::test::dot(out.u, d.u);
        for (Index i = 0; i < out.state.size(); ++i)
          sum += (std::conj(d.state.data()[i]) * out.state.data()[i]).real();
        return sum;
      };
      const auto check = [&](auto& at, const auto& slope) {
        CHECK(ssm::test::gradient_error(loss, at, slope) <= 1e-7);
      };
      check(in.lambda, gradient.lambda);
      check(in.P, gradient.P);
      check(in.B, gradient.B);
      check(in.C, gradient.C);
      check(in.delta, gradient.delta);
      check(in.state, gradient.state);
      check(in.u, gradient.u);
    }
}

TEST_CASE("the S4 states of packed sequences, either way in time, are passed on as one by one") {
  Tensor<Index, 1> offsets({6});
  std::copy_n(std::array<Index, 6>{0, 1, 1, 150, 155, 300}.data(), 6, offsets.data());
  for (const bool reversed : {false, true}) {
    const Case in(1, 1, 300, 5), d(1, 1, 300, 5, 9);
    const Sequences<> sequences{offsets, reversed};
    const Case got = pass(in, sequences), gradient = backward(in, d, sequences);
    CHECK(same_bits(got.state, pass(in, sequences, 2).state));
    CHECK(same_bits(gradient.P, backward(in, d, sequences, 2).P));
    Case sum = in;
    for (auto* tensor : {&sum.lambda, &sum.B, &sum.C}) tensor->fill(0.0);
    sum.P.fill(0.0);
    sum.delta.fill(0);
    for (Index s = 0; s < 5; ++s) {
      CAPTURE(reversed, s);
      const Case one = sequence_of(in, offsets, s, reversed);
      const Case want = pass(one);
      const Case slope = backward(one, sequence_of(d, offsets, s, reversed));
      CHECK(relative_error(sequence_of(got, offsets, s, reversed).u, want.u) <= 1e-13);
      CHECK(relative_error(sequence_of(got, offsets, s, reversed).state, want.state) <= 1e-13);
      CHECK(relative_error(sequence_of(gradient, offsets, s, reversed).u, slope.u) <= 1e-12);
      CHECK(relative_error(sequence_of(gradient, offsets, s, reversed).state, slope.state) <=
            1e-12);
      const auto add = [](const auto& from, auto& to) {
        for (Index i = 0; i < to.size(); ++i) to.data()[i] += from.data()[i];
      };
      add(slope.lambda, sum.lambda);
      add(slope.B, sum.B);
      add(slope.C, sum.C);
      add(slope.P, sum.P);
      add(slope.delta, sum.delta);
    }
    CHECK(relative_error(gradient.lambda, sum.lambda) <= 1e-11);
    CHECK(relative_error(gradient.B, sum.B) <= 1e-11);
    CHECK(relative_error(gradient.C, sum.C) <= 1e-11);
    CHECK(relative_error(gradient.P, sum.P) <= 1e-11);
    CHECK(relative_error(gradient.delta, sum.delta) <= 1e-11);
  }
}

TEST_CASE("S4 states take the place of those before them, and need memory on the first call only") {
  const Case in(1, 2, 100, 2), d(1, 2, 100, 2, 9);
  const Case want = pass(in), slope = backward(in, d);
  Case out = in, gradient = d, slopes = in;
  S4StateScratch<double> scratch;
  const auto both = [&] {
    out.state = in.state;
    gradient.state = d.state;
    out.u.fill(0);
    slopes.u.fill(0);
    s4_pass_state(cpu(1), {in.model(), in.u, out.state}, {truncated}, {out.u, out.state}, scratch);
    s4_pass_state_backward(cpu(1), {in.model(), in.u, in.state}, {truncated}, {d.u, gradient.state},
                           {slopes.gradients(), slopes.u, gradient.state}, scratch);
  };
  CHECK(ssm::test::allocations_of(both) > 0);
  CHECK(ssm::test::allocations_of(both) == 0);
  CHECK(same_bits(out.u, want.u));
  CHECK(same_bits(out.state, want.state));
  CHECK(same_bits(gradient.state, slope.state));
  CHECK(same_bits(slopes.P, slope.P));
}

TEST_CASE("s4_pass_state names the argument that does not fit, and memory that it would spoil") {
  Case in(1, 2, 10, 2);
  S4StateScratch<double> scratch;
  Tensor<double, 3> y(in.u.extents());
  CHECK_THROWS_WITH(s4_pass_state(cpu, {in.model(), in.u, in.state}, {}, {y}, scratch),
                    "s4_pass_state: length is 0, expected at least 1");
  CHECK_THROWS_WITH(s4_pass_state(cpu, {in.model(), {}, in.state}, {9}, {y}, scratch),
                    "s4_pass_state: u is absent, expected (batch, length, channels)");
  CHECK_THROWS_WITH(s4_pass_state(cpu, {in.model(), in.u, in.state}, {9}, {in.u}, scratch),
                    "s4_pass_state: y is in the memory of u, expected memory of its own");
  CHECK_THROWS_WITH(
      s4_pass_state_backward(cpu, {in.model(), in.u, in.state}, {9}, {y}, {{{}, in.P}}, scratch),
      "s4_pass_state_backward: gradient of P is in the memory of P, expected memory of its own");
}

}  // namespace s4_state_test
