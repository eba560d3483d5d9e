#include "ssm/layers/s4d.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "support/both_ways_laws.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"

namespace s4d_test {

using namespace ssm;
using test::Random;

static_assert(SequenceLayer<S4d<float>> && SequenceLayer<S4d<double>>);

namespace {

/// Lin, or with `still` modes without a frequency.
template <class T>
S4d<T> draw(const S4dConfig& config, std::uint64_t seed, bool still = false) {
  S4d<T> layer(config);
  DiagonalModes<double> modes{Eigen::VectorXcd(config.modes()),
                              Eigen::VectorXcd::Ones(config.modes())};
  for (Index n = 0; n < config.modes(); ++n)
    modes.lambda(n) = still ? std::complex<double>(-static_cast<double>(n + 1))
                            : std::complex<double>(-0.5, 3.14159 * static_cast<double>(n));
  initialize(layer, modes, seed);
  return layer;
}

template <class T>
S4dState<T> draw_state(const S4d<T>& layer, Index batch, std::uint64_t seed) {
  auto state = make_state(layer, batch);
  state.x = Random(seed).normal<std::complex<T>, 3>(state.x.extents());
  return state;
}

template <class T>
struct Result {
  Tensor<T, 3> y;
  S4dState<T> final;
};

/// From a state, or from rest without a state after.
template <class T>
Result<T> run(S4d<T> layer, const View<const T, 3>& x, const S4dState<T>* initial,
              const LayerOptions<>& options = {}, S4dForm form = S4dForm::fastest) {
  Result<T> result{Tensor<T, 3>(x.extents()), {}};
  layer.config.form = form;
  S4dScratch<T> scratch;
  if (initial) {
    result.final = *initial;
    forward(cpu(1), layer, x, result.final, result.y, options, scratch);
  } else {
    forward(cpu(1), layer, x, {}, result.y, options, scratch);
  }
  return result;
}

constexpr S4dForm forms[] = {S4dForm::fastest, S4dForm::scan, S4dForm::convolution,
                             S4dForm::recurrence};

/// Λ and Δ of a layer.
struct Modes {
  Tensor<std::complex<double>, 2> lambda;
  Tensor<double, 1> delta;

  explicit Modes(const S4d<double>& layer, double rate = 1)
      : lambda(layer.log_decay.extents()), delta(layer.log_delta.extents()) {
    SampleModesScratch<double> scratch;
    sample_modes(cpu(1), {layer.log_decay, layer.frequency, layer.log_delta}, {.rate = rate},
                 {.lambda = lambda, .delta = delta}, scratch);
  }
};

}  // namespace

TEST_CASE("S4D keeps the laws of layers in every form") {
  for (const S4dForm form : forms) {
    INFO("form " << static_cast<int>(form));
    test::check_layer_laws(draw<double>({.width = 3, .state = 8, .form = form}, 1), {});
    test::check_layer_laws(draw<double>({.width = 3, .state = 4, .dss = true, .dss_length = 7}, 2),
                           {});
  }
  for (const auto method :
       {Discretization::bilinear, Discretization::forward_euler, Discretization::backward_euler})
    test::check_layer_laws(draw<double>({.width = 2, .state = 4, .method = method}, 3), {});
}

TEST_CASE("S4D of two directions keeps the laws of layers in every form") {
  const test::LayerLaws laws{.resumes = false, .steps = false, .causal = false};
  for (const S4dForm form : forms) {
    INFO("form " << static_cast<int>(form));
    const auto layer =
        draw<double>({.width = 3, .state = 8, .bidirectional = true, .form = form}, 4);
    test::check_layer_laws(layer, laws);
    test::check_split_both_ways(layer, laws);
    const auto dss = draw<double>(
        {.width = 3, .state = 4, .bidirectional = true, .form = form, .dss = true, .dss_length = 7},
        5);
    test::check_layer_laws(dss, laws);
    test::check_split_both_ways(dss, laws);
  }
}

TEST_CASE("S4D and DSS in float are those in double, in every form and direction") {
  for (const bool bidirectional : {false, true})
    for (const bool dss : {false, true})
      for (const S4dForm form : forms) {
        INFO("form " << static_cast<int>(form) << " dss " << dss << " bidirectional "
                     << bidirectional);
        const S4dConfig config{.width = 3,
                               .state = 16,
                               .bidirectional = bidirectional,
                               .form = form,
                               .dss = dss,
                               .dss_length = 50};
        S4dConfig scan = config;
        scan.form = S4dForm::scan;
        test::LayerLaws laws;
        if (dss) laws.precision_floor = 50;  // DSS divides by a sum over its length
        test::check_precision(draw<float>(config, 30), S4d<double>(scan), laws);
      }
}

TEMPLATE_TEST_CASE("all forms of S4D agree, and with the sum over their kernel", "", float,
                   double) {
  using T = TestType;
  for (const bool still : {false, true})
    for (const Index length : {0, 1, 33, 500}) {
      const auto layer = draw<T>({.width = 3, .state = 16}, 1, still);
      const auto x = Random(2).normal<T, 3>({2, length, 3});
      const auto initial = draw_state<T>(layer, 2, 3);
      const auto want = run<T>(layer, x, &initial, {}, S4dForm::recurrence);
      const double bound = 64 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                           static_cast<double>(length + 1);
      for (const S4dForm form : forms) {
        const auto got = run<T>(layer, x, &initial, {}, form);
        CHECK(test::relative_error(got.y, want.y, 1) <= bound);
        CHECK(test::relative_error(got.final.x, want.final.x, 1) <= bound);
      }
    }
}

TEST_CASE("a bidirectional S4D adds what the later inputs give, from the end to the start") {
  const auto layer = draw<double>({.width = 2, .state = 8, .bidirectional = true}, 9);
  const auto x = Random(10).normal<double, 3>({1, 40, 2});
  const auto got = run<double>(layer, x, nullptr, {}, S4dForm::scan);
  const Modes modes(layer);
  Tensor<double, 2> kernels[2];
  DiagonalKernelScratch<double> scratch;
  for (Index d = 0; d < 2; ++d) {
    kernels[d].resize({2, 40});
    s4d_kernel(cpu(1),
               {modes.lambda, modes.delta, detail::as_complex(layer.B.view()),
                detail::as_complex(layer.C.view()[d])},
               {}, {kernels[d]}, scratch);
  }
  Tensor<double, 3> want(x.extents());
  for (Index c = 0; c < 2; ++c)
    for (Index i = 0; i < 40; ++i) {
      want(0, i, c) = layer.D(c) * x(0, i, c);
      for (Index j = 0; j <= i; ++j) want(0, i, c) += kernels[0](c, j) * x(0, i - j, c);
      for (Index j = 0; i + 1 + j < 40; ++j) want(0, i, c) += kernels[1](c, j) * x(0, i + 1 + j, c);
    }
  CHECK(test::relative_error(got.y, want) < 1e-12);
}

TEST_CASE("a state beyond the end is that of the steps that would follow") {
  const auto layer = draw<double>({.width = 2, .state = 8, .bidirectional = true}, 9);
  const auto x = Random(10).normal<double, 3>({1, 40, 2});
  for (const Index at : {0, 1, 25, 40}) {
    auto rest = make_state(layer, 1);
    const auto later = run<double>(layer, x.view().slice(1, at, 40 - at), &rest);
    rest.x_back = later.final.x_back;
    const auto got = run<double>(layer, x.view().slice(1, 0, at), &rest);
    const auto want = run<double>(layer, x, nullptr);
    double error = 0;
    for (Index t = 0; t < at; ++t)
      for (Index c = 0; c < 2; ++c)
        error = test::worse(error, std::abs(got.y(0, t, c) - want.y(0, t, c)));
    CHECK(error < 1e-12);
  }
}

TEST_CASE("at half the sample rate, twice the Δ gives the output of a held input") {
  const auto layer = draw<double>({.width = 3, .state = 16}, 14);
  const auto slow = Random(15).normal<double, 3>({1, 50, 3});
  Tensor<double, 3> fast({1, 100, 3}), want({1, 50, 3});
  for (Index t = 0; t < 100; ++t)
    for (Index c = 0; c < 3; ++c) fast(0, t, c) = slow(0, t / 2, c);
  const auto rest = make_state(layer, 1);
  const auto at_full = run<double>(layer, fast, &rest);
  const auto at_half = run<double>(layer, slow, &rest, {.rate = 2});
  for (Index t = 0; t < 50; ++t)
    for (Index c = 0; c < 3; ++c) want(0, t, c) = at_full.y(0, 2 * t + 1, c);
  CHECK(test::relative_error(at_half.y, want) < 1e-12);
  CHECK(test::relative_error(at_half.final.x, at_full.final.x) < 1e-12);
}

TEST_CASE("S4D's bits do not depend on the number of threads") {
  for (const S4dForm form : forms)
    test::check_threads(
        test::any(draw<double>({.width = 19, .state = 8, .bidirectional = true, .form = form}, 16)),
        {});
}

TEST_CASE(
    "a NaN that S4D reads spoils later outputs, and earlier ones only as far as its form says") {
  const auto layer = draw<float>({.width = 2, .state = 8}, 35);
  auto u = Random(36).normal<float, 3>({1, 200, 2});
  u(0, 100, 1) = std::numeric_limits<float>::quiet_NaN();
  for (const auto& [form, earlier] :
       {std::pair{S4dForm::recurrence, 0}, {S4dForm::scan, 31}, {S4dForm::convolution, 100}}) {
    INFO("form " << static_cast<int>(form));
    const auto y = run<float>(layer, u, nullptr, {}, form).y;
    for (Index t = 0; t < 200; ++t) {
      CHECK(std::isfinite(y(0, t, 0)));
      if (t >= 100) CHECK(std::isnan(y(0, t, 1)));
      if (t < 100 - earlier) CHECK(std::isfinite(y(0, t, 1)));
    }
  }
}

TEST_CASE("S4D refuses wrong shapes and domains by name") {
  const auto layer = draw<double>({.width = 3, .state = 4}, 18);
  const auto x = Random(19).normal<double, 3>({2, 3, 4});
  CHECK_THROWS_WITH(run<double>(layer, x, nullptr),
                    "S4d forward: input is (2, 3, 4), expected (2, 3, 3)");
  CHECK_THROWS_AS(S4d<double>({.width = 3, .state = 5}), DomainError);
  for (const auto form : {S4dForm::scan, S4dForm::convolution, S4dForm::recurrence})
    CHECK_THROWS_AS(
        S4d<double>({.width = 3, .state = 4, .method = Discretization::tustin, .form = form}),
        DomainError);
  CHECK_THROWS_AS(S4d<double>({.width = 3,
                               .state = 4,
                               .method = Discretization::forward_euler,
                               .form = S4dForm::convolution}),
                  DomainError);
  const auto both = draw<double>({.width = 3, .state = 4, .bidirectional = true}, 18);
  const Tensor<double, 3> u({2, 3, 3});
  const auto one_way = make_state(layer, 2), two_ways = make_state(both, 2);
  CHECK_THROWS_WITH(run<double>(both, u, &one_way),
                    "S4d forward: x_back of state is (0, 0, 0), expected (2, 3, 2)");
  CHECK_THROWS_WITH(run<double>(layer, u, &two_ways),
                    "S4d forward: x_back of state is (2, 3, 2), expected none, as the layer has "
                    "one direction");
  auto changed = layer;
  changed.config.method = Discretization::tustin;
  CHECK_THROWS_AS(run<double>(changed, Tensor<double, 3>({2, 3, 3}), nullptr), DomainError);
}

TEST_CASE("what an S4D step cannot do is said when its stepper is made") {
  const auto layer = draw<double>({.width = 3, .state = 4}, 22);
  static_assert(!std::is_default_constructible_v<S4dStepper<double>>);
  const auto two_ways = draw<double>({.width = 3, .state = 4, .bidirectional = true}, 22);
  CHECK_THROWS_WITH(S4dStepper<double>(two_ways, 1),
                    "S4dStepper: layer is bidirectional, expected one direction, as a pass from "
                    "the end has no step");
  const auto unbounded = draw<double>({.width = 3, .state = 4, .dss = true}, 22);
  CHECK_THROWS_WITH(S4dStepper<double>(unbounded, 1),
                    "S4dStepper: dss_length is 0, expected above 0, as a step carries a state");
  auto still = draw<double>({.width = 3, .state = 4, .dss = true, .dss_length = 9}, 22);
  S4dStepper<double> stepper(still, 1);
  still.log_decay.fill(-1e4);  // a decay that underflows to 0
  CHECK_THROWS_AS(S4dStepper<double>(still, 1), DomainError);
  CHECK_THROWS_AS(stepper.update(still), DomainError);
  auto broken = layer;
  broken.B.resize({3, 1, 2});
  CHECK_THROWS_AS(S4dStepper<double>(broken, 1), ShapeError);
  const auto wide = draw<double>({.width = 3, .state = 64}, 22);
  CHECK_THROWS_WITH(stepper.update(wide),
                    "S4dStepper: layer is of another configuration, expected that of the first");
}

TEST_CASE("an S4D step with a wrong state ends the program with a clear sentence") {
  const auto layer = draw<double>({.width = 3, .state = 4}, 22);
  const auto words = [&](S4dState<double> state, Index width) {
    return test::last_words([&] {
      S4dStepper<double> stepper(layer, 2);
      Tensor<double, 2> row({2, width});
      step(stepper, row, state, row);
    });
  };
  CHECK(words(make_state(layer, 2), 3).empty());
  CHECK_THAT(words({}, 3), test::contains("S4d step: state is (0, 0, 0), expected (2, 3, 2)"));
  CHECK_THAT(words(make_state(layer, 2), 4),
             test::contains("S4d step: input is (2, 4), expected (2, 3)"));
}

TEST_CASE("DSS is the convolution with its kernel, in every form, at its length and below") {
  const auto layer = draw<double>({.width = 3, .state = 8}, 14);
  const Modes modes(layer, 1.5);
  for (const Index length : {1, 12, 100}) {
    const auto x = Random(15).normal<double, 3>({2, length, 3});
    for (const Index trained : {Index(0), Index(100)}) {
      Tensor<double, 2> kernel({3, trained > 0 ? trained : length});
      DiagonalKernelScratch<double> scratch;
      dss_kernel(cpu(1),
                 {modes.lambda, modes.delta, detail::as_complex(layer.B.view()),
                  detail::as_complex(layer.C.view()[0])},
                 {}, {kernel}, scratch);
      Tensor<double, 3> want(x.extents());
      for (Index b = 0; b < 2; ++b)
        for (Index c = 0; c < 3; ++c)
          for (Index t = 0; t < length; ++t) {
            want(b, t, c) = layer.D(c) * x(b, t, c);
            for (Index l = 0; l <= t; ++l) want(b, t, c) += kernel(c, l) * x(b, t - l, c);
          }
      auto dss = layer;
      dss.config.dss = true;
      dss.config.dss_length = trained;
      for (const S4dForm form : forms) {
        INFO("length " << length << " of " << trained << " form " << static_cast<int>(form));
        CHECK(test::relative_error(run<double>(dss, x, nullptr, {.rate = 1.5}, form).y, want) <=
              64 * std::numeric_limits<double>::epsilon() * static_cast<double>(length + 1));
      }
    }
  }
}

TEST_CASE("DSS of a length resumes anywhere, in every form and by steps, beyond its length too") {
  auto layer = draw<double>({.width = 3, .state = 8, .dss = true, .dss_length = 40}, 16);
  const test::LayerLaws laws{.length = 90, .rounding = 64};
  for (const S4dForm form : forms) {
    layer.config.form = form;
    test::check_split(test::any(layer), laws);
    test::check_step(test::any(layer), laws);
  }
}

TEST_CASE("DSS of the length of its input has the gradients of finite differences") {
  for (const bool bidirectional : {false, true})
    for (const Index length : {1, 12})
      test::check_gradients(
          test::any(draw<double>(
              {.width = 2, .state = 4, .bidirectional = bidirectional, .dss = true}, 14)),
          {.states = false, .packs = length > 3, .fd_length = length, .gradient = 1e-7});
}

TEST_CASE("DSS refuses a state that has no length, other methods, and modes that do not decay") {
  auto layer = draw<double>({.width = 2, .state = 4, .dss = true}, 17);
  const Tensor<double, 3> x({1, 5, 2});
  const auto initial = draw_state<double>(layer, 1, 18);
  CHECK_THROWS_WITH(run<double>(layer, x, &initial),
                    "S4d forward: state is given, expected none for dss without a dss_length");
  CHECK_THROWS_AS(S4d<double>({.width = 2, .state = 4, .dss = true, .dss_length = -1}),
                  DomainError);
  CHECK_THROWS_AS(
      S4d<double>({.width = 2, .state = 4, .method = Discretization::bilinear, .dss = true}),
      DomainError);
  layer.log_decay.fill(-1e4);  // a decay that underflows to 0
  CHECK_THROWS_AS(run<double>(layer, x, nullptr), DomainError);
}

}  // namespace s4d_test
