#include "ssm/scan/dplr_scan.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include "ssm/discretize/dplr_step.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;
using test::relative_error;
using test::same_bits;

namespace {

struct Shape {
  Index batch, length, channels, modes, rank;
};

template <class T>
struct Case {
  using K = std::complex<T>;
  Tensor<T, 3> u, y, dy, du;
  Tensor<K, 2> lambda, B, C, dlambda, dB, dC;
  Tensor<K, 3> P, dP, initial, final, dinitial, dfinal;
  Tensor<T, 1> D, delta, dD, ddelta;
  Tensor<Index, 1> offsets;  // of packed sequences, where it has elements
  DplrScanScratch<T> scratch;

  Case(const Shape& s, std::uint64_t seed, Index sequences = -1) {
    Random random(seed);
    const Index states = sequences < 0 ? s.batch : sequences;
    u = random.normal<T, 3>({s.batch, s.length, s.channels});
    dy = random.normal<T, 3>(u.extents());
    lambda = random.normal<K, 2>({s.channels, s.modes}, 4);
    for (K& l : lambda) l = {-std::abs(l.real()) / 8 - T(0.05), l.imag()};
    P = random.normal<K, 3>({s.channels, s.modes, s.rank}, 0.7);
    B = random.normal<K, 2>({s.channels, s.modes});
    C = random.normal<K, 2>({s.channels, s.modes});
    D = random.normal<T, 1>({s.channels});
    delta = random.normal<T, 1>({s.channels});
    for (T& step : delta) step = T(0.02) + std::abs(step) / 10;
    initial = random.normal<K, 3>({states, s.channels, s.modes});
    dfinal = random.normal<K, 3>(initial.extents());
    y = du = u;
    final = dinitial = initial;
    dlambda = dB = dC = lambda;
    dP = P;
    dD = ddelta = D;
  }
  [[nodiscard]] DplrScanInputs<T> inputs(bool reversed = false) const {
    return {
        u,     lambda,  P,
        delta, B,       C,
        D,     initial, {offsets.size() > 0 ? offsets.view() : View<const Index, 1>(), reversed}};
  }
  void run(int threads = 1, bool reversed = false) {
    dplr_scan(cpu(threads), inputs(reversed), {}, {y, final}, scratch);
  }
  void run_backward(int threads = 1, bool reversed = false) {
    dplr_scan_backward(cpu(threads), inputs(reversed), {}, {dy, dfinal},
                       {du, dlambda, dP, ddelta, dB, dC, dD, dinitial}, scratch);
  }
};

/// The formula, step by step in double, into y and final.
template <class T>
void run_steps(const Case<T>& c, Tensor<double, 3>& y, Tensor<std::complex<double>, 3>& final) {
  using Step = DplrStep<double>;
  y.resize(c.u.extents());
  final.resize(c.initial.extents());
  const Index modes = c.lambda.extent(1), rank = c.P.extent(2);
  Step::Vector lambda(modes), B(modes), C(modes), h(modes);
  Step::Matrix P(modes, rank);
  for (Index n = 0; n < c.u.extent(2); ++n) {
    for (Index k = 0; k < modes; ++k) {
      lambda(k) = std::complex<double>(c.lambda(n, k));
      B(k) = std::complex<double>(c.B(n, k));
      C(k) = std::complex<double>(c.C(n, k));
      for (Index a = 0; a < rank; ++a) P(k, a) = std::complex<double>(c.P(n, k, a));
    }
    const Step step(lambda, P, B, static_cast<double>(c.delta(n)));
    for (Index b = 0; b < c.u.extent(0); ++b) {
      for (Index k = 0; k < modes; ++k) h(k) = std::complex<double>(c.initial(b, n, k));
      for (Index t = 0; t < c.u.extent(1); ++t) {
        const auto u = static_cast<double>(c.u(b, t, n));
        step(u, h.data());
        double sum = static_cast<double>(c.D(n)) * u;
        for (Index k = 0; k < modes; ++k) sum += 2 * (C(k) * h(k)).real();
        y(b, t, n) = sum;
      }
      for (Index k = 0; k < modes; ++k) final(b, n, k) = h(k);
    }
  }
}

/// The rounding of `length` steps, in units of the largest value.
template <class T>
double tolerance(Index length) {
  return 32 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
         static_cast<double>(length + 1);
}

std::vector<Shape> shapes() {
  std::vector<Shape> all{{1, 0, 3, 2, 1},   {2, 1, 17, 4, 1},  {0, 5, 3, 2, 1},
                         {2, 5, 0, 2, 1},   {1, 40, 2, 0, 0},  {1, 300, 16, 32, 1},
                         {1, 64, 16, 3, 2}, {2, 129, 1, 5, 0}, {1, 9, 2, 9, 18}};
  Random random(1);
  for (int i = 0; i < 10; ++i)
    all.push_back({random.integer(1, 3), random.integer(0, 200), random.integer(1, 35),
                   random.integer(1, 20), random.integer(0, 3)});
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("the scan of S4's systems is their recurrence, for any shape and rank", "",
                   float, double) {
  std::uint64_t seed = 2;
  for (const Shape& s : shapes()) {
    CAPTURE(s.batch, s.length, s.channels, s.modes, s.rank);
    Case<TestType> c(s, seed++);
    c.run(2);
    if (s.rank > 16) continue;
    Tensor<double, 3> y;
    Tensor<std::complex<double>, 3> final;
    run_steps(c, y, final);
    CHECK(relative_error(c.y, y, 1) <= tolerance<TestType>(s.length));
    CHECK(relative_error(c.final, final, 1) <= tolerance<TestType>(s.length));
  }
}

TEST_CASE("the gradients of the scan of S4's systems are those of finite differences") {
  for (const Shape& s : {Shape{2, 1, 2, 2, 1}, Shape{1, 7, 3, 2, 0}, Shape{2, 70, 2, 2, 1},
                         Shape{1, 20, 2, 3, 2}, Shape{1, 9, 1, 2, 5}, Shape{1, 0, 2, 2, 1}})
    for (const bool reversed : {false, true}) {
      CAPTURE(s.batch, s.length, s.channels, s.modes, s.rank, reversed);
      Case<double> c(s, 30);
      c.run(1, reversed);
      c.run_backward(1, reversed);
      const auto loss = [&] {
        Case<double> moved = c;
        moved.run(1, reversed);
        double sum = test::dot(moved.y, c.dy);
        for (Index i = 0; i < c.final.size(); ++i)
          sum += (std::conj(c.dfinal.data()[i]) * moved.final.data()[i]).real();
        return sum;
      };
      const double bound = 2e-8;
      CHECK(test::gradient_error(loss, c.u, c.du) < bound);
      CHECK(test::gradient_error(loss, c.lambda, c.dlambda) < bound);
      CHECK(test::gradient_error(loss, c.P, c.dP) < bound);
      CHECK(test::gradient_error(loss, c.delta, c.ddelta) < 50 * bound);  // Δ is near its step
      CHECK(test::gradient_error(loss, c.B, c.dB) < bound);
      CHECK(test::gradient_error(loss, c.C, c.dC) < bound);
      CHECK(test::gradient_error(loss, c.D, c.dD) < bound);
      CHECK(test::gradient_error(loss, c.initial, c.dinitial) < bound);
    }
}

TEST_CASE("float gradients of the scan of S4's systems are those of double") {
  for (const Shape& s : {Shape{2, 333, 18, 16, 1}, Shape{1, 100, 3, 8, 2}}) {
    Case<float> narrow(s, 40);
    Case<double> wide(s, 40);
    narrow.run();
    narrow.run_backward();
    wide.run();
    wide.run_backward();
    const double bound = tolerance<float>(s.length);
    CHECK(relative_error(narrow.du, wide.du) < bound);
    CHECK(relative_error(narrow.dlambda, wide.dlambda) < bound);
    CHECK(relative_error(narrow.dP, wide.dP) < bound);
    CHECK(relative_error(narrow.ddelta, wide.ddelta) < bound);
    CHECK(relative_error(narrow.dB, wide.dB) < bound);
    CHECK(relative_error(narrow.dC, wide.dC) < bound);
    CHECK(relative_error(narrow.dD, wide.dD) < bound);
    CHECK(relative_error(narrow.dinitial, wide.dinitial) < bound);
  }
}

TEST_CASE("packed sequences of S4's systems are as each alone, forward in time and back") {
  const std::array<Index, 6> ends{0, 70, 70, 71, 200, 263};
  for (const bool reversed : {false, true}) {
    Case<double> packed({1, 263, 5, 4, 1}, 50, 5);
    packed.offsets.resize({6});
    std::copy(ends.begin(), ends.end(), packed.offsets.begin());
    packed.run(2, reversed);
    packed.run_backward(2, reversed);
    Tensor<std::complex<double>, 2> dlambda(packed.lambda.extents());
    for (Index s = 0; s < 5; ++s) {
      const Index begin = ends[static_cast<std::size_t>(s)],
                  count = ends[static_cast<std::size_t>(s) + 1] - begin;
      Case<double> one = packed;
      one.offsets.resize({0});
      auto in = one.inputs(reversed);
      in.u = in.u.slice(1, begin, count);
      in.initial_state = in.initial_state.slice(0, s, 1);
      Tensor<double, 3> y({1, count, 5}), du(y.extents());
      Tensor<std::complex<double>, 3> final({1, 5, 4}), dinitial(final.extents());
      dplr_scan(cpu(1), in, {}, {y, final}, one.scratch);
      dplr_scan_backward(cpu(1), in, {},
                         {one.dy.view().slice(1, begin, count), one.dfinal.view().slice(0, s, 1)},
                         {.u = du, .lambda = one.dlambda, .initial_state = dinitial}, one.scratch);
      for (Index i = 0; i < dlambda.size(); ++i) dlambda.data()[i] += one.dlambda.data()[i];
      for (Index c = 0; c < 5; ++c) {
        for (Index t = 0; t < count; ++t) {
          CHECK(packed.y(0, begin + t, c) == y(0, t, c));
          CHECK(packed.du(0, begin + t, c) == du(0, t, c));
        }
        for (Index n = 0; n < 4; ++n) {
          CHECK(packed.final(s, c, n) == final(0, c, n));
          CHECK(packed.dinitial(s, c, n) == dinitial(0, c, n));
        }
      }
    }
    CHECK(relative_error(packed.dlambda, dlambda) < 1e-13);
  }
}

TEST_CASE("the scan of S4's systems, split anywhere and resumed, computes the same") {
  for (const Index cut : {0, 1, 63, 64, 65, 99, 100}) {
    Case<double> whole({2, 100, 3, 4, 1}, 60);
    whole.run();
    Case<double> parts = whole;
    auto in = parts.inputs();
    in.u = in.u.slice(1, 0, cut);
    const View<double, 3> y = parts.y;
    dplr_scan(cpu(1), in, {.keep = false}, {y.slice(1, 0, cut), parts.final}, parts.scratch);
    in = parts.inputs();
    in.u = in.u.slice(1, cut, 100 - cut);
    in.initial_state = parts.final;
    dplr_scan(cpu(1), in, {.keep = false}, {y.slice(1, cut, 100 - cut), parts.final},
              parts.scratch);
    CHECK(relative_error(parts.y, whole.y) < 1e-14);
    CHECK(relative_error(parts.final, whole.final) < 1e-14);
  }
}

TEST_CASE("the bits of the scan of S4's systems are those of one thread") {
  for (const Shape& s : {Shape{7, 50, 5, 4, 1}, Shape{3, 130, 70, 3, 2}}) {
    Case<float> one(s, 70), many(s, 70);
    one.run(1);
    one.run_backward(1);
    many.run(3);
    many.run_backward(3);
    CHECK(same_bits(many.y, one.y));
    CHECK(same_bits(many.final, one.final));
    CHECK(same_bits(many.du, one.du));
    CHECK(same_bits(many.dlambda, one.dlambda));
    CHECK(same_bits(many.dP, one.dP));
    CHECK(same_bits(many.ddelta, one.ddelta));
    CHECK(same_bits(many.dinitial, one.dinitial));
  }
}

TEST_CASE("the scan of S4's systems takes any strides, absent terms, and its input's memory") {
  Case<double> c({2, 70, 5, 3, 0}, 80);
  auto in = c.inputs();
  in.D = {};
  in.initial_state = {};
  in.P = {};
  c.D.fill(0);
  c.initial.fill(0);
  c.run();
  Tensor<double, 3> strided({5, 2, 70});
  const View<double, 3> view(strided.data(), {2, 70, 5}, {70, 1, 140});
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 70; ++t)
      for (Index n = 0; n < 5; ++n) view(b, t, n) = c.u(b, t, n);
  in.u = view;
  dplr_scan(cpu(1), in, {.keep = false}, {view, {}}, c.scratch);
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 70; ++t)
      for (Index n = 0; n < 5; ++n) CHECK(view(b, t, n) == c.y(b, t, n));
}

TEST_CASE("a NaN among the inputs of S4's systems stays in its channel, sequence and time") {
  Case<double> clean({2, 90, 18, 3, 1}, 90), dirty = clean;
  clean.run();
  dirty.u(1, 40, 17) = std::numeric_limits<double>::quiet_NaN();
  dirty.run();
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 90; ++t)
      for (Index n = 0; n < 18; ++n)
        if (b == 1 && n == 17 && t >= 40)
          CHECK(std::isnan(dirty.y(b, t, n)));
        else
          CHECK(dirty.y(b, t, n) == clean.y(b, t, n));
}

TEST_CASE("the scan of S4's systems refuses what it cannot do in words") {
  Case<double> c({1, 6, 2, 3, 1}, 95);
  c.delta(1) = 0;
  CHECK_THROWS_WITH(c.run(), "dplr_scan: delta[1] is 0, expected positive and finite");
  c.delta(1) = 1;
  auto in = c.inputs();
  in.B = {};
  CHECK_THROWS_WITH(dplr_scan(cpu(1), in, {}, {c.y, {}}, c.scratch),
                    "dplr_scan: B is absent, expected (2, 3)");
  in = c.inputs();
  CHECK_THROWS_AS(dplr_scan(cpu(1), in, {}, {c.y, c.dfinal.view().slice(2, 0, 2)}, c.scratch),
                  ShapeError);
  dplr_scan(cpu(1), in, {.keep = false}, {c.y, {}}, c.scratch);
  CHECK_THROWS_AS(c.run_backward(), ShapeError);
  CHECK_THROWS_WITH(dplr_scan(cpu(1), in, {}, {c.u, {}}, c.scratch),
                    "dplr_scan: y is in the memory of u, expected memory of its own");
  c.run(1, true);
  CHECK_THROWS_AS(c.run_backward(1, false), ShapeError);
}

TEST_CASE("the scan of S4's systems of no channels has nothing to do, forward and backward") {
  for (const Index batch : {0, 2}) {
    Case<double> c({batch, 5, 0, 2, 1}, 97);
    c.run();
    c.run_backward();
    CHECK(c.du.size() == 0);
  }
}

TEST_CASE("the unit of time changes no bit of what S4's systems do") {
  Case<double> c({2, 70, 5, 3, 2}, 98);
  c.run();
  c.run_backward();
  for (const int k : {-264, -7, 1, 264}) {
    INFO("unit 4^" << k << " s");
    Case<double> other({2, 70, 5, 3, 2}, 98);
    const double root = std::ldexp(1.0, k), unit = std::ldexp(1.0, 2 * k);
    for (double& x : other.delta) x *= unit;
    for (auto& x : other.lambda) x /= unit;
    for (auto& x : other.P) x /= root;
    for (auto& x : other.B) x /= unit;
    other.run();
    other.run_backward();
    CHECK(same_bits(other.y, c.y));
    CHECK(same_bits(other.du, c.du));
    CHECK(same_bits(other.dC, c.dC));
    for (double& x : other.ddelta) x *= unit;
    CHECK(same_bits(other.ddelta, c.ddelta));
  }
}

TEST_CASE("a step of time that is no normal number is a step all the same") {
  Case<double> c({1, 3, 2, 2, 1}, 99);
  c.delta.fill(1e-310);
  c.run();
  for (Index t = 0; t < 3; ++t)
    for (Index n = 0; n < 2; ++n) {
      double want = c.D(n) * c.u(0, t, n);  // the state has not moved
      for (Index k = 0; k < 2; ++k) want += 2 * (c.C(n, k) * c.initial(0, n, k)).real();
      CHECK(std::abs(c.y(0, t, n) - want) <= 1e-13);
    }
}

TEST_CASE("small pivots beside a large low-rank part cost S4's systems no digits") {
  Case<double> c({1, 5, 1, 1, 2}, 100);
  const auto error = [&] {
    Tensor<double, 3> y;
    Tensor<std::complex<double>, 3> final;
    run_steps(c, y, final);
    c.run();
    return relative_error(c.y, y);
  };
  c.initial.fill({0, 0});
  c.D.fill(0);
  c.delta(0) = 1;
  c.lambda(0, 0) = {2.5, 0};  // not stable: the first pivot is 0
  c.P(0, 0, 0) = {0.5, 0};
  c.P(0, 0, 1) = {1, 1};
  CHECK(error() <= tolerance<double>(5));
  c.lambda(0, 0) = {-0.5, 1e6};  // P* W P is 1e4 next to 1 on the diagonal, 1e6 in the skew part
  c.P(0, 0, 0) = {1e6, 0};
  c.P(0, 0, 1) = {0, 1e6};
  CHECK(error() <= 1e-8);
}
