#include "ssm/scan/selective_scan_step.hpp"

#include <complex>
#include <string>

#include "ssm/scan/selective_scan.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/last_words.hpp"
#include "support/selective_case.hpp"

namespace selective_scan_step_test {

using ssm::Hold;
using ssm::Index;
using ssm::Tensor;
using ssm::View;
using ssm::test::contains;
using ssm::test::last_words;
using ssm::test::relative_error;

namespace {

using Sizes = ssm::test::SelectiveCaseSizes;
template <class T, class K = T>
using Case = ssm::test::SelectiveCase<T, K>;

template <class T, class K>
void check_steps(const Sizes& s) {
  Case<T, K> c(s, 12);
  c.run();
  Tensor<K, 3> x = c.initial;
  Tensor<T, 3> y(c.y.extents());
  for (Index t = 0; t < s.length; ++t) {
    const auto now = [&](const auto& tensor) {
      return View<const T, 2>(tensor.data() + t * s.channels, {s.batch, s.channels},
                              {s.length * s.channels, 1});
    };
    const auto coefficient = [&](bool constant, const Tensor<K, 2>& same,
                                 const Tensor<K, 4>& varying) {
      if (constant) return ssm::Selective<const K, 3>(same.view());
      return ssm::Selective<const K, 3>(
          View<const K, 3>(varying.data() + t * s.groups * s.state, {s.batch, s.groups, s.state},
                           {s.length * s.groups * s.state, s.state, 1}));
    };
    const View<T, 2> y_now(y.data() + t * s.channels, {s.batch, s.channels},
                           {s.length * s.channels, 1});
    const ssm::SelectiveScanStepInputs<T, K> in{.u = now(c.u),
                                                .delta = now(c.delta),
                                                .A = c.A,
                                                .B = coefficient(s.constant_B, c.B_constant, c.B),
                                                .C = coefficient(s.constant_C, c.C_constant, c.C),
                                                .D = c.D,
                                                .delta_bias = c.bias,
                                                .z = s.gated ? now(c.z) : View<const T, 2>()};
    ssm::selective_scan_step(in, s.options, x, y_now);
  }
  INFO(name_of(s));
  CHECK(relative_error(y, c.y) <= ssm::test::selective_tolerance<T>(s));
  CHECK(relative_error(x, c.final) <= ssm::test::selective_tolerance<T>(s));
}

/// A step of 20 channels that fits.
struct Step {
  Tensor<float, 2> u{{2, 20}}, delta{{2, 20}}, z{{2, 20}}, A{{20, 3}};
  Tensor<float, 3> B{{2, 4, 3}}, C{{2, 4, 3}}, state{{2, 20, 3}};
  Tensor<float, 1> D{{20}}, bias{{20}};
  Tensor<float, 2> y{{2, 20}};

  /// What the program says as it ends with one argument changed; nothing when it goes on.
  template <class Change>
  std::string words(const Change& change) {
    ssm::SelectiveScanStepInputs<float> in{u, delta, A, B, C, D, bias, z};
    ssm::SelectiveScanOptions options;
    View<float, 3> state_now = state;
    View<float, 2> y_now = y;
    change(in, options, state_now, y_now);
    return last_words([&] { ssm::selective_scan_step(in, options, state_now, y_now); });
  }
};

}  // namespace

TEMPLATE_TEST_CASE("steps one by one equal the scan", "", float, double) {
  using T = TestType;
  Sizes s;
  s.batch = 2;
  s.length = 20;
  s.groups = 2;
  for (Index state : {1, 3, 16, 37}) {
    for (Index channels : {2, 16, 38}) {
      s.state = state;
      s.channels = channels;
      check_steps<T, T>(s);
    }
  }
  s.state = 5;
  for (const bool constant_B : {false, true}) {
    for (const bool constant_C : {false, true}) {
      for (const Hold hold : {Hold::simplified, Hold::zero_order}) {
        s.constant_B = constant_B;
        s.constant_C = constant_C;
        s.options.hold = hold;
        s.options.softplus = constant_B == constant_C;
        s.gated = constant_C;
        check_steps<T, T>(s);
        check_steps<T, std::complex<T>>(s);
      }
    }
  }
}

TEST_CASE("y of a step may be the memory of what it reads once") {
  Sizes s;
  s.batch = 2;
  s.channels = 39;
  s.state = 5;
  Case<float> c(s, 3);
  c.run();
  const auto row = [&](Tensor<float, 3>& tensor) {
    return View<float, 2>(tensor.data(), {s.batch, s.channels});
  };
  const auto coefficient = [&](const Tensor<float, 4>& tensor) {
    return View<const float, 3>(tensor.data(), {s.batch, s.groups, s.state});
  };
  for (auto* memory : {&c.u, &c.delta, &c.z}) {
    Case<float> now(s, 3);
    auto& y = memory == &c.u ? now.u : memory == &c.delta ? now.delta : now.z;
    const ssm::SelectiveScanStepInputs<float> in{row(now.u),         row(now.delta),     now.A,
                                                 coefficient(now.B), coefficient(now.C), now.D,
                                                 now.bias,           row(now.z)};
    ssm::selective_scan_step(in, s.options, now.initial, row(y));
    CHECK(relative_error(y, c.y) <= ssm::test::selective_tolerance<float>(s));
  }
}

TEST_CASE("a step whose arguments do not fit ends the program with the sentence that says which") {
  Step step;
  CHECK(step.words([](auto&...) {}).empty());
  const auto says = [&](const std::string& sentence, const auto& change) {
    CHECK_THAT(step.words(change), contains("selective_scan_step: " + sentence));
  };
  says("state is (1, 20, 3), expected (2, 20, 3)",
       [](auto&, auto&, auto& state, auto&) { state = state.slice(0, 0, 1); });
  says("y is (2, 19), expected (2, 20)",
       [](auto&, auto&, auto&, auto& y) { y = y.slice(1, 0, 19); });
  says("A is (19, 3), expected (20, 3)",
       [](auto& in, auto&, auto&, auto&) { in.A = in.A.slice(0, 0, 19); });
  says("B is (2, 4, 3), expected (2, 4, 2)",
       [](auto& in, auto&, auto&, auto&) { in.A = in.A.slice(1, 0, 2); });
  says("D is (7), expected (20)",
       [](auto& in, auto&, auto&, auto&) { in.D = in.D.slice(0, 0, 7); });
  says("delta_bias is (0), expected (20)",
       [](auto& in, auto&, auto&, auto&) { in.delta_bias = in.delta_bias.slice(0, 0, 0); });
  says("delta is (2, 3), expected (2, 20)",
       [](auto& in, auto&, auto&, auto&) { in.delta = in.delta.slice(1, 0, 3); });
  says("z is (1, 20), expected (2, 20)",
       [](auto& in, auto&, auto&, auto&) { in.z = in.z.slice(0, 0, 1); });
  says("B is 3 groups, expected a number that divides 20 channels",
       [](auto& in, auto&, auto&, auto&) { in.B.varying = in.B.varying.slice(1, 0, 3); });
  says("C is 0 groups, expected a number that divides 20 channels",
       [](auto& in, auto&, auto&, auto&) { in.C.varying = in.C.varying.slice(1, 0, 0); });
  says("C is absent, expected either", [](auto& in, auto&, auto&, auto&) { in.C = {}; });
  says("B is given twice, expected either",
       [](auto& in, auto&, auto&, auto&) { in.B.constant = in.A; });
  says("u is absent", [](auto& in, auto&, auto&, auto&) { in.u = {}; });
  says("A is absent", [](auto& in, auto&, auto&, auto&) { in.A = {}; });
  says("u is (2, -1), expected no negative extent", [](auto& in, auto&, auto&, auto&) {
    in.u = {in.u.data(), {2, -1}};
  });
  says("u is a null pointer to (2, 20), expected elements", [](auto& in, auto&, auto&, auto&) {
    in.u = {nullptr, {2, 20}};
  });
  says("state is a null pointer to (2, 20, 3), expected elements",
       [](auto&, auto&, auto& state, auto&) {
         state = {nullptr, {2, 20, 3}};
       });
  says("y is strided as (0, 1), expected no stride of 0 in what is written",
       [](auto&, auto&, auto&, auto& y) {
         y = {y.data(), {2, 20}, {0, 1}};
       });
  says("hold is another, expected simplified or zero_order",
       [](auto&, auto& options, auto&, auto&) { options.hold = Hold::first_order; });
}

TEST_CASE("a step that would write over what it has yet to read ends the program with a sentence") {
  Step step;
  Tensor<float, 1> memory({200});
  const auto says = [&](const std::string& sentence, const auto& change) {
    CHECK_THAT(step.words(change), contains("selective_scan_step: " + sentence));
  };
  says("y is in the memory of state, expected memory of its own",
       [](auto&, auto&, auto& state, auto& y) {
         y = {state.data(), {2, 20}};
       });
  says("state is in the memory of A", [&](auto& in, auto&, auto& state, auto&) {
    state = {memory.data(), {2, 20, 3}};
    in.A = {memory.data() + 60, {20, 3}};
  });
  says("y is over a part of the memory of u, expected all of it or memory of its own",
       [&](auto& in, auto&, auto&, auto& y) {
         in.B = step.A.view();
         in.u = {memory.data(), {2, 20}};
         y = {memory.data() + 1, {2, 20}};
       });
  says("y is over a part of the memory of z", [&](auto& in, auto&, auto&, auto& y) {
    in.z = {memory.data(), {2, 20}, {21, 1}};
    y = {memory.data(), {2, 20}};
  });
  says("state is in the memory of delta", [&](auto& in, auto&, auto& state, auto&) {
    in.delta = {state.data(), {2, 20}};
  });
  says("y is in the memory of B", [](auto& in, auto&, auto&, auto& y) {
    in.B.varying = {y.data(), {2, 4, 3}};
  });
  says("y is in the memory of C", [](auto& in, auto&, auto&, auto& y) {
    in.C.varying = {y.data() + 16, {2, 4, 3}};
  });
  says("y is in the memory of D", [](auto& in, auto&, auto&, auto& y) {
    in.D = {y.data() + 10, {20}};
  });
  says("y is in the memory of delta_bias", [](auto& in, auto&, auto&, auto& y) {
    in.delta_bias = {y.data() + 39, {20}, {1}};
  });
  // Halves of the same rows are apart.
  CHECK(step.words([&](auto& in, auto&, auto&, auto& y) {
              in.u = {memory.data(), {2, 20}, {40, 1}};
              y = {memory.data() + 20, {2, 20}, {40, 1}};
            })
            .empty());
}

}  // namespace selective_scan_step_test
