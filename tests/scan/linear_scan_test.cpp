#include "ssm/scan/linear_scan.hpp"

#include <algorithm>
#include <complex>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "ssm/core/phi.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
#include "support/precision.hpp"
#include "support/random.hpp"

using namespace ssm;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

namespace {

template <class K>
struct Problem {
  Tensor<K, 3> a, b;
  Tensor<K, 2> initial_state;

  Problem(Index batch, Index length, Index channels, std::uint64_t seed = 1) {
    Random random(seed);
    a = random.normal<K>(std::array{batch, length, channels}, 0.2, 0.6);
    b = random.normal<K>(std::array{batch, length, channels});
    initial_state = random.normal<K>(std::array{batch, channels});
  }
  [[nodiscard]] LinearScanInputs<K> inputs(bool reversed = false) const {
    return {a, b, initial_state, {.offsets = {}, .reversed = reversed}};
  }
};

template <class K>
struct Result {
  Tensor<K, 3> x;
  Tensor<K, 2> final_state;
  LinearScanScratch<K> scratch;

  explicit Result(const Problem<K>& problem)
      : x(problem.b.extents()), final_state(problem.initial_state.extents()) {}
  [[nodiscard]] LinearScanOutputs<K> outputs() { return {x, final_state}; }
};

template <class K>
Result<K> run(const Problem<K>& problem, bool reversed = false, int threads = 1) {
  Result<K> result(problem);
  linear_scan(cpu(threads), problem.inputs(reversed), {}, result.outputs(), result.scratch);
  return result;
}

template <class K>
struct Gradients {
  Tensor<K, 3> a, b;
  Tensor<K, 2> initial_state;
};

template <class K>
Gradients<K> run_backward(const Problem<K>& problem, Result<K>& result,
                          const Tensor<K, 3>& x_gradient, const Tensor<K, 2>& state_gradient,
                          bool reversed = false, int threads = 1) {
  Gradients<K> gradients{Tensor<K, 3>(problem.a.extents()), Tensor<K, 3>(problem.a.extents()),
                         Tensor<K, 2>(problem.initial_state.extents())};
  linear_scan_backward(cpu(threads), problem.inputs(reversed), {}, {x_gradient, state_gradient},
                       {gradients.a, gradients.b, gradients.initial_state}, result.scratch);
  return gradients;
}

constexpr std::array<std::array<Index, 3>, 10> shapes{{{2, 0, 3},
                                                       {2, 1, 3},
                                                       {1, 7, 1},
                                                       {3, 33, 5},
                                                       {1, 600, 2},
                                                       {1, 1025, 17},
                                                       {2, 1111, 9},
                                                       {1, 3000, 300},
                                                       {40, 13, 8},
                                                       {0, 5, 2}}};

}  // namespace

TEMPLATE_TEST_CASE("the linear scan is its formula, whatever the shape, the cut and the direction",
                   "", float, double, std::complex<float>, std::complex<double>) {
  const double epsilon = std::numeric_limits<Real<TestType>>::epsilon();
  for (const auto& [batch, length, channels] : shapes)
    for (const bool reversed : {false, true}) {
      CAPTURE(batch, length, channels, reversed);
      const Problem<TestType> problem(batch, length, channels);
      Result<TestType> want(problem);
      linear_scan_reference(problem.inputs(reversed), {}, want.outputs());
      const auto got = run(problem, reversed, 2);
      CHECK(relative_error(got.x, want.x) <= 20 * epsilon);
      CHECK(relative_error(got.final_state, want.final_state) <= 20 * epsilon);
    }
}

TEMPLATE_TEST_CASE("the linear scan has the same bits for every number of threads", "", float,
                   double, std::complex<double>) {
  for (const auto& [batch, length, channels] : shapes) {
    CAPTURE(batch, length, channels);
    const Problem<TestType> problem(batch, length, channels);
    auto one = run(problem);
    Random random(2);
    const auto x_gradient = random.normal<TestType>(problem.b.extents());
    const auto state_gradient = random.normal<TestType>(problem.initial_state.extents());
    const auto one_back = run_backward(problem, one, x_gradient, state_gradient);
    for (const int threads : {2, 3, 5}) {
      auto many = run(problem, false, threads);
      CHECK(same_bits(one.x, many.x));
      CHECK(same_bits(one.final_state, many.final_state));
      const auto back = run_backward(problem, many, x_gradient, state_gradient, false, threads);
      CHECK(same_bits(one_back.a, back.a));
      CHECK(same_bits(one_back.b, back.b));
      CHECK(same_bits(one_back.initial_state, back.initial_state));
    }
  }
}

TEST_CASE("a linear scan split anywhere and resumed is the whole one") {
  const Problem<double> problem(2, 1301, 3);
  const auto whole = run(problem);
  for (const Index split : {0, 1, 640, 1300, 1301}) {
    Result<double> parts(problem);
    LinearScanScratch<double> scratch;
    const View<const double, 3> a = problem.a, b = problem.b;
    const View<double, 3> x = parts.x;
    linear_scan(cpu, {a.slice(1, 0, split), b.slice(1, 0, split), problem.initial_state}, {},
                {x.slice(1, 0, split), parts.final_state}, scratch);
    linear_scan(cpu,
                {a.slice(1, split, 1301 - split), b.slice(1, split, 1301 - split),
                 parts.final_state.view()},
                {}, {x.slice(1, split, 1301 - split), parts.final_state}, scratch);
    CHECK(relative_error(parts.x, whole.x) <= 1e-14);
    CHECK(relative_error(parts.final_state, whole.final_state) <= 1e-14);
  }
}

TEST_CASE("a reversed linear scan is the scan of reversed sequences") {
  const Problem<double> problem(2, 777, 12);
  const auto want = run(problem, true);
  Result<double> got(problem);
  LinearScanScratch<double> scratch;
  linear_scan(cpu,
              {problem.a.view().reversed(1), problem.b.view().reversed(1), problem.initial_state},
              {}, {got.x.view().reversed(1), got.final_state}, scratch);
  CHECK(same_bits(got.x, want.x));
  CHECK(same_bits(got.final_state, want.final_state));
}

TEST_CASE("packed linear scans are the scans one by one, forward and backward") {
  const std::vector<Index> ends{0, 7, 7, 700, 1901, 1902};
  const auto sequences = static_cast<Index>(ends.size()) - 1;
  for (const bool reversed : {false, true}) {
    Problem<double> packed(1, ends.back(), 5);
    Random random(8);
    packed.initial_state = random.normal<double>(std::array{sequences, Index{5}});
    Tensor<Index, 1> offsets({sequences + 1});
    std::copy(ends.begin(), ends.end(), offsets.begin());
    auto in = packed.inputs(reversed);
    in.sequences.offsets = offsets;
    Result<double> result(packed);
    const auto x_gradient = random.normal<double>(packed.b.extents());
    const auto state_gradient = random.normal<double>(packed.initial_state.extents());
    Gradients<double> gradients{packed.a, packed.b, packed.initial_state};
    LinearScanScratch<double> scratch;
    linear_scan(cpu(2), in, {}, result.outputs(), scratch);
    linear_scan_backward(cpu(2), in, {}, {x_gradient, state_gradient},
                         {gradients.a, gradients.b, gradients.initial_state}, scratch);

    for (Index s = 0; s < sequences; ++s) {
      const Index begin = ends[static_cast<std::size_t>(s)];
      const Index length = ends[static_cast<std::size_t>(s) + 1] - begin;
      const auto steps = [&](const Tensor<double, 3>& whole) {
        Tensor<double, 3> part({1, length, 5});
        std::copy_n(whole.data() + 5 * begin, part.size(), part.begin());
        return part;
      };
      const auto row = [&](const Tensor<double, 2>& whole) {
        Tensor<double, 2> part({1, 5});
        std::copy_n(whole.data() + 5 * s, 5, part.begin());
        return part;
      };
      Problem<double> one(1, length, 5);
      one.a = steps(packed.a);
      one.b = steps(packed.b);
      one.initial_state = row(packed.initial_state);
      auto want = run(one, reversed);
      const auto slopes = run_backward(one, want, steps(x_gradient), row(state_gradient), reversed);
      CHECK(same_bits(steps(result.x), want.x));
      CHECK(same_bits(row(result.final_state), want.final_state));
      CHECK(same_bits(steps(gradients.a), slopes.a));
      CHECK(same_bits(steps(gradients.b), slopes.b));
      CHECK(same_bits(row(gradients.initial_state), slopes.initial_state));
    }

    offsets(1) = 8;
    CHECK_THROWS_AS(linear_scan(cpu, in, {}, result.outputs(), scratch), DomainError);
    offsets(1) = 7;
    offsets(5) = 1903;
    CHECK_THROWS_AS(linear_scan(cpu, in, {}, result.outputs(), scratch), DomainError);
  }
}

TEST_CASE("the linear scan is linear in b and the initial state") {
  Problem<double> problem(1, 900, 4);
  const auto once = run(problem);
  for (double& b : problem.b) b *= 2;
  for (double& x : problem.initial_state) x *= 2;
  const auto twice = run(problem);
  Tensor<double, 3> sum(once.x.extents());
  for (Index i = 0; i < sum.size(); ++i) sum.data()[i] = 2 * once.x.data()[i];
  CHECK(same_bits(twice.x, sum));
}

TEST_CASE("the linear scan works in place, and with one row of a for all time") {
  Problem<double> problem(1, 1500, 3);
  for (Index t = 1; t < 1500; ++t)
    for (Index c = 0; c < 3; ++c) problem.a(0, t, c) = problem.a(0, 0, c);
  const auto want = run(problem);
  LinearScanScratch<double> scratch;
  const View<const double, 3> row(problem.a.data(), {1, 1500, 3}, {0, 0, 1});
  linear_scan(cpu, {row, problem.b.view(), problem.initial_state}, {},
              {problem.b.view(), problem.initial_state.view()}, scratch);
  CHECK(same_bits(problem.b, want.x));
  CHECK(same_bits(problem.initial_state, want.final_state));
}

TEST_CASE("a NaN in a linear scan reaches every later step of its channel, and no other") {
  Problem<double> problem(1, 1200, 9);
  problem.b(0, 700, 4) = std::numeric_limits<double>::quiet_NaN();
  const auto result = run(problem, false, 2);
  Index wrong = 0;
  for (Index t = 0; t < 1200; ++t)
    for (Index c = 0; c < 9; ++c)
      wrong += std::isnan(result.x(0, t, c)) != (c == 4 && t >= 700) ? 1 : 0;
  CHECK(wrong == 0);
}

TEST_CASE("the gradients of the linear scan are its finite differences") {
  for (const auto& [batch, length, channels] :
       {std::array<Index, 3>{2, 0, 3}, {2, 1, 3}, {1, 5, 11}, {2, 9, 2}, {1, 520, 1}})
    for (const bool reversed : {false, true}) {
      CAPTURE(batch, length, channels, reversed);
      Problem<double> problem(batch, length, channels);
      Random random(3);
      const auto x_gradient = random.normal<double>(problem.b.extents());
      const auto state_gradient = random.normal<double>(problem.initial_state.extents());
      const auto loss = [&] {
        const auto result = run(problem, reversed);
        return ssm::test::dot(result.x, x_gradient) +
               ssm::test::dot(result.final_state, state_gradient);
      };
      auto result = run(problem, reversed);
      const auto gradients = run_backward(problem, result, x_gradient, state_gradient, reversed, 2);
      CHECK(ssm::test::gradient_error(loss, problem.a, gradients.a) <= 1e-9);
      CHECK(ssm::test::gradient_error(loss, problem.b, gradients.b) <= 1e-9);
      CHECK(ssm::test::gradient_error(loss, problem.initial_state, gradients.initial_state) <=
            1e-9);
    }
}

TEST_CASE("the gradient of a complex linear scan is d/dRe + i d/dIm") {
  using K = std::complex<double>;
  Problem<K> problem(2, 6, 9);
  Random random(4);
  const auto x_gradient = random.normal<K>(problem.b.extents());
  const auto state_gradient = random.normal<K>(problem.initial_state.extents());
  const auto loss = [&] {
    const auto result = run(problem);
    double sum = 0;  // Re Σ conj(g) x, whose gradient by x is g
    for (Index i = 0; i < result.x.size(); ++i)
      sum += (std::conj(x_gradient.data()[i]) * result.x.data()[i]).real();
    for (Index i = 0; i < result.final_state.size(); ++i)
      sum += (std::conj(state_gradient.data()[i]) * result.final_state.data()[i]).real();
    return sum;
  };
  auto forward = run(problem);
  const auto gradients = run_backward(problem, forward, x_gradient, state_gradient);
  const auto check = [&](auto& at, const auto& gradient) {
    const double h = 1e-6;
    double error = 0;
    for (Index i = 0; i < at.size(); ++i) {
      const K before = at.data()[i];
      const auto slope = [&](K direction) {
        at.data()[i] = before + h * direction;
        const double high = loss();
        at.data()[i] = before - h * direction;
        const double low = loss();
        at.data()[i] = before;
        return (high - low) / (2 * h);
      };
      error =
          ssm::test::worse(error, std::abs(K(slope({1, 0}), slope({0, 1})) - gradient.data()[i]));
    }
    CHECK(error <= 1e-7);
  };
  check(problem.a, gradients.a);
  check(problem.b, gradients.b);
  check(problem.initial_state, gradients.initial_state);
}

TEST_CASE("gradients that are absent count as zero or are skipped") {
  const Problem<double> problem(1, 1100, 10);
  auto result = run(problem);
  Random random(5);
  const auto state_gradient = random.normal<double>(problem.initial_state.extents());
  const Tensor<double, 3> zero(problem.b.extents());
  const auto want = run_backward(problem, result, zero, state_gradient);

  Tensor<double, 3> a(problem.a.extents());
  linear_scan_backward(cpu, problem.inputs(), {}, {{}, state_gradient}, {a, {}, {}},
                       result.scratch);
  CHECK(same_bits(a, want.a));
}

TEST_CASE("the linear scan names the argument that does not fit") {
  const Problem<double> problem(1, 4, 2);
  Result<double> result(problem);
  LinearScanScratch<double> scratch;
  const Tensor<double, 3> wrong({1, 3, 2});
  CHECK_THROWS_WITH(linear_scan(cpu, LinearScanInputs<double>{wrong, problem.b, {}}, {},
                                result.outputs(), scratch),
                    "linear_scan: a is (1, 3, 2), expected (1, 4, 2)");
  const View<const double, 3> strided(problem.a.data(), {1, 2, 2}, {0, 4, 2});
  Tensor<double, 3> x({1, 2, 2});
  CHECK_THROWS_WITH(
      linear_scan(cpu, LinearScanInputs<double>{strided, x, {}}, {}, {x, {}}, scratch),
      "linear_scan: a's stride of channels is 2, expected 1");
}

TEST_CASE("the linear scan refuses null views, negative extents and outputs in others' memory") {
  Problem<double> problem(1, 4, 2);
  Result<double> result(problem);
  const auto scan = [&](const LinearScanInputs<double>& in, const LinearScanOutputs<double>& out) {
    linear_scan(cpu, in, {}, out, result.scratch);
  };
  const auto refuses = [&](auto change, const std::string& sentence) {
    auto in = problem.inputs();
    auto out = result.outputs();
    change(in, out);
    CHECK_THROWS_WITH(scan(in, out), "linear_scan: " + sentence);
  };
  refuses([](auto& in, auto&) { in.b = {}; }, "b is absent, expected (batch, length, channels)");
  refuses(
      [](auto& in, auto&) {
        in.a = {nullptr, {1, 4, 2}};
      },
      "a is a null pointer to (1, 4, 2), expected elements");
  refuses(
      [](auto& in, auto&) {
        in.b = {in.b.data(), {-1, 4, 2}};
      },
      "b is (-1, 4, 2), expected no negative extent");
  refuses(
      [](auto&, auto& out) {
        out.x = {out.x.data(), {1, 4, 2}, {0, 0, 1}};
      },
      "x is strided as (0, 0, 1), expected no stride of 0 in what is written");
  refuses([&](auto&, auto& out) { out.x = problem.a; },
          "x is in the memory of a, expected memory of its own");
  refuses([&](auto&, auto& out) { out.x = problem.b.view().reversed(1); },
          "x is in the memory of b, expected memory of its own");
  refuses(
      [](auto&, auto& out) {
        out.final_state = {out.x.data() + 1, {1, 2}};
      },
      "final_state is in the memory of x, expected memory of its own");

  scan(problem.inputs(), result.outputs());
  Tensor<double, 3> dx(problem.b.extents());
  CHECK_THROWS_WITH(
      linear_scan_backward(cpu, problem.inputs(), {}, {dx, {}}, {dx, {}, {}}, result.scratch),
      "linear_scan_backward: gradient of a is in the memory of gradient of x, expected memory of "
      "its own");
  CHECK_THROWS_WITH(
      linear_scan_backward(cpu, problem.inputs(), {}, {dx, {}}, {{}, result.x, {}}, result.scratch),
      "linear_scan_backward: gradient of b is in the memory of x, expected memory of its own");
}

TEST_CASE("the backward of a linear scan refuses a scratch of another call") {
  const Problem<double> problem(1, 4, 2), other(1, 5, 2);
  Result<double> result(problem), longer(other);
  const Tensor<double, 3> dx(problem.b.extents());
  Tensor<double, 3> db(problem.b.extents());
  const auto backward = [&](bool reversed = false) {
    linear_scan_backward(cpu, problem.inputs(reversed), {}, {dx, {}}, {{}, db, {}}, result.scratch);
  };
  CHECK_THROWS_WITH(backward(),
                    "linear_scan_backward: scratch is of no call that kept anything, expected one "
                    "that linear_scan filled with these inputs, (1, 4, 2, 1)");
  linear_scan(cpu, problem.inputs(), {}, result.outputs(), result.scratch);
  CHECK_NOTHROW(backward());
  CHECK_THROWS_WITH(
      backward(true),
      "linear_scan_backward: scratch is of another call, (1, 4, 2, 1) with other "
      "options, expected one that linear_scan filled with these inputs, (1, 4, 2, 1)");
  linear_scan(cpu, other.inputs(), {}, longer.outputs(), result.scratch);
  CHECK_THROWS_AS(backward(), ShapeError);
}

TEST_CASE("the gradients of a linear scan in place are those of one that is not") {
  const Problem<std::complex<double>> problem(2, 700, 3);
  Random random(6);
  const auto dx = random.normal<std::complex<double>>(problem.b.extents());
  const auto dfinal = random.normal<std::complex<double>>(problem.initial_state.extents());
  auto result = run(problem);
  const auto want = run_backward(problem, result, dx, dfinal);

  Problem<std::complex<double>> moved = problem;
  LinearScanScratch<std::complex<double>> scratch;
  const auto in = moved.inputs();
  linear_scan(cpu, in, {}, {moved.b, moved.initial_state}, scratch);
  auto da = problem.a, db = dx;
  auto dinitial = dfinal;
  linear_scan_backward(cpu, in, {}, {db, dinitial}, {da, db, dinitial}, scratch);
  CHECK(same_bits(da, want.a));
  CHECK(same_bits(db, want.b));
  CHECK(same_bits(dinitial, want.initial_state));
}

TEMPLATE_TEST_CASE("the gradients of the linear scan in float are those in double", "", float,
                   std::complex<float>) {
  using K = TestType;
  using Wide = std::conditional_t<std::is_same_v<K, float>, double, std::complex<double>>;
  for (const auto& [batch, length, channels] :
       {std::array<Index, 3>{2, 1, 3}, {3, 33, 5}, {1, 3000, 17}})
    for (const bool reversed : {false, true}) {
      const std::array extents{batch, length, channels};
      const auto gradients_of = [&, channels = channels, batch = batch]<class Number>(Number) {
        Problem<Number> problem(0, 0, 0);
        problem.a = ssm::test::float_normal<Number>(5, extents);
        for (Number& a : problem.a) a = a * Number(0.125f) + Number(0.625f);
        problem.b = ssm::test::float_normal<Number>(6, extents);
        problem.initial_state = ssm::test::float_normal<Number>(7, std::array{batch, channels});
        auto result = run(problem, reversed);
        const auto g =
            run_backward(problem, result, ssm::test::float_normal<Number>(8, extents),
                         ssm::test::float_normal<Number>(9, std::array{batch, channels}), reversed);
        ssm::test::Results results;
        ssm::test::add_result(results, "a", g.a);
        ssm::test::add_result(results, "b", g.b);
        ssm::test::add_result(results, "initial state", g.initial_state);
        return results;
      };
      const auto [error, where] = ssm::test::largest_error(gradients_of(K()), gradients_of(Wide()));
      CAPTURE(where, length, reversed);
      CHECK(error < 16 * static_cast<double>(std::numeric_limits<float>::epsilon()));
    }
}
