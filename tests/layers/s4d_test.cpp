#include "ssm/layers/s4d.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ssm/layers/s4d_step.hpp"
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

/// Lin, or with `still` modes without a frequency.
template <class T>
S4dWeights<T> draw(const S4dShape& shape, std::uint64_t seed, bool still = false) {
  S4dWeights<T> weights(shape);
  DiagonalModes<double> modes{Eigen::VectorXcd(shape.modes()),
                              Eigen::VectorXcd::Ones(shape.modes())};
  for (Index n = 0; n < shape.modes(); ++n)
    modes.lambda(n) = still ? std::complex<double>(-static_cast<double>(n + 1))
                            : std::complex<double>(-0.5, 3.14159 * static_cast<double>(n));
  initialize(weights, modes, seed);
  return weights;
}

template <class T>
S4dState<T> draw_state(const S4dShape& shape, Index batch, std::uint64_t seed) {
  S4dState<T> state(shape, batch);
  state.x = Random(seed).normal<std::complex<T>, 3>(state.x.extents());
  return state;
}

template <class T>
struct Result {
  Tensor<T, 3> y;
  S4dState<T> final;
};

template <class T>
Result<T> forward(const S4dWeights<T>& weights, const View<const T, 3>& x,
                  const S4dState<T>* initial, const S4dOptions<T>& options = {}, int threads = 1) {
  Result<T> result{Tensor<T, 3>(x.extents()), {}};
  S4dWorkspace<T> workspace;
  s4d_forward<T>(cpu(threads), weights, x, initial, result.y,
                 weights.shape().bidirectional ? nullptr : &result.final, options, workspace);
  return result;
}

constexpr S4dForm forms[] = {S4dForm::fastest, S4dForm::scan, S4dForm::convolution,
                             S4dForm::recurrence};

}  // namespace

TEMPLATE_TEST_CASE("all forms of S4D agree, and with the sum over their kernel", "", float,
                   double) {
  using T = TestType;
  for (const bool still : {false, true})
    for (const Index length : {0, 1, 33, 500}) {
      const S4dShape shape{.width = 3, .state = 16};
      const auto weights = draw<T>(shape, 1, still);
      const auto x = Random(2).normal<T, 3>({2, length, 3});
      const auto initial = draw_state<T>(shape, 2, 3);
      const auto want = forward<T>(weights, x, &initial, {.form = S4dForm::recurrence});
      const double bound = 64 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                           static_cast<double>(length + 1);
      for (const S4dForm form : forms) {
        const auto got = forward<T>(weights, x, &initial, {.form = form});
        CHECK(test::relative_error(got.y, want.y, 1) <= bound);
        CHECK(test::relative_error(got.final.x, want.final.x, 1) <= bound);
      }
    }
}

TEST_CASE("S4D and DSS have the gradients of finite differences in every form") {
  for (const S4dForm form : forms)
    for (const bool bidirectional : {false, true})
      for (const Index length : {0, 1, 19}) {
        const S4dShape shape{.width = 2, .state = 4, .bidirectional = bidirectional};
        auto weights = draw<double>(shape, 4);
        auto x = Random(5).normal<double, 3>({2, length, 2});
        auto initial = draw_state<double>(shape, 2, 6);
        const auto dfinal = draw_state<double>(shape, 2, 7);
        const auto dy = Random(8).normal<double, 3>(x.extents());
        const bool dss = length == 1 || form == S4dForm::recurrence;
        const S4dOptions<double> options{.form = form, .rate = 1.5, .dss = dss, .dss_length = 7};
        const auto loss = [&] {
          const auto result =
              forward<double>(weights, x, bidirectional ? nullptr : &initial, options);
          double sum = test::dot(result.y, dy);
          for (Index i = 0; i < result.final.x.size(); ++i)
            sum += std::real(std::conj(dfinal.x.data()[i]) * result.final.x.data()[i]);
          return sum;
        };
        S4dWeights<double> gradients;
        Tensor<double, 3> dx(x.extents());
        S4dState<double> dinitial;
        S4dWorkspace<double> workspace;
        s4d_backward<double>(cpu(2), weights, x, bidirectional ? nullptr : &initial, options, dy,
                             bidirectional ? nullptr : &dfinal, gradients, dx,
                             bidirectional ? nullptr : &dinitial, workspace);
        CHECK(test::gradient_error(loss, x, dx) < 1e-8);
        CHECK(test::gradient_error(loss, weights.log_decay, gradients.log_decay) < 1e-8);
        CHECK(test::gradient_error(loss, weights.frequency, gradients.frequency) < 1e-8);
        CHECK(test::gradient_error(loss, weights.log_delta, gradients.log_delta) < 1e-8);
        CHECK(test::gradient_error(loss, weights.B, gradients.B) < 1e-8);
        CHECK(test::gradient_error(loss, weights.C, gradients.C) < 1e-8);
        CHECK(test::gradient_error(loss, weights.D, gradients.D) < 1e-8);
        if (bidirectional) continue;
        const auto reals = [](S4dState<double>& state) {
          const auto view = state.x.view();
          Tensor<double, 1> parts({2 * view.size()});
          std::copy_n(reinterpret_cast<const double*>(view.data()), parts.size(), parts.data());
          return parts;
        };
        auto parts = reals(initial);
        const auto slopes = reals(dinitial);
        const auto moved = [&] {
          const auto before = initial;
          std::copy_n(parts.data(), parts.size(), reinterpret_cast<double*>(initial.x.data()));
          const double value = loss();
          initial = before;
          return value;
        };
        CHECK(test::gradient_error(moved, parts, slopes) < 1e-8);
      }
}

TEST_CASE("a bidirectional S4D adds what the later inputs give, from the end to the start") {
  const S4dShape shape{.width = 2, .state = 8, .bidirectional = true};
  const auto weights = draw<double>(shape, 9);
  const auto x = Random(10).normal<double, 3>({1, 40, 2});
  const auto got = forward<double>(weights, x, nullptr, {.form = S4dForm::scan});
  Tensor<double, 2> kernels[2];
  DiagonalKernelWorkspace<double> workspace;
  S4dWorkspace<double> modes;
  detail::load_s4d<double>(weights, {}, 40, modes);
  for (Index d = 0; d < 2; ++d) {
    kernels[d].resize({2, 40});
    s4d_kernel<double>(cpu(1), Discretization::zero_order_hold,
                       {modes.lambda, modes.delta, detail::as_complex(weights.B.view()),
                        detail::as_complex(weights.C.view()[d])},
                       kernels[d], workspace);
  }
  Tensor<double, 3> want(x.extents());
  for (Index c = 0; c < 2; ++c)
    for (Index i = 0; i < 40; ++i) {
      want(0, i, c) = weights.D(c) * x(0, i, c);
      for (Index j = 0; j <= i; ++j) want(0, i, c) += kernels[0](c, j) * x(0, i - j, c);
      for (Index j = 0; i + 1 + j < 40; ++j) want(0, i, c) += kernels[1](c, j) * x(0, i + 1 + j, c);
    }
  CHECK(test::relative_error(got.y, want) < 1e-12);
}

TEST_CASE("an S4D step equals the forward pass, follows the weights, allocates nothing") {
  using T = double;
  const S4dShape shape{.width = 5, .state = 12};
  auto weights = draw<T>(shape, 11);
  const auto x = Random(12).normal<T, 3>({3, 25, 5});
  const double bound = 1000 * std::numeric_limits<T>::epsilon();
  S4dStepScratch<T> scratch(weights, {.rate = T(2)});
  for (int pass = 0; pass < 2; ++pass) {
    const auto initial = draw_state<T>(shape, 3, 13);
    const auto whole = forward<T>(weights, x, &initial, {.rate = T(2)});
    auto state = initial;
    Tensor<T, 3> y(x.extents());
    for (Index t = 0; t < 25; ++t) {
      const View<const T, 2> now(&x(0, t, 0), {3, 5}, {25 * 5, 1});
      const View<T, 2> out(&y(0, t, 0), {3, 5}, {25 * 5, 1});
      CHECK(test::allocations_of([&] { s4d_step<T>(weights, now, state, out, scratch); }) == 0);
    }
    CHECK(test::relative_error(y, whole.y) < bound);
    CHECK(test::relative_error(state.x, whole.final.x) < bound);
    for (T& f : weights.frequency) f += T(1);
  }
}

TEST_CASE("at half the sample rate, twice the Δ gives the output of a held input") {
  const S4dShape shape{.width = 3, .state = 16};
  const auto weights = draw<double>(shape, 14);
  const auto slow = Random(15).normal<double, 3>({1, 50, 3});
  Tensor<double, 3> fast({1, 100, 3}), want({1, 50, 3});
  for (Index t = 0; t < 100; ++t)
    for (Index c = 0; c < 3; ++c) fast(0, t, c) = slow(0, t / 2, c);
  const auto at_full = forward<double>(weights, fast, nullptr);
  const auto at_half = forward<double>(weights, slow, nullptr, {.rate = 2});
  for (Index t = 0; t < 50; ++t)
    for (Index c = 0; c < 3; ++c) want(0, t, c) = at_full.y(0, 2 * t + 1, c);
  CHECK(test::relative_error(at_half.y, want) < 1e-12);
  CHECK(test::relative_error(at_half.final.x, at_full.final.x) < 1e-12);
}

TEST_CASE("S4D's bits do not depend on the number of threads") {
  const S4dShape shape{.width = 19, .state = 8, .bidirectional = true};
  const auto weights = draw<double>(shape, 16);
  const auto x = Random(17).normal<double, 3>({2, 300, 19});
  for (const S4dForm form : forms) {
    const auto run = [&](int threads) {
      Tensor<double, 3> dx(x.extents());
      S4dWeights<double> gradients;
      S4dWorkspace<double> workspace;
      s4d_backward<double>(cpu(threads), weights, x, nullptr, {.form = form}, x, nullptr, gradients,
                           dx, nullptr, workspace);
      return std::tuple(forward<double>(weights, x, nullptr, {.form = form}, threads).y, dx,
                        gradients);
    };
    const auto [y, dx, gradients] = run(1);
    const auto [y3, dx3, gradients3] = run(3);
    CHECK(test::same_bits(y, y3));
    CHECK(test::same_bits(dx, dx3));
    CHECK(test::same_bits(gradients.log_decay, gradients3.log_decay));
    CHECK(test::same_bits(gradients.B, gradients3.B));
    CHECK(test::same_bits(gradients.C, gradients3.C));
    CHECK(test::same_bits(gradients.log_delta, gradients3.log_delta));
  }
}

TEST_CASE(
    "a NaN that S4D reads spoils later outputs, and earlier ones only as far as its form says") {
  const auto weights = draw<float>({.width = 2, .state = 8}, 35);
  auto u = Random(36).normal<float, 3>({1, 200, 2});
  u(0, 100, 1) = std::numeric_limits<float>::quiet_NaN();
  for (const auto& [form, earlier] :
       {std::pair{S4dForm::recurrence, 0}, {S4dForm::scan, 31}, {S4dForm::convolution, 100}}) {
    INFO("form " << static_cast<int>(form));
    const auto y = forward<float>(weights, u, nullptr, {.form = form}).y;
    for (Index t = 0; t < 200; ++t) {
      CHECK(std::isfinite(y(0, t, 0)));
      if (t >= 100) CHECK(std::isnan(y(0, t, 1)));
      if (t < 100 - earlier) CHECK(std::isfinite(y(0, t, 1)));
    }
  }
}

TEST_CASE("S4D refuses wrong shapes and domains") {
  const auto weights = draw<double>({.width = 3, .state = 4}, 18);
  const auto x = Random(19).normal<double, 3>({2, 3, 4});
  CHECK_THROWS_WITH(forward<double>(weights, x, nullptr),
                    "s4d_forward: input is (2, 3, 4), expected (2, 3, 3)");
  const auto fits = Random(19).normal<double, 3>({2, 3, 3});
  CHECK_THROWS_AS(forward<double>(weights, fits, nullptr, {.rate = 0}), DomainError);
  for (const auto form : {S4dForm::scan, S4dForm::convolution, S4dForm::recurrence})
    CHECK_THROWS_AS(
        forward<double>(weights, fits, nullptr, {.form = form, .method = Discretization::tustin}),
        DomainError);
  Tensor<Index, 1> offsets({2});
  offsets(1) = 3;
  CHECK_THROWS_AS(forward<double>(weights, fits, nullptr, {.offsets = offsets}), ShapeError);
  const auto packed = fits.view().slice(0, 0, 1);
  CHECK_THROWS_AS(
      forward<double>(weights, packed, nullptr, {.form = S4dForm::convolution, .offsets = offsets}),
      DomainError);
  CHECK_THROWS_AS(forward<double>(weights, packed, nullptr, {.dss = true, .offsets = offsets}),
                  DomainError);
  offsets(1) = 2;
  CHECK_THROWS_AS(forward<double>(weights, packed, nullptr, {.offsets = offsets}), DomainError);
  const auto two_ways = draw<double>({.width = 3, .state = 4, .bidirectional = true}, 20);
  const auto state = draw_state<double>({.width = 3, .state = 4}, 2, 21);
  CHECK_THROWS_AS(forward<double>(two_ways, fits, &state), DomainError);
  CHECK_THROWS_AS(S4dWeights<double>({.width = 3, .state = 5}), DomainError);
}

TEST_CASE(
    "an S4D step has no set-up to forget: what it cannot do is said when its scratch is made") {
  const S4dShape shape{.width = 3, .state = 4};
  const auto weights = draw<double>(shape, 22);
  static_assert(!std::is_default_constructible_v<S4dStepScratch<double>>);
  CHECK_THROWS_WITH(
      S4dStepScratch<double>(draw<double>({.width = 3, .state = 4, .bidirectional = true}, 22)),
      "S4dStepScratch: weights is bidirectional, expected one direction, as a pass from the end "
      "has "
      "no step");
  CHECK_THROWS_WITH(S4dStepScratch<double>(weights, {.dss = true}),
                    "S4dStepScratch: state is given, expected none for dss without a dss_length");
  CHECK_THROWS_AS(S4dStepScratch<double>(weights, {.method = Discretization::tustin}), DomainError);
  for (const double rate : {0.0, -1.0, std::numeric_limits<double>::infinity(),
                            std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS(S4dStepScratch<double>(weights, {.rate = rate}), DomainError);
  auto still = weights;
  still.log_decay.fill(-1e4);  // a decay that underflows to 0
  CHECK_THROWS_AS(S4dStepScratch<double>(still, {.dss = true, .dss_length = 9}), DomainError);
  auto broken = weights;
  broken.B.resize({3, 1, 2});
  CHECK_THROWS_AS(S4dStepScratch<double>(broken), ShapeError);
}

TEST_CASE("an S4D step with a wrong scratch or state ends the program with a clear sentence") {
  const S4dShape shape{.width = 3, .state = 4};
  const auto weights = draw<double>(shape, 22);
  const auto step = [&](const S4dWeights<double>& w, S4dState<double> state, Index width) {
    return test::last_words([&] {
      S4dStepScratch<double> scratch(weights);
      Tensor<double, 2> row({2, width});
      s4d_step<double>(w, row, state, row, scratch);
    });
  };
  CHECK(step(weights, {shape, 2}, 3).empty());
  const S4dShape wide{.width = 3, .state = 64};
  CHECK_THAT(step(draw<double>(wide, 22), {wide, 2}, 3),
             test::contains("s4d_step: scratch is made for weights of another shape, expected one "
                            "made for these"));
  CHECK_THAT(step(weights, {}, 3),
             test::contains("s4d_step: state is (0, 0, 0), expected (2, 3, 2)"));
  CHECK_THAT(step(weights, {shape, 2}, 4),
             test::contains("s4d_step: input is (2, 4), expected (2, 3)"));
}

TEST_CASE("packed sequences give S4D what each gives by itself, and the sum of the gradients") {
  constexpr Index ends[] = {0, 9, 9, 10, 75};
  Tensor<Index, 1> offsets({5});
  std::copy(std::begin(ends), std::end(ends), offsets.begin());
  const double bound = 75 * 64 * std::numeric_limits<double>::epsilon();
  for (const bool bidirectional : {false, true})
    for (const S4dForm form : {S4dForm::fastest, S4dForm::recurrence}) {
      const S4dShape shape{.width = 3, .state = 8, .bidirectional = bidirectional};
      const auto weights = draw<double>(shape, 19);
      const auto x = Random(20).normal<double, 3>({1, 75, 3});
      const auto dy = Random(21).normal<double, 3>(x.extents());
      const auto initial = draw_state<double>(shape, 4, 22),
                 dfinal = draw_state<double>(shape, 4, 23);
      const auto run = [&](const View<const double, 3>& u, const View<const double, 3>& slope,
                           const S4dState<double>& from, const S4dState<double>& slope_to,
                           const S4dOptions<double>& options) {
        S4dWeights<double> gradients;
        S4dWorkspace<double> workspace;
        S4dState<double> dinitial;
        Tensor<double, 3> du(u.extents());
        const auto result = forward<double>(weights, u, bidirectional ? nullptr : &from, options);
        s4d_backward<double>(cpu(2), weights, u, bidirectional ? nullptr : &from, options, slope,
                             bidirectional ? nullptr : &slope_to, gradients, du,
                             bidirectional ? nullptr : &dinitial, workspace);
        return std::tuple(result.y, result.final.x, gradients, du, dinitial.x);
      };
      const S4dOptions<double> options{
          .form = form, .dss = bidirectional, .dss_length = 20, .offsets = offsets};
      const auto [y, final, gradients, du, dinitial] = run(x, dy, initial, dfinal, options);
      S4dWeights<double> sums(shape);
      for (Index s = 0; s < 4; ++s) {
        INFO("bidirectional " << bidirectional << " sequence " << s);
        const Index begin = ends[s], length = ends[s + 1] - begin;
        const auto cut = [&](const auto& whole) { return whole.view().slice(1, begin, length); };
        const auto copy = [](const auto& view) {
          Tensor<typename std::remove_cvref_t<decltype(view)>::value_type, 3> to(view.extents());
          std::copy_n(view.data(), view.size(), to.data());
          return to;
        };
        S4dState<double> from, to;
        from.x = copy(initial.x.view().slice(0, s, 1));
        to.x = copy(dfinal.x.view().slice(0, s, 1));
        const auto [y1, final1, gradients1, du1, dinitial1] =
            run(cut(x), cut(dy), from, to,
                {.form = S4dForm::scan, .dss = bidirectional, .dss_length = 20});
        CHECK(test::relative_error(copy(cut(y)), y1) <= bound);
        CHECK(test::relative_error(copy(cut(du)), du1) <= bound);
        if (!bidirectional) {
          CHECK(test::relative_error(copy(final.view().slice(0, s, 1)), final1) <= bound);
          CHECK(test::relative_error(copy(dinitial.view().slice(0, s, 1)), dinitial1) <= bound);
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
      }
      CHECK(test::relative_error(gradients.log_decay, sums.log_decay) <= bound);
      CHECK(test::relative_error(gradients.frequency, sums.frequency) <= bound);
      CHECK(test::relative_error(gradients.log_delta, sums.log_delta) <= bound);
      CHECK(test::relative_error(gradients.B, sums.B) <= bound);
      CHECK(test::relative_error(gradients.C, sums.C) <= bound);
      CHECK(test::relative_error(gradients.D, sums.D) <= bound);
    }
}

TEST_CASE("DSS is the convolution with its kernel, in every form, at its length and below") {
  const S4dShape shape{.width = 3, .state = 8};
  const auto weights = draw<double>(shape, 14);
  for (const Index length : {1, 12, 100}) {
    const auto x = Random(15).normal<double, 3>({2, length, 3});
    for (const Index trained : {Index(0), Index(100)}) {
      S4dWorkspace<double> modes;
      detail::load_s4d<double>(weights, {.rate = 1.5}, length, modes);
      Tensor<double, 2> kernel({3, trained > 0 ? trained : length});
      dss_kernel<double>(cpu(1),
                         {modes.lambda, modes.delta, detail::as_complex(weights.B.view()),
                          detail::as_complex(weights.C.view()[0])},
                         kernel, modes.kernels);
      Tensor<double, 3> want(x.extents());
      for (Index b = 0; b < 2; ++b)
        for (Index c = 0; c < 3; ++c)
          for (Index t = 0; t < length; ++t) {
            want(b, t, c) = weights.D(c) * x(b, t, c);
            for (Index l = 0; l <= t; ++l) want(b, t, c) += kernel(c, l) * x(b, t - l, c);
          }
      for (const S4dForm form : forms) {
        INFO("length " << length << " of " << trained << " form " << static_cast<int>(form));
        Tensor<double, 3> y(x.extents());
        s4d_forward<double>(cpu(1), weights, x, nullptr, y, nullptr,
                            {.form = form, .rate = 1.5, .dss = true, .dss_length = trained}, modes);
        CHECK(test::relative_error(y, want) <=
              64 * std::numeric_limits<double>::epsilon() * static_cast<double>(length + 1));
      }
    }
  }
}

TEST_CASE("DSS of a length resumes anywhere, in every form and by steps, beyond its length too") {
  const S4dShape shape{.width = 3, .state = 8};
  const auto weights = draw<double>(shape, 16);
  const auto x = Random(17).normal<double, 3>({2, 90, 3});
  const auto initial = draw_state<double>(shape, 2, 18);
  const double bound = 90 * 64 * std::numeric_limits<double>::epsilon();
  S4dOptions<double> options{.form = S4dForm::recurrence, .dss = true, .dss_length = 40};
  const auto whole = forward<double>(weights, x, &initial, options);
  for (const S4dForm form : forms)
    for (const Index cut : {0, 1, 33, 90}) {
      options.form = form;
      const auto first = forward<double>(weights, x.view().slice(1, 0, cut), &initial, options);
      const auto rest =
          forward<double>(weights, x.view().slice(1, cut, 90 - cut), &first.final, options);
      CHECK(test::relative_error(rest.final.x, whole.final.x) < bound);
      if (cut < 90) CHECK(std::abs(rest.y(1, 89 - cut, 2) - whole.y(1, 89, 2)) < bound);
    }
  auto state = initial;
  S4dStepScratch<double> scratch(weights, options);
  Tensor<double, 3> y(x.extents());
  for (Index t = 0; t < 90; ++t) {
    const View<const double, 2> now(&x(0, t, 0), {2, 3}, {270, 1});
    const View<double, 2> out(&y(0, t, 0), {2, 3}, {270, 1});
    s4d_step<double>(weights, now, state, out, scratch);
  }
  CHECK(test::relative_error(y, whole.y) < bound);
  CHECK(test::relative_error(state.x, whole.final.x) < bound);
}

TEST_CASE("DSS of the length of its input has the gradients of finite differences") {
  for (const bool bidirectional : {false, true})
    for (const Index length : {1, 12}) {
      auto weights = draw<double>({.width = 2, .state = 4, .bidirectional = bidirectional}, 14);
      auto x = Random(15).normal<double, 3>({2, length, 2});
      const auto dy = Random(16).normal<double, 3>(x.extents());
      const S4dOptions<double> options{.rate = 1.5, .dss = true};
      S4dWorkspace<double> workspace;
      Tensor<double, 3> y(x.extents());
      const auto loss = [&] {
        s4d_forward<double>(cpu(2), weights, x, nullptr, y, nullptr, options, workspace);
        return test::dot(y, dy);
      };
      S4dWeights<double> gradients;
      Tensor<double, 3> dx(x.extents());
      s4d_backward<double>(cpu(1), weights, x, nullptr, options, dy, nullptr, gradients, dx,
                           nullptr, workspace);
      CHECK(test::gradient_error(loss, x, dx) < 1e-8);
      CHECK(test::gradient_error(loss, weights.log_decay, gradients.log_decay) < 1e-7);
      CHECK(test::gradient_error(loss, weights.frequency, gradients.frequency) < 1e-7);
      CHECK(test::gradient_error(loss, weights.log_delta, gradients.log_delta) < 1e-7);
      CHECK(test::gradient_error(loss, weights.B, gradients.B) < 1e-7);
      CHECK(test::gradient_error(loss, weights.C, gradients.C) < 1e-7);
    }
}

TEST_CASE("DSS refuses a state that has no length, other methods, and modes that do not decay") {
  const S4dShape shape{.width = 2, .state = 4};
  auto weights = draw<double>(shape, 17);
  const Tensor<double, 3> x({1, 5, 2});
  const auto initial = draw_state<double>(shape, 1, 18);
  const auto run = [&](const S4dState<double>* state, const S4dOptions<double>& options) {
    S4dWorkspace<double> workspace;
    Tensor<double, 3> y(x.extents());
    s4d_forward<double>(cpu(1), weights, x, state, y, nullptr, options, workspace);
  };
  CHECK_THROWS_WITH(run(&initial, {.dss = true}),
                    "s4d_forward: state is given, expected none for dss without a dss_length");
  CHECK_THROWS_AS(run(nullptr, {.dss = true, .dss_length = -1}), DomainError);
  CHECK_THROWS_AS(run(nullptr, {.method = Discretization::bilinear, .dss = true}), DomainError);
  weights.log_decay.fill(-1e4);  // a decay that underflows to 0
  CHECK_THROWS_AS(run(nullptr, {.dss = true}), DomainError);
}

TEST_CASE(
    "the gradients of S4D and DSS in float are those in double, in every form and direction") {
  for (const bool bidirectional : {false, true})
    for (const bool dss : {false, true})
      for (const Index length : {1, 40, 600}) {
        const S4dShape shape{.width = 3, .state = 16, .bidirectional = bidirectional};
        const auto narrow = draw<float>(shape, 30);
        const auto run = [&]<class T>(T, S4dForm form) {
          S4dWeights<T> weights(shape), gradients;
          test::assign(narrow, weights);
          const std::array<Index, 3> extents{2, length, 3};
          const auto u = test::float_normal<T>(31, extents),
                     dy = test::float_normal<T>(32, extents);
          S4dState<T> initial(shape, 2), dfinal(shape, 2), dinitial;
          initial.x = test::float_normal<std::complex<T>>(33, initial.x.extents());
          dfinal.x = test::float_normal<std::complex<T>>(34, initial.x.extents());
          const auto given = [&](auto& state) { return bidirectional ? nullptr : &state; };
          Tensor<T, 3> du(extents);
          S4dWorkspace<T> workspace;
          s4d_backward<T>(cpu(1), weights, u, given(initial),
                          {.form = form, .dss = dss, .dss_length = 50}, dy, given(dfinal),
                          gradients, du, given(dinitial), workspace);
          test::Results results;
          test::add_results(results, gradients);
          test::add_result(results, "input", du);
          test::add_result(results, "initial", dinitial.x);
          return results;
        };
        const auto want = run(double(), S4dForm::scan);
        // DSS divides by a sum over its length.
        const double bound = 16 * static_cast<double>(std::numeric_limits<float>::epsilon()) *
                             std::sqrt(static_cast<double>(std::max<Index>(length, dss ? 50 : 1)));
        for (const S4dForm form : forms) {
          const auto [error, where] = test::largest_error(run(float(), form), want);
          INFO(where << " form " << static_cast<int>(form) << " length " << length << " dss " << dss
                     << " bidirectional " << bidirectional);
          CHECK(error < bound);
        }
      }
}
