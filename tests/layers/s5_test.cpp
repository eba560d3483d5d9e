#include "ssm/layers/s5.hpp"

#include <iterator>
#include <limits>
#include <tuple>
#include <type_traits>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/precision.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

template <class T>
S5Weights<T> draw(const S5Shape& shape, std::uint64_t seed) {
  S5Weights<T> weights(shape);
  DiagonalModes<double> block{Eigen::VectorXcd(2), Eigen::VectorXcd::Ones(2)};
  block.lambda << std::complex<double>(-0.5, 0.4), std::complex<double>(-0.7, 4.0);
  initialize(weights, block, seed, 0.02, 0.2);
  return weights;
}

template <class T>
S5State<T> draw_state(const S5Shape& shape, Index batch, std::uint64_t seed) {
  S5State<T> state(shape, batch);
  state.x = Random(seed).normal<std::complex<T>, 2>(state.x.extents());
  return state;
}

template <class T>
struct Result {
  Tensor<T, 3> y;
  S5State<T> final;
  S5Saved<T> saved;
};

template <class T>
Result<T> forward(const S5Weights<T>& weights, const View<const T, 3>& x, const S5State<T>* initial,
                  const S5Options<T>& options = {}, int threads = 1) {
  Result<T> result{Tensor<T, 3>(x.extents()), {}, {}};
  S5Workspace<T> workspace;
  s5_forward<T>(cpu(threads), weights, x, initial, result.y, &result.final, options, result.saved,
                workspace);
  return result;
}

constexpr S5Shape small{.width = 3, .state = 8};

}  // namespace

TEMPLATE_TEST_CASE("S5 is its formula in double, step by step", "", float, double) {
  using T = TestType;
  const auto weights = draw<T>(small, 1);
  for (const Index length : {0, 1, 5, 700}) {
    const auto u = Random(2).normal<T, 3>({2, length, 3});
    const auto initial = draw_state<T>(small, 2, 3);
    Tensor<double, 3> want(u.extents());
    Tensor<std::complex<double>, 2> x({2, 4});
    std::copy(initial.x.begin(), initial.x.end(), x.begin());
    for (Index b = 0; b < 2; ++b)
      for (Index t = 0; t < length; ++t) {
        for (Index c = 0; c < 3; ++c) want(b, t, c) = double{weights.D(c)} * double{u(b, t, c)};
        for (Index n = 0; n < 4; ++n) {
          const auto mode = zero_order_hold<std::complex<double>>(
              {-std::exp(double{weights.log_decay(n)}), weights.frequency(n)},
              std::exp(double{weights.log_delta(n)}));
          x(b, n) *= mode.a_bar;
          for (Index c = 0; c < 3; ++c)
            x(b, n) += mode.b_bar_factor *
                       std::complex<double>(weights.B(n, 0, c), weights.B(n, 1, c)) *
                       double{u(b, t, c)};
          for (Index c = 0; c < 3; ++c)
            want(b, t, c) +=
                2 * (std::complex<double>(weights.C(c, n, 0), weights.C(c, n, 1)) * x(b, n)).real();
        }
      }
    const auto got = forward<T>(weights, u, &initial);
    const double bound = 8 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                         static_cast<double>(length + 1);
    CHECK(test::relative_error(got.y, want, 1) <= bound);
    CHECK(test::relative_error(got.final.x, x, 1) <= bound);
  }
}

TEST_CASE("packed sequences give S5 what each gives by itself, and the sum of the gradients") {
  constexpr Index ends[] = {0, 9, 9, 10, 95};
  Tensor<Index, 1> offsets({5});
  std::copy(std::begin(ends), std::end(ends), offsets.begin());
  const double bound = 95 * 64 * std::numeric_limits<double>::epsilon();
  for (const bool bidirectional : {false, true})
    for (const bool reversed : {false, true}) {
      const S5Shape shape{.width = 3, .state = 8, .bidirectional = bidirectional};
      const auto weights = draw<double>(shape, 19);
      const auto x = Random(20).normal<double, 3>({1, 95, 3});
      const auto dy = Random(21).normal<double, 3>(x.extents());
      const auto initial = draw_state<double>(shape, 4, 22),
                 dfinal = draw_state<double>(shape, 4, 23);
      const auto run = [&](const Tensor<double, 3>& u, const Tensor<double, 3>& slope,
                           const S5State<double>& from, const S5State<double>& slope_to,
                           const View<const Index, 1>& packed) {
        const S5Options<double> options{.reversed = reversed, .offsets = packed};
        Tensor<double, 3> y(u.extents()), du(u.extents());
        S5State<double> final, dinitial;
        S5Saved<double> saved;
        S5Workspace<double> workspace;
        S5Weights<double> gradients;
        const auto given = [&](auto& state) { return bidirectional ? nullptr : &state; };
        s5_forward<double>(cpu(2), weights, u, given(from), y, given(final), options, saved,
                           workspace);
        s5_backward<double>(cpu(2), weights, u, given(from), options, saved, slope, given(slope_to),
                            gradients, du, given(dinitial), workspace);
        return std::tuple(y, final.x, gradients, du, dinitial.x);
      };
      const auto [y, final, gradients, du, dinitial] = run(x, dy, initial, dfinal, offsets);
      S5Weights<double> sums(shape);
      for (Index s = 0; s < 4; ++s) {
        INFO("bidirectional " << bidirectional << " reversed " << reversed << " sequence " << s);
        const auto cut = [](const auto& whole, std::size_t dimension, Index begin, Index count) {
          const auto view = whole.view().slice(dimension, begin, count);
          std::remove_cvref_t<decltype(whole)> to(view.extents());
          std::copy_n(view.data(), view.size(), to.data());
          return to;
        };
        const auto steps = [&](const Tensor<double, 3>& whole) {
          return cut(whole, 1, ends[s], ends[s + 1] - ends[s]);
        };
        S5State<double> from, to;
        from.x = cut(initial.x, 0, s, 1);
        to.x = cut(dfinal.x, 0, s, 1);
        const auto [y1, final1, gradients1, du1, dinitial1] =
            run(steps(x), steps(dy), from, to, {});
        CHECK(test::relative_error(steps(y), y1) <= bound);
        CHECK(test::relative_error(steps(du), du1) <= bound);
        if (!bidirectional) {
          CHECK(test::relative_error(cut(final, 0, s, 1), final1) <= bound);
          CHECK(test::relative_error(cut(dinitial, 0, s, 1), dinitial1) <= bound);
        }
        const auto add = [](auto& sum, const auto& term) {
          for (Index i = 0; i < sum.size(); ++i) sum.data()[i] += term.data()[i];
        };
        add(sums.log_decay, gradients1.log_decay);
        add(sums.frequency, gradients1.frequency);
        add(sums.log_delta, gradients1.log_delta);
        add(sums.B, gradients1.B);
        add(sums.C, gradients1.C);
        add(sums.D, gradients1.D);
        if (bidirectional) add(sums.C_back, gradients1.C_back);
      }
      CHECK(test::relative_error(gradients.log_decay, sums.log_decay) <= bound);
      CHECK(test::relative_error(gradients.frequency, sums.frequency) <= bound);
      CHECK(test::relative_error(gradients.log_delta, sums.log_delta) <= bound);
      CHECK(test::relative_error(gradients.B, sums.B) <= bound);
      CHECK(test::relative_error(gradients.C, sums.C) <= bound);
      CHECK(test::relative_error(gradients.C_back, sums.C_back) <= bound);
      CHECK(test::relative_error(gradients.D, sums.D) <= bound);
      offsets(1) = 10;
      CHECK_THROWS_AS(run(x, dy, initial, dfinal, offsets), DomainError);
      offsets(1) = 9;
    }
}

TEST_CASE("S5 has the gradients of finite differences") {
  std::uint64_t seed = 4;
  for (const Index length : {0, 1, 17})
    for (const bool reversed : {false, true})
      for (const auto method : {Discretization::zero_order_hold, Discretization::bilinear}) {
        auto weights = draw<double>(small, seed++);
        auto x = Random(5).normal<double, 3>({2, length, 3});
        auto initial = draw_state<double>(small, 2, 6);
        const auto dfinal = draw_state<double>(small, 2, 7);
        const auto dy = Random(8).normal<double, 3>(x.extents());
        const S5Options<double> options{.method = method, .rate = 1.5, .reversed = reversed};
        const auto loss = [&] {
          const auto result = forward<double>(weights, x, &initial, options);
          double sum = test::dot(result.y, dy);
          for (Index i = 0; i < dfinal.x.size(); ++i)
            sum += std::real(std::conj(dfinal.x.data()[i]) * result.final.x.data()[i]);
          return sum;
        };
        const auto saved = forward<double>(weights, x, &initial, options).saved;
        S5Weights<double> gradients;
        Tensor<double, 3> dx(x.extents());
        S5State<double> dinitial;
        S5Workspace<double> workspace;
        s5_backward<double>(cpu(2), weights, x, &initial, options, saved, dy, &dfinal, gradients,
                            dx, &dinitial, workspace);
        CHECK(test::gradient_error(loss, x, dx) < 1e-8);
        CHECK(test::gradient_error(loss, weights.log_decay, gradients.log_decay) < 1e-8);
        CHECK(test::gradient_error(loss, weights.frequency, gradients.frequency) < 1e-8);
        CHECK(test::gradient_error(loss, weights.log_delta, gradients.log_delta) < 1e-8);
        CHECK(test::gradient_error(loss, weights.B, gradients.B) < 1e-8);
        CHECK(test::gradient_error(loss, weights.C, gradients.C) < 1e-8);
        CHECK(test::gradient_error(loss, weights.D, gradients.D) < 1e-8);
        for (Index i = 0; i < initial.x.size(); ++i) {
          Tensor<double, 1> parts({2}), slopes({2});
          std::complex<double>& at = initial.x.data()[i];
          parts(0) = at.real(), parts(1) = at.imag();
          slopes(0) = dinitial.x.data()[i].real(), slopes(1) = dinitial.x.data()[i].imag();
          const auto moved = [&] {
            const auto before = at;
            at = {parts(0), parts(1)};
            const double value = loss();
            at = before;
            return value;
          };
          CHECK(test::gradient_error(moved, parts, slopes, 1.0) < 1e-8);
        }
      }
}

TEST_CASE("an S5 step equals the forward pass and allocates nothing") {
  const auto weights = draw<double>(small, 9);
  const auto x = Random(10).normal<double, 3>({2, 20, 3});
  const auto initial = draw_state<double>(small, 2, 11);
  const auto whole = forward<double>(weights, x, &initial, {.rate = 2});
  auto state = initial;
  Tensor<double, 3> y(x.extents());
  S5StepScratch<double> scratch(weights, {.rate = 2});
  for (Index t = 0; t < 20; ++t) {
    const View<const double, 2> now(&x(0, t, 0), {2, 3}, {60, 1});
    const View<double, 2> out(&y(0, t, 0), {2, 3}, {60, 1});
    CHECK(test::allocations_of([&] { s5_step<double>(weights, now, state, out, scratch); }) == 0);
  }
  CHECK(test::relative_error(y, whole.y) < 1e-12);
  CHECK(test::relative_error(state.x, whole.final.x) < 1e-12);
}

TEST_CASE("an S5 step has no set-up to forget") {
  const auto weights = draw<double>(small, 9);
  static_assert(!std::is_default_constructible_v<S5StepScratch<double>>);
  CHECK_THROWS_WITH(
      S5StepScratch<double>(draw<double>({.width = 3, .state = 8, .bidirectional = true}, 9)),
      "S5StepScratch: weights is bidirectional, expected one direction, as a pass from the end has "
      "no step");
  CHECK_THROWS_AS(S5StepScratch<double>(weights, {.reversed = true}), DomainError);
  CHECK_THROWS_AS(S5StepScratch<double>(weights, {.rate = 0}), DomainError);
  const auto step = [&](const S5Weights<double>& w, S5State<double> state) {
    return test::last_words([&] {
      S5StepScratch<double> scratch(weights);
      Tensor<double, 2> u({1, 3}), y({1, 3});
      s5_step<double>(w, u, state, y, scratch);
    });
  };
  CHECK(step(weights, {small, 1}).empty());
  const S5Shape wide{.width = 3, .state = 64};
  CHECK_THAT(step(draw<double>(wide, 9), {wide, 1}),
             test::contains("s5_step: scratch is made for weights of another shape, expected one "
                            "made for these"));
  CHECK_THAT(step(weights, {}), test::contains("s5_step: state is (0, 0), expected (1, 4)"));
}

TEST_CASE("S5 at half the sample rate and twice the Δ gives the output of a held input") {
  const auto weights = draw<double>(small, 12);
  const auto slow = Random(13).normal<double, 3>({1, 40, 3});
  Tensor<double, 3> fast({1, 80, 3}), want(slow.extents());
  for (Index t = 0; t < 80; ++t)
    for (Index c = 0; c < 3; ++c) fast(0, t, c) = slow(0, t / 2, c);
  const auto at_full = forward<double>(weights, fast, nullptr);
  for (Index t = 0; t < 40; ++t)
    for (Index c = 0; c < 3; ++c) want(0, t, c) = at_full.y(0, 2 * t + 1, c);
  CHECK(test::relative_error(forward<double>(weights, slow, nullptr, {.rate = 2}).y, want) < 1e-12);
}

TEST_CASE("S5's bits do not depend on the number of threads") {
  const S5Shape shape{.width = 24, .state = 20};
  const auto weights = draw<double>(shape, 14);
  const auto x = Random(15).normal<double, 3>({2, 900, 24});
  const auto run = [&](int threads) {
    const auto result = forward<double>(weights, x, nullptr, {}, threads);
    S5Weights<double> gradients;
    Tensor<double, 3> dx(x.extents());
    S5Workspace<double> workspace;
    s5_backward<double>(cpu(threads), weights, x, nullptr, {}, result.saved, x, nullptr, gradients,
                        dx, nullptr, workspace);
    return std::tuple(result.y, dx, gradients);
  };
  const auto [y, dx, gradients] = run(1);
  const auto [y3, dx3, gradients3] = run(3);
  CHECK(test::same_bits(y, y3));
  CHECK(test::same_bits(dx, dx3));
  CHECK(test::same_bits(gradients.log_decay, gradients3.log_decay));
  CHECK(test::same_bits(gradients.B, gradients3.B));
  CHECK(test::same_bits(gradients.C, gradients3.C));
  CHECK(test::same_bits(gradients.D, gradients3.D));
}

TEST_CASE("S5 refuses wrong shapes, and methods that change C or D") {
  const auto weights = draw<double>(small, 16);
  const auto fits = Random(17).normal<double, 3>({2, 3, 3});
  CHECK_THROWS_AS(forward<double>(weights, fits, nullptr, {.method = Discretization::tustin}),
                  DomainError);
  const auto x = Random(17).normal<double, 3>({2, 3, 4});
  CHECK_THROWS_WITH(forward<double>(weights, x, nullptr),
                    "s5_forward: input is (2, 3, 4), expected (2, 3, 3)");
}

TEST_CASE("a bidirectional S5 is one layer forward and one from the end, with its gradients") {
  const S5Shape shape{.width = 3, .state = 8, .bidirectional = true};
  for (const bool reversed : {false, true})
    for (const Index length : {0, 1, 17}) {
      auto weights = draw<double>(shape, 21);
      auto x = Random(22).normal<double, 3>({2, length, 3});
      const auto dy = Random(23).normal<double, 3>(x.extents());
      const S5Options<double> options{.rate = 1.5, .reversed = reversed};
      S5Workspace<double> workspace;
      S5Saved<double> saved;
      const auto run = [&](const S5Weights<double>& w, const S5Options<double>& o, int threads) {
        Tensor<double, 3> y(x.extents());
        s5_forward<double>(cpu(threads), w, x, nullptr, y, nullptr, o, saved, workspace);
        return y;
      };
      S5Weights<double> one(small), other(small);
      for (auto* w : {&one, &other}) {
        w->log_decay = weights.log_decay;
        w->frequency = weights.frequency;
        w->log_delta = weights.log_delta;
        w->B = weights.B;
      }
      one.C = weights.C;
      one.D = weights.D;
      other.C = weights.C_back;
      auto sum = run(one, options, 1);
      const auto later = run(other, {.rate = 1.5, .reversed = !reversed}, 1);
      for (Index i = 0; i < sum.size(); ++i) sum.data()[i] += later.data()[i];
      const auto y = run(weights, options, 1);
      CHECK(test::relative_error(y, sum, 1) < 1e-13);
      CHECK(test::same_bits(y, run(weights, options, 3)));

      S5Weights<double> gradients;
      Tensor<double, 3> dx(x.extents());
      s5_backward<double>(cpu(2), weights, x, nullptr, options, saved, dy, nullptr, gradients, dx,
                          nullptr, workspace);
      const auto loss = [&] { return test::dot(run(weights, options, 1), dy); };
      CHECK(test::gradient_error(loss, x, dx) < 1e-8);
      CHECK(test::gradient_error(loss, weights.log_decay, gradients.log_decay) < 1e-8);
      CHECK(test::gradient_error(loss, weights.frequency, gradients.frequency) < 1e-8);
      CHECK(test::gradient_error(loss, weights.log_delta, gradients.log_delta) < 1e-8);
      CHECK(test::gradient_error(loss, weights.B, gradients.B) < 1e-8);
      CHECK(test::gradient_error(loss, weights.C, gradients.C) < 1e-8);
      CHECK(test::gradient_error(loss, weights.C_back, gradients.C_back) < 1e-8);
      CHECK(test::gradient_error(loss, weights.D, gradients.D) < 1e-8);
    }
  const auto weights = draw<double>(shape, 24);
  const auto state = draw_state<double>(shape, 1, 25);
  CHECK_THROWS_WITH(forward<double>(weights, Tensor<double, 3>({1, 4, 3}), &state),
                    "s5_forward: initial is given, expected no state, as a pass from the end has "
                    "none");
}

TEST_CASE("the gradients of S5 in float are those in double") {
  for (const bool bidirectional : {false, true})
    for (const Index length : {1, 40, 600}) {
      const S5Shape shape{.width = 3, .state = 8, .bidirectional = bidirectional};
      const auto narrow = draw<float>(shape, 26);
      const auto run = [&]<class T>(T) {
        S5Weights<T> weights(shape), gradients;
        test::assign(narrow, weights);
        const std::array<Index, 3> extents{2, length, 3};
        const auto u = test::float_normal<T>(27, extents), dy = test::float_normal<T>(28, extents);
        S5State<T> initial(shape, 2), dfinal(shape, 2), dinitial;
        initial.x = test::float_normal<std::complex<T>>(29, initial.x.extents());
        dfinal.x = test::float_normal<std::complex<T>>(30, initial.x.extents());
        const auto given = [&](auto& state) { return bidirectional ? nullptr : &state; };
        Tensor<T, 3> y(extents), du(extents);
        S5Saved<T> saved;
        S5Workspace<T> workspace;
        s5_forward<T>(cpu(1), weights, u, given(initial), y, nullptr, {}, saved, workspace);
        s5_backward<T>(cpu(1), weights, u, given(initial), {}, saved, dy, given(dfinal), gradients,
                       du, given(dinitial), workspace);
        test::Results results;
        test::add_results(results, gradients);
        test::add_result(results, "input", du);
        test::add_result(results, "initial", dinitial.x);
        return results;
      };
      const auto [error, where] = test::largest_error(run(float()), run(double()));
      INFO(where << " length " << length << " bidirectional " << bidirectional);
      CHECK(error < 16 * static_cast<double>(std::numeric_limits<float>::epsilon()) *
                        std::sqrt(static_cast<double>(length)));
    }
}
