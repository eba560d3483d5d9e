#include "ssm/scan/diagonal_scan.hpp"

#include <array>
#include <complex>
#include <limits>
#include <string>
#include <vector>

#include "ssm/scan/diagonal_recurrence.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

namespace diagonal_scan_test {

using ssm::cpu;
using ssm::Discretization;
using ssm::Index;
using ssm::Tensor;
using ssm::View;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

namespace {

constexpr Discretization methods[] = {Discretization::zero_order_hold, Discretization::bilinear,
                                      Discretization::forward_euler,
                                      Discretization::backward_euler};

template <class K>
struct Case {
  using T = ssm::Real<K>;
  Tensor<T, 3> u, y, dy, du;
  Tensor<K, 2> lambda, B, C, dlambda, dB, dC;
  Tensor<T, 1> D, delta, dD, ddelta;
  Tensor<K, 3> initial, final, dinitial, dfinal;
  Tensor<Index, 1> offsets;  // of packed sequences, where it has elements
  ssm::DiagonalScanScratch<T, K> scratch;

  Case(Index batch, Index length, Index channels, Index state, std::uint64_t seed) {
    Random random(seed);
    u = random.normal<T, 3>({batch, length, channels});
    dy = random.normal<T, 3>(u.extents());
    lambda = random.normal<K, 2>({channels, state}, 1);
    for (K& l : lambda) l = l - static_cast<T>(std::abs(std::real(l)) + 0.1 + std::real(l));
    B = random.normal<K, 2>({channels, state});
    C = random.normal<K, 2>({channels, state});
    D = random.normal<T, 1>({channels});
    delta = random.normal<T, 1>({channels});
    for (T& step : delta) step = T(0.02) + std::abs(step) / 10;
    initial = random.normal<K, 3>({batch, channels, state});
    dfinal = random.normal<K, 3>({batch, channels, state});
    y = du = u;
    final = dinitial = initial;
    dlambda = dB = dC = lambda;
    dD = ddelta = D;
  }
  [[nodiscard]] ssm::DiagonalScanInputs<T, K> inputs(bool reversed = false) const {
    return {u,       lambda,
            delta,   B,
            C,       D,
            initial, {offsets.size() > 0 ? offsets.view() : View<const Index, 1>(), reversed}};
  }
  void run(Discretization method, int threads = 1, bool reversed = false) {
    ssm::diagonal_scan(cpu(threads), inputs(reversed), {method}, {y, final}, scratch);
  }
  void run_backward(Discretization method, int threads = 1, bool reversed = false) {
    ssm::diagonal_scan_backward(cpu(threads), inputs(reversed), {method}, {dy, dfinal},
                                {du, dlambda, ddelta, dB, dC, dD, dinitial}, scratch);
  }
};

/// Rounding of ā at each of `length` steps of the plain recurrence, in units of the largest value.
template <class T>
double tolerance(Index length) {
  return 16 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
         static_cast<double>(length + 1);
}

}  // namespace

TEMPLATE_TEST_CASE("the diagonal scan is the recurrence, for any shape and method", "", float,
                   double, std::complex<float>, std::complex<double>) {
  using K = TestType;
  using T = ssm::Real<K>;
  Random random(1);
  std::vector<std::array<Index, 4>> shapes{{1, 0, 3, 2},     {2, 1, 17, 4},  {0, 5, 3, 2},
                                           {2, 5, 0, 2},     {1, 40, 2, 0},  {1, 32, 16, 32},
                                           {1, 2100, 16, 3}, {2, 1024, 1, 5}};
  for (int i = 0; i < 12; ++i)
    shapes.push_back({random.integer(1, 3), random.integer(0, 200), random.integer(1, 35),
                      random.integer(1, 37)});
  std::uint64_t seed = 2;
  for (const auto& [batch, length, channels, state] : shapes)
    for (const bool reversed : {false, true}) {
      const Discretization method = methods[seed % 4];
      Case<K> c(batch, length, channels, state, seed++);
      Tensor<T, 3> u = c.u, y(c.u.extents());
      Tensor<K, 3> final(c.final.extents());
      ssm::DiagonalScanScratch<T, K> scratch;
      auto in = c.inputs();
      View<T, 3> want = y;
      if (reversed) {
        in.u = in.u.reversed(1);
        want = want.reversed(1);
      }
      ssm::recurrence(cpu, in, {method}, {want, final}, scratch);
      c.run(method, 2, reversed);
      CAPTURE(batch, length, channels, state, reversed);
      CHECK(relative_error(c.y, y, 1) <= tolerance<T>(length));
      CHECK(relative_error(c.final, final, 1) <= tolerance<T>(length));
    }
}

TEST_CASE("the diagonal scan takes any strides, absent terms, and its input's memory for y") {
  using K = std::complex<double>;
  Case<K> c(2, 70, 16, 3, 3);
  auto in = c.inputs();
  in.D = {};
  in.initial_state = {};
  c.D.fill(0);
  c.initial.fill(0);
  c.run(Discretization::zero_order_hold);
  const auto want = c.y;
  const auto want_final = c.final;

  Tensor<double, 3> strided({16, 2, 70}), result({16, 2, 70});
  const auto view = [](auto& tensor) {
    return View<double, 3>(tensor.data(), {2, 70, 16}, {70, 1, 140});
  };
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 70; ++t)
      for (Index n = 0; n < 16; ++n) view(strided)(b, t, n) = c.u(b, t, n);
  in.u = view(strided);
  ssm::diagonal_scan(cpu(1), in, {}, {view(result), {}}, c.scratch);
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 70; ++t)
      for (Index n = 0; n < 16; ++n) c.y(b, t, n) = view(result)(b, t, n);
  CHECK(same_bits(c.y, want));

  in.u = c.u;
  ssm::diagonal_scan(cpu(1), in, {}, {c.u, c.initial}, c.scratch);
  CHECK(same_bits(c.u, want));
  CHECK(same_bits(c.initial, want_final));
}

TEMPLATE_TEST_CASE("the diagonal scan may be split anywhere", "", float, std::complex<double>) {
  using K = TestType;
  using T = ssm::Real<K>;
  Case<K> whole(2, 300, 18, 5, 9);
  whole.run(Discretization::bilinear);
  for (const Index cut : {0, 1, 31, 64, 177, 300}) {
    Case<K> c(2, 300, 18, 5, 9);
    auto in = c.inputs();
    const auto part = [&](Index begin, Index count, const View<const K, 3>& initial) {
      in.u = std::as_const(c.u).view().slice(1, begin, count);
      in.initial_state = initial;
      ssm::diagonal_scan(cpu(1), in, {Discretization::bilinear},
                         {c.y.view().slice(1, begin, count), c.final}, c.scratch);
    };
    part(0, cut, c.initial);
    part(cut, 300 - cut, c.final);
    CHECK(relative_error(c.y, whole.y) <= tolerance<T>(8));
    CHECK(relative_error(c.final, whole.final) <= tolerance<T>(8));
  }
}

TEMPLATE_TEST_CASE("the diagonal scan has the gradients of finite differences", "", double,
                   std::complex<double>) {
  using K = TestType;
  std::uint64_t seed = 4;
  for (const Index length : {0, 1, 7, 16, 45, 1050})
    for (const bool reversed : {false, true}) {
      const bool tiled = length == 1050;  // a forward Euler would be unstable for so long
      if (tiled && reversed) continue;
      const Discretization method = tiled ? Discretization::bilinear : methods[seed % 4];
      Case<K> c(2, length, 2, 3, seed++);
      const auto loss = [&] {
        c.run(method, 1, reversed);
        double sum = ssm::test::dot(c.y, c.dy);
        for (Index i = 0; i < c.final.size(); ++i)
          sum += std::real(std::conj(c.dfinal.data()[i]) * c.final.data()[i]);
        return sum;
      };
      c.run_backward(method, 2, reversed);
      const auto check = [&](auto& at, const auto& gradient) {
        using Element = typename std::remove_cvref_t<decltype(at)>::value_type;
        constexpr Index parts = sizeof(Element) / sizeof(double);
        for (Index i = 0; i < at.size(); i += std::max<Index>(1, at.size() / 24)) {
          Tensor<double, 1> x({parts}), slope({parts});
          auto* const element = reinterpret_cast<double*>(at.data() + i);
          const auto* const expected = reinterpret_cast<const double*>(gradient.data() + i);
          std::copy_n(element, parts, x.data());
          std::copy_n(expected, parts, slope.data());
          const auto moved = [&] {
            const std::array<double, 2> before{element[0], element[parts - 1]};
            std::copy_n(x.data(), parts, element);
            const double value = loss();
            element[0] = before[0];
            element[parts - 1] = before[1];
            return value;
          };
          CAPTURE(length, reversed, i);
          CHECK(ssm::test::gradient_error(moved, x, slope, 1.0) < 1e-7);
        }
      };
      check(c.u, c.du);
      check(c.lambda, c.dlambda);
      check(c.B, c.dB);
      check(c.C, c.dC);
      check(c.D, c.dD);
      check(c.delta, c.ddelta);
      check(c.initial, c.dinitial);
    }
}

TEST_CASE("packed sequences give what each gives by itself, empty and reversed ones too") {
  using K = std::complex<double>;
  constexpr Index channels = 5, state = 3, sequences = 6;
  const std::array<Index, sequences + 1> ends{0, 7, 7, 1300, 1332, 1333, 1333};
  const auto method = Discretization::bilinear;
  for (const bool reversed : {false, true}) {
    Case<K> packed(1, ends.back(), channels, state, 31);
    packed.offsets.resize({sequences + 1});
    std::copy(ends.begin(), ends.end(), packed.offsets.begin());
    packed.initial = Random(32).normal<K, 3>({sequences, channels, state});
    packed.dfinal = Random(33).normal<K, 3>(packed.initial.extents());
    packed.final = packed.dinitial = packed.initial;
    packed.run(method, 2, reversed);
    packed.run_backward(method, 2, reversed);

    auto sums = packed;
    for (auto* sum : {&sums.dlambda, &sums.dB, &sums.dC}) sum->fill(0);
    for (auto* sum : {&sums.dD, &sums.ddelta}) sum->fill(0);
    for (Index s = 0; s < sequences; ++s) {
      const Index begin = ends[static_cast<std::size_t>(s)];
      const Index length = ends[static_cast<std::size_t>(s) + 1] - begin;
      const auto cut = [](const auto& whole, auto& part, Index first) {
        std::copy_n(whole.data() + first, part.size(), part.data());
      };
      Case<K> one(1, length, channels, state, 31);
      one.lambda = packed.lambda;
      one.B = packed.B;
      one.C = packed.C;
      one.D = packed.D;
      one.delta = packed.delta;
      cut(packed.u, one.u, begin * channels);
      cut(packed.dy, one.dy, begin * channels);
      cut(packed.initial, one.initial, s * channels * state);
      cut(packed.dfinal, one.dfinal, s * channels * state);
      one.run(method, 1, reversed);
      one.run_backward(method, 1, reversed);
      auto y = one.y, du = one.du;
      auto final = one.final, dinitial = one.dinitial;
      cut(packed.y, y, begin * channels);
      cut(packed.du, du, begin * channels);
      cut(packed.final, final, s * channels * state);
      cut(packed.dinitial, dinitial, s * channels * state);
      CAPTURE(reversed, s);
      CHECK(same_bits(y, one.y));
      CHECK(same_bits(du, one.du));
      CHECK(same_bits(final, one.final));
      CHECK(same_bits(dinitial, one.dinitial));
      const auto add = [](auto& sum, const auto& term) {
        for (Index i = 0; i < sum.size(); ++i) sum.data()[i] += term.data()[i];
      };
      add(sums.dlambda, one.dlambda);
      add(sums.dB, one.dB);
      add(sums.dC, one.dC);
      add(sums.dD, one.dD);
      add(sums.ddelta, one.ddelta);
    }
    CHECK(relative_error(packed.dlambda, sums.dlambda) < tolerance<double>(ends.back()));
    CHECK(relative_error(packed.dB, sums.dB) < tolerance<double>(ends.back()));
    CHECK(relative_error(packed.dC, sums.dC) < tolerance<double>(ends.back()));
    CHECK(relative_error(packed.dD, sums.dD) < tolerance<double>(ends.back()));
    CHECK(relative_error(packed.ddelta, sums.ddelta) < tolerance<double>(ends.back()));

    ssm::DiagonalScanScratch<double, K> scratch;
    auto y = packed.y;
    auto final = packed.final;
    ssm::recurrence(cpu(2), packed.inputs(reversed), {method}, {y, final}, scratch);
    CHECK(relative_error(packed.y, y, 1) <= tolerance<double>(ends.back()));
    CHECK(relative_error(packed.final, final, 1) <= tolerance<double>(ends.back()));
    packed.offsets(1) = 8;
    CHECK_THROWS_AS(packed.run(method), ssm::DomainError);
    packed.offsets(1) = 7;
    packed.offsets(sequences) = 1334;
    CHECK_THROWS_AS(packed.run_backward(method), ssm::DomainError);
  }
}

TEMPLATE_TEST_CASE("gradients of the diagonal scan in float are those in double up to rounding", "",
                   float, std::complex<float>) {
  using K = TestType;
  using Wide = std::conditional_t<std::is_same_v<K, float>, double, std::complex<double>>;
  Case<K> c(2, 1500, 20, 6, 5);
  Case<Wide> d(2, 1500, 20, 6, 5);
  const auto widen = [](const auto& from, auto& to) {
    std::copy(from.begin(), from.end(), to.begin());
  };
  widen(c.u, d.u);
  widen(c.dy, d.dy);
  widen(c.lambda, d.lambda);
  widen(c.B, d.B);
  widen(c.C, d.C);
  widen(c.D, d.D);
  widen(c.delta, d.delta);
  widen(c.initial, d.initial);
  widen(c.dfinal, d.dfinal);
  c.run(Discretization::zero_order_hold);
  d.run(Discretization::zero_order_hold);
  c.run_backward(Discretization::zero_order_hold);
  d.run_backward(Discretization::zero_order_hold);
  CHECK(relative_error(c.y, d.y) < 4e-6);
  CHECK(relative_error(c.du, d.du) < 4e-6);
  CHECK(relative_error(c.dlambda, d.dlambda) < 2e-5);
  CHECK(relative_error(c.dB, d.dB) < 2e-5);
  CHECK(relative_error(c.dC, d.dC) < 2e-5);
  CHECK(relative_error(c.dD, d.dD) < 2e-5);
  CHECK(relative_error(c.ddelta, d.ddelta) < 2e-5);
  CHECK(relative_error(c.dinitial, d.dinitial) < 4e-6);
}

TEST_CASE("the diagonal scan gives the same bits for any number of threads, and allocates once") {
  using K = std::complex<float>;
  Case<K> one(2, 1100, 37, 4, 6);
  one.run(Discretization::zero_order_hold);
  one.run_backward(Discretization::zero_order_hold);
  for (const int threads : {2, 3, 40}) {
    Case<K> many(2, 1100, 37, 4, 6);
    many.run(Discretization::zero_order_hold, threads);
    many.run_backward(Discretization::zero_order_hold, threads);
    CHECK(same_bits(one.y, many.y));
    CHECK(same_bits(one.final, many.final));
    CHECK(same_bits(one.du, many.du));
    CHECK(same_bits(one.dlambda, many.dlambda));
    CHECK(same_bits(one.dB, many.dB));
    CHECK(same_bits(one.dC, many.dC));
    CHECK(same_bits(one.dD, many.dD));
    CHECK(same_bits(one.ddelta, many.ddelta));
    CHECK(same_bits(one.dinitial, many.dinitial));
  }
  CHECK(ssm::test::allocations_of([&] {
          one.run(Discretization::zero_order_hold);
          one.run_backward(Discretization::zero_order_hold);
        }) == 0);
}

TEST_CASE("the diagonal scan refuses methods that change C or D") {
  Case<double> c(2, 4, 3, 2, 11);
  CHECK_THROWS_AS(c.run(Discretization::tustin), ssm::DomainError);
  CHECK_THROWS_AS(c.run_backward(Discretization::first_order_hold), ssm::DomainError);
}

TEST_CASE("the diagonal scan refuses shapes that do not fit, by name") {
  Case<double> c(2, 4, 3, 2, 11);
  c.B.resize({3, 1});
  CHECK_THROWS_WITH(c.run(Discretization::bilinear), "diagonal_scan: B is (3, 1), expected (3, 2)");
  c.B.resize({3, 2});
  c.du.resize({2, 4, 2});
  CHECK_THROWS_WITH(c.run_backward(Discretization::bilinear),
                    "diagonal_scan_backward: the gradient of u is (2, 4, 2), expected (2, 4, 3)");
}

TEST_CASE("step sizes that are none are refused, each by its place") {
  Case<double> c(2, 4, 3, 2, 11);
  const double kept = c.delta(1);
  for (const double bad : {-1.0, 0.0, std::numeric_limits<double>::quiet_NaN(),
                           std::numeric_limits<double>::infinity()}) {
    c.delta(1) = bad;
    CHECK_THROWS_AS(c.run(Discretization::bilinear), ssm::DomainError);
    CHECK_THROWS_AS(c.run_backward(Discretization::bilinear), ssm::DomainError);
  }
  c.delta(1) = -1;
  CHECK_THROWS_WITH(c.run(Discretization::bilinear),
                    "diagonal_scan: delta[1] is -1, expected positive and finite");
  c.delta(1) = kept;
  CHECK_NOTHROW(c.run(Discretization::bilinear));
  auto in = c.inputs();
  in.delta = c.u;
  CHECK_THROWS_WITH(ssm::diagonal_scan(cpu, in, {}, {c.y, {}}, c.scratch),
                    "diagonal_scan: delta is (2, 4, 3), expected (channels): a Δ that changes from "
                    "step to step is for `recurrence`");
  in.delta = {};
  CHECK_THROWS_WITH(ssm::diagonal_scan(cpu, in, {}, {c.y, {}}, c.scratch),
                    "diagonal_scan: delta is absent, expected either (channels) or (batch, length, "
                    "channels)");
}

TEST_CASE("the diagonal scan refuses null views, negative extents and outputs in others' memory") {
  using Inputs = ssm::DiagonalScanInputs<double>;
  using Outputs = ssm::DiagonalScanOutputs<double>;
  Case<double> c(2, 4, 3, 2, 11);
  const auto refuses = [&](const auto& change, const std::string& sentence) {
    Inputs in = c.inputs();
    Outputs out{c.y, c.final};
    change(in, out);
    CHECK_THROWS_WITH(ssm::diagonal_scan(cpu, in, {}, out, c.scratch),
                      "diagonal_scan: " + sentence);
  };
  refuses(
      [](Inputs& in, Outputs&) {
        in.u = {nullptr, {2, 4, 3}};
      },
      "u is a null pointer to (2, 4, 3), expected elements");
  refuses(
      [](Inputs& in, Outputs&) {
        in.C = {nullptr, {3, 2}};
      },
      "C is a null pointer to (3, 2), expected elements");
  refuses(
      [](Inputs& in, Outputs&) {
        in.lambda = {in.lambda.data(), {3, -2}};
      },
      "lambda is (3, -2), expected no negative extent");
  refuses(
      [](Inputs&, Outputs& out) {
        out.y = {out.y.data(), {2, 4, 3}, {12, 0, 1}};
      },
      "y is strided as (12, 0, 1), expected no stride of 0 in what is written");
  refuses([&](Inputs&, Outputs& out) { out.y = c.u.view().reversed(1); },
          "y is in the memory of u, expected memory of its own");
  refuses(
      [&](Inputs&, Outputs& out) {
        out.final_state = {c.y.data(), {2, 3, 2}};
      },
      "final_state is in the memory of y, expected memory of its own");
  CHECK_THROWS_WITH(
      ssm::diagonal_scan_backward(cpu, c.inputs(), {}, {c.dy, {}},
                                  {c.du, c.dlambda, {}, c.dlambda, {}, {}, {}}, c.scratch),
      "diagonal_scan_backward: the gradient of B is in the memory of the gradient of lambda, "
      "expected memory of its own");
}

TEST_CASE("gradients of the diagonal scan in the memory of those they come from are the same") {
  Case<std::complex<double>> apart(2, 75, 5, 3, 15);
  apart.run_backward(Discretization::bilinear);
  Case<std::complex<double>> c(2, 75, 5, 3, 15);
  ssm::diagonal_scan_backward(cpu, c.inputs(), {Discretization::bilinear}, {c.dy, c.dfinal},
                              {c.dy, c.dlambda, c.ddelta, c.dB, c.dC, c.dD, c.dfinal}, c.scratch);
  CHECK(same_bits(c.dy, apart.du));
  CHECK(same_bits(c.dfinal, apart.dinitial));
  CHECK(same_bits(c.dlambda, apart.dlambda));
}

}  // namespace diagonal_scan_test
