#include "ssm/scan/selective_scan.hpp"

#include <complex>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/selective_case.hpp"

namespace selective_scan_test {

using ssm::cpu;
using ssm::Hold;
using ssm::Index;
using ssm::Tensor;
using ssm::View;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

namespace {

using Sizes = ssm::test::SelectiveCaseSizes;
template <class T, class K = T>
using Case = ssm::test::SelectiveCase<T, K>;
using ssm::test::all_same_bits;
using ssm::test::worst_error;

}  // namespace

namespace {

/// Calls check(type of A, sizes, seed) for real and complex A and both holds, over random shapes.
template <class T, class Check>
void for_every_kind(std::vector<Sizes> shapes, std::uint64_t seed, Check&& check) {
  for (Sizes& s : shapes)
    for (const Hold hold : {Hold::simplified, Hold::zero_order}) {
      s.options.hold = hold;
      INFO(name_of(s) << (hold == Hold::zero_order ? " exact hold" : ""));
      check(T{}, s, ++seed);
      check(std::complex<T>{}, s, ++seed);
    }
}

/// Shapes whose work threads share: few channels, whose states are halved, and many.
std::vector<Sizes> shapes_for_threads() {
  std::vector<Sizes> all;
  for (const Index channels : {1, 5, 16, 37, 48, 130})
    for (const Index state : {5, 16, 24, 37}) {
      Sizes s;
      s.channels = channels;
      s.state = state;
      s.length = 700;
      s.gated = state == 16;
      if (channels == 5) s.offsets = {0, 0, 1, 200, 700};
      s.reversed = channels == 37;
      all.push_back(s);
    }
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("the fast scan and its gradients equal the formula in double", "", float,
                   double) {
  for_every_kind<TestType>(ssm::test::selective_shapes(), 1, [](auto type, Sizes s, auto seed) {
    using K = decltype(type);
    using Wide = std::conditional_t<std::is_same_v<K, TestType>, double, std::complex<double>>;
    Case<TestType, K> fast(s, seed);
    Case<double, Wide> reference(s, seed);
    reference.take_inputs(fast);
    fast.run();
    reference.run_reference();
    CHECK(worst_error(fast, reference) <= ssm::test::selective_tolerance<TestType>(s));
  });
}

TEMPLATE_TEST_CASE("any number of threads gives the same bits", "", float, double) {
  const auto check = [](auto type, Sizes s, auto seed) {
    using K = decltype(type);
    const Case<TestType, K> drawn(s, seed);  // to draw takes longer than to copy
    auto one = drawn;
    one.run(1);
    for (int threads : {2, 3, 7}) {
      auto many = drawn;
      many.run(threads);
      CHECK(all_same_bits(one, many));
    }
  };
  for_every_kind<TestType>(ssm::test::selective_shapes(), 100, check);
  for_every_kind<TestType>(shapes_for_threads(), 300, check);
}

TEMPLATE_TEST_CASE("the exact hold of rates near zero and far from it keeps its digits", "", float,
                   double) {
  Sizes s;
  s.length = 3;
  s.channels = 19;
  s.state = 16;
  s.options = {.softplus = false, .hold = Hold::zero_order};
  for (const bool turning : {false, true}) {
    using K = std::complex<TestType>;
    Case<TestType, K> fast(s, 6);
    fast.bias.fill(0);
    for (TestType& delta : fast.delta) delta /= 8;
    for (Index i = 0; i < fast.A.size(); ++i) {  // |A| from 1e-9 to 1e3, and 0
      const double size = i == 0 ? 0 : std::pow(10, -9 + 12.0 * double(i) / double(fast.A.size()));
      fast.A.data()[i] = K(TestType(turning ? -size / 8 : -size), TestType(turning ? size : 0));
    }
    Case<double, std::complex<double>> reference(s, 6);
    reference.take_inputs(fast);
    Case<TestType> real(s, 6);
    Case<double> real_reference(s, 6);
    real.delta = fast.delta;
    real.bias.fill(0);
    for (Index i = 0; i < real.A.size(); ++i) real.A.data()[i] = fast.A.data()[i].real();
    real_reference.take_inputs(real);
    fast.run(), real.run();
    reference.run_reference(), real_reference.run_reference();
    CHECK(worst_error(fast, reference) <= ssm::test::selective_tolerance<TestType>(s));
    CHECK(worst_error(real, real_reference) <= ssm::test::selective_tolerance<TestType>(s));
    // Each channel's gradient of A, whose sizes differ by the rates.
    for (Index i = 0; i < fast.A.size(); ++i) {
      const double scale = 1 + std::abs(reference.dA.data()[i]);
      const auto error = std::abs(std::complex<double>(fast.dA.data()[i]) - reference.dA.data()[i]);
      CHECK(error <= ssm::test::selective_tolerance<TestType>(s) * scale);
    }
  }
}

TEST_CASE("every gradient equals finite differences, every option, real and complex") {
  const auto check = [](auto type, Sizes s) {
    using K = decltype(type);
    Case<double, K> c(s, 5);
    c.run();
    const auto worst = [&](auto& x, const auto& gradient) {
      double error = 0, scale = 1;
      auto* values = reinterpret_cast<double*>(x.data());
      const auto* slopes = reinterpret_cast<const double*>(gradient.data());
      const auto count = static_cast<Index>(sizeof(*x.data()) / sizeof(double)) * x.size();
      for (Index i = 0; i < count; ++i) scale = std::max(scale, std::abs(slopes[i]));
      for (Index i = 0; i < count; ++i) {
        const double kept = values[i], h = 1e-5;
        values[i] = kept + h;
        const double above = c.loss();
        values[i] = kept - h;
        const double below = c.loss();
        values[i] = kept;
        const double distance = std::abs((above - below) / (2 * h) - slopes[i]);
        if (!(distance <= error)) error = distance;
      }
      return error / scale;
    };
    const double bound = 1e-7;  // h² plus ε/h, times the third derivatives met here
    INFO(name_of(s));
    CHECK(worst(c.u, c.du) <= bound);
    CHECK(worst(c.delta, c.ddelta) <= bound);
    CHECK(worst(c.A, c.dA) <= bound);
    if (s.gated) CHECK(worst(c.z, c.dz) <= bound);
    if (s.constant_B) CHECK(worst(c.B_constant, c.dB_constant) <= bound);
    if (!s.constant_B) CHECK(worst(c.B, c.dB) <= bound);
    if (s.constant_C) CHECK(worst(c.C_constant, c.dC_constant) <= bound);
    if (!s.constant_C) CHECK(worst(c.C, c.dC) <= bound);
    CHECK(worst(c.D, c.dD) <= bound);
    CHECK(worst(c.bias, c.dbias) <= bound);
    CHECK(worst(c.initial, c.dinitial) <= bound);
  };
  for (int bits = 0; bits < 32; ++bits) {
    Sizes s;
    s.batch = 2;
    s.length = 5;
    s.channels = 4;
    s.state = 3;
    s.groups = 2;
    s.constant_B = (bits & 1) != 0;
    s.constant_C = (bits & 2) != 0;
    s.options.hold = (bits & 4) != 0 ? Hold::zero_order : Hold::simplified;
    s.reversed = (bits & 8) != 0;
    s.options.softplus = (bits & 16) != 0;
    if (!s.options.softplus) s.gated = false;
    if (bits % 3 == 0) {
      s.batch = 1;
      s.offsets = {0, 2, 2, 5};
    }
    check(double{}, s);
    check(std::complex<double>{}, s);
  }
}

TEST_CASE("a complex A with no imaginary parts anywhere gives twice the real output") {
  Sizes s;
  s.batch = 2;
  s.length = 19;
  s.channels = 5;
  s.state = 4;
  s.gated = false;
  Case<double> real(s, 3);
  Case<double, std::complex<double>> complex(s, 3);
  std::copy(real.u.begin(), real.u.end(), complex.u.begin());
  std::copy(real.delta.begin(), real.delta.end(), complex.delta.begin());
  std::copy(real.A.begin(), real.A.end(), complex.A.begin());
  std::copy(real.B.begin(), real.B.end(), complex.B.begin());
  std::copy(real.C.begin(), real.C.end(), complex.C.begin());
  std::copy(real.bias.begin(), real.bias.end(), complex.bias.begin());
  std::copy(real.initial.begin(), real.initial.end(), complex.initial.begin());
  real.D.fill(0);
  complex.D.fill(0);
  real.run();
  complex.run();
  for (double& y : real.y) y *= 2;
  CHECK(relative_error(complex.y, real.y) <= ssm::test::selective_tolerance<double>(s));
}

TEMPLATE_TEST_CASE("a sequence split anywhere and resumed gives the same output", "", float,
                   double) {
  Sizes s;
  s.batch = 2;
  s.length = 41;
  s.channels = 21;
  s.state = 9;
  Case<TestType> whole(s, 8);
  whole.run();
  for (Index cut : {0, 1, 16, 23, 41}) {
    Case<TestType> parts(s, 8);
    auto in = parts.inputs();
    const auto piece = [&](Index begin, Index count, const View<const TestType, 3>& initial,
                           const View<TestType, 3>& final) {
      auto cut_in = in;
      cut_in.u = in.u.slice(1, begin, count);
      cut_in.delta = in.delta.slice(1, begin, count);
      cut_in.z = in.z.slice(1, begin, count);
      cut_in.B = in.B.varying.slice(1, begin, count);
      cut_in.C = in.C.varying.slice(1, begin, count);
      cut_in.initial_state = initial;
      ssm::selective_scan(cpu(1), cut_in, s.options, {parts.y.view().slice(1, begin, count), final},
                          parts.scratch);
    };
    Tensor<TestType, 3> middle(parts.initial.extents());
    piece(0, cut, parts.initial, middle);
    piece(cut, s.length - cut, middle, parts.final);
    CHECK(same_bits(parts.y, whole.y));
    CHECK(same_bits(parts.final, whole.final));
  }
}

TEST_CASE("packed sequences equal the same sequences one by one") {
  Sizes s;
  s.length = 40;
  s.channels = 19;
  s.state = 7;
  s.offsets = {0, 3, 3, 20, 40};
  Case<double> packed(s, 21);
  packed.run();
  for (Index q = 0; q < s.sequences(); ++q) {
    const Index begin = s.offsets[std::size_t(q)], count = s.offsets[std::size_t(q) + 1] - begin;
    auto in = packed.inputs();
    in.sequences.offsets = {};
    in.u = in.u.slice(1, begin, count);
    in.delta = in.delta.slice(1, begin, count);
    in.z = in.z.slice(1, begin, count);
    in.B = in.B.varying.slice(1, begin, count);
    in.C = in.C.varying.slice(1, begin, count);
    in.initial_state = in.initial_state.slice(0, q, 1);
    Tensor<double, 3> y({1, count, s.channels}), final({1, s.channels, s.state});
    ssm::selective_scan(cpu(1), in, s.options, {y, final}, packed.scratch);
    bool same = true;
    for (Index t = 0; t < count; ++t)
      for (Index c = 0; c < s.channels; ++c) same = same && y(0, t, c) == packed.y(0, begin + t, c);
    for (Index c = 0; c < s.channels; ++c)
      for (Index n = 0; n < s.state; ++n) same = same && final(0, c, n) == packed.final(q, c, n);
    CHECK(same);
  }
}

TEST_CASE("the reversed scan is the scan of the reversed sequence") {
  Sizes s;
  s.batch = 2;
  s.length = 37;
  s.channels = 18;
  s.state = 5;
  Case<float> forward(s, 4), backward(s, 4);
  backward.sizes.reversed = true;
  auto in = backward.inputs();
  in.u = in.u.reversed(1);
  in.delta = in.delta.reversed(1);
  in.z = in.z.reversed(1);
  in.B = in.B.varying.reversed(1);
  in.C = in.C.varying.reversed(1);
  ssm::selective_scan(cpu(1), in, backward.sizes.options,
                      {backward.y.view().reversed(1), backward.final}, backward.scratch);
  forward.run();
  CHECK(same_bits(forward.y, backward.y));
  CHECK(same_bits(forward.final, backward.final));
}

TEST_CASE("an output depends on no later input") {
  Sizes s;
  s.length = 35;
  s.channels = 17;
  s.state = 4;
  Case<float> before(s, 6), after(s, 6);
  const Index cut = 20;
  for (Index c = 0; c < s.channels; ++c) after.u(0, cut, c) += 1;
  before.run();
  after.run();
  bool same = true, changed = false;
  for (Index t = 0; t < s.length; ++t)
    for (Index c = 0; c < s.channels; ++c) {
      if (t < cut) same = same && before.y(0, t, c) == after.y(0, t, c);
      if (t == cut) changed = changed || before.y(0, t, c) != after.y(0, t, c);
    }
  CHECK(same);
  CHECK(changed);
}

TEST_CASE("NaN in a step size reaches the outputs from there on and no earlier one") {
  Sizes s;
  s.length = 20;
  s.channels = 3;
  s.state = 2;
  Case<float> c(s, 2);
  c.delta(0, 7, 1) = std::numeric_limits<float>::quiet_NaN();
  c.run();
  bool clean_before = true, poisoned_after = true;
  for (Index t = 0; t < s.length; ++t) {
    if (t < 7) clean_before = clean_before && std::isfinite(c.y(0, t, 1));
    if (t >= 7) poisoned_after = poisoned_after && std::isnan(c.y(0, t, 1));
    clean_before = clean_before && std::isfinite(c.y(0, t, 0)) && std::isfinite(c.y(0, t, 2));
  }
  CHECK(clean_before);
  CHECK(poisoned_after);
}

TEST_CASE("a step so long that the state decays to nothing leaves nothing of it") {
  Sizes s;
  s.length = 3;
  s.channels = 17;
  s.state = 4;
  s.gated = false;
  s.options.softplus = false;
  Case<float> c(s, 2);
  c.bias.fill(0);
  c.delta.fill(1e4f);
  c.B.fill(0);
  c.D.fill(0);
  c.run();
  for (float y : c.y) CHECK(y == 0.0f);
}

TEST_CASE("training needs at most 2.2 times the memory of inputs, outputs and gradients") {
  Sizes s;
  s.length = 512;
  s.channels = 768;
  s.state = 16;
  s.gated = false;
  Case<float> c(s, 1);
  c.run(2);
  const Index given = c.u.size() + c.delta.size() + c.y.size() + c.dy.size() + c.du.size() +
                      c.ddelta.size() + 2 * (c.B.size() + c.C.size() + c.A.size() + c.D.size());
  const Index held = c.scratch.kept.size() + c.scratch.initial.size() + c.scratch.states.size() +
                     c.scratch.partials.size() + c.scratch.tiles.size();
  CHECK(static_cast<double>(given + held) <= 2.2 * static_cast<double>(given));
}

}  // namespace selective_scan_test
